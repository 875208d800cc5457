//! `<storagepoolCapabilities>` (`virConnectGetStoragePoolCapabilities`).

use super::model::PoolType;
use super::mount::program;
use crate::disk::volume::VolumeFormat;
use crate::xml::Writer;

/// Writes the document: every type there is, and whether its pools can be used here.
pub fn capabilities() -> String {
    let logical = program("vgchange").is_ok();
    write(|kind| kind.is_supported() && (kind != PoolType::Logical || logical))
}

fn write(supported: impl Fn(PoolType) -> bool) -> String {
    let mut w = Writer::new();
    w.element("storagepoolCapabilities", |w| {
        for kind in PoolType::ALL.iter().copied() {
            w.start("pool");
            w.attr("type", kind);
            w.attr("supported", if supported(kind) { "yes" } else { "no" });
            let (sources, volumes) = (kind.source_formats(), volume_formats(kind));
            if sources.is_empty() && volumes.is_none() {
                // libvirt closes even an empty one on a line of its own.
                w.end_wide();
                continue;
            }
            if !sources.is_empty() {
                options("poolOptions", kind.default_source_format(), "sourceFormatType", sources, w);
            }
            if let Some((default, words)) = volumes {
                options("volOptions", default, "targetFormatType", words, w);
            }
            w.end();
        }
    });
    w.finish()
}

/// Default and words; rbd has a format, but no choice of it.
fn volume_formats(kind: PoolType) -> Option<(&'static str, &'static [&'static str])> {
    if kind == PoolType::Rbd {
        return Some(("raw", &[]));
    }
    VolumeFormat::default_in(kind).map(|default| (default.as_str(), VolumeFormat::words(kind)))
}

fn options(name: &'static str, default: &str, list: &str, words: &[&str], w: &mut Writer) {
    w.element(name, |w| {
        w.element("defaultFormat", |w| w.attr("type", default));
        w.start("enum");
        w.attr("name", list);
        if words.is_empty() {
            return w.end_wide();
        }
        for word in words {
            w.text("value", word);
        }
        w.end();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_told() {
        let xml = write(PoolType::is_supported);
        for part in [
            "  <pool type='dir' supported='yes'>\n    <volOptions>\n      <defaultFormat type='raw'/>\n      \
             <enum name='targetFormatType'>\n        <value>none</value>\n        <value>raw</value>\n",
            "  <pool type='netfs' supported='yes'>\n    <poolOptions>\n      <defaultFormat type='auto'/>\n      \
             <enum name='sourceFormatType'>\n        <value>auto</value>\n        <value>nfs</value>\n        \
             <value>glusterfs</value>\n        <value>cifs</value>\n      </enum>\n    </poolOptions>\n    <volOptions>\n",
            "  <pool type='logical' supported='yes'>\n    <poolOptions>\n      <defaultFormat type='lvm2'/>\n",
            "  <pool type='iscsi' supported='no'>\n  </pool>\n",
            "  <pool type='rbd' supported='no'>\n    <volOptions>\n      <defaultFormat type='raw'/>\n      \
             <enum name='targetFormatType'>\n      </enum>\n    </volOptions>\n  </pool>\n",
        ] {
            assert!(xml.contains(part), "{part}\nis not in\n{xml}");
        }
        assert_eq!(xml.matches("<pool type=").count(), 14);
    }
}
