//! Containers through the driver, as the engine starts them: XML in, a running container out, nothing left after.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod lxc_support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use domus::cgroup::Mode;
use domus::domain_xml;
use domus::engine::driver::{Driver, Reattached, RunRecord};
use domus::engine::state::{Phase, shutoff};
use lxc_support::world::{World, ended};
use lxc_support::*;

#[tokio::test]
async fn a_container_lives_and_is_destroyed() {
    if !able() {
        return;
    }
    let world = World::new("echo up $(cut -d: -f3 /proc/self/cgroup | sed -n '$p'); sleep 1000");
    let mut launched = world.launch(&world.xml(&world.root()), false).await.unwrap();
    assert_eq!(launched.phase, Phase::Running);
    world.shows("up").await;
    let live = domain_xml::format(&launched.live, domain_xml::FormatOptions::default());
    assert!(live.contains("<idmap>") && live.contains("tty='/dev/pts/"), "{live}");
    let instance = launched.instance.clone();
    assert!(instance.pid().is_some());
    assert!(instance.info().cpu_time > 0);
    instance.pause().await.unwrap();
    let before = instance.info().cpu_time;
    instance.resume().await.unwrap();
    assert!(instance.info().cpu_time >= before);
    instance.kill(false).await.unwrap();
    assert_eq!(ended(&mut launched.events).await, shutoff::DESTROYED);
    world.clean().await;
}

#[tokio::test]
async fn a_frozen_container_can_be_destroyed() {
    if !able() {
        return;
    }
    let world = World::new("echo up; while true; do sleep 0.01; done");
    let mut launched = world.launch(&world.xml(&world.root()), false).await.unwrap();
    world.shows("up").await;
    launched.instance.pause().await.unwrap();
    launched.instance.kill(false).await.unwrap();
    assert_eq!(ended(&mut launched.events).await, shutoff::DESTROYED);
    world.clean().await;
}

#[tokio::test]
async fn a_container_ends_by_itself() {
    if !able() {
        return;
    }
    let world = World::new("echo bye; poweroff -f");
    let mut launched = world.launch(&world.xml(&world.root()), false).await.unwrap();
    assert_eq!(ended(&mut launched.events).await, shutoff::SHUTDOWN);
    assert_eq!(world.log(), "bye\n");
    world.clean().await;
}

#[tokio::test]
async fn a_paused_start_runs_nothing_before_resume() {
    if !able() {
        return;
    }
    let world = World::new("echo ran");
    let mut launched = world.launch(&world.xml(&world.root()), true).await.unwrap();
    assert_eq!(launched.phase, Phase::Paused);
    assert_eq!(world.log(), "");
    launched.instance.resume().await.unwrap();
    assert_eq!(ended(&mut launched.events).await, shutoff::SHUTDOWN);
    assert_eq!(world.log(), "ran\n");
    world.clean().await;
}

#[tokio::test]
async fn a_later_daemon_finds_it_again() {
    if !able() {
        return;
    }
    let world = World::new("echo up; read line; echo got $line; sleep 1000");
    let launched = world.launch(&world.xml(&world.root()), false).await.unwrap();
    world.shows("up").await;
    let run = RunRecord {
        live: launched.live.clone(),
        id: 7,
        run_id: world.run_id.clone(),
        run_dir: world.run_dir(),
        phase: launched.phase,
        reason: launched.reason,
        state: launched.state.clone(),
    };
    drop(launched);
    let Reattached::Running(mut again) = world.driver.reattach(&run).await.unwrap() else { panic!("it runs") };
    let stream = again.instance.open_console(None, false).await.unwrap();
    std::io::Write::write_all(&mut fs::File::from(stream), b"hello\n").unwrap();
    world.shows("got hello").await;
    assert!(again.instance.open_console(Some("console9"), false).await.is_err());
    again.instance.kill(false).await.unwrap();
    assert_eq!(ended(&mut again.events).await, shutoff::DESTROYED);
    // And one that ended while nobody watched.
    let gone = world.driver.reattach(&run).await.unwrap();
    assert!(matches!(gone, Reattached::Gone { reason: shutoff::DESTROYED }), "{gone:?}");
    world.clean().await;
}

#[tokio::test]
async fn a_killed_supervisor_is_a_crash() {
    if !able() {
        return;
    }
    let world = World::new("echo up; sleep 1000");
    let mut launched = world.launch(&world.xml(&world.root()), false).await.unwrap();
    world.shows("up").await;
    let pid = launched.state["supervisor"].as_i64().unwrap() as i32;
    let init = launched.instance.pid().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(ended(&mut launched.events).await, shutoff::CRASHED);
    gone(init);
    world.clean().await;
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing() {
    if !able() {
        return;
    }
    let world = World::new("");
    let nowhere = "<filesystem type='mount'><source dir='/nowhere'/><target dir='/'/></filesystem>";
    let error = world.launch(&world.xml(nowhere), false).await.unwrap_err();
    assert!(error.message().contains("guest failed to start") && error.message().contains("/nowhere"), "{error}");
    world.clean().await;
    let nic = format!("{}<interface type='bridge'><source bridge='nobr0'/></interface>", world.root());
    let error = world.launch(&world.xml(&nic), false).await.unwrap_err();
    assert!(error.message().contains("nobr0"), "{error}");
    world.clean().await;
}

#[tokio::test]
async fn an_interface_is_configured_inside() {
    if !able() {
        return;
    }
    let script = "ip -o link; ip -o addr; ip route; cat /sys/class/net/eth7/mtu; ping -c1 -W20 198.51.100.1; echo done; sleep 1000";
    let world = World::new(script);
    let name = format!("dmt{}", std::process::id());
    let netlink = domus::net::Netlink::open().unwrap();
    netlink.add_bridge(&name).await.unwrap();
    let bridge = netlink.get(&name).await.unwrap().index;
    let address = "198.51.100.1".parse().unwrap();
    domus::sys::rtnl::Rtnl::open().unwrap().add_address(bridge, address, 24, None).unwrap();
    let nic = format!(
        "{}<interface type='bridge'><mac address='52:54:00:ac:ce:01'/><source bridge='{name}'/><guest dev='eth7'/>\
         <ip address='198.51.100.7' family='ipv4' prefix='24'/>\
         <route family='ipv4' address='0.0.0.0' gateway='198.51.100.1'/><mtu size='1450'/></interface>",
        world.root()
    );
    let result = world.launch(&world.xml(&nic), false).await;
    let check = async {
        let mut launched = result?;
        world.shows("done").await;
        let stats = launched.instance.stats(domus::types::flags::stats::INTERFACE, false).await;
        launched.instance.kill(false).await?;
        ended(&mut launched.events).await;
        Ok::<_, domus::error::Error>(stats)
    }
    .await;
    world.clean().await;
    let index = netlink.get(&name).await.unwrap().index;
    netlink.remove(index, &name).await.unwrap();
    let stats = check.unwrap();
    assert!(stats.0.iter().any(|(name, _)| name == "net.0.rx.bytes"), "{stats:?}");
    let log = world.log();
    for wanted in [
        "52:54:00:ac:ce:01",
        "198.51.100.7/24",
        "default via 198.51.100.1 dev eth7",
        "\n1450\n",
        "127.0.0.1",
        "1 packets received",
    ] {
        assert!(log.contains(wanted), "{wanted:?} in {log}");
    }
}

#[tokio::test]
async fn limits_hold_and_are_out_of_reach() {
    if !able() {
        return;
    }
    let script = "ls /sys/fs/cgroup; cat /proc/1/cgroup; ls -l /proc/1/ns; mkdir /sys/fs/cgroup/own && echo delegated; \
                  echo x > /sys/fs/cgroup/cgroup.max.descendants || echo limits-denied; echo done; sleep 1000";
    let world = World::new(script);
    let mut launched = world.launch(&world.xml(&world.root()), false).await.unwrap();
    world.shows("done").await;
    let log = world.log();
    assert!(log.contains("cgroup.procs") && log.contains("delegated") && log.contains("limits-denied"), "{log}");
    let memory = launched.instance.memory_stats().await.unwrap();
    assert_eq!(memory[0], (6, 65536));
    launched.instance.kill(false).await.unwrap();
    ended(&mut launched.events).await;
    world.clean().await;
}

#[tokio::test]
async fn nova_definitions_are_accepted() {
    let world = World::new("");
    for file in ["lxc-spawn-domain.xml", "lxc-spawn-domain-as-returned.xml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lxc").join(file);
        let xml = fs::read_to_string(&path).unwrap();
        let mut def = domain_xml::parse_inactive(&xml.replace("@WORKDIR@", "/srv")).unwrap().def;
        world.driver.complete(&mut def, &mut Vec::new()).await.unwrap();
        world.driver.validate(&def).await.unwrap();
        let plan = world.driver.plan(&def).await.unwrap();
        assert_eq!(plan.links[0].name, "tap6a67e933-eb");
    }
}

/// libvirt's test suite starts such a domain; on libvirt it runs on the host's root and cleans the host's /tmp.
#[tokio::test]
async fn a_systemd_without_a_root_boots_and_harms_nothing() {
    if !able() {
        return;
    }
    if !Path::new("/lib/systemd/systemd").exists() {
        eprintln!("SKIP containers: this host has no systemd to boot");
        return;
    }
    let world = World::new("");
    let canary = tempfile::Builder::new().prefix("domus-canary").tempfile_in("/tmp").unwrap();
    let xml = world
        .xml("")
        .replace("<init>/init</init>", "<init>/lib/systemd/systemd</init><initarg>--unit=basic.target</initarg>")
        .replace("<devices>", "<features><privnet/></features><devices>")
        .replace("<memory unit='MiB'>64</memory>", "<memory unit='MiB'>512</memory>");
    let mut launched = world.launch(&xml, false).await.unwrap();
    world.shows("Basic System").await;
    assert!(canary.path().exists());
    launched.instance.shutdown(0).await.unwrap();
    assert_eq!(ended(&mut launched.events).await, shutoff::SHUTDOWN);
    assert!(canary.path().exists());
    world.clean().await;
}

/// The host's disk, which a privileged container that may make nodes must still not open.
#[rstest::rstest]
#[case::v1_or_hybrid(Mode::Auto)]
#[case::v2(Mode::V2Only)]
#[tokio::test]
async fn devices_of_the_host_stay_closed(#[case] mode: Mode) {
    if !able() {
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata("/").unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let script = format!(
        "mknod /tmp/disk b {major} {minor} && echo made; head -c1 /tmp/disk && echo OPEN; echo x > /dev/null && \
         echo null; head -c1 /dev/zero | od; mknod /tmp/mem c 1 1; head -c1 /tmp/mem && echo OPEN; echo done; sleep 1000"
    );
    let world = World::with(&script, mode, true);
    let allow = "<features><capabilities policy='allow'/></features><devices>";
    let mut launched = world.launch(&world.xml(&world.root()).replace("<devices>", allow), false).await.unwrap();
    world.shows("done").await;
    let log = world.log();
    launched.instance.kill(false).await.unwrap();
    ended(&mut launched.events).await;
    world.clean().await;
    if major == 0 {
        eprintln!("SKIP containers: the host's root is on no block device");
        return;
    }
    assert!(log.contains("made") && log.contains("null") && log.contains("000000"), "{log}");
    assert!(!log.contains("OPEN") && log.matches("Operation not permitted").count() == 2, "{log}");
}

#[tokio::test]
async fn an_image_root_through_the_driver() {
    if !able() {
        return;
    }
    let world = World::new("echo from image; sleep 1000");
    let image = world.dir.path().join("root.img");
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let args =
        [std::ffi::OsStr::new("-q"), "-d".as_ref(), world.dir.path().join("root").as_os_str(), image.as_os_str()]
            .map(std::ffi::OsStr::to_os_string);
    let made = std::process::Command::new("/sbin/mkfs.ext4").args(args).status();
    if !made.is_ok_and(|status| status.success()) || !Path::new("/dev/loop-control").exists() {
        eprintln!("SKIP containers: needs mkfs.ext4 and loop devices");
        return;
    }
    let root = format!(
        "<filesystem type='file'><driver type='loop' format='raw'/><source file='{}'/><target dir='/'/></filesystem>",
        image.display()
    );
    let mut launched = world.launch(&world.xml(&root), false).await.unwrap();
    world.shows("from image").await;
    launched.instance.kill(false).await.unwrap();
    ended(&mut launched.events).await;
    world.clean().await;
}

/// Many at once, again and again: nothing piles up in the daemon or on the host.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cycles_leave_nothing_behind() {
    if !able() {
        return;
    }
    let fds = || fs::read_dir("/proc/self/fd").unwrap().count();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let worlds: Vec<Arc<World>> = (0..8).map(|_| Arc::new(World::new("sleep 1000"))).collect();
    let mut before = None;
    for _ in 0..5 {
        let runs = worlds.iter().cloned().map(|world| {
            tokio::spawn(async move {
                let mut launched = world.launch(&world.xml(&world.root()), false).await.unwrap();
                launched.instance.kill(false).await.unwrap();
                assert_eq!(ended(&mut launched.events).await, shutoff::DESTROYED);
                drop(launched);
                world.clean().await;
            })
        });
        for run in runs.collect::<Vec<_>>() {
            run.await.unwrap();
        }
        // After the first round what is made once (the sealed binary) is there.
        before.get_or_insert_with(|| (fds(), mounts()));
    }
    let (fds_before, mounts_before) = before.unwrap();
    // Other tests of this process run at the same time: a leak would be eight per round.
    assert!(fds() < fds_before + 24, "{} descriptors, were {fds_before}", fds());
    assert!(mounts() <= mounts_before, "mounts are left");
}

#[tokio::test]
async fn memory_and_processes_are_bounded() {
    if !able() {
        return;
    }
    // 400 sleepers need more than 16 MiB as well as more than the processes allowed below.
    let script = "i=0; while test $i -lt 400; do sleep 1000 & i=$((i+1)); done; echo done; sleep 1000";
    let world = World::with_limit(script, 64);
    let mut launched = world.launch(&world.xml(&world.root()), false).await.unwrap();
    let pid = launched.instance.pid().unwrap();
    world.shows("can't fork").await;
    let tasks = |group: &str| {
        let mut best = None;
        for file in [format!("/sys/fs/cgroup/pids{group}/pids.current"), format!("/sys/fs/cgroup{group}/pids.current")]
        {
            best = best.or(fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u64>().ok()));
        }
        best
    };
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let line = groups.lines().find(|line| line.contains(":pids:") || line.starts_with("0::")).unwrap_or_default();
    let path = line.rsplit(':').next().unwrap_or_default().trim_end_matches("/guest");
    assert!(tasks(path).is_none_or(|tasks| tasks <= 64), "{groups}");
    launched.instance.kill(false).await.unwrap();
    ended(&mut launched.events).await;
    world.clean().await;
}
