//! `<graphics>`.

use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::{Switch, YesNo, attrs, words};
use crate::error::{Code, Result};
use crate::types::text::nearest;
use crate::xml::{Node, Writer};

/// `<graphics>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Graphics {
    pub kind: GraphicsKind,
    /// `<listen>` elements; the attribute `listen` of vnc, spice and rdp is the address of the first.
    pub listens: Vec<Listen>,
}

/// `type` with what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub enum GraphicsKind {
    Vnc(Vnc),
    Spice(Box<Spice>),
    Sdl(Sdl),
    Rdp(Rdp),
    Desktop { display: Option<String>, fullscreen: Option<YesNo> },
    EglHeadless { rendernode: Option<String> },
    Dbus(DbusDisplay),
}

impl GraphicsKind {
    /// `type`.
    pub fn type_name(&self) -> &'static str {
        match self {
            GraphicsKind::Vnc(_) => "vnc",
            GraphicsKind::Spice(_) => "spice",
            GraphicsKind::Sdl(_) => "sdl",
            GraphicsKind::Rdp(_) => "rdp",
            GraphicsKind::Desktop { .. } => "desktop",
            GraphicsKind::EglHeadless { .. } => "egl-headless",
            GraphicsKind::Dbus(_) => "dbus",
        }
    }
}

/// `<graphics type='vnc'>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vnc {
    /// TCP port; `None` (written -1) with `autoport` until the driver chose one.
    pub port: Option<i32>,
    pub autoport: bool,
    /// Whether the port was chosen by the driver, so that an inactive definition does not show it.
    pub port_allocated: bool,
    pub websocket: Option<i32>,
    /// Whether the websocket port was chosen by the driver (written -1 when inactive).
    pub websocket_allocated: bool,
    pub keymap: Option<String>,
    pub share_policy: Option<SharePolicy>,
    pub power_control: Option<YesNo>,
    pub wait: Option<YesNo>,
    /// `<audio id>`.
    pub audio_id: Option<u32>,
    pub password: GraphicsPassword,
}

/// The secret of a display; written only with the SECURE flag.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GraphicsPassword {
    pub passwd: Option<String>,
    /// ISO 8601, UTC.
    pub valid_to: Option<String>,
    pub connected: Option<PasswordConnected>,
}

/// `<listen>`.
#[derive(Clone, Debug, PartialEq)]
pub enum Listen {
    Address {
        address: Option<String>,
    },
    Network {
        network: Option<String>,
        /// Live only.
        address: Option<String>,
    },
    Socket {
        socket: Option<String>,
        /// Whether the driver made the name up.
        auto: bool,
    },
    None,
}

words! {
    /// `sharePolicy`.
    pub enum SharePolicy { AllowExclusive = "allow-exclusive", ForceShared = "force-shared", Ignore = "ignore" }

    /// `connected`: what happens to a session when the password changes.
    pub enum PasswordConnected { Fail = "fail", Disconnect = "disconnect", Keep = "keep" }

    /// `defaultMode` and `mode` of spice channels.
    pub enum SpiceMode { Any = "any", Secure = "secure", Insecure = "insecure" }
}

/// `<graphics type='spice'>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spice {
    pub port: Option<i32>,
    pub tls_port: Option<i32>,
    pub autoport: bool,
    /// Whether the ports were chosen by the driver.
    pub port_allocated: bool,
    pub keymap: Option<String>,
    pub default_mode: Option<SpiceMode>,
    pub password: GraphicsPassword,
    /// `<channel>`: (name, mode).
    pub channels: Vec<(String, SpiceMode)>,
    /// `<image compression>` and its siblings, as libvirt's words.
    pub image_compression: Option<String>,
    pub jpeg_compression: Option<String>,
    pub zlib_compression: Option<String>,
    pub playback_compression: Option<Switch>,
    pub streaming_mode: Option<String>,
    pub mouse_mode: Option<String>,
    pub copypaste: Option<YesNo>,
    pub filetransfer_enable: Option<YesNo>,
    pub gl: Option<DisplayGl>,
}

attrs! {
    /// `<gl>`.
    pub struct DisplayGl {
        enable: YesNo = "enable",
        rendernode: String = "rendernode",
    }
}

/// `<graphics type='sdl'>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sdl {
    pub display: Option<String>,
    pub xauth: Option<String>,
    pub fullscreen: Option<YesNo>,
    pub gl: Option<DisplayGl>,
}

/// `<graphics type='rdp'>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rdp {
    pub port: Option<i32>,
    pub autoport: bool,
    pub replace_user: Option<YesNo>,
    pub multi_user: Option<YesNo>,
    pub username: Option<String>,
    /// Written only with the SECURE flag.
    pub passwd: Option<String>,
}

/// `<graphics type='dbus'>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DbusDisplay {
    pub p2p: Option<YesNo>,
    pub address: Option<String>,
    pub gl: Option<DisplayGl>,
    /// `<audio id>`.
    pub audio_id: Option<u32>,
}

const TYPES: &[&str] = &["vnc", "spice", "sdl", "rdp", "desktop", "egl-headless", "dbus"];

impl Graphics {
    /// Reads `<graphics>`. Errors: codes 27 and 67.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let kind = match node.attr("type").ok_or_else(|| node.missing_attr("type"))? {
            "vnc" => GraphicsKind::Vnc(Vnc::read(node)?),
            "spice" => GraphicsKind::Spice(Box::new(Spice::read(node)?)),
            "sdl" => GraphicsKind::Sdl(Sdl {
                display: node.attr("display").map(str::to_string),
                xauth: node.attr("xauth").map(str::to_string),
                fullscreen: node.attr_value("fullscreen")?,
                gl: node.child("gl").map(DisplayGl::read).transpose()?,
            }),
            "rdp" => {
                let (port, autoport, _) = read_port(node)?;
                GraphicsKind::Rdp(Rdp {
                    port,
                    autoport,
                    replace_user: node.attr_value("replaceUser")?,
                    multi_user: node.attr_value("multiUser")?,
                    username: node.attr("username").map(str::to_string),
                    passwd: node.attr("passwd").map(str::to_string),
                })
            }
            "desktop" => GraphicsKind::Desktop {
                display: node.attr("display").map(str::to_string),
                fullscreen: node.attr_value("fullscreen")?,
            },
            "egl-headless" => GraphicsKind::EglHeadless {
                rendernode: node.child("gl").and_then(|gl| gl.attr("rendernode")).map(str::to_string),
            },
            "dbus" => GraphicsKind::Dbus(DbusDisplay {
                p2p: node.attr_value("p2p")?,
                address: node.attr("address").map(str::to_string),
                gl: node.child("gl").map(DisplayGl::read).transpose()?,
                audio_id: read_audio(node)?,
            }),
            other => {
                let mut what = format!("Invalid value for attribute 'type' in element 'graphics': '{other}'.");
                if let Some(word) = nearest(other, TYPES.iter().copied()) {
                    what.push_str(&format!(" did you mean '{word}'?"));
                }
                return Err(node.attr_error("type", Code::XmlError, what));
            }
        };
        let listens = match kind {
            GraphicsKind::Vnc(_) | GraphicsKind::Spice(_) | GraphicsKind::Rdp(_) => read_listens(node)?,
            _ => Vec::new(),
        };
        let mut graphics = Graphics { kind, listens };
        if let GraphicsKind::Spice(spice) = &graphics.kind {
            // Without any port there is nothing to listen on.
            let silent = spice.port.is_none() && spice.tls_port.is_none() && !spice.autoport;
            if silent && graphics.listens == [Listen::Address { address: None }] {
                graphics.listens = vec![Listen::None];
            }
        }
        Ok(graphics)
    }

    /// The address that the attribute `listen` shows.
    pub fn listen_address(&self) -> Option<&str> {
        match self.listens.first() {
            Some(Listen::Address { address } | Listen::Network { address, .. }) => address.as_deref(),
            _ => None,
        }
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.start("graphics");
        w.attr("type", self.kind.type_name());
        match &self.kind {
            GraphicsKind::Vnc(vnc) => self.write_vnc(vnc, w, o),
            GraphicsKind::Spice(spice) => self.write_spice(spice, w, o),
            GraphicsKind::Sdl(sdl) => {
                w.attr_opt("display", sdl.display.as_ref());
                w.attr_opt("xauth", sdl.xauth.as_ref());
                w.attr_opt("fullscreen", sdl.fullscreen);
                if let Some(gl) = &sdl.gl {
                    gl.write("gl", w);
                }
            }
            GraphicsKind::Rdp(rdp) => {
                match rdp.port {
                    Some(port) if !(rdp.autoport && o.inactive) => w.attr("port", port),
                    _ if rdp.autoport => w.attr("port", 0),
                    _ => {}
                }
                if rdp.autoport {
                    w.attr("autoport", "yes");
                }
                w.attr_opt("replaceUser", rdp.replace_user);
                w.attr_opt("multiUser", rdp.multi_user);
                self.write_listen_attr(w, o);
                w.attr_opt("username", rdp.username.as_ref());
                w.attr_opt("passwd", rdp.passwd.as_ref().filter(|_| o.secure));
                self.write_listens(w, o);
            }
            GraphicsKind::Desktop { display, fullscreen } => {
                w.attr_opt("display", display.as_ref());
                w.attr_opt("fullscreen", *fullscreen);
            }
            GraphicsKind::EglHeadless { rendernode } => {
                w.element_unless_empty("gl", |w| w.attr_opt("rendernode", rendernode.as_ref()));
            }
            GraphicsKind::Dbus(dbus) => {
                w.attr_opt("p2p", dbus.p2p);
                w.attr_opt("address", dbus.address.as_ref());
                if let Some(gl) = &dbus.gl {
                    gl.write("gl", w);
                }
                if let Some(id) = dbus.audio_id {
                    w.element("audio", |w| w.attr("id", id));
                }
            }
        }
        w.end();
    }

    fn write_listen_attr(&self, w: &mut Writer, o: FormatOptions) {
        let live_only = matches!(self.listens.first(), Some(Listen::Network { .. }));
        if !(live_only && o.inactive) {
            w.attr_opt("listen", self.listen_address());
        }
    }

    fn write_vnc(&self, vnc: &Vnc, w: &mut Writer, o: FormatOptions) {
        match self.listens.first() {
            Some(Listen::Socket { socket, auto }) => {
                w.attr_opt("socket", socket.as_ref().filter(|_| !(*auto && o.inactive)));
            }
            Some(Listen::None) => {}
            _ => {
                match vnc.port {
                    Some(port) if !(vnc.autoport && o.inactive) => w.attr("port", port),
                    _ if vnc.autoport => w.attr("port", -1),
                    _ => {}
                }
                w.attr("autoport", YesNo::from(vnc.autoport));
                match vnc.websocket {
                    Some(_) if vnc.websocket_allocated && o.inactive => w.attr("websocket", -1),
                    port => w.attr_opt("websocket", port),
                }
                self.write_listen_attr(w, o);
            }
        }
        w.attr_opt("keymap", vnc.keymap.as_ref());
        w.attr_opt("sharePolicy", vnc.share_policy);
        w.attr_opt("powerControl", vnc.power_control);
        w.attr_opt("wait", vnc.wait);
        vnc.password.write(w, o);
        self.write_listens(w, o);
        if let Some(id) = vnc.audio_id {
            w.element("audio", |w| w.attr("id", id));
        }
    }

    fn write_spice(&self, spice: &Spice, w: &mut Writer, o: FormatOptions) {
        if !matches!(self.listens.first(), Some(Listen::Socket { .. } | Listen::None)) {
            if !(spice.autoport && o.inactive) {
                w.attr_opt("port", spice.port);
                w.attr_opt("tlsPort", spice.tls_port);
            }
            w.attr("autoport", YesNo::from(spice.autoport));
            self.write_listen_attr(w, o);
        }
        w.attr_opt("keymap", spice.keymap.as_ref());
        w.attr_opt("defaultMode", spice.default_mode);
        spice.password.write(w, o);
        self.write_listens(w, o);
        spice.write_children(w);
    }

    fn write_listens(&self, w: &mut Writer, o: FormatOptions) {
        for listen in &self.listens {
            w.element("listen", |w| match listen {
                Listen::Address { address } => {
                    w.attr("type", "address");
                    w.attr_opt("address", address.as_ref());
                }
                Listen::Network { network, address } => {
                    w.attr("type", "network");
                    w.attr_opt("address", address.as_ref().filter(|_| !o.inactive));
                    w.attr_opt("network", network.as_ref());
                }
                Listen::Socket { socket, auto } => {
                    w.attr("type", "socket");
                    w.attr_opt("socket", socket.as_ref().filter(|_| !(*auto && o.inactive)));
                }
                Listen::None => w.attr("type", "none"),
            });
        }
    }

    /// Drops what belongs to one run only.
    pub(crate) fn make_inactive(&mut self) {
        match &mut self.kind {
            GraphicsKind::Vnc(vnc) => {
                if vnc.autoport {
                    vnc.port = None;
                }
                vnc.port_allocated = false;
                if vnc.websocket_allocated {
                    vnc.websocket = Some(-1);
                    vnc.websocket_allocated = false;
                }
            }
            GraphicsKind::Spice(spice) if spice.autoport => {
                spice.port = None;
                spice.tls_port = None;
                spice.port_allocated = false;
            }
            GraphicsKind::Rdp(rdp) if rdp.autoport => rdp.port = None,
            _ => {}
        }
        for listen in &mut self.listens {
            match listen {
                Listen::Network { address, .. } => *address = None,
                Listen::Socket { socket, auto: auto @ true } => {
                    *socket = None;
                    *auto = false;
                }
                _ => {}
            }
        }
    }
}

/// Port, `autoport`, and whether the port given is a real one: -1 and 0 mean "choose".
fn read_port(node: Node<'_>) -> Result<(Option<i32>, bool, bool)> {
    let port: Option<i32> = node.attr_value("port")?;
    let autoport: Option<YesNo> = node.attr_value("autoport")?;
    let chosen = matches!(port, None | Some(-1));
    let auto = autoport.map_or(chosen, YesNo::is_yes);
    Ok((port.filter(|port| *port > 0), auto, !chosen))
}

/// `<audio id>`: the backend whose sound goes to this display.
fn read_audio(node: Node<'_>) -> Result<Option<u32>> {
    node.child("audio").map_or(Ok(None), |audio| audio.attr_value("id"))
}

impl Vnc {
    fn read(node: Node<'_>) -> Result<Self> {
        let port: Option<i32> = node.attr_value("port")?;
        let autoport: Option<YesNo> = node.attr_value("autoport")?;
        let auto = match port {
            None => autoport.is_none_or(YesNo::is_yes),
            Some(-1) => true,
            Some(_) => autoport.is_some_and(YesNo::is_yes),
        };
        Ok(Vnc {
            port: port.filter(|port| *port > 0),
            autoport: auto,
            port_allocated: false,
            websocket: node.attr_value("websocket")?,
            websocket_allocated: false,
            keymap: node.attr("keymap").map(str::to_string),
            share_policy: node.attr_value("sharePolicy")?,
            power_control: node.attr_value("powerControl")?,
            wait: node.attr_value("wait")?,
            audio_id: read_audio(node)?,
            password: GraphicsPassword::read(node)?,
        })
    }
}

impl GraphicsPassword {
    fn read(node: Node<'_>) -> Result<Self> {
        Ok(GraphicsPassword {
            passwd: node.attr("passwd").map(str::to_string),
            valid_to: node.attr("passwdValidTo").map(str::to_string),
            connected: node.attr_value("connected")?,
        })
    }

    fn write(&self, w: &mut Writer, o: FormatOptions) {
        if self.passwd.is_none() {
            return;
        }
        if o.secure {
            w.attr_opt("passwd", self.passwd.as_ref());
            w.attr_opt("passwdValidTo", self.valid_to.as_ref());
        }
        w.attr_opt("connected", self.connected);
    }
}

fn read_listens(node: Node<'_>) -> Result<Vec<Listen>> {
    let mut listens = Vec::new();
    for listen in node.children("listen") {
        let text = |name: &'static str| listen.attr(name).filter(|text| !text.is_empty()).map(str::to_string);
        listens.push(match listen.attr("type") {
            Some("address") => Listen::Address { address: text("address") },
            Some("network") => {
                if listen.attr("network").is_none() {
                    let what = "'network' attribute is required for listen type 'network'";
                    return Err(listen.error(Code::XmlError, what));
                }
                Listen::Network { network: text("network"), address: text("address") }
            }
            Some("socket") => Listen::Socket { socket: text("socket"), auto: false },
            Some("none") => Listen::None,
            Some(_) => return Err(listen.invalid_attr("type", None, &["none", "address", "network", "socket"])),
            None => return Err(listen.missing_attr("type")),
        });
    }
    let attr = node.attr("listen").filter(|text| !text.is_empty());
    let socket = node.attr("socket").filter(|text| !text.is_empty()).map(str::to_string);
    match (listens.first_mut(), attr) {
        (None, _) if socket.is_some() => listens.push(Listen::Socket { socket, auto: false }),
        (None, address) => listens.push(Listen::Address { address: address.map(str::to_string) }),
        (Some(Listen::Address { address }), Some(given)) => match address {
            Some(first) if first != given => {
                let what = format!(
                    "graphics 'listen' attribute '{given}' must match 'address' attribute of first listen element \
                     (found '{first}')"
                );
                return Err(node.attr_error("listen", Code::XmlError, what));
            }
            _ => *address = Some(given.to_string()),
        },
        _ => {}
    }
    Ok(listens)
}

impl Spice {
    fn read(node: Node<'_>) -> Result<Self> {
        let autoport: Option<YesNo> = node.attr_value("autoport")?;
        let port: Option<i32> = node.attr_value("port")?;
        let tls_port: Option<i32> = node.attr_value("tlsPort")?;
        let auto = autoport.map_or(port == Some(-1) && tls_port == Some(-1), YesNo::is_yes);
        let word = |child: &'static str, name: &'static str| {
            node.child(child).and_then(|child| child.attr(name)).map(str::to_string)
        };
        let mut channels = Vec::new();
        for channel in node.children("channel") {
            channels.push((channel.require("name")?, channel.require("mode")?));
        }
        Ok(Spice {
            port: port.filter(|port| *port != 0),
            tls_port: tls_port.filter(|port| *port != 0),
            autoport: auto,
            port_allocated: false,
            keymap: node.attr("keymap").map(str::to_string),
            default_mode: node.attr_value("defaultMode")?,
            password: GraphicsPassword::read(node)?,
            channels,
            image_compression: word("image", "compression"),
            jpeg_compression: word("jpeg", "compression"),
            zlib_compression: word("zlib", "compression"),
            playback_compression: node.child("playback").map_or(Ok(None), |n| n.attr_value("compression"))?,
            streaming_mode: word("streaming", "mode"),
            mouse_mode: word("mouse", "mode"),
            copypaste: node.child("clipboard").map_or(Ok(None), |n| n.attr_value("copypaste"))?,
            filetransfer_enable: node.child("filetransfer").map_or(Ok(None), |n| n.attr_value("enable"))?,
            gl: node.child("gl").map(DisplayGl::read).transpose()?,
        })
    }

    fn write_children(&self, w: &mut Writer) {
        // "any" is what a channel has that is not listed.
        for (name, mode) in self.channels.iter().filter(|(_, mode)| *mode != SpiceMode::Any) {
            w.element("channel", |w| {
                w.attr("name", name);
                w.attr("mode", mode);
            });
        }
        w.element_unless_empty("image", |w| w.attr_opt("compression", self.image_compression.as_ref()));
        w.element_unless_empty("jpeg", |w| w.attr_opt("compression", self.jpeg_compression.as_ref()));
        w.element_unless_empty("zlib", |w| w.attr_opt("compression", self.zlib_compression.as_ref()));
        w.element_unless_empty("playback", |w| w.attr_opt("compression", self.playback_compression));
        w.element_unless_empty("streaming", |w| w.attr_opt("mode", self.streaming_mode.as_ref()));
        w.element_unless_empty("mouse", |w| w.attr_opt("mode", self.mouse_mode.as_ref()));
        w.element_unless_empty("clipboard", |w| w.attr_opt("copypaste", self.copypaste));
        w.element_unless_empty("filetransfer", |w| w.attr_opt("enable", self.filetransfer_enable));
        if let Some(gl) = &self.gl {
            gl.write("gl", w);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;
    use rstest::rstest;

    fn again(xml: &str, o: FormatOptions) -> Result<String> {
        rewrite(xml, Graphics::read, |graphics, w| graphics.write(w, o))
    }

    #[rstest]
    #[case(
        "<graphics type='vnc' port='5900' autoport='yes' listen='127.0.0.1'>\n  \
            <listen type='address' address='127.0.0.1'/>\n</graphics>\n"
    )]
    #[case(
        "<graphics type='vnc' port='5903' autoport='no' websocket='5904' keymap='en-us' sharePolicy='ignore'>\n  \
            <listen type='address'/>\n</graphics>\n"
    )]
    #[case("<graphics type='vnc' socket='/s'>\n  <listen type='socket' socket='/s'/>\n</graphics>\n")]
    #[case("<graphics type='vnc'>\n  <listen type='none'/>\n</graphics>\n")]
    #[case(
        "<graphics type='spice' port='5901' tlsPort='5902' autoport='no' defaultMode='secure'>\n  \
            <listen type='address'/>\n  <channel name='main' mode='insecure'/>\n  <image compression='auto_glz'/>\n  \
            <clipboard copypaste='no'/>\n  <gl enable='yes' rendernode='/dev/dri/r'/>\n</graphics>\n"
    )]
    #[case("<graphics type='sdl' display=':0' fullscreen='no'/>\n")]
    #[case("<graphics type='egl-headless'>\n  <gl rendernode='/dev/dri/r'/>\n</graphics>\n")]
    fn round_trips(#[case] xml: &str) {
        assert_eq!(again(xml, FormatOptions::default()).expect("reads"), xml);
    }

    #[test]
    fn nova_s_short_form_is_normalised() {
        let written = again("<graphics type='vnc' autoport='yes' listen='127.0.0.1'/>", FormatOptions::default());
        assert_eq!(
            written.expect("reads"),
            "<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'>\n  \
             <listen type='address' address='127.0.0.1'/>\n</graphics>\n"
        );
    }

    #[test]
    fn ports_of_a_run_and_secrets_are_not_shown() {
        let xml = "<graphics type='vnc' port='5900' autoport='yes' passwd='s3'/>";
        let written = again(xml, FormatOptions { inactive: true, ..Default::default() }).expect("reads");
        assert!(written.contains("port='-1' autoport='yes'") && !written.contains("s3"), "{written}");
        let written = again(xml, FormatOptions { secure: true, ..Default::default() }).expect("reads");
        assert!(written.contains("port='5900'") && written.contains("passwd='s3'"), "{written}");
    }

    #[rstest]
    #[case("<graphics type='vcn'/>", "did you mean 'vnc'?")]
    #[case("<graphics type='vnc' port='x'/>", "attribute 'port' in element 'graphics': 'x'. Expected integer value")]
    #[case("<graphics type='vnc' listen='1.1.1.1'><listen type='address' address='2.2.2.2'/></graphics>", "must match")]
    #[case("<graphics type='vnc'><listen type='network'/></graphics>", "'network' attribute is required")]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let error = again(xml, FormatOptions::default()).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
    }
}
