//! What the daemon decides: ids, capabilities, devices, limits, names.

use std::fs;
use std::future::Future;
use std::path::Path;

use domus::cgroup::Mode;
use domus::domain_xml;
use domus::engine::driver::Driver;
use domus::lxc::LxcConfig;
use domus::lxc::idalloc::Allocator;
use domus::lxc::plan;

use crate::harness::{Outcome, verdict};
use crate::lxc_support::world::{World, ended};
use crate::lxc_support::{BASE, run_script};

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// Starts a container through the driver, waits for `done` on its console, ends it; init's `/proc/PID/FILE` of then and
/// the console.
async fn through(world: &World, xml: &str, file: &str) -> (String, String) {
    let mut launched = world.launch(xml, false).await.unwrap();
    world.shows("done\n").await;
    let text = fs::read_to_string(format!("/proc/{}/{file}", launched.instance.pid().unwrap())).unwrap();
    launched.instance.kill(false).await.unwrap();
    ended(&mut launched.events).await;
    world.clean().await;
    (text, world.log())
}

fn lines_with(log: &str, mark: &str) -> Vec<String> {
    log.lines().filter(|line| line.starts_with(mark)).map(str::to_string).collect()
}

/// A definition that says nothing of ids: what its root can do outside. Everything is opened or mounted, nothing written.
pub fn a_definition_without_idmap() -> Outcome {
    let script = r#"
try() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "opens $name"; fi; }
mkdir /tmp/p /tmp/d /tmp/c
mount -t proc proc /tmp/p; try core_pattern sh -c ': >> /tmp/p/sys/kernel/core_pattern'
try sysrq sh -c ': >> /tmp/p/sysrq-trigger'
try kcore sh -c 'test "$(head -c 1 /tmp/p/kcore | wc -c)" = 1'
try debugfs mount -t debugfs debugfs /tmp/d
try dmesg dmesg
try disk mknod /tmp/disk b 254 0
try hierarchy mount -t cgroup -o none,name=evil none /tmp/c
echo done; sleep 1000"#;
    wait(async {
        let world = World::new(script);
        let (map, log) = through(&world, &world.xml(&world.root()), "uid_map").await;
        let mut broken = lines_with(&log, "opens ");
        let outside = map.split_whitespace().nth(1).unwrap_or_default();
        if outside == "0" {
            broken.push("its root is root of the host".into());
        }
        verdict(&broken)
    })
}

fn mask(names: &[&str]) -> u64 {
    let number = |name: &&str| plan::CAPABILITIES.iter().position(|known| known == name).unwrap();
    names.iter().map(|name| 1u64 << number(name)).sum()
}

/// Capabilities by policy, in privileged containers and in one that is not.
pub fn more_capabilities_than_the_policy_gives() -> Outcome {
    let never = mask(&["sys_module", "sys_rawio", "sys_time", "mknod", "audit_control", "mac_admin", "mac_override"]);
    let mknod = mask(&["mknod"]);
    let all = (1u64 << plan::CAPABILITIES.len()) - 1;
    // (privileged, <features>, must be there, must not be there)
    let cases = [
        (true, "", mask(&["chown", "sys_admin", "net_admin"]), never),
        (true, "<capabilities policy='allow'/>", all, 0),
        (true, "<capabilities policy='allow'><sys_time state='off'/></capabilities>", mknod, mask(&["sys_time"])),
        (true, "<capabilities policy='default'><mknod state='on'/></capabilities>", mknod, never & !mknod),
        (
            true,
            "<capabilities policy='deny'><chown state='on'/></capabilities>",
            mask(&["chown"]),
            all & !mask(&["chown"]),
        ),
        (false, "", mask(&["chown", "sys_admin", "net_admin", "setuid"]), 0),
        (false, "<capabilities policy='deny'/>", 0, all),
    ];
    // What this process has not, nobody gets from it.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim().to_string();
    let own = u64::from_str_radix(&own, 16).unwrap();
    wait(async {
        let mut broken = Vec::new();
        for (privileged, features, given, denied) in cases {
            let world = World::with("echo done; sleep 1000", Mode::Auto, privileged);
            let xml =
                world.xml(&world.root()).replace("<devices>", &format!("<features>{features}</features><devices>"));
            let (status, _) = through(&world, &xml, "status").await;
            for set in ["CapBnd:", "CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
                let value = status.lines().find_map(|line| line.strip_prefix(set)).unwrap().trim();
                let value = u64::from_str_radix(value, 16).unwrap();
                if value & denied != 0 {
                    broken.push(format!("{set} has {:x} with '{features}', privileged: {privileged}", value & denied));
                }
                assert!(
                    set != "CapBnd:" || value & given & own == given & own,
                    "{set} {value:x} lacks of {given:x} with '{features}'"
                );
            }
        }
        verdict(&broken)
    })
}

/// The host's disk and memory, in a privileged container that may make nodes: the device rules are all there is.
fn devices_of_the_host(mode: Mode) -> Outcome {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata("/").unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    if major == 0 {
        return Outcome::Skipped("the host's root is on no block device".into());
    }
    let script = format!(
        "mknod /tmp/disk b {major} {minor} && test \"$(head -c1 /tmp/disk | wc -c)\" = 1 && echo opens the disk
         mknod /tmp/port c 1 4 && (: < /tmp/port) && echo opens the ports
         mknod /tmp/kmsg c 1 11 && (: < /tmp/kmsg) && echo opens the log
         echo x > /dev/null && head -c1 /dev/zero > /dev/null && echo done; sleep 1000"
    );
    let dirs = domus::cgroup::Manager::detect(mode);
    let look = format!("domus-look-{}", std::process::id());
    if dirs.create(&look, "look", &[domus::cgroup::Controller::Devices]).is_ok_and(|group| group.is_empty()) {
        return Outcome::Skipped("there is no such cgroup hierarchy to put device rules on".into());
    }
    let _ = dirs.kill_and_remove(&look);
    wait(async {
        let world = World::with(&script, mode, true);
        let allow = "<features><capabilities policy='allow'/></features><devices>";
        let (_, log) = through(&world, &world.xml(&world.root()).replace("<devices>", allow), "status").await;
        verdict(&lines_with(&log, "opens "))
    })
}

pub fn devices_by_v1_rules_or_both() -> Outcome {
    devices_of_the_host(Mode::Auto)
}

pub fn devices_by_v2_programs() -> Outcome {
    devices_of_the_host(Mode::V2Only)
}

/// The container's root opens every file of its cgroup, and of every hierarchy that it mounts, for writing.
pub fn its_own_limits() -> Outcome {
    // cgroup.event_control of v1 is open to everyone: it registers notifications of the writer's own descriptors.
    let script = r#"
mkdir /tmp/g; for c in memory pids cpu cpuset blkio devices freezer; do
    mkdir /tmp/g/$c; mount -t cgroup -o $c none /tmp/g/$c 2>/dev/null; done
for f in /sys/fs/cgroup/* /tmp/g/*/*; do
    case $f in */cgroup.event_control|/sys/fs/cgroup/cgroup.procs|/sys/fs/cgroup/cgroup.subtree_control|/sys/fs/cgroup/cgroup.threads) continue;; esac
    test -d $f || { (: >> $f) 2>/dev/null && echo "opens $f"; }; done
mkdir /sys/fs/cgroup/own && echo delegated
echo done; sleep 1000"#;
    wait(async {
        let world = World::new(script);
        let (_, log) = through(&world, &world.xml(&world.root()), "status").await;
        if !log.contains("delegated") {
            return Outcome::Skipped("no cgroup v2 hierarchy to delegate".into());
        }
        verdict(&lines_with(&log, "opens "))
    })
}

/// Where in the host's cgroups the container is, as it sees it itself.
pub fn cgroup_paths_of_the_host() -> Outcome {
    let manager = domus::cgroup::Manager::detect(Mode::Auto);
    let path = format!("domus-seen-{}", std::process::id());
    let group = manager.create(&path, "seen", &[domus::cgroup::Controller::Freezer]).unwrap();
    let dirs = group.container((BASE, BASE)).unwrap();
    let (record, log) = run_script("cat /proc/self/cgroup", |spec, _| {
        spec.cgroup.guest.clone_from(&dirs.guest);
        spec.cgroup.init.clone_from(&dirs.init);
    });
    manager.kill_and_remove(&path).unwrap();
    assert_eq!(record.message, None);
    let seen = log.lines().filter(|line| line.contains(&path));
    verdict(&seen.map(|line| format!("sees {line}")).collect::<Vec<_>>())
}

/// More processes than it may have.
pub fn a_fork_bomb() -> Outcome {
    let script = "i=0; while test $i -lt 150; do sleep 1000 & i=$((i+1)); done; echo all there; sleep 1000";
    wait(async {
        let world = World::with_limit(script, 64);
        let mut launched = world.launch(&world.xml(&world.root()), false).await.unwrap();
        let bounded = loop {
            let log = world.log();
            if log.contains("can't fork") || log.contains("all there") {
                break !log.contains("all there");
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        };
        launched.instance.kill(false).await.unwrap();
        ended(&mut launched.events).await;
        world.clean().await;
        verdict(&(!bounded).then(|| "150 processes where 64 are allowed".to_string()).into_iter().collect::<Vec<_>>())
    })
}

fn range(pid: i32) -> (u64, u64) {
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    let mut fields = map.split_whitespace().skip(1).map(|field| field.parse().unwrap());
    (fields.next().unwrap(), fields.next().unwrap())
}

/// Two containers whose definitions say nothing of ids, through two daemons that share the host's ranges.
pub fn two_containers_on_one_range() -> Outcome {
    wait(async {
        let ids = tempfile::tempdir().unwrap();
        let shared = |config: &mut LxcConfig| config.ids = Allocator::new(ids.path().join("ids"), 1_700_003_840, 16);
        let worlds = [0, 1].map(|_| World::build("sleep 1000", Mode::Auto, shared));
        let mut runs = Vec::new();
        for world in &worlds {
            runs.push(world.launch(&world.xml(&world.root()), false).await.unwrap());
        }
        let ranges: Vec<_> = runs.iter().map(|run| range(run.instance.pid().unwrap())).collect();
        for (world, run) in worlds.iter().zip(&mut runs) {
            run.instance.kill(false).await.unwrap();
            ended(&mut run.events).await;
            world.clean().await;
        }
        let (a, b) = (ranges[0], ranges[1]);
        let overlap = a.0 < b.0 + b.1 && b.0 < a.0 + a.1;
        verdict(&overlap.then(|| format!("both have ids of {a:?} and {b:?}")).into_iter().collect::<Vec<_>>())
    })
}

/// Interface names that would be something else to the kernel, a path or a shell; listed ones and thousands made up.
pub fn hostile_interface_names() -> Outcome {
    use proptest::strategy::{Strategy, ValueTree};
    let world = World::new("");
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let made_up = proptest::string::string_regex("[-./:%a-z0-9 $;`|\\t]{0,20}").unwrap();
    let mut names: Vec<String> =
        ["../../etc", "a/b", "tap%d", "..", ".", "sixteen-bytes-xx", "a b", "a:1", "$(id)/x"].map(Into::into).into();
    names.extend((0..2000).map(|_| made_up.new_tree(&mut runner).unwrap().current()));
    let good = |name: &str| {
        !name.is_empty()
            && name.len() <= 15
            && name != "."
            && name != ".."
            && !name.contains(['/', ':', '%', ' ', '\t', '\n'])
    };
    let mut broken = Vec::new();
    wait(async {
        for name in names {
            let text = name.replace('&', "&amp;").replace('<', "&lt;").replace('\t', "&#9;").replace('\'', "&apos;");
            for place in ["bridge='br0'/><target dev='NAME'", "bridge='NAME'", "bridge='br0'/><guest dev='NAME'"] {
                let nic = format!("<interface type='bridge'><source {}/></interface>", place.replace("NAME", &text));
                let Ok(parsed) = domain_xml::parse_inactive(&world.xml(&format!("{}{nic}", world.root()))) else {
                    continue;
                };
                let mut def = parsed.def;
                if world.driver.complete(&mut def, &mut Vec::new()).await.is_err() {
                    continue;
                }
                if world.driver.validate(&def).await.is_err() {
                    continue;
                }
                let planned = world.driver.plan(&def).await.unwrap().links;
                let used = planned.iter().flat_map(|link| [Some(link.name.clone()), link.bridge.clone()]);
                let guest = def.interfaces[0].guest.dev.clone();
                broken.extend(used.chain([guest]).flatten().filter(|used| !good(used)).take(1));
            }
        }
    });
    broken.truncate(8);
    verdict(&broken.iter().map(|name| format!("interface name {name:?} is used")).collect::<Vec<_>>())
}

/// A domain's name that leads out of the directory of logs.
pub fn a_name_that_is_a_path() -> Outcome {
    wait(async {
        let world = World::new("echo done; sleep 1000");
        let own = format!("<name>test-{}</name>", world.run_id);
        let xml = world.xml(&world.root()).replace(&own, "<name>../escaped</name>");
        assert!(xml.contains("../escaped"));
        let result = world.launch(&xml, false).await;
        if let Ok(mut launched) = result {
            launched.instance.kill(false).await.unwrap();
            ended(&mut launched.events).await;
        }
        world.clean().await;
        let outside = world.dir.path().join("escaped.log").exists();
        verdict(&outside.then(|| "a log outside of its directory".to_string()).into_iter().collect::<Vec<_>>())
    })
}

/// A partition that leads out of its part of the cgroup file system.
pub fn a_partition_that_is_a_path() -> Outcome {
    wait(async {
        let world = World::new("echo done; sleep 1000");
        let first = format!("domus-first-{}", std::process::id());
        let partition = format!("/{first}/../domus-escaped-{}", std::process::id());
        let resource = format!("<resource><partition>{partition}</partition></resource><devices>");
        // As what it leads to: the first part must be there.
        let manager = domus::cgroup::Manager::detect(Mode::Auto);
        let group = manager.create(&first, "first", &[domus::cgroup::Controller::Pids]).unwrap();
        let result = world.launch(&world.xml(&world.root()).replace("<devices>", &resource), false).await;
        let started = result.is_ok();
        match result {
            Ok(mut launched) => {
                launched.instance.kill(false).await.unwrap();
                ended(&mut launched.events).await;
            }
            Err(error) => assert!(error.message().contains("is no cgroup path"), "{error}"),
        }
        world.undo_quietly().await;
        drop(group);
        let _ = manager.kill_and_remove(&first);
        verdict(&started.then(|| format!("started in cgroup {partition}")).into_iter().collect::<Vec<_>>())
    })
}

/// What a container keeps of a template: a set-user-id program of its root, on the host's own path, run by another user.
pub fn a_set_user_id_program_for_other_users() -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let Some(setpriv) = ["/usr/bin/setpriv", "/bin/setpriv"].into_iter().find(|path| Path::new(path).exists()) else {
        return Outcome::Skipped("needs setpriv".into());
    };
    wait(async {
        let world = World::new(
            "mkdir /set; cat /bin/busybox > /set/busybox; /bin/busybox chmod 4755 /set/busybox; echo done; sleep 1000",
        );
        // Everything above is open to everyone.
        fs::set_permissions(world.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = world.root().replace("type='mount'", "type='template'").replace("source dir=", "source name=");
        through(&world, &world.xml(&root), "status").await;
        let made = domus_files(&world.dir.path().join("overlay"));
        let made = made.iter().find(|path| path.ends_with("set/busybox")).expect("the change is kept");
        let meta = fs::metadata(made).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o4755);
        // By a shell: setpriv itself still has root's power over paths when it looks for the program.
        let ran = std::process::Command::new(setpriv)
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "/bin/sh", "-c", "\"$0\" true"])
            .arg(made)
            .output()
            .unwrap();
        verdict(
            &ran.status.success().then(|| format!("uid 65534 runs {}", made.display())).into_iter().collect::<Vec<_>>(),
        )
    })
}

fn domus_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(domus_files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}
