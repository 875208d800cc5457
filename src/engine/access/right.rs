//! libvirt's fine-grained rights: what an object has that one may be allowed, one row each.
//!
//! The names are libvirt's ABI: a site's polkit rules match on `org.libvirt.api.OBJECT.PERMISSION`. What is only looked at
//! is allowed to everybody by default, the rest to nobody. The polkit action file in `packaging/` is written from here.

/// Something one may be allowed to do with a kind of object.
#[derive(Debug, PartialEq, Eq)]
pub struct Right {
    /// `storage_vol`
    pub object: &'static str,
    /// `data_read`
    pub permission: &'static str,
    /// Whether everybody has it who no rule speaks of.
    pub by_default: bool,
    /// In the imperative, for an administrator who is asked: `start a domain`.
    pub what: &'static str,
}

/// What a connection of its own needs: to change things, and only to look (`org.libvirt.unix.*`).
pub const MANAGE: &str = "org.libvirt.unix.manage";
/// See [`MANAGE`].
pub const MONITOR: &str = "org.libvirt.unix.monitor";

impl Right {
    /// The right of this name, `domain:read_secure`. In a constant, a name that is none does not compile.
    pub const fn named(name: &str) -> &'static Right {
        let name = name.as_bytes();
        let mut at = 0;
        while at < RIGHTS.len() {
            let right = &RIGHTS[at];
            let (object, permission) = (right.object.as_bytes(), right.permission.as_bytes());
            if name.len() == object.len() + 1 + permission.len()
                && starts_with(name, 0, object)
                && name[object.len()] == b':'
                && starts_with(name, object.len() + 1, permission)
            {
                return right;
            }
            at += 1;
        }
        panic!("libvirt has no right of this name")
    }

    /// The right to see that an `object` (`domain`) is there.
    pub fn to_see(object: &str) -> &'static Right {
        const CONNECT: &Right = Right::named("connect:getattr");
        let found = RIGHTS.iter().find(|right| right.object == object && right.permission == "getattr");
        found.unwrap_or(CONNECT)
    }

    /// polkit's action: `org.libvirt.api.domain.read-secure`.
    pub fn action(&self) -> String {
        format!("org.libvirt.api.{}.{}", self.object, self.permission).replace('_', "-")
    }
}

const fn starts_with(text: &[u8], from: usize, part: &[u8]) -> bool {
    let mut at = 0;
    while at < part.len() {
        if text[from + at] != part[at] {
            return false;
        }
        at += 1;
    }
    true
}

macro_rules! rights {
    ($($object:ident { $($permission:ident $default:literal $what:literal,)* })*) => {
        /// Every right there is, by object.
        pub static RIGHTS: &[Right] = &[$($(Right {
            object: stringify!($object),
            permission: stringify!($permission),
            by_default: $default,
            what: $what,
        },)*)*];
    };
}

rights! {
    connect {
        getattr true "open a connection and ask what is behind it",
        read true "look at the host",
        write false "change the host, or have definitions worked on",
        search_domains true "list domains",
        search_networks true "list networks",
        search_interfaces true "list the host's interfaces",
        search_storage_pools true "list storage pools",
        search_node_devices true "list devices of the host",
        search_nwfilters true "list network filters",
        search_nwfilter_bindings true "list what network filters are bound to",
        search_secrets true "list secrets",
        detect_storage_pools false "look for storage on the host or on a server",
        pm_control false "suspend the host",
        interface_transaction false "begin, keep or take back changes of the host's interfaces",
    }
    domain {
        getattr true "see that a domain exists",
        read true "look at a domain",
        write false "change a domain",
        save false "change a domain's kept definition",
        delete false "forget a domain",
        migrate false "move a domain to another host",
        start false "start a domain",
        stop false "stop a domain by force",
        reset false "reset a domain",
        init_control false "ask a domain's system to stop or to start anew",
        suspend false "pause a domain or let it run on",
        hibernate false "save a running domain, or drop what was saved",
        core_dump false "write a domain's memory to a file",
        pm_control false "put a domain to sleep or wake it",
        snapshot false "make, restore or delete a domain's snapshots",
        checkpoint false "make or delete a domain's checkpoints and back it up",
        read_secure false "see the secrets in a domain's definition",
        block_read false "read the contents of a domain's disks",
        block_write false "change the contents of a domain's disks",
        mem_read false "read a domain's memory",
        open_graphics false "open a domain's screen",
        open_device false "open a domain's consoles and channels",
        open_namespace false "enter a container",
        screenshot false "take a picture of a domain's screen",
        send_input false "press a domain's keys",
        send_signal false "send signals to processes in a domain",
        inject_nmi false "send a domain a non-maskable interrupt",
        fs_trim false "give back space that a domain's file systems do not use",
        fs_freeze false "freeze a domain's file systems or thaw them",
        set_time false "set a domain's clock",
        set_password false "set passwords of a domain's users",
    }
    network {
        getattr true "see that a network exists",
        read true "look at a network",
        write false "change a network",
        save false "change a network's kept definition",
        delete false "forget a network",
        start false "start a network",
        stop false "stop a network",
        search_ports false "list a network's ports",
    }
    network_port {
        getattr true "see that a network port exists",
        read true "look at a network port",
        write false "change a network port",
        create false "make a network port",
        delete false "remove a network port",
    }
    interface {
        getattr true "see that an interface of the host exists",
        read true "look at an interface of the host",
        write false "change an interface of the host",
        save false "change the kept definition of an interface of the host",
        delete false "forget an interface of the host",
        start false "bring an interface of the host up",
        stop false "take an interface of the host down",
    }
    storage_pool {
        getattr true "see that a storage pool exists",
        read true "look at a storage pool",
        write false "change a storage pool",
        save false "change a storage pool's kept definition",
        delete false "forget a storage pool",
        start false "start a storage pool",
        stop false "stop a storage pool",
        refresh false "look a storage pool's volumes through again",
        search_storage_vols false "list a storage pool's volumes",
        format false "prepare a storage pool's storage, or remove it",
    }
    storage_vol {
        getattr true "see that a storage volume exists",
        read true "look at a storage volume",
        create false "make a storage volume",
        delete false "delete a storage volume",
        format false "wipe a storage volume",
        resize false "resize a storage volume",
        data_read false "read the contents of a storage volume",
        data_write false "change the contents of a storage volume",
    }
    node_device {
        getattr true "see that a device of the host exists",
        read true "look at a device of the host",
        write false "change a device of the host",
        save false "change the kept definition of a device of the host",
        delete false "forget a device of the host",
        start false "make a device on the host",
        stop false "take a device of the host away",
        detach false "take a device from the host for a domain, or give it back",
    }
    nwfilter {
        getattr true "see that a network filter exists",
        read true "look at a network filter",
        write false "change a network filter",
        save false "change a network filter's kept definition",
        delete false "forget a network filter",
    }
    nwfilter_binding {
        getattr true "see what a network filter is bound to",
        read true "look at a network filter's binding",
        create false "bind a network filter",
        delete false "take a network filter's binding away",
    }
    secret {
        getattr true "see that a secret exists",
        read true "look at a secret's definition",
        write false "change a secret or set its value",
        save false "change a secret's kept definition",
        delete false "forget a secret",
        read_secure false "read a secret's value",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_polkits() {
        const SECURE: &Right = Right::named("domain:read_secure");
        assert_eq!(SECURE.action(), "org.libvirt.api.domain.read-secure");
        assert_eq!(Right::named("network_port:read").action(), "org.libvirt.api.network-port.read");
        assert_eq!(RIGHTS.len(), 106);
    }

    #[test]
    #[should_panic(expected = "no right of this name")]
    fn a_name_that_is_none_is_noticed() {
        Right::named("domain:fly");
    }
}
