//! Block statistics: QEMU's answers joined with the disks of the definition. Pure.

use serde_json::Value;

use crate::types::TypedParams;

/// A disk as statistics know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskFacts {
    /// Target, `vda`.
    pub target: String,
    /// Device id in QEMU, `virtio-disk0`.
    pub alias: String,
    /// Source path; empty for an empty drive.
    pub path: String,
    /// Node the device reads from.
    pub node: String,
    /// Node of the file or device below it.
    pub storage_node: String,
}

/// Numbers of one disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockNumbers {
    pub rd_reqs: u64,
    pub rd_bytes: u64,
    pub rd_times: u64,
    pub wr_reqs: u64,
    pub wr_bytes: u64,
    pub wr_times: u64,
    pub fl_reqs: u64,
    pub fl_times: u64,
    /// Highest byte written to.
    pub allocation: Option<u64>,
    /// Size the guest sees.
    pub capacity: Option<u64>,
    /// Bytes used on the host.
    pub physical: Option<u64>,
}

/// Whether QEMU's name for an attached device (an id, or a path of one) is this alias.
fn is_device(qdev: &str, alias: &str) -> bool {
    qdev == alias || qdev.strip_prefix("/machine/peripheral/").is_some_and(|rest| rest.split('/').next() == Some(alias))
}

/// One disk's numbers from `query-blockstats` and `query-named-block-nodes`; `None` when QEMU does not list the disk.
pub fn numbers(disk: &DiskFacts, blockstats: &Value, nodes: &Value) -> Option<BlockNumbers> {
    let entry = blockstats.as_array()?.iter().find(|entry| {
        let qdev = entry.get("qdev").and_then(Value::as_str).unwrap_or_default();
        is_device(qdev, &disk.alias)
    })?;
    let stats = entry.get("stats")?;
    let number = |key: &str| stats.get(key).and_then(Value::as_u64).unwrap_or(0);
    let node = nodes
        .as_array()
        .into_iter()
        .flatten()
        .find(|node| node.get("node-name").and_then(Value::as_str) == Some(disk.node.as_str()));
    let image = |key: &str| node?.pointer(&format!("/image/{key}"))?.as_u64();
    let highest = entry.pointer("/parent/stats/wr_highest_offset").or_else(|| stats.get("wr_highest_offset"));
    Some(BlockNumbers {
        rd_reqs: number("rd_operations"),
        rd_bytes: number("rd_bytes"),
        rd_times: number("rd_total_time_ns"),
        wr_reqs: number("wr_operations"),
        wr_bytes: number("wr_bytes"),
        wr_times: number("wr_total_time_ns"),
        fl_reqs: number("flush_operations"),
        fl_times: number("flush_total_time_ns"),
        allocation: highest.and_then(Value::as_u64),
        capacity: image("virtual-size"),
        physical: image("actual-size"),
    })
}

/// Targets of disks whose requests fail, from `query-block`, with libvirt's number: 1 some error, 2 no space.
pub fn errors(disks: &[DiskFacts], blocks: &Value) -> Vec<(String, i32)> {
    let state = |disk: &DiskFacts| {
        let entry = blocks
            .as_array()?
            .iter()
            .find(|entry| is_device(entry.get("qdev").and_then(Value::as_str).unwrap_or_default(), &disk.alias))?;
        match entry.get("io-status")?.as_str()? {
            "nospace" => Some(2),
            "failed" => Some(1),
            _ => None,
        }
    };
    disks.iter().filter_map(|disk| Some((disk.target.clone(), state(disk)?))).collect()
}

/// Appends `block.*` in libvirt's order. `numbers` is parallel to `disks`.
pub fn params(out: &mut TypedParams, disks: &[DiskFacts], numbers: &[Option<BlockNumbers>]) {
    out.uint("block.count", disks.len() as u32);
    for (index, disk) in disks.iter().enumerate() {
        let key = |name: &str| format!("block.{index}.{name}");
        out.string(key("name"), disk.target.as_str());
        if !disk.path.is_empty() {
            out.string(key("path"), disk.path.as_str());
        }
        let Some(Some(n)) = numbers.get(index) else { continue };
        out.ullong(key("rd.reqs"), n.rd_reqs);
        out.ullong(key("rd.bytes"), n.rd_bytes);
        out.ullong(key("rd.times"), n.rd_times);
        out.ullong(key("wr.reqs"), n.wr_reqs);
        out.ullong(key("wr.bytes"), n.wr_bytes);
        out.ullong(key("wr.times"), n.wr_times);
        out.ullong(key("fl.reqs"), n.fl_reqs);
        out.ullong(key("fl.times"), n.fl_times);
        for (name, value) in [("allocation", n.allocation), ("capacity", n.capacity), ("physical", n.physical)] {
            if let Some(value) = value {
                out.ullong(key(name), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ParamValue;
    use serde_json::json;

    #[test]
    fn failing_disks_are_named() {
        let disk = |target: &str, alias: &str| DiskFacts {
            target: target.into(),
            alias: alias.into(),
            ..DiskFacts::default()
        };
        let disks = [disk("vda", "virtio-disk0"), disk("vdb", "virtio-disk1"), disk("sda", "scsi0")];
        let blocks = json!([
            {"qdev": "/machine/peripheral/virtio-disk0/virtio-backend", "io-status": "ok"},
            {"qdev": "/machine/peripheral/virtio-disk1/virtio-backend", "io-status": "nospace"},
            {"qdev": "scsi0", "io-status": "failed"},
        ]);
        assert_eq!(errors(&disks, &blocks), [("vdb".to_string(), 2), ("sda".to_string(), 1)]);
    }

    #[test]
    fn joins_device_and_node() {
        let disk = DiskFacts {
            target: "vda".into(),
            alias: "virtio-disk0".into(),
            path: "/d".into(),
            node: "libvirt-1-format".into(),
            storage_node: "libvirt-1-storage".into(),
        };
        let stats = json!([{
            "qdev": "/machine/peripheral/virtio-disk0/virtio-backend",
            "stats": {"rd_operations": 3, "wr_highest_offset": 7},
            "parent": {"stats": {"wr_highest_offset": 9}}
        }]);
        let nodes = json!([{"node-name": "libvirt-1-format", "image": {"virtual-size": 100, "actual-size": 50}}]);
        let n = numbers(&disk, &stats, &nodes).expect("found");
        assert_eq!((n.rd_reqs, n.allocation, n.capacity, n.physical), (3, Some(9), Some(100), Some(50)));
        let mut out = TypedParams::new();
        params(&mut out, &[disk.clone(), DiskFacts { target: "hda".into(), ..Default::default() }], &[Some(n), None]);
        assert_eq!(out.get("block.count"), Some(&ParamValue::Uint(2)));
        assert_eq!(out.get("block.0.rd.reqs"), Some(&ParamValue::Ullong(3)));
        assert_eq!(out.get("block.1.path"), None);
        assert_eq!(numbers(&disk, &json!([]), &nodes), None);
    }

    #[test]
    fn a_prefix_is_no_match() {
        assert!(!is_device("/machine/peripheral/virtio-disk10/virtio-backend", "virtio-disk1"));
        assert!(is_device("ide0-0-0", "ide0-0-0"));
    }
}
