//! Limits of a link's bandwidth, through the program `tc`.
//!
//! What leaves a host's link goes to the guest, so a guest's `inbound` is shaped (htb) and its `outbound`, which arrives
//! here, is policed. Everything is on the link and goes with it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Subsystem};
use crate::sys::exec::{self, ExecError};

/// A rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// kB/s.
    pub average: u64,
    /// kB/s that may be reached; 0 = `average`.
    pub peak: u64,
    /// KiB that may go at once at `peak`; 0 = tc's choice.
    pub burst: u64,
}

/// Both directions, as the guest sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BandwidthSpec {
    pub inbound: Option<Rate>,
    pub outbound: Option<Rate>,
}

/// Replaces the limits of the link. Errors: code 1 with what tc said; code 67 when tc is missing and a limit is wanted.
pub async fn set(tc: Option<&Path>, link: &str, spec: &BandwidthSpec) -> Result<()> {
    let Some(tc) = tc else {
        return match spec {
            BandwidthSpec { inbound: None, outbound: None } => Ok(()),
            _ => Err(Error::unsupported_config(format!(
                "the bandwidth of '{link}' cannot be limited: program 'tc' was not found (package iproute2)"
            ))
            .with_subsystem(Subsystem::Network)),
        };
    };
    // What is not there cannot be deleted; that is the usual case.
    for old in ["root", "ingress"] {
        let args = ["qdisc", "del", "dev", link, old];
        let options = exec::Options { any_status: true, ..exec::Options::default() };
        exec::run(tc, &args, options).await.map_err(|error| refused(link, error))?;
    }
    let text = commands(link, spec);
    if text.is_empty() {
        return Ok(());
    }
    batch(tc, text).await.map_err(|error| refused(link, error))?;
    if spec.inbound.is_some() {
        // Connections share the rate alike; the rate holds where the kernel has no such discipline, too.
        let fair = format!("qdisc add dev {link} parent 1:1 handle 2: sfq perturb 10\n");
        if let Err(error) = batch(tc, fair).await {
            tracing::debug!(link, %error, "connections share the bandwidth as they come: no queueing discipline sfq");
        }
    }
    Ok(())
}

async fn batch(tc: &Path, text: String) -> std::result::Result<(), ExecError> {
    let options = exec::Options { stdin: Some(text.into_bytes()), ..exec::Options::default() };
    exec::run(tc, &["-batch", "-"], options).await.map(drop)
}

fn refused(link: &str, error: ExecError) -> Error {
    let said = match &error {
        ExecError::Failed { stderr, .. } => stderr.lines().next().unwrap_or_default().to_string(),
        other => other.to_string(),
    };
    let hint = match said.contains("unknown") || said.contains("not found") {
        true => " (the kernel has no such queueing discipline: modules sch_htb, sch_ingress, cls_u32, act_police)",
        false => "",
    };
    Error::internal(format!("cannot limit the bandwidth of '{link}': {said}{hint}"))
        .with_subsystem(Subsystem::Network)
        .with_source(error)
}

fn commands(link: &str, spec: &BandwidthSpec) -> String {
    let mut text = String::new();
    let burst = |rate: &Rate| if rate.burst > 0 { format!(" burst {}kb", rate.burst) } else { String::new() };
    if let Some(rate) = &spec.inbound {
        let ceiling = if rate.peak > 0 { format!(" ceil {}kbps", rate.peak) } else { String::new() };
        text.push_str(&format!(
            "qdisc add dev {link} root handle 1: htb default 1\n\
             class add dev {link} parent 1: classid 1:1 htb rate {}kbps{ceiling}{}\n",
            rate.average,
            burst(rate)
        ));
    }
    if let Some(rate) = &spec.outbound {
        // The policer wants a bucket; a tenth of a second of the rate, but a big packet at least.
        let bucket = if rate.burst > 0 { rate.burst } else { (rate.average / 10).max(64) };
        text.push_str(&format!(
            "qdisc add dev {link} ingress\n\
             filter add dev {link} parent ffff: protocol all u32 match u32 0 0 police rate {}kbps burst {bucket}kb mtu 64kb drop flowid :1\n",
            rate.average
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Netlink;
    use crate::sys::testing::in_netns_async;

    #[test]
    fn limits_are_set_replaced_and_taken_off() {
        let tc = Path::new("/usr/sbin/tc");
        if !tc.exists() {
            return eprintln!("SKIP limits_are_set: {} is not installed", tc.display());
        }
        in_netns_async("limits_are_set", async || {
            Netlink::open().unwrap().add_veth("left", "right").await.unwrap();
            let rate = Rate { average: 1000, peak: 5000, burst: 1024 };
            let both = BandwidthSpec { inbound: Some(rate), outbound: Some(Rate { average: 500, ..Rate::default() }) };
            let show = async || {
                let qdisc = exec::run(tc, &["qdisc", "show", "dev", "left"], exec::Options::default()).await.unwrap();
                let class = exec::run(tc, &["class", "show", "dev", "left"], exec::Options::default()).await.unwrap();
                qdisc.text() + &class.text()
            };
            if let Err(error) = set(Some(tc), "left", &both).await {
                // A kernel without htb or the policer says so itself.
                assert!(
                    error.message().starts_with("internal error: cannot limit the bandwidth of 'left': "),
                    "{error}"
                );
                return eprintln!("SKIP limits_are_set: {error}");
            }
            let shown = show().await;
            assert!(
                shown.contains("htb") && shown.contains("ingress") && shown.contains("rate 8Mbit ceil 40Mbit"),
                "{shown}"
            );
            set(Some(tc), "left", &BandwidthSpec { inbound: None, ..both }).await.unwrap();
            assert!(!show().await.contains("htb") && show().await.contains("ingress"));
            set(Some(tc), "left", &BandwidthSpec::default()).await.unwrap();
            assert!(!show().await.contains("ingress"));
            let error = set(Some(tc), "nowhere", &both).await.unwrap_err();
            assert!(error.message().contains("'nowhere'"), "{error}");
            assert!(set(None, "left", &both).await.unwrap_err().message().contains("iproute2"));
            set(None, "left", &BandwidthSpec::default()).await.unwrap();
        });
    }
}
