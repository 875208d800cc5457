//! A dry run in words: files, cgroup and what would go wrong.

use super::{files, resources};
use crate::domain_xml::DomainDef;
use crate::engine::driver::{Plan, PlannedFile};
use crate::qemu::command::{CommandPlan, FdKind};
use crate::qemu::config::{Identity, QemuConfig};
use crate::sys::users;

/// Adds files, cgroup and problems to a plan.
pub fn describe(plan: &mut Plan, live: &DomainDef, command: &CommandPlan, config: &QemuConfig, identity: &Identity) {
    match resources::group_path(config, live, "RUN") {
        Ok(path) => plan.cgroup = path,
        Err(error) => plan.problems.push(error.message()),
    }
    for fd in &command.fds {
        if let FdKind::Log { path, .. } = &fd.kind {
            let (purpose, access) = ("serial output or log".to_string(), "create".to_string());
            plan.files.push(PlannedFile { path: path.clone(), purpose, access, owner: None, problem: None });
        }
    }
    for file in files::needed(live) {
        let access = if file.write { "read-write" } else { "read" }.to_string();
        let mut entry =
            PlannedFile { path: file.path.clone(), purpose: file.purpose.clone(), access, ..Default::default() };
        match files::examine(&file, config, identity) {
            Ok(Some(change)) => {
                let name = |(uid, gid)| format!("{}:{}", users::user_name(uid), users::group_name(gid));
                entry.owner = Some(format!("{} -> {}", name(change.old), name(change.new)));
            }
            Ok(None) => {}
            Err(error) => {
                plan.problems.push(error.message());
                entry.problem = Some(error.detail);
            }
        }
        plan.files.push(entry);
    }
}
