//! Volume documents: libvirt's texts, round trips, refusals.

use rstest::rstest;

use super::*;
use crate::disk::pool::{PoolType, corpus};
use crate::error::Code;

fn rewrite(xml: &str, pool: PoolType) -> String {
    format(&parse(xml, pool, Capacity::Optional).expect("reads"))
}

#[test]
fn conformance_vectors() {
    let Some(inputs) = corpus("storagevolxml2xmlin") else { return };
    let outputs = inputs.with_file_name("storagevolxml2xmlout");
    let (mut seen, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(&inputs).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let pool = match name.as_str() {
            name if name.starts_with("vol-logical") => PoolType::Logical,
            name if name.starts_with("vol-partition") => PoolType::Disk,
            name if name.starts_with("vol-gluster") => PoolType::Gluster,
            _ => PoolType::Dir,
        };
        let xml = std::fs::read_to_string(entry.path()).unwrap();
        let written = rewrite(&xml, pool);
        let Ok(expected) = std::fs::read_to_string(outputs.join(&name)) else { continue };
        seen += 1;
        if written != expected || rewrite(&expected, pool) != expected {
            wrong.push(format!("{name}:\n{written}\nexpected\n{expected}"));
        }
    }
    assert!(seen > 0 && wrong.is_empty(), "{} of {seen} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[rstest]
#[case::qcow2(
    "<volume type='file'>\n  <name>a</name>\n  <key>/p/a</key>\n  <capacity unit='bytes'>1048576</capacity>\n  \
    <allocation unit='bytes'>0</allocation>\n  <target>\n    <path>/p/a</path>\n    <format type='qcow2'/>\n    \
    <permissions>\n      <mode>0600</mode>\n      <owner>0</owner>\n      <group>0</group>\n    </permissions>\n    \
    <encryption format='luks'>\n      <secret type='passphrase' uuid='f52a81b2-424e-490c-823d-6bd4235bc572'/>\n      \
    <cipher name='twofish' size='256' mode='cbc' hash='sha256'/>\n      <ivgen name='plain64' hash='sha256'/>\n    \
    </encryption>\n    <compat>1.1</compat>\n    <nocow/>\n    <clusterSize unit='B'>131072</clusterSize>\n    \
    <features>\n      <lazy_refcounts/>\n      <extended_l2/>\n    </features>\n  </target>\n  <backingStore>\n    \
    <path>/p/base</path>\n    <format type='raw'/>\n    <permissions>\n      <mode>0644</mode>\n    </permissions>\n  \
    </backingStore>\n</volume>\n"
)]
fn round_trips(#[case] xml: &str) {
    assert_eq!(rewrite(xml, PoolType::Dir), xml);
}

#[test]
fn sizes_have_units_and_defaults() {
    let def = |inner: &str| {
        let xml = format!("<volume><name>a</name>{inner}</volume>");
        parse(&xml, PoolType::Dir, Capacity::OptionalWithBacking).expect("reads")
    };
    let plain = def("<capacity unit='G'>5</capacity>");
    assert_eq!((plain.capacity, plain.allocation, plain.has_allocation), (5 << 30, 5 << 30, false));
    let sparse = def("<capacity unit='KB'>5</capacity><allocation>0</allocation>");
    assert_eq!((sparse.capacity, sparse.allocation, sparse.has_allocation), (5000, 0, true));
    let over = def("<backingStore><path>/b</path><format type='qcow2'/></backingStore>");
    assert_eq!(over.capacity, 0);
    assert_eq!(over.backing.unwrap().format, Some(VolumeFormat::File(FileFormat::Qcow2)));
    let features = def("<capacity>1</capacity><target><features/></target>");
    assert_eq!(features.target.compat.as_deref(), Some("1.1"));
}

#[test]
fn what_was_measured_is_shown() {
    let def = VolumeDef {
        kind: VolumeKind::Block,
        name: "v".into(),
        extents: vec![
            Extent { device: "/dev/a".into(), start: 0, end: 10 },
            Extent { device: "/dev/a".into(), start: 20, end: 30 },
        ],
        physical: Some(10),
        target: VolumeTarget {
            timestamps: Some(Timestamps { accessed: (5, 12), modified: (6, 0), changed: (7, 1), born: None }),
            ..Default::default()
        },
        ..Default::default()
    };
    let xml = format(&def);
    for part in [
        "  <source>\n    <device path='/dev/a'>\n      <extent start='0' end='10'/>\n      <extent start='20' end='30'/>\n",
        "  <physical unit='bytes'>10</physical>\n",
        "      <atime>5.000000012</atime>\n      <mtime>6</mtime>\n      <ctime>7.000000001</ctime>\n    </timestamps>\n",
    ] {
        assert!(xml.contains(part), "{part} is not in\n{xml}");
    }
}

#[rstest]
#[case("<volume/>", Code::XmlError, "missing volume name element")]
#[case("<vol/>", Code::XmlError, "expecting root element of 'volume', not 'vol'")]
#[case("<volume><name>a</name></volume>", Code::XmlError, "missing capacity element")]
#[case("<volume><name>a</name><capacity>x</capacity></volume>", Code::XmlError, "malformed capacity element")]
#[case("<volume><name>a</name><capacity unit='q'>1</capacity></volume>", Code::InvalidArg, "unknown suffix 'q'")]
#[case("<volume><name>a</name><capacity unit='E'>9</capacity></volume>", Code::Overflow, "value too large: 9E")]
#[case(
    "<volume type='q'><name>a</name><capacity>1</capacity></volume>",
    Code::ConfigUnsupported,
    "unknown volume type 'q'"
)]
#[case(
    "<volume><name>a</name><capacity>1</capacity><target><format type='qcow3'/></target></volume>",
    Code::ConfigUnsupported,
    "unknown volume format type qcow3; did you mean"
)]
#[case(
    "<volume><name>a</name><capacity>1</capacity><target><compat>x</compat></target></volume>",
    Code::XmlError,
    "forbidden characters in 'compat' attribute"
)]
#[case(
    "<volume><name>a</name><capacity>1</capacity><target><features><q/></features></target></volume>",
    Code::ConfigUnsupported,
    "unsupported feature q"
)]
#[case(
    "<volume><name>a</name><capacity>1</capacity><target><encryption format='luks'><secret type='q'/></encryption></target></volume>",
    Code::ConfigUnsupported,
    "unknown volume encryption secret type q"
)]
#[case(
    "<volume><name>a</name><capacity>1</capacity><target><encryption format='luks'><secret type='passphrase'/></encryption></target></volume>",
    Code::XmlError,
    "missing secret uuid or usage attribute"
)]
fn refused(#[case] xml: &str, #[case] code: Code, #[case] says: &str) {
    let error = parse(xml, PoolType::Dir, Capacity::Required).expect_err("refused");
    assert_eq!(error.code, code, "{}", error.detail);
    assert!(error.detail.starts_with(says), "{}", error.detail);
}
