//! Networks through virsh and domus: life cycle, updates, metadata, refusals on the test driver; what a start makes of
//! the host, what a killed daemon finds again, and that nothing is left, in a network namespace.

use crate::harness::bus::{CONNECT, TEST};
use crate::harness::lab::ip;
use crate::harness::{DEADLINE, Lab, Virsh, eventually, program, run, skip, test_name};
use zbus::OwnedObjectPath;

const UUID: &str = "a5f3ea5a-0c1f-4c5f-b3ba-1a9a0b3a9d10";

/// A NAT network with everything that `net-update` can change.
fn xml(name: &str, bridge: &str) -> String {
    format!(
        "<network>\n  <name>{name}</name>\n  <uuid>{UUID}</uuid>\n  <forward mode='nat'/>\n  \
         <bridge name='{bridge}' stp='on' delay='0'/>\n  <mac address='52:54:00:11:22:33'/>\n  <dns>\n    \
         <txt name='a' value='1'/>\n  </dns>\n  <ip address='10.91.7.1' netmask='255.255.255.0'>\n    <dhcp>\n      \
         <range start='10.91.7.10' end='10.91.7.20'/>\n      \
         <host mac='52:54:00:00:00:01' name='one' ip='10.91.7.50'/>\n    </dhcp>\n  </ip>\n</network>\n"
    )
}

/// What both say to the same words, which must be the same.
fn same(lab: &Lab, virsh: &Virsh<'_>, words: &[&str]) -> String {
    let (theirs, ours) = (virsh.run(words), lab.run(words));
    assert_eq!(ours.stdout, theirs.stdout, "{words:?}");
    let last = |text: &str| text.trim_end().lines().last().map(str::to_string);
    assert_eq!(last(&ours.stderr), last(&theirs.stderr), "{words:?}");
    assert_eq!(ours.success(), theirs.success(), "{words:?}");
    ours.stdout
}

#[test]
fn the_test_driver_has_libvirts_network() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let list = same(&lab, &virsh, &["net-list", "--all"]);
    assert!(list.contains(" default   active   no          yes"), "{list}");
    for words in [
        &["net-info", "default"][..],
        &["net-dumpxml", "default"],
        &["net-uuid", "default"],
        &["net-name", "dd8fe884-6c02-601e-7551-cca97df1c5df"],
        &["net-list", "--name"],
        &["net-list", "--uuid"],
        &["net-list", "--inactive"],
        &["net-dhcp-leases", "default"],
        &["net-port-list", "default"],
        &["net-name", "nothing"],
        &["net-start", "default"],
        &["net-start", "nothing"],
    ] {
        same(&lab, &virsh, words);
    }
    lab.finish();
}

#[test]
fn a_network_lives_under_virsh_and_domus() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let file = lab.write("n.xml", &xml("n", "br-n"));
    assert!(virsh.ok(&["net-define", &file]).contains(&format!("Network n defined from {file}")));
    assert_eq!(same(&lab, &virsh, &["net-dumpxml", "n"]).trim_end(), xml("n", "br-n").trim_end());
    same(&lab, &virsh, &["net-info", "n"]);
    virsh.fails(&["net-destroy", "n"], "network 'n' is not active");
    assert!(lab.ok(&["net-autostart", "n"]).contains("Network n marked as autostarted"));
    assert!(lab.ok(&["net-start", "n"]).contains("Network n started"));
    same(&lab, &virsh, &["net-list", "--all"]);
    // A definition of a running network is that of its next start.
    let other = lab.write("other.xml", &xml("n", "br-other"));
    lab.ok(&["net-define", &other]);
    assert!(same(&lab, &virsh, &["net-dumpxml", "n"]).contains("br-n'"));
    assert!(same(&lab, &virsh, &["net-dumpxml", "--inactive", "n"]).contains("br-other'"));
    // Without its definition it runs on, and is gone with its end.
    assert!(virsh.ok(&["net-undefine", "n"]).contains("Network n has been undefined"));
    virsh.fails(&["net-undefine", "n"], "can't undefine transient network");
    virsh.fails(&["net-autostart", "n"], "cannot set autostart for transient network");
    assert!(virsh.ok(&["net-destroy", "n"]).contains("Network n destroyed"));
    same(&lab, &virsh, &["net-info", "n"]);
    assert!(virsh.ok(&["net-create", &file]).contains(&format!("Network n created from {file}")));
    virsh.fails(&["net-create", &file], "network is already active as 'n'");
    lab.ok(&["net-destroy", "n"]);
    lab.finish();
}

#[test]
fn sections_are_updated() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let file = lab.write("n.xml", &xml("n", "br-n"));
    lab.ok(&["net-define", &file]);
    let host = "<host mac='52:54:00:00:00:02' ip='10.91.7.51'/>";
    virsh.fails(&["net-update", "n", "add", "ip-dhcp-host", host, "--live"], "network is not running");
    assert!(
        virsh.ok(&["net-update", "n", "add", "ip-dhcp-host", host]).contains("Updated network n persistent config")
    );
    lab.ok(&["net-start", "n"]);
    let shows = |inactive: bool, text: &str| {
        let words: &[&str] = if inactive { &["net-dumpxml", "n", "--inactive"] } else { &["net-dumpxml", "n"] };
        lab.ok(words).contains(text)
    };
    assert!(shows(false, "10.91.7.51") && shows(true, "10.91.7.51"));
    let said = lab.ok(&["net-update", "n", "delete", "ip-dhcp-host", host, "--live"]);
    assert!(said.contains("Updated network n live state"), "{said}");
    assert!(!shows(false, "10.91.7.51") && shows(true, "10.91.7.51"));
    // Both or neither: the live one has no such host.
    virsh.fails(
        &["net-update", "n", "delete", "ip-dhcp-host", host, "--live", "--config"],
        "couldn't locate a matching dhcp host entry in network 'n'",
    );
    assert!(shows(true, "10.91.7.51"));
    let txt = lab.write("txt.xml", "<txt name='b' value='2'/>");
    let both = ["net-update", "n", "add-first", "dns-txt", &txt, "--live", "--config"];
    assert!(virsh.ok(&both).contains("Updated network n persistent config and live state"));
    let dump = lab.ok(&["net-dumpxml", "n"]);
    assert!(dump.contains("<txt name='b' value='2'/>\n    <txt name='a' value='1'/>"), "{dump}");
    virsh.ok(&["net-update", "n", "modify", "ip-dhcp-host", "<host mac='52:54:00:00:00:01' ip='10.91.7.60'/>"]);
    assert!(shows(false, "ip='10.91.7.60'") && !shows(true, "ip='10.91.7.60'"));
    virsh.fails(&["net-update", "n", "add", "bridge", "<bridge/>"], "can't update 'bridge' section of network 'n'");
    lab.fails_with(&["net-update", "n", "ad", "bridge", "<bridge/>"], &["unrecognized command name 'ad'", "add-first"]);
    lab.ok(&["net-destroy", "n"]);
    lab.finish();
}

#[test]
fn metadata_comes_and_goes() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::of_11(&lab, "test:///default", "libvirt-sock") else { return };
    lab.ok(&["net-define", &lab.write("n.xml", &xml("n", "br-n"))]);
    same(&lab, &virsh, &["net-desc", "n"]);
    virsh.ok(&["net-desc", "n", "--title", "--new-desc", "T"]);
    lab.ok(&["net-desc", "n", "some", "words"]);
    assert_eq!(same(&lab, &virsh, &["net-desc", "n"]).trim(), "some words");
    assert_eq!(same(&lab, &virsh, &["net-desc", "n", "--title"]).trim(), "T");
    let set = ["net-metadata", "n", "urn:x", "--key", "k", "--set", "<a b='c'/>"];
    assert!(virsh.ok(&set).contains("Metadata modified"));
    assert_eq!(same(&lab, &virsh, &["net-metadata", "n", "urn:x"]).trim(), "<a b='c'/>");
    let list = same(&lab, &virsh, &["net-list", "--all", "--title"]);
    assert!(list.contains("   T\n"), "{list}");
    assert!(lab.ok(&["net-metadata", "n", "urn:x", "--remove"]).contains("Metadata removed"));
    assert!(!lab.ok(&["net-dumpxml", "n"]).contains("urn:x"));
    lab.finish();
}

#[test]
fn refusals_are_libvirts() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    lab.ok(&["net-define", &lab.write("n.xml", &xml("n", "br-n"))]);
    let define = |text: &str| virsh.run(&["net-define", &lab.write("x.xml", text)]).stderr;
    for (text, expected) in [
        ("<foo/>", "XML error: expecting root element of 'network', not 'foo'"),
        ("<network/>", "missing name information"),
        (
            "<network><name>x</name><forward mode='nta'/></network>",
            "unknown forwarding type 'nta': did you mean 'nat'?",
        ),
        (
            "<network>\n<name>x</name>\n <forward mode='route'/></network>",
            "route forwarding requested, but no IP address provided for network 'x' (line 3, column 2, network/forward)",
        ),
        ("<network><name>x</name><bridge name='br-n'/></network>", "bridge name 'br-n' already in use."),
        ("<network><name>n</name></network>", "network 'n' already exists with uuid"),
        (&xml("other", "b"), "network 'n' is already defined with uuid"),
        (
            "<network>\n<name>x</name>\n<bridge name='averyveryverylongname'/></network>",
            "at most 15 bytes (line 3, column 1, network/bridge)",
        ),
    ] {
        let said = define(text);
        assert!(said.contains(expected), "{text}\n{said}");
    }
    let strange = lab.write("x.xml", "<network><name>v</name><brigde/></network>");
    virsh.fails(&["net-define", "--validate", &strange], "did you mean 'bridge'?");
    let reader = Virsh::on(&lab, "test:///default", "libvirt-sock-ro").unwrap();
    assert!(reader.ok(&["net-list", "--all"]).contains(" n "));
    reader.fails(&["net-start", "n"], "read only");
    reader.fails(&["net-undefine", "n"], "read only");
    lab.finish();
}

#[test]
fn virsh_hears_of_them() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let bus = lab.bus();
    let out = lab.work().join("events");
    let mut listener = virsh.command(&["net-event", "--event", "lifecycle"]);
    let mut listener = listener.stdout(std::fs::File::create(&out).unwrap()).spawn().unwrap();
    // virsh says nothing once it listens: things happen until it has seen one.
    eventually("virsh hears", DEADLINE, || {
        let _: OwnedObjectPath = bus.call(TEST, CONNECT, "NetworkDefineXML", &(xml("n", "br-n"),));
        listener.try_wait().unwrap()
    });
    let said = std::fs::read_to_string(&out).unwrap();
    assert!(said.contains("event 'lifecycle' for network n: Defined"), "{said}");
    drop(bus);
    lab.finish();
}

/// A daemon with networks on the host of a namespace; `None`, said aloud, where that cannot be.
fn host() -> Option<Lab> {
    for (name, package) in [("nft", "nftables"), ("dnsmasq", "dnsmasq-base")] {
        if program(name).is_none() {
            skip(&test_name(), &format!("{name} is not installed ({package})"));
            return None;
        }
    }
    Lab::lxc()
}

fn nft(lab: &Lab) -> String {
    run(lab.program("nft").args(["list", "ruleset"]), DEADLINE).stdout
}

#[test]
fn default_is_shipped_once_in_a_free_subnet() {
    let Some(mut lab) = host() else { return };
    assert!(lab.run(&["net-info", "default"]).stderr.contains("failed to get network"));
    lab.configure("drivers = ['lxc']\n[network]\nship_default = true\n");
    lab.restart();
    let dump = lab.ok(&["net-dumpxml", "default"]);
    assert!(dump.contains("<forward mode='nat'/>") && dump.contains("address='192.168.122.1'"), "{dump}");
    assert!(lab.ok(&["net-list", "--all"]).contains(" default   inactive   no          yes"));
    lab.ok(&["net-undefine", "default"]);
    lab.restart();
    assert!(!lab.ok(&["net-list", "--all"]).contains("default"), "the user did not want it");
    lab.finish();
}

#[test]
fn a_network_is_made_kept_and_taken_away() {
    let Some(mut lab) = host() else { return };
    let bridge = "virbr77";
    lab.ok(&["net-define", &lab.write("n.xml", &xml("n", bridge))]);
    lab.ok(&["net-start", "n"]);
    assert!(ip(&format!("-o addr show {bridge}")).contains("10.91.7.1/24"));
    assert!(nft(&lab).contains(&format!("table inet domus_{bridge}")));
    let host = "<host mac='52:54:00:00:00:02' name='two' ip='10.91.7.51'/>";
    lab.ok(&["net-update", "n", "add", "ip-dhcp-host", host, "--live"]);
    lab.crash();
    lab.start();
    assert!(lab.ok(&["net-info", "n"]).contains("Active:         yes"));
    assert!(lab.ok(&["net-dumpxml", "n"]).contains("10.91.7.51"), "what was changed while it ran is kept");
    assert!(!lab.ok(&["net-dumpxml", "n", "--inactive"]).contains("10.91.7.51"));
    // A second one in the same subnet, or on the same bridge, is refused, and leaves nothing.
    let clash = xml("m", "virbr78").replace(UUID, "a5f3ea5a-0c1f-4c5f-b3ba-1a9a0b3a9d11");
    let file = lab.write("m.xml", &clash);
    lab.fails_with(&["net-create", &file], &["Network is already in use by interface virbr77"]);
    assert!(!lab.ok(&["net-list", "--all"]).contains(" m "));
    lab.ok(&["net-destroy", "n"]);
    assert!(!nft(&lab).contains("domus_"));
    lab.ok(&["net-undefine", "n"]);
    lab.finish();
}
