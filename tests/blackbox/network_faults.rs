//! A daemon killed at each step of a network's define, update, end and undefine: what is there afterwards is whole, the
//! old or the new, and what runs is what is shown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::harness::lab::ip;
use crate::harness::{DEADLINE, Lab, program, run, skip, test_name};

const UUID: &str = "a5f3ea5a-0c1f-4c5f-b3ba-1a9a0b3a9d21";
const BRIDGE: &str = "virbr71";
const HOST: &str = "<host mac='52:54:00:00:00:02' name='two' ip='10.92.7.51'/>";

fn xml(title: &str) -> String {
    format!(
        "<network>\n  <name>n</name>\n  <uuid>{UUID}</uuid>\n  <title>{title}</title>\n  <forward mode='nat'/>\n  \
         <bridge name='{BRIDGE}' stp='on' delay='0'/>\n  <mac address='52:54:00:11:22:34'/>\n  \
         <ip address='10.92.7.1' netmask='255.255.255.0'>\n    <dhcp>\n      \
         <range start='10.92.7.10' end='10.92.7.20'/>\n    </dhcp>\n  </ip>\n</network>\n"
    )
}

fn host() -> Option<Lab> {
    for (name, package) in [("nft", "nftables"), ("dnsmasq", "dnsmasq-base")] {
        if program(name).is_none() {
            skip(&test_name(), &format!("{name} is not installed ({package})"));
            return None;
        }
    }
    Lab::lxc()
}

/// The fault points of networks, by what they are in, as the sources have them.
fn points() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for dir in ["src/engine/network", "src/net/network/run"] {
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            for rest in text.split("fault_point(\"network-").skip(1) {
                let (operation, point) = rest.split('"').next().unwrap().split_once('.').unwrap();
                found.entry(operation.to_string()).or_default().push(format!("network-{operation}.{point}"));
            }
        }
    }
    found
}

/// Lets the daemon die at a point of a command, and starts the next one. False when the command never came there.
fn dies(lab: &mut Lab, point: &str, words: &[&str]) -> bool {
    lab.stop();
    lab.start_with(&[("DOMUS_FAULT", point)]);
    lab.wait_ready();
    if lab.run(words).success() {
        // Whatever is still to come of the fault is not for what follows.
        lab.restart();
        return false;
    }
    lab.wait_end();
    lab.start();
    true
}

fn is_there(lab: &Lab) -> bool {
    lab.ok(&["net-list", "--all", "--name"]).split_whitespace().any(|name| name == "n")
}

fn is_active(lab: &Lab) -> bool {
    lab.ok(&["net-list", "--name"]).split_whitespace().any(|name| name == "n")
}

fn run_dir(lab: &Lab) -> PathBuf {
    lab.root().join("run/host/networks").join(UUID)
}

/// Whether anything of the network is on the host.
fn made(lab: &Lab) -> [bool; 3] {
    let rules = run(lab.program("nft").args(["list", "ruleset"]), DEADLINE).stdout;
    [ip("-o link").contains(BRIDGE), rules.contains(&format!("domus_{BRIDGE}")), run_dir(lab).exists()]
}

/// Kills the daemon at every point of `operation` and at every write of `words`, with `prepare` before and `check` after.
fn at_each(lab: &mut Lab, operation: &str, words: &[&str], prepare: impl Fn(&Lab), check: impl Fn(&Lab, &str)) {
    let named = points().remove(operation).unwrap_or_default();
    assert!(!named.is_empty(), "there are no points of {operation}");
    for point in &named {
        prepare(lab);
        assert!(dies(lab, &format!("{point}:kill"), words), "{words:?} does not pass {point}");
        check(lab, point);
    }
    for write in 1.. {
        assert!(write < 50, "{words:?} never ends");
        prepare(lab);
        if !dies(lab, &format!("store.written:kill:{write}"), words) {
            break;
        }
        check(lab, &format!("write {write}"));
    }
}

#[test]
fn every_point_is_known_to_a_test() {
    let known = ["define", "port", "start", "stop", "undefine", "update"];
    assert_eq!(points().keys().map(String::as_str).collect::<Vec<_>>(), known);
}

#[test]
fn a_definition_is_the_old_or_the_new() {
    let Some(mut lab) = host() else { return };
    let (old, new) = (lab.write("old.xml", &xml("old")), lab.write("new.xml", &xml("new")));
    let gone = |lab: &Lab| {
        if is_there(lab) {
            lab.ok(&["net-undefine", "n"]);
        }
    };
    let whole = |lab: &Lab, titles: &[&str], at: &str| {
        let dump = lab.ok(&["net-dumpxml", "n"]);
        assert!(titles.iter().any(|title| dump.trim_end() == xml(title).trim_end()), "after a death at {at}:\n{dump}");
    };
    at_each(&mut lab, "define", &["net-define", &new], gone, |lab, at| {
        if is_there(lab) {
            whole(lab, &["new"], at);
        }
        assert!(is_there(lab) || !at.ends_with(".stored"), "lost at {at}");
        lab.ok(&["net-define", &new]);
    });
    at_each(
        &mut lab,
        "define",
        &["net-define", &new],
        |lab| drop(lab.ok(&["net-define", &old])),
        |lab, at| {
            whole(lab, &["old", "new"], at);
        },
    );
    at_each(
        &mut lab,
        "undefine",
        &["net-undefine", "n"],
        |lab| drop(lab.ok(&["net-define", &old])),
        |lab, at| {
            if is_there(lab) {
                whole(lab, &["old"], at);
            }
            assert_eq!(is_there(lab), !at.ends_with(".removed"), "{at}");
        },
    );
    gone(&lab);
    // Killed after the definition was removed and before its mark was: the next one of the UUID does not inherit it.
    let mark = lab.root().join("state/host/networks/autostart").join(UUID);
    std::fs::write(&mark, "").unwrap();
    lab.restart();
    assert!(!mark.exists());
    lab.finish();
}

#[test]
fn a_running_network_is_the_old_or_the_new_and_what_it_says() {
    let Some(mut lab) = host() else { return };
    let file = lab.write("n.xml", &xml("n"));
    lab.ok(&["net-define", &file]);
    lab.ok(&["net-start", "n"]);
    let has = |lab: &Lab, words: &[&str]| lab.ok(words).contains("10.92.7.51");
    let prepare = |lab: &Lab| {
        for (side, words) in [("--live", &["net-dumpxml", "n"][..]), ("--config", &["net-dumpxml", "n", "--inactive"])]
        {
            if has(lab, words) {
                lab.ok(&["net-update", "n", "delete", "ip-dhcp-host", HOST, side]);
            }
        }
    };
    let update = ["net-update", "n", "add", "ip-dhcp-host", HOST, "--live", "--config"];
    at_each(&mut lab, "update", &update, prepare, |lab, at| {
        assert!(is_active(lab) && made(lab) == [true; 3], "{at}");
        let (live, config) = (has(lab, &["net-dumpxml", "n"]), has(lab, &["net-dumpxml", "n", "--inactive"]));
        assert!(live || !config, "the definition is changed last: {at}");
        assert_eq!(live, !at.starts_with("write 1"), "{at}");
        let hosts = std::fs::read_to_string(run_dir(lab).join("hosts")).unwrap();
        assert_eq!(hosts.contains("10.92.7.51"), live, "the server knows what is shown, after a death at {at}");
    });
    // The end: what is left is nothing, or all of it.
    at_each(
        &mut lab,
        "stop",
        &["net-destroy", "n"],
        |lab| {
            if !is_active(lab) {
                lab.ok(&["net-start", "n"]);
            }
        },
        |lab, at| {
            assert!(is_there(lab), "{at}");
            assert_eq!(made(lab), [is_active(lab); 3], "after a death at {at}");
            assert!(!is_active(lab) || at.starts_with("write"), "a noted end is finished: {at}");
        },
    );
    if is_active(&lab) {
        lab.ok(&["net-destroy", "n"]);
    }
    lab.ok(&["net-undefine", "n"]);
    lab.finish();
}
