//! The only place that starts processes: helper programs ([`run`]) and guests ([`spawn_guest`]).
//!
//! A program is an absolute path and is started with a fixed, minimal environment, default signals, no descriptor but
//! the ones named, and no shell. Never looks anything up in `PATH`, never inherits the daemon's environment.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::process::{Exit, PidFd};
pub use super::spawn::Limit;
use super::spawn::{self, Request, SpawnError};

/// The environment every process gets, before its own additions.
pub const BASE_ENV: [(&str, &str); 2] =
    [("LC_ALL", "C"), ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")];

/// Why a helper program gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It could not be started; `source` names the step.
    #[error("cannot execute binary {program}: {source}")]
    Start { program: String, source: SpawnError },
    /// It ended with something else than 0; `stderr` is the end of what it said.
    #[error("{program} failed ({status}){}{stderr}", if .stderr.is_empty() { "" } else { ": " })]
    Failed { program: String, status: Exit, stderr: String },
    /// It did not end in time and was killed.
    #[error("{program} did not finish within {limit:?} and was killed")]
    Timeout { program: String, limit: Duration },
    /// It wrote more than allowed and was killed.
    #[error("{program} wrote more than {limit} bytes and was killed")]
    TooMuchOutput { program: String, limit: usize },
    /// Talking to it failed.
    #[error("{program}: {source}")]
    Io { program: String, source: io::Error },
}

/// How a helper program is run. `Default` is: 30 s, no input, 16 MiB of output, our own user.
#[derive(Clone, Debug)]
pub struct Options {
    /// Killed after this time.
    pub timeout: Duration,
    /// Written to its standard input, which is /dev/null otherwise.
    pub stdin: Option<Vec<u8>>,
    /// Added to [`BASE_ENV`].
    pub env: Vec<(String, String)>,
    /// Run as this user and group, without supplementary groups.
    pub user: Option<(u32, u32)>,
    /// Supplementary groups, with `user`.
    pub groups: Vec<u32>,
    /// Limits, soft and hard alike.
    pub limits: Vec<(Limit, u64)>,
    /// Bytes of standard output, and of standard error, that are taken.
    pub max_output: usize,
    /// A status other than 0 is a result, not an error.
    pub any_status: bool,
    /// (number in the process, descriptor); numbers from 3 up. All others are closed.
    pub fds: Vec<(RawFd, Arc<OwnedFd>)>,
    /// Killed by the kernel when the daemon dies, however it dies.
    pub dies_with_us: bool,
    /// Runs without any capability, also as root.
    pub powerless: bool,
    /// Gets standard output as it comes, instead of the result.
    pub watch: Option<Watch>,
}

/// Takes standard output piece by piece, on the task that runs the program.
#[derive(Clone)]
pub struct Watch(pub Arc<Taker>);

/// What takes the pieces.
pub type Taker = dyn Fn(&[u8]) + Send + Sync;

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            timeout: Duration::from_secs(30),
            stdin: None,
            env: Vec::new(),
            user: None,
            groups: Vec::new(),
            limits: Vec::new(),
            max_output: 16 << 20,
            any_status: false,
            fds: Vec::new(),
            dies_with_us: false,
            powerless: false,
            watch: None,
        }
    }
}

/// What a helper program gave.
#[derive(Clone, Debug)]
pub struct Output {
    pub status: Exit,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, invalid bytes replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs a program to its end and gives its output. Killed on timeout, on too much output, and when the future is
/// dropped.
pub async fn run<S: AsRef<OsStr>>(program: &Path, args: &[S], options: Options) -> Result<Output, ExecError> {
    let name = program.display().to_string();
    let io_error = |source| ExecError::Io { program: name.clone(), source };

    let (stdout, child_stdout) = rustix_pipe().map_err(io_error)?;
    let (stderr, child_stderr) = rustix_pipe().map_err(io_error)?;
    let (child_stdin, stdin) = match &options.stdin {
        Some(_) => {
            let (read, write) = rustix_pipe().map_err(io_error)?;
            (read, Some(write))
        }
        None => (open_null().map_err(io_error)?, None),
    };
    let argv: Vec<OsString> =
        std::iter::once(program.as_os_str().to_owned()).chain(args.iter().map(|a| a.as_ref().to_owned())).collect();
    let launch = {
        let options = options.clone();
        move || {
            let request = Request {
                argv: argv.iter().map(OsString::as_os_str).collect(),
                env: env_of(&options.env),
                uid: options.user.map(|user| user.0),
                gid: options.user.map(|user| user.1),
                groups: options.groups,
                limits: options.limits,
                stdio: [spawn::raw(&child_stdin), spawn::raw(&child_stdout), spawn::raw(&child_stderr)],
                no_new_privs: true,
                fds: options.fds.iter().map(|(number, fd)| (*number, fd.as_raw_fd())).collect(),
                bound: options.dies_with_us,
                powerless: options.powerless,
                ..Request::default()
            };
            spawn::spawn(&request)
                .map(|born| Guard { process: Some(PidFd::of_child(born.pid, born.start_time, born.pidfd)) })
        }
    };
    let born = match options.dies_with_us {
        true => on_lasting_thread(launch).await,
        false => tokio::task::spawn_blocking(launch).await.map_err(io::Error::other),
    };
    let mut guard = born.map_err(io_error)?.map_err(|source| ExecError::Start { program: name.clone(), source })?;

    let limit = options.max_output;
    let talk = async {
        let feed = async {
            if let (Some(fd), Some(bytes)) = (stdin, &options.stdin) {
                let mut sender = pipe::Sender::from_owned_fd(nonblocking(fd)?)?;
                // A program that stops reading early is its own business; its status tells.
                let _ = sender.write_all(bytes).await;
            }
            Ok::<_, io::Error>(())
        };
        let ((), out, err) =
            tokio::try_join!(feed, drain(stdout, limit, options.watch.as_ref()), drain(stderr, limit, None))?;
        let status = guard.wait().await?;
        Ok::<_, io::Error>(Output { status, stdout: out, stderr: err })
    };
    let output = match tokio::time::timeout(options.timeout, talk).await {
        Err(_) => return Err(ExecError::Timeout { program: name, limit: options.timeout }),
        Ok(Err(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(ExecError::TooMuchOutput { program: name, limit });
        }
        Ok(Err(source)) => return Err(ExecError::Io { program: name, source }),
        Ok(Ok(output)) => output,
    };
    if output.status != Exit::Code(0) && !options.any_status {
        return Err(ExecError::Failed { program: name, status: output.status, stderr: tail(&output.stderr) });
    }
    Ok(output)
}

/// What a guest is started with. It outlives the daemon.
#[derive(Debug)]
pub struct GuestSpec {
    /// Program (absolute path) and its arguments.
    pub argv: Vec<String>,
    /// Added to [`BASE_ENV`].
    pub env: Vec<(String, String)>,
    /// User, group and supplementary groups; `None` keeps ours. Every capability goes with the change of user.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub groups: Vec<u32>,
    pub umask: u32,
    pub limits: Vec<(Limit, u64)>,
    pub working_dir: PathBuf,
    /// (number in the guest process, descriptor); numbers from 3 up, each once. All others are closed.
    pub fds: Vec<(RawFd, OwnedFd)>,
    /// Standard output and error. Standard input is /dev/null.
    pub output: OwnedFd,
    /// Groups of the process from its first instruction: opened `tasks` files of v1 groups, and the directory of one v2
    /// group.
    pub cgroup_procs: Vec<OwnedFd>,
    /// Gets "PID STARTTIME\n" from the process itself before it runs its program.
    pub pidfile: Option<OwnedFd>,
    pub no_new_privs: bool,
}

/// A guest's process. Dropping it does not end it.
#[derive(Debug)]
pub struct GuestProcess {
    pub pid: i32,
    /// Field 22 of /proc/PID/stat: with the pid and the boot id it names the process for good.
    pub start_time: u64,
    pub pidfd: PidFd,
}

/// Starts a guest. Blocks for the few milliseconds until its program runs; call it on a blocking thread.
///
/// Crash safety: until the pid file is complete, the process dies with the daemon.
pub fn spawn_guest(spec: GuestSpec) -> Result<GuestProcess, ExecError> {
    let program = spec.argv.first().cloned().unwrap_or_default();
    let null = open_null().map_err(|source| ExecError::Io { program: program.clone(), source })?;
    let output = spec.output.as_raw_fd();
    let (born_in, files) = doors(&spec.cgroup_procs);
    let request = Request {
        argv: spec.argv.iter().map(OsStr::new).collect(),
        env: env_of(&spec.env),
        uid: spec.uid,
        gid: spec.gid,
        groups: spec.groups.clone(),
        umask: Some(spec.umask),
        limits: spec.limits.clone(),
        cwd: Some(&spec.working_dir),
        stdio: [null.as_raw_fd(), output, output],
        fds: spec.fds.iter().map(|(target, fd)| (*target, fd.as_raw_fd())).collect(),
        cgroups: files,
        born_in,
        pidfile: spec.pidfile.as_ref().map(AsRawFd::as_raw_fd),
        no_new_privs: spec.no_new_privs,
        ..Request::default()
    };
    let born = spawn::spawn(&request).map_err(|source| ExecError::Start { program, source })?;
    // Our copies of its descriptors: a tap must end with the guest, not with the daemon.
    drop(spec);
    Ok(GuestProcess {
        pid: born.pid,
        start_time: born.start_time,
        pidfd: PidFd::of_child(born.pid, born.start_time, born.pidfd),
    })
}

/// Whether it is an open directory.
pub fn is_directory(fd: &OwnedFd) -> bool {
    rustix::fs::fstat(fd)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory)
}

/// The group to be born in (a directory, v2), and the files of those to join (v1).
fn doors(groups: &[OwnedFd]) -> (Option<RawFd>, Vec<RawFd>) {
    let (dirs, files): (Vec<&OwnedFd>, Vec<&OwnedFd>) = groups.iter().partition(|fd| is_directory(fd));
    (dirs.first().map(|dir| dir.as_raw_fd()), files.into_iter().map(AsRawFd::as_raw_fd).collect())
}

/// What a helper is started with that serves somebody else by descriptors of its own.
#[derive(Debug)]
pub struct EntrySpec {
    /// Program (absolute path) and its arguments.
    pub argv: Vec<String>,
    /// Standard input, output and error.
    pub stdio: [OwnedFd; 3],
    /// As in [`GuestSpec`].
    pub fds: Vec<(RawFd, OwnedFd)>,
    /// As in [`GuestSpec`].
    pub cgroup_procs: Vec<OwnedFd>,
}

/// Starts such a helper, which outlives the daemon. Blocks until its program runs; call it on a blocking thread.
pub fn spawn_entry(spec: EntrySpec) -> Result<GuestProcess, ExecError> {
    let program = spec.argv.first().cloned().unwrap_or_default();
    let root = PathBuf::from("/");
    let (born_in, files) = doors(&spec.cgroup_procs);
    let request = Request {
        argv: spec.argv.iter().map(OsStr::new).collect(),
        env: env_of(&[]),
        uid: None,
        gid: None,
        groups: Vec::new(),
        umask: Some(0o022),
        limits: Vec::new(),
        cwd: Some(&root),
        stdio: spec.stdio.each_ref().map(AsRawFd::as_raw_fd),
        fds: spec.fds.iter().map(|(target, fd)| (*target, fd.as_raw_fd())).collect(),
        cgroups: files,
        born_in,
        pidfile: None,
        no_new_privs: false,
        ..Request::default()
    };
    let born = spawn::spawn(&request).map_err(|source| ExecError::Start { program, source })?;
    drop(spec);
    Ok(GuestProcess {
        pid: born.pid,
        start_time: born.start_time,
        pidfd: PidFd::of_child(born.pid, born.start_time, born.pidfd),
    })
}

fn env_of(extra: &[(String, String)]) -> Vec<(&str, &str)> {
    let base = BASE_ENV.into_iter().filter(|(key, _)| !extra.iter().any(|(other, _)| other == key));
    base.chain(extra.iter().map(|(key, value)| (key.as_str(), value.as_str()))).collect()
}

/// A helper program that must not outlive its caller.
struct Guard {
    process: Option<PidFd>,
}

impl Guard {
    async fn wait(&mut self) -> io::Result<Exit> {
        let exit = match &self.process {
            Some(process) => process.wait().await?,
            None => Exit::Unknown,
        };
        self.process = None;
        Ok(exit)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(process) = self.process.take() else { return };
        // It leads its own session; not reaped yet, so its number is still its own.
        if let Some(group) = rustix::process::Pid::from_raw(process.pid()) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = process.kill(nix::libc::SIGKILL);
        if process.try_reap().is_none() {
            std::thread::spawn(move || process.reap_blocking());
        }
    }
}

fn rustix_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

fn open_null() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}

fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    set_nonblocking(std::os::fd::AsFd::as_fd(&fd))?;
    Ok(fd)
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}

/// The kernel's "kill it when its parent dies" means the thread that made it, and pooled threads come and go.
async fn on_lasting_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    type Job = Box<dyn FnOnce() + Send>;
    static THREAD: OnceLock<std::sync::mpsc::Sender<Job>> = OnceLock::new();
    let (reply, result) = tokio::sync::oneshot::channel();
    let sender = match THREAD.get() {
        Some(sender) => sender,
        None => {
            let (sender, jobs) = std::sync::mpsc::channel::<Job>();
            std::thread::Builder::new()
                .name("spawner".into())
                .spawn(move || jobs.into_iter().for_each(|job: Job| job()))?;
            // Another caller may have been faster; the thread just made then ends for want of a sender.
            THREAD.get_or_init(|| sender)
        }
    };
    let job: Job = Box::new(move || drop(reply.send(work())));
    sender.send(job).map_err(|_| io::Error::other("the thread that starts programs is gone"))?;
    result.await.map_err(io::Error::other)
}

async fn drain(fd: OwnedFd, limit: usize, watch: Option<&Watch>) -> io::Result<Vec<u8>> {
    let mut receiver = pipe::Receiver::from_owned_fd(nonblocking(fd)?)?;
    let mut bytes = Vec::new();
    if let Some(watch) = watch {
        let mut piece = [0u8; 4096];
        loop {
            match receiver.read(&mut piece).await? {
                0 => return Ok(bytes),
                length => (watch.0)(&piece[..length]),
            }
        }
    }
    receiver.take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    if bytes.len() > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// The last kilobyte of what a program said, on one line.
fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(1024)..]).into_owned();
    text.trim().lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    fn sh() -> &'static Path {
        Path::new("/bin/sh")
    }

    #[tokio::test]
    async fn output_and_input() {
        let options = Options { stdin: Some(b"hello".to_vec()), ..Options::default() };
        let output = run(sh(), &["-c", "cat; echo $LC_ALL-$HOME >&2"], options).await.unwrap();
        assert_eq!(output.text(), "hello");
        assert_eq!(output.stderr, b"C-\n");
    }

    #[tokio::test]
    async fn failure_carries_status_and_stderr() {
        let error = run(sh(), &["-c", "echo oops >&2; exit 3"], Options::default()).await.unwrap_err();
        assert_eq!(error.to_string(), "/bin/sh failed (exit status 3): oops");
        let error = run(Path::new("/nonexistent/x"), &[] as &[&str], Options::default()).await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x") && error.to_string().contains("No such file"), "{error}");
    }

    #[tokio::test]
    async fn time_and_output_are_bounded() {
        let options = Options { timeout: Duration::from_millis(100), ..Options::default() };
        let error = run(sh(), &["-c", "sleep 600 & wait"], options).await.unwrap_err();
        assert!(matches!(error, ExecError::Timeout { .. }), "{error}");
        let options = Options { max_output: 1000, ..Options::default() };
        let error = run(sh(), &["-c", "while :; do echo xxxxxxxxxxxxxxxxxxxxxx; done"], options).await.unwrap_err();
        assert!(matches!(error, ExecError::TooMuchOutput { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_dropped_run_is_killed() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let script = format!("echo $$ > {}; exec sleep 600", file.path().display());
        let task = tokio::spawn(async move { run(sh(), &["-c", &script], Options::default()).await.map(|_| ()) });
        let mut text = String::new();
        while !text.ends_with('\n') {
            tokio::time::sleep(Duration::from_millis(5)).await;
            file.rewind().unwrap();
            text.clear();
            file.read_to_string(&mut text).unwrap();
        }
        let pid: i32 = text.trim().parse().unwrap();
        task.abort();
        let _ = task.await;
        for _ in 0..1000 {
            if super::super::process::start_time(pid).is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("process {pid} survived its caller");
    }

    #[tokio::test]
    async fn a_bound_program_gets_its_descriptors_no_power_and_the_daemons_fate() {
        let given = tempfile::tempfile().unwrap();
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink = seen.clone();
        let options = Options {
            fds: vec![(9, Arc::new(given.into()))],
            dies_with_us: true,
            powerless: true,
            watch: Some(Watch(Arc::new(move |piece| sink.lock().unwrap().extend_from_slice(piece)))),
            ..Options::default()
        };
        // Without a pipeline, whose descriptors the shell has for a moment.
        let script = "for fd in 0 1 2 3 4 5 6 7 8 9 10 11 12; do test -e /proc/$$/fd/$fd && printf '%s ' $fd; done; \
                      echo; grep -E '^Cap(Prm|Eff)|^NoNew' /proc/$$/status";
        let output = run(sh(), &["-c", script], options).await.unwrap();
        assert_eq!(output.stdout, b"", "what is watched is not kept");
        let text = String::from_utf8(seen.lock().unwrap().clone()).unwrap();
        let zero = "0000000000000000";
        assert_eq!(text, format!("0 1 2 9 \nCapPrm:\t{zero}\nCapEff:\t{zero}\nNoNewPrivs:\t1\n"));
    }

    /// A process of its own that starts a bound program and is killed: run by the test below, by name.
    #[tokio::test]
    #[ignore = "half of the_kernel_kills_bound_programs"]
    async fn bound_helper() {
        let options = Options { dies_with_us: true, ..Options::default() };
        let script = format!("echo $$ > {}; exec sleep 600", std::env::var("DOMUS_TEST_FILE").unwrap());
        let _ = run(sh(), &["-c", &script], options).await;
    }

    #[tokio::test]
    async fn the_kernel_kills_bound_programs() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let program = std::env::current_exe().unwrap();
        let args = ["--ignored", "--exact", "sys::exec::tests::bound_helper"];
        let env = vec![("DOMUS_TEST_FILE".to_string(), file.display().to_string())];
        let helper =
            tokio::spawn(async move { run(&program, &args, Options { env, ..Options::default() }).await.map(|_| ()) });
        let pid: i32 = loop {
            match std::fs::read_to_string(&file) {
                Ok(text) if text.ends_with('\n') => break text.trim().parse().unwrap(),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        // Kills the helper's session, which the program has left.
        helper.abort();
        let _ = helper.await;
        for _ in 0..4000 {
            // Whoever adopted it may be slow to reap it.
            match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
                Ok(stat) if !stat.contains(") Z ") => {}
                _ => return,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("process {pid} survived its daemon");
    }

    fn guest(script: &str, output: OwnedFd) -> GuestSpec {
        GuestSpec {
            argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
            env: vec![("HOME".into(), "/nowhere".into())],
            uid: None,
            gid: None,
            groups: vec![],
            umask: 0o002,
            limits: vec![(Limit::Core, 0), (Limit::OpenFiles, 64)],
            working_dir: "/".into(),
            fds: vec![],
            output,
            cgroup_procs: vec![],
            pidfile: None,
            no_new_privs: true,
        }
    }

    #[tokio::test]
    async fn a_guest_gets_exactly_its_descriptors_and_a_pid_file() {
        let mut output = tempfile::tempfile().unwrap();
        let mut pidfile = tempfile::tempfile().unwrap();
        let mut first = tempfile::tempfile().unwrap();
        let second = tempfile::tempfile().unwrap();
        let mut spec = guest(
            "echo first >&3; umask; ulimit -n; echo $HOME; ls /proc/self/fd | tr '\\n' ' '; exit 7",
            output.try_clone().unwrap().into(),
        );
        // Targets that collide with where the descriptors are now.
        spec.fds = vec![(3, first.try_clone().unwrap().into()), (5, second.into())];
        spec.pidfile = Some(pidfile.try_clone().unwrap().into());
        let process = tokio::task::spawn_blocking(|| spawn_guest(spec)).await.unwrap().unwrap();
        assert_eq!(process.pidfd.wait().await.unwrap(), Exit::Code(7));

        let read = |file: &mut File| {
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(read(&mut first), "first\n");
        // `ls` itself has the directory open as the lowest free number, 4.
        assert_eq!(read(&mut output), "0002\n64\n/nowhere\n0 1 2 3 4 5 ");
        assert_eq!(read(&mut pidfile), format!("{} {}\n", process.pid, process.start_time));
    }

    #[tokio::test]
    async fn a_guest_has_default_signals_and_dropped_privileges() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIP a_guest_has_default_signals_and_dropped_privileges: needs root to change user");
            return;
        }
        let mut output = tempfile::tempfile().unwrap();
        let mut spec = guest("cat /proc/self/status", output.try_clone().unwrap().into());
        (spec.uid, spec.gid, spec.groups) = (Some(4242), Some(4343), vec![4444]);
        let process = tokio::task::spawn_blocking(|| spawn_guest(spec)).await.unwrap().unwrap();
        assert_eq!(process.pidfd.wait().await.unwrap(), Exit::Code(0));
        let mut text = String::new();
        output.rewind().unwrap();
        output.read_to_string(&mut text).unwrap();
        let field = |name: &str| text.lines().find(|l| l.starts_with(name)).unwrap_or("").to_string();
        assert_eq!(field("Uid:"), "Uid:\t4242\t4242\t4242\t4242");
        assert_eq!(field("Gid:"), "Gid:\t4343\t4343\t4343\t4343");
        assert_eq!(field("Groups:").trim_end(), "Groups:\t4444");
        assert_eq!(field("NoNewPrivs:"), "NoNewPrivs:\t1");
        for set in ["CapEff:", "CapPrm:", "CapAmb:", "CapInh:", "SigBlk:", "SigIgn:"] {
            assert_eq!(field(set), format!("{set}\t0000000000000000"));
        }
    }

    #[test]
    fn a_failed_start_names_the_step() {
        let mut spec = guest("true", tempfile::tempfile().unwrap().into());
        spec.working_dir = "/nonexistent/dir".into();
        let error = spawn_guest(spec).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot execute binary /bin/sh: change directory: No such file or directory (os error 2)"
        );
    }
}
