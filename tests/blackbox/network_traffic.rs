//! Networks with guests on them: leases, names, NAT, isolation, other people's firewalls, and what happens when
//! something is taken away. Everything is in the test's own network namespaces.
//!
//! ```text
//!  VM, containers ── virbr7 (192.168.122.0/24) ── host namespace ── uplink 203.0.113.0/24 ── "far" namespace
//! ```

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::harness::container::Container;
use crate::harness::lab::ip;
use crate::harness::{Guest, Lab, eventually, program, run, skip, soon, test_name};

pub(crate) const FAR: &str = "203.0.113.2";
pub(crate) const LONG: Duration = Duration::from_secs(120);

pub(crate) const DEFAULT: &str = "<network><name>default</name><uuid>aaaaaaaa-0000-4000-8000-000000000001</uuid><forward mode='nat'/>\
    <bridge name='virbr7' stp='on' delay='0'/><mac address='52:54:00:0d:0d:01'/><domain name='guests'/>\
    <ip address='192.168.122.1' netmask='255.255.255.0'><dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp>\
    </ip></network>";
const ALONE: &str = "<network><name>alone</name><uuid>aaaaaaaa-0000-4000-8000-000000000002</uuid>\
    <bridge name='virbr8' stp='off' delay='0'/><mac address='52:54:00:0d:0d:02'/>\
    <ip address='192.168.130.1' netmask='255.255.255.0'><dhcp><range start='192.168.130.2' end='192.168.130.254'/></dhcp>\
    </ip></network>";
const SECOND: &str = "<network><name>second</name><uuid>aaaaaaaa-0000-4000-8000-000000000003</uuid><forward mode='nat'/>\
    <bridge name='virbr9' stp='off' delay='0'/><mac address='52:54:00:0d:0d:03'/><port isolated='yes'/>\
    <ip address='192.168.131.1' netmask='255.255.255.0'><dhcp><range start='192.168.131.2' end='192.168.131.254'/></dhcp>\
    </ip></network>";

/// What dockerd's calls of iptables-nft leave behind, as far as it concerns others.
const DOCKER: &str = "
table ip filter {
    chain DOCKER {
    }
    chain DOCKER-ISOLATION-STAGE-1 {
        counter return
    }
    chain DOCKER-USER {
        counter return
    }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        counter jump DOCKER-USER
        counter jump DOCKER-ISOLATION-STAGE-1
        oifname \"docker0\" ct state related,established counter accept
        oifname \"docker0\" counter jump DOCKER
        iifname \"docker0\" oifname != \"docker0\" counter accept
        iifname \"docker0\" oifname \"docker0\" counter accept
    }
}
table ip nat {
    chain DOCKER {
        iifname \"docker0\" counter return
    }
    chain POSTROUTING {
        type nat hook postrouting priority srcnat; policy accept;
        oifname != \"docker0\" ip saddr 172.17.0.0/16 counter masquerade
    }
}
";

/// False, with the reason said, where the programs are missing.
fn has_programs() -> bool {
    let missing: Vec<_> = ["nft", "dnsmasq", "ip"].into_iter().filter(|name| program(name).is_none()).collect();
    if !missing.is_empty() {
        skip(&test_name(), &format!("not installed: {}", missing.join(", ")));
    }
    missing.is_empty()
}

/// A definition as a former daemon left it.
fn put(lab: &Lab, xml: &str, autostart: bool) {
    let start = xml.find("<uuid>").unwrap() + 6;
    let uuid = &xml[start..start + 36];
    let dir = lab.root().join("state/host/networks");
    fs::create_dir_all(dir.join("autostart")).unwrap();
    fs::create_dir_all(dir.join("definitions")).unwrap();
    fs::write(dir.join("definitions").join(format!("{uuid}.xml")), xml).unwrap();
    if autostart {
        fs::write(dir.join("autostart").join(uuid), "").unwrap();
    }
}

/// A lab whose daemon is not started yet, with these networks; the uplink and what is behind it.
pub(crate) fn lab(networks: &[&str], more: &str) -> Option<(Lab, Far)> {
    if !has_programs() {
        return None;
    }
    let lab = Lab::lxc_unstarted()?;
    lab.configure(&format!("drivers = ['qemu', 'lxc']\n{more}"));
    for xml in networks {
        put(&lab, xml, false);
    }
    ip("link set lo up");
    let far = Far::new();
    Some((lab, far))
}

/// A network namespace behind the uplink, held by a thread that sleeps in it.
pub(crate) struct Far {
    netns: fs::File,
    _hold: std::sync::mpsc::Sender<()>,
}

impl Far {
    fn new() -> Far {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(fs::File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
            let _ = held.recv();
        });
        let far = Far { netns: told.recv().unwrap(), _hold: hold };
        ip("link add uplink type veth peer name farlink");
        use std::os::fd::AsRawFd;
        // The thread's descriptor is this process's as well.
        ip(&format!("link set farlink netns /proc/{}/fd/{}", std::process::id(), far.netns.as_raw_fd()));
        ip("addr add 203.0.113.1/24 dev uplink");
        ip("link set uplink up");
        far.within(|| {
            ip("link set lo up");
            ip(&format!("addr add {FAR}/24 dev farlink"));
            ip("link set farlink up");
            // No route to any guest: only translated packets are answered.
        });
        far
    }

    /// Runs `work` on a thread in that namespace.
    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(self.netns.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }
}

pub(crate) fn nft(text: &str) -> String {
    let mut child = Command::new(program("nft").unwrap());
    child.args(["-f", "-"]).stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = child.spawn().unwrap();
    use std::io::Write;
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "nft: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn ruleset() -> String {
    run(Command::new(program("nft").unwrap()).args(["list", "ruleset"]), LONG).stdout
}

/// A container in a network: asks for an address, then pings who is named in /targets until each answered.
pub(crate) fn member(lab: &Lab, number: u8, network: &str) -> Container {
    let script = "
mkdir -p /run
cat >/udhcpc.sh <<'EOS'
#!/bin/sh
[ \"$1\" = bound ] || exit 0
ip addr add \"$ip/$mask\" dev \"$interface\"
[ -z \"$router\" ] || ip route add default via \"${router%% *}\"
echo \"nameserver ${dns%% *}\" >/etc/resolv.conf
[ -z \"$domain\" ] || echo \"search $domain\" >>/etc/resolv.conf
EOS
busybox chmod 755 /udhcpc.sh
busybox udhcpc -q -n -f -t 60 -T 1 -i eth0 -s /udhcpc.sh -x hostname:$(hostname) >/dev/null 2>&1
echo \"address $(ip -4 -o addr show eth0 | sed -n 's/.*inet \\([0-9.]*\\).*/\\1/p')\"
while true; do sleep 1000; done";
    let mut guest = Container::new(lab, number, script);
    // The init runs as root of the container: it must be able to write here.
    for sub in ["", "etc", "tmp"] {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(guest.directory.join("root").join(sub), open).unwrap();
    }
    guest.xml = guest.with_device(&format!(
        "<interface type='network'><mac address='52:54:00:0d:00:{number:02x}'/><source network='{network}'/></interface>"
    ));
    lab.define(&guest.xml);
    guest
}

/// Starts it and waits for its address.
pub(crate) fn up(lab: &Lab, guest: &Container) -> String {
    lab.ok(&["start", &guest.name]);
    let line = eventually("an address", LONG, || {
        guest.log().lines().find_map(|line| line.trim().strip_prefix("address ").map(str::to_string))
    });
    assert!(!line.is_empty(), "no lease; the daemon said:\n{}", crate::harness::lab::tail(&lab.log(), 40));
    line
}

pub(crate) fn pings(lab: &Lab, guest: &Container, target: &str) -> bool {
    lab.run(&["exec", &guest.name, "--", "/bin/busybox", "ping", "-c", "1", "-W", "1", target]).success()
}

pub(crate) fn reaches(lab: &Lab, guest: &Container, target: &str) {
    if soon(LONG, || pings(lab, guest, target).then_some(())).is_none() {
        panic!("{} does not reach {target}; rules:\n{}\n{}", guest.name, ruleset(), ip("route"));
    }
}

/// The run directory of a network.
fn run_dir(lab: &Lab, xml: &str) -> PathBuf {
    let start = xml.find("<uuid>").unwrap() + 6;
    lab.root().join("run/host/networks").join(&xml[start..start + 36])
}

fn server(lab: &Lab, xml: &str) -> Option<i32> {
    let text = fs::read_to_string(run_dir(lab, xml).join("server.pid")).ok()?;
    let pid: i32 = text.split_whitespace().next()?.parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (name.trim() == "dnsmasq").then_some(pid)
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// Ends what networks of this test still have: they outlive daemons.
pub(crate) fn tear_down(mut lab: Lab, networks: &[&str]) {
    if lab.is_alive() {
        for xml in networks {
            let name = &xml[xml.find("<name>").unwrap() + 6..xml.find("</name>").unwrap()];
            lab.ok(&["net-destroy", name]);
            assert!(server(&lab, xml).is_none() && !run_dir(&lab, xml).exists(), "{name} left something");
        }
        assert!(!ruleset().contains("virbr"), "rules are left:\n{}", ruleset());
        // Before anything else is taken away, which the daemon would heal.
        lab.stop();
    }
    for pid in networks.iter().filter_map(|xml| server(&lab, xml)) {
        kill(pid);
    }
    for link in ["virbr7", "virbr8", "virbr9", "uplink"] {
        if ip("-o link").contains(&format!(" {link}")) {
            ip(&format!("link del {link}"));
        }
    }
    // As a reboot would: nothing is left that a next daemon could take over.
    let _ = fs::remove_dir_all(lab.root().join("run/host"));
    let _ = fs::remove_dir_all(lab.root().join("run/records/host"));
    // Not the mark that `default` was shipped once, or it comes back.
    for dir in ["networks", "leases"] {
        let _ = fs::remove_dir_all(lab.root().join("state/host").join(dir));
    }
    lab.forget_links();
    lab.finish();
}

#[test]
fn guests_on_the_default_network_reach_the_world_and_each_other() {
    let Some((mut lab, far)) = lab(&[DEFAULT], "") else { return };
    lab.start();
    let (one, two) = (member(&lab, 1, "default"), member(&lab, 2, "default"));
    // The network is started because a guest needs it.
    let address = up(&lab, &one);
    assert!(address.starts_with("192.168.122."), "{address}");
    let live = lab.ok(&["dumpxml", &one.name]);
    assert!(live.contains("<source network='default' portid='") && live.contains("bridge='virbr7'/>"), "{live}");
    assert!(!lab.ok(&["dumpxml", &one.name, "--inactive"]).contains("portid"));
    let shown = lab.ok(&["domifaddr", &one.name, "--wait", "60"]);
    assert!(shown.contains(&format!("{address}/24")) && shown.contains("52:54:00:0d:00:01"), "{shown}");
    let inside = lab.ok(&["domifaddr", &one.name, "--source", "agent"]);
    assert!(inside.contains(&format!("{address}/24")) && inside.contains("eth0"), "{inside}");
    reaches(&lab, &one, FAR);
    let seen = far.within(|| ip("neigh"));
    assert!(!seen.contains("192.168.122"), "translated: {seen}");
    let arp = lab.ok(&["domifaddr", &one.name, "--source", "arp", "--wait", "60"]);
    assert!(arp.contains(&address), "{arp}");

    let other = up(&lab, &two);
    reaches(&lab, &one, &other);
    // By name, which dnsmasq has from the lease.
    let name = lab.ok(&["exec", &two.name, "--", "/bin/hostname"]);
    reaches(&lab, &one, &name);

    // Docker comes after us: its policy drop blocks nobody for long.
    nft(DOCKER);
    reaches(&lab, &one, FAR);
    reaches(&lab, &two, &address);
    // The other way round: everything of ours is gone, docker's rules are there first.
    nft("flush ruleset");
    nft(DOCKER);
    reaches(&lab, &two, FAR);
    assert!(ruleset().contains("table inet domus_virbr7"), "{}", ruleset());

    // A killed server comes back, for a guest that asks again.
    let before = server(&lab, DEFAULT).expect("dnsmasq runs");
    kill(before);
    eventually("dnsmasq to be restarted", LONG, || server(&lab, DEFAULT).filter(|pid| *pid != before));
    reaches(&lab, &one, &name);

    // A daemon that is killed leaves all of it running, and its successor takes it over.
    lab.crash();
    let before = server(&lab, DEFAULT).expect("dnsmasq outlives the daemon");
    nft("flush ruleset");
    lab.start();
    eventually("the table", LONG, || ruleset().contains("table inet domus_virbr7").then_some(()));
    assert_eq!(server(&lab, DEFAULT), Some(before));
    reaches(&lab, &one, FAR);
    for guest in [&one, &two] {
        lab.ok(&["destroy", &guest.name]);
    }
    tear_down(lab, &[DEFAULT]);
}

#[test]
fn a_machine_and_a_container_share_the_default_network() {
    let Some((mut lab, _far)) = lab(&[DEFAULT], "") else { return };
    nft(DOCKER);
    lab.start();
    let Some(image) = crate::harness::lab::guest_image() else { return tear_down(lab, &[]) };
    let container = member(&lab, 1, "default");
    let address = up(&lab, &container);
    let name = lab.ok(&["exec", &container.name, "--", "/bin/hostname"]);
    let mut guest = Guest::files(&lab, 2, Some(image));
    let from = guest.xml.find("ip=").unwrap();
    let to = from + guest.xml[from..].find(' ').unwrap();
    let static_address = guest.xml[from..to].to_string();
    guest.change(&static_address, &format!("ip=dhcp domus.ping={FAR},{address},{name}"));
    let bridge = guest.bridge.clone();
    guest.change("<interface type=\"bridge\">", "<interface type=\"network\">");
    guest.change(&format!("bridge=\"{bridge}\""), "network=\"default\"");
    lab.define(&guest.xml);
    lab.ok(&["start", &guest.name]);
    guest.wait_booted();
    let log = guest.console_log();
    for target in [FAR, &address, &name] {
        assert!(log.contains(&format!("domus-guest: {target} answers")), "{target}: {log}");
    }
    let shown = lab.ok(&["domifaddr", &guest.name, "--wait", "60"]);
    assert!(shown.contains("192.168.122.") && shown.contains("52:54:00:ac:ce:02"), "{shown}");
    reaches(&lab, &container, &guest.name);
    lab.ok(&["destroy", &guest.name]);
    lab.ok(&["destroy", &container.name]);
    tear_down(lab, &[DEFAULT]);
}

#[test]
fn networks_do_not_see_each_other_and_isolated_ones_nothing_else() {
    let Some((mut lab, _far)) = lab(&[DEFAULT, ALONE, SECOND], "") else { return };
    lab.start();
    let (one, alone, friend) = (member(&lab, 1, "default"), member(&lab, 2, "alone"), member(&lab, 3, "alone"));
    let (here, there) = (up(&lab, &one), up(&lab, &alone));
    let near = up(&lab, &friend);
    reaches(&lab, &one, FAR);
    reaches(&lab, &alone, &near);
    reaches(&lab, &alone, "192.168.130.1");
    assert!(!pings(&lab, &alone, FAR), "an isolated network reaches the world");
    assert!(!pings(&lab, &alone, &here) && !pings(&lab, &one, &there), "two networks see each other");
    // Isolated ports reach the world and not each other.
    let (first, second) = (member(&lab, 4, "second"), member(&lab, 5, "second"));
    let (_, hidden) = (up(&lab, &first), up(&lab, &second));
    reaches(&lab, &first, FAR);
    assert!(!pings(&lab, &first, &hidden), "isolated ports see each other");
    assert!(!pings(&lab, &one, &hidden), "two networks see each other");
    for guest in [&one, &alone, &friend, &first, &second] {
        lab.ok(&["destroy", &guest.name]);
    }
    tear_down(lab, &[DEFAULT, ALONE, SECOND]);
}

/// Nothing of the network on the host.
fn nothing_of(lab: &Lab, xml: &str) {
    assert!(!ip("-o link").contains("virbr7"), "{}", ip("-o link"));
    assert!(!ruleset().contains("domus_virbr7"), "{}", ruleset());
    assert!(!run_dir(lab, xml).exists(), "the run directory is left");
    assert!(
        !lab.pids()
            .iter()
            .any(|pid| { fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "dnsmasq") })
    );
}

#[test]
fn a_daemon_killed_while_a_network_starts_leaves_nothing_half_made() {
    let Some((mut lab, _far)) = lab(&[], "") else { return };
    put(&lab, DEFAULT, true);
    let mut points = vec!["undo", "recorded", "dir", "firewall", "bridge", "routes", "server"];
    for point in &points {
        lab.start_with(&[("DOMUS_FAULT", &format!("network-start.{point}:kill"))]);
        lab.wait_end();
        // Without the mark the next daemon only cleans up.
        let mark = lab.root().join("state/host/networks/autostart/aaaaaaaa-0000-4000-8000-000000000001");
        fs::remove_file(&mark).unwrap();
        lab.start();
        nothing_of(&lab, DEFAULT);
        lab.stop();
        fs::write(&mark, "").unwrap();
    }
    // A step that fails is taken back at once.
    points.retain(|point| *point != "undo");
    for point in points {
        lab.start_with(&[("DOMUS_FAULT", &format!("network-start.{point}:fail"))]);
        lab.wait_ready();
        eventually("the start to fail", LONG, || {
            fs::read_to_string(lab.log())
                .unwrap()
                .contains(&format!("fault point 'network-start.{point}' failed"))
                .then_some(())
        });
        eventually("nothing left", LONG, || (!run_dir(&lab, DEFAULT).exists()).then_some(()));
        nothing_of(&lab, DEFAULT);
        lab.stop();
    }
    tear_down(lab, &[]);
}

#[test]
fn what_keeps_a_network_from_starting_is_said() {
    let dnsmasq = "[network]\ndnsmasq = '/nonexistent/dnsmasq'\n";
    let Some((mut lab, _far)) = lab(&[DEFAULT], dnsmasq) else { return };
    let guest = {
        lab.start();
        member(&lab, 1, "default")
    };
    let name = &*guest.name;
    lab.fails_with(&["start", name], &["Cannot find 'dnsmasq' binary", "/nonexistent/dnsmasq", "dnsmasq-base"]);
    nothing_of(&lab, DEFAULT);
    let configure = |lab: &mut Lab, more: &str| {
        lab.configure(&format!("drivers = ['qemu', 'lxc']\n[network]\n{more}"));
        lab.restart();
    };
    configure(&mut lab, "nft = '/nonexistent/nft'\n");
    lab.fails_with(&["start", name], &["Cannot find 'nft' binary", "nftables"]);
    configure(&mut lab, "start_on_demand = false\n");
    lab.fails_with(&["start", name], &["network 'default' is not active", "domus net-start default"]);
    configure(&mut lab, "");
    ip("link add virbr7 type bridge");
    lab.fails_with(&["start", name], &["cannot make its bridge 'virbr7': a bridge of this name exists"]);
    ip("link del virbr7");
    ip("addr add 192.168.122.77/24 dev uplink");
    lab.fails_with(&["start", name], &["Network is already in use by interface uplink", "192.168.122.77/24"]);
    nothing_of(&lab, DEFAULT);
    let missing = lab.write("other.xml", &guest.xml.replace("network='default'", "network='nowhere'"));
    lab.ok(&["define", &missing]);
    lab.fails_with(&["start", name], &["Network not found", "nowhere"]);
    tear_down(lab, &[]);
}

#[test]
fn two_hundred_networks_start() {
    let Some((mut lab, _far)) = lab(&[], "") else { return };
    let mut all = Vec::new();
    for n in 0..200 {
        let xml = DEFAULT
            .replace("<name>default", &format!("<name>net{n}"))
            .replace("000000000001", &format!("00000000{:04x}", n + 1))
            .replace("virbr7", &format!("vb{n}"))
            .replace("0d:0d:01", &format!("0d:0e:{n:02x}"))
            .replace("192.168.122.", &format!("10.{}.{}.", 30 + n / 100, n % 100));
        put(&lab, &xml, true);
        all.push(xml);
    }
    lab.start();
    for xml in &all {
        eventually("every dnsmasq", Duration::from_secs(600), || server(&lab, xml));
    }
    let links = ip("-o link");
    assert!((0..200).all(|n| links.contains(&format!(" vb{n}:"))), "{links}");
    let rules = ruleset();
    assert!((0..200).all(|n| rules.contains(&format!("domus_vb{n} "))));
    // What the daemon looks at is what changed: a restart finds all of them, one broken network is put right.
    lab.crash();
    let victim = server(&lab, &all[77]).unwrap();
    kill(victim);
    nft("delete table inet domus_vb123\n");
    lab.start();
    eventually("the dead server", LONG, || server(&lab, &all[77]).filter(|pid| *pid != victim));
    eventually("the table", LONG, || ruleset().contains("domus_vb123 ").then_some(()));
    lab.stop();
    for pid in all.iter().filter_map(|xml| server(&lab, xml)) {
        kill(pid);
    }
    // The bridges go with the test's namespace.
    tear_down(lab, &[]);
}

/// Whether macvtaps can be made here.
fn has_macvtap() -> bool {
    let probe = "link add link uplink name mvprobe type macvtap mode bridge";
    let made = Command::new(program("ip").unwrap()).args(probe.split(' ')).status().unwrap().success();
    if made {
        ip("link del mvprobe");
    } else {
        skip(&test_name(), "this kernel has no macvtap");
    }
    made
}

fn macvtaps() -> Vec<String> {
    ip("-o link show type macvtap").lines().map(str::to_string).collect()
}

/// A machine that never runs an instruction, with its interface in a network or on a device.
fn machine(lab: &Lab, number: u8, source: &str) -> String {
    let mut guest = Guest::files(lab, number, None);
    let bridge = guest.bridge.clone();
    let kind = if source.starts_with("network") { "network" } else { "direct" };
    guest.change("<interface type=\"bridge\">", &format!("<interface type=\"{kind}\">"));
    guest.change(&format!("bridge=\"{bridge}\""), source);
    let from = guest.xml.find("<mtu").unwrap();
    let mtu = guest.xml[from..from + guest.xml[from..].find("/>").unwrap() + 2].to_string();
    guest.change(&mtu, "");
    lab.define(&guest.xml);
    guest.name.clone()
}

#[test]
fn a_network_of_devices_gives_each_guest_the_least_used_one() {
    const POOL: &str = "<network><name>pool</name><uuid>aaaaaaaa-0000-4000-8000-000000000009</uuid>\
        <forward mode='bridge'><interface dev='pool1'/><interface dev='pool2'/></forward></network>";
    let alone =
        POOL.replace("'bridge'", "'passthrough'").replace("<interface dev='pool2'/>", "").replace("pool<", "one<");
    let alone = alone.replace("000000000009", "00000000000a");
    if program("qemu-system-x86_64").is_none() {
        return skip(&test_name(), "qemu-system-x86_64 is not installed");
    }
    let Some((mut lab, _far)) = lab(&[POOL, &alone], "") else { return };
    if !has_macvtap() {
        return tear_down(lab, &[]);
    }
    for name in ["pool1", "pool2"] {
        ip(&format!("link add {name} type veth peer {name}far"));
        ip(&format!("link set {name} up"));
    }
    lab.start();
    let guests = [1, 2, 3].map(|number| machine(&lab, number, "network=\"pool\""));
    let place = |lab: &Lab, name: &str| {
        let xml = lab.ok(&["dumpxml", name]);
        ["pool1", "pool2"].into_iter().find(|dev| xml.contains(&format!("dev='{dev}' mode='bridge'"))).map(String::from)
    };
    for name in &guests {
        lab.ok(&["start", name, "--paused"]);
    }
    assert_eq!([place(&lab, &guests[0]), place(&lab, &guests[1])], [Some("pool1".into()), Some("pool2".into())]);
    let shown = lab.ok(&["net-dumpxml", "pool"]);
    assert!(shown.contains("dev='pool1' connections='2'") && shown.contains("dev='pool2' connections='1'"), "{shown}");
    lab.ok(&["destroy", &guests[0]]);
    assert_eq!(macvtaps().len(), 2, "{:?}", macvtaps());
    assert!(!lab.ok(&["dumpxml", &guests[0]]).contains("pool1"));

    // Who is where is known again after a crash of the daemon.
    lab.crash();
    lab.start();
    lab.ok(&["start", &guests[0], "--paused"]);
    let shown = lab.ok(&["net-dumpxml", "pool"]);
    assert!(shown.contains("dev='pool1' connections='2'") && shown.contains("dev='pool2' connections='1'"), "{shown}");
    for name in &guests {
        lab.ok(&["destroy", name]);
    }
    assert_eq!(macvtaps(), Vec::<String>::new());

    // One guest per device.
    let (first, second) = (machine(&lab, 4, "network=\"one\""), machine(&lab, 5, "network=\"one\""));
    lab.ok(&["start", &first, "--paused"]);
    lab.fails_with(
        &["start", &second, "--paused"],
        &["requires exclusive access to interfaces, but none are available"],
    );
    lab.ok(&["destroy", &first]);
    let direct = machine(&lab, 6, "dev=\"pool2\" mode=\"vepa\"");
    lab.ok(&["start", &direct, "--paused"]);
    assert_eq!(macvtaps().len(), 1, "{:?}", macvtaps());
    lab.ok(&["destroy", &direct]);

    // A daemon killed right after it made one leaves none.
    lab.stop();
    lab.start_with(&[("DOMUS_FAULT", "start.socket:kill")]);
    lab.wait_ready();
    lab.run(&["start", &direct, "--paused"]);
    lab.wait_end();
    assert_eq!(macvtaps().len(), 1, "{:?}", macvtaps());
    lab.start();
    assert_eq!(macvtaps(), Vec::<String>::new());
    for dev in ["pool1", "pool2"] {
        ip(&format!("link del {dev}"));
    }
    tear_down(lab, &[]);
}
