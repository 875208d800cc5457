//! virsh says the same of our test driver as of libvirt's own, which it has built in: one script for both, word for word.

use std::process::Command;

use crate::harness::{DEADLINE, Lab, Out, Virsh, run, skip, test_name};

/// A daemon with the test driver as it is for everybody.
fn lab() -> Lab {
    let mut lab = Lab::bare(&["--mock"]);
    lab.configure("[test]\ndomain = true\n");
    lab.start();
    lab
}

/// Times differ from run to run.
fn comparable(text: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    let flush = |digits: &mut String, out: &mut String| {
        out.push_str(if digits.len() == 10 { "TIME" } else { digits });
        digits.clear();
    };
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
        } else {
            flush(&mut digits, &mut out);
            out.push(c);
        }
    }
    flush(&mut digits, &mut out);
    let date = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let is_zone = |word: &&str| {
            word.len() == 5 && word.starts_with(['+', '-']) && word[1..].bytes().all(|b| b.is_ascii_digit())
        };
        match words.iter().position(is_zone) {
            Some(at) if at >= 2 => [&words[..at - 2], &["DATE"], &words[at + 1..]].concat().join(" "),
            _ => line.to_string(),
        }
    };
    out.lines().map(date).map(|line| format!("{}\n", line.trim_end())).collect()
}

/// What libvirt's own test driver says. virsh, which is then client and driver in one, now and then never ends
/// a command that it shows progress of: such a run is given up and made again.
fn reference(script: &str) -> Out {
    let once = || run(Command::new("timeout").args(["20", "virsh", "-c", "test:///default", script]), DEADLINE);
    let first = once();
    if first.code == Some(124) { once() } else { first }
}

/// Runs the script on both; each command is shown before what it said.
fn alike(commands: &[&str]) {
    let lab = lab();
    let Some(ours) = Virsh::of_11(&lab, "test:///default", "libvirt-sock") else { return };
    if !run(Command::new("virsh").args(["-c", "test:///default", "uri"]), DEADLINE).success() {
        skip(&test_name(), "this virsh has no test driver built in");
        return;
    }
    let script: Vec<String> = commands.iter().map(|command| format!("echo '# {command}'; {command}")).collect();
    let script = script.join("; ");
    let both = |out: Out| (comparable(&out.stdout), comparable(&out.stderr));
    let reference = both(reference(&script));
    let answer = both(ours.run(&[&script]));
    assert!(reference.0.contains(&format!("# {}", commands.last().unwrap())), "{reference:?}");
    assert_eq!(answer.0, reference.0, "output");
    assert_eq!(answer.1, reference.1, "errors");
    lab.finish();
}

#[test]
fn what_is_there_from_the_start() {
    alike(&[
        "list --all",
        "dumpxml test",
        "net-list --all",
        "pool-list --all",
        "iface-list --all",
        "iface-dumpxml eth1",
        "nodedev-list --tree",
        "nodedev-dumpxml scsi_host1",
        "nodedev-dumpxml scsi_host2",
        "nodedev-dumpxml scsi_host11",
        "nodedev-dumpxml computer",
        "nodeinfo",
        "nodecpumap",
        "sysinfo",
        "vcpupin test",
        "find-storage-pool-sources logical",
        "find-storage-pool-sources-as netfs localhost",
        "find-storage-pool-sources-as netfs",
    ]);
}

#[test]
fn snapshots() {
    alike(&[
        "snapshot-list test",
        "snapshot-current test",
        "snapshot-create-as test a desc",
        "snapshot-dumpxml test a",
        "snapshot-create-as test a",
        "snapshot-create-as test b",
        "snapshot-dumpxml test b",
        "snapshot-create-as test c --halt",
        "domstate test --reason",
        "snapshot-list test",
        "snapshot-list test --tree",
        "snapshot-list test --roots --name",
        "snapshot-list test --leaves --name",
        "snapshot-list test --inactive --name",
        "snapshot-list test --parent",
        "snapshot-current test --name",
        "snapshot-parent test a",
        "snapshot-parent test b",
        "snapshot-info test b",
        "list --all --with-snapshot --name",
        "snapshot-revert test b --paused",
        "domstate test --reason",
        "snapshot-current test --name",
        "snapshot-create-as test d",
        "snapshot-list test --tree",
        "snapshot-list test --from b --name",
        "snapshot-list test --from a --descendants --name",
        "snapshot-delete test b --children-only",
        "snapshot-list test --tree",
        "snapshot-current test --name",
        "snapshot-delete test b",
        "snapshot-revert test nope",
        "snapshot-revert test a --running --paused",
        "snapshot-create-as test e --no-metadata",
        "snapshot-create-as test e --disk-only",
        "destroy test",
        "undefine test",
        "snapshot-revert test a",
        "domstate test --reason",
        "destroy test",
        "undefine test --snapshots-metadata",
        "list --all",
    ]);
}

#[test]
fn saved_states() {
    alike(&[
        "managedsave test",
        "domstate test --reason",
        "list --all --managed-save",
        "list --all --with-managed-save --name",
        "undefine test",
        "start test",
        // libvirt's forgets the reason here.
        "domstate test",
        "managedsave test --paused",
        "managedsave-remove test",
        "managedsave-remove test",
        "list --all --managed-save",
        "managedsave test",
    ]);
}

#[test]
fn interfaces() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let (good, bad) = (place("x.xml"), place("bad.xml"));
    std::fs::write(
        &good,
        "<interface type='bridge' name='x'><start mode='none'/><protocol family='ipv4'><dhcp/></protocol><bridge \
         stp='off'><interface type='ethernet' name='eth1'/></bridge></interface>",
    )
    .unwrap();
    std::fs::write(&bad, "<interface type='bond' name='x'><start mode='none'/></interface>").unwrap();
    alike(&[
        "iface-name aa:bb:cc:dd:ee:ff",
        "iface-mac eth1",
        "iface-name 00:00:00:00:00:01",
        "iface-dumpxml nix",
        &format!("iface-define {good}"),
        "iface-dumpxml x",
        "iface-list --all",
        "iface-list --inactive",
        "iface-start x",
        "iface-list",
        "iface-destroy x",
        "iface-begin",
        "iface-begin",
        "iface-undefine x",
        "iface-list --all",
        "iface-commit",
        "iface-commit",
        "iface-rollback",
    ]);
}

#[test]
fn virtual_ports() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, parent: &str| {
        let path = directory.path().join(name).to_str().unwrap().to_string();
        let xml = format!(
            "<device><name>scsi_host22</name><parent>{parent}</parent><capability type='scsi_host'><capability \
             type='fc_host'><wwnn>2000000098765432</wwnn><wwpn>1000000098765432</wwpn></capability></capability></device>"
        );
        std::fs::write(&path, xml).unwrap();
        path
    };
    let (port, computer) = (file("port.xml", "scsi_host1"), file("computer.xml", "computer"));
    alike(&[
        // Between the two libvirt's lists it no better than if it were not there.
        &format!("nodedev-create {port}"),
        &format!("nodedev-create {computer}"),
        "nodedev-destroy scsi_host12",
        "nodedev-destroy scsi_host12",
        "nodedev-list",
    ]);
}
