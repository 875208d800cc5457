//! Installing a seccomp filter that somebody else assembled.

use std::io;

use nix::libc;

/// One classic BPF instruction (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// Installs `filter` for this thread and all it starts (`SECCOMP_SET_MODE_FILTER`). Needs CAP_SYS_ADMIN in the user
/// namespace, or no_new_privs. The kernel checks the program and refuses a malformed one with `EINVAL`.
pub fn install(filter: &[Insn]) -> io::Result<()> {
    const SECCOMP_SET_MODE_FILTER: libc::c_ulong = 1;
    let mut program: Vec<libc::sock_filter> =
        filter.iter().map(|insn| libc::sock_filter { code: insn.code, jt: insn.jt, jf: insn.jf, k: insn.k }).collect();
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let fprog = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: `fprog` points at `len` initialised instructions that live across the call; the kernel copies them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &raw const fprog) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
