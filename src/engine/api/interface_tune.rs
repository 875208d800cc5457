//! Limits of one interface: rates in both directions, as the guest sees them.

use std::sync::Arc;

use super::{call, check_flags, info, stored};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::Interface;
use crate::domain_xml::device::net_options::{Bandwidth, Rate};
use crate::engine::domain::Op;
use crate::engine::domain::change::{Applied, Change, Edit};
use crate::engine::driver::DriverKind;
use crate::engine::{Domain, network};
use crate::error::{Error, Result};
use crate::types::flags::affect;
use crate::types::params::{ParamKind, check_params};
use crate::types::{MacAddr, ParamValue, TypedParams};

type Field = fn(&mut Rate) -> &mut Option<u64>;

/// Name, whether it is of what comes in, and the field; in libvirt's order. kB/s, KiB for bursts.
const FIELDS: [(&str, bool, Field); 7] = [
    ("inbound.average", true, |rate| &mut rate.average),
    ("inbound.peak", true, |rate| &mut rate.peak),
    ("inbound.burst", true, |rate| &mut rate.burst),
    ("inbound.floor", true, |rate| &mut rate.floor),
    ("outbound.average", false, |rate| &mut rate.average),
    ("outbound.peak", false, |rate| &mut rate.peak),
    ("outbound.burst", false, |rate| &mut rate.burst),
];

/// Arguments of `virDomainGetInterfaceParameters` and `Set`.
#[derive(Clone, Debug)]
pub struct InterfaceTuneArgs {
    /// The host's name of the interface, or its MAC address.
    pub device: String,
    /// None for `Get`.
    pub params: TypedParams,
    pub flags: u32,
}

fn position(def: &DomainDef, wanted: &str) -> Result<usize> {
    let mac = wanted.parse::<MacAddr>().ok();
    let is = |nic: &Interface| match mac {
        Some(_) => nic.mac == mac,
        None => nic.target.dev.as_deref() == Some(wanted),
    };
    let found = def.interfaces.iter().position(is);
    found.ok_or_else(|| Error::invalid_arg(format!("'{wanted}' is not a known interface")))
}

fn refuse_containers(on: &Domain, function: &'static str) -> Result<()> {
    match on.runtime().kind() {
        DriverKind::Lxc => Err(Error::no_support(function)),
        DriverKind::Qemu | DriverKind::Test => Ok(()),
    }
}

call! {
    /// The limits of an interface; 0 = none.
    GetInterfaceParameters = "virDomainGetInterfaceParameters", Read, "domain:read";
    (caller, on: Domain, InterfaceTuneArgs { device, flags, .. } => InterfaceTuneArgs) -> TypedParams {
        check_flags(on, flags, affect::LIVE | affect::CONFIG | 4, "virDomainGetInterfaceParameters")?;
        refuse_containers(on, "virDomainGetInterfaceParameters")?;
        let snapshot = on.snapshot();
        let def = info::pick(&snapshot, flags)?;
        let nic = &def.interfaces[position(def, &device)?];
        let limits = nic.bandwidth.clone().unwrap_or_default();
        let (mut inbound, mut outbound) = (limits.inbound.unwrap_or_default(), limits.outbound.unwrap_or_default());
        let mut params = TypedParams::new();
        for (name, into, field) in FIELDS {
            let value = field(if into { &mut inbound } else { &mut outbound }).unwrap_or(0);
            params.uint(name, u32::try_from(value).unwrap_or(u32::MAX));
        }
        Ok(params)
    }
}

/// `old` with what `params` say: a direction that is named at all is replaced, one without an average is no limit.
fn changed(old: &Bandwidth, params: &TypedParams) -> Result<Bandwidth> {
    let mut new = old.clone();
    for (into, word) in [(true, "inbound"), (false, "outbound")] {
        let mut rate = Rate::default();
        let mut named = false;
        for (name, _, field) in FIELDS.iter().filter(|(_, of, _)| *of == into) {
            if let Some(ParamValue::Uint(value)) = params.get(name) {
                named = true;
                *field(&mut rate) = Some(u64::from(*value)).filter(|value| *value != 0);
            }
        }
        if rate.floor.is_some() {
            return Err(Error::unsupported_config("a floor of the rate of an interface is not there yet"));
        }
        if rate.average.is_none() && (rate.peak.is_some() || rate.burst.is_some()) {
            return Err(Error::invalid_arg(format!("{word} needs an average where it has a peak or a burst")));
        }
        if named {
            let place = if into { &mut new.inbound } else { &mut new.outbound };
            *place = Some(rate).filter(|rate| rate.average.is_some());
        }
    }
    Ok(new)
}

call! {
    /// Sets limits of an interface.
    SetInterfaceParameters = "virDomainSetInterfaceParameters", Write,
        "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, InterfaceTuneArgs { device, params, flags } => InterfaceTuneArgs) -> () {
        check_flags(on, flags, affect::LIVE | affect::CONFIG, "virDomainSetInterfaceParameters")?;
        refuse_containers(on, "virDomainSetInterfaceParameters")?;
        check_params(&params, &FIELDS.map(|(name, _, _)| (name, ParamKind::Uint)))?;
        let edit: Edit = Arc::new(move |def| {
            let at = position(def, &device)?;
            let nic = &mut def.interfaces[at];
            let new = changed(&nic.bandwidth.clone().unwrap_or_default(), &params)?;
            // What is empty stays while it takes limits away from the link.
            nic.bandwidth = Some(new);
            Ok(())
        });
        let runtime = on.runtime().clone();
        let live = edit.clone();
        let change = Change {
            flags,
            complete: true,
            config: edit,
            live: Box::new(move |_, def, _| {
                Box::pin(async move {
                    let mut new = def.as_ref().clone();
                    live(&mut new)?;
                    network::limit(runtime.host(), &new).await?;
                    Ok(Applied { edit: live, events: Vec::new() })
                })
            }),
        };
        on.request(Op::Change(Box::new(change))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(list: &[(&str, u32)]) -> TypedParams {
        let mut params = TypedParams::new();
        list.iter().for_each(|(name, value)| params.uint(*name, *value));
        params
    }

    #[test]
    fn a_direction_is_replaced_as_a_whole() {
        let first = changed(&Bandwidth::default(), &params(&[("inbound.average", 5), ("inbound.peak", 9)])).unwrap();
        let second = changed(&first, &params(&[("outbound.average", 7)])).unwrap();
        assert_eq!(second.inbound, first.inbound);
        let third = changed(&second, &params(&[("inbound.average", 3)])).unwrap();
        assert_eq!(third.inbound.as_ref().and_then(|rate| rate.peak), None);
        assert_eq!(
            changed(&third, &params(&[("inbound.average", 0), ("outbound.average", 0)])).unwrap(),
            Bandwidth::default()
        );
        assert!(changed(&third, &params(&[("inbound.peak", 3)])).is_err());
        assert!(changed(&third, &params(&[("inbound.floor", 3), ("inbound.average", 3)])).is_err());
    }
}
