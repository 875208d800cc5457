//! Over a message bus instead of the daemon's own socket.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::harness::{DEADLINE, Lab, domus, run};

/// A private bus; killed with the test.
struct Bus {
    daemon: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Bus {
    /// `None`, said aloud, where there is no bus daemon to run.
    fn new() -> Option<Bus> {
        let program = ["/usr/bin/dbus-daemon", "/bin/dbus-daemon"].into_iter().find(|path| Path::new(path).exists());
        let Some(program) = program else {
            eprintln!("SKIP cli::bus: no dbus-daemon on this machine");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("bus");
        let address = format!("unix:path={}", socket.display());
        let configuration = dir.path().join("conf");
        let text = format!(
            "<busconfig><type>session</type><listen>{address}</listen><auth>EXTERNAL</auth><policy context='default'>\
             <allow user='*'/><allow own='*'/><allow send_destination='*'/><allow receive_sender='*'/></policy></busconfig>"
        );
        std::fs::write(&configuration, text).unwrap();
        let daemon = Command::new(program)
            .arg(format!("--config-file={}", configuration.display()))
            .arg("--nofork")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let bus = Bus { daemon, address, _dir: dir };
        let end = Instant::now() + DEADLINE;
        while !socket.exists() {
            assert!(Instant::now() < end, "the bus does not start");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Some(bus)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[test]
fn a_bus_serves_as_well() {
    let Some(bus) = Bus::new() else { return };
    let on_bus = |words: &[&str]| run(domus().args(["--bus", &bus.address]).args(words), "");
    let out = on_bus(&["list"]);
    let nobody = "no daemon owns the name org.libvirt on this bus; start domusd with --system, --session or --bus";
    assert_eq!((out.code, out.stderr), (Some(1), format!("error: {nobody}\n")));

    let lab = Lab::with(&["--bus", &bus.address]);
    let end = Instant::now() + DEADLINE;
    while on_bus(&["uri"]).code != Some(0) {
        assert!(Instant::now() < end, "{}", lab.log());
    }
    assert_eq!(on_bus(&["uri"]).stdout, "test:///default\n\n");
    lab.define("vm1");
    assert_eq!(on_bus(&["list", "--all", "--name"]).stdout, "vm1\n\n");

    // Signals come over the bus too: a client that waits there hears what another does on the socket.
    let waiting = domus()
        .args(["--bus", &bus.address, "event", "--event", "lifecycle", "--timeout", "20"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut waiting = Some(waiting);
    let end = Instant::now() + DEADLINE;
    // It says nothing when it is ready, so make things happen until it has heard one of them.
    while waiting.as_mut().unwrap().try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "no event");
        lab.ok(&["start", "vm1"]);
        lab.ok(&["destroy", "vm1"]);
    }
    let out = super::harness::finish(waiting.take().unwrap());
    assert_eq!((out.code, out.stderr.as_str()), (Some(0), ""));
    assert!(out.stdout.starts_with("event 'lifecycle' for domain 'vm1': "), "{}", out.stdout);
}
