//! The program that enters a container, seen from inside (CVE-2019-5736, CVE-2019-14271).

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use domus::cgroup::Mode;
use domus::lxc::spec::{Enter, Init};

use crate::harness::{Outcome, verdict};
use crate::lxc_support::world::{World, ended};
use crate::lxc_support::*;
use crate::probe::{becomes_init, say};

fn entering(running: (i32, u64), user_namespace: bool, argv: &[&str]) -> Enter {
    Enter {
        version: 1,
        init: running.0,
        init_start: running.1,
        user_namespace,
        program: Init {
            argv: argv.iter().map(ToString::to_string).collect(),
            env: vec![("PATH".into(), "/bin".into())],
            dir: None,
            user: None,
            group: None,
        },
        drop_caps: vec![],
        seccomp: true,
        control: false,
        terminal: false,
    }
}

/// `binary enter` with the spec on its fd.
fn enter(binary: &str, spec: &Enter, dir: &std::path::Path) -> Command {
    let file = dir.join("enter.json");
    fs::write(&file, serde_json::to_vec(spec).unwrap()).unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec \"$0\" enter 3<\"$1\" 2>/dev/null"]).arg(binary).arg(&file).stdin(Stdio::null());
    command
}

/// A privileged container holds the file of the process that enters it, and changes it when that has ended. The entering
/// program is made to run itself inside, and to stay, by a standard output that takes no more.
pub fn writing_the_binary_that_enters() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        // Whatever comes of it comes of a copy.
        let copies = tempfile::tempdir().unwrap();
        let copy = copies.path().join("domus-run");
        fs::copy(env!("CARGO_BIN_EXE_domus-run"), &copy).unwrap();
        let state = || (fs::read(&copy).unwrap(), fs::metadata(&copy).unwrap().permissions().mode());
        let before = state();
        let script = "while true; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in *domus-run*)
            exec 4< $p/exe && echo have; while test -e $p/stat && ! grep -q ' Z ' $p/stat; do sleep 0.05; done
            (echo pwned >> /proc/self/fd/4); /bin/busybox chmod 4777 /proc/self/fd/4; echo tried; sleep 1000;; esac
            done; done";
        let world = World::build(script, Mode::Auto, |config| {
            config.privileged = true;
            config.run_binary = Some(copy.clone());
        });
        // What the program needs to run inside.
        let library = |name: &str| {
            format!("<filesystem type='mount'><source dir='/{name}'/><target dir='/{name}'/><readonly/></filesystem>")
        };
        let mut xml = world.root();
        for name in ["usr", "lib", "lib64"] {
            match fs::read_link(format!("/{name}")) {
                Ok(target) => symlink(target, world.dir.path().join("root").join(name)).unwrap(),
                Err(_) => xml.push_str(&library(name)),
            }
        }
        let mut launched = world.launch(&world.xml(&xml), false).await.unwrap();
        let (init, start) = (launched.instance.pid().unwrap(), launched.state["init_start"].as_u64().unwrap());
        // The daemon's own binary, as it starts containers from it.
        let binary = format!("/proc/{}/exe", launched.state["supervisor"]);
        let (mut reader, writer) = std::io::pipe().unwrap();
        rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
        while rustix::io::write(&writer, &[0; 4096]).is_ok() {}
        while rustix::io::write(&writer, &[0; 1]).is_ok() {}
        rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::empty()).unwrap();
        let spec = entering((init, start), false, &["/proc/self/exe", "--version"]);
        let mut child = enter(&binary, &spec, copies.path()).stdout(writer).spawn().unwrap();
        world.shows("have").await;
        std::thread::spawn(move || reader.read_to_end(&mut Vec::new()));
        child.wait().unwrap();
        world.shows("tried").await;
        let mut broken = Vec::new();
        if state() != before {
            broken.push(format!("the binary on disk has changed, its mode is {:o}", state().1));
        }
        if fs::read(&binary).unwrap() != before.0 {
            broken.push("the binary that entered has changed".to_string());
        }
        launched.instance.kill(false).await.unwrap();
        ended(&mut launched.events).await;
        world.clean().await;
        verdict(&broken)
    })
}

/// What enters a privileged container is in groups of its starter's.
pub fn groups_of_what_enters() -> Outcome {
    let live = live("", |spec, _| spec.ids = None);
    let running = (live.running.init, live.running.init_start);
    let dir = live.dir.path().to_path_buf();
    // A thread of its own: groups are a thread's, and what it starts gets them.
    let output = std::thread::spawn(move || {
        crate::descriptors::join_group(60_606);
        let spec = entering(running, false, &["/bin/grep", "Groups:", "/proc/self/status"]);
        enter(env!("CARGO_BIN_EXE_domus-run"), &spec, &dir).output().unwrap()
    });
    let output = String::from_utf8(output.join().unwrap().stdout).unwrap();
    assert!(output.starts_with("Groups:"), "{output}");
    verdict(&output.contains("60606").then(|| output.trim().to_string()).into_iter().collect::<Vec<_>>())
}

/// Looks at every process that is not its own, as fast as it can.
pub fn watch_inside() {
    say("up");
    loop {
        for pid in 2..400 {
            // What tracing a process takes is what reading this link takes.
            if let Ok(exe) = fs::read_link(format!("/proc/{pid}/exe"))
                && exe.to_string_lossy().contains("domus-run")
            {
                say(&format!("traces {}", exe.display()));
            }
        }
    }
}

/// The container's root traces a process while it enters: its memory, its descriptors, its way to the host.
pub fn tracing_what_enters() -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path(), "");
    let run_dir = dir.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    let mut spec = spec(&run_dir, &root);
    becomes_init(&mut spec, dir.path(), "watch-entering");
    let mut run = Run::start(&spec);
    let running = run.started();
    run.shows(":: up");
    let spec = entering((running.init, running.init_start), true, &["/bin/true"]);
    for _ in 0..60 {
        let status = enter(env!("CARGO_BIN_EXE_domus-run"), &spec, dir.path()).status().unwrap();
        assert!(status.success(), "{status}");
        if run.log().contains("traces") {
            break;
        }
    }
    let log = run.log();
    verdict(&log.lines().filter(|line| line.contains("traces")).take(1).map(str::to_string).collect::<Vec<_>>())
}

/// The image brings a name service of its own; who looks it up before init runs would load it with full privileges.
pub fn a_name_service_in_the_image() -> Outcome {
    use rustix::fs::inotify::{CreateFlags, WatchFlags};
    let watch = rustix::fs::inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    let (record, log) = run_script("", |spec, dir| {
        let etc = dir.join("root/etc");
        fs::write(etc.join("passwd"), "web:x:33:34::/:/bin/sh\n").unwrap();
        fs::write(etc.join("nsswitch.conf"), "passwd: trap\n").unwrap();
        for name in ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "lib"] {
            fs::create_dir_all(dir.join("root").join(name)).unwrap();
            fs::write(dir.join("root").join(name).join("libnss_trap.so.2"), "no library").unwrap();
            let path = dir.join("root").join(name).join("libnss_trap.so.2");
            rustix::fs::inotify::add_watch(&watch, path, WatchFlags::OPEN | WatchFlags::ACCESS).unwrap();
        }
        rustix::fs::inotify::add_watch(&watch, etc.join("nsswitch.conf"), WatchFlags::OPEN).unwrap();
        spec.init.argv = ["/bin/grep", "Uid:", "/proc/self/status"].map(Into::into).into();
        spec.init.user = Some("web".into());
    });
    assert_eq!(record.message, None);
    assert!(log.starts_with("Uid:\t33"), "{log}");
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = rustix::fs::inotify::Reader::new(&watch, &mut buffer);
    let mut opened = 0;
    // The removal of the files afterwards is told too.
    while let Ok(event) = events.next() {
        opened += usize::from(event.events().contains(rustix::fs::inotify::ReadFlags::OPEN));
    }
    verdict(&(opened > 0).then(|| "the image's name service was opened".to_string()).into_iter().collect::<Vec<_>>())
}
