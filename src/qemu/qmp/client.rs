//! The connection's task and its handle.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use super::wire::{Event, Greeting, LineBuffer, MAX_LINE, Message, QmpError, parse_line};
use crate::error::{Code, Error, Result};
use crate::sys;

pub use qapi::Command;

/// Bytes of commands that may wait for a QEMU which does not read; beyond it new commands fail at once.
const MAX_UNSENT: usize = 4 * 1024 * 1024;

/// Events in the order QEMU sent them; ends when the connection does.
pub type Events = mpsc::UnboundedReceiver<Event>;

/// A handle to the connection; cheap to clone. The connection ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Qmp {
    requests: mpsc::UnboundedSender<Request>,
    greeting: watch::Receiver<Option<Greeting>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Request {
    id: u64,
    line: Vec<u8>,
    /// Travel with the line's first byte.
    fds: Vec<OwnedFd>,
    reply: oneshot::Sender<Answer>,
}

type Answer = std::result::Result<Box<RawValue>, QmpError>;

/// What handles read without asking the task.
#[derive(Debug, Default)]
struct Shared {
    next_id: AtomicU64,
    /// Why the connection ended, once it has.
    closed: Mutex<Option<String>>,
    /// When the oldest command that still waits was sent.
    waiting_since: Mutex<Option<Instant>>,
}

impl Shared {
    fn close_reason(&self) -> Option<String> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Qmp {
    /// Takes over a connected socket. Call inside a tokio runtime.
    pub fn start(stream: UnixStream) -> (Qmp, Events) {
        Qmp::start_bounded(stream, MAX_LINE)
    }

    fn start_bounded(stream: UnixStream, max_line: usize) -> (Qmp, Events) {
        let (requests, incoming) = mpsc::unbounded_channel();
        let (event_sender, events) = mpsc::unbounded_channel();
        let (greet, greeting) = watch::channel(None);
        let shared = Arc::new(Shared::default());
        let task = Task {
            stream,
            incoming,
            event_sender,
            greet,
            shared: shared.clone(),
            lines: LineBuffer::new(max_line),
            unsent: VecDeque::new(),
            fds: VecDeque::new(),
            waiting: HashMap::new(),
        };
        tokio::spawn(task.run());
        (Qmp { requests, greeting, shared }, events)
    }

    /// Waits for QEMU's greeting and leaves negotiation mode.
    ///
    /// Errors: `OperationTimeout` when nothing comes within `deadline`, `InternalError` when the connection ends first.
    pub async fn negotiate(&self, deadline: Duration) -> Result<Greeting> {
        let until = Instant::now() + deadline;
        let mut watch = self.greeting.clone();
        let greeting = match tokio::time::timeout(deadline, watch.wait_for(Option::is_some)).await {
            Err(_) => return Err(timeout("the greeting", deadline)),
            Ok(Err(_)) => return Err(self.closed_error()),
            Ok(Ok(value)) => value.clone(),
        };
        self.execute_raw("qmp_capabilities", Value::Null, until.saturating_duration_since(Instant::now())).await?;
        greeting.ok_or_else(|| self.closed_error())
    }

    /// Runs a typed command.
    ///
    /// Errors: `InternalError` with libvirt's "unable to execute QEMU command" text when QEMU refuses,
    /// `OperationTimeout` after `deadline`, `InternalError` when the connection ended.
    pub async fn execute<C: Command>(&self, command: C, deadline: Duration) -> Result<C::Ok> {
        let arguments = serde_json::to_value(&command).map_err(|error| unreadable(C::NAME, error))?;
        let raw = self.execute_raw(C::NAME, arguments, deadline).await?;
        serde_json::from_str(raw.get()).map_err(|error| unreadable(C::NAME, error))
    }

    /// Runs a command by name; `arguments` is an object or null.
    pub async fn execute_raw(&self, name: &str, arguments: Value, deadline: Duration) -> Result<Box<RawValue>> {
        match self.try_execute(name, arguments, deadline).await? {
            Ok(value) => Ok(value),
            Err(error) => Err(refused(name, &error)),
        }
    }

    /// As [`Qmp::execute_raw`], decoded; for answers without a published type.
    pub async fn execute_value(&self, name: &str, arguments: Value, deadline: Duration) -> Result<Value> {
        let raw = self.execute_raw(name, arguments, deadline).await?;
        serde_json::from_str(raw.get()).map_err(|error| unreadable(name, error))
    }

    /// As [`Qmp::execute_raw`], with QEMU's own refusal apart from failures of the connection.
    pub async fn try_execute(&self, name: &str, arguments: Value, deadline: Duration) -> Result<Answer> {
        self.submit(name, arguments, Vec::new(), deadline).await
    }

    /// Gives QEMU a descriptor under a name of our choice (`getfd`), for a command that takes one. It keeps it until a
    /// command has taken it, or until `closefd`.
    pub async fn pass_fd(&self, fd_name: &str, fd: OwnedFd, deadline: Duration) -> Result<()> {
        let arguments = serde_json::json!({ "fdname": fd_name });
        let answer = self.submit("getfd", arguments, vec![fd], deadline).await?;
        answer.map(drop).map_err(|error| refused("getfd", &error))
    }

    /// As [`Qmp::try_execute`], with descriptors for the command.
    pub async fn execute_with_fds(
        &self,
        name: &str,
        arguments: Value,
        fds: Vec<OwnedFd>,
        deadline: Duration,
    ) -> Result<Answer> {
        self.submit(name, arguments, fds, deadline).await
    }

    async fn submit(&self, name: &str, arguments: Value, fds: Vec<OwnedFd>, deadline: Duration) -> Result<Answer> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed) + 1;
        let mut command = serde_json::Map::new();
        command.insert("execute".into(), name.into());
        if arguments.as_object().is_some_and(|map| !map.is_empty()) {
            command.insert("arguments".into(), arguments);
        }
        command.insert("id".into(), id.into());
        let mut line = Value::Object(command).to_string().into_bytes();
        line.push(b'\n');
        tracing::trace!(id, command = name, "qmp command");
        let (reply, answer) = oneshot::channel();
        if self.requests.send(Request { id, line, fds, reply }).is_err() {
            return Err(self.closed_error());
        }
        match tokio::time::timeout(deadline, answer).await {
            Err(_) => Err(timeout(&format!("QEMU command '{name}'"), deadline)),
            Ok(Err(_)) => Err(self.closed_error()),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    /// How long the oldest unanswered command has waited; zero when none does. A reader that may not wait uses it to
    /// leave a QEMU alone that is known not to answer.
    pub fn lag(&self) -> Duration {
        let since = *self.shared.waiting_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    fn closed_error(&self) -> Error {
        let reason = self.shared.close_reason().unwrap_or_else(|| "End of file from qemu monitor".into());
        Error::internal(reason)
    }
}

fn refused(name: &str, error: &QmpError) -> Error {
    let code = if error.class == "CommandNotFound" { Code::OperationUnsupported } else { Code::InternalError };
    Error::new(code, format!("unable to execute QEMU command '{name}': {}", error.desc))
}

fn unreadable(name: &str, error: serde_json::Error) -> Error {
    Error::internal(format!("cannot read QEMU's answer to '{name}': {error}")).with_source(error)
}

fn timeout(what: &str, deadline: Duration) -> Error {
    Error::new(Code::OperationTimeout, format!("{what}: QEMU did not answer within {} ms", deadline.as_millis()))
}

struct Waiter {
    reply: oneshot::Sender<Answer>,
    since: Instant,
}

/// Owns the socket.
struct Task {
    stream: UnixStream,
    incoming: mpsc::UnboundedReceiver<Request>,
    event_sender: mpsc::UnboundedSender<Event>,
    greet: watch::Sender<Option<Greeting>>,
    shared: Arc<Shared>,
    lines: LineBuffer,
    unsent: VecDeque<u8>,
    /// Descriptors, each with the number of unsent bytes that go before it.
    fds: VecDeque<(usize, Vec<OwnedFd>)>,
    waiting: HashMap<u64, Waiter>,
}

impl Task {
    async fn run(mut self) {
        let reason = match self.serve().await {
            Ok(()) => {
                tracing::debug!("qmp connection closed by us");
                "the monitor connection was closed".to_string()
            }
            Err(reason) => reason,
        };
        *self.shared.closed.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        *self.shared.waiting_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // Dropping `waiting` and `incoming` now fails every waiter, and each finds the reason.
    }

    async fn serve(&mut self) -> std::result::Result<(), String> {
        let mut bytes = vec![0u8; 64 * 1024];
        loop {
            let interest = match self.unsent.is_empty() {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            tokio::select! {
                request = self.incoming.recv() => match request {
                    None => return Ok(()),
                    Some(request) => self.take(request),
                },
                ready = self.stream.ready(interest) => {
                    let ready = ready.map_err(|error| format!("cannot wait for the qemu monitor: {error}"))?;
                    if ready.is_writable() {
                        self.send()?;
                    }
                    if ready.is_readable() || ready.is_read_closed() {
                        self.receive(&mut bytes)?;
                    }
                }
            }
            self.note_oldest();
        }
    }

    fn take(&mut self, request: Request) {
        if request.reply.is_closed() {
            return;
        }
        if self.unsent.len() + request.line.len() > MAX_UNSENT {
            let desc = "too many commands wait for a QEMU that does not read its monitor".to_string();
            let _ = request.reply.send(Err(QmpError { class: "GenericError".into(), desc }));
            return;
        }
        if self.waiting.len() >= 256 {
            // Callers that gave up leave their entry behind; a QEMU that never answers must not make us grow.
            self.waiting.retain(|_, waiter| !waiter.reply.is_closed());
        }
        if !request.fds.is_empty() {
            self.fds.push_back((self.unsent.len(), request.fds));
        }
        self.unsent.extend(request.line);
        self.waiting.insert(request.id, Waiter { reply: request.reply, since: Instant::now() });
    }

    fn note_oldest(&self) {
        let oldest = self.waiting.values().map(|waiter| waiter.since).min();
        *self.shared.waiting_since.lock().unwrap_or_else(PoisonError::into_inner) = oldest;
    }

    fn send(&mut self) -> std::result::Result<(), String> {
        while !self.unsent.is_empty() {
            let (front, _) = self.unsent.as_slices();
            let sent = match self.fds.front() {
                Some((0, fds)) => {
                    let (stream, fds): (_, Vec<_>) = (&self.stream, fds.iter().map(AsFd::as_fd).collect());
                    stream.try_io(Interest::WRITABLE, || sys::stream::send_with_fds(stream, front, &fds))
                }
                // Up to where the next descriptor goes.
                Some((before, _)) => self.stream.try_write(front.get(..*before).unwrap_or(front)),
                None => self.stream.try_write(front),
            };
            match sent {
                Ok(count) => {
                    if self.fds.front().is_some_and(|(before, _)| *before == 0) {
                        self.fds.pop_front();
                    }
                    self.fds.iter_mut().for_each(|(before, _)| *before = before.saturating_sub(count));
                    self.unsent.drain(..count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    // What QEMU said before it closed may still be readable; the read side reports the end.
                    self.unsent.clear();
                    self.fds.clear();
                    return Ok(());
                }
                Err(error) => return Err(format!("Unable to write to monitor: {error}")),
            }
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> std::result::Result<(), String> {
        let count = match self.stream.try_read(bytes) {
            Ok(0) => return Err("End of file from qemu monitor".into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err("End of file from qemu monitor".into());
            }
            Err(error) => return Err(format!("Unable to read from monitor: {error}")),
        };
        self.lines.push(&bytes[..count]);
        loop {
            let message = match self.lines.next_line() {
                Ok(None) => return Ok(()),
                Ok(Some(line)) => parse_line(line),
                Err(error) => Err(error),
            };
            match message.map_err(|error| format!("the qemu monitor sent {error}"))? {
                Message::Greeting(greeting) => {
                    self.greet.send_replace(Some(greeting));
                }
                Message::Event(event) => {
                    tracing::trace!(event = %event.name, data = %event.data, "qmp event");
                    let _ = self.event_sender.send(event);
                }
                Message::Reply { id: Some(id), result } => match self.waiting.remove(&id) {
                    Some(waiter) => drop(waiter.reply.send(result)),
                    None => tracing::debug!(id, "late or unknown qmp reply dropped"),
                },
                Message::Reply { id: None, result } => {
                    tracing::warn!(?result, "qmp reply without an id dropped");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    const LONG: Duration = Duration::from_secs(20);
    const GREETING: &str =
        r#"{"QMP":{"version":{"qemu":{"micro":2,"minor":0,"major":10},"package":"p"},"capabilities":[]}}"#;

    struct Server {
        stream: BufReader<UnixStream>,
    }

    impl Server {
        async fn command(&mut self) -> (String, u64) {
            let mut line = String::new();
            self.stream.read_line(&mut line).await.unwrap();
            let value: Value = serde_json::from_str(&line).unwrap();
            (value["execute"].as_str().unwrap().to_string(), value["id"].as_u64().unwrap())
        }

        async fn say(&mut self, text: &str) {
            self.stream.get_mut().write_all(text.as_bytes()).await.unwrap();
            self.stream.get_mut().write_all(b"\r\n").await.unwrap();
        }
    }

    fn pair(max_line: usize) -> (Qmp, Events, Server) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (qmp, events) = Qmp::start_bounded(ours, max_line);
        (qmp, events, Server { stream: BufReader::new(theirs) })
    }

    #[tokio::test]
    async fn negotiates() {
        let (qmp, _events, mut server) = pair(MAX_LINE);
        let client = tokio::spawn(async move { qmp.negotiate(LONG).await });
        server.say(GREETING).await;
        let (name, id) = server.command().await;
        assert_eq!(name, "qmp_capabilities");
        server.say(&json!({"return": {}, "id": id}).to_string()).await;
        assert_eq!(client.await.unwrap().unwrap().version, 10_000_002);
    }

    #[tokio::test]
    async fn replies_out_of_order_and_events_between() {
        let (qmp, mut events, mut server) = pair(MAX_LINE);
        let tasks: Vec<_> = (0..3)
            .map(|n| {
                let qmp = qmp.clone();
                tokio::spawn(async move { qmp.execute_value(&format!("c{n}"), Value::Null, LONG).await.unwrap() })
            })
            .collect();
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(server.command().await);
        }
        server.say(r#"{"event":"BRAND_NEW","data":{"a":1},"timestamp":{"seconds":1,"microseconds":1}}"#).await;
        for (name, id) in seen.iter().rev() {
            server.say(&json!({"return": name, "id": id}).to_string()).await;
        }
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), json!(format!("c{n}")));
        }
        assert_eq!(
            events.recv().await,
            Some(Event { name: "BRAND_NEW".into(), data: json!({"a": 1}), seconds: 1, micros: 1 })
        );
    }

    #[tokio::test]
    async fn a_dropped_future_disturbs_nobody() {
        let (qmp, _events, mut server) = pair(MAX_LINE);
        let first = tokio::spawn({
            let qmp = qmp.clone();
            async move { qmp.execute_value("slow", Value::Null, LONG).await }
        });
        let (_, slow) = server.command().await;
        first.abort();
        let second = tokio::spawn({
            let qmp = qmp.clone();
            async move { qmp.execute_value("fast", Value::Null, LONG).await }
        });
        let (_, fast) = server.command().await;
        server.say(&json!({"return": "late", "id": slow}).to_string()).await;
        server.say(&json!({"return": "ok", "id": fast}).to_string()).await;
        assert_eq!(second.await.unwrap().unwrap(), json!("ok"));
        assert!(!qmp.is_closed());
    }

    #[tokio::test]
    async fn no_answer_is_a_timeout_and_shows_as_lag() {
        let (qmp, _events, mut server) = pair(MAX_LINE);
        let error = qmp.execute_value("x", Value::Null, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.code, Code::OperationTimeout);
        assert!(qmp.lag() > Duration::ZERO);
        let (_, id) = server.command().await;
        server.say(&json!({"return": {}, "id": id}).to_string()).await;
        while qmp.lag() > Duration::ZERO {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn refusals_carry_libvirts_text() {
        let (qmp, _events, mut server) = pair(MAX_LINE);
        let task = tokio::spawn(async move { qmp.execute_value("cont", Value::Null, LONG).await });
        let (_, id) = server.command().await;
        server.say(&json!({"error": {"class": "GenericError", "desc": "no way"}, "id": id}).to_string()).await;
        let error = task.await.unwrap().unwrap_err();
        assert_eq!(error.message(), "internal error: unable to execute QEMU command 'cont': no way");
    }

    #[tokio::test]
    async fn a_closed_connection_fails_all_waiters() {
        let (qmp, mut events, mut server) = pair(MAX_LINE);
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let qmp = qmp.clone();
                tokio::spawn(async move { qmp.execute_value("x", Value::Null, LONG).await })
            })
            .collect();
        for _ in 0..4 {
            server.command().await;
        }
        server.stream.get_mut().write_all(b"{\"return\": {}, \"id\"").await.unwrap();
        drop(server);
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap_err().message(), "internal error: End of file from qemu monitor");
        }
        assert_eq!(events.recv().await, None);
        assert!(qmp.execute_value("x", Value::Null, LONG).await.is_err());
    }

    #[tokio::test]
    async fn garbage_and_oversize_end_the_connection() {
        for (bytes, text) in [(&b"hello\n"[..], "no QMP message"), (&[b'x'; 200][..], "longer than 100 bytes")] {
            let (qmp, _events, mut server) = pair(100);
            let task = tokio::spawn(async move { qmp.execute_value("x", Value::Null, LONG).await });
            server.command().await;
            server.stream.get_mut().write_all(bytes).await.unwrap();
            let error = task.await.unwrap().unwrap_err();
            assert!(error.detail.contains(text), "{error}");
        }
    }

    #[tokio::test]
    async fn a_descriptor_travels_with_its_command() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (qmp, _events) = Qmp::start(ours);
        let (one, _other) = UnixStream::pair().unwrap();
        let fd = std::os::fd::OwnedFd::from(one.into_std().unwrap());
        let first = qmp.execute_raw("before", Value::Null, LONG);
        let passed = qmp.pass_fd("x", fd, LONG);
        let server = async {
            let (mut text, mut fds) = (Vec::new(), Vec::new());
            while text.iter().filter(|byte| **byte == b'\n').count() < 2 {
                theirs.readable().await.unwrap();
                let mut part = [0; 4096];
                let read = theirs.try_io(Interest::READABLE, || sys::stream::recv(&theirs, &mut part));
                if let Ok((count, received)) = read {
                    text.extend_from_slice(&part[..count]);
                    fds.extend(received);
                }
            }
            for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let value: Value = serde_json::from_slice(line).unwrap();
                let answer = format!("{}\n", json!({"return": {}, "id": value["id"]}));
                theirs.try_write(answer.as_bytes()).unwrap();
            }
            (String::from_utf8(text).unwrap(), fds.len())
        };
        let (first, passed, (text, fds)) = tokio::join!(first, passed, server);
        assert!(first.is_ok() && passed.is_ok());
        assert_eq!(fds, 1);
        assert!(text.contains("\"getfd\"") && text.contains("\"fdname\":\"x\""), "{text}");
    }

    #[tokio::test]
    async fn a_peer_that_never_reads_is_bounded() {
        let (qmp, _events, _server) = pair(MAX_LINE);
        let big = json!({"x": "y".repeat(1024 * 1024)});
        let mut last = None;
        for _ in 0..8 {
            last = Some(qmp.execute_value("x", big.clone(), Duration::from_millis(50)).await.unwrap_err());
        }
        assert!(last.unwrap().detail.contains("does not read"));
    }
}
