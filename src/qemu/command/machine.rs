//! `-machine`, `-accel`, memory and processors.

use super::{Builder, FdKind, Pairs, Props, firmware, numa};
use crate::domain_xml::clock::TimerName;
use crate::domain_xml::device::MemoryModel;
use crate::domain_xml::features::IoapicDriver;
use crate::domain_xml::model::VirtType;
use crate::domain_xml::tune::iothread_ids;
use crate::domain_xml::words::Switch;
use crate::error::{Error, Result};

fn word(switch: Switch) -> bool {
    switch.is_on()
}

pub(super) fn machine(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    let name = def.os.machine.clone().unwrap_or_default();
    let machine = b.ctx.caps.machine(&name);
    let mut m = Pairs::new(&name).on_off("usb", false);
    let features = &def.features;
    if let Some(vmport) = features.vmport {
        m = m.on_off("vmport", word(vmport));
    }
    if let Some(state) = features.smm.as_ref().and_then(|smm| smm.state) {
        m = m.on_off("smm", word(state));
    }
    if let Some(driver) = features.ioapic {
        m = m.set("kernel_irqchip", if driver == IoapicDriver::Kvm { "on" } else { "split" });
    }
    if let Some(ps2) = features.ps2 {
        m = m.on_off("i8042", word(ps2));
    }
    m = m.on_off("dump-guest-core", def.memory.dump_core.is_some_and(word));
    if def.memory_backing.nosharepages {
        m = m.on_off("mem-merge", false);
    }
    if b.def.memory_devices.iter().any(|device| device.model == MemoryModel::Nvdimm) {
        m = m.on_off("nvdimm", true);
    }
    if let Some(id) = machine.and_then(|machine| machine.default_ram_id.as_deref()).filter(|_| !numa::has_cells(b)) {
        m = m.set("memory-backend", id);
    }
    m = firmware::flash(b, m)?;
    let hpet = def.clock.timers.iter().find(|timer| timer.name == TimerName::Hpet).and_then(|timer| timer.present);
    if let Some(present) = hpet {
        m = m.on_off("hpet", present.is_yes());
    }
    if machine.is_none_or(|machine| machine.acpi) {
        m = m.on_off("acpi", features.acpi);
    }
    b.arg("-machine", m.text());
    let accel = match def.virt_type {
        VirtType::Kvm if b.ctx.kvm_fd => {
            let path = b.fdset(FdKind::Kvm, "kvm");
            Pairs::new("kvm").set("device", path)
        }
        VirtType::Kvm => Pairs::new("kvm"),
        _ => Pairs::new("tcg"),
    };
    let ring = features.kvm.as_ref().and_then(|kvm| kvm.dirty_ring.as_ref());
    let ring = ring.filter(|ring| ring.state == Some(Switch::On)).and_then(|ring| ring.size);
    b.arg("-accel", accel.set_opt("dirty-ring-size", ring).text());
    Ok(())
}

pub(super) fn memory(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    // QEMU wants whole MiB; libvirt rounds up.
    let kib = numa::boot_memory(b)?;
    let mut p = Pairs::with("size", format!("{kib}k"));
    if let (Some(max), Some(slots)) = (def.memory.max, def.memory.slots) {
        p = p.set("slots", slots).set("maxmem", format!("{max}k"));
    }
    b.arg("-m", p.text());
    if numa::has_cells(b) {
        return Ok(());
    }
    let machine = b.ctx.caps.machine(def.os.machine.as_deref().unwrap_or_default());
    let Some(id) = machine.and_then(|machine| machine.default_ram_id.clone()) else { return Ok(()) };
    let object = numa::object(b, &id, 0, None)?;
    b.object(&object.set("size", kib * 1024));
    Ok(())
}

pub(super) fn processors(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    let lock = if def.memory_backing.locked { "on" } else { "off" };
    b.arg("-overcommit", format!("mem-lock={lock}"));
    let max = def.vcpu.max;
    let current = def.vcpu.current.unwrap_or(max);
    let mut smp = Pairs::new(current.to_string());
    if current != max {
        smp = smp.set("maxcpus", max);
    }
    match def.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref()) {
        Some(t) => {
            let n = |value: Option<u32>| value.unwrap_or(1);
            smp = smp.set("sockets", n(t.sockets)).set("dies", n(t.dies));
            smp = smp.set("clusters", n(t.clusters)).set("cores", n(t.cores)).set("threads", n(t.threads));
        }
        None => smp = smp.set("sockets", max).set("cores", 1).set("threads", 1),
    }
    b.arg("-smp", smp.text());
    for id in iothread_ids(def) {
        let mut object = Props::object("iothread", &format!("iothread{id}"));
        if let Some(thread) = def.iothread_ids.iter().find(|thread| thread.id == id) {
            object = object.set_opt("thread-pool-min", thread.thread_pool_min);
            object = object.set_opt("thread-pool-max", thread.thread_pool_max);
            if let Some(poll) = &thread.poll {
                object = object.set_opt("poll-max-ns", poll.max);
                object = object.set_opt("poll-grow", poll.grow).set_opt("poll-shrink", poll.shrink);
            }
        }
        b.object(&object);
    }
    if current > max {
        return Err(Error::internal("more virtual CPUs are on than there are"));
    }
    Ok(())
}
