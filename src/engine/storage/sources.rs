//! `virConnectFindStoragePoolSources`: what on the host or on a server could become a pool.

use super::super::event::HostSet;
use crate::disk::pool::{PoolType, mount::program};
use crate::error::{Code, Error, Result};
use crate::sys::exec;
use crate::xml::{Document, Writer};

/// The `<sources>` document of a pool type. `spec`: a `<source>` element with the host to ask, for netfs. Errors: code 1
/// for an unknown type, 3 for types without discovery, 8 without a host, 9 when there is nothing.
pub async fn find_sources(kind: &str, spec: Option<&str>, set: HostSet) -> Result<String> {
    let kind: PoolType = kind.parse().map_err(|_| Error::internal(format!("unknown storage pool type {kind}")))?;
    match kind {
        PoolType::Netfs if set == HostSet::Test => Ok(shares(&asked_host(spec)?, &["/testshare"])),
        PoolType::Logical if set == HostSet::Test => {
            Ok(volume_groups(&[("testvg1", vec!["/dev/sda20"]), ("testvg2", vec!["/dev/sda21"])]))
        }
        PoolType::Netfs => exports(spec).await,
        PoolType::Logical => groups().await,
        other => Err(Error::no_support(format!("pool type '{other}' does not support source discovery"))),
    }
}

/// The host that a `<source>` element asks about. Error: code 8.
fn asked_host(spec: Option<&str>) -> Result<String> {
    let missing = || Error::invalid_arg("hostname must be specified for netfs sources");
    let document = Document::parse(spec.ok_or_else(missing)?, "storage_source_spec")?;
    let host = document.root().child("host").and_then(|host| host.attr("name")).unwrap_or_default().to_string();
    if host.is_empty() || host.starts_with('-') {
        return Err(missing());
    }
    Ok(host)
}

async fn exports(spec: Option<&str>) -> Result<String> {
    let host = asked_host(spec)?;
    let nothing = |why: &str| Error::failed(format!("no storage pools were found on host '{host}'{why}"));
    let showmount = program("showmount").map_err(|error| nothing(&format!(": {}", error.detail)))?;
    let output = exec::run(&showmount, &["--no-headers", "--exports", &host], exec::Options::default())
        .await
        .map_err(|error| nothing(&format!(": {error}")))?;
    // "/export/path  clients"
    let text = output.text();
    let paths: Vec<&str> =
        text.lines().filter_map(|line| line.rsplit_once(char::is_whitespace)).map(|(p, _)| p.trim()).collect();
    if paths.is_empty() {
        return Err(nothing(""));
    }
    Ok(shares(&host, &paths))
}

fn shares(host: &str, paths: &[&str]) -> String {
    let mut w = Writer::new();
    w.element("sources", |w| {
        for path in paths {
            w.element("source", |w| {
                w.element("host", |w| w.attr("name", host));
                w.element("dir", |w| w.attr("path", path));
                w.element("format", |w| w.attr("type", "nfs"));
            });
        }
    });
    w.finish()
}

async fn groups() -> Result<String> {
    let arguments = ["--noheadings", "-o", "pv_name,vg_name"];
    let output = exec::run(&program("pvs")?, &arguments, exec::Options::default())
        .await
        .map_err(|error| Error::new(Code::InternalError, error.to_string()))?;
    let text = output.text();
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(device), Some(group)) = (words.next(), words.next()) else { continue };
        match groups.iter_mut().find(|(name, _)| *name == group) {
            Some((_, devices)) => devices.push(device),
            None => groups.push((group, vec![device])),
        }
    }
    Ok(volume_groups(&groups))
}

fn volume_groups(groups: &[(&str, Vec<&str>)]) -> String {
    let mut w = Writer::new();
    w.start("sources");
    for (name, devices) in groups {
        w.element("source", |w| {
            for device in devices {
                w.element("device", |w| w.attr("path", device));
            }
            w.text("name", name);
            w.element("format", |w| w.attr("type", "lvm2"));
        });
    }
    w.end_wide();
    w.finish()
}
