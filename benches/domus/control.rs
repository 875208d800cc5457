//! The control plane alone, on the mock driver: no guest, no privilege, only calls, files and memory.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{CONNECT, Client, DOMAIN, TEST};
use crate::table::{Samples, Table};
use crate::world::{World, nova_xml};

fn xml(number: usize, base: &Path) -> String {
    let uuid = format!("2fbd1d85-719f-4be8-aeb4-{number:012x}");
    nova_xml(&format!("bench-{number}"), &uuid, base).replace("<domain type=\"qemu\"", "<domain type=\"test\"")
}

/// First argument of the process that only echoes.
pub const ECHO: &str = "echo-server";

/// Sends back what comes on standard input (a socket), `length` bytes at a time, until it ends.
pub fn echo(length: usize) {
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let mut part = vec![0; length];
    while socket.read_exact(&mut part).is_ok() && socket.write_all(&part).is_ok() {}
}

/// GetState over the daemon's own socket, in turn with a ping of the same sizes over a bare Unix socket.
pub fn latency(table: &mut Table, rounds: usize) {
    let world = World::mock();
    let mut client = world.client();
    let domain = client.call(TEST, CONNECT, "DomainDefineXML", &(xml(1, &world.base).as_str(),)).last_string();
    let message = Client::message(&domain, DOMAIN, "GetState", &(0u32,));

    let (mut near, far) = UnixStream::pair().unwrap();
    let length = message.len();
    // A process, not a thread: the same wake-ups across address spaces as between client and daemon.
    let mut echo = Command::new(std::env::current_exe().unwrap())
        .arg(ECHO)
        .arg(length.to_string())
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(far)))
        .spawn()
        .unwrap();
    let mut ping = || {
        let start = Instant::now();
        let mut part = vec![0; length];
        near.write_all(&message).unwrap();
        near.read_exact(&mut part).unwrap();
        start.elapsed()
    };
    for _ in 0..200 {
        client.send(&message);
        ping();
    }
    let (mut calls, mut pings) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        calls.push(client.send(&message).took);
        pings.push(ping());
    }
    drop(near);
    echo.wait().unwrap();
    client.assert_quiet();
    table.beside("GetState, peer-to-peer D-Bus", &calls, "echo over a Unix socket", &pings);
}

/// Definitions of Nova's 5 KB, in turn with writing as many bytes durably.
pub fn define(table: &mut Table, rounds: usize) {
    let world = World::mock();
    let mut client = world.client();
    let directory = world.base.join("floor");
    fs::create_dir(&directory).unwrap();
    let text = xml(0, &world.base);
    let (mut defines, mut writes) = (Samples::default(), Samples::default());
    for number in 0..rounds {
        let message = Client::message(TEST, CONNECT, "DomainDefineXML", &(xml(number, &world.base).as_str(),));
        defines.push(client.send(&message).took);
        writes.push(durable(&directory, number, text.as_bytes()));
    }
    table.beside("define, Nova's XML", &defines, "write, fsync, rename, fsync of the directory", &writes);
}

pub fn durable(directory: &Path, number: usize, bytes: &[u8]) -> Duration {
    let start = Instant::now();
    let temporary = directory.join("temporary");
    let mut file = fs::File::create(&temporary).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
    fs::rename(&temporary, directory.join(format!("{number}.xml"))).unwrap();
    fs::File::open(directory).unwrap().sync_all().unwrap();
    start.elapsed()
}

/// Memory with nothing and with 1,000 definitions, and the start with both.
pub fn size_and_start(table: &mut Table, rounds: usize) {
    let mut world = World::mock();
    let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
    let mut shown = |what: &str, (rss, pss): (u64, u64)| {
        table.add(what, &format!("{} / {} MiB", mib(rss), mib(pss)), "", "");
    };
    shown("daemon RSS / PSS, idle", world.memory());
    let mut client = world.client();
    for number in 0..1000 {
        client.call(TEST, CONNECT, "DomainDefineXML", &(xml(number, &world.base).as_str(),));
    }
    drop(client);
    shown("daemon RSS / PSS, after defining 1,000", world.memory());
    let mut full = Samples::default();
    let mut empty = Samples::default();
    let mut nothing = World::mock();
    for _ in 0..rounds {
        world.stop();
        full.push(world.start());
        nothing.stop();
        empty.push(nothing.start());
    }
    shown("daemon RSS / PSS, started with 1,000", world.memory());
    table.beside("daemon start -> first list, 1,000 defined", &full, "the same with none", &empty);
}

/// A refresh of a pool with 10,000 volumes, half raw, half qcow2 with a backing file, in turn with a bare look at the
/// directory: one `stat` per name.
pub fn refresh(table: &mut Table, rounds: usize) -> Result<(), String> {
    const VOLUMES: usize = 10_000;
    let world = World::with_guests()?;
    let (base, pool) = (world.base.join("base.qcow2"), world.base.join("pool"));
    fs::create_dir(&pool).map_err(|error| error.to_string())?;
    for arguments in [vec!["create", "-q", "-f", "qcow2", "base.qcow2", "1G"], {
        vec!["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2", "over.qcow2"]
    }] {
        let made = Command::new("/usr/bin/qemu-img").args(arguments).current_dir(&world.base).status();
        if !made.is_ok_and(|status| status.success()) {
            return Err("qemu-img makes no image".into());
        }
    }
    let image = fs::read(world.base.join("over.qcow2")).map_err(|error| error.to_string())?;
    for number in 0..VOLUMES / 2 {
        fs::write(pool.join(format!("q{number}")), &image[..4096]).map_err(|error| error.to_string())?;
        let raw = fs::File::create(pool.join(format!("r{number}"))).map_err(|error| error.to_string())?;
        raw.set_len(1 << 30).map_err(|error| error.to_string())?;
    }
    let _ = fs::remove_file(base);
    let mut client = world.client();
    let xml = format!("<pool type='dir'><name>p</name><target><path>{}</path></target></pool>", pool.display());
    let root = crate::client::QEMU;
    let path = client.call(root, CONNECT, "StoragePoolCreateXML", &(xml.as_str(), 0u32)).last_string();
    let message = Client::message(&path, "org.libvirt.StoragePool", "Refresh", &(0u32,));
    let (mut refreshes, mut looks) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        refreshes.push(client.send(&message).took);
        let start = Instant::now();
        let lengths = fs::read_dir(&pool).map_err(|error| error.to_string())?.flatten();
        let sum: u64 = lengths.filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum();
        assert!(sum > 0);
        looks.push(start.elapsed());
    }
    table.beside("refresh of a pool of 10,000 volumes", &refreshes, "stat of 10,000 files", &looks);
    Ok(())
}
