//! Refusals that need the document: what is written twice, or in a form that the typed model does not keep.
//! Runs before the elements are read.

use super::words::YesNo;
use crate::error::{Code, Result};
use crate::xml::Node;

/// Checks a `<domain>` document. Errors: codes 27, 67 and 1, with libvirt's texts.
pub(super) fn check(root: Node<'_>) -> Result<()> {
    only_one(root, "numatune", Code::XmlError, "only one numatune is supported")?;
    only_one(root, "genid", Code::XmlError, "element 'genid' can only appear once")?;
    if let Some(memory) = root.child("numatune").and_then(|tune| tune.child("memory"))
        && memory.attr("placement") == Some("static")
        && memory.attr("nodeset").is_none()
    {
        let what = "nodeset for NUMA memory tuning must be set if 'placement' is 'static'";
        return Err(memory.error(Code::ConfigUnsupported, what));
    }
    if let Some(tune) = root.child("cputune") {
        only_one(tune, "emulatorpin", Code::XmlError, "only one emulatorpin is supported")?;
        only_one(tune, "emulatorsched", Code::XmlError, "only one emulatorsched is supported")?;
    }
    if let Some(numa) = root.child("cpu").and_then(|cpu| cpu.child("numa"))
        && numa.child("cell").is_none()
    {
        return Err(numa.error(Code::XmlError, "NUMA topology defined without NUMA cells"));
    }
    if let Some(features) = root.child("features") {
        hyperv(features)?;
        kvm(features)?;
    }
    if let Some(security) = root.child("launchSecurity") {
        launch_security(security)?;
    }
    if let Some(memory) = root.child("memoryBacking") {
        memory_backing(memory)?;
    }
    match root.child("devices") {
        Some(devices) => self::devices(devices),
        None => Ok(()),
    }
}

fn only_one(parent: Node<'_>, name: &'static str, code: Code, text: &str) -> Result<()> {
    match parent.children(name).nth(1) {
        Some(second) => Err(second.error(code, text)),
        None => Ok(()),
    }
}

const HYPERV: &[&str] = &[
    "relaxed",
    "vapic",
    "spinlocks",
    "vpindex",
    "runtime",
    "synic",
    "stimer",
    "reset",
    "vendor_id",
    "frequencies",
    "reenlightenment",
    "tlbflush",
    "ipi",
    "evmcs",
    "avic",
    "emsr_bitmap",
    "xmm_input",
];

const KVM: &[&str] = &["hidden", "hint-dedicated", "poll-control", "pv-ipi", "dirty-ring"];

fn hyperv(features: Node<'_>) -> Result<()> {
    let Some(hyperv) = features.child("hyperv") else { return Ok(()) };
    for feature in hyperv.all_children() {
        let name = feature.name();
        if !HYPERV.contains(&name) {
            let what = format!("unsupported HyperV Enlightenment feature: {name}");
            return Err(feature.error(Code::ConfigUnsupported, what));
        }
        needs(feature, "state")?;
        for part in feature.all_children().filter(|part| matches!(part.name(), "direct" | "extended")) {
            needs(part, "state")?;
        }
    }
    Ok(())
}

fn kvm(features: Node<'_>) -> Result<()> {
    let Some(kvm) = features.child("kvm") else { return Ok(()) };
    for feature in kvm.all_children() {
        let name = feature.name();
        if !KVM.contains(&name) {
            return Err(feature.error(Code::ConfigUnsupported, format!("unsupported KVM feature: {name}")));
        }
        needs(feature, "state")?;
    }
    Ok(())
}

fn needs(node: Node<'_>, name: &'static str) -> Result<()> {
    node.attr(name).map(|_| ()).ok_or_else(|| node.missing_attr(name))
}

fn launch_security(security: Node<'_>) -> Result<()> {
    let kind = security.attr("type").ok_or_else(|| security.missing_attr("type"))?;
    const TYPES: &[&str] = &["sev", "sev-snp", "s390-pv"];
    if !TYPES.contains(&kind) {
        return Err(security.invalid_attr("type", None, TYPES));
    }
    if kind.starts_with("sev") && security.child("policy").is_none() {
        return Err(security.error(Code::XmlError, "failed to get launch security policy"));
    }
    Ok(())
}

fn memory_backing(memory: Node<'_>) -> Result<()> {
    for page in memory.child("hugepages").into_iter().flat_map(|pages| pages.children("page")) {
        if page.attr("size").is_none() {
            return Err(page.error(Code::XmlError, "missing element or attribute './@size'"));
        }
    }
    Ok(())
}

fn devices(devices: Node<'_>) -> Result<()> {
    only_one(devices, "iommu", Code::XmlError, "only a single IOMMU device is supported")?;
    only_one(devices, "vsock", Code::XmlError, "only a single vsock device is supported")?;
    only_one(devices, "memballoon", Code::InternalError, "only a single memory balloon device is supported")?;
    only_one(devices, "nvram", Code::XmlError, "only a single nvram device is supported")?;
    let filters = "only one set of redirection filter rule is supported";
    only_one(devices, "redirfilter", Code::InternalError, filters)?;
    for device in devices.all_children() {
        match device.name() {
            "rng" => backends(device, "only one RNG backend is supported")?,
            "tpm" => only_one(device, "backend", Code::XmlError, "only one TPM backend is supported")?,
            "crypto" => backends(device, "only one crypto backend is supported")?,
            "controller" => {
                let text = "Multiple <model> elements in controller definition not allowed";
                only_one(device, "model", Code::XmlError, text)?;
                let text = "Multiple <target> elements in controller definition not allowed";
                only_one(device, "target", Code::XmlError, text)?;
            }
            "hostdev" => hostdev(device)?,
            "graphics" => listens(device)?,
            "interface" => interface(device)?,
            "disk" => disk(device)?,
            "filesystem" => filesystem(device)?,
            "input" => input(device)?,
            "pstore" => pstore(device)?,
            "serial" | "parallel" | "console" | "channel" | "redirdev" | "smartcard" => character(device)?,
            _ => {}
        }
        if let Some(address) = device.child("address") {
            self::address(address)?;
        }
        if let Some(boot) = device.child("boot") {
            loadparm(boot)?;
        }
    }
    Ok(())
}

fn backends(device: Node<'_>, text: &str) -> Result<()> {
    match device.children("backend").count() {
        1 => Ok(()),
        _ => Err(device.error(Code::XmlError, text)),
    }
}

/// Parts of an address that libvirt reads as decimal numbers only.
fn address(address: Node<'_>) -> Result<()> {
    let decimal: &[&'static str] = match address.attr("type") {
        Some("drive") => &["controller", "bus", "target", "unit"],
        Some("virtio-serial") => &["controller", "bus", "port"],
        Some("ccid") => &["controller", "slot"],
        Some("usb") => &["bus"],
        Some("dimm") => {
            needs(address, "slot")?;
            &["slot"]
        }
        _ => return Ok(()),
    };
    decimal.iter().try_for_each(|name| address.attr_value::<u32>(name).map(|_| ()))
}

fn loadparm(boot: Node<'_>) -> Result<()> {
    let Some(value) = boot.attr("loadparm") else { return Ok(()) };
    let known = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == ' ';
    if value.len() > 8 || value.is_empty() || !value.chars().all(known) {
        let what = format!("invalid loadparm value '{value}', expecting chars in set of [a-zA-Z0-9.] and blank spaces");
        return Err(boot.attr_error("loadparm", Code::InternalError, what));
    }
    Ok(())
}

fn hostdev(device: Node<'_>) -> Result<()> {
    if device.attr("mode").is_some_and(|mode| mode != "subsystem") {
        return Ok(());
    }
    let kind = device.attr("type").unwrap_or_default();
    for name in ["sgio", "rawio"] {
        if kind != "scsi" && device.attr(name).is_some() {
            let what = format!("{name} is only supported for scsi host device");
            return Err(device.attr_error(name, Code::XmlError, what));
        }
    }
    if !matches!(kind, "mdev" | "scsi_host") && device.attr("model").is_some() {
        let what = format!("'model' attribute in <hostdev> is only supported when type='{kind}'");
        return Err(device.attr_error("model", Code::XmlError, what));
    }
    let Some(source) = device.child("source") else { return Ok(()) };
    match kind {
        "usb" => usb_source(source),
        "scsi" if source.attr("protocol") == Some("iscsi") => iscsi_source(source),
        "scsi_host" => {
            needs(source, "protocol")?;
            if source.attr("wwpn").is_none() {
                return Err(source.error(Code::XmlError, "missing vhost-scsi hostdev source wwpn"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn usb_source(source: Node<'_>) -> Result<()> {
    for name in ["vendor", "product"] {
        let Some(part) = source.child(name) else { continue };
        if part.attr_any_base32("id")? == Some(0) {
            let what = format!("Invalid value for attribute 'id' in element '{name}': Zero is not permitted");
            return Err(part.attr_error("id", Code::XmlError, what));
        }
        needs(part, "id")?;
    }
    if let Some(address) = source.child("address") {
        needs(address, "bus")?;
        needs(address, "device")?;
    }
    Ok(())
}

fn iscsi_source(source: Node<'_>) -> Result<()> {
    if source.attr("name").is_none() {
        return Err(source.error(Code::XmlError, "missing iSCSI hostdev source path name"));
    }
    match source.children("host").count() {
        0 => Err(source.error(Code::XmlError, "missing the host address for the iSCSI hostdev")),
        1 => Ok(()),
        _ => {
            let what = "only one source host address may be specified for the iSCSI hostdev";
            Err(source.error(Code::XmlError, what))
        }
    }
}

fn listens(graphics: Node<'_>) -> Result<()> {
    let Some(first) = graphics.child("listen") else { return Ok(()) };
    for listen in graphics.children("listen") {
        if listen.attr("network").is_some() && listen.attr("type").is_some_and(|kind| kind != "network") {
            let what = "'network' attribute is valid only for listen type 'network'";
            return Err(listen.attr_error("network", Code::XmlError, what));
        }
    }
    for (own, theirs, kind) in [("listen", "address", "address"), ("socket", "socket", "socket")] {
        let (Some(given), Some(found)) = (graphics.attr(own), first.attr(theirs)) else { continue };
        if first.attr("type") == Some(kind) && given != found {
            let what = format!(
                "graphics '{own}' attribute '{given}' must match '{theirs}' attribute of first listen element (found \
                 '{found}')"
            );
            return Err(graphics.attr_error(own, Code::ConfigUnsupported, what));
        }
    }
    Ok(())
}

fn interface(nic: Node<'_>) -> Result<()> {
    if nic.attr("type") == Some("internal") && nic.child("source").is_none() {
        return Err(nic.error(Code::XmlError, "interface type='internal' requires a 'source' element"));
    }
    let Some(source) = nic.child("source").filter(|_| nic.attr("type") == Some("vhostuser")) else { return Ok(()) };
    let Some(reconnect) = source.child("reconnect") else { return Ok(()) };
    if reconnect.attr_value::<YesNo>("enabled")?.is_some_and(YesNo::is_yes) {
        needs(reconnect, "timeout")?;
        if source.attr("mode") == Some("server") {
            let what =
                "'reconnect' attribute is not supported when source mode='server' for <interface type='vhostuser'>";
            return Err(reconnect.error(Code::ConfigUnsupported, what));
        }
    }
    Ok(())
}

fn disk(disk: Node<'_>) -> Result<()> {
    let target = disk.child("target");
    if let Some(target) = target.filter(|target| target.attr("removable").is_some()) {
        let bus = target.attr("bus");
        let named = target.attr("dev").is_some_and(|dev| dev.starts_with("sd"));
        let possible = bus.map_or(named, |bus| matches!(bus, "usb" | "scsi"));
        if !possible {
            let what = "removable is only valid for usb or scsi disks";
            return Err(target.attr_error("removable", Code::XmlError, what));
        }
    }
    let Some(source) = disk.child("source") else { return Ok(()) };
    if disk.attr("type") == Some("vhostuser") && source.attr("type").is_none() {
        return Err(source.error(Code::XmlError, "missing 'type' attribute for vhostuser disk source"));
    }
    if let Some(identity) = source.child("identity").filter(|_| source.attr("protocol") == Some("ssh")) {
        needs(identity, "username")?;
        if identity.attr("keyfile").is_none() && identity.attr("agentsock").is_none() {
            let what = "element 'identity' requires either 'keyfile' or 'agentsock' attribute";
            return Err(identity.error(Code::XmlError, what));
        }
    }
    if disk.attr("type") == Some("nvme") {
        if source.attr("type").is_none() {
            return Err(source.error(Code::XmlError, "missing 'type' attribute to disk source"));
        }
        if source.child("address").is_none() {
            return Err(source.error(Code::XmlError, "NVMe disk source is missing address"));
        }
    }
    if disk.child("auth").is_some() && source.child("auth").is_some() {
        let what = "an <auth> definition already found for disk source";
        return Err(source.error(Code::ConfigUnsupported, what));
    }
    labels(source)
}

/// A label for something that is not to be relabelled.
fn labels(source: Node<'_>) -> Result<()> {
    let mut seen: Vec<Option<&str>> = Vec::new();
    for label in source.children("seclabel") {
        let model = label.attr("model");
        if label.attr("relabel") == Some("no") && label.child("label").is_some() {
            let model = model.unwrap_or("NULL");
            let what = format!("Cannot specify a label if relabelling is turned off. model={model}");
            return Err(label.error(Code::XmlError, what));
        }
        if label.attr("relabel") == Some("yes") && label.child("label").is_none() {
            let what = format!("Cannot specify relabel if label is missing. model={}", model.unwrap_or("<null>"));
            return Err(label.error(Code::XmlError, what));
        }
        if seen.contains(&model) && model.is_some() {
            let what = format!("seclabel for model {} is already provided", model.unwrap_or_default());
            return Err(label.error(Code::XmlDetail, what));
        }
        seen.push(model);
    }
    Ok(())
}

fn input(input: Node<'_>) -> Result<()> {
    let Some(source) = input.child("source") else { return Ok(()) };
    let path = match input.attr("type") {
        Some("passthrough") => source.attr("evdev"),
        Some("evdev") => source.attr("dev"),
        _ => return Ok(()),
    };
    match path {
        Some(_) => Ok(()),
        None => Err(source.error(Code::XmlError, "Missing evdev path for input device")),
    }
}

fn filesystem(filesystem: Node<'_>) -> Result<()> {
    let source = filesystem.child("source");
    let target = filesystem.child("target").and_then(|target| target.attr("dir"));
    if target.is_none() && source.is_some_and(|source| source.attr("socket").is_none()) {
        let path = source.and_then(|source| source.attr("dir")).unwrap_or_default();
        return Err(filesystem.error(Code::NoTarget, path));
    }
    if source.is_none() && filesystem.attr("type") != Some("ram") {
        return Err(filesystem.error(Code::NoSource, target.unwrap_or_default()));
    }
    Ok(())
}

fn pstore(pstore: Node<'_>) -> Result<()> {
    let backend = pstore.attr("backend").ok_or_else(|| pstore.missing_attr("backend"))?;
    if backend != "acpi-erst" {
        return Err(pstore.invalid_attr("backend", None, &["acpi-erst"]));
    }
    let Some(size) = pstore.child("size") else {
        return Err(pstore.error(Code::XmlError, "missing element or attribute './size'"));
    };
    // KiB.
    if super::memory::read_kib(size)? < 4 {
        return Err(size.error(Code::XmlError, "invalid size of ACPI ERST pstore device"));
    }
    match pstore.child("address").and_then(|address| address.attr("type")) {
        None | Some("pci") => Ok(()),
        Some(_) => Err(pstore.error(Code::ConfigUnsupported, "ACPI ERST device must reside on a PCI bus")),
    }
}

fn character(device: Node<'_>) -> Result<()> {
    let kind = device.attr("type").unwrap_or_default();
    if kind != "udp" {
        only_one(device, "source", Code::XmlError, "only one source element is allowed for character device")?;
    } else if let Some(third) = device.children("source").nth(2) {
        let what = "only two source elements are allowed for character device";
        return Err(third.error(Code::XmlError, what));
    }
    only_one(device, "log", Code::XmlError, "only one log element is allowed for character device")?;
    only_one(device, "protocol", Code::XmlError, "only one protocol element is allowed for character device")?;
    for source in device.children("source") {
        if matches!(kind, "tcp" | "udp" | "unix")
            && source.attr("mode").is_some_and(|mode| !matches!(mode, "bind" | "connect"))
        {
            return Err(source.invalid_attr("mode", None, &["bind", "connect"]));
        }
        labels(source)?;
    }
    if device.name() == "channel" && device.child("target").is_some_and(|target| target.attr("type").is_none()) {
        let what = "unknown target type '(null)' specified for character device";
        return Err(device.error(Code::ConfigUnsupported, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::domain_xml::parse;
    use rstest::rstest;

    #[rstest]
    #[case("<numatune/><numatune/>", "only one numatune is supported")]
    #[case("<numatune><memory mode='strict' placement='static'/></numatune>", "must be set if 'placement' is 'static'")]
    #[case("<cpu><numa/></cpu>", "NUMA topology defined without NUMA cells")]
    #[case(
        "<features><hyperv><relaxed/></hyperv></features>",
        "Missing required attribute 'state' in element 'relaxed'"
    )]
    #[case(
        "<features><hyperv><moon state='on'/></hyperv></features>",
        "unsupported HyperV Enlightenment feature: moon"
    )]
    #[case("<features><kvm><moon state='on'/></kvm></features>", "unsupported KVM feature: moon")]
    #[case("<launchSecurity type='moon'/>", "Invalid value for attribute 'type' in element 'launchSecurity': 'moon'.")]
    #[case("<launchSecurity type='sev'/>", "failed to get launch security policy")]
    #[case(
        "<devices><iommu model='intel'/><iommu model='intel'/></devices>",
        "only a single IOMMU device is supported"
    )]
    #[case("<devices><vsock/><vsock/></devices>", "only a single vsock device is supported")]
    #[case("<devices><rng model='virtio'/></devices>", "only one RNG backend is supported")]
    #[case(
        "<devices><hostdev mode='subsystem' type='usb' rawio='yes'><source/></hostdev></devices>",
        "rawio is only supported for scsi host device"
    )]
    #[case(
        "<devices><hostdev mode='subsystem' type='usb'><source><address bus='1'/></source></hostdev></devices>",
        "Missing required attribute 'device' in element 'address'"
    )]
    #[case(
        "<devices><graphics type='vnc' listen='1.2.3.4'><listen type='address' address='1.2.3.5'/></graphics></devices>",
        "graphics 'listen' attribute '1.2.3.4' must match"
    )]
    #[case(
        "<devices><disk><source file='/x'/><target dev='vda' removable='on'/></disk></devices>",
        "removable is only valid for usb or scsi disks"
    )]
    #[case(
        "<devices><serial type='tcp'><source mode='up' host='a' service='1'/></serial></devices>",
        "Invalid value for attribute 'mode' in element 'source': 'up'."
    )]
    #[case(
        "<devices><disk><source file='/x'/><target dev='sda'/><address type='drive' unit='0x1'/></disk></devices>",
        "Invalid value for attribute 'unit' in element 'address': '0x1'. Expected non-negative integer value"
    )]
    fn refused_with_the_place(#[case] rest: &str, #[case] expected: &str) {
        let head = "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os>";
        let error = parse(&format!("{head}{rest}</domain>")).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
        assert!(error.detail.contains("line 1, column"), "{}", error.detail);
    }
}
