//! The guest agent: one command at a time, each over a connection of its own.
//!
//! ```text
//! connect -> 0xff, guest-sync-delimited -> (what a former command left is passed over) -> 0xff, our id
//!         -> command -> answer, or nothing when the guest is on its way down
//! ```
//!
//! The agent runs inside the guest and is not trusted: lines are bounded, and every wait has an end.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::{QUICK_DEADLINE, QemuInstance};
use crate::engine::control::{AgentAnswer, AgentCommand, AgentRefusal};
use crate::error::{Code, Error, Result};
use crate::qemu::qmp::LineBuffer;

/// How long an agent may take to say that it is there.
const SYNC: Duration = Duration::from_secs(5);
/// "As long as it takes": a trim of a large disk takes its time, but nothing waits for ever.
const LONGEST: Duration = Duration::from_secs(3600);
/// Bytes of one answer: a file that is read through the agent is the longest.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// `VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK`, `_DEFAULT`, `_NOWAIT`.
const BLOCK: i32 = -2;
const DEFAULT: i32 = -1;
const NOWAIT: i32 = 0;

/// What one guest's agent is asked with.
#[derive(Debug)]
pub(super) struct Slot {
    /// One command at a time: the agent has one port.
    busy: Mutex<()>,
    timeout: AtomicI32,
    next_id: AtomicU64,
}

impl Default for Slot {
    fn default() -> Slot {
        Slot { busy: Mutex::default(), timeout: AtomicI32::new(BLOCK), next_id: AtomicU64::new(1) }
    }
}

/// How long to wait for the agent to be there, and for its answer; `None`: not at all.
fn patience(timeout: i32) -> (Duration, Option<Duration>) {
    match timeout {
        BLOCK => (SYNC, Some(LONGEST)),
        DEFAULT => (SYNC, Some(SYNC)),
        NOWAIT => (SYNC, None),
        seconds => {
            let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            (seconds, Some(seconds))
        }
    }
}

fn unresponsive(text: String) -> Error {
    Error::new(Code::AgentUnresponsive, text)
}

/// A connection to an agent.
struct Talk {
    stream: UnixStream,
    lines: LineBuffer,
}

impl Talk {
    async fn connect(path: &str) -> Result<Talk> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|error| unresponsive(format!("cannot connect to the guest agent's socket '{path}': {error}")))?;
        Ok(Talk { stream, lines: LineBuffer::new(MAX_ANSWER) })
    }

    async fn send(&mut self, mark: &[u8], command: &Value) -> Result<()> {
        let line = [mark, command.to_string().as_bytes(), b"\n"].concat();
        let failed = |error| unresponsive(format!("cannot write to the guest agent: {error}"));
        self.stream.write_all(&line).await.map_err(failed)
    }

    /// The next answer; other lines are what a former command left.
    async fn receive(&mut self) -> Result<AgentAnswer> {
        let mut part = vec![0; 4096];
        loop {
            while let Some(line) = self.lines.next_line().map_err(|error| unresponsive(format!("it sent {error}")))? {
                // The mark ends whatever was left half said.
                let line = line.rsplit(|byte| *byte == 0xff).next().unwrap_or_default();
                let Ok(mut answer) = serde_json::from_slice::<Value>(line) else { continue };
                if let Some(value) = answer.get_mut("return") {
                    return Ok(Ok(value.take()));
                }
                if let Some(error) = answer.get("error") {
                    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or("unknown").to_string();
                    return Ok(Err(AgentRefusal { class: text("class"), text: text("desc") }));
                }
            }
            let count = self.stream.read(&mut part).await.map_err(|error| unresponsive(error.to_string()))?;
            if count == 0 {
                return Err(unresponsive("the guest agent's connection was closed".into()));
            }
            self.lines.push(part.get(..count).unwrap_or_default());
        }
    }

    /// Returns once the agent has said our number.
    async fn sync(&mut self, id: u64) -> Result<()> {
        let command = json!({"execute": "guest-sync-delimited", "arguments": {"id": id}});
        self.send(b"\xff", &command).await?;
        loop {
            if self.receive().await?.is_ok_and(|said| said.as_u64() == Some(id)) {
                return Ok(());
            }
        }
    }
}

/// One command. `Ok(None)`: nobody waited for an answer.
async fn talk(path: &str, id: u64, name: &str, arguments: &Value, timeout: i32) -> Result<Option<AgentAnswer>> {
    let (sync, answer) = patience(timeout);
    let hello = async {
        let mut talk = Talk::connect(path).await?;
        talk.sync(id).await?;
        Ok::<_, Error>(talk)
    };
    let silent = |_| unresponsive("guest agent did not answer to guest-sync: it does not run, or is stuck".into());
    let mut talk = tokio::time::timeout(sync, hello).await.map_err(silent)??;
    let mut command = json!({ "execute": name });
    if arguments.as_object().is_some_and(|map| !map.is_empty()) {
        command["arguments"] = arguments.clone();
    }
    talk.send(b"", &command).await?;
    let Some(answer) = answer else { return Ok(None) };
    match tokio::time::timeout(answer, talk.receive()).await {
        Ok(answer) => answer.map(Some),
        Err(_) => {
            let text = format!("guest agent didn't respond to '{name}' within {} seconds", answer.as_secs());
            Err(unresponsive(text))
        }
    }
}

impl QemuInstance {
    /// `guest-shutdown` with a mode (`powerdown`, `reboot`, `halt`). A successful one has no answer.
    pub(super) async fn agent_shutdown(&self, mode: &str) -> Result<()> {
        self.agent_command("guest-shutdown", &json!({ "mode": mode }), NOWAIT).await.map(drop)
    }

    async fn agent_command(&self, name: &str, arguments: &Value, timeout: i32) -> Result<Option<AgentAnswer>> {
        let Some(path) = &self.facts.agent_socket else {
            return Err(Error::new(Code::ArgumentUnsupported, "QEMU guest agent is not configured"));
        };
        let id = self.agent.next_id.fetch_add(1, Ordering::Relaxed) + (u64::from(std::process::id()) << 32);
        let (_, longest) = patience(timeout);
        let turn = tokio::time::timeout(longest.unwrap_or(SYNC), self.agent.busy.lock()).await;
        let _turn = turn.map_err(|_| unresponsive("guest agent is busy with another command".into()))?;
        talk(path, id, name, arguments, timeout).await
    }

    /// See `Instance::agent`.
    pub(super) async fn ask_agent(&self, command: AgentCommand) -> Result<Option<AgentAnswer>> {
        let timeout = command.timeout.unwrap_or_else(|| self.agent.timeout.load(Ordering::Relaxed));
        let answer = self.agent_command(&command.name, &command.arguments, timeout).await?;
        if command.name == "guest-set-time" && matches!(answer, Some(Ok(_))) {
            // Ticks of its clock that the guest has missed must not be made up for now. Only x86 has the command.
            let _ = self.qmp()?.try_execute("rtc-reset-reinjection", Value::Null, QUICK_DEADLINE).await?;
        }
        Ok(answer)
    }

    pub(super) fn set_agent_patience(&self, timeout: i32) {
        self.agent.timeout.store(timeout, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::UnixListener;

    /// Answers each connection with these lines after the sync; what it was asked.
    async fn agent(dir: &std::path::Path, said: &'static [u8]) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        let path = dir.join("agent").to_str().unwrap().to_string();
        let listener = UnixListener::bind(&path).unwrap();
        let task = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut asked = Vec::new();
            let mut line = Vec::new();
            stream.read_until(b'\n', &mut line).await.unwrap();
            assert_eq!(line.first(), Some(&0xff));
            let sync: Value = serde_json::from_slice(&line[1..]).unwrap();
            let id = sync["arguments"]["id"].as_u64().unwrap();
            // An answer nobody waits for any more, then ours.
            let hello =
                [b"half an ans\xff{\"return\": 7}\n\xff", json!({"return": id}).to_string().as_bytes(), b"\n"].concat();
            stream.write_all(&hello).await.unwrap();
            let mut line = String::new();
            while stream.read_line(&mut line).await.unwrap_or(0) > 0 {
                asked.push(std::mem::take(&mut line));
                stream.write_all(said).await.unwrap();
            }
            asked
        });
        (path, task)
    }

    #[tokio::test]
    async fn an_answer_is_told_from_what_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let (path, asked) = agent(dir.path(), b"{\"return\": 42}\n").await;
        let answer = talk(&path, 99, "guest-get-time", &json!({"a": 1}), DEFAULT).await.unwrap();
        assert_eq!(answer, Some(Ok(json!(42))));
        assert_eq!(asked.await.unwrap(), ["{\"arguments\":{\"a\":1},\"execute\":\"guest-get-time\"}\n"]);
    }

    #[tokio::test]
    async fn refusals_keep_their_class() {
        let dir = tempfile::tempdir().unwrap();
        let said = b"{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no such\"}}\n";
        let (path, _asked) = agent(dir.path(), said).await;
        let no = talk(&path, 99, "guest-x", &Value::Null, BLOCK).await.unwrap().unwrap().unwrap_err();
        assert!(no.is_unsupported());
        assert_eq!(no.text, "no such");
    }

    #[tokio::test]
    async fn silence_and_nonsense_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("silent").to_str().unwrap().to_string();
        assert_eq!(talk(&path, 1, "x", &Value::Null, 1).await.unwrap_err().code, Code::AgentUnresponsive);
        let _listener = UnixListener::bind(&path).unwrap();
        let error = talk(&path, 1, "x", &Value::Null, 1).await.unwrap_err();
        assert!(error.detail.contains("guest-sync"), "{error}");
        let (path, _asked) = agent(dir.path(), b"not json\n").await;
        let error = talk(&path, 1, "guest-x", &Value::Null, 1).await.unwrap_err();
        assert!(error.detail.contains("didn't respond to 'guest-x'"), "{error}");
    }
}
