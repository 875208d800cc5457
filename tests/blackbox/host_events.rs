//! Events of networks, pools, secrets and node devices: in the order of what happened, on D-Bus and over libvirt's
//! protocol alike, also when many clients change things at once.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use zbus::OwnedObjectPath;

use crate::harness::bus::{Bus, CONNECT, Signals, TEST};
use crate::harness::{DEADLINE, Lab, run, skip, test_name};

const NETWORK: &str = "org.libvirt.Network";
const POOL: &str = "org.libvirt.StoragePool";
const SECRET: &str = "org.libvirt.Secret";
const DEVICE: &str = "org.libvirt.NodeDevice";
const PYTHON: &str = "/usr/bin/python3";

/// Ends every recording.
const LAST: &str = "eeeeeeee-0000-4000-8000-00000000ffff";

fn uuid(number: u32) -> String {
    format!("eeeeeeee-0000-4000-8000-00000000{number:04x}")
}

fn network(number: u32) -> String {
    format!("<network><name>n{number}</name><uuid>{}</uuid><bridge name='br-n{number}'/></network>", uuid(number))
}

/// What a signal says, as the Python script says it; `None`: of something else.
fn line((path, member, message): (String, String, zbus::Message)) -> Option<String> {
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().trim_start_matches('_').replace('_', "-");
    let body = message.body();
    let of_root = || -> (OwnedObjectPath, i32) {
        match body.deserialize::<(OwnedObjectPath, i32, i32)>() {
            Ok((path, event, _)) => (path, event),
            Err(_) => body.deserialize().unwrap(),
        }
    };
    let kind = match member.as_str() {
        "NetworkEvent" => "network",
        "StoragePoolEvent" => "pool",
        "SecretEvent" => "secret",
        "NodeDeviceEvent" => "device",
        "Refresh" => return Some(format!("pool {} refresh", last(&path))),
        "ValueChanged" => return Some(format!("secret {} value", last(&path))),
        _ => return None,
    };
    let (object, event) = of_root();
    let name = match kind {
        "device" => object.as_str().rsplit('/').next().unwrap_or_default().replace("_5f", "_"),
        _ => last(&object),
    };
    Some(format!("{kind} {name} {event}"))
}

/// The lines up to the one about [`LAST`].
fn heard(signals: &mut Signals<'_>) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let signal = signals.next(Duration::from_secs(60)).unwrap_or_else(|| panic!("no end after {all:?}"));
        match line(signal) {
            Some(line) if line.contains(LAST) => return all,
            Some(line) => all.push(line),
            None => {}
        }
    }
}

fn end(bus: &Bus) {
    let xml = format!("<network><name>last</name><uuid>{LAST}</uuid></network>");
    let path: OwnedObjectPath = bus.call(TEST, CONNECT, "NetworkDefineXML", &(xml,));
    let _: () = bus.call(&path, NETWORK, "Undefine", &());
}

/// libvirt-python that listens; `None`, said aloud, where there is none.
fn python(lab: &Lab) -> Option<(Child, BufReader<ChildStdout>)> {
    if !run(Command::new(PYTHON).args(["-c", "import libvirt"]), DEADLINE).success() {
        skip(&test_name(), "python3-libvirt is not installed: only D-Bus listens");
        return None;
    }
    let uri = format!("test+unix:///default?socket={}", lab.root().join("run/libvirt-sock").display());
    let mut command = Command::new(PYTHON);
    command.arg(lab.write("listen.py", include_str!("python/host_events.py"))).arg(uri);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    assert_eq!(first, "listening\n");
    Some((child, out))
}

fn heard_by_python(python: Option<(Child, BufReader<ChildStdout>)>) -> Option<Vec<String>> {
    let (mut child, out) = python?;
    let lines = out.lines().map(Result::unwrap).take_while(|line| !line.contains(LAST)).collect();
    child.stdin.take().unwrap().write_all(b"stop\n").unwrap();
    assert!(child.wait().unwrap().success());
    Some(lines)
}

#[test]
fn every_kind_of_object_tells_in_order() {
    let lab = Lab::mock();
    let (bus, listener) = (lab.bus(), lab.bus());
    let mut signals = listener.listen();
    let python = python(&lab);
    let act = |path: &str, interface: &str, member: &str| {
        let _: () = bus.call(path, interface, member, &());
    };
    let (net, pool, secret) = (uuid(1), uuid(2), uuid(3));
    let path: OwnedObjectPath = bus.call(TEST, CONNECT, "NetworkDefineXML", &(network(1),));
    act(&path, NETWORK, "Create");
    let place = lab.work().join("pool");
    let xml = format!(
        "<pool type='dir'><name>p</name><uuid>{pool}</uuid><target><path>{}</path></target></pool>",
        place.display()
    );
    let pool_path: OwnedObjectPath = bus.call(TEST, CONNECT, "StoragePoolDefineXML", &(xml, 0u32));
    let _: () = bus.call(&pool_path, POOL, "Build", &(0u32,));
    let _: () = bus.call(&pool_path, POOL, "Create", &(0u32,));
    let xml = format!("<secret><uuid>{secret}</uuid><usage type='ceph'><name>s</name></usage></secret>");
    let secret_path: OwnedObjectPath = bus.call(TEST, CONNECT, "SecretDefineXML", &(xml, 0u32));
    let _: () = bus.call(&pool_path, POOL, "Refresh", &(0u32,));
    let _: () = bus.call(&secret_path, SECRET, "SetValue", &(b"value".to_vec(), 0u32));
    let port = "<device><parent>scsi_host1</parent><capability type='scsi_host'><capability type='fc_host'>\
                <wwnn>2000000098765432</wwnn><wwpn>1000000098765432</wwpn></capability></capability></device>";
    let device: OwnedObjectPath = bus.call(TEST, CONNECT, "NodeDeviceCreateXML", &(port, 0u32));
    act(&path, NETWORK, "Destroy");
    act(&device, DEVICE, "Destroy");
    act(&secret_path, SECRET, "Undefine");
    act(&pool_path, POOL, "Destroy");
    act(&path, NETWORK, "Undefine");
    let _: () = bus.call(&pool_path, POOL, "Delete", &(0u32,));
    act(&pool_path, POOL, "Undefine");
    end(&bus);
    let expected = [
        format!("network {net} 0"),
        format!("network {net} 2"),
        format!("pool {pool} 0"),
        format!("pool {pool} 4"),
        format!("pool {pool} 2"),
        format!("secret {secret} 0"),
        format!("pool {pool} refresh"),
        format!("secret {secret} value"),
        "device scsi_host12 0".into(),
        format!("network {net} 3"),
        "device scsi_host12 1".into(),
        format!("secret {secret} 1"),
        format!("pool {pool} 3"),
        format!("network {net} 1"),
        format!("pool {pool} 5"),
        format!("pool {pool} 1"),
    ];
    let ours = heard(&mut signals);
    assert_eq!(ours, expected);
    if let Some(theirs) = heard_by_python(python) {
        assert_eq!(theirs, expected);
    }
    drop(signals);
    drop((bus, listener));
    lab.finish();
}

/// Clients that fight over the same networks, and others with one of their own: whoever listens hears one story.
#[test]
fn many_clients_make_one_order() {
    let lab = Lab::mock();
    let (first, second) = (lab.bus(), lab.bus());
    let (mut one, mut other) = (first.listen(), second.listen());
    let python = python(&lab);
    std::thread::scope(|scope| {
        for client in 0..6u32 {
            let socket = lab.socket();
            scope.spawn(move || {
                let bus = Bus::peer(&socket);
                for _ in 0..25 {
                    // Numbers 0 and 1 are everybody's: who comes too late is refused.
                    for number in [client % 2, 10 + client] {
                        let made = bus.try_call(TEST, CONNECT, "NetworkCreateXML", &(network(number),));
                        let path = made.map(|reply| reply.body().deserialize::<OwnedObjectPath>().unwrap());
                        if let Ok(path) = path {
                            let _ = bus.try_call(&path, NETWORK, "Destroy", &());
                        }
                    }
                }
            });
        }
    });
    let bus = lab.bus();
    end(&bus);
    let ours = heard(&mut one);
    assert_eq!(ours, heard(&mut other), "two listeners on D-Bus");
    if let Some(theirs) = heard_by_python(python) {
        assert_eq!(theirs, ours, "libvirt's protocol and D-Bus");
    }
    let mut by_network: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in &ours {
        let (object, event) = line.rsplit_once(' ').unwrap();
        by_network.entry(object).or_default().push(event);
    }
    assert_eq!(by_network.len(), 8, "{by_network:?}");
    for (network, events) in by_network {
        assert!(events.chunks(2).all(|pair| pair == ["2", "3"]), "{network} starts and stops in turn: {events:?}");
    }
    drop((one, other));
    drop((first, second, bus));
    lab.finish();
}
