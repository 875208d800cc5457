//! Firmware tables, clock, power management, boot order and direct kernel boot.

use super::{Builder, Pairs, not_yet};
use crate::domain_xml::clock::{ClockAdjustment, ClockBasis, ClockOffset, TickPolicy, TimerName, TimerTrack};
use crate::domain_xml::device::{DiskDevice, InterfaceSource};
use crate::domain_xml::os::{BootDev, LoaderType, SmbiosMode, Sysinfo};
use crate::domain_xml::words::YesNo;
use crate::error::Result;
use crate::qemu::complete::{Chipset, chipset_of};

fn table(b: &mut Builder<'_>, number: u32, names: &[(&str, &str)], entries: &[(String, String)]) {
    if entries.is_empty() {
        return;
    }
    let mut p = Pairs::with("type", number);
    for (entry, option) in names {
        if let Some((_, value)) = entries.iter().find(|(name, _)| name == entry) {
            p = p.set(option, value);
        }
    }
    b.arg("-smbios", p.text());
}

pub(super) fn smbios(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    match def.os.smbios {
        None | Some(SmbiosMode::Emulate) => return Ok(()),
        Some(SmbiosMode::Host) => return Err(not_yet("<smbios mode='host'>")),
        Some(SmbiosMode::Sysinfo) => {}
    }
    for info in &def.sysinfo {
        let Sysinfo::Smbios(tables) = info else { continue };
        let bios = [("vendor", "vendor"), ("version", "version"), ("date", "date"), ("release", "release")];
        table(b, 0, &bios, &tables.bios);
        let system = ["manufacturer", "product", "version", "serial", "uuid", "sku", "family"].map(|name| (name, name));
        table(b, 1, &system, &tables.system);
        for board in &tables.base_boards {
            let names = ["manufacturer", "product", "version", "serial", "asset", "location"].map(|name| (name, name));
            table(b, 2, &names, board);
        }
        let chassis = ["manufacturer", "version", "serial", "asset", "sku"].map(|name| (name, name));
        table(b, 3, &chassis, &tables.chassis);
        if !tables.oem_strings.is_empty() {
            let strings = tables.oem_strings.iter().fold(Pairs::with("type", 11), |p, text| p.set("value", text));
            b.arg("-smbios", strings.text());
        }
    }
    Ok(())
}

/// `YYYY-MM-DDTHH:MM:SS` in UTC of seconds since the epoch (civil-from-days).
pub fn iso_time(seconds: i64) -> String {
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60)
}

pub(super) fn clock(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    let now = b.ctx.now;
    let base = match &def.clock.offset {
        ClockOffset::Utc { adjustment: None | Some(ClockAdjustment::Reset) } => "utc".to_string(),
        ClockOffset::Localtime { adjustment: None | Some(ClockAdjustment::Reset) } => "localtime".to_string(),
        ClockOffset::Utc { adjustment: Some(ClockAdjustment::Seconds(by)) } => iso_time(now.saturating_add(*by)),
        ClockOffset::Variable { adjustment, basis: ClockBasis::Utc } => iso_time(now.saturating_add(*adjustment)),
        ClockOffset::Absolute { start } => iso_time(i64::try_from(*start).unwrap_or(i64::MAX / 2)),
        ClockOffset::Variable { basis: ClockBasis::Localtime, .. } => {
            return Err(not_yet("<clock offset='variable' basis='localtime'>"));
        }
        ClockOffset::Localtime { .. } => return Err(not_yet("<clock offset='localtime'> with an adjustment")),
        ClockOffset::Timezone { .. } => return Err(not_yet("<clock offset='timezone'>")),
    };
    let mut p = Pairs::with("base", base);
    let rtc = def.clock.timers.iter().find(|timer| timer.name == TimerName::Rtc);
    if let Some(timer) = rtc {
        match timer.track {
            Some(TimerTrack::Guest) => p = p.set("clock", "vm"),
            Some(TimerTrack::Realtime) => p = p.set("clock", "rt"),
            _ => {}
        }
        if timer.tickpolicy == Some(TickPolicy::Catchup) {
            p = p.set("driftfix", "slew");
        }
    }
    b.arg("-rtc", p.text());
    for timer in &def.clock.timers {
        if timer.name == TimerName::Pit {
            match timer.tickpolicy {
                Some(TickPolicy::Delay) => b.arg("-global", "kvm-pit.lost_tick_policy=delay"),
                Some(TickPolicy::Discard) => b.arg("-global", "kvm-pit.lost_tick_policy=discard"),
                _ => {}
            }
        }
    }
    Ok(())
}

pub(super) fn power_management(b: &mut Builder<'_>) {
    let device = if chipset_of(b.def) == Chipset::Q35 { "ICH9-LPC" } else { "PIIX4_PM" };
    let states = [("disable_s3", b.def.pm.suspend_to_mem), ("disable_s4", b.def.pm.suspend_to_disk)];
    for (name, enabled) in states {
        if let Some(enabled) = enabled {
            b.arg("-global", format!("{device}.{name}={}", i32::from(!enabled.is_yes())));
        }
    }
}

pub(super) fn boot(b: &mut Builder<'_>) {
    let def = b.def;
    let mut p: Option<Pairs> = None;
    let mut set = |key: &str, value: String| {
        p = Some(match p.take() {
            None => Pairs::with(key, value),
            Some(p) => p.set(key, value),
        });
    };
    if let Some(menu) = &def.os.bootmenu {
        if let Some(enable) = menu.enable {
            set("menu", if enable.is_yes() { "on".into() } else { "off".into() });
        }
        if let (Some(YesNo::Yes), Some(timeout)) = (menu.enable, menu.timeout) {
            set("splash-time", timeout.to_string());
        }
    }
    if let Some(timeout) = def.os.bios.as_ref().and_then(|bios| bios.reboot_timeout) {
        set("reboot-timeout", timeout.to_string());
    }
    set("strict", "on".into());
    if let Some(p) = p {
        b.arg("-boot", p.text());
    }
    let rom = def.os.loader.as_ref().filter(|loader| loader.kind != Some(LoaderType::Pflash));
    if let Some(loader) = rom.and_then(|loader| loader.path.as_deref()) {
        b.arg("-bios", loader);
    }
}

pub(super) fn kernel(b: &mut Builder<'_>) {
    let os = &b.def.os;
    let options = [("-kernel", &os.kernel), ("-initrd", &os.initrd), ("-append", &os.cmdline), ("-dtb", &os.dtb)];
    for (option, value) in options {
        if let Some(value) = value {
            b.arg(option, value.clone());
        }
    }
    for (kind, path) in &b.def.os.acpi_tables {
        let key = match kind.as_str() {
            "slic" => "sig=SLIC,file",
            "msdm" => "sig=MSDM,file",
            _ => "file",
        };
        b.arg("-acpitable", format!("{key}={}", path.replace(',', ",,")));
    }
}

/// The boot index of a disk: its own, or what `<boot dev>` gives the first disk of its sort.
pub(super) fn disk_boot_index(b: &Builder<'_>, position: usize) -> Option<u32> {
    let def = b.def;
    let disk = &def.disks[position];
    if def.os.boot.is_empty() {
        return disk.info.boot_order;
    }
    let sort = |device: DiskDevice| match device {
        DiskDevice::Disk | DiskDevice::Lun => BootDev::Hd,
        DiskDevice::Cdrom => BootDev::Cdrom,
        DiskDevice::Floppy => BootDev::Fd,
    };
    let own = sort(disk.device);
    let first = def.disks.iter().position(|other| sort(other.device) == own);
    match first == Some(position) {
        true => boot_position(b, own),
        false => None,
    }
}

/// The boot index of an interface.
pub(super) fn nic_boot_index(b: &Builder<'_>, position: usize) -> Option<u32> {
    let nic = &b.def.interfaces[position];
    if b.def.os.boot.is_empty() {
        return nic.info.boot_order;
    }
    let hostdev = b.def.interfaces.iter().position(|nic| matches!(nic.source, InterfaceSource::Hostdev { .. }));
    match hostdev.unwrap_or(0) == position {
        true => boot_position(b, BootDev::Network),
        false => None,
    }
}

fn boot_position(b: &Builder<'_>, dev: BootDev) -> Option<u32> {
    b.def.os.boot.iter().rposition(|known| *known == dev).map(|position| position as u32 + 1)
}

#[cfg(test)]
mod tests {
    use super::iso_time;

    #[test]
    fn times() {
        assert_eq!(iso_time(0), "1970-01-01T00:00:00");
        assert_eq!(iso_time(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(iso_time(1_795_228_799), "2026-11-21T02:39:59");
    }
}
