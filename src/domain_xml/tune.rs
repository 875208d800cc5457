//! Virtual CPUs, I/O threads and their tuning.

use super::DomainDef;
use super::foreign::Foreign;
use super::words::{YesNo, attrs, words};
use crate::error::{Code, Result};
use crate::xml::{Node, Writer};

/// `<vcpu>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vcpu {
    /// How many at most; the parse sets 1 when nothing is given.
    pub max: u32,
    /// How many are on at boot, when not all.
    pub current: Option<u32>,
    /// The post-parse sets `static`.
    pub placement: Option<Placement>,
    /// Host CPUs, as a set in libvirt's text form.
    pub cpuset: Option<String>,
}

words! {
    /// Who places virtual CPUs.
    pub enum Placement { Static = "static", Auto = "auto" }
}

attrs! {
    /// `<vcpu>` of `<vcpus>`.
    pub struct VcpuState {
        id: u32 = "id",
        enabled: YesNo = "enabled",
        hotpluggable: YesNo = "hotpluggable",
        order: u32 = "order",
    }
}

/// `<iothread>` of `<iothreadids>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IoThread {
    pub id: u32,
    pub thread_pool_min: Option<u32>,
    pub thread_pool_max: Option<u32>,
    pub poll: Option<IoThreadPoll>,
}

attrs! {
    /// `<poll>` of an I/O thread.
    pub struct IoThreadPoll {
        max: u64 = "max",
        grow: u64 = "grow",
        shrink: u64 = "shrink",
    }
}

/// `<cputune>`. Periods and quotas in microseconds; a negative quota is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CpuTune {
    pub shares: Option<u64>,
    pub period: Option<u64>,
    pub quota: Option<i64>,
    pub global_period: Option<u64>,
    pub global_quota: Option<i64>,
    pub emulator_period: Option<u64>,
    pub emulator_quota: Option<i64>,
    pub iothread_period: Option<u64>,
    pub iothread_quota: Option<i64>,
    pub vcpupin: Vec<VcpuPin>,
    /// CPU set of the emulator's other threads.
    pub emulatorpin: Option<String>,
    pub iothreadpin: Vec<IoThreadPin>,
    /// One per thread, ordered by id.
    pub sched: Vec<Sched>,
    /// `<cachetune>`, `<memorytune>`: nothing acts on them yet.
    pub later: Vec<Foreign>,
}

/// `<vcpupin>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VcpuPin {
    pub vcpu: u32,
    pub cpuset: String,
}

/// `<iothreadpin>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IoThreadPin {
    pub iothread: u32,
    pub cpuset: String,
}

/// `<vcpusched>`, `<iothreadsched>`, `<emulatorsched>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sched {
    pub of: SchedOf,
    /// Ids, as a set; `None` for the emulator.
    pub ids: Option<String>,
    pub scheduler: SchedPolicy,
    pub priority: Option<i32>,
}

words! {
    /// Whose scheduler is set.
    pub enum SchedOf { Emulator = "emulator", Vcpu = "vcpu", IoThread = "iothread" }

    /// Linux scheduling policy.
    pub enum SchedPolicy { Batch = "batch", Idle = "idle", Fifo = "fifo", Rr = "rr" }
}

/// `<blkiotune>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlkioTune {
    pub weight: Option<u32>,
    pub devices: Vec<BlkioDevice>,
}

/// `<device>` of `<blkiotune>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlkioDevice {
    pub path: String,
    pub weight: Option<u32>,
    pub read_iops_sec: Option<u32>,
    pub write_iops_sec: Option<u32>,
    pub read_bytes_sec: Option<u64>,
    pub write_bytes_sec: Option<u64>,
}

impl Vcpu {
    /// Reads `<vcpu>` of a domain. Errors: codes 27 and 1.
    pub(crate) fn read(domain: Node<'_>) -> Result<Self> {
        let Some(node) = domain.child("vcpu") else {
            return Ok(Vcpu { max: 1, ..Default::default() });
        };
        let max = crate::xml::parse_unsigned(node.text().trim())
            .and_then(|max| u32::try_from(max).ok())
            .ok_or_else(|| node.error(Code::XmlError, "maximum vcpus count must be an integer"))?;
        let current: Option<u32> = node.attr_value("current")?;
        if max == 0 || current == Some(0) {
            return Err(node.error(Code::XmlError, "invalid number of vCPUs: 0"));
        }
        if current.is_some_and(|current| current > max) {
            let what = "maximum vCPU count must not be less than current vCPU count";
            return Err(node.error(Code::ConfigUnsupported, what));
        }
        Ok(Vcpu {
            max,
            current: current.filter(|current| *current != max),
            placement: node.attr_value("placement")?,
            cpuset: read_set(node, "cpuset")?,
        })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.start("vcpu");
        w.attr_opt("placement", self.placement);
        w.attr_opt("cpuset", self.cpuset.as_ref());
        w.attr_opt("current", self.current);
        w.end_with_text(self.max);
    }
}

pub(crate) fn read_vcpus(domain: Node<'_>) -> Result<Vec<VcpuState>> {
    domain.child("vcpus").map_or_else(|| Ok(Vec::new()), |node| node.children("vcpu").map(VcpuState::read).collect())
}

pub(crate) fn write_vcpus(w: &mut Writer, vcpus: &[VcpuState]) {
    w.element_unless_empty("vcpus", |w| {
        for vcpu in vcpus {
            vcpu.write("vcpu", w);
        }
    });
}

/// Numbers of the threads for disks: those listed, then as many more as `<iothreads>` asks for, each the lowest free one.
pub fn iothread_ids(def: &DomainDef) -> Vec<u32> {
    let mut ids: Vec<u32> = def.iothread_ids.iter().map(|thread| thread.id).collect();
    let wanted = def.iothreads.unwrap_or(0).max(ids.len() as u32);
    let mut next = 1;
    while (ids.len() as u32) < wanted {
        if !ids.contains(&next) {
            ids.push(next);
        }
        next += 1;
    }
    ids
}

/// Lists all of them.
pub fn list_iothreads(def: &mut DomainDef) {
    let numbers = iothread_ids(def);
    for id in numbers.into_iter().skip(def.iothread_ids.len()) {
        def.iothread_ids.push(IoThread { id, ..IoThread::default() });
    }
    def.iothreads = u32::try_from(def.iothread_ids.len()).ok().filter(|count| *count > 0);
}

impl IoThread {
    /// Reads `<iothreadids>`.
    pub(crate) fn read_all(domain: Node<'_>) -> Result<Vec<Self>> {
        let Some(node) = domain.child("iothreadids") else { return Ok(Vec::new()) };
        node.children("iothread")
            .map(|thread| {
                Ok(IoThread {
                    id: thread.require("id")?,
                    thread_pool_min: thread.attr_value("thread_pool_min")?,
                    thread_pool_max: thread.attr_value("thread_pool_max")?,
                    poll: thread.child("poll").map(IoThreadPoll::read).transpose()?,
                })
            })
            .collect()
    }

    pub(crate) fn write_all(w: &mut Writer, threads: &[Self]) {
        w.element_unless_empty("iothreadids", |w| {
            for thread in threads {
                w.element("iothread", |w| {
                    w.attr("id", thread.id);
                    w.attr_opt("thread_pool_min", thread.thread_pool_min);
                    w.attr_opt("thread_pool_max", thread.thread_pool_max);
                    if let Some(poll) = &thread.poll {
                        poll.write("poll", w);
                    }
                });
            }
        });
    }
}

impl CpuTune {
    /// Reads `<cputune>`. Errors: code 27 with libvirt's texts.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        fn tunable<T: crate::xml::Value>(node: Node<'_>, name: &'static str) -> Result<Option<T>> {
            let Some(child) = node.child(name) else { return Ok(None) };
            let parse = || child.error(Code::XmlError, format!("can't parse cputune {name} value"));
            T::read(child.text().trim()).map(Some).ok_or_else(parse)
        }
        fn period(node: Node<'_>, name: &'static str) -> Result<Option<u64>> {
            let value = tunable::<u64>(node, name)?.filter(|value| *value != 0);
            if value.is_some_and(|value| !(1000..=1_000_000).contains(&value)) {
                let what = format!("Value of cputune '{name}' must be in range [1000, 1000000]");
                return Err(node.error(Code::ConfigUnsupported, what));
            }
            Ok(value)
        }
        fn quota(node: Node<'_>, name: &'static str) -> Result<Option<i64>> {
            let value = tunable::<i64>(node, name)?.filter(|value| *value != 0);
            if value.is_some_and(|value| value > 0 && !(1000..=17_592_186_044_415).contains(&value)) {
                let what = format!("Value of cputune '{name}' must be in range [1000, 17592186044415]");
                return Err(node.error(Code::ConfigUnsupported, what));
            }
            Ok(value)
        }
        let mut tune = CpuTune {
            shares: tunable(node, "shares")?,
            period: period(node, "period")?,
            quota: quota(node, "quota")?,
            global_period: period(node, "global_period")?,
            global_quota: quota(node, "global_quota")?,
            emulator_period: period(node, "emulator_period")?,
            emulator_quota: quota(node, "emulator_quota")?,
            iothread_period: period(node, "iothread_period")?,
            iothread_quota: quota(node, "iothread_quota")?,
            emulatorpin: node.child("emulatorpin").map(|pin| require_set(pin, "cpuset")).transpose()?,
            ..Default::default()
        };
        for pin in node.children("vcpupin") {
            let pin = VcpuPin { vcpu: pin.require("vcpu")?, cpuset: require_set(pin, "cpuset")? };
            if tune.vcpupin.iter().any(|other| other.vcpu == pin.vcpu) {
                return Err(node.error(Code::InternalError, format!("duplicate vcpupin for vcpu '{}'", pin.vcpu)));
            }
            tune.vcpupin.push(pin);
        }
        tune.later = Foreign::read_all(node, &["cachetune", "memorytune"]);
        for pin in node.children("iothreadpin") {
            tune.iothreadpin
                .push(IoThreadPin { iothread: pin.require("iothread")?, cpuset: require_set(pin, "cpuset")? });
        }
        for (name, of, ids) in [
            ("emulatorsched", SchedOf::Emulator, None),
            ("vcpusched", SchedOf::Vcpu, Some("vcpus")),
            ("iothreadsched", SchedOf::IoThread, Some("iothreads")),
        ] {
            for sched in node.children(name) {
                let base = Sched {
                    of,
                    ids: None,
                    scheduler: sched.require("scheduler")?,
                    priority: sched.attr_value("priority")?,
                };
                let Some(ids) = ids else {
                    tune.sched.push(base);
                    continue;
                };
                let set: String = sched.require(ids)?;
                let Some(members) = set_members(&set) else {
                    return Err(sched.attr_error(ids, Code::InvalidArg, format!("Failed to parse bitmap '{set}'")));
                };
                tune.sched.extend(members.into_iter().map(|id| Sched { ids: Some(id.to_string()), ..base.clone() }));
            }
            let place = |sched: &Sched| sched.ids.as_ref().and_then(|id| id.parse::<u32>().ok());
            tune.sched.sort_by_key(|sched| (sched.of, place(sched)));
        }
        Ok(tune)
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.element_unless_empty("cputune", |w| {
            w.text_opt("shares", self.shares);
            w.text_opt("period", self.period);
            w.text_opt("quota", self.quota);
            w.text_opt("global_period", self.global_period);
            w.text_opt("global_quota", self.global_quota);
            w.text_opt("emulator_period", self.emulator_period);
            w.text_opt("emulator_quota", self.emulator_quota);
            w.text_opt("iothread_period", self.iothread_period);
            w.text_opt("iothread_quota", self.iothread_quota);
            for pin in &self.vcpupin {
                w.element("vcpupin", |w| {
                    w.attr("vcpu", pin.vcpu);
                    w.attr("cpuset", &pin.cpuset);
                });
            }
            if let Some(cpuset) = &self.emulatorpin {
                w.element("emulatorpin", |w| w.attr("cpuset", cpuset));
            }
            for pin in &self.iothreadpin {
                w.element("iothreadpin", |w| {
                    w.attr("iothread", pin.iothread);
                    w.attr("cpuset", &pin.cpuset);
                });
            }
            for sched in &self.sched {
                let (name, ids) = match sched.of {
                    SchedOf::Emulator => ("emulatorsched", ""),
                    SchedOf::Vcpu => ("vcpusched", "vcpus"),
                    SchedOf::IoThread => ("iothreadsched", "iothreads"),
                };
                w.element(name, |w| {
                    w.attr_opt(ids, sched.ids.as_ref());
                    w.attr("scheduler", sched.scheduler);
                    w.attr_opt("priority", sched.priority);
                });
            }
            self.later.iter().for_each(|element| element.write(w));
        });
    }
}

/// Members of a set in libvirt's text form (`1-4,^2,7`), ascending; `None` when it is no such set or has none.
pub fn set_members(text: &str) -> Option<Vec<u32>> {
    let mut members = std::collections::BTreeSet::new();
    for part in text.split(',') {
        let part = part.trim();
        let number =
            |text: &str| crate::xml::parse_unsigned(text).and_then(|n| u32::try_from(n).ok()).filter(|n| *n < 65536);
        if let Some(out) = part.strip_prefix('^') {
            members.remove(&number(out)?);
        } else if let Some((first, last)) = part.split_once('-') {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            members.extend(first..=last);
        } else {
            members.insert(number(part)?);
        }
    }
    (!members.is_empty()).then(|| members.into_iter().collect())
}

/// The set in libvirt's own text form: ascending, neighbours joined (`1,3-5`).
pub fn format_set(members: &[u32]) -> String {
    let mut out = String::new();
    let mut rest = members;
    while let Some(first) = rest.first() {
        let run = rest.iter().zip(*first..).take_while(|(member, expected)| **member == *expected).count();
        let last = rest[run - 1];
        let comma = if out.is_empty() { "" } else { "," };
        match run {
            1 => out.push_str(&format!("{comma}{first}")),
            _ => out.push_str(&format!("{comma}{first}-{last}")),
        }
        rest = &rest[run..];
    }
    out
}

/// An attribute that is a set, in libvirt's own text form. Error: code 8 for a text that is no set.
pub(crate) fn read_set(node: Node<'_>, name: &'static str) -> Result<Option<String>> {
    let Some(text) = node.attr(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    match set_members(text) {
        Some(members) => Ok(Some(format_set(&members))),
        None => Err(node.attr_error(name, Code::InvalidArg, format!("Failed to parse bitmap '{text}'"))),
    }
}

/// The same for an attribute that must be there.
pub(crate) fn require_set(node: Node<'_>, name: &'static str) -> Result<String> {
    read_set(node, name)?.ok_or_else(|| node.missing_attr(name))
}

impl BlkioTune {
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let mut tune = BlkioTune { weight: node.child_value("weight")?, devices: Vec::new() };
        for device in node.children("device") {
            let Some(path) = device.child_string("path") else {
                return Err(device.error(Code::XmlError, "missing per-device path"));
            };
            tune.devices.push(BlkioDevice {
                path,
                weight: device.child_value("weight")?,
                read_iops_sec: device.child_value("read_iops_sec")?,
                write_iops_sec: device.child_value("write_iops_sec")?,
                read_bytes_sec: device.child_value("read_bytes_sec")?,
                write_bytes_sec: device.child_value("write_bytes_sec")?,
            });
        }
        Ok(tune)
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.element_unless_empty("blkiotune", |w| {
            w.text_opt("weight", self.weight);
            for device in &self.devices {
                w.element("device", |w| {
                    w.text("path", &device.path);
                    w.text_opt("weight", device.weight);
                    w.text_opt("read_iops_sec", device.read_iops_sec);
                    w.text_opt("write_iops_sec", device.write_iops_sec);
                    w.text_opt("read_bytes_sec", device.read_bytes_sec);
                    w.text_opt("write_bytes_sec", device.write_bytes_sec);
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;
    use rstest::rstest;

    #[test]
    fn cputune_round_trips() {
        let xml = "<cputune>\n  <shares>2048</shares>\n  <period>1000000</period>\n  <quota>-1</quota>\n  \
                   <vcpupin vcpu='0' cpuset='1,3-4'/>\n  <emulatorpin cpuset='1'/>\n  \
                   <iothreadpin iothread='1' cpuset='2'/>\n  <vcpusched vcpus='0' scheduler='fifo' priority='1'/>\n</cputune>\n";
        assert_eq!(rewrite(xml, CpuTune::read, CpuTune::write).expect("reads"), xml);
    }

    #[rstest]
    #[case("0,2-3,^2,7,4", Some("0,3-4,7"))]
    #[case("5-1", None)]
    #[case("0,^0", None)]
    #[case("aaa", None)]
    #[case("0-99999999", None)]
    fn sets(#[case] text: &str, #[case] written: Option<&str>) {
        assert_eq!(set_members(text).map(|members| format_set(&members)).as_deref(), written);
    }

    #[rstest]
    #[case("<cputune><shares>x</shares></cputune>", "can't parse cputune shares value")]
    #[case("<cputune><period>999</period></cputune>", "must be in range [1000, 1000000]")]
    #[case("<cputune><quota>999</quota></cputune>", "must be in range [1000, 17592186044415]")]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let error = rewrite(xml, CpuTune::read, |_, _| {}).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
    }

    #[rstest]
    #[case("<domain><vcpu>x</vcpu></domain>", "maximum vcpus count must be an integer")]
    #[case("<domain><vcpu>0</vcpu></domain>", "invalid number of vCPUs")]
    #[case(
        "<domain><vcpu current='5'>4</vcpu></domain>",
        "maximum vCPU count must not be less than current vCPU count"
    )]
    fn vcpu_refused(#[case] xml: &str, #[case] expected: &str) {
        let error = rewrite(xml, Vcpu::read, |_, _| {}).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
    }
}
