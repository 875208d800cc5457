//! Programs inside guests.

use std::os::fd::OwnedFd;

use super::{call, check_flags};
use crate::engine::Domain;
use crate::engine::driver::{Exec, ExecRequest};
use crate::engine::state::Phase;
use crate::error::{Error, Result};

/// The program gets a terminal of its own.
pub const TERMINAL: u32 = 1;

/// Arguments of `domusDomainExec`.
#[derive(Debug)]
pub struct ExecArgs {
    pub argv: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    pub user: Option<String>,
    pub group: Option<String>,
    pub dir: Option<String>,
    /// Three, or none with [`TERMINAL`].
    pub stdio: Vec<OwnedFd>,
    /// Rows and columns.
    pub size: (u16, u16),
    pub flags: u32,
}

fn environment(env: Vec<String>) -> Result<Vec<(String, String)>> {
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err(Error::invalid_arg(format!("'{word}' is no NAME=VALUE"))),
    };
    env.into_iter().map(pair).collect()
}

call! {
    /// Runs a program in a container (`virDomainLxcOpenNamespace` and all that its callers do with it).
    RunProgram = "domusDomainExec", Write, "domain:open_namespace";
    (caller, on: Domain, args => ExecArgs) -> Exec {
        let ExecArgs { argv, env, user, group, dir, stdio, size, flags } = args;
        check_flags(on, flags, TERMINAL, "domusDomainExec")?;
        if argv.first().is_none_or(String::is_empty) {
            return Err(Error::invalid_arg("a program to run must be given"));
        }
        if let Some(dir) = dir.as_ref().filter(|dir| !dir.starts_with('/')) {
            return Err(Error::invalid_arg(format!("directory '{dir}' is not an absolute path inside the guest")));
        }
        let env = environment(env)?;
        let stdio = match (flags & TERMINAL != 0, stdio.len()) {
            (true, 0) => None,
            (false, 3) => <[OwnedFd; 3]>::try_from(stdio).ok(),
            (true, _) => return Err(Error::invalid_arg("with a terminal of its own a program takes no standard streams")),
            (false, count) => {
                return Err(Error::invalid_arg(format!("three standard streams are wanted, {count} were given")));
            }
        };
        let snapshot = on.snapshot();
        let (Some(instance), Some(live)) = (&snapshot.instance, &snapshot.live) else {
            return Err(Error::invalid_state("domain is not running"));
        };
        // A paused container's programs stand, a new one would too: its caller would only wonder.
        if snapshot.phase != Phase::Running {
            return Err(Error::invalid_state(format!("domain is {}", snapshot.phase.word())));
        }
        instance.exec(live, ExecRequest { argv, env, dir, user, group, stdio, size }).await
    }
}
