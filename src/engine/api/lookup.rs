//! Finding domains.

use super::{call, check_flags};
use crate::engine::{Connection, Domain};
use crate::types::{Uuid, flags};

call! {
    /// All domains that match `virConnectListAllDomainsFlags`, by name.
    ListAllDomains = "virConnectListAllDomains", Read, "connect:search_domains";
    (caller, on: Connection, flags => u32) -> Vec<Domain> {
        let known = (flags::list::NO_CHECKPOINT << 1) - 1;
        check_flags(on, flags, known, "virConnectListAllDomains")?;
        Ok(on.domains().into_iter().filter(|domain| domain.snapshot().matches(flags)).collect())
    }
}

call! {
    /// By the id of the present run.
    LookupById = "virDomainLookupByID", Read, "domain:getattr";
    (caller, on: Connection, id => i32) -> Domain { on.domain_by_id(id) }
}

call! {
    /// By name.
    LookupByName = "virDomainLookupByName", Read, "domain:getattr";
    (caller, on: Connection, name => String) -> Domain { on.domain_by_name(&name) }
}

call! {
    /// By UUID.
    LookupByUuid = "virDomainLookupByUUID", Read, "domain:getattr";
    (caller, on: Connection, uuid => Uuid) -> Domain { on.domain(&uuid) }
}
