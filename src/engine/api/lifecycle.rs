//! Starting, stopping and pausing.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::tune::tune;
use super::{Caller, call, check_flags};
use crate::domain_xml::DomainDef;
use crate::domain_xml::model::{CrashAction, LifecycleAction};
use crate::engine::Domain;
use crate::engine::domain::{How, NewDefinition, Op};
use crate::engine::driver::{DriverKind, Tune};
use crate::error::{Code, Error, Result};
use crate::types::flags::{self, shutdown};

call! {
    /// Starts a defined domain (`virDomainCreateFlags`).
    Create = "virDomainCreateWithFlags", Write, "domain:start";
    (caller, on: Domain, flags => u32) -> () {
        use flags::create;
        let known = create::PAUSED | create::AUTODESTROY | create::BYPASS_CACHE | create::FORCE_BOOT | create::RESET_NVRAM;
        check_flags(on, flags, known, "virDomainCreateWithFlags")?;
        start(caller, on, flags.into(), None).await
    }
}

/// Arguments of the calls that start a guest with descriptors of the client's.
#[derive(Debug)]
pub struct FilesArgs<T> {
    pub files: Vec<OwnedFd>,
    pub start: T,
}

/// Only the first process of a container could use them; the test driver's guests have none and take no notice.
pub(super) fn check_takes_files(kind: DriverKind, function: &'static str) -> Result<()> {
    if kind == DriverKind::Qemu { Err(Error::no_support(function)) } else { Ok(()) }
}

call! {
    /// As [`Create`], with descriptors for the guest's first process, which finds them as 3 and up.
    CreateWithFiles = "virDomainCreateWithFiles", Write, "domain:start";
    (caller, on: Domain, FilesArgs { files, start: flags } => FilesArgs<u32>) -> () {
        check_takes_files(on.runtime().kind(), "virDomainCreateWithFiles")?;
        check_flags(on, flags, flags::create::PAUSED | flags::create::AUTODESTROY, "virDomainCreateWithFiles")?;
        start(caller, on, How { flags, files: Arc::new(files) }, None).await
    }
}

/// Starts a guest; with `VIR_DOMAIN_START_AUTODESTROY` it ends when its client goes. Errors: code 74 where nobody can tell
/// when that is, and those of the start.
pub(super) async fn start(caller: &Caller, on: &Domain, how: How, transient: Option<Box<NewDefinition>>) -> Result<()> {
    let owned = how.flags & flags::create::AUTODESTROY != 0;
    if owned && !caller.presence.is_known() {
        return Err(Error::new(
            Code::ArgumentUnsupported,
            "VIR_DOMAIN_START_AUTODESTROY needs a connection of the client's own, which would own the guest",
        ));
    }
    on.request(Op::Start { how, transient }).await?;
    if let Some(id) = on.id().filter(|_| owned) {
        let (presence, domain) = (caller.presence.clone(), on.clone());
        tokio::spawn(async move {
            presence.gone().await;
            // Another run of it is none of that client's.
            if domain.id() != Some(id) {
                return;
            }
            tracing::info!(domain = %domain.name(), id, "its client has gone: the guest is ended");
            if let Err(error) = domain.request(Op::Destroy { flags: 0 }).await {
                tracing::error!(domain = %domain.name(), %error, "cannot end the guest of a client that has gone");
            }
        });
    }
    Ok(())
}

call! {
    /// Asks the guest to power off (`virDomainShutdownFlagValues`); returns once it was asked.
    Shutdown = "virDomainShutdownFlags", Write,
        "domain:init_control", "domain:write" if |flags| flags & shutdown::GUEST_AGENT != 0;
    (caller, on: Domain, flags => u32) -> () {
        check_flags(on, flags, 31, "virDomainShutdownFlags")?;
        on.request(Op::Shutdown { flags }).await
    }
}

call! {
    /// Asks the guest to reboot (`virDomainRebootFlagValues`); returns once it was asked.
    Reboot = "virDomainReboot", Write,
        "domain:init_control", "domain:write" if |flags| flags & shutdown::GUEST_AGENT != 0;
    (caller, on: Domain, flags => u32) -> () {
        check_flags(on, flags, 31, "virDomainReboot")?;
        on.request(Op::Reboot { flags }).await
    }
}

call! {
    /// Presses the reset button.
    Reset = "virDomainReset", Write, "domain:reset";
    (caller, on: Domain, flags => u32) -> () {
        check_flags(on, flags, 0, "virDomainReset")?;
        on.request(Op::Reset).await
    }
}

call! {
    /// Ends the guest at once (`virDomainDestroyFlagsValues`).
    Destroy = "virDomainDestroyFlags", Write, "domain:stop";
    (caller, on: Domain, flags => u32) -> () {
        check_flags(on, flags, flags::destroy::GRACEFUL | flags::destroy::REMOVE_LOGS, "virDomainDestroyFlags")?;
        on.request(Op::Destroy { flags }).await
    }
}

call! {
    /// Stops the guest's CPUs.
    Suspend = "virDomainSuspend", Write, "domain:suspend";
    (caller, on: Domain, () => ()) -> () { on.request(Op::Suspend).await }
}

call! {
    /// Lets them run again.
    Resume = "virDomainResume", Write, "domain:suspend";
    (caller, on: Domain, () => ()) -> () { on.request(Op::Resume).await }
}

/// Arguments of `virDomainSetLifecycleAction`.
#[derive(Clone, Copy, Debug)]
pub struct LifecycleArgs {
    /// `virDomainLifecycle`: 0 power-off, 1 reboot, 2 crash.
    pub kind: u32,
    /// `virDomainLifecycleAction`: 0 destroy, 1 restart, 2 rename-restart, 3 preserve, 4 coredump-destroy,
    /// 5 coredump-restart.
    pub action: u32,
    pub flags: u32,
}

call! {
    /// What becomes of the guest after an end. Errors: code 8 for unknown numbers, 67 for a pair the driver has not.
    SetLifecycleAction = "virDomainSetLifecycleAction", Write, "domain:write";
    (caller, on: Domain, LifecycleArgs { kind, action, flags } => LifecycleArgs) -> () {
        use flags::affect;
        check_flags(on, flags, affect::LIVE | affect::CONFIG, "virDomainSetLifecycleAction")?;
        let action = action as usize;
        let Some(crash) = CrashAction::ALL.get(action).copied() else {
            return Err(Error::invalid_arg(format!("action in virDomainSetLifecycleAction must be less than {}", CrashAction::ALL.len())));
        };
        if kind > 2 {
            return Err(Error::invalid_arg("type in virDomainSetLifecycleAction must be less than 3"));
        }
        let ordinary = LifecycleAction::ALL.get(action).copied();
        if kind < 2 && ordinary.is_none() {
            let event = if kind == 0 { "poweroff" } else { "reboot" };
            return Err(Error::unsupported_config(format!("Lifecycle event '{event}' doesn't support '{crash}' action")));
        }
        let edit = move |def: &mut DomainDef| {
            match kind {
                0 => def.on_poweroff = ordinary,
                1 => def.on_reboot = ordinary,
                _ => def.on_crash = Some(crash),
            }
            Ok(())
        };
        // The driver's own refusals come with the validation of the definition that is left.
        let driver = on.runtime().clone();
        if let Some(def) = on.snapshot().current() {
            let mut def = def.as_ref().clone();
            edit(&mut def)?;
            driver.driver().validate(&def).await?;
        }
        tune(on, flags, Tune::Lifecycle, Vec::new(), edit).await
    }
}
