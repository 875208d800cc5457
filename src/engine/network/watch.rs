//! Networks after a restart of the daemon, and under attack from outside: flushed firewalls, killed servers, deleted
//! bridges are found when the kernel tells of them, and put right.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::super::event::HostSet;
use super::super::host::HostObjects;
use super::{Network, client_ports, live};
use crate::net::network::run::{self, Filter, Problem, Seen};
use crate::sys::netnews::News;
use crate::sys::process::PidFd;
use crate::types::Uuid;

/// Changes that come in bursts are looked at once.
const BURST: Duration = Duration::from_millis(100);
/// Looked at without being told, for what the kernel does not announce (a sysctl).
const ROUND: Duration = Duration::from_secs(60);

/// Networks that could not be healed, and when they are looked at again: an attempt makes news of its own, which would
/// call for the next one at once.
#[derive(Debug, Default)]
struct Patience(HashMap<Uuid, (Duration, Instant)>);

impl Patience {
    fn is_due(&self, network: Uuid) -> bool {
        self.0.get(&network).is_none_or(|(_, next)| Instant::now() >= *next)
    }

    fn failed(&mut self, network: Uuid) {
        let wait = self.0.get(&network).map_or(Duration::from_millis(500), |(wait, _)| (*wait * 2).min(ROUND));
        self.0.insert(network, (wait, Instant::now() + wait));
    }

    fn healed(&mut self, network: Uuid) {
        self.0.remove(&network);
    }

    /// How long until the first of them is due.
    fn next(&self) -> Duration {
        let left = |(_, next): &(Duration, Instant)| next.saturating_duration_since(Instant::now());
        self.0.values().map(left).min().unwrap_or(ROUND).min(ROUND)
    }
}

/// From the first look to the watching: what it saw of the host's firewall, and what the kernel has told of links since.
#[derive(Debug, Default)]
pub(in crate::engine) struct Watch(tokio::sync::Mutex<Option<(Filter, Option<News>)>>);

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
            client_ports::register(host, &network);
            if let Err(error) = live::find_devices(&mut change).await {
                tracing::error!(network = network.name(), %error, "the devices of the network are not to be found");
            }
            if let Err(error) = live::settle(&mut change).await {
                tracing::error!(network = network.name(), %error, "a change of the network cannot be finished");
            }
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
    let links = News::of_links()
        .map_err(|error| tracing::warn!(%error, "changes of links are noticed late: no news from the kernel"))
        .ok();
    let mut filter = Filter::open();
    look(host, &mut Patience::default(), &mut filter).await;
    *host.network_watch.0.lock().await = Some((filter, links));
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
    let Some((mut filter, links)) = (match host.upgrade() {
        Some(host) => host.network_watch.0.lock().await.take(),
        None => None,
    }) else {
        return;
    };
    let ended = Arc::new(Notify::new());
    let mut patience = Patience::default();
    // Servers whose end is waited for.
    let mut awaited: HashMap<Uuid, Arc<PidFd>> = HashMap::new();
    loop {
        {
            let Some(host) = host.upgrade() else { return };
            look(&host, &mut patience, &mut filter).await;
            awaited.retain(|_, server| !server.has_ended());
            for network in host.networks.all() {
                if awaited.contains_key(&network.uuid()) {
                    continue;
                }
                let Some(server) = live::server_of(&network).map(Arc::new) else { continue };
                awaited.insert(network.uuid(), server.clone());
                let ended = ended.clone();
                tokio::spawn(async move {
                    // An error means that it cannot be waited for; the next round finds it dead.
                    let _ = server.wait().await;
                    ended.notify_one();
                });
            }
        }
        tokio::select! {
            () = filter.changed() => {}
            () = told(links.as_ref()) => {}
            () = ended.notified() => {}
            () = tokio::time::sleep(patience.next()) => {}
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
async fn look(host: &HostObjects, patience: &mut Patience, filter: &mut Filter) {
    let active: Vec<Network> = host.networks.all().into_iter().filter(|network| network.state().active()).collect();
    patience.0.retain(|uuid, _| active.iter().any(|network| network.uuid() == *uuid));
    if active.is_empty() {
        return;
    }
    let programs = &host.context.networks.programs;
    // A start or stop under way is not a fault; what it leaves is looked at afterwards.
    let problems = |network: &Network, seen: &Seen<'_>, ports: &[String]| match &network.state().run {
        Some(run) if run.live.started => run::check(&run.live.plan, seen, ports),
        _ => Vec::new(),
    };
    let blind = |error| tracing::warn!(%error, "cannot look at the host's networks");
    let seen = match Seen::now(programs, filter).await {
        Ok(seen) => seen,
        Err(error) => return blind(error),
    };
    let (sound, broken): (Vec<Network>, Vec<Network>) =
        active.into_iter().partition(|network| problems(network, &seen, &host.ports.links(network.uuid())).is_empty());
    drop(seen);
    for network in sound {
        patience.healed(network.uuid());
        host.ports.nothing_to_say(network.uuid());
    }
    for network in broken {
        if !patience.is_due(network.uuid()) {
            continue;
        }
        let Ok(change) = network.change().await else { continue };
        let ports = host.ports.links(network.uuid());
        // Once more, with nobody else at it.
        let found = match Seen::now(programs, filter).await {
            Ok(seen) => problems(&network, &seen, &ports),
            Err(error) => return blind(error),
        };
        report(host, &network, &found);
        let Some(run) = change.state().run.clone().filter(|_| found.iter().any(Problem::can_heal)) else {
            patience.healed(network.uuid());
            continue;
        };
        match run::heal(&run.live.plan, programs, &found, &ports).await {
            Ok(()) => tracing::warn!(network = network.name(), "network healed"),
            Err(error) => {
                patience.failed(network.uuid());
                tracing::error!(network = network.name(), %error, "network cannot be healed");
            }
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
