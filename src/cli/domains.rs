//! Driver roots, and finding the domain a user means.
//!
//! Each driver has its own names, UUIDs and ids, so a name may exist twice. Without `--connect` every driver the daemon
//! has is asked; a name that more than one knows is refused with the candidates, never guessed.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::client::{CallError, Client};
use super::output::{Failure, Output};
use super::params::Params;
use crate::types::ParamValue;

/// `org.libvirt.Connect`
pub const CONNECT: &str = "org.libvirt.Connect";
/// `org.libvirt.Domain`
pub const DOMAIN: &str = "org.libvirt.Domain";
/// domusd's own calls on a driver root.
pub const DOMUS_CONNECT: &str = "org.domus.Connect1";
/// domusd's own calls on a domain.
pub const DOMUS_DOMAIN: &str = "org.domus.Domain1";
/// domusd's own calls on [`DAEMON_PATH`].
pub const DOMUS_DAEMON: &str = "org.domus.Daemon1";
/// The object of the daemon itself.
pub const DAEMON_PATH: &str = "/org/domus";

/// A driver root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Driver {
    Qemu,
    Lxc,
    Test,
}

impl Driver {
    /// In the order of preference when one has to be picked.
    pub const ALL: [Driver; 3] = [Driver::Qemu, Driver::Lxc, Driver::Test];

    /// The object path of the root.
    pub fn path(self) -> &'static str {
        match self {
            Driver::Qemu => "/org/libvirt/QEMU",
            Driver::Lxc => "/org/libvirt/LXC",
            Driver::Test => "/org/libvirt/Test",
        }
    }

    /// The name used in tables and messages (`virConnectGetType`).
    pub fn name(self) -> &'static str {
        match self {
            Driver::Qemu => "QEMU",
            Driver::Lxc => "LXC",
            Driver::Test => "Test",
        }
    }

    /// The word for `--connect`.
    pub fn word(self) -> &'static str {
        match self {
            Driver::Qemu => "qemu",
            Driver::Lxc => "lxc",
            Driver::Test => "test",
        }
    }

    /// The connection URI.
    pub fn uri(self) -> &'static str {
        match self {
            Driver::Qemu => "qemu:///system",
            Driver::Lxc => "lxc:///system",
            Driver::Test => "test:///default",
        }
    }

    /// The driver of a `--connect` value: a word or a local libvirt URI.
    pub fn from_uri(uri: &str) -> Result<Driver, String> {
        match uri {
            "qemu" | "qemu:///system" | "qemu:///session" | "qemu:///" => Ok(Driver::Qemu),
            "lxc" | "lxc:///" | "lxc:///system" => Ok(Driver::Lxc),
            "test" | "test:///default" | "test:///" => Ok(Driver::Test),
            _ => Err(format!(
                "no connection driver available for {uri}; expected qemu, lxc or test, or qemu:///system, lxc:/// or \
                 test:///default"
            )),
        }
    }

    /// The driver of `<domain type='...'>`.
    pub fn of_domain_type(domain_type: &str) -> Option<Driver> {
        match domain_type {
            "qemu" | "kvm" | "hvf" => Some(Driver::Qemu),
            "lxc" => Some(Driver::Lxc),
            "test" => Some(Driver::Test),
            _ => None,
        }
    }
}

/// How a domain may be named (virsh's `VIRSH_BYID` and friends).
#[derive(Clone, Copy, Debug)]
pub struct By {
    pub id: bool,
    pub uuid: bool,
    pub name: bool,
}

impl By {
    pub const ANY: By = By { id: true, uuid: true, name: true };
    pub const NAME_UUID: By = By { id: false, uuid: true, name: true };
    pub const ID_UUID: By = By { id: true, uuid: true, name: false };
    pub const ID_NAME: By = By { id: true, uuid: false, name: true };
}

/// A domain that exists.
#[derive(Clone, Debug)]
pub struct Domain {
    pub driver: Driver,
    pub path: String,
    pub name: String,
    pub uuid: String,
}

impl Domain {
    /// The members every JSON result about one domain begins with.
    pub fn json(&self) -> Value {
        json!({ "driver": self.driver.name(), "name": self.name, "uuid": self.uuid })
    }

    /// [`Domain::json`] with one more member.
    pub fn json_with(&self, key: &str, value: impl Into<Value>) -> Value {
        let mut object = self.json();
        object[key] = value.into();
        object
    }
}

/// What a command works with.
#[derive(Clone, Debug)]
pub struct Session {
    pub client: Client,
    pub out: Output,
    /// `--connect`.
    pub driver: Option<Driver>,
    /// `--timeout`, for the commands that wait for something themselves.
    pub timeout: Option<std::time::Duration>,
    /// `--escape`: the byte that leaves a console.
    pub escape: u8,
}

impl Session {
    /// The drivers to ask: the chosen one, or all the daemon has.
    pub async fn drivers(&self) -> Result<Vec<Driver>, CallError> {
        if let Some(driver) = self.driver {
            return Ok(vec![driver]);
        }
        match self.client.property(DAEMON_PATH, DOMUS_DAEMON, "Drivers").await {
            Ok(value) => {
                let names: Vec<String> = Vec::try_from(value).unwrap_or_default();
                let is_named = |driver: &Driver| names.iter().any(|name| name.eq_ignore_ascii_case(driver.name()));
                Ok(Driver::ALL.into_iter().filter(is_named).collect())
            }
            // A libvirt-dbus on the bus has no such object: its QEMU and LXC roots always exist.
            Err(error) if error.is_answer() => Ok(vec![Driver::Qemu, Driver::Lxc]),
            Err(error) => Err(error),
        }
    }

    /// The one driver for a command that is about a driver and not about a domain.
    pub async fn default_driver(&self) -> Result<Driver, Failure> {
        let drivers = self.drivers().await?;
        drivers.first().copied().ok_or_else(|| Failure::new("the daemon has no driver"))
    }

    /// The driver for a definition: the chosen one, else by its `<domain type>`, else the first there is (whose
    /// complaint about the definition is then the answer).
    pub async fn driver_for(&self, domain_type: Option<&str>) -> Result<Driver, Failure> {
        if let Some(driver) = self.driver {
            return Ok(driver);
        }
        let drivers = self.drivers().await?;
        let wanted = domain_type.and_then(Driver::of_domain_type);
        match wanted {
            Some(driver) if drivers.contains(&driver) => Ok(driver),
            _ => drivers.first().copied().ok_or_else(|| Failure::new("the daemon has no driver")),
        }
    }

    /// The domain called `given`. Fails with virsh's text when there is none, naming the candidates when several.
    pub async fn domain(&self, given: &str, by: By) -> Result<Domain, Failure> {
        let drivers = self.drivers().await?;
        let answers = join_all(drivers.into_iter().map(|driver| self.look_up(driver, given, by))).await;
        let mut found = Vec::new();
        let mut refusal = None;
        for answer in answers {
            match answer {
                Ok(domain) => found.push(domain),
                // "Not found" gives way to a reason why it could not be looked for.
                Err(error) if refusal.as_ref().is_none_or(is_not_found) => refusal = Some(error),
                Err(_) => {}
            }
        }
        match found.len() {
            1 => Ok(found.swap_remove(0)),
            0 => {
                let what = format!("failed to get domain '{given}'");
                Err(refusal.map_or_else(|| Failure::new("the daemon has no driver"), Failure::from).context(what))
            }
            _ => Err(ambiguous(given, &found)),
        }
    }

    /// One driver's answer. virsh's order: id, UUID, name; the error is the last one's.
    async fn look_up(&self, driver: Driver, given: &str, by: By) -> Result<Domain, CallError> {
        let mut refusal = None;
        let id = given.parse::<i32>().ok().filter(|id| *id >= 0 && by.id);
        if let Some(id) = id {
            match self.try_look_up(driver, "DomainLookupByID", &(id,)).await {
                Ok(path) => return self.domain_at(driver, &path).await,
                Err(error) if error.is_answer() => refusal = Some(error),
                Err(error) => return Err(error),
            }
        }
        if by.uuid && given.len() == 36 {
            match self.try_look_up(driver, "DomainLookupByUUID", &(given,)).await {
                Ok(path) => return self.domain_at(driver, &path).await,
                Err(error) if error.is_answer() => refusal = Some(error),
                Err(error) => return Err(error),
            }
        }
        if by.name {
            let path = self.try_look_up(driver, "DomainLookupByName", &(given,)).await?;
            let uuid = uuid_of(&path).unwrap_or_default();
            return Ok(Domain { driver, path, name: given.to_owned(), uuid });
        }
        // Neither an id nor a UUID, and a name is not wanted here.
        Err(refusal.unwrap_or_else(|| CallError::Remote {
            name: String::new(),
            message: format!("Domain not found: '{given}' is not {}", if by.id { "an id or UUID" } else { "a UUID" }),
        }))
    }

    async fn try_look_up<B>(&self, driver: Driver, method: &str, body: &B) -> Result<String, CallError>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let path: zbus::OwnedObjectPath = self.client.call(driver.path(), CONNECT, method, body).await?;
        Ok(path.to_string())
    }

    /// The name of the domain at `path`.
    pub async fn name_of(&self, path: &str) -> Result<String, CallError> {
        match self.client.value(path, DOMAIN, "Name").await? {
            Some(ParamValue::Str(name)) => Ok(name),
            _ => Err(CallError::Answer { call: "org.libvirt.Domain.Name".into(), reason: "not a string".into() }),
        }
    }

    /// All properties of a domain; empty when it is gone.
    pub async fn properties(&self, path: &str) -> Result<Params, CallError> {
        self.client.call(path, "org.freedesktop.DBus.Properties", "GetAll", &(DOMAIN,)).await
    }

    /// State and reason numbers.
    pub async fn state(&self, path: &str) -> Result<(i32, i32), CallError> {
        self.client.call(path, DOMAIN, "GetState", &(0u32,)).await
    }

    /// The domain's XML; flags as in `virDomainGetXMLDesc`.
    pub async fn xml(&self, path: &str, flags: u32) -> Result<String, CallError> {
        self.client.call(path, DOMAIN, "GetXMLDesc", &(flags,)).await
    }

    /// The domain at a path the daemon gave, below `driver`'s root.
    pub async fn domain_at(&self, driver: Driver, path: &str) -> Result<Domain, CallError> {
        let name = self.name_of(path).await?;
        Ok(Domain { driver, name, uuid: uuid_of(path).unwrap_or_default(), path: path.to_owned() })
    }
}

fn is_not_found(error: &CallError) -> bool {
    match error {
        CallError::Remote { message, .. } => {
            message.starts_with("Domain not found") || message.starts_with("no connection driver")
        }
        _ => false,
    }
}

fn ambiguous(given: &str, found: &[Domain]) -> Failure {
    let candidates: Vec<String> = found
        .iter()
        .map(|domain| {
            format!("'{}' of {} (-c {}, {})", domain.name, domain.driver.name(), domain.driver.word(), domain.uuid)
        })
        .collect();
    Failure::new(format!("more than one domain is called '{given}': {}; choose with -c", candidates.join(", ")))
}

/// The UUID in a domain's object path (`.../domain/_6695eb01_f6a4_...`).
pub fn uuid_of(path: &str) -> Option<String> {
    let node = path.rsplit_once("/domain/")?.1.strip_prefix('_')?;
    (node.len() == 36).then(|| node.replace('_', "-"))
}

/// The driver root an object path is below.
pub fn driver_of(path: &str) -> Option<Driver> {
    let below =
        |driver: &Driver| path.strip_prefix(driver.path()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    Driver::ALL.into_iter().find(below)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("qemu", Some(Driver::Qemu))]
    #[case("qemu:///system", Some(Driver::Qemu))]
    #[case("lxc:///", Some(Driver::Lxc))]
    #[case("test:///default", Some(Driver::Test))]
    #[case("qemu+ssh://host/system", None)]
    #[case("xen:///", None)]
    fn uris(#[case] uri: &str, #[case] driver: Option<Driver>) {
        assert_eq!(Driver::from_uri(uri).ok(), driver);
    }

    #[test]
    fn uuid_is_in_the_path() {
        let path = "/org/libvirt/QEMU/domain/_6695eb01_f6a4_8304_79aa_97f2502e193f";
        assert_eq!(uuid_of(path).as_deref(), Some("6695eb01-f6a4-8304-79aa-97f2502e193f"));
        assert_eq!(driver_of(path), Some(Driver::Qemu));
        assert_eq!(uuid_of("/org/libvirt/QEMU"), None);
        assert_eq!(driver_of("/org/libvirt/QEMUX"), None);
    }

    #[test]
    fn an_ambiguous_name_names_the_candidates() {
        let domain = |driver| Domain { driver, path: String::new(), name: "x".into(), uuid: "u".into() };
        let text = ambiguous("x", &[domain(Driver::Qemu), domain(Driver::Lxc)]).to_string();
        assert!(text.contains("QEMU") && text.contains("-c lxc"), "{text}");
    }
}
