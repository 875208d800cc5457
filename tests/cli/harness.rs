//! A directory, a mock daemon in it, and the client run to its end.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Nothing here takes this long unless it hangs.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How a run of the client ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Out {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// `domus` with nothing in its environment that could change what it does.
pub fn domus() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domus"));
    for name in ["DOMUS_ROOT", "XDG_RUNTIME_DIR", "VISUAL", "EDITOR"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Waits for its end, reading both outputs meanwhile.
pub fn finish(mut child: Child) -> Out {
    let stdout = child.stdout.take().map(reader);
    let stderr = child.stderr.take().map(reader);
    let end = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            panic!("domus does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let text = |reader: Option<JoinHandle<String>>| reader.map(|thread| thread.join().unwrap()).unwrap_or_default();
    Out { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

fn reader(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    })
}

/// Runs a prepared client with `input` on its standard input.
pub fn run(command: &mut Command, input: &str) -> Out {
    let piped = !input.is_empty();
    if piped {
        command.stdin(Stdio::piped());
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).unwrap();
    }
    finish(child)
}

/// A mock daemon of this test alone.
pub struct Lab {
    dir: TempDir,
    daemon: Child,
}

impl Lab {
    pub fn new() -> Lab {
        Lab::with(&[])
    }

    /// With more arguments for the daemon.
    pub fn with(arguments: &[&str]) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        // A daemon without domains.
        std::fs::create_dir(dir.path().join("r")).unwrap();
        std::fs::write(dir.path().join("r/domusd.toml"), "[test]\ndomain = false\n").unwrap();
        let daemon = Command::new(env!("CARGO_BIN_EXE_domusd"))
            .args(["--mock", "--root"])
            .arg(dir.path().join("r"))
            .args(arguments)
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lab = Lab { dir, daemon };
        let end = Instant::now() + DEADLINE;
        while UnixStream::connect(lab.root().join("run/dbus-sock")).is_err() {
            let ended = lab.daemon.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "no daemon: {ended:?}\n{}", lab.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        lab
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("r")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A file in the test's directory; its path is what messages show.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A file that is no text.
    pub fn dir_file_of_bytes(&self) -> String {
        let path = self.dir.path().join("bytes.xml");
        std::fs::write(&path, b"<domain>\xff\xfe</domain>").unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = domus();
        command.arg("--root").arg(self.root()).args(words);
        command
    }

    pub fn run(&self, words: &[&str]) -> Out {
        run(&mut self.command(words), "")
    }

    /// Must succeed without a word on standard error; its output.
    pub fn ok(&self, words: &[&str]) -> String {
        let out = self.run(words);
        assert_eq!((out.code, out.stderr.as_str()), (Some(0), ""), "{words:?}\n{}", self.log());
        out.stdout
    }

    /// Must fail with these lines after `error: ` and nothing but the empty line on standard output.
    pub fn fails(&self, words: &[&str], lines: &[&str]) {
        let out = self.run(words);
        let expected: String = lines.iter().map(|line| format!("error: {line}\n")).collect();
        assert_eq!((out.code, out.stdout.as_str(), out.stderr), (Some(1), "\n", expected), "{words:?}");
    }

    /// Defines a domain of the test driver.
    pub fn define(&self, name: &str) {
        let file = self.write(&format!("{name}.xml"), &xml(name));
        self.ok(&["define", &file]);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.daemon.id().cast_signed()), Signal::SIGTERM);
        let end = Instant::now() + DEADLINE;
        while matches!(self.daemon.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// The UUID of the domain that [`xml`] makes.
pub const UUID: &str = "11111111-2222-3333-4444-555555555555";

/// A small domain with two disks and a NIC; only the domain called `vm1` has [`UUID`].
pub fn xml(name: &str) -> String {
    let uuid = if name == "vm1" { format!("<uuid>{UUID}</uuid>") } else { String::new() };
    format!(
        "<domain type='test'>
  <name>{name}</name>{uuid}
  <title>the {name}</title>
  <memory unit='KiB'>65536</memory>
  <vcpu>1</vcpu>
  <os><type>hvm</type></os>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/tmp/x.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><target dev='hda' bus='ide'/></disk>
    <interface type='bridge'><mac address='52:54:00:11:22:33'/><source bridge='br0'/><target dev='tap0'/><model type='virtio'/></interface>
  </devices>
</domain>
"
    )
}

/// Whether nothing listens at `root`: for tests of the client alone.
pub fn empty_root() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("r");
    (dir, root)
}

/// `domus --root ROOT WORDS`
pub fn at(root: &Path, words: &[&str]) -> Out {
    run(domus().arg("--root").arg(root).args(words), "")
}
