//! What a file in a pool is, by its first bytes. Reads little, follows nothing, starts no program; every byte is
//! hostile. What it finds is for showing a volume: a disk is attached in the format its definition says.
//!
//! A guest can write any header into its raw disk. So a file that was seen as raw, or was made raw, stays raw: see
//! [`super::scan`].

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::model::FileFormat;
use crate::disk::qcow2::{self, Header};

/// Bytes that the headers of all formats but qcow2 fit in; of qcow2 nearly all images, too.
const HEAD: usize = 4096;
/// Where a CD's first volume descriptor names its standard.
const ISO_MAGIC: u64 = 0x8001;

/// What the first bytes say.
#[derive(Debug, Default)]
pub struct Sniffed {
    /// `None`: raw.
    pub format: Option<FileFormat>,
    /// Bytes the guest sees, where the header says so.
    pub capacity: Option<u64>,
    /// Of a whole qcow2 header.
    pub qcow2: Option<Header>,
    /// The whole file is a LUKS container.
    pub luks: bool,
    /// Why the header makes no sense.
    pub problem: Option<String>,
}

/// Looks at the start of an opened regular file of `length` bytes.
pub fn sniff(file: &File, length: u64) -> std::io::Result<Sniffed> {
    if length == 0 {
        return Ok(Sniffed::default());
    }
    let mut head = [0u8; HEAD];
    let count = read_at(file, &mut head, 0)?;
    let mut found = by_head(&head[..count], length);
    if found.format == Some(FileFormat::Qcow2) {
        read_qcow2(file, &head[..count], &mut found)?;
    } else if found.format.is_none() && !found.luks && length > ISO_MAGIC + 5 {
        let mut magic = [0u8; 5];
        if read_at(file, &mut magic, ISO_MAGIC)? == 5 && &magic == b"CD001" {
            found.format = Some(FileFormat::Iso);
        }
    }
    Ok(found)
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// A header that the first bytes do not hold is read to the end of its cluster.
fn read_qcow2(file: &File, head: &[u8], found: &mut Sniffed) -> std::io::Result<()> {
    let parsed = qcow2::parse(head).or_else(|problem| match head.len() {
        HEAD => qcow2::read(&mut file.try_clone()?),
        _ => Err(problem),
    });
    match parsed {
        Ok(header) => {
            found.capacity = Some(header.virtual_size);
            found.problem = header.is_corrupt().then(|| "QEMU marked its metadata as corrupt".to_string());
            found.qcow2 = Some(header);
            Ok(())
        }
        Err(qcow2::Problem::Read(error)) => Err(error),
        Err(problem) => {
            found.problem = Some(problem.to_string());
            Ok(())
        }
    }
}

fn by_head(head: &[u8], length: u64) -> Sniffed {
    let starts = |magic: &[u8]| head.starts_with(magic);
    let format = |format| Sniffed { format: Some(format), ..Sniffed::default() };
    let sized = |format, capacity| Sniffed { format: Some(format), capacity, ..Sniffed::default() };
    match head {
        _ if starts(b"QFI\xfb") => match big32(head, 4) {
            Some(1) => sized(FileFormat::Qcow, big64(head, 24)),
            _ => format(FileFormat::Qcow2),
        },
        _ if starts(b"LUKS\xba\xbe") => {
            Sniffed { luks: true, capacity: luks_payload(head, length), ..Sniffed::default() }
        }
        _ if starts(b"QED\0") => sized(FileFormat::Qed, little64(head, 48)),
        _ if starts(b"KDMV") => {
            sized(FileFormat::Vmdk, little64(head, 12).and_then(|sectors| sectors.checked_mul(512)))
        }
        _ if starts(b"# Disk DescriptorFile") => format(FileFormat::Vmdk),
        _ if starts(b"conectix") => sized(FileFormat::Vpc, big64(head, 48)),
        _ if starts(b"OOOM\0\0\0\x02") => format(FileFormat::Cow),
        _ if starts(b"Bochs Virtual HD Image") => format(FileFormat::Bochs),
        _ if starts(b"#!/bin/sh\n#V2.0 Format") => format(FileFormat::Cloop),
        _ if starts(b"WithoutFreeSpace") || starts(b"WithouFreSpacExt") => format(FileFormat::Ploop),
        _ if head.get(0x40..0x44) == Some(b"\x7f\x10\xda\xbe") => sized(FileFormat::Vdi, little64(head, 0x170)),
        _ => Sniffed::default(),
    }
}

/// What lies behind the header of a version 1 container, whose sectors have 512 bytes.
fn luks_payload(head: &[u8], length: u64) -> Option<u64> {
    if head.get(6..8) != Some(&[0, 1]) {
        return None;
    }
    length.checked_sub(u64::from(big32(head, 104)?) * 512)
}

fn big32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

fn big64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes)
}

fn little64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case(b"QFI\xfb\0\0\0\x01", Some(FileFormat::Qcow))]
    #[case(b"QFI\xfb\0\0\0\x03", Some(FileFormat::Qcow2))]
    #[case(b"KDMV", Some(FileFormat::Vmdk))]
    #[case(b"QED\0", Some(FileFormat::Qed))]
    #[case(b"conectix", Some(FileFormat::Vpc))]
    #[case(b"#!/bin/sh\necho", None)]
    #[case(b"", None)]
    fn magic(#[case] head: &[u8], #[case] format: Option<FileFormat>) {
        assert_eq!(by_head(head, 0).format, format);
    }

    #[test]
    fn a_container_is_smaller_inside() {
        let mut head = vec![0u8; 592];
        head[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
        head[104..108].copy_from_slice(&4096u32.to_be_bytes());
        let found = by_head(&head, 5 << 20);
        assert!(found.luks && found.capacity == Some(3 << 20), "{found:?}");
        assert_eq!(by_head(&head, 1).capacity, None);
    }

    #[test]
    fn a_cd_is_told_by_its_descriptor() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"CD001", ISO_MAGIC).unwrap();
        file.set_len(40_000).unwrap();
        assert_eq!(sniff(&file, 40_000).unwrap().format, Some(FileFormat::Iso));
        assert_eq!(sniff(&file, ISO_MAGIC).unwrap().format, None, "a length that ends before it is not read past");
    }

    #[test]
    fn a_header_longer_than_the_first_read_is_read_on() {
        // A backing file's name that lies behind the first 4 KiB.
        let mut bytes = crate::disk::qcow2::tests::craft(&[(0x1234, &[7; 6000])], Some(b"base.img"));
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        let found = sniff(&file, bytes.len() as u64).unwrap();
        assert_eq!(found.qcow2.unwrap().backing_file.as_deref(), Some(b"base.img".as_slice()));
        crate::disk::qcow2::tests::put(&mut bytes, 20, 63);
        file.write_all_at(&bytes, 0).unwrap();
        let found = sniff(&file, bytes.len() as u64).unwrap();
        assert_eq!(found.format, Some(FileFormat::Qcow2));
        assert!(found.problem.unwrap().contains("cluster bits 63"));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..600), magic in 0usize..4) {
            let mut bytes = bytes;
            let start: &[u8] = [b"".as_slice(), b"QFI\xfb\0\0\0\x03", b"KDMV", b"conectix"][magic];
            bytes.splice(0..0, start.iter().copied());
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            let _ = sniff(&file, bytes.len() as u64).unwrap();
        }
    }
}
