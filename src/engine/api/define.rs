//! Definitions: define, create, undefine, rename, autostart; and what we say of XML without taking it.

use std::sync::Arc;

use super::lifecycle::{FilesArgs, check_takes_files, start};
use super::{Caller, call, check_flags};
use crate::domain_xml::device::VirtualPortType;
use crate::domain_xml::model::GenId;
use crate::domain_xml::{self, DomainDef, FormatOptions, Warning};
use crate::engine::access::guard::{Permit, domain_details};
use crate::engine::cleanup::fault_point;
use crate::engine::domain::{How, NewDefinition, Op, Seed};
use crate::engine::driver::Plan;
use crate::engine::registry::Claim;
use crate::engine::{Connection, Domain, secret, storage};
use crate::error::{Code, Error, Result};
use crate::types::{MacAddr, Uuid, flags};

/// XML with flags.
#[derive(Clone, Debug)]
pub struct XmlFlags {
    pub xml: String,
    pub flags: u32,
}

/// Arguments of `virDomainRename`.
#[derive(Clone, Debug)]
pub struct RenameArgs {
    pub name: String,
    pub flags: u32,
}

/// XML on its way in: read, checked against the driver, completed, validated.
pub(super) async fn read(on: &Connection, xml: &str) -> Result<(DomainDef, Vec<Warning>)> {
    let parsed = domain_xml::parse_inactive(xml)?;
    let (mut def, mut warnings) = (parsed.def, parsed.warnings);
    let driver = on.runtime().driver();
    let virt_type = def.virt_type.as_str();
    if !driver.accepts(virt_type) {
        return Err(Error::new(
            Code::ConfigUnsupported,
            format!("domain type '{virt_type}' is not run by the {} driver", on.kind()),
        ));
    }
    def.id = None;
    give_macs(&mut def);
    give_port_ids(&mut def);
    if def.genid == Some(GenId::Generate) {
        def.genid = Some(GenId::Value(Uuid::new_v4()));
    }
    driver.complete(&mut def, &mut warnings).await.map_err(|error| domain_xml::place(error, xml))?;
    driver.validate(&def).await.map_err(|error| domain_xml::place(error, xml))?;
    Ok((def, warnings))
}

/// An interface without an address gets a random one below libvirt's prefix 52:54:00, kept in the definition.
fn give_macs(def: &mut DomainDef) {
    for interface in def.interfaces.iter_mut().filter(|interface| interface.mac.is_none()) {
        let random = Uuid::new_v4().into_bytes();
        interface.mac = Some(MacAddr([0x52, 0x54, 0x00, random[0], random[1], random[2]]));
    }
}

/// Ports of switches that know them by an id get one, kept in the definition.
fn give_port_ids(def: &mut DomainDef) {
    for port in def.interfaces.iter_mut().filter_map(|interface| interface.virtualport.as_mut()) {
        let id = match port.kind {
            Some(VirtualPortType::Openvswitch) => &mut port.parameters.interfaceid,
            Some(VirtualPortType::Vepa) => &mut port.parameters.instanceid,
            _ => continue,
        };
        id.get_or_insert_with(|| Uuid::new_v4().to_string());
    }
}

fn messages(name: &str, warnings: &[Warning]) -> Arc<Vec<String>> {
    let line = |warning: &Warning| match warning.line {
        0 => warning.message.clone(),
        line => format!("line {line}, column {}: {}: {}", warning.column, warning.path, warning.message),
    };
    let lines: Vec<String> = warnings.iter().map(line).collect();
    for text in &lines {
        tracing::warn!(domain = name, "{text}");
    }
    Arc::new(lines)
}

/// The UUID of a definition: its own, that of the domain with its name (libvirt keeps it), or a new one.
pub(super) fn settle_uuid(on: &Connection, def: &mut DomainDef) -> Uuid {
    let uuid = def
        .uuid
        .or_else(|| on.runtime().registry().by_name(&def.name).map(|domain| domain.uuid()))
        .unwrap_or_else(Uuid::new_v4);
    def.uuid = Some(uuid);
    uuid
}

call! {
    /// Defines a domain or replaces its persistent definition (`virDomainDefineFlags`).
    DefineXml = "virDomainDefineXMLFlags", Write, "domain:write", "domain:save";
    (caller, on: Connection, XmlFlags { xml, flags } => XmlFlags) -> Domain {
        check_flags(on, flags, flags::define::VALIDATE, "virDomainDefineXMLFlags")?;
        if flags & flags::define::VALIDATE != 0 {
            domain_xml::check::validate_strictly(&xml)?;
        }
        let (mut def, warnings) = read(on, &xml).await?;
        let uuid = settle_uuid(on, &mut def);
        caller.permit::<Self>().on_new("domain", || Ok(domain_details(&def.name, uuid))).await?;
        let new = NewDefinition { messages: messages(&def.name, &warnings), def: Arc::new(def.compact()) };
        let name = new.def.name.clone();
        let runtime = on.runtime();
        match runtime.registry().claim(uuid, &name)? {
            Claim::Existing(domain) => {
                domain.request(Op::Define(Box::new(new))).await?;
                Ok(domain)
            }
            Claim::New(reservation) => {
                let text =
                    domain_xml::format(&new.def, FormatOptions { secure: true, inactive: true, ..Default::default() });
                fault_point("define.store")?;
                runtime.persist().put_definition(runtime.kind(), uuid, text).await?;
                fault_point("define.stored")?;
                let seed = Seed { inactive: Some(new.def), messages: new.messages, ..Seed::new(uuid, name) };
                let domain = Domain::spawn(runtime.clone(), seed);
                reservation.commit(domain.clone());
                domain.announce_defined();
                Ok(domain)
            }
        }
    }
}

call! {
    /// Starts a domain that is gone when it stops (`virDomainCreateFlags`).
    CreateXml = "virDomainCreateXML", Write, "domain:write", "domain:start";
    (caller, on: Connection, XmlFlags { xml, flags } => XmlFlags) -> Domain {
        use flags::create;
        let known = create::PAUSED | create::AUTODESTROY | create::VALIDATE | create::RESET_NVRAM;
        check_flags(on, flags, known, "virDomainCreateXML")?;
        create_transient(caller, caller.permit::<Self>(), on, (&xml, flags.into())).await
    }
}

call! {
    /// As [`CreateXml`], with descriptors for the guest's first process, which finds them as 3 and up.
    CreateXmlWithFiles = "virDomainCreateXMLWithFiles", Write, "domain:write", "domain:start";
    (caller, on: Connection, FilesArgs { files, start: XmlFlags { xml, flags } } => FilesArgs<XmlFlags>) -> Domain {
        use flags::create;
        check_takes_files(on.kind(), "virDomainCreateXMLWithFiles")?;
        let known = create::PAUSED | create::AUTODESTROY | create::VALIDATE;
        check_flags(on, flags, known, "virDomainCreateXMLWithFiles")?;
        create_transient(caller, caller.permit::<Self>(), on, (&xml, How { flags, files: Arc::new(files) })).await
    }
}

async fn create_transient(
    caller: &Caller,
    permit: Permit<'_>,
    on: &Connection,
    (xml, how): (&str, How),
) -> Result<Domain> {
    if how.flags & flags::create::VALIDATE != 0 {
        domain_xml::check::validate_strictly(xml)?;
    }
    let (mut def, warnings) = read(on, xml).await?;
    let uuid = settle_uuid(on, &mut def);
    permit.on_new("domain", || Ok(domain_details(&def.name, uuid))).await?;
    let new = NewDefinition { messages: messages(&def.name, &warnings), def: Arc::new(def.compact()) };
    let name = new.def.name.clone();
    let runtime = on.runtime();
    let domain = match runtime.registry().claim(uuid, &name)? {
        Claim::Existing(domain) => {
            if domain.snapshot().active() {
                return Err(Error::invalid_state(format!("domain '{name}' is already active")));
            }
            domain
        }
        Claim::New(reservation) => {
            let seed = Seed { messages: new.messages.clone(), ..Seed::new(uuid, name) };
            let domain = Domain::spawn(runtime.clone(), seed);
            reservation.commit(domain.clone());
            domain
        }
    };
    start(caller, &domain, how, Some(Box::new(new))).await?;
    Ok(domain)
}

call! {
    /// Removes the persistent definition (`virDomainUndefineFlagsValues`); a running domain becomes transient.
    Undefine = "virDomainUndefineFlags", Write, "domain:delete";
    (caller, on: Domain, flags => u32) -> () {
        use flags::undefine as u;
        check_flags(on, flags, 127, "virDomainUndefineFlags")?;
        for (a, b, names) in [(u::NVRAM, u::KEEP_NVRAM, "'nvram' and 'keep_nvram'"), (u::TPM, u::KEEP_TPM, "'tpm' and 'keep_tpm'")] {
            if flags & a != 0 && flags & b != 0 {
                return Err(Error::invalid_arg(format!("flags {names} in virDomainUndefineFlags are mutually exclusive")));
            }
        }
        on.request(Op::Undefine { flags }).await
    }
}

call! {
    /// Renames an inactive persistent domain.
    Rename = "virDomainRename", Write, "domain:write", "domain:save";
    (caller, on: Domain, RenameArgs { name, flags } => RenameArgs) -> () {
        check_flags(on, flags, 0, "virDomainRename")?;
        if name.is_empty() {
            return Err(Error::invalid_arg("the new name of a domain must not be empty"));
        }
        if name.contains('/') {
            return Err(Error::new(Code::XmlError, format!("name {name} cannot contain '/'")));
        }
        on.request(Op::Rename { name }).await
    }
}

call! {
    /// Marks a persistent domain to be started with the daemon.
    SetAutostart = "virDomainSetAutostart", Write, "domain:write";
    (caller, on: Domain, on_boot => bool) -> () { on.request(Op::SetAutostart(on_boot)).await }
}

call! {
    /// All that is doubtful in a definition, without taking it; an error if it would be refused. Not for who may only look:
    /// the emulator that it names is run to be asked what it can.
    CheckXml = "domusConnectCheckXML", Write, "connect:write";
    (caller, on: Connection, xml => String) -> Vec<Warning> { Ok(read(on, &xml).await?.1) }
}

call! {
    /// What a start of this definition would do, without doing it.
    PlanXml = "domusConnectPlan", Write, "connect:write";
    (caller, on: Connection, xml => String) -> Plan {
        let (mut def, _) = read(on, &xml).await?;
        settle_uuid(on, &mut def);
        let mut def = Arc::new(def);
        if let Err(error) = storage::resolve(on.host(), &mut def) {
            return Ok(Plan { problems: vec![error.message()], ..Plan::default() });
        }
        let mut plan = on.runtime().driver().plan(&def).await?;
        plan.problems.extend(secret::gather(on.host(), &def).err().map(|error| error.message()));
        Ok(plan)
    }
}
