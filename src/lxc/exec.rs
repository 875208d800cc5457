//! Running a program in a container that is there.
//!
//! ```text
//! daemon --spawn in the container's cgroups, sealed memfd--> domus-run enter --setns, clone--> program
//! client <------------ control socket ----------------------^   <-------- standard streams, terminal ------
//! ```
//!
//! The daemon is out of it from then on: the client holds the control socket, and the program ends with it.

use std::io::Write;
use std::os::fd::OwnedFd;

use super::driver::Shared;
use super::instance::LxcInstance;
use super::plan::{self, Program};
use super::protocol::{CONTROL_FD, SPEC_FD};
use crate::domain_xml::DomainDef;
use crate::engine::driver::{Exec, ExecRequest};
use crate::error::{Error, Result};
use crate::sys::exec::{EntrySpec, GuestProcess, spawn_entry};
use crate::sys::{packet, pty};

/// Fd of the sealed binary in the helper, until it closes it.
const BINARY_FD: i32 = 5;

impl LxcInstance {
    /// See `Instance::exec`.
    pub(super) async fn run_program(&self, live: &DomainDef, request: ExecRequest) -> Result<Exec> {
        let (shared, group, init, live) = (self.shared.clone(), self.group(), self.init(), live.clone());
        let work = move || -> Result<(Exec, GuestProcess)> {
            let procs = group.beside(init.0)?;
            start(&shared, &live, init, procs, request)
        };
        let (exec, process) = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::internal("a worker thread panicked").with_source(error))??;
        // Somebody has to take its status from the kernel; who waits for it is told on the control socket.
        tokio::spawn(async move { process.pidfd.wait().await });
        Ok(exec)
    }
}

fn start(
    shared: &Shared,
    live: &DomainDef,
    init: (i32, u64),
    cgroup_procs: Vec<OwnedFd>,
    request: ExecRequest,
) -> Result<(Exec, GuestProcess)> {
    let failed = |what: &'static str| move |error: std::io::Error| Error::system(what, error);
    let (terminal, stdio) = match request.stdio {
        Some(stdio) => (None, stdio),
        None => {
            let pair = pty::open(false).map_err(failed("cannot open a terminal"))?;
            let (rows, columns) = request.size;
            let _ = pty::set_size(&pair.peer, rows, columns);
            // The program's user may want to open it again by name.
            let owner = |ranges: &[crate::domain_xml::os::IdRange]| {
                ranges.iter().find(|range| range.start == 0).map_or(0, |range| range.target)
            };
            let (uid, gid) = (owner(&live.idmap.uids), owner(&live.idmap.gids));
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            rustix::fs::fchown(&pair.peer, Some(uid), Some(gid))
                .map_err(|errno| failed("cannot give a terminal to the container")(errno.into()))?;
            let copy = || pair.peer.try_clone().map_err(failed("cannot copy a descriptor"));
            let stdio = [copy()?, copy()?, copy()?];
            (Some(pair.master), stdio)
        }
    };
    let program = Program {
        argv: request.argv,
        env: request.env,
        dir: request.dir,
        user: request.user,
        group: request.group,
        terminal: terminal.is_some(),
    };
    let spec = plan::enter(live, init, !live.idmap.uids.is_empty(), program)?;
    let text = serde_json::to_vec(&spec).map_err(|error| Error::internal(error.to_string()))?;
    let memfd = rustix::fs::memfd_create("domus-enter", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|errno| failed("cannot make a memfd")(errno.into()))?;
    let mut memfd = std::fs::File::from(memfd);
    memfd.write_all(&text).map_err(failed("cannot write a memfd"))?;
    let (ours, theirs) = packet::pair().map_err(failed("cannot make a socket pair"))?;
    let process = spawn_entry(EntrySpec {
        argv: vec![format!("/proc/self/fd/{BINARY_FD}"), "enter".into(), live.name.clone()],
        stdio,
        fds: vec![(SPEC_FD, memfd.into()), (CONTROL_FD, theirs), (BINARY_FD, shared.sealed.get()?)],
        cgroup_procs,
    })?;
    Ok((Exec { control: ours, terminal }, process))
}
