//! Pools of volume groups. LVM itself needs the host's device mapper: here programs of its names keep a list in a file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::harness::{Lab, skip, test_name};

/// What each program does with the list `$S/lvs`: one line `NAME BYTES` per volume. `$D` holds their nodes.
const PROGRAMS: [(&str, &str); 5] = [
    ("vgchange", "exit 0"),
    ("vgs", "echo '  1073741824:536870912'"),
    ("lvs", r##"while read n b; do echo "  $n#uuid-$n#$b#-wi-a-----#/dev/sda(0)#$b#4194304"; done < $S/lvs"##),
    (
        "lvcreate",
        r#"echo "$@" >> $S/told
if [ -e $S/full ]; then echo '  Volume group "vg" has insufficient free space' >&2; exit 5; fi
while [ $# -gt 0 ]; do case $1 in --name) n=$2; shift;; -L) l=$2; shift;; esac; shift; done
echo "$n $((${l%K} * 1024))" >> $S/lvs; : > $D/$n"#,
    ),
    (
        "lvremove",
        r#"n=${2#vg/}
if [ -e $S/open ]; then echo "  Logical volume vg/$n in use." >&2; exit 5; fi
grep -v "^$n " $S/lvs > $S/new; mv $S/new $S/lvs; rm $D/$n"#,
    ),
];

/// Shows these programs to the daemon, and to nobody outside this test's mount namespace.
fn install(lab: &Lab) -> bool {
    let (programs, work) = (lab.work().join("sbin"), lab.work().join("overlay-work"));
    let (state, nodes) = (lab.work().join("state"), lab.work().join("vg"));
    for dir in [&programs, &work, &state, &nodes] {
        fs::create_dir(dir).unwrap();
    }
    fs::write(state.join("lvs"), "").unwrap();
    for (name, text) in PROGRAMS {
        let head = format!("#!/bin/sh\nS={} D={}\n", state.display(), nodes.display());
        let path = programs.join(name);
        fs::write(&path, head + text + "\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let options = format!("lowerdir={}:/usr/sbin", programs.display());
    let mounted = mount(Some("programs"), "/usr/sbin", Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str()));
    if let Err(error) = mounted {
        skip(&test_name(), &format!("no overlay over /usr/sbin: {error}"));
    }
    mounted.is_ok()
}

#[test]
fn volumes_of_a_group_are_made_and_removed() {
    let Some(mut lab) = Lab::qemu_unstarted() else { return };
    if Path::new("/usr/sbin/lvcreate").exists() {
        skip(&test_name(), "LVM is installed, which this test would hide");
        return;
    }
    lab.start();
    let (state, nodes) = (lab.work().join("state"), lab.work().join("vg"));
    let target = nodes.display().to_string();
    lab.ok(&["pool-define-as", "p", "logical", "--source-name", "vg", "--target", &target]);
    lab.fails_with(&["pool-start", "p"], &["Cannot find 'vgchange' in path", "install the package 'lvm2'"]);
    lab.stop();
    if !install(&lab) {
        return;
    }
    lab.start();
    lab.ok(&["pool-start", "p"]);
    lab.ok(&["vol-create-as", "p", "a", "10M"]);
    let told = fs::read_to_string(state.join("told")).unwrap();
    assert_eq!(told, "--yes --name a -L 10240K vg\n");
    let info = lab.ok(&["vol-info", "a", "--pool", "p"]);
    assert!(info.contains("block") && info.contains("10.00 MiB"), "{info}");
    assert!(lab.ok(&["vol-dumpxml", "a", "--pool", "p"]).contains("<key>uuid-a</key>"));
    lab.ok(&["vol-create-as", "p", "thin", "64M", "--allocation", "8M"]);
    let told = fs::read_to_string(state.join("told")).unwrap();
    assert!(told.ends_with("--name thin -L 8192K --type snapshot --virtualsize 65536K vg\n"), "{told}");

    lab.fails_with(&["vol-create-as", "p", "a", "1M"], &["storage volume 'a' exists already"]);
    lab.fails_with(&["vol-create-as", "p", "two words", "1M"], &["cannot be the name of a logical volume"]);
    lab.fails_with(&["vol-clone", "a", "b", "--pool", "p"], &["cannot be made as copies"]);
    fs::write(state.join("full"), "").unwrap();
    lab.fails_with(&["vol-create-as", "p", "b", "1G"], &["lvcreate", "has insufficient free space"]);
    fs::write(state.join("open"), "").unwrap();
    lab.fails_with(&["vol-delete", "a", "--pool", "p"], &["lvremove", "vg/a in use"]);
    let list = lab.ok(&["vol-list", "p"]);
    assert!(list.contains("/vg/a") && list.contains("/vg/thin") && !list.contains("/vg/b"), "{list}");
    fs::remove_file(state.join("open")).unwrap();
    for name in ["a", "thin"] {
        lab.ok(&["vol-delete", name, "--pool", "p"]);
        assert!(!nodes.join(name).exists());
    }
    assert!(!lab.ok(&["vol-list", "p"]).contains("/vg/"));
    lab.ok(&["pool-destroy", "p"]);
    lab.ok(&["pool-undefine", "p"]);
    lab.stop();
    nix::mount::umount2("/usr/sbin", nix::mount::MntFlags::MNT_DETACH).unwrap();
    lab.start();
    lab.finish();
}
