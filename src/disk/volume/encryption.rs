//! `<encryption>` of a volume: the domain's, with the cipher to create it with.

use crate::disk::pool::{read_secret, write_secret};
use crate::domain_xml::device::{EncryptionFormat, SecretRef};
use crate::error::{Code, Result};
use crate::xml::{Node, Writer};

/// `<encryption>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VolumeEncryption {
    pub format: EncryptionFormat,
    /// Each of type `passphrase`.
    pub secrets: Vec<SecretRef>,
    pub cipher: Option<Cipher>,
    pub ivgen: Option<IvGen>,
}

/// `<cipher>`: `aes`, 256 bits, `cbc`, `sha256` ...
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cipher {
    pub name: String,
    /// Bits.
    pub size: u32,
    pub mode: Option<String>,
    pub hash: Option<String>,
}

/// `<ivgen>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IvGen {
    pub name: String,
    pub hash: Option<String>,
}

impl VolumeEncryption {
    /// Reads it. Errors: code 27 and 67 with libvirt's texts.
    pub(super) fn read(node: Node<'_>) -> Result<Self> {
        let format = match node.attr("format") {
            None => return Err(node.error(Code::XmlError, "unknown volume encryption format")),
            Some(word) => word.parse().map_err(|_| {
                let what = format!("unknown volume encryption format type {word}");
                node.attr_error("format", Code::ConfigUnsupported, what)
            })?,
        };
        let mut encryption = VolumeEncryption { format, ..Default::default() };
        for secret in node.children("secret") {
            match secret.attr("type") {
                None => return Err(secret.error(Code::XmlError, "unknown volume encryption secret type")),
                Some("passphrase") => encryption.secrets.push(read_secret(secret)?),
                Some(word) => {
                    let what = format!("unknown volume encryption secret type {word}");
                    return Err(secret.attr_error("type", Code::ConfigUnsupported, what));
                }
            }
        }
        if let Some(cipher) = node.child("cipher") {
            let text = |name: &'static str| cipher.attr(name).map(str::to_string);
            let missing = |what: &str| cipher.error(Code::XmlError, format!("cipher info missing '{what}' attribute"));
            encryption.cipher = Some(Cipher {
                name: text("name").ok_or_else(|| missing("name"))?,
                size: cipher.attr_value("size")?.ok_or_else(|| missing("size"))?,
                mode: text("mode"),
                hash: text("hash"),
            });
            if let Some(ivgen) = node.child("ivgen") {
                let name =
                    ivgen.attr("name").ok_or_else(|| ivgen.error(Code::XmlError, "missing ivgen info name string"))?;
                encryption.ivgen = Some(IvGen { name: name.to_string(), hash: ivgen.attr("hash").map(str::to_string) });
            }
        }
        Ok(encryption)
    }

    /// Writes it.
    pub(super) fn write(&self, w: &mut Writer) {
        w.start("encryption");
        w.attr("format", self.format);
        for secret in &self.secrets {
            write_secret(secret, w);
        }
        if let Some(cipher) = &self.cipher {
            w.element("cipher", |w| {
                w.attr("name", &cipher.name);
                w.attr("size", cipher.size);
                w.attr_opt("mode", cipher.mode.as_ref());
                w.attr_opt("hash", cipher.hash.as_ref());
            });
        }
        if let Some(ivgen) = &self.ivgen {
            w.element("ivgen", |w| {
                w.attr("name", &ivgen.name);
                w.attr_opt("hash", ivgen.hash.as_ref());
            });
        }
        w.end_wide();
    }
}
