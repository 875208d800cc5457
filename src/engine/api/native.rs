//! Definitions in other tools' forms, and back: nothing is defined, nothing is started.

use std::sync::Arc;

use super::{call, check_flags, define};
use crate::domain_xml::{self, FormatOptions};
use crate::engine::{Connection, storage};

/// A text in some form, with flags.
#[derive(Clone, Debug)]
pub struct NativeArgs {
    /// `lxc-tools`, `qemu-argv`: each driver knows its own.
    pub format: String,
    pub text: String,
    pub flags: u32,
}

call! {
    /// Domain XML from a configuration in the driver's native form.
    DomainXmlFromNative = "virConnectDomainXMLFromNative", Write, "connect:write";
    (caller, on: Connection, NativeArgs { format, text, flags } => NativeArgs) -> String {
        check_flags(on, flags, 0, "virConnectDomainXMLFromNative")?;
        let def = on.runtime().driver().read_native(&format, &text).await?;
        Ok(domain_xml::format(&def, FormatOptions { secure: true, inactive: true, ..Default::default() }))
    }
}

call! {
    /// Domain XML as what the driver would run.
    DomainXmlToNative = "virConnectDomainXMLToNative", Write, "connect:write";
    (caller, on: Connection, NativeArgs { format, text, flags } => NativeArgs) -> String {
        check_flags(on, flags, 0, "virConnectDomainXMLToNative")?;
        let (mut def, _) = define::read(on, &text).await?;
        define::settle_uuid(on, &mut def);
        let mut def = Arc::new(def);
        storage::resolve(on.host(), &mut def)?;
        on.runtime().driver().write_native(&format, &def).await
    }
}
