//! What is set of a domain one knob at a time, and what guests here have none of, through Debian's own virsh.

use std::io::Write;
use std::process::{Child, Stdio};

use crate::harness::container::Container;
use crate::harness::{DEADLINE, Guest, Lab, Out, Virsh, eventually, run};
use crate::mock_life::xml;

/// virsh that reads its commands from a pipe, and so stays connected. It is told one line at a time.
fn shell(virsh: &Virsh<'_>) -> Child {
    virsh.command(&["-q"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

fn tell(shell: &mut Child, line: &str) {
    shell.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn wait_off(virsh: &Virsh<'_>, name: &str) {
    eventually("the guest has ended with its client", DEADLINE, || {
        (virsh.ok(&["domstate", name]).trim() == "shut off").then_some(())
    });
}

#[test]
fn knobs_of_the_test_driver_under_virsh() {
    let lab = Lab::mock();
    let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
    let file = lab.write("one.xml", &xml("one").replace("<vcpu>1</vcpu>", "<vcpu>2</vcpu><iothreads>2</iothreads>"));
    virsh.ok(&["define", &file]);
    virsh.ok(&["iothreadpin", "one", "1", "0", "--config"]);
    assert!(virsh.ok(&["dumpxml", "one"]).contains("<iothreadpin iothread='1' cpuset='0'/>"));
    virsh.fails(&["iothreadpin", "one", "9", "0", "--config"], "iothreadid 9 not found");
    assert!(virsh.ok(&["perf", "one", "--enable", "cmt", "--config"]).contains("cmt"));
    assert!(
        virsh.ok(&["perf", "one", "--config"]).lines().any(|line| line.starts_with("cmt") && line.ends_with("enabled"))
    );
    virsh.ok(&["perf", "one", "--disable", "cmt", "--config"]);
    assert!(virsh.ok(&["dumpxml", "one"]).contains("<event name='cmt' enabled='no'/>"));
    virsh.fails(&["perf", "one", "--live"], "domain is not running");
    virsh.fails(&["setvcpu", "one", "1", "--enable"], "not supported by the connection driver: virDomainSetVcpu");
    assert_eq!(virsh.ok(&["checkpoint-list", "one", "--name"]).trim(), "");
    virsh.fails(&["checkpoint-info", "one", "x"], "no domain checkpoint with matching name 'x'");
    virsh.fails(&["nodesevinfo"], "not supported by the connection driver");

    // What a saved guest goes on with.
    virsh.fails(&["managedsave-dumpxml", "one"], "domain does not have managed save image");
    virsh.ok(&["start", "one"]);
    virsh.ok(&["managedsave", "one"]);
    assert!(virsh.ok(&["managedsave-dumpxml", "one"]).contains("<name>one</name>"));
    virsh.ok(&["managedsave-remove", "one"]);
    lab.finish();
}

#[test]
fn a_guest_that_belongs_to_its_client_ends_with_it() {
    let mut lab = Lab::mock();
    let file = lab.write("one.xml", &xml("one"));
    let other = lab.write("two.xml", &xml("two"));
    {
        let Some(virsh) = Virsh::on(&lab, "test:///default", "libvirt-sock") else { return };
        virsh.ok(&["define", &file]);
        let mut owner = shell(&virsh);
        tell(&mut owner, "start one --autodestroy");
        tell(&mut owner, &format!("create {other} --autodestroy"));
        lab.wait_state("one", "running");
        eventually("the second runs", DEADLINE, || virsh.run(&["domid", "two"]).success().then_some(()));
        // Killed, it says no farewell.
        owner.kill().unwrap();
        owner.wait().unwrap();
        wait_off(&virsh, "one");
        eventually("the transient one is gone", DEADLINE, || (!virsh.run(&["domid", "two"]).success()).then_some(()));

        // Ended and started by somebody else meanwhile, it is none of the first client's.
        let mut owner = shell(&virsh);
        tell(&mut owner, "start one --autodestroy");
        lab.wait_state("one", "running");
        virsh.ok(&["destroy", "one"]);
        virsh.ok(&["start", "one"]);
        tell(&mut owner, "quit");
        owner.wait().unwrap();
        virsh.ok(&["suspend", "one"]);
        assert_eq!(virsh.ok(&["domstate", "one"]).trim(), "paused");
        virsh.ok(&["destroy", "one"]);
    }
    lab.stop();
    lab.start();
    lab.finish();
}

#[test]
fn a_machine_that_belongs_to_its_client_does_not_outlive_the_daemons_crash() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::blank(&mut lab, 1);
    lab.define(&guest.xml);
    let name = guest.name.as_str();
    let mut owner = {
        let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
        let mut owner = shell(&virsh);
        tell(&mut owner, &format!("start {name} --autodestroy"));
        lab.wait_state(name, "running");
        owner
    };
    lab.crash();
    assert!(guest.try_pid().is_some(), "it runs until there is a daemon again");
    lab.start();
    lab.wait_state(name, "shut off");
    assert!(guest.try_pid().is_none());
    owner.kill().unwrap();
    owner.wait().unwrap();
    lab.finish();
}

#[test]
fn knobs_of_a_machine_under_virsh() {
    let Some(mut lab) = Lab::qemu() else { return };
    let mut guest = Guest::blank(&mut lab, 1);
    guest.change("<iothreads>1</iothreads>", "<iothreads>2</iothreads>");
    guest.change("<vcpu>1</vcpu>", "<vcpu current='2'>3</vcpu>");
    guest.change("<topology sockets=\"1\"", "<topology sockets='3'");
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
    lab.define(&guest.xml);
    let name = guest.name.as_str();
    virsh.ok(&["iothreadpin", name, "2", "0", "--config"]);
    virsh.ok(&["iothreadset", name, "1", "--poll-max-ns", "5000"]);
    virsh.ok(&["perf", name, "--enable", "cmt", "--config"]);
    virsh.fails(&["start", name], "<perf> events");
    virsh.ok(&["perf", name, "--disable", "cmt", "--config"]);
    virsh.fails(&["blockjob", name, "vda"], "domain is not running");
    virsh.ok(&["start", name]);

    // What the definition says holds from the start.
    let pinned = |thread: &str, cpus: &str| {
        let all = virsh.ok(&["iothreadinfo", name]);
        let found = all.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == [thread, cpus]);
        assert!(found, "{thread} on {cpus}: {all}");
    };
    pinned("2", "0");
    virsh.ok(&["iothreadpin", name, "1", "0", "--live"]);
    pinned("1", "0");
    virsh.fails(&["iothreadpin", name, "9", "0", "--live"], "iothread 9 not found");
    let polls = |wanted: &str| {
        let told = virsh.ok(&["qemu-monitor-command", name, "{\"execute\":\"query-iothreads\"}"]);
        assert!(told.contains(wanted), "{wanted}: {told}");
    };
    polls("\"poll-max-ns\":5000");
    let set = ["iothreadset", name, "1", "--poll-max-ns", "7000", "--poll-grow", "3", "--live"];
    virsh.ok(&set);
    polls("\"poll-max-ns\":7000");
    polls("\"poll-grow\":3");
    virsh.fails(&["iothreadset", name, "9", "--poll-grow", "3"], "cannot find IOThread '9' in iothreadids");
    virsh.fails(&["perf", name, "--enable", "cmt", "--live"], "unable to enable host cpu perf event for cmt");

    // What this guest has none of.
    assert_eq!(virsh.ok(&["blockjob", name, "vda"]).trim(), "No current block job for vda");
    virsh.fails(&["blockjob", name, "vda", "--abort"], "disk vda does not have an active block job");
    virsh.fails(&["blockjob", name, "vdz"], "disk 'vdz' not found in domain");
    virsh.fails(&["backup-dumpxml", name], "no domain backup job present");
    virsh.fails(&["managedsave-dumpxml", name], "domain does not have managed save image");
    assert_eq!(virsh.ok(&["domlaunchsecinfo", name]).trim(), "");
    virsh.fails(&["nodesevinfo"], "QEMU does not support SEV guest");
    virsh.ok(&["destroy", name]);

    // Single processors: those that are on must come before those that are off.
    virsh.ok(&["setvcpu", name, "1", "--disable", "--config"]);
    assert!(virsh.ok(&["vcpucount", name, "--config"]).trim() == "1");
    virsh.fails(&["setvcpu", name, "0", "--disable", "--config"], "vCPU '0' can't be modified");
    virsh.fails(&["setvcpu", name, "7", "--enable", "--config"], "vcpu 7 is not present in persistent config");
    virsh.ok(&["setvcpu", name, "2", "--enable", "--config"]);
    virsh.fails(&["start", name], "<vcpus> with a disabled vcpu before others");
    virsh.ok(&["setvcpu", name, "1", "--enable", "--config"]);
    virsh.ok(&["setvcpu", name, "2", "--disable", "--config"]);
    virsh.ok(&["start", name]);
    assert_eq!(virsh.ok(&["vcpucount", name, "--live"]).trim(), "2");
    virsh.ok(&["destroy", name]);
    lab.finish();
}

/// virsh with two files open as 8 and 9, for `--pass-fds`.
fn with_files(virsh: &Virsh<'_>, files: [&str; 2], arguments: &[&str]) -> Out {
    let words: Vec<String> = arguments.iter().map(|word| format!("'{word}'")).collect();
    let line = format!("exec virsh -c '{}' {} 8<>{} 9<>{}", virsh.uri, words.join(" "), files[0], files[1]);
    let mut shell = virsh.program("bash");
    run(shell.args(["-c", &line]), DEADLINE)
}

#[test]
fn files_of_a_client_reach_a_containers_init() {
    let Some(lab) = Lab::lxc() else { return };
    let Some(virsh) = Virsh::on(&lab, "lxc:///system", "libvirt-sock") else { return };
    // Reads the first, writes to the second, has no third; and again after a reboot.
    let script = "read word <&3; echo \"got $word\"; echo back-$word >&4; ls /proc/self/fd | tr '\\n' ' '; echo listed; \
                  [ $word = hello ] && reboot -f; exec /bin/sh -i";
    let container = Container::new(&lab, 1, script);
    let name = container.name.as_str();
    let question = lab.write("question", "hello\nagain\n");
    let answer = lab.write("answer", "");
    let file = lab.write("box.xml", &container.xml);
    virsh.ok(&["define", &file]);
    let out = with_files(&virsh, [&question, &answer], &["start", name, "--pass-fds", "8,9"]);
    assert!(out.success(), "{out:?}");
    container.shows("listed");
    assert!(container.log().contains("got hello"), "{}", container.log());
    // ls has one of its own for the directory.
    assert!(container.log().contains("0 1 2 3 4 5 listed"), "{}", container.log());
    container.shows("got again");
    eventually("both have written", DEADLINE, || {
        std::fs::read_to_string(&answer).is_ok_and(|text| text == "back-hello\nback-again\n").then_some(())
    });
    virsh.ok(&["destroy", name]);
    virsh.ok(&["undefine", name]);

    std::fs::write(&answer, "").unwrap();
    let out = with_files(&virsh, [&question, &answer], &["create", &file, "--pass-fds", "8,9"]);
    assert!(out.success(), "{out:?}");
    eventually("its init has written", DEADLINE, || {
        std::fs::read_to_string(&answer).is_ok_and(|text| text.starts_with("back-hello\n")).then_some(())
    });
    virsh.ok(&["destroy", name]);
    lab.finish();
}

#[test]
fn files_of_a_client_reach_qemus_monitor_and_no_machine() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::blank(&mut lab, 1);
    let Some(virsh) = Virsh::on(&lab, "qemu:///system", "libvirt-sock") else { return };
    lab.define(&guest.xml);
    let file = lab.write("guest.xml", &guest.xml);
    let name = guest.name.as_str();
    let (one, two) = (lab.write("one", "x"), lab.write("two", "y"));
    let refused = "not supported by the connection driver: virDomainCreate";
    for arguments in [["start", name, "--pass-fds", "8"], ["create", &file, "--pass-fds", "8"]] {
        let out = with_files(&virsh, [&one, &two], &arguments);
        assert!(!out.success() && out.stderr.contains(refused), "{out:?}");
    }
    virsh.ok(&["start", name]);
    let pass =
        |command: &str| with_files(&virsh, [&one, &two], &["qemu-monitor-command", name, command, "--pass-fds", "8"]);
    let out = pass("{\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":77}}");
    assert!(out.success() && out.stdout.contains("\"fdset-id\":77"), "{out:?}");
    let sets = virsh.ok(&["qemu-monitor-command", name, "{\"execute\":\"query-fdsets\"}"]);
    assert!(sets.contains("\"fdset-id\":77"), "{sets}");
    // Without one QEMU says so, and goes on.
    let none = virsh.ok(&["qemu-monitor-command", name, "{\"execute\":\"add-fd\"}"]);
    assert!(none.contains("No file descriptor supplied"), "{none}");
    virsh.ok(&["destroy", name]);
    lab.finish();
}
