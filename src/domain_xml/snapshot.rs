//! `<domainsnapshot>`: what is kept of a domain at one moment, and what a client asks for.
//!
//! Owns the document; what a snapshot is made of, and the tree they stand in, is the engine's.

use std::sync::Arc;

use super::device::StorageFormat;
use super::device::storage::{Elsewhere, StorageKind, StorageSource, read_metadata_cache, write_metadata_cache};
use super::foreign::Foreign;
use super::words::words;
use super::{DomainDef, FormatOptions, format, parse_stored, warnings_of};
use crate::error::{Code, Error, Result, Subsystem};
use crate::xml::{Document, Node, Writer};

words! {
    /// Where a part of a snapshot is kept.
    pub enum SnapshotLocation { No = "no", Internal = "internal", External = "external", Manual = "manual" }

    /// What the domain did at the moment.
    pub enum SnapshotState {
        Nostate = "nostate",
        Running = "running",
        Blocked = "blocked",
        Paused = "paused",
        Shutdown = "shutdown",
        Shutoff = "shutoff",
        Crashed = "crashed",
        PmSuspended = "pmsuspended",
        Disks = "disk-snapshot",
    }
}

/// `<domainsnapshot>`
#[derive(Clone, Debug, Default)]
pub struct SnapshotDef {
    /// Empty: one is made up from the time.
    pub name: String,
    pub description: Option<String>,
    pub state: Option<SnapshotState>,
    /// The name of the one it was made after.
    pub parent: Option<String>,
    /// Seconds since 1970.
    pub created: Option<u64>,
    pub memory: Option<SnapshotLocation>,
    /// Of an external memory image.
    pub memory_file: Option<String>,
    pub disks: Vec<SnapshotDisk>,
    pub domain: Option<Arc<DomainDef>>,
    /// The definition of the next start, where it was another one.
    pub inactive_domain: Option<Arc<DomainDef>>,
    /// What a driver noted for itself.
    pub cookie: Option<Foreign>,
}

/// `<disk>` of a snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnapshotDisk {
    /// The disk's target, or the path of its source.
    pub name: String,
    pub location: Option<SnapshotLocation>,
    /// The new layer of an external one; its format is that of `<driver>`.
    pub source: StorageSource,
}

impl SnapshotDef {
    /// Reads libvirt's snapshot XML. With `redefine` it is one that was made before: what only the daemon says (state,
    /// parent, time, definition) counts, and must be there. Errors: codes 1, 27, 35.
    pub fn parse(xml: &str, redefine: bool) -> Result<SnapshotDef> {
        let document = Document::parse(xml, "domain_snapshot")?;
        read(&document, redefine).map_err(|error| error.or_subsystem(Subsystem::DomainSnapshot))
    }

    /// Refuses what the XML has that a snapshot does not (`VIR_DOMAIN_SNAPSHOT_CREATE_VALIDATE`). Error: code 92.
    pub fn validate(xml: &str) -> Result<()> {
        let document = Document::parse(xml, "domain_snapshot")?;
        read(&document, false).map_err(|error| error.or_subsystem(Subsystem::DomainSnapshot))?;
        // What is written by the daemon and ignored here.
        for name in ["state", "parent", "creationTime", "domain", "inactiveDomain", "active", "cookie"] {
            document.root().children(name).for_each(|node| node.mark_opaque());
        }
        let refused: Vec<String> = warnings_of(&document)
            .iter()
            .map(|doubt| format!("line {}, column {}, {}: {}", doubt.line, doubt.column, doubt.path, doubt.message))
            .collect();
        if refused.is_empty() {
            return Ok(());
        }
        Err(Error::new(Code::XmlInvalidSchema, refused.join("\n")).with_subsystem(Subsystem::Xml))
    }

    /// libvirt's snapshot XML; `secure`: with the secrets of the definition.
    pub fn to_xml(&self, secure: bool) -> String {
        let mut w = Writer::new();
        self.write(&mut w, secure);
        w.finish()
    }

    /// Writes it into a larger document.
    pub fn write(&self, w: &mut Writer, secure: bool) {
        let options = FormatOptions { secure, inactive: true, ..FormatOptions::default() };
        w.element("domainsnapshot", |w| {
            if !self.name.is_empty() {
                w.text("name", &self.name);
            }
            w.text_opt("description", self.description.as_ref());
            w.text_opt("state", self.state);
            if let Some(parent) = &self.parent {
                w.element("parent", |w| w.text("name", parent));
            }
            w.text_opt("creationTime", self.created);
            if let Some(memory) = self.memory {
                w.element("memory", |w| {
                    w.attr("snapshot", memory);
                    w.attr_opt("file", self.memory_file.as_ref());
                });
            }
            if !self.disks.is_empty() {
                w.element("disks", |w| self.disks.iter().for_each(|disk| disk.write(w, options)));
            }
            if let Some(domain) = &self.domain {
                format::write(domain, "domain", w, options);
            }
            if let Some(domain) = &self.inactive_domain {
                format::write(domain, "inactiveDomain", w, options);
            }
            if let Some(cookie) = &self.cookie {
                cookie.write(w);
            }
        });
    }

    /// Whether the guest ran, or its memory is in the snapshot.
    pub fn is_active(&self) -> bool {
        matches!(self.state, Some(SnapshotState::Running | SnapshotState::Paused))
    }
}

fn read(document: &Document<'_>, redefine: bool) -> Result<SnapshotDef> {
    let root = document.root();
    if root.name() != "domainsnapshot" {
        let what = format!("expecting root element of 'domainsnapshot', not '{}'", root.name());
        return Err(root.error(Code::XmlError, what).with_subsystem(Subsystem::Xml));
    }
    let mut def = SnapshotDef {
        name: root.child_string("name").unwrap_or_default(),
        description: root.child_string("description"),
        ..SnapshotDef::default()
    };
    if redefine && def.name.is_empty() {
        return Err(root.error(Code::XmlError, "a redefined snapshot must have a name"));
    }
    if redefine {
        def.created = root.child_value("creationTime")?;
        if def.created.is_none() {
            return Err(root.error(Code::InternalError, "missing creationTime from existing snapshot"));
        }
        def.parent = root.child("parent").and_then(|parent| parent.child_string("name"));
        let state = root.child("state");
        let state = state.ok_or_else(|| root.error(Code::InternalError, "missing state from existing snapshot"))?;
        let word = state.text();
        let known = word.parse();
        def.state =
            Some(known.map_err(|_| {
                state.error(Code::InternalError, format!("Invalid state '{word}' in domain snapshot XML"))
            })?);
        def.domain = root.child("domain").map(domain).transpose()?;
        def.inactive_domain = root.child("inactiveDomain").map(domain).transpose()?;
        def.cookie = root.child("cookie").map(Foreign::read_quietly);
    }
    if let Some(memory) = root.child("memory") {
        def.memory_file = memory.attr("file").map(str::to_string);
        def.memory = memory.attr_value("snapshot")?;
        if def.memory_file.is_some() && def.memory.is_none() {
            def.memory = Some(SnapshotLocation::External);
        }
        if let (Some(file), Some(location)) = (&def.memory_file, def.memory)
            && location != SnapshotLocation::External
        {
            let what = format!("memory filename '{file}' requires external snapshot");
            return Err(memory.error(Code::XmlError, what));
        }
        if def.memory == Some(SnapshotLocation::External) && def.memory_file.is_none() {
            return Err(memory.error(Code::XmlError, "external memory snapshots require a filename"));
        }
    } else if redefine {
        let internal = if def.is_active() { SnapshotLocation::Internal } else { SnapshotLocation::No };
        def.memory = Some(internal);
    }
    if let Some(disks) = root.child("disks") {
        def.disks = disks.children("disk").map(SnapshotDisk::read).collect::<Result<_>>()?;
    }
    Ok(def)
}

/// A definition in a snapshot; one that was accepted once.
fn domain(node: Node<'_>) -> Result<Arc<DomainDef>> {
    node.mark_opaque();
    let text = node.source().to_string();
    let text = match node.name() {
        "domain" => text,
        // The element that holds the second definition has a name of its own.
        other => text.replacen(&format!("<{other}"), "<domain", 1).replace(&format!("</{other}>"), "</domain>"),
    };
    Ok(Arc::new(parse_stored(&text)?.def.compact()))
}

impl SnapshotDisk {
    fn read(node: Node<'_>) -> Result<SnapshotDisk> {
        let name = node.attr("name").filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| node.error(Code::XmlError, "missing name from disk snapshot element"))?;
        let location: Option<SnapshotLocation> = node.attr_value("snapshot")?;
        let kind: StorageKind = node.attr_value("type")?.unwrap_or_default();
        let mut disk = SnapshotDisk {
            name: name.to_string(),
            location,
            source: StorageSource { kind, ..StorageSource::default() },
        };
        if let Some(driver) = node.child("driver") {
            disk.source.format = driver.attr_value::<StorageFormat>("type")?;
            disk.source.metadata_cache_max = read_metadata_cache(driver)?;
        }
        if let Some(source) = node.child("source") {
            disk.source.read_source(source)?;
        }
        if disk.location.is_none() && (!disk.source.is_empty() || disk.source.format.is_some()) {
            disk.location = Some(SnapshotLocation::External);
        }
        if let Some(path) = disk.source.path.as_ref().filter(|path| !path.starts_with('/')) {
            let what = format!("disk snapshot image path '{path}' must be absolute");
            return Err(node.error(Code::XmlError, what));
        }
        if disk.location != Some(SnapshotLocation::External)
            && let Some(path) = &disk.source.path
        {
            let what = format!("file '{path}' for disk '{name}' requires use of external snapshot mode");
            return Err(node.error(Code::XmlError, what));
        }
        Ok(disk)
    }

    fn write(&self, w: &mut Writer, options: FormatOptions) {
        w.element("disk", |w| {
            w.attr("name", &self.name);
            w.attr_opt("snapshot", self.location);
            if self.location != Some(SnapshotLocation::External) {
                return;
            }
            w.attr("type", self.source.kind);
            w.element_unless_empty("driver", |w| {
                w.attr_opt("type", self.source.format);
                write_metadata_cache(w, self.source.metadata_cache_max);
            });
            self.source.write_source(w, options, false, Elsewhere::default());
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use rstest::rstest;

    use super::*;

    /// The lines of a document in a form to compare: attributes sorted, without what the tests of the corpus put in
    /// themselves (a time, a mark of the current one, a name from the time, a definition of nothing but a UUID).
    fn comparable(text: &str, redefine: bool) -> Vec<String> {
        let text = text.replace("  <domain>\n    <uuid>9d37b878-a7cc-9f9a-b78f-49b3abad25a8</uuid>\n  </domain>\n", "");
        let text = text.replace("<domainsnapshot/>", "<domainsnapshot>\n</domainsnapshot>");
        let put_in = |line: &&str| {
            let line = line.trim();
            line.starts_with("<active>")
                || (!redefine && line.starts_with("<creationTime>"))
                || line == "<name>1386166249</name>"
        };
        let sorted = |line: &str| {
            let mut words: Vec<&str> = line.trim_end_matches("/>").split(' ').collect();
            let place = words.iter().position(|word| word.starts_with('<')).unwrap_or(0);
            if line.ends_with("/>") {
                words[place..].sort_unstable();
            }
            words.join(" ")
        };
        text.lines().filter(|line| !put_in(line)).map(sorted).collect()
    }

    /// The corpus of documents, when there is one: each is written as the expected document has it, but for the time and
    /// what the tests there put in.
    #[test]
    fn the_corpus_comes_out_as_expected() {
        let Some(corpus) = std::env::var_os("DOMUS_CORPUS").map(PathBuf::from) else { return };
        let index: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(corpus.join("index.json")).unwrap()).unwrap();
        let data = |name: &str| std::fs::read_to_string(Path::new(&corpus).join("data").join(name)).unwrap();
        let (mut passed, mut failed) = (0, Vec::new());
        for case in index["cases"].as_array().unwrap() {
            let Some(expected) = case["checks"]["snapshot-xml"]["expect"].as_str() else { continue };
            let redefine = case["redefine"] == true;
            let expected = data(expected);
            let ours = match SnapshotDef::parse(&data(case["input"].as_str().unwrap()), redefine) {
                Ok(def) => def.to_xml(true),
                Err(error) => error.to_string(),
            };
            if comparable(&ours, redefine) == comparable(&expected, redefine) {
                passed += 1;
            } else {
                failed.push(format!("{}\n--- ours\n{ours}--- expected\n{expected}", case["id"]));
            }
        }
        eprintln!("snapshots: {passed} of {}", passed + failed.len());
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }

    #[test]
    fn one_that_was_made_comes_out_as_it_went_in() {
        let xml = "<domainsnapshot>
  <name>a &amp; b</name>
  <description>d</description>
  <state>running</state>
  <parent>
    <name>before</name>
  </parent>
  <creationTime>5</creationTime>
  <memory snapshot='internal'/>
  <disks>
    <disk name='vda' snapshot='internal'/>
    <disk name='vdb' snapshot='external' type='file'>
      <driver type='qcow2'/>
      <source file='/new'/>
    </disk>
  </disks>
</domainsnapshot>
";
        assert_eq!(SnapshotDef::parse(xml, true).unwrap().to_xml(false), xml);
        let asked = SnapshotDef::parse(xml, false).unwrap();
        assert_eq!((asked.state, asked.parent, asked.created), (None, None, None));
        assert!(SnapshotDef::validate(xml).is_ok());
    }

    #[rstest]
    #[case("<foo/>", false, 27, "expecting root element of 'domainsnapshot', not 'foo'")]
    #[case("<domainsnapshot/>", true, 27, "a redefined snapshot must have a name")]
    #[case("<domainsnapshot><name>r</name></domainsnapshot>", true, 1, "missing creationTime from existing snapshot")]
    #[case(
        "<domainsnapshot><name>r</name><creationTime>1</creationTime></domainsnapshot>",
        true,
        1,
        "missing state from existing snapshot"
    )]
    #[case(
        "<domainsnapshot><memory snapshot='external'/></domainsnapshot>",
        false,
        27,
        "external memory snapshots require a filename"
    )]
    #[case(
        "<domainsnapshot><disks><disk name='vda'><source file='x'/></disk></disks></domainsnapshot>",
        false,
        27,
        "disk snapshot image path 'x' must be absolute"
    )]
    #[case(
        "<domainsnapshot><disks><disk/></disks></domainsnapshot>",
        false,
        27,
        "missing name from disk snapshot element"
    )]
    fn refused_as_libvirt_does(#[case] xml: &str, #[case] redefine: bool, #[case] code: i32, #[case] start: &str) {
        let error = SnapshotDef::parse(xml, redefine).unwrap_err();
        assert_eq!(error.code as i32, code, "{error}");
        assert!(error.detail.starts_with(start), "{error}");
    }

    #[test]
    fn validation_finds_what_is_too_much() {
        let error = SnapshotDef::validate("<domainsnapshot><foo/></domainsnapshot>").unwrap_err();
        assert_eq!(error.code, Code::XmlInvalidSchema, "{error}");
    }

    const SEED: &str = "<domainsnapshot><name>a</name><description>d</description><state>running</state><parent><name>p</name>\
                        </parent><creationTime>5</creationTime><memory snapshot='external' file='/m'/><disks><disk name='vda' \
                        snapshot='external' type='file'><driver type='qcow2'/><source file='/n'/></disk></disks><domain \
                        type='test'><name>d</name><memory>1024</memory><os><type>hvm</type></os></domain><inactiveDomain \
                        type='test'><name>d</name><memory>24</memory><os><type>hvm</type></os></inactiveDomain><cookie><x \
                        y='z'/></cookie></domainsnapshot>";

    /// Every document that differs from a good one in a byte is read or refused, never worse; what is read is written so that
    /// it reads back the same.
    #[test]
    fn broken_documents_do_no_harm() {
        for (at, _) in SEED.char_indices() {
            let (before, after) = SEED.split_at(at);
            let mut rest = after.chars();
            rest.next();
            for put in ["", "'", "<", "/", "$", "9999999999", "\u{e9}"] {
                let text = format!("{before}{put}{}", rest.as_str());
                if let Ok(def) = SnapshotDef::parse(&text, true) {
                    let written = def.to_xml(true);
                    let again =
                        SnapshotDef::parse(&written, true).unwrap_or_else(|error| panic!("{text}\n{written}: {error}"));
                    assert_eq!(again.to_xml(true), written, "{text}");
                }
            }
        }
    }
}
