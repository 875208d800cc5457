//! Which CPUs there are, and what they did.

use std::path::Path;

use crate::error::{Error, Result};
use crate::host::{auxiliary, parse_list, read};

/// Key of the clock ticks per second among a process's auxiliary values.
pub(in crate::host) const AT_CLKTCK: usize = 17;

/// For each CPU up to the last present one: whether it is online (`virNodeGetCPUMap`).
pub fn cpu_map() -> Result<Vec<bool>> {
    let cpus = Path::new("/sys/devices/system/cpu");
    map(&read(&cpus.join("present"))?, &read(&cpus.join("online"))?)
        .ok_or_else(|| Error::internal("cannot parse the CPU lists in /sys/devices/system/cpu"))
}

fn map(present: &str, online: &str) -> Option<Vec<bool>> {
    let (present, online) = (parse_list(present)?, parse_list(online)?);
    let count = present.iter().max().map_or(0, |last| last + 1);
    Some((0..count).map(|cpu| online.contains(&cpu)).collect())
}

/// Times since boot in ns, of one CPU or of all (-1): `kernel`, `user`, `idle`, `iowait` (`virNodeGetCPUStats`).
/// Errors: code 8 for a CPU that is not online.
pub fn cpu_stats(cpu: i32) -> Result<Vec<(String, u64)>> {
    let ticks = auxiliary(AT_CLKTCK).map_or(100, |ticks| ticks as u64).max(1);
    stats(&read(Path::new("/proc/stat"))?, cpu, 1_000_000_000 / ticks)
}

fn stats(text: &str, cpu: i32, ns: u64) -> Result<Vec<(String, u64)>> {
    let name = if cpu == -1 { "cpu".to_string() } else { format!("cpu{cpu}") };
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines
        .find(|words| words.first() == Some(&name.as_str()))
        .ok_or_else(|| Error::bare_arg("Invalid cpuNum in virHostCPUGetStatsLinux"))?;
    let times: Vec<u64> = line[1..].iter().map_while(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq (proc_stat(5)); old kernels lack the last ones.
    let time = |index: usize| times.get(index).copied().unwrap_or(0);
    let named = |name: &str, ticks: u64| (name.to_string(), ticks.saturating_mul(ns));
    Ok(vec![
        named("kernel", time(2) + time(5) + time(6)),
        named("user", time(0) + time(1)),
        named("idle", time(3)),
        named("iowait", time(4)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offline_cpu_is_in_the_map() {
        assert_eq!(map("0-3\n", "0-1,3\n"), Some(vec![true, true, false, true]));
        assert_eq!(map("0\n", "0\n"), Some(vec![true]));
        assert!(cpu_map().unwrap().contains(&true));
    }

    #[test]
    fn times_are_in_nanoseconds() {
        let text = "cpu  10 2 30 400 5 6 7 8 0 0\ncpu0 1 0 3 40 5 6 7 8 0 0\nintr 1 2\n";
        let values =
            |cpu| stats(text, cpu, 10_000_000).map(|times| times.into_iter().map(|(_, ns)| ns).collect::<Vec<_>>());
        let expected: Vec<u64> = [43, 12, 400, 5].iter().map(|ticks| ticks * 10_000_000).collect();
        assert_eq!(values(-1).unwrap(), expected);
        assert_eq!(values(0).unwrap()[0], 160_000_000);
        let names: Vec<_> = stats(text, 0, 1).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["kernel", "user", "idle", "iowait"]);
    }

    #[test]
    fn unknown_cpus_are_refused_in_libvirts_words() {
        for cpu in [1, -2, i32::MAX, i32::MIN] {
            let error = stats("cpu  1 2 3 4\ncpu0 1 2 3 4\n", cpu, 1).unwrap_err();
            assert_eq!(error.message(), "Invalid cpuNum in virHostCPUGetStatsLinux");
            assert_eq!(error.code, crate::error::Code::InvalidArg);
        }
        assert_eq!(cpu_stats(-1).unwrap().len(), 4);
    }
}
