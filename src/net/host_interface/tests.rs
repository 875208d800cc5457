use std::path::{Path, PathBuf};

use rstest::rstest;

use super::*;
use crate::error::Code;

/// The corpus of documents, when there is one: each comes out as it went in.
#[test]
fn the_corpus_comes_out_as_it_went_in() {
    let Some(corpus) = std::env::var_os("DOMUS_CORPUS").map(PathBuf::from) else { return };
    let (mut passed, mut failed) = (0, Vec::new());
    for entry in std::fs::read_dir(corpus.join("data/interfaceschemadata")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        match InterfaceDef::parse(&text) {
            Ok(def) if def.to_xml() == text => passed += 1,
            Ok(def) => failed.push(format!("{}\n{}", path.display(), def.to_xml())),
            Err(error) => failed.push(format!("{}: {error}", path.display())),
        }
    }
    eprintln!("interfaces: {passed} of {}", passed + failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn everything_there_is_to_say() {
    let xml = "<interface type='bridge' name='br0'>
  <start mode='onboot'/>
  <mtu size='1500'/>
  <protocol family='ipv4'>
    <dhcp peerdns='no'/>
    <ip address='192.168.0.5' prefix='24'/>
    <route gateway='192.168.0.1'/>
  </protocol>
  <protocol family='ipv6'>
    <autoconf/>
    <dhcp/>
  </protocol>
  <bridge stp='on' delay='0.50'>
    <interface type='ethernet' name='eth2'>
      <link speed='1000' state='up'/>
      <mac address='ab:bb:cc:dd:ee:ff'/>
    </interface>
    <interface type='bond' name='bond0'>
      <bond mode='802.3ad'>
        <miimon freq='100' downdelay='5' updelay='10' carrier='netif'/>
        <interface type='ethernet' name='eth1'>
        </interface>
      </bond>
    </interface>
    <interface type='vlan' name='eth0.42'>
      <vlan tag='42'>
        <interface name='eth0'/>
      </vlan>
    </interface>
  </bridge>
</interface>
";
    assert_eq!(InterfaceDef::parse(xml).unwrap().to_xml(), xml);
    assert!(InterfaceDef::validate(xml).is_ok());
    let error = InterfaceDef::validate(&xml.replace("<autoconf/>", "<autoconv/>")).unwrap_err();
    assert_eq!(error.code, Code::XmlInvalidSchema, "{error}");
}

#[rstest]
#[case("<interface name='x'/>", "Missing required attribute 'type' in element 'interface'")]
#[case("<interface type='foo' name='x'/>", "Invalid value for attribute 'type' in element 'interface': 'foo'.")]
#[case("<foo/>", "expecting root element of 'interface', not 'foo'")]
#[case("<interface type='ethernet'/>", "interface has no name")]
#[case("<interface type='ethernet' name='x'><start mode='q'/></interface>", "unknown interface startmode q")]
#[case("<interface type='ethernet' name='x'><mtu size='q'/></interface>", "interface mtu value is improper")]
#[case("<interface type='ethernet' name='x'><protocol/></interface>", "protocol misses the family attribute")]
#[case("<interface type='ethernet' name='x'><protocol family='ipx'/></interface>", "unsupported protocol family 'ipx'")]
#[case(
    "<interface type='ethernet' name='x'><link state='q'/></interface>",
    "Invalid value for attribute 'state' in element 'link': 'q'."
)]
#[case("<interface type='bridge' name='x'/>", "bridge interface misses the bridge element")]
#[case(
    "<interface type='bridge' name='x'><bridge stp='q'/></interface>",
    "bridge interface stp should be on or off got q"
)]
#[case(
    "<interface type='bridge' name='x'><bridge><interface type='bridge' name='y'/></bridge></interface>",
    "interface has unsupported type 'bridge'"
)]
#[case("<interface type='bond' name='x'/>", "bond interface misses the bond element")]
#[case("<interface type='bond' name='x'><bond mode='q'/></interface>", "unknown bonding mode q")]
#[case(
    "<interface type='bond' name='x'><bond><miimon/></bond></interface>",
    "bond interface miimon freq missing or invalid"
)]
#[case(
    "<interface type='bond' name='x'><bond><miimon freq='1' updelay='q'/></bond></interface>",
    "bond interface miimon updelay invalid"
)]
#[case(
    "<interface type='bond' name='x'><bond><arpmon interval='1'/></bond></interface>",
    "bond interface arpmon target missing"
)]
#[case("<interface type='vlan' name='x'><vlan/></interface>", "vlan interface misses the tag attribute")]
#[case("<interface type='vlan' name='x'><vlan tag='3'/></interface>", "vlan interface misses name attribute")]
fn refused_as_libvirt_does(#[case] xml: &str, #[case] start: &str) {
    let error = InterfaceDef::parse(xml).unwrap_err();
    assert_eq!(error.code, Code::XmlError, "{error}");
    assert!(error.detail.starts_with(start), "{error}");
    assert!(error.detail.contains("line 1"), "{error}");
}

#[allow(clippy::disallowed_methods, reason = "a fixture")]
fn files(below: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = below.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

#[test]
fn links_are_described() {
    let temp = tempfile::tempdir().unwrap();
    let net = temp.path().join("net");
    files(
        &net,
        &[
            ("lo/address", "00:00:00:00:00:00\n"),
            ("eth0/address", "52:54:00:00:00:01\n"),
            ("eth0/mtu", "1500\n"),
            ("eth0/speed", "1000\n"),
            ("eth0/operstate", "up\n"),
            ("eth1/address", "52:54:00:00:00:02\n"),
            ("eth1/brport/state", "3\n"),
            ("eth1/operstate", "down\n"),
            ("br0/address", "52:54:00:00:00:02\n"),
            ("br0/operstate", "down\n"),
            ("br0/bridge/stp_state", "0\n"),
            ("br0/bridge/forward_delay", "1500\n"),
            ("br0/brif/eth1/state", "3\n"),
            ("eth0.42/address", "52:54:00:00:00:01\n"),
            ("eth0.42/operstate", "up\n"),
            ("eth0.42/speed", "-1\n"),
        ],
    );
    let vlans = temp.path().join("vlan");
    files(&vlans, &[("eth0.42", "eth0.42  VID: 42\t REORDER_HDR: 1  dev->priv_flags: 81021\nDevice: eth0\n")]);
    let found = scan::look(&net, &vlans).unwrap();
    let xml: String = found.iter().map(|link| format!("{}\n{}", link.up, link.def.to_xml())).collect();
    assert_eq!(
        xml,
        "false
<interface type='bridge' name='br0'>
  <bridge stp='off' delay='15.00'>
    <interface type='ethernet' name='eth1'>
      <link state='down'/>
      <mac address='52:54:00:00:00:02'/>
    </interface>
  </bridge>
</interface>
true
<interface type='ethernet' name='eth0'>
  <mtu size='1500'/>
  <link speed='1000' state='up'/>
  <mac address='52:54:00:00:00:01'/>
</interface>
true
<interface type='vlan' name='eth0.42'>
  <link state='up'/>
  <vlan tag='42'>
    <interface name='eth0'/>
  </vlan>
</interface>
"
    );
}

const SEED: &str = "<interface type='bridge' name='b'><start mode='none'/><mtu size='15'/><protocol family='ipv6'><autoconf/>\
                    <dhcp peerdns='no'/><ip address='::1' prefix='64'/><route gateway='::2'/></protocol><bridge stp='on' \
                    delay='1'><interface type='bond' name='o'><bond mode='802.3ad'><miimon freq='1' updelay='2' \
                    carrier='ioctl'/><interface type='ethernet' name='e'><link speed='1' state='up'/><mac \
                    address='1:2'/></interface></bond></interface><interface type='vlan' name='v'><vlan tag='4'><interface \
                    name='e'/></vlan></interface></bridge></interface>";

/// Every document that differs from a good one in a byte is read or refused, never worse; what is read is written so that
/// it reads back the same.
#[test]
fn broken_documents_do_no_harm() {
    for (at, _) in SEED.char_indices() {
        let (before, after) = SEED.split_at(at);
        let mut rest = after.chars();
        rest.next();
        for put in ["", "'", "<", "/", "$", "9999999999", "\u{e9}"] {
            let text = format!("{before}{put}{}", rest.as_str());
            if let Ok(def) = InterfaceDef::parse(&text) {
                let written = def.to_xml();
                let again = InterfaceDef::parse(&written).unwrap_or_else(|error| panic!("{text}\n{written}: {error}"));
                assert_eq!(again.to_xml(), written, "{text}");
            }
        }
    }
}
