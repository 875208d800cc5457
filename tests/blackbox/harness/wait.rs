//! Waiting for what happens by itself, always with a bound.

use std::time::{Duration, Instant};

/// Polls until `check` gives a value; `None` after `limit`.
pub fn soon<T>(limit: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = check() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Like [`soon`], but the test fails when it does not come.
pub fn eventually<T>(what: &str, limit: Duration, check: impl FnMut() -> Option<T>) -> T {
    soon(limit, check).unwrap_or_else(|| panic!("{what}: not within {} s", limit.as_secs()))
}
