//! The fork server: every supervisor of a daemon is forked from this one process of the program.
//!
//! A fork of a small process costs half of what it costs to execute the program again: no new memory map, no relocation,
//! no start-up code of the C library, whose questions to the processor a hypervisor has to answer. It knows nothing of
//! containers, keeps nothing, and ends with the daemon that started it; the supervisors go on.

use std::os::fd::OwnedFd;

use super::supervisor::Start;
use super::{Context, Failure, REFUSED, Result, control, failure, read_spec, refuse, start, supervise};
use crate::lxc::protocol::{BINARY_FD, BIRTHS_FD, Birth};
use crate::sys::clone::{Forked, SingleThread, clone3};
use crate::sys::{self, bare, packet};

/// A [`Birth`] with what came with it.
struct Request {
    birth: Birth,
    spec: OwnedFd,
    control: OwnedFd,
    output: OwnedFd,
    pidfile: OwnedFd,
    group: Option<OwnedFd>,
    doors: Vec<OwnedFd>,
    files: Vec<OwnedFd>,
}

impl Request {
    /// `Err` with the connection to tell it on, if there is one.
    fn new(data: &[u8], fds: Vec<OwnedFd>) -> Result<Request, (Failure, Option<OwnedFd>)> {
        let mut fds = fds.into_iter();
        let (spec, control) = (fds.next(), fds.next());
        let mut parse = || {
            let birth: Birth = serde_json::from_slice(data)
                .map_err(|error| Failure { stage: "birth".to_string(), message: error.to_string() })?;
            let (Some(output), Some(pidfile)) = (fds.next(), fds.next()) else {
                return failure("birth", "descriptors are missing");
            };
            let group = if birth.born_in { fds.next() } else { None };
            let doors: Vec<OwnedFd> = fds.by_ref().take(birth.doors).collect();
            if group.is_some() != birth.born_in || doors.len() != birth.doors {
                return failure("birth", "descriptors of groups are missing");
            }
            Ok((birth, output, pidfile, group, doors))
        };
        match (parse(), spec, control) {
            (Ok((birth, output, pidfile, group, doors)), Some(spec), Some(control)) => {
                Ok(Request { birth, spec, control, output, pidfile, group, doors, files: fds.collect() })
            }
            (Err(failure), _, control) => Err((failure, control)),
            (_, _, control) => {
                let message = "descriptors are missing".to_string();
                Err((Failure { stage: "birth".to_string(), message }, control))
            }
        }
    }
}

/// Serves until whoever started us is gone; in a fork, the supervisor's exit status.
pub fn main() -> u8 {
    let Some(births) = sys::clone::inherited_fd(BIRTHS_FD) else {
        eprintln!("domus-run: fd {BIRTHS_FD} is not open");
        return REFUSED;
    };
    if !sys::weakened("keep-fds") {
        drop(sys::clone::inherited_fd(BINARY_FD));
        let _ = sys::clone::close_from(BINARY_FD as u32 + 1);
    }
    let _ = nix::sys::prctl::set_name(c"domus-run");
    let Ok(alone) = SingleThread::prove() else { return REFUSED };
    // Nobody here waits for a supervisor: the daemon holds it by descriptor, and one that came later is not its parent.
    sys::clone::reap_by_kernel(true);
    loop {
        let (data, fds) = match packet::recv(&births) {
            Ok(Some(packet)) => packet,
            Ok(None) => return 0,
            Err(error) => {
                eprintln!("domus-run: births: {error}");
                return 1;
            }
        };
        let request = match Request::new(&data, fds) {
            Ok(request) => request,
            Err((failure, control)) => {
                if let Some(control) = control {
                    control::report_failure(&control, &failure);
                }
                continue;
            }
        };
        match fork(&request, &alone) {
            Ok((Forked::Parent { .. }, _)) => {}
            Ok((Forked::Child, in_group)) => {
                drop(births);
                return begin(request, in_group);
            }
            Err(failure) => control::report_failure(&request.control, &failure),
        }
    }
}

/// Also says whether it was born in its group, which not every kernel and machine can do.
fn fork(request: &Request, alone: &SingleThread) -> Result<(Forked, bool)> {
    use std::os::fd::AsFd;
    let born = request.group.as_ref().and_then(|group| clone3(0, Some(group.as_fd()), alone).ok());
    match born {
        Some(forked) => Ok((forked, true)),
        None => Ok((clone3(0, None, alone).at("clone", "cannot fork a supervisor")?, false)),
    }
}

/// In the fork: becomes what a program executed for this container would be.
fn begin(request: Request, in_group: bool) -> u8 {
    let Request { birth, spec, control, output, pidfile, group, doors, files } = request;
    bare::set_arguments(&["domus-run", "supervise", &birth.name]);
    sys::clone::reap_by_kernel(false);
    let prepare = || {
        if let Some(group) = group.filter(|_| !in_group) {
            let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
            let procs = rustix::fs::openat(&group, "cgroup.procs", flags, rustix::fs::Mode::empty())
                .at("cgroup", "cannot open the supervisor's group")?;
            start::join_cgroup(&procs, std::path::Path::new("cgroup.procs"))?;
        }
        for door in &doors {
            start::join_cgroup(door, std::path::Path::new("tasks"))?;
        }
        rustix::stdio::dup2_stdout(&output).at("fds", "cannot redirect the output")?;
        rustix::stdio::dup2_stderr(&output).at("fds", "cannot redirect the output")?;
        read_spec(spec)
    };
    let spec = match prepare() {
        Ok(spec) => spec,
        Err(failure) => return refuse(&control, &failure),
    };
    drop((doors, output));
    supervise(Start { spec, control, pidfile: Some(pidfile) }, files)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};

    use super::*;

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn what_comes_with_a_birth_is_told_apart() {
        let fds: Vec<OwnedFd> = (0..8).map(|_| null()).collect();
        let numbers: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let birth = Birth { name: "one".into(), born_in: true, doors: 2 };
        let Ok(request) = Request::new(&serde_json::to_vec(&birth).unwrap(), fds) else { panic!("refused") };
        let all = [&request.spec, &request.control, &request.output, &request.pidfile, request.group.as_ref().unwrap()];
        let all = all.into_iter().chain(&request.doors).chain(&request.files);
        assert_eq!(all.map(AsRawFd::as_raw_fd).collect::<Vec<_>>(), numbers);
        assert_eq!((request.doors.len(), request.files.len()), (2, 1));
    }

    #[rstest::rstest]
    #[case::no_birth(b"{}".as_slice(), 8)]
    #[case::nothing(b"".as_slice(), 8)]
    #[case::no_descriptors(br#"{"name":"one","born_in":false,"doors":0}"#.as_slice(), 0)]
    #[case::no_pid_file(br#"{"name":"one","born_in":false,"doors":0}"#.as_slice(), 3)]
    #[case::no_group(br#"{"name":"one","born_in":true,"doors":0}"#.as_slice(), 4)]
    #[case::no_doors(br#"{"name":"one","born_in":true,"doors":3}"#.as_slice(), 7)]
    fn what_is_incomplete_is_refused(#[case] data: &[u8], #[case] count: usize) {
        let refused = Request::new(data, (0..count).map(|_| null()).collect()).err().unwrap();
        assert_eq!(refused.1.is_some(), count > 1, "whoever waits is told: {}", refused.0);
    }

    #[test]
    fn whoever_waits_is_told() {
        let (ours, theirs) = packet::pair().unwrap();
        let refused = Request::new(b"?", vec![null(), theirs]).err().unwrap();
        control::report_failure(&refused.1.unwrap(), &refused.0);
        let (hello, _) = packet::recv(ours.as_fd()).unwrap().unwrap();
        assert!(String::from_utf8(hello).unwrap().contains("\"start\":0"));
        let (ended, _) = packet::recv(ours.as_fd()).unwrap().unwrap();
        assert!(String::from_utf8(ended).unwrap().contains("birth: "));
    }
}
