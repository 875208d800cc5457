//! Start-up order, the main loop, and the way out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::config::Config;
use super::dirs::Dirs;
use super::lock::Lock;
use super::logging::{self, Reload};
use super::options::Options;
use super::{drivers, notify, polkit, systemd};
use crate::cgroup;
use crate::dbus;
use crate::dbus::bus::{Bus, BusError, DISCONNECTED, Served};
use crate::dbus::client::End;
use crate::dbus::listen::{self, Listener};
use crate::engine::{Engine, EngineConfig};
use crate::rpc;
use crate::sys::passed::PassedSocket;

/// Calls in flight get this long to end when the daemon stops.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// What is queued for clients then gets this long.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);
/// First and longest pause between attempts to reach a bus that went away.
const RECONNECT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The daemon from start to end; `passed` is what the service manager listens on for it.
pub async fn run(options: Options, passed: Vec<PassedSocket>) -> anyhow::Result<()> {
    let dirs = Dirs::choose(options.root.as_deref())?;
    let config_path = options.config.clone().unwrap_or_else(|| dirs.config());
    let mut config = Config::load(&config_path, options.config.is_some())?;
    if let Some(path) = &options.firmware_path {
        config.qemu.firmware_path = Some(std::env::split_paths(path).collect());
    }
    let filter = logging::filter(options.log_filter().as_deref(), config.log.level.as_deref())?;
    let log = logging::start(filter, options.log_format.unwrap_or(config.log.format));
    // From here on a signal is not lost, however early it comes.
    let mut signals = Signals::new()?;

    let socket = options.listen.clone().unwrap_or_else(|| dirs.socket());
    listen::check_path(&socket)?;
    raise_file_limit();
    dirs.create()?;
    let place = dirs.root.as_deref().unwrap_or(&dirs.run);
    let _lock = Lock::take(&dirs.run, place)?;

    let mode = if options.mock { cgroup::Mode::None } else { config.cgroups };
    let mut cgroups = cgroup::Manager::detect(mode);
    if !options.mock {
        systemd::join(&mut cgroups, config.cgroup.systemd).await?;
    }
    let cgroups = Arc::new(cgroups);
    let drivers = drivers::build(options.mock, &config, &dirs, &cgroups)?;
    let engine_config = EngineConfig {
        state_dir: dirs.state.clone(),
        run_dir: dirs.run.clone(),
        log_dir: dirs.log.clone(),
        autostart_parallel: config.autostart_parallel,
        networks: config.network.options(),
        image_user: if options.mock { None } else { drivers::image_user(&config, &dirs, &cgroups) },
    };
    let engine = Engine::open(engine_config, drivers, cgroups).await?;
    let engine = Arc::new(engine);

    let buses_wanted = wanted_buses(&options, &config);
    let system = dirs.root.is_none() || buses_wanted.contains(&Bus::System);
    let gates = polkit::gates(&config.access, &config.socket, system).await;
    let bus_gate = gates.bus.clone();
    let server = dbus::Server::new(engine.clone(), dbus::Options { bus_gate, ..server_options(&dirs, &engine) });
    let listener = Listener::bind(&socket, gates.all.clone())?;
    let rpc_server = rpc::Server::new(engine.clone(), config.rpc.options());
    let mut rpc_listeners = JoinSet::new();
    let mut sockets = rpc_sockets(&options, &config, &dirs)?;
    // A path that the service manager listens on is its own.
    sockets.retain(|(path, _)| !passed.iter().any(|passed| same_file(&passed.path, path)));
    for passed in passed {
        tracing::info!(path = %passed.path.display(), "serving a socket of the service manager");
        // libvirt's names of sockets for reading end so.
        let reading = passed.path.to_string_lossy().ends_with("-ro");
        let listener = rpc::listen::Listener::passed(passed, gates.of(reading), reading)?;
        rpc_listeners.spawn(listener.run(rpc_server.clone()));
    }
    for (path, read_only) in sockets {
        let listener = rpc::listen::Listener::bind(&path, gates.of(read_only), read_only)?;
        rpc_listeners.spawn(listener.run(rpc_server.clone()));
    }
    let (ended, mut bus_ended) = mpsc::channel(1);
    let mut buses = JoinSet::new();
    for bus in buses_wanted {
        let served = dbus::bus::connect(&server, &bus).await.map_err(disconnected)?;
        buses.spawn(keep_bus(server.clone(), bus, served, ended.clone()));
    }
    let listening = tokio::spawn(listener.run(server.clone()));
    let names: Vec<&str> = engine.kinds().into_iter().map(|kind| kind.type_name()).collect();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %socket.display(), drivers = ?names, "ready");
    notify::ready(&format!("serving {} on {}", names.join(", "), socket.display()));
    let watchdog = tokio::spawn(notify::watchdog());
    let autostart = tokio::spawn({
        let engine = engine.clone();
        async move { engine.autostart().await }
    });

    let reason = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break Ok("SIGTERM"),
            _ = signals.interrupt.recv() => break Ok("SIGINT"),
            _ = signals.hangup.recv() => reload(&log, &options, &config_path),
            Some(why) = bus_ended.recv() => break Err(why),
        }
    };
    match &reason {
        Ok(signal) => tracing::info!(signal, "stopping; guests run on"),
        Err(error) => tracing::error!(%error, "stopping; guests run on"),
    }
    notify::stopping();
    // No new connections; the socket's file goes with the listener.
    listening.abort();
    let _ = listening.await;
    rpc_listeners.shutdown().await;
    autostart.abort();
    let idle = async { tokio::join!(server.idle(), rpc_server.idle()) };
    if tokio::time::timeout(STOP_PATIENCE, idle).await.is_err() {
        tracing::warn!("calls are still in flight; the next start settles what they leave");
    }
    buses.abort_all();
    tokio::join!(server.close(FLUSH_PATIENCE), rpc_server.close(FLUSH_PATIENCE));
    watchdog.abort();
    reason.map(|_| ())
}

/// Whether two paths are of the same file, by whatever links.
fn same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    one == other || real(one) == real(other)
}

/// libvirt's names for its sockets; a client tries the driver's own before the common one.
const LIBVIRT_SOCKETS: [&str; 3] = ["libvirt-sock", "virtqemud-sock", "virtlxcd-sock"];

/// The sockets of libvirt's protocol: path, and whether it is for reading only.
fn rpc_sockets(options: &Options, config: &Config, dirs: &Dirs) -> anyhow::Result<Vec<(PathBuf, bool)>> {
    let mut sockets = Vec::new();
    if config.rpc.enabled {
        let [all, reading] = dirs.rpc_sockets();
        sockets.extend([(all, false), (reading, true)]);
    }
    if let Some(directory) = options.libvirt_directory.as_ref().or(config.rpc.libvirt_directory.as_ref()) {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create directory {}", directory.display()))?;
        for name in LIBVIRT_SOCKETS {
            sockets.extend([(directory.join(name), false), (directory.join(format!("{name}-ro")), true)]);
        }
    }
    Ok(sockets)
}

fn server_options(dirs: &Dirs, engine: &Engine) -> dbus::Options {
    let root = dirs.root.as_deref().map(Path::to_string_lossy).unwrap_or_default().into_owned();
    let drivers = engine.kinds().into_iter().map(|kind| kind.type_name().to_string()).collect();
    dbus::Options::new(root, drivers)
}

/// Every bus that options or configuration name, once.
fn wanted_buses(options: &Options, config: &Config) -> Vec<Bus> {
    let mut buses = Vec::new();
    if options.system || (config.dbus.system && !options.session) {
        buses.push(Bus::System);
    }
    if options.session || (config.dbus.session && !options.system) {
        buses.push(Bus::Session);
    }
    for address in options.bus.iter().chain(&config.dbus.addresses) {
        let bus = Bus::Address(address.clone());
        if !buses.contains(&bus) {
            buses.push(bus);
        }
    }
    buses
}

/// A taken name is reported in libvirt-dbus's words, with ours after them.
fn disconnected(error: BusError) -> anyhow::Error {
    match error {
        BusError::NameTaken { .. } => anyhow!("{DISCONNECTED} {error}"),
        other => other.into(),
    }
}

/// Serves a bus for ever. A bus that goes away is tried again, because our own socket needs none; a name that was taken
/// from us ends the daemon, as it ends libvirt-dbus.
async fn keep_bus(server: Arc<dbus::Server>, bus: Bus, served: Served, ended: mpsc::Sender<anyhow::Error>) {
    let mut served = served;
    loop {
        if served.run().await == End::NameLost {
            let _ = ended.send(anyhow!("{DISCONNECTED} the name {} was taken away on the {bus}", dbus::NAME)).await;
            return;
        }
        tracing::error!(%bus, "the bus is gone; trying again until it is back");
        let mut pause = RECONNECT.0;
        served = loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECONNECT.1);
            match dbus::bus::connect(&server, &bus).await {
                Ok(served) => break served,
                Err(error @ BusError::NameTaken { .. }) => {
                    let _ = ended.send(disconnected(error)).await;
                    return;
                }
                Err(error) => tracing::debug!(%error, "the bus is not back yet"),
            }
        };
    }
}

/// Reads the log level again; everything else needs a restart, which guests do not notice.
fn reload(log: &Reload, options: &Options, path: &Path) {
    let result = Config::load(path, options.config.is_some()).map_err(anyhow::Error::from).and_then(|config| {
        let filter = logging::filter(options.log_filter().as_deref(), config.log.level.as_deref())?;
        Ok(log.reload(filter)?)
    });
    match result {
        Ok(()) => tracing::info!("log level read again"),
        Err(error) => tracing::error!("cannot reload: {error:#}"),
    }
}

/// Every guest needs several descriptors of ours, every client one.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Signals> {
        let catch = |kind| signal(kind).context("cannot catch signals");
        Ok(Signals {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hangup: catch(SignalKind::hangup())?,
        })
    }
}
