//! What goes wrong in daily life: each gives a precise error within seconds, loses nothing, leaves nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::mount::MsFlags;

use crate::harness::lab::ip;
use crate::harness::{Guest, Lab};
use crate::mock_life::xml;

#[test]
fn malformed_xml_is_shown_its_place() {
    let lab = Lab::mock();
    for (text, words) in [
        ("<domain type='test'>\n  <name>x</nam>\n</domain>", &["line 2"][..]),
        ("<domain type='test'>", &["line 1"]),
        ("", &["empty"]),
        ("<network/>", &["network", "domain"]),
        ("<domain type='test'><memory>1</memory><os><type>hvm</type></os></domain>", &["name"]),
        (
            "<domain type='test'>\n<name>x</name>\n<memory unit='KiX'>8</memory><os><type>hvm</type></os></domain>",
            &["line 3", "KiX"],
        ),
        (
            "<domain type='test'>\n<name>x</name><uuid>no-uuid</uuid><memory>8</memory><os><type>hvm</type></os></domain>",
            &["line 2", "uuid"],
        ),
    ] {
        let file = lab.write("x.xml", text);
        let said = lab.fails(&["define", &file]);
        for word in words {
            assert!(said.contains(word), "the error for {text:?} should have {word:?}: {said}");
        }
    }
    assert_eq!(lab.names(), Vec::<String>::new());
    lab.finish();
}

#[test]
fn hostile_xml_is_refused_quickly() {
    let lab = Lab::mock();
    let laughs = "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>]>\
                  <domain type='test'><name>&b;</name></domain>";
    let external =
        "<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/hostname'>]><domain type='test'><name>&a;</name></domain>";
    let deep = format!("<domain type='test'>{}{}</domain>", "<a>".repeat(100_000), "</a>".repeat(100_000));
    for text in [laughs, external, &deep] {
        let file = lab.write("x.xml", text);
        lab.fails(&["define", &file]);
    }
    // The daemon is as before.
    lab.define(&xml("one"));
    assert_eq!(lab.names(), ["one"]);
    lab.finish();
}

#[test]
fn a_doubtful_word_is_reported_not_lost() {
    let lab = Lab::mock();
    let file = lab.write("x.xml", &xml("one").replace("<vcpu>", "<memroy>1</memroy><vcpu>"));
    let out = lab.run(&["define", &file]);
    assert!(out.success(), "{}", out.stderr);
    assert!((out.stdout + &out.stderr).contains("memroy"), "an unknown element is dropped with a warning");
    lab.finish();
}

#[test]
fn a_missing_file_is_named() {
    let lab = Lab::mock();
    lab.fails_with(&["define", "/no/such/file.xml"], &["/no/such/file.xml"]);
    lab.finish();
}

/// Starts a guest that cannot start: the error has all the words, and nothing is left of the attempt.
fn refuses_to_start(lab: &Lab, guest: &Guest, words: &[&str]) -> String {
    lab.define(&guest.xml);
    let said = lab.fails_with(&["start", &guest.name], words);
    assert_eq!(lab.state(&guest.name), "shut off");
    lab.check_no_guest_left();
    said
}

#[test]
fn a_missing_image_is_named() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::blank(&mut lab, 1);
    let disk = guest.directory.join("disk");
    fs::rename(&disk, guest.directory.join("away")).unwrap();
    refuses_to_start(&lab, &guest, &[disk.to_str().unwrap(), "No such file or directory"]);
    fs::rename(guest.directory.join("away"), &disk).unwrap();
    // The same for the image behind it.
    let base = guest.base.clone();
    fs::rename(&base, base.with_extension("away")).unwrap();
    lab.fails_with(&["start", &guest.name], &[base.to_str().unwrap()]);
    fs::rename(base.with_extension("away"), &base).unwrap();
    lab.ok(&["start", &guest.name]);
    lab.finish();
}

#[test]
fn a_directory_qemu_cannot_enter_is_named() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::blank(&mut lab, 1);
    let closed = lab.work().join("instances");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let said = refuses_to_start(&lab, &guest, &[closed.to_str().unwrap(), "700"]);
    // The first component that fails, not the image at the end of the path.
    assert!(said.contains("chmod") || said.contains("setfacl"), "it should say what helps: {said}");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    lab.ok(&["start", &guest.name]);
    lab.finish();
}

#[test]
fn a_missing_bridge_is_named() {
    let Some(lab) = Lab::qemu() else { return };
    let guest = Guest::files(&lab, 1, None);
    refuses_to_start(&lab, &guest, &["qbr0"]);
    lab.finish();
}

#[test]
fn a_busy_tap_name_is_named_and_left_alone() {
    let Some(mut lab) = Lab::qemu() else { return };
    let guest = Guest::blank(&mut lab, 1);
    ip(&format!("link add {} type bridge", guest.tap));
    lab.forget_links();
    refuses_to_start(&lab, &guest, &[&guest.tap]);
    assert!(ip(&format!("link show dev {}", guest.tap)).contains(&guest.tap), "somebody else's link stays");
    ip(&format!("link del {}", guest.tap));
    lab.ok(&["start", &guest.name]);
    lab.forget_link(&guest.tap);
    lab.finish();
}

/// A stand-in for QEMU: probes get the real one, a start gets `instead`.
fn emulator(lab: &Lab, instead: &str) -> String {
    let real = crate::harness::program("qemu-system-x86_64").unwrap();
    let path = lab.write(
        "emulator",
        &format!(
            "#!/bin/sh\ncase \" $* \" in *\" -name \"*) ;; *) exec {} \"$@\" ;; esac\n{instead}\n",
            real.display()
        ),
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn with_emulator(guest: &mut Guest, path: &str) {
    guest.change("<devices>", &format!("<devices>\n    <emulator>{path}</emulator>"));
}

#[test]
fn a_qemu_that_dies_at_once_is_quoted() {
    let Some(mut lab) = Lab::qemu() else { return };
    let mut guest = Guest::blank(&mut lab, 1);
    let path = emulator(&lab, "echo 'qemu: the dog ate my firmware' >&2\nexit 3");
    with_emulator(&mut guest, &path);
    refuses_to_start(&lab, &guest, &["the dog ate my firmware"]);
    lab.finish();
}

#[test]
fn a_qemu_that_never_answers_is_given_up() {
    let Some(mut lab) = Lab::qemu_unstarted() else { return };
    lab.configure("[qemu]\nstart_timeout = 3\n");
    lab.start();
    let mut guest = Guest::blank(&mut lab, 1);
    let path = emulator(&lab, "exec sleep 1000");
    with_emulator(&mut guest, &path);
    refuses_to_start(&lab, &guest, &["monitor"]);
    lab.finish();
}

#[test]
fn destroy_wins_against_a_start_that_hangs() {
    let Some(mut lab) = Lab::qemu() else { return };
    let mut guest = Guest::blank(&mut lab, 1);
    let path = emulator(&lab, "exec sleep 1000");
    with_emulator(&mut guest, &path);
    lab.define(&guest.xml);
    let mut starting = lab.cli(&["start", &guest.name]).stderr(std::process::Stdio::null()).spawn().unwrap();
    crate::harness::eventually("the hanging process", crate::harness::DEADLINE, || {
        let busy = lab
            .pids()
            .into_iter()
            .any(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep"));
        busy.then_some(())
    });
    lab.ok(&["destroy", &guest.name]);
    assert!(!starting.wait().unwrap().success());
    assert_eq!(lab.state(&guest.name), "shut off");
    lab.check_no_guest_left();
    lab.finish();
}

#[test]
fn a_missing_emulator_is_a_warning_then_an_error() {
    let Some(mut lab) = Lab::qemu() else { return };
    let mut guest = Guest::blank(&mut lab, 1);
    with_emulator(&mut guest, "/opt/none/qemu-system-x86_64");
    let file = lab.write("x.xml", &guest.xml);
    let out = lab.run(&["define", &file]);
    assert!(out.success(), "{}", out.stderr);
    assert!((out.stdout + &out.stderr).contains("/opt/none/qemu-system-x86_64"), "a warning should name it");
    refuses_to_start(&lab, &guest, &["/opt/none/qemu-system-x86_64"]);
    lab.finish();
}

#[test]
fn a_full_disk_loses_nothing() {
    let Some(mut lab) = Lab::qemu_unstarted() else { return };
    let state = lab.root().join("state");
    fs::create_dir_all(&state).unwrap();
    nix::mount::mount(Some("tmpfs"), &state, Some("tmpfs"), MsFlags::empty(), Some("size=256k,mode=755")).unwrap();
    lab.start();
    let guest = Guest::files(&lab, 1, None);
    lab.define(&guest.xml);
    let before = lab.ok(&["dumpxml", "--inactive", &guest.name]);
    fill(&state.join("filler"));
    // A new one, and a new version of the old one.
    let other = Guest::files(&lab, 2, None);
    for xml in [&other.xml, &guest.xml.replace("<memory>262144", "<memory>524288")] {
        let file = lab.write("x.xml", xml);
        lab.fails_with(&["define", &file], &["No space left on device"]);
    }
    assert_eq!(lab.names(), [guest.name.as_str()]);
    assert_eq!(lab.ok(&["dumpxml", "--inactive", &guest.name]), before);
    fs::remove_file(state.join("filler")).unwrap();
    lab.define(&other.xml);
    lab.restart();
    assert_eq!(lab.names().len(), 2);
    assert_eq!(lab.ok(&["dumpxml", "--inactive", &guest.name]), before);
    lab.finish();
}

/// Writes until the file system is full.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
}
