//! The devices of the host, read-only. Nothing is kept but the last look at sysfs, for a moment: clients ask for one
//! device after the other.
//!
//! The kernel says when something changed. What changed, a comparison of two looks says: no announcement can be missed,
//! and a device that came and went between two looks was nobody's.

mod memory;

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::access::guard::{Details, Guarded};
use super::api::{ObjectKind, On};
use super::cleanup::run_blocking;
use super::event::{HostEvent, HostSet, node_device_lifecycle};
use super::host::{Context, HostObjects};
use crate::error::{Code, Error, Result, Subsystem};
use crate::host::node_device::{Capability, Device, Roots, scan, scan_interfaces};
use crate::sys::netnews::{self, News};

/// How long a look at sysfs answers for.
const FRESH: Duration = Duration::from_millis(500);

/// Announcements come in bursts; this long after the first, one look is taken for all.
const SETTLE: Duration = Duration::from_millis(500);

/// A device of the host as a client names it; whether it is there each call finds out.
#[derive(Clone, Debug)]
pub struct NodeDevice {
    pub name: String,
    context: Arc<Context>,
}

impl On for NodeDevice {
    const KIND: ObjectKind = ObjectKind::NodeDevice;

    fn scheme(&self) -> &'static str {
        "node"
    }

    fn subsystem(&self) -> Subsystem {
        Subsystem::NodeDev
    }
}

impl Guarded for NodeDevice {
    const OBJECT: &'static str = <Self as On>::KIND.of_rights();

    async fn details(&self) -> Details {
        vec![("node_device_name", self.name.clone())]
    }
}

fn missing(what: String) -> Error {
    Error::new(Code::NoNodeDevice, what).with_subsystem(Subsystem::NodeDev)
}

impl NodeDevice {
    /// The device as it is now. Error: it is not there.
    pub async fn device(&self) -> Result<Device> {
        let host = self.context.host().ok_or_else(|| Error::internal("the daemon is going down"))?;
        host.node_devices.device(&self.name).await
    }
}

/// The devices of one set of objects.
#[derive(Debug)]
pub struct NodeDevices {
    context: Arc<Context>,
    seen: Mutex<Option<(Instant, Arc<Vec<Device>>)>>,
    /// The test driver's, by name.
    memory: std::sync::Mutex<Arc<Vec<Device>>>,
}

impl NodeDevices {
    pub(super) fn new(context: Arc<Context>) -> NodeDevices {
        let memory = if context.set == HostSet::Test { memory::devices() } else { Vec::new() };
        NodeDevices { context, seen: Mutex::default(), memory: std::sync::Mutex::new(Arc::new(memory)) }
    }

    /// What a client means by this name.
    pub fn named(&self, name: &str) -> NodeDevice {
        NodeDevice { name: name.to_string(), context: self.context.clone() }
    }

    /// All devices, by name.
    pub async fn all(&self) -> Result<Arc<Vec<Device>>> {
        if self.context.set == HostSet::Test {
            return Ok(self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone());
        }
        let mut seen = self.seen.lock().await;
        if let Some((_, devices)) = seen.as_ref().filter(|(when, _)| when.elapsed() < FRESH) {
            return Ok(devices.clone());
        }
        Self::look(&mut seen, None).await
    }

    /// Takes a look, of interfaces only when nothing else changed since the former one, and tells what happened.
    async fn look_again(&self, former: &mut Option<Arc<Vec<Device>>>, interfaces_only: bool) -> Result<Vec<HostEvent>> {
        let base = former.clone().filter(|_| interfaces_only);
        let devices = Self::look(&mut *self.seen.lock().await, base).await?;
        let events = former.replace(devices.clone()).map(|former| differences(&former, &devices));
        Ok(events.unwrap_or_default())
    }

    async fn look(
        seen: &mut Option<(Instant, Arc<Vec<Device>>)>,
        base: Option<Arc<Vec<Device>>>,
    ) -> Result<Arc<Vec<Device>>> {
        let scanned = run_blocking(move || {
            let roots = Roots::host();
            Ok(match base {
                Some(base) => scan_interfaces(&roots, &base),
                None => scan(&roots),
            })
        });
        let devices = Arc::new(scanned.await?);
        *seen = Some((Instant::now(), devices.clone()));
        Ok(devices)
    }

    /// The device with this name. Error: none.
    pub async fn device(&self, name: &str) -> Result<Device> {
        let all = self.all().await?;
        let found = all.binary_search_by(|device| device.name.as_str().cmp(name)).ok().and_then(|at| all.get(at));
        found.cloned().ok_or_else(|| missing(format!("no node device with matching name '{name}'")))
    }

    /// The Fibre Channel host with these world wide names. Error: none.
    pub async fn by_wwn(&self, node: &str, port: &str) -> Result<Device> {
        let is = |device: &&Device| {
            device.capabilities.iter().any(|capability| match capability {
                Capability::ScsiHost(host) => host
                    .fibre
                    .as_ref()
                    .is_some_and(|(wwnn, wwpn, _)| wwnn.eq_ignore_ascii_case(node) && wwpn.eq_ignore_ascii_case(port)),
                _ => false,
            })
        };
        let all = self.all().await?;
        let found = all.iter().find(is).cloned();
        found.ok_or_else(|| missing(format!("no SCSI host with wwnn '{node}' and wwpn '{port}'")))
    }
}

/// What happened between two looks, each sorted by name.
fn differences(former: &[Device], now: &[Device]) -> Vec<HostEvent> {
    let find = |list: &[Device], name: &str| list.binary_search_by(|device| device.name.as_str().cmp(name)).ok();
    let lifecycle =
        |device: &Device, event: i32| HostEvent::NodeDeviceLifecycle { name: device.name.clone(), event, detail: 0 };
    let gone = former.iter().filter(|device| find(now, &device.name).is_none());
    let mut events: Vec<HostEvent> = gone.map(|device| lifecycle(device, node_device_lifecycle::DELETED)).collect();
    for device in now {
        match find(former, &device.name).and_then(|at| former.get(at)) {
            None => events.push(lifecycle(device, node_device_lifecycle::CREATED)),
            Some(same) if same == device => {}
            Some(_) => events.push(HostEvent::NodeDeviceUpdate { name: device.name.clone() }),
        }
    }
    events
}

/// Tells of devices that come, go and change, until the daemon ends.
pub(super) fn watch(host: &Arc<HostObjects>) {
    if host.context.set == HostSet::Test {
        return;
    }
    let news = match News::of_devices() {
        Ok(news) => news,
        Err(error) => {
            tracing::warn!(%error, "no events of node devices: the kernel's announcements cannot be heard");
            return;
        }
    };
    let host = Arc::downgrade(host);
    tokio::spawn(async move {
        let mut former = None;
        let mut interfaces_only = false;
        loop {
            let Some(host) = host.upgrade() else { return };
            match host.node_devices.look_again(&mut former, interfaces_only).await {
                Ok(events) => events.into_iter().for_each(|event| host.context.emit(event)),
                Err(error) => tracing::warn!(%error, "cannot look for node devices"),
            }
            drop(host);
            interfaces_only = true;
            // "queues" are those of network interfaces.
            let mut note =
                |uevent: &[u8]| interfaces_only &= matches!(netnews::subsystem(uevent), Some("net" | "queues"));
            let heard = news.heard(&mut note).await;
            tokio::time::sleep(SETTLE).await;
            if let Err(error) = heard.and_then(|()| news.take(&mut note)) {
                tracing::warn!(%error, "no more events of node devices");
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, driver: Option<&str>) -> Device {
        Device { name: name.into(), driver: driver.map(Into::into), ..Device::default() }
    }

    #[test]
    fn two_looks_tell_what_happened() {
        let former = [device("a", None), device("b", None), device("d", None)];
        let now = [device("b", Some("vfio-pci")), device("c", None), device("d", None)];
        let name = |name: &str| name.to_string();
        assert_eq!(
            differences(&former, &now),
            [
                HostEvent::NodeDeviceLifecycle { name: name("a"), event: node_device_lifecycle::DELETED, detail: 0 },
                HostEvent::NodeDeviceUpdate { name: name("b") },
                HostEvent::NodeDeviceLifecycle { name: name("c"), event: node_device_lifecycle::CREATED, detail: 0 },
            ]
        );
        assert!(differences(&now, &now).is_empty());
    }
}
