//! Devices put into, taken out of and changed in a running container.
//!
//! The supervisor does it: it holds the container's /dev and may enter its network namespace, and what it has in its
//! plan is there again after a reboot.

use std::sync::PoisonError;

use super::hostdev;
use super::instance::LxcInstance;
use super::plan;
use super::protocol::Call;
use crate::domain_xml::device::{Hostdev, Interface, LinkState};
use crate::domain_xml::{Device, DomainDef};
use crate::engine::driver::UndoLog;
use crate::engine::undo::Step;
use crate::error::{Code, Error, Result};

fn unsupported(device: &Device, verb: &str) -> Error {
    let word = crate::engine::devices::word(device);
    Error::new(Code::OperationUnsupported, format!("{verb} of device '{word}' is not supported for running containers"))
}

impl LxcInstance {
    /// See `Instance::attach`.
    pub(super) async fn plug(&self, live: &DomainDef, device: Device, undo: &dyn UndoLog) -> Result<Device> {
        match device {
            Device::Interface(nic) => Ok(Device::Interface(Box::new(self.plug_interface(live, *nic, undo).await?))),
            Device::Hostdev(hostdev) => Ok(Device::Hostdev(Box::new(self.plug_node(live, *hostdev).await?))),
            other => Err(unsupported(&other, "attach")),
        }
    }

    async fn plug_interface(&self, live: &DomainDef, mut nic: Interface, undo: &dyn UndoLog) -> Result<Interface> {
        // Numbers go on where others were unplugged.
        let free = (0..).find_map(|index| {
            let alias = format!("net{index}");
            let planned = match plan::interface(&nic, index, &self.run_id) {
                Ok(planned) => planned,
                Err(error) => return Some(Err(error)),
            };
            let taken = live.interfaces.iter().any(|other| {
                let dev = |name: &Option<String>, wanted: &str| name.as_deref() == Some(wanted);
                dev(&other.info.alias, &alias)
                    || dev(&other.target.dev, &planned.host)
                    || dev(&other.guest.dev, &planned.guest)
            });
            let fixed = nic.guest.dev.is_some();
            match taken {
                false => Some(Ok((alias, planned))),
                // A name the user chose does not become free by counting.
                true if fixed && live.interfaces.iter().any(|other| other.guest.dev == nic.guest.dev) => {
                    Some(Err(Error::invalid_state(format!("interface '{}' exists inside already", planned.guest))))
                }
                true => None,
            }
        });
        let Some(found) = free else { return Err(Error::internal("no free interface number")) };
        let (alias, planned) = found?;
        undo.push(vec![Step::Link { name: planned.host.clone(), alias: Some(planned.alias.clone()) }]).await?;
        let (host, guest) = (planned.host.clone(), planned.guest.clone());
        self.client.call(Call::PlugNic { nic: planned }).await?;
        self.nics.lock().unwrap_or_else(PoisonError::into_inner).push(host.clone());
        nic.info.alias.get_or_insert(alias);
        (nic.target.dev, nic.guest.dev) = (Some(host), Some(guest));
        Ok(nic)
    }

    async fn plug_node(&self, live: &DomainDef, mut hostdev: Hostdev) -> Result<Hostdev> {
        let wish = hostdev.clone();
        let device = tokio::task::spawn_blocking(move || hostdev::node(&wish))
            .await
            .map_err(|error| Error::internal("a worker thread panicked").with_source(error))??;
        let (group, rule) = (self.group(), hostdev::rule(&device));
        group.allow_device(rule, true)?;
        if let Err(error) = self.client.call(Call::AddDevice { device }).await {
            let _ = group.allow_device(rule, false);
            return Err(error);
        }
        let alias = (0..).map(|index| format!("hostdev{index}"));
        let free = |alias: &String| live.hostdevs.iter().all(|other| other.info.alias.as_ref() != Some(alias));
        hostdev.info.alias = hostdev.info.alias.or_else(|| alias.into_iter().find(free));
        Ok(hostdev)
    }

    /// See `Instance::detach`.
    pub(super) async fn unplug(&self, device: &Device) -> Result<()> {
        match device {
            Device::Interface(nic) => {
                let Some(host) = nic.target.dev.clone() else {
                    return Err(Error::internal("the interface has no name on the host"));
                };
                self.client.call(Call::UnplugNic { host: host.clone() }).await?;
                self.nics.lock().unwrap_or_else(PoisonError::into_inner).retain(|name| *name != host);
                Ok(())
            }
            Device::Hostdev(hostdev) => {
                let (path, _) = hostdev::path(hostdev)?;
                let name = path.trim_start_matches("/dev/").to_string();
                // The node may be gone from the host; then its number cannot be anybody's, and the rule is harmless.
                let node = hostdev::node(hostdev);
                self.client.call(Call::RemoveDevice { name }).await?;
                match node {
                    Ok(node) => self.group().allow_device(hostdev::rule(&node), false),
                    Err(_) => Ok(()),
                }
            }
            other => Err(unsupported(other, "detach")),
        }
    }

    /// See `Instance::update`: the link state of an interface.
    pub(super) async fn change(&self, old: &Device, new: Device) -> Result<Device> {
        let (Device::Interface(old), Device::Interface(nic)) = (old, &new) else {
            return Err(unsupported(&new, "update"));
        };
        if nic.source != old.source || nic.mtu.is_some_and(|mtu| old.mtu != Some(mtu)) {
            return Err(Error::new(
                Code::OperationUnsupported,
                "only the link state of a running container's interface can be changed: detach it and attach another",
            ));
        }
        if let Some((dev, _)) = nic.source.direct() {
            let what = format!("the link state of a macvlan on '{dev}' is the container's own: detach it instead");
            return Err(Error::new(Code::OperationUnsupported, what));
        }
        let Some(host) = old.target.dev.clone() else {
            return Err(Error::internal("the interface has no name on the host"));
        };
        let up = nic.link != Some(LinkState::Down);
        self.client.call(Call::LinkState { host, up }).await?;
        let mut now = old.as_ref().clone();
        now.link = nic.link;
        Ok(Device::Interface(Box::new(now)))
    }
}
