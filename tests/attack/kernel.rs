//! The kernel's own files and calls.

use crate::harness::{Outcome, verdict};
use crate::lxc_support::*;
use crate::probe::{run, say};

/// Unreadable, by what a reader gets: not one byte (an empty file or an error).
const UNREADABLE: [&str; 10] = [
    "acpi",
    "asound",
    "kallsyms",
    "kcore",
    "keys",
    "latency_stats",
    "timer_list",
    "timer_stats",
    "sched_debug",
    "scsi",
];
/// Not to be written; each is only opened, and closed again.
const UNWRITABLE: [&str; 7] = [
    "sysrq-trigger",
    "sys/kernel/core_pattern",
    "sys/kernel/modprobe",
    "sys/vm/drop_caches",
    "irq/default_smp_affinity",
    "bus/pci/devices",
    "fs/ext4/vda/mb_groups",
];

/// In a privileged container, where no ownership helps.
pub fn proc_files_of_the_host() -> Outcome {
    let here = |name: &&str| std::path::Path::new("/proc").join(name).exists();
    let (readable, writable): (Vec<_>, Vec<_>) =
        (UNREADABLE.into_iter().filter(here).collect(), UNWRITABLE.into_iter().filter(here).collect());
    assert!(readable.len() >= 3 && writable.len() >= 3, "this /proc has nothing to protect: {readable:?} {writable:?}");
    let script = format!(
        "for f in {}; do if test -d /proc/$f; then n=$(ls /proc/$f | wc -l); else n=$(head -c 1 /proc/$f | wc -c); fi
         test $n = 0 || echo \"reads /proc/$f\"; done
         for f in {}; do if (: >> /proc/$f) 2>/dev/null; then echo \"writes /proc/$f\"; fi; done; echo done",
        readable.join(" "),
        writable.join(" ")
    );
    let (record, log) = run_script(&script, |spec, _| spec.ids = None);
    assert_eq!(record.message, None);
    assert!(log.ends_with("done\n"), "{log}");
    let broken = log.lines().filter(|line| line.starts_with("reads /") || line.starts_with("writes /"));
    verdict(&broken.map(str::to_string).collect::<Vec<_>>())
}

/// x86_64, x32 and i386 numbers of: init_module, delete_module, finit_module, kexec_load, kexec_file_load,
/// open_by_handle_at, bpf, perf_event_open, umount2. 0: the convention has none.
const CALLS: [(&str, [i64; 3]); 9] = [
    ("init_module", [175, 175, 128]),
    ("delete_module", [176, 176, 129]),
    ("finit_module", [313, 313, 350]),
    ("kexec_load", [246, 528, 283]),
    ("kexec_file_load", [320, 320, 0]),
    ("open_by_handle_at", [304, 304, 342]),
    ("bpf", [321, 321, 357]),
    ("perf_event_open", [298, 298, 336]),
    ("umount2-forced", [166, 166, 52]),
];
const CONVENTIONS: [&str; 3] = ["x86_64", "x32", "i386"];
const X32_BIT: i64 = 0x4000_0000;

/// A call by the old gate, which takes i386 numbers from any program. The arguments are numbers, no pointers.
#[cfg(target_arch = "x86_64")]
fn i386(number: i64, args: [u32; 4]) -> i64 {
    let result: i32;
    // SAFETY: rbx is put back; the kernel may change r8 to r11 only; no argument is an address, so no memory of ours is
    // touched.
    unsafe {
        std::arch::asm!(
            "push rbx", "mov ebx, {first:e}", "int 0x80", "pop rbx",
            first = in(reg) args[0],
            inlateout("eax") number as i32 => result,
            in("ecx") args[1], in("edx") args[2], in("esi") args[3], in("edi") 0,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result.into()
}
#[cfg(not(target_arch = "x86_64"))]
fn i386(_: i64, _: [u32; 4]) -> i64 {
    0
}

/// Every call with arguments that no kernel acts on, by each convention; the error that comes of it.
pub fn calls_inside() {
    use nix::libc;
    let arguments = |name: &str| match name {
        // Flags that no kernel knows; MNT_FORCE of no path; fds that are not open.
        "kexec_load" => [0, 0, 0, 0xffff],
        "umount2-forced" => [0, 1, 0, 0],
        "umount2-plain" => [0, 0, 0, 0],
        "bpf" => [9999, 0, 0, 0],
        _ => [u32::MAX, u32::MAX, u32::MAX, u32::MAX],
    };
    let plain = ("umount2-plain", [166, 166, 52]);
    for (column, convention) in CONVENTIONS.into_iter().enumerate() {
        say(&format!("{convention} begins"));
        for (name, numbers) in CALLS.into_iter().chain([plain]) {
            let args = arguments(name);
            let error = match (numbers[column], convention) {
                (0, _) => continue,
                (number, "i386") => -i386(number, args),
                (number, _) => {
                    let number = if convention == "x32" { number | X32_BIT } else { number };
                    let wide = args.map(i64::from).map(|arg| if arg == i64::from(u32::MAX) { -1 } else { arg });
                    // SAFETY: no argument is a valid address.
                    let result = unsafe { libc::syscall(number, wide[0], wide[1], wide[2], wide[3], 0) };
                    if result == -1 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0).into() } else { 0 }
                }
            };
            say(&format!("{convention} {name} {error}"));
        }
    }
    say("done");
}

/// In a privileged container with every capability, so that only the filter can answer EPERM.
fn denied_calls(convention: &str) -> Outcome {
    let lines = run("calls", |spec, _| spec.ids = None);
    let prefix = format!("{convention} ");
    let answers: Vec<(&str, i32)> = lines
        .iter()
        .filter_map(|line| line.strip_prefix(&prefix)?.split_once(' '))
        .map(|(name, error)| (name, error.parse().unwrap()))
        .collect();
    if answers.is_empty() && convention == "i386" {
        return Outcome::Skipped("this kernel has no i386 calls".into());
    }
    assert!(answers.len() >= 9, "{lines:?}");
    assert_ne!(answers.last(), Some(&("umount2-plain", 1)), "the filter denies what it should not");
    let broken = answers.iter().filter(|(name, error)| *error != 1 && *name != "umount2-plain");
    verdict(
        &broken
            .map(|(name, error)| format!("{convention} {name} came to the kernel (error {error})"))
            .collect::<Vec<_>>(),
    )
}

pub fn denied_calls_of_x86_64() -> Outcome {
    denied_calls("x86_64")
}

pub fn denied_calls_of_x32() -> Outcome {
    denied_calls("x32")
}

pub fn denied_calls_of_i386() -> Outcome {
    denied_calls("i386")
}

/// The status of init as the host sees it: filtered, nothing asked for that a system container cannot have.
pub fn status_of_init() -> Outcome {
    let live = live("", |_, _| {});
    let status = std::fs::read_to_string(format!("/proc/{}/status", live.running.init)).unwrap();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_string();
    assert_eq!(field("NoNewPrivs:"), "0", "set-user-id programs must work in a system container");
    let mut broken = Vec::new();
    if field("Seccomp:") != "2" {
        broken.push(format!("init runs without a filter (Seccomp: {})", field("Seccomp:")));
    }
    verdict(&broken)
}
