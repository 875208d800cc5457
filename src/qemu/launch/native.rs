//! `qemu-argv`: the command line a start would use, as one line for a shell.
//!
//! The same planner makes it that starts guests. What only a start decides is given a fixed value: ports libvirt's
//! first, descriptors their planned numbers. Files need not exist.

use std::path::Path;

use super::{Shared, prepare};
use crate::domain_xml::DomainDef;
use crate::error::{Error, Result};
use crate::qemu::capabilities::QemuCaps;
use crate::qemu::command::{self, CommandPlan, Context};

/// The name of this form in `virConnectDomainXMLToNative`.
pub const FORMAT: &str = "qemu-argv";

/// The first port of displays whose port is chosen at start.
const FIRST_PORT: i32 = 5900;

/// The command line of a completed definition. Errors: `ConfigUnsupported` naming the element that is not rendered.
pub fn argv(shared: &Shared, caps: &QemuCaps, def: &DomainDef) -> Result<String> {
    let mut live = def.clone();
    let run_dir = Path::new(super::DRY_RUN_DIR);
    prepare::paper(&mut live, caps, shared, run_dir, FIRST_PORT)?;
    let context = Context {
        caps,
        sandbox: shared.config.seccomp_sandbox,
        kvm_fd: false,
        vhost: true,
        paper: true,
        now: prepare::now(),
    };
    Ok(line(&command::plan(&live, &context)?, run_dir))
}

/// Environment, program and arguments on one line, each quoted where a shell needs it.
fn line(plan: &CommandPlan, home: &Path) -> String {
    let home = home.display();
    let mut words: Vec<String> =
        vec!["LC_ALL=C".into(), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()];
    words.push(format!("HOME={home}"));
    for (name, below) in [("DATA", "local/share"), ("CACHE", "cache"), ("CONFIG", "config")] {
        words.push(format!("XDG_{name}_HOME={home}/.{below}"));
    }
    words.extend(plan.env.iter().map(|(name, value)| format!("{name}={}", quoted(value))));
    words.push(quoted(&plan.program));
    words.extend(plan.args.iter().map(|arg| quoted(arg)));
    words.join(" ") + "\n"
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Refuses a form that is not this driver's.
pub fn check_format(format: &str) -> Result<()> {
    if format == FORMAT {
        return Ok(());
    }
    Err(Error::invalid_arg(format!("unsupported config type {format}: virtual machines are written as {FORMAT}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_a_shell_would_take_apart_are_quoted() {
        let plan = CommandPlan {
            program: "/usr/bin/qemu".into(),
            args: ["-name", "guest=a b", "-object", r#"{"a":"it's"}"#, "-x", ""].map(String::from).into(),
            env: vec![("SDL".into(), "a b".into())],
            fds: Vec::new(),
        };
        let text = line(&plan, Path::new("/h"));
        let (env, rest) = text.split_once(" /usr/bin/qemu ").unwrap();
        assert!(env.starts_with("LC_ALL=C PATH=") && env.ends_with("XDG_CONFIG_HOME=/h/.config SDL='a b'"), "{env}");
        assert_eq!(rest, "-name 'guest=a b' -object '{\"a\":\"it'\\''s\"}' -x ''\n");
    }

    #[test]
    fn one_form_only() {
        assert!(check_format("qemu-argv").is_ok());
        assert!(check_format("xen-xl").unwrap_err().message().contains("unsupported config type xen-xl"));
    }
}
