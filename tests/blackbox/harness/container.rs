//! Containers on throw-away busybox roots.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Lab, soon};

const APPLETS: &[&str] = &[
    "sh", "cat", "ls", "echo", "mount", "sleep", "id", "ip", "ping", "mknod", "stat", "dd", "reboot", "poweroff",
    "readlink", "grep", "hostname", "touch", "kill", "true", "false", "test", "ps", "mkdir", "tty", "head", "od", "wc",
    "sed", "cut", "stty", "env", "pwd", "yes", "tr", "halt", "trap", "printf",
];

/// A container of a lab: its files and its XML.
pub struct Container {
    pub name: String,
    pub directory: PathBuf,
    pub xml: String,
}

impl Container {
    /// A container whose init is a shell that runs `script`; what it prints is in its console log.
    pub fn new(lab: &Lab, number: u8, script: &str) -> Container {
        let name = format!("box-{}-{number}", lab.tag());
        let directory = lab.work().join(&name);
        let root = directory.join("root");
        for sub in ["bin", "sbin", "etc", "tmp", "root", "mnt", "dev", "proc", "sys"] {
            fs::create_dir_all(root.join(sub)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            let _ = symlink("/bin/busybox", root.join("bin").join(applet));
        }
        fs::write(root.join("init"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).unwrap();
        let xml = format!(
            "<domain type='lxc'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
             <os><type arch='x86_64'>exe</type><init>/init</init></os><devices>\
             <filesystem type='mount'><source dir='{}'/><target dir='/'/></filesystem>\
             <console type='pty'><log file='{}' append='off'/></console></devices></domain>",
            root.display(),
            directory.join("console.log").display()
        );
        Container { name, directory, xml }
    }

    /// The XML with something before `<devices>`.
    pub fn with(&self, elements: &str) -> String {
        self.xml.replace("<devices>", &format!("{elements}<devices>"))
    }

    /// The XML with one more device.
    pub fn with_device(&self, device: &str) -> String {
        self.xml.replace("<console ", &format!("{device}<console "))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("console.log")).unwrap_or_default().replace('\r', "")
    }

    /// Waits until the console has shown `text`.
    pub fn shows(&self, text: &str) {
        if soon(Duration::from_secs(30), || self.log().contains(text).then_some(())).is_none() {
            panic!("{} never showed {text:?}: {:?}", self.name, self.log());
        }
    }

    /// Where a file of the container is on the host.
    pub fn file(&self, path: &str) -> PathBuf {
        self.directory.join("root").join(path)
    }
}

/// Files named `file` of the cgroups of this domain's present run.
pub fn cgroup_files(lab: &Lab, driver: &str, domain: &str, file: &str) -> Vec<PathBuf> {
    let id = lab.ok(&["domid", domain]);
    let runs = fs::read_dir(lab.root().join("run").join(driver)).unwrap();
    let run = runs.flatten().map(|entry| entry.file_name().into_string().unwrap());
    let run = run.into_iter().find(|run| run.starts_with(&format!("{id}-"))).expect("a run directory");
    let mut found = Vec::new();
    find(Path::new("/sys/fs/cgroup"), &format!("{driver}-{run}"), file, 3, &mut found);
    found
}

fn find(dir: &Path, group: &str, file: &str, depth: u8, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if entry.file_name() == group {
            let path = entry.path().join(file);
            found.extend(path.exists().then_some(path));
        } else if depth > 0 {
            find(&entry.path(), group, file, depth - 1, found);
        }
    }
}

/// The value of the first of `files` that the domain's cgroup has.
pub fn cgroup_value(lab: &Lab, driver: &str, domain: &str, files: &[&str]) -> Option<String> {
    let path = files.iter().find_map(|file| cgroup_files(lab, driver, domain, file).into_iter().next())?;
    Some(fs::read_to_string(path).unwrap().trim().to_string())
}
