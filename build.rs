//! Links `domus-run` statically where the C library allows it.
//!
//! The supervisor is executed once per container: the dynamic loader and its relocations took three quarters of that
//! program's start, and a static program does not depend on the libraries of a host that is being upgraded. The
//! daemon and the client stay dynamic, because they look up users through the host's name service.
//!
//! Cargo has no crt-static for one binary of a package, so the flags that rustc would use are added to its link line.
//! Whether that works with this toolchain a small program finds out; if it does not, the supervisor is dynamic too.

#![allow(clippy::disallowed_methods)] // nothing here runs on a user's host

use std::path::{Path, PathBuf};
use std::process::Command;

/// Libraries that rustc names on the link line and that are part of the C library.
const LIBRARIES: [&str; 5] = ["libm.a", "libpthread.a", "libdl.a", "librt.a", "libutil.a"];

/// Panics, unwinds, reads a directory and uses a thread, like the supervisor could.
const PROBE: &str = r#"
fn main() {
    std::panic::set_hook(Box::new(|_| ()));
    let unwound = std::thread::spawn(|| std::panic::catch_unwind(|| panic!("x")).is_err()).join().unwrap();
    let read = std::fs::read_dir("/").is_ok() && std::env::args().count() as f64 > 0.5_f64.sin();
    std::process::exit(if unwound && read { 42 } else { 1 });
}
"#;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |key: &str, value: &str| std::env::var(key).is_ok_and(|found| found == value);
    let native = std::env::var("HOST").ok() == std::env::var("TARGET").ok();
    if !native || !is("CARGO_CFG_TARGET_OS", "linux") || !is("CARGO_CFG_TARGET_ENV", "gnu") {
        return;
    }
    if let Some(flags) = std::env::var_os("OUT_DIR").and_then(|out| static_flags(Path::new(&out))) {
        for flag in flags {
            println!("cargo:rustc-link-arg-bin=domus-run={flag}");
        }
    }
}

/// Flags for the link line, when a program linked with them runs.
fn static_flags(out: &Path) -> Option<Vec<String>> {
    let dir = out.join("static");
    std::fs::create_dir_all(&dir).ok()?;
    let libc = library("libc.a")?;
    // In a directory that is searched first, an archive wins over the system's shared library.
    write(&dir.join("libc.a"), &format!("GROUP({} -lgcc_eh)\n", libc.display()))?;
    write(&dir.join("libgcc_s.a"), "INPUT(-lgcc_eh)\n")?;
    for name in LIBRARIES {
        if let Some(path) = library(name) {
            let link = dir.join(name);
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(path, link).ok()?;
        }
    }
    let flags = vec![
        format!("-L{}", dir.display()),
        "-static-pie".to_string(),
        // A weak symbol that nobody defines is null, not the address that the program was loaded at.
        "-Wl,-z,nodynamic-undefined-weak".to_string(),
    ];
    runs(&dir, &flags).then_some(flags)
}

fn write(path: &Path, text: &str) -> Option<()> {
    std::fs::write(path, text).ok()
}

/// Where the C compiler finds a library of the C library.
fn library(name: &str) -> Option<PathBuf> {
    let output = Command::new("cc").arg(format!("-print-file-name={name}")).output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.is_absolute().then_some(path)
}

fn runs(dir: &Path, flags: &[String]) -> bool {
    let (source, program) = (dir.join("probe.rs"), dir.join("probe"));
    if write(&source, PROBE).is_none() {
        return false;
    }
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2021", "-O", "-o"]).arg(&program).arg(&source);
    for flag in flags {
        rustc.arg("-C").arg(format!("link-arg={flag}"));
    }
    let built = rustc.output().is_ok_and(|output| output.status.success());
    built && Command::new(&program).status().is_ok_and(|status| status.code() == Some(42))
}
