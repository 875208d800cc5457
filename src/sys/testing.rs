//! Helpers of the unit tests that need a network namespace of their own.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `test` on a thread with a fresh network namespace (gone when the thread ends); skips, saying so, without the
/// privilege to make one.
pub(crate) fn in_netns(name: &str, test: impl FnOnce() + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP {name}: needs root for a network namespace");
        return;
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
                eprintln!("SKIP {name}: cannot make a network namespace: {error}");
                return Ok(());
            }
            catch_unwind(AssertUnwindSafe(test))
        });
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(panic)) | Err(panic) => resume_unwind(panic),
        }
    });
}

/// The same with a current-thread runtime in that namespace.
pub(crate) fn in_netns_async(name: &str, test: impl AsyncFnOnce() + Send) {
    in_netns(name, || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
    });
}
