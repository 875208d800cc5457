//! What the packet filter holds, kept in mind: only tables that the kernel says were changed are read again, so that one
//! change costs the same among two hundred networks as among two.

use std::collections::BTreeSet;
use std::path::Path;

use super::nft::{self, Ruleset, TableName};
use super::programs::Programs;
use crate::error::Result;
use crate::sys::netnews::{News, Tables};

/// Tables whose content is not known.
#[derive(Debug, PartialEq, Eq)]
enum Stale {
    All,
    These(BTreeSet<TableName>),
}

/// The packet filter of the daemon's network namespace as it was last seen.
#[derive(Debug)]
pub struct Filter {
    /// `None`: the kernel tells nothing, and everything is read each time.
    news: Option<News>,
    stale: Stale,
    known: Ruleset,
}

impl Filter {
    /// Knows nothing yet. Needs a tokio runtime.
    pub fn open() -> Filter {
        let news = News::of_filter()
            .map_err(
                |error| tracing::warn!(%error, "changes of the firewall are noticed late: no news from the kernel"),
            )
            .ok();
        Filter { news, stale: Stale::All, known: Ruleset::default() }
    }

    fn note(&mut self, changed: Tables) {
        match (changed, &mut self.stale) {
            (Tables::These(tables), Stale::These(stale)) => {
                stale.extend(tables.into_iter().filter_map(TableName::of_kernel));
            }
            (Tables::All, stale) => *stale = Stale::All,
            (_, Stale::All) => {}
        }
    }

    /// Waits for a change; for ever when the kernel tells of none. Cancellation-safe.
    pub async fn changed(&mut self) {
        match &self.news {
            Some(news) => match news.changed_tables().await {
                Ok(changed) => self.note(changed),
                Err(error) => {
                    tracing::warn!(%error, "the kernel tells no more of the firewall; it is looked at each round");
                    self.news = None;
                }
            },
            None => std::future::pending().await,
        }
    }

    /// What the filter holds now; `None` when there is no nft.
    pub(super) async fn now(&mut self, programs: &Programs) -> Result<Option<&Ruleset>> {
        let Some(nft) = programs.nft_found() else { return Ok(None) };
        // Before anything is read: what changes from here on is news of the next time.
        match self.news.as_ref().map(News::take_tables) {
            Some(Ok(None)) => {}
            Some(Ok(Some(changed))) => self.note(changed),
            Some(Err(_)) | None => self.stale = Stale::All,
        }
        if let Err(error) = self.read(&nft).await {
            self.stale = Stale::All;
            return Err(error);
        }
        Ok(Some(&self.known))
    }

    async fn read(&mut self, nft: &Path) -> Result<()> {
        let stale = std::mem::replace(&mut self.stale, Stale::These(BTreeSet::new()));
        let stale = match stale {
            Stale::These(stale) if stale.is_empty() => return Ok(()),
            Stale::These(stale) => stale,
            Stale::All => {
                self.known = Ruleset::default();
                nft::tables()?
            }
        };
        let there = nft::tables()?;
        self.known.tables.retain(|name, _| there.contains(name) && !stale.contains(name));
        let wanted: Vec<TableName> = stale.intersection(&there).cloned().collect();
        let read = nft::read(nft, &wanted).await?;
        self.known.tables.extend(read.tables);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::in_netns_async;

    #[test]
    fn only_what_changed_is_read_again() {
        let programs = Programs::default();
        let Ok(nft) = programs.nft() else { return eprintln!("SKIP only_what_changed: nft is not installed") };
        in_netns_async("only_what_changed", async || {
            nft::apply(&nft, "table inet a { chain c { }\n}\ntable ip b { }\n").await.unwrap();
            let (a, b) = (TableName::new("inet", "a"), TableName::new("ip", "b"));
            let mut filter = Filter::open();
            let all = filter.now(&programs).await.unwrap().unwrap().clone();
            assert_eq!(all.tables.keys().collect::<Vec<_>>(), [&a, &b]);
            // Without news, nothing is read: not even a missing program is noticed.
            let missing = Path::new("/nonexistent/nft");
            filter.read(missing).await.unwrap();
            nft::apply(&nft, "add rule inet a c accept\n").await.unwrap();
            filter.changed().await;
            assert_eq!(filter.stale, Stale::These([a.clone()].into()));
            filter.read(missing).await.unwrap_err();
            // What could not be read is not taken for known.
            filter.stale = Stale::All;
            nft::apply(&nft, "add rule inet a c drop\n").await.unwrap();
            assert_eq!(filter.now(&programs).await.unwrap().unwrap().tables[&a].chains["c"].rules.len(), 2);
            nft::apply(&nft, "flush ruleset\ntable ip b { chain d { }\n}\n").await.unwrap();
            let now = filter.now(&programs).await.unwrap().unwrap();
            assert_eq!(now.tables.keys().collect::<Vec<_>>(), [&b]);
            assert!(now.tables[&b].chains.contains_key("d"));
            // No nft, no filter.
            let without = Programs { nft: Some(missing.into()), ..programs.clone() };
            assert!(filter.now(&without).await.unwrap().is_none());
        });
    }
}
