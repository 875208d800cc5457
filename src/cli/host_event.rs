//! `net-event`, `pool-event`, `nodedev-event`, `secret-event`: waits for events of the host's objects.
//!
//! One loop for all; a group of commands says in a [`Kind`] what its signals and words are. VMs and containers share these
//! objects, so the daemon sends every signal once below each driver's root: one root is listened to.

use std::collections::HashMap;
use std::time::SystemTime;

use clap::Args;
use serde_json::json;
use zbus::Message;

use super::domains::{CONNECT, Driver, Session};
use super::event::{listen, timestamp};
use super::output::{self, Context, Failure};
use crate::types::ParamValue;

/// Options of these commands.
#[derive(Debug, Args)]
pub struct EventArgs {
    /// Only events of this object
    object: Option<String>,
    /// Wait for this type of event (see --list)
    #[arg(long, value_name = "TYPE")]
    event: Option<String>,
    /// Go on until --timeout or an interrupt, instead of ending with the first event
    #[arg(long = "loop")]
    repeat: bool,
    /// List the types of events
    #[arg(long)]
    list: bool,
    /// Print the time with each event
    #[arg(long)]
    timestamp: bool,
}

/// A kind of object and its events.
#[derive(Debug)]
pub struct Kind {
    /// In texts: `secret`.
    pub noun: &'static str,
    /// The call that finds one by what users call it; `None`: by a path made of its name.
    pub look_up: Option<&'static str>,
    /// What users call it, as a property of `interface`.
    pub property: &'static str,
    pub interface: &'static str,
    /// The signal of `org.libvirt.Connect`, and the words of its event numbers.
    pub lifecycle: (&'static str, &'static [&'static str]),
    /// The other type of event: its name, and its signal on the object itself.
    pub other: (&'static str, &'static str, &'static str),
}

impl EventArgs {
    /// Whether the command needs no daemon.
    pub fn is_list(&self) -> bool {
        self.list
    }

    /// `--list`
    pub fn list(&self, out: output::Output, kind: &Kind) {
        let types = ["lifecycle", kind.other.0];
        out.show(&json!(types), &types.map(|name| format!("{name}\n")).concat());
    }
}

/// What one signal says: the object's path, the type of event, the word of a lifecycle event.
struct Happened {
    path: String,
    event: &'static str,
    word: Option<&'static str>,
}

impl Kind {
    fn read(&self, driver: Driver, message: &Message) -> Option<Happened> {
        let header = message.header();
        let (path, interface, member) =
            (header.path()?.as_str(), header.interface()?.as_str(), header.member()?.as_str());
        let below = path.strip_prefix(driver.path())?;
        if interface == CONNECT && member == self.lifecycle.0 && below.is_empty() {
            let body = message.body();
            // Networks' signal has no detail.
            let (path, number) = match body.deserialize::<(zbus::ObjectPath<'_>, i32, i32)>() {
                Ok((path, number, _)) => (path, number),
                Err(_) => body.deserialize::<(zbus::ObjectPath<'_>, i32)>().ok()?,
            };
            let word = usize::try_from(number).ok().and_then(|number| self.lifecycle.1.get(number));
            return Some(Happened {
                path: path.to_string(),
                event: "lifecycle",
                word: Some(word.unwrap_or(&"unknown")),
            });
        }
        let (event, of, signal) = self.other;
        (interface == of && member == signal && below.starts_with('/')).then(|| Happened {
            path: path.to_owned(),
            event,
            word: None,
        })
    }

    async fn find(&self, session: &Session, driver: Driver, given: &str) -> Result<String, Failure> {
        let what = || format!("failed to get {} '{given}'", self.noun);
        let method = self.look_up.unwrap_or("NodeDeviceLookupByName");
        let by_uuid = method.replace("ByName", "ByUUID");
        // Networks and pools have names and UUIDs.
        let method = if given.len() == 36 && self.look_up.is_some() { by_uuid.as_str() } else { method };
        let path: Result<zbus::OwnedObjectPath, _> =
            session.client.call(driver.path(), CONNECT, method, &(given,)).await;
        Ok(path.context(what)?.to_string())
    }
}

/// Waits and prints.
pub async fn run(session: &Session, args: &EventArgs, kind: &Kind) -> Result<(), Failure> {
    let wanted = match args.event.as_deref() {
        None => return Err(Failure::new("either --list or --event <type> is required")),
        Some(name) if name != "lifecycle" && name != kind.other.0 => {
            return Err(Failure::new(format!("unknown event type {name}")));
        }
        Some(name) => name,
    };
    let driver = session.default_driver().await?;
    let mut messages = listen(session).await?;
    let only = match &args.object {
        Some(given) => Some(kind.find(session, driver, given).await?),
        None => None,
    };
    let sleep = async {
        match session.timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(sleep);
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    // Kept, because an event may be the last thing heard of one.
    let mut names: HashMap<String, String> = HashMap::new();
    let mut count = 0usize;
    let why = loop {
        let message = tokio::select! {
            biased;
            message = messages.recv() => message,
            () = &mut sleep => break "event loop timed out\n",
            _ = &mut interrupt => break "event loop interrupted\n",
        };
        let Some(message) = message else { return Err(Failure::new("lost the connection to the daemon")) };
        let Some(happened) = kind.read(driver, &message) else { continue };
        if happened.event != wanted || only.as_ref().is_some_and(|path| *path != happened.path) {
            continue;
        }
        if let Ok(Some(ParamValue::Str(name))) =
            session.client.value(&happened.path, kind.interface, kind.property).await
        {
            names.insert(happened.path.clone(), name);
        }
        let name = names.get(&happened.path).cloned().unwrap_or_else(|| key(&happened.path));
        count += 1;
        print(session, args, driver, kind, &name, &happened);
        if !args.repeat {
            break "";
        }
    };
    if !session.out.json {
        output::raw(&format!("{why}events received: {count}\n"));
    }
    if count == 0 { Err(Failure { lines: Vec::new() }) } else { Ok(()) }
}

fn print(session: &Session, args: &EventArgs, driver: Driver, kind: &Kind, name: &str, happened: &Happened) {
    let now = args.timestamp.then(|| timestamp(SystemTime::now()));
    let mut value = json!({ "event": happened.event, "driver": driver.name(), kind.noun: name, "data": happened.word });
    if let Some(now) = &now {
        value["time"] = now.as_str().into();
    }
    let prefix = now.map(|now| format!("{now}: ")).unwrap_or_default();
    let word = happened.word.map(|word| format!(": {word}")).unwrap_or_default();
    session.out.show(&value, &format!("{prefix}event '{}' for {} {name}{word}\n", happened.event, kind.noun));
}

/// What the last element of a path stands for: a UUID, or a text in libvirt-dbus's encoding.
pub fn key(path: &str) -> String {
    let last = path.rsplit('/').next().unwrap_or_default();
    let uuid = last.strip_prefix('_').filter(|rest| rest.len() == 36).map(|rest| rest.replace('_', "-"));
    uuid.filter(|uuid| crate::types::Uuid::try_parse(uuid).is_ok()).unwrap_or_else(|| decode(last))
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'_') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_back() {
        assert_eq!(
            key("/org/libvirt/QEMU/secret/_6695eb01_f6a4_8304_79aa_97f2502e193f"),
            "6695eb01-f6a4-8304-79aa-97f2502e193f"
        );
        assert_eq!(key("/org/libvirt/QEMU/nodedev/pci_5f0000_5f00_5f1f_5f2"), "pci_0000_00_1f_2");
    }
}
