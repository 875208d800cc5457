//! How a process is born: one `clone(CLONE_VM | CLONE_VFORK)` and a straight line of system calls up to `execve`.
//!
//! Why not `std::process::Command`: with a `pre_exec` hook it forks, which copies the page tables of the whole daemon
//! and then makes it fault every page it writes; and it can neither join cgroups, place descriptors at exact numbers
//! nor leave a pid file before the program runs. Here the child borrows our memory while the calling thread sleeps.
//!
//! ```text
//! parent thread                     child (our memory, own fds, own signal table; born in its v2 cgroup)
//! block all signals, clone3 ----->  PDEATHSIG=KILL, getppid check
//!   (sleeps)                        join v1 cgroups, setsid, umask, limits, chdir
//!                                   descriptors: all CLOEXEC, then dup to their numbers
//!                                   setgroups, setresgid, setresuid  (clears PDEATHSIG, so again)
//!                                   pid file, PDEATHSIG off, default signals, execve
//! wakes at execve or _exit  <-----
//! ```
//!
//! If the daemon is killed before the pid file is complete the child dies with it; afterwards the file names it.
//!
//! Never allocates, locks or formats in the child; every buffer is made before the clone.
//!
//! Changing ids in the child makes the kernel mark our shared memory as not dumpable, which is what keeps the new user
//! from tracing it. It is set back when no child is between clone and execve any more ([`InFlight`]).

use std::ffi::{CString, OsStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::Mutex;

use nix::libc;

/// A resource limit of the child; soft and hard alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Bytes of address space.
    AddressSpace,
    /// Seconds of processor time.
    CpuSeconds,
    /// Bytes of a core file.
    Core,
    /// Bytes of locked memory.
    LockedMemory,
    /// Open descriptors.
    OpenFiles,
    /// Processes of the user.
    Processes,
    /// Bytes of a file that is written.
    FileSize,
}

impl Limit {
    /// "No limit" as a value.
    pub const UNLIMITED: u64 = libc::RLIM_INFINITY;

    fn resource(self) -> libc::__rlimit_resource_t {
        match self {
            Limit::AddressSpace => libc::RLIMIT_AS,
            Limit::CpuSeconds => libc::RLIMIT_CPU,
            Limit::Core => libc::RLIMIT_CORE,
            Limit::LockedMemory => libc::RLIMIT_MEMLOCK,
            Limit::OpenFiles => libc::RLIMIT_NOFILE,
            Limit::Processes => libc::RLIMIT_NPROC,
            Limit::FileSize => libc::RLIMIT_FSIZE,
        }
    }
}

/// Everything a child is started with.
#[derive(Debug, Default)]
pub(super) struct Request<'a> {
    /// Program (absolute path) and arguments.
    pub argv: Vec<&'a OsStr>,
    pub env: Vec<(&'a str, &'a str)>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub groups: Vec<u32>,
    pub umask: Option<u32>,
    pub limits: Vec<(Limit, u64)>,
    pub cwd: Option<&'a Path>,
    /// Descriptors 0, 1, 2.
    pub stdio: [RawFd; 3],
    /// (number in the child, our descriptor).
    pub fds: Vec<(RawFd, RawFd)>,
    /// Files the child writes "0" to.
    pub cgroups: Vec<RawFd>,
    /// Directory of the v2 group it is born in, which costs nothing; to join one later waits for an RCU grace period.
    pub born_in: Option<RawFd>,
    pub pidfile: Option<RawFd>,
    pub no_new_privs: bool,
    /// Killed when the thread that starts it ends: start it on one that lives as long as the daemon.
    pub bound: bool,
    /// Without any capability, as any user.
    pub powerless: bool,
}

/// A process that runs.
#[derive(Debug)]
pub(super) struct Born {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// Field 22 of /proc/PID/stat, clock ticks since boot.
    pub start_time: u64,
}

/// Why a child did not come to run its program: the step and the kernel's answer.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct SpawnError {
    pub step: &'static str,
    pub source: io::Error,
}

impl SpawnError {
    fn new(step: &'static str, source: io::Error) -> Self {
        SpawnError { step, source }
    }
}

/// What the child may touch: raw pointers and buffers that the sleeping parent keeps alive.
struct Plan {
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    uid: Option<u32>,
    gid: Option<u32>,
    groups: Vec<libc::gid_t>,
    umask: Option<u32>,
    limits: Vec<(libc::__rlimit_resource_t, libc::rlimit)>,
    cwd: Option<CString>,
    /// (number in the child, where it is now); the second is rewritten by the child.
    fds: Vec<(RawFd, RawFd)>,
    first_free: RawFd,
    cgroups: Vec<RawFd>,
    pidfile: Option<RawFd>,
    no_new_privs: bool,
    bound: bool,
    powerless: bool,
    parent: libc::pid_t,
    buffer: [u8; 1024],
    start_time: u64,
    failed_step: &'static str,
    failed_errno: c_int,
}

/// Counts the children between clone and execve; the last one out makes our memory as dumpable as it was before the
/// first came in.
struct InFlight;

/// (children, PR_GET_DUMPABLE before the first).
static IN_FLIGHT: Mutex<(u32, c_int)> = Mutex::new((0, 0));

impl InFlight {
    fn enter() -> InFlight {
        let mut state = IN_FLIGHT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if state.0 == 0 {
            // SAFETY: prctl with constants; no memory is passed.
            state.1 = unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) };
        }
        state.0 += 1;
        InFlight
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = IN_FLIGHT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.0 -= 1;
        // Whoever was not dumpable stays so; 2 (dumpable for root alone) cannot be set.
        if state.0 == 0 && state.1 == 1 {
            // SAFETY: prctl with constants; no memory is passed.
            unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
        }
    }
}

const STACK: usize = 64 * 1024;

/// Starts a process. Returns when the program is running (after `execve`) or when a step failed.
/// Blocks the calling thread for that time: never call it on a thread that runs async tasks.
pub(super) fn spawn(request: &Request<'_>) -> Result<Born, SpawnError> {
    let cstring = |bytes: &[u8]| {
        CString::new(bytes)
            .map_err(|_| SpawnError::new("argument with a NUL byte", io::Error::from_raw_os_error(libc::EINVAL)))
    };
    let argv = request.argv.iter().map(|arg| cstring(arg.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    if argv.is_empty() {
        return Err(SpawnError::new("empty argument list", io::Error::from_raw_os_error(libc::EINVAL)));
    }
    let env = request
        .env
        .iter()
        .map(|(key, value)| cstring(format!("{key}={value}").as_bytes()))
        .collect::<Result<Vec<_>, _>>()?;
    let cwd = request.cwd.map(|path| cstring(path.as_os_str().as_bytes())).transpose()?;
    let mut fds: Vec<(RawFd, RawFd)> = request.stdio.iter().enumerate().map(|(i, fd)| (i as RawFd, *fd)).collect();
    fds.extend(request.fds.iter().copied());
    let mut plan = Plan {
        argv: pointers(&argv),
        env: pointers(&env),
        uid: request.uid,
        gid: request.gid,
        groups: request.groups.clone(),
        umask: request.umask,
        limits: request
            .limits
            .iter()
            .map(|(limit, value)| (limit.resource(), libc::rlimit { rlim_cur: *value, rlim_max: *value }))
            .collect(),
        cwd,
        first_free: fds.iter().map(|(target, _)| target + 1).max().unwrap_or(3),
        fds,
        cgroups: request.cgroups.clone(),
        pidfile: request.pidfile,
        no_new_privs: request.no_new_privs,
        bound: request.bound,
        powerless: request.powerless,
        // SAFETY: getpid has no preconditions.
        parent: unsafe { libc::getpid() },
        buffer: [0; 1024],
        start_time: 0,
        failed_step: "",
        failed_errno: 0,
    };

    // Element type for the alignment that the ABI wants of a stack.
    let mut stack = vec![0u128; STACK / 16];
    let mut pidfd: c_int = -1;
    let in_flight = InFlight::enter();
    // Kernels and machines that cannot give birth in a group: the child joins.
    let mut procs = None;
    let (pid, clone_error) = {
        let _masked = SignalsBlocked::new();
        let mut born = None;
        if let Some(group) = request.born_in {
            // SAFETY: as for `born_anywhere` below.
            born = unsafe { born_in(group, &mut plan, &mut stack, &mut pidfd) };
            if born.is_none() {
                let file = open_procs(group).map_err(|error| SpawnError::new("open cgroup.procs", error))?;
                plan.cgroups.push(file.as_raw_fd());
                procs = Some(file);
            }
        }
        match born {
            Some(pid) => (pid, io::Error::from_raw_os_error(0)),
            // SAFETY: CLONE_VFORK suspends this thread until the child has called execve or _exit, so `plan`, the
            // strings its pointers refer to, `stack` and `pidfd` outlive every access of the child, and nobody accesses
            // them concurrently. All signals are blocked, so no handler of ours runs on the child's stack. The child
            // calls only thin system call wrappers, takes no lock and allocates nothing.
            None => unsafe { born_anywhere(&mut plan, &mut stack, &mut pidfd) },
        }
    };
    drop(procs);
    drop(in_flight);
    if pid < 0 {
        return Err(SpawnError::new("clone", clone_error));
    }
    // SAFETY: the kernel stored a new descriptor there (CLONE_PIDFD) that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    if plan.failed_errno != 0 {
        let _ = rustix::process::waitid(
            rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)),
            rustix::process::WaitIdOptions::EXITED,
        );
        return Err(SpawnError::new(plan.failed_step, io::Error::from_raw_os_error(plan.failed_errno)));
    }
    // Killed from outside before execve (out of memory, an operator): the pidfd then just reports the end.
    Ok(Born { pid, pidfd, start_time: plan.start_time })
}

const FLAGS: c_int = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;

/// The child's pid, or -1 and why.
///
/// # Safety
/// All signals are blocked, and `plan` is complete.
unsafe fn born_anywhere(plan: &mut Plan, stack: &mut [u128], pidfd: &mut c_int) -> (libc::pid_t, io::Error) {
    let plan: *mut Plan = plan;
    let pidfd: *mut c_int = pidfd;
    // SAFETY: by the contract. The pointer passed as stack is the end of `stack`, 16-byte aligned.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast::<c_void>();
        libc::clone(child_main, top, FLAGS | libc::SIGCHLD, plan.cast::<c_void>(), pidfd)
    };
    (pid, io::Error::last_os_error())
}

/// The same by `clone3(2)` into the cgroup v2 directory `group`; `None` when that is not possible here.
///
/// # Safety
/// As for [`born_anywhere`].
unsafe fn born_in(group: RawFd, plan: &mut Plan, stack: &mut [u128], pidfd: &mut c_int) -> Option<libc::pid_t> {
    let plan: *mut Plan = plan;
    let pidfd: *mut c_int = pidfd;
    let args = libc::clone_args {
        flags: FLAGS as u64 | super::clone::CLONE_INTO_CGROUP,
        pidfd: pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: size_of_val(stack) as u64,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: group as u64,
    };
    // SAFETY: by the contract; `args` describes `stack` and is fully initialised.
    let pid = unsafe { clone3_call(&raw const args, child_main, plan.cast::<c_void>()) };
    libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 0)
}

/// `clone3(2)`, which the C library does not offer: the child calls `main(arg)` on the stack in `args`; the parent gets
/// its pid or a negative errno.
///
/// # Safety
/// `args` asks for a stack of the child's own and for CLONE_VFORK; `main` never returns.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3_call(
    args: *const libc::clone_args,
    main: extern "C" fn(*mut c_void) -> c_int,
    arg: *mut c_void,
) -> i64 {
    let result: i64;
    // SAFETY: the parent's registers and stack are as before the call but for the declared outputs. The child has an
    // empty, aligned stack, a zero frame pointer (end of the chain) and leaves through `main` alone.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") arg,
            in("r13") main,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// As above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3_call(
    args: *const libc::clone_args,
    main: extern "C" fn(*mut c_void) -> c_int,
    arg: *mut c_void,
) -> i64 {
    let result: i64;
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            inlateout("x0") args => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x8") libc::SYS_clone3,
            in("x20") arg,
            in("x21") main,
            lateout("x30") _,
        );
    }
    result
}

/// Elsewhere nothing is born in a group.
///
/// # Safety
/// None needed.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone3_call(_: *const libc::clone_args, _: extern "C" fn(*mut c_void) -> c_int, _: *mut c_void) -> i64 {
    -i64::from(libc::ENOSYS)
}

fn open_procs(group: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the caller of `spawn` holds it open for the call.
    let group = unsafe { std::os::fd::BorrowedFd::borrow_raw(group) };
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::openat(group, "cgroup.procs", flags, rustix::fs::Mode::empty())?)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// Blocks every signal in this thread while it lives.
struct SignalsBlocked {
    old: libc::sigset_t,
}

impl SignalsBlocked {
    fn new() -> Self {
        // SAFETY: both sets are plain memory owned here; sigfillset and pthread_sigmask only write them.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut old: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
            SignalsBlocked { old }
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: `old` was filled by pthread_sigmask in `new`. A thread restores its own mask.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.old, ptr::null_mut()) };
    }
}

extern "C" fn child_main(arg: *mut c_void) -> c_int {
    // SAFETY: `arg` is the `Plan` of `spawn`, whose thread sleeps until we exec or exit, so this is the only access.
    let plan = unsafe { &mut *arg.cast::<Plan>() };
    // SAFETY: contract of `child` (own process, all signals blocked, plan valid) holds here.
    let step = unsafe { child(plan) };
    plan.failed_step = step;
    // SAFETY: reads this thread's errno; then ends only this process, without running exit handlers.
    unsafe {
        plan.failed_errno = match *libc::__errno_location() {
            0 => libc::EINVAL,
            errno => errno,
        };
        libc::_exit(127)
    }
}

/// Runs in the child. Returns only on failure, the name of the step; errno tells why.
///
/// # Safety
/// Only system calls; no allocation, no lock, no panic: the memory is the parent's.
unsafe fn child(plan: &mut Plan) -> &'static str {
    // SAFETY: every call below is a system call on plain values or on buffers of `plan`, which outlive it.
    unsafe {
        // Die with the daemon until the pid file names us.
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) != 0 {
            return "set parent death signal";
        }
        if libc::getppid() != plan.parent {
            libc::_exit(126);
        }
        // "0" is the writer itself; so every thread and child of the program is in from its first instruction.
        for fd in &plan.cgroups {
            if libc::write(*fd, c"0".as_ptr().cast(), 1) != 1 {
                return "join cgroup";
            }
        }
        libc::setsid();
        if let Some(mask) = plan.umask {
            libc::umask(mask);
        }
        if let Some(cwd) = &plan.cwd
            && libc::chdir(cwd.as_ptr()) != 0
        {
            return "change directory";
        }

        // Descriptors: everything closes at exec, but for what is dup'ed to its number below.
        if libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) != 0 {
            return "mark descriptors";
        }
        // First out of the way of the target numbers, then to them.
        for (_, fd) in &mut plan.fds {
            *fd = libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, plan.first_free);
            if *fd < 0 {
                return "duplicate descriptor";
            }
        }
        if let Some(fd) = &mut plan.pidfile {
            *fd = libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, plan.first_free);
            if *fd < 0 {
                return "duplicate descriptor";
            }
        }
        for (target, fd) in &plan.fds {
            if libc::dup2(*fd, *target) < 0 {
                return "place descriptor";
            }
        }

        match read_start_time(&mut plan.buffer) {
            Some(time) => plan.start_time = time,
            None => return "read /proc/self/stat",
        }
        // Not before the last descriptor is open: the daemon may have more open (until exec) than the limit allows. Not
        // after the change of ids: raising a limit needs the privilege.
        for (resource, limit) in &plan.limits {
            if libc::setrlimit(*resource, &raw const *limit) != 0 {
                return "set resource limit";
            }
        }

        // Raw calls: glibc's wrappers would signal the daemon's other threads to change their ids as well.
        if let Some(gid) = plan.gid {
            if libc::syscall(libc::SYS_setgroups, plan.groups.len(), plan.groups.as_ptr()) != 0 {
                return "set supplementary groups";
            }
            if libc::syscall(libc::SYS_setresgid, gid, gid, gid) != 0 {
                return "set group id";
            }
        }
        if let Some(uid) = plan.uid {
            if libc::syscall(libc::SYS_setresuid, uid, uid, uid) != 0 {
                return "set user id";
            }
            if uid != 0 {
                libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
            }
            // A change of ids clears it.
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) != 0 {
                return "set parent death signal";
            }
            if libc::getppid() != plan.parent {
                libc::_exit(126);
            }
        }
        if plan.powerless {
            // Version 3 of the call's header, this thread; effective, permitted and inheritable sets empty.
            let header = [0x2008_0522u32, 0];
            let sets = [0u32; 6];
            if libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) != 0 {
                return "drop capabilities";
            }
        }
        if plan.no_new_privs && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return "set no_new_privs";
        }

        if let Some(fd) = plan.pidfile {
            let mut len = put_decimal(&mut plan.buffer, 0, libc::getpid() as u64);
            plan.buffer[len] = b' ';
            len = put_decimal(&mut plan.buffer, len + 1, plan.start_time);
            plan.buffer[len] = b'\n';
            len += 1;
            if libc::write(fd, plan.buffer.as_ptr().cast(), len) != len as isize {
                return "write pid file";
            }
        }
        if !plan.bound && libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0) != 0 {
            return "clear parent death signal";
        }

        // Ignored signals would stay ignored through exec; our handlers must not run once signals are unblocked.
        // The raw call, because glibc's refuses the two signals it keeps for itself. All zeros is SIG_DFL, no flags.
        let default = [0u64; 4];
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<u64>(), 8usize);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());

        libc::execve(plan.argv[0], plan.argv.as_ptr(), plan.env.as_ptr());
        "execute"
    }
}

/// Field 22 of /proc/self/stat.
///
/// # Safety
/// For the child of [`spawn`]: only system calls.
unsafe fn read_start_time(buffer: &mut [u8; 1024]) -> Option<u64> {
    // SAFETY: the path is a C string, the buffer is ours and its length is passed.
    let len = unsafe {
        let fd = libc::open(c"/proc/self/stat".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return None;
        }
        let len = libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len());
        libc::close(fd);
        len
    };
    parse_start_time(buffer.get(..usize::try_from(len).ok()?)?)
}

/// Field 22 of a /proc/PID/stat line. The name (field 2) may hold anything, so fields count from the last `)`.
/// Allocates nothing: the child of [`spawn`] uses it too.
pub(super) fn parse_start_time(stat: &[u8]) -> Option<u64> {
    let rest = stat.get(stat.iter().rposition(|b| *b == b')')? + 2..)?;
    let field = rest.split(|b| *b == b' ').nth(19)?;
    let mut value: u64 = 0;
    for byte in field {
        value = value.checked_mul(10)?.checked_add(u64::from(byte.checked_sub(b'0').filter(|d| *d <= 9)?))?;
    }
    if field.is_empty() { None } else { Some(value) }
}

/// Writes `value` at `at`, returns the index after it. Allocates nothing.
fn put_decimal(buffer: &mut [u8; 1024], at: usize, value: u64) -> usize {
    let digits = value.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut rest = value;
    for i in (0..digits).rev() {
        buffer[at + i] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    at + digits
}

/// Both descriptors' numbers, for a request.
pub(super) fn raw(fd: &impl AsRawFd) -> RawFd {
    fd.as_raw_fd()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_counted_from_the_last_parenthesis() {
        let line = b"12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21\n";
        assert_eq!(parse_start_time(line), Some(4711));
        assert_eq!(parse_start_time(b"12 (x"), None);
        assert_eq!(parse_start_time(b"12 (x) S 1"), None);
        assert_eq!(parse_start_time(b"12 (x)"), None);
    }

    #[test]
    fn decimals() {
        let mut buffer = [0u8; 1024];
        for value in [0, 9, 10, 12345, u64::MAX] {
            let end = put_decimal(&mut buffer, 3, value);
            assert_eq!(std::str::from_utf8(&buffer[3..end]).unwrap(), value.to_string());
        }
    }
}
