//! Devices that stand between the guest and something outside: smart cards, USB redirection, TPMs, IOMMUs, vsock.
//! All but the IOMMU are shown on paper only: a start cannot prepare what they need yet (see `unsupported`).

use super::{Builder, Pairs, Props, alias, chardev, not_yet, pci_address, usb_address};
use crate::domain_xml::device::*;
use crate::error::Result;

pub(super) fn smartcards(b: &mut Builder<'_>) -> Result<()> {
    for card in &b.def.smartcards {
        let id = alias(&card.info)?;
        let device = match &card.kind {
            SmartcardKind::Host => Props::new().set("driver", "ccid-card-emulated").set("backend", "nss-emulated"),
            SmartcardKind::HostCertificates { certificates, database } => {
                let mut p = Props::new().set("driver", "ccid-card-emulated").set("backend", "certificates");
                for (number, certificate) in certificates.iter().enumerate() {
                    p = p.set(&format!("cert{}", number + 1), certificate.as_str());
                }
                p.set("db", database.as_deref().unwrap_or("/etc/pki/nssdb"))
            }
            SmartcardKind::Passthrough(source) => {
                let chardev = chardev::backend(b, source, id)?;
                Props::new().set("driver", "ccid-card-passthru").set("chardev", chardev)
            }
        };
        // Without an address it is in the first reader.
        let controller = match card.info.address {
            Some(DeviceAddress::Ccid { controller, .. }) => controller,
            _ => 0,
        };
        b.device(&device.set("id", id).set("bus", format!("ccid{controller}.0")));
    }
    Ok(())
}

pub(super) fn redirdevs(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    for redirdev in &def.redirdevs {
        let id = alias(&redirdev.info)?;
        let chardev = chardev::backend(b, &redirdev.source, id)?;
        let mut p = Props::new().set("driver", "usb-redir").set("chardev", chardev).set("id", id);
        if !def.redir_filter.is_empty() {
            let any = |word: &Option<String>| word.clone().unwrap_or_else(|| "-1".into());
            let rule = |rule: &RedirFilterRule| {
                let allow = u32::from(rule.allow.is_some_and(|allow| allow.is_yes()));
                let version = any(&rule.version);
                format!("{}:{}:{}:{version}:{allow}", any(&rule.class), any(&rule.vendor), any(&rule.product))
            };
            if def.redir_filter.iter().any(|rule| rule.version.is_some()) {
                return Err(not_yet("<usbdev version> of <redirfilter>"));
            }
            p = p.set("filter", def.redir_filter.iter().map(rule).collect::<Vec<_>>().join("|"));
        }
        p = p.set_opt("bootindex", redirdev.info.boot_order);
        b.device(&p.join(usb_address(def, &redirdev.info)?));
    }
    Ok(())
}

pub(super) fn tpms(b: &mut Builder<'_>) -> Result<()> {
    for tpm in &b.def.tpms {
        let id = alias(&tpm.info)?;
        let TpmBackend::Emulator(_) = &tpm.backend else {
            return Err(not_yet("<tpm> with a backend other than emulator"));
        };
        let driver = match tpm.model.unwrap_or(TpmModel::Tis) {
            model @ (TpmModel::Tis | TpmModel::Crb) => model.as_str(),
            other => return Err(not_yet(format!("<tpm model='{other}'>"))),
        };
        let socket = format!("{}/swtpm.sock", crate::qemu::launch::DRY_RUN_DIR);
        b.arg("-chardev", Pairs::new("socket").set("id", "chrtpm").set("path", socket).text());
        b.arg("-tpmdev", Pairs::new("emulator").set("id", format!("tpm-{id}")).set("chardev", "chrtpm").text());
        b.device(&Props::new().set("driver", driver).set("tpmdev", format!("tpm-{id}")).set("id", id));
    }
    Ok(())
}

pub(super) fn iommu(b: &mut Builder<'_>) -> Result<()> {
    let Some(iommu) = &b.def.iommu else { return Ok(()) };
    let id = alias(&iommu.info)?;
    let driver = &iommu.driver;
    let on = |switch: Option<crate::domain_xml::Switch>| switch.map(|switch| switch.is_on());
    match iommu.model {
        IommuModel::Intel => {
            let p = Props::device("intel-iommu", id).on_off("intremap", on(driver.intremap));
            let p = p.set_opt("caching-mode", on(driver.caching_mode)).on_off("eim", on(driver.eim));
            let p = p.set_opt("device-iotlb", on(driver.iotlb)).set_opt("aw-bits", driver.aw_bits);
            b.device(&p.set_opt("dma-translation", on(driver.dma_translation)));
        }
        IommuModel::Virtio => {
            let p = Props::new().set("driver", "virtio-iommu").set("id", id);
            b.device(&p.join(pci_address(b.def, &iommu.info)?));
        }
        other => return Err(not_yet(format!("<iommu model='{other}'>"))),
    }
    Ok(())
}

pub(super) fn vsock(b: &mut Builder<'_>) -> Result<()> {
    let Some(vsock) = &b.def.vsock else { return Ok(()) };
    if !b.ctx.paper {
        return Err(not_yet("<vsock>"));
    }
    let model = vsock.model.map_or("virtio", VsockModel::as_str);
    let driver = super::virtio_driver("vhost-vsock", model);
    // A number of its own is chosen at start: the first that a guest may have.
    let cid = vsock.cid.address.unwrap_or(3);
    let p = Props::new().set("driver", driver).join(super::virtio_options(&vsock.driver));
    let p = p.set("id", alias(&vsock.info)?).set("guest-cid", cid).set("vhostfd", super::FIRST_FD.to_string());
    b.device(&p.join(pci_address(b.def, &vsock.info)?));
    Ok(())
}

pub(super) fn filesystems(b: &mut Builder<'_>) -> Result<()> {
    let def = b.def;
    for fs in &def.filesystems {
        let id = alias(&fs.info)?;
        let path = fs.source.path.as_deref();
        if fs.kind != FilesystemType::Mount {
            return Err(not_yet(format!("<filesystem type='{}'>", fs.kind)));
        }
        match fs.driver.kind {
            None | Some(FsDriverType::Path | FsDriverType::Handle) => {
                let security = match fs.accessmode {
                    Some(FsAccessMode::Mapped) => "mapped",
                    Some(FsAccessMode::Squash) => "none",
                    _ => "passthrough",
                };
                let mut p = Pairs::new("local").set("security_model", security);
                p = p
                    .set_opt("multidevs", fs.multidevs.filter(|m| *m != FsMultidevs::Default).map(FsMultidevs::as_str));
                p = p.set_opt("writeout", fs.driver.wrpolicy.map(FsWritePolicy::as_str));
                p = p.set_opt("fmode", fs.fmode.map(|mode| format!("{mode:04o}")));
                p = p.set_opt("dmode", fs.dmode.map(|mode| format!("{mode:04o}")));
                p = p.set("id", format!("fsdev-{id}")).set_opt("path", path);
                if fs.readonly {
                    p = p.word("readonly");
                }
                b.arg("-fsdev", p.text());
                let model = fs.model.map_or("virtio", FsModel::as_str);
                let p = Props::new().set("driver", super::virtio_driver("virtio-9p", model));
                let p = p.join(super::virtio_options(&fs.driver.virtio)).set("id", id);
                let p = p.set("fsdev", format!("fsdev-{id}")).set("mount_tag", fs.target.as_str());
                b.device(&p.join(pci_address(def, &fs.info)?));
            }
            Some(FsDriverType::Virtiofs) => {
                let own = format!("{}/{id}-fs.sock", crate::qemu::launch::DRY_RUN_DIR);
                let socket = fs.source.socket.clone().unwrap_or(own);
                let chardev = format!("chr-vu-{id}");
                b.arg("-chardev", Pairs::new("socket").set("id", &chardev).set("path", socket).text());
                let p = Props::new().set("driver", "vhost-user-fs-pci").join(super::virtio_options(&fs.driver.virtio));
                let p = p.set("id", id).set("chardev", chardev).set_opt("queue-size", fs.driver.queue);
                let p = p.set("tag", fs.target.as_str()).set_opt("bootindex", fs.info.boot_order);
                b.device(&p.join(pci_address(def, &fs.info)?));
            }
            Some(FsDriverType::Mtp) => {
                let p = Props::device("usb-mtp", id).set_opt("rootdir", path).set("desc", fs.target.as_str());
                b.device(&p.set("readonly", fs.readonly).join(usb_address(def, &fs.info)?));
            }
            Some(other) => return Err(not_yet(format!("<filesystem> with driver '{other}'"))),
        }
    }
    Ok(())
}
