//! Numbers that make work: whatever a definition counts is made, one by one, by somebody later. A count no host could
//! serve is refused before anybody starts to count.

use super::device::{ConsoleTarget, DeviceAddress};
use super::model::DomainDef;
use crate::error::{Code, Error, Result};

/// Most virtual CPUs and I/O threads (libvirt's length of a CPU mask).
const MAX_CPUS: u32 = 16_384;
/// Most queues of a device: virtio has a 16 bit index, and two interrupts each.
const MAX_QUEUES: u32 = 1_024;
/// Highest controller a drive, a virtio port or a smart card may be on: those before it are made too.
const MAX_CONTROLLER: u32 = 1_023;
/// Highest index of a controller.
const MAX_INDEX: u32 = 65_535;
/// Highest port number of serial and parallel ports, and of the devices that are numbered after them.
const MAX_PORT: u32 = 65_535;

/// Refuses what is beyond. Error: code 27.
pub(super) fn check(def: &DomainDef) -> Result<()> {
    at_most("domain/vcpu", def.vcpu.max, MAX_CPUS)?;
    at_most("domain/iothreads", def.iothreads.unwrap_or(0), MAX_CPUS)?;
    for disk in &def.disks {
        at_most("domain/devices/disk/driver/@queues", disk.driver.queues.unwrap_or(0), MAX_QUEUES)?;
    }
    for nic in &def.interfaces {
        at_most("domain/devices/interface/driver/@queues", nic.driver.queues.unwrap_or(0), MAX_QUEUES)?;
    }
    for controller in &def.controllers {
        at_most("domain/devices/controller/driver/@queues", controller.driver.queues.unwrap_or(0), MAX_QUEUES)?;
        at_most("domain/devices/controller/@index", controller.index.unwrap_or(0), MAX_INDEX)?;
    }
    let ports = def.serials.iter().map(|serial| serial.port).chain(def.parallels.iter().map(|parallel| parallel.port));
    for port in ports {
        at_most("domain/devices/*/target/@port", port.unwrap_or(0), MAX_PORT)?;
    }
    let disks = def.disks.iter().map(|disk| ("disk", &disk.info));
    let channels = def.channels.iter().map(|channel| ("channel", &channel.info));
    let consoles = def.consoles.iter().filter(|console| console.target_type == Some(ConsoleTarget::Virtio));
    let consoles = consoles.map(|console| ("console", &console.info));
    let smartcards = def.smartcards.iter().map(|smartcard| ("smartcard", &smartcard.info));
    let hostdevs = def.hostdevs.iter().map(|hostdev| ("hostdev", &hostdev.info));
    for (element, info) in disks.chain(channels).chain(consoles).chain(smartcards).chain(hostdevs) {
        let controller = match info.address {
            Some(
                DeviceAddress::Drive { controller, .. }
                | DeviceAddress::VirtioSerial { controller, .. }
                | DeviceAddress::Ccid { controller, .. },
            ) => controller,
            _ => 0,
        };
        at_most(&format!("domain/devices/{element}/address/@controller"), controller, MAX_CONTROLLER)?;
    }
    Ok(())
}

fn at_most(path: &str, value: u32, limit: u32) -> Result<()> {
    if value > limit {
        return Err(Error::new(Code::XmlError, format!("{path} is {value}, and at most {limit} is possible")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::domain_xml::parse;
    use rstest::rstest;

    #[rstest]
    #[case("<vcpu>4294967295</vcpu>", "domain/vcpu is 4294967295")]
    #[case("<iothreads>2147483648</iothreads>", "domain/iothreads is 2147483648")]
    #[case("<devices><controller type='usb' index='4294967295'/></devices>", "controller/@index")]
    #[case(
        "<devices><disk><target dev='sda'/><address type='drive' controller='4294967295'/></disk></devices>",
        "domain/devices/disk/address/@controller is 4294967295, and at most 1023 is possible"
    )]
    #[case("<devices><serial type='pty'><target port='4294967295'/></serial></devices>", "target/@port")]
    #[case(
        "<devices><interface type='ethernet'><model type='virtio'/><driver queues='99999'/></interface></devices>",
        "interface/driver/@queues"
    )]
    fn counts_are_limited(#[case] rest: &str, #[case] expected: &str) {
        let head = "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os>";
        let error = parse(&format!("{head}{rest}</domain>")).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
    }
}
