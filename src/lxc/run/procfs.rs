//! Files of `/proc/PID`, reached only through an fd proven to be the host's procfs.
//!
//! A path under /proc is worth nothing once somebody may have mounted there (CVE-2025-52881): every write goes through
//! [`HostProc`], whose root was checked by file system type and which follows no link and crosses no mount.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, open, openat2};

use super::{Context, Result, failure};
use crate::sys::weakened;

/// `PROC_SUPER_MAGIC`.
pub const PROC_MAGIC: u64 = 0x9fa0;

/// The supervisor's /proc.
#[derive(Debug)]
pub struct HostProc {
    root: OwnedFd,
}

impl HostProc {
    pub fn open() -> Result<HostProc> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = open("/proc", flags, Mode::empty()).at("proc", "cannot open '/proc'")?;
        prove(&root)?;
        Ok(HostProc { root })
    }

    fn file(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let mut resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV | ResolveFlags::BENEATH;
        resolve.set(ResolveFlags::NO_XDEV, !weakened("unproven-proc"));
        openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
            .at("proc", format_args!("cannot open '/proc/{path}'"))
    }

    /// Writes all of `text` with one write.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let mut file = File::from(self.file(path, OFlags::WRONLY)?);
        file.write_all(text.as_bytes()).at("proc", format_args!("cannot write {text:?} to '/proc/{path}'"))
    }

    pub fn read(&self, path: &str) -> Result<String> {
        // In one read: the size such a file gives itself is 0, from which the standard library would grow by halves.
        let mut text = String::with_capacity(4096);
        File::from(self.file(path, OFlags::RDONLY)?)
            .take(1 << 20)
            .read_to_string(&mut text)
            .at("proc", format_args!("cannot read '/proc/{path}'"))?;
        Ok(text)
    }

    /// A namespace of a process (`user`, `net` ...). The last component is a magic link by nature; the directory it
    /// stands in is proven.
    pub fn namespace(&self, pid: i32, kind: &str) -> Result<OwnedFd> {
        let dir = self.file(&format!("{pid}/ns"), OFlags::PATH | OFlags::DIRECTORY)?;
        rustix::fs::openat(&dir, kind, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .at("proc", format_args!("cannot open '/proc/{pid}/ns/{kind}'"))
    }

    /// The root directory of a process, as a base for in-root resolution.
    pub fn root_of(&self, pid: i32) -> Result<OwnedFd> {
        let dir = self.file(&pid.to_string(), OFlags::PATH | OFlags::DIRECTORY)?;
        rustix::fs::openat(&dir, "root", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .at("proc", format_args!("cannot open '/proc/{pid}/root'"))
    }

    /// Target of `/proc/PID/exe`, for its name only.
    pub fn exe_of(&self, pid: i32) -> Option<String> {
        let link = rustix::fs::readlinkat(&self.root, format!("{pid}/exe"), Vec::new()).ok()?;
        Some(link.to_string_lossy().into_owned())
    }

    /// Start time of a process in clock ticks since boot: with the pid it names a process for ever.
    pub fn start_time(&self, pid: i32) -> Result<u64> {
        let stat = self.read(&format!("{pid}/stat"))?;
        // The command name may hold spaces and parentheses; fields are counted after its last ')'.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        match fields.split_ascii_whitespace().nth(19).and_then(|field| field.parse().ok()) {
            Some(time) => Ok(time),
            None => failure("proc", format!("'/proc/{pid}/stat' has no start time")),
        }
    }
}

/// Fails unless `fd` is on a procfs.
pub fn prove(fd: &OwnedFd) -> Result<()> {
    let kind = fstatfs(fd).at("proc", "cannot find out the file system of '/proc'")?.f_type;
    if kind as u64 == PROC_MAGIC { Ok(()) } else { failure("proc", "'/proc' is not a proc file system") }
}

/// Opens a namespace file that the configuration names.
pub fn open_namespace(path: &std::path::Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .at("namespace", format_args!("cannot open '{}'", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_start_time_is_read_and_links_are_not_followed() {
        let proc = HostProc::open().unwrap();
        let pid = std::process::id() as i32;
        assert!(proc.start_time(pid).unwrap() > 0);
        assert!(proc.read("self/stat").is_err(), "'self' is a symbolic link");
    }
}
