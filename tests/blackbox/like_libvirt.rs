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

/// Runs a script of virsh's. It now and then never ends a command that it shows progress of: such a run is `None`.
fn attempt(uri: &str, script: &str) -> Option<Out> {
    Some(run(Command::new("timeout").args(["15", "virsh", "-c", uri, script]), DEADLINE))
        .filter(|out| out.code != Some(124))
}

/// What comes of the first attempt that ends.
fn at_last<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    (0..8).find_map(|_| attempt()).expect("virsh ends")
}

/// Runs the script on both; each command is shown before what it said.
fn alike(commands: &[&str]) {
    if !run(Command::new("virsh").args(["-c", "test:///default", "uri"]), DEADLINE).success() {
        skip(&test_name(), "there is no virsh, or it has no test driver built in");
        return;
    }
    let script: Vec<String> = commands.iter().map(|command| format!("echo '# {command}'; {command}")).collect();
    let script = script.join("; ");
    let answer = at_last(|| {
        let lab = lab();
        let Some(ours) = Virsh::of_11(&lab, "test:///default", "libvirt-sock") else { return Some(None) };
        let answer = attempt(&ours.uri, &script);
        lab.finish();
        answer.map(Some)
    });
    let Some(answer) = answer else { return };
    let reference = at_last(|| attempt("test:///default", &script));
    let both = |out: Out| (comparable(&out.stdout), comparable(&out.stderr));
    let (answer, reference) = (both(answer), both(reference));
    assert!(reference.0.contains(&format!("# {}", commands.last().unwrap())), "{reference:?}");
    assert_eq!(answer.0, reference.0, "output");
    assert_eq!(answer.1, reference.1, "errors");
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

#[test]
fn what_a_domain_is_asked() {
    alike(&[
        "domname 1",
        "domid test",
        "domuuid test",
        "domcontrol test",
        "domdisplay test",
        "vncdisplay test",
        "ttyconsole test",
        "maxvcpus",
        "domiflist test",
        "domblklist test",
        "domblklist test --details",
        "domblkerror test",
        "domif-getlink test testnet0",
        "domif-getlink test eth0",
        "domifstat test eth0",
        "vcpucount test",
        "iothreadinfo test",
        "schedinfo test",
        "memtune test",
        "blkiotune test",
        "numatune test",
        "blkdeviotune test vda",
        "list --all --title",
        "list --uuid",
        "list --id",
        "perf test",
        "checkpoint-list test",
        "checkpoint-info test x",
        "domtime test --time 1000",
        "send-key test KEY_A",
        "inject-nmi test",
        "allocpages 2M 1",
        "nodesevinfo",
        "cpu-baseline /dev/null",
        "domthrottlegrouplist test",
        "domdisplay-reload test",
        "blockpull test vda",
        "domblkthreshold test vda 1",
        "domdirtyrate-calc test",
        "qemu-monitor-command test {}",
        "lxc-enter-namespace test /bin/true",
        "migrate-getmaxdowntime test",
        "migrate-setspeed test 5",
        "nodesuspend mem 60",
        "autostart test --once",
    ]);
}

#[test]
fn what_a_domain_is_set_to() {
    alike(&[
        "iothreadadd test 5 --config",
        "iothreadinfo test --config",
        "iothreadpin test 5 0-1 --config",
        "iothreadinfo test --config",
        "iothreaddel test 5 --config",
        "iothreadpin test 5 0 --config",
        "dumpxml test --inactive --xpath //cputune",
        "perf test --enable cmt,cpu_cycles",
        "perf test",
        "perf test --disable cmt --config",
        "perf test --config",
        "dumpxml test --inactive --xpath //perf",
        "numatune test --mode strict --nodeset 0",
        "numatune test",
        "setmem test 4194304",
        "setmaxmem test 9000000 --config",
        "setmaxmem test 9000000 --live",
        "setvcpus test 1",
        "setvcpu test 1 --enable",
        "desc test",
        "desc test hello",
        "desc test",
        "desc test --title t1",
        "desc test --title",
        "metadata test urn:x --key k --set <a/>",
        "metadata test urn:x",
        "dumpxml test --xpath //metadata",
        "metadata test urn:x --remove",
        "metadata test urn:x",
        "domrename test x",
        "suspend test",
        "domstate test --reason",
        "resume test",
        "domstate test --reason",
        "reset test",
        "reboot test",
        "shutdown test",
        "domstate test --reason",
        "set-lifecycle-action test reboot destroy",
        "autostart test",
        "list --all --autostart --name",
        "autostart test --disable",
        "domrename test x",
        "undefine x",
        "list --all",
    ]);
}
