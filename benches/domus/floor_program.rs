//! A floor that is somebody else's: a program that makes namespaces, mounts, groups and an interface and execs init,
//! with nothing around it. `DOMUS_BENCH_FLOOR` names it; it is called as
//!
//! ```text
//! PROGRAM -n -c GROUP -b BRIDGE ROOT INIT
//! ```
//!
//! writes a line when INIT may run, and kills it, reaps it and removes its groups when it gets one. Unlike the floor of
//! [`crate::clone_floor`] its own start is in the figure, as it is in that of any tool which runs once per container.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// The program, when one is named.
pub fn given() -> Option<PathBuf> {
    std::env::var_os("DOMUS_BENCH_FLOOR").map(PathBuf::from)
}

/// One container of it.
pub struct Running {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Running {
    /// Starts the program and does not wait for it. `name`: of the groups.
    pub fn start(program: &Path, name: &str, root: &Path, bridge: &str) -> Running {
        let mut child = Command::new(program)
            .args(["-n", "-c", name, "-b", bridge])
            .arg(root)
            .arg("/init")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Running { child, answers }
    }

    /// Waits until init may run.
    pub fn started(&mut self) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the floor's program failed");
    }

    /// Ends the container.
    pub fn stop(mut self) {
        let _ = self.child.stdin.take().unwrap().write_all(b"\n");
        self.child.wait().unwrap();
    }
}
