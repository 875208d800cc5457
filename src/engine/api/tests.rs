//! Every call's rights, as its declaration says them, against those that libvirt asks for.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::engine::access::guard::{Answer, Authority, Guard, Question, Subject, Verdict};

/// A declaration as it stands in the source.
struct Declared {
    function: String,
    /// `domain:save?`, `>domain:getattr` as in the fixture.
    rights: BTreeSet<String>,
    /// Objects of rights that are not about what the call is made on.
    foreign: bool,
    filtered: bool,
    body: String,
}

fn own(on: &str) -> &'static str {
    match on {
        "Connection" => ObjectKind::Connect,
        "Domain" | "DomainSnapshot" => ObjectKind::Domain,
        "Network" => ObjectKind::Network,
        "StoragePool" => ObjectKind::StoragePool,
        "StorageVol" => ObjectKind::StorageVol,
        "Secret" => ObjectKind::Secret,
        "NodeDevice" => ObjectKind::NodeDevice,
        "HostInterface" => ObjectKind::Interface,
        "NwFilter" => ObjectKind::NwFilter,
        other => panic!("a call on {other}"),
    }
    .of_rights()
}

fn read(block: &str) -> Declared {
    let text = block.lines().filter(|line| !line.trim_start().starts_with("///")).collect::<Vec<_>>().join("\n");
    let (head, rest) = text.split_once(";\n").expect("a declaration");
    let words: Vec<&str> = head.split('"').collect();
    let on = rest.split_once("on: ").and_then(|(_, rest)| rest.split_once(',')).expect("what it is made on").0;
    let (mut rights, mut foreign, mut filtered) = (BTreeSet::new(), false, false);
    for at in (3..words.len()).step_by(2) {
        let (right, before) = (words[at], words[at - 1].trim());
        let at_times = words.get(at + 1).is_some_and(|after| after.trim_start().starts_with("if "));
        if before == "only" {
            filtered = true;
            rights.insert(format!(">{right}"));
        } else {
            let is_foreign = right.split(':').next() != Some(own(on));
            assert!(!(is_foreign && at_times), "{right}: only what a call is made on may depend on its arguments");
            foreign |= is_foreign;
            rights.insert(format!("{right}{}", if at_times { "?" } else { "" }));
        }
    }
    Declared { function: words[1].into(), rights, foreign, filtered, body: rest.into() }
}

fn all() -> Vec<Declared> {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/api");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("mod.rs") || path.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        found.extend(text.split("\ncall! {\n").skip(1).map(|block| read(block.split("\n}\n").next().unwrap())));
    }
    found
}

#[test]
fn every_call_asks_for_what_libvirt_asks_for() {
    let libvirts: BTreeMap<&str, BTreeSet<String>> = include_str!("../../../tests/fixtures/rights.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(function, rights)| (function, rights.split(' ').map(String::from).collect()))
        .collect();
    // Not in libvirt's protocol under this name, or without a right there.
    const OWN: [&str; 5] = [
        "virConnectIsEncrypted",
        "virConnectIsSecure",
        "virInterfaceGetName",
        "virInterfaceGetMACString",
        "virDomainListGetStats",
    ];
    let all = all();
    assert!(all.len() >= 257, "{} calls were found", all.len());
    for call in &all {
        match libvirts.get(call.function.as_str()) {
            Some(rights) => assert_eq!(&call.rights, rights, "{}", call.function),
            None => {
                let ours = call.function.starts_with("domus") || OWN.contains(&call.function.as_str());
                assert!(ours, "{} is not in tests/fixtures/rights.txt", call.function);
            }
        }
    }
}

/// What dispatch cannot do for a call, because it does not know the object, the call's own code does.
#[test]
fn a_call_that_finds_or_makes_its_object_asks_itself() {
    for Declared { function, foreign, filtered, body, .. } in all() {
        let asks = body.contains(".permit::<Self>()");
        assert_eq!(asks, foreign || filtered, "{function}");
        assert_eq!(body.contains(".visible("), filtered, "{function}");
    }
}

/// Allows the actions it holds, and notes what it is asked.
#[derive(Debug)]
struct Table {
    allowed: Vec<&'static str>,
    asked: std::sync::Mutex<Vec<String>>,
}

impl Authority for Table {
    fn ask(&self, question: Question) -> Answer {
        let allowed = self.allowed.iter().any(|allowed| question.action.ends_with(allowed));
        self.asked.lock().unwrap().push(question.action);
        Box::pin(async move { Ok(if allowed { Verdict::Allowed } else { Verdict::Denied }) })
    }

    fn generation(&self) -> u64 {
        0
    }
}

fn asking(allowed: &[&'static str]) -> (std::sync::Arc<Table>, Caller) {
    let table = std::sync::Arc::new(Table { allowed: allowed.to_vec(), asked: std::sync::Mutex::default() });
    let guard = Guard::new(table.clone(), Subject::BusName(":1.1".into()), 1);
    let ask = Ask { guard, driver: "Test", interactive: false };
    (table, Caller { ask: Some(ask), ..Caller::daemon() })
}

#[test]
fn flags_decide_what_is_needed() {
    let with = |flags| needed::<GetXmlDesc>(&flags).map(|(right, _)| right.permission).collect::<Vec<_>>();
    assert_eq!(with(0), ["read"]);
    assert_eq!(with(flags::xml::INACTIVE), ["read"]);
    assert_eq!(with(flags::xml::SECURE), ["read", "read_secure"]);
    assert_eq!(with(flags::xml::MIGRATABLE), ["read", "read_secure"]);
    let set = |flags| {
        let args = MemoryArgs { memory: 1, flags };
        needed::<SetMemory>(&args).map(|(right, _)| right.permission).collect::<Vec<_>>()
    };
    assert_eq!(set(flags::affect::LIVE), ["write"]);
    for stored in [0, flags::affect::CONFIG, flags::affect::LIVE | flags::affect::CONFIG] {
        assert_eq!(set(stored), ["write", "save"], "{stored}");
    }
}

#[test]
fn who_may_only_look_gets_what_libvirt_gives() {
    let refused = |flags| refuse_changes::<GetXmlDesc>(&flags).err().map(|error| error.message());
    assert_eq!(refused(0), None);
    let secure = Some("operation forbidden: virDomainGetXMLDesc with secure flag".to_string());
    assert_eq!(refused(flags::xml::SECURE), secure);
    assert_eq!(refused(flags::xml::MIGRATABLE), secure);
    let vcpus = refuse_changes::<GetVcpus>(&flags::vcpu::GUEST).unwrap_err();
    assert_eq!(vcpus.message(), "operation forbidden: read only access prevents virDomainGetVcpusFlags");
    let emulator = DomainCapsArgs { query: Default::default(), flags: 0 };
    // It would run a program that the caller names.
    assert!(refuse_changes::<GetDomainCapabilities>(&emulator).is_err());
    assert!(refuse_changes::<GetDomainHostname>(&0).is_err());
    assert!(refuse_changes::<GetVcpus>(&0).is_ok());
}

#[tokio::test]
async fn each_right_is_asked_for_until_one_is_denied() {
    let (table, caller) = asking(&["domain.write"]);
    let permit = caller.permit::<DefineXml>();
    let refused = permit.on_new("domain", || Ok(domain_details("one", uuid::Uuid::nil()))).await.unwrap_err();
    assert_eq!(refused.code, Code::AccessDenied);
    assert_eq!(refused.subsystem, Subsystem::Access);
    assert!(refused.message().starts_with("access denied: 'Test' denied access"), "{}", refused.message());
    let asked = table.asked.lock().unwrap().clone();
    assert_eq!(asked, ["org.libvirt.api.domain.write", "org.libvirt.api.domain.save"]);
    let (_, caller) = asking(&["domain.write", "domain.save"]);
    let permit = caller.permit::<DefineXml>();
    permit.on_new("domain", || Ok(domain_details("one", uuid::Uuid::nil()))).await.unwrap();
}
