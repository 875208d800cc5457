//! `org.domus.Job1`: a long piece of work on a volume or an image, as an object as long as it goes on.

use super::{Interface, Method, Property, m, p};
use crate::dbus::call::{BoxFuture, Invocation, Reply};
use crate::dbus::managed::{self, Object};
use crate::engine::api::{CancelStorageJob, Class, dispatch};
use crate::engine::work::JobView;
use zbus::Variant;

/// Below `job` of each driver root.
pub static INTERFACE: Interface = Interface {
    name: "org.domus.Job1",
    xml: include_str!("../../../schemas/dbus/org.domus.Job1.xml"),
    emits_changed: true,
    methods: METHODS,
    properties: PROPERTIES,
    signals: &[],
};

fn job<V: Into<Variant<'static>>>(object: &Object, read: fn(&JobView) -> V) -> Option<Variant<'static>> {
    match object {
        Object::Job(job) => Some(read(job).into()),
        _ => None,
    }
}

fn cancel(at: Invocation) -> BoxFuture<Reply> {
    Box::pin(async move {
        let id = managed::job(&at).await?.id;
        dispatch::<CancelStorageJob>(&at.caller, &at.connection()?, id).await?;
        at.reply(&())
    })
}

const METHODS: &[Method] = &[m("Cancel", "", "", "domusConnectCancelStorageJob").served((Class::Write, cancel))];

const PROPERTIES: &[Property] = &[
    p("Done", "t", "domusJobGetDone").live(|at| job(at, |job| job.done)),
    p("Key", "s", "domusJobGetKey").constant().live(|at| job(at, |job| job.key.clone())),
    p("Name", "s", "domusJobGetName").constant().live(|at| job(at, |job| job.name.clone())),
    p("Task", "s", "domusJobGetTask").constant().live(|at| job(at, |job| job.task.word().to_string())),
    p("Total", "t", "domusJobGetTotal").live(|at| job(at, |job| job.total)),
];
