//! New volumes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::job::PoolJob;
use super::{PoolLive, StoragePool, StorageVol};
use crate::disk::job::create::{self, Create, From};
use crate::disk::job::definition;
use crate::disk::permissions;
use crate::disk::pool::{PoolDef, logical};
use crate::disk::volume::{self, Capacity, FileFormat, VolumeDef, VolumeKind};
use crate::engine::api::Presence;
use crate::engine::work::{Task, Use, Work};
use crate::error::{Code, Error, Result};

/// `virStorageVolCreateFlags`
pub mod flags {
    pub const PREALLOC_METADATA: u32 = 1;
    pub const REFLINK: u32 = 2;
    pub const VALIDATE: u32 = 4;
}

impl StoragePool {
    pub(super) fn work(&self) -> Result<Arc<Work>> {
        let host = self.context().host().ok_or_else(|| Error::internal("the daemon is going down"))?;
        Ok(host.work.clone())
    }

    /// Makes a volume (`virStorageVolCreateXML`). It appears when it is whole; nothing is left of it when the client goes
    /// before. Errors: those of the document; code 90
    /// when the name is taken, 55 when the pool does not run, 38 and others of the making.
    pub async fn create_volume(&self, xml: &str, flags: u32, client: &Presence) -> Result<StorageVol> {
        self.make(xml, None, flags, client).await
    }

    /// Makes a volume with the content of another (`virStorageVolCreateXMLFrom`). Errors as
    /// [`StoragePool::create_volume`].
    pub async fn create_volume_from(
        &self,
        xml: &str,
        source: &StorageVol,
        flags: u32,
        client: &Presence,
    ) -> Result<StorageVol> {
        self.make(xml, Some(source), flags, client).await
    }

    async fn make(&self, xml: &str, source: Option<&StorageVol>, flags: u32, client: &Presence) -> Result<StorageVol> {
        let job = self.begin_job().await?;
        let (pool, work) = (self.def()?, self.work()?);
        let capacity = if source.is_some() { Capacity::Optional } else { Capacity::OptionalWithBacking };
        let mut def = volume::parse(xml, pool.kind, capacity)?;
        let path = self.place(&pool, &mut def)?;
        if self.volumes()?.contains_key(&def.name) {
            return Err(match source {
                None => Error::new(Code::StorageVolExist, format!("'{}'", def.name)),
                Some(_) => Error::internal(format!("storage volume name '{}' already in use.", def.name)),
            });
        }
        let building = work.begin(
            &path.display().to_string(),
            &def.name,
            if source.is_some() { Task::Clone } else { Task::Create },
        )?;
        let input = match source {
            None => None,
            Some(source) => Some(source.input(&work, &mut def).await?),
        };
        let (progress, name) = (building.progress.clone(), def.name.clone());
        let making = Making { pool: self.clone(), job, building, work, def, path, flags };
        // A task of its own, so that it cleans up behind itself whatever becomes of whoever waits.
        let mut making = tokio::spawn(making.run(pool, input));
        let done = tokio::select! {
            done = &mut making => done,
            () = client.gone() => {
                tracing::info!(volume = %name, "the client of an unfinished volume has gone: it is given up");
                progress.cancel();
                making.await
            }
        };
        done.map_err(|error| Error::internal("making a volume died").with_source(error))?
    }

    /// Checks the name and says where the volume will be.
    fn place(&self, pool: &PoolDef, def: &mut VolumeDef) -> Result<PathBuf> {
        let name = &def.name;
        if name.contains('/') {
            return Err(Error::invalid_state(format!("volume name '{name}' cannot contain '/'")));
        }
        if name.is_empty() || name == "." || name == ".." || name.contains('\0') || name.len() > 255 {
            return Err(Error::invalid_state(format!("volume name '{name}' cannot be the name of a file")));
        }
        if name.ends_with(volume::scan::PART) {
            let what = format!("volume name '{name}' cannot end in '.part', which unfinished files do");
            return Err(Error::invalid_state(what));
        }
        let logical = self.is_logical()?;
        if !self.in_memory() && !logical && !pool.kind.is_directory() {
            return Err(Error::no_support("storage pool does not support volume creation"));
        }
        let group = || format!("/dev/{}", pool.source.name.as_deref().unwrap_or(&pool.name));
        let directory = pool.target.path.clone().unwrap_or_else(|| if logical { group() } else { "/".into() });
        let path = Path::new(&directory).join(name);
        let text = path.display().to_string();
        def.target.path = Some(text.clone());
        def.key = Some(text);
        def.kind = match def.file_format() {
            _ if logical => VolumeKind::Block,
            FileFormat::Dir => VolumeKind::Dir,
            _ => VolumeKind::File,
        };
        Ok(path)
    }

    /// Puts a volume that was made or changed into the pool as it is now, or takes it out (`None`).
    pub(super) async fn publish(&self, name: &str, volume: Option<VolumeDef>, raw: Option<u64>) -> Result<()> {
        let mut change = self.change().await?;
        let Some(run) = change.state().run.clone() else { return Ok(()) };
        let mut volumes = run.live.volumes.as_ref().clone();
        let mut known = run.live.raw.as_ref().clone();
        match raw {
            Some(inode) => known.insert(name.to_string(), inode),
            None => known.remove(name),
        };
        match volume {
            Some(volume) => volumes.insert(name.to_string(), Arc::new(volume)),
            None => volumes.remove(name),
        };
        let usage = self.usage_now(&run.def, &volumes).await.unwrap_or(run.live.usage);
        if known != *run.live.raw {
            self.keep_raw(&known).await;
        }
        let live = PoolLive { volumes: Arc::new(volumes), raw: Arc::new(known), usage, ..run.live.as_ref().clone() };
        change.started(change.run(run.def, live)).await
    }
}

/// A volume on its way.
struct Making {
    pool: StoragePool,
    /// Held to the end.
    job: PoolJob,
    building: Use,
    work: Arc<Work>,
    def: VolumeDef,
    path: PathBuf,
    flags: u32,
}

/// What the content comes from, held while it is read.
pub(super) struct Input {
    from: From,
    _use: Use,
    _job: PoolJob,
}

impl Making {
    async fn run(self, pool: Arc<PoolDef>, input: Option<Input>) -> Result<StorageVol> {
        let Making { pool: handle, job, building, work, def, path, flags } = self;
        if handle.is_logical()? {
            if input.is_some() {
                let what = "logical volumes cannot be made as copies here: create one and upload into it";
                return Err(Error::no_support(what));
            }
            logical::create(&pool, &def).await?;
            if let Err(error) = permissions::apply(&path, &def.target.permissions) {
                if let Err(also) = logical::remove(&pool, &def.name).await {
                    tracing::warn!(volume = def.name, error = %also, "a volume that could not be finished is left");
                }
                return Err(error);
            }
            handle.look_again(&def.name, false).await?;
            drop((building, job));
            return handle.volume(&def.name);
        }
        let preallocate = flags & self::flags::PREALLOC_METADATA != 0;
        let image = definition::image(&def, pool.kind, preallocate)?;
        let raw = definition::format_name(&def) == "raw";
        if raw && preallocate {
            return Err(Error::unsupported_config("metadata preallocation is not supported for raw volumes"));
        }
        if raw && def.backing.is_some() {
            return Err(Error::no_support("backing storage not supported for raw volumes"));
        }
        let unnamed = def.target.encryption.as_ref().is_some_and(|encryption| encryption.secrets.is_empty());
        if unnamed && !handle.in_memory() {
            return Err(Error::unsupported_config("no secret provided for luks encryption"));
        }
        let permissions = &def.target.permissions;
        let request = Create {
            name: def.name.clone(),
            target: path,
            image,
            secret: handle.passphrase(&def)?,
            source: input.as_ref().map(|input| From {
                path: input.from.path.clone(),
                format: input.from.format.clone(),
                capacity: input.from.capacity,
                secret: input.from.secret.clone(),
            }),
            reflink: flags & self::flags::REFLINK != 0,
            directory: def.kind == VolumeKind::Dir,
            mode: permissions.mode,
            owner: permissions.owner,
            group: permissions.group,
        };
        let name = def.name.clone();
        if handle.in_memory() {
            let mut def = def;
            def.allocation = def.allocation.min(def.capacity);
            handle.publish(&name, Some(def), None).await?;
        } else {
            create::create(&work.tool, request, &building.progress).await?;
            handle.look_at(&name, raw && def.target.encryption.is_none(), Some(&def)).await?;
        }
        drop((building, input, job));
        handle.volume(&name)
    }
}

impl StorageVol {
    /// This volume as the source of another, whose definition takes over what it does not say.
    async fn input(&self, work: &Work, new: &mut VolumeDef) -> Result<Input> {
        let job = self.pool.begin_job().await?;
        let used = work.begin(&self.key, &self.name, Task::Source)?;
        let def = self.current().await?;
        if def.kind == VolumeKind::Dir {
            return Err(Error::internal("cannot copy from a directory volume"));
        }
        // A copy is never smaller than what is copied.
        if new.capacity < def.capacity {
            new.capacity = def.capacity;
        }
        if !new.has_allocation {
            new.allocation = def.allocation;
        }
        let from = From {
            path: self.path()?,
            format: definition::format_name(&def).to_string(),
            capacity: def.capacity,
            secret: self.pool.passphrase(&def)?,
        };
        Ok(Input { from, _use: used, _job: job })
    }

    /// Where its bytes are. Error: code 50.
    pub(super) fn path(&self) -> Result<PathBuf> {
        let path = self.def()?.target.path.clone();
        path.map(PathBuf::from).ok_or_else(|| Error::new(Code::NoStorageVol, self.name.clone()))
    }
}
