//! Groups on this machine's own hierarchies.

use super::*;

fn manager(test: &str) -> Option<Manager> {
    let manager = Manager::detect(Mode::Auto);
    if manager.hierarchies.is_empty() || !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP {test}: no writable cgroup hierarchy here");
        return None;
    }
    Some(manager)
}

fn name(test: &str) -> String {
    format!("domus-test-{}/{test}", std::process::id())
}

#[test]
fn limits_are_set_and_the_group_goes_with_its_processes() {
    let Some(manager) = manager("limits_are_set") else { return };
    let path = name("limits");
    let group = manager.create(&path, "test", &[Controller::Cpu, Controller::Cpuacct, Controller::Memory]).unwrap();
    group.set_cpu_shares(512).unwrap();
    group.set_cpu_quota(Some(50_000), Some(100_000)).unwrap();
    group.set_memory_limit(64 << 20).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| OwnedFd::from(fs::File::create(dir.path().join(name)).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let guest = runtime.block_on(async {
        crate::sys::exec::spawn_guest(crate::sys::exec::GuestSpec {
            argv: vec!["/bin/sleep".into(), "60".into()],
            env: vec![],
            uid: None,
            gid: None,
            groups: vec![],
            umask: 0o22,
            limits: vec![],
            working_dir: "/".into(),
            fds: vec![],
            output: file("log"),
            cgroup_procs: group.procs().unwrap(),
            pidfile: None,
            no_new_privs: false,
        })
        .unwrap()
    });
    assert_eq!(manager.open(&path).unwrap().pids(), [guest.pid]);
    assert!(group.stats().memory.is_some());
    manager.kill_and_remove(&path).unwrap();
    assert!(manager.open(&path).unwrap().is_empty());
    manager.kill_and_remove(&path).unwrap();
}

/// A shell that forks without end until it is frozen or killed.
fn spawn_in(group: &Group, script: &str) -> crate::sys::exec::GuestProcess {
    let dir = tempfile::tempdir().unwrap();
    crate::sys::exec::spawn_guest(crate::sys::exec::GuestSpec {
        argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
        env: vec![],
        uid: None,
        gid: None,
        groups: vec![],
        umask: 0o22,
        limits: vec![],
        working_dir: "/".into(),
        fds: vec![],
        output: OwnedFd::from(fs::File::create(dir.path().join("log")).unwrap()),
        cgroup_procs: group.procs().unwrap(),
        pidfile: None,
        no_new_privs: false,
    })
    .unwrap()
}

#[test]
fn a_frozen_group_stands_and_is_killed_with_its_children() {
    let Some(manager) = manager("a_frozen_group_stands") else { return };
    let path = name("freeze");
    let group = manager.create(&path, "test", &[Controller::Freezer, Controller::Pids]).unwrap();
    if !group.can_freeze() {
        eprintln!("SKIP a_frozen_group_stands: no freezer here");
        return manager.kill_and_remove(&path).unwrap();
    }
    group.set_pids_max(Some(64)).unwrap();
    let shell = spawn_in(&group, "while :; do /bin/sleep 0.01 & wait; done");
    group.freeze().unwrap();
    assert!(group.is_frozen());
    assert!(group.stats().pids.is_none_or(|tasks| tasks >= 1));
    group.thaw().unwrap();
    assert!(!group.is_frozen());
    group.freeze().unwrap();
    // Frozen as it is, as a paused container would be.
    manager.kill_and_remove(&path).unwrap();
    shell.pidfd.reap_blocking();
    assert_eq!(shell.pidfd.try_reap(), Some(crate::sys::process::Exit::Signal(9)));
    assert!(manager.open(&path).unwrap().is_empty());
}

#[test]
fn a_new_cpuset_takes_processes() {
    let Some(manager) = manager("a_new_cpuset") else { return };
    let path = name("cpuset/deep");
    let group = manager.create(&path, "test", &[Controller::Cpuset]).unwrap();
    if group.place(Controller::Cpuset).is_none() {
        eprintln!("SKIP a_new_cpuset: no cpuset controller here");
        return manager.kill_and_remove(&path).unwrap();
    }
    group.set_cpus("0").unwrap();
    group.set_mems("0").unwrap();
    let shell = spawn_in(&group, "exec /bin/sleep 60");
    assert_eq!(group.pids(), [shell.pid]);
    let status = fs::read_to_string(format!("/proc/{}/status", shell.pid)).unwrap();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    assert!(group.set_cpus("4000").is_err());
    manager.kill_and_remove(&path).unwrap();
    shell.pidfd.reap_blocking();
    // The tests' own partition; other tests may still be in it.
    for place in &group.places {
        let _ = fs::remove_dir(place.dir.ancestors().nth(2).unwrap());
    }
}

/// systemd as far as a manager sees it: a directory with the process in it, which goes when it is empty.
#[derive(Debug)]
struct FakeSystemd {
    root: PathBuf,
    stopped: std::sync::Mutex<Vec<String>>,
}

impl Scopes for FakeSystemd {
    fn start(&self, scope: &scope::Scope) -> Result<()> {
        let value = |name| scope.properties.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        let (Some(scope::Value::Text(slice)), Some(scope::Value::Pids(pids))) = (value("Slice"), value("PIDs")) else {
            panic!("{scope:?}")
        };
        let dir = self.root.join(slice).join(&scope.unit);
        fs::create_dir_all(&dir).unwrap();
        write(&dir.join("cgroup.procs"), &pids[0].to_string()).unwrap();
        Ok(())
    }

    fn stop(&self, unit: &str) -> Result<()> {
        self.stopped.lock().unwrap().push(unit.to_string());
        Ok(())
    }
}

#[test]
fn a_scope_is_held_until_the_guest_is_in() {
    let Some(mut manager) = manager("a_scope_is_held") else { return };
    let Some(v2) = manager.hierarchies.iter().find(|hierarchy| hierarchy.v2).cloned() else {
        return eprintln!("SKIP a_scope_is_held: no cgroup v2 here");
    };
    let systemd = Arc::new(FakeSystemd { root: v2.root.clone(), stopped: Default::default() });
    assert!(manager.use_scopes(systemd.clone()));
    let partition = format!("/domustest{}", std::process::id());
    let path = manager.group_path(&partition, "qemu-1").unwrap();
    let (slice, unit, own) = scope::split(&path).unwrap();
    let group = manager.create(&path, "a guest", &[Controller::Freezer]).unwrap();
    let pids_of = |path: &str| {
        let mut pids = Vec::new();
        pids_below(&v2.root.join(path), &mut pids);
        pids
    };
    assert!(group.pids().is_empty());
    let holder = pids_of(own);
    assert_eq!(holder.len(), 1);
    // A process in an inner group would keep controllers from being passed on.
    assert_eq!(fs::read_to_string(v2.root.join(own).join("cgroup.procs")).unwrap(), "");
    let guest = spawn_in(&group, "exec /bin/sleep 60");
    group.settled();
    assert_eq!(pids_of(own), [guest.pid]);
    assert!(!v2.root.join(own).join("holder").exists());
    manager.kill_and_remove(&path).unwrap();
    assert_eq!(*systemd.stopped.lock().unwrap(), [unit]);
    guest.pidfd.reap_blocking();
    assert!(manager.open(own).unwrap().is_empty());
    manager.kill_and_remove(&path).unwrap();

    // A start that ends in between: everything goes with it.
    let group = manager.create(&path, "a guest", &[Controller::Freezer]).unwrap();
    assert_eq!(pids_of(own).len(), 1);
    drop(group);
    assert!(pids_of(own).is_empty());
    manager.kill_and_remove(&path).unwrap();
    assert!(manager.open(own).unwrap().is_empty());
    for place in &manager.locate(slice, &Controller::ALL).places {
        let _ = fs::remove_dir(&place.dir);
    }
}

#[test]
fn a_path_cannot_leave() {
    let manager = Manager::default();
    for path in ["", "/", "../x", "a/../b", "a//b"] {
        assert!(manager.open(path).is_err(), "{path}");
    }
}

#[test]
fn without_hierarchies_everything_is_empty() {
    let manager = Manager::default();
    let group = manager.create("machine/x", "test", &Controller::ALL).unwrap();
    group.set_cpu_shares(2).unwrap();
    group.kill().unwrap();
    group.remove().unwrap();
    assert!(group.is_empty() && group.stats() == Stats::default());
}
