//! Procedures of network filters.

use super::{Procedure, c};
use crate::engine::api::{
    ListAllNwFilters, NwFilterDefineXml, NwFilterGetXmlDesc, NwFilterLookupByName, NwFilterLookupByUuid,
    NwFilterUndefine, XmlFlags,
};
use crate::rpc::call::{connection, list, object};
use crate::rpc::wire::Remote;
use crate::types::Uuid;

pub(super) const NWFILTER: &[Procedure] = &[
    c(175, "NWFILTER_LOOKUP_BY_NAME", "virNWFilterLookupByName").served(connection!(
        NwFilterLookupByName,
        |name: String| name,
        |filter| filter.handle()
    )),
    c(176, "NWFILTER_LOOKUP_BY_UUID", "virNWFilterLookupByUUID").served(connection!(
        NwFilterLookupByUuid,
        |uuid: Uuid| uuid,
        |filter| filter.handle()
    )),
    c(177, "NWFILTER_GET_XML_DESC", "virNWFilterGetXMLDesc").served(object!(
        NwFilterGetXmlDesc,
        |flags: u32| flags,
        |xml| xml
    )),
    c(178, "CONNECT_NUM_OF_NWFILTERS", "virConnectNumOfNWFilters").served(connection!(
        ListAllNwFilters,
        |()| 0,
        |filters| i32::try_from(filters.len()).unwrap_or(i32::MAX)
    )),
    c(179, "CONNECT_LIST_NWFILTERS", "virConnectListNWFilters").served(connection!(
        ListAllNwFilters,
        |_most: i32| 0,
        |filters| filters.iter().map(|filter| filter.name().to_string()).collect::<Vec<_>>()
    )),
    c(180, "NWFILTER_DEFINE_XML", "virNWFilterDefineXML").served(connection!(
        NwFilterDefineXml,
        |xml: String| XmlFlags { xml, flags: 0 },
        |filter| filter.handle()
    )),
    c(181, "NWFILTER_UNDEFINE", "virNWFilterUndefine").served(object!(NwFilterUndefine, |()| (), |()| ())),
    c(286, "CONNECT_LIST_ALL_NWFILTERS", "virConnectListAllNWFilters").served(list!(ListAllNwFilters)),
    c(397, "NWFILTER_BINDING_LOOKUP_BY_PORT_DEV", "virNWFilterBindingLookupByPortDev"),
    c(398, "NWFILTER_BINDING_GET_XML_DESC", "virNWFilterBindingGetXMLDesc"),
    c(399, "NWFILTER_BINDING_CREATE_XML", "virNWFilterBindingCreateXML"),
    c(400, "NWFILTER_BINDING_DELETE", "virNWFilterBindingDelete"),
    c(401, "CONNECT_LIST_ALL_NWFILTER_BINDINGS", "virConnectListAllNWFilterBindings"),
    c(431, "NWFILTER_DEFINE_XML_FLAGS", "virNWFilterDefineXMLFlags").served(connection!(
        NwFilterDefineXml,
        |(xml, flags): (String, u32)| XmlFlags { xml, flags },
        |filter| filter.handle()
    )),
];
