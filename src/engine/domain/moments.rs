//! The snapshots of a domain, as a tree, and its saved state: what was kept of former moments.
//!
//! ```text
//!  a ── b ── c (current: the next one is made after it)
//!  └─── d
//! ```
//!
//! Immutable values: a change makes a new tree, which the domain's task stores and publishes. Knows nothing of how a
//! driver keeps memory and disks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain_xml::snapshot::SnapshotDef;
use crate::domain_xml::{DomainDef, FormatOptions, format, parse_stored};
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::Uuid;
use crate::xml::{Document, Writer};

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    by_name: BTreeMap<String, Arc<SnapshotDef>>,
    current: Option<String>,
}

/// What a deletion takes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The snapshot; what came after it comes after its parent then.
    One,
    /// And everything that came after it.
    WithChildren,
    /// Only what came after it.
    ChildrenOnly,
}

impl Tree {
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The snapshot of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<SnapshotDef>> {
        self.by_name.get(name)
    }

    /// The one that the next is made after.
    pub fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// The names of those made after `parent`; of the first ones for `None`.
    pub fn children<'a>(&'a self, parent: Option<&'a str>) -> impl Iterator<Item = &'a str> {
        let is = move |def: &&Arc<SnapshotDef>| def.parent.as_deref() == parent;
        self.by_name.values().filter(is).map(|def| def.name.as_str())
    }

    /// Everything below `parent` (below nothing: everything), each after its own parent.
    pub fn below<'a>(&'a self, parent: Option<&'a str>) -> Vec<&'a str> {
        let mut found: Vec<&str> = self.children(parent).collect();
        let mut at = 0;
        while let Some(name) = found.get(at).copied() {
            found.extend(self.children(Some(name)));
            at += 1;
        }
        found
    }

    /// Adds a new one after the current one and makes it the current one. Error: code 9, the name is taken.
    pub fn add(&self, mut def: SnapshotDef) -> Result<Tree> {
        if self.by_name.contains_key(&def.name) {
            let what = format!("domain moment {} already exists", def.name);
            return Err(Error::failed(what).with_subsystem(Subsystem::Domain));
        }
        let mut tree = self.clone();
        def.parent.clone_from(&tree.current);
        tree.current = Some(def.name.clone());
        tree.by_name.insert(def.name.clone(), Arc::new(def));
        Ok(tree)
    }

    /// Puts one back that was made before, or replaces it (`VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE`), of the domain `uuid`.
    /// Errors: code 8 for a parent that is not there or would close a circle, for the definition of another domain, for
    /// another state than it was made in; code 1 without a definition.
    pub fn redefine(&self, mut def: SnapshotDef, current: bool, uuid: Uuid) -> Result<Tree> {
        let name = def.name.clone();
        if let Some(parent) = &def.parent {
            let refused = |what: String| Err(Error::invalid_arg(what).with_subsystem(Subsystem::Domain));
            if *parent == name {
                return refused(format!("cannot set moment {name} as its own parent"));
            }
            if !self.by_name.contains_key(parent) {
                return refused(format!("parent {parent} for moment {name} not found"));
            }
            if self.below(Some(&name)).contains(&parent.as_str()) {
                return refused(format!("parent {parent} would create cycle to {name}"));
            }
        }
        let former = self.by_name.get(&name);
        let refused = |what: String| Err(Error::invalid_arg(what).with_subsystem(Subsystem::DomainSnapshot));
        if let Some(former) = former {
            if former.is_active() != def.is_active() {
                return refused(format!("cannot change between online and offline snapshot state in snapshot {name}"));
            }
            def.domain = def.domain.or_else(|| former.domain.clone());
        }
        let Some(domain) = &def.domain else {
            return Err(Error::internal("missing domain in snapshot").with_subsystem(Subsystem::DomainSnapshot));
        };
        if domain.uuid != Some(uuid) {
            return refused(format!("definition for snapshot {name} must use uuid {uuid}"));
        }
        let mut tree = self.clone();
        if current {
            tree.current = Some(name.clone());
        }
        tree.by_name.insert(name, Arc::new(def));
        Ok(tree)
    }

    /// Without one, or without what came after it. Where the current one goes, its nearest parent that stays is current.
    pub fn delete(&self, name: &str, reach: Reach) -> Result<Tree> {
        let def = self.by_name.get(name).ok_or_else(|| missing(name))?;
        let mut gone: BTreeSet<String> = BTreeSet::new();
        if reach != Reach::One {
            gone.extend(self.below(Some(name)).into_iter().map(str::to_string));
        }
        if reach != Reach::ChildrenOnly {
            gone.insert(name.to_string());
        }
        let mut tree = self.clone();
        tree.by_name.retain(|name, _| !gone.contains(name));
        if reach == Reach::One {
            for child in tree.by_name.values_mut().filter(|child| child.parent.as_deref() == Some(name)) {
                Arc::make_mut(child).parent.clone_from(&def.parent);
            }
        }
        while let Some(current) = tree.current.take_if(|current| gone.contains(current)) {
            tree.current = self.by_name.get(&current).and_then(|def| def.parent.clone());
        }
        Ok(tree)
    }

    /// With another current one, which is there.
    pub fn with_current(&self, name: &str) -> Tree {
        Tree { current: Some(name.to_string()), ..self.clone() }
    }

    /// For the store.
    pub fn to_xml(&self) -> String {
        let mut w = Writer::new();
        w.start("domainsnapshots");
        w.attr_opt("current", self.current.as_ref());
        self.by_name.values().for_each(|def| def.write(&mut w, true));
        w.end();
        w.finish()
    }

    /// From the store.
    pub fn parse(xml: &str) -> Result<Tree> {
        let document = Document::parse(xml, "domain_snapshots")?;
        let root = document.root();
        let mut tree = Tree { by_name: BTreeMap::new(), current: root.attr("current").map(str::to_string) };
        for node in root.children("domainsnapshot") {
            node.mark_opaque();
            let def = SnapshotDef::parse(node.source(), true)?;
            tree.by_name.insert(def.name.clone(), Arc::new(def));
        }
        Ok(tree)
    }
}

/// "Domain snapshot not found" for this name; the driver's own subsystem comes with the call.
pub(crate) fn missing(name: &str) -> Error {
    Error::new(Code::NoDomainSnapshot, format!("no domain snapshot with matching name '{name}'"))
}

/// A saved state (`virDomainManagedSave`): what the next start goes on with.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The definition the guest ran with.
    pub live: Arc<DomainDef>,
    /// Whether it is to be paused then.
    pub paused: bool,
}

impl Saved {
    /// For the store.
    pub fn to_xml(&self) -> String {
        let mut w = Writer::new();
        w.start("domstatus");
        w.attr("state", if self.paused { "paused" } else { "running" });
        let text = format(&self.live, FormatOptions { secure: true, ..FormatOptions::default() });
        w.raw_line(text.trim_end());
        w.end();
        w.finish()
    }

    /// From the store.
    pub fn parse(xml: &str) -> Result<Saved> {
        let document = Document::parse(xml, "saved_state")?;
        let root = document.root();
        let paused = root.attr("state") == Some("paused");
        let domain = root.child("domain").ok_or_else(|| root.error(Code::XmlError, "there is no definition in it"))?;
        domain.mark_opaque();
        Ok(Saved { live: Arc::new(parse_stored(domain.source())?.def), paused })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::snapshot::{SnapshotLocation, SnapshotState};

    const UUID: Uuid = Uuid::from_u128(1);

    fn domain() -> DomainDef {
        let xml = format!(
            "<domain type='test'><name>d</name><uuid>{UUID}</uuid><memory>1024</memory><os><type>hvm</type></os></domain>"
        );
        parse_stored(&xml).unwrap().def
    }

    fn snapshot(name: &str) -> SnapshotDef {
        SnapshotDef {
            name: name.into(),
            state: Some(SnapshotState::Running),
            created: Some(5),
            memory: Some(SnapshotLocation::Internal),
            domain: Some(Arc::new(domain())),
            ..SnapshotDef::default()
        }
    }

    /// a ── b ── c, and d after b.
    fn tree() -> Tree {
        let tree = Tree::default().add(snapshot("a")).unwrap().add(snapshot("b")).unwrap();
        tree.add(snapshot("c")).unwrap().with_current("b").add(snapshot("d")).unwrap()
    }

    #[test]
    fn each_comes_after_the_current_one() {
        let tree = tree();
        assert_eq!(tree.below(None), ["a", "b", "c", "d"]);
        assert_eq!(tree.children(Some("b")).collect::<Vec<_>>(), ["c", "d"]);
        assert_eq!(tree.current(), Some("d"));
        let error = tree.add(snapshot("a")).unwrap_err();
        assert_eq!(error.message(), "operation failed: domain moment a already exists");
    }

    #[test]
    fn deletions() {
        let tree = tree();
        let one = tree.delete("b", Reach::One).unwrap();
        assert_eq!((one.below(Some("a")), one.current()), (vec!["c", "d"], Some("d")));
        let children = tree.delete("b", Reach::ChildrenOnly).unwrap();
        assert_eq!((children.below(None), children.current()), (vec!["a", "b"], Some("b")));
        let all = tree.delete("b", Reach::WithChildren).unwrap();
        assert_eq!((all.below(None), all.current()), (vec!["a"], Some("a")));
        let none = tree.delete("a", Reach::WithChildren).unwrap();
        assert_eq!((none.is_empty(), none.current()), (true, None));
        assert_eq!(tree.delete("x", Reach::One).unwrap_err().code, Code::NoDomainSnapshot);
    }

    #[test]
    fn what_may_be_put_back() {
        let tree = tree();
        let refused = |def: SnapshotDef| tree.redefine(def, false, UUID).unwrap_err().message();
        let after = |name: &str, parent: &str| SnapshotDef { parent: Some(parent.into()), ..snapshot(name) };
        assert_eq!(refused(after("a", "a")), "invalid argument: cannot set moment a as its own parent");
        assert_eq!(refused(after("a", "x")), "invalid argument: parent x for moment a not found");
        assert_eq!(refused(after("a", "c")), "invalid argument: parent c would create cycle to a");
        let off = SnapshotDef { state: Some(SnapshotState::Shutoff), ..snapshot("a") };
        assert!(refused(off).contains("cannot change between online and offline snapshot state in snapshot a"));
        let none = SnapshotDef { domain: None, ..snapshot("new") };
        assert_eq!(refused(none), "internal error: missing domain in snapshot");
        let error = tree.redefine(snapshot("new"), false, Uuid::from_u128(2)).unwrap_err();
        assert!(error.detail.starts_with("definition for snapshot new must use uuid"), "{error}");
        let tree = tree.redefine(after("new", "c"), true, UUID).unwrap();
        assert_eq!((tree.children(Some("c")).collect::<Vec<_>>(), tree.current()), (vec!["new"], Some("new")));
        // One that is there keeps its definition.
        let again = SnapshotDef { domain: None, ..after("new", "a") };
        assert!(tree.redefine(again, false, UUID).unwrap().get("new").unwrap().domain.is_some());
    }

    #[test]
    fn the_store_keeps_all_of_it() {
        let tree = tree();
        let again = Tree::parse(&tree.to_xml()).unwrap();
        assert_eq!((again.to_xml(), again.current()), (tree.to_xml(), Some("d")));
        let saved = Saved { live: Arc::new(domain()), paused: true };
        let again = Saved::parse(&saved.to_xml()).unwrap();
        assert_eq!((again.live.name.as_str(), again.paused), ("d", true));
    }
}
