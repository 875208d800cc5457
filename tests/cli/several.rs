//! Two drivers at once: lists of both, and names that exist twice.

use super::fake::{Fake, uuid};

#[test]
fn the_list_has_a_driver_column_only_when_drivers_mix() {
    let fake = Fake::new();
    let out = fake.run(&["list", "--all"]);
    assert_eq!(out.stderr, "");
    assert_eq!(
        out.stdout,
        " Id   Name   State      Driver
--------------------------------
 1    same   running    QEMU
 1    same   running    LXC
 2    vm     running    QEMU
 -    box    shut off   LXC

"
    );
    let out = fake.run(&["-c", "qemu:///system", "list", "--all"]);
    assert_eq!(
        out.stdout,
        " Id   Name   State
----------------------
 1    same   running
 2    vm     running

"
    );
    assert_eq!(fake.run(&["-q", "-c", "lxc", "list", "--all", "--name"]).stdout, "same\nbox\n");
}

#[test]
fn a_name_of_one_driver_needs_no_choice() {
    let fake = Fake::new();
    assert_eq!(fake.run(&["domuuid", "vm"]).stdout, format!("{}\n\n", uuid(2)));
    assert_eq!(fake.run(&["domuuid", "box"]).stdout, format!("{}\n\n", uuid(4)));
    assert_eq!(fake.run(&["domname", "2"]).stdout, "vm\n\n");
}

#[test]
fn a_name_of_two_is_refused_with_the_candidates() {
    let fake = Fake::new();
    for word in ["same", "1"] {
        let out = fake.run(&["domuuid", word]);
        assert_eq!((out.code, out.stdout.as_str()), (Some(1), "\n"));
        for part in ["more than one domain", word, "-c qemu", "-c lxc", &uuid(1), &uuid(3)] {
            assert!(out.stderr.contains(part), "{part} in {}", out.stderr);
        }
    }
    assert_eq!(fake.run(&["-c", "lxc", "domuuid", "same"]).stdout, format!("{}\n\n", uuid(3)));
    assert_eq!(fake.run(&["domuuid", "1", "-c", "qemu"]).stdout, format!("{}\n\n", uuid(1)));
}

#[test]
fn nobody_has_it() {
    let fake = Fake::new();
    let out = fake.run(&["domstate", "nobody"]);
    assert_eq!(
        (out.code, out.stderr.as_str()),
        (
            Some(1),
            "error: failed to get domain 'nobody'\nerror: Domain not found: no domain with matching name 'nobody'\n"
        )
    );
}
