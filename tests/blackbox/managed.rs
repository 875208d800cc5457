//! Objects that announce themselves, and long work as an object: the object manager and `org.domus.*1`.

use std::collections::HashMap;
use std::process::{Command, Stdio};

use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use crate::harness::bus::{DOMAIN, OBJECT_MANAGER, PROPERTIES, QEMU, Refused, TEST};
use crate::harness::{Bus, BusDaemon, DEADLINE, Lab, eventually, program, skip, test_name};
use crate::mock_life::xml;

const DOMUS_DOMAIN: &str = "org.domus.Domain1";
const JOB: &str = "org.domus.Job1";

type Properties = HashMap<String, OwnedVariant>;
type Interfaces = HashMap<String, Properties>;
type Objects = HashMap<OwnedObjectPath, Interfaces>;

fn objects(bus: &Bus, root: &str) -> Objects {
    bus.call(root, OBJECT_MANAGER, "GetManagedObjects", &())
}

fn paths(objects: &Objects, kind: &str) -> Vec<String> {
    objects.keys().map(|path| path.to_string()).filter(|path| path.contains(&format!("/{kind}/"))).collect()
}

#[test]
fn objects_are_listed_with_what_they_are() {
    let lab = Lab::mock();
    let bus = lab.bus();
    let path = bus.define(TEST, &xml("one").replace("<memory", "<title>The one</title><memory"));
    let all = objects(&bus, TEST);
    let one = &all[&OwnedObjectPath::try_from(path.clone()).unwrap()][DOMUS_DOMAIN];
    // Wrapped once, as everybody else does it.
    assert_eq!(*one["Name"], Variant::from("one"));
    assert_eq!(*one["Title"], Variant::from("The one"));
    assert_eq!(*one["Id"], Variant::I32(-1));
    assert_eq!(*one["Active"], Variant::Bool(false));
    // With what the test driver has by itself.
    for (kind, count) in [("domain", 1), ("network", 1), ("storagepool", 1), ("job", 0)] {
        assert_eq!(paths(&all, kind).len(), count, "{kind}: {all:?}");
    }
    let own: Properties = bus.call(&path, PROPERTIES, "GetAll", &(DOMUS_DOMAIN,));
    assert_eq!(&own, one);
    assert_eq!(*bus.property(&path, DOMUS_DOMAIN, "State"), *one["State"]);
    let refused = bus.refused("/", OBJECT_MANAGER, "GetManagedObjects", &());
    assert_eq!(refused.name, "org.freedesktop.DBus.Error.UnknownMethod");
    let pool = &paths(&all, "storagepool")[0];
    let capacity = bus.property(pool, "org.domus.StoragePool1", "Capacity");
    assert!(u64::try_from(capacity).unwrap() > 0);
    drop(bus);
    lab.finish();
}

/// What a client is told of the objects and their properties, with libvirt's events in between: kind of signal and what
/// of the values is to be seen.
fn told(member: &str, message: &zbus::Message) -> String {
    let body = message.body();
    match member {
        "DomainEvent" => format!("event {}", body.deserialize::<(OwnedObjectPath, i32, i32)>().unwrap().1),
        "InterfacesAdded" => {
            let (_, interfaces): (OwnedObjectPath, Interfaces) = body.deserialize().unwrap();
            format!("added {:?}", *interfaces[DOMUS_DOMAIN]["Id"])
        }
        "InterfacesRemoved" => {
            let (_, interfaces): (OwnedObjectPath, Vec<String>) = body.deserialize().unwrap();
            format!("removed {}", interfaces.join(" "))
        }
        _ => {
            let (_, values, none): (String, Properties, Vec<String>) = body.deserialize().unwrap();
            assert!(none.is_empty());
            let mut names: Vec<_> = values.keys().cloned().collect();
            names.sort();
            format!("changed {}: {:?}", names.join(" "), values.get("State").map(|state| format!("{:?}", **state)))
        }
    }
}

#[test]
fn a_hundred_clients_are_told_of_changes_in_order() {
    const CLIENTS: usize = 100;
    const ROUNDS: usize = 20;
    let lab = Lab::mock();
    let caller = lab.bus();
    let clients: Vec<Bus> = (0..CLIENTS).map(|_| lab.bus()).collect();
    let mut listeners: Vec<_> = clients
        .iter()
        .map(|bus| {
            let signals = bus.listen().with_standard();
            // Whoever was answered is listened to.
            objects(bus, TEST);
            signals
        })
        .collect();
    for _ in 0..ROUNDS {
        let path = caller
            .define(TEST, &xml("one").replace("</name>", "</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>"));
        let _: () = caller.call(&path, DOMAIN, "Create", &(0u32,));
        let _: () = caller.call(&path, DOMAIN, "Suspend", &());
        let _: () = caller.call(&path, DOMAIN, "Destroy", &(0u32,));
        let _: () = caller.call(&path, DOMAIN, "Undefine", &(0u32,));
    }
    let mut first = Vec::new();
    for (number, signals) in listeners.iter_mut().enumerate() {
        let mut seen = Vec::new();
        while seen.iter().filter(|text| *text == "removed org.domus.Domain1").count() < ROUNDS {
            let (_, member, message) = signals.next(DEADLINE).unwrap_or_else(|| panic!("client {number}: {seen:?}"));
            seen.push(told(&member, &message));
        }
        if number == 0 {
            let changed =
                |what: &str, state: &str| seen.iter().any(|text| text.starts_with(what) && text.contains(state));
            assert_eq!(seen[..2], ["event 0", "added I32(-1)"], "{seen:?}");
            assert_eq!(seen[2], "event 2", "{seen:?}");
            assert!(changed("changed Active Id State: ", "[I32(1), I32(1)]"), "{seen:?}");
            assert!(changed("changed State: ", "[I32(3), I32(1)]"), "{seen:?}");
            assert_eq!(seen.iter().filter(|text| text.starts_with("changed")).count(), 3 * ROUNDS, "{seen:?}");
            first = seen;
        } else {
            assert_eq!(seen, first, "client {number}");
        }
    }
    drop(listeners);
    drop(clients);
    drop(caller);
    lab.finish();
}

/// A daemon that runs no guest, with a running pool `p` in the directory `pool`.
fn storage(lab: &mut Lab) {
    lab.configure("drivers = ['qemu']\n");
    lab.start();
    lab.wait_ready();
    let dir = lab.work().join("pool");
    std::fs::create_dir(&dir).unwrap();
    lab.ok(&["pool-define-as", "p", "dir", "--target", &dir.display().to_string()]);
    lab.ok(&["pool-start", "p"]);
}

/// A volume whose tables take a while.
const BIG: &str = "<volume><name>big</name><capacity unit='T'>8</capacity><allocation>0</allocation>\
                   <target><format type='qcow2'/></target></volume>";
/// `VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA`
const METADATA: u32 = 1;

fn files(lab: &Lab) -> usize {
    std::fs::read_dir(lab.work().join("pool")).unwrap().count()
}

fn has_qemu_img() -> bool {
    let there = program("qemu-img").is_some();
    if !there {
        skip(&test_name(), "qemu-img is not installed (qemu-utils)");
    }
    there
}

#[test]
fn work_on_a_volume_is_an_object_and_can_be_cancelled() {
    if !has_qemu_img() {
        return;
    }
    let mut lab = Lab::bare(&[]);
    storage(&mut lab);
    let bus = lab.bus();
    let mut signals = bus.listen().with_standard();
    let all = objects(&bus, QEMU);
    let pool = paths(&all, "storagepool")[0].clone();
    let other = lab.bus();
    let refused: Refused = std::thread::scope(|scope| {
        let making =
            scope.spawn(|| other.refused(&pool, "org.libvirt.StoragePool", "StorageVolCreateXML", &(BIG, METADATA)));
        let job = loop {
            let (_, member, message) = signals.next(DEADLINE).expect("a job");
            if member == "InterfacesAdded" {
                break message.body().deserialize::<(OwnedObjectPath, Interfaces)>().unwrap().0.to_string();
            }
        };
        assert!(job.starts_with("/org/libvirt/QEMU/job/"), "{job}");
        let about: Properties = bus.call(&job, PROPERTIES, "GetAll", &(JOB,));
        assert_eq!((&*about["Task"], &*about["Name"]), (&Variant::from("create"), &Variant::from("big")));
        assert_eq!(paths(&objects(&bus, QEMU), "job"), std::slice::from_ref(&job));
        assert!(bus.introspect(&format!("{QEMU}/job")).contains(job.rsplit('/').next().unwrap()));
        assert!(bus.introspect(&job).contains("<method name=\"Cancel\"/>"));
        let _: () = bus.call(&job, JOB, "Cancel", &());
        let refused = making.join().unwrap();
        loop {
            let (_, member, message) = signals.next(DEADLINE).expect("the end of the job");
            if member == "InterfacesRemoved" {
                let (path, interfaces): (OwnedObjectPath, Vec<String>) = message.body().deserialize().unwrap();
                assert_eq!((path.as_str(), interfaces), (job.as_str(), vec![JOB.to_string()]));
                break;
            }
        }
        let late = bus.refused(&job, JOB, "Cancel", &());
        assert!(late.message.contains("no such job"), "{}", late.message);
        refused
    });
    assert!(refused.message.contains("the job was cancelled"), "{}", refused.message);
    assert_eq!(files(&lab), 0);
    assert!(paths(&objects(&bus, QEMU), "job").is_empty());
    drop(signals);
    drop((bus, other));
    lab.ok(&["pool-destroy", "p"]);
    lab.ok(&["pool-undefine", "p"]);
    lab.finish();
}

#[test]
fn a_caller_that_leaves_the_bus_takes_its_new_volume_with_it() {
    if !has_qemu_img() {
        return;
    }
    let Some(busctl) = program("busctl") else {
        skip(&test_name(), "busctl is not installed (systemd)");
        return;
    };
    let mut lab = Lab::bare(&[]);
    let Some(daemon) = BusDaemon::start(&lab) else { return };
    lab.argument("--bus");
    lab.argument(daemon.address.clone());
    storage(&mut lab);
    let bus = Bus::over(&daemon.address);
    let pool = paths(&objects(&bus, QEMU), "storagepool")[0].clone();
    let mut caller = Command::new(busctl)
        .args([&format!("--address={}", daemon.address), "--timeout=3600", "call", "org.libvirt", &pool])
        .args(["org.libvirt.StoragePool", "StorageVolCreateXML", "su", BIG, "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let jobs = || paths(&objects(&bus, QEMU), "job").len();
    eventually("a volume on its way", DEADLINE, || (jobs() == 1).then_some(()));
    caller.kill().unwrap();
    caller.wait().unwrap();
    eventually("the end of the job", DEADLINE, || (jobs() == 0).then_some(()));
    assert_eq!(files(&lab), 0);
    drop((bus, daemon));
    lab.ok(&["pool-destroy", "p"]);
    lab.ok(&["pool-undefine", "p"]);
    lab.finish();
}
