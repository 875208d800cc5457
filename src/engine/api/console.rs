//! Consoles.

use std::os::fd::OwnedFd;

use super::{call, check_flags};
use crate::domain_xml::device::{Channel, ChannelTarget};
use crate::engine::Domain;
use crate::error::Error;

/// Arguments of `virDomainOpenConsole`.
#[derive(Clone, Debug)]
pub struct ConsoleArgs {
    /// Alias; `None` = the first console.
    pub device: Option<String>,
    /// `virDomainConsoleFlags`: 1 force, 2 safe.
    pub flags: u32,
}

call! {
    /// A two-way stream to a console.
    OpenConsole = "virDomainOpenConsole", Write, "domain:open_device";
    (caller, on: Domain, ConsoleArgs { device, flags } => ConsoleArgs) -> OwnedFd {
        check_flags(on, flags, 3, "virDomainOpenConsole")?;
        match &on.snapshot().instance {
            Some(instance) => instance.open_console(device.as_deref(), flags & 1 != 0).await,
            None => Err(Error::invalid_state("domain is not running")),
        }
    }
}

call! {
    /// A two-way stream to a channel, by its alias or by its name inside the guest; without one the first.
    OpenChannel = "virDomainOpenChannel", Write, "domain:open_device";
    (caller, on: Domain, ConsoleArgs { device, flags } => ConsoleArgs) -> OwnedFd {
        check_flags(on, flags, 1, "virDomainOpenChannel")?;
        let snapshot = on.snapshot();
        let (Some(instance), Some(live)) = (&snapshot.instance, &snapshot.live) else {
            return Err(Error::invalid_state("domain is not running"));
        };
        let is = |channel: &&Channel| match (&device, &channel.target) {
            (None, _) => true,
            (Some(wanted), _) if channel.info.alias.as_ref() == Some(wanted) => true,
            (Some(wanted), ChannelTarget::Virtio { name, .. }) => name.as_ref() == Some(wanted),
            _ => false,
        };
        let Some(channel) = live.channels.iter().find(is) else {
            let what = device.map_or("cannot find channel device".to_string(), |name| format!("cannot find channel {name}"));
            return Err(Error::internal(what));
        };
        instance.open_channel(channel, flags & 1 != 0).await
    }
}

call! {
    /// The namespaces of a container, to be entered in this order.
    OpenNamespace = "virDomainLxcOpenNamespace", Write, "domain:open_namespace";
    (caller, on: Domain, flags => u32) -> Vec<OwnedFd> {
        check_flags(on, flags, 0, "virDomainLxcOpenNamespace")?;
        match &on.snapshot().instance {
            Some(instance) => instance.namespaces(),
            None => Err(Error::invalid_state("domain is not running")),
        }
    }
}

/// Arguments of `domusDomainResizeConsole`.
#[derive(Clone, Debug)]
pub struct ResizeArgs {
    /// Alias; `None` = the first console.
    pub device: Option<String>,
    pub rows: u16,
    pub columns: u16,
}

call! {
    /// The size of the terminal a console is shown on.
    ResizeConsole = "domusDomainResizeConsole", Write, "domain:open_device";
    (caller, on: Domain, ResizeArgs { device, rows, columns } => ResizeArgs) -> () {
        match &on.snapshot().instance {
            Some(instance) => instance.resize_console(device.as_deref(), rows, columns).await,
            None => Err(Error::invalid_state("domain is not running")),
        }
    }
}
