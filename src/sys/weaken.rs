//! Weakening points: named defences that a test switches off, to see that its attack would be noticed.
//!
//! `DOMUS_WEAKEN=NAME,NAME` in a build with debug assertions. Any other build has no such thing: the function is a
//! constant, the variable is not read, the names are not in the binary. This file depends on nothing, so that
//! `tests/attack` can compile it as a release and look.

/// The variable.
#[cfg(debug_assertions)]
pub const VARIABLE: &str = "DOMUS_WEAKEN";

/// Whether the defence `name` is to be left out. One line at the place of the defence, and a row in
/// `docs/SECURITY_TESTS.md`.
#[cfg(debug_assertions)]
pub fn weakened(name: &str) -> bool {
    static NAMES: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let names = NAMES.get_or_init(|| std::env::var(VARIABLE).unwrap_or_default());
    names.split(',').any(|known| known == name)
}

/// Never.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn weakened(_name: &str) -> bool {
    false
}

/// What a process started by a test passes on to those it starts.
#[cfg(debug_assertions)]
pub fn inherited() -> Option<(String, String)> {
    Some((VARIABLE.to_string(), std::env::var(VARIABLE).ok()?))
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub const fn inherited() -> Option<(String, String)> {
    None
}
