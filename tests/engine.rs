//! The engine on the test driver: jobs, order of events, recovery, misbehaving guests. In process, no privileges.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::Duration;

use domus::engine::api::{self, Caller, dispatch};
use domus::engine::driver::{Driver, DriverKind};
use domus::engine::event::{About, EventKind, Subscription, lifecycle};
use domus::engine::state::{State, shutoff};
use domus::engine::{Connection, Domain, Engine, EngineConfig};
use domus::error::{Code, Error};
use domus::mock::{Behaviour, MockDriver};
use rstest::rstest;

/// An engine in a directory of its own, with the test driver.
struct Lab {
    dir: tempfile::TempDir,
    driver: Arc<MockDriver>,
    engine: Engine,
}

impl Lab {
    async fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let (driver, engine) = Self::open(dir.path()).await;
        Lab { dir, driver, engine }
    }

    async fn open(root: &std::path::Path) -> (Arc<MockDriver>, Engine) {
        let driver = MockDriver::new();
        let config = EngineConfig {
            state_dir: root.join("state"),
            run_dir: root.join("run"),
            log_dir: root.join("log"),
            autostart_parallel: 4,
            networks: Default::default(),
            image_user: None,
        };
        let drivers: Vec<Arc<dyn Driver>> = vec![driver.clone()];
        let engine = Engine::open(config, drivers, Arc::default()).await.unwrap();
        (driver, engine)
    }

    /// What a killed and restarted daemon finds.
    async fn restart(self) -> Lab {
        let Lab { dir, engine, .. } = self;
        drop(engine);
        let (driver, engine) = Self::open(dir.path()).await;
        Lab { dir, driver, engine }
    }

    fn connection(&self) -> Connection {
        self.engine.connection(DriverKind::Test).unwrap()
    }

    fn domain(&self, name: &str) -> Domain {
        self.connection().domain_by_name(name).unwrap()
    }

    async fn define(&self, name: &str) -> Domain {
        self.try_define(&xml(name, "")).await.unwrap()
    }

    async fn try_define(&self, xml: &str) -> Result<Domain, Error> {
        let args = api::XmlFlags { xml: xml.to_string(), flags: 0 };
        dispatch::<api::DefineXml>(&root(), &self.connection(), args).await
    }

    async fn create(&self, name: &str) -> Result<Domain, Error> {
        let args = api::XmlFlags { xml: xml(name, ""), flags: 0 };
        dispatch::<api::CreateXml>(&root(), &self.connection(), args).await
    }
}

fn xml(name: &str, extra: &str) -> String {
    format!("<domain type='test'><name>{name}</name>{extra}<memory>1024</memory><os><type>hvm</type></os></domain>")
}

fn root() -> Caller {
    Caller { read_only: false, who: "test".into(), ..Caller::daemon() }
}

async fn start(domain: &Domain) -> Result<(), Error> {
    dispatch::<api::Create>(&root(), domain, 0).await
}

async fn destroy(domain: &Domain) -> Result<(), Error> {
    dispatch::<api::Destroy>(&root(), domain, 0).await
}

fn state(domain: &Domain) -> (State, i32) {
    let state = domain.snapshot().state();
    (state.state, state.reason)
}

/// The next `count` life-cycle events as (domain, event, detail).
async fn life(events: &mut Subscription, count: usize) -> Vec<(String, i32, i32)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(5), events.recv());
        let event = next.await.expect("an event within 5 s").expect("the subscription lives");
        if let About::Domain { domain, kind: EventKind::Lifecycle { event: kind, detail }, .. } = &event.about {
            seen.push((domain.name.clone(), *kind, *detail));
        }
    }
    seen
}

#[tokio::test]
async fn a_life_with_its_events_in_order() {
    let lab = Lab::new().await;
    let mut events = lab.engine.events().subscribe();
    let domain = lab.define("a").await;
    start(&domain).await.unwrap();
    assert_eq!(domain.id(), Some(1));
    dispatch::<api::Suspend>(&root(), &domain, ()).await.unwrap();
    assert_eq!(state(&domain), (State::Paused, 1));
    dispatch::<api::Suspend>(&root(), &domain, ()).await.unwrap();
    dispatch::<api::Resume>(&root(), &domain, ()).await.unwrap();
    assert_eq!(state(&domain), (State::Running, 5));
    dispatch::<api::Shutdown>(&root(), &domain, 0).await.unwrap();
    // At once: this driver's guests need no time for it.
    assert_eq!(state(&domain), (State::Shutoff, shutoff::SHUTDOWN));
    let seen = life(&mut events, 5).await;
    let a = |event, detail| ("a".to_string(), event, detail);
    assert_eq!(
        seen,
        [
            a(lifecycle::DEFINED, lifecycle::DEFINED_ADDED),
            a(lifecycle::STARTED, lifecycle::STARTED_BOOTED),
            a(lifecycle::SUSPENDED, lifecycle::SUSPENDED_PAUSED),
            a(lifecycle::RESUMED, lifecycle::RESUMED_UNPAUSED),
            a(lifecycle::STOPPED, lifecycle::STOPPED_SHUTDOWN),
        ]
    );
    assert_eq!(domain.id(), None);
}

#[tokio::test]
async fn wrong_states_are_refused_with_libvirts_words() {
    let lab = Lab::new().await;
    let domain = lab.define("a").await;
    let text = |result: Result<(), Error>| result.unwrap_err().message();
    assert_eq!(text(destroy(&domain).await), "Requested operation is not valid: domain is not running");
    start(&domain).await.unwrap();
    assert_eq!(text(start(&domain).await), "Requested operation is not valid: domain is already running");
    let rename = api::RenameArgs { name: "b".into(), flags: 0 };
    let renamed = dispatch::<api::Rename>(&root(), &domain, rename).await;
    assert_eq!(text(renamed), "Requested operation is not valid: cannot rename active domain");
    let resumed = dispatch::<api::Resume>(&root(), &domain, ()).await;
    assert_eq!(text(resumed), "Requested operation is not valid: domain is already running");
    let flagged = dispatch::<api::Reset>(&root(), &domain, 4).await;
    assert_eq!(text(flagged), "unsupported flags (0x4) in function testDomainReset");
}

#[tokio::test]
async fn a_reader_may_not_write() {
    let lab = Lab::new().await;
    let domain = lab.define("a").await;
    let reader = Caller { read_only: true, who: "reader".into(), ..Caller::daemon() };
    let error = dispatch::<api::Create>(&reader, &domain, 0).await.unwrap_err();
    assert_eq!(error.code, Code::OperationDenied);
    assert!(dispatch::<api::GetState>(&reader, &domain, 0).await.is_ok());
    assert_eq!(dispatch::<api::GetXmlDesc>(&reader, &domain, 1).await.unwrap_err().code, Code::OperationDenied);
}

#[tokio::test]
async fn names_and_uuids_are_unique() {
    let lab = Lab::new().await;
    let uuid = "<uuid>8d812f63-573c-4f2c-a991-dfa68b844d20</uuid>";
    lab.try_define(&xml("a", uuid)).await.unwrap();
    lab.try_define(&xml("a", uuid)).await.unwrap();
    lab.try_define(&xml("a", "")).await.unwrap();
    assert_eq!(lab.connection().domains().len(), 1);
    let other = "<uuid>00000000-0000-4000-8000-000000000001</uuid>";
    let error = lab.try_define(&xml("a", other)).await.unwrap_err();
    assert_eq!(
        error.message(),
        "operation failed: domain 'a' already exists with uuid 8d812f63-573c-4f2c-a991-dfa68b844d20"
    );
    let error = lab.try_define(&xml("b", uuid)).await.unwrap_err();
    assert_eq!(
        error.message(),
        "operation failed: domain 'a' is already defined with uuid 8d812f63-573c-4f2c-a991-dfa68b844d20"
    );
}

#[tokio::test]
async fn many_definitions_of_one_name_leave_one_domain() {
    let lab = Arc::new(Lab::new().await);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let lab = lab.clone();
        tasks.spawn(async move { lab.try_define(&xml("same", "")).await.map(|domain| domain.uuid()) });
    }
    let results = tasks.join_all().await;
    let uuids: std::collections::HashSet<_> = results.into_iter().flatten().collect();
    assert_eq!(uuids.len(), 1);
    assert_eq!(lab.connection().domains().len(), 1);
}

#[tokio::test]
async fn a_transient_domain_is_gone_when_it_stops() {
    let lab = Lab::new().await;
    let domain = lab.create("t").await.unwrap();
    assert!(!domain.snapshot().persistent());
    assert_eq!(
        lab.create("t").await.unwrap_err().message(),
        "Requested operation is not valid: domain 't' is already active"
    );
    let undefine = dispatch::<api::Undefine>(&root(), &domain, 0).await.unwrap_err();
    assert_eq!(undefine.message(), "Requested operation is not valid: cannot undefine transient domain");
    destroy(&domain).await.unwrap();
    assert_eq!(lab.connection().domain_by_name("t").unwrap_err().code, Code::NoDomain);
    assert_eq!(start(&domain).await.unwrap_err().code, Code::NoDomain);
}

#[tokio::test]
async fn undefining_a_running_domain_makes_it_transient_and_defining_persistent() {
    let lab = Lab::new().await;
    let domain = lab.define("a").await;
    start(&domain).await.unwrap();
    dispatch::<api::Undefine>(&root(), &domain, 0).await.unwrap();
    assert!(!domain.snapshot().persistent() && domain.snapshot().active());
    let xml = xml("a", &format!("<uuid>{}</uuid><title>new</title>", domain.uuid()));
    lab.try_define(&xml).await.unwrap();
    assert!(domain.snapshot().persistent() && !domain.snapshot().updated);
    lab.try_define(&xml).await.unwrap();
    assert!(domain.snapshot().updated);
    let live = dispatch::<api::GetXmlDesc>(&root(), &domain, 0).await.unwrap();
    let inactive = dispatch::<api::GetXmlDesc>(&root(), &domain, 2).await.unwrap();
    assert!(!live.contains("<title>") && inactive.contains("<title>new</title>"), "{live}{inactive}");
    assert!(live.contains("id='1'") && !inactive.contains("id='1'"), "{live}{inactive}");
    destroy(&domain).await.unwrap();
    assert!(lab.domain("a").snapshot().current().unwrap().title.is_some());
}

#[tokio::test]
async fn an_interface_without_an_address_gets_one_for_good() {
    let lab = Lab::new().await;
    let nic = "<devices><interface type='bridge'><source bridge='b'/></interface></devices>";
    let domain = lab.try_define(&xml("a", nic)).await.unwrap();
    let mac = |domain: &Domain| domain.snapshot().current().unwrap().interfaces[0].mac.unwrap();
    let given = mac(&domain);
    assert!(given.to_string().starts_with("52:54:00:") && given.0[3..] != [0, 0, 0], "{given}");
    let lab = lab.restart().await;
    assert_eq!(mac(&lab.domain("a")), given);
}

#[tokio::test]
async fn a_rename_moves_the_name_and_tells() {
    let lab = Lab::new().await;
    let (a, _) = (lab.define("a").await, lab.define("taken").await);
    let mut events = lab.engine.events().subscribe();
    let rename = |name: &str| api::RenameArgs { name: name.into(), flags: 0 };
    let error = dispatch::<api::Rename>(&root(), &a, rename("taken")).await.unwrap_err();
    assert_eq!(error.message(), "Requested operation is not valid: domain with name 'taken' already exists");
    dispatch::<api::Rename>(&root(), &a, rename("b")).await.unwrap();
    assert_eq!(
        life(&mut events, 2).await,
        [
            ("a".to_string(), lifecycle::UNDEFINED, lifecycle::UNDEFINED_RENAMED),
            ("b".to_string(), lifecycle::DEFINED, lifecycle::DEFINED_RENAMED)
        ]
    );
    assert!(lab.connection().domain_by_name("a").is_err());
    let lab = lab.restart().await;
    assert_eq!(lab.domain("b").uuid(), a.uuid());
}

#[tokio::test]
async fn definitions_marks_and_ids_outlive_the_daemon() {
    let lab = Lab::new().await;
    let a = lab.define("a").await;
    dispatch::<api::SetAutostart>(&root(), &a, true).await.unwrap();
    start(&a).await.unwrap();
    destroy(&a).await.unwrap();
    let lab = lab.restart().await;
    assert!(lab.domain("a").snapshot().autostart);
    lab.engine.autostart().await;
    assert_eq!((lab.domain("a").id(), state(&lab.domain("a")).0), (Some(2), State::Running));
}

#[tokio::test]
async fn a_running_guest_is_found_again() {
    let lab = Lab::new().await;
    let (persistent, transient) = (lab.define("p").await, lab.create("t").await.unwrap());
    start(&persistent).await.unwrap();
    dispatch::<api::Suspend>(&root(), &transient, ()).await.unwrap();
    let lab = lab.restart().await;
    let (persistent, transient) = (lab.domain("p"), lab.domain("t"));
    assert_eq!((state(&persistent).0, persistent.id()), (State::Running, Some(2)));
    assert_eq!((state(&transient), transient.snapshot().persistent()), ((State::Paused, 1), false));
    dispatch::<api::Resume>(&root(), &transient, ()).await.unwrap();
    destroy(&transient).await.unwrap();
    destroy(&persistent).await.unwrap();
}

#[tokio::test]
async fn a_failed_start_leaves_nothing() {
    let lab = Lab::new().await;
    let domain = lab.define("a").await;
    let broken = Behaviour { start_error: Some("no such machine".into()), ..Default::default() };
    lab.driver.set_behaviour("a", broken.clone());
    assert_eq!(start(&domain).await.unwrap_err().message(), "internal error: no such machine");
    assert_eq!(lab.driver.undone(), [serde_json::json!({ "made": "a" })]);
    assert_eq!(state(&domain), (State::Shutoff, shutoff::FAILED));
    assert_nothing_left(&lab);
    lab.driver.set_behaviour("t", broken);
    lab.create("t").await.unwrap_err();
    assert!(lab.connection().domain_by_name("t").is_err());
    assert_nothing_left(&lab);
    lab.driver.set_behaviour("a", Behaviour::default());
    start(&domain).await.unwrap();
}

/// No run directory and no status record.
fn assert_nothing_left(lab: &Lab) {
    for dir in ["run/test", "state/test/status", "run/records/test"] {
        let left: Vec<_> = std::fs::read_dir(lab.dir.path().join(dir)).unwrap().flatten().collect();
        assert!(left.is_empty(), "{dir}: {left:?}");
    }
}

#[tokio::test]
async fn destroy_wins_against_a_start_that_hangs() {
    let lab = Lab::new().await;
    let domain = lab.define("a").await;
    lab.driver.set_behaviour("a", Behaviour { start_hangs: true, ..Default::default() });
    let starting = tokio::spawn({
        let domain = domain.clone();
        async move { start(&domain).await }
    });
    while domain.snapshot().job.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    destroy(&domain).await.unwrap();
    assert_eq!(starting.await.unwrap().unwrap_err().code, Code::OperationAborted);
    assert_nothing_left(&lab);
}

#[tokio::test]
async fn a_hanging_guest_holds_up_neither_readers_nor_destroy() {
    let lab = Lab::new().await;
    let domain = lab.define("a").await;
    lab.driver.set_behaviour("a", Behaviour { control_hangs: true, ..Default::default() });
    start(&domain).await.unwrap();
    let hanging = tokio::spawn({
        let domain = domain.clone();
        async move { dispatch::<api::Suspend>(&root(), &domain, ()).await }
    });
    while domain.snapshot().job.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let reads = async {
        dispatch::<api::GetState>(&root(), &domain, 0).await.unwrap();
        dispatch::<api::GetInfo>(&root(), &domain, ()).await.unwrap();
        dispatch::<api::GetXmlDesc>(&root(), &domain, 0).await.unwrap();
        dispatch::<api::GetStats>(&root(), &domain, api::StatsArgs { stats: 0, flags: 0 }).await.unwrap();
        destroy(&domain).await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(5), reads).await.expect("nothing waits for the hanging call");
    hanging.abort();
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_its_turn_and_names_the_holder_when_it_gives_up() {
    let lab = Lab::new().await;
    let domain = lab.define("a").await;
    lab.driver.set_behaviour("a", Behaviour { control_hangs: true, ..Default::default() });
    start(&domain).await.unwrap();
    let holder = tokio::spawn({
        let domain = domain.clone();
        async move { dispatch::<api::Reset>(&root(), &domain, 0).await }
    });
    while domain.snapshot().job.is_none() {
        tokio::task::yield_now().await;
    }
    let error = dispatch::<api::Suspend>(&root(), &domain, ()).await.unwrap_err();
    assert_eq!(error.code, Code::OperationTimeout);
    assert!(error.detail.contains("held by reset of domain 'a'"), "{}", error.detail);
    holder.abort();
}

#[rstest]
#[case(0, &["off", "on", "paused", "transient"])]
#[case(1, &["on", "paused", "transient"])]
#[case(2, &["off"])]
#[case(3, &["off", "on", "paused", "transient"])]
#[case(8, &["transient"])]
#[case(32, &["paused"])]
#[case(16 | 64, &["off", "on", "transient"])]
#[case(1024, &["on"])]
#[case(128, &[])]
#[case(256, &[])]
#[tokio::test]
async fn list_flags(#[case] flags: u32, #[case] expect: &[&str]) {
    let lab = Lab::new().await;
    lab.define("off").await;
    let (on, paused) = (lab.define("on").await, lab.define("paused").await);
    start(&on).await.unwrap();
    dispatch::<api::SetAutostart>(&root(), &on, true).await.unwrap();
    dispatch::<api::Create>(&root(), &paused, 1).await.unwrap();
    lab.create("transient").await.unwrap();
    let listed = dispatch::<api::ListAllDomains>(&root(), &lab.connection(), flags).await.unwrap();
    let names: Vec<String> = listed.iter().map(Domain::name).collect();
    assert_eq!(names, expect);
}

#[tokio::test]
async fn damaged_and_newer_files_are_left_alone() {
    let lab = Lab::new().await;
    lab.define("good").await;
    let state = lab.dir.path().join("state/test");
    let broken = state.join("definitions/00000000-0000-4000-8000-000000000001.xml");
    std::fs::write(&broken, "<domain type='test'><na").unwrap();
    let newer = state.join("status/00000000-0000-4000-8000-000000000002.json");
    std::fs::write(&newer, r#"{"version": 999, "what": "ever"}"#).unwrap();
    let lab = lab.restart().await;
    assert_eq!(lab.connection().domains().len(), 1);
    assert!(broken.exists() && newer.exists());
}

/// What Nova asks of the host at its start and in its inventory, with the flags that it uses.
#[tokio::test]
async fn novas_questions_about_the_host() {
    const INACTIVE: u32 = 1 << 30;
    let lab = Lab::new().await;
    let (caller, host) = (root(), lab.connection());
    assert_eq!(dispatch::<api::GetType>(&caller, &host, ()).await.unwrap(), "Test");
    assert!(dispatch::<api::GetLibVersion>(&caller, &host, ()).await.unwrap() >= 8_000_000);
    assert!(!dispatch::<api::GetHostname>(&caller, &host, ()).await.unwrap().is_empty());
    assert!(dispatch::<api::GetCapabilities>(&caller, &host, ()).await.unwrap().starts_with("<capabilities>"));
    // Active ones, then those with the inactive.
    lab.define("off").await;
    assert_eq!(dispatch::<api::ListAllDomains>(&caller, &host, 1).await.unwrap().len(), 0);
    assert_eq!(dispatch::<api::ListAllDomains>(&caller, &host, 3).await.unwrap().len(), 1);
    let info = dispatch::<api::NodeGetInfo>(&caller, &host, ()).await.unwrap();
    let map = dispatch::<api::NodeGetCpuMap>(&caller, &host, 0).await.unwrap();
    assert!(info.cpus > 0 && map.iter().filter(|online| **online).count() > 0);
    // -1: of all CPUs together.
    let times = dispatch::<api::NodeGetCpuStats>(&caller, &host, (-1, 0)).await.unwrap();
    for name in ["kernel", "idle", "user", "iowait"] {
        assert!(times.iter().any(|(found, _)| found == name), "{name} of {times:?}");
    }
    let mdevs = (1 << 14) | INACTIVE;
    assert!(dispatch::<api::ListAllNodeDevices>(&caller, &host, mdevs).await.unwrap().is_empty());
    for capability in ["pci", "net", "mdev_types"] {
        let named = (Some(capability.to_string()), 0);
        assert!(dispatch::<api::NodeListDevices>(&caller, &host, named).await.unwrap().is_empty());
    }
    for device in dispatch::<api::ListAllNodeDevices>(&caller, &host, 0).await.unwrap() {
        assert!(!dispatch::<api::NodeDeviceListCaps>(&caller, &device, ()).await.unwrap().is_empty());
        assert!(dispatch::<api::NodeDeviceGetXmlDesc>(&caller, &device, 0).await.unwrap().starts_with("<device>"));
        let parent = dispatch::<api::NodeDeviceGetParent>(&caller, &device, ()).await.unwrap();
        assert_eq!(parent.is_none(), device.name == "computer");
        let found = dispatch::<api::NodeDeviceLookupByName>(&caller, &host, device.name.clone()).await.unwrap();
        assert_eq!(found.name, device.name);
    }
}

/// Nova's secrets: of volumes, Ceph, iSCSI and TPMs; looked up by what they are for, made when there is none.
#[rstest]
#[case("volume", 1, "<volume>pool/image</volume>", "pool/image")]
#[case("ceph", 2, "<name>client.cinder secret</name>", "client.cinder secret")]
#[case("iscsi", 3, "<target>iqn.2026-01.example:t</target>", "iqn.2026-01.example:t")]
#[case("vtpm", 5, "<name>a-vtpm</name>", "a-vtpm")]
#[tokio::test]
async fn novas_secrets(#[case] usage: &str, #[case] number: i32, #[case] element: &str, #[case] id: &str) {
    let lab = Lab::new().await;
    let (caller, host) = (root(), lab.connection());
    let missing = dispatch::<api::SecretLookupByUsage>(&caller, &host, (number, id.to_string())).await.unwrap_err();
    assert_eq!(missing.code, Code::NoSecret);
    let xml = format!("<secret ephemeral='no' private='no'><usage type='{usage}'>{element}</usage></secret>");
    let defined = dispatch::<api::SecretDefineXml>(&caller, &host, api::XmlFlags { xml, flags: 0 }).await.unwrap();
    let empty = dispatch::<api::SecretGetValue>(&caller, &defined, 0).await.unwrap_err();
    assert_eq!(empty.code, Code::NoSecret);
    let value = api::SecretValueArgs::new(b"s3cret".to_vec(), 0);
    dispatch::<api::SecretSetValue>(&caller, &defined, value).await.unwrap();
    let found = dispatch::<api::SecretLookupByUsage>(&caller, &host, (number, id.to_string())).await.unwrap();
    assert_eq!(dispatch::<api::SecretGetValue>(&caller, &found, 0).await.unwrap().bytes(), b"s3cret");
    dispatch::<api::SecretUndefine>(&caller, &found, ()).await.unwrap();
    assert!(dispatch::<api::SecretLookupByUsage>(&caller, &host, (number, id.to_string())).await.is_err());
}
