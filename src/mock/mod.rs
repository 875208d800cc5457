//! The test driver: guests that exist in memory only. No privileges, no files but the engine's own records.
//!
//! Behaves as libvirt's test driver does for clients: every life-cycle transition with its events, at once. What runs
//! it: authors of libvirt clients, and this project's own engine and front-end tests. A guest "survives" the daemon,
//! as a real one would: its status record revives it.
//!
//! [`Behaviour`] makes single domains misbehave, so that tests can see what the engine does then.

mod agent;
mod capabilities;
mod host;
mod instance;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::domain_xml::snapshot::SnapshotDef;
use crate::domain_xml::{DomainDef, Warning};
use crate::engine::driver::{
    DomainCapsQuery, Driver, DriverKind, Launched, Plan, Reattached, RunRecord, SimulatedHost, StartRequest, UndoLog,
};
use crate::engine::state::{Phase, paused, running};
use crate::engine::undo::Step;
use crate::error::{Error, Result};
use instance::MockInstance;

/// How one domain misbehaves.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// A start takes this long.
    pub start_delay: Duration,
    /// A start fails with this text, after it "made" something.
    pub start_error: Option<String>,
    /// A start never ends.
    pub start_hangs: bool,
    /// Suspend, resume, reset and the like never answer.
    pub control_hangs: bool,
    /// The guest does not obey a shutdown.
    pub ignores_shutdown: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct MockDriver {
    /// Whether the domain `test` is there from the start.
    with_test_domain: bool,
    behaviours: Mutex<HashMap<String, Behaviour>>,
    undone: Mutex<Vec<serde_json::Value>>,
}

impl MockDriver {
    /// A driver whose guests all behave.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// A driver that begins with libvirt's `test` domain running.
    pub fn with_test_domain() -> Arc<Self> {
        Arc::new(MockDriver { with_test_domain: true, ..Self::default() })
    }

    /// Makes the domain called `name` behave like this from its next start on.
    pub fn set_behaviour(&self, name: &str, behaviour: Behaviour) {
        self.behaviours.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), behaviour);
    }

    /// What `undo` was called with.
    pub fn undone(&self) -> Vec<serde_json::Value> {
        self.undone.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn behaviour(&self, name: &str) -> Behaviour {
        self.behaviours.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned().unwrap_or_default()
    }

    fn guest(&self, def: &DomainDef, phase: Phase, reason: i32) -> Launched {
        let (instance, events) = MockInstance::new(def.clone(), self.behaviour(&def.name), phase);
        Launched {
            instance: Arc::new(instance),
            live: def.clone(),
            phase,
            reason,
            state: serde_json::json!({ "version": 1 }),
            events,
        }
    }
}

#[async_trait]
impl Driver for MockDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Test
    }

    fn accepts(&self, virt_type: &str) -> bool {
        virt_type == "test"
    }

    async fn version(&self) -> Result<u64> {
        // libvirt's test driver answers 0.0.2.
        Ok(2)
    }

    async fn capabilities(&self) -> Result<String> {
        Ok(capabilities::host_and_guest())
    }

    async fn domain_capabilities(&self, query: &DomainCapsQuery) -> Result<String> {
        capabilities::domain(query)
    }

    async fn max_vcpus(&self, _virt_type: Option<&str>) -> Result<u32> {
        Ok(capabilities::MAX_VCPUS)
    }

    async fn complete(&self, def: &mut DomainDef, _warnings: &mut Vec<Warning>) -> Result<()> {
        def.os.arch.get_or_insert_with(|| capabilities::ARCH.to_string());
        Ok(())
    }

    async fn validate(&self, def: &DomainDef) -> Result<()> {
        if def.vcpu.max > capabilities::MAX_VCPUS {
            return Err(Error::unsupported_config(format!(
                "Maximum CPUs greater than specified machine type limit {}",
                capabilities::MAX_VCPUS
            )));
        }
        Ok(())
    }

    async fn plan(&self, _def: &DomainDef) -> Result<Plan> {
        Ok(Plan { user: "nobody runs".into(), ..Plan::default() })
    }

    async fn launch(&self, start: StartRequest, undo: &dyn UndoLog) -> Result<Launched> {
        let behaviour = self.behaviour(&start.def.name);
        undo.push(vec![Step::Driver { data: serde_json::json!({ "made": start.def.name }) }]).await?;
        if behaviour.start_hangs {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(behaviour.start_delay).await;
        if let Some(text) = behaviour.start_error {
            return Err(Error::internal(text));
        }
        let (phase, reason) =
            if start.paused { (Phase::Paused, paused::USER) } else { (Phase::Running, running::BOOTED) };
        let mut live = start.def.as_ref().clone();
        live.id = Some(start.id);
        Ok(self.guest(&live, phase, reason))
    }

    async fn reattach(&self, run: &RunRecord) -> Result<Reattached> {
        Ok(Reattached::Running(self.guest(&run.live, run.phase, run.reason)))
    }

    async fn cpu_models(&self, arch: &str) -> Result<Vec<String>> {
        let names = crate::host::cpu::model_names(arch)
            .ok_or_else(|| Error::invalid_arg(format!("cannot find architecture {arch}")))?;
        Ok(names.into_iter().map(str::to_string).collect())
    }

    fn keeps_moments(&self) -> bool {
        true
    }

    async fn take_snapshot(&self, _snapshot: &SnapshotDef) -> Result<()> {
        // There is nothing in a guest of this driver but its definition, which the engine keeps.
        Ok(())
    }

    fn simulated_host(&self) -> Option<SimulatedHost> {
        Some(host::simulated())
    }

    fn built_in(&self) -> Vec<&'static str> {
        if self.with_test_domain { vec![host::TEST_DOMAIN] } else { Vec::new() }
    }

    async fn undo(&self, data: &serde_json::Value) -> Result<()> {
        self.undone.lock().unwrap_or_else(PoisonError::into_inner).push(data.clone());
        Ok(())
    }
}
