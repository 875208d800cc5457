//! Talk between supervisor and child while a container is built: typed steps, both sides name the one they expect.
//!
//! An error travels as text; the end of the connection without one is a failure too. The child's end is close-on-exec:
//! its end of file after [`Step::Ready`] is the proof that `execve` worked.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::{Context, Failure, Result, failure};
use crate::sys::packet;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// To the child: id maps are written; fds of detached mounts: root, /dev, /sys unless the child makes it, then those
    /// of the spec that come from outside, in order.
    Mounts,
    /// To the child: interfaces are there.
    Network,
    /// To the supervisor: all is built; fds of the console masters. Unless it is to be held the child goes on.
    Ready,
    /// To a held child: execute init.
    Go,
    /// From either side, last message.
    Error { stage: String, message: String },
}

/// One end.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// Both ends.
pub fn channel() -> Result<(Channel, Channel)> {
    let (a, b) = packet::pair().at("sync", "cannot make a socket pair")?;
    Ok((Channel { socket: a }, Channel { socket: b }))
}

/// The other side's socket is closed; the second form when it left something of ours unread.
fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset)
}

impl Channel {
    /// Sends one step with its fds.
    pub fn send(&self, step: &Step, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let text = serde_json::to_vec(step)
            .map_err(|error| Failure { stage: "sync".to_string(), message: error.to_string() })?;
        match packet::send(self.socket.as_fd(), &text, fds) {
            Ok(()) => Ok(()),
            // The other side is gone; if it left a message, that is the better error.
            Err(error) if is_gone(&error) => match self.receive()? {
                Some((Step::Error { stage, message }, _)) => Err(Failure { stage, message }),
                _ => Err(error).at("sync", format_args!("other side ended before {step:?} could be sent")),
            },
            Err(error) => Err(error).at("sync", format_args!("cannot send {step:?}")),
        }
    }

    #[cfg(test)]
    pub fn say(&self, bytes: &[u8]) {
        let _ = packet::send(self.socket.as_fd(), bytes, &[]);
    }

    /// Tells the other side why it is over. Best effort; leaves what that side has said to [`Channel::last_words`].
    pub fn fail(&self, failure: &Failure) {
        let step = Step::Error { stage: failure.stage.clone(), message: failure.message.clone() };
        let _ = serde_json::to_vec(&step).map(|text| packet::send(self.socket.as_fd(), &text, &[]));
    }

    fn receive(&self) -> Result<Option<(Step, Vec<OwnedFd>)>> {
        let mut received = packet::recv(&self.socket);
        // The other side ended with something of ours unread. The kernel says so once, and before it gives what the
        // other side had sent: its last words are still to come.
        if matches!(&received, Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset) {
            received = packet::recv(&self.socket);
        }
        match received {
            Ok(Some((data, fds))) => match serde_json::from_slice(&data) {
                Ok(step) => Ok(Some((step, fds))),
                Err(error) => failure("sync", format!("malformed message: {error}")),
            },
            Ok(None) => Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error).at("sync", "cannot receive"),
        }
    }

    /// Waits for exactly `wanted`; its fds.
    pub fn expect(&self, wanted: &Step) -> Result<Vec<OwnedFd>> {
        match self.receive()? {
            Some((step, fds)) if step == *wanted => Ok(fds),
            Some((Step::Error { stage, message }, _)) => Err(Failure { stage, message }),
            Some((other, _)) => failure("sync", format!("expected {wanted:?}, got {other:?}")),
            None => failure("sync", format!("other side ended while {wanted:?} was expected")),
        }
    }

    /// The error the other side has left, if it has: never waits.
    pub fn last_words(&self) -> Option<Failure> {
        let mut fds = [nix::poll::PollFd::new(self.socket.as_fd(), nix::poll::PollFlags::POLLIN)];
        while nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).is_ok_and(|count| count > 0) {
            match self.receive() {
                Ok(Some((Step::Error { stage, message }, _))) => return Some(Failure { stage, message }),
                Ok(Some(_)) => {}
                _ => return None,
            }
        }
        None
    }

    /// Waits for the end of the connection: the other side executed its program.
    pub fn expect_end(&self) -> Result<()> {
        match self.receive()? {
            None => Ok(()),
            Some((Step::Error { stage, message }, _)) => Err(Failure { stage, message }),
            Some((other, _)) => failure("sync", format!("expected the end, got {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_errors_and_ends_are_told_apart() {
        let (parent, child) = channel().unwrap();
        parent.send(&Step::Network, &[]).unwrap();
        child.expect(&Step::Network).unwrap();
        parent.send(&Step::Go, &[]).unwrap();
        let error = child.expect(&Step::Mounts).unwrap_err();
        assert!(error.message.contains("expected Mounts, got Go"), "{error}");
        child.fail(&Failure { stage: "root".into(), message: "no".into() });
        assert_eq!(parent.expect(&Step::Ready).unwrap_err(), Failure { stage: "root".into(), message: "no".into() });
        drop(child);
        assert!(parent.expect(&Step::Ready).unwrap_err().message.contains("ended while Ready"));
    }

    #[test]
    fn an_error_left_behind_beats_the_broken_pipe() {
        let (parent, child) = channel().unwrap();
        child.fail(&Failure { stage: "dev".into(), message: "told".into() });
        drop(child);
        assert_eq!(parent.send(&Step::Go, &[]).unwrap_err().message, "told");
    }

    #[test]
    fn last_words_survive_that_the_other_side_fails_too() {
        let (parent, child) = channel().unwrap();
        child.fail(&Failure { stage: "dev".into(), message: "told".into() });
        drop(child);
        parent.fail(&Failure { stage: "network".into(), message: "its process is gone".into() });
        assert_eq!(parent.last_words().map(|failure| failure.message).as_deref(), Some("told"));
    }

    #[test]
    fn last_words_survive_an_unread_message() {
        let (parent, child) = channel().unwrap();
        parent.send(&Step::Network, &[]).unwrap();
        child.fail(&Failure { stage: "dev".into(), message: "told".into() });
        drop(child);
        assert_eq!(parent.expect(&Step::Ready).unwrap_err().message, "told");
    }
}
