//! Reading a domain: state, numbers, XML. Everything here answers from the snapshot and never waits for a job.

use super::{call, check_flags};
use crate::domain_xml::metadata::MetadataElement;
use crate::domain_xml::{self, FormatOptions};
use crate::engine::Domain;
use crate::engine::domain::Snapshot;
use crate::engine::state::StateReason;
use crate::error::{Code, Error, Result};
use crate::types::TypedParams;
use crate::types::flags::{self, affect, vcpu, xml};

/// `virDomainInfo`.
#[derive(Clone, Copy, Debug)]
pub struct DomainInfo {
    pub state: StateReason,
    /// KiB.
    pub max_mem: u64,
    /// KiB.
    pub memory: u64,
    pub vcpus: u32,
    /// ns.
    pub cpu_time: u64,
}

/// `virDomainControlInfo`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ControlInfo {
    /// `virDomainControlState`: 0 ok, 1 a job runs, 2 occupied, 3 error.
    pub state: u32,
    /// `virDomainControlErrorReason`.
    pub details: u32,
    /// For how long, ms.
    pub state_time: u64,
}

/// `virDomainJobInfo`; only the type is ever other than zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct JobInfo {
    /// `virDomainJobType`: 0 none, 1 bounded, 2 unbounded.
    pub kind: i32,
    /// ms since the job began.
    pub time_elapsed: u64,
}

/// Arguments of `virDomainGetMetadata`.
#[derive(Clone, Debug)]
pub struct MetadataArgs {
    /// `virDomainMetadataType`: 0 description, 1 title, 2 element.
    pub kind: i32,
    pub uri: Option<String>,
    pub flags: u32,
}

/// The definition that `CURRENT`, `LIVE` or `CONFIG` means, with libvirt's refusals.
pub(super) fn pick(snapshot: &Snapshot, flags: u32) -> Result<&std::sync::Arc<domain_xml::DomainDef>> {
    let live = flags & affect::LIVE != 0;
    let config = flags & affect::CONFIG != 0;
    if live && config {
        return Err(Error::invalid_arg(
            "flags 'VIR_DOMAIN_AFFECT_LIVE' and 'VIR_DOMAIN_AFFECT_CONFIG' are mutually exclusive",
        ));
    }
    if live && !snapshot.active() {
        return Err(Error::invalid_state("domain is not running"));
    }
    if config && !snapshot.persistent() {
        return Err(Error::invalid_state("transient domains do not have any persistent config"));
    }
    let def = if config { snapshot.inactive.as_ref() } else { snapshot.current() };
    def.ok_or_else(|| Error::invalid_state("domain is not running"))
}

/// vCPUs on at boot.
pub(super) fn vcpus(def: &domain_xml::DomainDef) -> u32 {
    def.vcpu.current.unwrap_or(def.vcpu.max)
}

/// `virDomainGetHostnameFlags`
const HOSTNAME_LEASE: u32 = 1;
const HOSTNAME_AGENT: u32 = 2;

fn current(domain: &Domain) -> Result<std::sync::Arc<domain_xml::DomainDef>> {
    domain.snapshot().current().cloned().ok_or_else(|| domain.gone())
}

call! {
    /// State and reason.
    GetState = "virDomainGetState", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> StateReason {
        check_flags(on, flags, 0, "virDomainGetState")?;
        Ok(on.snapshot().state())
    }
}

call! {
    /// State, memory, vCPUs, CPU time.
    GetInfo = "virDomainGetInfo", Read, "domain:read";
    (caller, on: Domain, () => ()) -> DomainInfo {
        let snapshot = on.snapshot();
        let def = snapshot.current().ok_or_else(|| on.gone())?;
        let instance = snapshot.instance.as_ref().map(|instance| instance.info()).unwrap_or_default();
        Ok(DomainInfo {
            state: snapshot.state(),
            max_mem: def.memory.size,
            memory: instance.memory.unwrap_or(def.memory.current.unwrap_or(def.memory.size)),
            vcpus: vcpus(def),
            cpu_time: instance.cpu_time,
        })
    }
}

call! {
    /// The definition as XML (`virDomainXMLFlags`).
    GetXmlDesc = "virDomainGetXMLDesc", Read,
        "domain:read", "domain:read_secure" if |flags| flags & (xml::SECURE | xml::MIGRATABLE) != 0;
    (caller, on: Domain, flags => u32) -> String {
        use flags::xml;
        check_flags(on, flags, xml::SECURE | xml::INACTIVE | xml::UPDATE_CPU | xml::MIGRATABLE, "virDomainGetXMLDesc")?;
        let secure = flags & xml::SECURE != 0;
        let snapshot = on.snapshot();
        let inactive = flags & xml::INACTIVE != 0 || !snapshot.active();
        let def = if inactive { snapshot.next() } else { snapshot.current() };
        let def = def.ok_or_else(|| on.gone())?;
        let options = FormatOptions { secure, inactive, migratable: flags & xml::MIGRATABLE != 0 };
        let update_cpu = flags & xml::UPDATE_CPU != 0;
        if !update_cpu && !options.migratable && (inactive || def.id.is_some()) {
            return Ok(domain_xml::format(def, options));
        }
        let mut def = def.as_ref().clone();
        if !inactive {
            def.id = def.id.or(snapshot.id);
        }
        if update_cpu {
            on.runtime().driver().update_cpu(&mut def).await?;
        }
        if options.migratable {
            domain_xml::to_migratable(&mut def);
        }
        Ok(domain_xml::format(&def, options))
    }
}

call! {
    /// Whether it is started with the daemon.
    GetAutostart = "virDomainGetAutostart", Read, "domain:read";
    (caller, on: Domain, () => ()) -> bool { Ok(on.snapshot().autostart) }
}

call! {
    /// Whether it runs.
    IsActive = "virDomainIsActive", Read, "domain:read";
    (caller, on: Domain, () => ()) -> bool { Ok(on.snapshot().active()) }
}

call! {
    /// Whether it has a persistent definition.
    IsPersistent = "virDomainIsPersistent", Read, "domain:read";
    (caller, on: Domain, () => ()) -> bool { Ok(on.snapshot().persistent()) }
}

call! {
    /// Whether its persistent definition was replaced while it runs.
    IsUpdated = "virDomainIsUpdated", Read, "domain:read";
    (caller, on: Domain, () => ()) -> bool { Ok(on.snapshot().updated) }
}

call! {
    /// `hvm`, `exe`.
    GetOsType = "virDomainGetOSType", Read, "domain:read";
    (caller, on: Domain, () => ()) -> String { Ok(current(on)?.os.os_type.as_str().to_string()) }
}

call! {
    /// Maximum memory, KiB.
    GetMaxMemory = "virDomainGetMaxMemory", Read, "domain:read";
    (caller, on: Domain, () => ()) -> u64 { Ok(current(on)?.memory.size) }
}

call! {
    /// Number of vCPUs (`virDomainVcpuFlags`).
    GetVcpus = "virDomainGetVcpusFlags", Read, "domain:read", "domain:write" if |flags| flags & vcpu::GUEST != 0;
    (caller, on: Domain, flags => u32) -> u32 {
        use flags::vcpu;
        check_flags(on, flags, affect::LIVE | affect::CONFIG | vcpu::MAXIMUM | vcpu::GUEST, "virDomainGetVcpusFlags")?;
        if flags & vcpu::GUEST != 0 {
            return super::agent::online_vcpus(on).await;
        }
        let snapshot = on.snapshot();
        let def = pick(&snapshot, flags)?;
        Ok(if flags & vcpu::MAXIMUM != 0 { def.vcpu.max } else { vcpus(def) })
    }
}

call! {
    /// Doubtful points of the definition (`virDomainMessageType`: 1 deprecation, 2 tainting).
    GetMessages = "virDomainGetMessages", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> Vec<String> {
        check_flags(on, flags, 3, "virDomainGetMessages")?;
        Ok(on.snapshot().messages.as_ref().clone())
    }
}

call! {
    /// Whether the way to the hypervisor is free.
    GetControlInfo = "virDomainGetControlInfo", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> ControlInfo {
        check_flags(on, flags, 0, "virDomainGetControlInfo")?;
        let snapshot = on.snapshot();
        if !snapshot.active() {
            return Err(Error::invalid_state("domain is not running"));
        }
        Ok(match snapshot.job {
            Some(job) => ControlInfo { state: 1, details: 0, state_time: millis(job.since.elapsed()) },
            None => ControlInfo::default(),
        })
    }
}

call! {
    /// The running job.
    GetJobInfo = "virDomainGetJobInfo", Read, "domain:read";
    (caller, on: Domain, () => ()) -> JobInfo {
        let snapshot = on.snapshot();
        if !snapshot.active() {
            return Err(Error::invalid_state("domain is not running"));
        }
        // Life cycle calls are no jobs to libvirt: save, migration and dump are, and none exists yet.
        Ok(JobInfo::default())
    }
}

call! {
    /// Security labels of the running guest and whether they are enforced.
    GetSecurityLabelList = "virDomainGetSecurityLabelList", Read, "domain:read";
    (caller, on: Domain, () => ()) -> Vec<(String, bool)> {
        let snapshot = on.snapshot();
        let Some(live) = snapshot.live.as_ref().filter(|_| snapshot.active()) else { return Ok(Vec::new()) };
        Ok(live.seclabels.iter().filter_map(|seclabel| seclabel.label.clone()).map(|label| (label, false)).collect())
    }
}

call! {
    /// Title, description or one metadata element.
    GetMetadata = "virDomainGetMetadata", Read, "domain:read";
    (caller, on: Domain, MetadataArgs { kind, uri, flags } => MetadataArgs) -> String {
        check_flags(on, flags, affect::LIVE | affect::CONFIG, "virDomainGetMetadata")?;
        let snapshot = on.snapshot();
        let def = pick(&snapshot, flags)?;
        let missing = |what: &str| Error::new(Code::NoDomainMetadata, what);
        match (kind, uri) {
            (0, None) => def.description.clone().ok_or_else(|| missing("Requested metadata element is not present")),
            (1, None) => def.title.clone().ok_or_else(|| missing("Requested metadata element is not present")),
            (2, Some(uri)) => def
                .metadata
                .iter()
                .flat_map(|metadata| &metadata.elements)
                .find(|element| element.uri == uri)
                .map(MetadataElement::to_plain_xml)
                .ok_or_else(|| missing("Requested metadata element is not present")),
            (0 | 1, Some(_)) => Err(Error::invalid_arg("uri in virDomainGetMetadata must be NULL")),
            (2, None) => Err(Error::invalid_arg("uri in virDomainGetMetadata must not be NULL")),
            _ => Err(Error::invalid_arg("unknown metadata type")),
        }
    }
}

call! {
    /// The guest's own name for itself, from its agent. From leases: not supported.
    GetDomainHostname = "virDomainGetHostname", Write, "domain:write";
    (caller, on: Domain, flags => u32) -> String {
        check_flags(on, flags, HOSTNAME_LEASE | HOSTNAME_AGENT, "virDomainGetHostname")?;
        if flags & HOSTNAME_LEASE != 0 {
            return Err(Error::no_support("virDomainGetHostname"));
        }
        super::agent::host_name(on).await
    }
}

call! {
    /// The running job's statistics (`virDomainGetJobStatsFlags`): none, for there are no such jobs yet.
    GetJobStats = "virDomainGetJobStats", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> (i32, TypedParams) {
        check_flags(on, flags, 3, "virDomainGetJobStats")?;
        if !on.snapshot().active() && flags & 1 == 0 {
            return Err(Error::invalid_state("domain is not running"));
        }
        Ok((0, TypedParams::new()))
    }
}

call! {
    /// Ends the running job: save, migration and dump are jobs to libvirt, and none exists yet.
    AbortJob = "virDomainAbortJob", Write, "domain:write";
    (caller, on: Domain, flags => u32) -> () {
        check_flags(on, flags, 1, "virDomainAbortJobFlags")?;
        if !on.snapshot().active() {
            return Err(Error::invalid_state("domain is not running"));
        }
        Err(Error::invalid_state("no job is active on the domain"))
    }
}

/// Arguments of `virDomainGetCPUStats`.
#[derive(Clone, Copy, Debug)]
pub struct CpuStatsArgs {
    /// -1 = all together.
    pub start: i32,
    /// Most of them; 0 = only how many there are.
    pub count: u32,
    pub flags: u32,
}

/// What `virDomainGetCPUStats` answers.
#[derive(Clone, Debug, PartialEq)]
pub enum CpuStats {
    /// How many host CPUs there are.
    Count(usize),
    /// One set of values per CPU, or one for all.
    Values(Vec<TypedParams>),
}

call! {
    /// Time the guest took of the host's CPUs, ns: of all together, or of each where the kernel keeps that.
    GetCpuStats = "virDomainGetCPUStats", Read, "domain:read";
    (caller, on: Domain, CpuStatsArgs { start, count, flags } => CpuStatsArgs) -> CpuStats {
        check_flags(on, flags, 4, "virDomainGetCPUStats")?;
        let snapshot = on.snapshot();
        let Some(instance) = &snapshot.instance else { return Err(Error::invalid_state("domain is not running")) };
        if start == -1 {
            let stats = instance.stats(flags::stats::CPU_TOTAL, true).await;
            let mut params = TypedParams::new();
            for (ours, theirs) in [("cpu.time", "cpu_time"), ("cpu.user", "user_time"), ("cpu.system", "system_time")] {
                if let Some(value) = stats.get(ours) {
                    params.push(theirs, value.clone());
                }
            }
            return Ok(CpuStats::Values(vec![params]));
        }
        let each = instance.settings().cpu_each.unwrap_or_default();
        if each.is_empty() {
            return Err(Error::new(
                Code::OperationUnsupported,
                "the kernel does not keep times for each CPU (cgroup v2); ask for the total",
            ));
        }
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        if count == 0 && start == 0 {
            return Ok(CpuStats::Count(each.len()));
        }
        if start >= each.len() {
            return Err(Error::invalid_arg(format!("start_cpu {start} larger than maximum of {}", each.len() - 1)));
        }
        let one = |time: u64| {
            let mut params = TypedParams::new();
            params.ullong("cpu_time", time);
            params
        };
        Ok(CpuStats::Values(each.into_iter().skip(start).take(count as usize).map(one).collect()))
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
