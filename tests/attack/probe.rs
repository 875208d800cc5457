//! Code of this program that runs as a container's init: what a shell cannot ask.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use domus::lxc::spec::{Mount, MountSource, Spec};

use crate::lxc_support::*;

const VARIABLE: &str = "DOMUS_PROBE";

/// Not a test of its own: the entry inside. Without the variable there is nothing to do.
#[test]
fn inside() {
    match std::env::var(VARIABLE).as_deref() {
        Ok("calls") => crate::kernel::calls_inside(),
        Ok("keyring") => crate::descriptors::keyring_inside(),
        Ok("watch-entering") => crate::entry::watch_inside(),
        Ok("clear-death-signal") => crate::start::clear_death_signal_inside(),
        Ok(other) => panic!("no probe {other}"),
        Err(_) => {}
    }
}

/// Makes the container's init this program, at probe `name`.
pub fn becomes_init(spec: &mut Spec, dir: &Path, name: &str) {
    let root = dir.join("root");
    let mut mount = |source: &Path, target: &str| {
        let source = MountSource::Dir { path: source.to_path_buf() };
        spec.mounts.push(Mount { source, target: target.into(), readonly: true });
    };
    mount(&std::env::current_exe().unwrap(), "/probe");
    // The C library, where the host has it.
    for name in ["usr", "lib", "lib64"] {
        let host = Path::new("/").join(name);
        match fs::read_link(&host) {
            Ok(target) => symlink(target, root.join(name)).unwrap(),
            Err(_) if host.is_dir() => mount(&host, &format!("/{name}")),
            Err(_) => {}
        }
    }
    spec.init.argv = ["/probe", "--exact", "probe::inside", "--nocapture", "--test-threads=1"].map(Into::into).into();
    spec.init.env.push((VARIABLE.into(), name.into()));
}

/// Runs a probe to its end; the lines it printed that begin with `: `.
pub fn run(name: &str, change: impl FnOnce(&mut Spec, &Path)) -> Vec<String> {
    let (record, log) = run_script("", |spec, dir| {
        change(spec, dir);
        becomes_init(spec, dir, name);
    });
    assert_eq!(record.message, None, "{log}");
    answers(&log)
}

pub fn answers(log: &str) -> Vec<String> {
    log.lines()
        .filter_map(|line| Some(line.split_once(": ")?.1.trim().to_string()).filter(|_| line.starts_with(':')))
        .collect()
}

/// Prints a line for [`answers`].
pub fn say(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(format!("\n:: {text}\n").as_bytes());
}
