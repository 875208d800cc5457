//! `<shmem>`.

use super::info::DeviceInfo;
use crate::domain_xml::FormatOptions;
use crate::domain_xml::memory::read_bytes;
use crate::domain_xml::words::{Switch, attrs, words};
use crate::error::Result;
use crate::xml::{Node, Writer};

/// `<shmem>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shmem {
    pub name: String,
    pub role: Option<ShmemRole>,
    pub model: Option<ShmemModel>,
    /// Bytes; a whole number of MiB.
    pub size: Option<u64>,
    pub server: Option<ShmemServer>,
    pub msi: Option<ShmemMsi>,
    pub info: DeviceInfo,
}

words! {
    /// `role`.
    pub enum ShmemRole { Master = "master", Peer = "peer" }

    /// `<model type>`.
    pub enum ShmemModel { Ivshmem = "ivshmem", IvshmemPlain = "ivshmem-plain", IvshmemDoorbell = "ivshmem-doorbell" }
}

attrs! {
    /// `<server>`.
    pub struct ShmemServer { path: String = "path" }

    /// `<msi>`.
    pub struct ShmemMsi {
        enabled: Switch = "enabled",
        vectors: u32 = "vectors",
        ioeventfd: Switch = "ioeventfd",
    }
}

impl Shmem {
    /// Reads `<shmem>`. Error: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        Ok(Shmem {
            name: node.require("name")?,
            role: node.attr_value("role")?,
            model: node.child("model").map_or(Ok(None), |model| model.attr_value("type"))?,
            size: node.child("size").map(read_bytes).transpose()?,
            server: node.child("server").map(ShmemServer::read).transpose()?,
            msi: node.child("msi").map(ShmemMsi::read).transpose()?,
            info: DeviceInfo::read(node)?,
        })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("shmem", |w| {
            w.attr("name", &self.name);
            w.attr_opt("role", self.role);
            w.element_unless_empty("model", |w| w.attr_opt("type", self.model));
            if let Some(bytes) = self.size {
                w.start("size");
                w.attr("unit", "M");
                w.end_with_text(bytes >> 20);
            }
            if let Some(server) = &self.server {
                w.element("server", |w| server.write_attrs(w));
            }
            if let Some(msi) = &self.msi {
                w.element("msi", |w| msi.write_attrs(w));
            }
            self.info.write(w, o);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;

    #[test]
    fn round_trip() {
        let xml = "<shmem name='s' role='peer'>\n  <model type='ivshmem-doorbell'/>\n  <size unit='M'>4</size>\n  \
                   <server path='/s'/>\n  <msi vectors='16' ioeventfd='on'/>\n</shmem>\n";
        assert_eq!(rewrite(xml, Shmem::read, |s, w| s.write(w, FormatOptions::default())).expect("reads"), xml);
    }
}
