//! The questions put to a QEMU without a guest (`-machine none`), and the record made of its answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::{AccelCaps, BinaryId, CpuModel, Machine, QemuCaps, RECORD_VERSION, cpu};
use crate::error::{Error, Result};
use crate::qemu::qmp::Qmp;

/// The accelerator a probe runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    Tcg,
    /// With /dev/kvm as a descriptor.
    Kvm,
    /// With /dev/kvm opened by QEMU's user.
    KvmByPath,
}

impl Accel {
    /// QEMU's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Accel::Tcg => "tcg",
            Accel::Kvm | Accel::KvmByPath => "kvm",
        }
    }
}

/// Raw answers of one probe.
#[derive(Clone, Debug, Default)]
pub struct ProbeAnswers {
    pub version: u64,
    pub package: String,
    pub arch: String,
    pub machines: Value,
    pub types: Value,
    pub cpus: Value,
    /// Full expansion of `max`.
    pub max: Option<Value>,
    /// Full expansions of the models that may be the base of a host-model.
    pub expansions: BTreeMap<String, Value>,
}

/// One answer may take this long.
const DEADLINE: Duration = Duration::from_secs(10);

/// Asks everything; all questions of a round are sent at once.
pub async fn query(qmp: &Qmp) -> Result<ProbeAnswers> {
    let greeting = qmp.negotiate(Duration::from_secs(30)).await?;
    let ask = |name: &'static str, arguments: Value| qmp.execute_value(name, arguments, DEADLINE);
    let (target, machines, types, cpus) = tokio::join!(
        ask("query-target", Value::Null),
        ask("query-machines", Value::Null),
        ask("qom-list-types", json!({"abstract": false})),
        ask("query-cpu-definitions", Value::Null),
    );
    let cpus = cpus?;
    let models = cpu_models(&cpus);
    let expand = |name: String| async move {
        let arguments = json!({"type": "full", "model": {"name": name}});
        let answer = qmp.execute_value("query-cpu-model-expansion", arguments, DEADLINE).await.ok()?;
        Some((name, answer.pointer("/model/props")?.clone()))
    };
    let max = expand("max".to_string()).await.map(|(_, props)| props);
    let candidates = models.into_iter().filter(cpu::is_base_candidate).map(|model| expand(model.name));
    let expansions = match max {
        Some(_) => futures_util::future::join_all(candidates).await.into_iter().flatten().collect(),
        None => BTreeMap::new(),
    };
    let arch = target?.get("arch").and_then(Value::as_str).unwrap_or_default().to_string();
    let (version, package) = (greeting.version, greeting.package);
    Ok(ProbeAnswers { version, package, arch, machines: machines?, types: types?, cpus, max, expansions })
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_string)
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn cpu_models(answer: &Value) -> Vec<CpuModel> {
    let one = |value: &Value| {
        let unavailable = value.get("unavailable-features").and_then(Value::as_array);
        let mut unavailable: Vec<String> =
            unavailable.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_string)).collect();
        unavailable.sort();
        unavailable.dedup();
        Some(CpuModel { name: text(value, "name")?, unavailable, deprecated: flag(value, "deprecated") })
    };
    let mut models: Vec<CpuModel> = answer.as_array().into_iter().flatten().filter_map(one).collect();
    models.sort_by(|a, b| a.name.cmp(&b.name));
    models
}

fn machines(answer: &Value) -> Vec<Machine> {
    let one = |value: &Value| {
        let name = text(value, "name")?;
        if name == "none" {
            return None;
        }
        Some(Machine {
            alias: text(value, "alias"),
            is_default: flag(value, "is-default"),
            max_cpus: value.get("cpu-max").and_then(Value::as_u64).and_then(|n| n.try_into().ok()).unwrap_or(1),
            hotpluggable_cpus: flag(value, "hotpluggable-cpus"),
            numa_memory: flag(value, "numa-mem-supported"),
            default_cpu: text(value, "default-cpu-type"),
            default_ram_id: text(value, "default-ram-id"),
            acpi: flag(value, "acpi"),
            deprecated: flag(value, "deprecated"),
            name,
        })
    };
    answer.as_array().into_iter().flatten().filter_map(one).collect()
}

fn accel_caps(answers: &ProbeAnswers) -> AccelCaps {
    let cpus = cpu_models(&answers.cpus);
    let host_model = answers.max.as_ref().and_then(|max| cpu::choose(max, &cpus, &answers.expansions));
    let features = answers.max.as_ref().map(cpu::offered).unwrap_or_default();
    AccelCaps { cpus, host_model, features }
}

/// The record from the answers under each accelerator; at least one is needed.
pub fn assemble(binary: BinaryId, tcg: Option<&ProbeAnswers>, kvm: Option<&ProbeAnswers>) -> Result<QemuCaps> {
    let Some(main) = tcg.or(kvm) else {
        return Err(Error::internal(format!("'{}' answered under no accelerator", binary.path)));
    };
    let types: BTreeSet<String> = main
        .types
        .as_array()
        .into_iter()
        .chain(kvm.and_then(|answers| answers.types.as_array()))
        .flatten()
        .filter_map(|value| text(value, "name"))
        .collect();
    Ok(QemuCaps {
        record_version: RECORD_VERSION,
        kvm_device: kvm.is_some(),
        version: main.version,
        package: main.package.clone(),
        arch: main.arch.clone(),
        machines: machines(&main.machines),
        tcg: tcg.map(accel_caps),
        kvm: kvm.map(accel_caps),
        kvm_by_path: false,
        types,
        binary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_from_answers() {
        let answers = ProbeAnswers {
            version: 10_000_002,
            arch: "x86_64".into(),
            machines: json!([
                {"name": "none", "cpu-max": 1},
                {"name": "pc-q35-10.0", "alias": "q35", "cpu-max": 4096, "hotpluggable-cpus": true},
                {"name": "pc-i440fx-10.0", "alias": "pc", "is-default": true, "cpu-max": 255, "default-ram-id": "pc.ram"},
            ]),
            types: json!([{"name": "virtio-blk-pci"}]),
            cpus: json!([{"name": "EPYC", "unavailable-features": ["x", "x"]}]),
            ..ProbeAnswers::default()
        };
        let id = BinaryId { path: "/q".into(), device: 0, inode: 0, size: 0, mtime_ns: 0 };
        let caps = assemble(id, Some(&answers), None).unwrap();
        assert_eq!(caps.machine("pc").unwrap().name, "pc-i440fx-10.0");
        assert_eq!(caps.machine("pc-q35-10.0").unwrap().max_cpus, 4096);
        assert_eq!(caps.default_machine().unwrap().name, "pc-i440fx-10.0");
        assert!(caps.machine("none").is_none());
        assert!(caps.has_type("virtio-blk-pci"));
        assert!(!caps.tcg.as_ref().unwrap().cpus[0].usable());
        assert!(caps.accel("kvm").is_none());
        assert_eq!(caps.version_text(), "10.0.2");
    }
}
