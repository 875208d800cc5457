//! Secrets through virsh, domus and D-Bus; what is on disk, who may read it, and what a killed daemon leaves.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use zbus::OwnedObjectPath;

use crate::harness::bus::{CONNECT, LXC, QEMU, TEST};
use crate::harness::{DEADLINE, Lab, Virsh, eventually, leaks};
use crate::recovery::points;

const UUID: &str = "22e1353d-c27e-4d6d-bf15-465053e6ba0b";
const OTHER: &str = "27f25d34-aea6-4e2a-be85-fa2c18380be8";
const VALUE: &str = "open sesame, said nobody";

fn xml(uuid: &str, attributes: &str, volume: &str) -> String {
    format!(
        "<secret{attributes}><uuid>{uuid}</uuid><description>d</description>\
         <usage type='volume'><volume>{volume}</volume></usage></secret>"
    )
}

/// A daemon whose objects are on disk; it runs no guest.
fn lab() -> Lab {
    let lab = Lab::bare(&[]);
    lab.configure("drivers = ['qemu', 'lxc']\n");
    lab
}

fn value_file(lab: &Lab, uuid: &str) -> PathBuf {
    lab.root().join("state/host/secrets/values").join(uuid)
}

fn definition_file(lab: &Lab, uuid: &str) -> PathBuf {
    lab.root().join("state/host/secrets/definitions").join(format!("{uuid}.xml"))
}

#[test]
fn a_secret_lives_under_virsh() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let file = lab.write("s.xml", &xml(UUID, "", "/images/one"));
    assert!(virsh.ok(&["secret-define", &file]).contains(&format!("Secret {UUID} created")));
    let list = virsh.ok(&["secret-list"]);
    assert!(list.contains(&format!(" {UUID}   volume /images/one")), "{list}");
    let dump = virsh.ok(&["secret-dumpxml", UUID]);
    assert!(dump.starts_with("<secret ephemeral='no' private='no'>\n"), "{dump}");
    virsh.fails(&["secret-get-value", UUID], "does not have a value");
    let plain = lab.write("value", VALUE);
    assert!(virsh.ok(&["secret-set-value", UUID, "--file", &plain, "--plain"]).contains("Secret value set"));
    assert_eq!(virsh.ok(&["secret-get-value", UUID, "--plain"]).trim(), VALUE);
    let ephemeral = lab.write("e.xml", &xml(OTHER, " ephemeral='yes' private='yes'", "/images/two"));
    virsh.ok(&["secret-define", "--validate", &ephemeral]);
    virsh.ok(&["secret-set-value", OTHER, "--file", &plain, "--plain"]);
    virsh.fails(&["secret-get-value", OTHER], "secret is private");
    let listed = |filter: &str| virsh.ok(&["secret-list", filter]);
    assert!(listed("--ephemeral").contains(OTHER) && !listed("--ephemeral").contains(UUID));
    assert!(listed("--no-private").contains(UUID) && !listed("--no-private").contains(OTHER));
    assert!(virsh.ok(&["secret-undefine", UUID]).contains("deleted"));
    virsh.fails(&["secret-dumpxml", UUID], "no secret with matching uuid");
    lab.finish();
}

#[test]
fn refusals_are_libvirts() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let define = |text: &str| virsh.run(&["secret-define", &lab.write("s.xml", text)]).stderr;
    assert!(define(&xml(UUID, " private='yes'", "/a")).is_empty());
    let taken = format!("internal error: a secret with UUID {UUID} is already defined for use with /a");
    for (text, expected) in [
        ("<foo/>", "XML error: expecting root element of 'secret', not 'foo'"),
        ("<secret", "(secret_definition):1: "),
        ("<secret><usage type='foo'/></secret>", "Invalid value for attribute 'type' in element 'usage': 'foo'."),
        ("<secret><usage type='ceph'/></secret>", "internal error: Ceph usage specified, but name is missing"),
        (&xml(OTHER, "", "/a"), &taken),
        (&xml(UUID, "", "/b"), &taken),
        (&xml(UUID, "", "/a"), "internal error: cannot change private flag on existing secret"),
    ] {
        let said = define(text);
        assert!(said.contains(expected), "{text}\n{said}");
    }
    let file = lab.write("s.xml", "<secret><foo/></secret>");
    virsh.fails(&["secret-define", "--validate", &file], "XML document failed to validate against schema");
    // A value is no read: not even of what is not private.
    let reader = Virsh::on(&lab, "test:///default", "libvirt-sock-ro").unwrap();
    assert!(reader.ok(&["secret-list"]).contains(UUID));
    reader.fails(&["secret-get-value", UUID], "read only");
    reader.fails(&["secret-undefine", UUID], "read only");
    lab.finish();
}

#[test]
fn domus_prints_what_virsh_prints() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let one = lab.write("s.xml", &xml(UUID, "", "/images/one"));
    let two = lab.write("t.xml", &format!("<secret private='yes'><uuid>{OTHER}</uuid></secret>"));
    let bad = lab.write("bad.xml", "<secret><usage type='foo'/></secret>");
    let missing = lab.work().join("missing").to_str().unwrap().to_string();
    let base64 = lab.write("base64", "b3BlbiBz\nZXNhbWU=\n");
    let plain = lab.write("plain", "\u{0}\u{1}x");
    for arguments in [
        &["secret-list"][..],
        &["secret-define", &one],
        &["secret-define", "--validate", "--file", &two],
        &["secret-define", &missing],
        &["secret-list"],
        &["-q", "secret-list", "--no-private"],
        &["secret-list", "--ephemeral"],
        &["secret-dumpxml", UUID],
        &["secret-dumpxml", "--secret", OTHER],
        &["secret-dumpxml", "nonsense"],
        &["secret-dumpxml", "c7a5fdbd-edaf-9455-926a-d65c16db1809"],
        &["secret-get-value", UUID],
        &["secret-get-value", OTHER],
        &["secret-set-value", UUID],
        &["secret-set-value", UUID, "b3Blbg=="],
        &["secret-set-value", UUID, "--base64", "b3Blbg==", "--file", &base64],
        &["secret-set-value", UUID, "b3Blbg==", "--plain"],
        &["secret-set-value", "--secret", UUID, "--file", &missing],
        &["secret-set-value", UUID, "--file", &base64],
        &["secret-get-value", UUID],
        &["secret-get-value", UUID, "--plain"],
        &["secret-set-value", UUID, "--plain", "--file", &plain],
        &["secret-get-value", UUID, "--plain"],
        &["secret-event", "--list"],
        &["secret-event"],
        &["secret-event", "--event", "foo"],
        &["secret-undefine", OTHER],
        &["secret-undefine", OTHER],
    ] {
        let theirs = virsh.run(arguments);
        // What virsh has done already must be there to be done again.
        if arguments == ["secret-undefine", OTHER] && theirs.success() {
            virsh.ok(&["secret-define", &two]);
        }
        let ours = lab.run(arguments);
        assert_eq!(ours.stdout, theirs.stdout, "{arguments:?}");
        assert_eq!(ours.stderr.trim_end(), theirs.stderr.trim_end(), "{arguments:?}");
        assert_eq!(ours.code, theirs.code, "{arguments:?}");
    }
    // Ours say where in the document it is.
    let said = lab.fails(&["secret-define", &bad]);
    let place =
        format!("error: Failed to set attributes from {bad}\nerror: at line 1, column 16, secret/usage/@type\n");
    assert!(said.starts_with(&place), "{said}");
    assert!(lab.fails(&["secret-set-value", UUID, "--base64", "%%%"]).contains("Invalid base64 data"));
    let json: serde_json::Value = serde_json::from_str(&lab.ok(&["secret-list", "--json"])).unwrap();
    assert_eq!(json, serde_json::json!([{ "uuid": UUID, "usage": "volume", "id": "/images/one" }]));
    lab.finish();
}

#[test]
fn virtual_machines_and_containers_share_them() {
    let mut lab = lab();
    lab.start();
    let bus = lab.bus();
    let below_qemu: OwnedObjectPath = bus.call(QEMU, CONNECT, "SecretDefineXML", &(xml(UUID, "", "/a"), 0u32));
    let below_lxc: Vec<OwnedObjectPath> = bus.call(LXC, CONNECT, "ListSecrets", &(0u32,));
    assert_eq!(below_lxc.len(), 1);
    assert_eq!(below_lxc[0].replace("/LXC/", "/QEMU/"), below_qemu.as_str());
    let by_usage: OwnedObjectPath = bus.call(LXC, CONNECT, "SecretLookupByUsage", &(1i32, "/a"));
    assert_eq!(by_usage, below_lxc[0]);
    assert!(bus.introspect(&format!("{LXC}/secret")).contains(below_lxc[0].rsplit('/').next().unwrap()));
    let mut signals = bus.listen();
    let () = bus.call(&below_lxc[0], "org.libvirt.Secret", "SetValue", &(VALUE.as_bytes(), 0u32));
    let value: Vec<u8> = bus.call(&below_qemu, "org.libvirt.Secret", "GetValue", &(0u32,));
    assert_eq!(value, VALUE.as_bytes());
    let () = bus.call(&below_qemu, "org.libvirt.Secret", "Undefine", &());
    let refused = bus.refused(&below_lxc[0], "org.libvirt.Secret", "GetXMLDesc", &(0u32,));
    assert!(refused.message.starts_with("Secret not found: no secret with matching uuid"), "{}", refused.message);
    // Each event below both roots, in one order.
    let seen: Vec<String> =
        (0..4).filter_map(|_| signals.next(DEADLINE)).map(|(path, member, _)| path + " " + &member).collect();
    let expected = [
        format!("{} ValueChanged", below_lxc[0].as_str()),
        format!("{} ValueChanged", below_qemu.as_str()),
        format!("{LXC} SecretEvent"),
        format!("{QEMU} SecretEvent"),
    ];
    assert_eq!(seen, expected);
    drop(signals);
    drop(bus);
    lab.finish();
}

#[test]
fn virsh_hears_of_them() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let bus = lab.bus();
    for (event, words) in [
        ("lifecycle", format!("event 'lifecycle' for secret {UUID}: ")),
        ("value-changed", format!("event 'value-changed' for secret {UUID}")),
    ] {
        let out = lab.work().join(event);
        let mut listener = virsh.command(&["secret-event", "--event", event]);
        let mut listener = listener.stdout(std::fs::File::create(&out).unwrap()).spawn().unwrap();
        // virsh says nothing once it listens: things happen until it has seen one.
        eventually("virsh hears", DEADLINE, || {
            let path: OwnedObjectPath = bus.call(TEST, CONNECT, "SecretDefineXML", &(xml(UUID, "", "/a"), 0u32));
            let () = bus.call(&path, "org.libvirt.Secret", "SetValue", &(VALUE.as_bytes(), 0u32));
            listener.try_wait().unwrap()
        });
        let said = std::fs::read_to_string(&out).unwrap();
        assert!(said.contains(&words), "{said}");
    }
    for (event, words) in [
        ("lifecycle", format!("event 'lifecycle' for secret {UUID}: Defined\nevents received: 1\n")),
        ("value-changed", format!("event 'value-changed' for secret {UUID}\nevents received: 1\n")),
    ] {
        let out = lab.work().join(format!("domus-{event}"));
        let mut listener = lab.cli(&["secret-event", UUID, "--event", event]);
        let mut listener = listener.stdout(std::fs::File::create(&out).unwrap()).spawn().unwrap();
        eventually("domus hears", DEADLINE, || {
            let path: OwnedObjectPath = bus.call(TEST, CONNECT, "SecretDefineXML", &(xml(UUID, "", "/a"), 0u32));
            let () = bus.call(&path, "org.libvirt.Secret", "SetValue", &(VALUE.as_bytes(), 0u32));
            listener.try_wait().unwrap()
        });
        let said = std::fs::read_to_string(&out).unwrap();
        assert_eq!(said.trim_end(), words.trim_end());
    }
    drop(bus);
    lab.finish();
}

#[test]
fn values_survive_and_are_nobodys_business() {
    let mut lab = lab();
    lab.start();
    let bus = lab.bus();
    let value = |uuid: &str| -> Vec<u8> {
        let path: OwnedObjectPath = bus.call(QEMU, CONNECT, "SecretLookupByUUID", &(uuid,));
        bus.call(&path, "org.libvirt.Secret", "GetValue", &(0u32,))
    };
    for (uuid, attributes, volume) in [(UUID, "", "/a"), (OTHER, " ephemeral='yes'", "/b")] {
        let path: OwnedObjectPath = bus.call(QEMU, CONNECT, "SecretDefineXML", &(xml(uuid, attributes, volume), 0u32));
        let () = bus.call(&path, "org.libvirt.Secret", "SetValue", &(VALUE.as_bytes(), 0u32));
        assert_eq!(value(uuid), VALUE.as_bytes());
    }
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&value_file(&lab, UUID)), 0o600);
    assert_eq!(mode(value_file(&lab, UUID).parent().unwrap()), 0o700);
    drop(bus);
    lab.crash();
    let holders: Vec<PathBuf> = leaks::files_below(&lab.root())
        .into_iter()
        .chain([lab.log()])
        .filter(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).contains(VALUE))
        .collect();
    assert_eq!(holders, [value_file(&lab, UUID)], "the value is there and nowhere else");
    lab.start();
    let bus = lab.bus();
    let path: OwnedObjectPath = bus.call(QEMU, CONNECT, "SecretLookupByUUID", &(UUID,));
    let kept: Vec<u8> = bus.call(&path, "org.libvirt.Secret", "GetValue", &(0u32,));
    assert_eq!(kept, VALUE.as_bytes());
    let refused = bus.refused(QEMU, CONNECT, "SecretLookupByUUID", &(OTHER,));
    assert!(refused.message.contains("no secret with matching uuid"), "{}", refused.message);
    let () = bus.call(&path, "org.libvirt.Secret", "Undefine", &());
    drop(bus);
    assert!(!value_file(&lab, UUID).exists() && !definition_file(&lab, UUID).exists());
    lab.finish();
}

/// What a client can tell of the secret: its XML, and its value or that there is none.
fn told(lab: &Lab) -> Option<(String, Option<Vec<u8>>)> {
    let bus = lab.bus();
    let body = (UUID,);
    let found = bus.try_call(QEMU, CONNECT, "SecretLookupByUUID", &body).ok()?;
    let path: OwnedObjectPath = found.body().deserialize().unwrap();
    let xml: String = bus.call(&path, "org.libvirt.Secret", "GetXMLDesc", &(0u32,));
    let value = bus.try_call(&path, "org.libvirt.Secret", "GetValue", &(0u32,)).ok();
    Some((xml, value.map(|reply| reply.body().deserialize().unwrap())))
}

/// What a client does to the secret.
#[derive(Clone, Copy, Debug)]
enum Act {
    Define(&'static str),
    Set(&'static str),
    Undefine,
}

const PERSISTENT: &str = "";
const EPHEMERAL: &str = " ephemeral='yes'";

/// Whether the daemon answered.
fn act(lab: &Lab, act: Act) -> bool {
    let bus = lab.bus();
    let path = format!("{QEMU}/secret/_{}", UUID.replace('-', "_"));
    let answer = match act {
        Act::Define(kind) => bus.try_call(QEMU, CONNECT, "SecretDefineXML", &(xml(UUID, kind, "/a"), 0u32)),
        Act::Set(value) => bus.try_call(&path, "org.libvirt.Secret", "SetValue", &(value.as_bytes(), 0u32)),
        Act::Undefine => bus.try_call(&path, "org.libvirt.Secret", "Undefine", &()),
    };
    answer.is_ok()
}

#[test]
fn killed_between_two_steps() {
    use Act::{Define, Set, Undefine};
    // What a healthy daemon was asked for, what the doomed one is asked for, where it dies during the last of that, and
    // what is there afterwards: nothing, or the secret with this value.
    type Case = (&'static [Act], &'static [Act], &'static str, Option<Option<&'static str>>);
    let cases: &[Case] = &[
        (&[], &[Define(PERSISTENT)], "store.written:kill", None),
        (&[], &[Define(PERSISTENT)], "secret-define.stored:kill", Some(None)),
        (&[Define(PERSISTENT)], &[Set("new")], "store.written:kill", Some(None)),
        (&[Define(PERSISTENT)], &[Set("new")], "secret-set-value.stored:kill", Some(Some("new"))),
        (&[Define(PERSISTENT), Set("old")], &[Set("new")], "store.written:kill", Some(Some("old"))),
        (&[Define(PERSISTENT), Set("old")], &[Set("new")], "secret-set-value.stored:kill", Some(Some("new"))),
        (&[Define(PERSISTENT), Set("old")], &[Define(PERSISTENT)], "store.written:kill", Some(Some("old"))),
        (&[Define(PERSISTENT), Set("old")], &[Define(EPHEMERAL)], "secret-define.stored:kill", None),
        (&[Define(PERSISTENT), Set("old")], &[Undefine], "secret-undefine.removed:kill", None),
        // An ephemeral secret becomes one that is kept: first its value, then its definition.
        (&[], &[Define(EPHEMERAL), Set("old"), Define(PERSISTENT)], "store.written:kill:1", None),
        (&[], &[Define(EPHEMERAL), Set("old"), Define(PERSISTENT)], "secret-define.value:kill", None),
        (&[], &[Define(EPHEMERAL), Set("old"), Define(PERSISTENT)], "store.written:kill:2", None),
        (&[], &[Define(EPHEMERAL), Set("old"), Define(PERSISTENT)], "secret-define.stored:kill:2", Some(Some("old"))),
    ];
    for point in points("secret-") {
        assert!(cases.iter().any(|(_, _, fault, _)| fault.starts_with(&point)), "nobody dies at {point}");
    }
    let mut lab = lab();
    for (before, doomed, fault, expected) in cases {
        lab.start();
        for step in *before {
            assert!(act(&lab, *step), "{step:?}");
        }
        lab.stop();
        lab.start_with(&[("DOMUS_FAULT", fault)]);
        lab.wait_ready();
        let (last, first) = doomed.split_last().unwrap();
        for step in first {
            assert!(act(&lab, *step), "{step:?} before {fault}");
        }
        assert!(!act(&lab, *last), "{last:?} succeeded, so the daemon never came to {fault}");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&lab.wait_end()), Some(9), "{fault}");
        lab.start();
        let after = told(&lab).map(|(_, value)| value.map(|bytes| String::from_utf8(bytes).unwrap()));
        let expected = expected.map(|value| value.map(str::to_string));
        assert_eq!(after, expected, "{before:?}, then {doomed:?}, killed at {fault}");
        let files = leaks::files_below(&lab.root().join("state/host/secrets"));
        let known = [value_file(&lab, UUID), definition_file(&lab, UUID)];
        let wanted = [expected.clone().flatten().is_some(), expected.is_some()];
        for (file, wanted) in known.iter().zip(wanted) {
            assert_eq!(file.exists(), wanted, "{} after {doomed:?}, killed at {fault}", file.display());
        }
        assert!(files.iter().all(|file| known.contains(file)), "left behind: {files:?}");
        if expected.is_some() {
            assert!(act(&lab, Undefine));
        }
        lab.stop();
    }
    lab.finish();
}
