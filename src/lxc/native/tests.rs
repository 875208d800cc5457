use super::*;
use crate::domain_xml::{FormatOptions, format};

const LEAST: &str = "lxc.rootfs.path = /r\nlxc.uts.name = web\n";

fn with(lines: &str) -> Result<DomainDef> {
    read(&format!("{LEAST}{lines}\n"))
}

#[test]
fn the_smallest_file() {
    let def = read(LEAST).unwrap();
    let xml = format(&def, FormatOptions { inactive: true, ..Default::default() });
    let uuid = def.uuid.unwrap();
    let expected = format!(
        "<domain type='lxc'>\n  <name>web</name>\n  <uuid>{uuid}</uuid>\n  <memory unit='KiB'>65536</memory>\n  \
         <currentMemory unit='KiB'>65536</currentMemory>\n  <vcpu placement='static'>1</vcpu>\n  <os>\n    \
         <type>exe</type>\n    <init>/sbin/init</init>\n  </os>\n  <features>\n    <privnet/>\n    \
         <capabilities policy='allow'/>\n  </features>\n  <clock offset='utc'/>\n  <on_poweroff>destroy</on_poweroff>\n  \
         <on_reboot>restart</on_reboot>\n  <on_crash>destroy</on_crash>\n  <devices>\n    \
         <filesystem type='mount' accessmode='passthrough'>\n      <source dir='/r'/>\n      <target dir='/'/>\n    \
         </filesystem>\n  </devices>\n</domain>\n"
    );
    assert_eq!(xml, expected);
}

#[test]
fn what_is_read_can_be_defined() {
    let def = with(
        "lxc.tty.max = 2\nlxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\nlxc.cap.drop = mknod sys_module\n\
         lxc.net.0.type = veth\nlxc.net.0.link = br0\nlxc.mount.entry = /srv srv none bind,ro 0 0\n\
         lxc.cgroup2.memory.max = 1G\nlxc.init.cmd = /bin/sh -c true\nlxc.environment = A=b=c",
    )
    .unwrap();
    let xml = format(&def, FormatOptions { inactive: true, secure: true, ..Default::default() });
    let again = crate::domain_xml::parse_inactive(&xml).unwrap();
    assert_eq!(again.warnings, []);
    assert_eq!(format(&again.def, FormatOptions { inactive: true, secure: true, ..Default::default() }), xml);
    assert_eq!(again.def.os.initargs, ["-c", "true"]);
    assert_eq!(again.def.os.initenvs, [("A".to_string(), "b=c".to_string())]);
}

#[test]
fn both_orders_of_an_id_map() {
    let range = |line: &str| with(line).unwrap().idmap.uids[0];
    assert_eq!(range("lxc.idmap = u 0 100000 65536"), IdRange { start: 0, target: 100_000, count: 65536 });
    assert_eq!(range("lxc.id_map = u 10000 0 2000"), IdRange { start: 0, target: 10_000, count: 2000 });
    assert_eq!(range("lxc.idmap = u 65536 300000 10"), IdRange { start: 65536, target: 300_000, count: 10 });
}

#[test]
fn kept_capabilities_are_all_there_is() {
    let kept = with("lxc.cap.keep = chown CAP_KILL").unwrap().features.capabilities.unwrap();
    assert_eq!(kept.policy, Some(CapabilitiesPolicy::Deny));
    assert_eq!(kept.caps, [("chown".to_string(), Switch::On), ("kill".to_string(), Switch::On)]);
    let dropped = with("lxc.cap.drop = mknod\nlxc.cap.drop = chown nonsense").unwrap().features.capabilities.unwrap();
    assert_eq!(dropped.caps, [("chown".to_string(), Switch::Off), ("mknod".to_string(), Switch::Off)]);
}

#[rstest::rstest]
#[case("lxc.uts.name = a", Code::InvalidArg, "names no root file system")]
#[case("lxc.rootfs = /r", Code::InvalidArg, "names no container")]
#[case("lxc.rootfs = /r\nlxc.utsname = a/b", Code::XmlError, "name a/b cannot contain '/'")]
#[case(
    "lxc.rootfs = /r\nlxc.utsname = a\nlxc.mount = /etc/fstab",
    Code::ArgumentUnsupported,
    "use lxc.mount.entry lines"
)]
#[case("lxc.rootfs = /r\nlxc.utsname = a\nlxc.tty = -1", Code::InternalError, "failed to parse integer: '-1'")]
#[case("lxc.rootfs = /r\nlxc.utsname = a\nlxc.tty = 4000000000", Code::InternalError, "more than 256")]
#[case("lxc.rootfs = /r\nlxc.utsname = a\nlxc.id_map = x 0 1 1", Code::InternalError, "invalid map 'x 0 1 1'")]
#[case("lxc.rootfs = /r\nlxc.utsname = a\nlxc.arch = sparc64\nlxc.idmap = u 0 1", Code::InternalError, "invalid map")]
#[case(
    "lxc.rootfs = /r\nlxc.utsname = a\nlxc.arch = s390x",
    Code::InvalidArg,
    "could not find capabilities for arch=s390x"
)]
#[case(
    "lxc.rootfs = /r\nlxc.utsname = a\nlxc.cgroup.memory.limit_in_bytes = 0",
    Code::XmlError,
    "Memory size must be specified"
)]
fn files_that_are_refused(#[case] text: &str, #[case] code: Code, #[case] why: &str) {
    let error = read(text).unwrap_err();
    assert_eq!(error.code, code, "{error}");
    assert!(error.message().contains(why), "{error}");
}
