//! `schemas/*.rng`: RELAX NG for what the readers of this directory accept, made from what they ask for.
//!
//! The readers are the only place that knows the format. [`learn`] shows them documents that grow by whatever they asked
//! for in the last one, until nothing new is asked for; [`rng`] writes that down. A reader that learns a new word fails
//! the test here until `DOMUS_BLESS=1 cargo test --lib domain_xml::schema` has written the schema anew.
//!
//! The schema says which elements and attributes there are, how often, and how values are written; not which of them
//! go together, which the readers and checks say better.

mod learn;
mod rng;

use std::collections::BTreeMap;

use crate::xml::{Asked, AskedFor, Form};

/// How a value is written, over all readers of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text,
    Words(Vec<&'static str>),
    Unsigned,
    Signed,
    AnyBase,
}

impl Value {
    fn of(form: Form) -> Value {
        match form {
            Form::Text => Value::Text,
            Form::Words(words) => Value::Words(words.to_vec()),
            Form::Unsigned => Value::Unsigned,
            Form::Signed => Value::Signed,
            Form::AnyBase => Value::AnyBase,
        }
    }

    /// Two readers of one attribute (of different kinds of a device): what either takes.
    fn or(self, other: Value) -> Value {
        match (self, other) {
            (a, b) if a == b => a,
            (Value::Words(mut a), Value::Words(b)) => {
                a.extend(b.into_iter().filter(|word| !a.contains(word)).collect::<Vec<_>>());
                Value::Words(a)
            }
            (Value::AnyBase, Value::Unsigned) | (Value::Unsigned, Value::AnyBase) => Value::AnyBase,
            (Value::Signed, Value::Unsigned) | (Value::Unsigned, Value::Signed) => Value::Signed,
            _ => Value::Text,
        }
    }
}

/// An element at a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Element {
    attributes: BTreeMap<String, Value>,
    /// Name, and whether there may be several.
    children: BTreeMap<String, bool>,
    text: Option<Value>,
    /// Anything may be in it: it is kept as it is.
    anything: bool,
}

/// Every element by its path from `domain`.
#[derive(Debug, Default)]
struct Grammar(BTreeMap<Vec<String>, Element>);

impl Grammar {
    /// Notes what the readers asked one element at `path` for.
    fn note(&mut self, path: &[String], asks: &[Asked]) {
        let element = self.0.entry(path.to_vec()).or_default();
        // Of one element a value may be asked for by its name first and in its form after: the form knows more.
        let mut values: BTreeMap<&'static str, Value> = BTreeMap::new();
        let mut text: Option<Value> = None;
        let in_form = |known: Option<Value>, form: Form| match (known, Value::of(form)) {
            (None | Some(Value::Text), value) => value,
            (Some(known), Value::Text) => known,
            (Some(known), value) => known.or(value),
        };
        for asked in asks {
            match asked.what {
                AskedFor::Attribute => {
                    let known = values.remove(asked.name);
                    values.insert(asked.name, in_form(known, asked.form));
                }
                AskedFor::Child => {
                    element.children.entry(asked.name.to_string()).or_insert(false);
                }
                AskedFor::Children => {
                    element.children.insert(asked.name.to_string(), true);
                }
                AskedFor::Text => text = Some(in_form(text.take(), asked.form)),
            }
        }
        let other = |known: Option<Value>, value: Value| known.map_or(value.clone(), |known| known.or(value));
        for (name, value) in values {
            let known = element.attributes.remove(name);
            element.attributes.insert(name.to_string(), other(known, value));
        }
        if let Some(value) = text {
            element.text = Some(other(element.text.take(), value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::sync::LazyLock;

    static GRAMMAR: LazyLock<Grammar> = LazyLock::new(|| {
        let own: Vec<String> = documents(None).into_iter().map(|(_, text)| text).collect();
        learn::learn(&own)
    });

    #[allow(clippy::disallowed_methods)] // a test's own program
    fn xmllint() -> Command {
        Command::new("xmllint")
    }

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
    }

    #[test]
    fn the_schema_is_what_the_readers_ask_for() {
        let files = rng::write(&GRAMMAR);
        for (name, text) in &files {
            let path = root().join("schemas").join(name);
            if std::env::var_os("DOMUS_BLESS").is_some() {
                #[allow(clippy::disallowed_methods)] // a file of the source tree
                std::fs::write(&path, text).unwrap();
            }
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            let hint = "run DOMUS_BLESS=1 cargo test --lib domain_xml::schema";
            assert!(found == *text, "schemas/{name} is not what the readers ask for; {hint}");
        }
    }

    #[test]
    fn exploring_finds_what_is_deep_inside() {
        let element = |path: &str| {
            let path: Vec<String> = path.split('/').map(str::to_string).collect();
            GRAMMAR.0.get(&path).unwrap_or_else(|| panic!("{path:?} is not known")).clone()
        };
        assert_eq!(element("domain/vcpu").attributes["placement"], Value::Words(vec!["static", "auto"]));
        assert!(element("domain/devices").children["disk"]);
        assert!(!element("domain/devices/disk").children["source"]);
        for (path, attribute) in [
            ("domain/devices/disk/source", "protocol"),
            ("domain/devices/disk/source/host", "transport"),
            ("domain/devices/disk/source/reservations/source", "path"),
            ("domain/devices/disk/address", "unit"),
            ("domain/devices/interface/source", "bridge"),
            ("domain/devices/interface/virtualport/parameters", "interfaceid"),
            ("domain/devices/hostdev/source/address", "slot"),
            ("domain/devices/hostdev/source/adapter", "name"),
            ("domain/devices/channel/target", "name"),
            ("domain/devices/graphics/listen", "address"),
            ("domain/devices/tpm/backend/encryption", "secret"),
            ("domain/clock/timer/catchup", "threshold"),
            ("domain/cpu/numa/cell/distances/sibling", "value"),
            ("domain/cputune/vcpupin", "cpuset"),
        ] {
            assert!(element(path).attributes.contains_key(attribute), "{path} lacks {attribute}: {:?}", element(path));
        }
    }

    /// Every document of the project that is accepted, and those of a further directory.
    fn documents(further: Option<PathBuf>) -> Vec<(PathBuf, String)> {
        let mut open =
            ["examples", "tests/fixtures", "src/qemu/command/testdata"].map(|name| root().join(name)).to_vec();
        open.extend(further);
        let mut found = Vec::new();
        while let Some(directory) = open.pop() {
            for path in std::fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    open.push(path);
                } else if path.extension().is_some_and(|extension| extension == "xml")
                    && let Ok(text) = std::fs::read_to_string(&path)
                    && text.contains("<domain")
                    && crate::domain_xml::check::validate_strictly(&text).is_ok()
                    && crate::domain_xml::parse(&text).is_ok()
                {
                    found.push((path, text));
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn every_accepted_document_is_valid() {
        if xmllint().arg("--version").stderr(Stdio::null()).status().is_err() {
            println!("SKIP every_accepted_document_is_valid: xmllint is not installed (scripts/setup.sh)");
            return;
        }
        let documents = documents(std::env::var_os("DOMUS_CORPUS").map(PathBuf::from));
        assert!(documents.len() >= 8, "only {} documents", documents.len());
        let mut run = xmllint();
        run.args(["--noout", "--relaxng"]).arg(root().join("schemas/domain.rng"));
        run.args(documents.iter().map(|(path, _)| path));
        let out = run.output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        let wrong: Vec<&str> = said.lines().filter(|line| !line.ends_with(" validates")).take(20).collect();
        assert!(out.status.success(), "{} documents: {wrong:#?}", documents.len());
    }

    #[test]
    fn a_misspelled_document_is_not_valid() {
        if xmllint().arg("--version").stderr(Stdio::null()).status().is_err() {
            println!("SKIP a_misspelled_document_is_not_valid: xmllint is not installed (scripts/setup.sh)");
            return;
        }
        let example = std::fs::read_to_string(root().join("examples/minimal-vm.xml")).unwrap();
        let inside = |devices: &str| {
            format!(
                "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os><features><hyperv>\
                 <stimer state='on'/></hyperv></features><devices>{devices}</devices></domain>"
            )
        };
        let audio = inside("<audio id='1' type='alsa'><input mixingEngine='yes' dev='/a'/></audio>");
        let port = inside("<controller type='pci' model='pcie-root-port'><target chassis='1'/></controller>");
        let chain = inside("<disk><source file='/a'/><backingStore/><target dev='vda'/></disk>");
        for (good, from, to) in [
            (&example, "<serial", "<seriall"),
            (&example, "<serial type=", "<serial typ="),
            (&example, "<vcpu>", "<vcpu placement='statik'>"),
            (&example, "<cmdline>", "<cmdline quiet='yes'>"),
            (&audio, "<stimer", "<stimmer"),
            (&audio, "mixingEngine=", "mixedEngine="),
            (&audio, "<input", "<inputs"),
            (&port, "chassis=", "chasis="),
            (&port, "pci' model=", "pci' modell="),
            (&chain, "<backingStore/>", "<backingstore/>"),
            (&chain, "<backingStore/>", "<backingStore typ='file'/>"),
        ] {
            assert!(good.contains(from), "{from} is not in the example: {good}");
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("bad.xml");
            #[allow(clippy::disallowed_methods)] // input of a test
            std::fs::write(&path, good).unwrap();
            let validate = || {
                let mut run = xmllint();
                run.args(["--noout", "--relaxng"]).arg(root().join("schemas/domain.rng")).arg(&path);
                run.output().unwrap()
            };
            let out = validate();
            assert!(out.status.success(), "{good}: {}", String::from_utf8_lossy(&out.stderr));
            #[allow(clippy::disallowed_methods)] // input of a test
            std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
            let out = validate();
            assert_eq!(out.status.code(), Some(3), "{to}: {}", String::from_utf8_lossy(&out.stderr));
        }
    }
}
