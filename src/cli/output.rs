//! What a command says: text as virsh prints it, or JSON.
//!
//! Owns the choice between the two forms, the failure type, tables, and what happens when standard output is closed.
//! Never decides what is said; never talks to the daemon.
//!
//! Text has two ranks as in virsh: *results* (a table, an XML document) are always printed, *remarks* ("Domain 'x'
//! started") are left out with `--quiet`.

use std::fmt;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::client::CallError;

/// Exit status after a write to a closed pipe, what a shell reports for SIGPIPE (128 + 13).
const EXIT_SIGPIPE: i32 = 141;

/// Where a command's words go.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// `--quiet`: no remarks, no table header.
    pub quiet: bool,
    /// `--json`: one JSON value on standard output instead of text.
    pub json: bool,
}

impl Output {
    /// A remark, or with `--json` its value.
    pub fn say(&self, value: &Value, text: &str) {
        if self.json {
            self.value(value);
        } else if !self.quiet {
            raw(text);
            raw("\n");
        }
    }

    /// A result; `text` is printed as it is.
    pub fn show(&self, value: &Value, text: &str) {
        if self.json { self.value(value) } else { raw(text) }
    }

    /// One JSON value on a line of its own.
    pub fn value(&self, value: &Value) {
        raw(&format!("{value}\n"));
    }

    /// The empty line virsh ends every command with.
    pub fn end(&self) {
        if !self.json && !self.quiet {
            raw("\n");
        }
    }

    /// A failed command: its lines on standard error, with `--json` also an object on standard output.
    /// Without lines the result said it all, and the exit status is what is left to say.
    pub fn failure(&self, failure: &Failure) {
        if failure.lines.is_empty() {
            return;
        }
        if self.json {
            self.value(&json!({ "error": { "message": failure.lines.join(": "), "lines": failure.lines } }));
        }
        for line in &failure.lines {
            error(line);
        }
    }
}

/// Writes to standard output; ends the program quietly when nobody reads it any more.
pub fn raw(text: &str) {
    raw_bytes(text.as_bytes());
}

/// The same, of bytes that may be no text.
pub fn raw_bytes(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if let Err(problem) = out.write_all(bytes).and_then(|()| out.flush()) {
        if problem.kind() != io::ErrorKind::BrokenPipe {
            error(&format!("cannot write to standard output: {problem}"));
            std::process::exit(1);
        }
        std::process::exit(EXIT_SIGPIPE);
    }
}

/// `error: line` on standard error. A closed standard error changes nothing: the exit status still tells.
pub fn error(line: &str) {
    let _ = writeln!(io::stderr().lock(), "error: {line}");
}

/// `warning: line` on standard error.
pub fn warning(line: &str) {
    let _ = writeln!(io::stderr().lock(), "warning: {line}");
}

/// Why a command failed: the lines virsh would print after `error: `, what first, why last.
#[derive(Debug)]
pub struct Failure {
    pub lines: Vec<String>,
}

impl Failure {
    /// A failure the daemon had no part in.
    pub fn new(line: impl Into<String>) -> Self {
        Failure { lines: vec![line.into()] }
    }

    /// Says what was tried, before the reason.
    pub fn context(mut self, what: impl Into<String>) -> Self {
        self.lines.insert(0, what.into());
        self
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Failure { lines: place_first(&error.to_string()) }
    }
}

/// The daemon says where in a document something is wrong behind libvirt's text. In front of it, on a line of its own,
/// it can be read, and the last line is what virsh would have printed.
fn place_first(text: &str) -> Vec<String> {
    let whole = || vec![text.to_string()];
    let Some((message, place)) = text.strip_suffix(')').and_then(|text| text.rsplit_once(" (line ")) else {
        return whole();
    };
    if message.contains('\n') || !place.starts_with(|c: char| c.is_ascii_digit()) {
        return whole();
    }
    vec![format!("at line {place}"), message.to_string()]
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join(": "))
    }
}

impl std::error::Error for Failure {}

/// Adds the "Failed to ..." line virsh prints before the reason.
pub trait Context<T> {
    /// Converts to [`Failure`] with `what` as its first line.
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> Context<T> for Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| error.into().context(what()))
    }
}

/// A table in virsh's form: each column as wide as its widest cell, one space before and two after, a line under the
/// header; the last column is not padded.
#[derive(Debug)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    pub fn new(header: &[&str]) -> Self {
        Table { header: header.iter().map(|title| (*title).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row; it has as many cells as the header.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text; without the header when `quiet`, and then the header does not widen the columns.
    pub fn text(&self, quiet: bool) -> String {
        let shown: Vec<&Vec<String>> =
            if quiet { self.rows.iter().collect() } else { std::iter::once(&self.header).chain(&self.rows).collect() };
        let width = |column: usize| shown.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let mut text = String::new();
        for (index, row) in shown.iter().enumerate() {
            for (column, cell) in row.iter().enumerate() {
                text.push(' ');
                text.push_str(cell);
                if column + 1 < row.len() {
                    let pad = widths[column] - cell.chars().count() + 2;
                    text.extend(std::iter::repeat_n(' ', pad));
                }
            }
            text.push('\n');
            if index == 0 && !quiet {
                text.extend(std::iter::repeat_n('-', widths.iter().map(|width| width + 3).sum()));
                text.push('\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["Id", "Name", "State"]);
        table.row(vec!["1".into(), "test".into(), "running".into()]);
        table
    }

    #[test]
    fn table_is_virshs_byte_for_byte() {
        assert_eq!(table().text(false), " Id   Name   State\n----------------------\n 1    test   running\n");
    }

    #[test]
    fn quiet_table_has_no_header_and_no_width_from_it() {
        assert_eq!(table().text(true), " 1   test   running\n");
    }

    #[test]
    fn width_counts_characters_not_bytes() {
        let mut table = Table::new(&["N", "S"]);
        table.row(vec!["ä".into(), "x".into()]);
        assert_eq!(table.text(false), " N   S\n--------\n ä   x\n");
    }

    #[test]
    fn the_place_comes_before_libvirts_text() {
        let text = "XML error: bad (index) (line 3, column 5, domain/devices/disk[2])";
        assert_eq!(place_first(text), ["at line 3, column 5, domain/devices/disk[2]", "XML error: bad (index)"]);
        for whole in ["XML error: bad (line up)", "XML error: bad", "a\nb (line 3, column 5, x)"] {
            assert_eq!(place_first(whole), [whole]);
        }
    }

    #[test]
    fn failure_says_what_then_why() {
        let failure = Failure::new("why").context("what");
        assert_eq!(failure.lines, ["what", "why"]);
    }
}
