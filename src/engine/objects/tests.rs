use super::*;
use crate::engine::access::guard::named;
use crate::engine::event::{EventBus, HostSet};
use crate::engine::host::HostObjects;
use crate::store::Store;

/// An object that is its UUID and a name, and runs as a number.
#[derive(Clone, Debug)]
struct Thing;

impl Kind for Thing {
    type Def = (Uuid, String);
    type Live = u32;
    const NOUN: &'static str = "thing";
    const DIRECTORY: &'static str = "things";
    const OBJECT: ObjectKind = ObjectKind::Network;
    const SUBSYSTEM: Subsystem = Subsystem::Network;
    const MISSING: Code = Code::NoNetwork;
    const SCHEME: &'static str = "thing";

    fn parse(text: &str) -> Result<Self::Def> {
        let (uuid, name) = text.split_once(' ').ok_or_else(|| Error::internal("no thing"))?;
        Ok((uuid.parse().map_err(|_| Error::internal("no uuid"))?, name.into()))
    }

    fn write((uuid, name): &Self::Def) -> String {
        format!("{uuid} {name}")
    }

    fn details(uuid: Uuid, name: &str) -> Details {
        named(["thing_name", "thing_uuid"], name, uuid)
    }

    fn uuid(def: &Self::Def) -> Uuid {
        def.0
    }

    fn name(def: &Self::Def) -> String {
        def.1.clone()
    }
}

fn things(dir: Option<&std::path::Path>) -> Arc<Objects<Thing>> {
    let host = HostObjects::new(HostSet::Test, Arc::new(EventBus::default()), Default::default());
    let mut context = Context::clone(&host.context);
    context.store = dir.map(|dir| Store::open(&dir.join("state"), &dir.join("run")).unwrap());
    Objects::new(Arc::new(context))
}

fn def(number: u128, name: &str) -> Arc<(Uuid, String)> {
    Arc::new((Uuid::from_u128(number), name.into()))
}

#[tokio::test]
async fn uuid_and_name_are_unique() {
    let things = things(None);
    let (a, b) = (def(1, "a"), def(2, "b"));
    things.claim(&a).await.unwrap().define(a.clone()).await.unwrap();
    let error = things.claim(&def(1, "b")).await.unwrap_err();
    assert_eq!((error.code, error.subsystem), (Code::OperationFailed, Subsystem::Network));
    assert_eq!(error.detail, format!("thing 'a' is already defined with uuid {}", a.0));
    let error = things.claim(&def(2, "a")).await.unwrap_err();
    assert_eq!(error.detail, format!("thing 'a' already exists with uuid {}", a.0));
    let change = things.claim(&b).await.unwrap();
    assert!(change.is_new() && things.claim(&def(3, "b")).await.is_err(), "b is reserved");
    assert_eq!(things.by_name("b").unwrap_err().message(), "Network not found: no thing with matching name 'b'");
    drop(change);
    assert!(things.claim(&def(3, "b")).await.unwrap().is_new(), "b was given back");
}

#[tokio::test]
async fn a_transient_object_ends_with_its_run() {
    let things = things(None);
    let a = def(1, "a");
    let mut change = things.claim(&a).await.unwrap();
    let run = change.run(a.clone(), 7);
    change.prepare(&run).await.unwrap();
    assert!(things.all().is_empty());
    change.started(run).await.unwrap();
    let handle = things.by_uuid(a.0).unwrap();
    assert!(handle.state().active() && !handle.state().persistent());
    change.stopped().await.unwrap();
    drop(change);
    assert!(things.all().is_empty());
    assert_eq!(handle.change().await.unwrap_err().detail, format!("no thing with matching uuid '{}' (a)", a.0));
}

#[tokio::test]
async fn everything_comes_back_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (def(1, "a"), def(2, "b"));
    {
        let things = things(Some(dir.path()));
        things.load().await.unwrap();
        let mut change = things.claim(&a).await.unwrap();
        change.define(a.clone()).await.unwrap();
        change.set_autostart(true).await.unwrap();
        let mut change = things.claim(&b).await.unwrap();
        change.started(change.run(b.clone(), 7)).await.unwrap();
    }
    let things = things(Some(dir.path()));
    things.load().await.unwrap();
    let (first, second) = (things.by_name("a").unwrap().state(), things.by_name("b").unwrap().state());
    assert!(first.autostart && first.persistent() && !first.active());
    assert!(second.active() && !second.persistent() && *second.run.as_ref().unwrap().live == 7);
    let mut change = things.by_name("a").unwrap().change().await.unwrap();
    change.undefine().await.unwrap();
    drop(change);
    let again = self::things(Some(dir.path()));
    again.load().await.unwrap();
    assert_eq!(again.all().iter().map(Handle::name).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test]
async fn what_leaves_has_left_before_its_like_comes() {
    let things = things(None);
    let a = def(1, "a");
    let mut change = things.claim(&a).await.unwrap();
    change.define(a.clone()).await.unwrap();
    change.undefine().await.unwrap();
    assert!(things.all().is_empty());
    // Who took it away still has to tell: neither its UUID nor its name is to be had.
    for like in [a.clone(), def(1, "b"), def(2, "a")] {
        let claim = things.claim(&like);
        tokio::pin!(claim);
        assert!(futures_util::poll!(&mut claim).is_pending(), "{like:?}");
    }
    let other = things.claim(&def(2, "b")).await.unwrap();
    drop(change);
    assert!(things.claim(&a).await.unwrap().is_new());
    drop(other);
}
