//! Codecs of what the guest itself is asked or made to do: its agent, its screens, its processors' times.

#![allow(clippy::needless_pass_by_value, reason = "codecs take what the engine gives")]

use crate::engine::api::{
    self, BlockTuneArgs, ConsoleArgs, CpuStats, CpuStatsArgs, FilesArgs, FreezeArgs, FsInfo, GetCpuStats,
    InterfaceTuneArgs, IoThreadInfo, KeysArgs, MonitorArgs, OpenChannel, OpenNamespace, ParamsArgs, PeekArgs,
    Screenshot, ScreenshotArgs, SendKeyArgs, SetBlockTuneArgs,
};
use crate::error::{Code, Error};
use crate::rpc::call::{Answer, BoxFuture, Invocation, Reply};
use crate::rpc::stream::StreamEnd;
use crate::rpc::wire::{DomainHandle, Params};
use crate::rpc::xdr::{Opaque, Put};
use crate::types::TypedParams;

/// A picture: its type now, its bytes as a stream.
pub(super) fn screenshot(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, screen, flags): (DomainHandle, u32, u32) = at.arguments()?;
        let domain = connection.domain(&handle.uuid)?;
        let (mime, file) = api::dispatch::<Screenshot>(&caller, &domain, ScreenshotArgs { screen, flags }).await?;
        Ok(Answer { stream: Some(StreamEnd::File(file)), ..Answer::value(&Some(mime)) })
    })
}

/// Asked for no parameters, how many there are of each processor, or how many processors.
pub(super) fn cpu_stats(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, asked, start, count, flags): (DomainHandle, u32, i32, u32, u32) = at.arguments()?;
        let domain = connection.domain(&handle.uuid)?;
        let signed = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        let stats = api::dispatch::<GetCpuStats>(&caller, &domain, CpuStatsArgs { start, count, flags }).await?;
        let values = match stats {
            CpuStats::Count(count) => return Ok(Answer::value(&(Params::default(), signed(count)))),
            CpuStats::Values(values) => values,
        };
        let each = values.first().map_or(0, |params| params.0.len());
        if asked == 0 {
            return Ok(Answer::value(&(Params::default(), signed(each))));
        }
        let each = each.min(asked as usize);
        let all = values.into_iter().flat_map(|params| params.0.into_iter().take(each)).collect();
        Ok(Answer::value(&(Params(TypedParams(all)), signed(each))))
    })
}

pub(super) fn keys((codeset, hold_ms, keys, flags): (u32, u32, Vec<u32>, u32)) -> SendKeyArgs {
    SendKeyArgs { codeset, hold_ms, keys, flags }
}

pub(super) fn block_peek((disk, offset, size, flags): (String, u64, u32, u32)) -> PeekArgs {
    PeekArgs { disk, offset, size, flags }
}

pub(super) fn memory_peek((offset, size, flags): (u64, u32, u32)) -> PeekArgs {
    PeekArgs { disk: String::new(), offset, size, flags }
}

pub(super) fn bytes(bytes: Vec<u8>) -> impl Put {
    Opaque(bytes)
}

pub(super) fn mountpoints((mountpoints, flags): (Vec<String>, u32)) -> FreezeArgs {
    FreezeArgs { mountpoints, flags }
}

pub(super) fn file_systems(all: Vec<FsInfo>) -> impl Put {
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
    let one = |fs: FsInfo| (fs.mountpoint, fs.name, fs.kind, fs.disks);
    (all.into_iter().map(one).collect::<Vec<_>>(), count)
}

pub(super) fn iothreads(all: Vec<IoThreadInfo>) -> impl Put {
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
    let one = |thread: IoThreadInfo| {
        let length = i32::try_from(thread.cpus.len().div_ceil(8)).unwrap_or(i32::MAX);
        (thread.id, Opaque(super::domain::map(&thread.cpus, length)))
    };
    (all.into_iter().map(one).collect::<Vec<_>>(), count)
}

pub(super) fn authorized((user, keys, flags): (String, Vec<String>, u32)) -> KeysArgs {
    KeysArgs { user, keys, flags }
}

/// Arguments, number asked for, flags.
pub(super) fn block_tune((disk, asked, flags): (Option<String>, i32, u32)) -> (BlockTuneArgs, i32, u32) {
    (BlockTuneArgs { disk, flags }, asked, flags)
}

pub(super) fn set_block_tune((disk, params, flags): (String, Params, u32)) -> SetBlockTuneArgs {
    SetBlockTuneArgs { disk, limits: ParamsArgs { params: params.0, flags } }
}

/// `virDomainBlockJobInfo`, when there is one.
pub(super) fn block_job(found: bool) -> impl Put {
    (found, 0i32, (0u64, 0u64, 0u64))
}

pub(super) fn iothread_params((id, params, flags): (u32, Params, u32)) -> api::IoThreadParamsArgs {
    api::IoThreadParamsArgs { id, params: ParamsArgs { params: params.0, flags } }
}

/// The namespaces of a container, passed as descriptors.
pub(super) fn namespaces(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, flags): (DomainHandle, u32) = at.arguments()?;
        let domain = connection.domain(&handle.uuid)?;
        let fds = api::dispatch::<OpenNamespace>(&caller, &domain, flags).await?;
        Ok(Answer { fds, ..Answer::default() })
    })
}

pub(super) fn open_channel(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, device, flags): (DomainHandle, Option<String>, u32) = at.arguments()?;
        let domain = connection.domain(&handle.uuid)?;
        let fd = api::dispatch::<OpenChannel>(&caller, &domain, ConsoleArgs { device, flags }).await?;
        Ok(Answer { stream: Some(StreamEnd::Fd(fd)), ..Answer::default() })
    })
}

/// Arguments, number asked for, flags.
pub(super) fn interface((device, asked, flags): (String, i32, u32)) -> (InterfaceTuneArgs, i32, u32) {
    (InterfaceTuneArgs { device, params: TypedParams::new(), flags }, asked, flags)
}

pub(super) fn set_interface((device, params, flags): (String, Params, u32)) -> InterfaceTuneArgs {
    InterfaceTuneArgs { device, params: params.0, flags }
}

/// A connection to a display, passed as a descriptor.
pub(super) fn open_graphics(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, index, flags): (DomainHandle, u32, u32) = at.arguments()?;
        let domain = connection.domain(&handle.uuid)?;
        let fd = api::dispatch::<api::OpenGraphicsFd>(&caller, &domain, api::GraphicsArgs { index, flags }).await?;
        Ok(Answer { fds: vec![fd], ..Answer::default() })
    })
}

/// The caller's own socket, which comes beside the call, becomes a display's client.
pub(super) fn show_graphics(mut at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, index, flags): (DomainHandle, u32, u32) = at.arguments()?;
        let Some(client) = at.fds.pop() else {
            return Err(Error::new(Code::InvalidArg, "no descriptor came with the call"));
        };
        let domain = connection.domain(&handle.uuid)?;
        let arguments = (api::GraphicsArgs { index, flags }, client);
        api::dispatch::<api::OpenGraphics>(&caller, &domain, arguments).await?;
        Ok(Answer::default())
    })
}

/// A start with descriptors, which come beside the call.
pub(super) fn create_with_files(mut at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, flags): (DomainHandle, u32) = at.arguments()?;
        let domain = connection.domain(&handle.uuid)?;
        let arguments = FilesArgs { files: std::mem::take(&mut at.fds), start: flags };
        api::dispatch::<api::CreateWithFiles>(&caller, &domain, arguments).await?;
        Ok(Answer::value(&DomainHandle::from(&domain)))
    })
}

/// The same of a domain that is gone when it stops.
pub(super) fn create_xml_with_files(mut at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (xml, flags): (String, u32) = at.arguments()?;
        let arguments = FilesArgs { files: std::mem::take(&mut at.fds), start: api::XmlFlags { xml, flags } };
        let domain = api::dispatch::<api::CreateXmlWithFiles>(&caller, &connection, arguments).await?;
        Ok(Answer::value(&DomainHandle::from(&domain)))
    })
}

/// A command of QEMU's own that takes descriptors, which come beside the call; none come back.
pub(super) fn monitor_command_with_files(mut at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let (connection, caller) = at.connection()?;
        let (handle, command, flags): (DomainHandle, String, u32) = at.arguments()?;
        let domain = connection.domain(&handle.uuid)?;
        let arguments = FilesArgs { files: std::mem::take(&mut at.fds), start: MonitorArgs { command, flags } };
        let said = api::dispatch::<api::QemuMonitorCommandWithFiles>(&caller, &domain, arguments).await?;
        Ok(Answer::value(&said))
    })
}
