//! Commands about the host and the daemon: capabilities, domcapabilities, version, hostname, uri.

use std::fmt::Write;

use clap::Args;
use serde_json::json;

use super::client::CallError;
use super::domains::{CONNECT, DAEMON_PATH, DOMUS_DAEMON, Driver, Session};
use super::output::{Context, Failure};
use crate::types::ParamValue;

/// Options of `domcapabilities`.
#[derive(Debug, Args)]
pub struct DomcapabilitiesArgs {
    /// Kind of virtualization: kvm, qemu, lxc ...
    #[arg(long, value_name = "TYPE", default_value = "", hide_default_value = true)]
    virttype: String,
    /// Path of the emulator
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true)]
    emulatorbin: String,
    /// The guest's architecture
    #[arg(long, default_value = "", hide_default_value = true)]
    arch: String,
    /// The machine type
    #[arg(long, default_value = "", hide_default_value = true)]
    machine: String,
}

/// Options of `version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Also the daemon's version
    #[arg(long)]
    daemon: bool,
}

/// `domus capabilities`
pub async fn capabilities(session: &Session) -> Result<(), Failure> {
    let driver = session.default_driver().await?;
    let xml: Result<String, CallError> = session.client.call(driver.path(), CONNECT, "GetCapabilities", &()).await;
    let xml = xml.context(|| "failed to get capabilities".to_owned())?;
    session.out.show(&json!({ "driver": driver.name(), "xml": xml }), &ended(&xml));
    Ok(())
}

/// `domus domcapabilities`
pub async fn domcapabilities(session: &Session, args: &DomcapabilitiesArgs) -> Result<(), Failure> {
    let wanted = Some(args.virttype.as_str()).filter(|word| !word.is_empty());
    let driver = session.driver_for(wanted).await?;
    let query = (args.emulatorbin.as_str(), args.arch.as_str(), args.machine.as_str(), args.virttype.as_str(), 0u32);
    let xml: Result<String, CallError> =
        session.client.call(driver.path(), CONNECT, "GetDomainCapabilities", &query).await;
    let xml = xml.context(|| "failed to get emulator capabilities".to_owned())?;
    session.out.show(&json!({ "driver": driver.name(), "xml": xml }), &ended(&xml));
    Ok(())
}

/// `domus version`
pub async fn version(session: &Session, args: &VersionArgs) -> Result<(), Failure> {
    let driver = session.default_driver().await?;
    let own = env!("CARGO_PKG_VERSION");
    let api = number(session, driver, "LibVersion").await.context(|| "failed to get the library version".to_owned())?;
    let hypervisor =
        number(session, driver, "Version").await.context(|| "failed to get the hypervisor version".to_owned())?;
    let kind = driver.name().to_uppercase();
    let mut text = format!(
        "Compiled against library: domus {own}\nUsing library: libvirt {0}\nUsing API: {kind} {0}\n",
        dotted(api)
    );
    let _ = match hypervisor {
        0 => writeln!(text, "Cannot extract running {kind} hypervisor version"),
        version => writeln!(text, "Running hypervisor: {kind} {}", dotted(version)),
    };
    let mut value =
        json!({ "client": own, "library": dotted(api), "driver": driver.name(), "hypervisor": dotted(hypervisor) });
    if args.daemon {
        let daemon = session.client.value(DAEMON_PATH, DOMUS_DAEMON, "Version").await;
        let daemon = daemon.context(|| "failed to get the daemon version".to_owned())?;
        if let Some(ParamValue::Str(version)) = daemon {
            let _ = writeln!(text, "Running against daemon: {version}");
            value["daemon"] = version.into();
        }
    }
    session.out.show(&value, &text);
    Ok(())
}

/// `domus hostname`
pub async fn hostname(session: &Session) -> Result<(), Failure> {
    let driver = session.default_driver().await?;
    let name = session.client.value(driver.path(), CONNECT, "Hostname").await;
    match name.context(|| "failed to get hostname".to_owned())? {
        Some(ParamValue::Str(name)) => {
            session.out.show(&json!({ "hostname": name }), &format!("{name}\n"));
            Ok(())
        }
        _ => Err(Failure::new("failed to get hostname")),
    }
}

/// `domus uri`
pub async fn uri(session: &Session) -> Result<(), Failure> {
    let driver = session.default_driver().await?;
    session.out.show(&json!({ "driver": driver.name(), "uri": driver.uri() }), &format!("{}\n", driver.uri()));
    Ok(())
}

async fn number(session: &Session, driver: Driver, property: &str) -> Result<u64, CallError> {
    match session.client.value(driver.path(), CONNECT, property).await? {
        Some(ParamValue::Ullong(number)) => Ok(number),
        _ => Err(CallError::Answer { call: format!("{CONNECT}.{property}"), reason: "not a number".into() }),
    }
}

/// libvirt's version number: major * 1,000,000 + minor * 1,000 + release.
fn dotted(version: u64) -> String {
    format!("{}.{}.{}", version / 1_000_000, version / 1_000 % 1_000, version % 1_000)
}

/// With the newline a terminal wants.
pub fn ended(xml: &str) -> String {
    if xml.ends_with('\n') { xml.to_owned() } else { format!("{xml}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_three_parts() {
        assert_eq!(dotted(10_000_000), "10.0.0");
        assert_eq!(dotted(7_002_015), "7.2.15");
    }
}
