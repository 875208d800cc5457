//! `<cpu>` and `<numatune>`.

use super::foreign::Foreign;
use super::memory::MemoryAccess;
use super::words::{Switch, YesNo, attrs, words};
use crate::error::{Code, Result};
use crate::xml::{Node, Writer};

/// `<cpu>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cpu {
    pub mode: Option<CpuMode>,
    pub match_: Option<CpuMatch>,
    pub check: Option<CpuCheck>,
    pub migratable: Option<Switch>,
    pub deprecated_features: Option<Switch>,
    pub model: Option<String>,
    pub fallback: Option<CpuFallback>,
    pub vendor_id: Option<String>,
    pub vendor: Option<String>,
    pub topology: Option<Topology>,
    pub cache: Option<CpuCache>,
    pub maxphysaddr: Option<MaxPhysAddr>,
    pub features: Vec<CpuFeature>,
    pub numa_cells: Vec<NumaCell>,
    /// `<interconnects>` of `<numa>`: nothing acts on it yet.
    pub later: Vec<Foreign>,
}

words! {
    /// `mode`.
    pub enum CpuMode { Custom = "custom", HostModel = "host-model", HostPassthrough = "host-passthrough", Maximum = "maximum" }

    /// `match`.
    pub enum CpuMatch { Minimum = "minimum", Exact = "exact", Strict = "strict" }

    /// `check`.
    pub enum CpuCheck { None = "none", Partial = "partial", Full = "full" }

    /// `<model fallback>`.
    pub enum CpuFallback { Allow = "allow", Forbid = "forbid" }

    /// `<feature policy>`.
    pub enum FeaturePolicy { Force = "force", Require = "require", Optional = "optional", Disable = "disable", Forbid = "forbid" }

    /// `<cache mode>`.
    pub enum CacheMode { Emulate = "emulate", Passthrough = "passthrough", Disable = "disable" }

    /// `<maxphysaddr mode>`.
    pub enum MaxPhysAddrMode { Emulate = "emulate", Passthrough = "passthrough" }

    /// `discard` and similar memory modes of `<numatune>`.
    pub enum NumaMode { Strict = "strict", Preferred = "preferred", Interleave = "interleave", Restrictive = "restrictive" }

    /// `<memory placement>` of `<numatune>`.
    pub enum NumaPlacement { Static = "static", Auto = "auto" }
}

attrs! {
    /// `<topology>`.
    pub struct Topology {
        sockets: u32 = "sockets",
        dies: u32 = "dies",
        clusters: u32 = "clusters",
        cores: u32 = "cores",
        threads: u32 = "threads",
    }

    /// `<cache>`.
    pub struct CpuCache {
        level: u32 = "level",
        mode: CacheMode = "mode",
    }

    /// `<maxphysaddr>`.
    pub struct MaxPhysAddr {
        mode: MaxPhysAddrMode = "mode",
        bits: u32 = "bits",
        limit: u32 = "limit",
    }
}

/// `<feature>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CpuFeature {
    pub policy: Option<FeaturePolicy>,
    pub name: String,
}

/// `<cell>` of `<numa>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NumaCell {
    pub id: u32,
    /// Virtual CPUs, as a set.
    pub cpus: Option<String>,
    /// KiB.
    pub memory: u64,
    pub mem_access: Option<MemoryAccess>,
    pub discard: Option<YesNo>,
    /// `<distances>`: (cell, value).
    pub distances: Vec<(u32, u32)>,
    /// `<cache>`: nothing acts on it yet.
    pub later: Vec<Foreign>,
}

/// `<numatune>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NumaTune {
    pub memory: Option<NumaMemory>,
    pub memnodes: Vec<NumaMemNode>,
}

attrs! {
    /// `<memory>` of `<numatune>`.
    pub struct NumaMemory {
        mode: NumaMode = "mode",
        nodeset: String = "nodeset",
        placement: NumaPlacement = "placement",
    }

    /// `<memnode>`.
    pub struct NumaMemNode {
        cellid: u32 = "cellid",
        mode: NumaMode = "mode",
        nodeset: String = "nodeset",
    }
}

impl Cpu {
    /// Reads `<cpu>`. Errors: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mut cpu = Cpu {
            mode: node.attr_value("mode")?,
            match_: node.attr_value("match")?,
            check: node.attr_value("check")?,
            migratable: node.attr_value("migratable")?,
            deprecated_features: node.attr_value("deprecated_features")?,
            vendor: node.child_string("vendor"),
            topology: node.child("topology").map(Topology::read).transpose()?,
            cache: node.child("cache").map(CpuCache::read).transpose()?,
            maxphysaddr: node.child("maxphysaddr").map(MaxPhysAddr::read).transpose()?,
            ..Default::default()
        };
        if let Some(model) = node.child("model") {
            cpu.fallback = model.attr_value("fallback")?;
            cpu.vendor_id = model.attr("vendor_id").map(str::to_string);
            if let Some(vendor) = cpu.vendor_id.as_ref().filter(|vendor| vendor.len() != 12 || vendor.contains(',')) {
                let what = format!("vendor_id must be exactly 12 characters long, and without commas: '{vendor}'");
                return Err(model.attr_error("vendor_id", Code::XmlError, what));
            }
            cpu.model = Some(model.text().trim()).filter(|name| !name.is_empty()).map(str::to_string);
        }
        if let Some(topology) = cpu.topology.as_ref() {
            let parts = [topology.sockets, topology.dies, topology.clusters, topology.cores, topology.threads];
            if topology.sockets.is_none() || topology.cores.is_none() || topology.threads.is_none() {
                let what = "Missing required attribute in element 'topology': sockets, cores and threads are needed";
                return Err(node.error(Code::XmlError, what));
            }
            if parts.contains(&Some(0)) {
                return Err(node.error(Code::XmlError, "Invalid value in element 'topology': Zero is not permitted"));
            }
        }
        for feature in node.children("feature") {
            let Some(name) = feature.attr("name").filter(|name| !name.is_empty()) else {
                return Err(feature.error(Code::XmlError, "Invalid CPU feature name"));
            };
            if cpu.features.iter().any(|other| other.name == name) {
                let what = format!("CPU feature '{name}' specified more than once");
                return Err(feature.error(Code::XmlError, what));
            }
            cpu.features.push(CpuFeature { policy: feature.attr_value("policy")?, name: name.to_string() });
        }
        if let Some(numa) = node.child("numa") {
            for cell in numa.children("cell") {
                cpu.numa_cells.push(NumaCell::read(cell, cpu.numa_cells.len() as u32)?);
            }
            cpu.numa_cells.sort_by_key(|cell| cell.id);
            complete_distances(&mut cpu.numa_cells);
            cpu.later = Foreign::read_all(numa, &["interconnects"]);
            cpu.later.iter_mut().for_each(plain_units);
        }
        Ok(cpu)
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.element_unless_empty("cpu", |w| {
            w.attr_opt("mode", self.mode);
            let custom = self.mode.unwrap_or_default() == CpuMode::Custom;
            w.attr_opt("match", self.match_.filter(|_| custom));
            w.attr_opt("check", self.check);
            w.attr_opt("migratable", self.migratable);
            w.attr_opt("deprecated_features", self.deprecated_features);
            let named = custom || self.mode == Some(CpuMode::HostModel);
            let model = self.model.as_ref().filter(|_| named);
            if model.is_some() || self.vendor_id.is_some() {
                w.start("model");
                w.attr_opt("fallback", self.fallback.filter(|_| custom || model.is_some()));
                w.attr_opt("vendor_id", self.vendor_id.as_ref());
                match model {
                    Some(model) => w.end_with_text(model),
                    None => w.end(),
                }
            }
            w.text_opt("vendor", self.vendor.as_ref());
            if let Some(topology) = &self.topology {
                topology.write("topology", w);
            }
            if let Some(cache) = &self.cache {
                cache.write("cache", w);
            }
            if let Some(address) = &self.maxphysaddr {
                address.write("maxphysaddr", w);
            }
            for feature in &self.features {
                w.element("feature", |w| {
                    w.attr_opt("policy", feature.policy);
                    w.attr("name", &feature.name);
                });
            }
            w.element_unless_empty("numa", |w| {
                for cell in &self.numa_cells {
                    cell.write(w);
                }
                self.later.iter().for_each(|element| element.write(w));
            });
        });
    }
}

/// Sizes of memory caches and speeds between cells in libvirt's units: bytes for lines, KiB for all else.
fn plain_units(element: &mut Foreign) {
    let unit = match element.name.as_str() {
        "line" => "B",
        "size" | "bandwidth" => "KiB",
        _ => return element.children.iter_mut().for_each(plain_units),
    };
    let get = |name| element.attributes.iter().position(|(attribute, _)| attribute == name);
    let (Some(value), Some(given)) = (get("value"), get("unit")) else { return };
    let number: Option<u64> = element.attributes[value].1.parse().ok();
    let scale = crate::types::size::unit_scale(&element.attributes[given].1, 1);
    if let Some(bytes) = number.zip(scale).and_then(|(number, scale)| number.checked_mul(scale)) {
        element.attributes[value].1 = if unit == "B" { bytes } else { bytes.div_ceil(1024) }.to_string();
        element.attributes[given].1 = unit.to_string();
    }
}

/// Distances between cells hold both ways, and a cell that has any is 10 from itself.
fn complete_distances(cells: &mut [NumaCell]) {
    fn set(cell: &mut NumaCell, id: u32, value: u32) {
        if !cell.distances.iter().any(|(known, _)| *known == id) {
            cell.distances.push((id, value));
        }
    }
    let given: Vec<(u32, u32, u32)> =
        cells.iter().flat_map(|cell| cell.distances.iter().map(|(id, value)| (cell.id, *id, *value))).collect();
    for (from, to, value) in given {
        for cell in cells.iter_mut().filter(|cell| cell.id == from || cell.id == to) {
            let own = cell.id;
            set(cell, own, 10);
            set(cell, if own == from { to } else { from }, value);
        }
    }
    for cell in cells {
        cell.distances.sort_unstable();
    }
}

impl NumaCell {
    fn read(node: Node<'_>, position: u32) -> Result<Self> {
        let memory: u64 = node.require("memory")?;
        let unit = node.attr("unit").unwrap_or("KiB");
        let Some(memory) = crate::types::size::to_kib(memory, unit) else {
            return Err(node.attr_error("unit", Code::InvalidArg, format!("unknown suffix '{unit}'")));
        };
        let mut cell = NumaCell {
            id: node.attr_value("id")?.unwrap_or(position),
            cpus: super::tune::read_set(node, "cpus")?,
            memory,
            mem_access: node.attr_value("memAccess")?,
            discard: node.attr_value("discard")?,
            distances: Vec::new(),
            later: Foreign::read_all(node, &["cache"]),
        };
        cell.later.iter_mut().for_each(plain_units);
        if let Some(distances) = node.child("distances") {
            for sibling in distances.children("sibling") {
                cell.distances.push((sibling.require("id")?, sibling.require("value")?));
            }
        }
        Ok(cell)
    }

    fn write(&self, w: &mut Writer) {
        w.element("cell", |w| {
            w.attr("id", self.id);
            w.attr_opt("cpus", self.cpus.as_ref());
            w.attr("memory", self.memory);
            w.attr("unit", "KiB");
            w.attr_opt("memAccess", self.mem_access);
            w.attr_opt("discard", self.discard);
            w.element_unless_empty("distances", |w| {
                for (id, value) in &self.distances {
                    w.element("sibling", |w| {
                        w.attr("id", id);
                        w.attr("value", value);
                    });
                }
            });
            self.later.iter().for_each(|element| element.write(w));
        });
    }
}

impl NumaTune {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mut tune = NumaTune {
            memory: node.child("memory").map(NumaMemory::read).transpose()?,
            memnodes: node.children("memnode").map(NumaMemNode::read).collect::<Result<_>>()?,
        };
        let sets = tune.memnodes.iter_mut().map(|memnode| &mut memnode.nodeset);
        for nodeset in sets.chain(tune.memory.as_mut().map(|memory| &mut memory.nodeset)).flatten() {
            if let Some(members) = super::tune::set_members(nodeset) {
                *nodeset = super::tune::format_set(&members);
            }
        }
        Ok(tune)
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.element_unless_empty("numatune", |w| {
            if let Some(memory) = &self.memory {
                w.element("memory", |w| {
                    w.attr("mode", memory.mode.unwrap_or_default());
                    match memory.placement {
                        Some(NumaPlacement::Auto) => w.attr("placement", NumaPlacement::Auto),
                        _ => w.attr_opt("nodeset", memory.nodeset.as_ref()),
                    }
                });
            }
            for memnode in &self.memnodes {
                memnode.write("memnode", w);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;
    use rstest::rstest;

    #[rstest]
    #[case(
        "<cpu mode='custom' match='exact' check='full'>\n  <model fallback='forbid'>EPYC</model>\n  <vendor>AMD</vendor>\n  \
            <topology sockets='1' dies='1' clusters='1' cores='1' threads='1'/>\n  <feature policy='require' name='acpi'/>\n</cpu>\n"
    )]
    #[case(
        "<cpu mode='host-passthrough' migratable='on'>\n  <cache mode='passthrough'/>\n  \
            <maxphysaddr mode='emulate' bits='42'/>\n</cpu>\n"
    )]
    #[case(
        "<cpu>\n  <numa>\n    <cell id='0' cpus='0-1' memory='1024' unit='KiB' memAccess='shared'>\n      <distances>\n        \
            <sibling id='0' value='10'/>\n      </distances>\n    </cell>\n  </numa>\n</cpu>\n"
    )]
    fn round_trips(#[case] xml: &str) {
        assert_eq!(rewrite(xml, Cpu::read, Cpu::write).expect("reads"), xml);
    }

    #[rstest]
    #[case("<cpu mode='host'/>", "attribute 'mode' in element 'cpu': 'host'.")]
    #[case("<cpu><feature policy='require'/></cpu>", "Invalid CPU feature name")]
    #[case("<cpu><feature name='a'/><feature name='a'/></cpu>", "CPU feature 'a' specified more than once")]
    #[case("<cpu><topology sockets='0' cores='1' threads='1'/></cpu>", "Zero is not permitted")]
    #[case("<cpu><model vendor_id='short'>x</model></cpu>", "vendor_id must be exactly 12 characters")]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let error = rewrite(xml, Cpu::read, |_, _| {}).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
    }
}
