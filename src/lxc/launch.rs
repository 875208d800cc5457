//! Starting a container, and finding it again.
//!
//! ```text
//! undo record -> id range -> cgroup with all limits -> plan -> supervisor from the sealed memfd -> Started
//! ```
//!
//! The supervisor makes the interfaces; their names are in the record before it runs.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::client::Client;
use super::driver::Shared;
use super::fork_server::wait_born;
use super::hostdev;
use super::instance::{LxcInstance, NewInstance};
use super::plan::{self, Host, Peers};
use super::protocol::{Birth, Cause, EXIT_RECORD_NAME, Event, ExitRecord, Running};
use super::spec::{Cgroups, IdMaps, Spec};
use crate::cgroup::{Controller, Group};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{CharKind, FilesystemType};
use crate::domain_xml::model::LxcShareKind;
use crate::domain_xml::os::IdRange;
use crate::domain_xml::seclabel::check_models;
use crate::engine::driver::{Launched, Reattached, RunRecord, StartRequest, UndoLog};
use crate::engine::state::{Phase, paused, running, shutoff};
use crate::engine::undo::Step;
use crate::error::{Code, Error, Result};
use crate::sys::{exec, fault, packet, process, weakened};

/// Version of [`RunState`] written now.
const STATE_VERSION: u32 = 1;
/// How long a supervisor may take to say how its container is before the record must do.
const STATUS_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);
const PIDFILE: &str = "supervisor.pid";

/// What a re-attach needs; the driver's part of the status record.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct RunState {
    pub version: u32,
    pub supervisor: i32,
    pub supervisor_start: u64,
    pub init: i32,
    pub init_start: u64,
    pub boot_id: String,
    pub cgroup: String,
}

/// What [`super::LxcDriver`]'s own undo steps say.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "undo", rename_all = "kebab-case")]
pub enum OwnStep {
    /// The id range of the run in this directory.
    Ids { run_dir: std::path::PathBuf },
}

fn fault_point(name: &str) -> Result<()> {
    fault::point(name).map_err(|error| Error::system(name, error))
}

/// Path of the run's cgroup below the mount points.
pub fn cgroup_path(shared: &Shared, def: &DomainDef, run_id: &str) -> Result<String> {
    let partition = def.resource.partition.as_deref().unwrap_or(&shared.config.partition);
    shared.cgroups.group_path(partition, &format!("lxc-{run_id}"))
}

/// Starts a container; see the module's text.
pub async fn launch(shared: &Arc<Shared>, start: &StartRequest, undo: &dyn UndoLog) -> Result<Launched> {
    let def = start.def.as_ref();
    let config = &shared.config;
    let own_ids =
        !config.privileged && !weakened("no-userns") && def.idmap.uids.is_empty() && def.idmap.gids.is_empty();
    let cgroup = cgroup_path(shared, def, &start.run_id)?;

    // What can be refused is refused before anything is made.
    check_models(&def.seclabels, &[])?;
    let mut host = Host {
        run_id: start.run_id.clone(),
        run_dir: start.run_dir.clone(),
        ids: None,
        overlay_dir: overlay_dir(shared, def),
        image_fstype: config.image_fstype.clone(),
        scratch_size: config.scratch_size,
        peers: peers(shared, def),
        cgroup: Cgroups::default(),
        log_max_size: config.log_max_size,
        log_backups: config.log_backups,
        hold: start.paused,
    };
    let dry = plan::plan(def, &host)?;

    let mut steps = Vec::new();
    if own_ids {
        let step = OwnStep::Ids { run_dir: start.run_dir.clone() };
        let data = serde_json::to_value(step).map_err(|error| Error::internal(error.to_string()))?;
        steps.push(Step::Driver { data });
    }
    steps.push(Step::Cgroup { path: cgroup.clone() });
    steps.extend(dry.nics.iter().map(|nic| Step::Link { name: nic.host.clone(), alias: Some(nic.alias.clone()) }));
    steps.push(Step::Process { pidfile: start.run_dir.join(PIDFILE) });
    let note = undo.pushing(steps);
    let prepared = {
        let (shared, start, def) = (shared.clone(), start.clone(), start.def.clone());
        let cgroup = cgroup.clone();
        blocking(move || {
            fault_point("start.undo")?;
            // Until the supervisor's pid file is there: a destroy meanwhile undoes all of it, not a half.
            let _noted = note()?;
            fault_point("start.ids")?;
            if own_ids {
                host.ids = Some(shared.config.ids.take(&start.run_dir)?);
            }
            fault_point("start.cgroup")?;
            let group = make_group(&shared, &def, &cgroup)?;
            let mut spec = plan::plan(&def, &host)?;
            let dirs = group.container(owner(spec.ids.as_ref()))?;
            spec.files = u32::try_from(start.files.len()).unwrap_or(0);
            spec.devices = def.hostdevs.iter().map(hostdev::node).collect::<Result<_>>()?;
            if !weakened("any-device") {
                group.restrict_devices(&spec.devices.iter().map(hostdev::rule).collect::<Vec<_>>())?;
            }
            spec.cgroup = Cgroups {
                inherit: Vec::new(),
                supervisor: Vec::new(),
                init: dirs.init,
                mount: dirs.guest.is_some(),
                guest: dirs.guest,
            };
            prepare_overlay(&def, &host)?;
            fault_point("start.spawn")?;
            let (ours, theirs) = packet::pair().map_err(|error| Error::system("cannot make a socket pair", error))?;
            spawn(&shared, &start, &def, &spec, theirs, dirs.supervisor)?;
            let process = wait_born(&ours, shared.config.start_timeout).inspect_err(|error| {
                if error.code == Code::OperationTimeout {
                    shared.fork_server.give_up();
                }
            })?;
            group.settled();
            Ok((spec, group, ours, process))
        })
        .await?
    };
    let (spec, group, socket, process) = prepared;
    tracing::info!(domain = %def.name, pid = process.pid, "container supervisor started");

    let (client, mut events) = Client::new(socket)?;
    fault_point("start.wait")?;
    let wait = wait_started(&mut events);
    let (state, held) = match tokio::time::timeout(config.start_timeout, wait).await {
        Ok(result) => result?,
        Err(_) => {
            return Err(Error::new(
                Code::OperationTimeout,
                format!("container '{}' did not start within {} s", def.name, config.start_timeout.as_secs()),
            ));
        }
    };
    let live = live(def, start.id, &spec, &state);
    let run_state = RunState {
        version: STATE_VERSION,
        supervisor: process.pid,
        supervisor_start: process.start_time,
        init: state.init,
        init_start: state.init_start,
        boot_id: process::boot_id().map(str::to_string).unwrap_or_default(),
        cgroup,
    };
    let run_state = serde_json::to_value(run_state).map_err(|error| Error::internal(error.to_string()))?;
    let new = NewInstance {
        def: &live,
        run_id: start.run_id.clone(),
        client,
        group,
        shared: shared.clone(),
        supervisor: process.pidfd,
        status: state,
        held,
    };
    let (instance, receiver) = LxcInstance::run(new, events);
    shared.remember(&live.name, &instance);
    let (phase, reason) = if held { (Phase::Paused, paused::STARTING_UP) } else { (Phase::Running, running::BOOTED) };
    Ok(Launched { instance, live, phase, reason, state: run_state, events: receiver })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal("a worker thread panicked").with_source(error)),
    }
}

fn owner(ids: Option<&IdMaps>) -> (u32, u32) {
    let first = |ranges: &[super::spec::IdRange]| {
        ranges.iter().find(|range| range.inside == 0).map_or(0, |range| range.outside)
    };
    ids.map_or((0, 0), |ids| (first(&ids.uid), first(&ids.gid)))
}

fn overlay_dir(shared: &Shared, def: &DomainDef) -> std::path::PathBuf {
    shared.config.overlay_dir.join(def.uuid.map(|uuid| uuid.to_string()).unwrap_or_default())
}

/// Directories for the changes to a template. They belong to the domain, not to the run: they stay.
fn prepare_overlay(def: &DomainDef, host: &Host) -> Result<()> {
    if !def.filesystems.iter().any(|fs| fs.kind == FilesystemType::Template) {
        return Ok(());
    }
    let failed = |error| Error::system(format!("cannot make '{}'", host.overlay_dir.display()), error);
    let mode = if weakened("open-overlay") { 0o755 } else { 0o700 };
    // Nobody but root may pass: inside are files of the container's root, set-user-id ones too.
    fs::DirBuilder::new().recursive(true).mode(mode).create(&host.overlay_dir).map_err(failed)?;
    for name in ["upper", "work"] {
        match fs::DirBuilder::new().mode(0o755).create(host.overlay_dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Init pids of the domains whose namespaces the definition shares.
fn peers(shared: &Shared, def: &DomainDef) -> Peers {
    let share = def.lxc_namespace.clone().unwrap_or_default();
    let pid = |share: Option<crate::domain_xml::model::LxcShare>| {
        let share = share.filter(|share| share.kind == Some(LxcShareKind::Name))?;
        shared.init_of(share.value.as_deref().unwrap_or_default())
    };
    Peers { net: pid(share.sharenet), ipc: pid(share.shareipc), uts: pid(share.shareuts) }
}

fn make_group(shared: &Shared, def: &DomainDef, path: &str) -> Result<Group> {
    use Controller::{Blkio, Cpu, Cpuacct, Cpuset, Devices, Freezer, Memory, Pids};
    let mut controllers = vec![Cpu, Cpuacct, Memory, Blkio, Pids, Freezer, Devices];
    let nodes = def.numatune.as_ref().and_then(|tune| tune.memory.as_ref()?.nodeset.clone());
    if def.vcpu.cpuset.is_some() || nodes.is_some() {
        controllers.push(Cpuset);
    }
    let group = shared.cgroups.create(path, &format!("Container {}", def.name), &controllers)?;
    if !weakened("no-pids-limit") {
        group.set_pids_max(Some(shared.config.max_processes))?;
    }
    let tune = &def.cputune;
    if let Some(shares) = tune.shares {
        group.set_cpu_shares(shares)?;
    }
    if tune.quota.is_some() || tune.period.is_some() {
        group.set_cpu_quota(tune.quota, tune.period)?;
    }
    if let Some(cpus) = &def.vcpu.cpuset {
        group.set_cpus(cpus)?;
    }
    if let Some(nodes) = nodes {
        group.set_mems(&nodes)?;
    }
    for device in &def.blkiotune.devices {
        group.set_blkio_device(&device.path, &crate::engine::limits::device_limits(device))?;
    }
    if let Some(weight) = def.blkiotune.weight {
        let weight = u16::try_from(weight)
            .map_err(|_| Error::unsupported_config(format!("<weight> {weight} is not between 100 and 1000")))?;
        group.set_blkio_weight(weight)?;
    }
    let bytes = |kib: u64| kib.saturating_mul(1024);
    // As in libvirt: without <hard_limit> the domain's memory is the limit.
    let memory = bytes(def.memtune.hard_limit.unwrap_or(def.memory.size));
    if memory > 0 {
        group.set_memory_limit(memory)?;
    }
    if let Some(soft) = def.memtune.soft_limit {
        group.set_memory_soft_limit(bytes(soft))?;
    }
    if let Some(swap) = def.memtune.swap_hard_limit {
        group.set_memory_swap_limit(bytes(swap), Some(memory))?;
    }
    Ok(group)
}

fn spawn(
    shared: &Shared,
    start: &StartRequest,
    def: &DomainDef,
    spec: &Spec,
    control: OwnedFd,
    groups: Vec<OwnedFd>,
) -> Result<()> {
    let text = serde_json::to_vec(spec).map_err(|error| Error::internal(error.to_string()))?;
    let failed = |what: &str, error: std::io::Error| Error::system(what, error);
    let plan = rustix::fs::memfd_create("domus-spec", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|errno| failed("cannot make a memfd", errno.into()))?;
    let mut plan = fs::File::from(plan);
    std::io::Write::write_all(&mut plan, &text).map_err(|error| failed("cannot write a memfd", error))?;
    let log = start.log_dir.join(format!("{}.log", def.name));
    let output = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&log)
        .map_err(|error| failed(&format!("cannot open log '{}'", log.display()), error))?;
    let pidfile = start.run_dir.join(PIDFILE);
    let pidfile = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&pidfile)
        .map_err(|error| failed(&format!("cannot create '{}'", pidfile.display()), error))?;
    let (dirs, doors): (Vec<OwnedFd>, Vec<OwnedFd>) = groups.into_iter().partition(exec::is_directory);
    let birth = Birth { name: def.name.clone(), born_in: !dirs.is_empty(), doors: doors.len() };
    // Closed here when they have gone: the connection is to end with the supervisor.
    let own: [OwnedFd; 4] = [plan.into(), control, output.into(), pidfile.into()];
    let fds = own.iter().chain(dirs.first()).chain(&doors).chain(start.files.iter());
    shared.fork_server.ask(&shared.sealed, &birth, &fds.map(AsFd::as_fd).collect::<Vec<_>>())
}

/// Waits until init runs, or is held.
async fn wait_started(events: &mut mpsc::UnboundedReceiver<Event>) -> Result<(Running, bool)> {
    loop {
        match events.recv().await {
            Some(Event::Started(running)) => return Ok((running, false)),
            Some(Event::Held(running)) => return Ok((running, true)),
            Some(Event::Ended(record)) => return Err(start_failure(record)),
            Some(_) => {}
            None => {
                return Err(Error::internal(
                    "guest failed to start: the supervisor ended without a word (see the domain's log)",
                ));
            }
        }
    }
}

/// The error for a container that ended before it ran.
pub fn start_failure(record: ExitRecord) -> Error {
    let text = record.message.unwrap_or_else(|| "init ended at once".to_string());
    Error::internal(format!("guest failed to start: {text}"))
}

/// The definition with what only a run knows.
fn live(def: &DomainDef, id: i32, spec: &Spec, running: &Running) -> DomainDef {
    let mut live = def.clone();
    live.id = Some(id);
    if let Some(maps) = &spec.ids {
        let convert = |ranges: &[super::spec::IdRange]| -> Vec<IdRange> {
            let one = |range: &super::spec::IdRange| IdRange {
                start: range.inside,
                target: range.outside,
                count: range.count,
            };
            ranges.iter().map(one).collect()
        };
        (live.idmap.uids, live.idmap.gids) = (convert(&maps.uid), convert(&maps.gid));
    }
    for (index, console) in live.consoles.iter_mut().enumerate() {
        console.info.alias.get_or_insert_with(|| format!("console{index}"));
        if let CharKind::Pty { path } = &mut console.source.kind {
            *path = running.ttys.get(index).cloned().filter(|tty| !tty.is_empty());
        }
    }
    for (index, (interface, nic)) in live.interfaces.iter_mut().zip(&spec.nics).enumerate() {
        interface.info.alias.get_or_insert_with(|| format!("net{index}"));
        interface.target.dev = Some(nic.host.clone());
        interface.guest.dev = Some(nic.guest.clone());
    }
    for (index, filesystem) in live.filesystems.iter_mut().enumerate() {
        filesystem.info.alias.get_or_insert_with(|| format!("fs{index}"));
    }
    for (index, hostdev) in live.hostdevs.iter_mut().enumerate() {
        hostdev.info.alias.get_or_insert_with(|| format!("hostdev{index}"));
    }
    live
}

/// Finds the container of a run again.
pub async fn reattach(shared: &Arc<Shared>, run: &RunRecord) -> Result<Reattached> {
    let state: RunState = serde_json::from_value(run.state.clone()).map_err(|error| {
        Error::internal(format!("cannot read the state of the run of '{}': {error}", run.live.name))
    })?;
    if state.version > STATE_VERSION {
        return Err(Error::internal(format!(
            "the run of '{}' was recorded by a newer version ({}); it is left alone",
            run.live.name, state.version
        )));
    }
    let same_boot = process::boot_id().is_ok_and(|boot| boot == state.boot_id);
    let supervisor = if same_boot { process::open_verified(state.supervisor, state.supervisor_start) } else { None };
    let Some(supervisor) = supervisor.filter(|process| !process.has_ended()) else {
        return Ok(Reattached::Gone { reason: how_it_ended(&run.run_dir) });
    };
    let Some((client, events)) = Client::connect(&run.run_dir)? else {
        // It is writing its record and about to end.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), supervisor.wait()).await;
        return Ok(Reattached::Gone { reason: how_it_ended(&run.run_dir) });
    };
    let status = match client.call_within(super::protocol::Call::Status, STATUS_PATIENCE).await {
        Ok((status, _)) => status,
        // A supervisor that does not run (stopped, starved) still has its container: what the record says is adopted,
        // so that it is seen and can be destroyed.
        Err(error) if error.code == Code::OperationTimeout => {
            tracing::warn!(domain = %run.live.name, %error, "adopted by its record");
            let held = run.phase == Phase::Paused && run.reason == paused::STARTING_UP;
            Running { init: state.init, init_start: state.init_start, ttys: Vec::new(), held }
        }
        Err(error) => {
            let ended = tokio::time::timeout(std::time::Duration::from_secs(5), supervisor.wait()).await.is_ok();
            return if ended { Ok(Reattached::Gone { reason: how_it_ended(&run.run_dir) }) } else { Err(error) };
        }
    };
    let group = shared.cgroups.open(&state.cgroup)?;
    let held = status.held;
    let run_id = run.run_id.clone();
    let new = NewInstance { def: &run.live, run_id, client, group, shared: shared.clone(), supervisor, status, held };
    let (instance, receiver) = LxcInstance::run(new, events);
    shared.remember(&run.live.name, &instance);
    Ok(Reattached::Running(Launched {
        instance,
        live: run.live.clone(),
        phase: run.phase,
        reason: run.reason,
        state: run.state.clone(),
        events: receiver,
    }))
}

/// libvirt's shut-off reason from the exit record of a run.
fn how_it_ended(run_dir: &Path) -> i32 {
    let record = fs::read(run_dir.join(EXIT_RECORD_NAME)).ok();
    match record.and_then(|bytes| serde_json::from_slice::<ExitRecord>(&bytes).ok()) {
        Some(record) => reason_of(&record),
        // The supervisor always writes one unless it was killed.
        None => shutoff::CRASHED,
    }
}

/// libvirt's shut-off reason for a record.
pub fn reason_of(record: &ExitRecord) -> i32 {
    match record.cause {
        _ if record.killed => shutoff::DESTROYED,
        Cause::Exited | Cause::PowerOff | Cause::Reboot => shutoff::SHUTDOWN,
        Cause::Killed => shutoff::CRASHED,
        Cause::StartFailed => shutoff::FAILED,
    }
}
