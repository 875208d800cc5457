//! The command line client; everything is in [`domus::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    domus::cli::main()
}
