//! Checks of a whole definition that hold for every driver (the general part of `virDomainDefValidate`), with
//! libvirt's codes and texts, one file per device or group. Changes nothing. An error names the element it is about;
//! whoever has the document adds its line and column ([`super::place`]).

#![allow(clippy::collapsible_match, reason = "the condition is inside a macro, where a guard cannot be")]

mod chardev;
mod controller;
mod disk;
mod display;
mod hostdev;
mod misc;
mod net;
mod resctrl;
mod resources;
mod source;
mod system;
#[cfg(test)]
mod testing;

use super::device::VirtioOptions;
use super::model::DomainDef;
use crate::error::Result;

pub use controller::attributes as controller_attributes;

/// What a check answers.
pub type Check = Result<()>;

/// `refuse!(if condition, Code, "text")` returns an error with libvirt's text when the condition holds;
/// `refuse!(Code, "text")` is that error.
macro_rules! refuse {
    (if $condition:expr, $code:ident, $($text:tt)*) => {{
        let refused: bool = $condition;
        if refused {
            return Err($crate::error::Error::new($crate::error::Code::$code, format!($($text)*)));
        }
    }};
    ($code:ident, $($text:tt)*) => {
        Err::<(), $crate::error::Error>($crate::error::Error::new($crate::error::Code::$code, format!($($text)*)))
    };
}

pub(crate) use refuse;

/// Checks every device of a list; an error is about the one that was refused.
pub fn each<'d, T>(path: &'static str, devices: &'d [T], mut check: impl FnMut(&'d T) -> Check) -> Check {
    let mut numbered = devices.iter().enumerate();
    numbered.try_for_each(|(nth, device)| check(device).map_err(|error| error.about(path, nth)))
}

/// Refuses what no driver could run. Errors: codes 27, 67, 84, 35, 19 and 1, as libvirt.
pub fn validate(def: &DomainDef) -> Check {
    disk::duplicate_targets(def)?;
    system::system(def)?;
    resources::resources(def)?;
    disk::disks(def)?;
    controller::controllers(def)?;
    net::interfaces(def)?;
    chardev::character_devices(def)?;
    hostdev::hostdevs(def)?;
    display::displays(def)?;
    misc::small_devices(def)
}

/// A device that is not virtio has none of its options.
fn no_virtio_options(options: &VirtioOptions) -> Check {
    let set = [
        ("iommu", options.iommu.is_some()),
        ("ats", options.ats.is_some()),
        ("packed", options.packed.is_some()),
        ("page_per_vq", options.page_per_vq.is_some()),
    ];
    match set.iter().find(|(_, given)| *given) {
        Some((name, _)) => refuse!(ConfigUnsupported, "{name} driver option is only supported for virtio devices"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::domain_xml::parse;
    use rstest::rstest;

    #[rstest]
    #[case("<cpu mode='host-model'><cache mode='passthrough'/></cpu>", "can only be used with 'host-passthrough'")]
    #[case("<cpu><numa><cell id='1' memory='1'/></numa></cpu>", "Exactly one 'cell' element")]
    #[case("<numatune><memory mode='strict' placement='static'/></numatune>", "must be set if 'placement' is 'static'")]
    #[case("<memoryBacking><hugepages><page size='2048' nodeset='1'/></hugepages></memoryBacking>", "node 1 not found")]
    #[case("<cputune><iothreadsched iothreads='2' scheduler='idle'/></cputune>", "Cannot find 'iothread' : 2")]
    #[case("<sysinfo type='smbios'><bios><entry name='date'>999/1</entry></bios></sysinfo>", "Invalid BIOS 'date'")]
    #[case("<devices><disk><target dev='sda'/><product>12345678901234567</product></disk></devices>", "more than 16")]
    #[case("<devices><serial type='unix'/></devices>", "Missing source path attribute")]
    #[case("<devices><shmem name='a'><size unit='M'>3</size></shmem></devices>", "must be a power of 2")]
    #[case(
        "<devices><controller type='usb' model='none'/><input type='mouse' bus='usb'/></devices>",
        "USB bus is disabled"
    )]
    fn refused(#[case] rest: &str, #[case] expected: &str) {
        let head = "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os>";
        let error = parse(&format!("{head}{rest}</domain>")).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
    }
}
