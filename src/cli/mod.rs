//! `domus`: virsh's words over D-Bus.
//!
//! Owns the command line, what it prints and its exit status. Talks D-Bus only; knows the daemon by nothing but its
//! interfaces (`org.libvirt.*`, `org.domus.*`). One file per group of commands; they share [`domains::Session`].
//!
//! ```text
//! args -> Target -> Client -> Session { drivers, look-up } -> command -> Output
//! ```
//!
//! Texts, tables and their order are virsh's to the byte, the empty line after each command included, so that what
//! people and scripts know keeps working.

mod address;
mod args;
mod client;
mod console;
mod cpu;
mod define;
mod devices;
mod domains;
mod edit;
mod event;
mod event_text;
mod exec;
mod host;
mod host_event;
mod image;
mod info;
mod interface;
mod lifecycle;
mod list;
mod native;
mod network;
mod node_device;
mod nwfilter;
mod output;
mod params;
mod plan;
mod plug;
mod pool;
mod pool_as;
mod pool_list;
mod progress;
mod secret;
mod snapshot;
mod stats;
mod tune;
mod vcpu;
mod volume;
mod words;
mod xml;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use client::Client;
use domains::Session;
use output::{Failure, Output};

/// The whole program: reads the command line, runs the command, says how it went.
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse_from(args::virsh_words(std::env::args_os()));
    let out = Output { quiet: global.quiet, json: global.json };
    match &command {
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "domus", &mut script);
            output::raw(&String::from_utf8_lossy(&script));
            return ExitCode::SUCCESS;
        }
        Command::Event(args) if args.is_list() => {
            args.list(out);
            out.end();
            return ExitCode::SUCCESS;
        }
        command => {
            if let Some((args, kind)) = command.host_event().filter(|(args, _)| args.is_list()) {
                args.list(out, kind);
                out.end();
                return ExitCode::SUCCESS;
            }
        }
    }
    // One thread: a command is a few round trips, and starting threads would take longer than they do.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            out.failure(&Failure::new(format!("cannot start: {error}")));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        // Commands that wait for something themselves take --timeout as the length of that wait.
        let waits = matches!(command, Command::Event(_) | Command::Console(_) | Command::Exec(_))
            || command.host_event().is_some();
        let deadline = if waits { None } else { global.timeout };
        let client = match Client::connect(&global.target(), deadline).await {
            Ok(client) => client,
            Err(failure) => {
                out.failure(&failure);
                return ExitCode::FAILURE;
            }
        };
        let session = Session { client, out, driver: global.connect, timeout: global.timeout, escape: global.escape };
        let result = run(&session, &command).await;
        if let Err(failure) = &result {
            out.failure(failure);
        }
        out.end();
        if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
}

async fn run(session: &Session, command: &Command) -> Result<(), Failure> {
    match command {
        Command::List(args) => list::list(session, args).await,
        Command::Define(args) => define::define(session, args).await,
        Command::Create(args) => define::create(session, args).await,
        Command::Undefine(args) => define::undefine(session, args).await,
        Command::Domrename(args) => define::rename(session, args).await,
        Command::Autostart(args) => define::autostart(session, args).await,
        Command::Edit(args) => edit::edit(session, args).await,
        Command::Start(args) => lifecycle::start(session, args).await,
        Command::Shutdown(args) => lifecycle::shutdown(session, args).await,
        Command::Reboot(args) => lifecycle::reboot(session, args).await,
        Command::Reset(args) => lifecycle::reset(session, args).await,
        Command::Destroy(args) => lifecycle::destroy(session, args).await,
        Command::Suspend(args) => lifecycle::suspend(session, args).await,
        Command::Resume(args) => lifecycle::resume(session, args).await,
        Command::SetLifecycleAction(args) => lifecycle::set_action(session, args).await,
        Command::Dumpxml(args) => devices::dumpxml(session, args).await,
        Command::Domblklist(args) => devices::domblklist(session, args).await,
        Command::Domifaddr(args) => address::domifaddr(session, args).await,
        Command::Domiflist(args) => devices::domiflist(session, args).await,
        Command::Dominfo(args) => info::dominfo(session, args).await,
        Command::Domstate(args) => info::domstate(session, args).await,
        Command::Domid(args) => info::domid(session, args).await,
        Command::Domname(args) => info::domname(session, args).await,
        Command::Domuuid(args) => info::domuuid(session, args).await,
        Command::AttachDevice(args) => plug::attach(session, args).await,
        Command::DetachDevice(args) => plug::detach(session, args).await,
        Command::UpdateDevice(args) => plug::update(session, args).await,
        Command::AttachInterface(args) => plug::attach_interface(session, args).await,
        Command::DetachInterface(args) => plug::detach_interface(session, args).await,
        Command::DomifSetlink(args) => plug::setlink(session, args).await,
        Command::DomifGetlink(args) => plug::getlink(session, args).await,
        Command::Dommemstat(args) => info::dommemstat(session, args).await,
        Command::Domstats(args) => stats::domstats(session, args).await,
        Command::Setmem(args) => tune::setmem(session, args).await,
        Command::Setmaxmem(args) => tune::setmaxmem(session, args).await,
        Command::Memtune(args) => tune::memtune(session, args).await,
        Command::Schedinfo(args) => tune::schedinfo(session, args).await,
        Command::Blkiotune(args) => tune::blkiotune(session, args).await,
        Command::Numatune(args) => tune::numatune(session, args).await,
        Command::Setvcpus(args) => vcpu::setvcpus(session, args).await,
        Command::Vcpucount(args) => vcpu::vcpucount(session, args).await,
        Command::Vcpuinfo(args) => vcpu::vcpuinfo(session, args).await,
        Command::Vcpupin(args) => vcpu::vcpupin(session, args).await,
        Command::Emulatorpin(args) => vcpu::emulatorpin(session, args).await,
        Command::Exec(args) => exec::exec(session, args).await,
        Command::LxcEnterNamespace(args) => exec::enter(session, args).await,
        Command::Console(args) => console::console(session, args).await,
        Command::Event(args) => event::event(session, args).await,
        Command::Plan(args) => plan::plan(session, args).await,
        Command::Xml(command) => xml::run(session, command).await,
        Command::CpuCompare(args) => cpu::compare(session, args).await,
        Command::CpuBaseline(args) => cpu::baseline(session, args).await,
        Command::CpuModels(args) => cpu::models(session, args).await,
        Command::HypervisorCpuCompare(args) => cpu::hypervisor_compare(session, args).await,
        Command::HypervisorCpuBaseline(args) => cpu::hypervisor_baseline(session, args).await,
        Command::DomxmlFromNative(args) => native::from_native(session, args).await,
        Command::DomxmlToNative(args) => native::to_native(session, args).await,
        Command::PoolList(args) => pool_list::list(session, args).await,
        Command::PoolInfo(args) => pool_list::info(session, args).await,
        Command::PoolDefine(args) => pool::define(session, args).await,
        Command::PoolDefineAs(args) => pool_as::define_as(session, args).await,
        Command::PoolCreate(args) => pool::create(session, args).await,
        Command::PoolCreateAs(args) => pool_as::create_as(session, args).await,
        Command::PoolUndefine(args) => pool::undefine(session, args).await,
        Command::PoolAutostart(args) => pool::autostart(session, args).await,
        Command::PoolBuild(args) => pool::build(session, args).await,
        Command::PoolStart(args) => pool::start(session, args).await,
        Command::PoolDestroy(args) => pool::destroy(session, args).await,
        Command::PoolDelete(args) => pool::delete(session, args).await,
        Command::PoolEvent(args) => host_event::run(session, args, &pool::EVENTS).await,
        Command::PoolRefresh(args) => pool::refresh(session, args).await,
        Command::PoolDumpxml(args) => pool::dumpxml(session, args).await,
        Command::PoolEdit(args) => pool::edit(session, args).await,
        Command::PoolName(args) => pool::name(session, args).await,
        Command::PoolUuid(args) => pool::uuid(session, args).await,
        Command::PoolCapabilities => pool::capabilities(session).await,
        Command::FindStoragePoolSources(args) => pool::find(session, args).await,
        Command::FindStoragePoolSourcesAs(args) => pool_as::find_as(session, args).await,
        Command::Capabilities => host::capabilities(session).await,
        Command::Domcapabilities(args) => host::domcapabilities(session, args).await,
        Command::Version(args) => host::version(session, args).await,
        Command::Hostname => host::hostname(session).await,
        Command::Uri => host::uri(session).await,
        Command::Network(command) => network::run(session, command).await,
        Command::NodeDevice(command) => node_device::run(session, command).await,
        Command::Volume(command) => volume::run(session, command).await,
        Command::Image(command) => image::run(session, command).await,
        Command::Secret(command) => secret::run(session, command).await,
        Command::Interface(command) => interface::run(session, command).await,
        Command::NwFilter(command) => nwfilter::run(session, command).await,
        Command::Snapshot(command) => snapshot::run(session, command).await,
        // Answered without a daemon.
        Command::Completion { .. } => Ok(()),
    }
}
