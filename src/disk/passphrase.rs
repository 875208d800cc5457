//! A passphrase on its way into a program: in memory that the program gets as a descriptor, in no argument, on no disk.

use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, Mode, SealFlags};

use crate::error::{Error, Result};

/// A file in memory with these bytes, which nobody can change any more. The program opens it again through
/// `/proc/self/fd/N`. Error: code 38.
pub fn file(value: &[u8]) -> Result<OwnedFd> {
    let failed = |errno: rustix::io::Errno| Error::system("cannot hand over a passphrase", errno.into());
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("secret", flags).map_err(failed)?;
    let mut rest = value;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest).map_err(failed)?;
        rest = &rest[written..];
    }
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(failed)?;
    // Opened again by another user than the one that made it; only who may trace that process gets so far.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o444)).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;

    #[test]
    fn read_again_and_never_written() {
        let file = super::file(b"open sesame").unwrap();
        for _ in 0..2 {
            let mut text = String::new();
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            File::open(path).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "open sesame");
        }
        assert!(File::from(file).write_all(b"x").is_err());
    }
}
