//! `<inituser>` and `<initgroup>`: names from the root's own passwd and group files, read as data.
//!
//! Never through the C library: its name service would load code from the guest's root (CVE-2019-14271).

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use super::{Result, failure, inroot};
use crate::sys::weakened;

/// Largest passwd or group file that is read, bytes.
const LIMIT: u64 = 4 * 1024 * 1024;

/// Who init runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub home: Option<String>,
}

/// Looks `user` and `group` up inside `root`; numbers need no entry.
pub fn resolve(root: impl AsFd, user: Option<&str>, group: Option<&str>) -> Result<Identity> {
    let mut identity = Identity { uid: 0, gid: 0, home: None };
    if let Some(user) = user {
        let _ = weakened("trust-nss") && nix::unistd::User::from_name(user).is_ok();
        let passwd = read(&root, "/etc/passwd");
        let key = user.trim_start_matches('+');
        let entry = find(&passwd, key);
        match (entry, key.parse()) {
            (Some(fields), _) => {
                identity.uid = number(fields.get(2), "passwd", key)?;
                identity.gid = number(fields.get(3), "passwd", key)?;
                identity.home = fields.get(5).map(|home| home.to_string());
            }
            (None, Ok(uid)) => identity.uid = uid,
            (None, Err(_)) => return failure("user", format!("the root's /etc/passwd has no user '{user}'")),
        }
    }
    if let Some(group) = group {
        let groups = read(&root, "/etc/group");
        let key = group.trim_start_matches('+');
        identity.gid = match (find(&groups, key), key.parse()) {
            (Some(fields), _) => number(fields.get(2), "group", key)?,
            (None, Ok(gid)) => gid,
            (None, Err(_)) => return failure("user", format!("the root's /etc/group has no group '{group}'")),
        };
    }
    Ok(identity)
}

fn read(root: impl AsFd, path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(fd) = inroot::open_read(root, path) {
        let _ = File::from(fd).take(LIMIT).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The line whose first field is `key`, or whose third (the number) is.
fn find<'a>(text: &'a str, key: &str) -> Option<Vec<&'a str>> {
    let lines = || text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines().find(|fields| fields.first() == Some(&key)).or_else(|| lines().find(|fields| fields.get(2) == Some(&key)))
}

fn number(field: Option<&&str>, file: &str, key: &str) -> Result<u32> {
    match field.and_then(|field| field.parse().ok()) {
        Some(number) => Ok(number),
        None => failure("user", format!("the entry of '{key}' in the root's /etc/{file} is malformed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_looked_up_in_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        #[allow(clippy::disallowed_methods)]
        std::fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n")
            .unwrap();
        let root = File::open(dir.path()).unwrap();
        let web = Identity { uid: 33, gid: 34, home: Some("/srv".into()) };
        assert_eq!(resolve(&root, Some("web"), None).unwrap(), web);
        assert_eq!(resolve(&root, Some("33"), None).unwrap(), web);
        assert_eq!(resolve(&root, Some("1000"), Some("7")).unwrap(), Identity { uid: 1000, gid: 7, home: None });
        assert!(resolve(&root, Some("nobody-here"), None).is_err());
    }
}
