//! `<channel>`.

use super::chardev::{CharKind, CharSource};
use super::info::DeviceInfo;
use crate::domain_xml::FormatOptions;
use crate::domain_xml::words::words;
use crate::error::{Code, Result};
use crate::xml::{Node, Writer};

/// `<channel>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    pub source: CharSource,
    pub target: ChannelTarget,
    pub info: DeviceInfo,
}

/// `<target>` of a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum ChannelTarget {
    Guestfwd {
        address: Option<String>,
        port: Option<u32>,
    },
    Virtio {
        name: Option<String>,
        /// Live only.
        state: Option<ChannelState>,
    },
    Xen {
        name: Option<String>,
        /// Live only.
        state: Option<ChannelState>,
    },
}

words! {
    /// Whether the guest has the port open.
    pub enum ChannelState { Connected = "connected", Disconnected = "disconnected" }
}

impl Channel {
    /// Reads `<channel>`. Errors: code 27.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let source = CharSource::read(node)?;
        let info = DeviceInfo::read(node)?;
        let target = node.child("target");
        let name = || target.and_then(|target| target.attr("name")).map(str::to_string);
        let state = || target.map_or(Ok(None), |target| target.attr_value("state"));
        let target = match target.and_then(|target| target.attr("type")) {
            Some("guestfwd") => ChannelTarget::Guestfwd {
                address: target.and_then(|target| target.attr("address")).map(str::to_string),
                port: target.map_or(Ok(None), |target| target.attr_value("port"))?,
            },
            Some("virtio") => ChannelTarget::Virtio { name: name(), state: state()? },
            Some("xen") => ChannelTarget::Xen { name: name(), state: state()? },
            Some(other) => {
                let what = format!("unknown target type '{other}' specified for character device");
                return Err(node.error(Code::XmlError, what));
            }
            None => {
                return Err(node.error(Code::XmlError, "target type must be specified for channel device"));
            }
        };
        Ok(Channel { source, target, info })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer, o: FormatOptions) {
        w.element("channel", |w| {
            w.attr("type", self.source.kind.type_name());
            self.source.write(w, o);
            w.element("target", |w| match &self.target {
                ChannelTarget::Guestfwd { address, port } => {
                    w.attr("type", "guestfwd");
                    w.attr_opt("address", address.as_ref());
                    w.attr_opt("port", *port);
                }
                ChannelTarget::Virtio { name, state } => {
                    w.attr("type", "virtio");
                    w.attr_opt("name", name.as_ref());
                    w.attr_opt("state", state.filter(|_| !o.inactive));
                }
                ChannelTarget::Xen { name, state } => {
                    w.attr("type", "xen");
                    w.attr_opt("name", name.as_ref());
                    w.attr_opt("state", state.filter(|_| !o.inactive));
                }
            });
            self.info.write(w, o);
        });
    }

    /// Drops what belongs to one run only.
    pub(crate) fn make_inactive(&mut self) {
        self.source.make_inactive();
        if let (ChannelTarget::Virtio { name: Some(name), .. }, CharKind::Unix { path, .. }) =
            (&self.target, &mut self.source.kind)
            && path.as_deref().is_some_and(|path| is_made_up(path, name))
        {
            *path = None;
        }
        self.info.make_inactive();
        if let ChannelTarget::Virtio { state, .. } | ChannelTarget::Xen { state, .. } = &mut self.target {
            *state = None;
        }
    }
}

/// Whether a socket's path is one that libvirt made up for a run: it holds the domain's number.
fn is_made_up(path: &str, name: &str) -> bool {
    let below =
        ["/var/lib/libvirt/qemu/channel/target/", "/run/libvirt/qemu/channel/", "/var/run/libvirt/qemu/channel/"]
            .iter()
            .find_map(|dir| path.strip_prefix(dir));
    let Some(own) = below.and_then(|rest| rest.strip_suffix(name)) else { return false };
    let domain = own
        .strip_suffix('/')
        .filter(|own| own.split('-').next().is_some_and(|first| first == "domain" || first.parse::<u32>().is_ok()));
    domain.or(own.strip_suffix('.')).is_some_and(|own| !own.is_empty() && !own.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;
    use rstest::rstest;

    #[rstest]
    #[case(
        "<channel type='unix'>\n  <source mode='bind' path='/s'/>\n  \
            <target type='virtio' name='org.qemu.guest_agent.0' state='connected'/>\n  \
            <address type='virtio-serial' controller='0' bus='0' port='1'/>\n</channel>\n"
    )]
    #[case("<channel type='spicevmc'>\n  <target type='virtio' name='com.redhat.spice.0'/>\n</channel>\n")]
    #[case(
        "<channel type='pipe'>\n  <source path='/p'/>\n  <target type='guestfwd' address='10.0.2.1' port='4600'/>\n</channel>\n"
    )]
    fn round_trips(#[case] xml: &str) {
        let written = rewrite(xml, Channel::read, |c, w| c.write(w, FormatOptions::default())).expect("reads");
        assert_eq!(written, xml);
    }

    #[rstest]
    #[case("/var/lib/libvirt/qemu/channel/target/domain-3-vm/org.q", true)]
    #[case("/var/lib/libvirt/qemu/channel/target/vm.org.q", true)]
    #[case("/run/libvirt/qemu/channel/3-vm/org.q", true)]
    #[case("/run/libvirt/qemu/channel/mine/org.q", false)]
    #[case("/var/lib/libvirt/qemu/channel/target/domain-3-vm/other", false)]
    #[case("/srv/org.q", false)]
    fn made_up_paths(#[case] path: &str, #[case] expected: bool) {
        assert_eq!(is_made_up(path, "org.q"), expected);
    }

    #[test]
    fn a_target_is_needed() {
        let error = rewrite("<channel type='pty'/>", Channel::read, |_, _| {}).expect_err("refused");
        assert!(error.detail.starts_with("target type must be specified"), "{}", error.detail);
    }
}
