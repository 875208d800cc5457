//! Who may do what: decided once per connection, from the kernel's credentials of the peer.
//!
//! Root and the daemon's own user may do everything, so may members of the configured group; others may read or are
//! refused, by configuration. Front ends ask here; the refusals of single calls are in [`super::api::dispatch`].

use nix::unistd::{Gid, Group, Uid, User};

/// What a connection may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    ReadWrite,
    /// Calls of class `Read` only; the engine refuses the rest.
    ReadOnly,
    /// Nothing; the text says why and what to do.
    Refused(String),
}

/// Who else than root and the daemon's own user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Members may do everything.
    pub group: Option<String>,
    /// Everybody else may read.
    pub others_read_only: bool,
}

impl Policy {
    /// What a peer with these credentials may do. Asks the name service, which may block.
    pub fn access(&self, uid: u32, gid: u32) -> Access {
        if uid == 0 || uid == nix::unistd::geteuid().as_raw() {
            return Access::ReadWrite;
        }
        let member = self.group.as_deref().is_some_and(|group| is_member(uid, gid, group));
        match (member, self.others_read_only, &self.group) {
            (true, ..) => Access::ReadWrite,
            (false, true, _) => Access::ReadOnly,
            (false, false, Some(group)) => {
                Access::Refused(format!("user {uid} may not use domusd: add the user to group '{group}'"))
            }
            (false, false, None) => Access::Refused(format!(
                "user {uid} may not use domusd: set socket.group in its configuration to a group of that user"
            )),
        }
    }
}

fn is_member(uid: u32, gid: u32, group: &str) -> bool {
    let Ok(Some(group)) = Group::from_name(group) else { return false };
    if group.gid == Gid::from_raw(gid) {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return false };
    let Ok(name) = std::ffi::CString::new(user.name) else { return false };
    nix::unistd::getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group.gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_what() {
        let own = nix::unistd::geteuid().as_raw();
        let stranger = 4_000_000;
        let none = Policy::default();
        assert_eq!(none.access(0, 0), Access::ReadWrite);
        assert_eq!(none.access(own, 0), Access::ReadWrite);
        assert!(matches!(none.access(stranger, 4_000_000), Access::Refused(_)));
        let readers = Policy { group: None, others_read_only: true };
        assert_eq!(readers.access(stranger, 4_000_000), Access::ReadOnly);
        let group = Policy { group: Some("root".into()), others_read_only: false };
        assert_eq!(group.access(stranger, 0), Access::ReadWrite);
        assert!(matches!(group.access(stranger, 4_000_000), Access::Refused(why) if why.contains("group 'root'")));
    }
}
