//! The supervisor and its containers, without a daemon: real namespaces on throw-away roots.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod lxc_support;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;

use domus::lxc::protocol::{Call, Cause, Event};
use domus::lxc::spec::{Init, Mount, MountSource, Namespace, Nic, Root};
use lxc_support::*;

#[test]
fn a_container_runs_and_its_end_is_recorded() {
    if !able() {
        return;
    }
    let (record, log) = run_script("echo pid $$ host $(hostname) uid $(id -u); exit 7", |_, _| {});
    assert_eq!(record.message, None);
    assert_eq!(log, "pid 1 host inside uid 0\n");
    assert_eq!((record.cause, record.status), (Cause::Exited, Some(7)));
}

#[test]
fn power_off_and_reboot_are_told_apart() {
    if !able() {
        return;
    }
    assert_eq!(run_script("poweroff -f", |_, _| {}).0.cause, Cause::PowerOff);
    assert_eq!(run_script("reboot -f", |_, _| {}).0.cause, Cause::Reboot);
}

#[test]
fn inside_is_confined() {
    if !able() {
        return;
    }
    // The probes of a hostile root in a container, each with what must come of it.
    let script = r#"
probe() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "$name: yes"; else echo "$name: no"; fi; }
probe core_pattern sh -c 'echo x > /proc/sys/kernel/core_pattern'
mkdir /tmp/p; probe second-proc mount -t proc proc /tmp/p
probe second-core-pattern sh -c 'echo x > /tmp/p/sys/kernel/core_pattern'
probe debugfs sh -c 'mkdir /tmp/d && mount -t debugfs debugfs /tmp/d'
probe dmesg dmesg
probe mknod mknod /tmp/disk b 254 0
probe new-hierarchy sh -c 'mkdir /tmp/c && mount -t cgroup -o none,name=evil none /tmp/c'
mkdir /tmp/v1; mount -t cgroup -o memory none /tmp/v1
probe release-agent sh -c 'grep -q " /tmp/v1 cgroup " /proc/mounts && echo /x > /tmp/v1/release_agent'
probe cgroup-procs sh -c 'grep -q " /tmp/v1 cgroup " /proc/mounts && echo 1 > /tmp/v1/cgroup.procs'
probe sysrq sh -c 'test ! -c /proc/sysrq-trigger && echo h > /proc/sysrq-trigger'
probe kcore sh -c 'test "$(head -c 1 /proc/kcore | wc -c)" = 1'
probe kallsyms sh -c 'test "$(head -c 1 /proc/kallsyms | wc -c)" = 1'
probe keys sh -c 'test "$(head -c 1 /proc/keys | wc -c)" = 1'
probe timer_list sh -c 'test "$(head -c 1 /proc/timer_list | wc -c)" = 1'
probe sys-write sh -c 'echo 1 > /sys/kernel/mm/ksm/run'
probe net-sysctl sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
probe null sh -c 'echo x > /dev/null'
echo "dev: $(ls /dev | tr '\n' ' ' 2>/dev/null || ls /dev)"
grep -E '^(Seccomp|CapBnd|NoNewPrivs):' /proc/1/status | sed 's/[[:space:]]+/ /'
echo "ns: $(cut -d' ' -f1 /proc/1/uid_map | head -n1) $(stat -c %u:%g /init)"
"#;
    let (record, log) = run_script(script, |_, _| {});
    assert_eq!(record.message, None);
    let answer = |name: &str| {
        let prefix = format!("{name}: ");
        log.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_string)
    };
    for denied in [
        "core_pattern",
        "second-core-pattern",
        "debugfs",
        "dmesg",
        "mknod",
        "new-hierarchy",
        "release-agent",
        "cgroup-procs",
        "sysrq",
        "kcore",
        "kallsyms",
        "keys",
        "timer_list",
        "sys-write",
    ] {
        assert_eq!(answer(denied).as_deref(), Some("no"), "{denied} in {log}");
    }
    for allowed in ["net-sysctl", "null"] {
        assert_eq!(answer(allowed).as_deref(), Some("yes"), "{allowed} in {log}");
    }
    assert!(log.contains("Seccomp:\t2"), "{log}");
    assert!(log.contains("NoNewPrivs:\t0"), "{log}");
}

#[test]
fn init_inherits_no_descriptor() {
    if !able() {
        return;
    }
    // Directories of the host, open without close-on-exec in whoever starts the supervisor.
    let leaks: Vec<OwnedFd> = (0..50)
        .map(|_| {
            let fd = rustix::fs::open("/", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
            rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
            fd
        })
        .collect();
    let (record, log) = run_script("", |spec, _| spec.init.argv = vec!["/bin/ls".into(), "/proc/self/fd".into()]);
    drop(leaks);
    assert_eq!(record.message, None);
    // 3 is the directory ls reads.
    assert_eq!(log.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "{log}");
}

#[rstest::rstest]
#[case::dev("dev", "/etc")]
#[case::proc("proc", "/etc")]
#[case::sys("sys", "/")]
#[case::dev_up("dev", "../../../../../etc")]
fn a_root_with_links_for_system_directories_is_refused(#[case] name: &str, #[case] target: &str) {
    if !able() {
        return;
    }
    let (record, _) = run_script("true", |_, dir| symlink(target, dir.join("root").join(name)).unwrap());
    assert_eq!(record.cause, Cause::StartFailed);
    let message = record.message.unwrap();
    assert!(message.contains(&format!("'/{name}'")) && message.contains("symbolic link"), "{message}");
}

#[test]
fn nodes_of_the_image_are_not_used() {
    if !able() {
        return;
    }
    let (record, log) =
        run_script("echo x > /dev/null; ls /dev/null/x /dev/evil; stat -c %t:%T /dev/null", |_, dir| {
            let dev = dir.join("root/dev");
            fs::create_dir(&dev).unwrap();
            symlink("/proc/sys/kernel/core_pattern", dev.join("null")).unwrap();
            fs::write(dev.join("evil"), "").unwrap();
        });
    assert_eq!(record.message, None);
    assert!(log.contains("1:3") && log.contains("/dev/evil: No such file"), "{log}");
}

#[rstest::rstest]
#[case("/proc")]
#[case("/proc/sys")]
#[case("/sys/fs")]
#[case("/mnt/../proc")]
#[case("/link/bus")]
fn targets_on_kernel_file_systems_are_refused(#[case] target: &str) {
    if !able() {
        return;
    }
    let (record, _) = run_script("true", |spec, dir| {
        symlink("/proc", dir.join("root/link")).unwrap();
        let source = MountSource::Ram { size: None };
        spec.mounts.push(Mount { source, target: target.into(), readonly: false });
    });
    let message = record.message.unwrap_or_default();
    assert!(message.contains("kernel file systems must not be covered"), "{target}: {message}");
}

#[test]
fn file_systems_are_mounted_inside() {
    if !able() {
        return;
    }
    let script = r#"
echo made > /data/new; cat /data/old; echo no > /ro/x; touch /ram/x && echo ram-ok
cat /again/old; stat -c %u /data/new; cat /file
"#;
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("old"), "old\n").unwrap();
    let (record, log) = run_script(script, |spec, _| {
        let dir = |path: &std::path::Path| MountSource::Dir { path: path.to_path_buf() };
        let mount = |source, target: &str, readonly| Mount { source, target: target.into(), readonly };
        spec.mounts = vec![
            mount(dir(&outside), "/data", false),
            mount(dir(&outside), "/ro", true),
            mount(MountSource::Ram { size: Some(1 << 20) }, "/ram", false),
            mount(MountSource::Inside { path: "/data".into() }, "/again", false),
            mount(dir(&outside.join("old")), "/file", true),
        ];
    });
    assert_eq!(record.message, None);
    for wanted in ["old\n", "can't create /ro/x: Read-only file system", "ram-ok\n", "\n0\n"] {
        assert!(log.contains(wanted), "{wanted:?} in {log}");
    }
    assert_eq!(log.matches("old\n").count(), 3, "{log}");
    // The container's root wrote as host root through the shifted mount, and only there.
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(outside.join("new")).unwrap().uid(), 0);
}

#[test]
fn an_overlay_keeps_its_template() {
    if !able() {
        return;
    }
    let (record, log) =
        run_script("echo changed > /etc/x; cat /etc/x; stat -c %u /etc /etc/x; touch /new", |spec, dir| {
            fs::create_dir_all(dir.join("o/upper")).unwrap();
            fs::create_dir_all(dir.join("o/work")).unwrap();
            spec.root =
                Root::Overlay { lower: vec![dir.join("root")], upper: dir.join("o/upper"), work: dir.join("o/work") };
        });
    assert_eq!(record.message, None);
    assert_eq!(log, "changed\n0\n0\n");
}

#[test]
fn without_a_root_the_host_is_only_looked_at() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let canary = dir.path().join("canary");
    fs::write(&canary, "alive").unwrap();
    let etc = std::path::Path::new("/etc/domus-test-must-not-appear");
    let script = format!(
        "ls /tmp /run /var/tmp; rm -rf {0}; echo x > {1}; cat {1}; id -u; stat -c %u /etc",
        dir.path().display(),
        etc.display()
    );
    let (record, log) = run_script("", |spec, _| {
        spec.root = Root::HostOverlay { size: 1 << 24 };
        spec.init.argv = vec!["/bin/busybox".into(), "sh".into(), "-c".into(), script];
        spec.init.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
    });
    assert_eq!(record.message, None);
    assert_eq!(log, "/run:\n\n/tmp:\n\n/var/tmp:\nx\n0\n0\n");
    assert_eq!(fs::read_to_string(&canary).unwrap(), "alive");
    assert!(!etc.exists());
}

#[test]
fn a_console_is_a_stream_both_ways() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path(), "echo early; read line; echo got $line; read line");
    let run_dir = dir.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    let mut run = Run::start(&spec(&run_dir, &root));
    let running = run.started();
    assert!(running.ttys[0].starts_with("/dev/pts/"), "{running:?}");
    run.shows("early");
    let (result, mut fds) = run.call(Call::Console { index: 0, force: false });
    result.unwrap();
    let mut stream = fs::File::from(fds.remove(0));
    use std::io::{Read, Write};
    stream.write_all(b"hello\n").unwrap();
    let mut text = String::new();
    while !text.contains("got hello") {
        let mut buffer = [0; 256];
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "console closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(text.starts_with("early"), "{text:?}");
    assert_eq!(run.call(Call::Console { index: 0, force: false }).0.unwrap_err(), "the console is in use");
    assert!(run.call(Call::Console { index: 0, force: true }).0.is_ok());
    assert!(run.call(Call::Console { index: 7, force: false }).0.is_err());
    run.call(Call::Kill).0.unwrap();
    let record = run.ended();
    assert_eq!((record.cause, record.signal, record.killed), (Cause::Killed, Some(9), true));
}

#[test]
fn init_dies_with_its_supervisor() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path(), "echo up; sleep 1000");
    let run_dir = dir.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    let mut run = Run::start(&spec(&run_dir, &root));
    let init = run.started().init;
    run.shows("up");
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    gone(init);
}

#[test]
fn a_reboot_restarts_in_place() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root =
        busybox_root(dir.path(), "if test -e /second; then echo again; sleep 1000; fi; touch /second; reboot -f");
    let run_dir = dir.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    let mut spec = spec(&run_dir, &root);
    spec.restart_on_reboot = true;
    let mut run = Run::start(&spec);
    let first = run.started().init;
    let second = run.wait("reboot", |event, _| match event {
        Event::Rebooted(running) => Some(running.init),
        _ => None,
    });
    assert_ne!(first, second);
    run.shows("again");
    run.call(Call::Kill).0.unwrap();
    assert_eq!(run.ended().cause, Cause::Killed);
    run.child.wait().unwrap();
    let record = fs::read_to_string(run_dir.join("exit.json")).unwrap();
    assert!(record.contains("\"killed\""), "{record}");
}

#[test]
fn a_held_init_waits() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path(), "echo ran");
    let run_dir = dir.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    let mut spec = spec(&run_dir, &root);
    spec.hold = true;
    let mut run = Run::start(&spec);
    run.wait("hold", |event, _| matches!(event, Event::Held(_)).then_some(()));
    assert!(run.call(Call::Status).0.unwrap().held);
    assert_eq!(run.log(), "");
    run.call(Call::Run).0.unwrap();
    run.ended();
    assert_eq!(run.log(), "ran\n");
}

#[test]
fn busybox_init_is_asked_to_power_off() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path(), "");
    fs::write(root.join("etc/inittab"), "::sysinit:/bin/echo booted\n::respawn:/bin/sleep 1000\n").unwrap();
    let run_dir = dir.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    let mut spec = spec(&run_dir, &root);
    spec.init.argv = vec!["/bin/init".into()];
    let mut run = Run::start(&spec);
    run.started();
    run.shows("booted");
    run.call(Call::Shutdown { reboot: false, initctl: true, signal: true }).0.unwrap();
    assert_eq!(run.ended().cause, Cause::PowerOff);
}

#[test]
fn what_cannot_be_executed_is_named() {
    if !able() {
        return;
    }
    let (record, _) = run_script("", |spec, _| spec.init = Init { argv: vec!["/nowhere".into()], ..spec.init.clone() });
    let message = record.message.unwrap();
    assert!(message.contains("cannot execute '/nowhere'"), "{message}");
    let (record, _) = run_script("", |spec, _| spec.root = Root::Dir { source: "/nowhere".into(), readonly: false });
    let message = record.message.unwrap();
    assert!(message.contains("'/nowhere'"), "{message}");
}

#[test]
fn the_init_user_comes_from_the_root() {
    if !able() {
        return;
    }
    let (record, log) = run_script("", |spec, dir| {
        fs::write(dir.join("root/etc/passwd"), "web:x:33:34::/:/bin/sh\n").unwrap();
        spec.init.argv = vec!["/bin/id".into()];
        spec.init.user = Some("web".into());
    });
    assert_eq!(record.message, None);
    assert!(log.starts_with("uid=33(web) gid=34 groups=34"), "{log}");
}

/// Kills the supervisor, or fails the child, at every step of a start: nothing may be left.
#[rstest::rstest]
#[case("run.cloned:kill")]
#[case("run.ids:kill")]
#[case("run.mounts:kill")]
#[case("run.plugged:kill")]
#[case("run.network:kill")]
#[case("run.ready:kill")]
#[case("run.go:kill")]
#[case("run.cloned:fail")]
#[case("run.mounts:fail")]
#[case("run.plugged:fail")]
#[case("run.ready:fail")]
#[case("init.mapped:fail")]
#[case("init.mounted:fail")]
#[case("init.pivoted:fail")]
#[case("init.network:fail")]
#[case("init.go:fail")]
fn a_fault_during_the_start_leaves_nothing(#[case] fault: &str) {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path(), "sleep 1000");
    let run_dir = dir.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    let mut spec = spec(&run_dir, &root);
    // Found by its command line also after the exec.
    spec.init.argv = vec!["/bin/sh".into(), "-c".into(), format!("sleep 1000 # {}", run_dir.display())];
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let link = format!("dmf{}-{number}", std::process::id());
    spec.nics = vec![Nic {
        host: link.clone(),
        alias: "domus:test".into(),
        guest: "eth0".into(),
        mac: [0x52, 0x54, 0, 0, 0, 1],
        mtu: None,
        bridge: None,
        macvlan: None,
        isolated: false,
        up: true,
        addresses: vec![],
        routes: vec![],
    }];
    let mut run = Run::with_faults(&spec, fault);
    if fault.ends_with(":kill") {
        assert!(!run.child.wait().unwrap().success());
    } else {
        let record = run.ended();
        assert_eq!(record.cause, Cause::StartFailed, "{record:?}");
        let message = record.message.unwrap();
        assert!(message.contains("fault"), "{fault}: {message}");
        run.child.wait().unwrap();
        assert!(run_dir.join("exit.json").exists());
    }
    let patience = std::time::Instant::now();
    while !processes(&run_dir).is_empty() || std::path::Path::new("/sys/class/net").join(&link).exists() {
        assert!(patience.elapsed().as_secs() < 30, "{fault}: {:?} or '{link}' is left", processes(&run_dir));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*dir.path().to_string_lossy()), "{fault}: a mount is left");
}

#[test]
fn an_image_file_is_a_root() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path(), "echo from image; stat -c %u /init; echo kept > /etc/kept");
    let image = dir.path().join("root.img");
    let Some(()) = image_of(&root, &image) else { return };
    let run_dir = dir.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    let mut spec = spec(&run_dir, &root);
    let source =
        |fstype: &str| Root::Image { source: image.clone(), fstype: fstype.into(), loop_device: true, readonly: false };
    spec.root = source("ext4");
    for _ in 0..2 {
        let (record, log) = Run::start(&spec).output();
        assert_eq!(record.message, None);
        assert_eq!(log, "from image\n0\n");
    }
    // The type is never found out from the content.
    spec.root = source("auto");
    let (record, _) = Run::start(&spec).output();
    assert!(record.message.unwrap().contains("'auto'"));
    spec.root = source("xfs");
    let (record, _) = Run::start(&spec).output();
    assert_eq!(record.cause, Cause::StartFailed);
    let loops = std::process::Command::new("/sbin/losetup").arg("-a").output();
    let loops = loops.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    assert!(!loops.contains(&*image.to_string_lossy()), "{loops}");
}

#[test]
fn a_source_that_cannot_be_shifted_is_refused_by_name() {
    if !able() {
        return;
    }
    let (record, _) = run_script("true", |spec, _| {
        let source = MountSource::Dir { path: "/proc/sys".into() };
        spec.mounts.push(Mount { source, target: "/mnt".into(), readonly: false });
    });
    let message = record.message.unwrap();
    assert!(message.contains("'/proc/sys' (file system type proc)") && message.contains("privileged"), "{message}");
}

#[test]
fn dropped_capabilities_and_denied_calls() {
    if !able() {
        return;
    }
    let script = "grep CapBnd /proc/self/status; mount -t tmpfs none /mnt && umount -f /mnt; umount /mnt && echo plain";
    let (record, log) = run_script(script, |spec, _| spec.drop_caps = vec!["CAP_NET_RAW".into(), "CAP_MKNOD".into()]);
    assert_eq!(record.message, None);
    let mask = log.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim();
    let mask = u64::from_str_radix(mask, 16).unwrap();
    assert_eq!(mask & (1 << 13 | 1 << 27), 0, "{log}");
    assert_ne!(mask & (1 << 21), 0, "{log}");
    // Forced unmounts are denied, plain ones are not.
    assert!(log.contains("Operation not permitted") && log.ends_with("plain\n"), "{log}");
    // The same container on a weakened build has no such fence: the test can fail.
    let (_, weak) = run_script(script, |spec, _| spec.seccomp = false);
    assert!(!weak.contains("Operation not permitted"), "{weak}");
}

#[test]
fn a_privileged_container_keeps_no_way_to_the_host() {
    if !able() {
        return;
    }
    let script = r#"
probe() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "$name: yes"; else echo "$name: no"; fi; }
cat /proc/self/uid_map
probe core_pattern sh -c 'echo core > /proc/sys/kernel/core_pattern'
probe sysrq sh -c 'test ! -c /proc/sysrq-trigger && echo h > /proc/sysrq-trigger'
probe kcore sh -c 'test "$(head -c 1 /proc/kcore | wc -c)" = 1'
probe mknod mknod /tmp/disk b 254 0
probe sys sh -c 'echo 0 > /sys/kernel/mm/ksm/run'
"#;
    let drop = ["SYS_MODULE", "SYS_RAWIO", "SYS_TIME", "MKNOD", "MAC_ADMIN", "SYSLOG"];
    let (record, log) = run_script(script, |spec, _| {
        spec.ids = None;
        spec.drop_caps = drop.iter().map(|name| format!("CAP_{name}")).collect();
    });
    assert_eq!(record.message, None);
    for denied in ["core_pattern", "sysrq", "kcore", "mknod", "sys"] {
        assert!(log.contains(&format!("{denied}: no")), "{denied} in {log}");
    }
}

/// Runs a program in a container; exit status and output.
fn enter(spec: &domus::lxc::spec::Enter, dir: &std::path::Path) -> (Option<i32>, String) {
    let file = dir.join("enter.json");
    fs::write(&file, serde_json::to_vec(spec).unwrap()).unwrap();
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", "exec \"$0\" enter 3<\"$1\" 5</ 0</dev/null 2>&1"])
        .arg(env!("CARGO_BIN_EXE_domus-run"))
        .arg(&file)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn programs_enter_a_running_container() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path(), "echo up; sleep 1000");
    let run_dir = dir.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    let mut run = Run::start(&spec(&run_dir, &root));
    let running = run.started();
    run.shows("up");
    let shell = |script: &str| domus::lxc::spec::Enter {
        version: 1,
        init: running.init,
        init_start: running.init_start,
        user_namespace: true,
        program: Init {
            argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
            env: vec![("PATH".into(), "/bin".into())],
            dir: None,
            user: None,
            group: None,
        },
        drop_caps: vec!["CAP_NET_RAW".into()],
        seccomp: true,
        control: false,
        terminal: false,
    };
    let script = "hostname; id -u; grep -E 'Seccomp:|CapBnd' /proc/self/status; cat /proc/1/comm; exit 5";
    let (status, output) = enter(&shell(script), dir.path());
    assert_eq!(status, Some(5), "{output}");
    assert!(output.starts_with("inside\n0\n") && output.contains("Seccomp:\t2"), "{output}");
    assert!(output.contains("CapBnd:\t000001ffffffdfff"), "{output}");
    let mut list = shell("");
    list.program.argv = vec!["/bin/ls".into(), "/proc/self/fd".into()];
    assert_eq!(enter(&list, dir.path()), (Some(0), "0\n1\n2\n3\n".into()));
    let mut later = shell("true");
    later.init_start += 1;
    let (status, output) = enter(&later, dir.path());
    assert!(status == Some(126) && output.contains("init is gone"), "{output}");
    let mut outside = shell("true");
    outside.program.dir = Some("/nowhere".into());
    assert_eq!(enter(&outside, dir.path()).0, Some(126));
}

#[test]
fn namespaces_are_shared_with_another_container() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path(), "echo up; sleep 1000");
    let run_dir = dir.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    let mut first = spec(&run_dir, &root);
    first.hostname = Some("shared-name".into());
    let mut run = Run::start(&first);
    let init = run.started().init;
    run.shows("up");
    let inode = |kind: &str| fs::read_link(format!("/proc/{init}/ns/{kind}")).unwrap().display().to_string();
    let script =
        "hostname; readlink /proc/self/ns/net; readlink /proc/self/ns/uts; ip -o link | wc -l; ls /sys/class/net";
    let (record, log) = run_script(script, |spec, _| {
        spec.net = Namespace::Join { path: format!("/proc/{init}/ns/net").into() };
        spec.uts = Namespace::Join { path: format!("/proc/{init}/ns/uts").into() };
        spec.hostname = None;
    });
    assert_eq!(record.message, None);
    assert!(log.starts_with(&format!("shared-name\n{}\n{}\n1\n", inode("net"), inode("uts"))), "{log}");
    let (record, _) = run_script("true", |spec, _| spec.net = Namespace::Join { path: "/proc/1/nowhere".into() });
    assert!(record.message.unwrap().contains("/proc/1/nowhere"));
}
