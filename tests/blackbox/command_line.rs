//! The command line's groups about interfaces, network filters and snapshots, on the test driver.

use crate::harness::Lab;
use crate::mock_life::xml;

const FILTER: &str = "<filter name='a'><uuid>01a992d2-f8c8-7c27-f69b-ab0a9d377379</uuid>\
                      <rule action='drop' direction='in'><tcp dstportstart='22'/></rule></filter>";

#[test]
fn interfaces_are_defined_and_gone_back_to() {
    let lab = Lab::mock();
    let definition =
        "<interface type='ethernet' name='nic'><start mode='onboot'/><mac address='11:22:33:44:55:66'/></interface>";
    let file = lab.write("nic.xml", definition);
    assert_eq!(lab.ok(&["iface-begin"]), "Network config change transaction started");
    assert_eq!(lab.ok(&["iface-define", &file]), format!("Interface nic defined from {file}"));
    assert!(!lab.ok(&["iface-list"]).contains("nic"));
    assert_eq!(lab.ok(&["iface-start", "nic"]), "Interface nic started");
    let list = lab.ok(&["iface-list", "--all"]);
    assert!(list.contains("nic") && list.contains("active") && list.contains("11:22:33:44:55:66"), "{list}");
    assert_eq!(lab.ok(&["iface-name", "11:22:33:44:55:66"]), "nic");
    assert_eq!(lab.ok(&["iface-mac", "--interface", "nic"]), "11:22:33:44:55:66");
    assert!(lab.ok(&["iface-dumpxml", "nic", "--inactive"]).contains("<start mode='onboot'/>"));
    assert_eq!(lab.ok(&["iface-destroy", "nic"]), "Interface nic destroyed");
    assert_eq!(lab.ok(&["--json", "iface-list", "--inactive"]).matches("\"name\"").count(), 1);
    assert_eq!(lab.ok(&["iface-rollback"]), "Network config change transaction rolled back");
    lab.fails_with(&["iface-dumpxml", "nic"], &["failed to get interface 'nic'", "Interface not found"]);
    lab.fails_with(&["iface-commit"], &["Failed to commit network config change transaction"]);
    lab.finish();
}

#[test]
fn network_filters_come_and_go() {
    let lab = Lab::mock();
    let file = lab.write("a.xml", FILTER);
    assert_eq!(lab.ok(&["nwfilter-define", &file]), format!("Network filter a defined from {file}"));
    assert!(lab.ok(&["nwfilter-list"]).contains("01a992d2-f8c8-7c27-f69b-ab0a9d377379   a"));
    for name in ["a", "01a992d2-f8c8-7c27-f69b-ab0a9d377379"] {
        assert!(lab.ok(&["nwfilter-dumpxml", name]).contains("dstportstart='22'"));
    }
    let bad = lab.write("bad.xml", &FILTER.replace("22", "high"));
    lab.fails_with(&["nwfilter-define", "--file", &bad], &["Failed to define network filter from", "dstportstart"]);
    assert_eq!(lab.ok(&["nwfilter-undefine", "--nwfilter", "a"]), "Network filter a undefined");
    lab.fails_with(&["nwfilter-dumpxml", "a"], &["failed to get nwfilter 'a'", "Network filter not found"]);
    lab.finish();
}

#[test]
fn snapshots_are_taken_and_gone_back_to() {
    let lab = Lab::mock();
    lab.define(&xml("one"));
    lab.fails_with(&["snapshot-current", "one"], &["the domain does not have a current snapshot"]);
    assert_eq!(lab.ok(&["snapshot-create-as", "one", "off", "before it ran"]), "Domain snapshot off created");
    lab.ok(&["start", "one"]);
    let file = lab.write("s.xml", "<domainsnapshot><name>a &amp; b</name></domainsnapshot>");
    let said = lab.ok(&["snapshot-create", "one", &file]);
    assert_eq!(said, format!("Domain snapshot a & b created from '{file}'"));
    assert_eq!(lab.ok(&["snapshot-list", "one", "--name"]), "a & b\noff");
    assert_eq!(lab.ok(&["snapshot-list", "one", "--name", "--roots"]), "off");
    assert_eq!(lab.ok(&["snapshot-list", "--domain", "one", "--name", "--from", "off"]), "a & b");
    let list = lab.ok(&["snapshot-list", "one", "--parent"]);
    let row = list.lines().find(|line| line.contains("a & b")).unwrap();
    assert!(row.contains("+0000   running   off"), "{list}");
    assert_eq!(lab.ok(&["snapshot-current", "one", "--name"]), "a & b");
    assert_eq!(lab.ok(&["snapshot-parent", "one", "a & b"]), "off");
    lab.fails_with(&["snapshot-parent", "one", "off"], &["snapshot 'off' has no parent"]);
    assert!(lab.ok(&["snapshot-dumpxml", "one", "off"]).contains("<description>before it ran</description>"));
    let info = lab.ok(&["snapshot-info", "one", "--current"]);
    for line in ["Name:          a & b", "Current:       yes", "State:         running", "Parent:        off"] {
        assert!(info.contains(line), "{line}: {info}");
    }
    assert_eq!(lab.ok(&["snapshot-revert", "one", "off"]), "Domain snapshot off reverted");
    assert_eq!(lab.state("one"), "shut off");
    let print = lab.ok(&["snapshot-create-as", "one", "x < y", "--print-xml"]);
    assert!(print.contains("<name>x &lt; y</name>"), "{print}");
    assert_eq!(lab.ok(&["snapshot-delete", "one", "off", "--children-only"]), "Domain snapshot off children deleted");
    assert_eq!(lab.ok(&["snapshot-delete", "one", "off"]), "Domain snapshot off deleted");
    assert_eq!(lab.ok(&["snapshot-list", "one", "--name"]), "");
    lab.fails_with(&["snapshot-dumpxml", "one", "off"], &["no domain snapshot with matching name 'off'"]);
    lab.finish();
}
