//! `event`: waits for events of domains and prints them in virsh's text form, or one JSON object a line.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use zbus::Message;

use super::domains::{By, CONNECT, DOMAIN, Domain, Driver, Session, driver_of, uuid_of};
use super::event_text::{self, Happened};
use super::output::{self, Failure};
use crate::types::text::nearest;

/// Options of `event`.
#[derive(Debug, Args)]
pub struct EventArgs {
    /// Only events of this domain (name, id or UUID)
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Wait for this type of event (see --list)
    #[arg(long, value_name = "TYPE")]
    event: Option<String>,
    /// Wait for events of every type
    #[arg(long, conflicts_with = "event")]
    all: bool,
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

/// Why the wait ended.
#[derive(PartialEq, Eq)]
enum End {
    Done,
    TimedOut,
    Interrupted,
    Lost,
}

impl EventArgs {
    /// Whether the command needs no daemon.
    pub fn is_list(&self) -> bool {
        self.list
    }

    /// `--list`
    pub fn list(&self, out: output::Output) {
        out.show(&json!(event_text::TYPES), &event_text::TYPES.map(|name| format!("{name}\n")).concat());
    }

    fn types(&self) -> Result<Option<&str>, Failure> {
        match &self.event {
            Some(name) if !event_text::TYPES.contains(&name.as_str()) => {
                let hint = nearest(name, event_text::TYPES).map(|near| format!("; did you mean {near}?"));
                Err(Failure::new(format!("unknown event type {name}{}", hint.unwrap_or_default())))
            }
            Some(name) => Ok(Some(name)),
            None if self.all => Ok(None),
            None => Err(Failure::new("one of --list, --all, or --event <type> is required")),
        }
    }
}

/// `domus event`
pub async fn event(session: &Session, args: &EventArgs) -> Result<(), Failure> {
    let wanted = args.types()?;
    // Listen first, so that nothing is missed between here and the names.
    let mut messages = listen(session).await?;
    let only = match &args.domain {
        Some(given) => Some(session.domain(given, By::ANY).await?),
        None => None,
    };
    let mut names = Names::load(session, only.as_ref()).await?;
    let sleep = async {
        match session.timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(sleep);
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut count = 0usize;
    let end = loop {
        let message = tokio::select! {
            biased;
            message = messages.recv() => message,
            () = &mut sleep => break End::TimedOut,
            _ = &mut interrupt => break End::Interrupted,
        };
        let Some(message) = message else { break End::Lost };
        let Some((driver, path, happened)) = read(&message) else { continue };
        let domain_differs = only.as_ref().is_some_and(|domain| domain.path != path);
        let driver_differs = session.driver.is_some_and(|wanted| wanted != driver);
        let name = names.of(session, &path, &happened).await;
        if domain_differs || driver_differs || wanted.is_some_and(|wanted| !happened.is(wanted)) {
            continue;
        }
        count += 1;
        print(session, args, driver, &path, &name, &happened);
        if !args.repeat {
            break End::Done;
        }
    };
    if !session.out.json {
        let why = match end {
            End::TimedOut => "event loop timed out\n",
            End::Interrupted => "event loop interrupted\n",
            End::Done | End::Lost => "",
        };
        output::raw(&format!("{why}events received: {count}\n"));
    }
    match (end, count) {
        (End::Lost, _) => Err(Failure::new("lost the connection to the daemon")),
        (_, 0) => Err(Failure { lines: Vec::new() }),
        _ => Ok(()),
    }
}

/// All signals, moved to a queue without a bound: a signal stream that nobody polls would hold up the answers to calls.
pub async fn listen(session: &Session) -> Result<mpsc::UnboundedReceiver<Message>, Failure> {
    let mut stream = session.client.signals().await?;
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            if message.message_type() == zbus::message::Type::Signal && sender.send(message).is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}

/// The names of domains by path, kept because an event may be the last thing heard of one.
struct Names(HashMap<String, String>);

impl Names {
    async fn load(session: &Session, only: Option<&Domain>) -> Result<Names, Failure> {
        if let Some(domain) = only {
            return Ok(Names(HashMap::from([(domain.path.clone(), domain.name.clone())])));
        }
        let mut names = HashMap::new();
        for driver in session.drivers().await? {
            let paths: Vec<zbus::OwnedObjectPath> =
                session.client.call(driver.path(), CONNECT, "ListDomains", &(0u32,)).await?;
            let ask = |path: zbus::OwnedObjectPath| async move {
                let name = session.name_of(&path).await.ok()?;
                Some((path.to_string(), name))
            };
            let found = futures_util::stream::iter(paths).map(ask).buffered(64).collect::<Vec<_>>().await;
            names.extend(found.into_iter().flatten());
        }
        Ok(Names(names))
    }

    /// The name for an event at `path`; asked anew when the event may have given it one.
    async fn of(&mut self, session: &Session, path: &str, happened: &Happened) -> String {
        if !happened.may_name()
            && let Some(name) = self.0.get(path)
        {
            return name.clone();
        }
        match session.name_of(path).await {
            Ok(name) => {
                self.0.insert(path.to_owned(), name.clone());
                name
            }
            Err(_) => self.0.get(path).cloned().or_else(|| uuid_of(path)).unwrap_or_else(|| path.to_owned()),
        }
    }
}

/// The domain's driver and path, and what happened; `None` for a signal that is no domain event.
fn read(message: &Message) -> Option<(Driver, String, Happened)> {
    let header = message.header();
    let (path, interface, member) = (header.path()?.as_str(), header.interface()?.as_str(), header.member()?.as_str());
    let driver = driver_of(path)?;
    let body = message.body();
    match interface {
        CONNECT if member == "DomainEvent" => {
            let (domain, event, detail): (zbus::ObjectPath<'_>, i32, i32) = body.deserialize().ok()?;
            Some((driver, domain.to_string(), event_text::lifecycle(event, detail)))
        }
        DOMAIN => Some((driver, path.to_owned(), event_text::of_signal(member, &body)?)),
        _ => None,
    }
}

fn print(session: &Session, args: &EventArgs, driver: Driver, path: &str, name: &str, happened: &Happened) {
    let now = args.timestamp.then(|| timestamp(SystemTime::now()));
    let mut value = json!({
        "event": happened.name, "driver": driver.name(), "domain": name, "uuid": uuid_of(path), "data": happened.value,
    });
    if let Some(now) = &now {
        value["time"] = Value::from(now.as_str());
    }
    let prefix = now.map(|now| format!("{now}: ")).unwrap_or_default();
    session.out.show(&value, &format!("{prefix}{}", happened.text(name)));
}

/// `YYYY-MM-DD HH:MM:SS.mmm+0000`, virsh's form.
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{:03}+0000", since.subsec_millis())
}

/// `YYYY-MM-DD HH:MM:SS` of seconds since 1970, UTC.
pub fn time_of(seconds: i64) -> String {
    let since = u64::try_from(seconds).unwrap_or_default();
    let text = timestamp(UNIX_EPOCH + std::time::Duration::from_secs(since));
    text.split_once('.').map_or(text.clone(), |(time, _)| time.to_owned())
}

/// Days since 1970-01-01 as a Gregorian date, counted in 400-year eras that begin on 1 March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, "1970-01-01 00:00:00.000+0000")]
    #[case(951_782_400_000, "2000-02-29 00:00:00.000+0000")]
    #[case(1_795_229_453_627, "2026-11-21 02:50:53.627+0000")]
    fn timestamps(#[case] millis: u64, #[case] text: &str) {
        assert_eq!(timestamp(UNIX_EPOCH + Duration::from_millis(millis)), text);
    }
}
