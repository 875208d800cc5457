//! The supervisor: one loop over signals, clients and consoles, from start to exit record.
//!
//! ```text
//! Building --> Held --run--> Running --reboot(2)--> Building ...
//!     |          |              |
//!     +----------+--------------+--> record on disk, Ended to all, exit
//! ```

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::console::{Console, Side};
use super::control::Connection;
use super::procfs::HostProc;
use super::start::{self, Pending};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Context, Failure, Result, control, dev, exit, failure, net, shutdown};
use crate::lxc::protocol::{Call, Cause, Event, ExitRecord, Request, Running, SOCKET_NAME};
use crate::lxc::spec::{Device, Namespace, Nic, Spec};
use crate::sys::packet;

/// An init that ran shorter than this waits this long for its restart.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// How often consoles whose terminal nobody has open inside are looked at, milliseconds.
const SLOW_TICK: u16 = 200;

struct Supervisor {
    spec: Spec,
    proc: HostProc,
    /// Our own, clock ticks since boot.
    start_time: u64,
    listener: OwnedFd,
    signals: SignalFd,
    connections: Vec<Connection>,
    consoles: Vec<Console>,
    /// Consoles whose master reported a hang-up: only looked at on the slow tick.
    hung: Vec<bool>,
    current: Option<Pending>,
    held: bool,
    killed: bool,
    /// When the present run of init began.
    began: Instant,
    /// A restart that waits: an init that ends at once must not be started in a tight loop.
    due: Option<Instant>,
}

/// What a poll entry stands for.
enum Source {
    Signals,
    Listener,
    Connection(usize),
    Console(usize, Side),
}

/// What a supervisor is started with.
#[derive(Debug)]
pub struct Start {
    pub spec: Spec,
    /// The first connection.
    pub control: OwnedFd,
    /// Gets "PID STARTTIME\n" before anything is made.
    pub pidfile: Option<OwnedFd>,
}

/// Runs a container from start to end; the exit status.
pub fn run(start: Start) -> u8 {
    let run_dir = start.spec.run_dir.clone();
    let mut supervisor = match Supervisor::open(start.spec, start.pidfile) {
        Ok(supervisor) => supervisor,
        Err(failure) => {
            let record = exit::of_failure(&failure);
            let _ = exit::write(&run_dir, &record);
            control::report(&start.control, record);
            return 1;
        }
    };
    let first = Connection::new(start.control, supervisor.start_time);
    if first.is_broken() {
        // Whoever started us has died, and what comes after it may have looked for our pid already.
        return 1;
    }
    supervisor.connections.push(first);
    let record = match supervisor.start() {
        Ok(()) => supervisor.watch(),
        Err(failure) => exit::of_failure(&failure),
    };
    supervisor.finish(record);
    0
}

impl Supervisor {
    fn open(spec: Spec, pidfile: Option<OwnedFd>) -> Result<Supervisor> {
        // A session of its own: no terminal's hang-up and no signal to the daemon's group arrives here.
        let _ = rustix::process::setsid();
        let proc = HostProc::open()?;
        let pid = std::process::id() as i32;
        let start_time = proc.start_time(pid)?;
        if let Some(pidfile) = pidfile {
            rustix::io::write(&pidfile, format!("{pid} {start_time}\n").as_bytes())
                .at("pidfile", "cannot write the pid file")?;
        }
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGPWR,
        ] {
            mask.add(signal);
        }
        mask.thread_block().at("signals", "cannot block them")?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .at("signals", "cannot make a signal fd")?;
        let socket = spec.run_dir.join(SOCKET_NAME);
        let listener =
            packet::listen(&socket).at("control", format_args!("cannot listen on '{}'", socket.display()))?;
        let consoles =
            spec.consoles.iter().map(|console| Console::open(console.log.as_ref())).collect::<Result<Vec<_>>>()?;
        start::prepare(&spec, &proc)?;
        let hung = vec![false; consoles.len()];
        Ok(Supervisor {
            spec,
            proc,
            start_time,
            listener,
            signals,
            connections: Vec::new(),
            consoles,
            hung,
            current: None,
            held: false,
            killed: false,
            began: Instant::now(),
            due: None,
        })
    }

    /// Builds the container and, unless it is to be held, lets it run.
    fn start(&mut self) -> Result<()> {
        let mut pending = match start::build(&self.spec, &self.proc) {
            Ok(pending) => pending,
            Err(failure) => {
                net::unplug(&self.spec);
                return Err(failure);
            }
        };
        for (index, (console, master)) in self.consoles.iter_mut().zip(pending.masters.drain(..)).enumerate() {
            console.connect(master)?;
            self.hung[index] = false;
        }
        self.held = self.spec.hold;
        self.current = Some(pending);
        if self.held {
            let event = Event::Held(self.status());
            self.broadcast(&event);
            return Ok(());
        }
        self.go()?;
        let event = Event::Started(self.status());
        self.broadcast(&event);
        Ok(())
    }

    fn go(&mut self) -> Result<()> {
        self.held = false;
        self.began = Instant::now();
        let Some(pending) = &self.current else { return Ok(()) };
        let result = pending.go();
        if result.is_err() {
            pending.abandon();
            self.current = None;
            net::unplug(&self.spec);
        }
        result
    }

    fn status(&self) -> Running {
        let (init, init_start) = self.current.as_ref().map_or((0, 0), |pending| (pending.pid, pending.start_time));
        Running { init, init_start, ttys: self.consoles.iter().map(Console::tty).collect(), held: self.held }
    }

    fn broadcast(&mut self, event: &Event) {
        for connection in &mut self.connections {
            connection.send(event, None);
        }
    }

    /// Serves until the run is over.
    fn watch(&mut self) -> ExitRecord {
        loop {
            for source in self.wait() {
                let over = match source {
                    Source::Signals => self.on_signal(),
                    Source::Listener => {
                        while let Ok(socket) = packet::accept(self.listener.as_fd()) {
                            self.connections.push(Connection::new(socket, self.start_time));
                        }
                        None
                    }
                    Source::Connection(index) => self.on_request(index),
                    Source::Console(index, side) => {
                        self.consoles[index].handle(side);
                        None
                    }
                };
                if let Some(record) = over {
                    return record;
                }
            }
            if self.due.is_some_and(|due| due <= Instant::now()) {
                self.due = None;
                if let Err(failure) = self.restart() {
                    return exit::of_failure(&failure);
                }
            }
            self.connections.retain(|connection| !connection.is_broken());
        }
    }

    fn wait(&mut self) -> Vec<Source> {
        let mut sources = vec![Source::Signals, Source::Listener];
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        for (index, connection) in self.connections.iter().enumerate() {
            sources.push(Source::Connection(index));
            fds.push(PollFd::new(connection.as_fd(), PollFlags::POLLIN));
        }
        let mut slow = false;
        for (index, console) in self.consoles.iter().enumerate() {
            for (fd, side, read, write) in console.interests() {
                if side == Side::Guest && self.hung[index] {
                    slow = true;
                    continue;
                }
                let mut flags = PollFlags::empty();
                flags.set(PollFlags::POLLIN, read);
                flags.set(PollFlags::POLLOUT, write);
                sources.push(Source::Console(index, side));
                fds.push(PollFd::new(fd, flags));
            }
        }
        let slow_tick = slow.then_some(u128::from(SLOW_TICK));
        // Rounded up: waking early would only poll again.
        let due = self.due.map(|due| due.saturating_duration_since(Instant::now()).as_millis() + 1);
        let timeout = match slow_tick.into_iter().chain(due).min() {
            Some(millis) => PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX)),
            None => PollTimeout::NONE,
        };
        let count = poll(&mut fds, timeout).unwrap_or(0);
        let ready: Vec<PollFlags> = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        drop(fds);
        if slow && count == 0 {
            // Somebody may have opened a terminal again.
            self.hung.fill(false);
        }
        let mut result = Vec::new();
        for (source, ready) in sources.into_iter().zip(ready) {
            if ready.is_empty() {
                continue;
            }
            if let Source::Console(index, Side::Guest) = source {
                self.hung[index] = ready.contains(PollFlags::POLLHUP);
            }
            result.push(source);
        }
        result
    }

    fn on_signal(&mut self) -> Option<ExitRecord> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if info.ssi_signo == Signal::SIGCHLD as u32 {
                continue;
            }
            // Told to end (the machine goes down, or an administrator): init is asked, as by a shutdown.
            if let Some(pending) = &self.current {
                let _ = shutdown::by_signal(&self.proc, pending, false);
            }
        }
        let pending = self.current.as_ref()?;
        let status = waitid(WaitId::PidFd(pending.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        match status {
            Ok(Some(status)) => self.on_end(&exit::of_status(&status, self.killed)),
            _ => None,
        }
    }

    fn on_end(&mut self, record: &ExitRecord) -> Option<ExitRecord> {
        self.current = None;
        for console in &mut self.consoles {
            console.disconnect();
        }
        let again = match record.cause {
            Cause::Reboot => self.spec.restart_on_reboot,
            Cause::Exited | Cause::PowerOff => self.spec.restart_on_poweroff,
            Cause::Killed => self.spec.restart_on_crash,
            Cause::StartFailed => false,
        };
        if !again || self.killed {
            return Some(record.clone());
        }
        // The kernel would remove the interfaces with their namespace, but later than their names are needed.
        net::unplug(&self.spec);
        self.spec.hold = false;
        if self.began.elapsed() < RESTART_PAUSE {
            self.due = Some(Instant::now() + RESTART_PAUSE);
            return None;
        }
        match self.restart() {
            Ok(()) => None,
            Err(failure) => Some(exit::of_failure(&failure)),
        }
    }

    fn restart(&mut self) -> Result<()> {
        let mut pending = start::build(&self.spec, &self.proc)?;
        for (index, (console, master)) in self.consoles.iter_mut().zip(pending.masters.drain(..)).enumerate() {
            console.connect(master)?;
            self.hung[index] = false;
        }
        self.current = Some(pending);
        self.go()?;
        let event = Event::Rebooted(self.status());
        self.broadcast(&event);
        Ok(())
    }

    fn on_request(&mut self, index: usize) -> Option<ExitRecord> {
        let Request { seq, call } = self.connections.get_mut(index)?.receive()?;
        let mut fd = None;
        let mut over = None;
        let result = match call {
            Call::Status => Ok(()),
            Call::Run if !self.held => Err("it runs already".to_string()),
            Call::Run => match self.go() {
                Ok(()) => {
                    let event = Event::Started(self.status());
                    self.broadcast(&event);
                    Ok(())
                }
                Err(failure) => {
                    over = Some(exit::of_failure(&failure));
                    Err(failure.to_string())
                }
            },
            Call::Console { index, force } => match self.consoles.get_mut(index).map(|console| console.attach(force)) {
                None => Err(format!("there is no console {index}")),
                Some(Ok(stream)) => {
                    fd = Some(stream);
                    Ok(())
                }
                Some(Err(error)) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                    Err("the console is in use".to_string())
                }
                Some(Err(error)) => Err(error.to_string()),
            },
            Call::Resize { index, rows, columns } => match self.consoles.get(index) {
                None => Err(format!("there is no console {index}")),
                Some(console) => console.resize(rows, columns).map_err(|error| error.to_string()),
            },
            Call::PlugNic { nic } => self.plug_nic(nic).map_err(|failure| text(&failure)),
            Call::UnplugNic { host } => self.unplug_nic(&host).map_err(|failure| text(&failure)),
            Call::LinkState { host, up } => self.link_state(&host, up).map_err(|failure| text(&failure)),
            Call::AddDevice { device } => self.add_device(device).map_err(|failure| text(&failure)),
            Call::RemoveDevice { name } => self.remove_device(&name).map_err(|failure| text(&failure)),
            Call::Signal { signal } => self.send_signal(signal),
            Call::Shutdown { reboot, initctl, signal } => match &self.current {
                Some(pending) => {
                    shutdown::ask(&self.proc, pending, reboot, initctl, signal).map_err(|failure| text(&failure))
                }
                None => Err("the container is not running".to_string()),
            },
            Call::Kill => {
                self.killed = true;
                if self.due.take().is_some() {
                    over = Some(exit::between_runs());
                    Ok(())
                } else {
                    self.send_signal(nix::libc::SIGKILL)
                }
            }
            Call::Lifecycle { poweroff, reboot, crash } => {
                (self.spec.restart_on_poweroff, self.spec.restart_on_reboot, self.spec.restart_on_crash) =
                    (poweroff, reboot, crash);
                Ok(())
            }
        };
        let status = Some(self.status());
        let reply = Event::Reply { seq, error: result.err(), status };
        if let Some(connection) = self.connections.get_mut(index) {
            connection.send(&reply, fd.as_ref().map(AsFd::as_fd));
        }
        over
    }

    fn running(&self) -> Result<&Pending> {
        let Some(pending) = &self.current else { return failure("control", "the container is not running") };
        Ok(pending)
    }

    fn dev(&self) -> Result<&OwnedFd> {
        match &self.running()?.dev {
            Some(dev) => Ok(dev),
            None => failure("dev", "the container has no /dev yet"),
        }
    }

    fn plug_nic(&mut self, nic: Nic) -> Result<()> {
        if self.spec.net != Namespace::New {
            return failure("network", "the container shares its network with others");
        }
        let init = self.running()?.pid;
        let made = net::plug_one(&nic, &self.proc, init);
        let is_made = made.is_ok();
        let result = made.and_then(|()| self.inside(init, || net::configure(std::slice::from_ref(&nic))));
        match result {
            Ok(()) => self.spec.nics.push(nic),
            // The name may be another interface's, which was in the way.
            Err(_) if nic.macvlan.is_some() && !is_made => {}
            Err(_) => self.take_out(&nic, init)?,
        }
        result
    }

    /// Runs `work` in the container's network namespace.
    fn inside<T>(&self, init: i32, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let netns = self.proc.namespace(init, "net")?;
        let back = self.proc.namespace(std::process::id() as i32, "net")?;
        let enter = |namespace: &OwnedFd, what: &str| {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), kind).at("network", what)
        };
        enter(&netns, "cannot enter the container's network")?;
        let done = work();
        enter(&back, "cannot return to the host's network")?;
        done
    }

    fn take_out(&self, nic: &Nic, init: i32) -> Result<()> {
        match nic.macvlan {
            Some(_) => self.inside(init, || net::remove_inside(&nic.guest)),
            None => {
                net::unplug_one(&nic.host);
                Ok(())
            }
        }
    }

    fn unplug_nic(&mut self, host: &str) -> Result<()> {
        let Some(nic) = self.spec.nics.iter().find(|nic| nic.host == host) else {
            return failure("network", format!("there is no interface '{host}'"));
        };
        self.take_out(nic, self.running()?.pid)?;
        self.spec.nics.retain(|nic| nic.host != host);
        Ok(())
    }

    fn link_state(&mut self, host: &str, up: bool) -> Result<()> {
        let Some(nic) = self.spec.nics.iter_mut().find(|nic| nic.host == host) else {
            return failure("network", format!("there is no interface '{host}'"));
        };
        net::set_up(host, up)?;
        nic.up = up;
        Ok(())
    }

    fn add_device(&mut self, device: Device) -> Result<()> {
        dev::add(self.dev()?, &device, self.spec.ids.as_ref())?;
        self.spec.devices.push(device);
        Ok(())
    }

    fn remove_device(&mut self, name: &str) -> Result<()> {
        if !self.spec.devices.iter().any(|device| device.name == name) {
            return failure("dev", format!("there is no device '{name}'"));
        }
        dev::remove(self.dev()?, name)?;
        self.spec.devices.retain(|device| device.name != name);
        Ok(())
    }

    fn send_signal(&self, signal: i32) -> Result<(), String> {
        let Some(pending) = &self.current else { return Err("the container is not running".to_string()) };
        shutdown::send(pending, signal).map_err(|failure| text(&failure))
    }

    /// Record first, then the news: who hears of the end finds the record.
    fn finish(mut self, record: ExitRecord) {
        if let Some(pending) = self.current.take() {
            pending.abandon();
        }
        if let Err(failure) = exit::write(&self.spec.run_dir, &record) {
            eprintln!("domus-run: {failure}");
        }
        for console in &mut self.consoles {
            console.disconnect();
            console.close();
        }
        self.broadcast(&Event::Ended(record));
        let _ = std::fs::remove_file(self.spec.run_dir.join(SOCKET_NAME));
    }
}

fn text(failure: &Failure) -> String {
    failure.to_string()
}
