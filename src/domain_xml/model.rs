//! The typed model of a domain definition: plain data, absent things are `None` or empty.
//!
//! The top level is here; groups of settings are in the sibling files (`os`, `cpu`, `memory`, `tune`, ...), devices in
//! `device/`, one file each. A driver fills in what it knows (aliases, addresses, run-time values) by plain assignment.

use super::clock::Clock;
use super::cpu::{Cpu, NumaTune};
use super::device::*;
use super::features::Features;
use super::foreign::Foreign;
use super::memory::{MemTune, Memory, MemoryBacking};
use super::metadata::Metadata;
use super::os::{IdMap, Os, Sysinfo};
use super::seclabel::Seclabel;
use super::tune::{BlkioTune, CpuTune, IoThread, Vcpu, VcpuState};
use super::words::{YesNo, attrs, words};
use crate::types::Uuid;

/// A domain definition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DomainDef {
    /// `<domain type=..>`.
    pub virt_type: VirtType,
    /// Number of this run; `None` when not running.
    pub id: Option<i32>,
    pub name: String,
    /// `None` only until the engine gives one.
    pub uuid: Option<Uuid>,
    /// VM generation ID: present without a value = the driver makes one.
    pub genid: Option<GenId>,
    pub title: Option<String>,
    pub description: Option<String>,
    pub metadata: Option<Metadata>,
    pub memory: Memory,
    pub memory_backing: MemoryBacking,
    pub memtune: MemTune,
    pub blkiotune: BlkioTune,
    pub vcpu: Vcpu,
    /// `<vcpus>`: state of each virtual CPU.
    pub vcpus: Vec<VcpuState>,
    /// `<iothreads>`: how many.
    pub iothreads: Option<u32>,
    /// `<iothreadids>`.
    pub iothread_ids: Vec<IoThread>,
    pub cputune: CpuTune,
    pub numatune: Option<NumaTune>,
    pub resource: Resource,
    pub sysinfo: Vec<Sysinfo>,
    pub os: Os,
    pub idmap: IdMap,
    pub features: Features,
    pub cpu: Option<Cpu>,
    pub clock: Clock,
    pub on_poweroff: Option<LifecycleAction>,
    pub on_reboot: Option<LifecycleAction>,
    pub on_crash: Option<CrashAction>,
    pub on_lockfailure: Option<LockFailureAction>,
    pub pm: Pm,
    pub emulator: Option<String>,
    pub disks: Vec<Disk>,
    pub controllers: Vec<Controller>,
    pub leases: Vec<Lease>,
    pub filesystems: Vec<Filesystem>,
    pub interfaces: Vec<Interface>,
    pub smartcards: Vec<Smartcard>,
    pub serials: Vec<Serial>,
    pub parallels: Vec<Parallel>,
    pub consoles: Vec<Console>,
    pub channels: Vec<Channel>,
    pub inputs: Vec<Input>,
    pub tpms: Vec<Tpm>,
    pub graphics: Vec<Graphics>,
    pub sounds: Vec<Sound>,
    pub audios: Vec<Audio>,
    pub videos: Vec<Video>,
    pub hostdevs: Vec<Hostdev>,
    pub redirdevs: Vec<Redirdev>,
    pub redir_filter: Vec<RedirFilterRule>,
    pub hubs: Vec<Hub>,
    pub watchdogs: Vec<Watchdog>,
    pub memballoon: Option<Memballoon>,
    pub rngs: Vec<Rng>,
    pub nvram_device: Option<NvramDevice>,
    pub panics: Vec<Panic>,
    pub shmems: Vec<Shmem>,
    pub memory_devices: Vec<MemoryDevice>,
    pub iommu: Option<Iommu>,
    pub vsock: Option<Vsock>,
    pub cryptos: Vec<Crypto>,
    pub pstore: Option<Pstore>,
    pub seclabels: Vec<Seclabel>,
    /// `<lxc:namespace>`.
    pub lxc_namespace: Option<LxcNamespace>,
    /// `<qemu:commandline>`.
    pub qemu_commandline: Option<QemuCommandline>,
    /// `<qemu:capabilities>`, `<qemu:override>` ...
    pub qemu_extensions: Vec<Foreign>,
    /// Groups that nothing acts on yet (`launchSecurity`, `perf`, `keywrap` ...). A driver refuses `launchSecurity`.
    pub later: Vec<Foreign>,
}

impl DomainDef {
    /// Gives back what growing lists have too much of: most definitions are held for a long time, by the thousand.
    pub fn compact(mut self) -> DomainDef {
        macro_rules! shrink {
            ($($list:ident),*) => { $(self.$list.shrink_to_fit();)* };
        }
        shrink!(
            vcpus,
            iothread_ids,
            sysinfo,
            disks,
            controllers,
            leases,
            filesystems,
            interfaces,
            smartcards,
            serials,
            parallels,
            consoles,
            channels,
            inputs,
            tpms,
            graphics,
            sounds,
            audios,
            videos,
            hostdevs,
            redirdevs,
            hubs,
            watchdogs,
            rngs,
            panics,
            shmems,
            memory_devices,
            cryptos,
            seclabels,
            qemu_extensions,
            later
        );
        self
    }
}

words! {
    /// `<domain type>`.
    pub enum VirtType {
        Qemu = "qemu", Kvm = "kvm", Kqemu = "kqemu", Xen = "xen", Lxc = "lxc", Uml = "uml", Openvz = "openvz",
        Test = "test", Vmware = "vmware", Hyperv = "hyperv", Vbox = "vbox", Phyp = "phyp", Parallels = "parallels",
        Bhyve = "bhyve", Vz = "vz", Hvf = "hvf",
    }

    /// What happens when the guest powers off or reboots.
    pub enum LifecycleAction {
        Destroy = "destroy", Restart = "restart", RenameRestart = "rename-restart", Preserve = "preserve",
    }

    /// What happens when the guest crashes.
    pub enum CrashAction {
        Destroy = "destroy", Restart = "restart", RenameRestart = "rename-restart", Preserve = "preserve",
        CoredumpDestroy = "coredump-destroy", CoredumpRestart = "coredump-restart",
    }

    /// What happens when a lock on a disk is lost.
    pub enum LockFailureAction { Default = "default", Poweroff = "poweroff", Restart = "restart", Pause = "pause", Ignore = "ignore" }
}

/// `<genid>`: a value, or the wish for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenId {
    Generate,
    Value(Uuid),
}

/// `<resource>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    /// Cgroup partition, absolute.
    pub partition: Option<String>,
    pub fibrechannel_appid: Option<String>,
}

/// `<pm>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pm {
    pub suspend_to_mem: Option<YesNo>,
    pub suspend_to_disk: Option<YesNo>,
}

/// `<lxc:namespace>`: namespaces shared with something else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LxcNamespace {
    pub sharenet: Option<LxcShare>,
    pub shareipc: Option<LxcShare>,
    pub shareuts: Option<LxcShare>,
}

attrs! {
    /// With whom a namespace is shared.
    pub struct LxcShare {
        /// `name`, `pid`, `netns`.
        kind: LxcShareKind = "type",
        value: String = "value",
    }
}

words! {
    /// How the other side of a shared namespace is named.
    pub enum LxcShareKind { None = "none", Name = "name", Pid = "pid", Netns = "netns" }
}

/// `<qemu:commandline>`: passed to QEMU unchanged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QemuCommandline {
    pub args: Vec<String>,
    pub envs: Vec<(String, Option<String>)>,
}
