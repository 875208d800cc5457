//! What nobody can avoid: QEMU's own start with the arguments of a real guest, and its end.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// The command line of a running guest, with what it inherited marked for replacement.
pub struct Floor {
    argv: Vec<String>,
    socket: PathBuf,
}

/// Times of one bare start.
pub struct Started {
    /// From before the spawn to the answer to `cont`.
    pub running: Duration,
    child: Child,
    // Closing it early would make QEMU notice a disconnect.
    _monitor: UnixStream,
}

/// The persistent tap that every bare start uses, in the bridge.
const TAP: &str = "floortap";

impl Floor {
    /// Takes the arguments of the process `pid`.
    pub fn of(pid: u32, base: &Path) -> Floor {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let argv = bytes
            .split(|byte| *byte == 0)
            .filter(|part| !part.is_empty())
            .map(|part| String::from_utf8_lossy(part).into_owned())
            .collect();
        for line in [
            format!("tuntap add dev {TAP} mode tap vnet_hdr"),
            format!("link set {TAP} master {} up", crate::world::BRIDGE),
        ] {
            assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
        }
        Floor { argv, socket: base.join("floor-qmp") }
    }

    /// Listening socket connected before exec (so nobody polls), QEMU to `cont` answered.
    pub fn start(&self) -> Started {
        let begin = Instant::now();
        let _ = fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).unwrap();
        let mut monitor = UnixStream::connect(&self.socket).unwrap();
        let mut inherited: Vec<OwnedFd> = Vec::new();
        let mut argv = Vec::new();
        let mut words = self.argv.iter().peekable();
        while let Some(word) = words.next() {
            let Some(value) = words.next_if(|next| word.starts_with('-') && !next.starts_with('-')) else {
                argv.push(word.clone());
                continue;
            };
            // The secret's file went with the run that it belonged to.
            if word == "-object" && value.contains("\"secret\"") {
                continue;
            }
            let mut value = value.clone();
            if word == "-netdev" && value.contains("tap") {
                // The same kind of link, but made once: opening it is all that is left of the floor's network part.
                value = format!("tap,id={},ifname={TAP},script=no,downscript=no", id_of(&value));
            } else if let Some((start, end)) = fd_number(&value) {
                let fd: OwnedFd = match word.as_str() {
                    "-chardev" if value.starts_with("socket") || value.contains("\"socket\"") => {
                        listener.try_clone().unwrap().into()
                    }
                    _ => fs::OpenOptions::new().append(true).open("/dev/null").unwrap().into(),
                };
                inheritable(fd.as_fd());
                value.replace_range(start..end, &fd.as_raw_fd().to_string());
                inherited.push(fd);
            }
            argv.push(word.clone());
            argv.push(value);
        }
        let child = Command::new(&argv[0])
            .args(&argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.socket.with_extension("log")).unwrap())
            .spawn()
            .unwrap();
        drop(inherited);
        drop(listener);
        monitor.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut lines = BufReader::new(monitor.try_clone().unwrap());
        let mut line = String::new();
        let log = self.socket.with_extension("log");
        let mut next = |wanted: &str| {
            loop {
                line.clear();
                let count = lines.read_line(&mut line).unwrap_or(0);
                assert!(count > 0, "bare QEMU ended: {}", fs::read_to_string(&log).unwrap_or_default());
                if line.contains(wanted) {
                    break;
                }
            }
        };
        next("QMP");
        monitor.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").unwrap();
        next("return");
        monitor.write_all(b"{\"execute\":\"cont\"}\n").unwrap();
        next("return");
        Started { running: begin.elapsed(), child, _monitor: monitor }
    }
}

impl Started {
    /// SIGKILL and reap.
    pub fn kill(mut self) -> Duration {
        let begin = Instant::now();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        begin.elapsed()
    }
}

/// The value of `id` in `..,id=x,..` or `"id":"x"`.
fn id_of(value: &str) -> String {
    let rest = ["\"id\":\"", ",id="].iter().find_map(|mark| value.split_once(mark)).map_or("net0", |(_, rest)| rest);
    rest.chars().take_while(|c| !matches!(c, '"' | ',')).collect()
}

/// Where the number is in `..,fd=7,..` or `"fd":"7"`.
fn fd_number(value: &str) -> Option<(usize, usize)> {
    for mark in ["\"fd\":\"", "fd="] {
        for (at, _) in value.match_indices(mark) {
            let before = value[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric()) {
                continue;
            }
            let start = at + mark.len();
            let digits = value[start..].bytes().take_while(u8::is_ascii_digit).count();
            if digits > 0 {
                return Some((start, start + digits));
            }
        }
    }
    None
}

fn inheritable(fd: BorrowedFd<'_>) {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
}
