//! The dnsmasq process of a network: DHCP, router advertisements and DNS.
//!
//! It outlives the daemon. It is known by the pid and start time that it wrote itself into `server.pid` of the network's
//! run directory before it ran dnsmasq; it is ready when dnsmasq has written its own pid file, which it does after it
//! bound its sockets. It binds as root, then runs as a user of its own with the capabilities that DHCP needs.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Subsystem};
use crate::net::bridge::sysctl;
use crate::sys::exec::{GuestSpec, spawn_guest};
use crate::sys::process::{self, PidFd};
use crate::sys::users;

/// In the run directory: the process that the daemon started.
pub(super) const PIDFILE: &str = "server.pid";
/// How long dnsmasq may take to bind its sockets; a loaded machine with many networks needs seconds.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to end when it is asked to.
const TERM_LIMIT: Duration = Duration::from_secs(5);
/// Who it runs as: the first of these that exists.
const USERS: [&str; 3] = ["dnsmasq", "libvirt-dnsmasq", "nobody"];

/// What is run, and the files it reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSpec {
    /// Name of the network, for errors.
    pub network: String,
    /// Run directory of the network; dnsmasq's user must be able to get there, because it reads hosts again later.
    pub dir: PathBuf,
    /// dnsmasq's configuration file; must be among `files`.
    pub conf: PathBuf,
    /// dnsmasq's own `pid-file` of that configuration.
    pub ready: PathBuf,
    /// Files (below `dir`) and their text.
    pub files: Vec<(PathBuf, String)>,
    /// The lease file of the configuration, whose directory is made; it is kept when the network stops.
    pub leases: Option<PathBuf>,
}

impl ServerSpec {
    /// Where the process writes who it is.
    pub fn pidfile(&self) -> PathBuf {
        self.dir.join(PIDFILE)
    }

    fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    fn failed(&self, what: &str, path: &Path, error: std::io::Error) -> Error {
        let network = &self.network;
        Error::system(format!("network '{network}': cannot {what} '{}'", path.display()), error)
            .with_subsystem(Subsystem::Network)
    }

    /// Whether `other` differs in hosts at most.
    pub fn same_configuration(&self, other: &ServerSpec) -> bool {
        let conf = |spec: &ServerSpec| spec.files.iter().find(|(path, _)| *path == spec.conf).cloned();
        self.dir == other.dir && self.leases == other.leases && conf(self) == conf(other)
    }

    /// Writes the files. True when one of them has another text than before.
    pub fn write_files(&self) -> Result<bool> {
        make_dir(&self.dir).map_err(|error| self.failed("make directory", &self.dir, error))?;
        let mut changed = false;
        for (path, text) in &self.files {
            changed |= replace(path, text).map_err(|error| self.failed("write", path, error))?;
        }
        Ok(changed)
    }
}

fn make_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)
}

/// Replaces a file of the run directory, which dnsmasq's user reads. A crash leaves the old one or the new one.
pub(super) fn replace(path: &Path, text: &str) -> std::io::Result<bool> {
    if std::fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(false);
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o644).open(&new)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&new, path)
    };
    let written = write();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written.map(|()| true)
}

/// Starts dnsmasq and returns when it serves. The step for its pid file must be recorded before. On error no process is
/// left. Errors: code 1 with what dnsmasq said.
pub async fn start(dnsmasq: &Path, spec: &ServerSpec) -> Result<PidFd> {
    // Its pid file is about to be written over.
    stop(&spec.pidfile()).await?;
    match start_once(dnsmasq, spec).await {
        // Each dnsmasq takes an inotify instance, of which a user has 128 unless the host says otherwise.
        Err(error) if error.detail.contains("failed to create inotify") => match raise_inotify_limit() {
            Ok((old, new)) => {
                tracing::warn!(
                    network = spec.network,
                    "raised the sysctl fs.inotify.max_user_instances from {old} to {new}"
                );
                start_once(dnsmasq, spec).await
            }
            Err(cause) => Err(Error {
                detail: format!(
                    "{} (raise the sysctl fs.inotify.max_user_instances; doing so here failed: {})",
                    error.detail, cause.detail
                ),
                ..error
            }),
        },
        other => other,
    }
}

/// Raises the number of inotify instances that a user may have. Returns the old and the new number.
fn raise_inotify_limit() -> Result<(u32, u32)> {
    const KEY: &str = "fs/inotify/max_user_instances";
    const LIMIT: u32 = 8192;
    let now = std::fs::read_to_string(Path::new("/proc/sys").join(KEY)).unwrap_or_default();
    let old: u32 = now.trim().parse().unwrap_or(128);
    if old >= LIMIT {
        return Err(Error::internal(format!("it is {old} already")));
    }
    let new = old.saturating_mul(2).clamp(1024, LIMIT);
    sysctl(KEY, &new.to_string())?;
    Ok((old, new))
}

async fn start_once(dnsmasq: &Path, spec: &ServerSpec) -> Result<PidFd> {
    let (program, owned) = (dnsmasq.to_path_buf(), spec.clone());
    let started = tokio::task::spawn_blocking(move || launch(&program, &owned));
    let process = started.await.unwrap_or_else(|error| Err(Error::internal(error.to_string())))?;
    match wait_ready(spec, &process).await {
        Ok(()) => Ok(process),
        Err(error) => {
            // Killing what is gone already is no error.
            let _ = process.kill(nix::libc::SIGKILL);
            let _ = process.wait().await;
            let _ = std::fs::remove_file(spec.pidfile());
            Err(error)
        }
    }
}

fn launch(dnsmasq: &Path, spec: &ServerSpec) -> Result<PidFd> {
    spec.write_files()?;
    if let Some(dir) = spec.leases.as_deref().and_then(Path::parent) {
        make_dir(dir).map_err(|error| spec.failed("make directory", dir, error))?;
    }
    match std::fs::remove_file(&spec.ready) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(spec.failed("remove", &spec.ready, error));
        }
        _ => {}
    }
    let open = |path: &Path| {
        let mut options = std::fs::OpenOptions::new();
        let opened = options.write(true).create(true).truncate(true).mode(0o644).open(path);
        opened.map_err(|error| spec.failed("write", path, error))
    };
    let mut argv = vec![
        dnsmasq.display().to_string(),
        format!("--conf-file={}", spec.conf.display()),
        "--keep-in-foreground".to_string(),
    ];
    if nix::unistd::geteuid().is_root() {
        let account = USERS.iter().find_map(|name| users::account(name).ok().flatten());
        let (user, group) = match account.filter(|_| everybody_passes(&spec.dir)) {
            Some(account) => (account.name, users::group_name(account.gid)),
            None => {
                let (network, dir) = (&spec.network, spec.dir.display());
                tracing::warn!(network, "dnsmasq runs as root: no other user could read its files in '{dir}'");
                ("root".to_string(), "root".to_string())
            }
        };
        argv.extend([format!("--user={user}"), format!("--group={group}")]);
    }
    let process = spawn_guest(GuestSpec {
        argv,
        env: vec![],
        uid: None,
        gid: None,
        groups: vec![],
        umask: 0o022,
        limits: vec![],
        working_dir: "/".into(),
        fds: vec![],
        output: open(&spec.log())?.into(),
        cgroup_procs: vec![],
        pidfile: Some(open(&spec.pidfile())?.into()),
        no_new_privs: true,
    })
    .map_err(|error| Error::from(error).with_subsystem(Subsystem::Network))?;
    Ok(process.pidfd)
}

/// Whether every user can get to the directory.
fn everybody_passes(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    dir.ancestors().all(|part| std::fs::metadata(part).is_ok_and(|meta| meta.mode() & 1 == 1))
}

async fn wait_ready(spec: &ServerSpec, process: &PidFd) -> Result<()> {
    let pid = process.pid().to_string();
    let deadline = tokio::time::Instant::now() + READY_LIMIT;
    let network = &spec.network;
    loop {
        if std::fs::read_to_string(&spec.ready).is_ok_and(|text| text.trim() == pid) {
            return Ok(());
        }
        if let Some(exit) = process.try_reap() {
            let log = std::fs::read_to_string(spec.log()).unwrap_or_default();
            let said: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            let said = match said.is_empty() {
                true => exit.to_string(),
                false => said.join("; "),
            };
            return Err(Error::internal(format!(
                "network '{network}': dnsmasq did not start: {said} (its configuration is {})",
                spec.conf.display()
            ))
            .with_subsystem(Subsystem::Network));
        }
        if tokio::time::Instant::now() > deadline {
            return Err(Error::internal(format!("network '{network}': dnsmasq was not ready within {READY_LIMIT:?}"))
                .with_subsystem(Subsystem::Network));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The process that wrote this pid file, if it still runs: after a restart of the daemon, how it finds its servers.
pub fn running(pidfile: &Path) -> Option<PidFd> {
    let text = std::fs::read_to_string(pidfile).ok()?;
    let mut fields = text.split_whitespace();
    let (pid, start) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    process::open_verified(pid, start).filter(|process| !process.has_ended())
}

/// Ends the process of this pid file: asked first, so that it finishes the lease file it may be writing. None is no
/// error.
pub async fn stop(pidfile: &Path) -> Result<()> {
    let fail = |error| {
        Error::system(format!("cannot end the dnsmasq of '{}'", pidfile.display()), error)
            .with_subsystem(Subsystem::Network)
    };
    if let Some(process) = running(pidfile) {
        process.kill(nix::libc::SIGTERM).map_err(fail)?;
        if tokio::time::timeout(TERM_LIMIT, process.wait()).await.is_err() {
            process::kill_recorded(pidfile).await.map_err(fail)?;
        }
    }
    match std::fs::remove_file(pidfile) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(fail(error)),
        _ => Ok(()),
    }
}

/// Writes the files and makes the running server read hosts again. dnsmasq reads ranges and options only once: for
/// those it must be restarted. True when a server was told.
pub fn reload(spec: &ServerSpec) -> Result<bool> {
    spec.write_files()?;
    let Some(process) = running(&spec.pidfile()) else { return Ok(false) };
    process.kill(nix::libc::SIGHUP).map_err(|error| spec.failed("tell the server of", &spec.pidfile(), error))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::AddressSpec;
    use crate::net::bridge::{BridgeSpec, create};
    use crate::sys::testing::in_netns_async;

    const DNSMASQ: &str = "/usr/sbin/dnsmasq";

    fn spec(dir: &Path, extra: &str) -> ServerSpec {
        let dir = dir.join("run/default");
        let (conf, ready, hosts) = (dir.join("conf"), dir.join("ready"), dir.join("hosts"));
        let leases = dir.with_file_name("leases/default.leases");
        let text = format!(
            "strict-order\nno-resolv\npid-file={}\nexcept-interface=lo\nbind-dynamic\ninterface=virbr0\n\
             dhcp-range=192.168.122.2,192.168.122.254,255.255.255.0\ndhcp-hostsfile={}\ndhcp-leasefile={}\n{extra}",
            ready.display(),
            hosts.display(),
            leases.display()
        );
        let files = vec![(conf.clone(), text), (hosts, "52:54:00:00:00:01,192.168.122.9,one\n".into())];
        ServerSpec { network: "default".into(), dir, conf, ready, files, leases: Some(leases) }
    }

    async fn bridge() {
        let spec = BridgeSpec {
            name: "virbr0".into(),
            mac: "52:54:00:00:00:10".parse().unwrap(),
            addresses: vec![AddressSpec::new("192.168.122.1", 24)],
            ..BridgeSpec::default()
        };
        create(&spec).await.unwrap();
    }

    #[test]
    fn a_server_starts_is_found_again_and_stops() {
        let dnsmasq = Path::new(DNSMASQ);
        if !dnsmasq.exists() {
            return eprintln!("SKIP a_server_starts: {DNSMASQ} is not installed");
        }
        in_netns_async("a_server_starts", async || {
            let temp = tempfile::tempdir().unwrap();
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(temp.path(), open).unwrap();
            let spec = spec(temp.path(), "");
            bridge().await;
            let process = start(dnsmasq, &spec).await.unwrap();
            assert_eq!(running(&spec.pidfile()).unwrap().pid(), process.pid());
            if let Some(account) = USERS.iter().find_map(|name| users::account(name).ok().flatten()) {
                let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
                let uid = status.lines().find(|line| line.starts_with("Uid:")).unwrap().to_string();
                assert!(uid.contains(&account.uid.to_string()), "{uid}");
            }
            assert!(reload(&spec).unwrap());
            stop(&spec.pidfile()).await.unwrap();
            assert!(process.has_ended() && running(&spec.pidfile()).is_none());
            assert!(!reload(&spec).unwrap());
            stop(&spec.pidfile()).await.unwrap();
        });
    }

    #[test]
    fn what_dnsmasq_says_is_the_error() {
        let dnsmasq = Path::new(DNSMASQ);
        if !dnsmasq.exists() {
            return eprintln!("SKIP what_dnsmasq_says: {DNSMASQ} is not installed");
        }
        in_netns_async("what_dnsmasq_says", async || {
            let temp = tempfile::tempdir().unwrap();
            let spec = spec(temp.path(), "no-such-option\n");
            let error = start(dnsmasq, &spec).await.unwrap_err();
            assert!(error.message().contains("bad option at line 10 of"), "{error}");
            assert!(!spec.pidfile().exists() && running(&spec.pidfile()).is_none());
            let error = start(Path::new("/nonexistent/dnsmasq"), &spec).await.unwrap_err();
            assert!(error.message().contains("/nonexistent/dnsmasq"), "{error}");
        });
    }
}
