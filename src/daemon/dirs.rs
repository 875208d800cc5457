//! Where things live.
//!
//! | | `--root DIR` | root | an ordinary user |
//! | --- | --- | --- | --- |
//! | state | DIR/state | /var/lib/domus | $XDG_STATE_HOME/domus |
//! | run | DIR/run | /run/domus | $XDG_RUNTIME_DIR/domus |
//! | log | DIR/log | /var/log/domus | $XDG_STATE_HOME/domus/log |
//! | cache | DIR/cache | /var/cache/domus | $XDG_CACHE_HOME/domus |

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Name of our own D-Bus socket in the run-time directory.
const SOCKET: &str = "dbus-sock";

/// The directories of one daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// Definitions and records: what must survive a boot.
    pub state: PathBuf,
    /// Sockets and run-time files: what must not.
    pub run: PathBuf,
    pub log: PathBuf,
    /// What can be made again.
    pub cache: PathBuf,
    /// `--root`, absolute.
    pub root: Option<PathBuf>,
}

/// A directory that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    #[error("cannot create directory {path}: {error}")]
    Create { path: PathBuf, error: std::io::Error },
    #[error("cannot find directory {path}: {error}")]
    Resolve { path: PathBuf, error: std::io::Error },
    #[error("{0} is not set: it is needed to run as an ordinary user; set it, or use --root DIR")]
    Environment(&'static str),
}

impl Dirs {
    /// The directories for `--root`, or for the calling user without it. Makes nothing.
    pub fn choose(root: Option<&Path>) -> Result<Dirs, DirError> {
        if let Some(root) = root {
            let root =
                std::path::absolute(root).map_err(|error| DirError::Resolve { path: root.to_path_buf(), error })?;
            return Ok(Dirs::below(root));
        }
        if nix::unistd::geteuid().is_root() {
            return Ok(Dirs {
                state: "/var/lib/domus".into(),
                run: "/run/domus".into(),
                log: "/var/log/domus".into(),
                cache: "/var/cache/domus".into(),
                root: None,
            });
        }
        let state = user_dir("XDG_STATE_HOME", ".local/state")?;
        Ok(Dirs {
            run: variable("XDG_RUNTIME_DIR").ok_or(DirError::Environment("XDG_RUNTIME_DIR"))?.join("domus"),
            log: state.join("domus/log"),
            state: state.join("domus"),
            cache: user_dir("XDG_CACHE_HOME", ".cache")?.join("domus"),
            root: None,
        })
    }

    fn below(root: PathBuf) -> Dirs {
        Dirs {
            state: root.join("state"),
            run: root.join("run"),
            log: root.join("log"),
            cache: root.join("cache"),
            root: Some(root),
        }
    }

    /// Our own D-Bus socket.
    pub fn socket(&self) -> PathBuf {
        self.run.join(SOCKET)
    }

    /// Our own sockets of libvirt's protocol: for everything, and for reading only.
    pub fn rpc_sockets(&self) -> [PathBuf; 2] {
        [self.run.join("libvirt-sock"), self.run.join("libvirt-sock-ro")]
    }

    /// The configuration file that is read unless another is named.
    pub fn config(&self) -> PathBuf {
        let own = self.root.as_ref().map(|root| root.join("domusd.toml")).filter(|path| path.exists());
        let user = || user_dir("XDG_CONFIG_HOME", ".config").ok().map(|dir| dir.join("domus/domusd.toml"));
        let user = || if nix::unistd::geteuid().is_root() { None } else { user() };
        own.or_else(user).unwrap_or_else(|| "/etc/domus/domusd.toml".into())
    }

    /// Makes what is missing. State is for the daemon alone; the rest can be passed through, because QEMU's user and
    /// the clients of the socket must get to files whose paths they are given.
    pub fn create(&self) -> Result<(), DirError> {
        if let Some(root) = &self.root {
            create(root, 0o755)?;
        }
        create(&self.state, 0o700)?;
        create(&self.run, 0o755)?;
        create(&self.log, 0o711)?;
        create(&self.cache, 0o711)
    }
}

fn create(path: &Path, mode: u32) -> Result<(), DirError> {
    if path.is_dir() {
        return Ok(());
    }
    let failed = |error| DirError::Create { path: path.to_path_buf(), error };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::DirBuilder::new().mode(mode).create(path).map_err(failed)
}

/// An absolute path from the environment; the XDG rules say that others are to be ignored.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn user_dir(name: &'static str, below_home: &str) -> Result<PathBuf, DirError> {
    variable(name).or_else(|| variable("HOME").map(|home| home.join(below_home))).ok_or(DirError::Environment("HOME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_holds_everything() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("a/b");
        let dirs = Dirs::choose(Some(&root)).unwrap();
        dirs.create().unwrap();
        dirs.create().unwrap();
        assert_eq!(dirs.socket(), root.join("run/dbus-sock"));
        for path in [&dirs.state, &dirs.run, &dirs.log, &dirs.cache] {
            assert!(path.is_dir() && path.starts_with(&root), "{}", path.display());
        }
    }

    #[test]
    fn a_relative_root_is_made_absolute() {
        let dirs = Dirs::choose(Some(Path::new("here"))).unwrap();
        assert!(dirs.run.is_absolute() && dirs.run.ends_with("here/run"));
    }
}
