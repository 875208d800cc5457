//! The networks that are there without anybody having defined them: `default`, once, and the test driver's.

use super::super::event::HostSet;
use super::super::host::HostObjects;
use super::define;
use crate::error::Result;
use crate::net::Netlink;
use crate::net::network::run::subnet;

/// What libvirt's test driver has.
const TEST: &str = "<network>\n  <name>default</name>\n  <uuid>dd8fe884-6c02-601e-7551-cca97df1c5df</uuid>\n  \
                    <forward mode='nat'/>\n  <bridge name='virbr0'/>\n  <ip address='192.168.122.1' \
                    netmask='255.255.255.0'>\n    <dhcp>\n      <range start='192.168.122.2' end='192.168.122.254'/>\n    \
                    </dhcp>\n  </ip>\n</network>\n";

/// Notes that `default` was defined once: a user who undefines it does not want it back.
const MARK: &str = "default-network-shipped";

/// Defines them where they belong. A host that cannot have `default` goes without it, which is logged.
pub async fn ship(host: &HostObjects) -> Result<()> {
    match host.context.set {
        HostSet::Test => {
            let network = define::define(host, TEST, false).await?;
            define::start(&network).await
        }
        HostSet::Shared => {
            let mark = host.context.dirs.state.join(MARK);
            if !host.context.networks.ship_default || mark.exists() {
                return Ok(());
            }
            if host.networks.get("default").is_none()
                && let Err(error) = ship_default(host).await
            {
                tracing::warn!(%error, "the network 'default' could not be defined");
                return Ok(());
            }
            write_mark(&mark)
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "an empty file: there is nothing in it to be lost")]
fn write_mark(mark: &std::path::Path) -> Result<()> {
    let parent = mark.parent().map_or(Ok(()), std::fs::create_dir_all);
    parent
        .and_then(|()| std::fs::write(mark, ""))
        .map_err(|error| crate::error::Error::system(format!("cannot write '{}'", mark.display()), error))
}

/// `default`: NAT, in a subnet that this host uses nowhere else.
async fn ship_default(host: &HostObjects) -> Result<()> {
    let taken = subnet::taken(&Netlink::open()?).await?;
    let Some(address) = subnet::choose_free(&taken) else {
        tracing::warn!("no subnet is free for the network 'default'; define one with 'domus net-define'");
        return Ok(());
    };
    let [a, b, c, _] = address.octets();
    let xml = format!(
        "<network>\n  <name>default</name>\n  <forward mode='nat'/>\n  <ip address='{a}.{b}.{c}.1' \
         netmask='255.255.255.0'>\n    <dhcp>\n      <range start='{a}.{b}.{c}.2' end='{a}.{b}.{c}.254'/>\n    \
         </dhcp>\n  </ip>\n</network>\n"
    );
    define::define(host, &xml, false).await.map(drop)
}
