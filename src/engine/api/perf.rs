//! Events of the host's processors, counted for a guest.

use super::tune::{ParamsArgs, tune};
use super::{call, check_flags, info};
use crate::domain_xml::{DomainDef, perf};
use crate::engine::Domain;
use crate::engine::driver::{DriverKind, Tune};
use crate::error::{Error, Result};
use crate::types::flags::affect;
use crate::types::params::{ParamKind, check_params};
use crate::types::{ParamValue, TypedParams};

const LIVE_CONFIG: u32 = affect::LIVE | affect::CONFIG;
/// `VIR_TYPED_PARAM_STRING_OKAY`: strings may be among the answers.
const STRING_OKAY: u32 = 4;

fn refuse_containers(on: &Domain, function: &str) -> Result<()> {
    if on.runtime().kind() == DriverKind::Lxc { Err(Error::no_support(function)) } else { Ok(()) }
}

call! {
    /// Each event there is, and whether it is counted (`VIR_PERF_PARAM_*`).
    GetPerfEvents = "virDomainGetPerfEvents", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> TypedParams {
        refuse_containers(on, "virDomainGetPerfEvents")?;
        check_flags(on, flags, LIVE_CONFIG | STRING_OKAY, "virDomainGetPerfEvents")?;
        let snapshot = on.snapshot();
        let def = info::pick(&snapshot, flags)?;
        let all = perf::EVENTS.iter().map(|event| (event.to_string(), ParamValue::Bool(perf::enabled(def, event))));
        Ok(TypedParams(all.collect()))
    }
}

call! {
    /// Has events counted, or no longer. Errors: code 74 for an event that cannot be counted for the running guest.
    SetPerfEvents = "virDomainSetPerfEvents", Write, "domain:write";
    (caller, on: Domain, ParamsArgs { params, flags } => ParamsArgs) -> () {
        refuse_containers(on, "virDomainSetPerfEvents")?;
        check_flags(on, flags, LIVE_CONFIG, "virDomainSetPerfEvents")?;
        check_params(&params, &perf::EVENTS.map(|event| (event, ParamKind::Bool)))?;
        let one = |(name, value): (String, ParamValue)| (name, value == ParamValue::Bool(true));
        let wished: Vec<(String, bool)> = params.0.into_iter().map(one).collect();
        let events = wished.clone();
        let edit = move |def: &mut DomainDef| {
            events.iter().for_each(|(event, on)| perf::set(def, event, *on));
            Ok(())
        };
        tune(on, flags, Tune::Perf(wished), Vec::new(), edit).await
    }
}
