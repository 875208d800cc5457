//! Debian's own virsh, unmodified, on a lab's daemon.

use std::process::Command;

use super::{DEADLINE, Lab, Out, program, run, skip, test_name};

/// virsh on one of the daemon's sockets.
pub struct Virsh<'l> {
    lab: &'l Lab,
    pub uri: String,
}

impl<'l> Virsh<'l> {
    /// `None`, said aloud, where virsh is not installed.
    pub fn on(lab: &'l Lab, uri: &str, socket: &str) -> Option<Virsh<'l>> {
        if program("virsh").is_none() {
            skip(&test_name(), "virsh is not installed (libvirt-clients)");
            return None;
        }
        let (scheme, path) = uri.split_once("://").unwrap();
        let socket = lab.root().join("run").join(socket);
        Some(Virsh { lab, uri: format!("{scheme}+unix://{path}?socket={}", socket.display()) })
    }

    /// As [`Virsh::on`], for what is compared with virsh's own words: they are those of libvirt 11, `None` with older
    /// ones.
    pub fn of_11(lab: &'l Lab, uri: &str, socket: &str) -> Option<Virsh<'l>> {
        let virsh = Self::on(lab, uri, socket)?;
        let version = virsh.ok(&["--version"]);
        if version.split('.').next().and_then(|major| major.parse().ok()).is_some_and(|major: u32| major >= 11) {
            return Some(virsh);
        }
        skip(&test_name(), &format!("virsh {} has other words than libvirt 11's", version.trim()));
        None
    }

    /// `virsh -c URI ...`, ready to run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.program("virsh");
        command.args(["-c", &self.uri]).args(arguments);
        command
    }

    /// Another program where virsh runs.
    pub fn program(&self, path: &str) -> Command {
        self.lab.program(path)
    }

    /// Runs it, whatever comes of it.
    pub fn run(&self, arguments: &[&str]) -> Out {
        run(&mut self.command(arguments), DEADLINE)
    }

    /// Runs it, which must succeed; its output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let out = self.run(arguments);
        assert!(out.success(), "virsh {arguments:?}: {out:?}");
        out.stdout
    }

    /// Runs it, which must fail and say these words.
    pub fn fails(&self, arguments: &[&str], words: &str) {
        let out = self.run(arguments);
        assert!(!out.success() && out.stderr.contains(words), "virsh {arguments:?}: {out:?}");
    }
}
