//! A guest's start and end, in turn with bare QEMU.

use std::fs;

use crate::client::{CONNECT, DOMAIN, QEMU};
use crate::floor::Floor;
use crate::table::{Samples, Table};
use crate::world::{World, nova_guest};

/// The guest's QEMU: the process that has the instance's directory in its arguments.
fn pid_of_guest(world: &World) -> u32 {
    let needle = world.base.join("instances").to_string_lossy().into_owned();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            comm.starts_with("qemu-system") && String::from_utf8_lossy(&cmdline).contains(&needle)
        })
        .expect("a running guest")
}

pub fn measure(world: &World, rounds: usize, table: &mut Table) {
    let mut client = world.client();
    let xml = nova_guest(&world.base);
    let domain = client.call(QEMU, CONNECT, "DomainDefineXML", &(xml.as_str(),)).last_string();

    // One round first: page cache, the daemon's probe of the emulator, and the arguments for the floor.
    client.call(&domain, DOMAIN, "Create", &(0u32,));
    let floor = Floor::of(pid_of_guest(world), &world.base);
    client.call(&domain, DOMAIN, "Destroy", &(0u32,));
    floor.start().kill();

    let (mut create, mut bare, mut destroy, mut kill) = Default::default();
    let take = |samples: &mut Samples, sample| samples.push(sample);
    for _ in 0..rounds {
        take(&mut create, client.call(&domain, DOMAIN, "Create", &(0u32,)).took);
        take(&mut destroy, client.call(&domain, DOMAIN, "Destroy", &(0u32,)).took);
        let started = floor.start();
        take(&mut bare, started.running);
        take(&mut kill, started.kill());
    }
    client.call(&domain, DOMAIN, "Undefine", &(0u32,));
    table.beside(
        "VM: Create -> QMP running (Nova XML, tap, qcow2 over raw)",
        &create,
        "bare QEMU, same arguments",
        &bare,
    );
    table.beside("VM: destroy", &destroy, "kill -9 and reap", &kill);
}
