//! devices: which device nodes a container may open. v1 takes rules, v2 a small BPF program; the list is one.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use super::{Controller, Group, container, setting_failed, write};
use crate::error::{Code, Error, Result, Subsystem};
use crate::sys::bpf::{BpfInsn, attach_device_filter};

/// Character devices every container may use: major, minor (`None`: all).
const ALLOWED: [(u32, Option<u32>); 11] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
    (10, Some(229)),
    (10, Some(200)),
];

/// A device a container is given beside the standard set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    pub block: bool,
    pub major: u32,
    pub minor: u32,
}

impl DeviceRule {
    fn v1(self) -> String {
        format!("{} {}:{} rwm", if self.block { 'b' } else { 'c' }, self.major, self.minor)
    }
}

impl Group {
    /// Denies the container every device but the standard set and `given`; making a node that cannot be opened is
    /// harmless and allowed. Call it after [`Group::container`] and before init is there.
    pub fn restrict_devices(&self, given: &[DeviceRule]) -> Result<()> {
        let Some(place) = self.place(Controller::Devices) else { return Ok(()) };
        if !place.v2 {
            restrict_v1(&place.dir)?;
            return given.iter().try_for_each(|rule| put(&place.dir, "devices.allow", &rule.v1()));
        }
        let guest = place.dir.join(container::GUEST);
        let dir = if guest.is_dir() { guest } else { place.dir.clone() };
        let attached = fs::File::open(&dir).and_then(|cgroup| attach_device_filter(cgroup.as_fd(), &program(given)));
        attached.map_err(|error| {
            Error::system(format!("cannot attach a device filter to cgroup '{}'", dir.display()), error)
                .with_subsystem(Subsystem::Cgroup)
        })
    }

    /// Gives a running container one more device, or takes it back. Errors: code 84 on v2, where a filter once attached
    /// holds as long as the group.
    pub fn allow_device(&self, rule: DeviceRule, allow: bool) -> Result<()> {
        let Some(place) = self.place(Controller::Devices) else { return Ok(()) };
        if place.v2 {
            return Err(Error::new(
                Code::OperationUnsupported,
                "the devices of a running container cannot be changed on cgroup v2: change the definition with --config",
            ));
        }
        let (file, rule) = if allow {
            ("devices.allow", rule.v1())
        } else {
            // Making nodes stays allowed, as it is for every device.
            ("devices.deny", rule.v1().replace("rwm", "rw"))
        };
        put(&place.dir, file, &rule)
    }
}

fn put(dir: &Path, file: &str, rule: &str) -> Result<()> {
    write(&dir.join(file), rule).map_err(|error| setting_failed(dir, file, rule, error))
}

fn restrict_v1(dir: &Path) -> Result<()> {
    put(dir, "devices.deny", "a")?;
    let name = "devices.allow";
    let failed = |rule: &str, error: std::io::Error| setting_failed(dir, name, rule, error);
    // One rule per write, all through one descriptor.
    let file = fs::OpenOptions::new().write(true).open(dir.join(name)).map_err(|error| failed("rules", error))?;
    let allow = |rule: &str| (&file).write_all(rule.as_bytes()).map_err(|error| failed(rule, error));
    for rule in ["c *:* m", "b *:* m"] {
        allow(rule)?;
    }
    ALLOWED.iter().try_for_each(|(major, minor)| {
        let minor = minor.map_or("*".to_string(), |minor| minor.to_string());
        allow(&format!("c {major}:{minor} rwm"))
    })
}

/// The same rules for `BPF_PROG_TYPE_CGROUP_DEVICE`: r1 points at `struct bpf_cgroup_dev_ctx` (access and type, major,
/// minor; 32 bits each), r0 is 1 to allow.
fn program(given: &[DeviceRule]) -> Vec<BpfInsn> {
    const LDX_W: u8 = 0x61;
    const MOV_REG: u8 = 0xbf;
    const MOV_IMM: u8 = 0xb7;
    const AND_IMM: u8 = 0x57;
    const RSH_IMM: u8 = 0x77;
    const JNE_IMM: u8 = 0x55;
    const EXIT: u8 = 0x95;
    /// `BPF_DEVCG_DEV_CHAR` and `BPF_DEVCG_ACC_MKNOD`.
    const CHAR: i32 = 2;
    const MKNOD: i32 = 1;
    let insn = |code, dst: u8, src: u8, off, imm| BpfInsn { code, regs: dst | src << 4, off, imm };
    let mut code = vec![
        insn(LDX_W, 2, 1, 0, 0),
        insn(LDX_W, 4, 1, 4, 0),
        insn(LDX_W, 5, 1, 8, 0),
        insn(MOV_REG, 3, 2, 0, 0),
        insn(AND_IMM, 2, 0, 0, 0xffff),
        insn(RSH_IMM, 3, 0, 0, 16),
        // Nothing but mknod.
        insn(JNE_IMM, 3, 0, 2, MKNOD),
        insn(MOV_IMM, 0, 0, 0, 1),
        insn(EXIT, 0, 0, 0, 0),
        insn(JNE_IMM, 2, 0, 0, CHAR),
    ];
    let not_char = code.len() - 1;
    let allow = |code: &mut Vec<BpfInsn>, major: u32, minor: Option<u32>| {
        let rest = 2 + i16::from(minor.is_some());
        code.push(insn(JNE_IMM, 4, 0, rest, major as i32));
        if let Some(minor) = minor {
            code.push(insn(JNE_IMM, 5, 0, 2, minor as i32));
        }
        code.push(insn(MOV_IMM, 0, 0, 0, 1));
        code.push(insn(EXIT, 0, 0, 0, 0));
    };
    ALLOWED.iter().for_each(|(major, minor)| allow(&mut code, *major, *minor));
    let given_of = |block| given.iter().filter(move |rule| rule.block == block);
    given_of(false).for_each(|rule| allow(&mut code, rule.major, Some(rule.minor)));
    code.push(insn(MOV_IMM, 0, 0, 0, 0));
    code.push(insn(EXIT, 0, 0, 0, 0));
    // Block devices: what was given, else none.
    code[not_char].off = (code.len() - not_char - 1) as i16;
    given_of(true).for_each(|rule| allow(&mut code, rule.major, Some(rule.minor)));
    code.push(insn(MOV_IMM, 0, 0, 0, 0));
    code.push(insn(EXIT, 0, 0, 0, 0));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn verdict(kind: u64, access: u64, major: u64, minor: u64) -> u64 {
        verdict_with(&[], kind, access, major, minor)
    }

    fn verdict_with(given: &[DeviceRule], kind: u64, access: u64, major: u64, minor: u64) -> u64 {
        let code = program(given);
        let context = [kind | access << 16, major, minor];
        let mut regs = [0u64; 11];
        let mut pc = 0;
        loop {
            let insn = code[pc];
            pc += 1;
            let (dst, src) = (usize::from(insn.regs & 15), usize::from(insn.regs >> 4));
            match insn.code {
                0x61 => regs[dst] = context[insn.off as usize / 4],
                0xbf => regs[dst] = regs[src],
                0xb7 => regs[dst] = insn.imm as u64,
                0x57 => regs[dst] &= insn.imm as u64,
                0x77 => regs[dst] >>= insn.imm,
                0x55 => pc += if regs[dst] == insn.imm as u64 { 0 } else { insn.off as usize },
                0x95 => return regs[0],
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[rstest::rstest]
    #[case::null_rw(2, 6, 1, 3, 1)]
    #[case::pts(2, 2, 136, 77, 1)]
    #[case::mem_read(2, 2, 1, 1, 0)]
    #[case::disk_read(1, 2, 254, 0, 0)]
    #[case::disk_like_null(1, 2, 1, 3, 0)]
    #[case::disk_mknod(1, 1, 254, 0, 1)]
    #[case::disk_mknod_and_read(1, 3, 254, 0, 0)]
    #[case::fuse(2, 6, 10, 229, 1)]
    fn devices_are_decided(
        #[case] kind: u64,
        #[case] access: u64,
        #[case] major: u64,
        #[case] minor: u64,
        #[case] allowed: u64,
    ) {
        assert_eq!(verdict(kind, access, major, minor), allowed);
    }

    #[test]
    fn given_devices_are_those_and_no_others() {
        let given = [
            DeviceRule { block: true, major: 7, minor: 3 },
            DeviceRule { block: false, major: 10, minor: 200 },
            DeviceRule { block: false, major: 4, minor: 64 },
        ];
        for (kind, major, minor, allowed) in
            [(1, 7, 3, 1), (1, 7, 4, 0), (2, 7, 3, 0), (2, 4, 64, 1), (1, 4, 64, 0), (2, 1, 3, 1), (2, 1, 1, 0)]
        {
            assert_eq!(verdict_with(&given, kind, 6, major, minor), allowed, "{kind} {major}:{minor}");
        }
    }
}
