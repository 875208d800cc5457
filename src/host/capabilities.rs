//! The `<host>` part of libvirt's capabilities XML: what `virConnectGetCapabilities` says of the machine. The drivers
//! add their `<guest>` parts.

use std::fmt::Write;
use std::path::Path;

use super::memory::{huge_pages, page_size};
use super::model::{self, Processor};
use super::topology::{self, Cell, Shape};
use super::{identity, read};
use crate::error::{Error, Result};

/// What the caller knows of its own.
#[derive(Clone, Debug, Default)]
pub struct HostCaps {
    /// User and group that guests run as: the base label of the `dac` security model. `None` leaves the model out.
    pub dac: Option<(u32, u32)>,
    /// Domain types that have that label, such as `kvm` and `qemu`.
    pub dac_types: Vec<String>,
    /// Schemes of the addresses that live migration can use; empty = there is no migration.
    pub migration: Vec<String>,
}

/// The `<host>` element, indented by two spaces, as it stands between `<capabilities>` and the first `<guest>`.
/// Errors: code 38 when /proc or /sys cannot be read.
pub fn host_xml(caps: &HostCaps) -> Result<String> {
    let name =
        nix::sys::utsname::uname().map_err(|errno| Error::system("cannot read the kernel's name", errno.into()))?;
    let root = Path::new("/");
    let facts = Facts {
        uuid: identity::uuid().map(|uuid| uuid.to_string()),
        arch: name.machine().to_string_lossy().into_owned(),
        processor: model::processor(&read(&root.join("proc/cpuinfo"))?),
        page_sizes: std::iter::once(page_size())
            .chain(huge_pages(&root.join("sys/kernel/mm/hugepages")).into_iter().map(|(size, _)| size))
            .collect(),
        iommu: std::fs::read_dir(root.join("sys/kernel/iommu_groups")).is_ok_and(|mut groups| groups.next().is_some()),
        cells: topology::cells(root)?,
    };
    let mut xml = String::new();
    // Writing into a string cannot fail.
    let _ = facts.write(&mut xml, caps);
    Ok(xml)
}

/// What is read of the host.
struct Facts {
    uuid: Option<String>,
    arch: String,
    processor: Option<Processor>,
    page_sizes: Vec<u64>,
    iommu: bool,
    cells: Vec<Cell>,
}

impl Facts {
    fn write(&self, xml: &mut String, caps: &HostCaps) -> std::fmt::Result {
        writeln!(xml, "  <host>")?;
        if let Some(uuid) = &self.uuid {
            writeln!(xml, "    <uuid>{uuid}</uuid>")?;
        }
        self.write_cpu(xml)?;
        // Suspending the host is nothing a guest manager should do.
        writeln!(xml, "    <power_management/>")?;
        writeln!(xml, "    <iommu support='{}'/>", if self.iommu { "yes" } else { "no" })?;
        if !caps.migration.is_empty() {
            writeln!(xml, "    <migration_features>\n      <live/>\n      <uri_transports>")?;
            for scheme in &caps.migration {
                writeln!(xml, "        <uri_transport>{scheme}</uri_transport>")?;
            }
            writeln!(xml, "      </uri_transports>\n    </migration_features>")?;
        }
        writeln!(xml, "    <topology>\n      <cells num='{}'>", self.cells.len())?;
        for cell in &self.cells {
            write_cell(xml, cell)?;
        }
        writeln!(xml, "      </cells>\n    </topology>")?;
        if let Some((uid, gid)) = caps.dac {
            writeln!(xml, "    <secmodel>\n      <model>dac</model>\n      <doi>0</doi>")?;
            for kind in &caps.dac_types {
                writeln!(xml, "      <baselabel type='{kind}'>+{uid}:+{gid}</baselabel>")?;
            }
            writeln!(xml, "    </secmodel>")?;
        }
        writeln!(xml, "  </host>")
    }

    fn write_cpu(&self, xml: &mut String) -> std::fmt::Result {
        writeln!(xml, "    <cpu>\n      <arch>{}</arch>", self.arch)?;
        if let Some(cpu) = &self.processor {
            writeln!(xml, "      <model>{}</model>", cpu.model)?;
            if let Some(vendor) = cpu.vendor {
                writeln!(xml, "      <vendor>{vendor}</vendor>")?;
            }
            if let Some(version) = cpu.microcode {
                writeln!(xml, "      <microcode version='{version}'/>")?;
            }
            if let (Some(family), Some(model), Some(stepping)) = (cpu.family, cpu.number, cpu.stepping) {
                writeln!(xml, "      <signature family='{family}' model='{model}' stepping='{stepping}'/>")?;
            }
        }
        let Shape { sockets, dies, cores, threads, .. } = Shape::of(&self.cells);
        writeln!(
            xml,
            "      <topology sockets='{sockets}' dies='{dies}' clusters='1' cores='{}' threads='{threads}'/>",
            cores / dies
        )?;
        if let Some(cpu) = &self.processor {
            if let Some(bits) = cpu.address_bits {
                writeln!(xml, "      <maxphysaddr mode='emulate' bits='{bits}'/>")?;
            }
            for feature in &cpu.features {
                writeln!(xml, "      <feature name='{feature}'/>")?;
            }
        }
        for size in &self.page_sizes {
            writeln!(xml, "      <pages unit='KiB' size='{size}'/>")?;
        }
        writeln!(xml, "    </cpu>")
    }
}

fn write_cell(xml: &mut String, cell: &Cell) -> std::fmt::Result {
    writeln!(xml, "        <cell id='{}'>", cell.id)?;
    writeln!(xml, "          <memory unit='KiB'>{}</memory>", cell.memory)?;
    for (size, count) in &cell.pages {
        writeln!(xml, "          <pages unit='KiB' size='{size}'>{count}</pages>")?;
    }
    if !cell.distances.is_empty() {
        writeln!(xml, "          <distances>")?;
        for (id, value) in &cell.distances {
            writeln!(xml, "            <sibling id='{id}' value='{value}'/>")?;
        }
        writeln!(xml, "          </distances>")?;
    }
    writeln!(xml, "          <cpus num='{}'>", cell.cpus.len())?;
    for cpu in &cell.cpus {
        writeln!(
            xml,
            "            <cpu id='{}' socket_id='{}' die_id='{}' cluster_id='{}' core_id='{}' siblings='{}'/>",
            cpu.id, cpu.socket, cpu.die, cpu.cluster, cpu.core, cpu.siblings
        )?;
    }
    writeln!(xml, "          </cpus>\n        </cell>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::topology::tests::machine;

    #[test]
    fn the_form_is_libvirts() {
        let dir = machine();
        let cpuinfo = "vendor_id : AuthenticAMD\nflags : ht lm\ncpu family : 25\nmodel : 17\nstepping : 1\n";
        let facts = Facts {
            uuid: Some("3d1219c7-c4c5-404a-aa1f-6d2a48adfda4".into()),
            arch: "x86_64".into(),
            processor: model::processor(cpuinfo),
            page_sizes: vec![4, 2048],
            iommu: true,
            cells: topology::cells(dir.path()).unwrap().into_iter().take(1).collect(),
        };
        let caps = HostCaps {
            dac: Some((64055, 64056)),
            dac_types: vec!["kvm".into(), "qemu".into()],
            migration: vec!["tcp".into()],
        };
        let mut xml = String::new();
        facts.write(&mut xml, &caps).unwrap();
        let expected = "  <host>
    <uuid>3d1219c7-c4c5-404a-aa1f-6d2a48adfda4</uuid>
    <cpu>
      <arch>x86_64</arch>
      <model>qemu64</model>
      <vendor>AMD</vendor>
      <signature family='25' model='17' stepping='1'/>
      <topology sockets='1' dies='1' clusters='1' cores='2' threads='2'/>
      <feature name='ht'/>
      <pages unit='KiB' size='4'/>
      <pages unit='KiB' size='2048'/>
    </cpu>
    <power_management/>
    <iommu support='yes'/>
    <migration_features>
      <live/>
      <uri_transports>
        <uri_transport>tcp</uri_transport>
      </uri_transports>
    </migration_features>
    <topology>
      <cells num='1'>
        <cell id='0'>
          <memory unit='KiB'>4194304</memory>
          <pages unit='KiB' size='4'>786432</pages>
          <pages unit='KiB' size='2048'>512</pages>
          <distances>
            <sibling id='0' value='10'/>
            <sibling id='1' value='21'/>
          </distances>
          <cpus num='4'>
            <cpu id='0' socket_id='0' die_id='0' cluster_id='0' core_id='0' siblings='0-1'/>
            <cpu id='1' socket_id='0' die_id='0' cluster_id='0' core_id='0' siblings='0-1'/>
            <cpu id='2' socket_id='0' die_id='0' cluster_id='0' core_id='1' siblings='2-3'/>
            <cpu id='3' socket_id='0' die_id='0' cluster_id='0' core_id='1' siblings='2-3'/>
          </cpus>
        </cell>
      </cells>
    </topology>
    <secmodel>
      <model>dac</model>
      <doi>0</doi>
      <baselabel type='kvm'>+64055:+64056</baselabel>
      <baselabel type='qemu'>+64055:+64056</baselabel>
    </secmodel>
  </host>
";
        assert_eq!(xml, expected);
    }

    #[test]
    fn this_host_without_migration_and_labels() {
        let xml = host_xml(&HostCaps::default()).unwrap();
        assert!(xml.starts_with("  <host>\n") && xml.ends_with("  </host>\n"), "{xml}");
        assert!(!xml.contains("migration_features") && !xml.contains("secmodel"));
        assert!(xml.contains("<cells num='") && xml.contains("<arch>"), "{xml}");
    }
}
