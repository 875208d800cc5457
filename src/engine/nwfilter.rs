//! Network filters. The test driver keeps them in memory; a real host has none, for nothing puts them into force there.

use std::sync::Arc;

use super::access::guard::{Details, named};
use super::api::ObjectKind;
use super::event::HostSet;
use super::host::HostObjects;
use super::objects::{Handle, Kind, Objects};
use crate::error::{Code, Error, Result, Subsystem};
use crate::net::filter::FilterDef;
use crate::types::Uuid;

/// What makes an object a network filter.
#[derive(Clone, Debug)]
pub struct NwFilterKind;

/// A network filter.
pub type NwFilter = Handle<NwFilterKind>;

impl Kind for NwFilterKind {
    type Def = FilterDef;
    type Live = ();
    const NOUN: &'static str = "nwfilter";
    const DIRECTORY: &'static str = "nwfilters";
    const OBJECT: ObjectKind = ObjectKind::NwFilter;
    const SUBSYSTEM: Subsystem = Subsystem::Nwfilter;
    const MISSING: Code = Code::NoNwfilter;
    const SCHEME: &'static str = "nwfilter";

    fn parse(xml: &str) -> Result<FilterDef> {
        FilterDef::parse(xml)
    }

    fn write(def: &FilterDef) -> String {
        def.to_xml()
    }

    fn details(uuid: Uuid, name: &str) -> Details {
        named(["nwfilter_name", "nwfilter_uuid"], name, uuid)
    }

    fn uuid(def: &FilterDef) -> Uuid {
        def.uuid.unwrap_or_default()
    }

    fn name(def: &FilterDef) -> String {
        def.name.clone()
    }

    fn taken(def: &FilterDef, uuid: Uuid, name: &str) -> Error {
        if def.uuid == Some(uuid) {
            Error::failed(format!("filter with same UUID but different name ('{name}') already exists"))
        } else {
            Error::failed(format!("filter '{name}' already exists with uuid {uuid}"))
        }
    }
}

impl HostObjects {
    /// The filters, where there can be some. Error: code 3 for `function`.
    pub fn filters(&self, function: &str) -> Result<&Arc<Objects<NwFilterKind>>> {
        match self.context.set {
            HostSet::Test => Ok(&self.nwfilters),
            HostSet::Shared => Err(Error::no_support(function).with_subsystem(Subsystem::Nwfilter)),
        }
    }

    /// Defines a filter or replaces its definition. Errors: code 9 for a name or UUID that another has, and for one that
    /// would refer to itself.
    pub(super) async fn define_filter(&self, mut def: FilterDef) -> Result<NwFilter> {
        let filters = self.filters("virNWFilterDefineXML")?;
        if def.uuid.is_none() {
            def.uuid = Some(filters.get(&def.name).map_or_else(Uuid::new_v4, |known| known.uuid()));
        }
        if refers_to(filters, &def, &def.name, 0) {
            return Err(Error::failed("filter would introduce a loop").with_subsystem(Subsystem::Nwfilter));
        }
        let mut change = filters.claim(&def).await?;
        change.define(Arc::new(def)).await?;
        Ok(change.handle().clone())
    }
}

/// Whether `def`, or a filter that it refers to, refers to `name`.
fn refers_to(filters: &Objects<NwFilterKind>, def: &FilterDef, name: &str, depth: usize) -> bool {
    // No circle can be there before; this is for many filters that come to be at once.
    const DEEP: usize = 64;
    depth > DEEP
        || def.references().any(|other| {
            let known = || filters.get(other).and_then(|filter| filter.def().ok());
            other == name || known().is_some_and(|def| refers_to(filters, &def, name, depth + 1))
        })
}
