//! An end for a test that waits for ever: libtest has none.

use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{leaks, test_name};

/// The longest a test may take: far beyond any on a busy machine, an emulated one included.
const LONGEST: Duration = Duration::from_secs(600);

/// Lives as long as a test's world. Should that be too long, everything that runs in it is killed, so that whoever waits
/// for a program, for its output or for an answer gets an end, and the test fails by it.
#[derive(Debug)]
pub struct Limit(#[allow(dead_code, reason = "its end is what is waited for")] Sender<()>);

impl Limit {
    /// For the world in the directory `base`.
    pub fn on(base: PathBuf) -> Limit {
        Limit::of(LONGEST, base)
    }

    fn of(longest: Duration, base: PathBuf) -> Limit {
        let (world, ended) = channel();
        let name = test_name();
        std::thread::spawn(move || {
            if ended.recv_timeout(longest) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            // Past libtest's capture, which shows nothing before the test has ended.
            let text = format!("{name}: no end after {} s, its processes are killed\n", longest.as_secs());
            let _ = std::io::stderr().write_all(text.as_bytes());
            for pid in leaks::pids_of(&base) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        });
        Limit(world)
    }
}

#[test]
fn an_endless_wait_ends() {
    let base = PathBuf::from(format!("/tmp/limit-{}", std::process::id()));
    let mut program = std::process::Command::new("sleep").arg("4714").env("BASE", &base).spawn().unwrap();
    let _limit = Limit::of(Duration::from_millis(50), base);
    assert!(!program.wait().unwrap().success());
}
