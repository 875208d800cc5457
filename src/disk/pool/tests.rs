//! Pool documents: libvirt's texts, round trips, refusals.

use std::path::PathBuf;

use rstest::rstest;

use super::*;
use crate::error::Code;

/// A directory of conformance vectors, when `DOMUS_CORPUS` names a corpus; else there is nothing to do.
pub(in crate::disk) fn corpus(directory: &str) -> Option<PathBuf> {
    let path = std::env::var_os("DOMUS_CORPUS").map(|root| PathBuf::from(root).join("data").join(directory));
    path.filter(|path| path.is_dir())
}

fn rewrite(xml: &str) -> String {
    format(&parse(xml).expect("reads").def, Usage::default())
}

#[test]
fn conformance_vectors() {
    let Some(inputs) = corpus("storagepoolxml2xmlin") else { return };
    let outputs = inputs.with_file_name("storagepoolxml2xmlout");
    let (mut seen, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(&inputs).unwrap().flatten() {
        let xml = std::fs::read_to_string(entry.path()).unwrap();
        let Ok(expected) = std::fs::read_to_string(outputs.join(entry.file_name())) else {
            parse(&xml).expect("a valid document");
            continue;
        };
        seen += 1;
        let parsed = parse(&xml).expect("reads");
        assert_eq!(parsed.warnings, vec![], "{:?}", entry.file_name());
        if rewrite(&xml) != expected || rewrite(&expected) != expected {
            wrong.push(format!("{:?}:\n{}\nexpected\n{expected}", entry.file_name(), rewrite(&xml)));
        }
    }
    assert!(seen > 0 && wrong.is_empty(), "{} of {seen} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[rstest]
#[case::dir(
    "<pool type='dir'>\n  <name>a</name>\n  SIZES\n  <features>\n    <cow state='yes'/>\n  </features>\n  \
    <source>\n  </source>\n  <target>\n    <path>/a</path>\n    <permissions>\n      <mode>0711</mode>\n      \
    <owner>1</owner>\n      <group>2</group>\n      <label>l</label>\n    </permissions>\n  </target>\n</pool>\n"
)]
#[case::netfs(
    "<pool type='netfs' xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0'>\n  <name>a</name>\n  SIZES\n  \
    <source>\n    <host name='h'/>\n    <host name='i' port='-5'/>\n    <dir path='//a/b'/>\n    <format type='nfs'/>\n    \
    <protocol ver='4.1'/>\n    <vendor name='v'/>\n    <product name='p'/>\n  </source>\n  <target>\n    \
    <path>/x</path>\n  </target>\n  <refresh>\n    <volume allocation='capacity'/>\n  </refresh>\n  \
    <fs:mount_opts>\n    <fs:option name='sync'/>\n  </fs:mount_opts>\n</pool>\n"
)]
#[case::logical(
    "<pool type='logical'>\n  <name>a</name>\n  SIZES\n  <source>\n    <device path='/dev/b'/>\n    \
    <device path='/dev/c'/>\n    <name>vg</name>\n    <format type='lvm2'/>\n  </source>\n  <target>\n    \
    <path>/dev/vg</path>\n  </target>\n</pool>\n"
)]
#[case::scsi(
    "<pool type='scsi'>\n  <name>a</name>\n  SIZES\n  <source>\n    <adapter type='scsi_host'>\n      \
    <parentaddr unique_id='1'>\n        <address domain='0x0000' bus='0x00' slot='0x1f' function='0x2'/>\n      \
    </parentaddr>\n    </adapter>\n  </source>\n  <target>\n    <path>/dev/disk/by-path</path>\n  </target>\n</pool>\n"
)]
#[case::rbd(
    "<pool type='rbd' xmlns:rbd='http://libvirt.org/schemas/storagepool/rbd/1.0'>\n  <name>a</name>\n  SIZES\n  \
    <source>\n    <host name='h' port='6789'/>\n    <name>p</name>\n    <auth type='ceph' username='u'>\n      \
    <secret usage='s'/>\n    </auth>\n  </source>\n  <rbd:config_opts>\n    <rbd:option name='n' value='v'/>\n  \
    </rbd:config_opts>\n</pool>\n"
)]
#[case::iscsi_direct(
    "<pool type='iscsi-direct'>\n  <name>a</name>\n  SIZES\n  <source>\n    <host name='h'/>\n    \
    <device path='iqn.x'/>\n    <initiator>\n      <iqn name='iqn.y'/>\n    </initiator>\n  </source>\n</pool>\n"
)]
fn round_trips(#[case] xml: &str) {
    let sizes = "<uuid>70a7eb15-6c34-ee9c-bf57-69e8e5ff3fb2</uuid>\n  <capacity unit='bytes'>0</capacity>\n  \
                 <allocation unit='bytes'>0</allocation>\n  <available unit='bytes'>0</available>";
    let xml = xml.replace("SIZES", sizes);
    assert_eq!(parse(&xml).expect("reads").warnings, vec![]);
    assert_eq!(rewrite(&xml), xml);
}

#[test]
fn what_is_not_said_is_filled_in() {
    let def = |xml: &str| parse(xml).expect("reads").def;
    let logical = def("<pool type='logical'><source><name>vg</name></source><target><path>/x</path></target></pool>");
    assert_eq!((logical.name.as_str(), logical.target.path.as_deref()), ("vg", Some("/dev/vg")));
    let named = def("<pool type='logical'><name>q</name></pool>");
    assert_eq!((named.source.name.as_deref(), named.source.format), (Some("q"), Some("lvm2")));
    let clean = def("<pool type='dir'><name>a</name><target><path>///var//x/</path></target></pool>");
    assert_eq!(clean.target.path.as_deref(), Some("/var/x"));
}

const DIR: &str = "<target><path>/x</path></target>";

#[rstest]
#[case("<pool/>", Code::XmlError, "Missing required attribute 'type' in element 'pool'")]
#[case("<foo/>", Code::XmlError, "expecting root element of 'pool', not 'foo'")]
#[case(
    "<pool type='dri'/>",
    Code::XmlError,
    "Invalid value for attribute 'type' in element 'pool': 'dri'. did you mean 'dir'?"
)]
#[case("<pool type='dir'/>", Code::XmlError, "missing pool source name element")]
#[case("<pool type='dir'><name>a/b</name></pool>", Code::XmlError, "name a/b cannot contain '/'")]
#[case("<pool type='dir'><name>a</name></pool>", Code::XmlError, "missing storage pool target path")]
#[case("<pool type='dir'><name>a</name><uuid>z</uuid>T</pool>", Code::XmlError, "malformed uuid element")]
#[case("<pool type='fs'><name>a</name>T</pool>", Code::XmlError, "missing storage pool source device name")]
#[case(
    "<pool type='fs'><name>a</name><source><device/></source>T</pool>",
    Code::XmlError,
    "missing storage pool source device path"
)]
#[case(
    "<pool type='fs'><name>a</name><source><format type='ext5'/></source>T</pool>",
    Code::ConfigUnsupported,
    "unknown pool format type ext5"
)]
#[case("<pool type='netfs'><name>a</name>T</pool>", Code::XmlError, "missing storage pool source host name")]
#[case(
    "<pool type='netfs'><name>a</name><source><host/></source>T</pool>",
    Code::XmlError,
    "missing storage pool host name"
)]
#[case(
    "<pool type='netfs'><name>a</name><source><host name='h'/></source>T</pool>",
    Code::XmlError,
    "missing storage pool source path"
)]
#[case(
    "<pool type='netfs'><name>a</name><features><cow state='no'/></features></pool>",
    Code::NoSupport,
    "cow feature may only be used"
)]
#[case(
    "<pool type='scsi'><name>a</name><source><adapter/></source></pool>",
    Code::XmlError,
    "missing storage pool source adapter"
)]
#[case(
    "<pool type='scsi'><name>a</name><source><adapter type='scsi_host'/></source></pool>",
    Code::XmlError,
    "Either 'name' or 'parent'"
)]
#[case(
    "<pool type='scsi'><name>a</name><source><adapter type='fc_host'/></source></pool>",
    Code::XmlError,
    "'wwnn' and 'wwpn' must be"
)]
#[case(
    "<pool type='iscsi'><name>a</name><source><host name='h'/><auth type='q' username='x'/></source></pool>",
    Code::ConfigUnsupported,
    "unknown auth type 'q'"
)]
#[case(
    "<pool type='iscsi-direct'><name>a</name><source><host name='h'/></source></pool>",
    Code::ConfigUnsupported,
    "missing initiator IQN"
)]
fn refused(#[case] xml: &str, #[case] code: Code, #[case] says: &str) {
    let error = parse(&xml.replace('T', DIR)).expect_err("refused");
    assert_eq!(error.code, code, "{}", error.detail);
    assert!(error.detail.starts_with(says), "{}", error.detail);
    assert!(error.detail.contains("line 1"), "{}", error.detail);
}

#[test]
fn unknown_parts_are_named() {
    let xml = format!("<pool type='dir'><name>a</name>{DIR}<targt/></pool>");
    let parsed = parse(&xml).expect("reads");
    assert!(parsed.warnings[0].message.contains("did you mean 'target'?"), "{:?}", parsed.warnings);
    let error = parse_strictly(&xml).expect_err("refused");
    assert_eq!(error.code, Code::XmlInvalidSchema);
}

#[test]
fn two_pools_do_not_take_one_source() {
    let def = |xml: &str| parse(xml).expect("reads").def;
    let a = def("<pool type='dir'><name>a</name><target><path>/x</path></target></pool>");
    let b = def("<pool type='dir'><name>b</name><target><path>/x/</path></target></pool>");
    let c = def("<pool type='dir'><name>c</name><target><path>/y</path></target></pool>");
    assert!(a.conflicts_with(&b) && !a.conflicts_with(&c));
    let fs = |device: &str| {
        def(&format!("<pool type='fs'><name>f</name><source><device path='{device}'/></source>{DIR}</pool>"))
    };
    assert!(fs("/dev/a").conflicts_with(&fs("/dev/a")) && !fs("/dev/a").conflicts_with(&fs("/dev/b")));
}
