//! Numbers the kernel keeps about QEMU and its threads (proc(5)). Reading them never waits for QEMU.

use std::fs;

/// The fields of `/proc/PID/stat` used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcStat {
    /// `R`, `S`, `D`, `T` (stopped by a signal), `t`, `Z` ...
    pub state: char,
    /// Clock ticks.
    pub utime: u64,
    pub stime: u64,
    /// Ticks since boot.
    pub start_time: u64,
    /// CPU last run on.
    pub processor: i32,
}

/// Nanoseconds per clock tick: USER_HZ is 100 on every architecture Linux shows to processes.
pub const TICK_NS: u64 = 10_000_000;

impl ProcStat {
    /// CPU time used, ns.
    pub fn cpu_ns(&self) -> u64 {
        (self.utime + self.stime) * TICK_NS
    }

    /// Whether a signal or a tracer holds the process, so that it can answer nothing.
    pub fn is_held(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

/// Parses a `stat` line. The command name may hold blanks and parentheses; the last `)` ends it.
pub fn parse(line: &str) -> Option<ProcStat> {
    let rest = &line[line.rfind(')')? + 1..];
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok());
    Some(ProcStat {
        state: fields.first()?.chars().next()?,
        utime: number(11)?,
        stime: number(12)?,
        start_time: number(19)?,
        processor: fields.get(36).and_then(|text| text.parse().ok()).unwrap_or(-1),
    })
}

/// `/proc/PID/stat`, if the process exists.
pub fn process(pid: i32) -> Option<ProcStat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `/proc/PID/task/TID/stat`, if the thread exists.
pub fn thread(pid: i32, tid: i32) -> Option<ProcStat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?)
}

/// Ids of a process's threads.
pub fn threads(pid: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Time a thread ran, and waited for a CPU while it could have run, in ns (`schedstat`).
pub fn thread_sched(pid: i32, tid: i32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
    let mut numbers = text.split_ascii_whitespace().map(|field| field.parse::<u64>().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Memory resident (`VmRSS`), KiB.
pub fn resident_kib(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses() {
        let line = "42 (CPU 0/KVM) x) T 1 2 3 0 -1 4194560 1 2 3 4 100 50 0 0 20 0 4 0 12345 999 77 18446744073709551615 \
                    1 1 0 0 0 0 0 4096 0 0 0 0 17 3 0 0 0 0 0";
        let stat = parse(line).expect("parses");
        assert_eq!(stat, ProcStat { state: 'T', utime: 100, stime: 50, start_time: 12345, processor: 3 });
        assert_eq!(stat.cpu_ns(), 1_500_000_000);
        assert!(stat.is_held());
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn this_process() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        assert!(process(pid).is_some_and(|stat| stat.start_time > 0));
        assert!(resident_kib(pid).is_some_and(|kib| kib > 0));
    }
}
