//! [`VolumeDef`] -> `<volume>`, in libvirt's order.

use super::model::*;
use crate::xml::Writer;

/// Writes a `<volume>` document.
pub fn format(def: &VolumeDef) -> String {
    let mut w = Writer::new();
    w.start("volume");
    w.attr("type", def.kind);
    w.text("name", &def.name);
    w.text_opt("key", def.key.as_ref());
    write_extents(&def.extents, &mut w);
    size("capacity", "bytes", def.capacity, &mut w);
    size("allocation", "bytes", def.allocation, &mut w);
    if let Some(physical) = def.physical.filter(|bytes| *bytes > 0) {
        size("physical", "bytes", physical, &mut w);
    }
    w.element("target", |w| {
        let target = &def.target;
        w.text_opt("path", target.path.as_ref());
        format_element(target.format, w);
        target.permissions.write(w);
        write_timestamps(target.timestamps.as_ref(), w);
        if let Some(encryption) = &target.encryption {
            encryption.write(w);
        }
        w.text_opt("compat", target.compat.as_ref());
        w.empty_if("nocow", target.nocow);
        if let Some(bytes) = target.cluster_size {
            size("clusterSize", "B", bytes, w);
        }
        if let Some(features) = &target.features {
            w.element("features", |w| {
                w.empty_if("lazy_refcounts", features.lazy_refcounts);
                w.empty_if("extended_l2", features.extended_l2);
                w.empty_if("data_file", features.data_file);
            });
        }
    });
    if let Some(backing) = &def.backing {
        w.element("backingStore", |w| {
            w.text("path", &backing.path);
            format_element(backing.format, w);
            backing.permissions.write(w);
            write_timestamps(backing.timestamps.as_ref(), w);
        });
    }
    w.end();
    w.finish()
}

fn size(name: &'static str, unit: &str, bytes: u64, w: &mut Writer) {
    w.start(name);
    w.attr("unit", unit);
    w.end_with_text(bytes);
}

fn format_element(format: Option<VolumeFormat>, w: &mut Writer) {
    if let Some(format) = format {
        w.element("format", |w| w.attr("type", format.as_str()));
    }
}

fn write_extents(extents: &[Extent], w: &mut Writer) {
    if extents.is_empty() {
        return;
    }
    w.element("source", |w| {
        for group in extents.chunk_by(|a, b| a.device == b.device) {
            w.element("device", |w| {
                w.attr("path", &group[0].device);
                for extent in group {
                    w.element("extent", |w| {
                        w.attr("start", extent.start);
                        w.attr("end", extent.end);
                    });
                }
            });
        }
    });
}

fn write_timestamps(timestamps: Option<&Timestamps>, w: &mut Writer) {
    let Some(times) = timestamps else { return };
    w.element("timestamps", |w| {
        w.text("atime", format_time(times.accessed));
        w.text("mtime", format_time(times.modified));
        w.text("ctime", format_time(times.changed));
        w.text_opt("btime", times.born.map(format_time));
    });
}

/// Seconds with nine decimals of nanoseconds, if there are any.
pub fn format_time((seconds, nanoseconds): (i64, i64)) -> String {
    match nanoseconds {
        0 => seconds.to_string(),
        nanoseconds => format!("{seconds}.{nanoseconds:09}"),
    }
}
