//! A message bus of a test's own.

use std::process::{Child, Command, Stdio};

use super::{DEADLINE, Lab, eventually, program, skip, test_name};

/// A bus daemon of this test's own.
#[derive(Debug)]
pub struct BusDaemon {
    process: Child,
    pub address: String,
}

impl BusDaemon {
    /// `None`, said aloud, where there is none.
    pub fn start(lab: &Lab) -> Option<BusDaemon> {
        let Some(path) = program("dbus-daemon") else {
            skip(&test_name(), "dbus-daemon is not installed (scripts/setup.sh)");
            return None;
        };
        let socket = lab.work().join("bus");
        let address = format!("unix:path={}", socket.display());
        let config = lab.write(
            "bus.conf",
            &format!(
                "<busconfig><type>session</type><listen>{address}</listen><auth>EXTERNAL</auth>\
                 <policy context='default'><allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/>\
                 <allow own='*'/><allow user='*'/></policy></busconfig>"
            ),
        );
        let process = Command::new(path)
            .args(["--nofork", "--nopidfile", &format!("--config-file={config}")])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the bus", DEADLINE, || std::os::unix::net::UnixStream::connect(&socket).ok());
        Some(BusDaemon { process, address })
    }
}

impl Drop for BusDaemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
