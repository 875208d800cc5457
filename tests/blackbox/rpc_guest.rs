//! What a running guest is asked and made to do, through Debian's own virsh: its agent, keys, disks, threads, QEMU's monitor.

use std::collections::HashMap;
use std::process::Stdio;

use crate::harness::bus::{CONNECT, DOMAIN, TEST};
use crate::harness::container::Container;
use crate::harness::guest::BOOT;
use crate::harness::{DEADLINE, Guest, Lab, Virsh, eventually, run, soon};
use crate::mock_life::xml;

#[test]
fn an_agent_is_asked_under_virsh() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let file = lab.write("one.xml", &xml("one").replace("<vcpu>1", "<vcpu>2"));
    virsh.ok(&["define", &file]);
    virsh.fails(&["domtime", "one"], "domain is not running");
    virsh.ok(&["start", "one"]);

    virsh.ok(&["domtime", "one", "--time", "1000000"]);
    let said = virsh.ok(&["domtime", "one"]);
    let seconds: i64 = said.trim().trim_start_matches("Time: ").parse().unwrap();
    assert!((1_000_000..1_000_600).contains(&seconds), "{said}");
    virsh.ok(&["domtime", "one", "--sync"]);

    assert!(virsh.ok(&["domfsfreeze", "one"]).contains("Froze 2 filesystem(s)"));
    virsh.fails(&["domfsfreeze", "one"], "unable to execute QEMU agent command 'guest-fsfreeze-freeze'");
    assert!(virsh.ok(&["domfsthaw", "one"]).contains("Thawed 2 filesystem(s)"));
    assert!(virsh.ok(&["domfsfreeze", "one", "--mountpoint", "/boot"]).contains("Froze 1"));
    virsh.ok(&["domfsthaw", "one"]);
    virsh.ok(&["domfstrim", "one"]);
    virsh.fails(&["domfstrim", "one", "--mountpoint", "/"], "Specifying mount point is not supported");
    let mounts = virsh.ok(&["domfsinfo", "one"]);
    assert!(mounts.contains("/boot") && mounts.contains("vda2") && mounts.contains("ext4"), "{mounts}");

    let info = virsh.ok(&["guestinfo", "one"]);
    for line in ["user.0.name", "os.pretty-name", "timezone.offset", "hostname", "fs.count", "if.0.addr.0.addr"] {
        assert!(info.contains(line), "{line}: {info}");
    }
    // What the agent does not know is left out, and an error when it is asked for.
    assert!(!info.contains("load.1m"), "{info}");
    let info = virsh.ok(&["guestinfo", "one", "--hostname"]);
    assert!(info.contains("hostname") && !info.contains("os."), "{info}");
    virsh.fails(&["guestinfo", "one", "--disk"], "guest-get-disks");

    let vcpus = virsh.ok(&["guestvcpus", "one"]);
    let online = vcpus.lines().find(|line| line.starts_with("online")).unwrap_or_default();
    assert!(online.ends_with(": 0-1"), "{vcpus}");
    virsh.ok(&["guestvcpus", "one", "--cpulist", "1", "--disable"]);
    virsh.fails(&["guestvcpus", "one", "--cpulist", "0", "--disable"], "vCPU '0' is not offlinable");
    virsh.fails(&["guestvcpus", "one", "--cpulist", "7", "--enable"], "missing");
    assert_eq!(virsh.ok(&["vcpucount", "one", "--guest"]).trim(), "2");
    virsh.ok(&["setvcpus", "one", "1", "--guest"]);

    virsh.ok(&["set-user-password", "one", "root", "secret"]);
    let keys = lab.write("keys", "ssh-ed25519 AAAA one\n");
    virsh.ok(&["set-user-sshkeys", "one", "root", "--file", &keys]);
    assert!(virsh.ok(&["get-user-sshkeys", "one", "root"]).contains("AAAA one"));
    virsh.ok(&["set-user-sshkeys", "one", "root", "--remove", "--file", &keys]);
    assert_eq!(virsh.ok(&["get-user-sshkeys", "one", "root"]).trim(), "");

    virsh.ok(&["guest-agent-timeout", "one", "--timeout", "5"]);
    assert!(virsh.ok(&["qemu-agent-command", "one", "{\"execute\": \"guest-ping\"}"]).contains("{\"return\":{}}"));
    virsh.fails(&["qemu-agent-command", "one", "guest-ping"], "is no JSON");
    assert_eq!(virsh.ok(&["domhostname", "one"]).trim(), "onehost");
    assert!(virsh.ok(&["domifaddr", "one", "--source", "agent"]).contains("127.0.0.1/8"));
    virsh.ok(&["suspend", "one"]);
    virsh.fails(&["domtime", "one"], "domain is not running");
    // Over the read-only socket nobody speaks to a guest.
    let reader = Virsh::on(&lab, "test:///default", "libvirt-sock-ro").unwrap();
    reader.fails(&["domtime", "one"], "read only");
    virsh.ok(&["destroy", "one"]);
    lab.finish();
}

#[test]
fn the_same_over_dbus() {
    type Dictionary = HashMap<String, zbus::OwnedVariant>;
    let lab = Lab::mock();
    let bus = lab.bus();
    let image = lab.write("disk.raw", "domus");
    let disk = format!(
        "<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{image}'/>\
         <target dev='vda' bus='virtio'/></disk></devices></domain>"
    );
    let path = bus.define(TEST, &xml("one").replace("</domain>", &disk));
    let () = bus.call(&path, DOMAIN, "Create", &(0u32,));
    let () = bus.call(&path, DOMAIN, "SetTime", &(5u64, 0u32, 0u32));
    let (time,): ((u64, u32),) = bus.call(&path, DOMAIN, "GetTime", &(0u32,));
    assert!((5..1000).contains(&time.0), "{time:?}");
    let none: Vec<String> = Vec::new();
    assert_eq!(bus.call::<_, u32>(&path, DOMAIN, "FSFreeze", &(&none, 0u32)), 2);
    assert_eq!(bus.call::<_, u32>(&path, DOMAIN, "FSThaw", &(&none, 0u32)), 2);
    let () = bus.call(&path, DOMAIN, "FSTrim", &("", 0u64, 0u32));
    let mounts: Vec<(String, String, String, Vec<String>)> = bus.call(&path, DOMAIN, "GetFSInfo", &(0u32,));
    assert_eq!((mounts[1].0.as_str(), mounts[1].1.as_str()), ("/boot", "vda2"));
    let (vcpus,): (Dictionary,) = bus.call(&path, DOMAIN, "GetGuestVcpus", &(0u32,));
    assert_eq!(vcpus.len(), 3);
    let () = bus.call(&path, DOMAIN, "AddIOThread", &(4u32, 2u32));
    let threads: Vec<(u32, Vec<bool>)> = bus.call(&path, DOMAIN, "GetIOThreadInfo", &(2u32,));
    assert_eq!(threads[0].0, 4);
    let limit = HashMap::from([("total_iops_sec", zbus::Variant::U64(50))]);
    let () = bus.call(&path, DOMAIN, "SetBlockIOTune", &("vda", limit, 1u32));
    let (limits,): (Dictionary,) = bus.call(&path, DOMAIN, "GetBlockIOTune", &("vda", 1u32));
    assert_eq!(limits.len(), 20);
    let () = bus.call(&path, DOMAIN, "BlockResize", &("vda", 1024u64, 0u32));
    let () = bus.call(&path, DOMAIN, "InjectNMI", &(0u32,));
    let () = bus.call(&path, DOMAIN, "SendKey", &(0u32, 0u32, vec![30u32], 0u32));
    let () = bus.call(&path, DOMAIN, "SetUserPassword", &("root", "secret", 0u32));
    let bytes: Vec<u8> = bus.call(&path, DOMAIN, "BlockPeek", &("vda", 1u64, 3u64, 0u32));
    assert_eq!(bytes, b"omu");
    let (job,): ((i32, Dictionary),) = bus.call(&path, DOMAIN, "GetJobStats", &(0u32,));
    assert_eq!(job.0, 0);
    assert!(bus.refused(&path, DOMAIN, "AbortJob", &()).message.contains("no job is active"));
    assert!(
        bus.refused(&path, DOMAIN, "GetInterfaceParameters", &("x", 0u32)).message.contains("not a known interface")
    );
    let (merging,): (Dictionary,) = bus.call(TEST, CONNECT, "NodeGetMemoryParameters", &(0u32,));
    assert_eq!(merging.is_empty(), !std::path::Path::new("/sys/kernel/mm/ksm").is_dir());
    drop(bus);
    lab.finish();
}

#[test]
fn threads_and_limits_of_disks_under_virsh() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let image = lab.write("disk.raw", &"domus".repeat(1000));
    let disk = format!(
        "<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{image}'/>\
         <target dev='vda' bus='virtio'/></disk></devices></domain>"
    );
    let file = lab.write("one.xml", &xml("one").replace("</domain>", &disk));
    virsh.ok(&["define", &file]);
    assert!(virsh.ok(&["iothreadinfo", "one"]).contains("No IOThreads"));
    virsh.ok(&["iothreadadd", "one", "3", "--config"]);
    virsh.fails(&["iothreadadd", "one", "3", "--config"], "already using iothread_id '3'");
    let listed = virsh.ok(&["iothreadinfo", "one"]);
    assert!(listed.lines().any(|line| line.trim_start().starts_with('3')), "{listed}");
    virsh.ok(&["iothreaddel", "one", "3", "--config"]);
    virsh.fails(&["iothreaddel", "one", "3", "--config"], "cannot find IOThread '3'");
    assert!(!virsh.ok(&["dumpxml", "one"]).contains("iothread"));

    virsh.ok(&["blkdeviotune", "one", "vda", "--total-bytes-sec", "1000000", "--total-iops-sec", "50", "--config"]);
    let limits = virsh.ok(&["blkdeviotune", "one", "vda"]);
    assert!(limits.contains("total_bytes_sec: 1000000") && limits.contains("total_iops_sec : 50"), "{limits}");
    virsh.ok(&["blkdeviotune", "one", "vda", "--read-bytes-sec", "500", "--config"]);
    let text = virsh.ok(&["dumpxml", "one"]);
    assert!(text.contains("<read_bytes_sec>500<") && !text.contains("<total_bytes_sec>"), "{text}");
    let both = ["--total-bytes-sec", "1", "--read-bytes-sec", "2", "--config"];
    virsh.fails(&[&["blkdeviotune", "one", "vda"], &both[..]].concat(), "cannot be set at the same time");
    virsh.fails(&["blkdeviotune", "one", "vdz"], "disk 'vdz' was not found");
    virsh.fails(&["blockresize", "one", "vda", "1M"], "domain is not running");

    virsh.ok(&["start", "one"]);
    virsh.ok(&["blkdeviotune", "one", "vda", "--read-bytes-sec", "0", "--total-iops-sec", "0", "--live"]);
    assert!(!virsh.ok(&["dumpxml", "one"]).contains("<iotune>"));
    virsh.ok(&["blockresize", "one", "vda", "1M"]);
    virsh.fails(&["blockresize", "one", "vdz", "1M"], "invalid path: vdz");
    virsh.ok(&["inject-nmi", "one"]);
    virsh.ok(&["send-key", "one", "KEY_LEFTCTRL", "KEY_LEFTALT", "KEY_DELETE", "--holdtime", "10"]);
    virsh.fails(&["send-key", "one", "--codeset", "usb", "4"], "cannot translate keycode 4 of usb codeset");
    assert!(virsh.ok(&["domjobinfo", "one"]).contains("None"));
    virsh.fails(&["domjobabort", "one"], "no job is active");
    virsh.fails(&["screenshot", "one", "/dev/null"], "not supported by the connection driver: virDomainScreenshot");
    virsh.ok(&["destroy", "one"]);
    lab.finish();
}

#[test]
fn merged_pages_of_the_host() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let shown = virsh.ok(&["node-memory-tune"]);
    assert_eq!(std::path::Path::new("/sys/kernel/mm/ksm").is_dir(), shown.contains("shm_pages_to_scan"), "{shown}");
    let reader = Virsh::on(&lab, "test:///default", "libvirt-sock-ro").unwrap();
    reader.fails(&["node-memory-tune", "--shm-pages-to-scan", "100"], "read only");
    lab.finish();
}

#[test]
fn qemu_is_handled_under_virsh() {
    let Some(mut lab) = Lab::qemu() else { return };
    let mut guest = Guest::blank(&mut lab, 1);
    guest.change("<iothreads>1</iothreads>", "<iothreads>2</iothreads>");
    guest.change(
        "<target dev=\"vda\" bus=\"virtio\"/>",
        "<target dev='vda' bus='virtio'/><iotune><total_iops_sec>77</total_iops_sec></iotune>",
    );
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
    lab.define(&guest.xml);
    let name = guest.name.as_str();
    virsh.ok(&["start", name]);

    virsh.ok(&["send-key", name, "KEY_A"]);
    virsh.ok(&["inject-nmi", name]);
    let picture = lab.work().join("screen.ppm");
    // The firmware needs a moment for its first picture; before, QEMU has one of its own.
    virsh.ok(&["screenshot", name, picture.to_str().unwrap()]);
    assert!(std::fs::read(&picture).unwrap().starts_with(b"P6"), "a portable pixmap");
    virsh.fails(&["screenshot", name, "/dev/null", "--screen", "7"], "no such screen");
    assert!(std::fs::read_dir(lab.root().join("run/qemu")).unwrap().flatten().all(|run| {
        std::fs::read_dir(run.path())
            .into_iter()
            .flatten()
            .flatten()
            .all(|file| !file.file_name().to_string_lossy().contains("scratch"))
    }));

    virsh.ok(&["blockresize", name, "vda", "8M"]);
    let said = virsh.ok(&["domblkinfo", name, "vda"]);
    assert!(said.lines().next().unwrap().ends_with(" 8388608"), "{said}");
    let told = virsh.ok(&["qemu-monitor-command", name, "{\"execute\":\"query-block\"}"]);
    assert!(told.contains("\"iops\":77"), "what the definition says holds from the start: {told}");
    virsh.ok(&["blkdeviotune", name, "vda", "--total-iops-sec", "100", "--live"]);
    let told = virsh.ok(&["qemu-monitor-command", name, "{\"execute\":\"query-block\"}"]);
    assert!(told.contains("\"iops\":100"), "{told}");
    assert!(virsh.ok(&["qemu-monitor-command", name, "--hmp", "info", "status"]).contains("running"));
    let told = virsh.ok(&["qemu-monitor-command", name, "{\"execute\":\"nosuch\",\"id\":7}"]);
    assert!(told.contains("CommandNotFound") && told.contains("\"id\":7"), "{told}");
    virsh.fails(&["qemu-monitor-command", name, "{}"], "has no 'execute'");

    let threads =
        |text: &str| text.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit())).count();
    assert_eq!(threads(&virsh.ok(&["iothreadinfo", name])), 2);
    virsh.ok(&["iothreadadd", name, "9", "--live"]);
    assert_eq!(threads(&virsh.ok(&["iothreadinfo", name])), 3);
    virsh.ok(&["iothreaddel", name, "9", "--live"]);
    assert_eq!(threads(&virsh.ok(&["iothreadinfo", name])), 2);
    virsh.ok(&["dommemstat", name, "--period", "3", "--live", "--config"]);
    assert!(virsh.ok(&["dumpxml", name, "--inactive"]).contains("<stats period='3'/>"));
    virsh.ok(&["domblkthreshold", name, "vda", "1M"]);
    assert!(virsh.ok(&["cpu-stats", name, "--total"]).contains("cpu_time"));
    let dump = lab.work().join("memory.elf");
    virsh.ok(&["dump", name, dump.to_str().unwrap(), "--memory-only"]);
    assert!(std::fs::read(&dump).unwrap().starts_with(b"\x7fELF"));
    assert_eq!(virsh.ok(&["domstate", name]).trim(), "running");
    virsh.fails(&["dump", name, "/nonexistent/x", "--memory-only"], "failed to create file '/nonexistent/x'");
    virsh.fails(&["dump", name, dump.to_str().unwrap()], "ask for the memory only");
    std::fs::remove_file(&dump).unwrap();
    let nic = "52:54:00:ac:ce:01";
    virsh.ok(&["domiftune", name, nic, "--inbound", "1000,2000,64", "--config"]);
    let rates = virsh.ok(&["domiftune", name, nic, "--config"]);
    assert!(rates.contains("inbound.average: 1000") && rates.contains("inbound.burst  : 64"), "{rates}");
    assert!(virsh.ok(&["domiftune", name, nic, "--live"]).contains("inbound.average: 0"));
    virsh.ok(&["domiftune", name, nic, "--inbound", "0", "--config"]);
    assert!(!virsh.ok(&["dumpxml", name, "--inactive"]).contains("<bandwidth>"));
    virsh.fails(&["domiftune", name, "nosuch"], "'nosuch' is not a known interface");
    // What QEMU itself says: of this guest, by name. virsh ends by itself after the first.
    let wanted = ["qemu-monitor-event", name, "--event", "^s.op$", "--regex", "--no-case", "--timeout", "60"];
    let mut listener = virsh.command(&wanted);
    let listener = listener.stdout(Stdio::piped()).spawn().unwrap();
    // Nothing tells when virsh listens: the guest is stopped until it has heard of it.
    let listener = std::cell::RefCell::new(listener);
    eventually("virsh hears of a stop", DEADLINE, || {
        virsh.ok(&["suspend", name]);
        virsh.ok(&["resume", name]);
        listener.borrow_mut().try_wait().unwrap().map(|_| ())
    });
    let heard = String::from_utf8(listener.into_inner().wait_with_output().unwrap().stdout).unwrap();
    assert!(heard.contains("event STOP at ") && heard.contains(name), "{heard}");
    let broken = ["qemu-monitor-event", "--event", "(", "--regex", "--timeout", "1"];
    virsh.fails(&broken, "failed to compile regex '('");
    // A guest without a port for an agent is told from one whose agent does not run.
    virsh.fails(&["domtime", name], "QEMU guest agent is not configured");
    virsh.fails(&["dompmwakeup", name], "as it is not suspended");
    virsh.ok(&["destroy", name]);
    lab.finish();
}

#[test]
fn a_real_agent_answers() {
    let Some(mut lab) = Lab::qemu() else { return };
    let Some(mut guest) = Guest::new(&mut lab, 1) else { return };
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
    let channel =
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel><rng model=\"virtio\">";
    guest.change("<rng model=\"virtio\">", channel);
    lab.define(&guest.xml);
    let name = guest.name.as_str();
    virsh.ok(&["start", name]);
    virsh.fails(&["domtime", name], "QEMU guest agent is not connected");
    guest.wait_booted();
    eventually("the agent has opened its port", BOOT, || {
        virsh.ok(&["dumpxml", name]).contains("state='connected'").then_some(())
    });
    let ping = ["qemu-agent-command", name, "{\"execute\": \"guest-ping\"}"];
    assert!(virsh.ok(&ping).contains("{\"return\":{}}"));
    virsh.ok(&["domtime", name, "--time", "1600000000"]);
    let said = virsh.ok(&["domtime", name]);
    let seconds: i64 = said.trim().trim_start_matches("Time: ").parse().unwrap();
    assert!((1_600_000_000..1_600_086_400).contains(&seconds), "{said}");
    assert!(virsh.ok(&["domfsinfo", name]).contains("vda"));
    // Two at once: the agent has one port, and each gets its own answer.
    let both = std::thread::scope(|scope| {
        let [mut one, mut two] = [(); 2].map(|()| virsh.command(&["guestinfo", name, "--hostname"]));
        let one = scope.spawn(move || run(&mut one, DEADLINE));
        let two = scope.spawn(move || run(&mut two, DEADLINE));
        [one.join().unwrap(), two.join().unwrap()]
    });
    assert!(both.iter().all(|out| out.success() && out.stdout.contains("domus-guest")), "{both:?}");
    virsh.fails(&["domfstrim", name], "has not been found");
    virsh.fails(&["dompmsuspend", name, "mem"], "'guest-suspend-ram': The command has not been found");
    virsh.ok(&["shutdown", name, "--mode", "agent"]);
    let off = soon(BOOT, || (virsh.ok(&["domstate", name]).trim() == "shut off").then_some(()));
    assert!(off.is_some(), "the agent ends the guest; its console:\n{}", guest.console_log());
    lab.finish();
}

#[test]
fn a_container_is_entered_and_signalled_under_virsh() {
    let Some(lab) = Lab::lxc() else { return };
    let Some(virsh) = Virsh::on(&lab, "lxc:///system", "libvirt-sock") else { return };
    let container = Container::new(&lab, 1, "hostname inside; exec sleep 1000");
    let name = container.name.as_str();
    lab.define(&container.xml);
    virsh.fails(&["lxc-enter-namespace", name, "--noseclabel", "--", "/bin/true"], "domain is not running");
    virsh.ok(&["start", name]);
    // virsh gets the namespaces as descriptors, enters them itself, and finds the container's own programs and name.
    let said = virsh.ok(&["lxc-enter-namespace", name, "--noseclabel", "--", "/bin/hostname"]);
    assert!(said.contains("inside"), "{said}");
    virsh.fails(&["send-process-signal", name, "2", "kill"], "Only the init process may be killed");
    virsh.ok(&["send-process-signal", name, "1", "nop"]);
    virsh.ok(&["send-process-signal", name, "1", "kill"]);
    eventually("the container ends", DEADLINE, || (virsh.ok(&["domstate", name]).trim() == "shut off").then_some(()));
    virsh.fails(&["inject-nmi", name], "domain is not running");
    virsh.ok(&["start", name]);
    virsh.fails(&["inject-nmi", name], "not supported by the connection driver: virDomainInjectNMI");
    assert!(virsh.ok(&["cpu-stats", name, "--total"]).contains("cpu_time"));
    virsh.ok(&["destroy", name]);
    lab.finish();
}
