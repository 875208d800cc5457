//! May a user reach and open a file? Answered before QEMU is started, because QEMU's own "Permission denied" does not
//! say which directory on the way refused. Walks the path as the kernel would for that user: mode bits and POSIX access
//! control lists of every component. Says nothing about mandatory access control (AppArmor, SELinux), changes nothing.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};

use crate::error::Error;

/// Links followed before a path counts as a loop, as in the kernel.
const MAX_LINKS: usize = 40;
const READ: u32 = 4;
const WRITE: u32 = 2;
const SEARCH: u32 = 1;

/// The user asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Who {
    fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    fn name(&self) -> String {
        user_name(self.uid)
    }
}

/// Why a file cannot be opened.
#[derive(Debug)]
pub struct Problem {
    path: PathBuf,
    uid: u32,
    gid: u32,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    /// The system call's own error at a component.
    Failed {
        at: PathBuf,
        error: std::io::Error,
    },
    Loop,
    ReadOnly,
    Denied {
        at: PathBuf,
        directory: bool,
        need: u32,
        mode: u32,
        owner: (u32, u32),
        listed: bool,
        user: String,
    },
}

impl Problem {
    /// Whether only the file's own mode refuses: a change of its owner would help. A directory on the way, a missing
    /// file or a read-only file system is not helped by that.
    pub fn is_own_mode(&self) -> bool {
        matches!(self.reason, Reason::Denied { directory: false, .. })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { path, uid, gid, reason } = self;
        write!(f, "Cannot access storage file '{}' (as uid:{uid}, gid:{gid}): ", path.display())?;
        match reason {
            Reason::Failed { at, error } => {
                let text = match error.raw_os_error() {
                    Some(number) => nix::errno::Errno::from_raw(number).desc().to_string(),
                    None => error.to_string(),
                };
                f.write_str(&text)?;
                if at != path { write!(f, ": '{}'", at.display()) } else { Ok(()) }
            }
            Reason::Loop => f.write_str("Too many levels of symbolic links"),
            Reason::ReadOnly => f.write_str("Read-only file system: mark the disk <readonly/>, or remount it writable"),
            Reason::Denied { at, directory, need, mode, owner, listed, user } => {
                let at = at.display();
                let (what, chmod) = match (directory, *need) {
                    (true, _) => ("search directory", "o+x"),
                    (false, READ) => ("read", "o+r"),
                    (false, WRITE) => ("write", "o+w"),
                    (false, _) => ("read and write", "o+rw"),
                };
                let list = if *listed { " and an access control list" } else { "" };
                write!(
                    f,
                    "Permission denied: user '{user}' may not {what} '{at}', which belongs to {}:{} with mode {:04o} \
                     ({}){list}; 'setfacl -m u:{user}:{} {at}' or 'chmod {chmod} {at}' helps",
                    user_name(owner.0),
                    group_name(owner.1),
                    mode & 0o7777,
                    rwx(*mode),
                    letters(*need),
                )
            }
        }
    }
}

impl std::error::Error for Problem {}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Error {
        Error::new(crate::error::Code::SystemError, problem.to_string()).with_source(problem)
    }
}

/// Whether `who` may open the file at `path` for reading, or for reading and writing. Root always may. The daemon must
/// be able to look at every component itself.
pub fn check(path: &Path, who: &Who, write: bool) -> Result<(), Problem> {
    let problem = |reason| Problem { path: path.to_path_buf(), uid: who.uid, gid: who.gid, reason };
    let (real, metadata) = walk(path, who).map_err(problem)?;
    let need = if write { READ | WRITE } else { READ };
    permit(&real, &metadata, who, need).map_err(problem)?;
    if write && metadata.is_file() {
        let mount = rustix::fs::statvfs(&real).map_err(|errno| problem(failed(&real, errno.into())))?;
        if mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            return Err(problem(Reason::ReadOnly));
        }
    }
    Ok(())
}

/// Follows the path's components and links, with the right to search each directory. Gives the real path.
fn walk(path: &Path, who: &Who) -> Result<(PathBuf, Metadata), Reason> {
    let mut rest: VecDeque<OsString> = components(path).collect();
    let mut here = PathBuf::from("/");
    let mut metadata = look(&here)?;
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if !metadata.is_dir() {
            return Err(failed(&here, std::io::Error::from_raw_os_error(nix::libc::ENOTDIR)));
        }
        permit(&here, &metadata, who, SEARCH)?;
        if name == OsStr::new("..") {
            here.pop();
            metadata = look(&here)?;
            continue;
        }
        let next = here.join(&name);
        metadata = look(&next)?;
        if !metadata.is_symlink() {
            here = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Reason::Loop);
        }
        let target = std::fs::read_link(&next).map_err(|error| failed(&next, error))?;
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        for component in components(&target).collect::<Vec<_>>().into_iter().rev() {
            rest.push_front(component);
        }
        metadata = look(&here)?;
    }
    Ok((here, metadata))
}

fn components(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

fn look(path: &Path) -> Result<Metadata, Reason> {
    std::fs::symlink_metadata(path).map_err(|error| failed(path, error))
}

fn failed(at: &Path, error: std::io::Error) -> Reason {
    Reason::Failed { at: at.to_path_buf(), error }
}

fn permit(path: &Path, metadata: &Metadata, who: &Who, need: u32) -> Result<(), Reason> {
    if who.uid == 0 {
        return Ok(());
    }
    let owner = (metadata.uid(), metadata.gid());
    let list = access_list(path);
    let granted = match &list {
        Some(list) => granted_by_list(list, owner, who, need),
        None => granted_by_mode(metadata.mode(), owner, who, need),
    };
    if granted {
        return Ok(());
    }
    Err(Reason::Denied {
        at: path.to_path_buf(),
        directory: metadata.is_dir(),
        need,
        mode: metadata.mode(),
        owner,
        listed: list.is_some(),
        user: who.name(),
    })
}

fn granted_by_mode(mode: u32, owner: (u32, u32), who: &Who, need: u32) -> bool {
    let bits = if who.uid == owner.0 {
        mode >> 6
    } else if who.in_group(owner.1) {
        mode >> 3
    } else {
        mode
    };
    bits & need == need
}

/// An entry of an access control list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    permissions: u32,
    id: u32,
}

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The file's list; `None` when it has none, its file system knows none, or it makes no sense to us.
fn access_list(path: &Path) -> Option<Vec<Entry>> {
    let mut bytes = vec![0u8; 4096];
    let length = rustix::fs::getxattr(path, c"system.posix_acl_access", &mut bytes[..]).ok()?;
    parse_list(&bytes[..length])
}

/// The kernel's form (`posix_acl_xattr.h`): version 2, then tag, permissions, id; little endian.
fn parse_list(bytes: &[u8]) -> Option<Vec<Entry>> {
    let (version, entries) = bytes.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != 2 || !rest.is_empty() || entries.is_empty() {
        return None;
    }
    let entry = |[t0, t1, p0, p1, i0, i1, i2, i3]: &[u8; 8]| Entry {
        tag: u16::from_le_bytes([*t0, *t1]),
        permissions: u32::from(u16::from_le_bytes([*p0, *p1])),
        id: u32::from_le_bytes([*i0, *i1, *i2, *i3]),
    };
    Some(entries.iter().map(entry).collect())
}

/// POSIX.1e's algorithm (acl(5), "access check algorithm").
fn granted_by_list(list: &[Entry], owner: (u32, u32), who: &Who, need: u32) -> bool {
    let find = |tag: u16| list.iter().find(|entry| entry.tag == tag).map(|entry| entry.permissions);
    let mask = find(MASK).unwrap_or(7);
    if who.uid == owner.0 {
        return find(USER_OBJ).unwrap_or(0) & need == need;
    }
    if let Some(user) = list.iter().find(|entry| entry.tag == USER && entry.id == who.uid) {
        return user.permissions & mask & need == need;
    }
    let mut groups = list
        .iter()
        .filter(|entry| match entry.tag {
            GROUP_OBJ => who.in_group(owner.1),
            GROUP => who.in_group(entry.id),
            _ => false,
        })
        .peekable();
    if groups.peek().is_some() {
        return groups.any(|entry| entry.permissions & mask & need == need);
    }
    find(OTHER).unwrap_or(0) & need == need
}

fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

fn group_name(gid: u32) -> String {
    match Group::from_gid(Gid::from_raw(gid)) {
        Ok(Some(group)) => group.name,
        _ => gid.to_string(),
    }
}

fn letters(need: u32) -> String {
    [(READ, 'r'), (WRITE, 'w'), (SEARCH, 'x')].iter().filter(|(bit, _)| need & bit != 0).map(|(_, c)| *c).collect()
}

fn rwx(mode: u32) -> String {
    (0..9).map(|bit| if mode & (0o400 >> bit) != 0 { ['r', 'w', 'x'][bit % 3] } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, Permissions, create_dir, set_permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path, mode: u32) {
        set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn stranger() -> Who {
        Who { uid: 4_000_000, gid: 4_000_001, groups: vec![4_000_002] }
    }

    /// `a/b/disk` in a directory anyone may search.
    fn tree() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        mode(dir.path(), 0o755);
        create_dir(dir.path().join("a")).unwrap();
        create_dir(dir.path().join("a/b")).unwrap();
        let disk = dir.path().join("a/b/disk");
        File::create(&disk).unwrap();
        for (name, bits) in [("a", 0o755), ("a/b", 0o755), ("a/b/disk", 0o644)] {
            mode(&dir.path().join(name), bits);
        }
        (dir, disk)
    }

    #[test]
    fn readable_is_not_writable() {
        let (_dir, disk) = tree();
        check(&disk, &stranger(), false).unwrap();
        let text = check(&disk, &stranger(), true).unwrap_err().to_string();
        let start = format!("Cannot access storage file '{}' (as uid:4000000, gid:4000001): ", disk.display());
        assert!(
            text.starts_with(&format!("{start}Permission denied: user '4000000' may not read and write")),
            "{text}"
        );
        assert!(text.contains("with mode 0644 (rw-r--r--)"), "{text}");
        assert!(text.contains(&format!("'setfacl -m u:4000000:rw {}'", disk.display())), "{text}");
        check(&disk, &Who { uid: 0, gid: 0, groups: vec![] }, true).unwrap();
    }

    #[test]
    fn the_first_closed_directory_is_named() {
        let (dir, disk) = tree();
        mode(&dir.path().join("a"), 0o750);
        mode(&dir.path().join("a/b"), 0o700);
        let error = Error::from(check(&disk, &stranger(), false).unwrap_err());
        assert_eq!(error.code, crate::error::Code::SystemError);
        let closed = dir.path().join("a").display().to_string();
        assert!(error.message().contains(&format!("may not search directory '{closed}', which")), "{error}");
        assert!(error.message().ends_with(&format!("'setfacl -m u:4000000:x {closed}' or 'chmod o+x {closed}' helps")));
    }

    #[test]
    fn links_are_followed_and_their_way_is_checked() {
        let (dir, disk) = tree();
        let link = dir.path().join("link");
        symlink("a/../a/b/disk", &link).unwrap();
        check(&link, &stranger(), false).unwrap();
        mode(&dir.path().join("a/b"), 0o700);
        let text = check(&link, &stranger(), false).unwrap_err().to_string();
        assert!(text.contains(&format!("search directory '{}'", disk.parent().unwrap().display())), "{text}");
        let round = dir.path().join("round");
        symlink("round", &round).unwrap();
        assert!(check(&round, &stranger(), false).unwrap_err().to_string().ends_with("symbolic links"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let (dir, disk) = tree();
        let text = check(&dir.path().join("no"), &stranger(), false).unwrap_err().to_string();
        assert!(text.ends_with("/no' (as uid:4000000, gid:4000001): No such file or directory"), "{text}");
        let text = check(&disk.join("below"), &stranger(), false).unwrap_err().to_string();
        assert!(text.ends_with(&format!("Not a directory: '{}'", disk.display())), "{text}");
    }

    #[test]
    fn the_first_class_that_matches_decides() {
        let who = stranger();
        assert!(!granted_by_mode(0o077, (who.uid, 1), &who, READ), "an owner is not one of the others");
        assert!(!granted_by_mode(0o707, (1, who.groups[0]), &who, READ), "nor is a member of the group");
        assert!(granted_by_mode(0o040, (1, who.gid), &who, READ));
        assert!(granted_by_mode(0o006, (1, 1), &who, READ | WRITE));
    }

    fn list(entries: &[(u16, u16, u32)]) -> Vec<Entry> {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        parse_list(&bytes).unwrap()
    }

    #[test]
    fn lists_follow_posix() {
        let who = stranger();
        let named = list(&[(USER_OBJ, 6, !0), (USER, 6, who.uid), (GROUP_OBJ, 0, !0), (MASK, 7, !0), (OTHER, 0, !0)]);
        assert!(granted_by_list(&named, (1, 1), &who, READ | WRITE));
        let masked = list(&[(USER_OBJ, 6, !0), (USER, 6, who.uid), (GROUP_OBJ, 0, !0), (MASK, 4, !0), (OTHER, 7, !0)]);
        assert!(granted_by_list(&masked, (1, 1), &who, READ));
        assert!(!granted_by_list(&masked, (1, 1), &who, WRITE), "the mask limits a named user");
        let group = list(&[(USER_OBJ, 6, !0), (GROUP_OBJ, 0, !0), (GROUP, 5, who.groups[0]), (OTHER, 7, !0)]);
        assert!(granted_by_list(&group, (1, 1), &who, READ));
        assert!(!granted_by_list(&group, (1, 1), &who, WRITE), "a group's member is not one of the others");
        assert!(granted_by_list(&group, (1, who.gid), &who, READ), "any matching group will do");
        assert!(granted_by_list(&list(&[(USER_OBJ, 6, !0), (OTHER, 7, !0)]), (1, 1), &who, WRITE));
        assert!(!granted_by_list(&list(&[(USER_OBJ, 0, !0), (OTHER, 7, !0)]), (who.uid, 1), &who, READ));
    }

    #[test]
    fn damaged_lists_are_not_believed() {
        assert_eq!(parse_list(&[]), None);
        assert_eq!(parse_list(&[2, 0, 0, 0]), None);
        assert_eq!(parse_list(&[3, 0, 0, 0, 1, 0, 7, 0, 0, 0, 0, 0]), None);
        assert_eq!(parse_list(&[2, 0, 0, 0, 1, 0, 7]), None);
    }

    #[test]
    fn a_list_on_a_real_file_is_used() {
        let (_dir, disk) = tree();
        mode(&disk, 0o600);
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in
            [(USER_OBJ, 6u16, !0u32), (USER, 6, stranger().uid), (GROUP_OBJ, 0, !0), (MASK, 6, !0), (OTHER, 0, !0)]
        {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(&disk, c"system.posix_acl_access", &bytes, flags).is_err() {
            // A file system without lists.
            return;
        }
        check(&disk, &stranger(), true).unwrap();
        assert!(check(&disk, &Who { uid: 4_000_009, ..stranger() }, false).is_err());
    }
}
