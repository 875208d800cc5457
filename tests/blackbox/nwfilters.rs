//! Network filters of the test driver, under virsh and over D-Bus.

use crate::harness::bus::{CONNECT, LXC, TEST};
use crate::harness::{Lab, Virsh};
use zbus::OwnedObjectPath;

const FILTER: &str = "org.libvirt.NWFilter";
const UUID: &str = "01a992d2-f8c8-7c27-f69b-ab0a9d377379";

fn xml(name: &str, content: &str) -> String {
    format!("<filter name='{name}'><uuid>{UUID}</uuid>{content}</filter>")
}

#[test]
fn one_lives_under_virsh() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let rule = "<rule action='drop' direction='inout'><tcp dstportstart='22' comment='no ssh'/></rule>";
    let file = lab.write("a.xml", &xml("a", rule));
    assert!(virsh.ok(&["nwfilter-define", &file]).contains("Network filter a defined from"));
    assert!(virsh.ok(&["nwfilter-list"]).contains(&format!("{UUID}   a")));
    let shown = virsh.ok(&["nwfilter-dumpxml", UUID]);
    let wanted = format!(
        "<filter name='a' chain='root'>\n  <uuid>{UUID}</uuid>\n  <rule action='drop' direction='inout' \
         priority='500'>\n    <tcp dstportstart='22' comment='no ssh'/>\n  </rule>\n</filter>"
    );
    assert_eq!(shown.trim(), wanted);
    let other = lab.write("b.xml", &xml("b", ""));
    virsh.fails(&["nwfilter-define", &other], "filter with same UUID but different name ('a') already exists");
    let bad = lab.write("bad.xml", &xml("a", "<rule action='drop' direction='in'><tcp dscp='64'/></rule>"));
    virsh.fails(&["nwfilter-define", &bad], "dscp has illegal value 64");
    let looped = lab.write("loop.xml", &xml("a", "<filterref filter='a'/>"));
    virsh.fails(&["nwfilter-define", &looped], "filter would introduce a loop");
    assert_eq!(virsh.ok(&["nwfilter-dumpxml", "a"]).trim(), wanted, "what was refused has changed nothing");
    virsh.ok(&["nwfilter-undefine", "a"]);
    virsh.fails(&["nwfilter-dumpxml", "a"], "Network filter not found: no nwfilter with matching name 'a'");
    lab.finish();
}

#[test]
fn one_lives_on_the_bus() {
    let lab = Lab::mock();
    let bus = lab.bus();
    let path: OwnedObjectPath = bus.call(TEST, CONNECT, "NWFilterDefineXML", &(xml("a", "").as_str(),));
    assert_eq!(path.as_str(), format!("{TEST}/nwfilter/_{}", UUID.replace('-', "_")));
    for (member, key) in [("NWFilterLookupByName", "a"), ("NWFilterLookupByUUID", UUID)] {
        assert_eq!(bus.call::<_, OwnedObjectPath>(TEST, CONNECT, member, &(key,)), path, "{member}");
    }
    let all: Vec<OwnedObjectPath> = bus.call(TEST, CONNECT, "ListNWFilters", &(0u32,));
    assert_eq!(all, std::slice::from_ref(&path));
    assert!(bus.introspect(&format!("{TEST}/nwfilter")).contains(&UUID.replace('-', "_")));
    assert_eq!(String::try_from(bus.property(&path, FILTER, "Name")).unwrap(), "a");
    assert_eq!(String::try_from(bus.property(&path, FILTER, "UUID")).unwrap(), UUID);
    let _: () = bus.call(&path, FILTER, "Undefine", &());
    let refused = bus.refused(&path, FILTER, "GetXMLDesc", &(0u32,));
    assert_eq!(refused.message, format!("Network filter not found: no nwfilter with matching uuid '{UUID}'"));
    drop(bus);
    lab.finish();
}

#[test]
fn a_real_host_has_none() {
    let Some(lab) = Lab::lxc() else { return };
    let bus = lab.bus();
    let refused = bus.refused(LXC, CONNECT, "ListNWFilters", &(0u32,));
    assert_eq!(refused.message, "this function is not supported by the connection driver: virConnectListAllNWFilters");
    drop(bus);
    lab.finish();
}
