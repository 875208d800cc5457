//! Introspection documents: fixed per kind of object, put together once; parents list the children that exist.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::client::Client;
use super::path::{self, Kind, Root, SUBTREES};
use super::table;
use crate::engine::api::{self, Caller, dispatch};
use crate::engine::objects::{self, Handle};
use crate::engine::{Connection, Domain};
use crate::error::Result;

const HEAD: &str = "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n\
                    \x20                     \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n\
                    <node>\n";
const TAIL: &str = "</node>\n";

const INTROSPECTABLE: &str = r#"  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect">
      <arg type="s" name="xml_data" direction="out"/>
    </method>
  </interface>
"#;

const STANDARD: &str = r#"  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg type="s" name="interface_name" direction="in"/>
      <arg type="s" name="property_name" direction="in"/>
      <arg type="v" name="value" direction="out"/>
    </method>
    <method name="GetAll">
      <arg type="s" name="interface_name" direction="in"/>
      <arg type="a{sv}" name="properties" direction="out"/>
    </method>
    <method name="Set">
      <arg type="s" name="interface_name" direction="in"/>
      <arg type="s" name="property_name" direction="in"/>
      <arg type="v" name="value" direction="in"/>
    </method>
    <signal name="PropertiesChanged">
      <arg type="s" name="interface_name"/>
      <arg type="a{sv}" name="changed_properties"/>
      <arg type="as" name="invalidated_properties"/>
    </signal>
  </interface>
  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect">
      <arg type="s" name="xml_data" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Peer">
    <method name="Ping"/>
    <method name="GetMachineId">
      <arg type="s" name="machine_uuid" direction="out"/>
    </method>
  </interface>
"#;

const OBJECT_MANAGER: &str = r#"  <interface name="org.freedesktop.DBus.ObjectManager">
    <method name="GetManagedObjects">
      <arg type="a{oa{sa{sv}}}" name="object_paths_interfaces_and_properties" direction="out"/>
    </method>
    <signal name="InterfacesAdded">
      <arg type="o" name="object_path"/>
      <arg type="a{sa{sv}}" name="interfaces_and_properties"/>
    </signal>
    <signal name="InterfacesRemoved">
      <arg type="o" name="object_path"/>
      <arg type="as" name="interfaces"/>
    </signal>
  </interface>
"#;

fn push_child(document: &mut String, name: &str) {
    document.push_str("  <node name=\"");
    document.push_str(name);
    document.push_str("\"/>\n");
}

/// The document of a node that is only a parent.
pub fn branch<S: AsRef<str>>(children: &[S]) -> String {
    let mut document = String::with_capacity(HEAD.len() + INTROSPECTABLE.len() + 64 * children.len());
    document.push_str(HEAD);
    document.push_str(INTROSPECTABLE);
    for child in children {
        push_child(&mut document, child.as_ref());
    }
    document.push_str(TAIL);
    document
}

/// The document of an object of `kind`, existing or not.
pub fn object(kind: Kind) -> &'static str {
    macro_rules! documents {
        ($($kind:ident),*) => {
            match kind {
                $(Kind::$kind => {
                    static DOCUMENT: LazyLock<String> = LazyLock::new(|| build(Kind::$kind));
                    &DOCUMENT
                })*
            }
        };
    }
    documents!(
        Root,
        Domain,
        DomainSnapshot,
        Interface,
        Network,
        NodeDevice,
        NwFilter,
        Secret,
        StoragePool,
        StorageVol,
        Job,
        Daemon
    )
}

fn build(kind: Kind) -> String {
    let mut document = String::from(HEAD);
    document.push_str(STANDARD);
    if kind == Kind::Root {
        document.push_str(OBJECT_MANAGER);
    }
    for lookup in table::of(kind) {
        document.push_str(lookup.element);
    }
    if kind == Kind::Root {
        for (name, _) in SUBTREES {
            push_child(&mut document, name);
        }
    }
    document.push_str(TAIL);
    document
}

/// The objects of `kind` below `root`; none when the driver is missing or cannot list them.
pub async fn children(client: &Client, caller: &Caller, root: &Root, kind: Kind) -> Vec<Cow<'static, str>> {
    let connection = root.driver.and_then(|driver| client.server.engine.connection(driver));
    let Some(connection) = connection else { return Vec::new() };
    listed(caller, &connection, kind).await.unwrap_or_default()
}

/// The keys of the objects of `kind` that the caller may see.
async fn listed(caller: &Caller, connection: &Connection, kind: Kind) -> Result<Vec<Cow<'static, str>>> {
    fn by_uuid<K: objects::Kind>(all: &[Handle<K>]) -> Vec<Cow<'static, str>> {
        all.iter().map(|object| Cow::Owned(path::uuid_key(&object.uuid()))).collect()
    }
    Ok(match kind {
        Kind::Domain => {
            let domains = dispatch::<api::ListAllDomains>(caller, connection, 0).await?;
            domains.iter().map(|domain| Cow::Owned(path::uuid_key(&domain.uuid()))).collect()
        }
        Kind::DomainSnapshot => {
            let of = |domain: &Domain| {
                let (uuid, moments) = (domain.uuid(), domain.snapshot().moments.clone());
                let names: Vec<String> =
                    moments.below(None).into_iter().map(|name| path::snapshot_key(&uuid, name)).collect();
                names
            };
            let domains = dispatch::<api::ListAllDomains>(caller, connection, 0).await?;
            domains.iter().flat_map(of).map(Cow::Owned).collect()
        }
        Kind::Network => by_uuid(&dispatch::<api::ListAllNetworks>(caller, connection, 0).await?),
        Kind::StoragePool => by_uuid(&dispatch::<api::ListAllStoragePools>(caller, connection, 0).await?),
        Kind::NwFilter => by_uuid(&dispatch::<api::ListAllNwFilters>(caller, connection, 0).await?),
        Kind::Secret => by_uuid(&dispatch::<api::ListAllSecrets>(caller, connection, 0).await?),
        Kind::Job => {
            let jobs = dispatch::<api::ListStorageJobs>(caller, connection, ()).await?;
            jobs.iter().map(|job| Cow::Owned(job.id.to_string())).collect()
        }
        Kind::Interface => {
            let all = dispatch::<api::ListAllInterfaces>(caller, connection, 0).await?;
            all.iter().map(|interface| Cow::Owned(path::encode(interface.key()))).collect()
        }
        Kind::NodeDevice => {
            let all = dispatch::<api::ListAllNodeDevices>(caller, connection, 0).await?;
            all.iter().map(|device| Cow::Owned(path::encode(&device.name))).collect()
        }
        _ => Vec::new(),
    })
}
