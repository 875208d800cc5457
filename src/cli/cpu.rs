//! Commands about processors: cpu-compare, cpu-baseline, cpu-models, and the two that ask a hypervisor.

use clap::Args;
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::{Value, json};

use super::args::FileArg;
use super::client::CallError;
use super::domains::{CONNECT, DOMUS_CONNECT, Session};
use super::host::ended;
use super::output::{Context, Failure};
use crate::types::flags::{baseline_cpu, compare_cpu};

/// The hypervisor that is asked.
#[derive(Debug, Args)]
pub struct HypervisorArgs {
    /// Kind of virtualization: kvm or qemu
    #[arg(long, value_name = "TYPE", default_value = "", hide_default_value = true)]
    virttype: String,
    /// Path of the emulator
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true)]
    emulator: String,
    /// The guest's architecture
    #[arg(long, default_value = "", hide_default_value = true)]
    arch: String,
    /// The machine type
    #[arg(long, default_value = "", hide_default_value = true)]
    machine: String,
}

/// Options of `cpu-compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    #[command(flatten)]
    file: FileArg,
    /// Fail with the reason when it is not enough
    #[arg(long)]
    error: bool,
    /// Check the XML against the schema
    #[arg(long)]
    validate: bool,
}

/// Options of `hypervisor-cpu-compare`.
#[derive(Debug, Args)]
pub struct HypervisorCompareArgs {
    #[command(flatten)]
    compare: CompareArgs,
    #[command(flatten)]
    hypervisor: HypervisorArgs,
}

/// Options of `cpu-baseline`.
#[derive(Debug, Args)]
pub struct BaselineArgs {
    #[command(flatten)]
    file: FileArg,
    /// List every feature
    #[arg(long)]
    features: bool,
    /// Leave out what cannot be migrated
    #[arg(long)]
    migratable: bool,
}

/// Options of `hypervisor-cpu-baseline`.
#[derive(Debug, Args)]
pub struct HypervisorBaselineArgs {
    #[command(flatten)]
    baseline: BaselineArgs,
    #[command(flatten)]
    hypervisor: HypervisorArgs,
}

/// Options of `cpu-models`.
#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// The architecture
    #[arg(required_unless_present = "named_arch", conflicts_with = "named_arch")]
    arch: Option<String>,
    #[arg(long = "arch", id = "named_arch", value_name = "ARCH", hide = true)]
    named: Option<String>,
}

impl CompareArgs {
    fn flags(&self) -> u32 {
        let error = if self.error { compare_cpu::FAIL_INCOMPATIBLE } else { 0 };
        let validate = if self.validate { compare_cpu::VALIDATE_XML } else { 0 };
        error | validate
    }

    fn first(&self) -> Result<String, Failure> {
        let found = cpus(&self.file.read()?).into_iter().next();
        found.ok_or_else(|| Failure::new(format!("No host CPU specified in '{}'", self.file.name())))
    }
}

impl BaselineArgs {
    fn flags(&self) -> u32 {
        let features = if self.features { baseline_cpu::EXPAND_FEATURES } else { 0 };
        let migratable = if self.migratable { baseline_cpu::MIGRATABLE } else { 0 };
        features | migratable
    }

    fn all(&self) -> Result<Vec<String>, Failure> {
        match cpus(&self.file.read()?) {
            none if none.is_empty() => Err(Failure::new(format!("No host CPU specified in '{}'", self.file.name()))),
            some => Ok(some),
        }
    }
}

/// `domus cpu-compare`: exit status 1 when the host's processor is not enough.
pub async fn compare(session: &Session, args: &CompareArgs) -> Result<(), Failure> {
    let (driver, file) = (session.default_driver().await?, args.file.name());
    let query = (args.first()?, args.flags());
    let answer: Result<i32, CallError> = session.client.call(driver.path(), CONNECT, "CompareCPU", &query).await;
    let answer = answer.context(|| format!("Failed to compare host CPU with {file}"))?;
    let text = match answer {
        0 => format!("CPU described in {file} is incompatible with host CPU\n"),
        1 => format!("CPU described in {file} is identical to host CPU\n"),
        _ => format!("Host CPU is a superset of CPU described in {file}\n"),
    };
    show_outcome(session, answer, &text)
}

/// `domus hypervisor-cpu-compare`: exit status 1 when the hypervisor cannot give this processor.
pub async fn hypervisor_compare(session: &Session, args: &HypervisorCompareArgs) -> Result<(), Failure> {
    let (driver, file) = (session.default_driver().await?, args.compare.file.name());
    let HypervisorArgs { virttype, emulator, arch, machine } = &args.hypervisor;
    let query = (emulator, arch, machine, virttype, args.compare.first()?, args.compare.flags());
    let answer: Result<i32, CallError> =
        session.client.call(driver.path(), DOMUS_CONNECT, "CompareHypervisorCPU", &query).await;
    let answer = answer.context(|| format!("Failed to compare hypervisor CPU with {file}"))?;
    let provided = "the CPU provided by hypervisor on the host";
    let text = match answer {
        0 => format!("CPU described in {file} is incompatible with {provided}\n"),
        1 => format!("CPU described in {file} is identical to {provided}\n"),
        _ => format!("The CPU provided by hypervisor on the host is a superset of CPU described in {file}\n"),
    };
    show_outcome(session, answer, &text)
}

fn show_outcome(session: &Session, answer: i32, text: &str) -> Result<(), Failure> {
    let word = match answer {
        0 => "incompatible",
        1 => "identical",
        _ => "superset",
    };
    session.out.show(&json!({ "result": word }), text);
    if answer == 0 { Err(Failure { lines: Vec::new() }) } else { Ok(()) }
}

/// `domus cpu-baseline`
pub async fn baseline(session: &Session, args: &BaselineArgs) -> Result<(), Failure> {
    let driver = session.default_driver().await?;
    let query = (args.all()?, args.flags());
    let xml: Result<String, CallError> = session.client.call(driver.path(), CONNECT, "BaselineCPU", &query).await;
    let xml = xml?;
    session.out.show(&json!({ "xml": xml }), &ended(&xml));
    Ok(())
}

/// `domus hypervisor-cpu-baseline`
pub async fn hypervisor_baseline(session: &Session, args: &HypervisorBaselineArgs) -> Result<(), Failure> {
    let driver = session.default_driver().await?;
    let HypervisorArgs { virttype, emulator, arch, machine } = &args.hypervisor;
    let query = (emulator, arch, machine, virttype, args.baseline.all()?, args.baseline.flags());
    let xml: Result<String, CallError> =
        session.client.call(driver.path(), DOMUS_CONNECT, "BaselineHypervisorCPU", &query).await;
    let xml = xml?;
    session.out.show(&json!({ "xml": xml }), &ended(&xml));
    Ok(())
}

/// `domus cpu-models`
pub async fn models(session: &Session, args: &ModelsArgs) -> Result<(), Failure> {
    let driver = session.default_driver().await?;
    let arch = args.arch.as_ref().or(args.named.as_ref()).map_or("", String::as_str);
    let names: Result<Vec<String>, CallError> =
        session.client.call(driver.path(), CONNECT, "GetCPUModelNames", &(arch, 0u32)).await;
    let names = names.context(|| "failed to get CPU model names".to_owned())?;
    let text = match names.is_empty() {
        true => "all CPU models are accepted\n".to_owned(),
        false => names.iter().map(|name| format!("{name}\n")).collect(),
    };
    session.out.show(&json!({ "arch": arch, "models": Value::from(names) }), &text);
    Ok(())
}

/// Every `<cpu>` of a document: of a host's capabilities, of a domain, or several in a row; and the host-model of a
/// domain's capabilities as one. What is not well-formed ends the search: the daemon says what is wrong with the rest.
fn cpus(text: &str) -> Vec<String> {
    let mut reader = Reader::from_str(text);
    let mut found = Vec::new();
    let mut before = 0;
    while let Ok(event) = reader.read_event() {
        let after = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        match event {
            // A CPU with an id is one of a NUMA cell.
            Event::Start(element) if element.name().as_ref() == "cpu" && !has(&element, "id", None) => {
                if reader.read_to_end(element.name()).is_err() {
                    found.extend(text.get(before..).map(str::to_owned));
                    break;
                }
                let end = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
                let whole = text.get(before..end).unwrap_or_default();
                // A domain's capabilities hold modes, not a processor; they are looked at one by one.
                match whole.contains("<mode ") {
                    false => found.push(whole.to_owned()),
                    true => found.extend(host_model(whole)),
                }
            }
            Event::Empty(element) if element.name().as_ref() == "cpu" && !has(&element, "id", None) => {
                found.extend(text.get(before..after).map(str::to_owned));
            }
            Event::Eof => break,
            _ => {}
        }
        before = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
    }
    found
}

/// `<mode name='host-model' supported='yes'>` of a domain's capabilities as a guest's `<cpu>`.
fn host_model(text: &str) -> Option<String> {
    let mut reader = Reader::from_str(text);
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(element)
                if element.name().as_ref() == "mode"
                    && has(&element, "name", Some("host-model"))
                    && has(&element, "supported", Some("yes")) =>
            {
                let inner = reader.read_to_end(element.name()).ok()?;
                let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
                let inner = text.get(at(inner.start)..at(inner.end))?;
                return Some(format!("<cpu mode='custom' match='exact'>{inner}</cpu>"));
            }
            Event::Eof => return None,
            _ => {}
        }
    }
    None
}

fn has(element: &quick_xml::events::BytesStart<'_>, name: &str, value: Option<&str>) -> bool {
    let mut attributes = element.attributes().flatten();
    attributes.any(|at| at.key.as_ref() == name && value.is_none_or(|value| *at.value == *value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_of_documents() {
        let two = "<cpuTest>\n<cpu><model>a</model></cpu>\n<cpu><model>b</model></cpu></cpuTest>";
        assert_eq!(cpus(two), ["<cpu><model>a</model></cpu>", "<cpu><model>b</model></cpu>"]);
        let host =
            "<capabilities><host><cpu><arch>x</arch></cpu><cpus num='1'><cpu id='0'/></cpus></host></capabilities>";
        assert_eq!(cpus(host), ["<cpu><arch>x</arch></cpu>"]);
        let domain = "<domain><cpu mode='host-passthrough'/></domain>";
        assert_eq!(cpus(domain), ["<cpu mode='host-passthrough'/>"]);
        let modes = "<domainCapabilities><cpu><mode name='host-passthrough' supported='yes'/>\
                     <mode name='host-model' supported='yes'><model>m</model></mode></cpu></domainCapabilities>";
        assert_eq!(cpus(modes), ["<cpu mode='custom' match='exact'><model>m</model></cpu>"]);
        assert_eq!(cpus("<domain/>"), Vec::<String>::new());
        assert_eq!(cpus("<cpu><model>"), ["<cpu><model>"]);
    }
}
