//! Memory sizes, backing and limits. All sizes are KiB.

use super::words::{Switch, words};
use crate::error::{Code, Result};
use crate::types::size::{to_kib, unit_scale};
use crate::xml::{Node, Writer};

/// `<memory>`, `<currentMemory>`, `<maxMemory>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// `<memory>`: what the guest boots with, KiB.
    pub size: u64,
    /// `<memory dumpCore>`.
    pub dump_core: Option<Switch>,
    /// `<currentMemory>`: balloon target, KiB; the post-parse sets it to `size`.
    pub current: Option<u64>,
    /// `<maxMemory>`, KiB.
    pub max: Option<u64>,
    /// `<maxMemory slots>`.
    pub slots: Option<u32>,
}

/// `<memoryBacking>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryBacking {
    /// `<hugepages>`: `Some(empty)` = default page size.
    pub hugepages: Option<Vec<HugePage>>,
    pub nosharepages: bool,
    pub locked: bool,
    pub source: Option<MemorySource>,
    pub access: Option<MemoryAccess>,
    pub allocation: Option<Allocation>,
    pub discard: bool,
}

/// `<page>` of `<hugepages>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HugePage {
    /// KiB.
    pub size: u64,
    /// Guest NUMA nodes, as a set in libvirt's text form.
    pub nodeset: Option<String>,
}

/// `<allocation>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allocation {
    pub mode: Option<AllocationMode>,
    pub threads: Option<u32>,
}

words! {
    /// `<source type>` of `<memoryBacking>`.
    pub enum MemorySource { Anonymous = "anonymous", File = "file", Memfd = "memfd" }

    /// `<access mode>`, also `memAccess` of a NUMA cell.
    pub enum MemoryAccess { Shared = "shared", Private = "private" }

    /// `<allocation mode>`.
    pub enum AllocationMode { Immediate = "immediate", Ondemand = "ondemand" }
}

/// `<memtune>`, KiB; a value of "unlimited" is `None` as in libvirt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemTune {
    pub hard_limit: Option<u64>,
    pub soft_limit: Option<u64>,
    pub min_guarantee: Option<u64>,
    pub swap_hard_limit: Option<u64>,
}

impl Memory {
    /// Reads `<memory>`, `<currentMemory>` and `<maxMemory>` of a domain. Errors: codes 8, 27 and 82.
    pub(crate) fn read(domain: Node<'_>) -> Result<Self> {
        let mut memory = Memory::default();
        if let Some(node) = domain.child("memory") {
            memory.size = read_kib(node)?;
            memory.dump_core = node.attr_value("dumpCore")?;
        }
        if let Some(node) = domain.child("currentMemory") {
            memory.current = Some(read_kib(node)?).filter(|size| *size != 0);
        }
        if let Some(node) = domain.child("maxMemory") {
            memory.max = Some(read_kib(node)?);
            memory.slots = node.attr_value("slots")?.filter(|slots| *slots != 0);
        }
        Ok(memory)
    }

    /// Writes them.
    pub(crate) fn write(&self, w: &mut Writer) {
        if let Some(max) = self.max {
            w.start("maxMemory");
            w.attr_opt("slots", self.slots);
            w.attr("unit", "KiB");
            w.end_with_text(max);
        }
        w.start("memory");
        w.attr_opt("dumpCore", self.dump_core);
        w.attr("unit", "KiB");
        w.end_with_text(self.size);
        write_kib(w, "currentMemory", self.current);
    }
}

impl MemoryBacking {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mut backing = MemoryBacking {
            nosharepages: node.child("nosharepages").is_some(),
            locked: node.child("locked").is_some(),
            discard: node.child("discard").is_some(),
            ..Default::default()
        };
        if let Some(source) = node.child("source") {
            backing.source = source.attr_value("type")?;
        }
        if let Some(access) = node.child("access") {
            backing.access = access.attr_value("mode")?;
        }
        if let Some(allocation) = node.child("allocation") {
            backing.allocation =
                Some(Allocation { mode: allocation.attr_value("mode")?, threads: allocation.attr_value("threads")? });
        }
        if let Some(hugepages) = node.child("hugepages") {
            let mut pages = Vec::new();
            for page in hugepages.children("page") {
                let size: u64 = page.require("size")?;
                let unit = page.attr("unit").unwrap_or("KiB");
                let size = to_kib(size, unit)
                    .ok_or_else(|| page.attr_error("unit", Code::InvalidArg, format!("unknown suffix '{unit}'")))?;
                if size == 0 {
                    return Err(page.error(Code::XmlError, "hugepage size can't be zero"));
                }
                pages.push(HugePage { size, nodeset: super::tune::read_set(page, "nodeset")? });
            }
            backing.hugepages = Some(pages);
        }
        Ok(backing)
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.element_unless_empty("memoryBacking", |w| {
            if let Some(pages) = &self.hugepages {
                w.element("hugepages", |w| {
                    for page in pages {
                        w.element("page", |w| {
                            w.attr("size", page.size);
                            w.attr("unit", "KiB");
                            w.attr_opt("nodeset", page.nodeset.as_ref());
                        });
                    }
                });
            }
            w.empty_if("nosharepages", self.nosharepages);
            w.empty_if("locked", self.locked);
            w.element_unless_empty("source", |w| w.attr_opt("type", self.source));
            w.element_unless_empty("access", |w| w.attr_opt("mode", self.access));
            if let Some(allocation) = &self.allocation {
                w.element_unless_empty("allocation", |w| {
                    w.attr_opt("mode", allocation.mode);
                    w.attr_opt("threads", allocation.threads);
                });
            }
            w.empty_if("discard", self.discard);
        });
    }
}

/// libvirt's "unlimited" (`VIR_DOMAIN_MEMORY_PARAM_UNLIMITED`), KiB.
const UNLIMITED: u64 = 9_007_199_254_740_991;

impl MemTune {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let limit = |name| -> Result<Option<u64>> {
            Ok(node.child(name).map(read_kib).transpose()?.filter(|kib| *kib != 0 && *kib < UNLIMITED))
        };
        Ok(MemTune {
            hard_limit: limit("hard_limit")?,
            soft_limit: limit("soft_limit")?,
            min_guarantee: limit("min_guarantee")?,
            swap_hard_limit: limit("swap_hard_limit")?,
        })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.element_unless_empty("memtune", |w| {
            write_kib(w, "hard_limit", self.hard_limit);
            write_kib(w, "soft_limit", self.soft_limit);
            write_kib(w, "min_guarantee", self.min_guarantee);
            write_kib(w, "swap_hard_limit", self.swap_hard_limit);
        });
    }
}

fn read_scaled(node: Node<'_>, default: &str) -> Result<(u64, String)> {
    let value: u64 = node.value()?;
    let unit = node.attr("unit").unwrap_or(default);
    if unit_scale(unit, 1).is_none() {
        return Err(node.error(Code::InvalidArg, format!("unknown suffix '{unit}'")));
    }
    Ok((value, unit.to_string()))
}

/// The element's text as a size in KiB, by its `unit` (default KiB). Errors: codes 27, 8 and 82.
pub(crate) fn read_kib(node: Node<'_>) -> Result<u64> {
    let (value, unit) = read_scaled(node, "KiB")?;
    to_kib(value, &unit).ok_or_else(|| too_large(node, value))
}

/// The element's text as a size in bytes, by its `unit` (default bytes).
pub(crate) fn read_bytes(node: Node<'_>) -> Result<u64> {
    let (value, unit) = read_scaled(node, "bytes")?;
    unit_scale(&unit, 1).and_then(|scale| value.checked_mul(scale)).ok_or_else(|| too_large(node, value))
}

fn too_large(node: Node<'_>, value: u64) -> crate::error::Error {
    node.error(Code::Overflow, format!("value too large: {value}"))
}

/// Writes `<name unit='KiB'>..</name>`, when there is a size.
pub(crate) fn write_kib(w: &mut Writer, name: &'static str, kib: Option<u64>) {
    if let Some(kib) = kib {
        w.start(name);
        w.attr("unit", "KiB");
        w.end_with_text(kib);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;

    #[test]
    fn backing_and_limits() {
        let xml = "<memoryBacking>\n  <hugepages>\n    <page size='2048' unit='KiB' nodeset='0-1'/>\n  </hugepages>\n  \
                   <nosharepages/>\n  <locked/>\n  <source type='memfd'/>\n  <access mode='shared'/>\n  \
                   <allocation mode='immediate' threads='4'/>\n  <discard/>\n</memoryBacking>\n";
        assert_eq!(rewrite(xml, MemoryBacking::read, MemoryBacking::write).expect("reads"), xml);
        let xml = "<memtune><hard_limit unit='G'>1</hard_limit><soft_limit>9007199254740991</soft_limit></memtune>";
        let written = rewrite(xml, MemTune::read, MemTune::write).expect("reads");
        assert_eq!(written, "<memtune>\n  <hard_limit unit='KiB'>1048576</hard_limit>\n</memtune>\n");
    }

    #[test]
    fn sizes_have_libvirts_errors() {
        let code = |xml: &str| rewrite(xml, read_kib, |_, _| {}).expect_err("refused").code;
        assert_eq!(code("<memory>x</memory>"), Code::XmlError);
        assert_eq!(code("<memory unit='furlong'>1</memory>"), Code::InvalidArg);
        assert_eq!(code("<memory unit='EiB'>99</memory>"), Code::Overflow);
    }
}
