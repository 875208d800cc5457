//! `domus-run`: supervisor, init and exec entry of one container; see `domus::lxc::run`.

fn main() -> std::process::ExitCode {
    domus::lxc::run::main()
}
