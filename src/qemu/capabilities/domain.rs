//! `virConnectGetDomainCapabilities`: what one emulator, machine and accelerator can do *through this driver*.
//!
//! A device QEMU has but `command` cannot render yet is shown as unsupported: clients plan by this document.

use super::markup::Markup;
use super::{AccelCaps, Machine, QemuCaps};

/// Which domain the document is about; everything resolved.
#[derive(Debug)]
pub struct Subject<'a> {
    pub caps: &'a QemuCaps,
    pub machine: &'a Machine,
    /// `kvm` or `qemu`.
    pub virt_type: &'a str,
    pub accel: &'a AccelCaps,
}

/// Keeps the words whose QEMU type exists.
fn known<'a>(caps: &QemuCaps, words: &[(&'a str, &str)]) -> Vec<&'a str> {
    words.iter().filter(|(_, kind)| kind.is_empty() || caps.has_type(kind)).map(|(word, _)| *word).collect()
}

/// The document.
pub fn domain_xml(subject: &Subject<'_>) -> String {
    let Subject { caps, machine, virt_type, accel } = subject;
    let mut m = Markup::default();
    m.element("domainCapabilities", &[], |m| {
        m.text("path", &[], &caps.binary.path);
        m.text("domain", &[], virt_type);
        m.text("machine", &[], &machine.name);
        m.text("arch", &[], &caps.arch);
        m.empty("vcpu", &[("max", &machine.max_cpus.to_string())]);
        m.supported("iothreads", caps.has_type("iothread"));
        m.element("os", &[("supported", "yes")], |m| {
            m.enumeration("firmware", &[]);
            m.element("loader", &[("supported", "yes")], |m| {
                m.enumeration("type", &["rom"]);
                m.enumeration("readonly", &["yes", "no"]);
                m.enumeration("secure", &["no"]);
            });
        });
        cpu(m, virt_type, accel);
        m.element("memoryBacking", &[("supported", "yes")], |m| {
            m.enumeration("sourceType", &["anonymous", "memfd"]);
        });
        m.element("devices", &[("supported", "yes")], |m| devices(m, subject));
        m.element("features", &[], |m| {
            m.unsupported("gic");
            m.supported("vmcoreinfo", caps.has_type("vmcoreinfo"));
            m.unsupported("genid");
            m.supported("backingStoreInput", true);
            m.unsupported("backup");
            m.unsupported("async-teardown");
            m.unsupported("ps2");
            m.unsupported("sev");
            m.unsupported("sgx");
            m.unsupported("launchSecurity");
        });
    });
    // libvirt's root and <devices> carry no attribute of their own.
    m.finish().replacen("<devices supported='yes'>", "<devices>", 1)
}

fn cpu(m: &mut Markup, virt_type: &str, accel: &AccelCaps) {
    m.element("cpu", &[], |m| {
        if virt_type == "kvm" {
            m.element("mode", &[("name", "host-passthrough"), ("supported", "yes")], |m| {
                m.enumeration("hostPassthroughMigratable", &["on", "off"]);
            });
        } else {
            m.empty("mode", &[("name", "host-passthrough"), ("supported", "no")]);
        }
        m.element("mode", &[("name", "maximum"), ("supported", "yes")], |m| {
            m.enumeration("maximumMigratable", &["on", "off"]);
        });
        match &accel.host_model {
            None => m.empty("mode", &[("name", "host-model"), ("supported", "no")]),
            Some(host) => m.element("mode", &[("name", "host-model"), ("supported", "yes")], |m| {
                m.text("model", &[("fallback", "forbid")], &host.model);
                if let Some(vendor) = &host.vendor {
                    m.text("vendor", &[], vendor);
                }
                for (name, on) in &host.features {
                    let policy = if *on { "require" } else { "disable" };
                    m.empty("feature", &[("policy", policy), ("name", name)]);
                }
            }),
        }
        m.element("mode", &[("name", "custom"), ("supported", "yes")], |m| {
            for model in accel.cpus.iter().filter(|model| !matches!(model.name.as_str(), "host" | "max" | "base")) {
                let usable = if model.usable() { "yes" } else { "no" };
                let mut attributes = vec![("usable", usable)];
                if model.deprecated {
                    attributes.push(("deprecated", "yes"));
                }
                attributes.push(("vendor", "unknown"));
                m.text("model", &attributes, &model.name);
                if !model.usable() {
                    m.element("blockers", &[("model", &model.name)], |m| {
                        for feature in &model.unavailable {
                            m.empty("feature", &[("name", super::feature_from_qemu(feature))]);
                        }
                    });
                }
            }
        });
    });
}

fn devices(m: &mut Markup, subject: &Subject<'_>) {
    let caps = subject.caps;
    let q35 = subject.machine.name.contains("q35");
    m.element("disk", &[("supported", "yes")], |m| {
        m.enumeration("diskDevice", &["disk", "cdrom", "floppy", "lun"]);
        let mut buses = if q35 { vec![("sata", "ide-hd")] } else { vec![("ide", "ide-hd")] };
        buses.extend([("fdc", "floppy"), ("scsi", "scsi-hd"), ("virtio", "virtio-blk-pci"), ("usb", "usb-storage")]);
        if !q35 {
            buses.push(("sata", "ich9-ahci"));
        }
        m.enumeration("bus", &known(caps, &buses));
        m.enumeration("model", &["virtio", "virtio-transitional", "virtio-non-transitional"]);
    });
    m.element("graphics", &[("supported", "yes")], |m| m.enumeration("type", &["vnc"]));
    m.element("video", &[("supported", "yes")], |m| {
        let models = [
            ("vga", "VGA"),
            ("cirrus", "cirrus-vga"),
            ("vmvga", "vmware-svga"),
            ("qxl", "qxl-vga"),
            ("virtio", "virtio-vga"),
            ("none", ""),
            ("bochs", "bochs-display"),
        ];
        m.enumeration("modelType", &known(caps, &models));
    });
    m.unsupported("hostdev");
    m.element("rng", &[("supported", "yes")], |m| {
        m.enumeration("model", &["virtio", "virtio-transitional", "virtio-non-transitional"]);
        m.enumeration("backendModel", &known(caps, &[("random", "rng-random"), ("builtin", "rng-builtin")]));
    });
    m.unsupported("filesystem");
    m.unsupported("tpm");
    m.unsupported("redirdev");
    m.element("channel", &[("supported", "yes")], |m| m.enumeration("type", &["pty", "unix"]));
    m.unsupported("crypto");
    m.element("interface", &[("supported", "yes")], |m| m.enumeration("backendType", &["default"]));
    m.element("panic", &[("supported", "yes")], |m| {
        m.enumeration("model", &known(caps, &[("isa", "pvpanic"), ("hyperv", "")]));
    });
    m.element("console", &[("supported", "yes")], |m| {
        m.enumeration("type", &["null", "pty", "file", "tcp", "unix"]);
    });
}
