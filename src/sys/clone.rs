//! `clone3(2)` and what the new process needs before it may `execve(2)`: default signals, no inherited fds.
//!
//! Owns the raw calls only. Which namespaces, in what order and who waits for whom is `lxc::run`'s matter.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;

/// `CLONE_INTO_CGROUP`; the libc crate's constant is of a type too narrow for it.
pub(super) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What [`clone3`] returns, as `fork(2)` would.
#[derive(Debug)]
pub enum Forked {
    /// In the calling process: the child's pid (in the caller's pid namespace) and a pidfd for it.
    Parent { pid: i32, pidfd: OwnedFd },
    /// In the new process.
    Child,
}

/// Proof that this process has one thread. It is for programs that never start another.
#[derive(Debug)]
pub struct SingleThread(());

impl SingleThread {
    /// Asks the kernel. `EBUSY` when there are more.
    pub fn prove() -> io::Result<SingleThread> {
        // SAFETY: passes no memory. "No effect if the calling process is single-threaded", EINVAL otherwise (unshare(2)).
        match unsafe { libc::unshare(libc::CLONE_THREAD) } {
            0 => Ok(SingleThread(())),
            _ => Err(io::Error::from_raw_os_error(libc::EBUSY)),
        }
    }
}

/// Makes a process in new namespaces: `flags` are `CLONE_NEW*` bits. With `cgroup`, a cgroup v2 directory, it starts in
/// that cgroup (`CLONE_INTO_CGROUP`), which saves the migration.
///
/// With more than one thread the child would own locks nobody releases: hence the proof.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>, _proof: &SingleThread) -> io::Result<Forked> {
    let mut pidfd: libc::c_int = -1;
    let mut args = libc::clone_args {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a fully initialised clone_args whose `pidfd` points at a live c_int; no CLONE_VM, so the child
    // has a copy of this memory and its own stack; the process has one thread (`_proof`), so no lock is held by
    // a thread that the child lacks.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        // SAFETY: on success the kernel stored a new fd that nobody else owns.
        pid => Ok(Forked::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// Every signal as `execve(2)` is to find it: none ignored, none blocked, which it both keeps. Handlers it takes away
/// itself.
///
/// For a process that was started with default signals, as `sys::exec` starts everything: nothing but SIGPIPE is ignored
/// in a program of ours.
pub fn default_signals() {
    // SAFETY: SIG_DFL installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: an empty set made by sigemptyset is a valid mask; no old set is asked for.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Children that end leave no zombie and need nobody to wait for them, or, again, do.
pub fn reap_by_kernel(on: bool) {
    // SAFETY: neither installs a handler.
    unsafe { libc::signal(libc::SIGCHLD, if on { libc::SIG_IGN } else { libc::SIG_DFL }) };
}

/// Marks every fd from `first` up close-on-exec (`close_range(2)`), so that nothing leaks through the next exec.
pub fn cloexec_from(first: u32) -> io::Result<()> {
    // SAFETY: only sets a flag on fds; closes nothing.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes every fd from `first` up.
///
/// Call it only where a process begins, before anything above `first` belongs to anybody in it.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: by the contract above no owner of these fds exists in this process yet.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes over an fd this process was started with. `None` when it is not open.
///
/// Call it once per number, before anything else opens files: the number must still mean what the starter passed.
pub fn inherited_fd(number: i32) -> Option<OwnedFd> {
    // SAFETY: F_GETFD on any number is harmless.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return None;
    }
    // SAFETY: the fd is open, and by the contract above nobody in this process owns it yet.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: sets close-on-exec on an fd we own.
    unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    Some(fd)
}

/// `pidfd_send_signal(2)` with any number, real-time signals included.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: no siginfo is passed; the kernel checks the signal number.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Joins a new, empty session keyring: the guest must not see keys of whoever started the daemon.
/// A kernel without keyrings (`ENOSYS`) has nothing to hide.
pub fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring; no other memory is passed.
    let result = unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>(), 0, 0, 0)
    };
    match result {
        -1 => {
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::ENOSYS) { Ok(()) } else { Err(error) }
        }
        _ => Ok(()),
    }
}
