//! Running an attack, once as it is and once weakened.

use std::process::Command;

use crate::TABLE;
use crate::lxc_support::unable;

/// What came of an attack.
#[derive(Debug)]
pub enum Outcome {
    Held,
    /// The attack succeeded: how.
    Broken(String),
    /// This machine has not what the attack needs.
    #[allow(dead_code)]
    Skipped(String),
}

/// Broken when there is anything in the list.
pub fn verdict(broken: &[String]) -> Outcome {
    if broken.is_empty() { Outcome::Held } else { Outcome::Broken(broken.join("; ")) }
}

pub struct Row {
    pub requirement: &'static str,
    pub module: &'static str,
    pub attack: &'static str,
    pub weakening: &'static str,
    pub run: fn() -> Outcome,
}

/// Marks an attack's success in the output of a weakened run.
const MARK: &str = "ATTACK SUCCEEDED";

fn row(attack: &str) -> &'static Row {
    TABLE.iter().find(|row| row.attack == attack).unwrap()
}

pub fn skip(name: &str, reason: &str) {
    use std::io::Write;
    // Past libtest's capture and in one write, so that it is always seen and counted.
    let _ = std::io::stderr().write_all(format!("SKIP {name}: {reason}\n").as_bytes());
}

/// The attack must be held.
pub fn holds(attack: &str) {
    let row = row(attack);
    if let Some(reason) = unable() {
        return skip(attack, &reason);
    }
    match (row.run)() {
        Outcome::Held => {}
        Outcome::Skipped(reason) => skip(attack, &reason),
        Outcome::Broken(how) => panic!("{MARK} ({}): {how}", row.requirement),
    }
}

/// The attack must succeed when its defence is left out; in a build that has no weakening points it must be held even
/// then.
pub fn is_noticed(attack: &str) {
    let row = row(attack);
    if let Some(reason) = unable() {
        return skip(&format!("{attack} (weakened)"), &reason);
    }
    // In a process of its own: the daemon's part of the defences is in this very program.
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("attack::{attack}::is_held"), "--nocapture", "--test-threads=1"])
        .env("DOMUS_WEAKEN", row.weakening)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(text.contains("running 1 test"), "{attack} was not run:\n{text}");
    let succeeded = text.contains(MARK);
    if let Some(line) = text.lines().find(|line| line.starts_with("SKIP ")) {
        return skip(&format!("{attack} (weakened)"), line.rsplit(": ").next().unwrap_or_default());
    }
    if cfg!(debug_assertions) {
        assert!(
            succeeded,
            "without the defence '{}' {attack} proves nothing, it is held still:\n{text}",
            row.weakening
        );
        let how = text.lines().find(|line| line.contains(MARK)).unwrap_or_default();
        println!("{} {attack}, weakened by {}: {how}", row.requirement, row.weakening);
    } else {
        assert!(out.status.success(), "a build without weakening points was weakened:\n{text}");
    }
}
