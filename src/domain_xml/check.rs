//! Everything that is wrong with a document, at once: [`check`] goes on where [`super::parse`] stops.

use super::Warning;
use super::parse::read_for_check;
use crate::error::{Error, Result};

/// What kind of finding it is; the first three make a document unfit for the VALIDATE flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// Not well-formed.
    Syntax,
    /// A value or a combination that is refused.
    Invalid,
    /// A misspelled, misplaced or repeated element or attribute; a plain define drops it.
    Unknown,
    /// Taken as it is, but doubtful.
    Remark,
}

impl FindingKind {
    /// `error` for what a define refuses, `unknown` for what VALIDATE refuses as well, else `warning`.
    pub fn severity(self) -> &'static str {
        match self {
            FindingKind::Syntax | FindingKind::Invalid => "error",
            FindingKind::Unknown => "unknown",
            FindingKind::Remark => "warning",
        }
    }
}

/// One thing to say about a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: FindingKind,
    /// 1-based; 0 when it is about no place in particular.
    pub line: u32,
    /// 1-based, in characters; 0 as above.
    pub column: u32,
    /// Element path; may be empty.
    pub path: String,
    pub message: String,
}

impl Finding {
    /// A warning, as a finding of this kind.
    pub fn from_warning(kind: FindingKind, warning: Warning) -> Self {
        let Warning { line, column, path, message } = warning;
        Finding { kind, line, column, path, message }
    }

    /// An error, whose text ends in its place when it knows one; else it is where it was noticed.
    pub fn from_error(error: &Error, (line, column, path): (u32, u32, String)) -> Self {
        let detail = error.detail.as_str();
        match detail.rfind(" (line ").and_then(|at| Some((at, place(&detail[at + 1..])?))) {
            Some((at, (line, column, path))) => {
                Finding { kind: FindingKind::Invalid, line, column, path, message: detail[..at].to_string() }
            }
            None => Finding { kind: FindingKind::Invalid, line, column, path, message: detail.to_string() },
        }
    }
}

/// `(line 2, column 5, a/b/@n)`
fn place(text: &str) -> Option<(u32, u32, String)> {
    let text = text.strip_prefix("(line ")?.strip_suffix(')')?;
    let (line, rest) = text.split_once(", column ")?;
    let (column, path) = rest.split_once(", ")?;
    Some((line.parse().ok()?, column.parse().ok()?, path.to_string()))
}

/// All findings of a `<domain>` document, in the document's order, what has no place last. Each group of settings, each
/// device and each attribute with a closed vocabulary is read for itself; what concerns the whole is looked at when
/// its parts are right.
pub fn check(xml: &str) -> Vec<Finding> {
    if let Some((line, column, message)) = crate::xml::Document::syntax_error(xml) {
        return vec![Finding { kind: FindingKind::Syntax, line, column, path: String::new(), message }];
    }
    let mut findings = Vec::new();
    if let Err(error) = read_for_check(xml, &mut findings) {
        findings.push(Finding::from_error(&super::place(error, xml), (0, 0, String::new())));
    }
    findings.sort_by_key(|finding| (finding.line == 0, finding.line, finding.column, finding.kind));
    findings.dedup();
    findings
}

/// Refuses a document with misspelled or misplaced parts, as libvirt does with the VALIDATE flags; names all of them.
/// Error: libvirt's code for a failed schema.
pub fn validate_strictly(xml: &str) -> Result<()> {
    let refused: Vec<String> = check(xml)
        .into_iter()
        .filter(|finding| matches!(finding.kind, FindingKind::Unknown | FindingKind::Invalid) && finding.line > 0)
        .map(|f| format!("line {}, column {}: {}: {}", f.line, f.column, f.path, f.message))
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(Error::new(crate::error::Code::XmlInvalidSchema, refused.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(xml: &str) -> Vec<String> {
        let told = |f: &Finding| format!("{}:{}: {}: {}: {}", f.line, f.column, f.kind.severity(), f.path, f.message);
        check(xml).iter().map(told).collect()
    }

    #[test]
    fn all_errors_come_at_once() {
        let xml = "<domain type='qemu'>\n<name>a</name>\n<memry>1</memry>\n<memory unit='bananas'>1</memory>\n\
                   <os><type>hvm</type></os>\n<features><hyperv mode='x'/></features>\n<devices>\n\
                   <disk type='fil'><target dev='vda' bus='virtoi'/></disk>\n<disk snapshot='maybe' rawio='q'>\
                   <target dev='vdb'/></disk>\n<interface type='brigde'/>\n<interface type='bridge'/>\n</devices>\n</domain>";
        let told = told(xml);
        let expected = [
            "3:1: unknown: domain/memry: element 'memry' is not known here and is ignored; did you mean 'memory'?",
            "4:",
            "6:19: error: domain/features/hyperv/@mode",
            "8:",
            "9:7: error: domain/devices/disk[2]/@snapshot",
            "9:24: error: domain/devices/disk[2]/@rawio",
            "10:",
            "11:",
        ];
        for start in expected {
            assert!(told.iter().any(|line| line.starts_with(start)), "{start} is not in {told:#?}");
        }
        assert!(told.iter().any(|line| line.contains("did you mean 'virtio'?")), "{told:#?}");
    }

    #[test]
    fn a_syntax_error_is_the_only_finding() {
        assert_eq!(
            told("<domain>\n  <name>a</nam>\n</domain>"),
            ["2:16: error: : Opening and ending tag mismatch: name line 2 and nam"]
        );
    }

    #[test]
    fn what_concerns_the_whole_is_told_when_the_parts_are_right() {
        let told = told("<domain type='qemu'><name>a</name><os><type>hvm</type></os></domain>");
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("Memory size must be specified"), "{told:?}");
    }

    #[test]
    fn a_remark_does_not_fail_validation() {
        let head = "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os>";
        let kept = format!("{head}<perf><event name='cmt' enabled='yes'/></perf></domain>");
        assert!(validate_strictly(&kept).is_ok());
        assert_eq!(check(&kept).first().map(|finding| finding.kind), Some(FindingKind::Remark));
        let error = validate_strictly(&format!("{head}<prf/><devices><dsk/></devices></domain>")).expect_err("refused");
        assert_eq!(error.code, crate::error::Code::XmlInvalidSchema);
        for part in ["column", "domain/prf", "did you mean 'perf'?", "domain/devices/dsk", "did you mean 'disk'?"] {
            assert!(error.detail.contains(part), "{part} is not in {}", error.detail);
        }
    }
}
