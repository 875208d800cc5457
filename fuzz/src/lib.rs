//! Fuzz targets: every parser of bytes that come from elsewhere.
//!
//! Each target is a function from bytes to an [`Outcome`]: it panics when a promise is broken. Under libFuzzer
//! (`cargo +nightly fuzz run xml`) the outcome is thrown away; on stable the harness in [`harness`] mutates a corpus and
//! keeps what ends in a way not seen before.

pub mod harness;
pub mod targets;

/// How an input ended, as a number: inputs that end alike have the same one.
pub type Outcome = u64;

/// The program of one target: libFuzzer's entry under `--cfg fuzzing`, else a `main` with the harness.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            let _ = $crate::targets::$name::run(data);
        });

        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            $crate::harness::main(stringify!($name), $crate::targets::$name::run, $crate::targets::$name::seeds)
        }
    };
}

/// A hash that is the same in every run.
pub fn hash(parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Outcome {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.as_ref() {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        state = (state ^ 0xff).wrapping_mul(0x0100_0000_01b3);
    }
    state
}

/// The shape of an error text: without quoted values, numbers and places, so that one message is one outcome.
pub fn shape(text: &str) -> Outcome {
    let text = text.split(" (line ").next().unwrap_or_default().split('\n').next().unwrap_or_default();
    let mut out = String::new();
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '\'' | '"' | '`' => quoted = !quoted,
            _ if quoted => {}
            c if c.is_ascii_digit() => {}
            c => out.push(c),
        }
    }
    hash([out])
}
