//! Starting a guest.
//!
//! ```text
//! prepare (live copy, chains, ports) -> plan -> preflight -> undo record -> owners -> cgroup -> taps -> files, sockets
//!   -> spawn (paused, -S) -> QMP -> settings only a running QEMU takes -> cont
//! ```
//!
//! Everything a step makes is in the undo record before it is made; on error nothing is cleaned up here but what holds
//! no name (descriptors), the engine undoes the record.

mod describe;
mod files;
mod monitor;
pub mod native;
mod ports;
mod prepare;
mod resources;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::capabilities::QemuCaps;
use super::command::{self, CommandPlan, Context, FdKind};
use super::config::{Identity, QemuConfig};
use super::instance::{self, NewInstance, QemuInstance};
use super::process::GuestProcess;
use crate::cgroup::Group;
use crate::domain_xml::DomainDef;
use crate::domain_xml::seclabel::check_models;
use crate::engine::driver::{Launched, Noted, StartRequest, UndoLog};
use crate::engine::state::{Phase, paused, running};
use crate::engine::undo::Step;
use crate::error::{Error, Result};
use crate::sys::exec::{GuestSpec, Limit, spawn_guest};
use crate::sys::fault;

pub use describe::describe;
pub(super) use monitor::throttle;
pub use ports::{PortGuard, Ports};
pub use prepare::expand_cpu;
pub use resources::pin;

/// Stands for the run directory where there is no run.
pub const DRY_RUN_DIR: &str = "/run/domus/qemu/RUN";

/// What all starts share.
#[derive(Debug)]
pub struct Shared {
    pub config: QemuConfig,
    pub ports: Arc<Ports>,
}

/// What a re-attach needs; the driver's part of the status record.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct RunState {
    pub version: u32,
    pub pid: i32,
    pub start_time: u64,
    pub boot_id: String,
    pub monitor: PathBuf,
    pub log: PathBuf,
    pub vcpu_threads: Vec<i32>,
    /// KiB.
    pub balloon: u64,
    /// TCP ports this run has reserved.
    pub ports: Vec<u16>,
    /// Path of the cgroup below the mount points.
    pub cgroup: String,
}

/// Version of [`RunState`] written now.
pub const STATE_VERSION: u32 = 1;

pub(super) fn fault_point(name: &str) -> Result<()> {
    fault::point(name).map_err(|error| Error::system(name, error))
}

/// What can be known before anything is made.
#[derive(Debug)]
struct Ready {
    live: DomainDef,
    ports: Vec<PortGuard>,
    plan: CommandPlan,
    owners: Vec<files::OwnerChange>,
}

/// Prepares, plans and checks. Looks at images, which may lie on a network file system: it blocks.
fn ready(shared: &Shared, caps: &QemuCaps, identity: &Identity, mut live: DomainDef, run_dir: &Path) -> Result<Ready> {
    check_models(&live.seclabels, &["dac"])?;
    let prepared = prepare::prepare(&mut live, caps, shared, identity, run_dir)?;
    let plan = plan(shared, caps, &live, &prepared)?;
    let owners = files::preflight(&live, &shared.config, identity)?;
    Ok(Ready { live, ports: prepared.ports, plan, owners })
}

fn plan(shared: &Shared, caps: &QemuCaps, live: &DomainDef, prepared: &prepare::Prepared) -> Result<CommandPlan> {
    let context = Context {
        caps,
        sandbox: shared.config.seccomp_sandbox,
        kvm_fd: prepared.kvm_fd,
        vhost: files::vhost_usable(),
        paper: false,
        now: prepare::now(),
    };
    command::plan(live, &context)
}

/// Starts a guest; see the module's text.
pub async fn launch(
    shared: &Arc<Shared>,
    caps: &Arc<QemuCaps>,
    identity: &Identity,
    start: &StartRequest,
    undo: &dyn UndoLog,
) -> Result<Launched> {
    let mut live = (*start.def).clone();
    live.id = Some(start.id);
    let work = (shared.clone(), caps.clone(), identity.clone(), start.run_dir.clone());
    let checked = move || ready(&work.0, &work.1, &work.2, live, &work.3);
    let Ready { mut live, ports, plan, owners } = tokio::task::spawn_blocking(checked)
        .await
        .map_err(|error| Error::internal(format!("cannot prepare the start: {error}")))??;

    let log = start.log_dir.join(format!("{}.log", live.name));
    let pidfile = start.run_dir.join("qemu.pid");
    let monitor = start.run_dir.join("qmp");
    let group_path = resources::group_path(&shared.config, &live, &start.run_id)?;
    // Undone from the end: the process goes first, images change hands when nobody writes to them any more.
    let mut steps: Vec<Step> = owners.iter().map(files::OwnerChange::step).collect();
    steps.push(Step::Cgroup { path: group_path.clone() });
    let macvtaps = resources::macvtaps(&live, &start.run_id).await?;
    for spec in macvtaps.iter().flatten() {
        steps.push(Step::Link { name: spec.name.clone(), alias: Some(spec.alias.clone()) });
        steps.push(Step::Link { name: spec.unfinished.clone(), alias: None });
    }
    steps.push(Step::Process { pidfile: pidfile.clone() });
    fault_point("start.undo")?;
    let noted = undo.push(steps).await?;

    fault_point("start.owner")?;
    files::give(&owners)?;
    let (group, cgroup_procs) = resources::group(&shared.config.cgroups, &live, &group_path, noted.clone()).await?;
    fault_point("start.tap")?;
    let mut taps = resources::taps(&mut live, &macvtaps).await?;
    fault_point("start.socket")?;
    let mut fds = Vec::new();
    let listener = files::listen(&monitor, 0o600)?;
    // Connected before the process exists: the greeting waits in the socket, and nothing has to poll.
    let connection = files::connect(&monitor)?;
    let mut listener = Some(listener);
    let mut secrets = files::secret_files(&live, &start.secrets)?;
    for planned in &plan.fds {
        let fd = match &planned.kind {
            FdKind::Monitor => listener.take().ok_or_else(|| Error::internal("two monitors planned"))?,
            FdKind::Tap { nic, .. } => match taps.get_mut(*nic) {
                Some(fds) if !fds.is_empty() => fds.remove(0),
                _ => return Err(Error::internal(format!("the tap of interface {nic} has too few queues"))),
            },
            FdKind::Secret { id } => {
                secrets.remove(id).ok_or_else(|| Error::internal(format!("nothing is known of secret '{id}'")))?
            }
            kind => files::open(kind, identity)?,
        };
        fds.push((planned.number, fd));
    }
    let output = files::open_log(&log)?;
    let log_start = files::write_header(&output, &plan, caps)?;

    let spec = guest_spec(&plan, fds, output, &pidfile, shared, identity, &start.run_dir)?;
    let process = spawn(GuestSpec { cgroup_procs, ..spec }, group.clone(), noted).await?;
    let pid = process.pid();
    resources::pin_emulator(&live, pid)?;
    tracing::info!(domain = %live.name, pid, "QEMU started");

    fault_point("start.qmp")?;
    let timeout = shared.config.monitor_timeout;
    let mut connected = monitor::connect(connection, &process, &log, log_start, timeout).await?;
    monitor::configure(&connected.qmp, &mut live).await?;
    let vcpu_threads = std::mem::take(&mut connected.vcpu_threads);
    resources::pin_vcpus(&live, &vcpu_threads)?;
    if !live.cputune.iothreadpin.is_empty() {
        resources::pin_iothreads(&live, &monitor::iothreads(&connected.qmp).await?)?;
    }

    let balloon = live.memory.current.unwrap_or(live.memory.size);
    let state = RunState {
        version: STATE_VERSION,
        pid,
        start_time: process.start_time(),
        boot_id: crate::sys::process::boot_id().map(str::to_string).unwrap_or_default(),
        monitor,
        log: log.clone(),
        vcpu_threads: vcpu_threads.clone(),
        balloon,
        ports: ports.iter().map(PortGuard::port).collect(),
        cgroup: group_path,
    };
    let state = serde_json::to_value(&state)
        .map_err(|error| Error::internal(format!("cannot write the run state: {error}")))?;
    fault_point("start.cont")?;
    let (phase, reason) = match start.paused {
        true => (Phase::Paused, paused::USER),
        false => {
            monitor::cont(&connected.qmp).await?;
            (Phase::Running, running::BOOTED)
        }
    };
    let new = NewInstance {
        facts: instance::facts(&live),
        process,
        qmp: Some(connected.qmp),
        vcpu_threads,
        balloon,
        log: Some(log),
        ports,
        group,
        cgroups: shared.config.cgroups.clone(),
        run_dir: Some(start.run_dir.clone()),
    };
    let (instance, events) = run(new, Some(connected.events));
    Ok(Launched { instance, live, phase, reason, state, events })
}

/// Makes the instance and the task that watches it.
pub(super) fn run(
    new: NewInstance,
    events: Option<super::qmp::Events>,
) -> (Arc<QemuInstance>, mpsc::UnboundedReceiver<crate::engine::driver::InstanceEvent>) {
    let instance = QemuInstance::new(new);
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(instance::watch(instance.clone(), None, events, sender));
    (instance, receiver)
}

fn guest_spec(
    plan: &CommandPlan,
    fds: Vec<(i32, OwnedFd)>,
    output: OwnedFd,
    pidfile: &Path,
    shared: &Shared,
    identity: &Identity,
    run_dir: &Path,
) -> Result<GuestSpec> {
    let home = run_dir.display().to_string();
    let mut env = vec![
        ("HOME".to_string(), home.clone()),
        ("XDG_DATA_HOME".to_string(), format!("{home}/.local/share")),
        ("XDG_CACHE_HOME".to_string(), format!("{home}/.cache")),
        ("XDG_CONFIG_HOME".to_string(), format!("{home}/.config")),
    ];
    env.extend(plan.env.iter().cloned());
    Ok(GuestSpec {
        argv: std::iter::once(plan.program.clone()).chain(plan.args.iter().cloned()).collect(),
        env,
        uid: Some(identity.uid),
        gid: Some(identity.gid),
        groups: identity.groups.clone(),
        umask: 0o002,
        limits: vec![(Limit::Core, 0), (Limit::OpenFiles, open_files(shared.config.max_files))],
        working_dir: "/".into(),
        fds,
        output,
        cgroup_procs: Vec::new(),
        pidfile: Some(files::create_private(pidfile)?),
        no_new_privs: true,
    })
}

async fn spawn(spec: GuestSpec, group: Group, noted: Noted) -> Result<GuestProcess> {
    let start = move || {
        // A destroy meanwhile waits for the pid in the file, and so finds the process.
        let _noted = noted;
        fault_point("start.spawn")?;
        let process = spawn_guest(spec);
        group.settled();
        process.map_err(|error| Error::internal(error.to_string()))
    };
    let process = tokio::task::spawn_blocking(start)
        .await
        .map_err(|error| Error::internal(format!("cannot start QEMU: {error}")))??;
    Ok(GuestProcess::new(process.pidfd))
}

/// The wanted number of open files, as far as the daemon's own hard limit lets it give it.
fn open_files(wanted: u64) -> u64 {
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    own.map_or(wanted, |own| wanted.min(own))
}

/// A planned command line without starting anything, on a copy of the definition.
pub fn dry_run(
    shared: &Shared,
    caps: &QemuCaps,
    identity: &Identity,
    def: &DomainDef,
    run_dir: &Path,
) -> Result<(DomainDef, CommandPlan)> {
    let mut live = def.clone();
    let prepared = prepare::prepare(&mut live, caps, shared, identity, run_dir)?;
    let plan = plan(shared, caps, &live, &prepared)?;
    Ok((live, plan))
}

pub use monitor::{client as monitor_client, iothreads, vcpu_threads};

#[cfg(test)]
mod tests;
