//! Why a QEMU died at once: the last lines of its log, and for common failures what they mean and what to do.

/// Log text to show, in bytes.
const SHOWN: usize = 1500;

/// The interesting end of a log written since the start: QEMU's own lines, without the header with its arguments.
pub fn last_lines(log: &str) -> String {
    let own = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !line.contains(": starting up ") && !is_noise(line)
    };
    let lines: Vec<&str> = log.lines().filter(own).collect();
    let mut start = lines.len();
    let mut size = 0;
    while start > 0 && size + lines[start - 1].len() < SHOWN {
        size += lines[start - 1].len() + 1;
        start -= 1;
    }
    crate::types::text::printable(&lines[start..].join("\n"), SHOWN)
}

/// Lines that are no reason for an end.
fn is_noise(line: &str) -> bool {
    line.contains("char device redirected to")
        || line.contains("terminating on signal")
        || (line.contains("warning: ") && !line.contains("error"))
}

struct Known {
    /// All of these must occur in the log.
    marks: &'static [&'static str],
    advice: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        marks: &["Failed to get", "lock"],
        advice: "another process has this image open for writing: stop it, or mark the disk <shareable/>",
    },
    Known {
        marks: &["Could not access KVM kernel module: Permission denied"],
        advice: "the user QEMU runs as may not open /dev/kvm: add it to the group that owns it, or use <domain type='qemu'>",
    },
    Known {
        marks: &["Could not access KVM kernel module: No such file"],
        advice: "this host has no /dev/kvm: use <domain type='qemu'>, or load the kvm module",
    },
    Known { marks: &["Could not open", "Permission denied"], advice: "the user QEMU runs as may not open this file" },
    Known {
        marks: &["Could not open", "No such file"],
        advice: "create the file or correct the path in the definition",
    },
    Known {
        marks: &["Image is not in qcow2 format"],
        advice: "the disk's <driver type> does not match the image: correct it (raw?)",
    },
    Known { marks: &["Cannot set up guest memory"], advice: "the host has not enough free memory for this guest" },
    Known { marks: &["cannot allocate memory"], advice: "the host has not enough free memory for this guest" },
    Known {
        marks: &["Address already in use"],
        advice: "another process listens on this address: choose another port",
    },
    Known {
        marks: &["doesn't support requested feature"],
        advice: "the host's CPU lacks a feature of the guest's CPU",
    },
    Known {
        marks: &["does not support direct I/O"],
        advice: "this file system has no O_DIRECT: use cache='writeback'",
    },
    Known { marks: &["O_DIRECT"], advice: "this file system has no O_DIRECT: use cache='writeback'" },
    Known { marks: &["could not load kernel"], advice: "the <kernel> is no bootable image" },
];

/// What to do about it, if this failure is a known one.
pub fn advice(log: &str) -> Option<&'static str> {
    KNOWN.iter().find(|known| known.marks.iter().all(|mark| log.contains(mark))).map(|known| known.advice)
}

/// libvirt's text for a QEMU that went away before it answered, with advice appended.
pub fn died_at_start(log: &str, status: &str) -> String {
    let lines = last_lines(log);
    let mut text = match lines.is_empty() {
        true => format!("process exited while connecting to monitor ({status}; it wrote nothing to its log)"),
        false => format!("process exited while connecting to monitor: {lines}"),
    };
    if let Some(advice) = advice(&lines) {
        text.push_str(&format!(" ({advice})"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_reason_and_what_to_do() {
        let log = "2026-11-21 02:00:00.000+0000: starting up domus\n\
                   qemu-system-x86_64: warning: old machine\n\
                   2026 qemu-system-x86_64: -blockdev {}: Failed to get \"write\" lock\n";
        let text = died_at_start(log, "exit status 1");
        assert!(text.starts_with("process exited while connecting to monitor: 2026 qemu"), "{text}");
        assert!(text.contains("<shareable/>"), "{text}");
        assert!(!text.contains("old machine"));
    }

    #[test]
    fn a_silent_end() {
        assert!(died_at_start("", "killed by signal 9").contains("killed by signal 9"));
    }
}
