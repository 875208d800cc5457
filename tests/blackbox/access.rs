//! Who may do what: polkit for connections and for calls, on the sockets of libvirt's protocol, the daemon's own, and the
//! system bus. A message bus and a polkit of the test's own; callers are ordinary users.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::bus::{CONNECT, DOMAIN, PROPERTIES, TEST};
use crate::harness::polkit::Asked;
use crate::harness::{
    Bus, BusDaemon, DEADLINE, Lab, Out, Polkit, Say, as_user, eventually, is_root, program, run, skip, test_name,
};
use crate::mock_life::xml;
use crate::rpc_wire::{Wire, arguments};

const MANAGE: &str = "org.libvirt.unix.manage";
const MONITOR: &str = "org.libvirt.unix.monitor";
/// Ordinary users, `daemon` and `bin` on any Debian: a bus daemon wants users with an account.
const SOMEBODY: u32 = 1;
const ANOTHER: u32 = 2;

/// Where callers go.
struct Places {
    /// libvirt's protocol.
    rpc: PathBuf,
    /// The daemon's own.
    own: PathBuf,
    /// The system bus.
    bus: String,
}

impl Places {
    fn buses(&self) -> [Bus; 2] {
        [Bus::over(&self.bus), Bus::peer(&self.own)]
    }
}

/// A daemon that asks polkit, and the bus between them.
struct World {
    lab: Lab,
    bus: BusDaemon,
    /// `None`: there is a bus but no polkit on it.
    polkit: Option<Polkit>,
}

impl World {
    /// `None`, said aloud, where it cannot be had. The daemon serves the system bus if `arguments` say so.
    fn new(configuration: &str, arguments: &[&str], with_polkit: bool) -> Option<World> {
        if !is_root() {
            skip(&test_name(), "needs root: callers are other users than the daemon's");
            return None;
        }
        let mut lab = Lab::bare(&["--mock"]);
        let bus = BusDaemon::start(&lab)?;
        arguments.iter().for_each(|argument| lab.argument(*argument));
        lab.configure(configuration);
        let polkit = with_polkit.then(|| Polkit::start(&bus.address));
        lab.start_with(&[("DBUS_SYSTEM_BUS_ADDRESS", &bus.address)]);
        lab.wait_ready();
        lab.define(&xml("one"));
        lab.define(&xml("two"));
        Some(World { lab, bus, polkit })
    }

    fn polkit(&self) -> &Polkit {
        self.polkit.as_ref().expect("a polkit")
    }

    fn places(&self) -> Places {
        Places { rpc: self.socket("libvirt-sock"), own: self.lab.socket(), bus: self.bus.address.clone() }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.lab.root().join("run").join(name)
    }

    /// A program as an ordinary user.
    fn program(&self, uid: u32, program_name: &str) -> Command {
        let home = self.lab.work().join(format!("home-{uid}"));
        if std::fs::create_dir(&home).is_ok() {
            nix::unistd::chown(&home, Some(uid.into()), Some(uid.into())).unwrap();
        }
        let mut command = Command::new(program("setpriv").expect("setpriv"));
        command.args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".into(), "--".into()]);
        command.arg(program_name).env("HOME", &home).env("XDG_RUNTIME_DIR", &home);
        command
    }

    fn uri(&self, socket: &str) -> String {
        format!("test+unix:///default?socket={}", self.socket(socket).display())
    }

    fn virsh(&self, uid: u32, socket: &str, words: &[&str]) -> Out {
        run(self.program(uid, "virsh").args(["-q", "-c", &self.uri(socket)]).args(words), DEADLINE)
    }

    fn virsh_ok(&self, words: &[&str]) -> String {
        let out = self.virsh(SOMEBODY, "libvirt-sock", words);
        assert!(out.success(), "virsh {words:?}: {out:?}");
        out.stdout.trim().to_string()
    }

    fn virsh_fails(&self, socket: &str, words: &[&str], said: &str) {
        let out = self.virsh(SOMEBODY, socket, words);
        assert!(!out.success() && out.stderr.contains(said), "virsh {words:?} should say {said:?}: {out:?}");
    }

    /// What polkit was asked, by action, in the order of the questions.
    fn asked(&self) -> Vec<String> {
        self.polkit().asked().into_iter().map(|asked| asked.action).collect()
    }

    fn finish(self) {
        let World { lab, bus, polkit } = self;
        drop(polkit);
        drop(bus);
        lab.finish();
    }
}

fn has_virsh() -> bool {
    let has = program("virsh").is_some();
    if !has {
        skip(&test_name(), "virsh is not installed (libvirt-clients)");
    }
    has
}

const CONNECTIONS: &str = "[access]\nauth_unix_rw = 'polkit'\nauth_unix_ro = 'polkit'\nauth_bus = 'polkit'\n";
const CALLS: &str = "[access]\nauth_unix_rw = 'polkit'\nauth_bus = 'polkit'\ndrivers = ['polkit']\n";

#[test]
fn virsh_comes_in_with_polkits_leave() {
    if !has_virsh() {
        return;
    }
    let Some(world) = World::new(CONNECTIONS, &[], true) else { return };
    let polkit = world.polkit();
    let list = ["list", "--all", "--name"];
    world.virsh_fails("libvirt-sock", &list, "authentication failed: access denied by policy");
    let asked = polkit.asked();
    // virsh tries again and again.
    assert!(asked.iter().all(|asked| asked.action == MANAGE), "{asked:?}");
    let (kind, action, interactive) = (asked[0].kind.as_str(), asked[0].action.as_str(), asked[0].interactive);
    assert_eq!((kind, action, interactive), ("unix-process", MANAGE, true));
    let (pid, start, uid) = &asked[0].subject;
    assert!(pid.parse::<u32>().is_ok_and(|pid| pid > 1) && *start > 0, "{asked:?}");
    assert_eq!(*uid, SOMEBODY.cast_signed());
    polkit.rule(MANAGE, Say::NoAgent);
    let no_agent = "authentication unavailable: no polkit agent available to authenticate action";
    world.virsh_fails("libvirt-sock", &list, no_agent);
    polkit.rule(MANAGE, Say::Dismissed);
    world.virsh_fails("libvirt-sock", &list, "authentication cancelled: user cancelled authentication process");
    for leave in [Say::Password, Say::Yes] {
        polkit.rule(MANAGE, leave);
        assert_eq!(world.virsh_ok(&list), "one\ntwo", "{leave:?}");
    }
    // Once a connection, whatever it does then.
    polkit.asked();
    world.virsh_ok(&["start one; domstate one; destroy one"]);
    assert_eq!(world.asked(), [MANAGE]);
    // Who may look goes to the socket for it; who may manage has not thereby the leave to look.
    world.virsh_fails("libvirt-sock-ro", &list, "access denied by policy");
    polkit.rule(MANAGE, Say::No);
    polkit.rule(MONITOR, Say::Yes);
    polkit.asked();
    let out = world.virsh(SOMEBODY, "libvirt-sock-ro", &list);
    assert!(out.success() && out.stdout.trim() == "one\ntwo", "{out:?}");
    assert_eq!(world.asked(), [MONITOR]);
    world.virsh_fails(
        "libvirt-sock-ro",
        &["start", "one"],
        "operation forbidden: read only access prevents virDomainCreate",
    );
    world.virsh_fails(
        "libvirt-sock-ro",
        &["dumpxml", "--security-info", "one"],
        "virDomainGetXMLDesc with secure flag",
    );
    // Root is not asked about.
    polkit.asked();
    let root = run(Command::new("virsh").args(["-q", "-c", &world.uri("libvirt-sock")]).args(list), DEADLINE);
    assert!(root.success() && world.asked().is_empty(), "{root:?}");
    world.finish();
}

/// Before it has leave a client can do nothing, and it cannot talk itself in.
#[test]
fn there_is_no_way_around_the_question() {
    let Some(world) = World::new(CONNECTIONS, &[], true) else { return };
    let (places, polkit) = (world.places(), world.polkit());
    as_user(SOMEBODY, || {
        let mut wire = Wire::at(&places.rpc);
        let (words, text) = wire.call(1, &arguments("test:///default"));
        assert_eq!(words[5], 1, "{}", String::from_utf8_lossy(&text));
        assert_eq!(wire.call(66, &[]).1, [0, 0, 0, 1, 0, 0, 0, 2], "polkit is what is offered");
        let (words, text) = wire.call(1, &arguments("test:///default"));
        assert!(words[5] == 1 && String::from_utf8_lossy(&text).contains("authentication required"));
        assert_eq!(wire.call(70, &[]).0[5], 1, "denied");
        assert_eq!(wire.call(1, &arguments("test:///default")).0[5], 1, "still outside");
        polkit.rule(MANAGE, Say::Yes);
        assert_eq!(wire.call(70, &[]).1, [0, 0, 0, 1]);
        assert_eq!(wire.call(1, &arguments("test:///default")).0[5], 0);
        // Once it is in there is nothing to ask any more.
        assert_eq!(wire.call(70, &[]).0[5], 1);
    });
    // Who needs no leave does not get any.
    let mut wire = Wire::at(&places.rpc);
    assert_eq!(wire.call(66, &[]).1, [0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(wire.call(70, &[]).0[5], 1);
    world.finish();
}

#[test]
fn without_polkit_nobody_comes_in_who_needs_its_leave() {
    let Some(world) = World::new(CALLS, &["--system"], false) else { return };
    let places = world.places();
    let path = world.lab.bus().lookup(TEST, "one");
    as_user(SOMEBODY, || {
        let mut wire = Wire::at(&places.rpc);
        assert_eq!(wire.call(66, &[]).1, [0, 0, 0, 1, 0, 0, 0, 2]);
        let (words, text) = wire.call(70, &[]);
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(words[5] == 1 && text.contains("authentication unavailable: polkit cannot be asked"), "{text}");
        assert_eq!(wire.call(1, &arguments("test:///default")).0[5], 1);
        for bus in places.buses() {
            let refused = bus.refused(&path, DOMAIN, "GetState", &(0u32,));
            assert!(refused.message.contains("polkit cannot be asked on the system bus"), "{refused:?}");
        }
    });
    // The sockets for reading have nothing to do with it: nobody but root by default.
    assert_eq!(world.lab.names(), ["one", "two"]);
    let log = std::fs::read_to_string(world.lab.log()).unwrap();
    assert!(log.contains("polkit cannot be asked now"), "{log}");
    // It comes later, and is asked then.
    let polkit = Polkit::start(&places.bus);
    polkit.rule("*", Say::Yes);
    as_user(SOMEBODY, || assert_eq!(Bus::over(&places.bus).state(&path), (5, 0)));
    assert!(polkit.asked().iter().any(|asked| asked.action == MANAGE));
    drop(polkit);
    world.finish();
}

#[test]
fn each_call_needs_its_right_on_its_object() {
    if !has_virsh() {
        return;
    }
    let Some(world) = World::new(CALLS, &[], true) else { return };
    let polkit = world.polkit();
    polkit.rule(MANAGE, Say::Yes);
    world.virsh_fails("libvirt-sock", &["list"], "access denied: 'Test' denied access");
    polkit.rule("org.libvirt.api.connect.*", Say::Yes);
    assert_eq!(world.virsh_ok(&["list", "--all", "--name"]), "", "none is to be seen");
    for right in ["getattr", "read", "start"] {
        polkit.rule_for(&format!("org.libvirt.api.domain.{right}"), ("domain_name", "one"), Say::Yes);
    }
    polkit.asked();
    assert_eq!(world.virsh_ok(&["list", "--all", "--name"]), "one", "the other one is not to be seen");
    let asked = polkit.asked();
    let one = asked.iter().find(|asked| asked.details.get("domain_name").is_some_and(|name| name == "one")).unwrap();
    assert_eq!(one.details["connect_driver"], "Test");
    assert_eq!(one.details["domain_uuid"].len(), 36);
    world.virsh_fails("libvirt-sock", &["domstate", "two"], "failed to get domain");
    world.virsh_ok(&["start", "one"]);
    polkit.asked();
    world.virsh_fails("libvirt-sock", &["destroy", "one"], "access denied: 'Test' denied access");
    assert_eq!(world.asked().last().unwrap(), "org.libvirt.api.domain.stop");
    // What flags ask for beyond.
    assert!(world.virsh_ok(&["dumpxml", "one"]).contains("<name>one</name>"));
    world.virsh_fails("libvirt-sock", &["dumpxml", "--security-info", "one"], "access denied");
    polkit.rule_for("org.libvirt.api.domain.write", ("domain_name", "one"), Say::Yes);
    world.virsh_ok(&["desc", "one", "--live", "--new-desc", "live"]);
    world.virsh_fails("libvirt-sock", &["desc", "one", "--config", "--new-desc", "kept"], "access denied");
    // What is to be made has a name too.
    let three = world.lab.write("three.xml", &xml("three"));
    world.virsh_fails("libvirt-sock", &["define", &three], "access denied");
    for right in ["getattr", "write", "save"] {
        polkit.rule_for(&format!("org.libvirt.api.domain.{right}"), ("domain_name", "three"), Say::Yes);
    }
    world.virsh_ok(&["define", &three]);
    assert_eq!(world.virsh_ok(&["list", "--all", "--name"]), "one\nthree");
    world.virsh_fails("libvirt-sock", &["undefine", "three"], "access denied");
    // Root is asked about nothing.
    polkit.asked();
    assert_eq!(world.lab.names(), ["one", "three", "two"]);
    assert!(world.asked().is_empty());
    world.finish();
}

#[test]
fn objects_of_the_host_have_rights_of_their_own() {
    if !has_virsh() {
        return;
    }
    let Some(world) = World::new(CALLS, &[], true) else { return };
    let polkit = world.polkit();
    polkit.rule(MANAGE, Say::Yes);
    polkit.rule("org.libvirt.api.connect.*", Say::Yes);
    let write = |name: &str, text: String| world.lab.write(name, &text);
    let network = |name: &str| write(name, format!("<network><name>{name}</name><forward mode='open'/></network>"));
    let (seen, hidden) = (network("seen"), network("hidden"));
    polkit.rule_for("org.libvirt.api.network.*", ("network_name", "seen"), Say::Yes);
    world.virsh_ok(&["net-define", &seen]);
    world.virsh_fails("libvirt-sock", &["net-define", &hidden], "access denied: 'Test' denied access");
    let root = world.uri("libvirt-sock");
    let as_root = |words: &[&str]| {
        let out = run(Command::new("virsh").args(["-q", "-c", &root]).args(words), DEADLINE);
        assert!(out.success(), "{words:?}: {out:?}");
    };
    as_root(&["net-define", &hidden]);
    assert_eq!(world.virsh_ok(&["net-list", "--all", "--name"]), "seen");
    world.virsh_fails("libvirt-sock", &["net-info", "hidden"], "access denied");
    let pool = write("pool", "<pool type='dir'><name>p</name><target><path>/p</path></target></pool>".into());
    as_root(&["pool-define", &pool]);
    as_root(&["pool-start", "p"]);
    as_root(&["vol-create-as", "p", "a", "1M"]);
    as_root(&["vol-create-as", "p", "b", "1M"]);
    polkit.rule("org.libvirt.api.storage-pool.*", Say::Yes);
    polkit.rule_for("org.libvirt.api.storage-vol.*", ("vol_name", "a"), Say::Yes);
    let volumes = world.virsh_ok(&["vol-list", "p"]);
    assert!(volumes.contains("/p/a") && !volumes.contains("/p/b"), "{volumes}");
    // virsh then takes the name for a path, and says that none is there.
    world.virsh_fails("libvirt-sock", &["vol-delete", "b", "p"], "failed to get vol");
    world.virsh_fails("libvirt-sock", &["vol-delete", "/p/b"], "failed to get vol");
    world.virsh_fails("libvirt-sock", &["vol-create-as", "p", "c", "1M"], "access denied");
    world.virsh_ok(&["vol-delete", "a", "p"]);
    let secret = write("secret", "<secret><usage type='ceph'><name>client.a</name></usage></secret>".into());
    world.virsh_fails("libvirt-sock", &["secret-define", &secret], "access denied");
    polkit.rule_for("org.libvirt.api.secret.*", ("secret_usage_ceph", "client.a"), Say::Yes);
    world.virsh_ok(&["secret-define", &secret]);
    assert!(world.virsh_ok(&["secret-list"]).contains("client.a"));
    for words in [["net-undefine", "seen"], ["net-undefine", "hidden"], ["pool-destroy", "p"], ["pool-undefine", "p"]] {
        as_root(&words);
    }
    let uuid = world.virsh_ok(&["secret-list"]).split_whitespace().next().unwrap().to_string();
    as_root(&["secret-undefine", &uuid]);
    world.finish();
}

#[test]
fn libvirt_python_sees_codes_and_domains() {
    const PYTHON: &str = "/usr/bin/python3";
    let has = std::path::Path::new(PYTHON).exists()
        && run(Command::new(PYTHON).args(["-c", "import libvirt"]), DEADLINE).success();
    if !has {
        return skip(&test_name(), "python3 with the libvirt module is not installed");
    }
    let Some(world) = World::new(CALLS, &[], true) else { return };
    let polkit = world.polkit();
    let script = "import libvirt, sys\n\
        libvirt.registerErrorHandler(lambda *a: None, None)\n\
        def told(work):\n\
        \x20   try: return work()\n\
        \x20   except libvirt.libvirtError as e: return e.get_error_code(), e.get_error_domain()\n\
        c = told(lambda: libvirt.open(sys.argv[1]))\n\
        if isinstance(c, tuple): print(*c); sys.exit()\n\
        d = c.lookupByName('one')\n\
        print([x.name() for x in c.listAllDomains()], c.numOfDefinedDomains(), d.state())\n\
        print(told(d.create), told(lambda: c.lookupByName('two')), len(c.getAllDomainStats()))\n\
        print(told(lambda: c.domainEventRegisterAny(None, 0, lambda *a: None, None)))\n";
    let python = || {
        let out = run(world.program(SOMEBODY, PYTHON).args(["-c", script, &world.uri("libvirt-sock")]), DEADLINE);
        assert!(out.success(), "{out:?}");
        out.stdout
    };
    assert_eq!(python().trim(), "45 60");
    polkit.rule(MANAGE, Say::Yes);
    assert_eq!(python().trim(), "88 55", "no leave to open");
    polkit.rule("org.libvirt.api.connect.*", Say::Yes);
    polkit.rule("org.libvirt.api.domain.read", Say::Yes);
    polkit.rule_for("org.libvirt.api.domain.getattr", ("domain_name", "one"), Say::Yes);
    let said = python();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "['one'] 1 [5, 0]");
    assert_eq!(lines[1], "(88, 55) (88, 55) 2");
    polkit.rule_for("org.libvirt.api.domain.read", ("domain_name", "two"), Say::No);
    polkit.rule("org.libvirt.api.connect.search-domains", Say::No);
    let out = run(world.program(SOMEBODY, PYTHON).args(["-c", script, &world.uri("libvirt-sock")]), DEADLINE);
    assert!(!out.success() && out.stderr.contains("'Test' denied access"), "lists need leave: {out:?}");
    world.finish();
}

#[test]
fn callers_on_the_bus_are_asked_about() {
    let Some(world) = World::new(CONNECTIONS, &["--system"], true) else { return };
    let places = world.places();
    let polkit = world.polkit();
    let path = world.lab.bus().lookup(TEST, "one");
    as_user(SOMEBODY, || {
        let bus = Bus::over(&places.bus);
        let refused = bus.refused(&path, DOMAIN, "GetState", &(0u32,));
        assert_eq!(refused.name, "org.freedesktop.DBus.Error.AccessDenied");
        let asked = polkit.asked();
        assert!(asked.iter().all(|asked| asked.kind == "system-bus-name" && !asked.interactive), "{asked:?}");
        assert!(asked.iter().all(|asked| asked.subject.0.starts_with(":1.")), "{asked:?}");
        // Nothing is to be seen without leave, not even what no driver is asked for.
        assert!(bus.try_call(TEST, PROPERTIES, "GetAll", &(CONNECT,)).is_err());
        let introspect = "org.freedesktop.DBus.Introspectable";
        let refused = bus.refused("/org/libvirt/Test/domain", introspect, "Introspect", &());
        assert_eq!(refused.name, "org.freedesktop.DBus.Error.AccessDenied");
        // Leave to look.
        polkit.rule(MONITOR, Say::Yes);
        polkit.changed();
        eventually("leave to look", DEADLINE, || bus.try_call(&path, DOMAIN, "GetState", &(0u32,)).ok());
        polkit.asked();
        assert_eq!(bus.state(&path), (5, 0));
        assert!(polkit.asked().is_empty(), "what was said holds until it changes");
        let refused = bus.refused(&path, DOMAIN, "Create", &(0u32,));
        assert_eq!(refused.name, "org.libvirt.Error");
        assert_eq!(refused.message, "operation forbidden: read only access prevents virDomainCreateWithFlags");
        let refused = bus.refused(&path, DOMAIN, "GetXMLDesc", &(1u32,));
        assert_eq!(refused.message, "operation forbidden: virDomainGetXMLDesc with secure flag");
        // A password would do.
        polkit.rule(MANAGE, Say::Password);
        polkit.changed();
        let required = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";
        eventually("a password is wanted", DEADLINE, || {
            (bus.refused(&path, DOMAIN, "Create", &(0u32,)).name == required).then_some(())
        });
        assert_eq!(bus.state(&path), (5, 0), "to look takes none");
        polkit.asked();
        bus.call_interactively(&path, DOMAIN, "Create", &(0u32,)).unwrap();
        assert!(polkit.asked().iter().any(|asked| asked.action == MANAGE && asked.interactive));
        assert_eq!(bus.state(&path), (1, 1));
        // It was given for that call.
        assert_eq!(bus.refused(&path, DOMAIN, "Destroy", &(0u32,)).name, required);
        polkit.rule(MANAGE, Say::Dismissed);
        let refused = bus.call_interactively(&path, DOMAIN, "Destroy", &(0u32,)).unwrap_err();
        assert_eq!(refused.name, "org.freedesktop.DBus.Error.AccessDenied");
        assert!(refused.message.contains("user cancelled authentication process"), "{refused:?}");
        // Leave for everything, and it is taken away again.
        polkit.rule(MANAGE, Say::Yes);
        polkit.changed();
        eventually("leave", DEADLINE, || bus.try_call(&path, DOMAIN, "Destroy", &(0u32,)).ok());
        polkit.rule("*", Say::No);
        polkit.changed();
        eventually("no leave", DEADLINE, || bus.try_call(&path, DOMAIN, "GetState", &(0u32,)).err());
    });
    // Root is not asked about.
    polkit.asked();
    assert_eq!(Bus::over(&places.bus).state(&path), (5, 2));
    assert!(world.asked().is_empty());
    world.finish();
}

#[test]
fn on_the_bus_each_call_needs_its_right_too() {
    let Some(world) = World::new(CALLS, &["--system"], true) else { return };
    let places = world.places();
    let polkit = world.polkit();
    let (one, two) = (world.lab.bus().lookup(TEST, "one"), world.lab.bus().lookup(TEST, "two"));
    polkit.rule(MANAGE, Say::Yes);
    polkit.rule("org.libvirt.api.connect.*", Say::Yes);
    for right in ["getattr", "read"] {
        polkit.rule_for(&format!("org.libvirt.api.domain.{right}"), ("domain_name", "one"), Say::Yes);
    }
    polkit.rule("org.libvirt.api.domain.start", Say::Password);
    as_user(SOMEBODY, || {
        for bus in places.buses() {
            let listed: Vec<zbus::OwnedObjectPath> = bus.call(TEST, CONNECT, "ListDomains", &(0u32,));
            assert_eq!(listed.iter().map(|path| path.as_str()).collect::<Vec<_>>(), [one.as_str()]);
            let children = bus.introspect("/org/libvirt/Test/domain");
            let name = |path: &str| path.rsplit('/').next().unwrap().to_string();
            assert!(children.contains(&name(&one)) && !children.contains(&name(&two)), "{children}");
            assert_eq!(bus.state(&one), (5, 0));
            let refused = bus.refused(&two, DOMAIN, "GetState", &(0u32,));
            assert_eq!(refused.name, "org.libvirt.Error");
            assert!(refused.message.starts_with("access denied: 'Test' denied access"), "{refused:?}");
            let get = |path: &str| bus.try_call(path, PROPERTIES, "Get", &(DOMAIN, "Name")).map(drop);
            assert!(get(&one).is_ok() && get(&two).is_err(), "a name is to be seen by who may see its domain");
        }
        let bus = Bus::over(&places.bus);
        let refused = bus.refused(&one, DOMAIN, "Create", &(0u32,));
        assert_eq!(refused.name, "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired");
        bus.call_interactively(&one, DOMAIN, "Create", &(0u32,)).unwrap();
    });
    world.finish();
}

#[test]
fn one_who_is_asked_about_at_length_delays_nobody() {
    // One who is asked about takes no place of those who have not authenticated; two are for the sockets themselves.
    let configuration = format!("{CALLS}[rpc]\nmax_anonymous_clients = 3\n");
    let Some(world) = World::new(&configuration, &["--system"], true) else { return };
    let places = world.places();
    let polkit = world.polkit();
    let path = world.lab.bus().lookup(TEST, "one");
    polkit.rule("*", Say::Nothing);
    // On the bus, on the daemon's own socket, in libvirt's protocol.
    let waiting = as_user(SOMEBODY, || {
        let (bus, peer) = (Bus::over(&places.bus), Bus::peer(&places.own));
        for _ in 0..100 {
            bus.begin(&path, DOMAIN, "GetState", &(0u32,));
        }
        peer.begin(&path, DOMAIN, "GetState", &(0u32,));
        let wires = [(); 3].map(|()| {
            let mut wire = Wire::at(&places.rpc);
            wire.call(66, &[]);
            wire.begin(70, &[]);
            wire
        });
        (bus, peer, wires)
    });
    let mut asked = Vec::new();
    eventually("a question about each", DEADLINE, || {
        asked.extend(polkit.asked());
        let has = |kind: &str, interactive: bool| {
            asked.iter().any(|asked: &Asked| asked.kind == kind && asked.interactive == interactive)
        };
        (has("system-bus-name", false) && has("unix-process", false) && has("unix-process", true)).then_some(())
    });
    let about_the_bus = asked.iter().filter(|asked| asked.kind == "system-bus-name").count();
    assert_eq!(about_the_bus, 1, "a hundred calls ask once: {asked:?}");
    // Others come in and work meanwhile: who is asked about, and who is not, over the same bus too.
    polkit.rule("*", Say::Yes);
    as_user(ANOTHER, || {
        assert_eq!(Bus::over(&places.bus).state(&path), (5, 0));
        assert_eq!(Bus::peer(&places.own).state(&path), (5, 0));
        let mut wire = Wire::at(&places.rpc);
        assert_eq!(wire.call(66, &[]).1, [0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(wire.call(70, &[]).1, [0, 0, 0, 1]);
    });
    assert_eq!(Bus::over(&places.bus).state(&path), (5, 0));
    assert_eq!(world.lab.names(), ["one", "two"]);
    assert_eq!(polkit.withdrawn(), Vec::<String>::new());
    drop(waiting);
    eventually("the questions are taken back", DEADLINE, || {
        let withdrawn = polkit.withdrawn();
        asked.iter().all(|asked| withdrawn.contains(&asked.id)).then_some(())
    });
    world.finish();
}

#[test]
fn polkit_is_asked_by_itself_where_it_is() {
    // Nothing is configured: the daemon serves the system bus, and polkit is there.
    let Some(world) = World::new("", &["--system"], true) else { return };
    let places = world.places();
    let path = world.lab.bus().lookup(TEST, "one");
    as_user(SOMEBODY, || {
        for bus in places.buses() {
            assert!(bus.try_call(&path, DOMAIN, "GetState", &(0u32,)).is_err());
        }
        let mut wire = Wire::at(&places.rpc);
        assert_eq!(wire.call(66, &[]).1, [0, 0, 0, 1, 0, 0, 0, 2]);
    });
    assert!(world.asked().contains(&MANAGE.to_string()));
    world.finish();
    // It is not there: the bus's own policy and the modes of the sockets say who comes in.
    let Some(world) = World::new("", &["--system"], false) else { return };
    let places = world.places();
    let path = world.lab.bus().lookup(TEST, "one");
    as_user(SOMEBODY, || {
        assert_eq!(Bus::over(&places.bus).state(&path), (5, 0));
        let refused = std::os::unix::net::UnixStream::connect(&places.rpc).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    });
    world.finish();
}

/// Who may not look is not told what happens either.
#[test]
fn signals_are_for_who_may_look() {
    let Some(world) = World::new(CONNECTIONS, &[], true) else { return };
    let places = world.places();
    let polkit = world.polkit();
    let owner = world.lab.bus();
    let path = owner.lookup(TEST, "one");
    as_user(SOMEBODY, || {
        let bus = Bus::peer(&places.own);
        let mut signals = bus.listen();
        // It was answered, so it is listened to, if it is at all.
        bus.refused(&path, DOMAIN, "GetState", &(0u32,));
        let _: () = owner.call(&path, DOMAIN, "Create", &(0u32,));
        polkit.rule(MONITOR, Say::Yes);
        polkit.changed();
        eventually("leave to look", DEADLINE, || bus.try_call(&path, DOMAIN, "GetState", &(0u32,)).ok());
        let _: () = owner.call(&path, DOMAIN, "Destroy", &(0u32,));
        // started booted came before there was leave.
        assert_eq!(signals.domain_events(1, DEADLINE), [(5, 1)]);
    });
    drop(owner);
    world.finish();
}
