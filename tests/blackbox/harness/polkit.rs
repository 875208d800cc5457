//! A polkit of a test's own: `org.freedesktop.PolicyKit1` on the test's bus, answering by a table.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use futures_util::StreamExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use zbus::{Connection, Message, MessageStream, OwnedVariant};

const NAME: &str = "org.freedesktop.PolicyKit1";
const PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const INTERFACE: &str = "org.freedesktop.PolicyKit1.Authority";
const BUS: &str = "org.freedesktop.DBus";

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    Yes,
    No,
    /// With a password: it gets one when it may ask.
    Password,
    /// With a password, and nobody can be asked for it.
    NoAgent,
    /// Whoever is asked for a password gives none.
    Dismissed,
    /// Nothing.
    Nothing,
}

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `unix-process`, `system-bus-name`.
    pub kind: String,
    /// Its pid or its name on the bus, its start time, its user.
    pub subject: (String, u64, i32),
    pub action: String,
    pub details: HashMap<String, String>,
    pub interactive: bool,
    pub id: String,
}

struct Rule {
    /// With `*` at its end, all that begin so.
    action: String,
    detail: Option<(String, String)>,
    say: Say,
}

#[derive(Default)]
struct Book {
    /// The last one that fits holds.
    rules: Vec<Rule>,
    asked: Vec<Asked>,
    withdrawn: Vec<String>,
}

impl Book {
    fn say(&self, asked: &Asked) -> Say {
        let fits = |rule: &&Rule| {
            let action = match rule.action.strip_suffix('*') {
                Some(start) => asked.action.starts_with(start),
                None => asked.action == rule.action,
            };
            action && rule.detail.as_ref().is_none_or(|(key, value)| asked.details.get(key) == Some(value))
        };
        self.rules.iter().rev().find(fits).map_or(Say::No, |rule| rule.say)
    }
}

/// See the module's text; it goes when this is dropped.
pub struct Polkit {
    book: Arc<Mutex<Book>>,
    orders: Option<UnboundedSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Polkit {
    pub fn start(address: &str) -> Polkit {
        let book: Arc<Mutex<Book>> = Arc::default();
        let (orders, taken) = unbounded_channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (address, kept) = (address.to_string(), book.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(&address, &kept, taken, ready));
        });
        is_ready.recv_timeout(super::DEADLINE).expect("the name of polkit");
        Polkit { book, orders: Some(orders), thread: Some(thread) }
    }

    /// From now on.
    pub fn rule(&self, action: &str, say: Say) {
        self.book.lock().unwrap().rules.push(Rule { action: action.into(), detail: None, say });
    }

    /// From now on, where this detail has this value.
    pub fn rule_for(&self, action: &str, (key, value): (&str, &str), say: Say) {
        let detail = Some((key.into(), value.into()));
        self.book.lock().unwrap().rules.push(Rule { action: action.into(), detail, say });
    }

    /// Tells everybody that something changed.
    pub fn changed(&self) {
        self.orders.as_ref().unwrap().send(()).unwrap();
    }

    /// What it was asked since this was last looked at.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.book.lock().unwrap().asked)
    }

    /// Questions that were taken back.
    pub fn withdrawn(&self) -> Vec<String> {
        self.book.lock().unwrap().withdrawn.clone()
    }
}

impl Drop for Polkit {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.thread.take().unwrap().join();
    }
}

async fn serve(
    address: &str,
    book: &Mutex<Book>,
    mut orders: UnboundedReceiver<()>,
    ready: std::sync::mpsc::Sender<()>,
) {
    let connection = zbus::connection::Builder::address(address).build().await.unwrap();
    let mut stream = MessageStream::from(&connection);
    connection.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "RequestName", &(NAME, 4u32)).await.unwrap();
    ready.send(()).unwrap();
    loop {
        let message = tokio::select! {
            order = orders.recv() => match order {
                None => return,
                Some(()) => {
                    let signal = Message::signal(PATH, INTERFACE, "Changed").build(&()).unwrap();
                    connection.send(&signal).await.unwrap();
                    continue;
                }
            },
            message = stream.next() => match message {
                Some(Ok(message)) => message,
                _ => return,
            },
        };
        if message.message_type() == zbus::message::Type::MethodCall {
            answer(&connection, book, &message).await;
        }
    }
}

async fn answer(connection: &Connection, book: &Mutex<Book>, message: &Message) {
    let header = message.header();
    let reply = Message::method_return(&header);
    let reply = match header.member().unwrap().as_str() {
        "EnumerateActions" => {
            let text = String::new;
            let action = |id: &str| {
                let none: HashMap<String, String> = HashMap::new();
                (id.to_string(), text(), text(), text(), text(), text(), 0u32, 0u32, 0u32, none)
            };
            reply.build(&(vec![action("org.libvirt.unix.monitor"), action("org.libvirt.unix.manage")],))
        }
        "CancelCheckAuthorization" => {
            let id: String = message.body().deserialize().unwrap();
            book.lock().unwrap().withdrawn.push(id);
            reply.build(&())
        }
        _ => {
            let asked = question(message);
            let interactive = asked.interactive;
            let say = {
                let mut book = book.lock().unwrap();
                let say = book.say(&asked);
                book.asked.push(asked);
                say
            };
            let (yes, challenge) = match say {
                Say::Nothing => return,
                Say::Yes => (true, false),
                Say::No => (false, false),
                Say::Password => (interactive, !interactive),
                Say::NoAgent => (false, true),
                Say::Dismissed => (false, !interactive),
            };
            let mut details: HashMap<String, String> = HashMap::new();
            if say == Say::Dismissed && interactive {
                details.insert("polkit.dismissed".into(), "true".into());
            }
            reply.build(&((yes, challenge, details),))
        }
    };
    connection.send(&reply.unwrap()).await.unwrap();
}

fn question(message: &Message) -> Asked {
    type Arguments = ((String, HashMap<String, OwnedVariant>), String, HashMap<String, String>, u32, String);
    let ((kind, subject), action, details, flags, id): Arguments = message.body().deserialize().unwrap();
    let number = |key: &str| subject.get(key).and_then(|value| u64::try_from(value).ok()).unwrap_or_default();
    let who = match subject.get("name") {
        Some(name) => <&str>::try_from(name).unwrap().to_string(),
        None => u32::try_from(&subject["pid"]).unwrap().to_string(),
    };
    let uid = subject.get("uid").map_or(-1, |uid| i32::try_from(uid).unwrap());
    Asked { kind, subject: (who, number("start-time"), uid), action, details, interactive: flags & 1 != 0, id }
}

/// Runs `work` in a thread of its own that is `uid`'s: whom it connects to sees that user. Needs root.
pub fn as_user<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // Of this thread alone, and for good.
            rustix::thread::set_thread_groups(&[]).unwrap();
            let gid = rustix::thread::Gid::from_raw(uid);
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            let uid = rustix::thread::Uid::from_raw(uid);
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
