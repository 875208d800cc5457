//! The one thing asked of a guest agent here: to end or restart the guest.
//!
//! The agent runs inside the guest and is not trusted: bytes read are bounded, and no answer is needed for success.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::QemuInstance;
use crate::error::{Code, Error, Result};

/// How long an agent may take to refuse.
const DEADLINE: Duration = Duration::from_secs(5);
/// Bytes read of an answer.
const MAX_ANSWER: usize = 64 * 1024;

impl QemuInstance {
    /// `guest-shutdown` with a mode (`powerdown`, `reboot`, `halt`). A successful one has no answer.
    pub(super) async fn agent_shutdown(&self, mode: &str) -> Result<()> {
        let Some(path) = self.facts.agent_socket.clone() else {
            return Err(Error::new(Code::ArgumentUnsupported, "QEMU guest agent is not configured"));
        };
        let unresponsive = |text: String| Error::new(Code::AgentUnresponsive, text);
        let talk = async {
            let mut stream = UnixStream::connect(&path).await.map_err(|error| {
                unresponsive(format!("cannot connect to the guest agent's socket '{path}': {error}"))
            })?;
            // The mark makes the agent drop what a former connection left half said.
            let id = u64::from(std::process::id());
            let sync = json!({"execute": "guest-sync-delimited", "arguments": {"id": id}}).to_string();
            let command = json!({"execute": "guest-shutdown", "arguments": {"mode": mode}}).to_string();
            let write = |error: std::io::Error| unresponsive(format!("cannot write to the guest agent: {error}"));
            stream.write_all(b"\xff").await.map_err(write)?;
            stream.write_all(sync.as_bytes()).await.map_err(write)?;
            stream.write_all(b"\n").await.map_err(write)?;
            let mut seen = Vec::new();
            let mut buffer = [0u8; 4096];
            loop {
                let count = stream.read(&mut buffer).await.map_err(|error| unresponsive(error.to_string()))?;
                if count == 0 || seen.len() > MAX_ANSWER {
                    return Err(unresponsive("guest agent closed the connection or sent too much".into()));
                }
                seen.extend_from_slice(&buffer[..count]);
                let text = String::from_utf8_lossy(&seen);
                if text.contains(&format!("\"return\": {id}")) || text.contains(&format!("\"return\":{id}")) {
                    break;
                }
            }
            stream.write_all(command.as_bytes()).await.map_err(write)?;
            stream.write_all(b"\n").await.map_err(write)
        };
        match tokio::time::timeout(DEADLINE, talk).await {
            Ok(result) => result,
            Err(_) => Err(unresponsive("guest agent did not answer to guest-sync".into())),
        }
    }
}
