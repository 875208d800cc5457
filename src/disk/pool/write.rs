//! [`PoolDef`] -> `<pool>`, in libvirt's order.

use super::model::PoolDef;
use super::parse::{FS_NAMESPACE, RBD_NAMESPACE};
use crate::xml::Writer;

/// Bytes of a pool; all 0 while it does not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub capacity: u64,
    pub allocation: u64,
    pub available: u64,
}

/// Writes a `<pool>` document.
pub fn format(def: &PoolDef, usage: Usage) -> String {
    let mut w = Writer::new();
    w.start("pool");
    w.attr("type", def.kind);
    if !def.mount_options.is_empty() {
        w.attr("xmlns:fs", FS_NAMESPACE);
    }
    if !def.rbd_options.is_empty() {
        w.attr("xmlns:rbd", RBD_NAMESPACE);
    }
    w.text("name", &def.name);
    w.text_opt("uuid", def.uuid);
    for (name, bytes) in
        [("capacity", usage.capacity), ("allocation", usage.allocation), ("available", usage.available)]
    {
        w.start(name);
        w.attr("unit", "bytes");
        w.end_with_text(bytes);
    }
    if let Some(state) = def.cow {
        w.element("features", |w| w.element("cow", |w| w.attr("state", state)));
    }
    def.source.write(def.kind, &mut w);
    if let Some(path) = &def.target.path {
        w.element("target", |w| {
            w.text("path", path);
            def.target.permissions.write(w);
        });
    }
    if let Some(allocation) = def.refresh {
        w.element("refresh", |w| w.element("volume", |w| w.attr("allocation", allocation)));
    }
    if !def.mount_options.is_empty() {
        w.element("fs:mount_opts", |w| {
            for name in &def.mount_options {
                w.element("fs:option", |w| w.attr("name", name));
            }
        });
    }
    if !def.rbd_options.is_empty() {
        w.element("rbd:config_opts", |w| {
            for (name, value) in &def.rbd_options {
                w.element("rbd:option", |w| {
                    w.attr("name", name);
                    w.attr("value", value);
                });
            }
        });
    }
    w.end();
    w.finish()
}
