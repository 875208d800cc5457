//! Start, stop and change of a network's host side, with its record kept before and after.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::super::cleanup::fault_point;
use super::super::event::{HostSet, network_lifecycle};
use super::super::host::Context;
use super::super::objects::{Change, Run};
use super::{Network, NetworkKind, NetworkLive};
use crate::error::{Error, Result, Subsystem};
use crate::net::network::NetworkDef;
use crate::net::network::run::leases::Lease;
use crate::net::network::run::nft::TableName;
use crate::net::network::run::plan::{ADDN_HOSTS, HOSTS};
use crate::net::network::run::{self, Journal, Plan, Step, Surroundings, server, sriov};
use crate::net::network::{dnsmasq, firewall};

/// Writes a start's steps into the network's record.
struct Record<'a> {
    change: &'a Change<NetworkKind>,
    run: Run<NetworkKind>,
    /// There is a record, and what it names may be there.
    written: AtomicBool,
}

#[async_trait]
impl Journal for Record<'_> {
    async fn record(&self, _steps: &[Step]) -> Result<()> {
        // The plan says them all.
        self.change.prepare(&self.run).await?;
        self.written.store(true, Ordering::Relaxed);
        fault_point("network-start.undo")
    }

    async fn clean(&self) {
        self.written.store(false, Ordering::Relaxed);
    }
}

/// Where the run directories are.
pub(super) fn runs(context: &Context) -> PathBuf {
    context.dirs.run.join("networks")
}

/// What is to be made on the host for `def`; nothing for the test driver.
fn plan(context: &Context, def: &NetworkDef) -> Result<Plan> {
    if context.set == HostSet::Test {
        return Ok(Plan { name: def.name.clone(), ..Plan::default() });
    }
    let dir = runs(context).join(def.uuid.unwrap_or_default().to_string());
    let server = match dnsmasq::is_needed(def) {
        true => {
            let (hosts, addn_hosts) = (dir.join(HOSTS), dir.join(ADDN_HOSTS));
            let files = dnsmasq::Files { hosts: &hosts, addn_hosts: &addn_hosts };
            let conf = dnsmasq::configuration(def, files)?;
            Some([conf, dnsmasq::hosts_file(def), dnsmasq::addn_hosts_file(def)])
        }
        false => None,
    };
    let (tables, rules) = match firewall::table(def)? {
        Some(table) => (vec![TableName::new("inet", &table.name)], table.text()),
        None => Default::default(),
    };
    let leases = lease_file(context, def);
    Plan::of(def, Surroundings { dir, leases, tables, rules, server })
}

/// The definition with the devices that are only known on the host.
fn with_devices(context: &Context, def: Arc<NetworkDef>) -> Result<Arc<NetworkDef>> {
    match context.set {
        HostSet::Test => Ok(def),
        HostSet::Shared => sriov::with_devices(&def, Path::new(sriov::SYSFS)).map(Arc::new),
    }
}

/// Finds the devices of a running network again, which its record leaves out.
pub(super) async fn find_devices(change: &mut Change<NetworkKind>) -> Result<()> {
    let Some(run) = change.state().run.clone().filter(|run| run.def.forward.pf.is_some()) else { return Ok(()) };
    let def = with_devices(change.handle().context(), run.def.clone())?;
    change.started(Run { def, ..run }).await
}

fn lease_file(context: &Context, def: &NetworkDef) -> PathBuf {
    context.dirs.state.join("leases").join(format!("{}.leases", def.uuid.unwrap_or_default()))
}

fn inactive(network: &Network) -> Error {
    Error::invalid_state(format!("network '{}' is not active", network.name())).with_subsystem(Subsystem::Network)
}

/// Makes a defined network live. Errors: code 55 when it is already.
pub async fn start(change: &mut Change<NetworkKind>) -> Result<()> {
    let state = change.state();
    let Some(def) = state.config.clone() else {
        return Err(Error::invalid_state("network is already active").with_subsystem(Subsystem::Network));
    };
    start_def(change, def).await
}

/// Makes a network live as `def` says: the only definition of a transient network. On error nothing is left.
pub async fn start_def(change: &mut Change<NetworkKind>, def: Arc<NetworkDef>) -> Result<()> {
    if change.state().active() {
        return Err(Error::invalid_state("network is already active").with_subsystem(Subsystem::Network));
    }
    let network = change.handle().clone();
    let def = with_devices(network.context(), def)?;
    let plan = plan(network.context(), &def)?;
    let record = Record {
        run: change.run(def.clone(), NetworkLive { plan: plan.clone(), ..NetworkLive::default() }),
        written: AtomicBool::new(false),
        change,
    };
    let made = match network.context().set {
        HostSet::Test => Ok(()),
        HostSet::Shared => run::start(&plan, &network.context().networks.programs, &record).await,
    };
    let written = record.written.load(Ordering::Relaxed);
    if let Err(error) = made {
        if !written {
            // Also when none was written: then there is nothing to remove.
            change.forget_record().await?;
        }
        return Err(error.or_subsystem(Subsystem::Network));
    }
    change.started(change.run(def, NetworkLive { plan, started: true, ..NetworkLive::default() })).await?;
    fault_point("network-start.status")?;
    tracing::info!(network = network.name(), "network started");
    network.emit_lifecycle(network_lifecycle::STARTED);
    Ok(())
}

/// Takes the network's host side away. Errors: code 55 when it is not active; what could not be taken away, and the
/// network stays active so that it can be tried again.
pub async fn stop(change: &mut Change<NetworkKind>) -> Result<()> {
    let network = change.handle().clone();
    let Some(run) = change.state().run.clone() else { return Err(inactive(&network)) };
    undo(change, &run).await?;
    change.stopped().await?;
    fault_point("network-stop.forgotten")?;
    if let Some(host) = network.context().host() {
        host.ports.release_clients(network.uuid());
    }
    tracing::info!(network = network.name(), "network stopped");
    network.emit_lifecycle(network_lifecycle::STOPPED);
    Ok(())
}

/// Takes back all that a run made, after noting that it is being taken back. The first error is returned.
pub(super) async fn undo(change: &Change<NetworkKind>, run: &Run<NetworkKind>) -> Result<()> {
    let context = change.handle().context().clone();
    if context.set == HostSet::Test {
        return Ok(());
    }
    let plan = run.live.plan.clone();
    let steps = plan.steps();
    change.prepare(&change.run(run.def.clone(), NetworkLive { plan, ..NetworkLive::default() })).await?;
    fault_point("network-stop.note")?;
    let errors = run::undo(&steps, &context.networks.programs, &runs(&context)).await;
    fault_point("network-stop.undo")?;
    errors.into_iter().next().map_or(Ok(()), Err)
}

/// Makes a running network be as `def` says: firewall rules and dnsmasq; its bridge stays as it is. dnsmasq is restarted
/// only when hosts are not all that changed.
pub async fn refresh(change: &mut Change<NetworkKind>, def: Arc<NetworkDef>) -> Result<()> {
    let network = change.handle().clone();
    let Some(run) = change.state().run.clone() else { return Err(inactive(&network)) };
    let old = &run.live.plan;
    let mut new = plan(network.context(), &def)?;
    new.bridge.clone_from(&old.bridge);
    let test = network.context().set == HostSet::Test;
    let live = NetworkLive { plan: new.clone(), started: true, changing: !test, ports: run.live.ports.clone() };
    // On disk before anything is changed: a daemon killed now finds the new plan and makes it so.
    change.started(change.run(def.clone(), live.clone())).await?;
    fault_point("network-update.noted")?;
    if test {
        return Ok(());
    }
    run::refresh(old, &new, &network.context().networks.programs).await?;
    fault_point("network-update.refreshed")?;
    change.started(change.run(def, NetworkLive { changing: false, ..live })).await
}

/// Finishes the change of a network that a former daemon was killed in.
pub(super) async fn settle(change: &mut Change<NetworkKind>) -> Result<()> {
    let Some(run) = change.state().run.clone().filter(|run| run.live.changing) else { return Ok(()) };
    tracing::warn!(network = change.handle().name(), "finishing a change that was not finished");
    run::settle(&run.live.plan, &change.handle().context().networks.programs).await?;
    let live = NetworkLive { changing: false, ..NetworkLive::clone(&run.live) };
    change.started(Run { live: Arc::new(live), ..run }).await
}

/// Leases that hold at `now` (seconds since 1970) of an active network, as dnsmasq has them.
pub fn leases(network: &Network, now: i64) -> Result<Vec<Lease>> {
    let state = network.state();
    let Some(run) = &state.run else { return Err(inactive(network)) };
    let Some(path) = run.live.plan.server.as_ref().and_then(|server| server.leases.clone()) else {
        return Ok(Vec::new());
    };
    Ok(run::leases::read(&path)?.into_iter().filter(|lease| lease.is_valid(now)).collect())
}

/// dnsmasq of this network, when it runs.
pub(super) fn server_of(network: &Network) -> Option<crate::sys::process::PidFd> {
    let state = network.state();
    server::running(&state.run.as_ref()?.live.plan.server.as_ref()?.pidfile())
}
