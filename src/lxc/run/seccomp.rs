//! The deny list of system calls: what no container needs and what has broken out of containers.
//!
//! Owns a small assembler of classic BPF. One block per calling convention, since a call has another number in each:
//! x86_64, x32 (same architecture word, bit 30 set) and i386, or the native one elsewhere. A call by a convention
//! without a block fails with ENOSYS. Everything not listed is allowed: this is a fence behind the user namespace.

use super::{Context, Result};
use crate::sys::seccomp_call::{Insn, install};
use crate::sys::weakened;

const LD_W_ABS: u16 = 0x20;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// Offsets in `struct seccomp_data`; arguments are 64 bits, the low word first on these machines.
const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARG1: u32 = 16 + 8;
const MNT_FORCE: u32 = 1;
const X32_BIT: u32 = 0x4000_0000;

/// Numbers of one calling convention.
struct Table {
    arch: u32,
    /// Always denied.
    deny: &'static [u32],
    /// Denied in privileged containers only; with a user namespace the kernel's own checks hold.
    deny_privileged: &'static [u32],
    /// `umount2`: denied with MNT_FORCE.
    umount2: u32,
}

// Order of `deny`: init_module, delete_module, finit_module, kexec_load, kexec_file_load, open_by_handle_at.
// Order of `deny_privileged`: bpf, perf_event_open.
#[cfg(target_arch = "x86_64")]
const NATIVE: Table =
    Table { arch: 0xC000_003E, deny: &[175, 176, 313, 246, 320, 304], deny_privileged: &[321, 298], umount2: 166 };
/// x32 has numbers of its own for some calls (512 and up) and shares the others.
#[cfg(target_arch = "x86_64")]
const X32: Table =
    Table { arch: 0xC000_003E, deny: &[175, 176, 313, 528, 246, 320, 304], deny_privileged: &[321, 298], umount2: 166 };
#[cfg(target_arch = "x86_64")]
const COMPAT: Table =
    Table { arch: 0x4000_0003, deny: &[128, 129, 350, 283, 342], deny_privileged: &[357, 336], umount2: 52 };

#[cfg(target_arch = "aarch64")]
const NATIVE: Table =
    Table { arch: 0xC000_00B7, deny: &[105, 106, 273, 104, 294, 265], deny_privileged: &[280, 241], umount2: 39 };
#[cfg(target_arch = "aarch64")]
const COMPAT: Table =
    Table { arch: 0x4000_0028, deny: &[128, 129, 379, 347, 401, 371], deny_privileged: &[386, 364], umount2: 52 };

fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Insn {
    Insn { code, jt, jf, k }
}

/// Instructions that decide a call of `table`'s convention; the call number is in the accumulator.
fn block(table: &Table, privileged: bool, bit: u32) -> Vec<Insn> {
    let extra = if privileged { table.deny_privileged } else { &[] };
    let deny = || vec![insn(RET, 0, 0, ERRNO | EPERM)];
    let mut listed: Vec<(u32, Vec<Insn>)> =
        table.deny.iter().chain(extra).map(|number| (number | bit, deny())).collect();
    let forced = vec![
        insn(LD_W_ABS, 0, 0, OFFSET_ARG1),
        insn(JSET, 0, 1, MNT_FORCE),
        insn(RET, 0, 0, ERRNO | EPERM),
        insn(RET, 0, 0, ALLOW),
    ];
    listed.push((table.umount2 | bit, forced));
    listed.sort_unstable_by_key(|(number, _)| *number);
    search(&listed)
}

/// By halves: when a filter is installed the kernel runs it once for each number there is.
fn search(listed: &[(u32, Vec<Insn>)]) -> Vec<Insn> {
    let mut code = Vec::new();
    match listed {
        [] => code.push(insn(RET, 0, 0, ALLOW)),
        [(number, body)] => {
            code.push(insn(JEQ, 0, body.len() as u8, *number));
            code.extend(body);
            code.push(insn(RET, 0, 0, ALLOW));
        }
        _ => {
            let (low, high) = listed.split_at(listed.len() / 2);
            let below = search(low);
            code.push(insn(JGE, below.len() as u8, 0, high[0].0));
            code.extend(below);
            code.extend(search(high));
        }
    }
    code
}

/// The whole filter.
pub fn program(privileged: bool) -> Vec<Insn> {
    let native = block(&NATIVE, privileged, 0);
    let compat = block(&COMPAT, privileged, 0);
    let mut code = vec![insn(LD_W_ABS, 0, 0, OFFSET_ARCH)];
    #[cfg(target_arch = "x86_64")]
    {
        let x32 = block(&X32, privileged, X32_BIT);
        // native architecture: load the number; bit 30 and above is x32 (the number -1 of a tracer too).
        code.push(insn(JEQ, 0, (2 + x32.len() + native.len()) as u8, NATIVE.arch));
        code.push(insn(LD_W_ABS, 0, 0, OFFSET_NR));
        code.push(insn(JGE, 0, x32.len() as u8, X32_BIT));
        code.extend(x32);
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = X32_BIT;
        code.push(insn(JEQ, 0, (1 + native.len()) as u8, NATIVE.arch));
        code.push(insn(LD_W_ABS, 0, 0, OFFSET_NR));
    }
    code.extend(native);
    code.push(insn(JEQ, 1, 0, COMPAT.arch));
    code.push(insn(RET, 0, 0, ERRNO | ENOSYS));
    code.push(insn(LD_W_ABS, 0, 0, OFFSET_NR));
    code.extend(compat);
    code
}

/// Installs the deny list for this process and all its descendants.
pub fn apply(privileged: bool) -> Result<()> {
    if weakened("no-seccomp") {
        return Ok(());
    }
    install(&program(privileged)).at("seccomp", "cannot install the filter")
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// Runs a filter as the kernel would.
    fn run(code: &[Insn], arch: u32, nr: u32, arg1: u32) -> u32 {
        let (mut pc, mut acc) = (0, 0);
        loop {
            let insn = code[pc];
            pc += 1;
            let jump = |taken: bool| usize::from(if taken { insn.jt } else { insn.jf });
            match insn.code {
                LD_W_ABS => {
                    acc = match insn.k {
                        OFFSET_NR => nr,
                        OFFSET_ARCH => arch,
                        OFFSET_ARG1 => arg1,
                        other => panic!("load from {other}"),
                    }
                }
                JEQ => pc += jump(acc == insn.k),
                JGE => pc += jump(acc >= insn.k),
                JSET => pc += jump(acc & insn.k != 0),
                RET => return insn.k,
                other => panic!("unknown instruction {other}"),
            }
        }
    }

    #[rstest::rstest]
    #[case::init_module(NATIVE.arch, 175, 0, ERRNO | EPERM)]
    #[case::open_by_handle_at(NATIVE.arch, 304, 0, ERRNO | EPERM)]
    #[case::read(NATIVE.arch, 0, 0, ALLOW)]
    #[case::umount_forced(NATIVE.arch, 166, MNT_FORCE, ERRNO | EPERM)]
    #[case::umount_lazy(NATIVE.arch, 166, 2, ALLOW)]
    #[case::x32_kexec(NATIVE.arch, X32_BIT | 528, 0, ERRNO | EPERM)]
    #[case::x32_init_module(NATIVE.arch, X32_BIT | 175, 0, ERRNO | EPERM)]
    #[case::x32_umount_forced(NATIVE.arch, X32_BIT | 166, 1, ERRNO | EPERM)]
    #[case::x32_read(NATIVE.arch, X32_BIT, 0, ALLOW)]
    #[case::i386_init_module(COMPAT.arch, 128, 0, ERRNO | EPERM)]
    #[case::i386_umount_forced(COMPAT.arch, 52, 1, ERRNO | EPERM)]
    #[case::i386_read(COMPAT.arch, 3, 0, ALLOW)]
    #[case::another_machine(0xC000_00B7, 0, 0, ERRNO | ENOSYS)]
    #[case::bpf_unprivileged(NATIVE.arch, 321, 0, ALLOW)]
    fn calls_are_decided(#[case] arch: u32, #[case] nr: u32, #[case] arg1: u32, #[case] verdict: u32) {
        assert_eq!(run(&program(false), arch, nr, arg1), verdict);
    }

    /// A jump goes 255 instructions at most.
    #[test]
    fn every_listed_call_is_denied_and_no_other() {
        for privileged in [false, true] {
            let code = program(privileged);
            assert!(code.len() < 255, "{}", code.len());
            for (table, bit) in [(&NATIVE, 0), (&X32, X32_BIT), (&COMPAT, 0)] {
                let extra = if privileged { table.deny_privileged } else { &[] };
                for nr in 0..600 {
                    let listed = table.deny.contains(&nr) || extra.contains(&nr);
                    let denied = run(&code, table.arch, nr | bit, 0) != ALLOW;
                    assert_eq!(denied, listed, "call {nr} of {:#x}", table.arch);
                }
            }
        }
    }

    #[test]
    fn privileged_containers_lose_bpf_too() {
        assert_eq!(run(&program(true), NATIVE.arch, 321, 0), ERRNO | EPERM);
        assert_eq!(run(&program(true), COMPAT.arch, 336, 0), ERRNO | EPERM);
    }
}
