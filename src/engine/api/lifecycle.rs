//! Starting, stopping and pausing.

use super::{call, check_flags};
use crate::engine::Domain;
use crate::engine::domain::Op;
use crate::error::{Code, Error};
use crate::types::flags;

call! {
    /// Starts a defined domain (`virDomainCreateFlags`).
    Create = "virDomainCreateWithFlags", Write, "domain:start";
    (caller, on: Domain, flags => u32) -> () {
        use flags::create;
        let known = create::PAUSED | create::AUTODESTROY | create::BYPASS_CACHE | create::FORCE_BOOT | create::RESET_NVRAM;
        check_flags(on, flags, known, "virDomainCreateWithFlags")?;
        refuse_autodestroy(flags)?;
        on.request(Op::Start { flags, transient: None }).await
    }
}

/// Autodestroy needs a connection that owns the guest; none of the front ends has one yet.
pub(super) fn refuse_autodestroy(flags: u32) -> crate::error::Result<()> {
    if flags & flags::create::AUTODESTROY != 0 {
        return Err(Error::new(
            Code::ArgumentUnsupported,
            "VIR_DOMAIN_START_AUTODESTROY is not supported: no connection would own the guest",
        ));
    }
    Ok(())
}

call! {
    /// Asks the guest to power off (`virDomainShutdownFlagValues`); returns once it was asked.
    Shutdown = "virDomainShutdownFlags", Write, "domain:init_control";
    (caller, on: Domain, flags => u32) -> () {
        check_flags(on, flags, 31, "virDomainShutdownFlags")?;
        on.request(Op::Shutdown { flags }).await
    }
}

call! {
    /// Asks the guest to reboot (`virDomainRebootFlagValues`); returns once it was asked.
    Reboot = "virDomainReboot", Write, "domain:init_control";
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
