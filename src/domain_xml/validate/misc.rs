//! Small devices, memory devices, and what may be there once only.

use super::{Check, each, refuse};
use crate::domain_xml::device::*;
use crate::domain_xml::memory::MemoryAccess;
use crate::domain_xml::model::DomainDef;

/// Every small device of a definition.
pub(super) fn small_devices(def: &DomainDef) -> Check {
    each("devices/shmem", &def.shmems, shmem)?;
    if let Some(iommu) = &def.iommu {
        self::iommu(iommu).map_err(|error| error.about("devices/iommu", 0))?;
    }
    if let Some(vsock) = &def.vsock {
        let automatic = vsock.cid.auto.is_some_and(|auto| auto.is_yes());
        if !automatic && vsock.cid.address.is_some_and(|cid| cid < 3) {
            let error = refuse!(ConfigUnsupported, "guest CIDs must be >= 3");
            return error.map_err(|error| error.about("devices/vsock", 0));
        }
    }
    each("devices/memory", &def.memory_devices, memory)?;
    let plugged: u64 = def.memory_devices.iter().map(|device| device.target.size).sum();
    refuse!(
        if plugged > def.memory.size, XmlError,
        "Total size of memory devices exceeds the total memory size"
    );
    Ok(())
}

fn shmem(shmem: &Shmem) -> Check {
    refuse!(if shmem.name.contains('/'), ConfigUnsupported, "shmem name cannot include '/' character");
    let name = shmem.name.as_str();
    refuse!(if matches!(name, "." | ".."), ConfigUnsupported, "shmem name cannot be equal to '{name}'");
    refuse!(
        if shmem.size.is_some_and(|size| size > 0 && (!size.is_power_of_two() || size < 1 << 20)), XmlError,
        "shmem size must be a power of 2 and at least 1 MiB (1024 KiB)"
    );
    refuse!(
        if shmem.msi.is_some() && shmem.server.is_none(), XmlError,
        "msi option is only supported with a server"
    );
    Ok(())
}

fn iommu(iommu: &Iommu) -> Check {
    match iommu.model {
        IommuModel::Virtio => refuse!(
            if iommu.driver != IommuDriver::default(), XmlError,
            "iommu model 'virtio' doesn't support additional attributes"
        ),
        model => refuse!(
            if iommu.info.address.is_some(), XmlError,
            "iommu model '{model}' can't have address"
        ),
    }
    Ok(())
}

fn memory(device: &MemoryDevice) -> Check {
    let (model, target) = (device.model, &device.target);
    match model {
        MemoryModel::Nvdimm | MemoryModel::VirtioPmem => {
            refuse!(if device.source.path.is_none(), XmlDetail, "path is required for model '{model}'");
            if model == MemoryModel::VirtioPmem {
                refuse!(
                    if device.access.is_some_and(|access| access != MemoryAccess::Shared), ConfigUnsupported,
                    "shared access mode required for virtio-pmem device"
                );
                refuse!(if target.node.is_some(), ConfigUnsupported, "virtio-pmem does not support NUMA nodes");
            }
            if let Some(label) = target.label_size {
                refuse!(if label < 128, XmlError, "nvdimm label must be at least 128KiB");
                refuse!(if label >= target.size, XmlError, "label size must be smaller than NVDIMM size");
            }
        }
        MemoryModel::VirtioMem => {
            let block = target.block.unwrap_or(0);
            refuse!(if !block.is_power_of_two(), XmlDetail, "block size must be a power of two");
            let requested = target.requested.unwrap_or(0);
            let size = target.size;
            refuse!(
                if requested > size, XmlDetail,
                "requested size must be smaller than or equal to @size ({size}KiB)"
            );
            refuse!(
                if requested % block != 0, XmlDetail,
                "requested size must be an integer multiple of block size"
            );
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case("<shmem name='a/b'/>", "unsupported configuration: shmem name cannot include '/' character")]
    #[case(
        "<shmem name='a'><size unit='M'>3</size></shmem>",
        "XML error: shmem size must be a power of 2 and at least 1 MiB (1024 KiB) (line 1"
    )]
    #[case("<shmem name='a'><msi vectors='4'/></shmem>", "XML error: msi option is only supported with a server")]
    #[case(
        "<iommu model='virtio'><driver iotlb='on'/></iommu>",
        "XML error: iommu model 'virtio' doesn't support additional attributes"
    )]
    #[case(
        "<iommu model='intel'><address type='pci' slot='9'/></iommu>",
        "XML error: iommu model 'intel' can't have address"
    )]
    #[case("<vsock><cid address='1'/></vsock>", "unsupported configuration: guest CIDs must be >= 3")]
    #[case("<memory model='nvdimm'><target><size>1024</size></target></memory>", "path is required for model 'nvdimm'")]
    #[case(
        "<memory model='virtio-mem'><target><size>1024</size><block>3000</block></target></memory>",
        "block size must be a power of two"
    )]
    #[case(
        "<memory model='dimm'><target><size>99999999</size></target></memory>",
        "XML error: Total size of memory devices exceeds the total memory size"
    )]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
