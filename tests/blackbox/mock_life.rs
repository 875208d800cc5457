//! The life of a domain on the mock driver: states, refusals, events, lists. No privilege needed.

use std::collections::HashMap;
use std::time::Duration;

use crate::harness::bus::{CONNECT, DOMAIN, TEST};
use crate::harness::{DEADLINE, Lab, eventually, is_root, skip, test_name};
use zbus::{OwnedObjectPath, OwnedVariant};

pub fn xml(name: &str) -> String {
    format!(
        "<domain type='test'><name>{name}</name><memory unit='KiB'>8192</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain>"
    )
}

#[test]
fn a_domain_lives() {
    let lab = Lab::mock();
    lab.define(&xml("one"));
    assert_eq!(lab.state("one"), "shut off");
    lab.ok(&["start", "one"]);
    assert_eq!(lab.state("one"), "running");
    lab.ok(&["suspend", "one"]);
    assert_eq!(lab.state("one"), "paused");
    lab.ok(&["resume", "one"]);
    assert_eq!(lab.state("one"), "running");
    lab.ok(&["reset", "one"]);
    lab.ok(&["reboot", "one"]);
    lab.wait_state("one", "running");
    lab.ok(&["shutdown", "one"]);
    lab.wait_state("one", "shut off");
    lab.ok(&["start", "one"]);
    lab.ok(&["destroy", "one"]);
    assert_eq!(lab.state("one"), "shut off");
    lab.ok(&["undefine", "one"]);
    assert_eq!(lab.names(), Vec::<String>::new());
    lab.finish();
}

#[test]
fn wrong_states_are_refused_in_libvirts_words() {
    let lab = Lab::mock();
    lab.define(&xml("one"));
    for command in ["destroy", "suspend", "resume", "shutdown", "reboot", "reset"] {
        lab.fails_with(&[command, "one"], &["Requested operation is not valid", "domain is not running"]);
    }
    lab.ok(&["start", "one"]);
    lab.fails_with(&["start", "one"], &["Requested operation is not valid", "domain is already running"]);
    lab.finish();
}

#[test]
fn what_does_not_exist_is_named() {
    let lab = Lab::mock();
    lab.fails_with(&["start", "nobody"], &["Domain not found", "nobody"]);
    let bus = lab.bus();
    let uuid = "c7a5fdbd-edaf-9455-926a-d65c16db1809";
    for (member, key, text) in [
        ("DomainLookupByName", "nobody", "Domain not found: no domain with matching name 'nobody'"),
        ("DomainLookupByUUID", uuid, &*format!("Domain not found: no domain with matching uuid '{uuid}'")),
    ] {
        let refused = bus.refused(TEST, CONNECT, member, &(key,));
        assert_eq!(refused.name, "org.libvirt.Error");
        assert_eq!(refused.message, text);
    }
    let refused = bus.refused(TEST, CONNECT, "DomainLookupByID", &(4711i32,));
    assert_eq!(refused.message, "Domain not found: no domain with matching id 4711");
    drop(bus);
    lab.finish();
}

#[test]
fn lookups_lead_to_the_same_object() {
    let lab = Lab::mock();
    lab.define(&xml("one"));
    lab.ok(&["start", "one"]);
    let bus = lab.bus();
    let by_name = bus.lookup(TEST, "one");
    let uuid = String::try_from(bus.property(&by_name, DOMAIN, "UUID")).unwrap();
    let id = u32::try_from(bus.property(&by_name, DOMAIN, "Id")).unwrap();
    assert_eq!(by_name, format!("{TEST}/domain/_{}", uuid.replace('-', "_")));
    let by_uuid: OwnedObjectPath = bus.call(TEST, CONNECT, "DomainLookupByUUID", &(uuid.as_str(),));
    let by_id: OwnedObjectPath = bus.call(TEST, CONNECT, "DomainLookupByID", &(id.cast_signed(),));
    assert_eq!((by_uuid.as_str(), by_id.as_str()), (by_name.as_str(), by_name.as_str()));
    assert!(lab.ok(&["dominfo", &uuid]).contains("one"), "the CLI takes a UUID");
    assert_eq!(lab.ok(&["domstate", &id.to_string()]), "running", "the CLI takes an id");
    drop(bus);
    lab.finish();
}

#[test]
fn events_come_in_the_order_of_what_happened() {
    let lab = Lab::mock();
    let bus = lab.bus();
    let mut signals = bus.listen();
    let path = bus.define(TEST, &xml("one"));
    bus.define(TEST, &xml("one").replace("8192", "16384"));
    for member in ["Create", "Suspend", "Resume", "Destroy", "Undefine"] {
        let _: () = match member {
            "Suspend" | "Resume" => bus.call(&path, DOMAIN, member, &()),
            _ => bus.call(&path, DOMAIN, member, &(0u32,)),
        };
    }
    // defined added, defined updated, started booted, suspended paused, resumed unpaused, stopped destroyed,
    // undefined removed
    let wanted = [(0, 0), (0, 1), (2, 0), (3, 0), (4, 0), (5, 1), (1, 0)];
    assert_eq!(signals.domain_events(wanted.len(), Duration::from_secs(10)), wanted);
    drop(signals);
    drop(bus);
    lab.finish();
}

#[test]
fn lists_filter_by_flags() {
    let lab = Lab::mock();
    let bus = lab.bus();
    for name in ["off", "on", "paused"] {
        lab.define(&xml(name));
    }
    lab.ok(&["start", "on"]);
    lab.ok(&["start", "paused"]);
    lab.ok(&["suspend", "paused"]);
    lab.ok(&["autostart", "off"]);
    let transient = lab.write("t.xml", &xml("passing"));
    lab.ok(&["create", &transient]);
    let names = |flags: u32| {
        let paths: Vec<OwnedObjectPath> = bus.call(TEST, CONNECT, "ListDomains", &(flags,));
        let mut names: Vec<String> =
            paths.iter().map(|path| String::try_from(bus.property(path, DOMAIN, "Name")).unwrap()).collect();
        names.sort();
        names.join(" ")
    };
    for (flags, wanted) in [
        (0, "off on passing paused"),
        (1, "on passing paused"),
        (2, "off"),
        (1 | 2, "off on passing paused"),
        (4, "off on paused"),
        (8, "passing"),
        (16, "on passing"),
        (32, "paused"),
        (64, "off"),
        (1024, "off"),
        (2048, "on passing paused"),
        (1 | 4, "on paused"),
        (2 | 8, ""),
    ] {
        assert_eq!(names(flags), wanted, "flags {flags}");
    }
    drop(bus);
    lab.finish();
}

#[test]
fn a_transient_domain_ends_with_its_run() {
    let lab = Lab::mock();
    let file = lab.write("t.xml", &xml("passing"));
    lab.ok(&["create", &file]);
    assert_eq!(lab.state("passing"), "running");
    lab.fails(&["autostart", "passing"]);
    lab.ok(&["destroy", "passing"]);
    assert_eq!(lab.names(), Vec::<String>::new());
    // A running persistent domain that is undefined becomes transient.
    lab.define(&xml("one"));
    lab.ok(&["start", "one"]);
    lab.ok(&["undefine", "one"]);
    assert_eq!(lab.state("one"), "running");
    lab.ok(&["destroy", "one"]);
    assert_eq!(lab.names(), Vec::<String>::new());
    lab.finish();
}

#[test]
fn ids_are_never_used_twice() {
    let mut lab = Lab::mock();
    let id = |lab: &Lab| {
        let bus = lab.bus();
        u32::try_from(bus.property(&bus.lookup(TEST, "one"), DOMAIN, "Id")).unwrap()
    };
    lab.define(&xml("one"));
    lab.ok(&["start", "one"]);
    let first = id(&lab);
    lab.ok(&["destroy", "one"]);
    assert_eq!(id(&lab), 0);
    lab.ok(&["start", "one"]);
    let second = id(&lab);
    assert!(second > first, "{second} after {first}");
    lab.ok(&["destroy", "one"]);
    lab.restart();
    lab.ok(&["start", "one"]);
    assert!(id(&lab) > second, "ids must not start again after a restart");
    lab.finish();
}

#[test]
fn the_cli_speaks_json_and_exit_codes() {
    let lab = Lab::mock();
    lab.define(&xml("one"));
    let list: serde_json::Value = serde_json::from_str(&lab.ok(&["--json", "list", "--all"])).unwrap();
    assert!(list.to_string().contains("\"one\""), "{list}");
    assert_eq!(lab.run(&["no-such-command"]).code, Some(2));
    assert_eq!(lab.run(&["start", "nobody"]).code, Some(1));
    for arguments in [&["--help"][..], &["start", "--help"], &["list", "--help"]] {
        assert!(lab.ok(arguments).contains("Usage"), "{arguments:?}");
    }
    lab.finish();
}

#[test]
fn event_command_shows_what_happens() {
    let lab = Lab::mock();
    lab.define(&xml("one"));
    let mut child = lab.cli(&["event", "--all", "--loop"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let text = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let sink = text.clone();
    let reader = std::thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(count) = std::io::Read::read(&mut stdout, &mut part) {
            if count == 0 {
                break;
            }
            sink.lock().unwrap().push_str(&String::from_utf8_lossy(&part[..count]));
        }
    });
    // The command says nothing when it is ready, so make things happen until it hears one of them.
    eventually("an event on the command's output", DEADLINE, || {
        lab.ok(&["start", "one"]);
        lab.ok(&["destroy", "one"]);
        let heard = text.lock().unwrap();
        (heard.contains("one") && heard.to_lowercase().contains("stopped")).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    lab.finish();
}

#[test]
fn an_ordinary_user_can_run_it() {
    if !is_root() {
        // Then every test of this file is this test.
        skip(&test_name(), "not root, so all tests of the mock driver run as an ordinary user already");
        return;
    }
    let mut lab = Lab::bare(&["--mock"]).owned_by(54321);
    lab.start();
    let uid = std::fs::read_to_string(format!("/proc/{}/status", lab.pid())).unwrap();
    assert!(uid.contains("Uid:\t54321\t54321"), "{uid}");
    lab.define(&xml("one"));
    lab.ok(&["start", "one"]);
    assert_eq!(lab.state("one"), "running");
    lab.finish();
}

#[test]
fn clients_get_choices_and_figures() {
    let lab = Lab::mock();
    let bus = lab.bus();
    // A client that builds its dialogs from this finds something to offer, for the machine it asked about.
    let caps: String = bus.call(TEST, CONNECT, "GetDomainCapabilities", &("", "i686", "a<b", "", 0u32));
    for part in
        ["<machine>a&lt;b</machine>", "<mode name='custom' supported='yes'>", ">qemu64</model>", "<value>virtio"]
    {
        assert!(caps.contains(part), "{part} in {caps}");
    }
    let path = bus.define(TEST, &xml("one"));
    let _: () = bus.call(&path, DOMAIN, "Create", &(0u32,));
    // BALLOON, VCPU
    let stats: HashMap<String, OwnedVariant> = bus.call(&path, DOMAIN, "GetStats", &(4u32 | 8, 0u32));
    for key in ["balloon.current", "balloon.rss", "vcpu.current", "vcpu.maximum", "vcpu.0.state", "vcpu.0.time"] {
        assert!(stats.contains_key(key), "{key} in {:?}", stats.keys());
    }
    drop(bus);
    lab.finish();
}
