//! What this daemon and its drivers are and can do.

use super::{call, check_flags};
use crate::engine::Connection;
use crate::engine::driver::DomainCapsQuery;
use crate::host;

/// The libvirt release this daemon answers as: clients gate features on it (major * 1,000,000 + minor * 1,000 + release).
pub const LIB_VERSION: u64 = 10_000_000;

/// Arguments of `virConnectGetDomainCapabilities`.
#[derive(Clone, Debug)]
pub struct DomainCapsArgs {
    pub query: DomainCapsQuery,
    pub flags: u32,
}

call! {
    /// Name of the driver.
    GetType = "virConnectGetType", Read, "connect:getattr";
    (caller, on: Connection, () => ()) -> String { Ok(on.kind().type_name().to_string()) }
}

call! {
    /// Version of the hypervisor.
    GetVersion = "virConnectGetVersion", Read, "connect:getattr";
    (caller, on: Connection, () => ()) -> u64 { on.runtime().driver().version().await }
}

call! {
    /// Version of libvirt this daemon answers as.
    GetLibVersion = "virConnectGetLibVersion", Read, "connect:getattr";
    (caller, on: Connection, () => ()) -> u64 { Ok(LIB_VERSION) }
}

call! {
    /// The host's name.
    GetHostname = "virConnectGetHostname", Read, "connect:getattr";
    (caller, on: Connection, () => ()) -> String { host::hostname() }
}

call! {
    /// Host and guest capabilities as XML.
    GetCapabilities = "virConnectGetCapabilities", Read, "connect:read";
    (caller, on: Connection, () => ()) -> String { on.runtime().driver().capabilities().await }
}

call! {
    /// What a domain of the given kind can have, as XML.
    GetDomainCapabilities = "virConnectGetDomainCapabilities", Write, "connect:write";
    (caller, on: Connection, DomainCapsArgs { query, flags } => DomainCapsArgs) -> String {
        check_flags(on, flags, 0, "virConnectGetDomainCapabilities")?;
        on.runtime().driver().domain_capabilities(&query).await
    }
}

call! {
    /// Largest number of vCPUs.
    GetMaxVcpus = "virConnectGetMaxVcpus", Read, "connect:read";
    (caller, on: Connection, virt_type => Option<String>) -> u32 {
        on.runtime().driver().max_vcpus(virt_type.as_deref()).await
    }
}

call! {
    /// Whether the way here is encrypted: a local socket is not.
    IsEncrypted = "virConnectIsEncrypted", Read, "connect:getattr";
    (caller, on: Connection, () => ()) -> bool { Ok(false) }
}

call! {
    /// Whether the way here is secure: a local socket is.
    IsSecure = "virConnectIsSecure", Read, "connect:getattr";
    (caller, on: Connection, () => ()) -> bool { Ok(true) }
}
