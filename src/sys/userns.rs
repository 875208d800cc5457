//! A user namespace that only carries a mapping of ids, for idmapped mounts: no process stays in it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd};

use nix::libc;

/// A user namespace in which user and group `inside` are `outside` for the rest of the system.
/// Errors: those of `clone(2)` and of writing the maps; `EPERM` without privileges.
pub fn mapping(inside: (u32, u32), outside: (u32, u32)) -> io::Result<OwnedFd> {
    let mut args = libc::clone_args {
        flags: (libc::CLONE_NEWUSER | libc::CLONE_PIDFD) as u64,
        pidfd: 0,
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
    let mut pidfd: libc::c_int = -1;
    args.pidfd = &raw mut pidfd as u64;
    // SAFETY: getpid has no preconditions.
    let parent = unsafe { libc::getpid() };
    // SAFETY: `args` is fully initialised and outlives the call; without CLONE_VM the child has its own copy of the
    // memory, and it makes nothing but the system calls below, so locks held by other threads do not matter.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if pid == 0 {
        // SAFETY: plain system calls; the child never returns from here and dies with the thread that made it.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            if libc::getppid() == parent {
                loop {
                    libc::pause();
                }
            }
            libc::_exit(1)
        }
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel stored a new descriptor there that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let result = written(pid, inside, outside);
    let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    let _ = rustix::process::waitid(
        rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)),
        rustix::process::WaitIdOptions::EXITED,
    );
    result
}

fn written(pid: i64, inside: (u32, u32), outside: (u32, u32)) -> io::Result<OwnedFd> {
    let write = |name: &str, line: String| {
        File::options().write(true).open(format!("/proc/{pid}/{name}"))?.write_all(line.as_bytes())
    };
    write("uid_map", format!("{} {} 1", inside.0, outside.0))?;
    write("gid_map", format!("{} {} 1", inside.1, outside.1))?;
    Ok(File::open(format!("/proc/{pid}/ns/user"))?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_leaves_no_process() {
        let children = || std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        let before = children();
        match mapping((0, 0), (4000, 4001)) {
            Ok(_) => assert_eq!(children(), before),
            Err(error) => eprintln!("SKIP a_mapping_leaves_no_process: {error}"),
        }
    }
}
