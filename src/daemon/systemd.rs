//! Transient scopes: the two calls of systemd's manager that [`crate::cgroup`] needs, over the system bus.
//!
//! ```text
//! StartTransientUnit --> job path        StopUnit --> job path
//!     JobRemoved(job, "done"): the unit is there, or gone
//! ```
//!
//! Owns the connection, made at the first call and again when it broke. Knows nothing of guests.

use std::num::NonZero;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, Variant};

use crate::cgroup::scope::{Scope, Value};
use crate::cgroup::{self, Scopes, scope};
use crate::error::{Code, Error, Result, Subsystem};

const SERVICE: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// An error that says what is wanted: the unit is not there.
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// systemd may be busy; a scope has nothing to wait for itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// Signals that may wait to be read.
const QUEUE: NonZero<usize> = NonZero::new(256).expect("it is not 0");
const JOB_REMOVED: &str =
    "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved',path='/org/freedesktop/systemd1'";

/// `[cgroup] systemd`: whether runs get scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// Where systemd is PID 1, the daemon is root's and the system bus answers.
    #[default]
    Auto,
    /// A daemon that cannot have them does not start.
    Yes,
    No,
}

/// Lets `cgroups` use systemd's scopes, as far as `wanted` and the host allow. Error: `Yes`, and they cannot be had.
pub async fn join(cgroups: &mut cgroup::Manager, wanted: Use) -> Result<()> {
    if wanted == Use::No {
        return Ok(());
    }
    let possible = scope::systemd_is_running() && nix::unistd::geteuid().is_root();
    if !possible && wanted == Use::Auto {
        return Ok(());
    }
    let systemd = Systemd { runtime: Handle::current(), connection: Mutex::new(None) };
    let usable = match systemd.connection().await {
        Ok(_) if cgroups.use_scopes(std::sync::Arc::new(systemd)) => Ok(()),
        Ok(_) => Err(Error::failed("systemd's scopes need the cgroup v2 hierarchy, which is not mounted or not used")),
        Err(error) => Err(error),
    };
    match usable {
        Ok(()) => tracing::info!("guests get transient scopes of systemd"),
        Err(error) if wanted == Use::Auto => {
            tracing::warn!(%error, "guests get no scopes of systemd: their cgroups are made beside its own");
        }
        Err(error) => return Err(error.with_subsystem(Subsystem::Cgroup)),
    }
    Ok(())
}

/// systemd's manager.
#[derive(Debug)]
struct Systemd {
    runtime: Handle,
    connection: Mutex<Option<Connection>>,
}

impl Scopes for Systemd {
    fn start(&self, scope: &Scope) -> Result<()> {
        let properties: Vec<(&str, Variant<'_>)> =
            scope.properties.iter().map(|(name, value)| (*name, variant(value))).collect();
        let auxiliary: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        let arguments = (scope.unit.as_str(), "fail", properties, auxiliary);
        match self.runtime.block_on(self.job("StartTransientUnit", &arguments)) {
            Ok(()) => Ok(()),
            Err(failure) => Err(failure.explain(&format!("cannot make scope '{}'", scope.unit))),
        }
    }

    fn stop(&self, unit: &str) -> Result<()> {
        match self.runtime.block_on(self.job("StopUnit", &(unit, "replace"))) {
            Ok(()) => Ok(()),
            Err(Failure::Bus(zbus::Error::MethodError(name, _, _))) if name == NO_SUCH_UNIT => Ok(()),
            Err(failure) => Err(failure.explain(&format!("cannot stop scope '{unit}'"))),
        }
    }
}

/// Why a job was not done.
#[derive(Debug)]
enum Failure {
    Connect(Error),
    Bus(zbus::Error),
    /// systemd's word for how it ended.
    Job(String),
    Timeout,
}

impl From<zbus::Error> for Failure {
    fn from(error: zbus::Error) -> Self {
        Failure::Bus(error)
    }
}

impl Failure {
    fn explain(self, what: &str) -> Error {
        let error = match self {
            Failure::Connect(error) => return error,
            Failure::Bus(error) => Error::failed(format!("{what}: {error}")).with_source(error),
            Failure::Job(result) => Error::failed(format!("{what}: systemd says '{result}' (see its journal)")),
            Failure::Timeout => Error::new(
                Code::OperationTimeout,
                format!("{what}: systemd did not do it within {} s", PATIENCE.as_secs()),
            ),
        };
        error.with_subsystem(Subsystem::Cgroup)
    }
}

impl Systemd {
    /// A working connection that gets the manager's signals.
    async fn connection(&self) -> Result<Connection> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connect = async {
            let connection = zbus::connection::Builder::system().build().await?;
            // Without it systemd tells nobody of its jobs.
            connection.call_method(Some(SERVICE), PATH, Some(MANAGER), "Subscribe", &()).await?;
            Ok::<_, zbus::Error>(connection)
        };
        let connection = tokio::time::timeout(PATIENCE, connect)
            .await
            .unwrap_or_else(|_| Err(zbus::Error::InputOutput(std::sync::Arc::new(std::io::ErrorKind::TimedOut.into()))))
            .map_err(|error| {
                Error::failed(format!(
                    "cannot talk to systemd on the system bus: {error}; start dbus, or set systemd = \"no\" in [cgroup]"
                ))
                .with_subsystem(Subsystem::Cgroup)
                .with_source(error)
            })?;
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// Calls a method that gives a job, and waits for the job's end.
    async fn job<B>(&self, method: &str, arguments: &B) -> std::result::Result<(), Failure>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType + Sync,
    {
        let connection = self.connection().await.map_err(Failure::Connect)?;
        let work = async {
            // Before the call: the job may be done before its reply is read.
            let rule = MatchRule::try_from(JOB_REMOVED)?;
            let mut removed = MessageStream::for_match_rule(rule, &connection, Some(QUEUE)).await?;
            let reply = connection.call_method(Some(SERVICE), PATH, Some(MANAGER), method, arguments).await?;
            let job: OwnedObjectPath = reply.body().deserialize()?;
            while let Some(message) = removed.next().await {
                let message = message?;
                let body = message.body();
                let (_, path, _, result): (u32, OwnedObjectPath, &str, &str) = body.deserialize()?;
                if path == job {
                    return if result == "done" { Ok(()) } else { Err(Failure::Job(result.to_string())) };
                }
            }
            Err(Failure::Job("the bus is gone".to_string()))
        };
        tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(Failure::Timeout))
    }
}

fn variant(value: &Value) -> Variant<'_> {
    match value {
        Value::Text(text) => Variant::from(text.as_str()),
        Value::Bool(flag) => Variant::from(*flag),
        Value::Number(number) => Variant::from(*number),
        Value::Pids(pids) => Variant::from(pids.clone()),
    }
}
