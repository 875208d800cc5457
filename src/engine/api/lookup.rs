//! Finding domains.

use super::{call, check_flags};
use crate::engine::{Connection, Domain};
use crate::types::{Uuid, flags};

call! {
    /// All domains that match `virConnectListAllDomainsFlags`, by name.
    ListAllDomains = "virConnectListAllDomains", Read, "connect:search_domains" only "domain:getattr";
    (caller, on: Connection, flags => u32) -> Vec<Domain> {
        let known = (flags::list::NO_CHECKPOINT << 1) - 1;
        check_flags(on, flags, known, "virConnectListAllDomains")?;
        let domains = on.domains().into_iter().filter(|domain| domain.snapshot().matches(flags)).collect();
        caller.permit::<Self>().visible(domains).await
    }
}

call! {
    /// By the id of the present run.
    LookupById = "virDomainLookupByID", Read, "domain:getattr";
    (caller, on: Connection, id => i32) -> Domain { caller.permit::<Self>().found(on.domain_by_id(id)?).await }
}

call! {
    /// By name.
    LookupByName = "virDomainLookupByName", Read, "domain:getattr";
    (caller, on: Connection, name => String) -> Domain {
        caller.permit::<Self>().found(on.domain_by_name(&name)?).await
    }
}

call! {
    /// By UUID.
    LookupByUuid = "virDomainLookupByUUID", Read, "domain:getattr";
    (caller, on: Connection, uuid => Uuid) -> Domain { caller.permit::<Self>().found(on.domain(&uuid)?).await }
}
