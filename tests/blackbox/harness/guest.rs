//! A guest from Nova's own XML: the fixture with a name, a place and a bridge of this test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::lab::{guest_image, ip};
use super::{DEADLINE, Lab, eventually, fixture, program, run, soon};

/// The fixture's own values, which every guest replaces.
const UUID: &str = "2fbd1d85-719f-4be8-aeb4-3a0d2fea9a4f";
const NAME: &str = "novaacc-0000dc71";
const BRIDGE: &str = "qbr769dc43b-19";
const TAP: &str = "tap769dc43b-19";
const MAC: &str = "52:54:00:ac:ce:01";
const CMDLINE: &str = "root=/dev/vda console=tty0 console=ttyS0 console=hvc0 no_timer_check";

/// Booting under TCG on a busy machine.
pub const BOOT: Duration = Duration::from_secs(90);

pub struct Guest {
    pub name: String,
    pub tap: String,
    pub bridge: String,
    pub address: String,
    /// The instance's directory: kernel, ramdisk, disk, disk.config, console.log.
    pub directory: PathBuf,
    pub base: PathBuf,
    pub xml: String,
}

impl Guest {
    /// Guest number `number` of this lab: its files, and a bridge it can be pinged from. `None` (after a SKIP line)
    /// when no guest image can be had here.
    pub fn new(lab: &mut Lab, number: u8) -> Option<Guest> {
        let image = guest_image()?;
        let guest = Guest::files(lab, number, Some(image));
        make_bridge(lab, &guest.bridge);
        Some(guest)
    }

    /// Without an operating system: QEMU runs and the firmware finds nothing to boot. Enough for everything that is
    /// not about the guest's inside, and ready at once.
    pub fn blank(lab: &mut Lab, number: u8) -> Guest {
        let guest = Guest::files(lab, number, None);
        make_bridge(lab, &guest.bridge);
        guest
    }

    /// Files and XML only, no bridge.
    pub fn files(lab: &Lab, number: u8, image: Option<PathBuf>) -> Guest {
        let uuid = format!("2fbd1d85-719f-4be8-aeb4-3a0d2fea9a{number:02x}");
        let name = format!("nova-{}-{number}", lab.tag());
        let tap = format!("tap769dc43b-{number:02x}");
        let directory = lab.work().join("instances").join(&uuid);
        fs::create_dir_all(&directory).unwrap();
        let bases = lab.work().join("instances/_base");
        fs::create_dir_all(&bases).unwrap();
        let base = bases.join(format!("base-{number}"));
        let boots = image.is_some();
        match &image {
            Some(image) => {
                fs::copy(image.join("kernel"), directory.join("kernel")).unwrap();
                fs::copy(image.join("initrd"), directory.join("ramdisk")).unwrap();
                fs::copy(image.join("base.raw"), &base).unwrap();
            }
            None => fs::File::create(&base).unwrap().set_len(1 << 20).unwrap(),
        }
        fs::File::create(directory.join("disk.config")).unwrap().set_len(64 << 10).unwrap();
        qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", path(&base), path(&directory.join("disk"))]);
        for file in fs::read_dir(&directory).unwrap().flatten() {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        }

        let bridge = "qbr0".to_string();
        let address = format!("192.0.2.{}", 10 + u32::from(number));
        let cmdline = format!(
            "console=ttyS0 quiet no_timer_check ip={address}::192.0.2.1:255.255.255.0::eth0:off domus.say={name}"
        );
        let mut xml = fixture("nova/qemu-spawn-domain.xml")
            .replace("@WORKDIR@", path(&lab.work()))
            .replace(UUID, &uuid)
            .replace(NAME, &name)
            .replace(BRIDGE, &bridge)
            .replace(TAP, &tap)
            .replace(MAC, &format!("52:54:00:ac:ce:{number:02x}"))
            .replace(CMDLINE, &cmdline);
        if !boots {
            for element in ["kernel", "initrd", "cmdline"] {
                xml = without_element(&xml, element);
            }
        }
        Guest { name, tap, bridge, address, directory, base, xml }
    }

    /// Replaces a part of the XML, which must be there.
    pub fn change(&mut self, from: &str, to: &str) -> &mut Guest {
        assert!(self.xml.contains(from), "the domain XML has no {from:?}");
        self.xml = self.xml.replace(from, to);
        self
    }

    pub fn console_log(&self) -> String {
        fs::read(self.directory.join("console.log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until the guest said `word` on its serial line for the `times`-th time.
    pub fn wait_says(&self, word: &str, times: usize) {
        if soon(BOOT, || (self.console_log().matches(word).count() >= times).then_some(())).is_none() {
            panic!("the guest did not say {word:?} {times} times; its console:\n{}", self.console_log());
        }
    }

    pub fn wait_booted(&self) {
        self.wait_says("domus-guest: ready", 1);
    }

    pub fn pings(&self) -> bool {
        let mut command = Command::new(program("busybox").expect("busybox"));
        run(command.args(["ping", "-c", "1", "-W", "1", &self.address]), DEADLINE).success()
    }

    pub fn wait_pings(&self) {
        eventually("an answer to ping", Duration::from_secs(20), || self.pings().then_some(()));
    }

    /// The pid of this guest's QEMU, from the process table.
    pub fn pid(&self) -> i32 {
        self.try_pid().unwrap_or_else(|| panic!("no QEMU process of {}", self.name))
    }

    pub fn try_pid(&self) -> Option<i32> {
        super::leaks::pids_of(&self.directory).into_iter().find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("qemu-system"))
        })
    }
}

/// The bridge of this lab, once, with the address guests are pinged from.
pub fn make_bridge(lab: &mut Lab, name: &str) {
    if super::leaks::links().contains(name) {
        return;
    }
    ip(&format!("link add {name} type bridge"));
    ip(&format!("addr add 192.0.2.1/24 dev {name}"));
    ip(&format!("link set {name} up"));
    lab.forget_links();
}

pub fn qemu_img(arguments: &[&str]) -> String {
    let out = run(Command::new(program("qemu-img").expect("qemu-img")).args(arguments), DEADLINE);
    assert!(out.success(), "qemu-img {arguments:?}: {}", out.stderr);
    out.stdout
}

/// The XML without the (first) element of this name; an element that holds no other of the same name.
pub fn without_element(xml: &str, name: &str) -> String {
    let start = xml.find(&format!("<{name}")).unwrap_or_else(|| panic!("no <{name}>"));
    let close = format!("</{}>", name.trim_end());
    let rest = &xml[start..];
    let end = match (rest.find(&close), rest.find("/>")) {
        (Some(end), _) => end + close.len(),
        (None, Some(end)) => end + 2,
        (None, None) => panic!("<{name}> has no end"),
    };
    format!("{}{}", &xml[..start], rest[end..].trim_start())
}

fn path(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}
