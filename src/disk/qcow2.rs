//! Reader of qcow2 headers (QEMU's `docs/interop/qcow2.txt`), versions 2 and 3. Reads the first cluster only, trusts
//! none of its lengths, changes nothing. Images come from guests' owners: every byte is hostile.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use thiserror::Error;

use crate::error;

const MAGIC: &[u8; 4] = b"QFI\xfb";
const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xE279_2ACA;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
/// QEMU's limit for a backing file's name.
const MAX_NAME: usize = 1023;
const V2_LENGTH: usize = 72;
const V3_LENGTH: usize = 104;
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// Incompatible feature: the guest's data lies in another file.
const FEATURE_DATA_FILE: u64 = 1 << 2;
const FEATURE_CORRUPT: u64 = 1 << 1;
const FEATURE_EXTENDED_L2: u64 = 1 << 4;
const FEATURE_LAZY_REFCOUNTS: u64 = 1 << 0;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Bytes the guest sees.
    pub virtual_size: u64,
    /// Logarithm of the cluster size, 9 to 21.
    pub cluster_bits: u32,
    pub encryption: Encryption,
    /// The backing file's name as written by whoever made the image: a path or something else.
    pub backing_file: Option<Vec<u8>>,
    /// The backing file's format, when stored.
    pub backing_format: Option<String>,
    /// Bits of the features a reader must know.
    pub incompatible: u64,
    /// Bits of the features a reader need not know.
    pub compatible: u64,
    /// The image's data is in another file; the name is there when stored.
    pub data_file: Option<Option<Vec<u8>>>,
}

impl Header {
    /// QEMU found its metadata damaged and refuses to write it.
    pub fn is_corrupt(&self) -> bool {
        self.incompatible & FEATURE_CORRUPT != 0
    }

    /// Its level-2 entries are split in 32.
    pub fn has_extended_l2(&self) -> bool {
        self.incompatible & FEATURE_EXTENDED_L2 != 0
    }

    /// Its reference counts may be late.
    pub fn has_lazy_refcounts(&self) -> bool {
        self.compatible & FEATURE_LAZY_REFCOUNTS != 0
    }
}

/// How an image is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    None,
    /// The old method, which QEMU no longer runs guests on.
    Aes,
    Luks,
    /// A number unknown to the specification.
    Unknown(u32),
}

/// Why a header cannot be read.
#[derive(Debug, Error)]
pub enum Problem {
    #[error("it is not a qcow2 image: the first four bytes are not 'QFI\\xfb'")]
    Magic,
    #[error("its qcow2 version is {0}; versions 2 and 3 are known")]
    Version(u32),
    #[error("its qcow2 header ends after {0} bytes")]
    Truncated(usize),
    #[error("its qcow2 header says {what} {value}, which cannot be")]
    Nonsense { what: &'static str, value: u64 },
    #[error("cannot read its qcow2 header: {0}")]
    Read(#[from] io::Error),
}

impl Problem {
    /// libvirt's error for the image at `path`.
    pub fn of(self, path: &Path) -> error::Error {
        match self {
            Problem::Read(error) => error::Error::system(format!("cannot read header '{}'", path.display()), error),
            problem => error::Error::internal(format!("image '{}': {problem}", path.display())),
        }
    }
}

/// Reads the header at the start of an opened file.
pub fn read(file: &mut File) -> Result<Header, Problem> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.by_ref().take(512).read_to_end(&mut bytes)?;
    let cluster = 1u64 << cluster_bits(&bytes)?;
    file.by_ref().take(cluster - 512).read_to_end(&mut bytes)?;
    parse(&bytes)
}

fn cluster_bits(bytes: &[u8]) -> Result<u32, Problem> {
    if bytes.get(..4) != Some(MAGIC.as_slice()) {
        return Err(Problem::Magic);
    }
    let bits = number32(bytes, 20)?;
    if CLUSTER_BITS.contains(&bits) { Ok(bits) } else { Err(nonsense("cluster bits", bits)) }
}

/// Reads a header from an image's first bytes: as many as there are, at least the first cluster. Pure.
pub fn parse(bytes: &[u8]) -> Result<Header, Problem> {
    let cluster_bits = cluster_bits(bytes)?;
    let bytes = &bytes[..bytes.len().min(1 << cluster_bits)];
    let version = number32(bytes, 4)?;
    let (incompatible, compatible, header_length) = match version {
        2 => (0, 0, V2_LENGTH),
        3 => (number64(bytes, 72)?, number64(bytes, 80)?, to_usize(number32(bytes, 100)?)),
        other => return Err(Problem::Version(other)),
    };
    if version == 3 && (header_length < V3_LENGTH || header_length >= 1 << cluster_bits) {
        return Err(nonsense("header length", number32(bytes, 100)?));
    }
    // All fields up to here exist even when nothing below needs them.
    bytes.get(..header_length).ok_or(Problem::Truncated(bytes.len()))?;
    let backing = backing_name(bytes, header_length, 1 << cluster_bits)?;
    let end = backing.map_or(bytes.len(), |(offset, _)| offset);
    let extensions = Extensions::read(bytes, header_length, end)?;
    Ok(Header {
        version,
        virtual_size: number64(bytes, 24)?,
        cluster_bits,
        encryption: match number32(bytes, 32)? {
            0 => Encryption::None,
            1 => Encryption::Aes,
            2 => Encryption::Luks,
            other => Encryption::Unknown(other),
        },
        backing_file: backing.map(|(_, name)| name.to_vec()),
        backing_format: extensions.backing_format,
        incompatible,
        compatible,
        data_file: (incompatible & FEATURE_DATA_FILE != 0).then_some(extensions.data_file),
    })
}

/// Offset and bytes of the backing file's name.
fn backing_name(bytes: &[u8], header: usize, cluster: u64) -> Result<Option<(usize, &[u8])>, Problem> {
    let (offset, length) = (number64(bytes, 8)?, to_usize(number32(bytes, 16)?));
    if offset == 0 {
        return Ok(None);
    }
    if offset < header as u64 || offset >= cluster {
        return Err(Problem::Nonsense { what: "backing file name's offset", value: offset });
    }
    if length > MAX_NAME {
        return Err(Problem::Nonsense { what: "backing file name's length", value: length as u64 });
    }
    let offset = usize::try_from(offset).map_err(|_| Problem::Truncated(bytes.len()))?;
    let name = bytes.get(offset..offset + length).ok_or(Problem::Truncated(bytes.len()))?;
    // An empty name is QEMU's "no backing file".
    Ok((!name.is_empty()).then_some((offset, name)))
}

#[derive(Default)]
struct Extensions {
    backing_format: Option<String>,
    data_file: Option<Vec<u8>>,
}

impl Extensions {
    /// The extensions between the header and `end`: type, length, data padded to 8 bytes.
    fn read(bytes: &[u8], start: usize, end: usize) -> Result<Extensions, Problem> {
        let area = &bytes[..end.min(bytes.len())];
        let mut found = Extensions::default();
        let mut at = start;
        // Fewer than 8 bytes left is an end too.
        while area.len().saturating_sub(at) >= 8 {
            let (kind, length) = (number32(area, at)?, to_usize(number32(area, at + 4)?));
            at += 8;
            if kind == EXTENSION_END {
                break;
            }
            if length > area.len() - at {
                return Err(Problem::Nonsense { what: "extension length", value: length as u64 });
            }
            let data = &area[at..at + length];
            match kind {
                EXTENSION_BACKING_FORMAT => found.backing_format = Some(String::from_utf8_lossy(data).into_owned()),
                EXTENSION_DATA_FILE => found.data_file = Some(data.to_vec()),
                _ => {}
            }
            at += length.next_multiple_of(8);
        }
        Ok(found)
    }
}

fn nonsense(what: &'static str, value: u32) -> Problem {
    Problem::Nonsense { what, value: u64::from(value) }
}

fn to_usize(value: u32) -> usize {
    value as usize
}

fn number32(bytes: &[u8], at: usize) -> Result<u32, Problem> {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => Ok(u32::from_be_bytes([a, b, c, d])),
        _ => Err(Problem::Truncated(bytes.len())),
    }
}

fn number64(bytes: &[u8], at: usize) -> Result<u64, Problem> {
    Ok(u64::from(number32(bytes, at)?) << 32 | u64::from(number32(bytes, at + 4)?))
}

#[cfg(test)]
pub(in crate::disk) mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    /// A version 3 header with 64 KiB clusters, 1 GiB, and these extensions and backing file.
    pub fn craft(extensions: &[(u32, &[u8])], backing: Option<&[u8]>) -> Vec<u8> {
        let mut bytes = vec![0u8; 1 << 16];
        bytes[..4].copy_from_slice(MAGIC);
        put(&mut bytes, 4, 3);
        put(&mut bytes, 20, 16);
        put(&mut bytes, 28, 1 << 30);
        put(&mut bytes, 100, 104);
        let mut at = 104;
        for (kind, data) in extensions {
            put(&mut bytes, at, *kind);
            put(&mut bytes, at + 4, u32::try_from(data.len()).unwrap());
            bytes[at + 8..at + 8 + data.len()].copy_from_slice(data);
            at += 8 + data.len().next_multiple_of(8);
        }
        if let Some(name) = backing {
            at += 8;
            put(&mut bytes, 12, u32::try_from(at).unwrap());
            put(&mut bytes, 16, u32::try_from(name.len()).unwrap());
            bytes[at..at + name.len()].copy_from_slice(name);
        }
        bytes
    }

    pub fn put(bytes: &mut [u8], at: usize, value: u32) {
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    #[test]
    fn reads_what_is_there() {
        let bytes = craft(&[(0x1234, b"unknown"), (EXTENSION_BACKING_FORMAT, b"raw")], Some(b"base.img"));
        let header = parse(&bytes).unwrap();
        assert_eq!((header.version, header.virtual_size, header.cluster_bits), (3, 1 << 30, 16));
        assert_eq!(header.backing_file.as_deref(), Some(b"base.img".as_slice()));
        assert_eq!(header.backing_format.as_deref(), Some("raw"));
        assert_eq!((header.encryption, header.data_file.clone()), (Encryption::None, None));
        assert!(!header.is_corrupt());
    }

    #[test]
    fn a_data_file_counts_by_its_feature_bit() {
        let mut bytes = craft(&[(EXTENSION_DATA_FILE, b"/etc/shadow")], None);
        assert_eq!(parse(&bytes).unwrap().data_file, None);
        bytes[79] = 4;
        assert_eq!(parse(&bytes).unwrap().data_file, Some(Some(b"/etc/shadow".to_vec())));
    }

    #[test]
    fn version_2_has_no_feature_fields() {
        let mut bytes = craft(&[], None);
        put(&mut bytes, 4, 2);
        // What version 3 keeps at 72 is the first extension of version 2.
        put(&mut bytes, 72, EXTENSION_BACKING_FORMAT);
        put(&mut bytes, 76, 5);
        bytes[80..85].copy_from_slice(b"qcow2");
        put(&mut bytes, 88, 0);
        let header = parse(&bytes).unwrap();
        assert_eq!((header.version, header.incompatible), (2, 0));
        assert_eq!(header.backing_format.as_deref(), Some("qcow2"));
    }

    #[rstest]
    #[case::magic(0, 0, "first four bytes")]
    #[case::version_1(4, 1, "version is 1")]
    #[case::version_4(4, 4, "version is 4")]
    #[case::small_clusters(20, 8, "cluster bits 8")]
    #[case::huge_clusters(20, 63, "cluster bits 63")]
    #[case::short_header(100, 96, "header length 96")]
    #[case::endless_header(100, u32::MAX, "header length 4294967295")]
    #[case::name_in_the_header(12, 64, "offset 64")]
    #[case::name_behind_the_cluster(12, 1 << 16, "offset 65536")]
    #[case::name_far_away(8, 1, "offset 4294967")]
    #[case::long_name(16, 1024, "length 1024")]
    #[case::extension_past_the_end(108, 0xffff_fff8, "extension length 4294967288")]
    fn hostile_fields_are_refused(#[case] at: usize, #[case] value: u32, #[case] says: &str) {
        let mut bytes = craft(&[(EXTENSION_BACKING_FORMAT, b"raw")], Some(b"base"));
        put(&mut bytes, at, value);
        let error = parse(&bytes).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn extensions_end_where_the_name_begins() {
        let mut bytes = craft(&[], Some(b"\xe2\x79\x2a\xca\0\0\0\x03raw"));
        let offset = 112;
        put(&mut bytes, 12, offset);
        // An extension that reaches into the name.
        put(&mut bytes, 104, EXTENSION_BACKING_FORMAT);
        put(&mut bytes, 108, 8);
        assert!(matches!(parse(&bytes), Err(Problem::Nonsense { what: "extension length", .. })));
    }

    #[test]
    fn every_truncation_is_an_error_or_harmless() {
        let bytes = craft(&[(EXTENSION_BACKING_FORMAT, b"raw")], Some(b"base"));
        for length in 0..200 {
            match parse(&bytes[..length]) {
                Ok(header) => assert_eq!(header.backing_file.as_deref(), Some(b"base".as_slice())),
                Err(problem) => assert!(length < 136, "{length}: {problem}"),
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0usize..160, noise in proptest::collection::vec(any::<u8>(), 0..64), cut in 0usize..400) {
            let mut bytes = craft(&[(EXTENSION_BACKING_FORMAT, b"raw")], Some(b"base"));
            bytes[at..at + noise.len()].copy_from_slice(&noise);
            if let Ok(header) = parse(&bytes[..cut]) {
                prop_assert!(header.backing_file.is_none_or(|name| name.len() <= MAX_NAME));
            }
        }
    }
}
