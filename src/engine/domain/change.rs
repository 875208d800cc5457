//! The change job: one setting or device of the running guest, of the persistent definition, or of both.
//!
//! ```text
//! flags + state -> which halves -> new definition made and checked -> guest told -> definition stored
//!                                                                       (job)   -> snapshots, events (task)
//! ```
//!
//! What is refused is refused before the guest is told anything. A definition that cannot be stored after the guest
//! obeyed is an error, as in libvirt: the guest keeps the new value.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::super::driver::Instance;
use super::super::event::EventKind;
use super::super::record::RunFile;
use super::super::runtime::DriverRuntime;
use super::{Outcome, Snapshot};
use crate::domain_xml::{self, DomainDef, FormatOptions};
use crate::error::{Error, Result};
use crate::types::Uuid;
use crate::types::flags::affect;

/// Changes a definition; may be run on more than one copy.
pub(crate) type Edit = Arc<dyn Fn(&mut DomainDef) -> Result<()> + Send + Sync>;
/// Tells the guest; gets it, its live definition, and where what is about to be made is noted.
pub(crate) type Live =
    Box<dyn FnOnce(Arc<dyn Instance>, Arc<DomainDef>, RunFile) -> BoxFuture<'static, Result<Applied>> + Send>;

/// What the guest did.
pub(crate) struct Applied {
    /// How its live definition changed.
    pub edit: Edit,
    /// What subscribers are told.
    pub events: Vec<EventKind>,
}

/// A change on its way into a domain.
pub(crate) struct Change {
    /// `VIR_DOMAIN_AFFECT_LIVE`, `_CONFIG`, both or (0) whichever the domain is in.
    pub flags: u32,
    pub live: Live,
    pub config: Edit,
    /// The new definition is completed and validated as by a define (devices get addresses).
    pub complete: bool,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change").field("flags", &self.flags).finish_non_exhaustive()
    }
}

/// How a change ended.
pub(crate) struct Changed {
    pub live: Option<Applied>,
    pub config: Option<Arc<DomainDef>>,
    pub result: Result<()>,
}

impl fmt::Debug for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changed").field("live", &self.live.is_some()).field("result", &self.result).finish()
    }
}

/// Which halves `flags` mean now, with libvirt's refusals: (live, config).
pub(crate) fn impact(flags: u32, active: bool, persistent: bool) -> Result<(bool, bool)> {
    let (live, config) = match flags & (affect::LIVE | affect::CONFIG) {
        affect::CURRENT => (active, !active),
        some => (some & affect::LIVE != 0, some & affect::CONFIG != 0),
    };
    if live && !active {
        return Err(Error::invalid_state("domain is not running"));
    }
    if config && !persistent {
        return Err(Error::invalid_state("transient domains do not have any persistent config"));
    }
    Ok((live, config))
}

/// The guest's half of a change.
struct LiveHalf {
    instance: Arc<dyn Instance>,
    def: Arc<DomainDef>,
    file: RunFile,
    tell: Live,
}

/// What a change job works on.
pub(super) struct ChangeJob {
    runtime: Arc<DriverRuntime>,
    uuid: Uuid,
    live: Option<LiveHalf>,
    config: Option<(Arc<DomainDef>, Edit)>,
    complete: bool,
}

impl ChangeJob {
    /// Decides which halves are meant.
    pub fn new(
        runtime: Arc<DriverRuntime>,
        snapshot: &Snapshot,
        file: Option<RunFile>,
        change: Change,
    ) -> Result<ChangeJob> {
        let (live, config) = impact(change.flags, snapshot.active(), snapshot.persistent())?;
        let gone = || Error::invalid_state("domain is not running");
        let live = match live {
            true => {
                let instance = snapshot.instance.clone().ok_or_else(gone)?;
                let (def, file) = (snapshot.live.clone().ok_or_else(gone)?, file.ok_or_else(gone)?);
                Some(LiveHalf { instance, def, file, tell: change.live })
            }
            false => None,
        };
        let config = snapshot.inactive.clone().filter(|_| config).map(|def| (def, change.config));
        Ok(ChangeJob { runtime, uuid: snapshot.uuid, live, config, complete: change.complete })
    }

    pub async fn run(self) -> Outcome {
        let mut changed = Changed { live: None, config: None, result: Ok(()) };
        changed.result = self.work(&mut changed.live, &mut changed.config).await;
        Outcome::Changed(Box::new(changed))
    }

    async fn work(self, applied: &mut Option<Applied>, stored: &mut Option<Arc<DomainDef>>) -> Result<()> {
        let config = match &self.config {
            Some((before, edit)) => {
                let mut def = before.as_ref().clone();
                edit(&mut def)?;
                if self.complete {
                    // As a define of the whole would read it: defaults, addresses, what may not be there twice.
                    let whole = FormatOptions { secure: true, inactive: true, ..Default::default() };
                    def = domain_xml::parse_inactive(&domain_xml::format(&def, whole))?.def;
                    self.runtime.driver().complete(&mut def, &mut Vec::new()).await?;
                    self.runtime.driver().validate(&def).await?;
                }
                Some(def)
            }
            None => None,
        };
        if let Some(LiveHalf { instance, def, file, tell }) = self.live {
            *applied = Some(tell(instance, def, file).await?);
        }
        if let Some(def) = config {
            let xml = domain_xml::format(&def, FormatOptions { secure: true, inactive: true, ..Default::default() });
            self.runtime.persist().put_definition(self.runtime.kind(), self.uuid, xml).await?;
            *stored = Some(Arc::new(def.compact()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, true, true, Ok((true, false)))]
    #[case(0, false, true, Ok((false, true)))]
    #[case(3, true, true, Ok((true, true)))]
    #[case(1, false, true, Err("domain is not running"))]
    #[case(3, false, true, Err("domain is not running"))]
    #[case(2, true, false, Err("transient domains do not have any persistent config"))]
    fn which_halves(
        #[case] flags: u32,
        #[case] active: bool,
        #[case] persistent: bool,
        #[case] expected: std::result::Result<(bool, bool), &str>,
    ) {
        let got = impact(flags, active, persistent).map_err(|error| error.detail);
        assert_eq!(got, expected.map_err(str::to_string));
    }
}
