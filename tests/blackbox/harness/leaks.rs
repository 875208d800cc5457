//! What a test may have left behind. Each function lists findings as lines; an empty list is what is wanted.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::soon;

/// Pids of processes that belong to the lab at `base`: its path is in their arguments, environment, working
/// directory or open files. The test process itself is not meant.
pub fn pids_of(base: &Path) -> Vec<i32> {
    let needle = base.as_os_str().as_bytes();
    let own = std::process::id().cast_signed();
    let mentions = |bytes: &[u8]| bytes.windows(needle.len()).any(|part| part == needle);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if pid == own {
            continue;
        }
        let process = entry.path();
        let texts = ["cmdline", "environ"].iter().any(|f| fs::read(process.join(f)).is_ok_and(|text| mentions(&text)));
        let links = ["cwd", "root", "exe"]
            .iter()
            .any(|f| fs::read_link(process.join(f)).is_ok_and(|target| mentions(target.as_os_str().as_bytes())));
        if texts || links {
            found.push(pid);
        }
    }
    found
}

pub fn processes(base: &Path, known: &[i32]) -> Vec<String> {
    pids_of(base)
        .into_iter()
        .filter(|pid| !known.contains(pid))
        .map(|pid| {
            let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let shown: String = String::from_utf8_lossy(&text).replace('\0', " ").chars().take(160).collect();
            format!("process {pid}: {shown}")
        })
        .collect()
}

/// Mounts below `base` that this thread sees. A tmpfs the test itself put there is in `base`/w or named by the test.
pub fn mounts(base: &Path) -> Vec<String> {
    let base = format!("{}/r", base.display());
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| point.starts_with(&base) && !point.starts_with(&format!("{base}/state")))
        .map(|point| format!("mount {point}"))
        .collect()
}

/// Names of the network interfaces in this thread's namespace.
pub fn links() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    table.lines().skip(2).filter_map(|line| line.split(':').next()).map(|name| name.trim().to_string()).collect()
}

/// Number of open files of a process, once it stopped falling (connections close in their own time).
pub fn settled_fds(pid: i32, wanted: usize) -> usize {
    // With the first container come, and stay: the sealed domus-run, and a pidfd and a socket of the process that is to
    // fork supervisors.
    let count = || {
        let open = fds(pid).lines().filter(|line| !line.contains("memfd:domus-run")).count();
        open - 2 * fork_servers_of(pid).len()
    };
    if wanted == usize::MAX {
        std::thread::sleep(Duration::from_millis(200));
        return count();
    }
    soon(Duration::from_secs(5), || Some(count()).filter(|now| *now <= wanted)).unwrap_or_else(count)
}

/// Pids of the processes that supervisors are forked from, of this daemon.
pub fn fork_servers_of(daemon: i32) -> Vec<i32> {
    let is_one = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse::<i32>().ok());
        parent == Some(daemon) && line.split(|byte| *byte == 0).nth(1) == Some(b"serve")
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).filter(is_one).collect()
}

/// What the open files of a process are.
pub fn fds(pid: i32) -> String {
    let mut lines: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some(format!("  {}", fs::read_link(entry.path()).ok()?.display())))
        .collect();
    lines.sort();
    lines.join("\n")
}

/// All files below a directory, not following links.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Run-time directories of runs (they hold files named by run ids), status records and half-written files. The daemon's
/// own sockets, lock and pid file, directly in run/, and its counters of ids are not meant.
pub fn run_files(root: &Path) -> Vec<String> {
    let run = root.join("run");
    let mut found: Vec<String> = files_below(&run)
        .into_iter()
        .filter(|path| path.parent() != Some(run.as_path()) && path.extension().is_none_or(|word| word != "next-id"))
        .map(|path| format!("file {}", path.display()))
        .collect();
    for driver in ["qemu", "lxc", "test"] {
        let runs = fs::read_dir(run.join(driver)).into_iter().flatten().flatten();
        found.extend(runs.map(|entry| format!("run {}", entry.path().display())));
    }
    found.extend(
        files_below(root)
            .into_iter()
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-tmp")))
            .map(|path| format!("half-written file {}", path.display())),
    );
    found
}

/// Definitions, autostart marks and status records: none may be left when all domains were undefined.
pub fn state_files(root: &Path) -> Vec<String> {
    files_below(&root.join("state"))
        .into_iter()
        .filter(|path| {
            path.parent()
                .and_then(Path::file_name)
                .is_some_and(|directory| ["definitions", "autostart", "status"].iter().any(|kind| directory == *kind))
        })
        .map(|path| format!("file {}", path.display()))
        .collect()
}

/// Run ids that exist below this root now: names of the runs' directories, and what the status records say.
pub fn run_ids(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for driver in ["qemu", "lxc", "test"] {
        for entry in fs::read_dir(root.join("run").join(driver)).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.insert(entry.file_name().to_string_lossy().into_owned());
            }
        }
        let records = [root.join("state").join(driver).join("status"), root.join("run/records").join(driver)];
        for entry in records.iter().flat_map(fs::read_dir).flatten().flatten() {
            let record: Option<serde_json::Value> =
                fs::read(entry.path()).ok().and_then(|text| serde_json::from_slice(&text).ok());
            if let Some(id) = record.as_ref().and_then(|record| record["run_id"].as_str()) {
                found.insert(id.to_string());
            }
        }
    }
    found
}

/// Directories in the cgroup file systems whose name holds one of the tags (run ids, or a name only this lab uses).
fn cgroup_directories(tags: &BTreeSet<String>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                if tags.iter().any(|tag| name.contains(tag.as_str())) {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    // Children first, so that they can be removed in this order.
    found.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    found
}

pub fn cgroups(tags: &BTreeSet<String>) -> Vec<String> {
    cgroup_directories(tags).into_iter().map(|path| format!("cgroup {}", path.display())).collect()
}

/// Removes cgroups of a test that failed.
pub fn remove_cgroups(tags: &BTreeSet<String>) {
    for path in cgroup_directories(tags) {
        let _ = fs::remove_dir(path);
    }
}

/// QEMU's own last words, for the report of a failed test.
pub fn qemu_logs(root: &Path) -> Vec<String> {
    files_below(&root.join("log"))
        .into_iter()
        .map(|path| format!("--- {}\n{}", path.display(), super::lab::tail(&path, 30)))
        .collect()
}
