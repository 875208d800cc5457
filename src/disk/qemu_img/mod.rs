//! `qemu-img`, the program that knows image formats, as a process that can do little else.
//!
//! What it reads was written by guests, so it runs as an unprivileged user without groups, capabilities or a way to get
//! any, within limits of memory, processor time and file size, and dies with the daemon. It opens nothing by a path of
//! the host: every file comes as a descriptor, named `/proc/self/fd/N` ([`hand`]). Formats are always said, never
//! probed, and backing chains are spelled out layer by layer. Passphrases come through a descriptor too.
//!
//! [`plan`] knows its arguments and is pure; [`Tool`] runs them.

pub mod hand;
pub mod plan;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::progress::Progress;
use crate::error::{Code, Error, Result};
use crate::sys::exec::{self, Limit, Options, Watch};
pub use hand::{Access, Hand};

/// Where distributions put it.
const PROGRAM: &str = "/usr/bin/qemu-img";
/// Enough for its buffers, thread stacks and arenas; what a crafted header asks for beyond that is refused.
const MEMORY: u64 = 4 << 30;
/// Processor seconds for what needs no copying of data.
const SECONDS: u64 = 120;
/// Longer than any conversion we know of; a hanging one is cancelled by whoever asked.
const FOREVER: Duration = Duration::from_secs(7 * 24 * 3600);

/// The program and who it runs as.
#[derive(Clone, Debug)]
pub struct Tool {
    program: PathBuf,
    user: Option<(u32, u32)>,
}

impl Default for Tool {
    fn default() -> Self {
        Tool::new(None)
    }
}

impl Tool {
    /// `user` is the user and group of guests' processes; a daemon that is not root runs it as itself.
    pub fn new(user: Option<(u32, u32)>) -> Tool {
        let root = rustix::process::geteuid().is_root();
        Tool { program: PathBuf::from(PROGRAM), user: user.filter(|_| root) }
    }

    /// Another program, for tests.
    pub fn with_program(self, program: &Path) -> Tool {
        Tool { program: program.to_path_buf(), ..self }
    }

    /// User and group it runs as.
    pub fn user(&self) -> (u32, u32) {
        self.user.unwrap_or_else(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()))
    }

    /// Whether the program is there.
    pub fn installed(&self) -> bool {
        self.program.exists()
    }

    /// A new collection of files to hand over.
    pub fn hand(&self) -> Hand {
        Hand::new(self.user())
    }

    /// Runs it with `args` and the files of `hand`. `writes` is how many bytes it may make a file long, `work` how many
    /// it has to move. Dropping the future or cancelling `progress` kills it. Errors: code 1 with what it said (on a
    /// full disk that it is full), 78 when cancelled.
    pub async fn run(
        &self,
        args: &[String],
        hand: Hand,
        writes: u64,
        work: u64,
        progress: Option<Arc<Progress>>,
    ) -> Result<()> {
        if !self.installed() {
            return Err(Error::internal(format!(
                "creation of non-raw file images is not supported without qemu-img: '{}' is missing; install qemu-utils",
                self.program.display()
            )));
        }
        let user = hand.runs_as();
        let options = Options {
            timeout: FOREVER,
            env: vec![("MALLOC_ARENA_MAX".into(), "2".into())],
            user: rustix::process::geteuid().is_root().then_some(user),
            limits: vec![
                (Limit::Core, 0),
                (Limit::OpenFiles, 1024),
                (Limit::AddressSpace, MEMORY),
                (Limit::CpuSeconds, SECONDS + work / (1 << 20)),
                (Limit::FileSize, writes.saturating_add(writes / 8).saturating_add(64 << 20)),
            ],
            max_output: 1 << 20,
            fds: hand.into_fds(),
            dies_with_us: true,
            powerless: true,
            watch: progress.clone().map(|progress| watch(progress, work)),
            ..Options::default()
        };
        let running = exec::run(&self.program, args, options);
        let result = match &progress {
            Some(progress) => tokio::select! {
                result = running => result,
                () = progress.cancelled() => return Err(Error::new(Code::OperationAborted, "the job was cancelled")),
            },
            None => running.await,
        };
        result.map(drop).map_err(Error::from)
    }
}

/// Reads the percentages of `-p`: `    (12.34/100%)\r`.
fn watch(progress: Arc<Progress>, work: u64) -> Watch {
    let rest = std::sync::Mutex::new(Vec::new());
    Watch(Arc::new(move |piece| {
        let mut rest = rest.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        rest.extend_from_slice(piece);
        if let Some((done, used)) = last_percentage(&rest) {
            rest.drain(..used);
            // Of hundredths, so that it stays in integers.
            progress.set_done(u64::try_from(u128::from(work) * u128::from(done) / 10_000).unwrap_or(u64::MAX));
        }
        // It says nothing else that long.
        if rest.len() > 4096 {
            rest.clear();
        }
    }))
}

/// The last complete percentage, in hundredths of a percent, and how many bytes were read for it.
fn last_percentage(bytes: &[u8]) -> Option<(u64, usize)> {
    let end = bytes.windows(6).rposition(|window| window == b"/100%)")?;
    let start = bytes[..end].iter().rposition(|byte| *byte == b'(')? + 1;
    let text = std::str::from_utf8(&bytes[start..end]).ok()?;
    let (whole, fraction) = text.split_once('.')?;
    let hundredths = whole.parse::<u64>().ok()? * 100 + fraction.get(..2)?.parse::<u64>().ok()?;
    Some((hundredths.min(10_000), end + 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read_as_they_come() {
        assert_eq!(last_percentage(b"    (12.34/100%)\r    (13.00/100%)\r   (14"), Some((1300, 33)));
        assert_eq!(last_percentage(b"    (12.34/10"), None);
        assert_eq!(last_percentage(b"(x/100%)"), None);
        let progress = Arc::new(Progress::new(0));
        let watch = watch(progress.clone(), 1000);
        for piece in ["    (50.", "00/100%", ")\r"] {
            (watch.0)(piece.as_bytes());
        }
        assert_eq!(progress.done(), 500);
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let tool = Tool::default().with_program(Path::new("/nonexistent/qemu-img"));
        let error = tool.run(&[], tool.hand(), 0, 0, None).await.unwrap_err();
        assert!(error.message().contains("'/nonexistent/qemu-img' is missing; install"), "{error}");
    }
}
