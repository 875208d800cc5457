//! Every command's text and exit status against the mock driver.

use super::harness::{Lab, UUID, run, xml};

#[test]
fn a_domains_life_in_virshs_words() {
    let lab = Lab::new();
    let file = lab.write("vm1.xml", &xml("vm1"));
    assert_eq!(lab.ok(&["define", &file]), format!("Domain 'vm1' defined from {file}\n\n"));
    for (words, text) in [
        (&["domstate", "vm1"][..], "shut off\n\n"),
        (&["domid", "vm1"], "-\n\n"),
        (&["start", "vm1"], "Domain 'vm1' started\n\n"),
        (&["domstate", "vm1", "--reason"], "running (booted)\n\n"),
        (&["suspend", "vm1"], "Domain 'vm1' suspended\n\n"),
        (&["domstate", "vm1", "--reason"], "paused (user)\n\n"),
        (&["resume", "vm1"], "Domain 'vm1' resumed\n\n"),
        (&["domstate", "vm1", "--reason"], "running (unpaused)\n\n"),
        (&["reboot", "vm1"], "Domain 'vm1' is being rebooted\n\n"),
        (&["reset", "vm1"], "Domain 'vm1' was reset\n\n"),
        (&["destroy", "vm1"], "Domain 'vm1' destroyed\n\n"),
        (&["domstate", "vm1", "--reason"], "shut off (destroyed)\n\n"),
        (&["start", "vm1", "--paused"], "Domain 'vm1' started\n\n"),
        (&["domstate", "vm1"], "paused\n\n"),
        (&["destroy", "vm1", "--graceful"], "Domain 'vm1' destroyed\n\n"),
        (&["autostart", "vm1"], "Domain 'vm1' marked as autostarted\n\n"),
        (&["autostart", "vm1", "--disable"], "Domain 'vm1' unmarked as autostarted\n\n"),
        (&["domrename", "vm1", "vm2"], "Domain successfully renamed\n\n"),
        (&["undefine", "vm2"], "Domain 'vm2' has been undefined\n\n"),
        (&["list", "--all", "--name"], "\n"),
    ] {
        assert_eq!(lab.ok(words), text, "{words:?}");
    }
}

#[test]
fn shutdown_asks_the_guest() {
    let lab = Lab::new();
    lab.define("vm1");
    lab.ok(&["start", "vm1"]);
    assert_eq!(lab.ok(&["shutdown", "vm1", "--mode", "acpi"]), "Domain 'vm1' is being shutdown\n\n");
    for words in [&["shutdown", "vm1", "--mode", "foo"][..], &["reboot", "vm1", "--mode", "foo"]] {
        let line = "Unknown mode foo value, expecting 'acpi', 'agent', 'initctl', 'signal', or 'paravirt'";
        lab.fails(words, &[line]);
    }
}

#[test]
fn a_transient_domain() {
    let lab = Lab::new();
    let file = lab.write("vm1.xml", &xml("vm1"));
    assert_eq!(lab.ok(&["create", &file]), format!("Domain 'vm1' created from {file}\n\n"));
    assert_eq!(lab.ok(&["list", "--transient", "--name"]), "vm1\n\n");
    assert_eq!(lab.ok(&["destroy", "vm1"]), "Domain 'vm1' destroyed\n\n");
    assert_eq!(lab.ok(&["list", "--all", "--name"]), "\n");
}

#[test]
fn lists() {
    let lab = Lab::new();
    assert_eq!(lab.ok(&["list", "--all"]), " Id   Name   State\n--------------------\n\n");
    for name in ["vm1", "Vm0", "vm2"] {
        lab.define(name);
    }
    lab.ok(&["start", "vm2"]);
    let id = lab.ok(&["domid", "vm2"]).trim().to_owned();
    assert_eq!(id, "1", "the first id of a new daemon");
    for (words, text) in [
        (&["list"][..], " Id   Name   State\n----------------------\n 1    vm2    running\n\n"),
        (
            &["list", "--all"],
            " Id   Name   State\n-----------------------\n 1    vm2    running\n -    Vm0    shut off\n -    vm1    shut off\n\n",
        ),
        (&["-q", "list"], " 1   vm2   running\n"),
        (&["list", "--inactive", "--name"], "Vm0\nvm1\n\n"),
        (&["list", "--state-shutoff", "--name"], "Vm0\nvm1\n\n"),
        (&["list", "--all", "--state-running", "--name"], "vm2\n\n"),
        (&["list", "--all", "--autostart", "--name"], "\n"),
        (&["list", "--id"], "1\n\n"),
        (&["list", "--id", "--name"], "1 vm2\n\n"),
        (
            &["list", "--title"],
            " Id   Name   State     Title\n--------------------------------\n 1    vm2    running   the vm2\n\n",
        ),
    ] {
        assert_eq!(lab.ok(words), text, "{words:?}");
    }
    assert_eq!(lab.ok(&["list", "--all", "--uuid", "--name"]).matches(&format!("{UUID} vm1")).count(), 1);
}

#[test]
fn a_domain_is_a_name_an_id_or_a_uuid() {
    let lab = Lab::new();
    lab.define("vm1");
    lab.ok(&["start", UUID]);
    for word in ["vm1", "1", UUID] {
        assert_eq!(lab.ok(&["domstate", word]), "running\n\n", "{word}");
        assert_eq!(lab.ok(&["domstate", "--domain", word]), "running\n\n", "{word}");
    }
    assert_eq!(lab.ok(&["domname", "1"]), "vm1\n\n");
    assert_eq!(lab.ok(&["domname", UUID]), "vm1\n\n");
    assert_eq!(lab.ok(&["domuuid", "vm1"]), format!("{UUID}\n\n"));
    assert_eq!(lab.ok(&["domid", UUID]), "1\n\n");
    // As in virsh a start takes no id, and a domain's name is not asked by its name.
    let none = "Domain not found: no domain with matching name '1'";
    lab.fails(&["start", "1"], &["failed to get domain '1'", none]);
    lab.fails(&["domname", "vm1"], &["failed to get domain 'vm1'", "Domain not found: 'vm1' is not an id or UUID"]);
}

#[test]
fn failures_say_what_and_why() {
    let lab = Lab::new();
    lab.define("vm1");
    let missing = "Domain not found: no domain with matching name 'nobody'";
    for command in [
        "start",
        "shutdown",
        "reboot",
        "reset",
        "destroy",
        "suspend",
        "resume",
        "undefine",
        "dumpxml",
        "dominfo",
        "domstate",
        "domid",
        "domuuid",
        "dommemstat",
        "domblklist",
        "domiflist",
        "console",
        "autostart",
        "domstats",
        "edit",
    ] {
        lab.fails(&[command, "nobody"], &["failed to get domain 'nobody'", missing]);
    }
    let not_running = "Requested operation is not valid: domain is not running";
    lab.fails(&["destroy", "vm1"], &["Failed to destroy domain 'vm1'", not_running]);
    lab.fails(&["shutdown", "vm1"], &["Failed to shutdown domain 'vm1'", not_running]);
    lab.fails(&["reboot", "vm1"], &["Failed to reboot domain 'vm1'", not_running]);
    lab.fails(&["reset", "vm1"], &["Failed to reset domain 'vm1'", not_running]);
    lab.fails(&["suspend", "vm1"], &["Failed to suspend domain 'vm1'", not_running]);
    lab.fails(&["resume", "vm1"], &["Failed to resume domain 'vm1'", not_running]);
    lab.fails(&["dommemstat", "vm1"], &["Failed to get memory statistics for domain vm1", not_running]);
    lab.fails(&["console", "vm1"], &["The domain is not running"]);
    lab.ok(&["start", "vm1"]);
    let running = "Requested operation is not valid: domain is already running";
    lab.fails(&["start", "vm1"], &["Failed to start domain 'vm1'", running]);
    lab.fails(&["domrename", "vm1", "vm2"], &["Requested operation is not valid: cannot rename active domain"]);
    lab.fails(&["define", "/no/such/file"], &["Failed to open file '/no/such/file': No such file or directory"]);
    let none = "this function is not supported by the connection driver: virDomainOpenConsole";
    lab.fails(&["console", "vm1"], &[none]);
}

#[test]
fn dominfo_is_a_table_of_facts() {
    let lab = Lab::new();
    lab.define("vm1");
    assert_eq!(
        lab.ok(&["dominfo", "vm1"]),
        format!(
            "Id:             -
Name:           vm1
UUID:           {UUID}
OS Type:        hvm
State:          shut off
CPU(s):         1
Max memory:     65536 KiB
Used memory:    65536 KiB
Persistent:     yes
Autostart:      disable
Managed save:   no
Security model: none
Security DOI:   0

"
        )
    );
    lab.ok(&["autostart", "vm1"]);
    lab.ok(&["start", "vm1"]);
    let text = lab.ok(&["dominfo", "vm1"]);
    for line in ["Id:             1\n", "State:          running\n", "Autostart:      enable\n"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn devices_are_listed_from_the_xml() {
    let lab = Lab::new();
    lab.define("vm1");
    for (words, text) in [
        (
            &["domblklist", "vm1"][..],
            " Target   Source
------------------------
 vda      /tmp/x.qcow2
 hda      -

",
        ),
        (
            &["domblklist", "vm1", "--details"],
            " Type   Device   Target   Source
----------------------------------------
 file   disk     vda      /tmp/x.qcow2
 file   cdrom    hda      -

",
        ),
        (
            &["domiflist", "vm1", "--inactive"],
            " Interface   Type     Source   Model    MAC
-----------------------------------------------------------
 tap0        bridge   br0      virtio   52:54:00:11:22:33

",
        ),
    ] {
        assert_eq!(lab.ok(words), text, "{words:?}");
    }
}

#[test]
fn dumpxml_can_be_defined_again() {
    let lab = Lab::new();
    lab.define("vm1");
    let text = lab.ok(&["-q", "dumpxml", "--inactive", "vm1"]);
    assert!(text.starts_with("<domain type='test'>\n") && text.ends_with("</domain>\n"), "{text}");
    let file = lab.write("again.xml", &text);
    lab.ok(&["define", &file]);
    assert_eq!(lab.ok(&["-q", "dumpxml", "--inactive", "vm1"]), text);
    // Standard input is a file too.
    let out = run(&mut lab.command(&["define", "-"]), &text);
    assert_eq!((out.code, out.stdout.as_str()), (Some(0), "Domain 'vm1' defined from -\n\n"));
}

#[test]
fn statistics() {
    let lab = Lab::new();
    lab.define("vm1");
    lab.define("vm2");
    assert_eq!(lab.ok(&["domstats", "vm1", "--state"]), "Domain: 'vm1'\n  state.state=5\n  state.reason=0\n\n");
    assert_eq!(
        lab.ok(&["domstats", "vm1", "vm2", "--state"]),
        "Domain: 'vm1'\n  state.state=5\n  state.reason=0\n\nDomain: 'vm2'\n  state.state=5\n  state.reason=0\n\n"
    );
    assert_eq!(lab.ok(&["domstats", "--list-active"]), "\n");
    lab.ok(&["start", "vm1"]);
    let all = lab.ok(&["domstats", "--balloon", "--list-active"]);
    assert_eq!(all, "Domain: 'vm1'\n  balloon.current=65536\n  balloon.maximum=65536\n  balloon.rss=65536\n\n");
    assert_eq!(lab.ok(&["dommemstat", "vm1"]), "actual 65536\nrss 65536\n\n");
}

#[test]
fn the_host_and_the_daemon() {
    let lab = Lab::new();
    assert_eq!(lab.ok(&["uri"]), "test:///default\n\n");
    assert_eq!(lab.ok(&["hostname"]).trim(), nix::unistd::gethostname().unwrap().to_str().unwrap());
    let version = lab.ok(&["version", "--daemon"]);
    let own = env!("CARGO_PKG_VERSION");
    for line in [
        &format!("Compiled against library: domus {own}\n"),
        "Using API: TEST 10.0.0\n",
        "Running hypervisor: TEST 0.0.2\n",
        &format!("Running against daemon: {own}\n"),
    ] {
        assert!(version.contains(line), "{line} in {version}");
    }
    assert!(lab.ok(&["capabilities"]).starts_with("<capabilities>"));
    assert!(lab.ok(&["domcapabilities"]).starts_with("<domainCapabilities>"));
    lab.fails(
        &["domcapabilities", "--arch", "foo"],
        &["failed to get emulator capabilities", "invalid argument: unknown architecture: foo"],
    );
}

#[test]
fn quiet_leaves_results_only() {
    let lab = Lab::new();
    let file = lab.write("vm1.xml", &xml("vm1"));
    assert_eq!(lab.ok(&["-q", "define", &file]), "");
    assert_eq!(lab.ok(&["start", "vm1", "--quiet"]), "");
    assert_eq!(lab.ok(&["-q", "domstate", "vm1"]), "running\n");
}

#[test]
fn a_plan_is_readable_and_changes_nothing() {
    let lab = Lab::new();
    let file = lab.write("vm1.xml", &xml("vm1"));
    let text = lab.ok(&["plan", &file]);
    for part in ["Run as:", "Command line:", "Nothing stands in the way of a start."] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(lab.ok(&["list", "--all", "--name"]), "\n");
}

#[test]
fn edit_defines_what_the_editor_leaves() {
    let lab = Lab::new();
    lab.define("vm1");
    let edit = |editor: &str, words: &[&str]| run(lab.command(words).env("EDITOR", editor), "");
    let out = edit("true", &["edit", "vm1"]);
    assert_eq!((out.code, out.stdout.as_str()), (Some(0), "Domain 'vm1' XML configuration not changed.\n\n"));
    let out = edit("sed -i s/65536/32768/", &["edit", "vm1"]);
    assert_eq!(
        (out.code, out.stdout.as_str(), out.stderr.as_str()),
        (Some(0), "Domain 'vm1' XML configuration edited.\n\n", "")
    );
    assert!(lab.ok(&["dumpxml", "vm1"]).contains("<memory unit='KiB'>32768</memory>"));
    // Without a terminal there is nobody to ask, and the text is kept.
    let out = edit("sed -i s/32768/many/", &["edit", "vm1"]);
    assert_eq!(out.code, Some(1));
    let kept = out.stderr.lines().next().unwrap().rsplit(' ').next().unwrap();
    assert!(std::fs::read_to_string(kept).unwrap().contains("many"), "{}", out.stderr);
    std::fs::remove_file(kept).unwrap();
    let out = edit("false", &["edit", "vm1"]);
    assert!(out.stderr.contains("the editor 'false' ended with exit status: 1"), "{}", out.stderr);
    std::fs::remove_file(out.stderr.trim().rsplit(' ').next().unwrap()).unwrap();
    assert!(lab.ok(&["dumpxml", "vm1"]).contains("<memory unit='KiB'>32768</memory>"));
}
