//! One test's world: a directory, a daemon, and (for guests) namespaces of its own.
//!
//! ```text
//! /tmp/d.XXXXXX/       0711: QEMU's user must get through to the images
//!   r/                 the daemon's --root
//!   w/                 images, XML files, whatever the test makes
//!   daemon.log         what the daemon wrote to stderr, all runs one after the other
//! ```

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Bus, DEADLINE, Limit, Out, eventually, is_root, leaks, program, repository, run, skip, soon, test_name};

/// Guests boot on the CPU: more than two at once only make each other slow.
static SEATS: (Mutex<usize>, Condvar) = (Mutex::new(2), Condvar::new());

/// The network `default` would be left behind by every test, and lists are easier without the domain `test`.
const NO_NETWORK: &str = "[network]\nship_default = false\n";
const NO_DOMAIN: &str = "[test]\ndomain = false\n";

/// A daemon and where it lives.
pub struct Lab {
    base: PathBuf,
    daemon: Option<Child>,
    /// Arguments that every start of the daemon gets.
    arguments: Vec<String>,
    /// Run as this uid and gid (the mock driver needs no privilege).
    as_user: Option<u32>,
    links_before: RefCell<BTreeSet<String>>,
    fds_before: Option<usize>,
    /// Run ids seen so far, and the part of the directory's name that all of this lab's guests have in theirs.
    tags: RefCell<BTreeSet<String>>,
    has_seat: bool,
    finished: bool,
    /// What starts the daemon, which it gets as its last arguments; empty: nothing.
    launcher: Vec<String>,
    _limit: Limit,
}

impl Lab {
    /// A running daemon with the mock driver alone.
    pub fn mock() -> Lab {
        let mut lab = Lab::bare(&["--mock"]);
        lab.start();
        lab
    }

    /// A running daemon for QEMU guests, in a network and a mount namespace of this thread's own; or `None` after
    /// saying why not.
    pub fn qemu() -> Option<Lab> {
        let mut lab = Lab::qemu_unstarted()?;
        lab.start();
        Some(lab)
    }

    /// The same without starting the daemon yet.
    pub fn qemu_unstarted() -> Option<Lab> {
        if let Some(reason) = no_guests_here() {
            skip(&test_name(), &reason);
            return None;
        }
        Some(Lab::seated())
    }

    /// A running daemon for containers, in namespaces as for QEMU; or `None` after saying why not.
    pub fn lxc() -> Option<Lab> {
        let mut lab = Lab::lxc_unstarted()?;
        lab.start();
        Some(lab)
    }

    /// The same without starting the daemon yet.
    pub fn lxc_unstarted() -> Option<Lab> {
        if let Some(reason) = no_containers_here() {
            skip(&test_name(), &reason);
            return None;
        }
        let lab = Lab::seated();
        lab.configure("drivers = ['lxc']\n");
        Some(lab)
    }

    fn seated() -> Lab {
        let (free, freed) = &SEATS;
        let mut free = free.lock().unwrap_or_else(|poison| poison.into_inner());
        while *free == 0 {
            free = freed.wait(free).unwrap_or_else(|poison| poison.into_inner());
        }
        *free -= 1;
        drop(free);
        own_namespaces();
        let mut lab = Lab::bare(&[]);
        lab.has_seat = true;
        lab
    }

    /// Directories only.
    pub fn bare(arguments: &[&str]) -> Lab {
        let base = temporary_directory();
        for name in ["r", "w"] {
            fs::create_dir(base.join(name)).unwrap();
            fs::set_permissions(base.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        // A configuration of its own, so that the machine's is not read.
        let config = base.join("domusd.toml");
        fs::write(&config, format!("{NO_NETWORK}{NO_DOMAIN}")).unwrap();
        let mut all = vec!["--config".to_string(), config.to_str().unwrap().to_string()];
        all.extend(arguments.iter().map(ToString::to_string));
        let limit = Limit::on(base.clone());
        Lab {
            base,
            daemon: None,
            arguments: all,
            as_user: None,
            links_before: RefCell::default(),
            fds_before: None,
            tags: RefCell::default(),
            has_seat: false,
            finished: false,
            launcher: Vec::new(),
            _limit: limit,
        }
    }

    /// Runs the daemon and the CLI as this user from now on; only root can ask for it.
    pub fn owned_by(mut self, uid: u32) -> Lab {
        for path in [self.root(), self.work()] {
            nix::unistd::chown(&path, Some(uid.into()), Some(uid.into())).unwrap();
        }
        // The checkout may be in a directory that this user cannot enter.
        for binary in [env!("CARGO_BIN_EXE_domusd"), env!("CARGO_BIN_EXE_domus")] {
            let copy = self.base.join(Path::new(binary).file_name().unwrap());
            fs::hard_link(binary, &copy).or_else(|_| fs::copy(binary, &copy).map(drop)).unwrap();
        }
        self.as_user = Some(uid);
        self
    }

    /// Adds an argument to all later starts of the daemon.
    pub fn argument(&mut self, argument: impl Into<String>) {
        self.arguments.push(argument.into());
    }

    /// Lets this program start the daemon: it is given the daemon's command line after its own arguments, and must become
    /// the daemon.
    pub fn launched_by(&mut self, program: &[&str]) {
        self.launcher = program.iter().map(ToString::to_string).collect();
    }

    /// The configuration file from the next start on.
    pub fn configure(&self, text: &str) {
        let network = if text.contains("[network]") { "" } else { NO_NETWORK };
        let domain = if text.contains("[test]") { "" } else { NO_DOMAIN };
        fs::write(self.base.join("domusd.toml"), format!("{text}\n{network}{domain}")).unwrap();
    }

    pub fn root(&self) -> PathBuf {
        self.base.join("r")
    }

    /// The test's own files.
    pub fn work(&self) -> PathBuf {
        self.base.join("w")
    }

    pub fn socket(&self) -> PathBuf {
        self.root().join("run/dbus-sock")
    }

    pub fn pid(&self) -> i32 {
        self.daemon.as_ref().expect("the daemon runs").id().cast_signed()
    }

    /// Starts the daemon and waits until its socket answers.
    pub fn start(&mut self) {
        self.start_with(&[]);
        self.wait_ready();
    }

    /// Starts the daemon with more in its environment; does not wait.
    pub fn start_with(&mut self, environment: &[(&str, &str)]) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        if self.links_before.borrow().is_empty() && self.has_seat {
            self.forget_links();
        }
        let log = OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut command = match self.launcher.split_first() {
            None => self.program(env!("CARGO_BIN_EXE_domusd")),
            Some((launcher, arguments)) => {
                let mut command = self.program(launcher);
                command.args(arguments).arg(env!("CARGO_BIN_EXE_domusd"));
                command
            }
        };
        command.arg("--root").arg(self.root()).args(&self.arguments);
        command.env("DOMUS_LOG", "domus=debug").env_remove("NOTIFY_SOCKET");
        command.envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
    }

    /// Waits until the daemon accepts connections; fails at once when it ends instead.
    pub fn wait_ready(&mut self) {
        let socket = self.socket();
        let log = self.log();
        let daemon = self.daemon.as_mut().unwrap();
        eventually("the daemon's socket", DEADLINE, || {
            if let Some(status) = daemon.try_wait().unwrap() {
                panic!("the daemon ended with {status}:\n{}", tail(&log, 60));
            }
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        if self.fds_before.is_none() {
            // One call first: what is opened once for ever is no leak.
            self.run(&["list", "--all"]);
            self.fds_before = Some(leaks::settled_fds(self.pid(), usize::MAX));
        }
    }

    /// Whether the daemon gets as far as its socket, rather than ending first.
    pub fn comes_up(&mut self) -> bool {
        let socket = self.socket();
        let daemon = self.daemon.as_mut().unwrap();
        eventually("the daemon's socket or its end", DEADLINE, || {
            if daemon.try_wait().unwrap().is_some() {
                return Some(false);
            }
            std::os::unix::net::UnixStream::connect(&socket).ok().map(|_| true)
        })
    }

    pub fn is_alive(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(|daemon| daemon.try_wait().unwrap().is_none())
    }

    /// Waits for the daemon to end by itself (a fault point, a refusal to start).
    pub fn wait_end(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        match soon(DEADLINE, || daemon.try_wait().unwrap()) {
            Some(status) => status,
            None => {
                self.daemon = Some(daemon);
                panic!("the daemon did not end:\n{}", tail(&self.log(), 60));
            }
        }
    }

    /// SIGTERM; the daemon must end cleanly.
    pub fn stop(&mut self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).unwrap();
        let status = self.wait_end();
        assert!(status.success(), "the daemon ended with {status} on SIGTERM:\n{}", tail(&self.log(), 60));
    }

    /// SIGKILL, as if it crashed.
    pub fn crash(&mut self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGKILL).unwrap();
        let status = self.wait_end();
        self.note_runs();
        assert_eq!(status.signal(), Some(9));
    }

    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    pub fn log(&self) -> PathBuf {
        self.base.join("daemon.log")
    }

    /// A command that runs as the lab's user.
    pub fn program(&self, path: impl AsRef<Path>) -> Command {
        let Some(uid) = self.as_user else { return Command::new(path.as_ref()) };
        // A program of the machine's is where it is; ours were copied.
        let ours = path.as_ref().is_absolute();
        let copy = if ours { self.base.join(path.as_ref().file_name().unwrap()) } else { path.as_ref().into() };
        let mut command = Command::new(program("setpriv").expect("setpriv"));
        command.args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".into(), "--".into()]);
        command.arg(copy);
        command
    }

    /// `domus --root ROOT ...`, ready to run.
    pub fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_domus"));
        command.arg("--root").arg(self.root()).args(arguments);
        command
    }

    /// Runs the CLI, whatever comes of it.
    pub fn run(&self, arguments: &[&str]) -> Out {
        let out = run(&mut self.cli(arguments), DEADLINE);
        self.note_runs();
        out
    }

    /// Runs the CLI, which must succeed; its output without the blanks at the end.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let out = self.run(arguments);
        assert!(out.success(), "domus {arguments:?}: exit {:?}\n{}{}", out.code, out.stdout, out.stderr);
        out.stdout.trim_end().to_string()
    }

    /// Runs the CLI, which must fail; what it said on stderr.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let out = self.run(arguments);
        assert!(!out.success(), "domus {arguments:?} succeeded:\n{}", out.stdout);
        assert_ne!(out.code, None, "domus {arguments:?} was killed by a signal");
        assert_ne!(out.code, Some(101), "domus {arguments:?} panicked:\n{}", out.stderr);
        assert!(!out.stderr.trim().is_empty(), "domus {arguments:?} failed without a word");
        out.stderr
    }

    /// Fails like [`Lab::fails`], with every one of `words` in what it said.
    pub fn fails_with(&self, arguments: &[&str], words: &[&str]) -> String {
        let text = self.fails(arguments);
        for word in words {
            assert!(text.contains(word), "domus {arguments:?} should say {word:?}, said:\n{text}");
        }
        text
    }

    /// Starts a domain and destroys it while a fault point holds the start; comes back when the point has let go.
    #[allow(dead_code, reason = "for the suites with fault points")]
    pub fn destroyed_while_starting(&self, domain: &str) {
        let mut start = self.cli(&["start", domain]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(150));
        self.note_runs();
        // One that came too late finds nothing to destroy, and one that came too early a start in the bud.
        self.run(&["destroy", domain]);
        start.wait().unwrap();
        std::thread::sleep(Duration::from_millis(600));
        self.run(&["destroy", domain]);
    }

    /// Writes an XML file into the work directory.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.work().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path.to_str().unwrap().to_string()
    }

    /// `domus define` of this text.
    pub fn define(&self, xml: &str) -> String {
        let file = self.write("define.xml", xml);
        self.ok(&["define", &file])
    }

    /// A client of the daemon's own socket.
    pub fn bus(&self) -> Bus {
        Bus::peer(&self.socket())
    }

    /// Remembers the ids of runs that exist now: cgroups are named after them.
    pub fn note_runs(&self) {
        self.tags.borrow_mut().extend(leaks::run_ids(&self.root()));
    }

    /// All processes of this lab, the daemon among them.
    pub fn pids(&self) -> Vec<i32> {
        leaks::pids_of(&self.base)
    }

    /// Those seen so far that are none of `runs`: what has their names is left behind.
    #[allow(dead_code, reason = "for the suite of containers")]
    pub fn runs_but(&self, runs: &[String]) -> BTreeSet<String> {
        self.note_runs();
        let own = self.base.extension().map(|tag| tag.to_string_lossy().into_owned());
        let known = |tag: &&String| Some(*tag) != own.as_ref() && !runs.contains(tag);
        self.tags.borrow().iter().filter(known).cloned().collect()
    }

    /// A word that only this lab uses in names.
    pub fn tag(&self) -> String {
        let tag = self.base.extension().unwrap().to_string_lossy().into_owned();
        self.tags.borrow_mut().insert(tag.clone());
        tag
    }

    /// State as the CLI shows it.
    pub fn state(&self, domain: &str) -> String {
        self.ok(&["domstate", domain])
    }

    pub fn wait_state(&self, domain: &str, state: &str) {
        let mut last = String::new();
        if soon(DEADLINE, || {
            last = self.state(domain);
            (last == state).then_some(())
        })
        .is_none()
        {
            panic!("{domain} should be {state:?}, is {last:?}");
        }
    }

    /// Names of all domains, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .ok(&["list", "--all", "--name"])
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .map(Into::into)
            .collect();
        names.sort();
        names
    }

    /// Nothing of a guest is left while the daemon runs: no process, link, mount, cgroup, run-time file, open fd.
    pub fn check_no_guest_left(&self) {
        let mut found = Vec::new();
        soon(Duration::from_secs(5), || {
            found = self.leaks(&[self.pid()]);
            found.is_empty().then_some(())
        });
        assert!(found.is_empty(), "left behind:\n{}", found.join("\n"));
    }

    fn leaks(&self, known: &[i32]) -> Vec<String> {
        let mut found = leaks::processes(&self.base, known);
        found.extend(leaks::mounts(&self.base));
        found.extend(leaks::run_files(&self.root()));
        found.extend(leaks::cgroups(&self.tags.borrow()));
        if self.has_seat {
            let now = leaks::links();
            found.extend(now.difference(&self.links_before.borrow()).map(|link| format!("link {link}")));
        }
        found
    }

    /// The last line of every test: destroys and undefines what is there, then looks for what is left, first with the
    /// daemon running, then without it.
    pub fn finish(mut self) {
        if self.daemon.is_none() {
            self.start();
        }
        for name in self.names() {
            self.run(&["destroy", &name]);
            self.run(&["undefine", &name]);
        }
        assert_eq!(self.names(), Vec::<String>::new(), "domains that can neither be destroyed nor undefined");
        self.check_no_guest_left();
        if let Some(before) = self.fds_before {
            let now = leaks::settled_fds(self.pid(), before);
            assert!(
                now <= before,
                "open files of the daemon: {before} at its start, {now} now:\n{}",
                leaks::fds(self.pid())
            );
        }
        self.stop();
        let mut found = self.leaks(&[]);
        found.extend(leaks::state_files(&self.root()));
        assert!(found.is_empty(), "left behind after the daemon's end:\n{}", found.join("\n"));
        self.finished = true;
    }

    /// Links that exist from now on are the test's own.
    pub fn forget_links(&self) {
        *self.links_before.borrow_mut() = leaks::links();
    }

    /// A link that the test had made itself before is a guest's from now on.
    pub fn forget_link(&self, name: &str) {
        self.links_before.borrow_mut().remove(name);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        // Whatever still runs on behalf of this lab (by exact path, so never anybody else's).
        for pid in leaks::pids_of(&self.base) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if !self.finished {
            eprintln!("--- the daemon's log ({})\n{}", self.log().display(), tail(&self.log(), 120));
        }
        if std::thread::panicking() {
            for line in leaks::qemu_logs(&self.root()) {
                eprintln!("{line}");
            }
        }
        // A killed process is in its cgroup until it is reaped.
        soon(Duration::from_secs(3), || {
            leaks::remove_cgroups(&self.tags.borrow());
            leaks::cgroups(&self.tags.borrow()).is_empty().then_some(())
        });
        if std::env::var_os("DOMUS_TEST_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.base);
        }
        if self.has_seat {
            *SEATS.0.lock().unwrap_or_else(|poison| poison.into_inner()) += 1;
            SEATS.1.notify_one();
        }
    }
}

/// A short, fresh directory: socket paths below it must fit in 108 bytes.
fn temporary_directory() -> PathBuf {
    let base = nix::unistd::mkdtemp("/tmp/d.XXXXXX").unwrap();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
    base
}

/// The thread, and every process it starts from now on, gets an empty network and a private mount table.
fn own_namespaces() {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare");
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    ip("link set lo up");
}

/// Runs iproute2's `ip` in this thread's network namespace.
pub fn ip(arguments: &str) -> String {
    let mut command = Command::new(program("ip").expect("ip"));
    let out = run(command.args(arguments.split_whitespace()), DEADLINE);
    assert!(out.success(), "ip {arguments}: {}", out.stderr);
    out.stdout
}

/// Why no guest can run here, if none can.
fn no_guests_here() -> Option<String> {
    if !is_root() {
        return Some("needs root (namespaces, taps, guests' users)".into());
    }
    for name in ["qemu-system-x86_64", "qemu-img", "ip"] {
        if program(name).is_none() {
            return Some(format!("{name} is not installed (scripts/setup.sh)"));
        }
    }
    if File::open("/dev/net/tun").is_err() {
        return Some("/dev/net/tun cannot be opened".into());
    }
    no_namespaces_here()
}

/// Why no container can run here, if none can.
fn no_containers_here() -> Option<String> {
    if !is_root() {
        return Some("needs root (namespaces)".into());
    }
    if !Path::new("/bin/busybox").exists() {
        return Some("/bin/busybox is not installed (package busybox-static)".into());
    }
    no_namespaces_here()
}

fn no_namespaces_here() -> Option<String> {
    static UNSHARE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let works = *UNSHARE.get_or_init(|| {
        std::thread::spawn(|| nix::sched::unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).is_ok())
            .join()
            .unwrap_or(false)
    });
    (!works).then(|| "network and mount namespaces cannot be made here".into())
}

/// The directory with kernel, initrd and base.raw, built on first use; `None` (after a SKIP line) when it cannot be.
pub fn guest_image() -> Option<PathBuf> {
    static IMAGE: std::sync::OnceLock<Result<PathBuf, String>> = std::sync::OnceLock::new();
    let image = IMAGE.get_or_init(|| {
        if let Some(path) = std::env::var_os("DOMUS_GUEST") {
            return Ok(PathBuf::from(path));
        }
        let out = run(&mut Command::new(repository().join("scripts/guest-image.sh")), Duration::from_secs(300));
        if out.success() { Ok(PathBuf::from(out.stdout.trim())) } else { Err(out.stderr.replace('\n', " ")) }
    });
    match image {
        Ok(path) => Some(path.clone()),
        Err(error) => {
            skip(&test_name(), &format!("no guest image: {error}"));
            None
        }
    }
}

/// The last lines of a file.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
