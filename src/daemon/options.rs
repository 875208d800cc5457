//! Command line.

use std::path::PathBuf;

use clap::{ArgAction, Parser, ValueEnum};

/// Form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Runs virtual machines from libvirt domain XML, driven over D-Bus.
///
/// Serves its own socket always (RUN/dbus-sock, no message bus needed), and message buses when asked to.
/// Guests run on when the daemon stops; the next start finds them again.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "domusd", version)]
pub struct Options {
    /// Configuration file [default: DIR/domusd.toml with --root, if it is there; else /etc/domus/domusd.toml, or
    /// $XDG_CONFIG_HOME/domus/domusd.toml for an ordinary user]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Keep everything below DIR: DIR/state, DIR/run (with the sockets), DIR/log, DIR/cache
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Serve org.libvirt on the system bus
    #[arg(long, conflicts_with = "session")]
    pub system: bool,

    /// Serve org.libvirt on the session bus
    #[arg(long)]
    pub session: bool,

    /// Serve org.libvirt on the bus at this D-Bus address; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub bus: Vec<String>,

    /// The test driver alone: guests that exist in memory only; no privileges needed
    #[arg(long)]
    pub mock: bool,

    /// Path of the daemon's own D-Bus socket [default: dbus-sock in the run-time directory]
    #[arg(long, value_name = "PATH")]
    pub listen: Option<PathBuf>,

    /// Directories with firmware descriptors, most important first [default: /etc/qemu/firmware:/usr/share/qemu/firmware,
    /// and before them $XDG_CONFIG_HOME/qemu/firmware for an ordinary user]; a directory that has etc/qemu/firmware or
    /// usr/share/qemu/firmware stands for these
    #[arg(long, value_name = "DIR[:DIR]")]
    pub firmware_path: Option<std::ffi::OsString>,

    /// Form of log lines
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// What to log: error, warn, info, debug, trace, or filters as in "info,domus::qemu=debug"
    /// [env: DOMUS_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log_level: Option<String>,

    /// Log more; twice: everything
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "log_level")]
    pub verbose: u8,

    /// Serve all of libvirt's socket names (libvirt-sock, virtqemud-sock, virtlxcd-sock and their -ro forms) in DIR as
    /// well, so that qemu:///system reaches this daemon with DIR=/run/libvirt
    #[arg(long, value_name = "DIR")]
    pub libvirt_directory: Option<PathBuf>,

    /// Print which D-Bus members are served, as Markdown, and end
    #[arg(long)]
    pub print_dbus_coverage: bool,

    /// Print which procedures of libvirt's protocol are served, as Markdown, and end
    #[arg(long)]
    pub print_rpc_coverage: bool,
}

impl Options {
    /// The log filter that the command line asks for.
    pub fn log_filter(&self) -> Option<String> {
        match (&self.log_level, self.verbose) {
            (Some(filter), _) => Some(filter.clone()),
            (None, 0) => None,
            (None, 1) => Some("info,domus=debug".into()),
            (None, _) => Some("debug,domus=trace".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn both_buses_at_once_are_refused() {
        assert!(Options::try_parse_from(["domusd", "--system", "--session"]).is_err());
        let options = Options::try_parse_from(["domusd", "--bus", "unix:path=/a", "--bus", "unix:path=/b"]).unwrap();
        assert_eq!(options.bus.len(), 2);
    }
}
