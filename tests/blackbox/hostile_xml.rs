//! Documents that are meant to hurt, through both front ends of the real daemon: refused at once, and the daemon takes no
//! more memory for them than a small multiple of what was sent.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::harness::bus::{CONNECT, TEST};
use crate::harness::{DEADLINE, Lab};
use crate::mock_life::xml;
use crate::rpc_wire::{Wire, string};

/// Far more than a refusal takes on a slow machine, far less than expanding or descending would.
const AT_ONCE: Duration = DEADLINE;
/// `REMOTE_PROC_DOMAIN_DEFINE_XML`.
const DEFINE: u32 = 11;
const MIB: usize = 1024 * 1024;

/// The most memory the daemon ever had, KiB.
fn peak(lab: &Lab) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", lab.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Every element in the one before.
fn nested(depth: usize) -> String {
    format!("<domain type='test'>{}{}</domain>", "<a>".repeat(depth), "</a>".repeat(depth))
}

/// Ten entities, each of ten of the one before: 10 GB of text.
fn laughs() -> String {
    let mut entities = String::from("<!ENTITY a0 'haha haha '>");
    for level in 1..10 {
        let former = format!("&a{};", level - 1).repeat(10);
        entities.push_str(&format!("<!ENTITY a{level} '{former}'>"));
    }
    format!("<!DOCTYPE domain [{entities}]><domain type='test'><name>&a9;</name><memory>1</memory></domain>")
}

/// Half a million attributes and elements in few bytes.
fn many() -> String {
    format!("<domain type='test'>{}</domain>", "<a b='' c=''/>".repeat(MIB / 7))
}

#[test]
fn small_documents_with_much_in_them() {
    let lab = Lab::mock();
    lab.define(&xml("one"));
    let bus = lab.bus();
    let mut wire = Wire::open(&lab, "libvirt-sock");
    let before = peak(&lab);
    for (what, text, most) in [
        ("10,000 nested elements", nested(10_000), 32),
        ("billion laughs", laughs(), 32),
        // 2 MiB of them, and each has to be looked at.
        ("many elements", many(), 512),
    ] {
        let began = Instant::now();
        let refused = bus.refused(TEST, CONNECT, "DomainDefineXML", &(text.as_str(),));
        assert!(!refused.message.is_empty(), "{what}");
        let ((words, _), argument) = (wire.call(DEFINE, &string(&text)), text.len());
        assert_eq!(words[5], 1, "{what} of {argument} bytes is refused over RPC too");
        assert!(began.elapsed() < AT_ONCE, "{what} took {:?}", began.elapsed());
        let grown = (peak(&lab) - before) / 1024;
        assert!(grown < most, "{what}: the daemon grew by {grown} MiB");
    }
    assert_eq!(lab.names(), ["one"]);
    drop((bus, wire));
    lab.finish();
}

#[test]
fn a_document_of_100_mib() {
    let lab = Lab::mock();
    lab.define(&xml("one"));
    // Over RPC: the packet's length alone ends the connection, and no string has more than 4 MiB.
    let before = peak(&lab);
    let mut wire = Wire::open(&lab, "libvirt-sock");
    let length = u32::try_from(100 * MIB).unwrap();
    wire.0.write_all(&length.to_be_bytes()).unwrap();
    assert!(wire.receive().is_none(), "the connection ends");
    let mut wire = Wire::open(&lab, "libvirt-sock");
    let (words, _) = wire.call(DEFINE, &string(&" ".repeat(5 * MIB)));
    assert_eq!(words[5], 1, "a string of 5 MiB is refused");
    let grown = (peak(&lab) - before) / 1024;
    assert!(grown < 48, "the daemon grew by {grown} MiB for 5 MiB");
    // Over D-Bus, which allows messages of 128 MiB: it is received, and refused without being read.
    let bus = lab.bus();
    let text = format!("<domain type='test'>{}</domain>", " ".repeat(100 * MIB));
    let began = Instant::now();
    let refused = bus.refused(TEST, CONNECT, "DomainDefineXML", &(text.as_str(),));
    assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
    assert!(refused.message.contains("16777216"), "the limit is named: {}", refused.message);
    let grown = (peak(&lab) - before) / 1024;
    assert!(grown < 450, "the daemon grew by {grown} MiB for 100 MiB");
    assert_eq!(lab.names(), ["one"]);
    drop((bus, wire));
    lab.finish();
}
