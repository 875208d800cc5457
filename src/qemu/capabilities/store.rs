//! Records on disk and in memory: one probe per installed binary, however often the daemon starts.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::probe::{Accel, assemble, query};
use super::{BinaryId, QemuCaps, RECORD_VERSION};
use crate::error::{Error, Result};
use crate::qemu::config::Identity;
use crate::qemu::qmp::Qmp;
use crate::sys::exec::{GuestSpec, Limit, spawn_guest};

/// A whole probe may take this long.
const PROBE_LIMIT: Duration = Duration::from_secs(40);

/// Capability records by emulator path.
#[derive(Debug)]
pub struct CapsStore {
    dir: PathBuf,
    known: Mutex<HashMap<String, Arc<QemuCaps>>>,
}

/// The binary behind a path, or `None` when there is none.
fn identify(path: &str) -> Result<Option<BinaryId>> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata,
        Ok(_) => return Ok(None),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(Error::system(format!("cannot look at emulator '{path}'"), error)),
    };
    Ok(Some(BinaryId {
        path: path.to_string(),
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.len(),
        mtime_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
    }))
}

/// Opens `/dev/kvm`; `None` when the host has no usable KVM.
pub fn open_kvm() -> Option<OwnedFd> {
    File::options().read(true).write(true).open("/dev/kvm").ok().map(OwnedFd::from)
}

impl CapsStore {
    /// `dir` is made on the first write.
    pub fn new(dir: PathBuf) -> Self {
        CapsStore { dir, known: Mutex::new(HashMap::new()) }
    }

    fn file(&self, path: &str) -> PathBuf {
        // Emulator paths are few; a readable, collision-free name is worth its length.
        let name: String =
            path.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' }).collect();
        self.dir.join(format!("{name}.json"))
    }

    /// The record of an emulator; `None` when it is not installed.
    ///
    /// Errors: `InternalError` when it is there but answers no questions.
    pub async fn get(&self, path: &str, identity: &Identity) -> Result<Option<Arc<QemuCaps>>> {
        let Some(id) = identify(path)? else { return Ok(None) };
        // Held during the probe: two first callers must not start it twice.
        let mut known = self.known.lock().await;
        let kvm = Path::new("/dev/kvm").exists();
        let fresh =
            |caps: &QemuCaps| caps.binary == id && caps.record_version == RECORD_VERSION && caps.kvm_device == kvm;
        if let Some(caps) = known.get(path).filter(|caps| fresh(caps)) {
            return Ok(Some(caps.clone()));
        }
        let file = self.file(path);
        if let Some(caps) = load(&file).filter(|caps| fresh(caps)) {
            let caps = Arc::new(caps);
            known.insert(path.to_string(), caps.clone());
            return Ok(Some(caps));
        }
        let started = Instant::now();
        let caps = Arc::new(probe(id, kvm, identity).await?);
        tracing::info!(emulator = path, version = %caps.version_text(), ms = started.elapsed().as_millis(), "probed QEMU");
        if let Err(error) = self.save(&file, &caps) {
            tracing::warn!(file = %file.display(), %error, "cannot keep the capability record; QEMU will be probed again");
        }
        known.insert(path.to_string(), caps.clone());
        Ok(Some(caps))
    }

    fn save(&self, file: &Path, caps: &QemuCaps) -> std::io::Result<()> {
        use std::io::Write;
        std::fs::create_dir_all(&self.dir)?;
        // A cache: losing it costs a probe, so rename is enough and fsync is not needed.
        let temporary = file.with_extension("new");
        let mut out = File::create(&temporary)?;
        out.write_all(&serde_json::to_vec(caps)?)?;
        drop(out);
        std::fs::rename(&temporary, file)
    }
}

fn load(file: &Path) -> Option<QemuCaps> {
    let bytes = std::fs::read(file).ok()?;
    serde_json::from_slice(&bytes).map_err(|error| tracing::debug!(%error, "old or broken capability record")).ok()
}

async fn probe(id: BinaryId, kvm: bool, identity: &Identity) -> Result<QemuCaps> {
    let path = id.path.clone();
    let path = path.as_str();
    let run = |accel: Accel| async move {
        let machine = ["-machine".to_string(), "none".to_string()];
        ask_one(path, accel, identity, &machine, async |qmp| query(&qmp).await).await
    };
    let with_kvm = async {
        if !kvm {
            return None;
        }
        match run(Accel::Kvm).await {
            Ok(answers) => Some(Ok((answers, Accel::Kvm))),
            Err(error) => {
                tracing::debug!(%error, "KVM by descriptor cannot be used; trying by path");
                Some(run(Accel::KvmByPath).await.map(|answers| (answers, Accel::KvmByPath)))
            }
        }
    };
    let (tcg, kvm_answers) = tokio::join!(run(Accel::Tcg), with_kvm);
    let (kvm_answers, accel) = match kvm_answers {
        Some(Ok((answers, accel))) => (Some(answers), accel),
        Some(Err(error)) => {
            tracing::info!(emulator = id.path, %error, "KVM cannot be used");
            (None, Accel::Kvm)
        }
        None => (None, Accel::Kvm),
    };
    let tcg = match tcg {
        Ok(answers) => Some(answers),
        Err(error) if kvm_answers.is_none() => return Err(error),
        Err(_) => None,
    };
    let mut caps = assemble(id, tcg.as_ref(), kvm_answers.as_ref())?;
    caps.kvm_device = kvm;
    caps.kvm_by_path = accel == Accel::KvmByPath;
    verify_host_model(&mut caps, accel, identity).await;
    Ok(caps)
}

/// Starts one machine with KVM's host-model. A host that is itself a guest may offer a CPU whose model specific
/// registers it then refuses, and QEMU aborts on that: the feature behind it is then left out.
async fn verify_host_model(caps: &mut QemuCaps, accel: Accel, identity: &Identity) {
    const SUSPECTS: [&str; 1] = ["arch-capabilities"];
    let Some(machine) = caps.default_machine().map(|machine| machine.name.clone()) else { return };
    let path = caps.binary.path.clone();
    let Some(model) = caps.kvm.as_mut().and_then(|kvm| kvm.host_model.as_mut()) else { return };
    for attempt in 0..=SUSPECTS.len() {
        let arguments = ["-machine".into(), machine.clone(), "-cpu".into(), model.for_qemu()];
        let greet = async |qmp: Qmp| qmp.negotiate(Duration::from_secs(30)).await.map(drop);
        match ask_one(&path, accel, identity, &arguments, greet).await {
            Ok(()) => return,
            Err(error) => {
                let Some(suspect) = SUSPECTS.get(attempt) else {
                    tracing::warn!(emulator = path, %error, "KVM guests with a host-model CPU will not start here");
                    return;
                };
                tracing::info!(
                    emulator = path,
                    feature = suspect,
                    "QEMU cannot start with the host's CPU; leaving a feature out"
                );
                model.features.retain(|(name, _)| name != suspect);
                model.features.push(((*suspect).to_string(), false));
            }
        }
    }
}

/// Starts a QEMU that runs no guest code under one accelerator and asks it.
async fn ask_one<T>(
    path: &str,
    accel: Accel,
    identity: &Identity,
    machine: &[String],
    ask: impl AsyncFnOnce(Qmp) -> Result<T>,
) -> Result<T> {
    let failed = |text: String| Error::internal(format!("Failed to probe QEMU binary with QMP: '{path}': {text}"));
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(|error| failed(error.to_string()))?;
    ours.set_nonblocking(true).map_err(|error| failed(error.to_string()))?;
    let output = rustix::fs::memfd_create("qemu-probe", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|errno| failed(errno.to_string()))?;
    let mut log = File::from(output.try_clone().map_err(|error| failed(error.to_string()))?);
    let mut argv: Vec<String> =
        [path, "-S", "-no-user-config", "-nodefaults", "-display", "none"].map(String::from).into();
    argv.extend(machine.iter().cloned());
    argv.extend([
        "-chardev".into(),
        "socket,id=monitor,fd=3".into(),
        "-mon".into(),
        "chardev=monitor,mode=control".into(),
    ]);
    let mut fds = vec![(3, OwnedFd::from(theirs))];
    if accel == Accel::Kvm {
        // By descriptor: whether the QEMU user may open /dev/kvm itself does not matter.
        let device = open_kvm().ok_or_else(|| failed("cannot open /dev/kvm".into()))?;
        fds.push((4, device));
        argv.extend(["-add-fd".into(), "set=0,fd=4".into(), "-accel".into(), "kvm,device=/dev/fdset/0".into()]);
    } else {
        argv.extend(["-accel".into(), accel.name().into()]);
    }
    let spec = GuestSpec {
        argv,
        env: Vec::new(),
        uid: Some(identity.uid),
        gid: Some(identity.gid),
        groups: identity.groups.clone(),
        umask: 0o077,
        limits: vec![(Limit::Core, 0)],
        working_dir: "/".into(),
        fds,
        output,
        cgroup_procs: Vec::new(),
        pidfile: None,
        no_new_privs: true,
    };
    let process = tokio::task::spawn_blocking(move || spawn_guest(spec))
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))?;
    let stream = UnixStream::from_std(ours).map_err(|error| failed(error.to_string()))?;
    let (qmp, _events) = Qmp::start(stream);
    let answers = tokio::time::timeout(PROBE_LIMIT, ask(qmp)).await;
    let _ = process.pidfd.kill(crate::qemu::process::SIGKILL);
    let _ = process.pidfd.wait().await;
    match answers {
        Ok(Ok(answers)) => Ok(answers),
        other => {
            let mut said = String::new();
            let _ = log.rewind();
            let _ = log.by_ref().take(4096).read_to_string(&mut said);
            let _ = log.as_fd();
            let why = match other {
                Ok(Err(error)) => error.message(),
                _ => format!("no answer within {} s", PROBE_LIMIT.as_secs()),
            };
            Err(failed(format!("{why} {}", crate::types::text::printable(said.trim(), 1000))))
        }
    }
}
