//! Starts `domus-run` by itself, as the daemon would, on throw-away roots; cleans up what it made.

#![allow(dead_code, clippy::disallowed_methods, clippy::unwrap_used)]

pub mod world;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use domus::lxc::protocol::{Call, Event, ExitRecord, Request, Running};
use domus::lxc::spec::*;
use domus::sys::packet;

/// First id outside of the test containers.
pub const BASE: u32 = 700_000;
/// Longest wait for anything; generous, since nothing here measures time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why this machine and user cannot run containers, if they cannot.
pub fn unable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("containers need root".into());
    }
    (!Path::new("/bin/busybox").exists()).then(|| "no /bin/busybox (package busybox-static)".into())
}

/// Whether this machine and user can run containers; says why not.
pub fn able() -> bool {
    let reason = unable();
    if let Some(reason) = &reason {
        eprintln!("SKIP containers: {reason}");
    }
    reason.is_none()
}

/// A root with busybox in it, whose init runs `script`.
pub fn busybox_root(dir: &Path, script: &str) -> PathBuf {
    let root = dir.join("root");
    for sub in ["bin", "sbin", "etc", "tmp", "root", "mnt"] {
        fs::create_dir_all(root.join(sub)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "cat", "ls", "echo", "mount", "umount", "sleep", "id", "ip", "ping", "mknod", "stat", "dd", "dmesg",
        "reboot", "poweroff", "readlink", "grep", "hostname", "touch", "kill", "true", "test", "ps", "mkdir", "tty",
        "head", "trap", "od", "wc", "sed", "unshare", "cut", "init",
    ] {
        let _ = std::os::unix::fs::symlink("/bin/busybox", root.join("bin").join(applet));
    }
    fs::write(root.join("init"), format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).unwrap();
    root
}

/// A plain unprivileged container on `root`.
pub fn spec(run_dir: &Path, root: &Path) -> Spec {
    Spec {
        version: SPEC_VERSION,
        name: "test".into(),
        uuid: "00000000-0000-0000-0000-000000000001".into(),
        run_dir: run_dir.to_path_buf(),
        hostname: Some("inside".into()),
        init: Init {
            argv: vec!["/init".into()],
            env: vec![("PATH".into(), "/bin:/sbin".into()), ("container".into(), "lxc-libvirt".into())],
            dir: None,
            user: None,
            group: None,
        },
        ids: Some(IdMaps { uid: vec![range()], gid: vec![range()] }),
        root: Root::Dir { source: root.to_path_buf(), readonly: false },
        mounts: vec![],
        net: Namespace::New,
        uts: Namespace::New,
        ipc: Namespace::New,
        drop_caps: vec![],
        seccomp: true,
        cgroup: Cgroups::default(),
        nics: vec![],
        consoles: vec![Console {
            log: Some(ConsoleLog { path: run_dir.join("console.log"), append: false, max_size: 0, backups: 0 }),
        }],
        devices: vec![],
        restart_on_reboot: false,
        restart_on_poweroff: false,
        restart_on_crash: false,
        hold: false,
        files: 0,
    }
}

fn range() -> IdRange {
    IdRange { inside: 0, outside: BASE, count: 65_536 }
}

/// A supervisor under test; killed when dropped.
pub struct Run {
    pub child: Child,
    pub socket: OwnedFd,
    pub dir: PathBuf,
    seq: u64,
    queue: Vec<(Event, Vec<OwnedFd>)>,
}

impl Run {
    pub fn start(spec: &Spec) -> Run {
        Run::with_faults(spec, "")
    }

    /// As [`Run::start`], with fault points set (`DOMUS_FAULT`).
    pub fn with_faults(spec: &Spec, faults: &str) -> Run {
        Run::prepared("", spec, faults)
    }

    /// As [`Run::start`], by a shell that runs `before` first and then becomes the supervisor.
    pub fn after(before: &str, spec: &Spec) -> Run {
        Run::prepared(before, spec, "")
    }

    fn prepared(before: &str, spec: &Spec, faults: &str) -> Run {
        let file = spec.run_dir.join("spec.json");
        fs::write(&file, serde_json::to_vec(spec).unwrap()).unwrap();
        let (ours, theirs) = packet::pair().unwrap();
        let flags = rustix::fs::fcntl_getfl(&ours).unwrap();
        rustix::fs::fcntl_setfl(&ours, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("{before} exec \"$0\" supervise \"$1\" 3<\"$1\" 4<&0 0</dev/null")])
            .env("DOMUS_FAULT", faults)
            .arg(env!("CARGO_BIN_EXE_domus-run"))
            .arg(&file)
            .stdin(Stdio::from(theirs))
            .spawn()
            .unwrap();
        Run { child, socket: ours, dir: spec.run_dir.clone(), seq: 0, queue: vec![] }
    }

    /// The next event for which `wanted` gives a value.
    pub fn wait<T>(&mut self, what: &str, wanted: impl Fn(&Event, &mut Vec<OwnedFd>) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            for index in 0..self.queue.len() {
                let (event, fds) = &mut self.queue[index];
                if let Some(value) = wanted(event, fds) {
                    self.queue.remove(index);
                    return value;
                }
            }
            if start.elapsed() > PATIENCE {
                panic!("no {what}; queue {:?}; console: {}", self.queue, self.log());
            }
            let mut fds = [nix::poll::PollFd::new(self.socket.as_fd(), nix::poll::PollFlags::POLLIN)];
            nix::poll::poll(&mut fds, 1000u16).unwrap();
            match packet::recv(&self.socket) {
                Ok(Some((data, fds))) => self.queue.push((serde_json::from_slice(&data).unwrap(), fds)),
                Ok(None) => panic!("supervisor closed while waiting for {what}; queue {:?}", self.queue),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error} while waiting for {what}; queue {:?}", self.queue),
            }
        }
    }

    pub fn started(&mut self) -> Running {
        self.wait("start", |event, _| match event {
            Event::Started(running) => Some(running.clone()),
            Event::Ended(record) => panic!("ended: {record:?}"),
            _ => None,
        })
    }

    pub fn ended(&mut self) -> ExitRecord {
        self.wait("end", |event, _| match event {
            Event::Ended(record) => Some(record.clone()),
            _ => None,
        })
    }

    pub fn call(&mut self, call: Call) -> (Result<Running, String>, Vec<OwnedFd>) {
        self.seq += 1;
        let seq = self.seq;
        let text = serde_json::to_vec(&Request { seq, call }).unwrap();
        packet::send(self.socket.as_fd(), &text, &[]).unwrap();
        self.wait("reply", |event, fds| match event {
            Event::Reply { seq: answer, error, status } if *answer == seq => {
                let result = match error {
                    Some(error) => Err(error.clone()),
                    None => Ok(status.clone().unwrap()),
                };
                Some((result, std::mem::take(fds)))
            }
            _ => None,
        })
    }

    /// Runs to the end; console output.
    pub fn output(mut self) -> (ExitRecord, String) {
        let record = self.ended();
        self.child.wait().unwrap();
        (record, self.log())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("console.log")).unwrap_or_default().replace('\r', "")
    }

    /// Waits until the console has shown `text`.
    pub fn shows(&self, text: &str) {
        let start = Instant::now();
        while !self.log().contains(text) {
            assert!(start.elapsed() < PATIENCE, "console never showed {text:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A container that stays until it is dropped.
pub struct Live {
    pub run: Run,
    pub running: Running,
    pub dir: tempfile::TempDir,
}

/// Starts a plain container whose init runs `script`, then `echo up`, then sleeps; waits for that.
pub fn live(script: &str, change: impl FnOnce(&mut Spec, &Path)) -> Live {
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path(), &format!("{script}\necho up\nsleep 1000"));
    let run_dir = dir.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    let mut spec = spec(&run_dir, &root);
    change(&mut spec, dir.path());
    let mut run = Run::start(&spec);
    let running = run.started();
    run.shows("up\n");
    Live { run, running, dir }
}

/// Runs `script` as init of a plain container to its end.
pub fn run_script(script: &str, change: impl FnOnce(&mut Spec, &Path)) -> (ExitRecord, String) {
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path(), script);
    let run_dir = dir.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    let mut spec = spec(&run_dir, &root);
    change(&mut spec, dir.path());
    Run::start(&spec).output()
}

/// Processes whose command line names `marker`.
pub fn processes(marker: &Path) -> Vec<i32> {
    let marker = marker.to_string_lossy();
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        *pid != std::process::id() as i32
            && fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(&*marker))
    })
    .collect()
}

/// Waits until a process is gone.
pub fn gone(pid: i32) {
    let start = Instant::now();
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(start.elapsed() < PATIENCE, "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Makes an ext4 image of `root`; `None` where mkfs or loop devices are missing.
pub fn image_of(root: &Path, image: &Path) -> Option<()> {
    fs::File::create(image).unwrap().set_len(16 << 20).unwrap();
    let mkfs = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"].into_iter().find(|path| Path::new(path).exists());
    let made = mkfs.is_some_and(|mkfs| {
        let args = [std::ffi::OsStr::new("-q"), "-d".as_ref(), root.as_ref(), image.as_ref()];
        Command::new(mkfs).args(args).status().is_ok_and(|status| status.success())
    });
    if !made || !Path::new("/dev/loop-control").exists() {
        eprintln!("SKIP containers: needs mkfs.ext4 and loop devices");
        return None;
    }
    Some(())
}
