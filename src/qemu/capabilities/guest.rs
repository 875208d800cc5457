//! The `<guest>` part of `virConnectGetCapabilities`.

use super::QemuCaps;
use super::markup::Markup;

/// `<guest>` elements for one emulator, without outer indentation.
pub fn guest_xml(caps: &QemuCaps) -> String {
    let mut m = Markup::default();
    m.element("guest", &[], |m| {
        m.text("os_type", &[], "hvm");
        m.element("arch", &[("name", &caps.arch)], |m| {
            m.text("wordsize", &[], &caps.wordsize().to_string());
            m.text("emulator", &[], &caps.binary.path);
            let default = caps.default_machine().map(|machine| machine.name.as_str());
            let (first, rest): (Vec<_>, Vec<_>) =
                caps.machines.iter().partition(|machine| Some(machine.name.as_str()) == default);
            for machine in first.into_iter().chain(rest) {
                let max = machine.max_cpus.to_string();
                let mut attributes = vec![("maxCpus", max.as_str())];
                if machine.deprecated {
                    attributes.push(("deprecated", "yes"));
                }
                m.text("machine", &attributes, &machine.name);
                if let Some(alias) = &machine.alias {
                    attributes.insert(0, ("canonical", &machine.name));
                    m.text("machine", &attributes, alias);
                }
            }
            for (name, there) in [("qemu", caps.tcg.is_some()), ("kvm", caps.kvm.is_some())] {
                if there {
                    m.empty("domain", &[("type", name)]);
                }
            }
        });
        m.element("features", &[], |m| {
            if caps.arch == "i386" {
                m.empty("pae", &[]);
                m.empty("nonpae", &[]);
            }
            m.empty("acpi", &[("default", "on"), ("toggle", "yes")]);
            m.empty("apic", &[("default", "on"), ("toggle", "no")]);
            m.empty("cpuselection", &[]);
            m.empty("deviceboot", &[]);
            m.empty("disksnapshot", &[("default", "on"), ("toggle", "no")]);
            m.empty("externalSnapshot", &[]);
        });
    });
    m.finish()
}
