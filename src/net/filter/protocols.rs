//! Which attributes the element of each protocol has, in libvirt's order.

use super::value::{ARP_OPCODE, ETHERNET, Form, IP_PROTOCOL};

/// An attribute, and the one whose negation it shares where the two say one thing together.
pub(super) type Attribute = (&'static str, Form, Option<&'static str>);

const BYTE: Form = Form::Number(0xff);
const SHORT: Form = Form::Number(0xffff);
const LONG: Form = Form::Number(u32::MAX);

const COMMENT: Attribute = ("comment", Form::Comment, None);

const LINK: &[Attribute] = &[
    ("srcmacaddr", Form::Mac, None),
    ("srcmacmask", Form::MacMask, Some("srcmacaddr")),
    ("dstmacaddr", Form::Mac, None),
    ("dstmacmask", Form::MacMask, Some("dstmacaddr")),
];

const MAC: &[Attribute] = &[("protocolid", ETHERNET, None), COMMENT];

const VLAN: &[Attribute] = &[("vlanid", Form::Number(4095), None), ("encap-protocol", ETHERNET, None), COMMENT];

const STP: &[Attribute] = &[
    ("srcmacaddr", Form::Mac, None),
    ("srcmacmask", Form::MacMask, Some("srcmacaddr")),
    ("type", BYTE, None),
    ("flags", BYTE, None),
    ("root-priority", SHORT, None),
    ("root-priority-hi", SHORT, Some("root-priority")),
    ("root-address", Form::Mac, None),
    ("root-address-mask", Form::MacMask, Some("root-address")),
    ("root-cost", LONG, None),
    ("root-cost-hi", LONG, Some("root-cost")),
    ("sender-priority", SHORT, None),
    ("sender-priority-hi", SHORT, Some("sender-priority")),
    ("sender-address", Form::Mac, None),
    ("sender-address-mask", Form::MacMask, Some("sender-address")),
    ("port", SHORT, None),
    ("port-hi", SHORT, Some("port")),
    ("age", SHORT, None),
    ("age-hi", SHORT, Some("age")),
    ("max-age", SHORT, None),
    ("max-age-hi", SHORT, Some("max-age")),
    ("hello-time", SHORT, None),
    ("hello-time-hi", SHORT, Some("hello-time")),
    ("forward-delay", SHORT, None),
    ("forward-delay-hi", SHORT, Some("forward-delay")),
    COMMENT,
];

const ARP: &[Attribute] = &[
    ("hwtype", SHORT, None),
    ("protocoltype", SHORT, None),
    ("opcode", ARP_OPCODE, None),
    ("arpsrcmacaddr", Form::Mac, None),
    ("arpdstmacaddr", Form::Mac, None),
    ("arpsrcipaddr", Form::Ipv4, None),
    ("arpsrcipmask", Form::Ipv4Mask, Some("arpsrcipaddr")),
    ("arpdstipaddr", Form::Ipv4, None),
    ("arpdstipmask", Form::Ipv4Mask, Some("arpdstipaddr")),
    ("gratuitous", Form::Boolean, None),
    COMMENT,
];

const PORTS: &[Attribute] = &[
    ("srcportstart", SHORT, None),
    ("srcportend", SHORT, Some("srcportstart")),
    ("dstportstart", SHORT, Some("srcportstart")),
    ("dstportend", SHORT, Some("srcportstart")),
];

const IPV4: &[Attribute] = &[
    ("srcipaddr", Form::Ipv4, None),
    ("srcipmask", Form::Ipv4Mask, Some("srcipaddr")),
    ("dstipaddr", Form::Ipv4, None),
    ("dstipmask", Form::Ipv4Mask, Some("dstipaddr")),
];

const IPV6: &[Attribute] = &[
    ("srcipaddr", Form::Ipv6, None),
    ("srcipmask", Form::Ipv6Mask, Some("srcipaddr")),
    ("dstipaddr", Form::Ipv6, None),
    ("dstipmask", Form::Ipv6Mask, Some("dstipaddr")),
];

const IP_PROTO: &[Attribute] = &[("protocol", IP_PROTOCOL, None)];

const DSCP: Attribute = ("dscp", Form::Number(63), None);

const SOURCE_MAC: &[Attribute] = &[("srcmacaddr", Form::Mac, None)];

const RANGE4: &[Attribute] = &[
    ("srcipfrom", Form::Ipv4, None),
    ("srcipto", Form::Ipv4, Some("srcipfrom")),
    ("dstipfrom", Form::Ipv4, None),
    ("dstipto", Form::Ipv4, Some("dstipfrom")),
];

const RANGE6: &[Attribute] = &[
    ("srcipfrom", Form::Ipv6, None),
    ("srcipto", Form::Ipv6, Some("srcipfrom")),
    ("dstipfrom", Form::Ipv6, None),
    ("dstipto", Form::Ipv6, Some("dstipfrom")),
];

const CONNECTION: &[Attribute] = &[
    DSCP,
    ("connlimit-above", SHORT, None),
    ("state", Form::State, None),
    ("ipset", Form::IpSet, None),
    ("ipsetflags", Form::IpSetFlags, Some("ipset")),
];

const TCP: &[Attribute] = &[("option", BYTE, None), ("flags", Form::TcpFlags, None)];

const ICMP: &[Attribute] = &[("type", BYTE, None), ("code", BYTE, None)];

const ICMP_RANGE: &[Attribute] =
    &[("type", BYTE, None), ("typeend", BYTE, Some("type")), ("code", BYTE, None), ("codeend", BYTE, Some("code"))];

const DSCP_ONLY: &[Attribute] = &[DSCP];
const REMARK: &[Attribute] = &[COMMENT];

/// A protocol: the name of its element, and its attributes in parts that others have as well.
pub(super) struct Protocol {
    pub name: &'static str,
    parts: &'static [&'static [Attribute]],
}

impl Protocol {
    /// Its attributes, in order.
    pub fn attributes(&self) -> impl Iterator<Item = &'static Attribute> {
        self.parts.iter().flat_map(|part| part.iter())
    }
}

const fn protocol(name: &'static str, parts: &'static [&'static [Attribute]]) -> Protocol {
    Protocol { name, parts }
}

pub(super) static PROTOCOLS: [Protocol; 24] = [
    protocol("mac", &[LINK, MAC]),
    protocol("vlan", &[LINK, VLAN]),
    protocol("stp", &[STP]),
    protocol("arp", &[LINK, ARP]),
    protocol("rarp", &[LINK, ARP]),
    protocol("ip", &[LINK, IPV4, IP_PROTO, PORTS, DSCP_ONLY, REMARK]),
    protocol("ipv6", &[LINK, IPV6, IP_PROTO, PORTS, ICMP_RANGE, REMARK]),
    protocol("tcp", &[SOURCE_MAC, IPV4, RANGE4, CONNECTION, PORTS, TCP, REMARK]),
    protocol("udp", &[SOURCE_MAC, IPV4, RANGE4, CONNECTION, PORTS, REMARK]),
    protocol("sctp", &[SOURCE_MAC, IPV4, RANGE4, CONNECTION, PORTS, REMARK]),
    protocol("udplite", &[SOURCE_MAC, IPV4, RANGE4, CONNECTION, REMARK]),
    protocol("esp", &[SOURCE_MAC, IPV4, RANGE4, CONNECTION, REMARK]),
    protocol("ah", &[SOURCE_MAC, IPV4, RANGE4, CONNECTION, REMARK]),
    protocol("icmp", &[SOURCE_MAC, IPV4, RANGE4, CONNECTION, ICMP, REMARK]),
    protocol("igmp", &[SOURCE_MAC, IPV4, RANGE4, CONNECTION, REMARK]),
    protocol("all", &[SOURCE_MAC, IPV4, RANGE4, CONNECTION, REMARK]),
    protocol("tcp-ipv6", &[SOURCE_MAC, IPV6, RANGE6, CONNECTION, PORTS, TCP, REMARK]),
    protocol("udp-ipv6", &[SOURCE_MAC, IPV6, RANGE6, CONNECTION, PORTS, REMARK]),
    protocol("sctp-ipv6", &[SOURCE_MAC, IPV6, RANGE6, CONNECTION, PORTS, REMARK]),
    protocol("udplite-ipv6", &[SOURCE_MAC, IPV6, RANGE6, CONNECTION, REMARK]),
    protocol("esp-ipv6", &[SOURCE_MAC, IPV6, RANGE6, CONNECTION, REMARK]),
    protocol("ah-ipv6", &[SOURCE_MAC, IPV6, RANGE6, CONNECTION, REMARK]),
    protocol("icmpv6", &[SOURCE_MAC, IPV6, RANGE6, CONNECTION, ICMP, REMARK]),
    protocol("all-ipv6", &[SOURCE_MAC, IPV6, RANGE6, CONNECTION, REMARK]),
];

/// The protocol whose element has this name.
pub(super) fn find(name: &str) -> Option<&'static Protocol> {
    PROTOCOLS.iter().find(|protocol| protocol.name == name)
}

/// What the name of a chain begins with.
pub(super) const CHAINS: [&str; 8] = ["root", "mac", "vlan", "stp", "arp", "rarp", "ipv4", "ipv6"];
