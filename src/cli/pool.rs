//! Commands on storage pools: definitions, life cycle, look-up. Lists are in [`super::pool_list`], pools and sources
//! made of options in [`super::pool_as`].

use clap::Args;
use serde_json::{Value, json};

use super::args::{FileArg, read_file};
use super::client::CallError;
use super::domains::{CONNECT, DOMUS_CONNECT, Driver, Session};
use super::edit::Draft;
use super::host_event;
use super::output::{Context, Failure};
use crate::types::ParamValue;
use crate::types::flags::storage_pool as flag;

/// `org.libvirt.StoragePool`
pub const POOL: &str = "org.libvirt.StoragePool";

/// `pool-event`
pub const EVENTS: host_event::Kind = host_event::Kind {
    noun: "storage pool",
    look_up: Some("StoragePoolLookupByName"),
    property: "Name",
    interface: POOL,
    lifecycle: ("StoragePoolEvent", &["Defined", "Undefined", "Started", "Stopped", "Created", "Deleted"]),
    other: ("refresh", POOL, "Refresh"),
};

/// A pool as the first positional argument.
#[derive(Clone, Debug, Args)]
pub struct PoolArg {
    /// Name or UUID of the pool
    pool: String,
}

impl PoolArg {
    /// What the user wrote.
    pub fn given(&self) -> &str {
        &self.pool
    }
}

/// How a start or a build treats the storage.
#[derive(Clone, Copy, Debug, Args)]
pub struct BuildArgs {
    /// Overwrite what is on the storage
    #[arg(long)]
    overwrite: bool,
    /// Refuse when there is something on the storage
    #[arg(long)]
    no_overwrite: bool,
}

/// The same for a start.
#[derive(Clone, Copy, Debug, Args)]
pub struct StartBuildArgs {
    /// Build the pool first
    #[arg(long)]
    build: bool,
    #[command(flatten)]
    how: BuildArgs,
}

/// Options of `pool-start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    #[command(flatten)]
    pool: PoolArg,
    #[command(flatten)]
    build: StartBuildArgs,
}

/// Options of `pool-build`.
#[derive(Debug, Args)]
pub struct PoolBuildArgs {
    #[command(flatten)]
    pool: PoolArg,
    #[command(flatten)]
    how: BuildArgs,
}

/// Options of `pool-define`.
#[derive(Debug, Args)]
pub struct DefineArgs {
    #[command(flatten)]
    file: FileArg,
    /// Refuse unknown elements and attributes, which are otherwise dropped
    #[arg(long)]
    validate: bool,
}

/// Options of `pool-create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    file: FileArg,
    #[command(flatten)]
    build: StartBuildArgs,
    /// Refuse unknown elements and attributes, which are otherwise dropped
    #[arg(long)]
    validate: bool,
}

/// Options of `pool-autostart`.
#[derive(Debug, Args)]
pub struct AutostartArgs {
    #[command(flatten)]
    pool: PoolArg,
    /// Do not start it with the daemon any more
    #[arg(long)]
    disable: bool,
}

/// Options of `pool-dumpxml`.
#[derive(Debug, Args)]
pub struct DumpxmlArgs {
    #[command(flatten)]
    pool: PoolArg,
    /// What the next start takes
    #[arg(long)]
    inactive: bool,
}

/// Options of `find-storage-pool-sources`.
#[derive(Debug, Args)]
pub struct FindArgs {
    /// Type of the pool
    #[arg(value_name = "TYPE")]
    kind: String,
    /// File with a <source> element that says where to look
    #[arg(value_name = "FILE")]
    spec: Option<std::path::PathBuf>,
}

impl BuildArgs {
    fn check(self) -> Result<Self, Failure> {
        match self.overwrite && self.no_overwrite {
            true => Err(Failure::new("Options --overwrite and --no-overwrite are mutually exclusive")),
            false => Ok(self),
        }
    }
}

impl StartBuildArgs {
    /// `virStoragePoolCreateFlags`. Error: options that exclude each other.
    pub fn flags(self) -> Result<u32, Failure> {
        let how = self.how.check()?;
        let bits = [
            (self.build, flag::create::BUILD),
            (how.overwrite, flag::create::BUILD_OVERWRITE),
            (how.no_overwrite, flag::create::BUILD_NO_OVERWRITE),
        ];
        Ok(bits.iter().filter(|(on, _)| *on).fold(0, |flags, (_, bit)| flags | bit))
    }
}

/// A pool that exists.
#[derive(Clone, Debug)]
pub struct Pool {
    pub driver: Driver,
    pub path: String,
    pub name: String,
    pub uuid: String,
}

impl Pool {
    /// The members every JSON result about one pool begins with.
    pub fn json(&self) -> Value {
        json!({ "driver": self.driver.name(), "name": self.name, "uuid": self.uuid })
    }
}

impl Session {
    /// The pool with this name or UUID. Fails with virsh's text.
    pub async fn pool(&self, given: &str) -> Result<Pool, Failure> {
        let driver = self.default_driver().await?;
        let what = || format!("failed to get pool '{given}'");
        if given.len() == 36 {
            let found: Result<zbus::OwnedObjectPath, CallError> =
                self.client.call(driver.path(), CONNECT, "StoragePoolLookupByUUID", &(given,)).await;
            match found {
                Ok(path) => return self.pool_at(driver, &path).await.context(what),
                Err(error) if error.is_answer() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let path: Result<zbus::OwnedObjectPath, CallError> =
            self.client.call(driver.path(), CONNECT, "StoragePoolLookupByName", &(given,)).await;
        self.pool_at(driver, &path.context(what)?).await.context(what)
    }

    /// The pool at a path.
    pub async fn pool_at(&self, driver: Driver, path: &str) -> Result<Pool, CallError> {
        let text = |name: &'static str| async move {
            match self.client.value(path, POOL, name).await? {
                Some(ParamValue::Str(text)) => Ok(text),
                _ => Err(CallError::Answer { call: format!("{POOL}.{name}"), reason: "not a string".into() }),
            }
        };
        Ok(Pool { driver, path: path.to_string(), name: text("Name").await?, uuid: text("UUID").await? })
    }

    fn pool_done(&self, pool: &Pool, result: &str, text: &str) {
        let mut value = pool.json();
        value["result"] = result.into();
        self.out.say(&value, text);
    }
}

/// `domus pool-define`
pub async fn define(session: &Session, args: &DefineArgs) -> Result<(), Failure> {
    let (file, xml) = (args.file.name(), args.file.read()?);
    let flags = if args.validate { flag::DEFINE_VALIDATE } else { 0 };
    let pool = make(session, "StoragePoolDefineXML", &xml, flags)
        .await
        .context(|| format!("Failed to define pool from {file}"))?;
    session.pool_done(&pool, "defined", &format!("Pool {} defined from {file}", pool.name));
    Ok(())
}

/// `domus pool-create`
pub async fn create(session: &Session, args: &CreateArgs) -> Result<(), Failure> {
    let mut flags = args.build.flags()?;
    let (file, xml) = (args.file.name(), args.file.read()?);
    if args.validate {
        flags |= flag::create::VALIDATE;
    }
    let pool = make(session, "StoragePoolCreateXML", &xml, flags)
        .await
        .context(|| format!("Failed to create pool from {file}"))?;
    session.pool_done(&pool, "created", &format!("Pool {} created from {file}", pool.name));
    Ok(())
}

/// Hands a definition over.
pub async fn make(session: &Session, method: &str, xml: &str, flags: u32) -> Result<Pool, Failure> {
    let driver = session.default_driver().await?;
    let path: zbus::OwnedObjectPath = session.client.call(driver.path(), CONNECT, method, &(xml, flags)).await?;
    Ok(session.pool_at(driver, &path).await?)
}

/// `domus pool-start`
pub async fn start(session: &Session, args: &StartArgs) -> Result<(), Failure> {
    let flags = args.build.flags()?;
    let pool = session.pool(&args.pool.pool).await?;
    act(session, &pool, "Create", Some(flags), "start").await?;
    session.pool_done(&pool, "started", &format!("Pool {} started", pool.name));
    Ok(())
}

/// `domus pool-build`
pub async fn build(session: &Session, args: &PoolBuildArgs) -> Result<(), Failure> {
    let pool = session.pool(&args.pool.pool).await?;
    let mut flags = if args.how.overwrite { flag::build::OVERWRITE } else { 0 };
    if args.how.no_overwrite {
        flags |= flag::build::NO_OVERWRITE;
    }
    act(session, &pool, "Build", Some(flags), "build").await?;
    session.pool_done(&pool, "built", &format!("Pool {} built", pool.name));
    Ok(())
}

/// `domus pool-destroy`
pub async fn destroy(session: &Session, args: &PoolArg) -> Result<(), Failure> {
    let pool = session.pool(&args.pool).await?;
    act(session, &pool, "Destroy", None, "destroy").await?;
    session.pool_done(&pool, "destroyed", &format!("Pool {} destroyed", pool.name));
    Ok(())
}

/// `domus pool-delete`
pub async fn delete(session: &Session, args: &PoolArg) -> Result<(), Failure> {
    let pool = session.pool(&args.pool).await?;
    act(session, &pool, "Delete", Some(0), "delete").await?;
    session.pool_done(&pool, "deleted", &format!("Pool {} deleted", pool.name));
    Ok(())
}

/// `domus pool-undefine`
pub async fn undefine(session: &Session, args: &PoolArg) -> Result<(), Failure> {
    let pool = session.pool(&args.pool).await?;
    act(session, &pool, "Undefine", None, "undefine").await?;
    session.pool_done(&pool, "undefined", &format!("Pool {} has been undefined", pool.name));
    Ok(())
}

/// `domus pool-refresh`
pub async fn refresh(session: &Session, args: &PoolArg) -> Result<(), Failure> {
    let pool = session.pool(&args.pool).await?;
    act(session, &pool, "Refresh", Some(0), "refresh").await?;
    session.pool_done(&pool, "refreshed", &format!("Pool {} refreshed", pool.name));
    Ok(())
}

async fn act(session: &Session, pool: &Pool, method: &str, flags: Option<u32>, verb: &str) -> Result<(), Failure> {
    let done: Result<(), CallError> = match flags {
        Some(flags) => session.client.call(&pool.path, POOL, method, &(flags,)).await,
        None => session.client.call(&pool.path, POOL, method, &()).await,
    };
    done.context(|| format!("Failed to {verb} pool {}", pool.name))
}

/// `domus pool-autostart`
pub async fn autostart(session: &Session, args: &AutostartArgs) -> Result<(), Failure> {
    let pool = session.pool(&args.pool.pool).await?;
    let (word, on) = if args.disable { ("unmark", false) } else { ("mark", true) };
    session
        .client
        .set_property(&pool.path, POOL, "Autostart", zbus::Variant::from(on))
        .await
        .context(|| format!("failed to {word} pool {} as autostarted", pool.name))?;
    session.pool_done(&pool, word, &format!("Pool {} {word}ed as autostarted", pool.name));
    Ok(())
}

/// `domus pool-dumpxml`
pub async fn dumpxml(session: &Session, args: &DumpxmlArgs) -> Result<(), Failure> {
    let pool = session.pool(&args.pool.pool).await?;
    let flags = if args.inactive { flag::XML_INACTIVE } else { 0 };
    let xml = xml_of(session, &pool, flags).await?;
    let mut value = pool.json();
    value["xml"] = xml.as_str().into();
    session.out.show(&value, &xml);
    Ok(())
}

async fn xml_of(session: &Session, pool: &Pool, flags: u32) -> Result<String, Failure> {
    Ok(session.client.call(&pool.path, POOL, "GetXMLDesc", &(flags,)).await?)
}

/// `domus pool-name`
pub async fn name(session: &Session, args: &PoolArg) -> Result<(), Failure> {
    let pool = session.pool(&args.pool).await?;
    session.out.show(&pool.json(), &format!("{}\n", pool.name));
    Ok(())
}

/// `domus pool-uuid`
pub async fn uuid(session: &Session, args: &PoolArg) -> Result<(), Failure> {
    let pool = session.pool(&args.pool).await?;
    session.out.show(&pool.json(), &format!("{}\n", pool.uuid));
    Ok(())
}

/// `domus pool-edit`
pub async fn edit(session: &Session, args: &PoolArg) -> Result<(), Failure> {
    let pool = session.pool(&args.pool).await?;
    let before = xml_of(session, &pool, flag::XML_INACTIVE).await?;
    let draft = Draft::new(&before)?;
    draft.run_editor()?;
    let text = draft.read()?;
    if text == before {
        draft.remove();
        session.pool_done(&pool, "unchanged", &format!("Pool {} XML configuration not changed.", pool.name));
        return Ok(());
    }
    if xml_of(session, &pool, flag::XML_INACTIVE).await? != before {
        let kept = format!("the XML configuration was changed by another user; your text is in {}", draft.name());
        return Err(Failure::new(kept));
    }
    let edited = make(session, "StoragePoolDefineXML", &text, 0).await;
    let edited = edited.context(|| format!("Failed. Your text is in {}", draft.name()))?;
    draft.remove();
    session.pool_done(&edited, "edited", &format!("Pool {} XML configuration edited.", edited.name));
    Ok(())
}

/// `domus pool-capabilities`
pub async fn capabilities(session: &Session) -> Result<(), Failure> {
    let driver = session.default_driver().await?;
    let xml: Result<String, CallError> =
        session.client.call(driver.path(), DOMUS_CONNECT, "GetStoragePoolCapabilities", &(0u32,)).await;
    let xml = xml.context(|| "failed to get storage pool capabilities".to_string())?;
    session.out.show(&json!({ "xml": xml }), &format!("{xml}\n"));
    Ok(())
}

/// `domus find-storage-pool-sources`
pub async fn find(session: &Session, args: &FindArgs) -> Result<(), Failure> {
    let spec = args.spec.as_deref().map(read_file).transpose()?.unwrap_or_default();
    sources(session, &args.kind, &spec).await
}

/// Prints the sources of a type; `spec` may be empty.
pub async fn sources(session: &Session, kind: &str, spec: &str) -> Result<(), Failure> {
    let driver = session.default_driver().await?;
    let xml: Result<String, CallError> =
        session.client.call(driver.path(), CONNECT, "FindStoragePoolSources", &(kind, spec, 0u32)).await;
    let xml = xml.context(|| format!("Failed to find any {kind} pool sources"))?;
    session.out.show(&json!({ "xml": xml }), &format!("{xml}\n"));
    Ok(())
}
