//! Nova's XML on the QEMU driver: define, dump, define again; nothing changes any more.

use crate::harness::bus::{DOMAIN, QEMU};
use crate::harness::{Guest, Lab, fixture};

/// The first definition fills in addresses and defaults; from then on dump and define are each other's inverse.
fn round_trip(lab: &Lab, xml: &str, name: &str) -> String {
    lab.define(xml);
    let first = lab.ok(&["dumpxml", "--inactive", name]);
    lab.define(&first);
    let second = lab.ok(&["dumpxml", "--inactive", name]);
    assert_eq!(first, second);
    // And the text that went in is not silently poorer: what a client put in <metadata> is there byte for byte.
    let inside = |text: &str| {
        let start = text.find("<nova:instance").unwrap();
        let end = text.find("</nova:instance>").unwrap();
        text[start..end].to_string()
    };
    assert_eq!(inside(xml), inside(&first), "metadata");
    first
}

#[test]
fn the_spawn_sample_survives() {
    let Some(lab) = Lab::qemu() else { return };
    let xml = fixture("nova/qemu-spawn-domain.xml").replace("@WORKDIR@", lab.work().to_str().unwrap());
    let dumped = round_trip(&lab, &xml, "novaacc-0000dc71");
    for word in [
        "<nova:name>Acc Näme &lt;1&gt;</nova:name>",
        "<vmcoreinfo",
        "<iothreads>1</iothreads>",
        "tap769dc43b-19",
        "qbr769dc43b-19",
        "<mtu size='1450'/>",
        "<backend model='random'>/dev/urandom</backend>",
        "<stats period='10'/>",
        "freePageReporting='on'",
        "type='pci' domain='0x0000'",
    ] {
        assert!(dumped.contains(word), "the dump should have {word}:\n{dumped}");
    }
    lab.finish();
}

#[test]
fn the_seed_sample_survives_without_its_emulator() {
    let Some(lab) = Lab::qemu() else { return };
    let xml = fixture("nova/seed-nova-domain.xml");
    let dumped = round_trip(&lab, &xml, "instance-00000002");
    for word in ["<emulator>/usr/libexec/qemu-kvm</emulator>", "pc-i440fx-rhel7.0.0", "<partition>/machine</partition>"]
    {
        assert!(dumped.contains(word), "the dump should have {word}:\n{dumped}");
    }
    assert!(!dumped.contains("/dev/pts/3"), "the pty of a former run is no part of a definition");
    // Defined, yes; to run it somebody must install its emulator.
    lab.fails_with(&["start", "instance-00000002"], &["/usr/libexec/qemu-kvm"]);
    lab.finish();
}

#[test]
fn an_emulator_without_the_machine_is_refused_at_define() {
    let Some(lab) = Lab::qemu() else { return };
    let guest = Guest::files(&lab, 1, None);
    let file = lab.write("x.xml", &guest.xml.replace("machine=\"pc\"", "machine=\"pc-i440fx-rhel7.0.0\""));
    lab.fails_with(&["define", &file], &["pc-i440fx-rhel7.0.0"]);
    assert_eq!(lab.names(), Vec::<String>::new());
    lab.finish();
}

#[test]
fn plan_shows_a_start_without_doing_it() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::blank(&mut lab, 1);
    let file = lab.write("x.xml", &guest.xml);
    let text = lab.ok(&["plan", &file]);
    for word in ["qemu-system-x86_64", "-sandbox", &guest.tap, &guest.bridge, "disk"] {
        assert!(text.contains(word), "the plan should show {word}:\n{text}");
    }
    assert_eq!(lab.names(), Vec::<String>::new(), "a plan defines nothing");
    lab.check_no_guest_left();
    lab.finish();
}

#[test]
fn capabilities_name_what_is_installed() {
    let Some(lab) = Lab::qemu() else { return };
    let text = lab.ok(&["capabilities"]);
    for word in ["<capabilities>", "<arch>x86_64</arch>", "<domain type='qemu'", "qemu-system-x86_64"] {
        assert!(text.contains(word), "capabilities should have {word}:\n{text}");
    }
    let text = lab.ok(&["domcapabilities"]);
    for word in ["<domainCapabilities>", "<disk supported='yes'>", "<enum name='bus'>"] {
        assert!(text.contains(word), "domain capabilities should have {word}:\n{text}");
    }
    assert!(lab.ok(&["version"]).contains("QEMU"), "version names the hypervisor");
    lab.finish();
}

#[test]
fn the_probe_is_kept_across_restarts() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::files(&lab, 1, None);
    lab.define(&guest.xml);
    let before = lab.ok(&["dumpxml", "--inactive", &guest.name]);
    lab.restart();
    assert_eq!(lab.ok(&["dumpxml", "--inactive", &guest.name]), before);
    let bus = lab.bus();
    assert_eq!(bus.state(&bus.lookup(QEMU, &guest.name)).0, 5);
    assert!(String::try_from(bus.property(&bus.lookup(QEMU, &guest.name), DOMAIN, "OSType")).unwrap() == "hvm");
    drop(bus);
    lab.finish();
}
