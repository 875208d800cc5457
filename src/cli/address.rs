//! `domifaddr`: which addresses a guest has, waiting for the first one if asked to.

use std::fmt::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::args::DomainArg;
use super::domains::{By, DOMAIN, Session};
use super::output::{Context, Failure};

/// Between two looks of `--wait`.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Whom to ask.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Source {
    /// The DHCP leases of the guest's networks
    Lease,
    /// The guest itself
    Agent,
    /// The host's neighbour tables
    Arp,
}

/// Options of `domifaddr`.
#[derive(Debug, Args)]
pub struct AddressArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Only the interface of this name
    interface: Option<String>,
    /// Print name and MAC address in every line
    #[arg(long)]
    full: bool,
    /// Whom to ask
    #[arg(long, value_enum, default_value = "lease")]
    source: Source,
    /// Wait up to this many seconds for an address
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

/// Name, MAC address, then family, address and prefix of each address.
type Interface = (String, String, Vec<(i32, String, u32)>);

/// `domus domifaddr`
pub async fn domifaddr(session: &Session, args: &AddressArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let source: u32 = match args.source {
        Source::Lease => 0,
        Source::Agent => 1,
        Source::Arp => 2,
    };
    let failed = || "Failed to query for interfaces addresses".to_owned();
    let ask = async || -> Result<Vec<Interface>, Failure> {
        let answer = session.client.call(&domain.path, DOMAIN, "InterfaceAddresses", &(source, 0u32)).await;
        let mut found: Vec<Interface> = answer.context(failed)?;
        found.retain(|(name, ..)| args.interface.as_ref().is_none_or(|wanted| wanted == name));
        Ok(found)
    };
    let mut found = ask().await?;
    if let Some(seconds) = args.wait {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
        while !found.iter().any(|(_, _, addresses)| addresses.iter().any(|(_, address, _)| counts(address))) {
            if tokio::time::Instant::now() >= deadline {
                let name = &domain.name;
                let text = format!("domain '{name}' has no address after {seconds} s (--source {:?})", args.source);
                return Err(Failure::new(text.to_lowercase()));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            found = ask().await?;
        }
    }
    let values: Vec<Value> = found.iter().map(json_of).collect();
    session
        .out
        .show(&domain.json_with("interfaces", Value::from(values)), &table(&found, args.full, session.out.quiet));
    Ok(())
}

/// Whether somebody can reach the guest at it: not its loopback, nor what every link has.
fn counts(address: &str) -> bool {
    match address.parse() {
        Ok(std::net::IpAddr::V4(v4)) => !v4.is_loopback(),
        Ok(std::net::IpAddr::V6(v6)) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        Err(_) => false,
    }
}

fn json_of((name, mac, addresses): &Interface) -> Value {
    let one = |(family, address, prefix): &(i32, String, u32)| json!({ "type": if *family == 1 { "ipv6" } else { "ipv4" }, "address": address, "prefix": prefix });
    json!({ "name": name, "mac": mac, "addresses": addresses.iter().map(one).collect::<Vec<_>>() })
}

/// virsh's table, whose columns have fixed widths.
fn table(found: &[Interface], full: bool, quiet: bool) -> String {
    let mut text = String::new();
    if !quiet {
        let _ = writeln!(text, " {:<10} {:<20} {:<8}     Address", "Name", "MAC address", "Protocol");
        let _ = writeln!(text, "{}", "-".repeat(79));
    }
    for (name, mac, addresses) in found {
        if addresses.is_empty() {
            let mac = if mac.is_empty() { "N/A" } else { mac };
            let _ = writeln!(text, " {name:<10} {mac:<17}    {:<12} N/A", "N/A");
        }
        for (nth, (family, address, prefix)) in addresses.iter().enumerate() {
            let family = if *family == 1 { "ipv6" } else { "ipv4" };
            let (name, mac) = if full || nth == 0 { (name.as_str(), mac.as_str()) } else { ("-", "-") };
            let _ = writeln!(text, " {name:<10} {mac:<17}    {family:<12} {address}/{prefix}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virshs_table() {
        let found = [
            (
                "vnet0".into(),
                "52:54:00:00:00:01".into(),
                vec![(0, "192.168.122.9".into(), 24), (1, "fd00::9".into(), 64)],
            ),
            ("lo".into(), String::new(), vec![]),
        ];
        let expect = " Name       MAC address          Protocol     Address
-------------------------------------------------------------------------------
 vnet0      52:54:00:00:00:01    ipv4         192.168.122.9/24
 -          -                    ipv6         fd00::9/64
 lo         N/A                  N/A          N/A
";
        assert_eq!(table(&found, false, false), expect);
        assert!(
            table(&found, true, true)
                .starts_with(" vnet0      52:54:00:00:00:01    ipv4         192.168.122.9/24\n vnet0")
        );
        assert!(
            counts("10.0.0.1") && !counts("127.0.0.1") && !counts("fe80::1") && !counts("::1") && counts("fd00::1")
        );
    }
}
