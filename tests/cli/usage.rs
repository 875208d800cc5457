//! The client alone: help, wrong command lines, no daemon.

use std::collections::BTreeSet;

use super::harness::{at, domus, empty_root, run};

#[test]
fn no_command_prints_the_help() {
    let out = run(&mut domus(), "");
    assert_eq!(out.code, Some(2));
    assert!(out.stderr.contains("Usage: domus") && out.stderr.contains("domiflist"), "{}", out.stderr);
}

#[test]
fn help_at_every_level() {
    for words in
        [&["--help"][..], &["start", "--help"], &["help", "start"], &["xml", "--help"], &["xml", "check", "-h"]]
    {
        let out = run(domus().args(words), "");
        assert_eq!((out.code, out.stderr.as_str()), (Some(0), ""), "{words:?}");
        assert!(out.stdout.contains("Usage: domus"), "{words:?}");
    }
    let out = run(domus().arg("--version"), "");
    assert!(out.stdout.starts_with("domus "), "{}", out.stdout);
}

#[test]
fn the_page_names_every_command_for_objects_of_the_host_and_no_other() {
    const GROUPS: [&str; 9] =
        ["net-", "pool-", "vol-", "secret-", "nodedev-", "image-", "iface-", "nwfilter-", "snapshot-"];
    let of_group = |word: &&str| GROUPS.iter().any(|group| word.starts_with(group));
    let help = run(domus().arg("--help"), "").stdout;
    let known: BTreeSet<&str> =
        help.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).filter(of_group).collect();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
    let page = std::fs::read_to_string(page).unwrap();
    let words = page.split('`').skip(1).step_by(2).filter_map(|code| code.split(' ').next());
    let named: BTreeSet<&str> = words.filter(of_group).collect();
    assert!(known.len() > 50, "{known:?}");
    assert_eq!(known, named);
}

#[test]
fn a_wrong_command_line_is_2() {
    for words in [
        &["no-such-command"][..],
        &["start"],
        &["start", "a", "b"],
        &["start", "--no-such-option", "a"],
        &["-c", "xen:///", "list"],
        &["list", "--table", "--name"],
        &["--timeout", "0", "list"],
        &["--system", "--session", "list"],
    ] {
        let out = run(domus().args(words), "");
        assert_eq!((out.code, out.stdout.as_str()), (Some(2), ""), "{words:?}");
        assert!(!out.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn no_daemon_says_where_it_looked_and_how_to_start_one() {
    let (_dir, root) = empty_root();
    let out = at(&root, &["list"]);
    let socket = root.join("run/dbus-sock");
    let expected = format!(
        "error: failed to connect to the hypervisor
error: cannot connect to '{}': No such file or directory; no daemon runs there; start one with 'domusd --root {}'
",
        socket.display(),
        root.display()
    );
    assert_eq!((out.code, out.stdout.as_str(), out.stderr), (Some(1), "", expected));
}

#[test]
fn the_environment_names_the_root_and_the_option_wins() {
    let (_dir, root) = empty_root();
    let out = run(domus().env("DOMUS_ROOT", &root).arg("list"), "");
    assert!(out.stderr.contains(root.to_str().unwrap()), "{}", out.stderr);
    let (_other, option) = empty_root();
    let out = run(domus().env("DOMUS_ROOT", &root).arg("list").arg("--root").arg(&option), "");
    assert!(out.stderr.contains(option.to_str().unwrap()), "{}", out.stderr);
    assert!(!out.stderr.contains(root.to_str().unwrap()), "{}", out.stderr);
}

#[test]
fn completion_needs_no_daemon() {
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef domus"), ("fish", "complete -c domus")] {
        let out = run(domus().args(["completion", shell]), "");
        assert_eq!(out.code, Some(0), "{shell}");
        assert!(out.stdout.contains(word) && out.stdout.contains("domiflist"), "{shell}");
    }
}

#[test]
fn the_types_of_events_need_no_daemon() {
    let out = run(domus().args(["event", "--list"]), "");
    assert_eq!(out.stdout.lines().count(), 29, "28 types and the empty line");
    assert!(out.stdout.starts_with("lifecycle\nreboot\n"));
}

#[test]
fn a_closed_pipe_is_no_panic() {
    use std::process::Stdio;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = domus().args(["completion", "bash"]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let out = super::harness::finish(child);
    assert_eq!((out.code, out.stderr.as_str()), (Some(141), ""));
}
