//! Snapshots of domains, and guests' saved states.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{XmlFlags, call, check_flags};
use crate::domain_xml::snapshot::{SnapshotDef, SnapshotLocation, SnapshotState};
use crate::domain_xml::{self, FormatOptions};
use crate::engine::Domain;
use crate::engine::domain::moments::{Reach, Saved, Tree, missing};
use crate::engine::domain::{DomainSnapshot, Edit, Op};
use crate::error::{Code, Error, Result, Subsystem};

/// `VIR_DOMAIN_SAVE_IMAGE_XML_SECURE`.
const SAVED_SECURE: u32 = 1;

/// `virDomainSnapshotCreateFlags`
mod create {
    pub const REDEFINE: u32 = 1;
    pub const CURRENT: u32 = 2;
    pub const HALT: u32 = 8;
    pub const QUIESCE: u32 = 64;
    pub const ATOMIC: u32 = 128;
    pub const LIVE: u32 = 256;
    pub const VALIDATE: u32 = 512;
    pub const ALL: u32 = REDEFINE | CURRENT | HALT | QUIESCE | ATOMIC | LIVE | VALIDATE;
}

/// `virDomainSnapshotListFlags`; the first bit means roots in lists of all, descendants in lists of children.
mod list {
    pub const FIRST: u32 = 1;
    pub const METADATA: u32 = 2;
    pub const LEAVES: u32 = 4;
    pub const NO_LEAVES: u32 = 8;
    pub const NO_METADATA: u32 = 16;
    pub const INACTIVE: u32 = 32;
    pub const ACTIVE: u32 = 64;
    pub const DISK_ONLY: u32 = 128;
    pub const INTERNAL: u32 = 256;
    pub const EXTERNAL: u32 = 512;
    pub const TOPOLOGICAL: u32 = 1024;
    pub const ALL: u32 = 2047;
}

/// `virDomainSnapshotRevertFlags`
mod revert {
    pub const RUNNING: u32 = 1;
    pub const PAUSED: u32 = 2;
    pub const FORCE: u32 = 4;
    pub const RESET_NVRAM: u32 = 8;
}

/// `virDomainSnapshotDeleteFlags`
mod delete {
    pub const CHILDREN: u32 = 1;
    pub const METADATA_ONLY: u32 = 2;
    pub const CHILDREN_ONLY: u32 = 4;
}

/// `virDomainSaveRestoreFlags`
mod save {
    pub const BYPASS_CACHE: u32 = 1;
    pub const RUNNING: u32 = 2;
    pub const PAUSED: u32 = 4;
    pub const RESET_NVRAM: u32 = 8;
}

/// `VIR_DOMAIN_SNAPSHOT_XML_SECURE`
const XML_SECURE: u32 = 1;

fn exclusive(flags: u32, (a, first): (u32, &str), (b, second): (u32, &str)) -> Result<()> {
    if flags & a == 0 || flags & b == 0 {
        return Ok(());
    }
    let what = format!("Flags '{first}' and '{second}' are mutually exclusive");
    Err(Error::bare_arg(what).with_subsystem(Subsystem::DomainSnapshot))
}

fn handles<'a>(domain: &Domain, names: impl IntoIterator<Item = &'a str>) -> Vec<DomainSnapshot> {
    names.into_iter().map(|name| DomainSnapshot { domain: domain.clone(), name: name.to_string() }).collect()
}

/// Whether a list with these flags shows it: of each group with a bit set, one must fit.
fn matches(tree: &Tree, def: &SnapshotDef, flags: u32) -> bool {
    let any = |bits: &[(u32, bool)]| {
        let asked = bits.iter().fold(0, |all, (bit, _)| all | bit) & flags;
        asked == 0 || bits.iter().any(|(bit, is)| flags & bit != 0 && *is)
    };
    let leaf = tree.children(Some(&def.name)).next().is_none();
    let disks_only = def.state == Some(SnapshotState::Disks);
    let external = def.memory == Some(SnapshotLocation::External)
        || def.disks.iter().any(|disk| disk.location == Some(SnapshotLocation::External));
    any(&[(list::METADATA, true), (list::NO_METADATA, false)])
        && any(&[(list::LEAVES, leaf), (list::NO_LEAVES, !leaf)])
        && any(&[
            (list::INACTIVE, !def.is_active() && !disks_only),
            (list::ACTIVE, def.is_active()),
            (list::DISK_ONLY, disks_only),
        ])
        && any(&[(list::INTERNAL, !external), (list::EXTERNAL, external)])
}

fn listed(domain: &Domain, tree: &Tree, names: Vec<&str>, flags: u32) -> Vec<DomainSnapshot> {
    let wanted = |name: &&str| tree.get(name).is_some_and(|def| matches(tree, def, flags));
    let mut names: Vec<&str> = names.into_iter().filter(wanted).collect();
    if flags & list::TOPOLOGICAL == 0 {
        names.sort_unstable();
    }
    handles(domain, names)
}

call! {
    /// Keeps the present moment, or puts one back that was made before (`virDomainSnapshotCreateFlags`).
    SnapshotCreateXml = "virDomainSnapshotCreateXML", Write,
        "domain:snapshot", "domain:fs_freeze" if |args| args.flags & create::QUIESCE != 0;
    (caller, on: Domain, XmlFlags { xml, flags } => XmlFlags) -> DomainSnapshot {
        check_flags(on, flags, create::ALL, "virDomainSnapshotCreateXML")?;
        if !on.runtime().driver().keeps_moments() {
            return Err(Error::no_support("virDomainSnapshotCreateXML"));
        }
        if flags & create::CURRENT != 0 && flags & create::REDEFINE == 0 {
            let what = "flag 'VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT' requires flag 'VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE'";
            return Err(Error::bare_arg(what));
        }
        exclusive(
            flags,
            (create::REDEFINE, "VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE"),
            (create::HALT, "VIR_DOMAIN_SNAPSHOT_CREATE_HALT"),
        )?;
        if flags & create::VALIDATE != 0 {
            SnapshotDef::validate(&xml)?;
        }
        let redefine = flags & create::REDEFINE != 0;
        let mut def = SnapshotDef::parse(&xml, redefine)?;
        if redefine {
            let name = def.name.clone();
            let edit = Edit::Redefine { def: Box::new(def), current: flags & create::CURRENT != 0 };
            on.request(Op::EditMoments(Box::new(edit))).await?;
            return Ok(DomainSnapshot { domain: on.clone(), name });
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        def.created = Some(now);
        if def.name.is_empty() {
            def.name = now.to_string();
        }
        let name = def.name.clone();
        on.request(Op::TakeSnapshot { def: Box::new(def), halt: flags & create::HALT != 0 }).await?;
        Ok(DomainSnapshot { domain: on.clone(), name })
    }
}

call! {
    /// All snapshots that match `virDomainSnapshotListFlags`.
    ListAllSnapshots = "virDomainListAllSnapshots", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> Vec<DomainSnapshot> {
        check_flags(on, flags, list::ALL, "virDomainListAllSnapshots")?;
        let tree = on.snapshot().moments.clone();
        let names = if flags & list::FIRST != 0 { tree.children(None).collect() } else { tree.below(None) };
        Ok(listed(on, &tree, names, flags))
    }
}

call! {
    /// By name.
    SnapshotLookupByName = "virDomainSnapshotLookupByName", Read, "domain:read";
    (caller, on: Domain, (name, flags) => (String, u32)) -> DomainSnapshot {
        check_flags(on, flags, 0, "virDomainSnapshotLookupByName")?;
        on.snapshot().moments.get(&name).ok_or_else(|| missing(&name))?;
        Ok(DomainSnapshot { domain: on.clone(), name })
    }
}

call! {
    /// Whether there is one that the next would be made after.
    HasCurrentSnapshot = "virDomainHasCurrentSnapshot", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> bool {
        check_flags(on, flags, 0, "virDomainHasCurrentSnapshot")?;
        Ok(on.snapshot().moments.current().is_some())
    }
}

call! {
    /// The one that the next would be made after. Error: code 72, none.
    SnapshotCurrent = "virDomainSnapshotCurrent", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> DomainSnapshot {
        check_flags(on, flags, 0, "virDomainSnapshotCurrent")?;
        let name = on.snapshot().moments.current().map(str::to_string);
        let none = || Error::new(Code::NoDomainSnapshot, "the domain does not have a current snapshot");
        Ok(DomainSnapshot { domain: on.clone(), name: name.ok_or_else(none)? })
    }
}

call! {
    /// Its description (`virDomainSnapshotXMLFlags`).
    SnapshotGetXmlDesc = "virDomainSnapshotGetXMLDesc", Read,
        "domain:read", "domain:read_secure" if |flags| flags & XML_SECURE != 0;
    (caller, on: DomainSnapshot, flags => u32) -> String {
        check_flags(on, flags, XML_SECURE, "virDomainSnapshotGetXMLDesc")?;
        let secure = flags & XML_SECURE != 0;
        Ok(on.find()?.1.to_xml(secure))
    }
}

call! {
    /// The one it was made after. Error: code 72, none.
    SnapshotGetParent = "virDomainSnapshotGetParent", Read, "domain:read";
    (caller, on: DomainSnapshot, flags => u32) -> DomainSnapshot {
        check_flags(on, flags, 0, "virDomainSnapshotGetParent")?;
        on.parent()
    }
}

call! {
    /// Those that were made after it, with flag 1 also what came after these.
    SnapshotListAllChildren = "virDomainSnapshotListAllChildren", Read, "domain:read";
    (caller, on: DomainSnapshot, flags => u32) -> Vec<DomainSnapshot> {
        check_flags(on, flags, list::ALL, "virDomainSnapshotListAllChildren")?;
        let (tree, def) = on.find()?;
        let name = Some(def.name.as_str());
        let names = if flags & list::FIRST != 0 { tree.below(name) } else { tree.children(name).collect() };
        Ok(listed(&on.domain, &tree, names, flags))
    }
}

call! {
    /// Whether the next would be made after it.
    SnapshotIsCurrent = "virDomainSnapshotIsCurrent", Read, "domain:read";
    (caller, on: DomainSnapshot, flags => u32) -> bool {
        check_flags(on, flags, 0, "virDomainSnapshotIsCurrent")?;
        Ok(on.find()?.0.current() == Some(&on.name))
    }
}

call! {
    /// Whether the daemon keeps a description of it: of all that it knows.
    SnapshotHasMetadata = "virDomainSnapshotHasMetadata", Read, "domain:read";
    (caller, on: DomainSnapshot, flags => u32) -> bool {
        check_flags(on, flags, 0, "virDomainSnapshotHasMetadata")?;
        on.find().map(|_| true)
    }
}

call! {
    /// Brings the domain back to it (`virDomainSnapshotRevertFlags`); a guest that runs is ended before.
    RevertToSnapshot = "virDomainRevertToSnapshot", Write, "domain:snapshot";
    (caller, on: DomainSnapshot, flags => u32) -> () {
        let known = revert::RUNNING | revert::PAUSED | revert::FORCE | revert::RESET_NVRAM;
        check_flags(on, flags, known, "virDomainRevertToSnapshot")?;
        exclusive(
            flags,
            (revert::RUNNING, "VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING"),
            (revert::PAUSED, "VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED"),
        )?;
        let running = (flags & (revert::RUNNING | revert::PAUSED) != 0).then_some(flags & revert::RUNNING != 0);
        on.domain.request(Op::Revert { name: on.name.clone(), running }).await
    }
}

call! {
    /// Forgets it, with what came after it or only that (`virDomainSnapshotDeleteFlags`).
    SnapshotDelete = "virDomainSnapshotDelete", Write, "domain:snapshot";
    (caller, on: DomainSnapshot, flags => u32) -> () {
        let known = delete::CHILDREN | delete::METADATA_ONLY | delete::CHILDREN_ONLY;
        check_flags(on, flags, known, "virDomainSnapshotDelete")?;
        exclusive(
            flags,
            (delete::CHILDREN, "VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN"),
            (delete::CHILDREN_ONLY, "VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN_ONLY"),
        )?;
        let reach = match flags {
            flags if flags & delete::CHILDREN != 0 => Reach::WithChildren,
            flags if flags & delete::CHILDREN_ONLY != 0 => Reach::ChildrenOnly,
            _ => Reach::One,
        };
        on.domain.request(Op::EditMoments(Box::new(Edit::Delete { name: on.name.clone(), reach }))).await
    }
}

call! {
    /// Keeps the guest's state for the next start, and ends it (`virDomainSaveRestoreFlags`).
    ManagedSave = "virDomainManagedSave", Write, "domain:hibernate";
    (caller, on: Domain, flags => u32) -> () {
        let known = save::BYPASS_CACHE | save::RUNNING | save::PAUSED | save::RESET_NVRAM;
        check_flags(on, flags, known, "virDomainManagedSave")?;
        exclusive(flags, (save::RUNNING, "VIR_DOMAIN_SAVE_RUNNING"), (save::PAUSED, "VIR_DOMAIN_SAVE_PAUSED"))?;
        let running = (flags & (save::RUNNING | save::PAUSED) != 0).then_some(flags & save::RUNNING != 0);
        on.request(Op::Save { running }).await
    }
}

call! {
    /// Whether the next start goes on from a kept state.
    HasManagedSaveImage = "virDomainHasManagedSaveImage", Read, "domain:read";
    (caller, on: Domain, flags => u32) -> bool {
        check_flags(on, flags, 0, "virDomainHasManagedSaveImage")?;
        Ok(on.snapshot().saved.is_some())
    }
}

/// The kept state. Errors: 55 when there is none.
fn saved(on: &Domain) -> Result<Arc<Saved>> {
    on.snapshot().saved.clone().ok_or_else(|| Error::invalid_state("domain does not have managed save image"))
}

call! {
    /// The definition that the next start goes on with.
    ManagedSaveGetXmlDesc = "virDomainManagedSaveGetXMLDesc", Read,
        "domain:read", "domain:read_secure" if |flags| flags & SAVED_SECURE != 0;
    (caller, on: Domain, flags => u32) -> String {
        check_flags(on, flags, SAVED_SECURE, "virDomainManagedSaveGetXMLDesc")?;
        let secure = flags & SAVED_SECURE != 0;
        let options = FormatOptions { secure, migratable: true, ..FormatOptions::default() };
        Ok(domain_xml::format(&saved(on)?.live, options))
    }
}

call! {
    /// Changes that definition. Errors: 55 when there is none, 3: no driver's can be changed yet.
    ManagedSaveDefineXml = "virDomainManagedSaveDefineXML", Write, "domain:write", "domain:hibernate";
    (caller, on: Domain, () => ()) -> () {
        saved(on)?;
        Err(Error::no_support("virDomainManagedSaveDefineXML"))
    }
}

call! {
    /// Forgets the kept state; the next start is an ordinary one.
    ManagedSaveRemove = "virDomainManagedSaveRemove", Write, "domain:hibernate";
    (caller, on: Domain, flags => u32) -> () {
        check_flags(on, flags, 0, "virDomainManagedSaveRemove")?;
        on.request(Op::ForgetSaved).await
    }
}
