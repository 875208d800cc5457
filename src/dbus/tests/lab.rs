//! A server with the test driver in a directory of its own, and peers on socket pairs.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use zbus::message::Type;
use zbus::wire::DynamicDeserialize;
use zbus::{DynamicType, Message, MessageStream};

use crate::dbus::{Options, Server, listen};
use crate::engine::access::{Access, Entry};
use crate::engine::driver::DriverKind;
use crate::engine::event::{DomainId, EventKind};
use crate::engine::{Engine, EngineConfig};
use crate::mock::MockDriver;
use crate::types::Uuid;

pub struct Lab {
    pub server: Arc<Server>,
    _dir: tempfile::TempDir,
}

impl Lab {
    pub async fn new() -> Lab {
        Lab::with_limit(crate::dbus::OUTBOUND_LIMIT).await
    }

    pub async fn with_limit(limit: usize) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let config = EngineConfig {
            state_dir: dir.path().join("state"),
            run_dir: dir.path().join("run"),
            log_dir: dir.path().join("log"),
            autostart_parallel: 1,
            networks: Default::default(),
            image_user: None,
        };
        let cgroups = Arc::new(crate::cgroup::Manager::default());
        let engine = Engine::open(config, vec![MockDriver::new()], cgroups).await.unwrap();
        let mut options = Options::new(dir.path().to_string_lossy().into_owned(), vec!["Test".into()]);
        options.outbound_limit = limit;
        Lab { server: Server::new(Arc::new(engine), options), _dir: dir }
    }

    pub async fn peer(&self) -> Peer {
        self.peer_with(Access::ReadWrite).await
    }

    pub async fn peer_with(&self, access: Access) -> Peer {
        let connection = self.connect(access).await;
        let seen: Arc<Mutex<Vec<Message>>> = Arc::default();
        let mut stream = MessageStream::from(&connection);
        let sink = seen.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                sink.lock().unwrap().push(message);
            }
        });
        Peer { connection, seen }
    }

    /// A peer that authenticates and then never reads.
    pub async fn deaf_peer(&self) -> UnixStream {
        use std::io::{Read, Write};
        let (ours, theirs) = UnixStream::pair().unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        tokio::spawn(listen::serve_stream(self.server.clone(), theirs, Entry::settled(Access::ReadWrite), uid, None));
        tokio::task::spawn_blocking(move || {
            let mut ours = ours;
            let hex: String = uid.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
            ours.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes()).unwrap();
            let mut answer = [0; 64];
            let length = ours.read(&mut answer).unwrap();
            assert!(answer[..length].starts_with(b"OK "));
            ours.write_all(b"BEGIN\r\n").unwrap();
            ours
        })
        .await
        .unwrap()
    }

    async fn connect(&self, access: Access) -> zbus::Connection {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        tokio::spawn(listen::serve_stream(self.server.clone(), theirs, Entry::settled(access), uid, Some(4711)));
        zbus::connection::Builder::unix_stream(ours).p2p().build().await.unwrap()
    }

    pub fn emit_reboot(&self) {
        let domain = DomainId { uuid: Uuid::nil(), name: "d".into(), id: Some(1) };
        self.server.engine.events().emit(DriverKind::Test, domain, EventKind::Reboot);
    }

    /// Waits until the server has this many connections.
    pub async fn until_clients(&self, count: usize) {
        for _ in 0..1_000 {
            if self.server.client_count() == count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{} connections instead of {count}", self.server.client_count());
    }
}

pub struct Peer {
    pub connection: zbus::Connection,
    seen: Arc<Mutex<Vec<Message>>>,
}

impl Peer {
    pub async fn call<B, R>(&self, path: &str, interface: &str, member: &str, body: &B) -> R
    where
        B: serde::Serialize + DynamicType,
        R: for<'d> DynamicDeserialize<'d>,
    {
        let reply = self.connection.call_method(None::<&str>, path, Some(interface), member, body).await;
        reply.unwrap_or_else(|error| panic!("{interface}.{member}: {error}")).body().deserialize().unwrap()
    }

    /// Makes a call; its reply, and how many signals arrived on this connection before it.
    pub async fn reply<B>(&self, path: &str, interface: &str, member: &str, body: &B) -> (Message, Vec<Message>)
    where
        B: serde::Serialize + DynamicType,
    {
        let call = zbus::Message::method_call(path, member).interface(interface).build(body).unwrap();
        let serial = call.primary_header().serial_num();
        self.connection.send(&call).await.unwrap();
        for _ in 0..1_000 {
            let seen = self.seen.lock().unwrap().clone();
            if let Some(at) = seen.iter().position(|message| message.header().reply_serial() == Some(serial)) {
                let before = seen[..at].iter().filter(|message| message.message_type() == Type::Signal).cloned();
                return (seen[at].clone(), before.collect());
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("no answer to {interface}.{member}");
    }

    /// Name and text of the error a call ends with.
    pub async fn refused<B>(&self, path: &str, interface: &str, member: &str, body: &B) -> (String, String)
    where
        B: serde::Serialize + DynamicType,
    {
        let (reply, _) = self.reply(path, interface, member, body).await;
        assert_eq!(reply.message_type(), Type::Error, "{interface}.{member} succeeded");
        let name = reply.header().error_name().unwrap().to_string();
        (name, reply.body().deserialize().unwrap())
    }

    pub fn replies_to(&self, serial: std::num::NonZeroU32) -> usize {
        self.seen.lock().unwrap().iter().filter(|message| message.header().reply_serial() == Some(serial)).count()
    }
}
