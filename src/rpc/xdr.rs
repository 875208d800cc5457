//! XDR (RFC 4506) as libvirt uses it: big endian, everything padded to four bytes.
//!
//! A procedure's arguments and results are tuples of the types here, in the order of the protocol. Reading never
//! allocates more than a small multiple of the bytes that are there, whatever a length field claims.

use crate::types::Uuid;

/// Longest string, bytes (`REMOTE_STRING_MAX`).
pub const STRING_MAX: usize = 4 * 1024 * 1024;

/// The bytes are not what the protocol says: too few, too long, or not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbled;

/// Takes values off the front of a payload.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    /// Bytes left.
    pub fn rest(&self) -> usize {
        self.0.len()
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Garbled> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Garbled)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Garbled> {
        self.bytes(N)?.try_into().map_err(|_| Garbled)
    }

    /// Variable-length bytes with their padding.
    fn opaque(&mut self, limit: usize) -> Result<&'a [u8], Garbled> {
        let length = u32::take(self)? as usize;
        if length > limit {
            return Err(Garbled);
        }
        let data = self.bytes(length)?;
        self.bytes(padding(length))?;
        Ok(data)
    }
}

fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

/// Can be written.
pub trait Put {
    fn put(&self, out: &mut Vec<u8>);
}

/// Can be read.
pub trait Take: Sized {
    fn take(from: &mut Reader<'_>) -> Result<Self, Garbled>;
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Put for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }

        impl Take for $type {
            fn take(from: &mut Reader<'_>) -> Result<Self, Garbled> {
                Ok(<$type>::from_be_bytes(from.array()?))
            }
        }
    )*};
}

number!(i32, u32, i64, u64, f64);

/// `int` used as a truth value.
impl Put for bool {
    fn put(&self, out: &mut Vec<u8>) {
        i32::from(*self).put(out);
    }
}

impl Take for bool {
    fn take(from: &mut Reader<'_>) -> Result<Self, Garbled> {
        Ok(i32::take(from)? != 0)
    }
}

impl Put for str {
    fn put(&self, out: &mut Vec<u8>) {
        put_opaque(self.as_bytes(), out);
    }
}

impl Put for &str {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

impl Put for String {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_str().put(out);
    }
}

impl Take for String {
    fn take(from: &mut Reader<'_>) -> Result<Self, Garbled> {
        let bytes = from.opaque(STRING_MAX)?;
        // A NUL would end the string on libvirt's side: what is checked must be what is used.
        if bytes.contains(&0) {
            return Err(Garbled);
        }
        String::from_utf8(bytes.to_vec()).map_err(|_| Garbled)
    }
}

fn put_opaque(bytes: &[u8], out: &mut Vec<u8>) {
    length(bytes.len(), out);
    out.extend_from_slice(bytes);
    out.resize(out.len() + padding(bytes.len()), 0);
}

fn length(count: usize, out: &mut Vec<u8>) {
    // Nothing near 4 GiB is ever sent: a packet has at most 32 MiB.
    u32::try_from(count).unwrap_or(u32::MAX).put(out);
}

/// `opaque<>`: bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opaque(pub Vec<u8>);

impl Put for Opaque {
    fn put(&self, out: &mut Vec<u8>) {
        put_opaque(&self.0, out);
    }
}

impl Take for Opaque {
    fn take(from: &mut Reader<'_>) -> Result<Self, Garbled> {
        Ok(Opaque(from.opaque(usize::MAX)?.to_vec()))
    }
}

/// `char name<>`: an array of characters, each in a word of its own, with the NUL that ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chars(pub String);

impl Put for Chars {
    fn put(&self, out: &mut Vec<u8>) {
        length(self.0.len() + 1, out);
        for byte in self.0.bytes().chain([0]) {
            i32::from(byte).put(out);
        }
    }
}

/// `char name[N]`: as [`Chars`] with a fixed number of words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedChars<const N: usize>(pub String);

impl<const N: usize> Put for FixedChars<N> {
    fn put(&self, out: &mut Vec<u8>) {
        // The last word is the NUL.
        let mut bytes = self.0.bytes().take(N.saturating_sub(1));
        for _ in 0..N {
            i32::from(bytes.next().unwrap_or(0)).put(out);
        }
    }
}

/// `opaque[16]`.
impl Put for Uuid {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Take for Uuid {
    fn take(from: &mut Reader<'_>) -> Result<Self, Garbled> {
        Ok(Uuid::from_bytes(from.array()?))
    }
}

/// `type *name`.
impl<T: Put> Put for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
}

impl<T: Take> Take for Option<T> {
    fn take(from: &mut Reader<'_>) -> Result<Self, Garbled> {
        if bool::take(from)? { Ok(Some(T::take(from)?)) } else { Ok(None) }
    }
}

/// `type name<>`.
impl<T: Put> Put for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        length(self.len(), out);
        for item in self {
            item.put(out);
        }
    }
}

impl<T: Take> Take for Vec<T> {
    fn take(from: &mut Reader<'_>) -> Result<Self, Garbled> {
        let count = u32::take(from)? as usize;
        // No item has fewer than four bytes.
        if count > from.rest() / 4 {
            return Err(Garbled);
        }
        (0..count).map(|_| T::take(from)).collect()
    }
}

impl Put for () {
    fn put(&self, _: &mut Vec<u8>) {}
}

impl Take for () {
    fn take(_: &mut Reader<'_>) -> Result<Self, Garbled> {
        Ok(())
    }
}

macro_rules! tuple {
    ($($name:ident $at:tt),+) => {
        impl<$($name: Put),+> Put for ($($name,)+) {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$at.put(out);)+
            }
        }

        impl<$($name: Take),+> Take for ($($name,)+) {
            fn take(from: &mut Reader<'_>) -> Result<Self, Garbled> {
                Ok(($($name::take(from)?,)+))
            }
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);

/// `value` as bytes.
pub fn encode(value: &impl Put) -> Vec<u8> {
    let mut out = Vec::new();
    value.put(&mut out);
    out
}

/// Reads a value from the front of `bytes`; what follows it is ignored, as libvirt does.
pub fn decode<T: Take>(bytes: &[u8]) -> Result<T, Garbled> {
    T::take(&mut Reader::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_of_rfc_4506() {
        assert_eq!(encode(&("ab", -1i32)), [0, 0, 0, 2, b'a', b'b', 0, 0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(encode(&Some(1u64)), [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(encode(&None::<u64>), [0, 0, 0, 0]);
        assert_eq!(encode(&1.5f64), [0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encode(&Chars("a".into())), [0, 0, 0, 2, 0, 0, 0, b'a', 0, 0, 0, 0]);
        assert_eq!(encode(&FixedChars::<2>("abc".into())), [0, 0, 0, b'a', 0, 0, 0, 0]);
    }

    #[test]
    fn a_length_that_lies_is_refused_before_anything_is_allocated() {
        assert_eq!(decode::<String>(&[0xff, 0xff, 0xff, 0xff, 1]), Err(Garbled));
        assert_eq!(decode::<Vec<String>>(&[0x40, 0, 0, 0, 0, 0, 0, 0]), Err(Garbled));
        assert_eq!(decode::<Vec<i32>>(&[0, 0, 0, 2, 0, 0, 0, 1]), Err(Garbled));
        assert_eq!(decode::<String>(&[0, 0, 0, 1, b'a']), Err(Garbled), "the padding is missing");
        assert_eq!(decode::<String>(&[0, 0, 0, 1, 0xff, 0, 0, 0]), Err(Garbled), "not text");
    }

    type Mixed = (String, Option<i64>, Vec<(u32, String)>, bool);

    proptest! {
        #[test]
        fn what_was_written_is_read(value: (String, Option<i64>, Vec<(u32, String)>, bool)) {
            let mut value: Mixed = value;
            value.0.retain(|c| c != '\0');
            value.2.iter_mut().for_each(|(_, text)| text.retain(|c| c != '\0'));
            let bytes = encode(&value);
            prop_assert_eq!(bytes.len() % 4, 0);
            prop_assert_eq!(decode::<Mixed>(&bytes), Ok(value));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode::<Mixed>(&bytes);
            let _ = decode::<(Uuid, Opaque, f64)>(&bytes);
        }
    }
}
