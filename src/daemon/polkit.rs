//! polkit: who may do what, asked of `org.freedesktop.PolicyKit1` on the system bus.
//!
//! ```text
//! ask ── CheckAuthorization(subject, action, details, flags, id) ──> verdict
//!  └ dropped ── CancelCheckAuthorization(id)
//! Changed, or another owner of the name ──> another generation: what was known is asked again
//! ```
//!
//! Owns a connection of its own, made at the first question and again when it broke: questions wait for nobody's calls.
//! A polkit that does not answer leaves the question open until whoever asks goes; it never counts as leave.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{Mutex, Semaphore};
use zbus::message::Flags;
use zbus::{Connection, Message, MessageStream, Variant};

use super::config::{AccessConfig, AccessDriver, SocketConfig};
use crate::engine::access::guard::{Answer, Authority, Question, Subject, Verdict};
use crate::engine::access::right::MANAGE;
use crate::engine::access::{Gate, Others, Policy};
use crate::error::{Code, Error, Result, Subsystem};

const SERVICE: &str = "org.freedesktop.PolicyKit1";
const PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const AUTHORITY: &str = "org.freedesktop.PolicyKit1.Authority";
const BUS: (&str, &str) = ("org.freedesktop.DBus", "/org/freedesktop/DBus");
/// `POLKIT_CHECK_AUTHORIZATION_FLAGS_ALLOW_USER_INTERACTION`.
const ALLOW_USER_INTERACTION: u32 = 1;
/// What the signals say that an answer may no longer hold.
const RULES: [&str; 2] = [
    "type='signal',sender='org.freedesktop.PolicyKit1',interface='org.freedesktop.PolicyKit1.Authority',member='Changed'",
    "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.freedesktop.PolicyKit1'",
];
/// Questions about one user that are open at once; dbus-daemon allows a connection 128 calls without an answer.
const AT_ONCE: usize = 24;
/// Time that a start gives polkit to say whether it is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// `[access] auth_*`: whether polkit is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// Where polkit answers on the system bus and knows libvirt's actions.
    #[default]
    Auto,
    /// Always: nobody of whom it should be asked comes in without its leave, be it there or not.
    Polkit,
    None,
}

/// The ways in.
#[derive(Debug)]
pub struct Gates {
    /// Sockets for everything.
    pub all: Gate,
    /// Sockets for reading.
    pub reading: Gate,
    /// The system bus.
    pub bus: Gate,
}

impl Gates {
    /// That of a socket of libvirt's protocol.
    pub fn of(&self, reading: bool) -> Gate {
        if reading { self.reading.clone() } else { self.all.clone() }
    }
}

/// The ways in as the configuration wants them. `system`: the daemon is one of the whole system, or serves the system bus,
/// so that "auto" may mean polkit.
pub async fn gates(access: &AccessConfig, socket: &SocketConfig, system: bool) -> Gates {
    let polkit = Polkit::new();
    let wishes = [access.auth_unix_rw, access.auth_unix_ro, access.auth_bus];
    let each_call = access.drivers.contains(&AccessDriver::Polkit);
    let asked_for = each_call || wishes.contains(&Use::Polkit);
    let there = match asked_for || (system && wishes.contains(&Use::Auto)) {
        true => polkit.is_there().await,
        false => Err(Error::failed("it was not looked for")),
    };
    match &there {
        Ok(()) => tracing::info!("polkit is asked who may do what"),
        Err(error) if asked_for => {
            tracing::error!(%error, "polkit cannot be asked now: who needs its leave is refused until it can be");
        }
        Err(error) => tracing::debug!(%error, "polkit is not asked"),
    }
    let gate = |wish: Use, otherwise: Others| {
        let asks = match wish {
            Use::Auto => system && there.is_ok(),
            Use::Polkit => true,
            Use::None => false,
        };
        let policy = Policy { group: socket.group.clone(), others: if asks { Others::Ask } else { otherwise } };
        Gate { policy, authority: Some(polkit.clone()), each_call }
    };
    Gates {
        all: gate(access.auth_unix_rw, socket.others.into()),
        reading: gate(access.auth_unix_ro, socket.others.into()),
        // The bus's own policy says who gets as far as us.
        bus: gate(access.auth_bus, Others::ReadWrite),
    }
}

/// See the module's text.
#[derive(Debug)]
struct Polkit {
    link: Arc<Link>,
}

#[derive(Debug)]
struct Link {
    connection: Mutex<Option<Connection>>,
    generation: AtomicU64,
    questions: AtomicU64,
    /// By user: a bus carries only so many calls that have no answer.
    places: std::sync::Mutex<HashMap<u32, Arc<Semaphore>>>,
}

fn unavailable(error: &zbus::Error) -> Error {
    let text = format!(
        "polkit cannot be asked on the system bus: {error}; start or install it, or set access.auth_* in domusd.toml"
    );
    Error::new(Code::AuthUnavailable, text).with_subsystem(Subsystem::Dbus)
}

impl Polkit {
    fn new() -> Arc<Polkit> {
        let link = Link {
            connection: Mutex::new(None),
            generation: AtomicU64::new(1),
            questions: AtomicU64::new(1),
            places: std::sync::Mutex::default(),
        };
        Arc::new(Polkit { link: Arc::new(link) })
    }

    /// Error: nobody answers, or libvirt's actions are not installed.
    async fn is_there(&self) -> Result<()> {
        let asked = async {
            let connection = self.link.connection().await?;
            let reply =
                connection.call_method(Some(SERVICE), PATH, Some(AUTHORITY), "EnumerateActions", &("C",)).await?;
            let actions: Vec<Action> = reply.body().deserialize()?;
            Ok::<bool, zbus::Error>(actions.iter().any(|action| action.0 == MANAGE))
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Error::failed(format!(
                "action {MANAGE} is not installed (packaging/polkit/org.libvirt.unix.policy)"
            ))),
            Ok(Err(error)) => Err(unavailable(&error)),
            Err(_) => Err(Error::new(Code::AuthUnavailable, "polkit does not answer on the system bus")),
        }
    }
}

/// Of `EnumerateActions`: id, description, message, vendor, its address, icon; who has it: any, inactive, active; notes.
type Action = (String, String, String, String, String, String, u32, u32, u32, HashMap<String, String>);

impl Authority for Polkit {
    fn ask(&self, question: Question) -> Answer {
        let link = self.link.clone();
        Box::pin(async move { link.ask(question).await })
    }

    fn generation(&self) -> u64 {
        self.link.generation.load(Ordering::Acquire)
    }
}

impl Link {
    async fn connection(self: &Arc<Self>) -> zbus::Result<Connection> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = &*kept {
            return Ok(connection.clone());
        }
        let connection = zbus::connection::Builder::system().build().await?;
        let stream = MessageStream::from(&connection);
        for rule in RULES {
            connection.call_method(Some(BUS.0), BUS.1, Some(BUS.0), "AddMatch", &(rule,)).await?;
        }
        self.changed();
        tokio::spawn(listen(Arc::downgrade(self), stream));
        *kept = Some(connection.clone());
        Ok(connection)
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    async fn ask(self: Arc<Self>, question: Question) -> Result<Verdict> {
        let Question { subject, user, action, details, interactive } = question;
        let places = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.entry(user).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone()
        };
        // Never closed, so it is had.
        let _place = places.acquire_owned().await;
        let connection = self.connection().await.map_err(|error| unavailable(&error))?;
        let id = format!("domus-{}-{}", std::process::id(), self.questions.fetch_add(1, Ordering::Relaxed));
        let subject: (&str, HashMap<&str, Variant<'_>>) = match &subject {
            Subject::Process { pid, start, uid } => {
                // polkit's type of a user is signed.
                let uid = uid.cast_signed();
                ("unix-process", [("pid", (*pid).into()), ("start-time", (*start).into()), ("uid", uid.into())].into())
            }
            Subject::BusName(name) => ("system-bus-name", [("name", name.as_str().into())].into()),
        };
        let details: HashMap<&str, String> = details.into_iter().collect();
        let flags = if interactive { ALLOW_USER_INTERACTION } else { 0 };
        let mut pending = Pending { connection: connection.clone(), id: Some(id.clone()) };
        let arguments = (subject, action.as_str(), details, flags, id.as_str());
        let reply =
            connection.call_method(Some(SERVICE), PATH, Some(AUTHORITY), "CheckAuthorization", &arguments).await;
        pending.id = None;
        let verdict = reply.and_then(|reply| verdict(&reply));
        verdict.map_err(|error| unavailable(&error))
    }
}

fn verdict(reply: &Message) -> zbus::Result<Verdict> {
    let (authorized, challenge, details): (bool, bool, HashMap<String, String>) = reply.body().deserialize()?;
    Ok(match (authorized, challenge) {
        (true, _) => Verdict::Allowed,
        (false, _) if details.contains_key("polkit.dismissed") => Verdict::Dismissed,
        (false, true) => Verdict::Challenge,
        (false, false) => Verdict::Denied,
    })
}

/// A question that has no answer yet; withdrawn when this is dropped before.
struct Pending {
    connection: Connection,
    id: Option<String>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let connection = self.connection.clone();
        tokio::spawn(async move {
            let message = Message::method_call(PATH, "CancelCheckAuthorization");
            let message = message.destination(SERVICE).interface(AUTHORITY).with_flags(Flags::NO_REPLY_EXPECTED);
            let withdrawn = async { connection.send(&message.build(&(id,))?).await }.await;
            if let Err(error) = withdrawn {
                tracing::debug!(%error, "polkit did not take a question back");
            }
        });
    }
}

/// Listens until the connection breaks, which then is made anew at the next question.
async fn listen(link: std::sync::Weak<Link>, mut stream: MessageStream) {
    while let Some(Ok(message)) = stream.next().await {
        let header = message.header();
        let member = header.member().map(|member| member.as_str());
        // Only what was asked for arrives, beside replies.
        if message.message_type() == zbus::message::Type::Signal
            && matches!(member, Some("Changed" | "NameOwnerChanged"))
        {
            match link.upgrade() {
                Some(link) => link.changed(),
                None => return,
            }
        }
    }
    if let Some(link) = link.upgrade() {
        *link.connection.lock().await = None;
        link.changed();
    }
}
