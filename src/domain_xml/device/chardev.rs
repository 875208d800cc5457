//! The host side of character devices: serial, parallel, console, channel, redirdev, smartcard, rng.

use crate::domain_xml::FormatOptions;
use crate::domain_xml::seclabel::DeviceSeclabel;
use crate::domain_xml::words::{Switch, YesNo, attrs, words};
use crate::error::{Code, Result};
use crate::xml::{Node, Writer};

/// The host side: `type`, `<source>`, `<protocol>`, `<log>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CharSource {
    pub kind: CharKind,
    pub log: Option<CharLog>,
    pub seclabels: Vec<DeviceSeclabel>,
}

/// `type` with its `<source>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum CharKind {
    Null,
    Vc,
    /// Live only: the slave's path.
    Pty {
        path: Option<String>,
    },
    Dev {
        path: String,
    },
    File {
        path: String,
        append: Option<Switch>,
    },
    Pipe {
        path: String,
    },
    #[default]
    Stdio,
    Udp(UdpSource),
    Tcp(TcpSource),
    /// `path` may be absent: the driver chooses one.
    Unix {
        path: Option<String>,
        listen: bool,
        reconnect: Option<Reconnect>,
    },
    Spicevmc,
    Spiceport {
        channel: String,
    },
    Nmdm {
        master: String,
        slave: String,
    },
    QemuVdagent {
        clipboard: Option<YesNo>,
        mouse: Option<String>,
    },
    Dbus {
        channel: Option<String>,
    },
}

impl CharKind {
    /// `type`.
    pub fn type_name(&self) -> &'static str {
        match self {
            CharKind::Null => "null",
            CharKind::Vc => "vc",
            CharKind::Pty { .. } => "pty",
            CharKind::Dev { .. } => "dev",
            CharKind::File { .. } => "file",
            CharKind::Pipe { .. } => "pipe",
            CharKind::Stdio => "stdio",
            CharKind::Udp(_) => "udp",
            CharKind::Tcp(_) => "tcp",
            CharKind::Unix { .. } => "unix",
            CharKind::Spicevmc => "spicevmc",
            CharKind::Spiceport { .. } => "spiceport",
            CharKind::Nmdm { .. } => "nmdm",
            CharKind::QemuVdagent { .. } => "qemu-vdagent",
            CharKind::Dbus { .. } => "dbus",
        }
    }
}

/// A TCP source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TcpSource {
    pub host: String,
    pub service: String,
    /// `mode='bind'`.
    pub listen: bool,
    pub protocol: TcpProtocol,
    pub tls: Option<YesNo>,
    pub reconnect: Option<Reconnect>,
}

/// A UDP source: where it listens and where it sends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UdpSource {
    pub bind_host: Option<String>,
    pub bind_service: Option<String>,
    pub connect_host: Option<String>,
    pub connect_service: Option<String>,
}

words! {
    /// `<protocol type>`.
    pub enum TcpProtocol { Raw = "raw", Telnet = "telnet", Telnets = "telnets", Tls = "tls" }
}

attrs! {
    /// `<reconnect>`.
    pub struct Reconnect {
        enabled: YesNo = "enabled",
        /// Seconds.
        timeout: u32 = "timeout",
    }

    /// `<log>`.
    pub struct CharLog {
        file: String = "file",
        append: Switch = "append",
    }
}

/// Every `type` there is.
const TYPES: &[&str] = &[
    "null",
    "vc",
    "pty",
    "dev",
    "file",
    "pipe",
    "stdio",
    "udp",
    "tcp",
    "unix",
    "spicevmc",
    "spiceport",
    "nmdm",
    "qemu-vdagent",
    "dbus",
];

impl CharSource {
    /// Reads the host side of `node`, whose `type` attribute is `kind`. Errors: codes 27 and 67.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        match node.attr("type") {
            Some(kind) => Self::read_as(node, kind),
            None => Self::read_as(node, "pty"),
        }
    }

    /// The same with the type given.
    pub(crate) fn read_as(node: Node<'_>, kind: &str) -> Result<Self> {
        let sources: Vec<Node<'_>> = node.children("source").collect();
        let first = sources.first().copied();
        let attr = |name: &'static str| first.and_then(|source| source.attr(name)).map(str::to_string);
        let path = || attr("path").filter(|path| !path.is_empty());
        let need_path =
            || path().ok_or_else(|| node.error(Code::InternalError, "Missing source path attribute for char device"));
        let kind = match kind {
            "null" => CharKind::Null,
            "vc" => CharKind::Vc,
            "stdio" => CharKind::Stdio,
            "spicevmc" => CharKind::Spicevmc,
            "pty" => CharKind::Pty { path: path() },
            "dev" => CharKind::Dev { path: need_path()? },
            "pipe" => CharKind::Pipe { path: need_path()? },
            "file" => {
                let append = match first {
                    Some(source) => source.attr_value("append")?,
                    None => None,
                };
                CharKind::File { path: need_path()?, append }
            }
            "unix" => CharKind::Unix {
                path: path(),
                listen: attr("mode").as_deref() == Some("bind"),
                reconnect: read_reconnect(first)?,
            },
            "tcp" => CharKind::Tcp(read_tcp(node, first)?),
            "udp" => CharKind::Udp(read_udp(node, &sources)?),
            "spiceport" => {
                let channel = attr("channel");
                let what = "Missing source channel attribute for char device";
                CharKind::Spiceport { channel: channel.ok_or_else(|| node.error(Code::ConfigUnsupported, what))? }
            }
            "nmdm" => match (attr("master"), attr("slave")) {
                (Some(master), Some(slave)) => CharKind::Nmdm { master, slave },
                _ => {
                    let what = "Should define both master and slave path attributes for nmdm device";
                    return Err(node.error(Code::InternalError, what));
                }
            },
            "qemu-vdagent" => CharKind::QemuVdagent {
                clipboard: match first.and_then(|source| source.child("clipboard")) {
                    Some(clipboard) => clipboard.attr_value("copypaste")?,
                    None => None,
                },
                mouse: first.and_then(|s| s.child("mouse")).and_then(|m| m.attr("mode")).map(str::to_string),
            },
            "dbus" => CharKind::Dbus { channel: attr("channel") },
            other => {
                let hint = crate::types::text::nearest(other, TYPES.iter().copied());
                let hint = hint.map(|word| format!("; did you mean '{word}'?")).unwrap_or_default();
                let what = format!("unknown type presented to host for character device: {other}{hint}");
                return Err(node.attr_error("type", Code::ConfigUnsupported, what));
            }
        };
        let log = match node.child("log") {
            Some(log) => {
                let log_value = CharLog::read(log)?;
                if log_value.file.is_none() {
                    return Err(log.missing_attr("file"));
                }
                Some(log_value)
            }
            None => None,
        };
        let seclabels = first.map(DeviceSeclabel::read_all).transpose()?.unwrap_or_default();
        Ok(CharSource { kind, log, seclabels })
    }

    /// Writes `<source>`, `<protocol>` and `<log>`.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        match &self.kind {
            CharKind::Null | CharKind::Vc | CharKind::Stdio | CharKind::Spicevmc => {}
            CharKind::Pty { path } => {
                if let Some(path) = path.as_ref().filter(|_| !o.inactive) {
                    self.write_source(w, o, |w| w.attr("path", path));
                }
            }
            CharKind::Dev { path } | CharKind::Pipe { path } => self.write_source(w, o, |w| w.attr("path", path)),
            CharKind::File { path, append } => self.write_source(w, o, |w| {
                w.attr("path", path);
                w.attr_opt("append", *append);
            }),
            CharKind::Unix { path, listen, reconnect } => {
                let Some(path) = path else { return self.write_log(w) };
                self.write_source(w, o, |w| {
                    w.attr("mode", if *listen { "bind" } else { "connect" });
                    w.attr("path", path);
                    if let Some(reconnect) = reconnect {
                        reconnect.write("reconnect", w);
                    }
                });
            }
            CharKind::Tcp(tcp) => {
                self.write_source(w, o, |w| {
                    w.attr("mode", if tcp.listen { "bind" } else { "connect" });
                    w.attr("host", &tcp.host);
                    w.attr("service", &tcp.service);
                    w.attr_opt("tls", tcp.tls);
                    if let Some(reconnect) = &tcp.reconnect {
                        reconnect.write("reconnect", w);
                    }
                });
                w.element("protocol", |w| w.attr("type", tcp.protocol));
            }
            CharKind::Udp(udp) => {
                let sides =
                    [("bind", &udp.bind_host, &udp.bind_service), ("connect", &udp.connect_host, &udp.connect_service)];
                for (mode, host, service) in sides {
                    if host.is_some() || service.is_some() {
                        w.element("source", |w| {
                            w.attr("mode", mode);
                            w.attr_opt("host", host.as_ref());
                            w.attr_opt("service", service.as_ref());
                        });
                    }
                }
            }
            CharKind::Spiceport { channel } => self.write_source(w, o, |w| w.attr("channel", channel)),
            CharKind::Nmdm { master, slave } => self.write_source(w, o, |w| {
                w.attr("master", master);
                w.attr("slave", slave);
            }),
            CharKind::QemuVdagent { clipboard, mouse } => w.element_unless_empty("source", |w| {
                w.element_unless_empty("clipboard", |w| w.attr_opt("copypaste", *clipboard));
                w.element_unless_empty("mouse", |w| w.attr_opt("mode", mouse.as_ref()));
            }),
            CharKind::Dbus { channel } => {
                w.element_unless_empty("source", |w| w.attr_opt("channel", channel.as_ref()));
            }
        }
        self.write_log(w);
    }

    fn write_source(&self, w: &mut Writer, o: FormatOptions, fill: impl FnOnce(&mut Writer)) {
        w.element("source", |w| {
            fill(w);
            for label in &self.seclabels {
                label.write(w, o);
            }
        });
    }

    fn write_log(&self, w: &mut Writer) {
        if let Some(log) = &self.log {
            log.write("log", w);
        }
    }

    /// Drops what belongs to one run only.
    pub(crate) fn make_inactive(&mut self) {
        if let CharKind::Pty { path } = &mut self.kind {
            *path = None;
        }
    }
}

fn read_reconnect(source: Option<Node<'_>>) -> Result<Option<Reconnect>> {
    source.and_then(|source| source.child("reconnect")).map(Reconnect::read).transpose()
}

fn read_tcp(node: Node<'_>, source: Option<Node<'_>>) -> Result<TcpSource> {
    let attr = |name: &'static str| source.and_then(|source| source.attr(name)).map(str::to_string);
    let listen = attr("mode").as_deref() == Some("bind");
    let what = "Missing source host attribute for char device";
    let host = attr("host").ok_or_else(|| node.error(Code::InternalError, what))?;
    let what = "Missing source service attribute for char device";
    let service = attr("service").ok_or_else(|| node.error(Code::InternalError, what))?;
    let tls = match source {
        Some(source) => source.attr_value("tls")?,
        None => None,
    };
    let protocol = match node.child("protocol") {
        Some(protocol) => protocol.attr_value("type")?.unwrap_or_default(),
        None => TcpProtocol::Raw,
    };
    Ok(TcpSource { host, service, listen, protocol, tls, reconnect: read_reconnect(source)? })
}

fn read_udp(node: Node<'_>, sources: &[Node<'_>]) -> Result<UdpSource> {
    let mut udp = UdpSource::default();
    for source in sources {
        let host = source.attr("host").map(str::to_string);
        let service = source.attr("service").map(str::to_string);
        let bind = source.attr("mode") == Some("bind");
        let taken = if bind { &udp.bind_service } else { &udp.connect_service };
        if taken.is_some() {
            let what = "only one source element of each mode is allowed for a udp character device";
            return Err(source.error(Code::XmlError, what));
        }
        if bind {
            (udp.bind_host, udp.bind_service) = (host, service);
        } else {
            (udp.connect_host, udp.connect_service) = (host, service);
        }
    }
    if udp.connect_service.is_none() {
        return Err(node.error(Code::InternalError, "Missing source service attribute for char device"));
    }
    Ok(udp)
}
