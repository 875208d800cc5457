//! Real QEMU processes through the driver's trait. Skipped, loudly, where QEMU or root is missing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::domain_xml::device::*;
use crate::domain_xml::memory::Memory;
use crate::domain_xml::model::{DomainDef, VirtType};
use crate::engine::driver::*;
use crate::engine::state::{Phase, shutoff};
use crate::engine::undo::Step;
use crate::error::Code;
use crate::qemu::{QemuConfig, QemuDriver};
use crate::types::{ParamValue, Uuid, flags};

#[derive(Default)]
struct Log(Arc<Mutex<Vec<Step>>>);

impl UndoLog for Log {
    fn pushing(&self, steps: Vec<Step>) -> BlockingWork {
        let log = self.0.clone();
        Box::new(move || {
            log.lock().unwrap().extend(steps);
            Ok(Noted::default())
        })
    }
}

struct Bench {
    dir: tempfile::TempDir,
    driver: Arc<dyn Driver>,
}

/// `None`, with the reason on stderr, where guests cannot be started.
fn bench(change: impl FnOnce(&mut QemuConfig)) -> Option<Bench> {
    if !Path::new("/usr/bin/qemu-system-x86_64").exists() {
        eprintln!("SKIP qemu launch: no /usr/bin/qemu-system-x86_64");
        return None;
    }
    if !rustix::process::getuid().is_root() {
        eprintln!("SKIP qemu launch: starting QEMU as another user needs root");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Tests run beside each other in one network namespace: each has ports of its own.
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let first = 20_000 + 20 * NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut config = QemuConfig {
        user: Some("64999".into()),
        cache_dir: dir.path().join("caps"),
        vnc_ports: (first, first + 19),
        ..QemuConfig::default()
    };
    change(&mut config);
    Some(Bench { driver: QemuDriver::new(config), dir })
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn complete(&self, def: &mut DomainDef) {
        let mut warnings = Vec::new();
        self.driver.complete(def, &mut warnings).await.unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        self.driver.validate(def).await.unwrap();
        let once = def.clone();
        self.driver.complete(def, &mut warnings).await.unwrap();
        assert_eq!(*def, once, "completing twice changes something");
    }

    fn request(&self, def: &DomainDef, paused: bool) -> StartRequest {
        let run_dir = self.path("r1");
        std::fs::create_dir_all(&run_dir).unwrap();
        StartRequest {
            def: Arc::new(def.clone()),
            id: 7,
            run_id: "r1".into(),
            run_dir,
            log_dir: self.path("log"),
            secrets: Default::default(),
            paused,
            files: Default::default(),
        }
    }
}

fn small(bench: &Bench) -> DomainDef {
    let image = bench.path("disk.raw");
    std::fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let console = CharSource {
        kind: CharKind::Pty { path: None },
        log: Some(CharLog { file: Some(bench.path("console.log").display().to_string()), append: None }),
        ..Default::default()
    };
    DomainDef {
        name: "small".into(),
        uuid: Some(Uuid::from_u128(7)),
        virt_type: VirtType::Qemu,
        memory: Memory { size: 64 * 1024, current: Some(64 * 1024), ..Default::default() },
        vcpu: crate::domain_xml::tune::Vcpu { max: 2, ..Default::default() },
        disks: vec![
            Disk {
                source: StorageSource::file(image.display().to_string(), StorageFormat::Raw),
                target: DiskTarget { dev: Some("vda".into()), bus: Some(DiskBus::Virtio), ..Default::default() },
                ..Default::default()
            },
            Disk {
                device: DiskDevice::Cdrom,
                target: DiskTarget { dev: Some("hda".into()), bus: Some(DiskBus::Ide), ..Default::default() },
                ..Default::default()
            },
        ],
        serials: vec![Serial { source: console, ..Default::default() }],
        graphics: vec![Graphics {
            kind: GraphicsKind::Vnc(Vnc { autoport: true, ..Default::default() }),
            listens: vec![],
        }],
        memballoon: Some(Memballoon { stats_period: Some(10), ..Default::default() }),
        rngs: vec![Rng::default()],
        inputs: vec![Input { kind: InputType::Tablet, bus: Some(InputBus::Usb), ..Default::default() }],
        ..Default::default()
    }
}

async fn ended(events: &mut tokio::sync::mpsc::UnboundedReceiver<InstanceEvent>) -> Vec<InstanceEvent> {
    let mut seen = Vec::new();
    loop {
        let event = tokio::time::timeout(Duration::from_secs(30), events.recv()).await.unwrap();
        match event {
            Some(event) => seen.push(event),
            None => return seen,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_from_start_to_end() {
    let Some(bench) = bench(|_| {}) else { return };
    let mut def = small(&bench);
    bench.complete(&mut def).await;
    let undo = Log::default();
    let started = Instant::now();
    let request = bench.request(&def, false);
    let mut launched = bench.driver.launch(request, &undo).await.unwrap();
    eprintln!("launch took {:?}", started.elapsed());
    assert_eq!((launched.phase, launched.reason), (Phase::Running, 1));
    let steps = undo.0.lock().unwrap().clone();
    assert!(matches!(steps.last(), Some(Step::Process { pidfile }) if pidfile.ends_with("qemu.pid")));
    assert!(steps.iter().any(|step| matches!(step, Step::Owner { uid: 0, gid: 0, .. })), "{steps:?}");
    let pid = launched.instance.pid().unwrap();
    let pidfile = std::fs::read_to_string(bench.path("r1/qemu.pid")).unwrap();
    assert!(pidfile.starts_with(&format!("{pid} ")));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t64999\t64999"), "{status}");
    assert!(status.contains("CapEff:\t0000000000000000"));
    assert!(status.contains("Seccomp:\t2"));

    let live = &launched.live;
    assert_eq!(live.id, Some(7));
    assert!(
        matches!(&live.serials[0].source.kind, CharKind::Pty { path: Some(path) } if path.starts_with("/dev/pts/"))
    );
    assert!(matches!(&live.graphics[0].kind, GraphicsKind::Vnc(vnc) if vnc.port.is_some_and(|port| port >= 5900)));
    assert_eq!(live.disks[0].info.alias.as_deref(), Some("virtio-disk0"));
    assert_eq!(live.disks[0].source.index, Some(1));

    let instance = launched.instance.clone();
    let stats = instance.stats(flags::stats::ALL, false).await;
    assert_eq!(stats.get("block.count"), Some(&ParamValue::Uint(2)));
    assert_eq!(stats.get("block.0.capacity"), Some(&ParamValue::Ullong(1 << 20)));
    assert_eq!(stats.get("vcpu.maximum"), Some(&ParamValue::Uint(2)));
    assert!(stats.get("vcpu.1.time").is_some(), "{stats:?}");
    assert_eq!(stats.get("balloon.current"), Some(&ParamValue::Ullong(64 * 1024)));
    assert!(stats.get("cpu.time").is_some());
    assert!(!instance.memory_stats().await.unwrap().is_empty());

    instance.pause().await.unwrap();
    instance.resume().await.unwrap();
    instance.reset().await.unwrap();
    let console = instance.open_console(None, false).await.unwrap();
    drop(console);
    assert_eq!(instance.shutdown(flags::shutdown::GUEST_AGENT).await.unwrap_err().code, Code::ArgumentUnsupported);

    let started = Instant::now();
    instance.kill(false).await.unwrap();
    eprintln!("kill took {:?}", started.elapsed());
    let seen = ended(&mut launched.events).await;
    assert!(seen.contains(&InstanceEvent::State { phase: Phase::Paused, reason: 1 }), "{seen:?}");
    assert!(seen.contains(&InstanceEvent::Reset { by_guest: false }), "{seen:?}");
    assert!(matches!(seen.last(), Some(InstanceEvent::Ended { reason: None, .. })), "{seen:?}");
    let log = std::fs::read_to_string(bench.path("log/small.log")).unwrap();
    assert!(log.contains("starting up domus") && log.contains("-blockdev"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_qemu_holds_up_nobody_and_is_found_again() {
    let Some(bench) = bench(|_| {}) else { return };
    let mut def = small(&bench);
    bench.complete(&mut def).await;
    let mut launched = bench.driver.launch(bench.request(&def, true), &Log::default()).await.unwrap();
    assert_eq!((launched.phase, launched.reason), (Phase::Paused, 1));
    let pid = launched.instance.pid().unwrap();
    let raw = rustix::process::Pid::from_raw(pid).unwrap();
    let run = RunRecord {
        live: launched.live.clone(),
        id: 7,
        run_id: "r1".into(),
        run_dir: bench.path("r1"),
        phase: launched.phase,
        reason: launched.reason,
        state: launched.state.clone(),
    };
    rustix::process::kill_process(raw, rustix::process::Signal::STOP).unwrap();
    let silent = launched.instance.stats(flags::stats::ALL, false).await;
    assert!(silent.get("cpu.time").is_some());
    let Reattached::Running(mut again) = bench.driver.reattach(&run).await.unwrap() else { panic!("gone") };
    assert_eq!(again.phase, Phase::Paused);
    assert_eq!(again.instance.resume().await.unwrap_err().code, Code::OperationTimeout);
    // The first daemon's connection goes away; then QEMU answers the second.
    drop(launched.instance);
    again.instance.kill(false).await.unwrap();
    let seen = ended(&mut again.events).await;
    assert!(matches!(seen.last(), Some(InstanceEvent::Ended { reason: None, .. })), "{seen:?}");
    // The first watcher was told nothing: for it the process just vanished.
    let seen = ended(&mut launched.events).await;
    let Some(InstanceEvent::Ended { reason: Some(reason), .. }) = seen.last() else { panic!("{seen:?}") };
    assert_eq!(reason.reason, shutoff::CRASHED);
    assert!(matches!(bench.driver.reattach(&run).await.unwrap(), Reattached::Gone { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qemu_that_dies_at_once_tells_why() {
    let Some(bench) = bench(|_| {}) else { return };
    let mut def = small(&bench);
    bench.complete(&mut def).await;
    def.disks[0].source.format = Some(StorageFormat::Qcow2);
    let started = Instant::now();
    let error = bench.driver.launch(bench.request(&def, false), &Log::default()).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(15));
    assert_eq!(error.code, Code::InternalError);
    assert!(error.detail.contains("qcow2"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qemu_that_never_answers_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let _listener = super::files::listen(&path, 0o600).unwrap();
    let connection = super::files::connect(&path).unwrap();
    let spec = crate::sys::exec::GuestSpec {
        argv: vec!["/bin/sleep".into(), "600".into()],
        env: vec![],
        uid: None,
        gid: None,
        groups: vec![],
        umask: 0o022,
        limits: vec![],
        working_dir: "/".into(),
        fds: vec![],
        output: std::fs::File::open("/dev/null").unwrap().into(),
        cgroup_procs: vec![],
        pidfile: None,
        no_new_privs: true,
    };
    let process = crate::qemu::process::GuestProcess::new(crate::sys::exec::spawn_guest(spec).unwrap().pidfd);
    let log = dir.path().join("log");
    let error = super::monitor::connect(connection, &process, &log, 0, Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(error.code, Code::OperationTimeout, "{error}");
    assert!(matches!(process.wait().await, crate::sys::process::Exit::Signal(9)));
}

#[tokio::test]
async fn a_missing_emulator_can_be_defined_but_not_started() {
    let Some(bench) = bench(|_| {}) else { return };
    let mut def = small(&bench);
    def.emulator = Some("/nowhere/qemu".into());
    let mut warnings = Vec::new();
    bench.driver.complete(&mut def, &mut warnings).await.unwrap();
    assert!(warnings[0].message.contains("/nowhere/qemu"), "{warnings:?}");
    bench.driver.validate(&def).await.unwrap();
    let error = bench.driver.launch(bench.request(&def, false), &Log::default()).await.unwrap_err();
    assert_eq!(error.code, Code::ConfigUnsupported);
    assert!(error.detail.contains("/nowhere/qemu"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_q35_kvm_guest_starts_paused() {
    let Some(bench) = bench(|_| {}) else { return };
    if !Path::new("/dev/kvm").exists() {
        eprintln!("SKIP qemu launch: no /dev/kvm");
        return;
    }
    let mut def = small(&bench);
    def.virt_type = VirtType::Kvm;
    def.os.machine = Some("q35".into());
    def.disks[1].target = DiskTarget { dev: Some("sda".into()), bus: Some(DiskBus::Sata), ..Default::default() };
    bench.complete(&mut def).await;
    assert!(def.os.machine.as_deref().unwrap().starts_with("pc-q35-"));
    let mut launched = match bench.driver.launch(bench.request(&def, true), &Log::default()).await {
        Err(error) if error.code == Code::ConfigUnsupported => {
            eprintln!("SKIP qemu launch: {error}");
            return;
        }
        launched => launched.unwrap(),
    };
    launched.instance.kill(true).await.unwrap();
    ended(&mut launched.events).await;
}
