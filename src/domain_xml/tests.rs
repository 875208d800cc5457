//! Whole documents: Nova's samples, stability, hostile input, random definitions.

use proptest::prelude::*;
use rstest::rstest;

use super::device::*;
use super::memory::Memory;
use super::os::Os;
use super::tune::Vcpu;
use super::*;
use crate::error::Code;
use crate::types::{MacAddr, PciAddress, Uuid};

const SPAWN: &str = include_str!("../../tests/fixtures/nova/qemu-spawn-domain.xml");
const RESCUE: &str = include_str!("../../tests/fixtures/nova/qemu-rescue-domain.xml");
const STABLE_RESCUE: &str = include_str!("../../tests/fixtures/nova/qemu-rescue-stable-domain.xml");
const LXC: &str = include_str!("../../tests/fixtures/nova/lxc-spawn-domain.xml");
const SEED: &str = include_str!("../../tests/fixtures/nova/seed-nova-domain.xml");
const LIVE_QEMU: &str = include_str!("../../tests/fixtures/nova/qemu-spawn-domain-as-returned.xml");
const LIVE_LXC: &str = include_str!("../../tests/fixtures/nova/lxc-spawn-domain-as-returned.xml");
const EXAMPLE: &str = include_str!("../../examples/nova-vm.xml");
const MINIMAL: &str = include_str!("../../examples/minimal-vm.xml");

const INACTIVE: FormatOptions = FormatOptions { secure: true, inactive: true, migratable: false };
const LIVE: FormatOptions = FormatOptions { secure: false, inactive: false, migratable: false };

/// What libvirt returned for a running guest comes out byte for byte.
#[rstest]
#[case(LIVE_QEMU)]
#[case(LIVE_LXC)]
fn live_forms_are_libvirts(#[case] returned: &str) {
    let parsed = parse(returned).expect("parses");
    assert_eq!(parsed.warnings, vec![]);
    // Newer releases show clusters as well.
    let returned = returned.replace("dies='1' cores", "dies='1' clusters='1' cores");
    similar(&returned, &format(&parsed.def, LIVE));
}

fn similar(expected: &str, actual: &str) {
    for (number, (expected, actual)) in expected.lines().zip(actual.lines()).enumerate() {
        assert_eq!(expected, actual, "line {}", number + 1);
    }
    assert_eq!(expected.trim_end(), actual.trim_end());
}

/// define -> dump -> define -> dump changes nothing, live and inactive.
#[rstest]
#[case(SPAWN)]
#[case(RESCUE)]
#[case(STABLE_RESCUE)]
#[case(LXC)]
#[case(SEED)]
#[case(LIVE_QEMU)]
#[case(LIVE_LXC)]
#[case(EXAMPLE)]
#[case(MINIMAL)]
fn dumps_are_stable(#[case] xml: &str) {
    let first = parse_inactive(xml).expect("parses");
    assert_eq!(first.warnings, vec![], "every element of a sample is known");
    let dump = format(&first.def, INACTIVE);
    let second = parse_inactive(&dump).expect("parses its own dump");
    assert_eq!(second.warnings, vec![]);
    assert!(second.def == first.def, "{dump}");
    similar(&dump, &format(&second.def, INACTIVE));
    let live = parse(xml).expect("parses");
    let again = parse(&format(&live.def, FormatOptions { secure: true, ..LIVE })).expect("parses its own dump");
    assert!(again.def == live.def, "{}", format(&again.def, LIVE));
}

#[test]
fn an_inactive_definition_shows_nothing_of_a_run() {
    let dump = format(&parse(LIVE_QEMU).expect("parses").def, INACTIVE);
    for part in ["id='53'", "<alias", "/dev/pts", "tty=", "5900", "index='2'", "<label>", "<imagelabel>"] {
        assert!(!dump.contains(part), "{part} in {dump}");
    }
    let parsed = parse_inactive(LIVE_QEMU).expect("parses");
    similar(&dump, &format(&parsed.def, INACTIVE));
}

/// The heart of Nova's request in libvirt's own form.
#[test]
fn nova_s_devices_in_libvirts_form() {
    let dump = format(&parse_inactive(SPAWN).expect("parses").def, INACTIVE);
    for part in [
        "    <interface type='bridge'>\n      <mac address='52:54:00:ac:ce:01'/>\n      <source bridge='qbr769dc43b-19'/>\n      \
         <target dev='tap769dc43b-19'/>\n      <model type='virtio'/>\n      <driver name='qemu'/>\n      \
         <mtu size='1450'/>\n    </interface>\n",
        "    <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'>\n      \
         <listen type='address' address='127.0.0.1'/>\n    </graphics>\n",
        "    <video>\n      <model type='virtio' heads='1' primary='yes'/>\n    </video>\n",
        "    <rng model='virtio'>\n      <backend model='random'>/dev/urandom</backend>\n    </rng>\n",
        "    <boot dev='hd'/>\n    <smbios mode='sysinfo'/>\n  </os>\n",
        "      <nova:name>Acc Näme &lt;1&gt;</nova:name>\n",
    ] {
        assert!(dump.contains(part), "{part}\nnot in\n{dump}");
    }
}

#[rstest]
#[case(include_str!("../../tests/fixtures/nova/qemu-attach-interface-bridge.xml"), "interface")]
#[case(include_str!("../../tests/fixtures/nova/qemu-attach-interface-tap.xml"), "interface")]
#[case(include_str!("../../tests/fixtures/nova/qemu-attach-interface-ovs_tap.xml"), "interface")]
#[case(include_str!("../../tests/fixtures/nova/lxc-attach-interface-bridge.xml"), "interface")]
#[case(include_str!("../../tests/fixtures/nova/qemu-attach-volume.xml"), "disk")]
#[case(include_str!("../../tests/fixtures/nova/qemu-attach-luks-volume.xml"), "disk")]
fn attached_devices(#[case] xml: &str, #[case] name: &str) {
    let (device, warnings) = parse_device(xml).expect("parses");
    assert_eq!(warnings, vec![]);
    let text = format_device(&device, LIVE);
    assert!(text.starts_with(&format!("<{name} type=")), "{text}");
    assert_eq!(parse_device(&text).expect("parses").0, device);
}

#[test]
fn what_nobody_knows_is_dropped_with_a_warning() {
    let xml = "<domain type='qemu'>\n  <name>a</name>\n  <memory>1</memory>\n  <vcpus_>2</vcpus_>\n  \
               <os><type>hvm</type></os>\n  <name>b</name>\n  <devices>\n    <disc/>\n    <disk>\n      \
               <target dev='vda' buss='ide'/><source file='/x'/>\n    </disk>\n  </devices>\n</domain>\n";
    let parsed = parse(xml).expect("parses");
    assert_eq!(parsed.def.name, "a", "the first counts, as in libvirt");
    let told: Vec<(u32, u32, &str, bool)> = parsed
        .warnings
        .iter()
        .map(|w| (w.line, w.column, w.path.as_str(), w.message.contains("did you mean")))
        .collect();
    assert_eq!(
        told,
        [
            (4, 3, "domain/vcpus_", true),
            (6, 3, "domain/name[2]", false),
            (8, 5, "domain/devices/disc", true),
            (10, 25, "domain/devices/disk/target/@buss", true),
        ]
    );
    assert!(parsed.warnings[2].message.contains("did you mean 'disk'?"), "{}", parsed.warnings[2].message);
}

const HEAD: &str = "<domain type='qemu'>\n<name>a</name>\n<memory>1</memory>\n<os><type>hvm</type></os>\n";

/// Every error says where, and what would have been right.
#[rstest]
#[case(
    "<vcpu>x</vcpu></domain>",
    Code::XmlError,
    "maximum vcpus count must be an integer (line 5, column 1, domain/vcpu)"
)]
#[case(
    "<devices><disk type='fil'/></devices></domain>",
    Code::XmlError,
    "Invalid value for attribute 'type' in element 'disk': 'fil'. did you mean 'file'? (line 5, column 16, domain/devices/disk/@type)"
)]
#[case(
    "<devices><disk/><disk device='x'/></devices></domain>",
    Code::NoTarget,
    " (line 5, column 10, domain/devices/disk[1])"
)]
#[case(
    "<on_reboot>restrat</on_reboot></domain>",
    Code::ConfigUnsupported,
    "unknown on_reboot action: restrat; did you mean 'restart'? (line 5, column 1, domain/on_reboot)"
)]
#[case(
    "<uuid>zz</uuid></domain>",
    Code::InternalError,
    "malformed uuid element: 'zz' is no UUID (line 5, column 1, domain/uuid)"
)]
#[case(
    "<currentMemory unit='GB i'>1</currentMemory></domain>",
    Code::InvalidArg,
    "unknown suffix 'GB i' (line 5, column 1, domain/currentMemory)"
)]
#[case(
    "<devices><interface type='bridge'/></devices></domain>",
    Code::XmlError,
    "interface type='bridge' requires a 'source' element (line 5, column 10, domain/devices/interface)"
)]
#[case(
    "<title>a",
    Code::XmlDetail,
    "(domain_definition):5: Premature end of data in tag title line 5\n<title>a\n--------^"
)]
fn errors_help(#[case] rest: &str, #[case] code: Code, #[case] detail: &str) {
    let error = parse(&format!("{HEAD}{rest}")).expect_err("refused");
    assert_eq!((error.code, error.detail.as_str()), (code, detail));
}

#[rstest]
#[case("", "Document is empty")]
#[case("<foo/>", "expecting root element of 'domain', not 'foo'")]
#[case("<domain/>", "missing domain type attribute")]
#[case("<domain type='qemmu'/>", "invalid domain type qemmu; did you mean 'qemu'?")]
#[case("<domain type='qemu'/>", "missing name information")]
#[case("<domain type='qemu'><name>a/b</name></domain>", "name a/b cannot contain '/'")]
#[case("<domain type='qemu'><name>a</name></domain>", "an os <type> must be specified")]
#[case("<domain type='qemu'><name>a</name><os><type>hvm</type></os></domain>", "Memory size must be specified")]
#[case("<domain type='qemu'><name>&x;</name></domain>", "Entity 'x' not defined")]
fn incomplete_documents(#[case] xml: &str, #[case] expected: &str) {
    let error = parse(xml).expect_err("refused");
    assert!(error.detail.contains(expected), "{}", error.detail);
}

#[test]
fn hostile_documents_end_in_errors() {
    let deep = format!("{HEAD}{}", "<a>".repeat(100_000));
    assert!(parse(&deep).expect_err("refused").detail.contains("Excessive depth"));
    let mut laughs = String::from("<!DOCTYPE d [<!ENTITY l0 'ha ha ha ha'>");
    for i in 1..20 {
        laughs.push_str(&format!("<!ENTITY l{i} '{}'>", format!("&l{};", i - 1).repeat(10)));
    }
    laughs.push_str("]><domain type='qemu'><name>&l19;</name></domain>");
    assert!(parse(&laughs).expect_err("refused").detail.contains("amplification"));
    let external =
        "<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><domain type='qemu'><name>&e;</name></domain>";
    assert!(parse(external).expect_err("refused").detail.contains("external"));
    let chain = format!(
        "{}{}",
        "<backingStore type='file'><format type='raw'/><source file='/x'/>".repeat(300),
        "</backingStore>".repeat(300)
    );
    let disk = format!("{HEAD}<devices><disk>{chain}<target dev='vda'/></disk></devices></domain>");
    assert!(parse(&disk).expect_err("refused").detail.contains("Excessive depth"));
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 _./<>&'\"äß-]{1,20}".prop_map(|text| text.trim().to_string()).prop_filter("empty", |t| !t.is_empty())
}

fn disks() -> impl Strategy<Value = Vec<Disk>> {
    let one = (
        text().prop_map(Some),
        prop::sample::select(StorageFormat::ALL),
        prop::option::of(prop::sample::select(DiskCache::ALL)),
        prop::option::of(text()),
        any::<bool>(),
        prop::option::of(1u32..9),
        prop::option::of((0u32..32, 0u32..8)),
    );
    prop::collection::vec(one, 0..5).prop_map(|disks| {
        let letters = "abcdefgh".chars();
        letters
            .zip(disks)
            .map(|(letter, (path, format, cache, serial, readonly, iothread, slot))| Disk {
                source: StorageSource { path, format: Some(format), ..Default::default() },
                driver: DiskDriver { cache, iothread, ..Default::default() },
                target: DiskTarget {
                    dev: Some(format!("vd{letter}")),
                    bus: Some(DiskBus::Virtio),
                    ..Default::default()
                },
                serial,
                readonly,
                info: DeviceInfo {
                    address: slot.map(|(slot, function)| {
                        DeviceAddress::pci(PciAddress { slot, function, ..Default::default() })
                    }),
                    ..Default::default()
                },
                ..Default::default()
            })
            .collect()
    })
}

fn interfaces() -> impl Strategy<Value = Vec<Interface>> {
    let source = prop_oneof![
        Just(InterfaceSource::Ethernet),
        text().prop_map(|bridge| InterfaceSource::Bridge { bridge }),
        text().prop_map(|dev| InterfaceSource::Direct { dev, mode: Some(MacvtapMode::Bridge) }),
        text().prop_map(|name| InterfaceSource::Network(NetworkRef { network: Some(name), ..Default::default() })),
    ];
    let one = (source, any::<[u8; 5]>(), prop::option::of(68u32..9000), prop::option::of("tap[0-9a-f]{8}"));
    prop::collection::vec(one, 0..4).prop_map(|nics| {
        nics.into_iter()
            .map(|(source, [b, c, d, e, f], mtu, dev)| Interface {
                source,
                mac: Some(MacAddr([0x52, b, c, d, e, f])),
                mtu,
                target: InterfaceTarget { dev, ..Default::default() },
                ..Default::default()
            })
            .collect()
    })
}

prop_compose! {
    fn definitions()(
        name in "[a-z][a-z0-9-]{0,20}",
        uuid in any::<u128>(),
        title in prop::option::of(text()),
        size in 1u64..1 << 40,
        vcpus in 1u32..512,
        cmdline in prop::option::of(text()),
        disks in disks(),
        interfaces in interfaces(),
        partition in prop::option::of(text()),
    ) -> DomainDef {
        let mut def = DomainDef {
            name,
            uuid: Some(Uuid::from_u128(uuid)),
            title,
            memory: Memory { size, ..Default::default() },
            vcpu: Vcpu { max: vcpus, ..Default::default() },
            os: Os { cmdline, ..Default::default() },
            disks,
            interfaces,
            ..Default::default()
        };
        def.resource.partition = partition;
        post_parse::post_parse(&mut def).expect("a valid definition");
        def
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn parse_undoes_format(def in definitions()) {
        let parsed = parse(&format(&def, LIVE)).expect("parses");
        prop_assert_eq!(parsed.warnings, vec![]);
        prop_assert_eq!(parsed.def, def);
    }

    #[test]
    fn any_bytes_end_in_an_answer(xml in "[<>/a-z'=& \\[\\]!;-]{0,200}") {
        let _ = parse(&xml);
    }

    #[test]
    fn damaged_documents_end_in_an_answer(cut in 0usize..6000, insert in "[<>&'/a]{0,3}") {
        let at = (0..=cut.min(SPAWN.len())).rev().find(|at| SPAWN.is_char_boundary(*at)).unwrap_or(0);
        let _ = parse(&format!("{}{insert}{}", &SPAWN[..at], &SPAWN[at..]));
        let _ = parse(&SPAWN[..at]);
    }
}
