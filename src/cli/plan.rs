//! `plan`: what a start would do, from the daemon's dry run.

use std::fmt::Write;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::args::FileArg;
use super::client::CallError;
use super::define;
use super::devices;
use super::domains::{DOMUS_CONNECT, Session};
use super::output::{self, Failure, Table};

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    file: FileArg,
}

/// The daemon's plan; what it may add later is shown by `--json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Plan {
    argv: Vec<String>,
    env: Vec<(String, String)>,
    user: String,
    group: String,
    links: Vec<Link>,
    cgroup: String,
    files: Vec<PlannedFile>,
    problems: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Link {
    name: String,
    kind: String,
    mac: String,
    mtu: Option<u32>,
    bridge: Option<String>,
    created: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PlannedFile {
    path: String,
    purpose: String,
    access: String,
    owner: Option<String>,
    problem: Option<String>,
}

/// `domus plan`: exit status 1 when a start would fail.
pub async fn plan(session: &Session, args: &PlanArgs) -> Result<(), Failure> {
    let file = args.file.name();
    let xml = args.file.read()?;
    let driver = session.driver_for(devices::domain_type(&xml).as_deref()).await?;
    for warning in define::check(session, driver, &xml).await? {
        output::warning(&define::warning_text(&file, &warning));
    }
    let json: Result<String, CallError> =
        session.client.call(driver.path(), DOMUS_CONNECT, "Plan", &(xml.as_str(), 0u32)).await;
    let json = json.map_err(|error| Failure::from(error).context(format!("Failed to plan domain from {file}")))?;
    let unreadable = |error: serde_json::Error| Failure::new(format!("the daemon's plan is not understood: {error}"));
    let mut value: Value = serde_json::from_str(&json).map_err(unreadable)?;
    let plan: Plan = serde_json::from_str(&json).map_err(unreadable)?;
    if let Some(members) = value.as_object_mut() {
        members.insert("driver".to_owned(), Value::from(driver.name()));
    }
    session.out.show(&value, &plan.text());
    let problems = plan.problems.len() + plan.files.iter().filter(|file| file.problem.is_some()).count();
    if problems == 0 { Ok(()) } else { Err(Failure { lines: Vec::new() }) }
}

impl Plan {
    fn text(&self) -> String {
        let mut text = String::new();
        let run_as = [&self.user, &self.group].map(String::as_str).join(":");
        let _ = writeln!(text, "Run as:  {}", if run_as == ":" { "-" } else { &run_as });
        let _ = writeln!(text, "Cgroup:  {}", if self.cgroup.is_empty() { "-" } else { &self.cgroup });
        text.push_str("\nCommand line:\n");
        for line in argv_lines(&self.argv) {
            let _ = writeln!(text, "  {line}");
        }
        if !self.env.is_empty() {
            text.push_str("\nEnvironment:\n");
            for (name, value) in &self.env {
                let _ = writeln!(text, "  {name}={}", quoted(value));
            }
        }
        if !self.links.is_empty() {
            let mut table = Table::new(&["Link", "Kind", "MAC", "MTU", "Bridge", "Made"]);
            for link in &self.links {
                table.row(vec![
                    link.name.clone(),
                    link.kind.clone(),
                    link.mac.clone(),
                    link.mtu.map_or_else(|| "-".to_owned(), |mtu| mtu.to_string()),
                    link.bridge.clone().unwrap_or_else(|| "-".to_owned()),
                    if link.created { "at start" } else { "exists" }.to_owned(),
                ]);
            }
            let _ = write!(text, "\n{}", table.text(false));
        }
        if !self.files.is_empty() {
            let mut table = Table::new(&["File", "Purpose", "Access", "Owner"]);
            for file in &self.files {
                let owner = file.owner.clone().unwrap_or_else(|| "-".to_owned());
                table.row(vec![file.path.clone(), file.purpose.clone(), file.access.clone(), owner]);
            }
            let _ = write!(text, "\n{}", table.text(false));
        }
        let of_files =
            self.files.iter().filter_map(|file| file.problem.as_ref().map(|why| format!("{}: {why}", file.path)));
        let problems: Vec<String> = self.problems.iter().cloned().chain(of_files).collect();
        if problems.is_empty() {
            text.push_str("\nNothing stands in the way of a start.\n");
        } else {
            text.push_str("\nA start would fail:\n");
            problems.iter().for_each(|problem| {
                let _ = writeln!(text, "  {problem}");
            });
        }
        text
    }
}

/// One option with its value a line; the program first.
fn argv_lines(argv: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (index, word) in argv.iter().enumerate() {
        let is_option = index == 0 || word.len() > 1 && word.starts_with('-');
        match lines.last_mut() {
            Some(line) if !is_option && lines_may_join(index) => {
                line.push(' ');
                line.push_str(&quoted(word));
            }
            _ => lines.push(quoted(word)),
        }
    }
    lines
}

/// The word after the program begins a line of its own even when it is no option.
fn lines_may_join(index: usize) -> bool {
    index > 1
}

/// As a shell would need it, so that a line can be copied.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_option_a_line() {
        let argv = ["/usr/bin/qemu", "-name", "guest=a b", "-S", "-object", "{\"a\":1}"].map(str::to_owned);
        assert_eq!(argv_lines(&argv), ["/usr/bin/qemu", "-name 'guest=a b'", "-S", "-object '{\"a\":1}'"]);
    }

    #[test]
    fn a_plan_with_problems_says_so() {
        let plan: Plan = serde_json::from_str(
            r#"{"argv":["q"],"user":"u(1)","group":"g(2)","cgroup":"/c",
                "links":[{"name":"tap0","kind":"tap","mac":"52:54:00:00:00:01","mtu":null,"bridge":"br0","created":true}],
                "files":[{"path":"/d","purpose":"disk vda","access":"read","owner":"root:root -> u:g","problem":"no such file"}],
                "problems":["bridge 'br0' does not exist"],"later":1}"#,
        )
        .unwrap();
        let text = plan.text();
        for part in ["Run as:  u(1):g(2)", "tap0", "at start", "root:root -> u:g", "/d: no such file", "bridge 'br0'"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
