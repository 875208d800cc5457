//! The kernel's own files and calls.

use crate::harness::{Outcome, verdict};
use crate::lxc_support::*;

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
