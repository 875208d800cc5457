//! The command line: global options, the list of commands, and arguments that several commands share.
//!
//! Owns words and help texts only; each command group owns its own options beside its code.
//!
//! virsh takes `--domain NAME`, `--file FILE` and `--new-name NAME` for positional arguments; [`virsh_words`] puts them
//! in their places, so that the help shows one form only.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::client::Target;
use super::domains::Driver;
use super::output::Failure;
use super::{
    address, console, cpu, define, devices, edit, event, exec, host, host_event, image, info, interface, lifecycle,
    list, native, network, node_device, nwfilter, plan, plug, pool, pool_as, pool_list, secret, snapshot, stats, tune,
    vcpu, volume, xml,
};

const AFTER: &str = "\
A DOMAIN is given by name, id or UUID. Without --connect all drivers of the daemon are asked for it.

Exit status: 0 done, 1 the command failed (the reason is on standard error), 2 the command line is wrong.";

/// Define, run and look after virtual machines and containers (virsh's words, over D-Bus).
#[derive(Debug, Parser)]
#[command(name = "domus", version, after_help = AFTER, subcommand_required = true, arg_required_else_help = true)]
#[command(max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The driver to talk to: qemu, lxc or test, or a libvirt URI such as qemu:///system
    #[arg(short = 'c', long, global = true, value_name = "DRIVER", value_parser = Driver::from_uri)]
    pub connect: Option<Driver>,
    /// Talk to the daemon with this root directory (its socket is DIR/run/dbus-sock) [env: DOMUS_ROOT]
    #[arg(long, global = true, value_name = "DIR", group = "where")]
    pub root: Option<PathBuf>,
    /// Talk to the daemon over the system bus
    #[arg(long, global = true, group = "where")]
    pub system: bool,
    /// Talk to the daemon over the session bus
    #[arg(long, global = true, group = "where")]
    pub session: bool,
    /// Talk to the daemon over the bus at this D-Bus address
    #[arg(long, global = true, value_name = "ADDRESS", group = "where")]
    pub bus: Option<String>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results only: no remarks, no table header
    #[arg(short = 'q', long, global = true)]
    pub quiet: bool,
    /// Give up on an answer (console, event: stop) after this many seconds [default: wait]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// The key that leaves a console, as ^X or one character
    #[arg(short = 'e', long, value_name = "CHAR", default_value = "^]", value_parser = console::escape_key)]
    pub escape: u8,
}

impl Global {
    /// Where the daemon is: as given, else DOMUS_ROOT, else the installed daemon's socket.
    pub fn target(&self) -> Target {
        if self.system {
            return Target::System;
        }
        if self.session {
            return Target::Session;
        }
        if let Some(address) = &self.bus {
            return Target::Address(address.clone());
        }
        let from_env = || std::env::var_os("DOMUS_ROOT").filter(|root| !root.is_empty()).map(PathBuf::from);
        self.root.clone().or_else(from_env).map_or_else(Target::installed, |root| Target::of_root(&root))
    }
}

/// Puts virsh's named form of positional arguments in place: `--domain` and `--file` first, `--new-name` last.
pub fn virsh_words(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    const WITH_VALUE: [&str; 7] = ["-c", "--connect", "--root", "--bus", "--timeout", "-e", "--escape"];
    let mut words: Vec<OsString> = words.into_iter().collect();
    let mut at = 1;
    while let Some(word) = words.get(at).filter(|word| word.as_encoded_bytes().starts_with(b"-")) {
        at += if WITH_VALUE.iter().any(|option| word == option) { 2 } else { 1 };
    }
    // These have options of that name; `xml` has a command of its own.
    let keeps = words
        .get(at)
        .is_none_or(|command| ["event", "domstats", "xml", "domxml-to-native"].iter().any(|kept| command == kept));
    if keeps {
        return words;
    }
    let rest = words.split_off(at + 1);
    // A command of some object of the host has the object's own word, and may have a --file that is no position.
    let command = words[at].to_string_lossy().into_owned();
    let objects: &[&str] = match command.split('-').next() {
        Some("secret") if command == "secret-set-value" => &["--secret"],
        Some("secret") => &["--secret", "--file"],
        Some("nodedev") => &["--device", "--file"],
        Some("net") => &["--network", "--file"],
        Some("pool") => &["--pool", "--file"],
        Some("iface") => &["--interface", "--file"],
        Some("nwfilter") => &["--nwfilter", "--file"],
        // The file or the name comes after the domain, whichever was written first.
        Some("snapshot") => &["--domain"],
        _ => &["--domain", "--file"],
    };
    let (mut first, mut middle, mut last) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = rest.into_iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            middle.push(word);
            middle.extend(rest);
            break;
        }
        let text = word.to_str().unwrap_or_default();
        let (option, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.into())));
        let place = match option {
            option if objects.contains(&option) => &mut first,
            "--new-name" => &mut last,
            _ => {
                middle.push(word);
                continue;
            }
        };
        place.extend(value.or_else(|| rest.next()));
    }
    words.extend(first);
    words.extend(middle);
    words.extend(last);
    words
}

/// A positive number of seconds, with or without a fraction.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| format!("'{text}' is not a number of seconds"))?;
    match Duration::try_from_secs_f64(number) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!("'{text}' is not a positive number of seconds")),
    }
}

/// A domain as the first positional argument.
#[derive(Clone, Debug, Args)]
pub struct DomainArg {
    /// Name, id or UUID of the domain
    domain: String,
}

impl DomainArg {
    /// What the user wrote.
    pub fn given(&self) -> &str {
        &self.domain
    }
}

/// An XML file as the first positional argument; `-` is standard input.
#[derive(Clone, Debug, Args)]
pub struct FileArg {
    /// File with the domain's XML; - for standard input
    file: PathBuf,
}

impl FileArg {
    /// A file named by another argument.
    pub fn of(file: PathBuf) -> FileArg {
        FileArg { file }
    }

    /// The name for messages.
    pub fn name(&self) -> String {
        self.file.display().to_string()
    }

    /// The text; fails with virsh's message when the file cannot be read.
    pub fn read(&self) -> Result<String, Failure> {
        read_file(&self.file)
    }
}

/// The text of a file, `-` for standard input; fails with virsh's message when it cannot be read.
pub fn read_file(path: &std::path::Path) -> Result<String, Failure> {
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = bytes.map_err(|error| {
        Failure::new(format!("Failed to open file '{}': {}", path.display(), super::client::reason(&error)))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(format!("file '{}' is not UTF-8 text: byte {at} does not belong there", path.display()))
    })
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List domains
    List(list::ListArgs),
    /// Define (but do not start) a domain from an XML file
    Define(define::DefineArgs),
    /// Create and start a transient domain from an XML file
    Create(define::CreateArgs),
    /// Undefine a domain
    Undefine(define::UndefineArgs),
    /// Rename an inactive domain
    Domrename(define::RenameArgs),
    /// Have a domain started when the daemon starts
    Autostart(define::AutostartArgs),
    /// Edit the XML of a domain
    Edit(edit::EditArgs),
    /// Start an inactive domain
    Start(lifecycle::StartArgs),
    /// Ask a domain to shut down
    Shutdown(lifecycle::ModeArgs),
    /// Ask a domain to reboot
    Reboot(lifecycle::ModeArgs),
    /// Reset a domain as by its reset button
    Reset(DomainArg),
    /// End a domain at once
    Destroy(lifecycle::DestroyArgs),
    /// Stop a domain's CPUs
    Suspend(DomainArg),
    /// Let a suspended domain run on
    Resume(DomainArg),
    /// Set what becomes of a domain that powers off, reboots or crashes
    SetLifecycleAction(lifecycle::ActionArgs),
    /// Print a domain's XML
    Dumpxml(devices::DumpxmlArgs),
    /// List the block devices of a domain
    Domblklist(devices::BlockArgs),
    /// Print the addresses of a domain's network interfaces
    Domifaddr(address::AddressArgs),
    /// List the network interfaces of a domain
    Domiflist(devices::InterfaceArgs),
    /// Print basic facts about a domain
    Dominfo(DomainArg),
    /// Print the state of a domain
    Domstate(info::StateArgs),
    /// Print the id of a domain given by name or UUID
    Domid(DomainArg),
    /// Print the name of a domain given by id or UUID
    Domname(DomainArg),
    /// Print the UUID of a domain given by name or id
    Domuuid(DomainArg),
    /// Put a device from an XML file into a domain
    AttachDevice(plug::DeviceArgs),
    /// Take a device out of a domain
    DetachDevice(plug::DeviceArgs),
    /// Change a device of a domain
    UpdateDevice(plug::UpdateArgs),
    /// Put a network interface into a domain
    AttachInterface(plug::AttachInterfaceArgs),
    /// Take a network interface out of a domain
    DetachInterface(plug::DetachInterfaceArgs),
    /// Set the link of a domain's interface up or down
    DomifSetlink(plug::SetlinkArgs),
    /// Print whether the link of a domain's interface is up
    DomifGetlink(plug::GetlinkArgs),
    /// Print the memory statistics of a domain
    Dommemstat(info::MemstatArgs),
    /// Print statistics of domains
    Domstats(stats::StatsArgs),
    /// Change how much memory a domain may use now
    Setmem(tune::SizeArgs),
    /// Change the maximum memory of a domain
    Setmaxmem(tune::SizeArgs),
    /// Show or set a domain's memory limits
    Memtune(tune::MemtuneArgs),
    /// Show or set a domain's share of CPU time
    Schedinfo(tune::SchedinfoArgs),
    /// Show or set a domain's share of disk I/O
    Blkiotune(tune::BlkiotuneArgs),
    /// Show or set the memory nodes of a domain
    Numatune(tune::NumatuneArgs),
    /// Change the number of a domain's virtual CPUs
    Setvcpus(vcpu::SetvcpusArgs),
    /// Print the number of a domain's virtual CPUs
    Vcpucount(vcpu::VcpucountArgs),
    /// Print details of a domain's virtual CPUs
    Vcpuinfo(vcpu::VcpuinfoArgs),
    /// Show or set the host CPUs of virtual CPUs
    Vcpupin(vcpu::VcpupinArgs),
    /// Show or set the host CPUs of the emulator
    Emulatorpin(vcpu::EmulatorpinArgs),
    /// Run a program in a container
    Exec(exec::ExecArgs),
    /// Run a program in a container (virsh's name of exec)
    LxcEnterNamespace(exec::EnterArgs),
    /// Connect to a domain's console
    Console(console::ConsoleArgs),
    /// Wait for events of domains
    Event(event::EventArgs),
    /// Show what a start of this XML would do, without doing it
    Plan(plan::PlanArgs),
    /// Look at domain XML
    #[command(subcommand)]
    Xml(xml::XmlCommand),
    /// Compare a CPU with the host's
    #[command(name = "cpu-compare")]
    CpuCompare(cpu::CompareArgs),
    /// Print the CPU that several have in common
    #[command(name = "cpu-baseline")]
    CpuBaseline(cpu::BaselineArgs),
    /// Print the names of an architecture's CPU models
    #[command(name = "cpu-models")]
    CpuModels(cpu::ModelsArgs),
    /// Compare a CPU with what a hypervisor can give
    #[command(name = "hypervisor-cpu-compare")]
    HypervisorCpuCompare(cpu::HypervisorCompareArgs),
    /// Print the CPU that several and a hypervisor have in common
    #[command(name = "hypervisor-cpu-baseline")]
    HypervisorCpuBaseline(cpu::HypervisorBaselineArgs),
    /// Print domain XML made from another tool's configuration
    #[command(name = "domxml-from-native")]
    DomxmlFromNative(native::FromNativeArgs),
    /// Print what a start of domain XML would run
    #[command(name = "domxml-to-native")]
    DomxmlToNative(native::ToNativeArgs),
    /// List storage pools
    PoolList(pool_list::ListArgs),
    /// Print basic facts about a storage pool
    PoolInfo(pool_list::InfoArgs),
    /// Define (but do not start) a storage pool from an XML file
    PoolDefine(pool::DefineArgs),
    /// Define a storage pool from options
    PoolDefineAs(pool_as::DefineAsArgs),
    /// Create and start a transient storage pool from an XML file
    PoolCreate(pool::CreateArgs),
    /// Create and start a transient storage pool from options
    PoolCreateAs(pool_as::CreateAsArgs),
    /// Undefine an inactive storage pool
    PoolUndefine(pool::PoolArg),
    /// Have a storage pool started when the daemon starts
    PoolAutostart(pool::AutostartArgs),
    /// Prepare the storage of a pool: make its directory, its file system, its volume group
    PoolBuild(pool::PoolBuildArgs),
    /// Start an inactive storage pool
    PoolStart(pool::StartArgs),
    /// Stop a storage pool; what is in it stays
    PoolDestroy(pool::PoolArg),
    /// Remove the storage of a pool for good
    PoolDelete(pool::PoolArg),
    /// Look at a storage pool's volumes again
    PoolRefresh(pool::PoolArg),
    /// Wait for events of storage pools
    PoolEvent(host_event::EventArgs),
    /// Print a storage pool's XML
    PoolDumpxml(pool::DumpxmlArgs),
    /// Edit the XML of a storage pool
    PoolEdit(pool::PoolArg),
    /// Print the name of a storage pool given by UUID
    PoolName(pool::PoolArg),
    /// Print the UUID of a storage pool given by name
    PoolUuid(pool::PoolArg),
    /// Print which types of storage pools there are
    PoolCapabilities,
    /// Print what could become a storage pool
    FindStoragePoolSources(pool::FindArgs),
    /// Print what could become a storage pool, on the host of an option
    FindStoragePoolSourcesAs(pool_as::FindAsArgs),
    /// Print what the host and the driver can do
    Capabilities,
    /// Print what a domain can be given
    Domcapabilities(host::DomcapabilitiesArgs),
    /// Print versions
    Version(host::VersionArgs),
    /// Print the host's name
    Hostname,
    /// Print the libvirt URI of the driver
    Uri,
    #[command(flatten)]
    Network(network::Command),
    #[command(flatten)]
    NodeDevice(node_device::Command),
    #[command(flatten)]
    Secret(secret::Command),
    #[command(flatten)]
    Interface(interface::Command),
    #[command(flatten)]
    NwFilter(nwfilter::Command),
    #[command(flatten)]
    Snapshot(snapshot::Command),
    #[command(flatten)]
    Volume(volume::Command),
    #[command(flatten)]
    Image(image::Command),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// The wait for events of an object of the host that the command is, if it is one.
    pub fn host_event(&self) -> Option<(&host_event::EventArgs, &'static host_event::Kind)> {
        match self {
            Command::NodeDevice(command) => command.event(),
            Command::Secret(command) => command.event(),
            Command::Network(command) => command.event(),
            Command::PoolEvent(args) => Some((args, &pool::EVENTS)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("domus").chain(words.iter().copied()))
    }

    #[test]
    fn the_declaration_is_consistent() {
        Cli::command().debug_assert();
    }

    #[rstest::rstest]
    #[case("dominfo --domain x", "dominfo x")]
    #[case("--root /r -c test dominfo --domain=x", "--root /r -c test dominfo x")]
    #[case("define --validate --file f.xml", "define f.xml --validate")]
    #[case("domrename --new-name y --domain x", "domrename x y")]
    #[case("domrename --new-name y x", "domrename x y")]
    #[case("secret-dumpxml --secret u", "secret-dumpxml u")]
    #[case("secret-define --file f", "secret-define f")]
    #[case("secret-set-value --file f --secret u", "secret-set-value u --file f")]
    #[case("event --domain x --all", "event --domain x --all")]
    #[case("dominfo -- --domain", "dominfo -- --domain")]
    #[case("", "")]
    fn virshs_named_positionals(#[case] given: &str, #[case] meant: &str) {
        let words = |text: &str| -> Vec<OsString> {
            std::iter::once("domus").chain(text.split_whitespace()).map(OsString::from).collect()
        };
        assert_eq!(virsh_words(words(given)), words(meant));
    }

    #[test]
    fn a_domain_is_needed() {
        assert!(parse(&["dominfo"]).is_err());
        assert!(parse(&["domrename", "x"]).is_err());
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for words in [&["-c", "lxc", "--json", "list"][..], &["list", "--json", "-c", "lxc"]] {
            let cli = parse(words).unwrap();
            assert!(cli.global.json);
            assert_eq!(cli.global.connect, Some(Driver::Lxc));
        }
    }

    #[test]
    fn one_place_at_a_time() {
        assert!(parse(&["--system", "--session", "list"]).is_err());
        assert!(parse(&["--root", "/x", "--bus", "unix:path=/y", "list"]).is_err());
    }

    #[test]
    fn seconds_are_positive() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert!(seconds("0").is_err() && seconds("-1").is_err() && seconds("x").is_err());
    }
}
