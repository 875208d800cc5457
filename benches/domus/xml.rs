//! The definition path in memory: parse, complete, format; and a daemon start with 10,000 definitions.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use domus::domain_xml::{self, FormatOptions};
use domus::qemu::capabilities::QemuCaps;
use domus::qemu::complete;
use domus::qemu::firmware::FirmwareChoice;

use crate::client::{CONNECT, Client, TEST};
use crate::table::{Samples, Table};
use crate::world::{World, nova_xml};

const EMULATOR: &str = "/usr/bin/qemu-system-x86_64";
const STORED: FormatOptions = FormatOptions { secure: true, inactive: true, migratable: false };

/// Parse, complete and format of Nova's XML, each alone and together: what a define costs besides the disk.
pub fn in_memory(table: &mut Table, rounds: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let caps = fs::read_to_string(root.join("src/qemu/command/testdata/caps.json")).unwrap();
    let caps: QemuCaps = serde_json::from_str(&caps).unwrap();
    let text = fs::read_to_string(root.join("tests/fixtures/nova/qemu-spawn-domain-as-returned.xml")).unwrap();
    let firmwares = FirmwareChoice::default();
    let (mut parsing, mut completing, mut formatting, mut all) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    for _ in 0..rounds {
        let start = Instant::now();
        let mut def = domain_xml::parse_inactive(black_box(&text)).unwrap().def;
        let parsed = start.elapsed();
        complete::complete(&mut def, EMULATOR, Some(&caps), &firmwares).unwrap();
        let completed = start.elapsed();
        black_box(domain_xml::format(&def, STORED));
        let formatted = start.elapsed();
        parsing.push(parsed);
        completing.push(completed - parsed);
        formatting.push(formatted - completed);
        all.push(formatted);
    }
    let size = text.len();
    table.alone(&format!("parse, {size} bytes of domain XML"), &parsing);
    table.alone("complete", &completing);
    table.alone("format", &formatting);
    table.alone("parse + complete + format", &all);
}

/// A define beside its floor: the durable replacement of one file of the stored size, in the same directory tree.
pub fn whole_define(table: &mut Table, rounds: usize) {
    let world = World::mock();
    let mut client = world.client();
    let directory = world.base.join("floor");
    fs::create_dir(&directory).unwrap();
    let (mut defines, mut floors, mut over) = (Samples::default(), Samples::default(), Samples::default());
    for number in 0..rounds {
        let xml = definition(number, &world.base);
        let message = Client::message(TEST, CONNECT, "DomainDefineXML", &(xml.as_str(),));
        // In turn first and second: the second of two fsyncs finds less to do.
        let floor = || crate::control::durable(&directory, number, xml.as_bytes());
        let (define, bare) = if number % 2 == 0 {
            let define = client.send(&message).took;
            (define, floor())
        } else {
            let bare = floor();
            (client.send(&message).took, bare)
        };
        defines.push(define);
        floors.push(bare);
        over.push(define.saturating_sub(bare.mul_f64(1.2)));
    }
    table.beside("define, whole call", &defines, "durable replacement of one file", &floors);
    table.alone("define, beyond 1.2 x its floor of the same round", &over);
}

/// A start with 10,000 definitions: from spawn to the first answer to a list.
pub fn ten_thousand(table: &mut Table, rounds: usize) {
    const COUNT: usize = 10_000;
    let mut world = World::mock();
    world.stop();
    // Written as the daemon writes them, without 10,000 times two fsyncs.
    let template = definition(0, &world.base);
    let def = domain_xml::parse_inactive(&template).unwrap().def;
    let stored = domain_xml::format(&def, STORED);
    let directory = definitions(&world.root()).unwrap();
    let first = format!("{:012x}", 0);
    for number in 0..COUNT {
        let tail = format!("{number:012x}");
        let text = stored.replace(&first, &tail).replace("bench-0", &format!("bench-{number}"));
        let uuid = format!("{UUID_HEAD}{tail}");
        fs::write(directory.join(format!("{uuid}.xml")), text).unwrap();
    }
    let mut starts = Samples::default();
    for _ in 0..rounds.clamp(1, 5) {
        starts.push(world.start());
        let shown = world.memory();
        world.stop();
        eprintln!("  RSS / PSS {} / {} KiB", shown.0, shown.1);
    }
    table.beside("daemon start -> first list, 10,000 defined", &starts, "reading the files", &read_all(&directory));
}

const UUID_HEAD: &str = "2fbd1d85-719f-4be8-aeb4-";

fn definition(number: usize, base: &Path) -> String {
    let uuid = format!("{UUID_HEAD}{number:012x}");
    nova_xml(&format!("bench-{number}"), &uuid, base).replace("<domain type=\"qemu\"", "<domain type=\"test\"")
}

fn read_all(directory: &Path) -> Samples {
    let mut samples = Samples::default();
    let start = Instant::now();
    let mut bytes = 0;
    for entry in fs::read_dir(directory).unwrap() {
        bytes += fs::read(entry.unwrap().path()).map_or(0, |text| text.len());
    }
    black_box(bytes);
    samples.push(start.elapsed().max(Duration::from_nanos(1)));
    samples
}

/// Where the test driver's definitions are below the daemon's root.
fn definitions(root: &Path) -> Option<std::path::PathBuf> {
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        if directory.ends_with("test/definitions") {
            return Some(directory);
        }
        let entries = fs::read_dir(&directory).ok()?;
        open.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    None
}
