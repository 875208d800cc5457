//! Network filters.

use super::{XmlFlags, call, check_host_flags};
use crate::engine::Connection;
use crate::engine::nwfilter::NwFilter;
use crate::net::filter::FilterDef;
use crate::types::{Uuid, flags};

call! {
    /// All filters, by name.
    ListAllNwFilters = "virConnectListAllNWFilters", Read, "connect:search_nwfilters";
    (caller, on: Connection, flags => u32) -> Vec<NwFilter> {
        check_host_flags(flags, 0, "virConnectListAllNWFilters")?;
        Ok(on.host().filters("virConnectListAllNWFilters")?.all())
    }
}

call! {
    /// By name.
    NwFilterLookupByName = "virNWFilterLookupByName", Read, "nwfilter:getattr";
    (caller, on: Connection, name => String) -> NwFilter {
        on.host().filters("virNWFilterLookupByName")?.by_name(&name)
    }
}

call! {
    /// By UUID.
    NwFilterLookupByUuid = "virNWFilterLookupByUUID", Read, "nwfilter:getattr";
    (caller, on: Connection, uuid => Uuid) -> NwFilter {
        on.host().filters("virNWFilterLookupByUUID")?.by_uuid(uuid)
    }
}

call! {
    /// Defines a filter or replaces its definition (`virNWFilterDefineFlags`).
    NwFilterDefineXml = "virNWFilterDefineXML", Write, "nwfilter:write";
    (caller, on: Connection, XmlFlags { xml, flags } => XmlFlags) -> NwFilter {
        check_host_flags(flags, flags::define::VALIDATE, "virNWFilterDefineXMLFlags")?;
        on.host().filters("virNWFilterDefineXML")?;
        if flags & flags::define::VALIDATE != 0 {
            FilterDef::validate(&xml)?;
        }
        on.host().define_filter(FilterDef::parse(&xml)?).await
    }
}

call! {
    /// The definition.
    NwFilterGetXmlDesc = "virNWFilterGetXMLDesc", Read, "nwfilter:read";
    (caller, on: NwFilter, flags => u32) -> String {
        check_host_flags(flags, 0, "virNWFilterGetXMLDesc")?;
        Ok(on.def()?.to_xml())
    }
}

call! {
    /// Forgets it.
    NwFilterUndefine = "virNWFilterUndefine", Write, "nwfilter:delete";
    (caller, on: NwFilter, () => ()) -> () { on.change().await?.undefine().await }
}
