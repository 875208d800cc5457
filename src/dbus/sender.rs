//! Callers on a bus: known from their first call, forgotten when they leave the bus, which ends what goes on for them
//! alone. Those on the system bus are asked about.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OnceCell, watch};
use zbus::{Connection, Message};

use super::fault::Fault;
use crate::engine::access::{Entry, Gate};
use crate::engine::api::Presence;

const BUS: &str = "org.freedesktop.DBus";
const OWNER_CHANGED: &str = "NameOwnerChanged";

/// See the module's text. By unique name.
#[derive(Debug, Default)]
pub(super) struct Senders {
    known: Mutex<HashMap<String, Arc<OnceCell<Entry>>>>,
    /// Who is there; the first of each pair is dropped when they go.
    present: Mutex<HashMap<String, (watch::Sender<()>, Presence)>>,
}

/// Asks the bus to tell who leaves it.
pub(super) async fn watch(connection: &Connection) -> zbus::Result<()> {
    let rule = format!("type='signal',sender='{BUS}',member='{OWNER_CHANGED}',arg2=''");
    connection.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "AddMatch", &(rule.as_str(),)).await?;
    Ok(())
}

impl Senders {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<OnceCell<Entry>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_present(&self) -> MutexGuard<'_, HashMap<String, (watch::Sender<()>, Presence)>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `name` is still there, for as long as it is. For the connection's reader alone, which hears who leaves in
    /// the same order as what they call.
    pub fn presence(&self, name: &str) -> Presence {
        let mut present = self.lock_present();
        if let Some((_, presence)) = present.get(name) {
            return presence.clone();
        }
        let (here, presence) = Presence::new();
        present.insert(name.to_string(), (here, presence.clone()));
        presence
    }

    /// How `name` came in. Error: it has left the bus.
    pub async fn entry(&self, connection: &Connection, gate: &Gate, name: &str) -> Result<Entry, Fault> {
        let cell = self.lock().entry(name.to_string()).or_default().clone();
        let entry = cell
            .get_or_try_init(|| async {
                let uid = user(connection, name).await?;
                Ok::<_, zbus::Error>(gate.enter_from_bus(name, uid).await)
            })
            .await;
        match entry {
            // It may have left meanwhile: then nobody else tells its guard.
            Ok(entry) if self.lock().get(name).is_none_or(|known| !Arc::ptr_eq(known, &cell)) => {
                leave(entry);
                Ok(entry.clone())
            }
            Ok(entry) => Ok(entry.clone()),
            Err(error) => {
                self.lock().remove(name);
                Err(Fault::access_denied(format!("the bus does not say whose {name} is: {error}")))
            }
        }
    }

    /// A signal of the bus: perhaps that somebody left it.
    pub fn heard(&self, message: &Message) {
        let header = message.header();
        let is = |word: Option<&str>, expected: &str| word == Some(expected);
        if !is(header.member().map(|member| member.as_str()), OWNER_CHANGED)
            || !is(header.sender().map(|sender| sender.as_str()), BUS)
        {
            return;
        }
        let Ok((name, _, new)) = message.body().deserialize::<(String, String, String)>() else { return };
        if !new.is_empty() {
            return;
        }
        self.lock_present().remove(&name);
        if let Some(cell) = self.lock().remove(&name)
            && let Some(entry) = cell.get()
        {
            leave(entry);
        }
    }

    /// The bus has gone, and all of them with it.
    pub fn clear(&self) {
        self.lock_present().clear();
        for (_, cell) in self.lock().drain() {
            cell.get().into_iter().for_each(leave);
        }
    }
}

fn leave(entry: &Entry) {
    if let Some(guard) = &entry.guard {
        guard.leave();
    }
}

async fn user(connection: &Connection, name: &str) -> zbus::Result<u32> {
    let path = "/org/freedesktop/DBus";
    let reply = connection.call_method(Some(BUS), path, Some(BUS), "GetConnectionUnixUser", &(name,)).await?;
    reply.body().deserialize()
}
