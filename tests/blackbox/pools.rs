//! Storage pools: virsh and domus say the same, pools outlive the daemon, a daemon that dies leaves nothing half made.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zbus::OwnedObjectPath;

use crate::harness::bus::{CONNECT, QEMU};
use crate::harness::{DEADLINE, Lab, Out, Virsh, eventually, program, run, skip, test_name};

/// What domus says and what virsh says, standard error after standard output.
fn both(lab: &Lab, virsh: &Virsh<'_>, driver: &str, arguments: &[&str]) -> (String, String) {
    let text = |out: Out| format!("{}{}", out.stdout, out.stderr);
    let ours: Vec<&str> = ["-c", driver].into_iter().chain(arguments.iter().copied()).collect();
    (text(lab.run(&ours)), text(virsh.run(arguments)))
}

fn same(lab: &Lab, virsh: &Virsh<'_>, driver: &str, arguments: &[&str]) {
    let (ours, theirs) = both(lab, virsh, driver, arguments);
    assert_eq!(ours, theirs, "{arguments:?}");
}

fn dir_pool(lab: &Lab, name: &str) -> (PathBuf, String) {
    let path = lab.work().join(name);
    let xml = format!("<pool type='dir'><name>{name}</name><target><path>{}</path></target></pool>", path.display());
    let file = lab.write(&format!("{name}.xml"), &xml);
    (path, file)
}

#[test]
fn the_test_drivers_pool_is_libvirts() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::of_11(&lab, "test:///default", "libvirt-sock") else { return };
    assert!(virsh.ok(&["pool-info", "default-pool"]).contains("Capacity:       100.00 GiB"));
    for command in [
        vec!["pool-list"],
        vec!["pool-list", "--all", "--details"],
        vec!["pool-info", "default-pool"],
        vec!["pool-info", "default-pool", "--bytes"],
        vec!["pool-dumpxml", "default-pool"],
        vec!["pool-uuid", "default-pool"],
        vec!["pool-name", "dfe224cb-28fb-8dd0-c4b2-64eb3f0f4566"],
        vec!["pool-list", "--uuid", "--name"],
        vec!["pool-list", "--type", "fs,dir", "--autostart"],
        vec!["pool-list", "--type", "nope"],
        vec!["pool-info", "nobody"],
        vec!["pool-undefine", "default-pool"],
        vec!["pool-event", "--list"],
        vec!["pool-event"],
        vec!["pool-event", "--event", "nope"],
        vec!["pool-define-as", "--print-xml", "a", "netfs", "--source-host", "h", "--source-path", "/q"],
    ] {
        same(&lab, &virsh, "test", &command);
    }
    lab.ok(&["-c", "test", "pool-destroy", "default-pool"]);
    lab.ok(&["-c", "test", "pool-undefine", "--pool", "default-pool"]);
    assert_eq!(virsh.ok(&["pool-list", "--all", "--name"]).trim(), "");
    lab.finish();
}

#[test]
fn a_pool_lives_under_virsh_and_domus() {
    let Some(lab) = Lab::qemu() else { return };
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
    let (path, file) = dir_pool(&lab, "one");
    assert!(virsh.ok(&["pool-define", &file]).contains("Pool one defined from"));
    virsh.fails(&["pool-start", "one"], "No such file or directory");
    same(&lab, &virsh, "qemu", &["pool-start", "one"]);
    assert_eq!(lab.ok(&["pool-build", "one"]).trim(), "Pool one built");
    assert!(path.is_dir());
    assert_eq!(lab.ok(&["pool-start", "one"]).trim(), "Pool one started");
    File::create(path.join("disk")).unwrap().set_len(1 << 20).unwrap();
    assert_eq!(lab.ok(&["pool-refresh", "one"]).trim(), "Pool one refreshed");
    assert!(virsh.ok(&["vol-list", "one"]).contains(&path.join("disk").display().to_string()));
    assert!(virsh.ok(&["vol-info", "--pool", "one", "disk"]).contains("Capacity:       1.00 MiB"));
    assert_eq!(virsh.ok(&["vol-pool", &path.join("disk").display().to_string()]).trim(), "one");
    for command in [
        vec!["pool-list"],
        vec!["pool-list", "--all", "--persistent"],
        vec!["pool-list", "--inactive"],
        vec!["pool-info", "one"],
        vec!["pool-dumpxml", "one"],
        vec!["pool-capabilities"],
        vec!["pool-start", "one"],
        vec!["pool-delete", "one"],
        vec!["pool-undefine", "one"],
        vec!["pool-build", "one"],
        vec!["pool-define-as", "one", "dir", "--target", "/elsewhere"],
        vec!["find-storage-pool-sources", "dir"],
        vec!["find-storage-pool-sources", "netfs"],
        vec!["find-storage-pool-sources", "nope"],
        vec!["pool-autostart", "one"],
        vec!["pool-autostart", "one", "--disable"],
    ] {
        same(&lab, &virsh, "qemu", &command);
    }
    let target = path.display().to_string();
    lab.fails_with(
        &["pool-define-as", "two", "dir", "--target", &target],
        &["Storage source conflict with pool: 'one'"],
    );
    lab.fails_with(&["pool-define-as", "s", "iscsi"], &["missing storage pool source host name"]);
    // Defined, shown, but never pretended to run.
    lab.ok(&["pool-define-as", "s", "mpath", "--target", "/dev/mapper"]);
    virsh.fails(&["pool-start", "s"], "this function is not supported by the connection driver");
    lab.ok(&["pool-undefine", "s"]);
    std::fs::remove_file(path.join("disk")).unwrap();
    for (verb, done) in [("destroy", "destroyed"), ("delete", "deleted"), ("undefine", "has been undefined")] {
        let said = lab.ok(&[&format!("pool-{verb}"), "one"]);
        assert!(said.contains(done), "{said}");
    }
    assert!(!path.exists());
    lab.finish();
}

#[test]
fn what_happens_to_a_pool_is_told() {
    let Some(lab) = Lab::qemu() else { return };
    let (path, file) = dir_pool(&lab, "told");
    std::fs::create_dir(&path).unwrap();
    let bus = lab.bus();
    let mut signals = bus.listen();
    for command in ["pool-define", "pool-start", "pool-refresh", "pool-destroy", "pool-undefine"] {
        lab.ok(&[command, if command == "pool-define" { &file } else { "told" }]);
    }
    let mut heard = Vec::new();
    while heard.len() < 5 {
        let Some((path, member, message)) = signals.next(Duration::from_secs(10)) else { break };
        // Containers see the same pools.
        if !path.starts_with(QEMU) {
            continue;
        }
        match member.as_str() {
            "StoragePoolEvent" => {
                let (_, event, _): (OwnedObjectPath, i32, i32) = message.body().deserialize().unwrap();
                heard.push(event);
            }
            "Refresh" => heard.push(100),
            _ => {}
        }
    }
    assert_eq!(heard, [0, 2, 100, 3, 1], "defined, started, refreshed, stopped, undefined");
    drop(signals);
    let found: Vec<OwnedObjectPath> = bus.call(QEMU, CONNECT, "ListStoragePools", &(0u32,));
    assert!(found.is_empty());
    drop(bus);
    lab.finish();
}

#[test]
fn virsh_and_domus_hear_of_a_pool_alike() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let act = |verb: &str| lab.ok(&["-c", "test", verb, "default-pool"]);
    for (event, verbs, words) in [
        ("lifecycle", &["pool-destroy", "pool-start"][..], "event 'lifecycle' for storage pool default-pool: "),
        ("refresh", &["pool-refresh"], "event 'refresh' for storage pool default-pool\n"),
    ] {
        let given = ["pool-event", "--pool", "default-pool", "--event", event];
        let ours: Vec<&str> = ["-c", "test"].into_iter().chain(given).collect();
        for (who, mut listener) in [("virsh", virsh.command(&given)), ("domus", lab.cli(&ours))] {
            let out = lab.work().join(format!("{who}-{event}"));
            let mut listener = listener.stdout(File::create(&out).unwrap()).spawn().unwrap();
            // Neither says when it listens: things happen until it has seen one.
            eventually("an event", DEADLINE, || {
                for verb in verbs {
                    act(verb);
                }
                listener.try_wait().unwrap()
            });
            let said = std::fs::read_to_string(&out).unwrap();
            assert!(said.starts_with(words) && said.contains("events received: 1\n"), "{who}: {said}");
        }
    }
    lab.finish();
}

#[test]
fn pools_outlive_the_daemon() {
    let Some(mut lab) = Lab::qemu() else { return };
    let (kept, kept_file) = dir_pool(&lab, "kept");
    let (passing, passing_file) = dir_pool(&lab, "passing");
    // What is known of the volumes of pools.
    let known = |lab: &Lab| std::fs::read_dir(lab.root().join("state/host/pool-raw/status")).map_or(0, Iterator::count);
    lab.ok(&["pool-create", &passing_file, "--build"]);
    std::fs::write(passing.join("disk"), [0; 4096]).unwrap();
    lab.ok(&["pool-refresh", "passing"]);
    assert_eq!(known(&lab), 1);
    lab.ok(&["pool-destroy", "passing"]);
    assert_eq!(known(&lab), 0, "it goes with a transient pool");
    lab.ok(&["pool-define", &kept_file]);
    lab.ok(&["pool-autostart", "kept"]);
    lab.ok(&["pool-start", "kept", "--build"]);
    lab.ok(&["pool-create", &passing_file]);
    File::create(kept.join("disk")).unwrap();
    let before = lab.ok(&["pool-list", "--all"]);
    lab.crash();
    lab.start();
    assert_eq!(lab.ok(&["pool-list", "--all"]), before, "both run on");
    assert!(lab.ok(&["pool-list", "--transient", "--name"]).contains("passing"));
    // One whose storage vanishes meanwhile does not run any more; autostart tries, and says why it cannot.
    std::fs::remove_dir_all(&passing).unwrap();
    lab.ok(&["pool-destroy", "kept"]);
    lab.restart();
    let after = lab.ok(&["pool-list", "--all", "--name"]);
    assert_eq!(after.split_whitespace().collect::<Vec<_>>(), ["kept"]);
    assert!(lab.ok(&["pool-info", "kept"]).contains("State:          running"), "it is started with the daemon");
    lab.ok(&["pool-destroy", "kept"]);
    lab.ok(&["pool-undefine", "kept"]);
    lab.finish();
}

#[test]
fn damaged_and_vanishing_storage_is_named() {
    let Some(lab) = Lab::qemu() else { return };
    let (path, file) = dir_pool(&lab, "odd");
    lab.ok(&["pool-define", &file]);
    symlink(lab.work().join("nowhere"), &path).unwrap();
    lab.fails_with(&["pool-start", "odd"], &["No such file or directory", "symbolic link to", "nowhere"]);
    std::fs::remove_file(&path).unwrap();
    File::create(&path).unwrap();
    lab.fails_with(&["pool-start", "odd"], &["Not a directory"]);
    lab.fails_with(&["pool-build", "odd"], &["Not a directory"]);
    std::fs::remove_file(&path).unwrap();
    lab.ok(&["pool-start", "odd", "--build"]);
    // Whatever is wrong with one volume, the others are found.
    std::fs::write(path.join("short.qcow2"), b"QFI\xfb\0\0\0\x03").unwrap();
    std::fs::write(path.join("good.img"), b"x").unwrap();
    symlink("loop", path.join("loop")).unwrap();
    lab.ok(&["pool-refresh", "odd"]);
    if let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") {
        let list = virsh.ok(&["vol-list", "odd"]);
        assert!(list.contains("good.img") && list.contains("short.qcow2") && !list.contains("loop"), "{list}");
    }
    let log = std::fs::read_to_string(lab.log()).unwrap();
    assert!(log.contains("short.qcow2") && log.contains("qcow2 header ends after 8 bytes"), "{log}");
    std::fs::remove_dir_all(&path).unwrap();
    lab.fails_with(&["pool-refresh", "odd"], &["cannot open directory", "No such file or directory"]);
    assert!(lab.ok(&["pool-info", "odd"]).contains("inactive"));
    lab.ok(&["pool-undefine", "odd"]);
    lab.finish();
}

/// A pool of the file system in an image, where this machine can mount one.
fn fs_pool(lab: &Lab, name: &str) -> Option<(PathBuf, String)> {
    if program("mkfs.ext4").is_none() || !Path::new("/dev/loop-control").exists() {
        skip(&test_name(), "no mkfs.ext4 or no loop devices");
        return None;
    }
    let (image, target) = (lab.work().join("image"), lab.work().join(name));
    File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let xml = format!(
        "<pool type='fs'><name>{name}</name><source><device path='{}'/><format type='ext4'/></source>\
         <target><path>{}</path></target></pool>",
        image.display(),
        target.display()
    );
    Some((target, lab.write(&format!("{name}.xml"), &xml)))
}

fn is_mounted(lab: &Lab, path: &Path) -> bool {
    run(lab.program("mountpoint").arg("-q").arg(path), DEADLINE).success()
}

#[test]
fn a_killed_daemon_leaves_no_half_started_pool() {
    let Some(mut lab) = Lab::qemu() else { return };
    let (path, file) = dir_pool(&lab, "dir");
    lab.ok(&["pool-define", &file]);
    let mounted = fs_pool(&lab, "mnt");
    if let Some((_, file)) = &mounted {
        lab.ok(&["pool-define", file]);
        lab.ok(&["pool-build", "mnt", "--overwrite"]);
        let out = lab.run(&["pool-start", "mnt"]);
        if !out.success() {
            skip(&test_name(), &format!("an image cannot be mounted here: {}", out.stderr));
            return;
        }
        assert!(is_mounted(&lab, &lab.work().join("mnt")));
        lab.ok(&["pool-destroy", "mnt"]);
        assert!(!is_mounted(&lab, &lab.work().join("mnt")));
    }
    std::fs::create_dir(&path).unwrap();
    lab.stop();
    let mut pools = vec!["dir"];
    pools.extend(mounted.is_some().then_some("mnt"));
    for point in ["pool.start.prepared", "pool.start.up", "pool.start.refreshed", "pool.start.running"] {
        for pool in &pools {
            lab.start_with(&[("DOMUS_FAULT", &format!("{point}:kill"))]);
            lab.wait_ready();
            lab.fails(&["pool-start", pool]);
            lab.wait_end();
            lab.start();
            let running = lab.ok(&["pool-info", pool]).contains("running");
            assert_eq!(running, point.ends_with("running"), "{pool} after a death at {point}");
            if let Some((target, _)) = mounted.as_ref().filter(|_| *pool == "mnt") {
                assert_eq!(is_mounted(&lab, target), running, "after a death at {point}");
            }
            if !running {
                lab.ok(&["pool-start", pool]);
            }
            lab.stop();
            lab.start_with(&[("DOMUS_FAULT", "pool.stop.down:kill")]);
            lab.wait_ready();
            lab.fails(&["pool-destroy", pool]);
            lab.wait_end();
            lab.start();
            if let Some((target, _)) = mounted.as_ref().filter(|_| *pool == "mnt") {
                assert!(!is_mounted(&lab, target), "its storage was down already");
                assert!(lab.ok(&["pool-info", pool]).contains("inactive"));
            } else {
                lab.ok(&["pool-destroy", pool]);
            }
            lab.stop();
        }
    }
    // Building and removing: the directory is there or not, the definition stays, and both can be done again.
    let (made, made_file) = dir_pool(&lab, "made");
    lab.start();
    lab.ok(&["pool-define", &made_file]);
    for (verb, point, there) in [
        ("pool-build", "pool.build.begun", false),
        ("pool-build", "pool.build.done", true),
        ("pool-delete", "pool.delete.begun", true),
        ("pool-delete", "pool.delete.done", false),
    ] {
        match verb {
            "pool-delete" => lab.ok(&["pool-build", "made"]),
            _ if made.exists() => lab.ok(&["pool-delete", "made"]),
            _ => String::new(),
        };
        lab.stop();
        lab.start_with(&[("DOMUS_FAULT", &format!("{point}:kill"))]);
        lab.wait_ready();
        lab.fails(&[verb, "made"]);
        lab.wait_end();
        lab.start();
        assert_eq!(made.exists(), there, "after a death at {point}");
        assert!(lab.ok(&["pool-info", "made"]).contains("inactive"), "after a death at {point}");
        lab.ok(&["pool-build", "made"]);
        lab.ok(&["pool-start", "made"]);
        lab.ok(&["pool-destroy", "made"]);
    }
    lab.ok(&["pool-undefine", "made"]);
    lab.stop();
    // A definition is there as a whole or not at all.
    let (_, other) = dir_pool(&lab, "other");
    lab.start_with(&[("DOMUS_FAULT", "pool.define.claimed:kill")]);
    lab.wait_ready();
    lab.fails(&["pool-define", &other]);
    lab.wait_end();
    lab.start();
    assert!(!lab.ok(&["pool-list", "--all", "--name"]).contains("other"));
    lab.ok(&["pool-define", &other]);
    for pool in pools.iter().chain(["other"].iter()) {
        lab.ok(&["pool-undefine", pool]);
    }
    lab.finish();
}
