//! Containers through the driver, as the engine starts them: XML in, a running container out, and the end of a run as
//! the engine does it, with a look at what is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domus::cgroup::{Manager, Mode};
use domus::domain_xml;
use domus::engine::cleanup::Cleaner;
use domus::engine::driver::{BlockingWork, Driver, InstanceEvent, Launched, Noted, StartRequest, UndoLog};
use domus::engine::undo::Step;
use domus::error::Result;
use domus::lxc::idalloc::Allocator;
use domus::lxc::{LxcConfig, LxcDriver};

use super::busybox_root;

#[derive(Debug, Default)]
pub struct Undo(Arc<Mutex<Vec<Step>>>);

impl UndoLog for Undo {
    fn pushing(&self, steps: Vec<Step>) -> BlockingWork {
        let log = self.0.clone();
        Box::new(move || {
            log.lock().unwrap().extend(steps);
            Ok(Noted::default())
        })
    }
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub driver: Arc<LxcDriver>,
    pub cgroups: Arc<Manager>,
    pub undo: Undo,
    pub run_id: String,
}

impl World {
    pub fn new(script: &str) -> World {
        World::with(script, Mode::Auto, false)
    }

    pub fn with(script: &str, mode: Mode, privileged: bool) -> World {
        World::build(script, mode, |config| config.privileged = privileged)
    }

    pub fn with_limit(script: &str, max_processes: u64) -> World {
        World::build(script, Mode::Auto, |config| config.max_processes = max_processes)
    }

    /// With other settings of the driver.
    pub fn build(script: &str, mode: Mode, change: impl FnOnce(&mut LxcConfig)) -> World {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = tempfile::tempdir().unwrap();
        busybox_root(dir.path(), script);
        for name in ["run", "log"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let cgroups = Arc::new(Manager::detect(mode));
        let mut config = LxcConfig {
            run_binary: Some(env!("CARGO_BIN_EXE_domus-run").into()),
            ids: Allocator::new(dir.path().join("ids"), 1_700_003_840, 16),
            overlay_dir: dir.path().join("overlay"),
            partition: format!("/domus-test-{}", std::process::id()),
            max_processes: 4096,
            ..LxcConfig::default()
        };
        change(&mut config);
        let driver = LxcDriver::new(config, cgroups.clone());
        let run_id = format!("{number}-{:08x}", std::process::id() * 16 + number);
        World { dir, driver, cgroups, undo: Undo::default(), run_id }
    }

    pub fn xml(&self, extra: &str) -> String {
        format!(
            "<domain type='lxc'><name>test-{id}</name><uuid>11111111-2222-3333-4444-555555555555</uuid>\
             <memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64'>exe</type><init>/init</init></os>\
             <devices>{extra}<console type='pty'><log file='{log}' append='off'/></console></devices></domain>",
            id = self.run_id,
            log = self.dir.path().join("run/console.log").display()
        )
    }

    pub fn root(&self) -> String {
        format!(
            "<filesystem type='mount'><source dir='{}'/><target dir='/'/></filesystem>",
            self.dir.path().join("root").display()
        )
    }

    pub async fn launch(&self, xml: &str, paused: bool) -> Result<Launched> {
        let mut def = domain_xml::parse_inactive(xml)?.def;
        self.driver.complete(&mut def, &mut Vec::new()).await?;
        self.driver.validate(&def).await?;
        let start = StartRequest {
            def: Arc::new(def),
            id: 7,
            run_id: self.run_id.clone(),
            run_dir: self.run_dir(),
            log_dir: self.dir.path().join("log"),
            secrets: Default::default(),
            paused,
            files: Default::default(),
        };
        self.driver.launch(start, &self.undo).await
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.run_dir().join("console.log")).unwrap_or_default().replace('\r', "")
    }

    pub async fn shows(&self, text: &str) {
        for _ in 0..3000 {
            if self.log().contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("console never showed {text:?}: {:?}", self.log());
    }

    /// What the engine does at the end of every run.
    pub async fn undo_quietly(&self) {
        let cleaner = Cleaner { cgroups: self.cgroups.clone(), roots: vec![self.dir.path().to_path_buf()], host: None };
        let steps = std::mem::take(&mut *self.undo.0.lock().unwrap());
        cleaner.undo(self.driver.as_ref(), &steps).await;
    }

    /// What the engine does at the end of every run, and a look at what is left.
    pub async fn clean(&self) {
        let cleaner = Cleaner { cgroups: self.cgroups.clone(), roots: vec![self.dir.path().to_path_buf()], host: None };
        let steps = std::mem::take(&mut *self.undo.0.lock().unwrap());
        let errors = cleaner.undo(self.driver.as_ref(), &steps).await;
        assert!(errors.is_empty(), "{errors:?}");
        for step in &steps {
            match step {
                Step::Cgroup { path } => assert!(self.cgroups.open(path).unwrap().is_empty(), "{path} is left"),
                Step::Link { name, .. } => {
                    assert!(!Path::new("/sys/class/net").join(name).exists(), "{name} is left");
                }
                _ => {}
            }
        }
        let ids = fs::read_dir(self.dir.path().join("ids")).map_or(0, |dir| dir.count());
        assert!(ids <= 1, "an id range is left");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*self.dir.path().to_string_lossy()), "a mount is left");
    }
}

pub async fn ended(events: &mut tokio::sync::mpsc::UnboundedReceiver<InstanceEvent>) -> i32 {
    let wait = async {
        loop {
            if let InstanceEvent::Ended { reason, .. } = events.recv().await.expect("events end with Ended") {
                return reason.unwrap().reason;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the container ends")
}
