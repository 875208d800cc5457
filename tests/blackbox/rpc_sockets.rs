//! Every socket that a libvirt client may come to: our own, libvirt's names, a user's session, those of a service manager.

use std::path::Path;
use std::process::Command;

use crate::harness::container::Container;
use crate::harness::{DEADLINE, Guest, Lab, is_root, program, run, skip, test_name};
use crate::mock_life::xml;
use crate::rpc_wire::{Wire, arguments, string};

const NAMES: [&str; 3] = ["libvirt-sock", "virtqemud-sock", "virtlxcd-sock"];
/// An ordinary user that no account needs to exist for.
const SOMEBODY: u32 = 61_000;

/// What virsh begins and ends every connection with, as recorded.
fn seven_calls(path: &Path) {
    let mut wire = Wire::at(path);
    let at = path.display();
    assert_eq!(wire.call(66, &[]).1, [0, 0, 0, 1, 0, 0, 0, 0], "{at}: no authentication");
    assert_eq!(wire.call(60, &[0, 0, 0, 10]).1, [0, 0, 0, 1], "{at}: keepalive before the opening");
    assert_eq!(wire.call(1, &arguments("test:///default")).0[5], 0, "{at}");
    for feature in [14, 15] {
        assert_eq!(wire.call(60, &[0, 0, 0, feature]).1, [0, 0, 0, 1], "{at}: feature {feature}");
    }
    assert_eq!(wire.call(360, &[]).0[5], 0, "{at}");
    let (words, listed) = wire.call(273, &[0, 0, 0, 1, 0, 0, 0, 3]);
    assert_eq!((words[5], &listed[..4]), (0, &[0, 0, 0, 1][..]), "{at}: one domain");
    // Looking is for everybody, changing is not.
    let (words, _) = wire.call(11, &string(&xml("two")));
    assert_eq!(words[5], u32::from(path.to_string_lossy().ends_with("-ro")), "{at}");
    assert_eq!(wire.call(361, &[]).0[5], 0, "{at}");
    assert_eq!(wire.call(2, &[]).0[5], 0, "{at}");
    assert!(wire.receive().is_none(), "{at}: closed after the answer");
}

fn virsh(lab: &Lab, uri: &str) -> Command {
    let mut command = lab.program("virsh");
    command.args(["-c", uri]);
    command
}

fn listed(lab: &Lab, uri: &str, arguments: &[&str]) -> String {
    let out = run(virsh(lab, uri).args(arguments).args(["list", "--all", "--name"]), DEADLINE);
    assert!(out.success(), "{uri} {arguments:?}: {out:?}");
    out.stdout
}

fn has_virsh() -> bool {
    let has = program("virsh").is_some();
    if !has {
        skip(&test_name(), "virsh is not installed (libvirt-clients)");
    }
    has
}

#[test]
fn every_name_is_answered() {
    let mut lab = Lab::bare(&["--mock"]);
    let directory = lab.work().join("libvirt");
    lab.argument("--libvirt-directory");
    lab.argument(directory.to_str().unwrap());
    lab.start();
    lab.define(&xml("one"));
    let own = lab.root().join("run");
    let mut paths = vec![own.join("libvirt-sock-ro"), own.join("libvirt-sock")];
    for name in NAMES {
        paths.extend([directory.join(format!("{name}-ro")), directory.join(name)]);
    }
    for path in &paths {
        seven_calls(path);
        lab.run(&["undefine", "two"]);
        if has_virsh() {
            let uri = format!("test+unix:///default?socket={}", path.display());
            assert_eq!(listed(&lab, &uri, &[]).trim(), "one", "{uri}");
        }
    }
    lab.stop();
    assert!(paths.iter().all(|path| !path.exists()), "nothing is left of the sockets");
    lab.finish();
}

#[test]
fn a_service_managers_sockets_are_served() {
    const PYTHON: &str = "/usr/bin/python3";
    if !Path::new(PYTHON).exists() {
        return skip(&test_name(), "python3 is not installed");
    }
    let mut lab = Lab::bare(&["--mock"]);
    std::fs::create_dir(lab.root().join("run")).unwrap();
    let own = lab.root().join("run/libvirt-sock");
    let paths: Vec<_> = [own.clone()]
        .into_iter()
        .chain(["libvirt-sock-ro", "virtqemud-sock", "virtlxcd-sock-ro"].map(|name| lab.work().join(name)))
        .collect();
    // As systemd does it: listening before the daemon runs, from descriptor 3 on, and meant for this process alone.
    let script = "import fcntl, os, socket, sys\n\
        fds = []\n\
        for path in sys.argv[1].split(':'):\n\
        \x20   s = socket.socket(socket.AF_UNIX)\n\
        \x20   if os.path.exists(path): os.unlink(path)\n\
        \x20   s.bind(path); s.listen(16)\n\
        \x20   fds.append(fcntl.fcntl(s.detach(), fcntl.F_DUPFD, 100))\n\
        for number, fd in enumerate(fds): os.dup2(fd, 3 + number); os.close(fd)\n\
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)))\n\
        os.execv(sys.argv[2], sys.argv[2:])\n";
    let script = lab.write("launch.py", script);
    let all = paths.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>().join(":");
    lab.launched_by(&[PYTHON, &script, &all]);
    lab.start();
    lab.define(&xml("one"));
    for path in &paths {
        seven_calls(path);
        lab.run(&["undefine", "two"]);
    }
    // The one beside it is the daemon's own as ever.
    seven_calls(&lab.root().join("run/libvirt-sock-ro"));
    lab.stop();
    assert!(paths.iter().all(|path| path.exists()), "the service manager goes on listening");
    // Another kind of descriptor is refused by name, not served.
    let wrong = lab.write(
        "wrong.py",
        "import os, sys\nfd = os.open('/dev/null', os.O_RDONLY)\nos.dup2(fd, 9)\nos.dup2(9, 3)\n\
         os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\nos.execv(sys.argv[1], sys.argv[1:])\n",
    );
    lab.launched_by(&[PYTHON, &wrong]);
    lab.start_with(&[]);
    assert!(!lab.wait_end().success());
    let log = std::fs::read_to_string(lab.log()).unwrap();
    assert!(log.contains("descriptor 3 of the service manager is no listening stream socket"), "{log}");
    // What is left in the environment of a child of the service manager's means nothing.
    lab.launched_by(&[]);
    lab.start_with(&[("LISTEN_PID", "1"), ("LISTEN_FDS", "2")]);
    lab.wait_ready();
    lab.finish();
}

#[test]
fn libvirts_own_paths_and_modes_reach_the_drivers() {
    if !has_virsh() {
        return;
    }
    let Some(mut lab) = Lab::qemu_unstarted() else { return };
    lab.configure("");
    // In this thread's own mount namespace.
    let place = Path::new("/run/libvirt");
    let made = !place.exists() && std::fs::create_dir(place).is_ok();
    let mounted = run(Command::new("mount").args(["-t", "tmpfs", "none", "/run/libvirt"]), DEADLINE);
    assert!(mounted.success(), "{mounted:?}");
    lab.argument("--libvirt-directory");
    lab.argument("/run/libvirt");
    lab.start();
    let guest = Guest::files(&lab, 1, None);
    let container = Container::new(&lab, 2, "exec sleep 1000");
    lab.define(&guest.xml);
    lab.define(&container.xml);
    for (scheme, name, direct) in [("qemu", &guest.name, "virtqemud-sock"), ("lxc", &container.name, "virtlxcd-sock")] {
        let direct = format!("?mode=direct&socket=/run/libvirt/{direct}");
        for mode in ["", "?mode=auto", "?mode=legacy", "?mode=direct", &direct] {
            for read_only in [&[][..], &["-r"]] {
                // A socket that is named is taken for reading, too.
                assert_eq!(listed(&lab, &format!("{scheme}:///system{mode}"), read_only).trim(), name, "{mode}");
            }
        }
    }
    assert!(!run(virsh(&lab, "qemu:///system").args(["-r", "start", &guest.name]), DEADLINE).success());
    lab.stop();
    let unmounted = run(Command::new("umount").arg("/run/libvirt"), DEADLINE);
    assert!(unmounted.success(), "{unmounted:?}");
    if made {
        let _ = std::fs::remove_dir(place);
    }
    lab.finish();
}

#[test]
fn an_ordinary_users_session() {
    if !has_virsh() {
        return;
    }
    if !is_root() {
        return skip(&test_name(), "needs root to become somebody else");
    }
    let mut lab = Lab::bare(&["--mock"]).owned_by(SOMEBODY);
    let runtime = lab.work().join("runtime");
    std::fs::create_dir(&runtime).unwrap();
    nix::unistd::chown(&runtime, Some(SOMEBODY.into()), Some(SOMEBODY.into())).unwrap();
    lab.argument("--libvirt-directory");
    lab.argument(runtime.join("libvirt").to_str().unwrap());
    lab.start();
    lab.define(&xml("one"));
    let uri = format!("test+unix:///default?socket={}", lab.root().join("run/libvirt-sock").display());
    assert_eq!(listed(&lab, &uri, &[]).trim(), "one");
    // What qemu:///session looks for; only that this daemon has no such driver.
    for mode in ["", "?mode=legacy", "?mode=direct"] {
        let mut command = virsh(&lab, &format!("qemu:///session{mode}"));
        let out = run(command.env("XDG_RUNTIME_DIR", &runtime).args(["list", "--all"]), DEADLINE);
        assert!(out.stderr.contains("no connection driver available for qemu:///session"), "{mode}: {out:?}");
    }
    lab.finish();
}
