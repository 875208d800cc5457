//! [`LxcDriver`]: the engine's view of this driver.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;

use super::config::LxcConfig;
use super::fork_server::ForkServer;
use super::instance::LxcInstance;
use super::launch::{self, OwnStep, cgroup_path};
use super::native;
use super::plan::{self, Host, Peers};
use super::sealed::Sealed;
use super::spec::{Cgroups, MountSource, Root, Spec};
use crate::cgroup::Manager;
use crate::domain_xml::device::{ConsoleTarget, FilesystemType, Hostdev, HostdevSource};
use crate::domain_xml::os::OsType;
use crate::domain_xml::{DomainDef, Warning};
use crate::engine::driver::{
    DomainCapsQuery, Driver, DriverKind, Instance, Launched, Plan, PlannedFile, PlannedLink, Reattached, RunRecord,
    StartRequest, UndoLog,
};
use crate::error::{Code, Error, Result, Subsystem};
use crate::host;

/// What all starts share.
#[derive(Debug)]
pub struct Shared {
    pub config: LxcConfig,
    pub cgroups: Arc<Manager>,
    pub sealed: Sealed,
    pub fork_server: ForkServer,
    /// Running containers by name, for `<lxc:namespace>` only.
    running: Mutex<HashMap<String, Weak<LxcInstance>>>,
}

impl Shared {
    /// Remembers a running container as a possible partner of others.
    pub fn remember(&self, name: &str, instance: &Arc<LxcInstance>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, known| known.strong_count() > 0);
        running.insert(name.to_string(), Arc::downgrade(instance));
    }

    /// Init's pid of a running container.
    pub fn init_of(&self, name: &str) -> Option<i32> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(name)?.upgrade()?.pid()
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct LxcDriver {
    shared: Arc<Shared>,
}

impl LxcDriver {
    /// A driver with these settings. Makes nothing yet.
    pub fn new(config: LxcConfig, cgroups: Arc<Manager>) -> Arc<Self> {
        let sealed = Sealed::new(config.run_binary.clone());
        Arc::new(LxcDriver {
            shared: Arc::new(Shared {
                config,
                cgroups,
                sealed,
                fork_server: ForkServer::default(),
                running: Mutex::default(),
            }),
        })
    }

    /// What a plan without a run is made with.
    fn dry_host(&self, def: &DomainDef) -> Host {
        let config = &self.shared.config;
        let any = Some(1);
        Host {
            run_id: "0-00000000".into(),
            run_dir: PathBuf::from("/run/domus/lxc/RUN"),
            ids: None,
            overlay_dir: config.overlay_dir.join(def.uuid.map(|uuid| uuid.to_string()).unwrap_or_default()),
            image_fstype: config.image_fstype.clone(),
            scratch_size: config.scratch_size,
            peers: Peers { net: any, ipc: any, uts: any },
            cgroup: Cgroups::default(),
            log_max_size: config.log_max_size,
            log_backups: config.log_backups,
            hold: false,
        }
    }
}

fn ours(error: Error) -> Error {
    error.or_subsystem(Subsystem::Lxc)
}

/// libvirt's name of this machine's architecture.
pub(super) fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86" => "i686",
        "powerpc64" => "ppc64",
        arch => arch,
    }
}

#[async_trait]
impl Driver for LxcDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Lxc
    }

    fn accepts(&self, virt_type: &str) -> bool {
        virt_type == "lxc"
    }

    async fn version(&self) -> Result<u64> {
        host::kernel_version().map_err(ours)
    }

    async fn capabilities(&self) -> Result<String> {
        let path = self.shared.sealed.path();
        let arch = host_arch();
        let host =
            tokio::task::spawn_blocking(|| host::capabilities::host_xml(&host::capabilities::HostCaps::default()));
        let host = host.await.map_err(|error| Error::internal("a worker thread panicked").with_source(error))??;
        let bits = if cfg!(target_pointer_width = "64") { 64 } else { 32 };
        let emulator = path.display().to_string().replace('&', "&amp;").replace('<', "&lt;");
        Ok(format!(
            "<capabilities>\n\n{host}\n  <guest>\n    \
             <os_type>exe</os_type>\n    <arch name='{arch}'>\n      <wordsize>{bits}</wordsize>\n      \
             <emulator>{emulator}</emulator>\n      <domain type='lxc'/>\n    </arch>\n  </guest>\n\n</capabilities>\n"
        ))
    }

    async fn domain_capabilities(&self, _query: &DomainCapsQuery) -> Result<String> {
        Err(Error::no_support("virConnectGetDomainCapabilities").with_subsystem(Subsystem::Lxc))
    }

    async fn max_vcpus(&self, _virt_type: Option<&str>) -> Result<u32> {
        Err(Error::no_support("virConnectGetMaxVcpus").with_subsystem(Subsystem::Lxc))
    }

    async fn complete(&self, def: &mut DomainDef, warnings: &mut Vec<Warning>) -> Result<()> {
        def.os.init.get_or_insert_with(|| plan::DEFAULT_INIT.to_string());
        def.os.arch.get_or_insert_with(|| host_arch().to_string());
        for (index, console) in def.consoles.iter_mut().enumerate() {
            console.target_type = Some(ConsoleTarget::Lxc);
            console.port = u32::try_from(index).ok();
        }
        let uuid = def.uuid.map(|uuid| uuid.to_string()).unwrap_or_else(|| def.name.clone());
        for index in 0..def.interfaces.len() {
            if def.interfaces[index].mac.is_none() {
                def.interfaces[index].mac = Some(generated_mac(&uuid, def, index));
            }
        }
        if def.hostdevs.iter().any(|device| super::hostdev::path(device).is_err()) {
            warnings.push(Warning {
                line: 0,
                column: 0,
                path: "domain/devices/hostdev".into(),
                message: "containers cannot be given this kind of host device yet: the definition is kept, a start refuses it"
                    .into(),
            });
        }
        if !def.filesystems.iter().any(|fs| fs.target == "/" && fs.source.path.as_deref() != Some("/")) {
            warnings.push(Warning {
                line: 0,
                column: 0,
                path: "domain/devices/filesystem".into(),
                message: "no file system of its own for '/': the container sees the host's files, and what it changes \
                          is thrown away when it ends"
                    .into(),
            });
        }
        Ok(())
    }

    async fn validate(&self, def: &DomainDef) -> Result<()> {
        if def.os.os_type != OsType::Exe {
            return Err(Error::unsupported_config(format!(
                "unexpected OS type {} for a container: <os><type> must be exe",
                def.os.os_type
            ))
            .with_subsystem(Subsystem::Lxc));
        }
        if let Some(arch) = def.os.arch.as_deref().filter(|arch| !runs(arch)) {
            return Err(Error::new(
                Code::InvalidArg,
                format!("could not find capabilities for arch={arch}: a container runs on the host's {}", host_arch()),
            )
            .with_subsystem(Subsystem::Lxc));
        }
        plan::check(def).map_err(ours)?;
        // Kept in a definition, as libvirt does; a start refuses it.
        let mut runnable = def.clone();
        runnable.hostdevs.retain(|device| !is_shared_with_containers(device));
        // What a volume is, its pool says when the container starts.
        for fs in runnable.filesystems.iter_mut().filter(|fs| fs.kind == FilesystemType::Volume) {
            (fs.kind, fs.source.path) = (FilesystemType::Mount, Some("/volume".into()));
        }
        plan::plan(&runnable, &self.dry_host(def)).map(drop).map_err(ours)
    }

    async fn plan(&self, def: &DomainDef) -> Result<Plan> {
        let host = self.dry_host(def);
        let mut plan = Plan {
            cgroup: cgroup_path(&self.shared, def, "RUN")?,
            user: "root(0) of the container".into(),
            group: "root(0) of the container".into(),
            ..Plan::default()
        };
        match plan::plan(def, &host) {
            Ok(spec) => describe(&mut plan, &spec),
            Err(error) => plan.problems.push(error.message()),
        }
        Ok(plan)
    }

    async fn read_native(&self, format: &str, config: &str) -> Result<DomainDef> {
        if format != native::FORMAT {
            let what = format!("unsupported config type {format}: containers are read from {}", native::FORMAT);
            return Err(Error::invalid_arg(what).with_subsystem(Subsystem::Lxc));
        }
        let mut def = native::read(config).map_err(ours)?;
        def.emulator = Some(self.shared.sealed.path().display().to_string());
        Ok(def)
    }

    async fn launch(&self, start: StartRequest, undo: &dyn UndoLog) -> Result<Launched> {
        launch::launch(&self.shared, &start, undo).await.map_err(ours)
    }

    async fn reattach(&self, run: &RunRecord) -> Result<Reattached> {
        launch::reattach(&self.shared, run).await.map_err(ours)
    }

    async fn undo(&self, data: &serde_json::Value) -> Result<()> {
        match serde_json::from_value(data.clone()) {
            Ok(OwnStep::Ids { run_dir }) => self.shared.config.ids.release(&run_dir).map_err(ours),
            Err(_) => {
                tracing::warn!(%data, "undo step that this driver does not know");
                Ok(())
            }
        }
    }
}

/// An address for an interface without one, in libvirt's range 52:54:00. From the domain's identity, so that completing
/// a definition twice gives the same; another when an interface of the domain has it.
fn generated_mac(identity: &str, def: &DomainDef, index: usize) -> crate::types::MacAddr {
    let mut salt = index;
    loop {
        // FNV-1a: spreads, and needs to do no more.
        let bytes = identity.bytes().chain(salt.to_le_bytes());
        let hash = bytes
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let [a, b, c, ..] = (hash ^ hash >> 32).to_le_bytes();
        let mac = crate::types::MacAddr([0x52, 0x54, 0, a, b, c]);
        if !def.interfaces.iter().any(|other| other.mac == Some(mac)) {
            return mac;
        }
        salt += def.interfaces.len();
    }
}

/// Whether `<hostdev mode='capabilities'>`, the kind that containers can have in libvirt.
fn is_shared_with_containers(device: &Hostdev) -> bool {
    matches!(device.source, HostdevSource::Storage { .. } | HostdevSource::Misc { .. } | HostdevSource::Net { .. })
}

/// Whether this kernel runs programs of `arch`.
pub(super) fn runs(arch: &str) -> bool {
    arch == host_arch() || (host_arch() == "x86_64" && arch == "i686")
}

fn describe(plan: &mut Plan, spec: &Spec) {
    plan.argv.clone_from(&spec.init.argv);
    plan.env.clone_from(&spec.init.env);
    if let Some(user) = &spec.init.user {
        plan.user.clone_from(user);
    }
    if let Some(group) = &spec.init.group {
        plan.group.clone_from(group);
    }
    plan.links = spec
        .nics
        .iter()
        .map(|nic| PlannedLink {
            name: nic.host.clone(),
            kind: if nic.macvlan.is_some() { "macvlan" } else { "veth" }.into(),
            mac: crate::types::MacAddr(nic.mac).to_string(),
            mtu: nic.mtu,
            bridge: nic.bridge.clone(),
            created: true,
        })
        .collect();
    let mut file = |path: &std::path::Path, purpose: String, readonly: bool| {
        let problem = (!path.exists()).then(|| "does not exist".to_string());
        let access = if readonly { "read" } else { "read-write" };
        plan.files.push(PlannedFile {
            path: path.display().to_string(),
            purpose,
            access: access.into(),
            owner: None,
            problem,
        });
    };
    match &spec.root {
        Root::Dir { source, readonly } | Root::Image { source, readonly, .. } => {
            file(source, "root file system".into(), *readonly);
        }
        Root::Overlay { lower, .. } => lower.iter().for_each(|path| file(path, "template of the root".into(), true)),
        Root::HostOverlay { .. } => {
            file(std::path::Path::new("/"), "the host's files, changes thrown away".into(), true);
        }
        Root::Ram { .. } => {}
    }
    for mount in &spec.mounts {
        if let MountSource::Dir { path } | MountSource::Image { path, .. } = &mount.source {
            file(path, format!("mounted on {}", mount.target), mount.readonly);
        }
    }
    let missing = plan
        .files
        .iter()
        .filter_map(|file| Some(format!("{} '{}' {}", file.purpose, file.path, file.problem.as_ref()?)));
    plan.problems.extend(missing.collect::<Vec<_>>());
}
