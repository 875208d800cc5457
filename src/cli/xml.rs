//! `xml check`: everything that is wrong with a file, as a compiler tells it; `xml diff`: what two definitions say
//! differently.

use std::fmt::Write;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::FileArg;
use super::client::CallError;
use super::devices;
use super::domains::{DOMUS_CONNECT, Driver, Session};
use super::output::Failure;

/// Commands below `xml`.
#[derive(Debug, Subcommand)]
pub enum XmlCommand {
    /// Print everything that is wrong or doubtful in a domain's XML; nothing is changed
    #[command(
        after_help = "Exit status: 0 nothing to say, 1 there is (it is on standard output), 2 the command line is wrong."
    )]
    Check(FileArg),
    /// Print what two domain XML files say differently, defaults filled in; the order of devices does not count
    #[command(
        after_help = "Exit status: 0 they mean the same, 1 they differ or a file cannot be read, 2 the command line is wrong."
    )]
    Diff(DiffArgs),
}

/// Options of `xml diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// File with the first domain's XML; - for standard input
    #[command(flatten)]
    first: FileArg,
    /// File with the second domain's XML
    second: std::path::PathBuf,
}

/// Line, column, severity, element path, text.
pub type Finding = (u32, u32, String, String, String);

/// Runs the command.
pub async fn run(session: &Session, command: &XmlCommand) -> Result<(), Failure> {
    match command {
        XmlCommand::Check(args) => check(session, args).await,
        XmlCommand::Diff(args) => diff(session, args).await,
    }
}

/// Everything the daemon has to say about the XML.
pub async fn diagnose(session: &Session, driver: Driver, xml: &str) -> Result<Vec<Finding>, CallError> {
    session.client.call(driver.path(), DOMUS_CONNECT, "DiagnoseXML", &(xml, 0u32)).await
}

/// Whether VALIDATE refuses it.
pub fn is_refused(finding: &Finding) -> bool {
    matches!(finding.2.as_str(), "error" | "unknown")
}

async fn check(session: &Session, args: &FileArg) -> Result<(), Failure> {
    let file = args.name();
    let xml = args.read()?;
    let driver = session.driver_for(devices::domain_type(&xml).as_deref()).await?;
    let findings = diagnose(session, driver, &xml).await?;
    let one = |(line, column, severity, path, message): &Finding| json!({ "line": line, "column": column, "severity": severity, "path": path, "message": message });
    let list: Vec<Value> = findings.iter().map(one).collect();
    let value = json!({ "file": file, "driver": driver.name(), "warnings": list });
    let text: String = findings.iter().map(|finding| shown(&file, &xml, finding)).collect();
    session.out.show(&value, &text);
    if findings.is_empty() { Ok(()) } else { Err(Failure { lines: Vec::new() }) }
}

/// `FILE:LINE:COL: error: message`, the line, and a caret below the column.
fn shown(file: &str, xml: &str, (line, column, severity, path, message): &Finding) -> String {
    let severity = if severity == "unknown" { "warning" } else { severity };
    let mut text = String::new();
    if *line == 0 {
        let _ = writeln!(text, "{file}: {severity}: {message}{}", in_path(path));
        return text;
    }
    let _ = writeln!(text, "{file}:{line}:{column}: {severity}: {message}{}", in_path(path));
    let source = xml.strip_prefix('\u{feff}').unwrap_or(xml);
    let Some(source) = source.lines().nth(*line as usize - 1) else { return text };
    // A long line is cut around the place; a tab stays one, so that the caret is where it belongs.
    const WIDTH: usize = 100;
    let at = *column as usize - 1;
    let skip = at.saturating_sub(WIDTH - 20);
    let part: String =
        source.chars().skip(skip).take(WIDTH).map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
    let blank: String = part.chars().take(at - skip).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let gutter = line.to_string();
    let _ = writeln!(text, " {gutter} | {part}\n {} | {blank}^", " ".repeat(gutter.len()));
    text
}

fn in_path(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" (in {path})") }
}

/// Path, the first's value, the second's.
type Change = (String, Vec<String>, Vec<String>);

async fn diff(session: &Session, args: &DiffArgs) -> Result<(), Failure> {
    let (first, second) = (args.first.read()?, FileArg::of(args.second.clone()).read()?);
    let driver = session.driver_for(devices::domain_type(&first).as_deref()).await?;
    let changes: Result<Vec<Change>, CallError> =
        session.client.call(driver.path(), DOMUS_CONNECT, "DiffXML", &(first.as_str(), second.as_str(), 0u32)).await;
    let changes = changes.map_err(|error| {
        let files = format!("{} and {}", args.first.name(), args.second.display());
        Failure::from(error).context(format!("Failed to compare {files}"))
    })?;
    let mut text = String::new();
    for (path, old, new) in &changes {
        let _ = writeln!(text, "{path}");
        for (sign, side) in [('-', old), ('+', new)] {
            if let Some(value) = side.first() {
                let _ = writeln!(text, "  {sign} {value}");
            }
        }
    }
    let one = |(path, old, new): &Change| json!({ "path": path, "old": old.first(), "new": new.first() });
    let value = json!({ "same": changes.is_empty(), "changes": changes.iter().map(one).collect::<Vec<Value>>() });
    session.out.show(&value, &text);
    if changes.is_empty() { Ok(()) } else { Err(Failure { lines: Vec::new() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_shown_with_its_line() {
        let finding = (2, 4, "unknown".to_string(), "a/@b".to_string(), "what".to_string());
        assert_eq!(
            shown("f.xml", "<a\n\t b='1'/>", &finding),
            "f.xml:2:4: warning: what (in a/@b)\n 2 | \t b='1'/>\n   | \t  ^\n"
        );
        let general = (0, 0, "error".to_string(), String::new(), "what".to_string());
        assert_eq!(shown("f.xml", "", &general), "f.xml: error: what\n");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let xml = format!("{}<", "x".repeat(500));
        let text = shown("f", &xml, &(1, 501, "error".into(), String::new(), "m".into()));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1].find('<'), lines[2].find('^'));
        assert!(lines[1].len() < 120);
    }
}
