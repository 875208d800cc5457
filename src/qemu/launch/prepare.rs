//! The live copy of a definition, as far as it is known before QEMU runs.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::ports::PortGuard;
use super::{Identity, Shared};
use crate::domain_xml::DomainDef;
use crate::domain_xml::cpu::{CpuCheck, CpuFallback, CpuFeature, CpuMatch, CpuMode, FeaturePolicy};
use crate::domain_xml::device::*;
use crate::domain_xml::model::VirtType;
use crate::domain_xml::seclabel::{Seclabel, SeclabelType};
use crate::domain_xml::words::YesNo;
use crate::error::{Error, Result};
use crate::qemu::capabilities::{QemuCaps, open_kvm};
use crate::qemu::complete;

/// What preparing found out.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Pass `/dev/kvm` by descriptor.
    pub kvm_fd: bool,
    /// Ports held for this run.
    pub ports: Vec<PortGuard>,
}

/// Seconds since the epoch.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs() as i64).unwrap_or_default()
}

/// Fills in everything that is decided before the process exists.
pub fn prepare(
    live: &mut DomainDef,
    caps: &QemuCaps,
    shared: &Shared,
    identity: &Identity,
    run_dir: &Path,
) -> Result<Prepared> {
    // A definition made while its emulator was not installed here is still incomplete.
    let firmwares = shared.config.firmware_choice(live, false);
    complete::complete(live, &shared.config.emulator(), Some(caps), &firmwares)?;
    accelerator(live, caps)?;
    expand_cpu(live, caps)?;
    super::files::complete_chains(live)?;
    complete::assign_aliases(live);
    complete::assign_nodes(live);
    channels(live, run_dir);
    let mut prepared = Prepared { kvm_fd: live.virt_type == VirtType::Kvm && !caps.kvm_by_path, ports: Vec::new() };
    displays(live, shared, run_dir, &mut prepared)?;
    live.memory.current.get_or_insert(live.memory.size);
    live.resource.partition.get_or_insert_with(|| shared.config.partition.clone());
    if !live.seclabels.iter().any(|label| label.model.as_deref() == Some("dac")) {
        let label = format!("+{}:+{}", identity.uid, identity.gid);
        live.seclabels.push(Seclabel {
            kind: Some(SeclabelType::Dynamic),
            model: Some("dac".into()),
            relabel: Some(if shared.config.dynamic_ownership { YesNo::Yes } else { YesNo::No }),
            label: Some(label.clone()),
            imagelabel: Some(label),
            baselabel: None,
        });
    }
    Ok(prepared)
}

/// The same without looking at this host: nothing is opened, no port is taken, what a start chooses is `port`.
pub fn paper(live: &mut DomainDef, caps: &QemuCaps, shared: &Shared, run_dir: &Path, port: i32) -> Result<()> {
    let firmwares = shared.config.firmware_choice(live, false);
    complete::complete(live, &shared.config.emulator(), Some(caps), &firmwares)?;
    expand_cpu(live, caps)?;
    complete::assign_aliases(live);
    complete::assign_nodes(live);
    channels(live, run_dir);
    for graphics in &mut live.graphics {
        if let Some(Listen::Address { address }) = graphics.listens.first_mut() {
            address.get_or_insert_with(|| shared.config.vnc_listen.clone());
        }
        if let Some(Listen::Socket { socket: socket @ None, auto }) = graphics.listens.first_mut() {
            *auto = true;
            *socket = Some(run_dir.join("vnc").display().to_string());
        }
        if let GraphicsKind::Vnc(vnc) = &mut graphics.kind {
            if vnc.autoport || vnc.port.is_none_or(|port| port < 0) {
                vnc.port = Some(port);
            }
            if vnc.websocket == Some(-1) {
                vnc.websocket = Some(port - 200);
            }
        }
    }
    live.memory.current.get_or_insert(live.memory.size);
    Ok(())
}

fn accelerator(live: &DomainDef, caps: &QemuCaps) -> Result<()> {
    if live.virt_type == VirtType::Kvm && (caps.kvm.is_none() || open_kvm().is_none()) {
        return Err(Error::unsupported_config(
            "Domain requires KVM, but it is not available. Check that virtualization is enabled in the host BIOS, and host configuration is setup to load the kvm modules",
        ));
    }
    Ok(())
}

/// Turns `mode='host-model'` into the concrete model known from the probe.
pub fn expand_cpu(live: &mut DomainDef, caps: &QemuCaps) -> Result<()> {
    let virt_type = live.virt_type.as_str();
    // Checked here and not when the guest is defined: a definition may be meant for another host.
    if live.cpu.as_ref().is_some_and(|cpu| cpu.mode == Some(CpuMode::HostPassthrough))
        && live.virt_type != VirtType::Kvm
    {
        let arch = live.os.arch.as_deref().unwrap_or_default();
        return Err(Error::unsupported_config(format!(
            "CPU mode 'host-passthrough' for {arch} {virt_type} domain on {arch} host is not supported by hypervisor"
        )));
    }
    let Some(cpu) = live.cpu.as_mut().filter(|cpu| cpu.mode == Some(CpuMode::HostModel)) else { return Ok(()) };
    let host = caps.accel(virt_type).and_then(|accel| accel.host_model.as_ref());
    let Some(host) = host else {
        return Err(Error::unsupported_config(format!(
            "CPU mode 'host-model' for a {} {virt_type} domain on this host is not supported by hypervisor",
            caps.arch
        )));
    };
    let own = std::mem::take(&mut cpu.features);
    let mut features: Vec<CpuFeature> = host
        .features
        .iter()
        .map(|(name, on)| CpuFeature {
            policy: Some(if *on { FeaturePolicy::Require } else { FeaturePolicy::Disable }),
            name: name.clone(),
        })
        .collect();
    // What the definition says about a feature beats what the host has.
    for feature in own {
        match features.iter_mut().find(|known| known.name == feature.name) {
            Some(known) => *known = feature,
            None => features.push(feature),
        }
    }
    cpu.mode = Some(CpuMode::Custom);
    cpu.match_ = Some(CpuMatch::Exact);
    // libvirt reads the result back from QEMU and writes 'full'; the record was QEMU's own answer.
    cpu.check = Some(CpuCheck::Full);
    cpu.model = Some(host.model.clone());
    cpu.fallback = Some(CpuFallback::Forbid);
    cpu.vendor = host.vendor.clone();
    cpu.features = features;
    Ok(())
}

/// Gives channels without a socket one in the run directory.
fn channels(live: &mut DomainDef, run_dir: &Path) {
    for (number, channel) in live.channels.iter_mut().enumerate() {
        if let CharKind::Unix { path, listen, .. } = &mut channel.source.kind
            && path.is_none()
        {
            *path = Some(run_dir.join(format!("chan{number}")).display().to_string());
            *listen = true;
        }
        if let ChannelTarget::Virtio { state, .. } = &mut channel.target {
            state.get_or_insert(ChannelState::Disconnected);
        }
    }
}

fn displays(live: &mut DomainDef, shared: &Shared, run_dir: &Path, prepared: &mut Prepared) -> Result<()> {
    for graphics in &mut live.graphics {
        let GraphicsKind::Vnc(vnc) = &mut graphics.kind else { continue };
        let address = match graphics.listens.first_mut() {
            Some(Listen::Address { address }) => {
                address.get_or_insert_with(|| shared.config.vnc_listen.clone()).clone()
            }
            Some(Listen::Socket { socket, auto }) => {
                if socket.is_none() {
                    *auto = true;
                    *socket = Some(run_dir.join("vnc").display().to_string());
                }
                continue;
            }
            Some(Listen::Network { network, .. }) => {
                let name = network.clone().unwrap_or_default();
                return Err(Error::unsupported_config(format!(
                    "<listen type='network' network='{name}'> is not supported by domus yet"
                )));
            }
            Some(Listen::None) | None => continue,
        };
        if vnc.autoport || vnc.port.is_none_or(|port| port < 0) {
            let guard = shared.ports.acquire(&address)?;
            vnc.port = Some(i32::from(guard.port()));
            vnc.port_allocated = true;
            prepared.ports.push(guard);
        } else if let Some(port) = vnc.port.and_then(|port| u16::try_from(port).ok()) {
            prepared.ports.push(shared.ports.hold(port));
        }
        if vnc.websocket == Some(-1) {
            let guard = shared.ports.acquire(&address)?;
            vnc.websocket = Some(i32::from(guard.port()));
            vnc.websocket_allocated = true;
            prepared.ports.push(guard);
        }
    }
    Ok(())
}
