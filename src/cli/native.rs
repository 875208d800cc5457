//! `domxml-from-native` and `domxml-to-native`: domain XML and other tools' forms of it. Nothing is defined or started.

use clap::Args;
use serde_json::json;

use super::args::FileArg;
use super::client::CallError;
use super::devices;
use super::domains::{By, DOMUS_CONNECT, Session};
use super::host::ended;
use super::output::Failure;
use crate::types::flags::xml as xml_flag;

/// Options of `domxml-from-native`.
#[derive(Debug, Args)]
pub struct FromNativeArgs {
    /// Form of the configuration: lxc-tools
    format: String,
    #[command(flatten)]
    config: FileArg,
}

/// Options of `domxml-to-native`.
#[derive(Debug, Args)]
pub struct ToNativeArgs {
    /// The wanted form: qemu-argv
    format: String,
    /// Name, id or UUID of a domain whose definition is taken
    #[arg(conflicts_with_all = ["xml", "named_domain"], required_unless_present_any = ["xml", "named_domain"])]
    domain: Option<String>,
    #[arg(long = "domain", id = "named_domain", value_name = "DOMAIN", hide = true, conflicts_with = "xml")]
    named: Option<String>,
    /// File with the domain's XML; - for standard input
    #[arg(long, value_name = "FILE")]
    xml: Option<std::path::PathBuf>,
}

/// `domus domxml-from-native`
pub async fn from_native(session: &Session, args: &FromNativeArgs) -> Result<(), Failure> {
    let config = args.config.read()?;
    // The form says whose it is, unless -c does.
    let wanted = if args.format.starts_with("lxc") { Some("lxc") } else { None };
    let driver = session.driver_for(wanted).await?;
    let query = (args.format.as_str(), config.as_str(), 0u32);
    let xml: Result<String, CallError> =
        session.client.call(driver.path(), DOMUS_CONNECT, "DomainXMLFromNative", &query).await;
    let xml = xml?;
    session.out.show(&json!({ "driver": driver.name(), "xml": xml }), &ended(&xml));
    Ok(())
}

/// `domus domxml-to-native`
pub async fn to_native(session: &Session, args: &ToNativeArgs) -> Result<(), Failure> {
    let (driver, xml) = match (args.domain.as_ref().or(args.named.as_ref()), &args.xml) {
        (Some(domain), _) => {
            let domain = session.domain(domain, By::ANY).await?;
            let xml = session.xml(&domain.path, xml_flag::INACTIVE | xml_flag::SECURE).await?;
            (domain.driver, xml)
        }
        (None, Some(path)) => {
            let xml = super::args::read_file(path)?;
            (session.driver_for(devices::domain_type(&xml).as_deref()).await?, xml)
        }
        (None, None) => return Err(Failure::new("need either domain or domain XML")),
    };
    let query = (args.format.as_str(), xml.as_str(), 0u32);
    let config: Result<String, CallError> =
        session.client.call(driver.path(), DOMUS_CONNECT, "DomainXMLToNative", &query).await;
    let config = config?;
    session.out.show(&json!({ "driver": driver.name(), "config": config }), &ended(&config));
    Ok(())
}
