//! Network filters.

use super::{XmlFlags, call, check_host_flags};
use crate::engine::Connection;
use crate::engine::nwfilter::{NwFilter, NwFilterKind};
use crate::engine::objects::definition;
use crate::net::filter::FilterDef;
use crate::types::{Uuid, flags};

call! {
    /// All filters, by name.
    ListAllNwFilters = "virConnectListAllNWFilters", Read, "connect:search_nwfilters" only "nwfilter:getattr";
    (caller, on: Connection, flags => u32) -> Vec<NwFilter> {
        check_host_flags(flags, 0, "virConnectListAllNWFilters")?;
        caller.permit::<Self>().visible(on.host().filters("virConnectListAllNWFilters")?.all()).await
    }
}

call! {
    /// By name.
    NwFilterLookupByName = "virNWFilterLookupByName", Read, "nwfilter:getattr";
    (caller, on: Connection, name => String) -> NwFilter {
        caller.permit::<Self>().found(on.host().filters("virNWFilterLookupByName")?.by_name(&name)?).await
    }
}

call! {
    /// By UUID.
    NwFilterLookupByUuid = "virNWFilterLookupByUUID", Read, "nwfilter:getattr";
    (caller, on: Connection, uuid => Uuid) -> NwFilter {
        caller.permit::<Self>().found(on.host().filters("virNWFilterLookupByUUID")?.by_uuid(uuid)?).await
    }
}

call! {
    /// Defines a filter or replaces its definition (`virNWFilterDefineFlags`).
    NwFilterDefineXml = "virNWFilterDefineXML", Write, "nwfilter:write", "nwfilter:save";
    (caller, on: Connection, XmlFlags { xml, flags } => XmlFlags) -> NwFilter {
        check_host_flags(flags, flags::define::VALIDATE, "virNWFilterDefineXMLFlags")?;
        on.host().filters("virNWFilterDefineXML")?;
        if flags & flags::define::VALIDATE != 0 {
            FilterDef::validate(&xml)?;
        }
        let def = FilterDef::parse(&xml)?;
        caller.permit::<Self>().on_new("nwfilter", || Ok(definition::<NwFilterKind>(&def))).await?;
        on.host().define_filter(def).await
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
