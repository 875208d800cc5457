//! Domains that are there without anybody having defined them: the test driver's.

use std::path::Path;

use super::api::{Call, Caller, DefineXml, XmlFlags};
use super::cleanup::run_blocking;
use super::domain::Op;
use super::runtime::Connection;
use crate::error::{Error, Result};

/// Defines and starts what the driver begins with, once for a state directory: a user who undefines it does not want it
/// back.
pub(super) async fn ship(connection: &Connection, state: &Path) -> Result<()> {
    let definitions = connection.runtime().driver().built_in();
    let mark = state.join(format!("{}-domains-shipped", connection.kind().scheme()));
    if definitions.is_empty() || mark.exists() {
        return Ok(());
    }
    for xml in definitions {
        let new = XmlFlags { xml: xml.into(), flags: 0 };
        let domain = DefineXml::run(&Caller::daemon(), connection, new).await?;
        domain.request(Op::Start { how: 0.into(), transient: None }).await?;
    }
    run_blocking(move || note(&mark)).await
}

#[allow(clippy::disallowed_methods, reason = "an empty file: there is nothing in it to be lost")]
fn note(mark: &Path) -> Result<()> {
    std::fs::write(mark, "").map_err(|error| Error::system(format!("cannot write '{}'", mark.display()), error))
}
