//! [`QemuDriver`]: the engine's view of this driver.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::capabilities::{CapsStore, QemuCaps, Subject, domain_xml, guest_xml};
use super::config::{Identity, QemuConfig};
use super::launch::{self, Ports, Shared};
use super::{complete, reattach, validate};
use crate::domain_xml::cpu::{CpuCheck, CpuFallback, CpuMode};
use crate::domain_xml::device::InterfaceSource;
use crate::domain_xml::{DomainDef, Warning};
use crate::engine::driver::*;
use crate::error::{Error, Result, Subsystem};
use crate::host;
use crate::host::capabilities::{HostCaps, host_xml};
use crate::host::cpu::{self, Outcome};

/// The QEMU driver.
#[derive(Debug)]
pub struct QemuDriver {
    shared: Arc<Shared>,
    caps: CapsStore,
}

impl QemuDriver {
    /// A driver with these settings. Probes nothing yet.
    #[allow(clippy::new_ret_no_self)] // the engine knows drivers by their trait only
    pub fn new(config: QemuConfig) -> Arc<dyn Driver> {
        let caps = CapsStore::new(config.cache_dir.clone());
        let ports = Ports::new(config.vnc_ports);
        Arc::new(QemuDriver { shared: Arc::new(Shared { config, ports }), caps })
    }

    /// The user QEMU runs as; a probe may also run as that user only.
    fn identity(&self) -> Result<Identity> {
        self.shared.config.identity()
    }

    /// The record of an emulator; `None` when it is not installed.
    async fn caps_of(&self, emulator: &str) -> Result<Option<Arc<QemuCaps>>> {
        if !Path::new(emulator).exists() {
            return Ok(None);
        }
        self.caps.get(emulator, &self.identity()?).await
    }

    /// The record of an emulator that has to be there.
    async fn caps_needed(&self, emulator: &str) -> Result<Arc<QemuCaps>> {
        self.caps_of(emulator).await?.ok_or_else(|| {
            Error::unsupported_config(format!(
                "emulator '{emulator}' does not exist on this host: install it, or correct <emulator>"
            ))
        })
    }

    fn emulator_of(&self, def: &DomainDef) -> String {
        def.emulator.clone().unwrap_or_else(|| self.shared.config.emulator_for(def.os.arch.as_deref()))
    }

    /// Emulator, machine and accelerator that a question is about. Errors: code 8 for what does not fit together.
    async fn resolve(&self, query: &DomainCapsQuery) -> Result<(Arc<QemuCaps>, String, &'static str)> {
        let emulator = query.emulator.clone().unwrap_or_else(|| self.shared.config.emulator_for(query.arch.as_deref()));
        let caps = self.caps_needed(&emulator).await.map_err(ours)?;
        let own_arch = complete::libvirt_arch(&caps.arch);
        if let Some(arch) = query.arch.as_deref().filter(|arch| *arch != own_arch) {
            return Err(ours(Error::invalid_arg(format!(
                "architecture from emulator '{own_arch}' doesn't match given architecture '{arch}'"
            ))));
        }
        let machine = match query.machine.as_deref() {
            None => caps.default_machine(),
            Some(name) => caps.machine(name),
        };
        let Some(machine) = machine else {
            let name = query.machine.clone().unwrap_or_default();
            return Err(ours(Error::invalid_arg(format!(
                "the machine '{name}' is not supported by emulator '{emulator}'"
            ))));
        };
        let virt_type = match query.virt_type.as_deref() {
            None if caps.kvm.is_some() => "kvm",
            None => "qemu",
            Some("kvm") => "kvm",
            Some("qemu") => "qemu",
            Some(other) => return Err(ours(Error::invalid_arg(format!("unknown virttype: {other}")))),
        };
        if caps.accel(virt_type).is_none() {
            return Err(ours(Error::invalid_arg(format!("KVM is not supported by '{emulator}' on this host"))));
        }
        let machine = machine.name.clone();
        Ok((caps, machine, virt_type))
    }
}

/// The error domain of CPU questions, as libvirt has it.
fn in_cpu(error: Error) -> Error {
    error.or_subsystem(Subsystem::Cpu)
}

async fn blocking<T: Send + 'static>(work: fn() -> Result<T>) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined
        .map_err(|error| Error::internal("a worker thread panicked").with_source(error))
        .and_then(|result| result)
        .map_err(ours)
}

/// What an accelerator can give a guest, for comparisons.
fn offer_of(caps: &QemuCaps, virt_type: &str) -> cpu::Offer {
    let accel = caps.accel(virt_type);
    cpu::Offer {
        arch: complete::libvirt_arch(&caps.arch).to_string(),
        // A guest can be given any maker's name.
        vendor: accel.and_then(|accel| accel.host_model.as_ref()).and_then(|host| host.vendor.clone()),
        features: accel.map(|accel| accel.features.clone()).unwrap_or_default(),
        visible: None,
        who: "hypervisor",
    }
}

fn ours(error: Error) -> Error {
    error.or_subsystem(Subsystem::Qemu)
}

#[async_trait]
impl Driver for QemuDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Qemu
    }

    fn accepts(&self, virt_type: &str) -> bool {
        matches!(virt_type, "qemu" | "kvm")
    }

    async fn version(&self) -> Result<u64> {
        Ok(self.caps_needed(&self.shared.config.emulator()).await.map_err(ours)?.version)
    }

    async fn capabilities(&self) -> Result<String> {
        let caps = match self.caps_of(&self.shared.config.emulator()).await {
            Ok(caps) => caps,
            Err(error) => {
                tracing::warn!(%error, "capabilities without guests");
                None
            }
        };
        let kvm = caps.as_ref().is_some_and(|caps| caps.kvm.is_some());
        let facts = HostCaps {
            dac: self.identity().ok().map(|identity| (identity.uid, identity.gid)),
            dac_types: if kvm { vec!["kvm".into(), "qemu".into()] } else { vec!["qemu".into()] },
            migration: Vec::new(),
        };
        let host = tokio::task::spawn_blocking(move || host_xml(&facts))
            .await
            .map_err(|error| Error::internal(error.to_string()))
            .and_then(|xml| xml)
            .map_err(ours)?;
        let guest = caps.map(|caps| guest_xml(&caps)).unwrap_or_default();
        let guest: String = guest.lines().map(|line| format!("  {line}\n")).collect();
        Ok(format!("<capabilities>\n\n{host}\n{guest}\n</capabilities>\n"))
    }

    async fn domain_capabilities(&self, query: &DomainCapsQuery) -> Result<String> {
        let (caps, machine, virt_type) = self.resolve(query).await?;
        let machine = caps.machine(&machine);
        let (Some(machine), Some(accel)) = (machine, caps.accel(virt_type)) else {
            return Err(ours(Error::internal("a machine is gone from the capabilities")));
        };
        Ok(domain_xml(&Subject { caps: &caps, machine, virt_type, accel }))
    }

    async fn compare_cpu(&self, xml: &str, query: Option<&DomainCapsQuery>) -> Result<Outcome> {
        let wanted = cpu::describe(xml).map_err(in_cpu)?;
        let offer = match query {
            None => blocking(host::host_offer).await?,
            Some(query) => {
                let (caps, _, virt_type) = self.resolve(query).await?;
                offer_of(&caps, virt_type)
            }
        };
        Ok(cpu::compare(&offer, &wanted))
    }

    async fn baseline_cpu(
        &self,
        cpus: &[String],
        expand: bool,
        migratable: bool,
        query: Option<&DomainCapsQuery>,
    ) -> Result<String> {
        let cpus: Vec<cpu::Description> =
            cpus.iter().map(|xml| cpu::describe(xml)).collect::<Result<_>>().map_err(in_cpu)?;
        let within = match query {
            None => None,
            Some(query) => {
                let (caps, _, virt_type) = self.resolve(query).await?;
                Some(offer_of(&caps, virt_type).features)
            }
        };
        cpu::baseline(&cpus, &cpu::BaselineOptions { expand, migratable, within }).map_err(in_cpu)
    }

    async fn cpu_models(&self, arch: &str) -> Result<Vec<String>> {
        let names = cpu::model_names(arch)
            .ok_or_else(|| ours(Error::invalid_arg(format!("cannot find architecture {arch}"))))?;
        Ok(names.into_iter().map(str::to_string).collect())
    }

    async fn update_cpu(&self, def: &mut DomainDef) -> Result<()> {
        if def.cpu.as_ref().and_then(|cpu| cpu.mode) != Some(CpuMode::HostModel) {
            return Ok(());
        }
        let caps = self.caps_needed(&self.emulator_of(def)).await.map_err(ours)?;
        launch::expand_cpu(def, &caps).map_err(ours)?;
        if let Some(cpu) = def.cpu.as_mut() {
            // Nothing was read back from a QEMU, and another model may still be taken.
            cpu.check = Some(CpuCheck::Partial);
            cpu.fallback = Some(CpuFallback::Allow);
        }
        Ok(())
    }

    async fn max_vcpus(&self, virt_type: Option<&str>) -> Result<u32> {
        match virt_type.map(str::to_ascii_lowercase).as_deref() {
            None | Some("qemu" | "kvm") => {}
            Some(other) => return Err(ours(Error::invalid_arg(format!("unknown type '{other}'")))),
        }
        let caps = self.caps_needed(&self.shared.config.emulator()).await.map_err(ours)?;
        Ok(caps.default_machine().map_or(1, |machine| machine.max_cpus))
    }

    async fn complete(&self, def: &mut DomainDef, warnings: &mut Vec<Warning>) -> Result<()> {
        let emulator = self.emulator_of(def);
        let caps = match self.caps_of(&emulator).await {
            Ok(caps) => caps,
            Err(error) => {
                warnings.push(doubt(
                    "domain/devices/emulator",
                    format!("{}; the definition is completed without its answers", error.message()),
                ));
                None
            }
        };
        if caps.is_none() && !Path::new(&emulator).exists() {
            warnings.push(doubt(
                "domain/devices/emulator",
                format!("emulator '{emulator}' does not exist on this host: what depends on it is not filled in, and the domain cannot be started"),
            ));
        }
        let firmwares = self.shared.config.firmware_choice(def, true);
        complete::complete(def, &emulator, caps.as_deref(), &firmwares).map_err(ours)
    }

    async fn validate(&self, def: &DomainDef) -> Result<()> {
        let caps = self.caps_of(&self.emulator_of(def)).await.unwrap_or_default();
        validate::validate(def, caps.as_deref()).map_err(ours)
    }

    async fn plan(&self, def: &DomainDef) -> Result<Plan> {
        let identity = self.identity().map_err(ours)?;
        let mut plan = Plan {
            user: format!("{}({})", identity.user, identity.uid),
            group: format!("{}({})", crate::sys::users::group_name(identity.gid), identity.gid),
            ..Plan::default()
        };
        let caps = match self.caps_needed(&self.emulator_of(def)).await {
            Ok(caps) => caps,
            Err(error) => {
                plan.problems.push(error.message());
                return Ok(plan);
            }
        };
        let run_dir = Path::new(launch::DRY_RUN_DIR);
        match launch::dry_run(&self.shared, &caps, &identity, def, run_dir) {
            Ok((live, command)) => {
                plan.argv = std::iter::once(command.program.clone()).chain(command.args.iter().cloned()).collect();
                plan.env = command.env.clone();
                launch::describe(&mut plan, &live, &command, &self.shared.config, &identity);
            }
            Err(error) => plan.problems.push(error.message()),
        }
        plan.links = def.interfaces.iter().filter_map(link).collect();
        Ok(plan)
    }

    async fn write_native(&self, format: &str, def: &DomainDef) -> Result<String> {
        launch::native::check_format(format).map_err(ours)?;
        let caps = self.caps_needed(&self.emulator_of(def)).await.map_err(ours)?;
        launch::native::argv(&self.shared, &caps, def).map_err(ours)
    }

    async fn launch(&self, start: StartRequest, undo: &dyn UndoLog) -> Result<Launched> {
        let emulator = self.emulator_of(&start.def);
        let caps = self.caps_needed(&emulator).await.map_err(ours)?;
        let identity = self.identity().map_err(ours)?;
        launch::launch(&self.shared, &caps, &identity, &start, undo).await.map_err(ours)
    }

    async fn reattach(&self, run: &RunRecord) -> Result<Reattached> {
        reattach::reattach(run, &self.shared).await.map_err(ours)
    }
}

fn doubt(path: &str, message: String) -> Warning {
    Warning { line: 0, column: 0, path: path.into(), message }
}

fn link(nic: &crate::domain_xml::device::Interface) -> Option<PlannedLink> {
    let in_network = matches!(nic.source, InterfaceSource::Network(_));
    let direct = nic.source.direct().is_some();
    if !nic.source.is_tap() && !in_network && !direct {
        return None;
    }
    let bridge = nic.source.bridge().map(String::from);
    Some(PlannedLink {
        name: nic.target.dev.clone().unwrap_or_else(|| if direct { "macvtap%d" } else { "vnet%d" }.into()),
        kind: if direct { "macvtap" } else { "tap" }.into(),
        mac: nic.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: nic.mtu,
        bridge,
        created: nic.target.managed.is_none_or(|managed| managed.is_yes()),
    })
}
