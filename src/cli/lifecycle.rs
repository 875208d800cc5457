//! Commands that change what a domain does: start, shutdown, reboot, reset, destroy, suspend, resume.

use clap::Args;
use serde_json::Value;

use super::args::DomainArg;
use super::client::CallError;
use super::console;
use super::domains::{By, DOMAIN, DOMUS_DOMAIN, Domain, Session};
use super::output::{Context, Failure};
use super::tune::Affect;
use crate::types::ParamValue;
use crate::types::flags::{create, destroy, shutdown};

/// Options of `start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Connect to the console; nothing the guest prints is missed
    #[arg(long)]
    console: bool,
    /// Leave the guest paused
    #[arg(long)]
    paused: bool,
    /// Avoid the file system cache when loading a saved state
    #[arg(long)]
    bypass_cache: bool,
    /// Boot afresh, discarding a saved state
    #[arg(long)]
    force_boot: bool,
    /// Make the NVRAM afresh from its template
    #[arg(long)]
    reset_nvram: bool,
}

/// Options of `shutdown` and `reboot`.
#[derive(Debug, Args)]
pub struct ModeArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// How to ask, comma separated: acpi, agent, initctl, signal, paravirt
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
}

/// Options of `destroy`.
#[derive(Debug, Args)]
pub struct DestroyArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Only end it if it ends by itself when told to
    #[arg(long)]
    graceful: bool,
    /// Remove the domain's logs
    #[arg(long)]
    remove_logs: bool,
}

/// Options of `set-lifecycle-action`.
#[derive(Debug, Args)]
pub struct ActionArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// poweroff, reboot or crash
    #[arg(value_name = "TYPE")]
    kind: String,
    /// destroy, restart, rename-restart, preserve, coredump-destroy or coredump-restart
    action: String,
    #[command(flatten)]
    affect: Affect,
}

/// `domus set-lifecycle-action`
pub async fn set_action(session: &Session, args: &ActionArgs) -> Result<(), Failure> {
    const KINDS: [&str; 3] = ["poweroff", "reboot", "crash"];
    const ACTIONS: [&str; 6] =
        ["destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart"];
    let number = |words: &[&str], word: &str, what: &str| {
        let at = words.iter().position(|known| *known == word).and_then(|at| u32::try_from(at).ok());
        at.ok_or_else(|| Failure::new(format!("Invalid lifecycle {what} '{word}'.")))
    };
    let kind = number(&KINDS, &args.kind, "type")?;
    let action = number(&ACTIONS, &args.action, "action")?;
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let body = (kind, action, args.affect.flags());
    let set: Result<(), CallError> = session.client.call(&domain.path, DOMUS_DOMAIN, "SetLifecycleAction", &body).await;
    set.context(|| "Unable to change lifecycle action.".to_owned())?;
    session.out.show(&domain.json_with("result", Value::from("set")), "");
    Ok(())
}

/// `domus start`
pub async fn start(session: &Session, args: &StartArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::NAME_UUID).await?;
    let mut flags = 0;
    let wanted = [
        // With a console the guest runs only once we listen.
        (args.paused || args.console, create::PAUSED),
        (args.bypass_cache, create::BYPASS_CACHE),
        (args.force_boot, create::FORCE_BOOT),
        (args.reset_nvram, create::RESET_NVRAM),
    ];
    wanted.iter().filter(|(on, _)| *on).for_each(|(_, bit)| flags |= bit);
    let started: Result<(), CallError> = session.client.call(&domain.path, DOMAIN, "Create", &(flags,)).await;
    started.context(|| format!("Failed to start domain '{}'", domain.name))?;
    done(session, &domain, "started", &format!("Domain '{}' started", domain.name));
    if args.console {
        console::attach(session, &domain, "", false, !args.paused).await?;
    }
    Ok(())
}

/// `domus shutdown`
pub async fn shutdown(session: &Session, args: &ModeArgs) -> Result<(), Failure> {
    let flags = mode(args.mode.as_deref())?;
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let asked: Result<(), CallError> = session.client.call(&domain.path, DOMAIN, "Shutdown", &(flags,)).await;
    asked.context(|| format!("Failed to shutdown domain '{}'", domain.name))?;
    done(session, &domain, "shutting-down", &format!("Domain '{}' is being shutdown", domain.name));
    Ok(())
}

/// `domus reboot`
pub async fn reboot(session: &Session, args: &ModeArgs) -> Result<(), Failure> {
    let flags = mode(args.mode.as_deref())?;
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let asked: Result<(), CallError> = session.client.call(&domain.path, DOMAIN, "Reboot", &(flags,)).await;
    asked.context(|| format!("Failed to reboot domain '{}'", domain.name))?;
    done(session, &domain, "rebooting", &format!("Domain '{}' is being rebooted", domain.name));
    Ok(())
}

/// `domus reset`
pub async fn reset(session: &Session, args: &DomainArg) -> Result<(), Failure> {
    let domain = session.domain(args.given(), By::ANY).await?;
    let answer: Result<(), CallError> = session.client.call(&domain.path, DOMAIN, "Reset", &(0u32,)).await;
    answer.context(|| format!("Failed to reset domain '{}'", domain.name))?;
    done(session, &domain, "reset", &format!("Domain '{}' was reset", domain.name));
    Ok(())
}

/// `domus destroy`
pub async fn destroy(session: &Session, args: &DestroyArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let mut flags = if args.graceful { destroy::GRACEFUL } else { 0 };
    if args.remove_logs {
        flags |= destroy::REMOVE_LOGS;
    }
    let answer: Result<(), CallError> = session.client.call(&domain.path, DOMAIN, "Destroy", &(flags,)).await;
    answer.context(|| format!("Failed to destroy domain '{}'", domain.name))?;
    done(session, &domain, "destroyed", &format!("Domain '{}' destroyed", domain.name));
    Ok(())
}

/// `domus suspend`
pub async fn suspend(session: &Session, args: &DomainArg) -> Result<(), Failure> {
    let domain = session.domain(args.given(), By::ANY).await?;
    let answer: Result<(), CallError> = session.client.call(&domain.path, DOMAIN, "Suspend", &()).await;
    answer.context(|| format!("Failed to suspend domain '{}'", domain.name))?;
    done(session, &domain, "suspended", &format!("Domain '{}' suspended", domain.name));
    Ok(())
}

/// `domus resume`
pub async fn resume(session: &Session, args: &DomainArg) -> Result<(), Failure> {
    let domain = session.domain(args.given(), By::ANY).await?;
    resume_domain(session, &domain).await?;
    done(session, &domain, "resumed", &format!("Domain '{}' resumed", domain.name));
    Ok(())
}

/// Resumes without a word.
pub async fn resume_domain(session: &Session, domain: &Domain) -> Result<(), Failure> {
    let answer: Result<(), CallError> = session.client.call(&domain.path, DOMAIN, "Resume", &()).await;
    answer.context(|| format!("Failed to resume domain '{}'", domain.name))
}

/// Whether a guest exists.
pub async fn is_active(session: &Session, domain: &Domain) -> Result<bool, CallError> {
    let active = session.client.value(&domain.path, DOMAIN, "Active").await?;
    Ok(matches!(active, Some(ParamValue::Bool(true))))
}

/// Says that a command on one domain is done.
pub fn done(session: &Session, domain: &Domain, result: &str, text: &str) {
    session.out.say(&domain.json_with("result", Value::from(result)), text);
}

fn mode(words: Option<&str>) -> Result<u32, Failure> {
    let mut flags = 0;
    for word in words.unwrap_or_default().split(',').filter(|word| !word.is_empty()) {
        flags |= match word {
            "acpi" => shutdown::ACPI_POWER_BTN,
            "agent" => shutdown::GUEST_AGENT,
            "initctl" => shutdown::INITCTL,
            "signal" => shutdown::SIGNAL,
            "paravirt" => shutdown::PARAVIRT,
            _ => {
                return Err(Failure::new(format!(
                    "Unknown mode {word} value, expecting 'acpi', 'agent', 'initctl', 'signal', or 'paravirt'"
                )));
            }
        };
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_add_up() {
        assert_eq!(mode(None).unwrap(), 0);
        assert_eq!(mode(Some("acpi,agent")).unwrap(), 3);
        assert!(mode(Some("foo")).unwrap_err().to_string().starts_with("Unknown mode foo value"));
    }
}
