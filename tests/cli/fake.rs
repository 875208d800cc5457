//! A server with two drivers and a console, as small as the client allows.
//!
//! Domains: `same` (id 1) in both drivers, `vm` (id 2) in QEMU, `box` (shut off) in LXC.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use tempfile::TempDir;
use zbus::{OwnedFd, OwnedObjectPath};

use super::harness::{Out, at};

/// (root, name, id, number in the UUID)
const DOMAINS: [(&str, &str, u32, u32); 4] =
    [("QEMU", "same", 1, 1), ("QEMU", "vm", 2, 2), ("LXC", "same", 1, 3), ("LXC", "box", 0, 4)];

pub fn uuid(number: u32) -> String {
    format!("00000000-0000-0000-0000-{number:012}")
}

fn path(root: &str, number: u32) -> String {
    format!("/org/libvirt/{root}/domain/_{}", uuid(number).replace('-', "_"))
}

/// The server; it ends with the test's process.
pub struct Fake {
    dir: TempDir,
}

impl Fake {
    pub fn new() -> Fake {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("r/run")).unwrap();
        let listener = UnixListener::bind(dir.path().join("r/run/dbus-sock")).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let mut connections = Vec::new();
            for stream in listener.incoming() {
                // A client that goes away during the handshake is none of the others' concern.
                connections.extend(runtime.block_on(serve(stream.unwrap())));
            }
        });
        Fake { dir }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("r")
    }

    pub fn run(&self, words: &[&str]) -> Out {
        at(&self.root(), words)
    }
}

async fn serve(stream: UnixStream) -> Option<zbus::Connection> {
    let guid = zbus::Guid::generate();
    let mut builder = zbus::connection::Builder::unix_stream(stream).server(guid).p2p().serve_at("/org/domus", Daemon);
    for root in ["QEMU", "LXC"] {
        builder = builder.serve_at(format!("/org/libvirt/{root}"), Connect { root });
    }
    for (root, name, id, number) in DOMAINS {
        builder = builder.serve_at(path(root, number), Domain { name, id, number });
        builder = builder.serve_at(path(root, number), Console);
    }
    builder.build().await.ok()
}

/// What a failed call answers: `org.libvirt.Error`.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.libvirt")]
enum Failed {
    #[zbus(error)]
    ZBus(zbus::Error),
    Error(String),
}

struct Daemon;

#[zbus::interface(name = "org.domus.Daemon1")]
impl Daemon {
    #[zbus(property)]
    fn drivers(&self) -> Vec<String> {
        vec!["QEMU".into(), "LXC".into()]
    }
}

struct Connect {
    root: &'static str,
}

impl Connect {
    fn find(&self, matches: impl Fn(&str, u32) -> bool, what: &str) -> Result<OwnedObjectPath, Failed> {
        let found = DOMAINS.iter().find(|(root, name, id, _)| *root == self.root && matches(name, *id));
        let Some((root, _, _, number)) = found else {
            return Err(Failed::Error(format!("Domain not found: no domain with matching {what}")));
        };
        OwnedObjectPath::try_from(path(root, *number)).map_err(Failed::ZBus)
    }
}

#[zbus::interface(name = "org.libvirt.Connect")]
impl Connect {
    #[zbus(name = "DomainLookupByName")]
    fn by_name(&self, wanted: &str) -> Result<OwnedObjectPath, Failed> {
        self.find(|name, _| name == wanted, &format!("name '{wanted}'"))
    }

    #[zbus(name = "DomainLookupByID")]
    fn by_id(&self, wanted: i32) -> Result<OwnedObjectPath, Failed> {
        self.find(|_, id| id != 0 && i64::from(id) == i64::from(wanted), &format!("id {wanted}"))
    }

    /// A client that waits for events asks this once it listens; then it gets some.
    async fn list_domains(
        &self,
        flags: u32,
        #[zbus(connection)] connection: &zbus::Connection,
    ) -> Result<Vec<OwnedObjectPath>, Failed> {
        if flags == 0 && self.root == "QEMU" {
            emit(connection).await?;
        }
        let active = |id: u32| flags & 1 != 0 && id != 0 || flags & 2 != 0 && id == 0 || flags & 3 == 0;
        let mine = DOMAINS.iter().filter(|(root, _, id, _)| *root == self.root && active(*id));
        Ok(mine.map(|(root, _, _, number)| OwnedObjectPath::try_from(path(root, *number)).unwrap()).collect())
    }
}

/// A few events of `vm`, one of LXC's `same`, and one of a domain nobody can name any more.
async fn emit(connection: &zbus::Connection) -> Result<(), Failed> {
    const DOMAIN: &str = "org.libvirt.Domain";
    let vm = path("QEMU", 2);
    let life = |domain: String, event: i32, detail: i32| (OwnedObjectPath::try_from(domain).unwrap(), event, detail);
    let none = None::<&str>;
    for (root, number, event, detail) in [("QEMU", 2, 2, 0), ("LXC", 3, 5, 1), ("QEMU", 9, 1, 0)] {
        let body = life(path(root, number), event, detail);
        connection
            .emit_signal(none, format!("/org/libvirt/{root}"), "org.libvirt.Connect", "DomainEvent", &body)
            .await?;
    }
    connection.emit_signal(none, vm.as_str(), DOMAIN, "Reboot", &()).await?;
    connection.emit_signal(none, vm.as_str(), DOMAIN, "BalloonChange", &(4096u64,)).await?;
    connection.emit_signal(none, vm.as_str(), DOMAIN, "NotASignalWeKnow", &()).await?;
    connection.emit_signal(none, vm.as_str(), DOMAIN, "Watchdog", &(1i32,)).await?;
    Ok(())
}

struct Domain {
    name: &'static str,
    id: u32,
    number: u32,
}

#[zbus::interface(name = "org.libvirt.Domain")]
impl Domain {
    #[zbus(property)]
    fn name(&self) -> String {
        self.name.into()
    }

    #[zbus(property)]
    fn id(&self) -> u32 {
        self.id
    }

    #[zbus(property)]
    fn active(&self) -> bool {
        self.id != 0
    }

    #[zbus(property, name = "UUID")]
    fn uuid(&self) -> String {
        uuid(self.number)
    }

    fn get_state(&self, _flags: u32) -> (i32, i32) {
        if self.id == 0 { (5, 0) } else { (1, 1) }
    }
}

/// Answers every line with `got: LINE`, and hangs up on `bye`.
struct Console;

#[zbus::interface(name = "org.domus.Domain1")]
impl Console {
    fn open_console(&self, device: &str, _flags: u32) -> Result<OwnedFd, Failed> {
        if device == "none" {
            return Err(Failed::Error("operation failed: cannot find character device none".into()));
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || answer(ours));
        Ok(OwnedFd::from(std::os::fd::OwnedFd::from(theirs)))
    }
}

fn answer(mut stream: UnixStream) {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|count| count == 1) {
        if byte[0] != b'\n' && byte[0] != b'\r' {
            line.push(byte[0]);
            continue;
        }
        if line == b"bye" {
            return;
        }
        let text = format!("got: {}\r\n", String::from_utf8_lossy(&line));
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
        line.clear();
    }
}
