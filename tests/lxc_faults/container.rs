//! A container of busybox in a lab: its files, its bridge, what it says, and what must not be left of it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use crate::harness::guest::make_bridge;
use crate::harness::{DEADLINE, Lab, eventually, leaks, soon};

/// Reads commands from its console, one a line, after it has said that it is up.
const SCRIPT: &str = "#!/bin/sh\necho container is up\nwhile read line; do eval \"$line\"; done\nsleep 1000\n";

pub struct Container {
    pub name: String,
    pub link: String,
    pub xml: String,
    pub log: PathBuf,
}

impl Container {
    /// Number `number` of this lab.
    pub fn new(lab: &mut Lab, number: u8) -> Container {
        make_bridge(lab, "cbr0");
        let name = format!("box-{}-{number}", lab.tag());
        let root = lab.work().join(format!("root{number}"));
        for sub in ["bin", "etc", "tmp"] {
            fs::create_dir_all(root.join(sub)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in ["sh", "sleep", "reboot", "poweroff", "kill", "su", "cat", "ip", "true"] {
            symlink("/bin/busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nweb:x:33:33::/:/bin/sh\n").unwrap();
        fs::write(root.join("init"), SCRIPT).unwrap();
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).unwrap();
        let log = lab.work().join(format!("console{number}.log"));
        let link = format!("cv{number}");
        let xml = format!(
            "<domain type='lxc'><name>{name}</name><uuid>5f1d1d85-719f-4be8-aeb4-3a0d2fea9a{number:02x}</uuid>
             <memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type>exe</type><init>/init</init></os><devices>
             <filesystem type='mount'><source dir='{}'/><target dir='/'/></filesystem>
             <interface type='bridge'><mac address='52:54:00:ac:ce:{number:02x}'/><source bridge='cbr0'/>
             <target dev='{link}'/></interface>
             <console type='pty'><log file='{}' append='on'/></console></devices></domain>",
            root.display(),
            log.display(),
        );
        Container { name, link, xml, log }
    }

    pub fn said(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).replace('\r', "")).unwrap_or_default()
    }

    /// Starts it and waits until it reads its console.
    pub fn start(&self, lab: &Lab) {
        let _ = fs::remove_file(&self.log);
        lab.ok(&["start", &self.name]);
        self.is_up(lab, 1);
    }

    /// Until it has come up for the `times`-th time.
    pub fn is_up(&self, lab: &Lab, times: usize) {
        if soon(DEADLINE, || (self.said().matches("container is up").count() >= times).then_some(())).is_none() {
            panic!("{} did not come up {times} times: {:?}, {}", self.name, self.said(), lab.state(&self.name));
        }
    }

    fn terminal(&self, lab: &Lab) -> String {
        let xml = lab.ok(&["dumpxml", &self.name]);
        let at = xml.find("tty='").unwrap_or_else(|| panic!("no terminal in {xml}")) + 5;
        xml[at..].split('\'').next().unwrap().to_string()
    }

    /// Types a line into its console.
    pub fn types(&self, lab: &Lab, line: &str) {
        let mut pty = fs::OpenOptions::new().write(true).open(self.terminal(lab)).unwrap();
        pty.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// It runs, and answers on its console.
    pub fn answers(&self, lab: &Lab, what: &str) {
        assert_eq!(lab.state(&self.name), "running", "{what}");
        let count = || self.said().matches("\nalive-42").count();
        let before = count();
        self.types(lab, "echo alive-$((40+2))");
        let answered = soon(DEADLINE, || (count() > before).then_some(()));
        assert!(answered.is_some(), "{what}: {} does not answer: {:?}", self.name, self.said());
    }

    /// Init's pid on the host, by what it is.
    pub fn init(&self) -> i32 {
        self.try_init().unwrap_or_else(|| panic!("{} has no init", self.name))
    }

    pub fn try_init(&self) -> Option<i32> {
        // The first process of a pid namespace below this one, whose supervisor is this container's.
        let supervisor = self.supervisor()?;
        let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// The supervisor's pid: it has the domain's name among its arguments.
    pub fn supervisor(&self) -> Option<i32> {
        self.supervisors().into_iter().next()
    }

    fn supervisors(&self) -> Vec<i32> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|byte| *byte == 0).collect();
            if words.get(1) == Some(&b"supervise".as_slice()) && words.get(2) == Some(&self.name.as_bytes()) {
                found.push(pid);
            }
        }
        // Before init's exec, its process looks like the supervisor: that one is the older.
        found.sort_unstable();
        found
    }

    /// Nothing of it is there: no process, link, mount, cgroup, id range, directory of a run.
    pub fn nothing_left(&self, lab: &Lab, when: &str) {
        let mut left = Vec::new();
        soon(Duration::from_secs(10), || {
            left = self.supervisors().into_iter().map(|pid| format!("process {pid}")).collect();
            if leaks::links().contains(&self.link) {
                left.push(format!("link {}", self.link));
            }
            let others = self.runs_of_others(lab);
            left.extend(id_ranges(lab, &others));
            // Where a cgroup is gone no process is left either, whoever its parent was.
            let others: Vec<_> = others.iter().filter_map(|run| Some(run.rsplit('/').next()?.to_string())).collect();
            left.extend(leaks::cgroups(&lab.runs_but(&others)));
            let runs = fs::read_dir(lab.root().join("run/lxc")).into_iter().flatten().flatten();
            left.extend(
                runs.map(|run| run.file_name().to_string_lossy().into_owned()).filter(|run| !others.contains(run)),
            );
            left.extend(leaks::mounts(lab.root().parent().unwrap()));
            left.is_empty().then_some(())
        });
        assert!(left.is_empty(), "{when}: left behind: {}", left.join(", "));
    }

    /// Run directories of other containers that run.
    fn runs_of_others(&self, lab: &Lab) -> Vec<String> {
        let mut others = Vec::new();
        for entry in fs::read_dir(lab.root().join("run/records/lxc")).into_iter().flatten().flatten() {
            let text = fs::read(entry.path()).unwrap_or_default();
            let Ok(record) = serde_json::from_slice::<serde_json::Value>(&text) else { continue };
            if record["name"].as_str() != Some(&self.name) {
                others.extend(record["run_dir"].as_str().map(str::to_string));
            }
        }
        others
    }
}

/// Ranges of ids that runs of this lab still have, but for those named.
pub fn id_ranges(lab: &Lab, but: &[String]) -> Vec<String> {
    let root = lab.root().display().to_string();
    fs::read_dir("/run/domus-ids")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.path(), fs::read_to_string(entry.path()).ok()?)))
        .filter(|(_, owner)| owner.starts_with(&root) && !but.contains(owner))
        .map(|(path, owner)| format!("id range {} of {owner}", path.display()))
        .collect()
}

/// A container that runs the whole time and must not notice anything.
pub struct Witness {
    pub container: Container,
    init: i32,
}

impl Witness {
    pub fn new(lab: &mut Lab) -> Witness {
        let container = Container::new(lab, 1);
        lab.define(&container.xml);
        container.start(lab);
        let init = container.init();
        lab.forget_links();
        Witness { container, init }
    }

    pub fn is_unharmed(&self, lab: &Lab, when: &str) {
        assert_eq!(self.container.try_init(), Some(self.init), "{when}: the other container is another");
        self.container.answers(lab, when);
    }

    /// Events and stop work too; nothing is left of anything.
    pub fn ends(self, lab: Lab) {
        let bus = lab.bus();
        let mut signals = bus.listen();
        lab.ok(&["suspend", &self.container.name]);
        lab.ok(&["resume", &self.container.name]);
        lab.ok(&["destroy", &self.container.name]);
        let events = signals.domain_events(3, Duration::from_secs(5));
        // Suspended, resumed, stopped (destroyed).
        assert_eq!(events, [(3, 0), (4, 0), (5, 1)], "events of the other container");
        drop(signals);
        drop(bus);
        for name in lab.names() {
            lab.run(&["destroy", &name]);
        }
        lab.forget_link(&self.container.link);
        eventually("no id range left", Duration::from_secs(10), || id_ranges(&lab, &[]).is_empty().then_some(()));
        lab.finish();
    }
}
