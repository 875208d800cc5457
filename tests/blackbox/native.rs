//! Calls around a definition: other tools' forms of it, and the CPU it asks for. None of them defines or starts anything.

use crate::harness::{Lab, fixture};

const LXC_FILE: &str = "# made by a template\nlxc.rootfs.path = dir:/srv/web\nlxc.uts.name = web\nlxc.tty.max = 1\n\
    lxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\nlxc.cap.drop = sys_module mknod\n\
    lxc.cgroup.memory.limit_in_bytes = 512M\nlxc.mount.entry = /srv/data data none bind,ro 0 0\n\
    lxc.net.0.type = veth\nlxc.net.0.link = br0\nlxc.net.0.flags = up\nlxc.net.0.ipv4.address = 10.0.0.2/24\n";

#[test]
fn a_file_of_lxcs_tools_becomes_a_container() {
    let Some(lab) = Lab::qemu() else { return };
    let file = lab.write("config", LXC_FILE);
    let xml = lab.ok(&["-q", "-c", "lxc", "domxml-from-native", "lxc-tools", &file]);
    for word in [
        "<domain type='lxc'>",
        "<name>web</name>",
        "<memory unit='KiB'>524288</memory>",
        "<uid start='0' target='100000' count='65536'/>",
        "<mknod state='off'/>",
        "<source dir='/srv/web'/>",
        "<readonly/>",
        "<source bridge='br0'/>",
        "<ip address='10.0.0.2' family='ipv4' prefix='24'/>",
        "<link state='up'/>",
    ] {
        assert!(xml.contains(word), "the container should have {word}:\n{xml}");
    }
    assert_eq!(lab.names(), Vec::<String>::new(), "converting defines nothing");
    // The driver is known from the form; and what comes out can be defined.
    let again = lab.ok(&["domxml-from-native", "lxc-tools", &file]);
    let without_uuid = |text: &str| text.lines().filter(|line| !line.contains("uuid")).collect::<Vec<_>>().join("\n");
    assert_eq!(without_uuid(&again), without_uuid(&xml));
    lab.define(&xml);
    assert_eq!(lab.names(), ["web"]);

    let bad = lab.write("bad", &LXC_FILE.replace("lxc.uts.name = web\n", ""));
    lab.fails_with(&["-c", "lxc", "domxml-from-native", "lxc-tools", &bad], &["lxc.uts.name"]);
    let bad = lab.write("bad", &format!("{LXC_FILE}lxc.net.0.script.up = /fw\n"));
    lab.fails_with(&["-c", "lxc", "domxml-from-native", "lxc-tools", &bad], &["line 14", "lxc.net.0.script.up"]);
    lab.fails_with(&["-c", "lxc", "domxml-from-native", "xen-xl", &file], &["unsupported config type xen-xl"]);
    lab.fails_with(&["-c", "qemu", "domxml-from-native", "lxc-tools", &file], &["virConnectDomainXMLFromNative"]);
    lab.fails_with(&["domxml-to-native", "lxc-tools", "web"], &["virConnectDomainXMLToNative"]);
    lab.ok(&["undefine", "web"]);
    lab.finish();
}

const VM: &str = "<domain type='qemu'><name>paper vm</name><memory>131072</memory><os><type>hvm</type></os>\
    <cpu mode='host-model'/><devices><disk type='file'><source file='/nowhere/disk.img'/><target dev='vda' bus='virtio'/>\
    </disk><graphics type='vnc' autoport='yes'/></devices></domain>";

#[test]
fn the_command_line_of_a_machine_that_is_not_started() {
    let Some(lab) = Lab::qemu() else { return };
    let file = lab.write("vm.xml", VM);
    let line = lab.ok(&["-q", "domxml-to-native", "qemu-argv", "--xml", &file]);
    assert!(line.starts_with("LC_ALL=C PATH="), "{line}");
    assert_eq!(line.lines().count(), 1, "one line for a shell");
    for word in ["-name 'guest=paper vm,debug-threads=on'", "-cpu ", "/nowhere/disk.img", "-vnc 127.0.0.1:0"] {
        assert!(line.contains(word), "the line should have {word}:\n{line}");
    }
    assert_eq!(lab.names(), Vec::<String>::new(), "converting defines nothing");
    lab.define(VM);
    let by_name = lab.ok(&["domxml-to-native", "qemu-argv", "--domain", "paper vm"]);
    let without_uuid = |text: &str| text.split(" -uuid ").next().unwrap().to_string();
    assert_eq!(without_uuid(&by_name), without_uuid(&line));
    // What is not rendered is refused by name, never left out.
    let shared = VM.replace("<devices>", "<devices><filesystem><source dir='/a'/><target dir='b'/></filesystem>");
    let file = lab.write("fs.xml", &shared.replace("paper vm", "other"));
    let out = lab.run(&["domxml-to-native", "qemu-argv", "--xml", &file]);
    assert!(out.stdout.contains("fsdev") || out.stderr.contains("<filesystem>"), "{}{}", out.stdout, out.stderr);
    lab.fails_with(&["domxml-to-native", "foo", "paper vm"], &["unsupported config type foo"]);
    lab.fails_with(&["domxml-to-native", "qemu-argv", "nobody"], &["failed to get domain 'nobody'"]);

    // UPDATE_CPU: the same definition as a run would see it.
    let plain = lab.ok(&["dumpxml", "paper vm"]);
    assert!(plain.contains("<cpu mode='host-model'"), "{plain}");
    let updated = lab.ok(&["dumpxml", "--update-cpu", "paper vm"]);
    let cpu = updated.split("<cpu").nth(1).unwrap().split("</cpu>").next().unwrap();
    assert!(cpu.starts_with(" mode='custom' match='exact' check='partial'>"), "{cpu}");
    assert!(cpu.contains("<model fallback='allow'>") && cpu.contains("<feature policy="), "{cpu}");
    assert_eq!(lab.ok(&["dumpxml", "paper vm"]), plain);
    lab.ok(&["undefine", "paper vm"]);
    lab.finish();
}

#[test]
fn processors_are_compared_and_joined() {
    let Some(lab) = Lab::qemu() else { return };
    if !std::fs::read_to_string("/proc/cpuinfo").unwrap().contains("flags") {
        crate::harness::skip("processors_are_compared_and_joined", "CPU models of x86 only are known");
        return;
    }
    let host = lab.write("caps.xml", &lab.ok(&["-c", "qemu", "capabilities"]));
    assert_eq!(
        lab.ok(&["-c", "qemu", "cpu-compare", &host]),
        format!("CPU described in {host} is identical to host CPU")
    );
    // What the host has in common with itself runs on it, also spelled out.
    let baseline = lab.ok(&["-q", "-c", "qemu", "cpu-baseline", "--features", &host]);
    assert!(baseline.starts_with("<cpu mode='custom' match='exact'>"), "{baseline}");
    let file = lab.write("base.xml", &baseline);
    let said = lab.ok(&["-c", "qemu", "cpu-compare", &file]);
    assert!(said.contains("identical") || said.contains("superset"), "{said}");

    let cpu = |text: &str| lab.write("cpu.xml", text);
    let file = cpu("<cpu match='exact'><model>qemu64</model><feature policy='disable' name='svm'/></cpu>");
    let said = lab.ok(&["-c", "qemu", "hypervisor-cpu-compare", "--virttype", "qemu", &file]);
    assert!(said.starts_with("The CPU provided by hypervisor on the host is a superset"), "{said}");
    let file = cpu("<cpu><arch>aarch64</arch><model>cortex-a57</model></cpu>");
    let out = lab.run(&["-c", "qemu", "cpu-compare", &file]);
    assert_eq!((out.code, out.stderr.as_str()), (Some(1), ""));
    assert!(out.stdout.contains("is incompatible with host CPU"), "{}", out.stdout);
    let reason = ["the CPU is incompatible with host CPU", "CPU arch aarch64 does not match host arch"];
    lab.fails_with(&["-c", "qemu", "cpu-compare", "--error", &file], &reason);
    let file = cpu("<cpu match='exact'><model>Nonsense</model></cpu>");
    lab.fails_with(&["-c", "qemu", "cpu-compare", &file], &["internal error: Unknown CPU model Nonsense"]);
    lab.fails_with(&["-c", "qemu", "cpu-baseline", &file], &["Unknown CPU model Nonsense"]);
    let file = cpu("<domain/>");
    lab.fails_with(&["-c", "qemu", "cpu-compare", &file], &["No host CPU specified in"]);

    let two = "<x><cpu><arch>x86_64</arch><model>Westmere</model><feature name='invtsc'/></cpu>\
               <cpu><arch>x86_64</arch><model>Nehalem</model><feature name='invtsc'/></cpu></x>";
    let file = cpu(two);
    let common = lab.ok(&["-c", "qemu", "cpu-baseline", &file]);
    assert!(common.contains("<model fallback='allow'>Nehalem</model>") && common.contains("invtsc"), "{common}");
    let common = lab.ok(&["-c", "qemu", "cpu-baseline", "--migratable", &file]);
    assert!(!common.contains("invtsc"), "{common}");
    let common = lab.ok(&["-c", "qemu", "hypervisor-cpu-baseline", "--virttype", "qemu", &file]);
    assert!(common.contains("Nehalem</model>") && !common.contains("invtsc"), "TCG has no invariant TSC: {common}");

    let names = lab.ok(&["-c", "qemu", "cpu-models", "x86_64"]);
    assert!(names.lines().any(|name| name == "EPYC-Milan") && names.lines().count() > 100, "{names}");
    assert_eq!(lab.ok(&["-c", "qemu", "cpu-models", "--arch", "aarch64"]), "all CPU models are accepted");
    lab.fails_with(&["-c", "qemu", "cpu-models", "foo"], &["cannot find architecture foo"]);
    lab.fails_with(&["-c", "lxc", "cpu-models", "x86_64"], &["virConnectGetCPUModelNames"]);
    lab.finish();
}

#[test]
fn every_cpu_a_nova_definition_asks_for_is_known() {
    let Some(lab) = Lab::qemu() else { return };
    let xml = fixture("nova/qemu-spawn-domain.xml").replace("@WORKDIR@", lab.work().to_str().unwrap());
    let line = lab.ok(&["-q", "domxml-to-native", "qemu-argv", "--xml", &lab.write("nova.xml", &xml)]);
    assert!(line.contains("novaacc-0000dc71") && line.contains(" -cpu "), "{line}");
    lab.finish();
}
