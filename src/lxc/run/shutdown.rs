//! Asking init to power off or reboot: through its control FIFO, or by the signal it understands.

use std::os::fd::AsFd;

use nix::libc;

use super::procfs::HostProc;
use super::start::Pending;
use super::{Context, Result, failure, inroot};
use crate::sys::clone::pidfd_signal;

const STAGE: &str = "shutdown";
/// Where SysV init and its successors listen, newest first.
const FIFOS: [&str; 2] = ["/run/initctl", "/dev/initctl"];

/// Tries the allowed ways in libvirt's order.
pub fn ask(proc: &HostProc, pending: &Pending, reboot: bool, initctl: bool, signal: bool) -> Result<()> {
    let mut last = None;
    if initctl {
        match by_initctl(proc, pending, reboot) {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    if signal {
        return by_signal(proc, pending, reboot);
    }
    match last {
        Some(error) => Err(error),
        None => failure(STAGE, "no way to ask was given"),
    }
}

/// Sends a signal to init.
pub fn send(pending: &Pending, signal: i32) -> Result<()> {
    pidfd_signal(pending.pidfd.as_fd(), signal).at("signal", format_args!("cannot send signal {signal} to init"))
}

/// `struct init_request` of initreq.h: magic, command "change run level", the level, no delay.
fn request(reboot: bool) -> [u8; 384] {
    let mut bytes = [0; 384];
    let level = i32::from(if reboot { b'6' } else { b'0' });
    for (at, word) in [(0, 0x0309_1969), (4, 1), (8, level), (12, 0)] {
        bytes[at..at + 4].copy_from_slice(&i32::to_ne_bytes(word));
    }
    bytes
}

fn by_initctl(proc: &HostProc, pending: &Pending, reboot: bool) -> Result<()> {
    let root = proc.root_of(pending.pid)?;
    for path in FIFOS {
        // A FIFO without a reader refuses a non-blocking writer (ENXIO): nobody listens, the next way is tried.
        let Ok(fifo) = inroot::open_write(&root, path) else { continue };
        let stat = rustix::fs::fstat(&fifo).at(STAGE, format_args!("cannot examine '{path}'"))?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Fifo {
            continue;
        }
        return rustix::io::write(&fifo, &request(reboot))
            .map(drop)
            .at(STAGE, format_args!("cannot write to '{path}'"));
    }
    failure(STAGE, "init has no control FIFO (/run/initctl, /dev/initctl) that it reads")
}

/// Sends the signal this init takes for a request.
pub fn by_signal(proc: &HostProc, pending: &Pending, reboot: bool) -> Result<()> {
    let status = proc.read(&format!("{}/status", pending.pid))?;
    let busybox = proc.exe_of(pending.pid).is_some_and(|exe| exe.trim_end_matches(" (deleted)").ends_with("busybox"));
    match choose(handled(&status), busybox, reboot) {
        Some(signal) => send(pending, signal),
        None => failure(
            STAGE,
            "init takes none of the signals that ask for a reboot; shut it down and start it again instead",
        ),
    }
}

/// Signals a process catches or blocks (waiting for them on an fd), as a bit mask; from `/proc/PID/status`.
fn handled(status: &str) -> u64 {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
    };
    mask("SigCgt:") | mask("SigBlk:")
}

/// A process that waits for signals in `sigtimedwait(2)` shows them neither as caught nor as blocked while it waits;
/// busybox and the small container inits do that.
fn choose(handled: u64, busybox: bool, reboot: bool) -> Option<i32> {
    let takes = |signal: &&i32| handled & (1 << (**signal - 1)) != 0;
    let (poweroff_rt, reboot_rt) = (libc::SIGRTMIN() + 4, libc::SIGRTMIN() + 5);
    // systemd takes the real-time signals; SysV style inits SIGPWR and the ctrl-alt-del signal.
    match (busybox, reboot) {
        (true, false) => Some(libc::SIGUSR2),
        (true, true) => Some(libc::SIGTERM),
        (false, false) => [poweroff_rt, libc::SIGPWR].iter().find(takes).copied().or(Some(libc::SIGTERM)),
        (false, true) => [reboot_rt, libc::SIGINT].iter().find(takes).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_fits_the_init() {
        let bit = |signal: i32| 1u64 << (signal - 1);
        let systemd = bit(libc::SIGRTMIN() + 4) | bit(libc::SIGRTMIN() + 5) | bit(libc::SIGTERM);
        assert_eq!(choose(systemd, false, false), Some(libc::SIGRTMIN() + 4));
        assert_eq!(choose(systemd, false, true), Some(libc::SIGRTMIN() + 5));
        assert_eq!(choose(0, true, false), Some(libc::SIGUSR2));
        assert_eq!(choose(0, true, true), Some(libc::SIGTERM));
        assert_eq!(choose(bit(libc::SIGPWR), false, false), Some(libc::SIGPWR));
        assert_eq!(choose(0, false, false), Some(libc::SIGTERM));
        assert_eq!(choose(0, false, true), None);
    }

    #[test]
    fn masks_are_read_from_status() {
        let status = "Name:\tinit\nSigBlk:\t0000000000000001\nSigCgt:\t0000000000004000\n";
        assert_eq!(handled(status), 0x4001);
    }
}
