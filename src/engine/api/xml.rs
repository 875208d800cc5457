//! What we say of definitions without taking them: everything that is wrong with one, and what two say differently.

use super::call;
use super::define::read;
use crate::domain_xml::check::{Finding, FindingKind, check};
use crate::domain_xml::diff::{Change, diff};
use crate::domain_xml::{self, DomainDef};
use crate::engine::Connection;
use crate::error::{Error, Result};

/// Two documents.
#[derive(Clone, Debug)]
pub struct TwoXml {
    pub first: String,
    pub second: String,
}

/// A definition with all defaults, and nothing that is made up at random.
async fn completed(on: &Connection, xml: &str, which: &str) -> Result<DomainDef> {
    let failed = |error: Error| Error::new(error.code, format!("{which} document: {}", error.detail));
    let mut def = domain_xml::parse_inactive(xml).map_err(failed)?.def;
    on.runtime().driver().complete(&mut def, &mut Vec::new()).await.map_err(failed)?;
    Ok(def)
}

call! {
    /// Everything that is wrong or doubtful in a definition, all at once; never an error for what is in the document.
    DiagnoseXml = "domusConnectDiagnoseXML", Read, "connect:read";
    (caller, on: Connection, xml => String) -> Vec<Finding> {
        let mut findings = check(&xml);
        if findings.iter().any(|finding| matches!(finding.kind, FindingKind::Syntax | FindingKind::Invalid)) {
            return Ok(findings);
        }
        match read(on, &xml).await {
            // What the document itself was warned of is among the findings already.
            Ok((_, warnings)) => {
                let general = warnings.into_iter().filter(|warning| warning.line == 0);
                findings.extend(general.map(|warning| Finding::from_warning(FindingKind::Remark, warning)));
            }
            Err(error) => findings.push(Finding::from_error(&error, (0, 0, String::new()))),
        }
        Ok(findings)
    }
}

call! {
    /// What two definitions say differently once defaults are filled in; nothing when they mean the same.
    DiffXml = "domusConnectDiffXML", Read, "connect:read";
    (caller, on: Connection, TwoXml { first, second } => TwoXml) -> Vec<Change> {
        Ok(diff(&completed(on, &first, "first").await?, &completed(on, &second, "second").await?))
    }
}
