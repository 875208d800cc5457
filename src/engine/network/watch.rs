//! Networks after a restart of the daemon, and under attack from outside: flushed firewalls, killed servers, deleted
//! bridges are found when the kernel tells of them, and put right.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::super::event::HostSet;
use super::super::host::HostObjects;
use super::{Network, live};
use crate::net::network::run::{self, Problem, Seen};
use crate::sys::netnews::News;
use crate::types::Uuid;

/// Changes that come in bursts are looked at once.
const BURST: Duration = Duration::from_millis(100);
/// Looked at without being told, for what the kernel does not announce (a sysctl).
const ROUND: Duration = Duration::from_secs(60);

/// Finds out what of the recorded networks still is there: takes over those that run, undoes the rest.
pub async fn recover(host: &HostObjects) {
    if host.context.set == HostSet::Test {
        return;
    }
    for network in host.networks.all() {
        let Ok(mut change) = network.change().await else { continue };
        let Some(run) = change.state().run.clone() else { continue };
        let same_boot = run.boot_id == host.context.boot_id;
        if run.live.started && same_boot {
            tracing::info!(network = network.name(), "found running");
            continue;
        }
        tracing::warn!(network = network.name(), same_boot, "undoing an unfinished or former run");
        let undone = match live::undo(&change, &run).await {
            Ok(()) => change.stopped().await,
            Err(error) => Err(error),
        };
        if let Err(error) = undone {
            tracing::error!(network = network.name(), %error, "clean-up of a network left something behind");
        }
    }
    look(host).await;
}

/// Starts the networks that are marked for it, then watches over all.
pub async fn autostart(host: &Arc<HostObjects>) {
    if host.context.set == HostSet::Test {
        return;
    }
    for network in host.networks.all() {
        let state = network.state();
        if !state.autostart || state.active() {
            continue;
        }
        let started = match network.change().await {
            Ok(mut change) => live::start(&mut change).await,
            Err(error) => Err(error),
        };
        if let Err(error) = started {
            tracing::error!(network = network.name(), %error, "autostart failed");
        }
    }
    tokio::spawn(watch(Arc::downgrade(host)));
}

/// Runs until the daemon's objects are gone.
async fn watch(host: Weak<HostObjects>) {
    let [filter, links] = [News::of_filter(), News::of_links()].map(|news| {
        news.map_err(|error| tracing::warn!(%error, "changes of networks are noticed late: no news from the kernel"))
            .ok()
    });
    let ended = Arc::new(Notify::new());
    // Servers whose end is waited for: network and process.
    let mut awaited: HashSet<(Uuid, i32)> = HashSet::new();
    loop {
        {
            let Some(host) = host.upgrade() else { return };
            look(&host).await;
            let running: Vec<_> =
                host.networks.all().into_iter().filter_map(|net| Some((net.uuid(), live::server_of(&net)?))).collect();
            awaited.retain(|known| running.iter().any(|(uuid, process)| *known == (*uuid, process.pid())));
            for (uuid, process) in running {
                if awaited.insert((uuid, process.pid())) {
                    let ended = ended.clone();
                    tokio::spawn(async move {
                        // An error means that it cannot be waited for; the next round finds it dead.
                        let _ = process.wait().await;
                        ended.notify_one();
                    });
                }
            }
        }
        tokio::select! {
            () = told(filter.as_ref()) => {}
            () = told(links.as_ref()) => {}
            () = ended.notified() => {}
            () = tokio::time::sleep(ROUND) => {}
        }
        tokio::time::sleep(BURST).await;
    }
}

async fn told(news: Option<&News>) {
    match news {
        Some(news) if news.changed().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

/// Looks at every active network once and heals what it can.
async fn look(host: &HostObjects) {
    let active: Vec<Network> = host.networks.all().into_iter().filter(|network| network.state().active()).collect();
    if active.is_empty() {
        return;
    }
    let programs = &host.context.networks.programs;
    let mut seen = match Seen::now(programs).await {
        Ok(seen) => seen,
        Err(error) => return tracing::warn!(%error, "cannot look at the host's networks"),
    };
    for network in active {
        let ports = host.ports.links(network.uuid());
        // A start or stop under way is not a fault; what it leaves is looked at afterwards.
        let problems = |seen: &Seen| match &network.state().run {
            Some(run) if run.live.started => run::check(&run.live.plan, seen, &ports),
            _ => Vec::new(),
        };
        if problems(&seen).is_empty() {
            continue;
        }
        let Ok(change) = network.change().await else { continue };
        // Once more, with nobody else at it.
        match Seen::now(programs).await {
            Ok(now) => seen = now,
            Err(error) => return tracing::warn!(%error, "cannot look at the host's networks"),
        }
        let found = problems(&seen);
        report(host, &network, &found);
        let Some(run) = change.state().run.clone().filter(|_| found.iter().any(Problem::can_heal)) else { continue };
        match run::heal(&run.live.plan, programs, &found, &ports).await {
            Ok(()) => tracing::warn!(network = network.name(), "network healed"),
            Err(error) => tracing::error!(network = network.name(), %error, "network cannot be healed"),
        }
    }
}

/// Says what was found; what nobody here can mend only once.
fn report(host: &HostObjects, network: &Network, problems: &[Problem]) {
    for problem in problems {
        if problem.can_heal() || host.ports.is_news(network.uuid(), &problem.to_string()) {
            tracing::warn!(network = network.name(), "{problem}");
        }
    }
}
