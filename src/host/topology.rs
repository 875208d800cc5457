//! How the host's CPUs and memory lie: NUMA cells, sockets, cores, threads, from sysfs
//! (Documentation/ABI/stable/sysfs-devices-node, sysfs-devices-system-cpu).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::memory::{field, huge_pages, page_size};
use super::{parse_list, read, read_number};
use crate::error::{Error, Result};

/// `virNodeInfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Architecture.
    pub model: String,
    /// KiB.
    pub memory: u64,
    /// Online CPUs.
    pub cpus: u32,
    /// Speed as the kernel states it; 0 where it does not.
    pub mhz: u32,
    /// NUMA cells.
    pub nodes: u32,
    /// Per cell. When the machine is uneven, cells, sockets and threads are 1 and cores are all CPUs, as libvirt says.
    pub sockets: u32,
    /// Per socket.
    pub cores: u32,
    /// Per core.
    pub threads: u32,
}

/// A NUMA cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub id: u32,
    /// KiB.
    pub memory: u64,
    /// Page size in KiB and number of pages.
    pub pages: Vec<(u64, u64)>,
    /// Cell and its distance.
    pub distances: Vec<(u32, u32)>,
    pub cpus: Vec<Cpu>,
}

/// An online CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cpu {
    pub id: u32,
    pub socket: u32,
    pub die: u32,
    pub cluster: u32,
    pub core: u32,
    /// The threads of its core, in the kernel's list form.
    pub siblings: String,
}

/// Sizes of the machine (`virNodeGetInfo`).
pub fn node_info() -> Result<NodeInfo> {
    let name =
        nix::sys::utsname::uname().map_err(|errno| Error::system("cannot read the kernel's name", errno.into()))?;
    let root = Path::new("/");
    let memory = field(&read(&root.join("proc/meminfo"))?, "MemTotal").unwrap_or(0);
    let mhz = speed(&read(&root.join("proc/cpuinfo"))?);
    let shape = Shape::of(&cells(root)?);
    Ok(NodeInfo {
        model: name.machine().to_string_lossy().into_owned(),
        memory,
        cpus: shape.cpus,
        mhz,
        nodes: shape.nodes,
        sockets: shape.sockets,
        cores: shape.cores,
        threads: shape.threads,
    })
}

fn speed(cpuinfo: &str) -> u32 {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("cpu MHz")?.split_once(':'));
    let whole = line.and_then(|(_, value)| value.trim().split('.').next()?.parse().ok());
    whole.unwrap_or(0)
}

/// How many of what there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub cpus: u32,
    pub nodes: u32,
    pub sockets: u32,
    pub dies: u32,
    pub cores: u32,
    pub threads: u32,
}

impl Shape {
    /// The even shape of these cells; one flat cell when they are uneven.
    pub fn of(cells: &[Cell]) -> Shape {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let cpus: Vec<&Cpu> = cells.iter().flat_map(|cell| &cell.cpus).collect();
        let sockets = cells.iter().map(|cell| cell.cpus.iter().map(|cpu| cpu.socket).collect::<BTreeSet<_>>().len());
        let sockets = count(sockets.max().unwrap_or(0)).max(1);
        let dies = most(cpus.iter().map(|cpu| (cpu.socket, cpu.die)));
        // Core numbers are unique within a die only, and cells may share a socket.
        let cell_cores = cells.iter().enumerate().flat_map(|(index, cell)| {
            cell.cpus.iter().map(move |cpu| ((index, cpu.socket, cpu.die), (cpu.cluster, cpu.core)))
        });
        let cores = most(cell_cores.clone());
        let mut threads: BTreeMap<_, u32> = BTreeMap::new();
        for core in cell_cores {
            *threads.entry(core).or_default() += 1;
        }
        let threads = threads.values().copied().max().unwrap_or(1);
        let (total, nodes) = (count(cpus.len()), count(cells.len()).max(1));
        if [nodes, sockets, dies, cores, threads].iter().map(|part| u64::from(*part)).product::<u64>()
            == u64::from(total)
        {
            // libvirt's node information has no dies: their cores are the socket's.
            return Shape { cpus: total, nodes, sockets, dies, cores: cores * dies, threads };
        }
        Shape { cpus: total, nodes: 1, sockets: 1, dies: 1, cores: total, threads: 1 }
    }
}

/// The largest number of different members that a group has.
fn most<G: Ord, M: Ord>(pairs: impl Iterator<Item = (G, M)>) -> u32 {
    let mut groups: BTreeMap<G, BTreeSet<M>> = BTreeMap::new();
    for (group, member) in pairs {
        groups.entry(group).or_default().insert(member);
    }
    u32::try_from(groups.values().map(BTreeSet::len).max().unwrap_or(1)).unwrap_or(u32::MAX)
}

/// The cells of the machine whose file system is at `root`: one cell with everything when the kernel knows no NUMA.
pub(super) fn cells(root: &Path) -> Result<Vec<Cell>> {
    let nodes = root.join("sys/devices/system/node");
    let cpus = root.join("sys/devices/system/cpu");
    let Ok(online) = std::fs::read_to_string(nodes.join("online")) else {
        let memory = field(&read(&root.join("proc/meminfo"))?, "MemTotal").unwrap_or(0);
        let ids = list(&cpus.join("online"))?;
        let pages = all_pages(memory, &root.join("sys/kernel/mm/hugepages"));
        return Ok(vec![Cell { id: 0, memory, pages, distances: Vec::new(), cpus: online_cpus(&cpus, ids) }]);
    };
    let ids = parse_list(&online).ok_or_else(|| malformed(&nodes.join("online")))?;
    ids.iter().map(|id| cell(&nodes.join(format!("node{id}")), *id, &ids, &cpus)).collect()
}

fn cell(node: &Path, id: u32, ids: &[u32], cpus: &Path) -> Result<Cell> {
    let memory = field(&read(&node.join("meminfo"))?, "MemTotal").unwrap_or(0);
    let distances = std::fs::read_to_string(node.join("distance")).unwrap_or_default();
    let distances = distances.split_whitespace().map_while(|word| word.parse().ok());
    Ok(Cell {
        id,
        memory,
        pages: all_pages(memory, &node.join("hugepages")),
        distances: ids.iter().copied().zip(distances).collect(),
        cpus: online_cpus(cpus, list(&node.join("cpulist"))?),
    })
}

/// Normal pages are what the huge ones leave.
fn all_pages(memory: u64, huge: &Path) -> Vec<(u64, u64)> {
    let huge = huge_pages(huge);
    let taken = huge.iter().fold(0u64, |sum, (size, count)| sum.saturating_add(size.saturating_mul(*count)));
    let mut pages = vec![(page_size(), memory.saturating_sub(taken) / page_size())];
    pages.extend(huge);
    pages
}

fn online_cpus(cpus: &Path, ids: Vec<u32>) -> Vec<Cpu> {
    let cpu = |id: u32| {
        let topology = cpus.join(format!("cpu{id}/topology"));
        // -1 and 65535 are the kernel's "unknown".
        let number = |name: &str| {
            read_number::<i64>(&topology.join(name)).and_then(|n| u32::try_from(n).ok()).filter(|n| *n < 65535)
        };
        let siblings = std::fs::read_to_string(topology.join("thread_siblings_list")).unwrap_or_default();
        let siblings = Some(siblings.trim()).filter(|list| parse_list(list).is_some_and(|list| !list.is_empty()));
        Cpu {
            id,
            socket: number("physical_package_id").unwrap_or(0),
            die: number("die_id").unwrap_or(0),
            cluster: number("cluster_id").unwrap_or(0),
            core: number("core_id").unwrap_or(0),
            siblings: siblings.map_or_else(|| id.to_string(), str::to_string),
        }
    };
    ids.into_iter().map(cpu).collect()
}

fn list(path: &Path) -> Result<Vec<u32>> {
    parse_list(&read(path)?).ok_or_else(|| malformed(path))
}

fn malformed(path: &Path) -> Error {
    Error::internal(format!("cannot parse the list in '{}'", path.display()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fs::{File, create_dir_all};
    use std::io::Write;

    pub fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Two cells with a socket of two cores with two threads each.
    pub fn machine() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put(root, "proc/meminfo", "MemTotal: 8388608 kB\n");
        put(root, "sys/devices/system/node/online", "0-1\n");
        put(root, "sys/devices/system/cpu/online", "0-7\n");
        for node in 0..2u32 {
            let at = |name: &str| format!("sys/devices/system/node/node{node}/{name}");
            put(root, &at("meminfo"), &format!("Node {node} MemTotal: 4194304 kB\n"));
            put(root, &at("distance"), if node == 0 { "10 21\n" } else { "21 10\n" });
            put(root, &at("cpulist"), &format!("{}-{}\n", node * 4, node * 4 + 3));
            put(root, &at("hugepages/hugepages-2048kB/nr_hugepages"), if node == 0 { "512\n" } else { "0\n" });
            for cpu in node * 4..node * 4 + 4 {
                let at = |name: &str| format!("sys/devices/system/cpu/cpu{cpu}/topology/{name}");
                let core = (cpu % 4) / 2;
                put(root, &at("physical_package_id"), &node.to_string());
                put(root, &at("die_id"), "0");
                put(root, &at("cluster_id"), "65535");
                put(root, &at("core_id"), &core.to_string());
                put(root, &at("thread_siblings_list"), &format!("{}-{}\n", cpu & !1, cpu | 1));
            }
        }
        dir
    }

    #[test]
    fn an_even_machine() {
        let dir = machine();
        let cells = cells(dir.path()).unwrap();
        assert_eq!(cells[0].pages[1], (2048, 512));
        assert_eq!(cells[0].pages[0].1 * page_size(), 4_194_304 - 1_048_576);
        assert_eq!(cells[1].distances, [(0, 21), (1, 10)]);
        let cpu = Cpu { id: 7, socket: 1, die: 0, cluster: 0, core: 1, siblings: "6-7".into() };
        assert_eq!(cells[1].cpus[3], cpu);
        let shape = Shape { cpus: 8, nodes: 2, sockets: 1, dies: 1, cores: 2, threads: 2 };
        assert_eq!(Shape::of(&cells), shape);
    }

    #[test]
    fn an_uneven_machine_is_said_to_be_flat() {
        let dir = machine();
        put(dir.path(), "sys/devices/system/node/node1/cpulist", "4-6\n");
        let shape = Shape { cpus: 7, nodes: 1, sockets: 1, dies: 1, cores: 7, threads: 1 };
        assert_eq!(Shape::of(&cells(dir.path()).unwrap()), shape);
    }

    #[test]
    fn without_numa_all_is_one_cell() {
        let dir = machine();
        std::fs::remove_dir_all(dir.path().join("sys/devices/system/node")).unwrap();
        let cells = cells(dir.path()).unwrap();
        assert_eq!((cells.len(), cells[0].cpus.len(), cells[0].memory), (1, 8, 8_388_608));
        let shape = Shape { cpus: 8, nodes: 1, sockets: 2, dies: 1, cores: 2, threads: 2 };
        assert_eq!(Shape::of(&cells), shape);
    }

    #[test]
    fn this_host() {
        let info = node_info().unwrap();
        assert!(info.memory > 0 && info.cpus > 0, "{info:?}");
        assert_eq!(info.nodes * info.sockets * info.cores * info.threads, info.cpus);
        assert_eq!(speed("x\ncpu MHz\t\t: 2596.128\n"), 2596);
    }
}
