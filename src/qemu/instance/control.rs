//! What is done to a running QEMU through its monitor: keys, sizes of disks, pictures, its memory.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::{QUICK_DEADLINE, QemuInstance};
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{Backing, Disk, Graphics, GraphicsKind, Video};
use crate::engine::control::Control;
use crate::error::{Code, Error, Result};
use crate::qemu::command::node_names;

/// QEMU may have to write to a slow disk first.
const DISK_DEADLINE: Duration = Duration::from_secs(60);
/// How often it is looked whether a dump is done.
const DUMP_LOOK: Duration = Duration::from_millis(100);
/// A command of the user's own may be anything.
const MONITOR_DEADLINE: Duration = Duration::from_secs(60);

/// A file in the guest's run directory that QEMU may write to; gone when dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn disk<'d>(live: &'d DomainDef, target: &str) -> Result<&'d Disk> {
    let found = live.disks.iter().find(|disk| disk.dev() == target);
    found.ok_or_else(|| Error::invalid_arg(format!("invalid path: {target}")))
}

/// The node that `vda` or `vda[1]` means.
fn node(live: &DomainDef, device: &str) -> Result<String> {
    let (target, index) = match device.strip_suffix(']').and_then(|text| text.split_once('[')) {
        Some((target, index)) => (target, Some(index)),
        None => (device, None),
    };
    let unknown = || Error::invalid_arg(format!("block device '{device}' was not found"));
    let disk = live.disks.iter().find(|disk| disk.dev() == target).ok_or_else(unknown)?;
    let mut source = Some(&disk.source);
    if let Some(index) = index {
        let index: u32 = index.parse().map_err(|_| unknown())?;
        while let Some(one) = source.filter(|one| one.index != Some(index)) {
            source = match &one.backing {
                Backing::Layer(below) => Some(below),
                _ => None,
            };
        }
    }
    let names = source.and_then(node_names).ok_or_else(unknown)?;
    Ok(names.storage)
}

impl QemuInstance {
    /// See `Instance::control`.
    pub(super) async fn do_control(&self, live: &DomainDef, control: &Control) -> Result<()> {
        let qmp = self.qmp()?;
        let (name, arguments, deadline) = match control {
            Control::InjectNmi => ("inject-nmi", Value::Null, QUICK_DEADLINE),
            Control::SendKeys { hold_ms, keys } => {
                let keys: Vec<Value> = keys.iter().map(|key| json!({ "type": "number", "data": key })).collect();
                let mut arguments = json!({ "keys": keys });
                if *hold_ms > 0 {
                    arguments["hold-time"] = (*hold_ms).into();
                }
                ("send-key", arguments, QUICK_DEADLINE)
            }
            Control::ResizeDisk { target, bytes } => {
                let names = node_names(&disk(live, target)?.source);
                let node = names.map(|names| names.top().to_string());
                let node = node.ok_or_else(|| Error::internal(format!("disk '{target}' has no image")))?;
                ("block_resize", json!({ "node-name": node, "size": bytes }), DISK_DEADLINE)
            }
            Control::WriteThreshold { device, bytes } => {
                let arguments = json!({ "node-name": node(live, device)?, "write-threshold": bytes });
                ("block-set-write-threshold", arguments, QUICK_DEADLINE)
            }
            Control::Wakeup => ("system_wakeup", Value::Null, QUICK_DEADLINE),
            Control::Signal { .. } => return Err(Error::no_support(control.function())),
        };
        qmp.execute_raw(name, arguments, deadline).await.map(drop)
    }

    /// A file that QEMU, under its own user, may write to.
    fn scratch(&self) -> Result<Scratch> {
        use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let Some(dir) = &self.run_dir else {
            return Err(Error::internal("the guest was started without a run directory"));
        };
        let path = dir.join(format!("scratch-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let failed = |error| Error::system(format!("cannot make '{}'", path.display()), error);
        let owner = std::fs::metadata(format!("/proc/{}", self.process.pid())).map_err(failed)?;
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        let scratch = Scratch(path.clone());
        fchown(&file, Some(owner.uid()), Some(owner.gid())).map_err(failed)?;
        Ok(scratch)
    }

    /// See `Instance::peek_memory`.
    pub(super) async fn read_memory(&self, virtual_addresses: bool, offset: u64, size: u32) -> Result<Vec<u8>> {
        let scratch = self.scratch()?;
        let name = if virtual_addresses { "memsave" } else { "pmemsave" };
        let arguments = json!({ "val": offset, "size": size, "filename": scratch.0 });
        self.qmp()?.execute_raw(name, arguments, DISK_DEADLINE).await?;
        let failed = |error| Error::system(format!("cannot read '{}'", scratch.0.display()), error);
        let mut bytes = Vec::new();
        let file = File::open(&scratch.0).map_err(failed)?;
        file.take(u64::from(size)).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() != size as usize {
            return Err(Error::internal(format!("QEMU gave {} of {size} bytes of memory", bytes.len())));
        }
        Ok(bytes)
    }

    /// See `Instance::screenshot`.
    pub(super) async fn picture(&self, live: &DomainDef, screen: u32) -> Result<(String, File)> {
        if live.videos.is_empty() {
            return Err(Error::internal("no screens to take screenshot from"));
        }
        // Each head of a video device is a screen.
        let heads = |video: &Video| video.model.heads.unwrap_or(1).max(1);
        let mut screens = live.videos.iter().flat_map(|video| (0..heads(video)).map(move |head| (video, head)));
        let Some((video, head)) = screens.nth(screen as usize) else {
            return Err(Error::invalid_arg("no such screen"));
        };
        let scratch = self.scratch()?;
        let mut arguments = json!({ "filename": scratch.0 });
        if screen > 0 {
            arguments["device"] = video.info.alias.clone().into();
            arguments["head"] = head.into();
        }
        self.qmp()?.execute_raw("screendump", arguments, DISK_DEADLINE).await?;
        let failed = |error| Error::system(format!("cannot read '{}'", scratch.0.display()), error);
        let file = File::open(&scratch.0).map_err(failed)?;
        Ok(("image/x-portable-pixmap".into(), file))
    }

    /// See `Instance::show_display`.
    pub(super) async fn add_client(&self, display: &Graphics, client: OwnedFd, trusted: bool) -> Result<()> {
        let protocol = match &display.kind {
            GraphicsKind::Vnc(_) => "vnc",
            GraphicsKind::Spice(_) => "spice",
            _ => return Err(Error::invalid_arg("Can only open VNC or SPICE graphics backends")),
        };
        let qmp = self.qmp()?;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("graphics{}", NEXT.fetch_add(1, Ordering::Relaxed));
        qmp.pass_fd(&name, client, QUICK_DEADLINE).await?;
        let arguments = json!({ "protocol": protocol, "fdname": name, "skipauth": trusted });
        let added = qmp.execute_raw("add_client", arguments, QUICK_DEADLINE).await;
        if added.is_err() {
            let _ = qmp.try_execute("closefd", json!({ "fdname": name }), QUICK_DEADLINE).await;
        }
        added.map(drop)
    }

    /// See `Instance::dump_memory`.
    pub(super) async fn dump(&self, file: OwnedFd, format: u32) -> Result<()> {
        let format = match format {
            0 => "elf",
            1 => "kdump-zlib",
            2 => "kdump-lzo",
            3 => "kdump-snappy",
            4 => "win-dmp",
            other => return Err(Error::invalid_arg(format!("unknown dumpformat '{other}'"))),
        };
        let qmp = self.qmp()?;
        qmp.pass_fd("dump", file, QUICK_DEADLINE).await?;
        // Beside QEMU's main loop, so that its monitor and its guest's screen stay alive.
        let arguments = json!({ "paging": false, "protocol": "fd:dump", "detach": true, "format": format });
        if let Err(error) = qmp.execute_raw("dump-guest-memory", arguments, QUICK_DEADLINE).await {
            let _ = qmp.try_execute("closefd", json!({ "fdname": "dump" }), QUICK_DEADLINE).await;
            return Err(error);
        }
        loop {
            let state = qmp.execute_value("query-dump", Value::Null, DISK_DEADLINE).await?;
            match state.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some("active") => tokio::time::sleep(DUMP_LOOK).await,
                _ => return Err(Error::failed("QEMU could not write the guest's memory: its log may say why")),
            }
        }
    }

    /// See `Instance::monitor_command`.
    pub(super) async fn monitor(&self, command: &str, human: bool, files: Vec<OwnedFd>) -> Result<String> {
        let qmp = self.qmp()?;
        if human {
            if !files.is_empty() {
                return Err(Error::new(Code::ArgumentUnsupported, "the monitor for humans takes no descriptors"));
            }
            let arguments = json!({ "command-line": command });
            let said = qmp.execute_value("human-monitor-command", arguments, MONITOR_DEADLINE).await?;
            return Ok(said.as_str().unwrap_or_default().to_string());
        }
        let bad = |what: String| Error::invalid_arg(format!("the monitor command {what}"));
        let mut value: Value = serde_json::from_str(command).map_err(|error| bad(format!("is no JSON: {error}")))?;
        let name = value.get("execute").and_then(Value::as_str).map(str::to_string);
        let name = name.ok_or_else(|| bad("has no 'execute'".into()))?;
        let id = value.get_mut("id").map(Value::take);
        let arguments = value.get_mut("arguments").map(Value::take).unwrap_or_default();
        // A refusal is an answer here: the client asked for QEMU's own words.
        let mut answer = match qmp.execute_with_fds(&name, arguments, files, MONITOR_DEADLINE).await? {
            Ok(value) => {
                let value: Value = serde_json::from_str(value.get())
                    .map_err(|error| Error::new(Code::InternalError, format!("cannot read QEMU's answer: {error}")))?;
                json!({ "return": value })
            }
            Err(no) => json!({ "error": { "class": no.class, "desc": no.desc } }),
        };
        answer["id"] = id.unwrap_or_else(|| "domus".into());
        Ok(answer.to_string())
    }
}
