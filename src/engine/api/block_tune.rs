//! Limits of one disk: bytes and operations per second, as the hypervisor itself keeps them.

use super::tune::{ParamsArgs, tune};
use super::{call, check_flags, info, stored};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{Disk, IoTune};
use crate::engine::Domain;
use crate::engine::driver::Tune;
use crate::engine::event::EventKind;
use crate::error::{Error, Result};
use crate::types::flags::affect;
use crate::types::params::{ParamKind, check_params};
use crate::types::{ParamValue, TypedParams};

/// `VIR_TYPED_PARAM_STRING_OKAY`: strings may be among the answers.
const STRING_OKAY: u32 = 4;
const GROUP: &str = "group_name";

type Field = fn(&mut IoTune) -> &mut Option<u64>;

macro_rules! fields {
    ($($set:literal: $($name:ident)*;)*) => {
        /// Name, the set of fields it is replaced with, and the field. In libvirt's order, but for the group.
        const FIELDS: [(&str, u32, Field); 19] = [$($((stringify!($name), $set, |tune| &mut tune.$name),)*)*];
    };
}

fields! {
    0: total_bytes_sec read_bytes_sec write_bytes_sec;
    1: total_iops_sec read_iops_sec write_iops_sec;
    2: total_bytes_sec_max read_bytes_sec_max write_bytes_sec_max;
    3: total_iops_sec_max read_iops_sec_max write_iops_sec_max;
    4: size_iops_sec;
    5: total_bytes_sec_max_length;
    6: read_bytes_sec_max_length;
    7: write_bytes_sec_max_length;
    8: total_iops_sec_max_length;
    9: read_iops_sec_max_length;
    10: write_iops_sec_max_length;
}

/// Arguments of `virDomainGetBlockIoTune`.
#[derive(Clone, Debug)]
pub struct BlockTuneArgs {
    /// Target (`vda`) or source; `None` only to ask which limits there are.
    pub disk: Option<String>,
    pub flags: u32,
}

fn disk<'d>(def: &'d DomainDef, wanted: &str) -> Result<&'d Disk> {
    let found = def.disks.iter().find(|disk| disk.dev() == wanted || disk.source.path.as_deref() == Some(wanted));
    found.ok_or_else(|| Error::invalid_arg(format!("disk '{wanted}' was not found in the domain config")))
}

fn shown(mut tune: IoTune, strings: bool) -> TypedParams {
    let mut params = TypedParams::new();
    for (name, set, field) in FIELDS {
        if set == 5 && name == "total_bytes_sec_max_length" && strings {
            params.string(GROUP, tune.group_name.clone().unwrap_or_default());
        }
        params.ullong(name, field(&mut tune).unwrap_or(0));
    }
    params
}

call! {
    /// The limits of a disk; 0 = none.
    GetBlockIoTune = "virDomainGetBlockIoTune", Read, "domain:read";
    (caller, on: Domain, BlockTuneArgs { disk: wanted, flags } => BlockTuneArgs) -> TypedParams {
        check_flags(on, flags, affect::LIVE | affect::CONFIG | STRING_OKAY, "virDomainGetBlockIoTune")?;
        let snapshot = on.snapshot();
        let def = info::pick(&snapshot, flags)?;
        let tune = match wanted {
            Some(wanted) => disk(def, &wanted)?.iotune.as_deref().cloned().unwrap_or_default(),
            None => IoTune::default(),
        };
        Ok(shown(tune, flags & STRING_OKAY != 0))
    }
}

/// `old` with what `params` say. Fields come in sets: one that is named replaces its whole set.
fn changed(old: &IoTune, params: &TypedParams) -> Result<IoTune> {
    let mut new = old.clone();
    for (_, set, field) in FIELDS {
        let named = |(name, other, _): &(&str, u32, Field)| *other == set && params.get(name).is_some();
        if FIELDS.iter().any(|row| named(row)) {
            *field(&mut new) = None;
        }
    }
    for (name, _, field) in FIELDS {
        if let Some(ParamValue::Ullong(value)) = params.get(name) {
            *field(&mut new) = Some(*value).filter(|value| *value != 0);
        }
    }
    if let Some(ParamValue::Str(name)) = params.get(GROUP) {
        new.group_name = Some(name.clone()).filter(|name| !name.is_empty());
    }
    let pairs = [
        ("bytes_sec", new.total_bytes_sec, new.read_bytes_sec.or(new.write_bytes_sec)),
        ("iops_sec", new.total_iops_sec, new.read_iops_sec.or(new.write_iops_sec)),
        ("bytes_sec_max", new.total_bytes_sec_max, new.read_bytes_sec_max.or(new.write_bytes_sec_max)),
        ("iops_sec_max", new.total_iops_sec_max, new.read_iops_sec_max.or(new.write_iops_sec_max)),
    ];
    for (what, total, part) in pairs {
        if total.is_some() && part.is_some() {
            return Err(Error::invalid_arg(format!("total and read/write of {what} cannot be set at the same time")));
        }
    }
    Ok(new)
}

/// Arguments of `virDomainSetBlockIoTune`.
#[derive(Clone, Debug)]
pub struct SetBlockTuneArgs {
    /// Target (`vda`) or source.
    pub disk: String,
    pub limits: ParamsArgs,
}

call! {
    /// Sets limits of a disk; 0 takes one away.
    SetBlockIoTune = "virDomainSetBlockIoTune", Write, "domain:write", "domain:save" if |args| stored(args.limits.flags);
    (caller, on: Domain, SetBlockTuneArgs { disk: wanted, limits: ParamsArgs { params, flags } } => SetBlockTuneArgs) -> () {
        check_flags(on, flags, affect::LIVE | affect::CONFIG, "virDomainSetBlockIoTune")?;
        let mut known = FIELDS.map(|(name, _, _)| (name, ParamKind::Ullong)).to_vec();
        known.push((GROUP, ParamKind::Str));
        check_params(&params, &known)?;
        let snapshot = on.snapshot();
        let Some(def) = snapshot.current() else { return Err(on.gone()) };
        let target = disk(def, &wanted)?.dev().to_string();
        let mut told = TypedParams::new();
        told.string("blkdeviotune.disk", target.clone());
        for (name, value) in &params.0 {
            told.push(format!("blkdeviotune.{name}"), value.clone());
        }
        let name = target.clone();
        let edit = move |def: &mut DomainDef| {
            let new = changed(&disk(def, &name)?.iotune.as_deref().cloned().unwrap_or_default(), &params)?;
            for disk in def.disks.iter_mut().filter(|disk| disk.dev() == name) {
                disk.iotune = Some(new.clone()).filter(|new| *new != IoTune::default()).map(Box::new);
            }
            Ok(())
        };
        // Limits beyond what the hypervisor takes, or other than those of the disk's group, are refused first.
        let mut new = def.as_ref().clone();
        edit(&mut new)?;
        on.runtime().driver().validate(&new).await?;
        tune(on, flags, Tune::DiskLimits(target), vec![EventKind::Tunable(told)], edit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(list: &[(&str, u64)]) -> TypedParams {
        let mut params = TypedParams::new();
        list.iter().for_each(|(name, value)| params.ullong(*name, *value));
        params
    }

    #[test]
    fn a_named_field_replaces_its_set() {
        let old = IoTune { total_bytes_sec: Some(5), total_iops_sec: Some(7), ..IoTune::default() };
        let new = changed(&old, &params(&[("read_bytes_sec", 1), ("write_bytes_sec", 2)])).unwrap();
        assert_eq!((new.total_bytes_sec, new.read_bytes_sec, new.total_iops_sec), (None, Some(1), Some(7)));
        assert_eq!(changed(&new, &params(&[("read_bytes_sec", 0), ("total_iops_sec", 0)])).unwrap(), IoTune::default());
        assert!(changed(&old, &params(&[("total_bytes_sec", 1), ("read_bytes_sec", 2)])).is_err());
    }

    #[test]
    fn names_in_libvirts_order() {
        let names: Vec<String> = shown(IoTune::default(), true).0.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 20);
        assert_eq!((names[12].as_str(), names[13].as_str()), ("size_iops_sec", GROUP));
        assert_eq!(shown(IoTune::default(), false).0.len(), 19);
    }
}
