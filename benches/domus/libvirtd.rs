//! libvirtd beside it, where it is installed: the same XML, its own directories, through its own Python module.

use std::process::{Child, Command};
use std::time::Duration;

use crate::table::{Samples, Table};
use crate::world::{nova_guest, nova_xml, own_namespaces};

const PYTHON: &str = "/usr/bin/python3";

/// Prints one line per sample: `name milliseconds`.
const SCRIPT: &str = r#"
import sys, time, libvirt
rounds, guest = int(sys.argv[1]), open(sys.argv[2]).read()
definition = open(sys.argv[3]).read()
libvirt.registerErrorHandler(lambda *a: None, None)
for _ in range(200):
    try:
        conn = libvirt.open("qemu:///system"); break
    except libvirt.libvirtError: time.sleep(0.05)
def timed(name, call):
    t = time.monotonic(); r = call(); print(name, (time.monotonic() - t) * 1000); return r
dom = conn.defineXML(guest)
dom.create(); dom.destroy()
for _ in range(rounds):
    timed("create", dom.create); timed("destroy", dom.destroy)
for _ in range(rounds * 100): timed("state", dom.state)
dom.undefine()
for n in range(rounds * 10):
    xml = definition.replace("bench-0", "bench-%d" % n).replace("aeb4-000000000000", "aeb4-%012x" % n)
    timed("define", lambda: conn.defineXML(xml))
"#;

/// A libvirtd of our own: its state is in a directory of ours, mounted over its own in this process's mount namespace only.
pub struct Libvirtd {
    pub base: std::path::PathBuf,
    daemon: Child,
    logger: Option<Child>,
}

const PLACES: [&str; 5] =
    ["/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt", "/etc/libvirt/qemu"];

impl Libvirtd {
    /// Errors: why there is none.
    pub fn start() -> Result<Libvirtd, String> {
        let libvirtd = "/usr/sbin/libvirtd";
        if !std::path::Path::new(libvirtd).exists() {
            return Err("libvirtd is not installed".into());
        }
        own_namespaces()?;
        let base = nix::unistd::mkdtemp("/tmp/domus-bench.XXXXXX").unwrap();
        std::fs::set_permissions(&base, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        for place in PLACES {
            if !std::path::Path::new(place).exists() && std::fs::create_dir_all(place).is_err() {
                return Err(format!("no {place}"));
            }
            let own = base.join(place.trim_start_matches('/'));
            std::fs::create_dir_all(&own).unwrap();
            nix::mount::mount(Some(&own), place, None::<&str>, nix::mount::MsFlags::MS_BIND, None::<&str>).unwrap();
        }
        let log = std::fs::File::create(base.join("log")).unwrap();
        let daemon = Command::new(libvirtd).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let logger = Command::new("/usr/sbin/virtlogd").spawn().ok();
        Ok(Libvirtd { base, daemon, logger })
    }

    pub fn pid(&self) -> u32 {
        self.daemon.id()
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        for process in [Some(&mut self.daemon), self.logger.as_mut()].into_iter().flatten() {
            let _ = process.kill();
            let _ = process.wait();
        }
        for place in PLACES.into_iter().rev() {
            let _ = nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH);
        }
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

pub fn measure(rounds: usize, table: &mut Table) {
    let module = Command::new(PYTHON).args(["-c", "import libvirt"]).output().is_ok_and(|out| out.status.success());
    if !module {
        eprintln!("SKIP libvirtd: python3-libvirt is not installed");
        return;
    }
    let libvirtd = match Libvirtd::start() {
        Ok(libvirtd) => libvirtd,
        Err(reason) => return eprintln!("SKIP libvirtd: {reason}"),
    };
    let base = libvirtd.base.as_path();
    let guest = base.join("guest.xml");
    std::fs::write(&guest, nova_guest(base)).unwrap();
    let definition = base.join("definition.xml");
    std::fs::write(&definition, nova_xml("bench-0", "2fbd1d85-719f-4be8-aeb4-000000000000", base)).unwrap();
    let out =
        Command::new(PYTHON).args(["-c", SCRIPT, &rounds.to_string()]).args([&guest, &definition]).output().unwrap();
    if out.status.success() {
        let text = String::from_utf8_lossy(&out.stdout);
        for (name, what) in [
            ("create", "libvirtd: start, same XML"),
            ("destroy", "libvirtd: destroy"),
            ("state", "libvirtd: getState, its own RPC"),
            ("define", "libvirtd: define, Nova's XML"),
        ] {
            let mut samples = Samples::default();
            for line in text.lines() {
                if let Some(number) = line.strip_prefix(name).and_then(|rest| rest.trim().parse::<f64>().ok()) {
                    samples.push(Duration::from_secs_f64(number / 1e3));
                }
            }
            table.alone(what, &samples);
        }
    } else {
        eprintln!("SKIP libvirtd: {}", String::from_utf8_lossy(&out.stderr).lines().last().unwrap_or("it failed"));
    }
}
