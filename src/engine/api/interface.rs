//! Interfaces of the host.

use super::{XmlFlags, call, check_host_flags};
use crate::engine::Connection;
use crate::engine::interface::{self, HostInterface};
use crate::net::host_interface::{InterfaceDef, list};
use crate::types::flags;

/// `VIR_INTERFACE_XML_INACTIVE`
const XML_INACTIVE: u32 = 1;

call! {
    /// All interfaces that match `virConnectListAllInterfacesFlags`, by name.
    ListAllInterfaces = "virConnectListAllInterfaces", Read, "connect:search_interfaces" only "interface:getattr";
    (caller, on: Connection, flags => u32) -> Vec<HostInterface> {
        check_host_flags(flags, list::ALL, "virConnectListAllInterfaces")?;
        let all = flags & list::ALL == 0;
        let (active, inactive) = (all || flags & list::ACTIVE != 0, all || flags & list::INACTIVE != 0);
        caller.permit::<Self>().visible(on.host().interfaces.all(active, inactive).await?).await
    }
}

call! {
    /// By name.
    InterfaceLookupByName = "virInterfaceLookupByName", Read, "interface:getattr";
    (caller, on: Connection, name => String) -> HostInterface {
        caller.permit::<Self>().found(on.host().interfaces.by_name(&name).await?).await
    }
}

call! {
    /// By MAC address.
    InterfaceLookupByMac = "virInterfaceLookupByMACString", Read, "interface:getattr";
    (caller, on: Connection, mac => String) -> HostInterface {
        caller.permit::<Self>().found(on.host().interfaces.by_mac(&mac).await?).await
    }
}

call! {
    /// Defines an interface or replaces its definition (`virInterfaceDefineFlags`).
    InterfaceDefineXml = "virInterfaceDefineXML", Write, "interface:write", "interface:save";
    (caller, on: Connection, XmlFlags { xml, flags } => XmlFlags) -> HostInterface {
        check_host_flags(flags, flags::define::VALIDATE, "virInterfaceDefineXML")?;
        if flags & flags::define::VALIDATE != 0 {
            InterfaceDef::validate(&xml)?;
        }
        let def = InterfaceDef::parse(&xml)?;
        caller.permit::<Self>().on_new("interface", || Ok(interface::details(&def.name, def.mac()))).await?;
        on.host().interfaces.define(def)
    }
}

call! {
    /// Notes everything as it is now, to go back to.
    InterfaceChangeBegin = "virInterfaceChangeBegin", Write, "connect:interface_transaction";
    (caller, on: Connection, flags => u32) -> () {
        check_host_flags(flags, 0, "virInterfaceChangeBegin")?;
        on.host().interfaces.begin()
    }
}

call! {
    /// Keeps what was changed since.
    InterfaceChangeCommit = "virInterfaceChangeCommit", Write, "connect:interface_transaction";
    (caller, on: Connection, flags => u32) -> () {
        check_host_flags(flags, 0, "virInterfaceChangeCommit")?;
        on.host().interfaces.commit()
    }
}

call! {
    /// Takes back what was changed since.
    InterfaceChangeRollback = "virInterfaceChangeRollback", Write, "connect:interface_transaction";
    (caller, on: Connection, flags => u32) -> () {
        check_host_flags(flags, 0, "virInterfaceChangeRollback")?;
        on.host().interfaces.roll_back()
    }
}

call! {
    /// Its definition; that of a link of the host says what the kernel does.
    InterfaceGetXmlDesc = "virInterfaceGetXMLDesc", Read, "interface:read";
    (caller, on: HostInterface, flags => u32) -> String {
        check_host_flags(flags, XML_INACTIVE, "virInterfaceGetXMLDesc")?;
        Ok(on.entry().await?.def.to_xml())
    }
}

call! {
    /// Its name.
    InterfaceGetName = "virInterfaceGetName", Read, "interface:getattr";
    (caller, on: HostInterface, () => ()) -> String { Ok(on.entry().await?.def.name.clone()) }
}

call! {
    /// Its MAC address; empty when it has none of its own.
    InterfaceGetMac = "virInterfaceGetMACString", Read, "interface:getattr";
    (caller, on: HostInterface, () => ()) -> String { Ok(on.entry().await?.mac) }
}

call! {
    /// Whether it is up.
    InterfaceIsActive = "virInterfaceIsActive", Read, "interface:read";
    (caller, on: HostInterface, () => ()) -> bool { Ok(on.entry().await?.active) }
}

call! {
    /// Brings it up.
    InterfaceCreate = "virInterfaceCreate", Write, "interface:start";
    (caller, on: HostInterface, flags => u32) -> () {
        check_host_flags(flags, 0, "virInterfaceCreate")?;
        on.interfaces()?.set_active(&on.entry().await?.def.name, true)
    }
}

call! {
    /// Brings it down.
    InterfaceDestroy = "virInterfaceDestroy", Write, "interface:stop";
    (caller, on: HostInterface, flags => u32) -> () {
        check_host_flags(flags, 0, "virInterfaceDestroy")?;
        on.interfaces()?.set_active(&on.entry().await?.def.name, false)
    }
}

call! {
    /// Forgets it.
    InterfaceUndefine = "virInterfaceUndefine", Write, "interface:delete";
    (caller, on: HostInterface, () => ()) -> () { on.interfaces()?.undefine(&on.entry().await?.def.name) }
}
