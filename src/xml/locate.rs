//! From a byte offset to line, column, element path and the picture libxml2 draws below a syntax error.

use std::fmt;

use super::tree::Element;

/// A place in a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// `domain/devices/disk[2]/source`.
    pub path: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}, {}", self.line, self.column, self.path)
    }
}

/// Line and column of a byte offset, both from 1; the column counts characters.
pub fn line_column(source: &str, offset: usize) -> (u32, u32) {
    let offset = floor_char(source, offset);
    let before = &source[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() as u32 + 1;
    (line, before[line_start..].chars().count() as u32 + 1)
}

/// Path of the element whose start tag begins at `offset`, by walking down the spans that hold it.
pub fn path(root: &Element<'_>, offset: usize) -> String {
    let mut out = root.name.to_string();
    let mut here = root;
    while here.span.start != offset {
        let Some(next) = here.children.iter().find(|child| child.span.contains(&offset)) else { break };
        out.push('/');
        out.push_str(next.name);
        let same: Vec<_> = here.children.iter().filter(|child| child.name == next.name).collect();
        if same.len() > 1 {
            let position = same.iter().position(|child| child.span.start == next.span.start).unwrap_or(0);
            out.push_str(&format!("[{}]", position + 1));
        }
        here = next;
    }
    out
}

/// The ancestors of the element whose start tag begins at `offset`, outermost first, itself last.
pub fn ancestry<'d>(root: &'d Element<'d>, offset: usize) -> Vec<&'d Element<'d>> {
    let mut out = vec![root];
    let mut here = root;
    while here.span.start != offset {
        let Some(next) = here.children.iter().find(|child| child.span.contains(&offset)) else { break };
        out.push(next);
        here = next;
    }
    out
}

/// libxml2's picture: the last 80 bytes of the line up to the error's right, and a caret below the offset.
pub fn picture(source: &str, offset: usize) -> String {
    let offset = floor_char(source, offset);
    let start = source[..offset].rfind('\n').map_or(0, |at| at + 1);
    let end = source[offset..].find('\n').map_or(source.len(), |at| offset + at);
    let column = source[start..offset].chars().count();
    let skip = column.saturating_sub(72);
    let line: String =
        source[start..end].chars().skip(skip).take(80).map(|c| if c == '\t' { ' ' } else { c }).collect();
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    format!("{line}\n{}^", "-".repeat(column - skip))
}

fn floor_char(source: &str, offset: usize) -> usize {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_are_in_characters() {
        let source = "ä\nüx";
        assert_eq!(line_column(source, 0), (1, 1));
        assert_eq!(line_column(source, 2), (1, 2));
        assert_eq!(line_column(source, 5), (2, 2));
        assert_eq!(line_column(source, 4), (2, 1), "inside a character: its start");
        assert_eq!(line_column(source, 99), (2, 3));
    }

    #[test]
    fn picture_of_a_long_line_shows_the_error() {
        let source = format!("{}<", "x".repeat(500));
        let picture = picture(&source, 500);
        let (line, caret) = picture.split_once('\n').expect("two lines");
        assert_eq!(line.len(), 73);
        assert_eq!(caret.len(), 73);
        assert!(line.ends_with('<'));
    }
}
