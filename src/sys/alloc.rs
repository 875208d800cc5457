//! The C library's allocator.

/// Lets all threads share two arenas. Each keeps the most that any call ever took of it, and a daemon whose calls run on
/// dozens of threads that come and go would keep that much sixteen times and more. To be called before there is a second
/// thread; no effect with other C libraries than glibc.
pub fn share_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets one number of the allocator (mallopt(3)); no memory is handed over.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 2)
    };
}
