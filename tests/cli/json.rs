//! `--json`: one value on standard output, for every command.

use serde_json::Value;

use super::harness::{Lab, UUID, xml};

fn value(lab: &Lab, words: &[&str]) -> Value {
    let text = lab.ok(&[&["--json"], words].concat());
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn actions_name_the_domain_and_the_result() {
    let lab = Lab::new();
    let file = lab.write("vm1.xml", &xml("vm1"));
    for (words, result) in [
        (&["define", &*file][..], "defined"),
        (&["start", "vm1"], "started"),
        (&["suspend", "vm1"], "suspended"),
        (&["resume", "vm1"], "resumed"),
        (&["reset", "vm1"], "reset"),
        (&["reboot", "vm1"], "rebooting"),
        (&["destroy", "vm1"], "destroyed"),
        (&["undefine", "vm1"], "undefined"),
        (&["create", &file], "created"),
        (&["shutdown", "vm1"], "shutting-down"),
    ] {
        let value = value(&lab, words);
        assert_eq!(value["result"], result, "{words:?}");
        assert_eq!((&value["name"], &value["uuid"], &value["driver"]), (&"vm1".into(), &UUID.into(), &"Test".into()));
    }
}

#[test]
fn facts_have_names_and_types() {
    let lab = Lab::new();
    lab.define("vm1");
    lab.ok(&["start", "vm1"]);
    let list = value(&lab, &["list", "--all"]);
    assert_eq!(list[0]["name"], "vm1");
    assert_eq!(list[0]["id"], 1);
    assert_eq!(list[0]["state"], "running");
    assert_eq!(list[0]["persistent"], true);
    let info = value(&lab, &["dominfo", "vm1"]);
    assert_eq!((&info["memory-kib"], &info["vcpus"], &info["autostart"]), (&65536.into(), &1.into(), &false.into()));
    let state = value(&lab, &["domstate", "vm1"]);
    assert_eq!((&state["state"], &state["reason"]), (&"running".into(), &"booted".into()));
    assert_eq!(value(&lab, &["domid", "vm1"])["id"], 1);
    assert_eq!(value(&lab, &["domstats", "vm1"])[0]["stats"]["balloon.current"], 65536);
    assert_eq!(value(&lab, &["dommemstat", "vm1"])["memory"]["actual"], 65536);
    assert_eq!(value(&lab, &["domblklist", "vm1"])["disks"][1]["source"], Value::Null);
    assert_eq!(value(&lab, &["domiflist", "vm1"])["interfaces"][0]["mac"], "52:54:00:11:22:33");
    assert!(value(&lab, &["dumpxml", "vm1"])["xml"].as_str().unwrap().starts_with("<domain"));
    assert_eq!(value(&lab, &["autostart", "vm1"])["autostart"], true);
    assert_eq!(value(&lab, &["uri"])["uri"], "test:///default");
    assert!(value(&lab, &["hostname"])["hostname"].is_string());
    assert_eq!(value(&lab, &["version", "--daemon"])["daemon"], env!("CARGO_PKG_VERSION"));
    for command in ["capabilities", "domcapabilities"] {
        assert!(value(&lab, &[command])["xml"].is_string(), "{command}");
    }
    let file = lab.write("vm2.xml", &xml("vm2"));
    assert!(value(&lab, &["plan", &file])["argv"].is_array());
    assert_eq!(value(&lab, &["xml", "check", &file])["warnings"], Value::Array(Vec::new()));
}

#[test]
fn a_failure_is_an_object_too() {
    let lab = Lab::new();
    let out = lab.run(&["--json", "start", "nobody"]);
    assert_eq!(out.code, Some(1));
    let value: Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(value["error"]["lines"][0], "failed to get domain 'nobody'");
    assert!(out.stderr.starts_with("error: failed to get domain 'nobody'\n"));
}
