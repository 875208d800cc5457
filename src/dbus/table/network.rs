//! `org.libvirt.Network`: the members of a network.

use super::{Interface, Method, Property, Signal, m, p};
use crate::dbus::call::{fact, object, property, set_switch};
use crate::engine::api::{
    DhcpLease, NetworkCreate, NetworkDestroy, NetworkGetAutostart, NetworkGetDhcpLeases, NetworkGetXmlDesc,
    NetworkIsActive, NetworkIsPersistent, NetworkSetAutostart, NetworkUndefine, NetworkUpdate, NetworkUpdateArgs,
};
use crate::engine::network::Network;
use crate::engine::network::define::Edit;

/// `(sxisssuss)`: interface, expiry, type, MAC, IAID, address, prefix, hostname, client id; empty for what is not there.
type Lease = (String, i64, i32, String, String, String, u32, String, String);

fn lease(lease: DhcpLease) -> Lease {
    let DhcpLease { interface, prefix, lease } = lease;
    (
        interface,
        lease.expiry,
        i32::from(lease.address.is_ipv6()),
        lease.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        lease.iaid.unwrap_or_default(),
        lease.address.to_string(),
        prefix,
        lease.hostname.unwrap_or_default(),
        lease.client_id.unwrap_or_default(),
    )
}

/// libvirt-dbus's interface of a network.
pub static INTERFACE: Interface = Interface {
    name: "org.libvirt.Network",
    xml: include_str!("../../../schemas/dbus/org.libvirt.Network.xml"),
    emits_changed: false,
    methods: METHODS,
    properties: PROPERTIES,
    signals: SIGNALS,
};

const PROPERTIES: &[Property] = &[
    p("Active", "b", "virNetworkIsActive").get(|at| property::<NetworkIsActive, _>(at, || (), |is| is)),
    p("Autostart", "b", "virNetworkGetAutostart")
        .writable("virNetworkSetAutostart")
        .get(|at| property::<NetworkGetAutostart, _>(at, || (), |is| is))
        .set(set_switch::<NetworkSetAutostart>),
    p("Name", "s", "virNetworkGetName").constant().get(|at| fact(at, |network: &Network| network.name().to_string())),
    p("Persistent", "b", "virNetworkIsPersistent").get(|at| property::<NetworkIsPersistent, _>(at, || (), |is| is)),
    p("UUID", "s", "virNetworkGetUUIDString")
        .constant()
        .get(|at| fact(at, |network: &Network| network.uuid().to_string())),
];

const METHODS: &[Method] = &[
    m("Create", "", "", "virNetworkCreate").served(object!(NetworkCreate, |()| Ok(()), |_, ()| ())),
    m("Destroy", "", "", "virNetworkDestroy").served(object!(NetworkDestroy, |()| Ok(()), |_, ()| ())),
    m("GetDHCPLeases", "mac s, flags u", "leases a(sxisssuss)", "virNetworkGetDHCPLeases").served(object!(
        NetworkGetDhcpLeases,
        |(mac, flags): (String, u32)| Ok((Some(mac), flags)),
        |_, found| (found.into_iter().map(lease).collect::<Vec<_>>(),)
    )),
    m("GetXMLDesc", "flags u", "xml s", "virNetworkGetXMLDesc").served(object!(
        NetworkGetXmlDesc,
        |flags: u32| Ok(flags),
        |_, xml| xml
    )),
    m("Undefine", "", "", "virNetworkUndefine").served(object!(NetworkUndefine, |()| Ok(()), |_, ()| ())),
    m("Update", "command u, section u, parentIndex i, xml s, flags u", "", "virNetworkUpdate").served(object!(
        NetworkUpdate,
        |(command, section, parent, xml, flags): (u32, u32, i32, String, u32)| {
            Ok(NetworkUpdateArgs { edit: Edit { command, section, parent, xml }, flags })
        },
        |_, ()| ()
    )),
];

const SIGNALS: &[Signal] = &[];
