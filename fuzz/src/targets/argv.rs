//! Definition -> completed definition -> QEMU's command line, and -> a container's plan; with a fixed host. Both are
//! pure, never panic, and completing twice changes nothing.

use std::sync::LazyLock;

use domus::domain_xml::{self, FormatOptions};
use domus::lxc::plan::{self, Host, Peers};
use domus::lxc::spec::{Cgroups, IdMaps, IdRange, Spec};
use domus::qemu::capabilities::QemuCaps;
use domus::qemu::command::{self, Context};
use domus::qemu::firmware::FirmwareChoice;
use domus::qemu::{complete, launch};

use crate::{Outcome, hash, shape};

const EMULATOR: &str = "/usr/bin/qemu-system-x86_64";
const STORED: FormatOptions = FormatOptions { secure: true, inactive: true, migratable: false };

static CAPS: LazyLock<QemuCaps> = LazyLock::new(|| {
    let path = super::project().join("src/qemu/command/testdata/caps.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("the golden tests' record")).expect("a record")
});

static HOST: LazyLock<Host> = LazyLock::new(|| {
    let range = vec![IdRange { inside: 0, outside: 1_000_000, count: 65_536 }];
    Host {
        run_id: "run".into(),
        run_dir: "/run/domus/lxc/run".into(),
        ids: Some(IdMaps { uid: range.clone(), gid: range }),
        overlay_dir: "/var/lib/domus/overlay".into(),
        image_fstype: "ext4".into(),
        scratch_size: 1 << 30,
        peers: Peers { net: Some(1), ipc: Some(1), uts: Some(1) },
        cgroup: Cgroups::default(),
        log_max_size: 1 << 20,
        log_backups: 3,
        hold: false,
    }
});

/// See the module's text.
pub fn run(data: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(data) else { return 0 };
    let Ok(parsed) = domain_xml::parse_inactive(text) else { return 1 };
    let container = match plan::plan(&parsed.def, &HOST) {
        Err(error) => shape(&error.detail),
        Ok(spec) => {
            let json = serde_json::to_vec(&spec).expect("a spec is written");
            let again: Spec = serde_json::from_slice(&json).expect("a written spec is read");
            assert_eq!(again, spec, "a spec changes on its way");
            hash([[spec.mounts.len() as u8, spec.nics.len() as u8, spec.consoles.len() as u8]])
        }
    };
    let mut def = parsed.def;
    let machine = match complete::complete(&mut def, EMULATOR, Some(&CAPS), &FirmwareChoice::default()) {
        Err(error) => shape(&error.detail),
        Ok(()) => {
            let stored = domain_xml::format(&def, STORED);
            let mut again = domain_xml::parse_inactive(&stored)
                .unwrap_or_else(|error| panic!("a completed definition is refused: {}\n{stored}", error.detail))
                .def;
            complete::complete(&mut again, EMULATOR, Some(&CAPS), &FirmwareChoice::default())
                .unwrap_or_else(|error| panic!("a completed definition is not completed: {}\n{stored}", error.detail));
            assert_eq!(domain_xml::format(&again, STORED), stored, "completing twice changes a definition");
            command_line(def)
        }
    };
    container ^ machine.rotate_left(1)
}

fn command_line(mut def: domain_xml::DomainDef) -> Outcome {
    if let Err(error) = launch::expand_cpu(&mut def, &CAPS) {
        return shape(&error.detail);
    }
    complete::assign_aliases(&mut def);
    complete::assign_nodes(&mut def);
    // As a start would have it, and as it is only shown.
    let outcomes = [false, true].map(|paper| {
        let context = Context { caps: &CAPS, sandbox: true, kvm_fd: true, vhost: true, paper, now: 0 };
        match command::plan(&def, &context) {
            Err(error) => shape(&error.detail),
            Ok(plan) => {
                assert!(plan.args.iter().all(|arg| !arg.contains('\0')), "a NUL in an argument");
                let drivers =
                    plan.args.iter().map(|arg| arg.split(['"', ',', '=']).take(4).collect::<Vec<_>>().join("\""));
                hash(drivers.map(|text| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>()))
            }
        }
    });
    hash(outcomes.map(u64::to_le_bytes))
}

/// Definitions.
pub fn seeds() -> Vec<Vec<u8>> {
    super::definitions()
}
