//! A program without the standard library's preparations: for one that is executed for every container.
//!
//! What they do costs a dozen system calls and the pages they touch (the stack's bounds from /proc/self/maps, an
//! alternative stack and two handlers for a message on stack overflow). Such a program is to have one thread; it starts
//! with descriptors 0 to 2 open.

use std::ffi::c_char;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use nix::libc;

/// Where the arguments are, from the first byte of the first to the NUL of the last: what `ps` shows.
static ARGUMENTS: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// The program's `main`, which calls `$main` (`fn() -> u8`, the exit status). With the C library whose start-up code
/// hands the arguments to `std::env`; elsewhere the ordinary one.
#[macro_export]
macro_rules! bare_main {
    ($main:path) => {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        // SAFETY: the one symbol of this name: the program has no `main` of Rust's (`no_main`).
        #[unsafe(no_mangle)]
        extern "C" fn main(argc: i32, argv: *const *mut std::ffi::c_char) -> i32 {
            // SAFETY: the C library's start-up code hands over the kernel's arguments, and this is the only call.
            unsafe { $crate::sys::bare::begin(argc, argv) };
            i32::from($main())
        }
        #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
        fn main() -> std::process::ExitCode {
            std::process::ExitCode::from($main())
        }
    };
}

/// What is left of the preparations: a pipe that nobody reads is an error of the write, not the end of the process.
///
/// # Safety
/// `argc` and `argv` are those of the program's `main`, whose memory nobody else writes; called once, before there is
/// another thread.
pub unsafe fn begin(argc: i32, argv: *const *mut c_char) {
    // SAFETY: SIG_IGN installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let Ok(count @ 1..) = usize::try_from(argc) else { return };
    // SAFETY: by the contract `argv` has `argc` entries, each a string that ends with a NUL.
    let (first, last, length) = unsafe {
        let (first, last) = (*argv, *argv.add(count - 1));
        (first, last, libc::strlen(last))
    };
    ARGUMENTS.store(first.cast(), Ordering::Relaxed);
    LENGTH.store(last as usize + length + 1 - first as usize, Ordering::Relaxed);
}

/// Makes `words` the process's arguments, as `/proc/PID/cmdline` and `ps` show them; what does not fit into the room of
/// those it was started with is cut off. For a program that [`begin`] began; elsewhere nothing happens.
pub fn set_arguments(words: &[&str]) {
    let (start, length) = (ARGUMENTS.load(Ordering::Relaxed), LENGTH.load(Ordering::Relaxed));
    if start.is_null() {
        return;
    }
    let mut text: Vec<u8> = words.iter().flat_map(|word| word.bytes().chain([0])).collect();
    text.resize(length, 0);
    text[length - 1] = 0;
    // SAFETY: the kernel puts the strings one after the other, so these `length` bytes are the arguments' (`begin`), which
    // nobody reads meanwhile: a program of `bare_main!` has one thread. The last byte ends whatever is read later.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), start, length) };
}
