//! What the agent inside the guest is asked: time, file systems, users, processors.
//!
//! The agent is not trusted: its answers are read here, bounded, and become errors when they are not what they should be.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::call;
use super::guest_info;
use crate::domain_xml::DomainDef;
use crate::domain_xml::device::{ChannelState, ChannelTarget};
use crate::domain_xml::tune::{format_set, set_members};
use crate::engine::Domain;
use crate::engine::control::{AgentAnswer, AgentCommand};
use crate::engine::driver::{DriverKind, Instance, InterfaceAddresses};
use crate::engine::state::State;
use crate::error::{Code, Error, Result};
use crate::types::TypedParams;

use super::check_flags;

/// The port that the agent listens on inside the guest.
pub const AGENT_PORT: &str = "org.qemu.guest_agent.0";
/// `VIR_DOMAIN_TIME_SYNC`, `VIR_DOMAIN_PASSWORD_ENCRYPTED`, `VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_APPEND`, `_REMOVE`.
const TIME_SYNC: u32 = 1;
const PASSWORD_ENCRYPTED: u32 = 1;
const KEYS_APPEND: u32 = 1;
const KEYS_REMOVE: u32 = 2;
/// Longest wait that can be asked for: as long as it takes.
const TIMEOUT_MIN: i32 = -2;

/// A running guest with an agent in it.
pub(super) struct Agent {
    instance: Arc<dyn Instance>,
    pub live: Arc<DomainDef>,
    function: &'static str,
}

impl Agent {
    /// Errors: 55 when the guest does not run, 74 when it has no port for an agent, 86 when nobody listens on it.
    pub fn of(on: &Domain, function: &'static str) -> Result<Agent> {
        let snapshot = on.snapshot();
        let (Some(instance), Some(live)) = (&snapshot.instance, &snapshot.live) else {
            return Err(Error::invalid_state("domain is not running"));
        };
        if snapshot.state().state != State::Running {
            return Err(Error::invalid_state("domain is not running"));
        }
        if on.runtime().kind() == DriverKind::Qemu {
            let port = live.channels.iter().find_map(|channel| match &channel.target {
                ChannelTarget::Virtio { name: Some(name), state } if name == AGENT_PORT => Some(*state),
                _ => None,
            });
            match port {
                None => return Err(Error::new(Code::ArgumentUnsupported, "QEMU guest agent is not configured")),
                Some(Some(ChannelState::Disconnected)) => {
                    return Err(Error::new(Code::AgentUnresponsive, "QEMU guest agent is not connected"));
                }
                Some(_) => {}
            }
        }
        Ok(Agent { instance: instance.clone(), live: live.clone(), function })
    }

    /// Asks; a refusal is an answer.
    pub async fn try_ask(&self, name: &str, arguments: Value) -> Result<AgentAnswer> {
        let command = AgentCommand { name: name.to_string(), arguments, function: self.function, timeout: None };
        let answer = self.instance.agent(command).await?;
        Ok(answer.unwrap_or(Ok(Value::Null)))
    }

    /// Asks. Errors: code 1 with the agent's own words.
    pub async fn ask(&self, name: &str, arguments: Value) -> Result<Value> {
        let answer = self.try_ask(name, arguments).await?;
        answer.map_err(|no| Error::internal(format!("unable to execute QEMU agent command '{name}': {}", no.text)))
    }

    async fn number(&self, name: &str, arguments: Value) -> Result<i64> {
        self.ask(name, arguments).await?.as_i64().ok_or_else(|| malformed(name))
    }
}

/// What the agent sent is not what the command answers.
pub(super) fn malformed(command: &str) -> Error {
    Error::internal(format!("malformed return value of the guest agent's '{command}'"))
}

call! {
    /// The guest's clock: seconds and nanoseconds since the epoch.
    GetTime = "virDomainGetTime", Write, "domain:write";
    (caller, on: Domain, flags => u32) -> (i64, u32) {
        check_flags(on, flags, 0, "virDomainGetTime")?;
        let ns = Agent::of(on, "virDomainGetTime")?.number("guest-get-time", Value::Null).await?;
        let part = u32::try_from(ns.rem_euclid(1_000_000_000)).unwrap_or_default();
        Ok((ns.div_euclid(1_000_000_000), part))
    }
}

/// Arguments of `virDomainSetTime`.
#[derive(Clone, Copy, Debug)]
pub struct TimeArgs {
    /// Since the epoch.
    pub seconds: i64,
    pub nanoseconds: u32,
    /// 1: from the guest's own hardware clock instead.
    pub flags: u32,
}

call! {
    /// Sets the guest's clock.
    SetTime = "virDomainSetTime", Write, "domain:set_time";
    (caller, on: Domain, TimeArgs { seconds, nanoseconds, flags } => TimeArgs) -> () {
        check_flags(on, flags, TIME_SYNC, "virDomainSetTime")?;
        let arguments = if flags & TIME_SYNC != 0 {
            Value::Null
        } else {
            let ns = seconds.checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(i64::from(nanoseconds)));
            let Some(ns) = ns else {
                return Err(Error::invalid_arg(format!("Time '{seconds}' is too big for guest agent")));
            };
            json!({ "time": ns })
        };
        Agent::of(on, "virDomainSetTime")?.ask("guest-set-time", arguments).await.map(drop)
    }
}

/// Arguments of `virDomainFSFreeze` and `virDomainFSThaw`.
#[derive(Clone, Debug)]
pub struct FreezeArgs {
    /// Only these; empty = all.
    pub mountpoints: Vec<String>,
    pub flags: u32,
}

fn count(number: i64, command: &str) -> Result<i32> {
    i32::try_from(number).map_err(|_| malformed(command))
}

call! {
    /// Holds up writes to file systems; how many.
    FsFreeze = "virDomainFSFreeze", Write, "domain:fs_freeze";
    (caller, on: Domain, FreezeArgs { mountpoints, flags } => FreezeArgs) -> i32 {
        check_flags(on, flags, 0, "virDomainFSFreeze")?;
        let agent = Agent::of(on, "virDomainFSFreeze")?;
        let (command, arguments) = match mountpoints.is_empty() {
            true => ("guest-fsfreeze-freeze", Value::Null),
            false => ("guest-fsfreeze-freeze-list", json!({ "mountpoints": mountpoints })),
        };
        count(agent.number(command, arguments).await?, command)
    }
}

call! {
    /// Lets them go on, all of them; how many.
    FsThaw = "virDomainFSThaw", Write, "domain:fs_freeze";
    (caller, on: Domain, FreezeArgs { flags, .. } => FreezeArgs) -> i32 {
        check_flags(on, flags, 0, "virDomainFSThaw")?;
        let command = "guest-fsfreeze-thaw";
        count(Agent::of(on, "virDomainFSThaw")?.number(command, Value::Null).await?, command)
    }
}

/// Arguments of `virDomainFSTrim`.
#[derive(Clone, Debug)]
pub struct TrimArgs {
    pub mountpoint: Option<String>,
    /// Ranges shorter than this many bytes are left.
    pub minimum: u64,
    pub flags: u32,
}

call! {
    /// Gives unused blocks of the guest's file systems back.
    FsTrim = "virDomainFSTrim", Write, "domain:fs_trim";
    (caller, on: Domain, TrimArgs { mountpoint, minimum, flags } => TrimArgs) -> () {
        check_flags(on, flags, 0, "virDomainFSTrim")?;
        if mountpoint.is_some() {
            return Err(Error::new(Code::ArgumentUnsupported, "Specifying mount point is not supported for now"));
        }
        Agent::of(on, "virDomainFSTrim")?.ask("guest-fstrim", json!({ "minimum": minimum })).await.map(drop)
    }
}

/// A mounted file system of the guest (`virDomainFSInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsInfo {
    pub mountpoint: String,
    /// The guest's device.
    pub name: String,
    /// `ext4`.
    pub kind: String,
    /// Targets (`vda`) of the disks it is on.
    pub disks: Vec<String>,
}

call! {
    /// The guest's mounted file systems.
    GetFsInfo = "virDomainGetFSInfo", Write, "domain:fs_freeze";
    (caller, on: Domain, flags => u32) -> Vec<FsInfo> {
        check_flags(on, flags, 0, "virDomainGetFSInfo")?;
        let agent = Agent::of(on, "virDomainGetFSInfo")?;
        let answer = agent.ask("guest-get-fsinfo", Value::Null).await?;
        guest_info::file_systems(&answer, &agent.live)
    }
}

/// Arguments of `virDomainGetGuestInfo`.
#[derive(Clone, Copy, Debug)]
pub struct GuestInfoArgs {
    /// `virDomainGuestInfoTypes`; 0 = all that the agent knows.
    pub types: u32,
    pub flags: u32,
}

call! {
    /// What the guest says of itself.
    GetGuestInfo = "virDomainGetGuestInfo", Write, "domain:write";
    (caller, on: Domain, GuestInfoArgs { types, flags } => GuestInfoArgs) -> TypedParams {
        check_flags(on, flags, 0, "virDomainGetGuestInfo")?;
        let agent = Agent::of(on, "virDomainGetGuestInfo")?;
        if types & !guest_info::ALL != 0 {
            let unknown = types & !guest_info::ALL;
            return Err(Error::new(Code::InvalidArg, format!("unsupported guest information types '0x{unknown:x}'")));
        }
        let mut params = TypedParams::new();
        for group in guest_info::GROUPS.iter().filter(|group| types == 0 || types & group.flag != 0) {
            match agent.try_ask(group.command, Value::Null).await? {
                Ok(answer) => (group.read)(&answer, &agent.live, &mut params).ok_or_else(|| malformed(group.command))?,
                // What an agent does not know is left out, unless it was asked for by name.
                Err(no) if types == 0 && no.is_unsupported() => {}
                Err(no) => {
                    let text = format!("unable to execute QEMU agent command '{}': {}", group.command, no.text);
                    return Err(Error::internal(text));
                }
            }
        }
        Ok(params)
    }
}

/// A processor as the guest sees it.
struct GuestVcpu {
    id: u32,
    online: bool,
    offlinable: bool,
}

async fn guest_vcpus(agent: &Agent) -> Result<Vec<GuestVcpu>> {
    let command = "guest-get-vcpus";
    let answer = agent.ask(command, Value::Null).await?;
    let read = |cpu: &Value| {
        let truth = |name: &str| cpu.get(name).and_then(Value::as_bool);
        let id = u32::try_from(cpu.get("logical-id")?.as_u64()?).ok().filter(|id| *id < 1 << 16)?;
        // Without the word it is offlinable.
        Some(GuestVcpu { id, online: truth("online")?, offlinable: truth("can-offline").unwrap_or(true) })
    };
    answer.as_array().and_then(|all| all.iter().map(read).collect()).ok_or_else(|| malformed(command))
}

/// How many processors the guest uses.
pub(super) async fn online_vcpus(on: &Domain) -> Result<u32> {
    let vcpus = guest_vcpus(&Agent::of(on, "virDomainGetVcpusFlags")?).await?;
    Ok(u32::try_from(vcpus.iter().filter(|cpu| cpu.online).count()).unwrap_or(u32::MAX))
}

async fn switch(agent: &Agent, wanted: &[(u32, bool)]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let list: Vec<Value> = wanted.iter().map(|(id, online)| json!({ "logical-id": id, "online": online })).collect();
    let done = agent.number("guest-set-vcpus", json!({ "vcpus": list })).await?;
    if usize::try_from(done).ok() == Some(wanted.len()) {
        return Ok(());
    }
    Err(Error::internal(format!("the guest agent switched {done} of {} processors", wanted.len())))
}

/// Lets the guest use `count` processors: the first ones.
pub(super) async fn use_vcpus(on: &Domain, count: u32) -> Result<()> {
    let agent = Agent::of(on, "virDomainSetVcpusFlags")?;
    let vcpus = guest_vcpus(&agent).await?;
    let mut online = vcpus.iter().filter(|cpu| cpu.online).count();
    let wanted = count as usize;
    let mut changes = Vec::new();
    for cpu in vcpus.iter().filter(|cpu| !cpu.online) {
        if online < wanted {
            changes.push((cpu.id, true));
            online += 1;
        }
    }
    for cpu in vcpus.iter().rev().filter(|cpu| cpu.online && cpu.offlinable) {
        if online > wanted {
            changes.push((cpu.id, false));
            online -= 1;
        }
    }
    if online != wanted {
        let what =
            if online < wanted { "guest agent reports less cpu than requested" } else { "Cannot offline enough CPUs" };
        return Err(Error::internal(what));
    }
    switch(&agent, &changes).await
}

call! {
    /// Processors that the guest has, uses, and could do without: sets in libvirt's text form.
    GetGuestVcpus = "virDomainGetGuestVcpus", Write, "domain:write";
    (caller, on: Domain, flags => u32) -> TypedParams {
        check_flags(on, flags, 0, "virDomainGetGuestVcpus")?;
        let vcpus = guest_vcpus(&Agent::of(on, "virDomainGetGuestVcpus")?).await?;
        let set = |of: fn(&GuestVcpu) -> bool| {
            let members: Vec<u32> = vcpus.iter().filter(|cpu| of(cpu)).map(|cpu| cpu.id).collect();
            format_set(&members)
        };
        let mut params = TypedParams::new();
        params.string("vcpus", set(|_| true));
        params.string("online", set(|cpu| cpu.online));
        params.string("offlinable", set(|cpu| cpu.offlinable));
        Ok(params)
    }
}

/// Arguments of `virDomainSetGuestVcpus`.
#[derive(Clone, Debug)]
pub struct GuestVcpusArgs {
    /// A set in libvirt's text form.
    pub cpus: String,
    /// 1 = use them, 0 = do not.
    pub state: i32,
    pub flags: u32,
}

call! {
    /// Lets the guest use processors, or do without them.
    SetGuestVcpus = "virDomainSetGuestVcpus", Write, "domain:write";
    (caller, on: Domain, GuestVcpusArgs { cpus, state, flags } => GuestVcpusArgs) -> () {
        check_flags(on, flags, 0, "virDomainSetGuestVcpus")?;
        if !matches!(state, 0 | 1) {
            return Err(Error::bare_arg("unsupported state value"));
        }
        let members = set_members(&cpus).filter(|members| !members.is_empty());
        let Some(members) = members else {
            return Err(Error::invalid_arg(format!("failed to parse the set of guest processors '{cpus}'")));
        };
        let agent = Agent::of(on, "virDomainSetGuestVcpus")?;
        let vcpus = guest_vcpus(&agent).await?;
        let on = state == 1;
        let mut changes = Vec::new();
        for id in members {
            let Some(cpu) = vcpus.iter().find(|cpu| cpu.id == id) else {
                return Err(Error::invalid_arg("guest is missing vCPUs that are to be changed: ".to_string() + &cpus));
            };
            if !on && !cpu.offlinable {
                return Err(Error::invalid_arg(format!("vCPU '{id}' is not offlinable")));
            }
            if cpu.online != on {
                changes.push((id, on));
            }
        }
        switch(&agent, &changes).await
    }
}

/// Arguments of `virDomainSetUserPassword`.
#[derive(Clone)]
pub struct PasswordArgs {
    pub user: String,
    pub password: String,
    /// 1: the password is a hash already.
    pub flags: u32,
}

impl std::fmt::Debug for PasswordArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordArgs").field("user", &self.user).finish_non_exhaustive()
    }
}

call! {
    /// Changes the password of a user of the guest.
    SetUserPassword = "virDomainSetUserPassword", Write, "domain:set_password";
    (caller, on: Domain, PasswordArgs { user, password, flags } => PasswordArgs) -> () {
        check_flags(on, flags, PASSWORD_ENCRYPTED, "virDomainSetUserPassword")?;
        let arguments = json!({
            "username": user, "password": STANDARD.encode(password), "crypted": flags & PASSWORD_ENCRYPTED != 0,
        });
        Agent::of(on, "virDomainSetUserPassword")?.ask("guest-set-user-password", arguments).await.map(drop)
    }
}

/// Arguments of `virDomainAuthorizedSSHKeysGet` and `Set`.
#[derive(Clone, Debug)]
pub struct KeysArgs {
    pub user: String,
    /// Lines of the file; none for `Get`.
    pub keys: Vec<String>,
    /// 1 append, 2 remove, 0 replace.
    pub flags: u32,
}

call! {
    /// The keys that may log in as a user of the guest.
    AuthorizedKeysGet = "virDomainAuthorizedSSHKeysGet", Write, "domain:write";
    (caller, on: Domain, KeysArgs { user, flags, .. } => KeysArgs) -> Vec<String> {
        check_flags(on, flags, 0, "virDomainAuthorizedSSHKeysGet")?;
        let command = "guest-ssh-get-authorized-keys";
        let agent = Agent::of(on, "virDomainAuthorizedSSHKeysGet")?;
        let answer = agent.ask(command, json!({ "username": user })).await?;
        let keys = answer.get("keys").and_then(Value::as_array).ok_or_else(|| malformed(command))?;
        keys.iter().map(|key| key.as_str().map(str::to_string).ok_or_else(|| malformed(command))).collect()
    }
}

call! {
    /// Replaces, adds or removes them.
    AuthorizedKeysSet = "virDomainAuthorizedSSHKeysSet", Write, "domain:write";
    (caller, on: Domain, KeysArgs { user, keys, flags } => KeysArgs) -> () {
        check_flags(on, flags, KEYS_APPEND | KEYS_REMOVE, "virDomainAuthorizedSSHKeysSet")?;
        if flags == KEYS_APPEND | KEYS_REMOVE {
            return Err(Error::bare_arg(
                "flags 'VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_APPEND' and 'VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_REMOVE' in \
                 function 'virDomainAuthorizedSSHKeysSet' are mutually exclusive",
            ));
        }
        let agent = Agent::of(on, "virDomainAuthorizedSSHKeysSet")?;
        let answer = match flags {
            KEYS_REMOVE => {
                let arguments = json!({ "username": user, "keys": keys });
                agent.ask("guest-ssh-remove-authorized-keys", arguments).await
            }
            _ => {
                let arguments = json!({ "username": user, "keys": keys, "reset": flags & KEYS_APPEND == 0 });
                agent.ask("guest-ssh-add-authorized-keys", arguments).await
            }
        };
        answer.map(drop)
    }
}

/// Arguments of `virDomainAgentSetResponseTimeout`.
#[derive(Clone, Copy, Debug)]
pub struct AgentTimeoutArgs {
    /// As in [`AgentCommand`].
    pub timeout: i32,
    pub flags: u32,
}

fn check_timeout(timeout: i32) -> Result<()> {
    if timeout >= TIMEOUT_MIN {
        return Ok(());
    }
    let text = format!("guest agent timeout '{timeout}' is less than the minimum '{TIMEOUT_MIN}'");
    Err(Error::bare_arg(text))
}

call! {
    /// How long the agent may take from now on.
    AgentSetResponseTimeout = "virDomainAgentSetResponseTimeout", Write, "domain:write";
    (caller, on: Domain, AgentTimeoutArgs { timeout, flags } => AgentTimeoutArgs) -> () {
        check_flags(on, flags, 0, "virDomainAgentSetResponseTimeout")?;
        check_timeout(timeout)?;
        match &on.snapshot().instance {
            Some(instance) => instance.set_agent_timeout(timeout),
            None => Err(Error::invalid_state("domain is not running")),
        }
    }
}

/// Arguments of `virDomainQemuAgentCommand`.
#[derive(Clone, Debug)]
pub struct AgentCommandArgs {
    /// JSON.
    pub command: String,
    /// As in [`AgentCommand`].
    pub timeout: i32,
    pub flags: u32,
}

call! {
    /// Any command, in the agent's own words; `None` when nobody waited for the answer.
    QemuAgentCommand = "virDomainQemuAgentCommand", Write, "domain:write";
    (caller, on: Domain, AgentCommandArgs { command, timeout, flags } => AgentCommandArgs) -> Option<String> {
        check_flags(on, flags, 0, "virDomainQemuAgentCommand")?;
        check_timeout(timeout)?;
        let agent = Agent::of(on, "virDomainQemuAgentCommand")?;
        let bad = |what: String| Error::invalid_arg(format!("the command for the guest agent {what}"));
        let mut command: Value = serde_json::from_str(&command).map_err(|error| bad(format!("is no JSON: {error}")))?;
        let name = command.get("execute").and_then(Value::as_str).map(str::to_string);
        let name = name.ok_or_else(|| bad("has no 'execute'".into()))?;
        let arguments = command.get_mut("arguments").map(Value::take).unwrap_or_default();
        let request = AgentCommand { name: name.clone(), arguments, function: agent.function, timeout: Some(timeout) };
        match agent.instance.agent(request).await? {
            None => Ok(None),
            Some(Ok(answer)) => Ok(Some(json!({ "return": answer }).to_string())),
            Some(Err(no)) => {
                Err(Error::internal(format!("unable to execute QEMU agent command '{name}': {}", no.text)))
            }
        }
    }
}

/// Arguments of `virDomainPMSuspendForDuration`.
#[derive(Clone, Copy, Debug)]
pub struct PmSuspendArgs {
    /// `virNodeSuspendTarget`: 0 memory, 1 disk, 2 both.
    pub target: u32,
    /// Must be 0.
    pub duration: u64,
    pub flags: u32,
}

/// How often it is looked whether the guest sleeps, and how long it may take to.
const SLEEP_LOOK: Duration = Duration::from_millis(50);
const SLEEP_PATIENCE: i32 = 30;

call! {
    /// Lets the guest suspend itself.
    PmSuspend = "virDomainPMSuspendForDuration", Write, "domain:pm_control";
    (caller, on: Domain, PmSuspendArgs { target, duration, flags } => PmSuspendArgs) -> () {
        check_flags(on, flags, 0, "virDomainPMSuspendForDuration")?;
        if duration != 0 {
            return Err(Error::new(Code::ArgumentUnsupported, "Duration not supported. Use 0 for now"));
        }
        let name = match target {
            0 => "guest-suspend-ram",
            1 => "guest-suspend-disk",
            2 => "guest-suspend-hybrid",
            _ => return Err(Error::new(Code::ArgumentUnsupported, format!("Unknown suspend target: {target}"))),
        };
        let agent = Agent::of(on, "virDomainPMSuspendForDuration")?;
        let command = AgentCommand {
            name: name.into(),
            arguments: Value::Null,
            function: agent.function,
            timeout: Some(SLEEP_PATIENCE),
        };
        // A guest that sleeps answers nothing: its state is the answer.
        let asleep = async {
            while on.snapshot().state().state == State::Running {
                tokio::time::sleep(SLEEP_LOOK).await;
            }
        };
        tokio::select! {
            () = asleep => Ok(()),
            answer = agent.instance.agent(command) => match answer? {
                Some(Err(no)) => {
                    Err(Error::internal(format!("unable to execute QEMU agent command '{name}': {}", no.text)))
                }
                Some(Ok(_)) | None => Ok(()),
            },
        }
    }
}

/// What the guest itself calls its interfaces, and their addresses.
pub(super) async fn addresses(on: &Domain) -> Result<Vec<InterfaceAddresses>> {
    let command = "guest-network-get-interfaces";
    let answer = Agent::of(on, "virDomainInterfaceAddresses")?.ask(command, Value::Null).await?;
    guest_info::interfaces(&answer).ok_or_else(|| malformed(command))
}

/// What the guest calls itself.
pub(super) async fn host_name(on: &Domain) -> Result<String> {
    let command = "guest-get-host-name";
    let answer = Agent::of(on, "virDomainGetHostname")?.ask(command, Value::Null).await?;
    answer.get("host-name").and_then(Value::as_str).map(str::to_string).ok_or_else(|| malformed(command))
}
