//! `<features>`.

use super::foreign::Foreign;
use super::words::{Switch, attrs, words, write_state};
use crate::error::{Code, Result};
use crate::types::text::nearest;
use crate::xml::{Node, Writer};

/// `<features>`. A plain element (`<acpi/>`) is a `bool`, one with `state` an `Option<Switch>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// Whether `<features>` was there at all.
    pub present: bool,
    pub acpi: bool,
    pub apic: Option<Apic>,
    pub pae: bool,
    pub hap: Option<Switch>,
    pub viridian: bool,
    pub privnet: bool,
    pub hyperv: Option<Hyperv>,
    pub kvm: Option<KvmFeatures>,
    pub pvspinlock: Option<Switch>,
    pub pmu: Option<Switch>,
    pub vmport: Option<Switch>,
    pub gic: Option<Gic>,
    pub smm: Option<Smm>,
    pub ioapic: Option<IoapicDriver>,
    pub vmcoreinfo: Option<Switch>,
    pub ps2: Option<Switch>,
    pub capabilities: Option<Capabilities>,
    /// Features of other machines and hypervisors, kept for round trips.
    pub others: Vec<Foreign>,
}

attrs! {
    /// `<apic>`.
    pub struct Apic { eoi: Switch = "eoi" }

    /// `<gic>`.
    pub struct Gic { version: String = "version" }
}

/// `<smm>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Smm {
    pub state: Option<Switch>,
    /// `<tseg>`, bytes.
    pub tseg: Option<u64>,
}

words! {
    /// `<ioapic driver>`.
    pub enum IoapicDriver { Qemu = "qemu", Kvm = "kvm" }

    /// `<hyperv mode>`.
    pub enum HypervMode { Custom = "custom", Passthrough = "passthrough" }

    /// `<capabilities policy>`.
    pub enum CapabilitiesPolicy { Default = "default", Allow = "allow", Deny = "deny" }
}

/// `<hyperv>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hyperv {
    pub mode: Option<HypervMode>,
    pub relaxed: Option<Switch>,
    pub vapic: Option<Switch>,
    pub spinlocks: Option<HypervSpinlocks>,
    pub vpindex: Option<Switch>,
    pub runtime: Option<Switch>,
    pub synic: Option<Switch>,
    pub stimer: Option<HypervStimer>,
    pub reset: Option<Switch>,
    pub vendor_id: Option<HypervVendorId>,
    pub frequencies: Option<Switch>,
    pub reenlightenment: Option<Switch>,
    pub tlbflush: Option<HypervTlbflush>,
    pub ipi: Option<Switch>,
    pub evmcs: Option<Switch>,
    pub avic: Option<Switch>,
    pub emsr_bitmap: Option<Switch>,
    pub xmm_input: Option<Switch>,
}

attrs! {
    /// `<spinlocks>`.
    pub struct HypervSpinlocks { state: Switch = "state", retries: u32 = "retries" }

    /// `<vendor_id>`.
    pub struct HypervVendorId { state: Switch = "state", value: String = "value" }
}

/// `<stimer>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HypervStimer {
    pub state: Option<Switch>,
    pub direct: Option<Switch>,
}

/// `<tlbflush>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HypervTlbflush {
    pub state: Option<Switch>,
    pub direct: Option<Switch>,
    pub extended: Option<Switch>,
}

/// `<kvm>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KvmFeatures {
    pub hidden: Option<Switch>,
    pub hint_dedicated: Option<Switch>,
    pub poll_control: Option<Switch>,
    pub pv_ipi: Option<Switch>,
    pub dirty_ring: Option<DirtyRing>,
}

attrs! {
    /// `<dirty-ring>`.
    pub struct DirtyRing { state: Switch = "state", size: u32 = "size" }
}

/// `<capabilities>` of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capabilities {
    pub policy: Option<CapabilitiesPolicy>,
    /// Linux capability names in lower case without `cap_`, in libvirt's order, with their state.
    pub caps: Vec<(String, Switch)>,
}

/// Every child of `<features>`, for the error about an unknown one.
const NAMES: &[&str] = &[
    "acpi",
    "apic",
    "pae",
    "hap",
    "viridian",
    "privnet",
    "hyperv",
    "kvm",
    "pvspinlock",
    "capabilities",
    "pmu",
    "vmport",
    "gic",
    "smm",
    "ioapic",
    "hpt",
    "vmcoreinfo",
    "htm",
    "nested-hv",
    "msrs",
    "ccf-assist",
    "xen",
    "cfpc",
    "sbbc",
    "ibs",
    "tcg",
    "async-teardown",
    "ras",
    "ps2",
    "aia",
];

fn state(node: Node<'_>) -> Result<Option<Switch>> {
    Ok(Some(node.attr_value("state")?.unwrap_or(Switch::On)))
}

impl Features {
    /// Reads `<features>`. Errors: codes 27 and 67 ("unexpected feature").
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mut features = Features { present: true, ..Default::default() };
        for name in NAMES {
            node.note(false, name);
        }
        for child in node.all_children() {
            if NAMES.contains(&child.name()) {
                child.mark_used();
            }
            match child.name() {
                "acpi" => features.acpi = true,
                "apic" => features.apic = Some(Apic::read(child)?),
                "pae" => features.pae = true,
                "hap" => features.hap = state(child)?,
                "viridian" => features.viridian = true,
                "privnet" => features.privnet = true,
                "hyperv" => features.hyperv = Some(Hyperv::read(child)?),
                "kvm" => features.kvm = Some(KvmFeatures::read(child)?),
                "pvspinlock" => features.pvspinlock = state(child)?,
                "capabilities" => features.capabilities = Some(Capabilities::read(child)?),
                "pmu" => features.pmu = state(child)?,
                "vmport" => features.vmport = state(child)?,
                "gic" => features.gic = Some(Gic::read(child)?),
                "smm" => features.smm = Some(Smm::read(child)?),
                "ioapic" => features.ioapic = child.attr_value("driver")?,
                "vmcoreinfo" => features.vmcoreinfo = state(child)?,
                "ps2" => features.ps2 = state(child)?,
                name if NAMES.contains(&name) => {
                    features.others.push(in_kib(Foreign::read(child)));
                }
                name => {
                    let hint = nearest(name, NAMES.iter().copied());
                    let hint = hint.map(|word| format!("; did you mean '{word}'?")).unwrap_or_default();
                    return Err(child.error(Code::ConfigUnsupported, format!("unexpected feature '{name}'{hint}")));
                }
            }
        }
        Ok(features)
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.element_unless_empty("features", |w| {
            w.empty_if("acpi", self.acpi);
            if let Some(apic) = &self.apic {
                w.element("apic", |w| apic.write_attrs(w));
            }
            w.empty_if("pae", self.pae);
            write_state(w, "hap", self.hap);
            w.empty_if("viridian", self.viridian);
            w.empty_if("privnet", self.privnet);
            if let Some(hyperv) = &self.hyperv {
                hyperv.write(w);
            }
            if let Some(kvm) = &self.kvm {
                kvm.write(w);
            }
            write_state(w, "pvspinlock", self.pvspinlock);
            if let Some(capabilities) = &self.capabilities {
                capabilities.write(w);
            }
            write_state(w, "pmu", self.pmu);
            write_state(w, "vmport", self.vmport);
            if let Some(gic) = &self.gic {
                w.element("gic", |w| gic.write_attrs(w));
            }
            if let Some(smm) = &self.smm {
                smm.write(w);
            }
            if let Some(driver) = self.ioapic {
                w.element("ioapic", |w| w.attr("driver", driver));
            }
            Foreign::write_named(&self.others, &["hpt"], w);
            write_state(w, "vmcoreinfo", self.vmcoreinfo);
            for other in self.others.iter().filter(|other| other.name != "hpt") {
                other.write(w);
            }
            write_state(w, "ps2", self.ps2);
        });
    }
}

/// Sizes of settings that are kept as they are, in libvirt's unit.
fn in_kib(mut element: Foreign) -> Foreign {
    for child in element.children.iter_mut().filter(|child| child.name == "tb-cache") {
        let unit = child.attributes.iter_mut().find(|(name, _)| name == "unit");
        let Some((_, unit)) = unit else {
            child.attributes.push((String::from("unit"), String::from("KiB")));
            continue;
        };
        let size = child.text.parse().ok().and_then(|size| crate::types::size::to_kib(size, unit));
        if let Some(kib) = size {
            *unit = String::from("KiB");
            child.text = kib.to_string();
        }
    }
    element
}

impl Smm {
    fn read(node: Node<'_>) -> Result<Self> {
        Ok(Smm {
            state: state(node)?,
            tseg: node
                .child("tseg")
                .map(|tseg| {
                    let value: u64 = tseg.value()?;
                    let unit = tseg.attr("unit").unwrap_or("MiB");
                    crate::types::size::unit_scale(unit, 1)
                        .and_then(|scale| value.checked_mul(scale))
                        .ok_or_else(|| tseg.error(Code::InvalidArg, format!("unknown suffix '{unit}'")))
                })
                .transpose()?,
        })
    }

    fn write(&self, w: &mut Writer) {
        w.element("smm", |w| {
            w.attr_opt("state", self.state);
            if let Some(bytes) = self.tseg {
                const UNITS: [(u64, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
                let (shift, unit) =
                    UNITS.into_iter().find(|(shift, _)| bytes % (1 << shift) == 0 && bytes > 0).unwrap_or((0, "B"));
                w.start("tseg");
                w.attr("unit", unit);
                w.end_with_text(bytes >> shift);
            }
        });
    }
}

impl Hyperv {
    fn read(node: Node<'_>) -> Result<Self> {
        let switch = |name| node.child(name).map_or(Ok(None), |child| child.attr_value("state"));
        let nested =
            |node: Node<'_>, name| node.child(name).map_or(Ok(None), |child: Node<'_>| child.attr_value("state"));
        Ok(Hyperv {
            mode: Some(node.attr_value("mode")?.unwrap_or_default()),
            relaxed: switch("relaxed")?,
            vapic: switch("vapic")?,
            spinlocks: node.child("spinlocks").map(HypervSpinlocks::read).transpose()?.map(|mut spinlocks| {
                spinlocks.retries = spinlocks.retries.filter(|_| spinlocks.state != Some(Switch::Off));
                spinlocks
            }),
            vpindex: switch("vpindex")?,
            runtime: switch("runtime")?,
            synic: switch("synic")?,
            stimer: node
                .child("stimer")
                .map(|child| {
                    Ok::<_, crate::error::Error>(HypervStimer {
                        state: child.attr_value("state")?,
                        direct: nested(child, "direct")?.filter(|direct| *direct == Switch::On),
                    })
                })
                .transpose()?,
            reset: switch("reset")?,
            vendor_id: node.child("vendor_id").map(HypervVendorId::read).transpose()?,
            frequencies: switch("frequencies")?,
            reenlightenment: switch("reenlightenment")?,
            tlbflush: node
                .child("tlbflush")
                .map(|child| {
                    Ok::<_, crate::error::Error>(HypervTlbflush {
                        state: child.attr_value("state")?,
                        direct: nested(child, "direct")?.filter(|direct| *direct == Switch::On),
                        extended: nested(child, "extended")?.filter(|extended| *extended == Switch::On),
                    })
                })
                .transpose()?,
            ipi: switch("ipi")?,
            evmcs: switch("evmcs")?,
            avic: switch("avic")?,
            emsr_bitmap: switch("emsr_bitmap")?,
            xmm_input: switch("xmm_input")?,
        })
    }

    fn write(&self, w: &mut Writer) {
        w.element("hyperv", |w| {
            w.attr_opt("mode", self.mode);
            write_state(w, "relaxed", self.relaxed);
            write_state(w, "vapic", self.vapic);
            if let Some(spinlocks) = &self.spinlocks {
                spinlocks.write("spinlocks", w);
            }
            write_state(w, "vpindex", self.vpindex);
            write_state(w, "runtime", self.runtime);
            write_state(w, "synic", self.synic);
            if let Some(stimer) = &self.stimer {
                w.element("stimer", |w| {
                    w.attr_opt("state", stimer.state);
                    write_state(w, "direct", stimer.direct);
                });
            }
            write_state(w, "reset", self.reset);
            if let Some(vendor) = &self.vendor_id {
                vendor.write("vendor_id", w);
            }
            write_state(w, "frequencies", self.frequencies);
            write_state(w, "reenlightenment", self.reenlightenment);
            if let Some(tlbflush) = &self.tlbflush {
                w.element("tlbflush", |w| {
                    w.attr_opt("state", tlbflush.state);
                    write_state(w, "direct", tlbflush.direct);
                    write_state(w, "extended", tlbflush.extended);
                });
            }
            write_state(w, "ipi", self.ipi);
            write_state(w, "evmcs", self.evmcs);
            write_state(w, "avic", self.avic);
            write_state(w, "emsr_bitmap", self.emsr_bitmap);
            write_state(w, "xmm_input", self.xmm_input);
        });
    }
}

impl KvmFeatures {
    fn read(node: Node<'_>) -> Result<Self> {
        let switch = |name| node.child(name).map_or(Ok(None), |child| child.attr_value("state"));
        Ok(KvmFeatures {
            hidden: switch("hidden")?,
            hint_dedicated: switch("hint-dedicated")?,
            poll_control: switch("poll-control")?,
            pv_ipi: switch("pv-ipi")?,
            dirty_ring: node.child("dirty-ring").map(DirtyRing::read).transpose()?,
        })
    }

    fn write(&self, w: &mut Writer) {
        w.element("kvm", |w| {
            write_state(w, "hidden", self.hidden);
            write_state(w, "hint-dedicated", self.hint_dedicated);
            write_state(w, "poll-control", self.poll_control);
            write_state(w, "pv-ipi", self.pv_ipi);
            if let Some(ring) = &self.dirty_ring {
                ring.write("dirty-ring", w);
            }
        });
    }
}

/// Linux capabilities in libvirt's order.
pub const CAPABILITY_NAMES: &[&str] = &[
    "audit_control",
    "audit_write",
    "block_suspend",
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "ipc_lock",
    "ipc_owner",
    "kill",
    "lease",
    "linux_immutable",
    "mac_admin",
    "mac_override",
    "mknod",
    "net_admin",
    "net_bind_service",
    "net_broadcast",
    "net_raw",
    "setgid",
    "setfcap",
    "setpcap",
    "setuid",
    "sys_admin",
    "sys_boot",
    "sys_chroot",
    "sys_module",
    "sys_nice",
    "sys_pacct",
    "sys_ptrace",
    "sys_rawio",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "syslog",
    "wake_alarm",
];

impl Capabilities {
    fn read(node: Node<'_>) -> Result<Self> {
        let mut capabilities = Capabilities { policy: node.attr_value("policy")?, caps: Vec::new() };
        for name in CAPABILITY_NAMES {
            if let Some(child) = node.child(name) {
                let state = child.attr_value("state")?.unwrap_or(Switch::On);
                capabilities.caps.push((name.to_string(), state));
            }
        }
        Ok(capabilities)
    }

    fn write(&self, w: &mut Writer) {
        w.element("capabilities", |w| {
            w.attr("policy", self.policy.unwrap_or_default());
            for (name, state) in &self.caps {
                if let Some(known) = CAPABILITY_NAMES.iter().find(|known| *known == name) {
                    write_state(w, known, Some(*state));
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;

    #[test]
    fn round_trips() {
        let xml = "<features>\n  <acpi/>\n  <apic eoi='on'/>\n  <pae/>\n  <hap state='on'/>\n  <privnet/>\n  \
                   <hyperv mode='custom'>\n    <relaxed state='on'/>\n    <spinlocks state='on' retries='8191'/>\n    \
                   <stimer state='on'>\n      <direct state='on'/>\n    </stimer>\n  </hyperv>\n  \
                   <kvm>\n    <hidden state='on'/>\n  </kvm>\n  <capabilities policy='allow'>\n    <mknod state='on'/>\n  \
                   </capabilities>\n  <vmport state='off'/>\n  <gic version='3'/>\n  <smm state='on'>\n    \
                   <tseg unit='MiB'>48</tseg>\n  </smm>\n  <ioapic driver='qemu'/>\n  <vmcoreinfo state='on'/>\n</features>\n";
        assert_eq!(rewrite(xml, Features::read, Features::write).expect("reads"), xml);
    }

    #[test]
    fn an_unknown_feature_is_an_error() {
        let error = rewrite("<features><acpii/></features>", Features::read, |_, _| {}).expect_err("refused");
        assert_eq!(error.code, Code::ConfigUnsupported);
        assert!(error.detail.starts_with("unexpected feature 'acpii'; did you mean 'acpi'?"), "{}", error.detail);
    }
}
