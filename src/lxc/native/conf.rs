//! The file as lines of `key = value`: no key is understood here.

use crate::error::{Code, Error, Result, Subsystem};

/// One assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'t> {
    /// 1-based.
    pub line: usize,
    pub key: &'t str,
    /// Without surrounding blanks, and without the quotes around all of it.
    pub value: &'t str,
}

/// A configuration file of LXC's tools.
#[derive(Debug)]
pub struct Conf<'t> {
    entries: Vec<Entry<'t>>,
}

impl<'t> Conf<'t> {
    /// Reads the text. Error: `ConfSyntax` for a line that is neither empty, a comment nor an assignment.
    pub fn parse(text: &'t str) -> Result<Self> {
        let mut entries = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let syntax = |what: &str| {
                let shown = crate::types::text::printable(line, 80);
                Error::new(Code::ConfSyntax, format!("line {number}: {what}, found '{shown}'"))
                    .with_subsystem(Subsystem::Conf)
            };
            let Some((key, value)) = line.split_once('=') else {
                return Err(syntax("expecting an assignment 'key = value'"));
            };
            let key = key.trim();
            if !key.starts_with(|c: char| c.is_ascii_alphabetic()) || key.contains(char::is_whitespace) {
                return Err(syntax("expecting a name before '='"));
            }
            let value = value.trim();
            let quoted = |quote| value.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
            entries.push(Entry { line: number, key, value: quoted('"').or_else(|| quoted('\'')).unwrap_or(value) });
        }
        Ok(Conf { entries })
    }

    /// All assignments in their order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'t>> {
        self.entries.iter().copied()
    }

    /// The first assignment to the first of `keys` that is there: the spelling of today goes first.
    pub fn first(&self, keys: &[&str]) -> Option<Entry<'t>> {
        keys.iter().find_map(|key| self.entries().find(|entry| entry.key == *key))
    }

    /// Every assignment to any of `keys`, in the order of the file.
    pub fn all(&self, keys: &[&str]) -> impl Iterator<Item = Entry<'t>> {
        self.entries().filter(|entry| keys.contains(&entry.key))
    }
}

impl Entry<'_> {
    /// An error about this line.
    pub fn error(&self, code: Code, what: impl std::fmt::Display) -> Error {
        Error::new(code, format!("line {}: {}: {what}", self.line, self.key))
    }

    /// The value as a whole number. Error: `InternalError`, as libvirt has it.
    pub fn number<T: std::str::FromStr>(&self) -> Result<T> {
        let refused = || self.error(Code::InternalError, format!("failed to parse integer: '{}'", self.value));
        self.value.parse().map_err(|_| refused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let conf = Conf::parse("# c\n\n a.b =  x = y \nq=\"z\"\na.b = 2\n").unwrap();
        let entries: Vec<_> = conf.entries().map(|entry| (entry.line, entry.key, entry.value)).collect();
        assert_eq!(entries, [(3, "a.b", "x = y"), (4, "q", "z"), (5, "a.b", "2")]);
        assert_eq!(conf.first(&["none", "a.b"]).unwrap().line, 3);
        assert_eq!(conf.all(&["a.b"]).count(), 2);
    }

    #[rstest::rstest]
    #[case("a = 1\ngarbage", "line 2: expecting an assignment")]
    #[case("<domain/>", "line 1: expecting an assignment")]
    #[case("<domain type='lxc'/>", "line 1: expecting a name")]
    #[case("= x", "line 1: expecting a name")]
    fn what_is_no_configuration(#[case] text: &str, #[case] error: &str) {
        let refused = Conf::parse(text).unwrap_err();
        assert_eq!(refused.code, Code::ConfSyntax);
        assert!(refused.message().contains(error), "{refused}");
    }
}
