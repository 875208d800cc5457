//! `pool-define-as`, `pool-create-as` and `find-storage-pool-sources-as`: a pool or a source made of options.

use clap::Args;

use super::domains::Session;
use super::output::{Context, Failure};
use super::pool::{StartBuildArgs, make, sources};
use crate::types::text;

/// What a pool is made of.
#[derive(Debug, Args)]
pub struct SpecArgs {
    /// Name of the pool
    name: String,
    /// Type of the pool
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Print the XML and do nothing
    #[arg(long)]
    print_xml: bool,
    /// Host that the storage is on
    #[arg(long, value_name = "HOST")]
    source_host: Option<String>,
    /// Directory on it
    #[arg(long, value_name = "PATH")]
    source_path: Option<String>,
    /// Device that the storage is on
    #[arg(long, value_name = "PATH")]
    source_dev: Option<String>,
    /// Name of the storage: a volume group
    #[arg(long, value_name = "NAME")]
    source_name: Option<String>,
    /// Where the pool appears in the host's file system
    #[arg(long, value_name = "PATH")]
    target: Option<String>,
    /// Format of the storage
    #[arg(long, value_name = "FORMAT")]
    source_format: Option<String>,
    /// How to log in: chap or ceph
    #[arg(long, value_name = "TYPE")]
    auth_type: Option<String>,
    /// User to log in as
    #[arg(long, value_name = "NAME")]
    auth_username: Option<String>,
    /// Secret to log in with, by its use
    #[arg(long, value_name = "USAGE", conflicts_with = "secret_uuid")]
    secret_usage: Option<String>,
    /// Secret to log in with, by its UUID
    #[arg(long, value_name = "UUID")]
    secret_uuid: Option<String>,
    /// SCSI adapter
    #[arg(long, value_name = "NAME")]
    adapter_name: Option<String>,
    /// World wide node name of a virtual adapter
    #[arg(long, value_name = "WWN")]
    adapter_wwnn: Option<String>,
    /// World wide port name of a virtual adapter
    #[arg(long, value_name = "WWN")]
    adapter_wwpn: Option<String>,
    /// Parent of a virtual adapter
    #[arg(long, value_name = "NAME")]
    adapter_parent: Option<String>,
    /// NFS version
    #[arg(long, value_name = "VERSION")]
    source_protocol_ver: Option<String>,
    /// Initiator's IQN
    #[arg(long, value_name = "IQN")]
    source_initiator: Option<String>,
}

/// Options of `pool-define-as`.
#[derive(Debug, Args)]
pub struct DefineAsArgs {
    #[command(flatten)]
    spec: SpecArgs,
}

/// Options of `pool-create-as`.
#[derive(Debug, Args)]
pub struct CreateAsArgs {
    #[command(flatten)]
    spec: SpecArgs,
    #[command(flatten)]
    build: StartBuildArgs,
}

/// Options of `find-storage-pool-sources-as`.
#[derive(Debug, Args)]
pub struct FindAsArgs {
    /// Type of the pool
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Host to ask
    host: Option<String>,
    /// Port to ask at
    port: Option<String>,
    /// Initiator's IQN
    initiator: Option<String>,
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;").replace('"', "&quot;")
}

impl SpecArgs {
    /// The document, in virsh's order.
    fn xml(&self) -> String {
        let mut xml = format!("<pool type='{}'>\n  <name>{}</name>\n", escaped(&self.kind), escaped(&self.name));
        let source = self.source();
        if !source.is_empty() {
            xml.push_str(&format!("  <source>\n{source}  </source>\n"));
        }
        if let Some(path) = &self.target {
            xml.push_str(&format!("  <target>\n    <path>{}</path>\n  </target>\n", escaped(path)));
        }
        xml.push_str("</pool>\n");
        xml
    }

    fn source(&self) -> String {
        let attribute = |element: &str, name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("    <{element} {name}='{}'/>\n", escaped(value))).unwrap_or_default()
        };
        let mut xml = attribute("host", "name", &self.source_host);
        xml.push_str(&attribute("dir", "path", &self.source_path));
        xml.push_str(&attribute("device", "path", &self.source_dev));
        if let Some(iqn) = &self.source_initiator {
            xml.push_str(&format!("    <initiator>\n      <iqn name='{}'/>\n    </initiator>\n", escaped(iqn)));
        }
        if let (Some(wwnn), Some(wwpn)) = (&self.adapter_wwnn, &self.adapter_wwpn) {
            let parent = self.adapter_parent.as_ref().map(|parent| format!(" parent='{}'", escaped(parent)));
            xml.push_str(&format!(
                "    <adapter type='fc_host'{} wwnn='{}' wwpn='{}'/>\n",
                parent.unwrap_or_default(),
                escaped(wwnn),
                escaped(wwpn)
            ));
        } else if let Some(name) = &self.adapter_name {
            xml.push_str(&format!("    <adapter type='scsi_host' name='{}'/>\n", escaped(name)));
        }
        let secret = [("usage", &self.secret_usage), ("uuid", &self.secret_uuid)];
        let secret = secret.into_iter().find_map(|(name, value)| Some((name, value.as_ref()?)));
        if let (Some(kind), Some(user), Some((name, value))) = (&self.auth_type, &self.auth_username, secret) {
            xml.push_str(&format!(
                "    <auth type='{}' username='{}'>\n      <secret {name}='{}'/>\n    </auth>\n",
                escaped(kind),
                escaped(user),
                escaped(value)
            ));
        }
        xml.push_str(&attribute("format", "type", &self.source_format));
        if let Some(name) = &self.source_name {
            xml.push_str(&format!("    <name>{}</name>\n", escaped(name)));
        }
        xml.push_str(&attribute("protocol", "ver", &self.source_protocol_ver));
        xml
    }
}

/// `domus pool-define-as`
pub async fn define_as(session: &Session, args: &DefineAsArgs) -> Result<(), Failure> {
    let xml = args.spec.xml();
    if args.spec.print_xml {
        return print(session, &xml);
    }
    let name = &args.spec.name;
    let pool =
        make(session, "StoragePoolDefineXML", &xml, 0).await.context(|| format!("Failed to define pool {name}"))?;
    say(session, pool.json(), "defined", name);
    Ok(())
}

/// `domus pool-create-as`
pub async fn create_as(session: &Session, args: &CreateAsArgs) -> Result<(), Failure> {
    let flags = args.build.flags()?;
    let xml = args.spec.xml();
    if args.spec.print_xml {
        return print(session, &xml);
    }
    let name = &args.spec.name;
    let pool =
        make(session, "StoragePoolCreateXML", &xml, flags).await.context(|| format!("Failed to create pool {name}"))?;
    say(session, pool.json(), "created", name);
    Ok(())
}

fn say(session: &Session, mut value: serde_json::Value, result: &str, name: &str) {
    value["result"] = result.into();
    session.out.say(&value, &format!("Pool {} {result}", text::printable(name, 255)));
}

#[allow(clippy::unnecessary_wraps, reason = "it ends a command")]
fn print(session: &Session, xml: &str) -> Result<(), Failure> {
    session.out.show(&serde_json::json!({ "xml": xml }), xml);
    Ok(())
}

/// `domus find-storage-pool-sources-as`
pub async fn find_as(session: &Session, args: &FindAsArgs) -> Result<(), Failure> {
    let spec = match &args.host {
        None => String::new(),
        Some(host) => {
            let port = args.port.as_ref().map(|port| format!(" port='{}'", escaped(port))).unwrap_or_default();
            let mut spec = format!("<source>\n  <host name='{}'{port}/>\n", escaped(host));
            if let Some(iqn) = &args.initiator {
                spec.push_str(&format!("  <initiator>\n    <iqn name='{}'/>\n  </initiator>\n", escaped(iqn)));
            }
            spec.push_str("</source>\n");
            spec
        }
    };
    sources(session, &args.kind, &spec).await
}
