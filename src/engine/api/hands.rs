//! What is done to a running guest from outside: keys, a non-maskable interrupt, another size of a disk, QEMU's monitor.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::lifecycle::FilesArgs;
use super::{call, check_flags, stored};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{BalloonModel, Disk, Graphics, StorageFormat, StorageKind};
use crate::engine::Domain;
use crate::engine::cleanup::run_blocking;
use crate::engine::control::Control;
use crate::engine::domain::Op;
use crate::engine::domain::change::{Applied, Change};
use crate::engine::driver::{Instance, Tune};
use crate::engine::state::State;
use crate::error::{Code, Error, Result};
use crate::types::flags::affect;

/// Most keys at once (`VIR_DOMAIN_SEND_KEY_MAX_KEYS`).
const MAX_KEYS: usize = 16;
/// Most bytes of a peek (`REMOTE_DOMAIN_BLOCK_PEEK_BUFFER_MAX`).
const MAX_PEEK: u64 = 4 * 1024 * 1024;
/// `VIR_DOMAIN_BLOCK_RESIZE_BYTES`.
const RESIZE_BYTES: u32 = 1;
/// `VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP`.
const MONITOR_HMP: u32 = 1;

fn running(on: &Domain) -> Result<(Arc<dyn Instance>, Arc<DomainDef>)> {
    let snapshot = on.snapshot();
    match (&snapshot.instance, &snapshot.live) {
        (Some(instance), Some(live)) => Ok((instance.clone(), live.clone())),
        _ => Err(Error::invalid_state("domain is not running")),
    }
}

/// The disk with this target or source.
fn disk<'d>(def: &'d DomainDef, wanted: &str) -> Result<&'d Disk> {
    let found = def.disks.iter().find(|disk| disk.dev() == wanted || disk.source.path.as_deref() == Some(wanted));
    found.ok_or_else(|| Error::invalid_arg(format!("invalid path: {wanted}")))
}

/// Does it in the domain's turn: beside no other change.
async fn in_turn(on: &Domain, control: Control) -> Result<()> {
    let change = Change {
        flags: affect::LIVE,
        complete: false,
        config: Arc::new(|_| Ok(())),
        live: Box::new(move |instance, live, _| {
            Box::pin(async move {
                instance.control(&live, &control).await?;
                Ok(Applied { edit: Arc::new(|_| Ok(())), events: Vec::new() })
            })
        }),
    };
    on.request(Op::Change(Box::new(change))).await
}

call! {
    /// A non-maskable interrupt.
    InjectNmi = "virDomainInjectNMI", Write, "domain:inject_nmi";
    (caller, on: Domain, flags => u32) -> () {
        check_flags(on, flags, 0, "virDomainInjectNMI")?;
        let (instance, live) = running(on)?;
        instance.control(&live, &Control::InjectNmi).await
    }
}

/// Arguments of `virDomainSendKey`.
#[derive(Clone, Debug)]
pub struct SendKeyArgs {
    /// `virKeycodeSet`.
    pub codeset: u32,
    /// For how long, ms; 0 = the driver's choice.
    pub hold_ms: u32,
    /// Pressed together.
    pub keys: Vec<u32>,
    pub flags: u32,
}

/// `virKeycodeSet`: the names, in order of their numbers.
const CODESETS: [&str; 11] =
    ["linux", "xt", "atset1", "atset2", "atset3", "os_x", "xt_kbd", "usb", "win32", "qnum", "unknown"];
/// Linux's key codes beyond the first 83, which are those of the keyboard controller, with QEMU's number.
const LINUX_KEYS: [(u32, u32); 42] = [
    (85, 0x76),
    (86, 0x56),
    (87, 0x57),
    (88, 0x58),
    (89, 0x73),
    (90, 0x78),
    (91, 0x77),
    (92, 0x79),
    (93, 0x70),
    (94, 0x7b),
    (95, 0x5c),
    (96, 0x9c),
    (97, 0x9d),
    (98, 0xb5),
    (99, 0x54),
    (100, 0xb8),
    (102, 0xc7),
    (103, 0xc8),
    (104, 0xc9),
    (105, 0xcb),
    (106, 0xcd),
    (107, 0xcf),
    (108, 0xd0),
    (109, 0xd1),
    (110, 0xd2),
    (111, 0xd3),
    (113, 0xa0),
    (114, 0xae),
    (115, 0xb0),
    (116, 0xde),
    (117, 0x59),
    (119, 0xc6),
    (121, 0x7e),
    (122, 0xf2),
    (123, 0xf1),
    (124, 0x7d),
    (125, 0xdb),
    (126, 0xdc),
    (127, 0xdd),
    (128, 0xe8),
    (142, 0xdf),
    (143, 0xe3),
];

/// QEMU's number of a key. Errors: code 1 for a key that has none.
fn key_number(codeset: u32, key: u32) -> Result<u32> {
    let number = match codeset {
        0 if (1..=83).contains(&key) => Some(key),
        0 => LINUX_KEYS.iter().find(|(linux, _)| *linux == key).map(|(_, number)| *number),
        // The keyboard controller's codes; the second page is marked by the highest bit, or by 0xe0 before it.
        1 | 2 if (1..=0x7f).contains(&key) => Some(key),
        1 | 2 if key >> 8 == 0xe0 => Some(key & 0x7f | 0x80),
        6 | 9 if (1..=0xff).contains(&key) => Some(key),
        _ => None,
    };
    number.ok_or_else(|| {
        let set = CODESETS.get(codeset as usize).copied().unwrap_or("unknown");
        Error::internal(format!("cannot translate keycode {key} of {set} codeset to qnum keycode"))
    })
}

call! {
    /// Presses keys together.
    SendKey = "virDomainSendKey", Write, "domain:send_input";
    (caller, on: Domain, SendKeyArgs { codeset, hold_ms, keys, flags } => SendKeyArgs) -> () {
        check_flags(on, flags, 0, "virDomainSendKey")?;
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(Error::bare_arg(format!("nkeycodes in virDomainSendKey must be less than or equal to {MAX_KEYS}")));
        }
        let keys = keys.into_iter().map(|key| key_number(codeset, key)).collect::<Result<Vec<u32>>>()?;
        let (instance, live) = running(on)?;
        instance.control(&live, &Control::SendKeys { hold_ms, keys }).await
    }
}

/// Arguments of `virDomainBlockResize`.
#[derive(Clone, Debug)]
pub struct BlockResizeArgs {
    /// Target (`vda`) or source.
    pub disk: String,
    /// KiB, or bytes with flag 1.
    pub size: u64,
    pub flags: u32,
}

call! {
    /// Makes a disk of the running guest larger or smaller; the guest sees it at once.
    BlockResize = "virDomainBlockResize", Write, "domain:block_write";
    (caller, on: Domain, BlockResizeArgs { disk: wanted, size, flags } => BlockResizeArgs) -> () {
        check_flags(on, flags, RESIZE_BYTES, "virDomainBlockResize")?;
        if wanted.is_empty() {
            return Err(Error::bare_arg("disk in virDomainBlockResize must not be empty"));
        }
        let bytes = if flags & RESIZE_BYTES != 0 { Some(size) } else { size.checked_mul(1024) };
        let bytes = bytes.ok_or_else(|| Error::new(Code::Overflow, "size must be less than 18014398509481983"))?;
        let (_, live) = running(on)?;
        let disk = disk(&live, &wanted)?;
        if disk.source.is_empty() {
            return Err(Error::invalid_state(format!("there is nothing in disk '{}' that could be resized", disk.dev())));
        }
        // Sectors are what these formats count in.
        let sectors = matches!(disk.source.format, Some(StorageFormat::Qcow2 | StorageFormat::Qed));
        let bytes = if sectors { bytes.div_ceil(512).saturating_mul(512) } else { bytes };
        in_turn(on, Control::ResizeDisk { target: disk.dev().to_string(), bytes }).await
    }
}

/// Arguments of `virDomainSetBlockThreshold`.
#[derive(Clone, Debug)]
pub struct ThresholdArgs {
    /// Target (`vda`), with `[n]` for the n-th image below it.
    pub device: String,
    /// Bytes.
    pub threshold: u64,
    pub flags: u32,
}

call! {
    /// An event when a disk is written to beyond this.
    SetBlockThreshold = "virDomainSetBlockThreshold", Write, "domain:write";
    (caller, on: Domain, ThresholdArgs { device, threshold, flags } => ThresholdArgs) -> () {
        check_flags(on, flags, 0, "virDomainSetBlockThreshold")?;
        let (instance, live) = running(on)?;
        instance.control(&live, &Control::WriteThreshold { device, bytes: threshold }).await
    }
}

call! {
    /// Out of a suspend to memory.
    PmWakeup = "virDomainPMWakeup", Write, "domain:pm_control";
    (caller, on: Domain, flags => u32) -> () {
        check_flags(on, flags, 0, "virDomainPMWakeup")?;
        if on.snapshot().state().state != State::PmSuspended {
            running(on)?;
            return Err(Error::invalid_state("Unable to wake up domain as it is not suspended"));
        }
        in_turn(on, Control::Wakeup).await
    }
}

/// Arguments of `virDomainSetMemoryStatsPeriod`.
#[derive(Clone, Copy, Debug)]
pub struct PeriodArgs {
    /// Seconds; 0 = never.
    pub period: i32,
    pub flags: u32,
}

call! {
    /// How often the guest says what memory it uses.
    SetMemoryStatsPeriod = "virDomainSetMemoryStatsPeriod", Write,
        "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, PeriodArgs { period, flags } => PeriodArgs) -> () {
        check_flags(on, flags, affect::LIVE | affect::CONFIG, "virDomainSetMemoryStatsPeriod")?;
        let Ok(seconds) = u32::try_from(period) else {
            return Err(Error::bare_arg("period in virDomainSetMemoryStatsPeriod must be zero or greater"));
        };
        let none = "No memory balloon device configured, can not set the collection period";
        let edit = move |def: &mut DomainDef| {
            let balloon = def.memballoon.as_mut().filter(|balloon| !matches!(balloon.model, BalloonModel::None | BalloonModel::Xen));
            balloon.ok_or_else(|| Error::invalid_state(none))?.stats_period = Some(seconds).filter(|seconds| *seconds > 0);
            Ok(())
        };
        super::tune::tune(on, flags, Tune::MemoryPeriod(seconds), Vec::new(), edit).await
    }
}

/// Arguments of `virDomainSendProcessSignal`.
#[derive(Clone, Copy, Debug)]
pub struct SignalArgs {
    /// As the guest counts; 1 = its init. A negative one is a process group.
    pub pid: i64,
    /// `virDomainProcessSignal`.
    pub signal: u32,
    pub flags: u32,
}

call! {
    /// A signal to a process inside a container.
    SendProcessSignal = "virDomainSendProcessSignal", Write, "domain:send_signal";
    (caller, on: Domain, SignalArgs { pid, signal, flags } => SignalArgs) -> () {
        check_flags(on, flags, 0, "virDomainSendProcessSignal")?;
        if pid == 0 {
            return Err(Error::bare_arg("pid_value in virDomainSendProcessSignal must not be zero"));
        }
        if signal > 64 {
            return Err(Error::invalid_arg(format!("signum value {signal} is out of range")));
        }
        let (instance, live) = running(on)?;
        instance.control(&live, &Control::Signal { pid, number: signal }).await
    }
}

/// Arguments of `virDomainBlockPeek` and `virDomainMemoryPeek`.
#[derive(Clone, Debug)]
pub struct PeekArgs {
    /// Target or source of the disk; empty for memory.
    pub disk: String,
    pub offset: u64,
    /// Bytes.
    pub size: u32,
    pub flags: u32,
}

call! {
    /// Bytes of a disk, as they are in its image.
    BlockPeek = "virDomainBlockPeek", Write, "domain:block_read";
    (caller, on: Domain, PeekArgs { disk: wanted, offset, size, flags } => PeekArgs) -> Vec<u8> {
        check_flags(on, flags, 0, "virDomainBlockPeek")?;
        let snapshot = on.snapshot();
        let def = snapshot.current().ok_or_else(|| on.gone())?;
        let disk = disk(def, &wanted)?;
        if !matches!(disk.source.format, Some(StorageFormat::Raw) | None) {
            let text = format!("peeking is only supported for disk with 'raw' format, not that of '{}'", disk.dev());
            return Err(Error::new(Code::OperationUnsupported, text));
        }
        let local = matches!(disk.source.kind, StorageKind::File | StorageKind::Block);
        let Some(path) = disk.source.path.clone().filter(|_| local) else {
            let text = format!("disk '{}' is no file or device of this host", disk.dev());
            return Err(Error::new(Code::OperationUnsupported, text));
        };
        if u64::from(size) > MAX_PEEK {
            return Err(Error::bare_arg(format!("size in virDomainBlockPeek must be at most {MAX_PEEK}")));
        }
        run_blocking(move || {
            use std::os::unix::fs::FileExt;
            let failed = |error| Error::system(format!("cannot read '{path}'"), error);
            let file = std::fs::File::open(&path).map_err(failed)?;
            let mut bytes = vec![0; size as usize];
            file.read_exact_at(&mut bytes, offset).map_err(failed)?;
            Ok(bytes)
        })
        .await
    }
}

call! {
    /// Bytes of the guest's memory (`virDomainMemoryFlags`: 1 virtual, 2 physical addresses).
    MemoryPeek = "virDomainMemoryPeek", Write, "domain:mem_read";
    (caller, on: Domain, PeekArgs { offset, size, flags, .. } => PeekArgs) -> Vec<u8> {
        check_flags(on, flags, 3, "virDomainMemoryPeek")?;
        if flags != 1 && flags != 2 {
            return Err(Error::invalid_arg("flags parameter must be VIR_MEMORY_VIRTUAL or VIR_MEMORY_PHYSICAL"));
        }
        if u64::from(size) > MAX_PEEK {
            return Err(Error::bare_arg(format!("size in virDomainMemoryPeek must be at most {MAX_PEEK}")));
        }
        let (instance, _) = running(on)?;
        instance.peek_memory(flags == 1, offset, size).await
    }
}

/// Arguments of `virDomainScreenshot`.
#[derive(Clone, Copy, Debug)]
pub struct ScreenshotArgs {
    /// 0 = the first.
    pub screen: u32,
    pub flags: u32,
}

call! {
    /// A picture of a screen: its MIME type, and the file to read it from, which has no name any more.
    Screenshot = "virDomainScreenshot", Write, "domain:screenshot";
    (caller, on: Domain, ScreenshotArgs { screen, flags } => ScreenshotArgs) -> (String, std::fs::File) {
        check_flags(on, flags, 0, "virDomainScreenshot")?;
        let (instance, live) = running(on)?;
        instance.screenshot(&live, screen).await
    }
}

/// Arguments of `virDomainOpenGraphicsFD`.
#[derive(Clone, Copy, Debug)]
pub struct GraphicsArgs {
    /// Position among the displays.
    pub index: u32,
    /// 1: no password is asked.
    pub flags: u32,
}

fn display(on: &Domain, args: GraphicsArgs, function: &'static str) -> Result<(Arc<dyn Instance>, Graphics)> {
    check_flags(on, args.flags, 1, function)?;
    let (instance, live) = running(on)?;
    let found = live.graphics.get(args.index as usize).cloned();
    let found = found.ok_or_else(|| Error::internal(format!("No graphics backend with index {}", args.index)))?;
    Ok((instance, found))
}

call! {
    /// A connection to a display; what is spoken over it is the display's own protocol.
    OpenGraphicsFd = "virDomainOpenGraphicsFD", Write, "domain:open_graphics";
    (caller, on: Domain, args => GraphicsArgs) -> OwnedFd {
        let (instance, display) = display(on, args, "virDomainOpenGraphicsFD")?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()
            .map_err(|error| Error::system("cannot make a pair of sockets", error))?;
        instance.show_display(&display, theirs.into(), args.flags & 1 != 0).await?;
        Ok(ours.into())
    }
}

call! {
    /// Shows a display to whoever is at the other end of a socket of the caller's.
    OpenGraphics = "virDomainOpenGraphics", Write, "domain:open_graphics";
    (caller, on: Domain, (args, client) => (GraphicsArgs, OwnedFd)) -> () {
        let (instance, display) = display(on, args, "virDomainOpenGraphics")?;
        instance.show_display(&display, client, args.flags & 1 != 0).await
    }
}

/// Arguments of `virDomainCoreDumpWithFormat`.
#[derive(Clone, Debug)]
pub struct DumpArgs {
    /// Absolute path.
    pub to: String,
    /// `virDomainCoreDumpFormat`.
    pub format: u32,
    /// `virDomainCoreDumpFlags`.
    pub flags: u32,
}

/// `VIR_DUMP_CRASH`, `_LIVE`, `_RESET`, `_MEMORY_ONLY`.
const DUMP_CRASH: u32 = 1;
const DUMP_LIVE: u32 = 2;
const DUMP_RESET: u32 = 8;
const DUMP_MEMORY_ONLY: u32 = 16;

call! {
    /// Writes the guest's memory to a file, which is replaced. The guest stands still meanwhile, unless flag 2 says otherwise; then it is
    /// ended (1) or reset (8).
    CoreDump = "virDomainCoreDumpWithFormat", Write, "domain:core_dump";
    (caller, on: Domain, DumpArgs { to, format, flags } => DumpArgs) -> () {
        check_flags(on, flags, DUMP_CRASH | DUMP_LIVE | DUMP_RESET | DUMP_MEMORY_ONLY | 4, "virDomainCoreDumpWithFormat")?;
        if flags & DUMP_MEMORY_ONLY == 0 {
            let text = "a dump with the state of the devices is not there yet: ask for the memory only (--memory-only)";
            return Err(Error::new(Code::OperationUnsupported, text));
        }
        if flags & (DUMP_CRASH | DUMP_LIVE) == DUMP_CRASH | DUMP_LIVE || flags & (DUMP_CRASH | DUMP_RESET) == DUMP_CRASH | DUMP_RESET {
            return Err(Error::bare_arg("crash, live and reset exclude each other"));
        }
        let (instance, _) = running(on)?;
        let path = std::path::PathBuf::from(&to);
        let failed = move |error| Error::system(format!("failed to create file '{to}'"), error);
        let place = path.clone();
        let file = run_blocking(move || {
            use std::os::unix::fs::OpenOptionsExt;
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&place).map_err(failed)
        })
        .await?;
        let pause = flags & DUMP_LIVE == 0 && on.snapshot().state().state == State::Running;
        let dumped = async {
            if pause {
                on.request(Op::Suspend).await?;
            }
            let dumped = instance.dump_memory(file.into(), format).await;
            // Whatever became of the dump, the guest goes on.
            if pause && flags & DUMP_CRASH == 0 {
                on.request(Op::Resume).await?;
            }
            dumped
        };
        if let Err(error) = dumped.await {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        if flags & DUMP_CRASH != 0 {
            on.request(Op::Destroy { flags: 0 }).await?;
        } else if flags & DUMP_RESET != 0 {
            on.request(Op::Reset).await?;
        }
        Ok(())
    }
}

/// Arguments of `virDomainQemuMonitorCommand`.
#[derive(Clone, Debug)]
pub struct MonitorArgs {
    /// JSON, or with flag 1 a line of the human monitor.
    pub command: String,
    pub flags: u32,
}

call! {
    /// A command of QEMU's own, past everything the daemon knows.
    QemuMonitorCommand = "virDomainQemuMonitorCommand", Write, "domain:write";
    (caller, on: Domain, MonitorArgs { command, flags } => MonitorArgs) -> String {
        check_flags(on, flags, MONITOR_HMP, "virDomainQemuMonitorCommand")?;
        let (instance, _) = running(on)?;
        tracing::warn!(domain = %on.name(), who = %caller.who, %command, "a client talks to QEMU's monitor");
        instance.monitor_command(&command, flags & MONITOR_HMP != 0, Vec::new()).await
    }
}

call! {
    /// The same with descriptors, which QEMU gets with the command: `getfd` and `add-fd` take one.
    QemuMonitorCommandWithFiles = "virDomainQemuMonitorCommandWithFiles", Write, "domain:write";
    (caller, on: Domain, FilesArgs { files, start: MonitorArgs { command, flags } } => FilesArgs<MonitorArgs>) -> String {
        check_flags(on, flags, MONITOR_HMP, "virDomainQemuMonitorCommandWithFiles")?;
        let (instance, _) = running(on)?;
        tracing::warn!(domain = %on.name(), who = %caller.who, %command, files = files.len(), "a client talks to QEMU's monitor");
        instance.monitor_command(&command, flags & MONITOR_HMP != 0, files).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_each_set() {
        // Escape, right arrow, print screen; the same arrow as the keyboard controller has it.
        for (set, key, number) in
            [(0, 1, 1), (0, 106, 0xcd), (0, 99, 0x54), (1, 0xe04d, 0xcd), (9, 0xcd, 0xcd), (6, 30, 30)]
        {
            assert_eq!(key_number(set, key).unwrap(), number, "{set} {key}");
        }
        for (set, key) in [(0, 0), (0, 84), (0, 5000), (1, 0), (9, 256), (7, 4), (77, 1)] {
            assert_eq!(key_number(set, key).unwrap_err().code, Code::InternalError, "{set} {key}");
        }
    }
}
