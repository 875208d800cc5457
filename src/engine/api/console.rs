//! Consoles.

use std::os::fd::OwnedFd;

use super::{call, check_flags};
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
