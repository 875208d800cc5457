//! Users and groups by name and number.

use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, the primary one included.
    pub groups: Vec<u32>,
}

/// Looks up a user by name or number (`libvirt-qemu`, `64055`, `+64055`); `None` if there is none of that name.
/// A number without an entry is an account with that uid and gid.
pub fn account(name: &str) -> io::Result<Option<Account>> {
    let found = match User::from_name(name)? {
        Some(user) => Some(user),
        None => match number(name) {
            None => return Ok(None),
            Some(uid) => match User::from_uid(Uid::from_raw(uid))? {
                Some(user) => Some(user),
                None => return Ok(Some(Account { name: uid.to_string(), uid, gid: uid, groups: vec![uid] })),
            },
        },
    };
    found
        .map(|user| {
            let cname = CString::new(user.name.as_str())?;
            let groups = getgrouplist(&cname, user.gid)?.into_iter().map(Gid::as_raw).collect();
            Ok(Account { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups })
        })
        .transpose()
}

/// Looks up a group by name or number.
pub fn group(name: &str) -> io::Result<Option<u32>> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()).or_else(|| number(name)))
}

/// The name of a user, or its number as text.
pub fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// The name of a group, or its number as text.
pub fn group_name(gid: u32) -> String {
    match Group::from_gid(Gid::from_raw(gid)) {
        Ok(Some(group)) => group.name,
        _ => gid.to_string(),
    }
}

fn number(text: &str) -> Option<u32> {
    text.strip_prefix('+').unwrap_or(text).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_zero() {
        let root = account("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!(account("+0").unwrap().unwrap().name, "root");
        assert_eq!((user_name(0), group_name(0)), ("root".into(), "root".into()));
        assert_eq!(group("root").unwrap(), Some(0));
    }

    #[test]
    fn unknown_names_and_numbers() {
        assert_eq!(account("no-such-user-here").unwrap(), None);
        assert_eq!(group("no-such-group-here").unwrap(), None);
        assert_eq!(account("4123456").unwrap().unwrap().uid, 4_123_456);
        assert_eq!(user_name(4_123_456), "4123456");
    }
}
