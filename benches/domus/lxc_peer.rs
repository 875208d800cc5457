//! The peer: `lxc-start` of the lxc project, on the same root, with the same kind of interface, where it is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::container::Root;

/// A container of the peer.
pub struct Peer {
    path: PathBuf,
    name: String,
}

impl Peer {
    pub fn new(base: &Path, name: &str, root: &Root, bridge: Option<&str>) -> Result<Peer, String> {
        for program in ["lxc-start", "lxc-stop"] {
            Command::new(program).arg("--version").output().map_err(|error| format!("{program}: {error}"))?;
        }
        let path = base.join("lxc");
        fs::create_dir_all(path.join(name)).unwrap();
        let network = match bridge {
            Some(bridge) => format!("lxc.net.0.type = veth\nlxc.net.0.link = {bridge}\nlxc.net.0.flags = up\n"),
            None => "lxc.net.0.type = empty\n".to_string(),
        };
        let config = format!(
            "lxc.uts.name = {name}\nlxc.rootfs.path = dir:{}\nlxc.init.cmd = /init /stamp\nlxc.autodev = 1\n\
             lxc.mount.auto = proc:mixed sys:ro\nlxc.apparmor.profile = unconfined\n{network}",
            root.0.display()
        );
        fs::write(path.join(name).join("config"), config).unwrap();
        let peer = Peer { path, name: name.to_string() };
        // Once, to know whether it works at all here.
        root.clear();
        let out = peer.command("lxc-start").output().unwrap();
        if !out.status.success() {
            return Err(format!("lxc-start fails here: {}", String::from_utf8_lossy(&out.stderr)));
        }
        root.stamp();
        peer.kill();
        Ok(peer)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-n", &self.name, "-P"]).arg(&self.path).stdin(Stdio::null());
        command
    }

    pub fn starting(&self) -> Command {
        self.command("lxc-start")
    }

    pub fn killing(&self) -> Command {
        let mut command = self.command("lxc-stop");
        command.arg("-k");
        command
    }

    pub fn start(&self) {
        let out = self.starting().output().unwrap();
        assert!(out.status.success(), "lxc-start: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// Kills it; how long that took.
    pub fn kill(&self) -> Duration {
        let begin = Instant::now();
        let out = self.killing().output().unwrap();
        assert!(out.status.success(), "lxc-stop: {}", String::from_utf8_lossy(&out.stderr));
        begin.elapsed()
    }

    /// The same for all of them at once.
    pub fn all(peers: &[Peer], what: impl Fn(&Peer) -> Command) {
        let running: Vec<_> = peers.iter().map(|peer| what(peer).spawn().unwrap()).collect();
        for mut child in running {
            assert!(child.wait().unwrap().success(), "the peer failed");
        }
    }
}
