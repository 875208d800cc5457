//! From the started process to a guest that can be let run: greeting, what QEMU chose, what only QMP can set.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::domain_xml::DomainDef;
use crate::domain_xml::device::*;
use crate::domain_xml::model::LifecycleAction;
use crate::error::{Code, Error, Result};
use crate::qemu::failure;
use crate::qemu::process::{GuestProcess, SIGKILL};
use crate::qemu::qmp::{Events, Qmp};

/// One answer; the machine is complete by now, so it is quick.
const DEADLINE: Duration = Duration::from_secs(20);

/// A negotiated monitor.
#[derive(Debug)]
pub struct Connected {
    pub qmp: Qmp,
    pub events: Events,
    pub vcpu_threads: Vec<i32>,
}

/// Makes a QMP client of a connected socket.
pub fn client(connection: OwnedFd) -> Result<(Qmp, Events)> {
    let stream = std::os::unix::net::UnixStream::from(connection);
    let setup = |error| Error::system("cannot use the monitor socket", error);
    stream.set_nonblocking(true).map_err(setup)?;
    Ok(Qmp::start(UnixStream::from_std(stream).map_err(setup)?))
}

/// Waits for QEMU's greeting, or its end, or the deadline.
pub async fn connect(
    connection: OwnedFd,
    process: &GuestProcess,
    log: &Path,
    log_start: u64,
    timeout: Duration,
) -> Result<Connected> {
    let (qmp, events) = client(connection)?;
    let died =
        |status: String| Error::internal(failure::died_at_start(&super::files::read_from(log, log_start), &status));
    let negotiated = tokio::select! {
        biased;
        result = qmp.negotiate(timeout) => result,
        exit = process.wait() => return Err(died(exit.to_string())),
    };
    match negotiated {
        Ok(_) => {}
        Err(error) if error.code == Code::OperationTimeout => {
            let _ = process.signal(SIGKILL);
            let text = format!(
                "QEMU (process {}) did not answer on its monitor within {} s and was killed; see '{}'",
                process.pid(),
                timeout.as_secs(),
                log.display()
            );
            return Err(Error::new(Code::OperationTimeout, text));
        }
        Err(error) => {
            // The connection usually ends a moment before the process does.
            return match tokio::time::timeout(Duration::from_secs(5), process.wait()).await {
                Ok(exit) => Err(died(exit.to_string())),
                Err(_) => Err(error),
            };
        }
    }
    let vcpu_threads = vcpu_threads(&qmp).await?;
    Ok(Connected { qmp, events, vcpu_threads })
}

/// Threads for disks, by number: the number and the thread's id.
pub async fn iothreads(qmp: &Qmp) -> Result<Vec<(u32, i32)>> {
    let answer = qmp.execute_value("query-iothreads", Value::Null, DEADLINE).await?;
    let one = |thread: &Value| {
        let id = thread.get("id")?.as_str()?.strip_prefix("iothread")?.parse().ok()?;
        Some((id, i32::try_from(thread.get("thread-id")?.as_i64()?).ok()?))
    };
    let mut all: Vec<(u32, i32)> = answer.as_array().into_iter().flatten().filter_map(one).collect();
    all.sort_unstable_by_key(|(id, _)| *id);
    Ok(all)
}

/// Thread ids of the virtual CPUs, by number.
pub async fn vcpu_threads(qmp: &Qmp) -> Result<Vec<i32>> {
    let cpus = qmp.execute_value("query-cpus-fast", Value::Null, DEADLINE).await?;
    let mut threads: Vec<(u64, i32)> = cpus
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|cpu| {
            let thread = cpu.get("thread-id")?.as_i64().and_then(|id| i32::try_from(id).ok())?;
            Some((cpu.get("cpu-index")?.as_u64()?, thread))
        })
        .collect();
    threads.sort_unstable();
    Ok(threads.into_iter().map(|(_, thread)| thread).collect())
}

/// Puts into the definition what QEMU chose.
fn note_ptys(live: &mut DomainDef, chardevs: &Value) {
    let path_of = |alias: &str| {
        let label = format!("char{alias}");
        let entry =
            chardevs.as_array()?.iter().find(|entry| entry.get("label").and_then(Value::as_str) == Some(&label))?;
        entry.get("filename")?.as_str()?.strip_prefix("pty:").map(str::to_string)
    };
    let fill = |info: &DeviceInfo, source: &mut CharSource| {
        if let CharKind::Pty { path } = &mut source.kind
            && let Some(found) = info.alias.as_deref().and_then(path_of)
        {
            *path = Some(found);
        }
    };
    live.serials.iter_mut().for_each(|d| fill(&d.info, &mut d.source));
    live.parallels.iter_mut().for_each(|d| fill(&d.info, &mut d.source));
    live.channels.iter_mut().for_each(|d| fill(&d.info, &mut d.source));
    live.consoles.iter_mut().for_each(|d| fill(&d.info, &mut d.source));
}

/// One setting: command, arguments, and what it is for the error text.
type Setting = (&'static str, Value);

fn settings(live: &DomainDef) -> Vec<Setting> {
    let mut out: Vec<Setting> = Vec::new();
    if let Some(balloon) = &live.memballoon
        && let (Some(alias), Some(period)) = (&balloon.info.alias, balloon.stats_period.filter(|period| *period > 0))
    {
        let path = format!("/machine/peripheral/{alias}");
        out.push(("qom-set", json!({"path": path, "property": "guest-stats-polling-interval", "value": period})));
    }
    let has_balloon = live.memballoon.as_ref().is_some_and(|balloon| balloon.model != BalloonModel::None);
    if let Some(current) = live.memory.current.filter(|current| *current < live.memory.size && has_balloon) {
        out.push(("balloon", json!({"value": current * 1024})));
    }
    for graphics in &live.graphics {
        if let GraphicsKind::Vnc(vnc) = &graphics.kind
            && let Some(password) = &vnc.password.passwd
        {
            let connected = vnc.password.connected.map_or("keep", |word| word.as_str());
            out.push(("set_password", json!({"protocol": "vnc", "password": password, "connected": connected})));
            let time = vnc.password.valid_to.clone().unwrap_or_else(|| "never".into());
            let time = iso_to_seconds(&time).map_or(time, |seconds| seconds.to_string());
            out.push(("expire_password", json!({"protocol": "vnc", "time": time})));
        }
    }
    for nic in &live.interfaces {
        if nic.link == Some(LinkState::Down)
            && let Some(alias) = &nic.info.alias
        {
            out.push(("set_link", json!({"name": alias, "up": false})));
        }
    }
    if live.on_reboot == Some(LifecycleAction::Destroy) {
        out.push(("set-action", json!({"reboot": "shutdown"})));
    }
    for disk in &live.disks {
        if let Some(tune) = &disk.iotune {
            out.push(("block_set_io_throttle", throttle(disk, tune)));
        }
    }
    out
}

/// `YYYY-MM-DDTHH:MM:SS` in UTC as seconds since the epoch.
fn iso_to_seconds(text: &str) -> Option<i64> {
    let mut numbers = text.split(['-', 'T', ':']).map(|part| part.parse::<i64>().ok());
    let mut next = || numbers.next()?;
    let (year, month, day) = (next()?, next()?, next()?);
    let (hour, minute, second) = (next()?, next()?, next()?);
    // Days from civil, the inverse of what `-rtc base` is written with.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let yoe = shifted.rem_euclid(400);
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Arguments of `block_set_io_throttle`. It wants the device that has the image, which is not always the one that the
/// alias names.
pub(in crate::qemu) fn throttle(disk: &Disk, tune: &IoTune) -> Value {
    let alias = disk.info.alias.as_deref().unwrap_or_default();
    let device = match disk.target.bus {
        Some(DiskBus::Virtio) => format!("/machine/peripheral/{alias}/virtio-backend"),
        Some(DiskBus::Usb) => format!("/machine/peripheral/{alias}/{alias}.0/legacy[0]"),
        _ => alias.to_string(),
    };
    let mut map = serde_json::Map::new();
    map.insert("id".into(), device.into());
    let plain = [
        ("bps", tune.total_bytes_sec),
        ("bps_rd", tune.read_bytes_sec),
        ("bps_wr", tune.write_bytes_sec),
        ("iops", tune.total_iops_sec),
        ("iops_rd", tune.read_iops_sec),
        ("iops_wr", tune.write_iops_sec),
    ];
    for (key, value) in plain {
        map.insert(key.into(), value.unwrap_or(0).into());
    }
    let optional = [
        ("bps_max", tune.total_bytes_sec_max),
        ("bps_rd_max", tune.read_bytes_sec_max),
        ("bps_wr_max", tune.write_bytes_sec_max),
        ("iops_max", tune.total_iops_sec_max),
        ("iops_rd_max", tune.read_iops_sec_max),
        ("iops_wr_max", tune.write_iops_sec_max),
        ("iops_size", tune.size_iops_sec),
        ("bps_max_length", tune.total_bytes_sec_max_length),
        ("bps_rd_max_length", tune.read_bytes_sec_max_length),
        ("bps_wr_max_length", tune.write_bytes_sec_max_length),
        ("iops_max_length", tune.total_iops_sec_max_length),
        ("iops_rd_max_length", tune.read_iops_sec_max_length),
        ("iops_wr_max_length", tune.write_iops_sec_max_length),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            map.insert(key.into(), value.into());
        }
    }
    if let Some(group) = &tune.group_name {
        map.insert("group".into(), group.as_str().into());
    }
    Value::Object(map)
}

/// Asks what QEMU chose and sets what only a running QEMU takes, all in one round trip.
pub async fn configure(qmp: &Qmp, live: &mut DomainDef) -> Result<()> {
    let settings = settings(live);
    let chardevs = qmp.execute_value("query-chardev", Value::Null, DEADLINE);
    let sent = settings.iter().map(|(command, arguments)| qmp.execute_raw(command, arguments.clone(), DEADLINE));
    let (chardevs, results) = tokio::join!(chardevs, futures_util::future::join_all(sent));
    note_ptys(live, &chardevs?);
    for result in results {
        result?;
    }
    Ok(())
}

/// Lets the guest run.
pub async fn cont(qmp: &Qmp) -> Result<()> {
    qmp.execute_raw("cont", Value::Null, Duration::from_secs(30)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_times() {
        assert_eq!(iso_to_seconds("1970-01-01T00:00:00"), Some(0));
        assert_eq!(iso_to_seconds("2000-02-29T00:00:00"), Some(951_782_400));
        assert_eq!(iso_to_seconds("never"), None);
    }

    #[test]
    fn ptys_by_alias() {
        let mut live = DomainDef::default();
        let source = CharSource { kind: CharKind::Pty { path: None }, ..Default::default() };
        let info = DeviceInfo { alias: Some("serial0".into()), ..Default::default() };
        live.serials.push(Serial { source: source.clone(), info: info.clone(), ..Default::default() });
        live.consoles.push(Console { source, info, ..Default::default() });
        note_ptys(&mut live, &json!([{"label": "charserial0", "filename": "pty:/dev/pts/7"}, {"label": "x"}]));
        let expected = CharKind::Pty { path: Some("/dev/pts/7".into()) };
        assert_eq!(live.serials[0].source.kind, expected);
        assert_eq!(live.consoles[0].source.kind, expected);
    }
}
