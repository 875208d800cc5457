//! The networks of the host.

use super::api::ObjectKind;
use super::objects::{Handle, Kind};
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::Uuid;

/// What makes an object a network.
#[derive(Clone, Debug)]
pub struct NetworkKind;

/// A network.
pub type Network = Handle<NetworkKind>;

/// The definition, until its own type is here.
#[derive(Debug)]
pub struct Placeholder {
    uuid: Uuid,
    name: String,
}

impl Kind for NetworkKind {
    type Def = Placeholder;
    type Live = ();
    const NOUN: &'static str = "network";
    const DIRECTORY: &'static str = "networks";
    const OBJECT: ObjectKind = ObjectKind::Network;
    const SUBSYSTEM: Subsystem = Subsystem::Network;
    const MISSING: Code = Code::NoNetwork;
    const SCHEME: &'static str = "network";

    fn parse(_xml: &str) -> Result<Placeholder> {
        Err(Error::internal("networks are not there yet"))
    }

    fn write(_def: &Placeholder) -> String {
        String::new()
    }

    fn uuid(def: &Placeholder) -> Uuid {
        def.uuid
    }

    fn name(def: &Placeholder) -> String {
        def.name.clone()
    }
}
