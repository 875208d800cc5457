//! Which hierarchies are mounted and what each controls.

use std::fs;
use std::path::{Path, PathBuf};

/// What can be controlled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Controller {
    Cpu,
    Cpuacct,
    Memory,
    Blkio,
    Pids,
    Freezer,
    Cpuset,
    Devices,
}

impl Controller {
    /// All of them.
    pub const ALL: [Controller; 8] = [
        Controller::Cpu,
        Controller::Cpuacct,
        Controller::Memory,
        Controller::Blkio,
        Controller::Pids,
        Controller::Freezer,
        Controller::Cpuset,
        Controller::Devices,
    ];

    fn v1_name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Memory => "memory",
            Controller::Blkio => "blkio",
            Controller::Pids => "pids",
            Controller::Freezer => "freezer",
            Controller::Cpuset => "cpuset",
            Controller::Devices => "devices",
        }
    }

    /// Its name in `cgroup.controllers`; `None` for what v2 does without a controller.
    pub(super) fn v2_name(self) -> Option<&'static str> {
        match self {
            Controller::Cpu => Some("cpu"),
            Controller::Memory => Some("memory"),
            Controller::Blkio => Some("io"),
            Controller::Pids => Some("pids"),
            Controller::Cpuset => Some("cpuset"),
            Controller::Cpuacct | Controller::Freezer | Controller::Devices => None,
        }
    }
}

/// Which kind of hierarchy is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// v1 controllers where they are, v2 for the rest and for freezing.
    #[default]
    Auto,
    V1,
    /// Only the v2 hierarchy, with what it controls.
    V2Only,
    /// None: guests run without limits and group statistics.
    None,
}

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub root: PathBuf,
    pub controllers: Vec<Controller>,
    pub v2: bool,
}

/// The hierarchies `mode` allows, as mounted now.
pub(super) fn detect(mode: Mode) -> Vec<Hierarchy> {
    if mode == Mode::None {
        return Vec::new();
    }
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts: Vec<Mount> = table.lines().filter_map(Mount::parse).collect();
    choose(mode, &mounts, |point| fs::read_to_string(point.join("cgroup.controllers")).unwrap_or_default())
}

/// What matters of a line of mountinfo.
struct Mount {
    point: PathBuf,
    v2: bool,
    options: Vec<String>,
}

impl Mount {
    /// A line of `proc_pid_mountinfo(5)`, if it is about cgroups: `ID PARENT DEV ROOT POINT OPTIONS... - TYPE SOURCE
    /// SUPEROPTIONS`. (cgroups-rs reads this table too, but leaves version 2 out.)
    fn parse(line: &str) -> Option<Mount> {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let v2 = match right.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let options = right.nth(1)?.split(',').map(str::to_string).collect();
        Some(Mount { point: unescape(left.split(' ').nth(4)?).into(), v2, options })
    }
}

/// Blanks, tabs, newlines and backslashes are octal in that table.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_string();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(&part[3..]);
            }
            None => plain.push_str(part),
        }
    }
    plain
}

fn choose(mode: Mode, mounts: &[Mount], controllers_of: impl Fn(&Path) -> String) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    let taken = |found: &[Hierarchy], controller| found.iter().any(|h| h.controllers.contains(&controller));
    // v2's freezer needs no group of its own, and what it stops can be killed (Linux 5.2; clone3 into a group is 5.7).
    let freezes = mode == Mode::Auto && mounts.iter().any(|mount| mount.v2);
    if mode != Mode::V2Only {
        for mount in mounts.iter().filter(|mount| !mount.v2) {
            let controllers: Vec<Controller> = Controller::ALL
                .into_iter()
                .filter(|c| mount.options.iter().any(|option| option == c.v1_name()) && !taken(&found, *c))
                .filter(|c| *c != Controller::Freezer || !freezes)
                .collect();
            if !controllers.is_empty() {
                found.push(Hierarchy { root: mount.point.clone(), controllers, v2: false });
            }
        }
    }
    if mode != Mode::V1
        && let Some(mount) = mounts.iter().find(|mount| mount.v2)
    {
        let available = controllers_of(&mount.point);
        let has = |c: &Controller| match c.v2_name() {
            Some(name) => available.split_whitespace().any(|word| word == name),
            // cpu.stat is there without a controller, and so is the freezer; devices are a BPF program.
            None => true,
        };
        let controllers = Controller::ALL.into_iter().filter(|c| has(c) && !taken(&found, *c)).collect();
        found.push(Hierarchy { root: mount.point.clone(), controllers, v2: true });
    }
    found
}

/// Lets the groups between `root` and `leaf` pass `controllers` on. A controller that cannot be passed on (processes in
/// an inner group) is logged: its settings will say so where they matter.
pub(super) fn delegate(root: &Path, leaf: &Path, controllers: &[Controller]) {
    let words: Vec<&str> = controllers.iter().filter_map(|controller| controller.v2_name()).collect();
    let Some(below) = leaf.parent().and_then(|parent| parent.strip_prefix(root).ok()) else { return };
    let mut dir = root.to_path_buf();
    let inner = std::iter::once(root.to_path_buf()).chain(below.components().map(|part| {
        dir.push(part);
        dir.clone()
    }));
    for dir in inner {
        for word in &words {
            if let Err(error) = super::write(&dir.join("cgroup.subtree_control"), &format!("+{word}")) {
                tracing::debug!(dir = %dir.display(), controller = word, %error, "controller not passed on");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(point: &str, v2: bool, options: &[&str]) -> Mount {
        Mount { point: point.into(), v2, options: options.iter().map(ToString::to_string).collect() }
    }

    fn hybrid() -> Vec<Mount> {
        vec![
            mount("/c/cpu,cpuacct", false, &["rw", "cpu", "cpuacct"]),
            mount("/c/memory", false, &["rw", "memory"]),
            mount("/c/freezer", false, &["rw", "freezer"]),
            mount("/c/systemd", false, &["rw", "name=systemd"]),
            mount("/c/unified", true, &["rw"]),
        ]
    }

    #[test]
    fn hybrid_prefers_v1_where_a_controller_is_there() {
        let found = choose(Mode::Auto, &hybrid(), |_| "hugetlb pids".into());
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].controllers, [Controller::Cpu, Controller::Cpuacct]);
        assert_eq!(found[2].controllers, [Controller::Pids, Controller::Freezer, Controller::Devices]);
        assert!(found[2].v2);
    }

    #[test]
    fn the_mount_table_is_read() {
        let line = r"41 31 0:38 / /sys/fs/cgroup/uni\040fied rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.point.to_str(), mount.v2), (Some("/sys/fs/cgroup/uni fied"), true));
        let line = "33 31 0:29 / /c/cpu rw - cgroup cgroup rw,cpu,cpuacct";
        assert_eq!(Mount::parse(line).unwrap().options, ["rw", "cpu", "cpuacct"]);
        assert!(Mount::parse("21 31 0:20 / /proc rw - proc proc rw").is_none());
    }

    #[test]
    fn modes_choose() {
        let all = |_: &Path| "cpu memory io pids cpuset".to_string();
        let v2 = choose(Mode::V2Only, &hybrid(), all);
        assert_eq!(v2.len(), 1);
        assert_eq!(v2[0].controllers.len(), Controller::ALL.len());
        let v1 = choose(Mode::V1, &hybrid(), all);
        assert!(v1.iter().all(|h| !h.v2));
        assert_eq!(v1[2].controllers, [Controller::Freezer]);
        assert!(choose(Mode::Auto, &[], all).is_empty());
    }
}
