//! The devices of the host, read-only.

use std::sync::Arc;

use super::api::{ObjectKind, On};
use super::host::Context;
use crate::error::{Code, Error, Result, Subsystem};

/// A device of the host, found by its name at every call.
#[derive(Clone, Debug)]
pub struct NodeDevice {
    pub name: String,
}

impl On for NodeDevice {
    const KIND: ObjectKind = ObjectKind::NodeDevice;

    fn scheme(&self) -> &'static str {
        "node"
    }

    fn subsystem(&self) -> Subsystem {
        Subsystem::NodeDev
    }
}

/// The devices of one set of objects.
#[derive(Debug)]
pub struct NodeDevices {
    #[allow(dead_code, reason = "where devices come from depends on it")]
    context: Arc<Context>,
}

impl NodeDevices {
    pub(super) fn new(context: Arc<Context>) -> NodeDevices {
        NodeDevices { context }
    }

    /// The device with this name. Error: none.
    pub fn by_name(&self, name: &str) -> Result<NodeDevice> {
        let text = format!("no node device with matching name '{name}'");
        Err(Error::new(Code::NoNodeDevice, text).with_subsystem(Subsystem::NodeDev))
    }
}
