//! Limits: what was asked for is in the kernel, in the XML that it should be in, and survives what it should survive.

use std::collections::HashMap;

use zbus::Variant;

use crate::harness::bus::{DOMAIN, LXC, TEST};
use crate::harness::container::{Container, cgroup_value};
use crate::harness::{Guest, Lab, skip, test_name};

fn xml(name: &str) -> String {
    format!(
        "<domain type='test'><name>{name}</name><memory unit='KiB'>1048576</memory><vcpu>4</vcpu>\
         <os><type>hvm</type></os></domain>"
    )
}

/// The first `<name>` element with its text.
fn element(xml: &str, name: &str) -> Option<String> {
    let start = xml.find(&format!("<{name}"))?;
    let rest = &xml[start..];
    Some(rest[..rest.find(&format!("</{name}>"))? + name.len() + 3].to_string())
}

#[test]
fn live_and_config_are_two_definitions() {
    let mut lab = Lab::mock();
    lab.define(&xml("one"));
    // virsh's rule: without an option setmem means the running domain.
    lab.fails_with(&["setmem", "one", "512M"], &["domain is not running"]);
    lab.ok(&["setmem", "one", "512M", "--config"]);
    lab.ok(&["start", "one"]);
    lab.ok(&["setmem", "one", "256M"]);
    let live = lab.ok(&["dumpxml", "one"]);
    let config = lab.ok(&["dumpxml", "one", "--inactive"]);
    assert_eq!(element(&live, "currentMemory").unwrap(), "<currentMemory unit='KiB'>262144</currentMemory>");
    assert_eq!(element(&config, "currentMemory").unwrap(), "<currentMemory unit='KiB'>524288</currentMemory>");
    assert!(lab.ok(&["dommemstat", "one"]).contains("actual 262144"));
    lab.fails_with(&["setmem", "one", "2G"], &["invalid argument: cannot set memory higher than max memory"]);
    lab.fails_with(
        &["setmaxmem", "one", "2G"],
        &["Unable to change MaxMemorySize", "cannot resize the maximum memory on an active domain"],
    );
    lab.ok(&["setmaxmem", "one", "2G", "--config"]);
    // Both outlive the daemon.
    lab.crash();
    lab.start();
    assert!(lab.ok(&["dumpxml", "one"]).contains("<currentMemory unit='KiB'>262144</currentMemory>"));
    assert!(lab.ok(&["dumpxml", "one", "--inactive"]).contains("<memory unit='KiB'>2097152</memory>"));
    lab.finish();
}

#[test]
fn a_transient_domain_has_no_config() {
    let lab = Lab::mock();
    let file = lab.write("t.xml", &xml("t"));
    lab.ok(&["create", &file]);
    for words in [
        vec!["setmem", "t", "512M", "--config"],
        vec!["memtune", "t", "--hard-limit", "1G", "--config"],
        vec!["setvcpus", "t", "2", "--live", "--config"],
        vec!["vcpupin", "t", "0", "0", "--config"],
    ] {
        lab.fails_with(&words, &["transient domains do not have any persistent config"]);
    }
    assert_eq!(lab.ok(&["vcpucount", "t", "--live"]), "4", "a refused change of both changes nothing");
    lab.finish();
}

#[test]
fn vcpus_are_counted_pinned_and_shown() {
    let lab = Lab::mock();
    lab.define(&xml("one"));
    let counts = "maximum      config         4\ncurrent      config         4";
    assert_eq!(lab.ok(&["vcpucount", "one"]), counts);
    lab.ok(&["start", "one"]);
    lab.ok(&["setvcpus", "one", "2"]);
    lab.ok(&["setvcpus", "one", "8", "--maximum", "--config"]);
    assert_eq!(
        lab.ok(&["vcpucount", "one"]),
        "maximum      config         8\nmaximum      live           4\n\
         current      config         8\ncurrent      live           2"
    );
    lab.fails_with(&["setvcpus", "one", "5"], &["requested vcpus is greater than max allowable vcpus", "5 > 4"]);
    lab.fails_with(&["setvcpus", "one", "0"], &["must not be zero"]);
    assert!(lab.ok(&["dumpxml", "one"]).contains("<vcpu placement='static' current='2'>4</vcpu>"));
    let info = lab.ok(&["vcpuinfo", "one"]);
    assert_eq!(info.matches("VCPU:           ").count(), 2, "{info}");
    assert!(info.contains("State:          running") && info.contains("CPU Affinity:   y"), "{info}");
    lab.ok(&["vcpupin", "one", "1", "0"]);
    lab.ok(&["emulatorpin", "one", "0", "--live", "--config"]);
    let table = lab.ok(&["vcpupin", "one"]);
    assert!(table.starts_with(" VCPU   CPU Affinity\n----------------------\n 0      "), "{table}");
    assert!(table.ends_with(" 1      0"), "{table}");
    assert!(lab.ok(&["emulatorpin", "one"]).ends_with("       *: 0"));
    let (live, config) = (lab.ok(&["dumpxml", "one"]), lab.ok(&["dumpxml", "one", "--inactive"]));
    assert!(live.contains("<vcpupin vcpu='1' cpuset='0'/>") && live.contains("<emulatorpin cpuset='0'/>"), "{live}");
    assert!(!config.contains("vcpupin") && config.contains("<emulatorpin cpuset='0'/>"), "{config}");
    lab.fails_with(&["vcpupin", "one", "3", "0"], &["vcpu 3 is out of range of live cpu count 2"]);
    lab.fails_with(&["vcpupin", "one", "0", "^0"], &["Empty cpu list for pinning"]);
    lab.finish();
}

#[test]
fn parameters_are_checked_as_libvirt_does() {
    let lab = Lab::mock();
    let bus = lab.bus();
    let path = bus.define(TEST, &xml("one"));
    let set = |name: &str, value: Variant<'static>| {
        let params = HashMap::from([(name.to_string(), value)]);
        bus.try_call(&path, DOMAIN, "SetMemoryParameters", &(params, 0u32)).map(drop).map_err(|refused| refused.message)
    };
    set("hard_limit", Variant::U64(4096)).unwrap();
    let refused = set("hard_limit", Variant::U32(4096)).unwrap_err();
    assert_eq!(refused, "invalid argument: invalid type 'uint' for parameter 'hard_limit', expected 'ullong'");
    let refused = set("weight", Variant::U32(4096)).unwrap_err();
    assert!(refused.starts_with("Operation not supported: parameter 'weight' not supported"), "{refused}");
    let refused = set("swap_hard_limit", Variant::U64(1024)).unwrap_err();
    assert!(refused.contains("must be lower than or equal to swap_hard_limit"), "{refused}");
    assert_eq!(
        lab.ok(&["memtune", "one"]),
        "hard_limit     : 4096\nsoft_limit     : unlimited\nswap_hard_limit: unlimited"
    );
    lab.ok(&["memtune", "one", "--hard-limit", "-1"]);
    assert!(!lab.ok(&["dumpxml", "one"]).contains("hard_limit"));
    assert_eq!(lab.ok(&["schedinfo", "one"]), "Scheduler      : fair\nweight         : 50");
    lab.ok(&["blkiotune", "one", "--weight", "300", "--device-weights", "/dev/null,200"]);
    assert!(lab.ok(&["blkiotune", "one"]).starts_with("weight         : 300\ndevice_weight  : /dev/null,200\n"));
    lab.ok(&["numatune", "one", "--nodeset", "0", "--mode", "interleave"]);
    assert_eq!(lab.ok(&["numatune", "one"]), "numa_mode      : interleave\nnuma_nodeset   : 0");
    drop(bus);
    lab.finish();
}

#[test]
fn a_containers_limits_are_its_cgroups() {
    let Some(mut lab) = Lab::lxc() else { return };
    let guest = Container::new(&lab, 1, "echo up; sleep 1000");
    lab.define(&guest.xml);
    let name = &*guest.name;
    lab.ok(&["start", name]);
    guest.shows("up");
    let value = |lab: &Lab, files: &[&str]| cgroup_value(lab, "lxc", name, files);
    let Some(limit) = value(&lab, &["memory.limit_in_bytes", "memory.max"]) else {
        skip(&test_name(), "no memory controller for containers here");
        return lab.finish();
    };
    assert_eq!(limit, (64 << 20).to_string());
    lab.ok(&["setmem", name, "32M"]);
    assert_eq!(value(&lab, &["memory.limit_in_bytes", "memory.max"]).unwrap(), (32 << 20).to_string());
    lab.ok(&["memtune", name, "--hard-limit", "48M", "--soft-limit", "16M", "--live", "--config"]);
    assert_eq!(value(&lab, &["memory.limit_in_bytes", "memory.max"]).unwrap(), (48 << 20).to_string());
    let shown = lab.ok(&["memtune", name]);
    assert!(shown.starts_with("hard_limit     : 49152\nsoft_limit     : 16384\n"), "{shown}");
    assert!(lab.ok(&["dumpxml", name, "--inactive"]).contains("<hard_limit unit='KiB'>49152</hard_limit>"));

    lab.ok(&["schedinfo", name, "cpu_shares=2048", "vcpu_quota=50000", "--live"]);
    assert_eq!(value(&lab, &["cpu.cfs_quota_us"]).unwrap_or("50000".into()), "50000");
    let shown = lab.ok(&["schedinfo", name]);
    assert!(shown.contains("cpu_shares     : 2048\n") && shown.contains("vcpu_quota     : 50000"), "{shown}");
    assert!(!lab.ok(&["dumpxml", name, "--inactive"]).contains("shares"));
    lab.fails_with(&["schedinfo", name, "vcpu_quota=999"], &["value of 'vcpu_quota' is out of range"]);
    lab.fails_with(&["schedinfo", name, "emulator_period=10000"], &["invalid scheduler option: emulator_period"]);
    lab.ok(&["schedinfo", name, "vcpu_quota=-1", "--live"]);

    // It began without the cpuset controller.
    lab.ok(&["numatune", name, "--nodeset", "0", "--live"]);
    if let Some(mems) = value(&lab, &["cpuset.mems"]) {
        assert_eq!(mems, "0");
    }
    lab.fails_with(&["vcpupin", name, "0", "0"], &["not supported by the connection driver: virDomainPinVcpu"]);
    lab.fails_with(&["setvcpus", name, "1", "--live"], &["not supported by the connection driver: virDomainSetVcpus"]);

    // What was set lives as long as the run, not as the daemon.
    lab.crash();
    lab.start();
    assert!(lab.ok(&["memtune", name]).starts_with("hard_limit     : 49152\n"));
    assert!(lab.ok(&["dumpxml", name]).contains("<shares>2048</shares>"));
    let bus = lab.bus();
    let path = bus.lookup(LXC, name);
    let refused = bus.refused(&path, DOMAIN, "SetMemory", &(1u64 << 30, 1u32));
    assert!(refused.message.contains("cannot set memory higher than max memory"), "{}", refused.message);
    drop(bus);
    lab.ok(&["destroy", name]);
    lab.ok(&["start", name]);
    let limit = value(&lab, &["memory.limit_in_bytes", "memory.max"]).unwrap();
    assert_eq!(limit, (48 << 20).to_string(), "the definition's limit is that of the next run");
    lab.finish();
}

#[test]
fn a_machines_limits_are_its_cgroups_and_threads() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::blank(&mut lab, 1);
    lab.define(&guest.xml);
    let name = &*guest.name;
    lab.ok(&["start", name]);
    // The balloon is told; nothing inside gives memory back, so nothing changes.
    lab.ok(&["setmem", name, "65536"]);
    lab.fails_with(&["setmem", name, "64G"], &["cannot set memory higher than max memory"]);
    lab.ok(&["memtune", name, "--hard-limit", "4G", "--live"]);
    if let Some(limit) = cgroup_value(&lab, "qemu", name, &["memory.limit_in_bytes", "memory.max"]) {
        assert_eq!(limit, (4u64 << 30).to_string());
        assert!(lab.ok(&["memtune", name]).starts_with("hard_limit     : 4194304\n"));
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", guest.pid())).unwrap();
        let moved =
            groups.lines().any(|line| line.contains("qemu-") && (line.contains(":memory:") || line.starts_with("0::")));
        assert!(moved, "{groups}");
    }
    lab.ok(&["schedinfo", name, "cpu_shares=512"]);
    assert!(lab.ok(&["schedinfo", name]).contains("cpu_shares     : 512"));
    lab.ok(&["vcpupin", name, "0", "0", "--live", "--config"]);
    let info = lab.ok(&["vcpuinfo", name, "--pretty"]);
    assert!(info.contains("CPU Affinity:   0 (out of "), "{info}");
    assert!(lab.ok(&["dumpxml", name, "--inactive"]).contains("<vcpupin vcpu='0' cpuset='0'/>"));
    lab.ok(&["emulatorpin", name, "0"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", guest.pid())).unwrap();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    lab.fails_with(&["setvcpus", name, "1", "--live"], &["not supported by the connection driver: virDomainSetVcpus"]);
    lab.finish();
}
