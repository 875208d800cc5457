//! `org.libvirt.Connect`: the members of a driver root.

use super::pool::{pool_path, volume_path};
use super::{Interface, Method, Property, Signal, m, p, s};
use crate::dbus::call::{Invocation, object, property};
use crate::dbus::codec::{Counters, Params, Path, optional};
use crate::dbus::fault::Fault;
use crate::dbus::path::{self, Kind};
use crate::engine::Domain;
use crate::engine::api;
use crate::engine::api::{
    AllStatsArgs, BaselineArgs, BaselineCpu, CompareArgs, CompareCpu, CreateStoragePoolXml, CreateXml,
    DefineStoragePoolXml, DefineXml, DomainCapsArgs, FindSourcesArgs, FindStoragePoolSources, GetAllDomainStats,
    GetCapabilities, GetCpuModelNames, GetDomainCapabilities, GetHostname, GetLibVersion, GetSysinfo, GetVersion,
    InterfaceChangeBegin, InterfaceChangeCommit, InterfaceChangeRollback, InterfaceDefineXml, InterfaceLookupByMac,
    InterfaceLookupByName, IsEncrypted, ListAllDomains, ListAllInterfaces, ListAllNetworks, ListAllNodeDevices,
    ListAllNwFilters, ListAllSecrets, ListAllStoragePools, LookupById, LookupByName, LookupByUuid,
    LookupStoragePoolByName, LookupStoragePoolByUuid, LookupStorageVolByKey, LookupStorageVolByPath, NetworkCreateXml,
    NetworkDefineXml, NetworkLookupByName, NetworkLookupByUuid, NodeDeviceCreateXml, NodeDeviceLookupByName,
    NodeDeviceLookupScsiHostByWwn, NodeGetCpuMap, NodeGetCpuStats, NodeGetFreeMemory, NodeGetMemoryStats,
    NodeGetSecurityModel, NwFilterDefineXml, NwFilterLookupByName, NwFilterLookupByUuid, SecretDefineXml,
    SecretLookupByUsage, SecretLookupByUuid, XmlFlags,
};
use crate::engine::driver::DomainCapsQuery;
use crate::engine::interface::HostInterface;
use crate::engine::network::Network;
use crate::engine::node_device::NodeDevice;
use crate::engine::nwfilter::NwFilter;
use crate::engine::secret::Secret;
use crate::error::Error;
use crate::types::Uuid;

fn domain_path(at: &Invocation, domain: &Domain) -> Path {
    // The call was made on a driver's root, so the domain is that driver's.
    let root = at.root.map_or("QEMU", |root| root.name);
    Path(path::domain_below(root, &domain.uuid()))
}

fn network_path(at: &Invocation, network: &Network) -> Path {
    at.uuid_path(Kind::Network, network.uuid())
}

fn secret_path(at: &Invocation, secret: &Secret) -> Path {
    at.uuid_path(Kind::Secret, secret.uuid())
}

fn device_path(at: &Invocation, device: &NodeDevice) -> Path {
    at.text_path(Kind::NodeDevice, &device.name)
}

fn filter_path(at: &Invocation, filter: &NwFilter) -> Path {
    at.uuid_path(Kind::NwFilter, filter.uuid())
}

fn interface_path(at: &Invocation, interface: &HostInterface) -> Path {
    at.text_path(Kind::Interface, interface.key())
}

/// The UUID that a look-up `function` is given.
fn parse_uuid(text: &str, function: &str) -> Result<Uuid, Fault> {
    let refused = || Error::bare_arg(format!("uuidstr in {function} must be a valid UUID"));
    Uuid::try_parse(text).map_err(|_| refused().into())
}

/// libvirt-dbus's interface of a driver root.
pub static INTERFACE: Interface = Interface {
    name: "org.libvirt.Connect",
    xml: include_str!("../../../schemas/dbus/org.libvirt.Connect.xml"),
    emits_changed: false,
    methods: METHODS,
    properties: PROPERTIES,
    signals: SIGNALS,
};

const PROPERTIES: &[Property] = &[
    p("Encrypted", "b", "virConnectIsEncrypted").constant().get(|at| property::<IsEncrypted, _>(at, || (), |on| on)),
    p("Hostname", "s", "virConnectGetHostname").get(|at| property::<GetHostname, _>(at, || (), |name| name)),
    p("LibVersion", "t", "virConnectGetLibVersion")
        .get(|at| property::<GetLibVersion, _>(at, || (), |version| version)),
    p("Secure", "b", "virConnectIsEncrypted").constant().get(|at| property::<IsEncrypted, _>(at, || (), |on| on)),
    p("Version", "t", "virConnectGetVersion").get(|at| property::<GetVersion, _>(at, || (), |version| version)),
];

const METHODS: &[Method] = &[
    m("BaselineCPU", "xmlCPUs as, flags u", "cpu s", "virConnectBaselineCPU").served(object!(
        BaselineCpu,
        |(cpus, flags): (Vec<String>, u32)| Ok(BaselineArgs { cpus, flags }),
        |_, xml| xml
    )),
    m("CompareCPU", "xmlDesc s, flags u", "compareResult i", "virConnectCompareCPU").served(object!(
        CompareCpu,
        |(xml, flags): (String, u32)| Ok(CompareArgs { xml, flags }),
        |_, result| result
    )),
    m("DomainCreateXML", "xml s, flags u", "domain o", "virDomainCreateXML").served(object!(
        CreateXml,
        |(xml, flags): (String, u32)| Ok(XmlFlags { xml, flags }),
        |at, domain| domain_path(at, &domain)
    )),
    m("DomainCreateXMLWithFiles", "xml s, files ah, flags u", "domain o", "virDomainCreateXMLWithFiles"),
    m("DomainDefineXML", "xml s", "domain o", "virDomainDefineXML").served(object!(
        DefineXml,
        |xml: String| Ok(XmlFlags { xml, flags: 0 }),
        |at, domain| domain_path(at, &domain)
    )),
    m("DomainLookupByID", "id i", "domain o", "virDomainLookupByID").served(object!(
        LookupById,
        |id: i32| Ok(id),
        |at, domain| domain_path(at, &domain)
    )),
    m("DomainLookupByName", "name s", "domain o", "virDomainLookupByName").served(object!(
        LookupByName,
        |name: String| Ok(name),
        |at, domain| domain_path(at, &domain)
    )),
    m("DomainLookupByUUID", "uuid s", "domain o", "virDomainLookupByUUIDString").served(object!(
        LookupByUuid,
        |text: String| parse_uuid(&text, "virDomainLookupByUUIDString"),
        |at, domain| domain_path(at, &domain)
    )),
    m("DomainRestore", "from s, xml s, flags u", "", "virDomainRestoreFlags"),
    m("DomainSaveImageDefineXML", "file s, xml s, flags u", "", "virDomainSaveImageDefineXML"),
    m("DomainSaveImageGetXMLDesc", "file s, flags u", "xml s", "virDomainSaveImageGetXMLDesc"),
    m(
        "FindStoragePoolSources",
        "type s, srcSpec s, flags u",
        "storagePoolSources s",
        "virConnectFindStoragePoolSources",
    )
    .served(object!(
        FindStoragePoolSources,
        |(kind, spec, flags): (String, String, u32)| Ok(FindSourcesArgs { kind, spec: optional(spec), flags }),
        |_, xml| xml
    )),
    m("GetAllDomainStats", "stats u, flags u", "records a(sa{sv})", "virConnectGetAllDomainStats").served(object!(
        GetAllDomainStats,
        |(stats, flags): (u32, u32)| Ok(AllStatsArgs { stats, flags, domains: None }),
        |_, records| (records.into_iter().map(|(domain, params)| (domain.name(), Params(params))).collect::<Vec<_>>(),)
    )),
    m("GetCapabilities", "", "capabilities s", "virConnectGetCapabilities").served(object!(
        GetCapabilities,
        |()| Ok(()),
        |_, xml| xml
    )),
    m("GetCPUModelNames", "arch s, flags u", "models as", "virConnectGetCPUModelNames").served(object!(
        GetCpuModelNames,
        |args: (String, u32)| Ok(args),
        |_, names| names
    )),
    m(
        "GetDomainCapabilities",
        "emulatorbin s, arch s, machine s, virttype s, flags u",
        "domCapabilities s",
        "virConnectGetDomainCapabilities",
    )
    .served(object!(
        GetDomainCapabilities,
        |(emulator, arch, machine, virt_type, flags): (String, String, String, String, u32)| {
            let query = DomainCapsQuery {
                emulator: optional(emulator),
                arch: optional(arch),
                machine: optional(machine),
                virt_type: optional(virt_type),
            };
            Ok(DomainCapsArgs { query, flags })
        },
        |_, xml| xml
    )),
    m("GetSysinfo", "flags u", "sysinfo s", "virConnectGetSysinfo").served(object!(
        GetSysinfo,
        |flags: u32| Ok(flags),
        |_, xml| xml
    )),
    m("InterfaceChangeBegin", "flags u", "", "virInterfaceChangeBegin").served(object!(
        InterfaceChangeBegin,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("InterfaceChangeCommit", "flags u", "", "virInterfaceChangeCommit").served(object!(
        InterfaceChangeCommit,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("InterfaceChangeRollback", "flags u", "", "virInterfaceChangeRollback").served(object!(
        InterfaceChangeRollback,
        |flags: u32| Ok(flags),
        |_, ()| ()
    )),
    m("InterfaceDefineXML", "xml s, flags u", "interface o", "virInterfaceDefineXML").served(object!(
        InterfaceDefineXml,
        |(xml, flags): (String, u32)| Ok(XmlFlags { xml, flags }),
        |at, interface| interface_path(at, &interface)
    )),
    m("InterfaceLookupByMAC", "mac s", "interface o", "virInterfaceLookupByMACString").served(object!(
        InterfaceLookupByMac,
        |mac: String| Ok(mac),
        |at, interface| interface_path(at, &interface)
    )),
    m("InterfaceLookupByName", "name s", "interface o", "virInterfaceLookupByName").served(object!(
        InterfaceLookupByName,
        |name: String| Ok(name),
        |at, interface| interface_path(at, &interface)
    )),
    m("ListDomains", "flags u", "domains ao", "virConnectListAllDomains").served(object!(
        ListAllDomains,
        |flags: u32| Ok(flags),
        |at, domains| { domains.iter().map(|domain| domain_path(at, domain)).collect::<Vec<_>>() }
    )),
    m("ListInterfaces", "flags u", "interfaces ao", "virConnectListAllInterfaces").served(object!(
        ListAllInterfaces,
        |flags: u32| Ok(flags),
        |at, interfaces| interfaces.iter().map(|interface| interface_path(at, interface)).collect::<Vec<_>>()
    )),
    m("ListNetworks", "flags u", "networks ao", "virConnectListAllNetworks").served(object!(
        ListAllNetworks,
        |flags: u32| Ok(flags),
        |at, networks| networks.iter().map(|network| network_path(at, network)).collect::<Vec<_>>()
    )),
    m("ListNodeDevices", "flags u", "devs ao", "virConnectListAllNodeDevices").served(object!(
        ListAllNodeDevices,
        |flags: u32| Ok(flags),
        |at, devices| devices.iter().map(|device| device_path(at, device)).collect::<Vec<_>>()
    )),
    m("ListNWFilters", "flags u", "nwfilters ao", "virConnectListAllNWFilters").served(object!(
        ListAllNwFilters,
        |flags: u32| Ok(flags),
        |at, filters| filters.iter().map(|filter| filter_path(at, filter)).collect::<Vec<_>>()
    )),
    m("ListSecrets", "flags u", "secrets ao", "virConnectListAllSecrets").served(object!(
        ListAllSecrets,
        |flags: u32| Ok(flags),
        |at, secrets| secrets.iter().map(|secret| secret_path(at, secret)).collect::<Vec<_>>()
    )),
    m("ListStoragePools", "flags u", "storagePools ao", "virConnectListAllStoragePools").served(object!(
        ListAllStoragePools,
        |flags: u32| Ok(flags),
        |at, pools| pools.iter().map(|pool| pool_path(at, pool)).collect::<Vec<_>>()
    )),
    m("NetworkCreateXML", "xml s", "network o", "virNetworkCreateXML").served(object!(
        NetworkCreateXml,
        |xml: String| Ok(XmlFlags { xml, flags: 0 }),
        |at, network| network_path(at, &network)
    )),
    m("NetworkDefineXML", "xml s", "network o", "virNetworkDefineXML").served(object!(
        NetworkDefineXml,
        |xml: String| Ok(XmlFlags { xml, flags: 0 }),
        |at, network| network_path(at, &network)
    )),
    m("NetworkLookupByName", "name s", "network o", "virNetworkLookupByName").served(object!(
        NetworkLookupByName,
        |name: String| Ok(name),
        |at, network| network_path(at, &network)
    )),
    m("NetworkLookupByUUID", "uuid s", "network o", "virNetworkLookupByUUIDString").served(object!(
        NetworkLookupByUuid,
        |text: String| parse_uuid(&text, "virNetworkLookupByUUIDString"),
        |at, network| network_path(at, &network)
    )),
    m("NodeDeviceCreateXML", "xml s, flags u", "dev o", "virNodeDeviceCreateXML").served(object!(
        NodeDeviceCreateXml,
        |(xml, flags): (String, u32)| Ok(XmlFlags { xml, flags }),
        |at, device| device_path(at, &device)
    )),
    m("NodeDeviceLookupByName", "name s", "dev o", "virNodeDeviceLookupByName").served(object!(
        NodeDeviceLookupByName,
        |name: String| Ok(name),
        |at, device| device_path(at, &device)
    )),
    m("NodeDeviceLookupSCSIHostByWWN", "wwnn s, wwpn s, flags u", "dev o", "virNodeDeviceLookupSCSIHostByWWN").served(
        object!(NodeDeviceLookupScsiHostByWwn, |args: (String, String, u32)| Ok(args), |at, device| device_path(
            at, &device
        )),
    ),
    m("NWFilterDefineXML", "xml s", "nwfilter o", "virNWFilterDefineXML").served(object!(
        NwFilterDefineXml,
        |xml: String| Ok(XmlFlags { xml, flags: 0 }),
        |at, filter| filter_path(at, &filter)
    )),
    m("NWFilterLookupByName", "name s", "nwfilter o", "virNWFilterLookupByName").served(object!(
        NwFilterLookupByName,
        |name: String| Ok(name),
        |at, filter| filter_path(at, &filter)
    )),
    m("NWFilterLookupByUUID", "uuid s", "nwfilter o", "virNWFilterLookupByUUIDString").served(object!(
        NwFilterLookupByUuid,
        |text: String| parse_uuid(&text, "virNWFilterLookupByUUIDString"),
        |at, filter| filter_path(at, &filter)
    )),
    m("NodeGetCPUMap", "flags u", "res ab", "virNodeGetCPUMap").served(object!(
        NodeGetCpuMap,
        |flags: u32| Ok(flags),
        |_, map| map
    )),
    m("NodeGetCPUStats", "cpuNum i, flags u", "cpuStats a{st}", "virNodeGetCPUStats").served(object!(
        NodeGetCpuStats,
        |args: (i32, u32)| Ok(args),
        |_, stats| Counters(stats)
    )),
    m("NodeGetFreeMemory", "", "freemem t", "virNodeGetFreeMemory").served(object!(
        NodeGetFreeMemory,
        |()| Ok(()),
        |_, bytes| bytes
    )),
    m("NodeGetMemoryParameters", "flags u", "memoryParameters a{sv}", "virNodeGetMemoryParameters").served(object!(
        api::NodeGetMemoryParameters,
        |flags: u32| Ok(flags),
        |_, params| (Params(params),)
    )),
    m("NodeGetMemoryStats", "cellNum i, flags u", "stats a{st}", "virNodeGetMemoryStats").served(object!(
        NodeGetMemoryStats,
        |args: (i32, u32)| Ok(args),
        |_, stats| Counters(stats)
    )),
    m("NodeGetSecurityModel", "", "secModel (ss)", "virNodeGetSecurityModel").served(object!(
        NodeGetSecurityModel,
        |()| Ok(()),
        |_, model| (model,)
    )),
    m("NodeSetMemoryParameters", "params a{sv}, flags u", "", "virNodeSetMemoryParameters").served(object!(
        api::NodeSetMemoryParameters,
        |(given, flags): (std::collections::HashMap<String, zbus::OwnedVariant>, u32)| Ok((
            crate::dbus::codec::params(given)?,
            flags
        )),
        |_, ()| ()
    )),
    m("SecretDefineXML", "xml s, flags u", "secret o", "virSecretDefineXML").served(object!(
        SecretDefineXml,
        |(xml, flags): (String, u32)| Ok(XmlFlags { xml, flags }),
        |at, secret| secret_path(at, &secret)
    )),
    m("SecretLookupByUUID", "uuid s", "secret o", "virSecretLookupByUUIDString").served(object!(
        SecretLookupByUuid,
        |text: String| parse_uuid(&text, "virSecretLookupByUUIDString"),
        |at, secret| secret_path(at, &secret)
    )),
    m("SecretLookupByUsage", "usageType i, usageID s", "secret o", "virSecretLookupByUsage").served(object!(
        SecretLookupByUsage,
        |args: (i32, String)| Ok(args),
        |at, secret| secret_path(at, &secret)
    )),
    m("StoragePoolCreateXML", "xml s, flags u", "storagePool o", "virStoragePoolCreateXML").served(object!(
        CreateStoragePoolXml,
        |(xml, flags): (String, u32)| Ok(XmlFlags { xml, flags }),
        |at, pool| pool_path(at, &pool)
    )),
    m("StoragePoolDefineXML", "xml s, flags u", "storagePool o", "virStoragePoolDefineXML").served(object!(
        DefineStoragePoolXml,
        |(xml, flags): (String, u32)| Ok(XmlFlags { xml, flags }),
        |at, pool| pool_path(at, &pool)
    )),
    m("StoragePoolLookupByName", "name s", "storagePool o", "virStoragePoolLookupByName").served(object!(
        LookupStoragePoolByName,
        |name: String| Ok(name),
        |at, pool| pool_path(at, &pool)
    )),
    m("StoragePoolLookupByUUID", "uuid s", "storagePool o", "virStoragePoolLookupByUUIDString").served(object!(
        LookupStoragePoolByUuid,
        |text: String| parse_uuid(&text, "virStoragePoolLookupByUUIDString"),
        |at, pool| pool_path(at, &pool)
    )),
    m("StorageVolLookupByKey", "key s", "storageVol o", "virStorageVolLookupByKey").served(object!(
        LookupStorageVolByKey,
        |key: String| Ok(key),
        |at, volume| volume_path(at, &volume)
    )),
    m("StorageVolLookupByPath", "path s", "storageVol o", "virStorageVolLookupByPath").served(object!(
        LookupStorageVolByPath,
        |path: String| Ok(path),
        |at, volume| volume_path(at, &volume)
    )),
];

const SIGNALS: &[Signal] = &[
    s("DomainEvent", "domain o, event i, detail i"),
    s("NetworkEvent", "network o, event i"),
    s("NodeDeviceEvent", "dev o, event i, detail i"),
    s("SecretEvent", "secret o, event i, detail i"),
    s("StoragePoolEvent", "storagePool o, event i, detail i"),
];
