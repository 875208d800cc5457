//! Who may do what: settled per connection, from the kernel's credentials of the peer, or asked of an authority.
//!
//! Root and the daemon's own user may do everything, so may members of the configured group; others may read, are asked
//! about, or are refused, by configuration. Front ends come through a [`Gate`]; the refusals of single calls are in
//! [`super::api::dispatch`], by the rights that each call declares ([`right`]).

pub mod guard;
pub mod right;

use std::sync::Arc;

use nix::unistd::{Gid, Group, Uid, User};

use guard::{Authority, Guard, Subject};

/// What a connection may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    ReadWrite,
    /// Calls of class `Read` only; the engine refuses the rest.
    ReadOnly,
    /// An authority decides.
    Ask,
    /// Nothing; the text says why and what to do.
    Refused(String),
}

/// What somebody may do of whom the configuration knows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Others {
    #[default]
    Refuse,
    ReadOnly,
    /// What the authority says.
    Ask,
    /// Everything: whoever comes was let in already, as on a message bus.
    ReadWrite,
}

/// Who else than root and the daemon's own user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Members may do everything.
    pub group: Option<String>,
    pub others: Others,
}

fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}

impl Policy {
    /// The mode of a socket that lets in whom this may let in; `group`: the file is the group's.
    pub fn socket_mode(&self, group: bool) -> u32 {
        match (self.others, group) {
            (Others::Refuse, true) => 0o660,
            (Others::Refuse, false) => 0o600,
            _ => 0o666,
        }
    }

    /// What a peer with these credentials may do; without a `gid`, with those of the user's account. Asks the name
    /// service, which may block.
    pub fn access(&self, uid: u32, gid: Option<u32>) -> Access {
        if is_ours(uid) || self.group.as_deref().is_some_and(|group| is_member(uid, gid, group)) {
            return Access::ReadWrite;
        }
        match (self.others, &self.group) {
            (Others::ReadWrite, _) => Access::ReadWrite,
            (Others::ReadOnly, _) => Access::ReadOnly,
            (Others::Ask, _) => Access::Ask,
            (Others::Refuse, Some(group)) => {
                Access::Refused(format!("user {uid} may not use domusd: add the user to group '{group}'"))
            }
            (Others::Refuse, None) => Access::Refused(format!(
                "user {uid} may not use domusd: set socket.group in its configuration to a group of that user"
            )),
        }
    }
}

fn is_member(uid: u32, gid: Option<u32>, group: &str) -> bool {
    let Ok(Some(group)) = Group::from_name(group) else { return false };
    if gid.is_some_and(|gid| group.gid == Gid::from_raw(gid)) {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return false };
    let Ok(name) = std::ffi::CString::new(user.name) else { return false };
    nix::unistd::getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group.gid))
}

/// A way in: a socket, a message bus.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    pub policy: Policy,
    /// Who is asked, if anybody ever is.
    pub authority: Option<Arc<dyn Authority>>,
    /// Ask about each call of everybody but root and the daemon's own user, however they came in.
    pub each_call: bool,
}

/// How somebody came in.
#[derive(Clone, Debug)]
pub struct Entry {
    pub access: Access,
    /// Who is asked about, if anything is asked.
    pub guard: Option<Arc<Guard>>,
    pub each_call: bool,
}

impl Entry {
    /// One whose access is settled.
    pub fn settled(access: Access) -> Entry {
        Entry { access, guard: None, each_call: false }
    }

    /// What is asked about each call.
    pub fn ask(&self, driver: &'static str, interactive: bool) -> Option<guard::Ask> {
        let guard = self.guard.clone().filter(|_| self.each_call)?;
        Some(guard::Ask { guard, driver, interactive })
    }
}

impl Gate {
    /// Whether anything is asked of an authority.
    pub fn asks(&self) -> bool {
        self.each_call || self.policy.others == Others::Ask
    }

    /// Lets in the process at the other end of a socket.
    pub async fn enter_process(&self, uid: u32, gid: u32, pid: Option<i32>) -> Entry {
        // Read at once: later the pid might be somebody else's.
        let start = pid.filter(|_| self.asks()).and_then(|pid| Some((pid, crate::sys::process::start_time(pid)?)));
        let subject = start.and_then(|(pid, start)| {
            let pid = u32::try_from(pid).ok()?;
            Some(Subject::Process { pid, start, uid })
        });
        self.enter(uid, Some(gid), subject).await
    }

    /// Lets in whoever has a unique name on the system bus.
    pub async fn enter_from_bus(&self, name: &str, uid: u32) -> Entry {
        self.enter(uid, None, Some(Subject::BusName(name.to_string()))).await
    }

    async fn enter(&self, uid: u32, gid: Option<u32>, subject: Option<Subject>) -> Entry {
        let policy = self.policy.clone();
        // Groups come from the name service, which may block.
        let access = tokio::task::spawn_blocking(move || policy.access(uid, gid)).await;
        let access = access.unwrap_or_else(|_| Access::Refused("the daemon failed to look up your groups".into()));
        let each_call = self.each_call && !is_ours(uid);
        if matches!(access, Access::Refused(_)) || (access != Access::Ask && !each_call) {
            return Entry::settled(access);
        }
        match (&self.authority, subject) {
            (Some(authority), Some(subject)) => {
                Entry { access, guard: Some(Guard::new(authority.clone(), subject, uid)), each_call }
            }
            // Never let in for want of somebody to ask.
            (None, _) => Entry::settled(Access::Refused("there is no polkit to ask".into())),
            (_, None) => Entry::settled(Access::Refused("the process that connected has gone".into())),
        }
    }
}

#[cfg(test)]
mod tests;
