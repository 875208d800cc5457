//! The connection to the daemon and one method call over it.
//!
//! Owns where the daemon is looked for, the D-Bus connection, the deadline of a call and the mapping of D-Bus failures
//! to one error type. Knows no libvirt call.

use std::env;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;
use zbus::wire::DynamicDeserialize;
use zbus::{DBusError, DynamicType};

use super::output::Failure;
use super::params::scalar;
use crate::types::ParamValue;

/// The bus name of libvirt-dbus, which domusd takes on a bus.
const BUS_NAME: &str = "org.libvirt";

/// Connecting is local; a daemon that has not even shaken hands by now does not work.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where the daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Its own peer-to-peer socket; `root` is what `--root` gave, for the advice in an error.
    Socket { path: PathBuf, root: Option<PathBuf> },
    /// The system bus.
    System,
    /// The session bus.
    Session,
    /// A bus at this D-Bus address.
    Address(String),
}

impl Target {
    /// The peer-to-peer socket of the daemon with this root directory.
    pub fn of_root(root: &Path) -> Target {
        Target::Socket { path: root.join("run/dbus-sock"), root: Some(root.to_owned()) }
    }

    /// The socket of the daemon that runs without `--root`: root's, or the calling user's.
    pub fn installed() -> Target {
        let user_dir = env::var_os("XDG_RUNTIME_DIR").filter(|_| !rustix::process::geteuid().is_root());
        let base = user_dir.map_or_else(|| PathBuf::from("/run"), PathBuf::from);
        Target::Socket { path: base.join("domus/dbus-sock"), root: None }
    }
}

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The daemon's answer; the text is libvirt's.
    #[error("{message}")]
    Remote {
        /// D-Bus error name, `org.libvirt.Error`.
        name: String,
        message: String,
    },
    /// The call is not known at the other end.
    #[error("the daemon does not know the call {call}: {message}")]
    Unknown { call: String, message: String },
    #[error("no answer from the daemon within {0:?} (see --timeout)")]
    Timeout(Duration),
    #[error("no daemon owns the name {BUS_NAME} on this bus; start domusd with --system, --session or --bus")]
    NoDaemon,
    #[error("lost the connection to the daemon: {0}")]
    Lost(String),
    #[error("the daemon's answer to {call} is not understood: {reason}")]
    Answer { call: String, reason: String },
}

impl CallError {
    /// Whether the daemon answered that it has no such call, as opposed to one that failed.
    pub fn is_unknown(&self) -> bool {
        match self {
            CallError::Unknown { .. } => true,
            CallError::Remote { message, .. } => message.starts_with("this function is not supported"),
            _ => false,
        }
    }

    /// Whether this is an answer at all; otherwise there is no use in asking on.
    pub fn is_answer(&self) -> bool {
        matches!(self, CallError::Remote { .. } | CallError::Unknown { .. })
    }
}

/// The connection.
#[derive(Clone, Debug)]
pub struct Client {
    connection: zbus::Connection,
    /// `None` on the peer-to-peer socket.
    destination: Option<&'static str>,
    /// Deadline of one call; `None` waits for ever, as virsh does.
    deadline: Option<Duration>,
}

impl Client {
    /// Connects; the error says where the daemon was looked for and how to start it.
    pub async fn connect(target: &Target, deadline: Option<Duration>) -> Result<Client, Failure> {
        let what = "failed to connect to the hypervisor";
        let builder = match target {
            Target::Socket { path, root } => {
                let stream = UnixStream::connect(path).map_err(|error| {
                    Failure::new(format!("cannot connect to '{}': {}", path.display(), reason(&error)))
                        .context(what)
                        .advise(&advice(root.as_deref(), &error))
                })?;
                zbus::connection::Builder::unix_stream(stream).p2p()
            }
            Target::System => zbus::connection::Builder::system(),
            Target::Session => zbus::connection::Builder::session(),
            Target::Address(address) => zbus::connection::Builder::address(address.as_str()),
        };
        let connection = timeout(deadline.map_or(HANDSHAKE, |deadline| deadline.min(HANDSHAKE)), builder.build())
            .await
            .map_err(|_| Failure::new("the daemon accepted the connection but does not answer").context(what))?
            .map_err(|error| Failure::new(error.to_string()).context(what))?;
        let destination = if matches!(target, Target::Socket { .. }) { None } else { Some(BUS_NAME) };
        Ok(Client { connection, destination, deadline })
    }

    /// Calls `interface.method` of the object `path` and waits for its answer.
    pub async fn call<B, R>(&self, path: &str, interface: &str, method: &str, body: &B) -> Result<R, CallError>
    where
        B: Serialize + DynamicType,
        R: for<'d> DynamicDeserialize<'d>,
    {
        let name = || format!("{interface}.{method}");
        let call = self.connection.call_method(self.destination, path, Some(interface), method, body);
        let answer = match self.deadline {
            Some(deadline) => timeout(deadline, call).await.map_err(|_| CallError::Timeout(deadline))?,
            None => call.await,
        };
        let message = answer.map_err(|error| call_error(error, name))?;
        let body = message.body();
        body.deserialize().map_err(|error| CallError::Answer { call: name(), reason: error.to_string() })
    }

    /// A D-Bus property.
    pub async fn property(&self, path: &str, interface: &str, name: &str) -> Result<zbus::OwnedVariant, CallError> {
        self.call(path, "org.freedesktop.DBus.Properties", "Get", &(interface, name)).await
    }

    /// A D-Bus property that is a number, a boolean or text; `None` when it is something else.
    pub async fn value(&self, path: &str, interface: &str, name: &str) -> Result<Option<ParamValue>, CallError> {
        let value = self.property(path, interface, name).await?;
        Ok(scalar(&value))
    }

    /// Sets a D-Bus property.
    pub async fn set_property(
        &self,
        path: &str,
        interface: &str,
        name: &str,
        value: zbus::Variant<'_>,
    ) -> Result<(), CallError> {
        self.call(path, "org.freedesktop.DBus.Properties", "Set", &(interface, name, value)).await
    }

    /// Every signal from now on. On the peer-to-peer socket they come unasked; a bus has to be told.
    pub async fn signals(&self) -> Result<zbus::MessageStream, CallError> {
        if self.destination.is_none() {
            return Ok(zbus::MessageStream::from(self.connection.clone()));
        }
        let lost = |error: zbus::Error| CallError::Lost(error.to_string());
        let rule = zbus::MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(BUS_NAME)
            .path_namespace("/org/libvirt")
            .build()
            .map_err(lost)?;
        zbus::MessageStream::for_match_rule(rule, &self.connection, None).await.map_err(lost)
    }
}

impl Failure {
    fn advise(mut self, advice: &str) -> Self {
        if let Some(last) = self.lines.last_mut() {
            last.push_str("; ");
            last.push_str(advice);
        }
        self
    }
}

/// The system's words for an error, without Rust's "(os error N)".
pub fn reason(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

fn advice(root: Option<&Path>, error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        return "run domus as the user who runs the daemon, or as root".to_owned();
    }
    match root {
        Some(root) => format!("no daemon runs there; start one with 'domusd --root {}'", root.display()),
        None => "no daemon runs there; start it with 'systemctl start domusd', or name the daemon's directory with \
                 --root or DOMUS_ROOT"
            .to_owned(),
    }
}

fn call_error(error: zbus::Error, call: impl FnOnce() -> String) -> CallError {
    match error {
        zbus::Error::MethodError(name, message, _) => {
            let name = name.to_string();
            CallError::Remote { message: message.unwrap_or_else(|| name.clone()), name }
        }
        zbus::Error::FDO(error) => {
            let message = error.description().unwrap_or_default().to_owned();
            match *error {
                zbus::fdo::Error::UnknownMethod(_)
                | zbus::fdo::Error::UnknownInterface(_)
                | zbus::fdo::Error::UnknownObject(_)
                | zbus::fdo::Error::UnknownProperty(_) => CallError::Unknown { call: call(), message },
                zbus::fdo::Error::ServiceUnknown(_) | zbus::fdo::Error::NameHasNoOwner(_) => CallError::NoDaemon,
                _ => CallError::Remote { name: error.name().to_string(), message },
            }
        }
        zbus::Error::InputOutput(error) => CallError::Lost(reason(&error)),
        other => CallError::Answer { call: call(), reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_has_its_socket_below_run() {
        let Target::Socket { path, .. } = Target::of_root(Path::new("/x")) else { panic!("a socket") };
        assert_eq!(path, Path::new("/x/run/dbus-sock"));
    }

    #[test]
    fn advice_names_the_root() {
        let gone = std::io::Error::from_raw_os_error(2);
        assert!(advice(Some(Path::new("/x")), &gone).contains("domusd --root /x"));
        let denied = std::io::Error::from_raw_os_error(13);
        assert!(advice(None, &denied).contains("as root"));
    }
}
