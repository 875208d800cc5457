use std::path::PathBuf;

use rstest::rstest;

use super::*;
use crate::error::Code;

/// Attributes in one order, to compare.
fn comparable(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let mut pieces: Vec<&str> = line.trim().trim_end_matches("/>").split("' ").collect();
        pieces.iter_mut().for_each(|piece| *piece = piece.trim_end_matches('\''));
        let first = pieces[0].split_once(' ').map_or(vec![pieces[0]], |(name, attribute)| vec![name, attribute]);
        let mut all: Vec<&str> = first.into_iter().chain(pieces.into_iter().skip(1)).collect();
        all[1..].sort_unstable();
        all.join(" ")
    };
    text.lines().map(line).collect()
}

/// The corpus of documents, when there is one: each comes out as the expected document has it, or is refused as there.
#[test]
fn the_corpus_comes_out_as_expected() {
    let Some(corpus) = std::env::var_os("DOMUS_CORPUS").map(PathBuf::from) else { return };
    let index = std::fs::read_to_string(corpus.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let data = |name: &str| std::fs::read_to_string(corpus.join("data").join(name)).unwrap();
    let (mut accepted, mut refused, mut failed) = (0, 0, Vec::new());
    for case in index["cases"].as_array().unwrap() {
        let check = &case["checks"]["nwfilter-xml"];
        if check.is_null() {
            continue;
        }
        let input = data(case["input"].as_str().unwrap());
        match (FilterDef::parse(&input), check["expect"].as_str()) {
            (Err(_), None) => refused += 1,
            (Ok(def), Some(expected)) if comparable(&def.to_xml()) == comparable(&data(expected)) => accepted += 1,
            (Ok(def), _) => failed.push(format!("{}\n{}", case["id"], def.to_xml())),
            (Err(error), _) => failed.push(format!("{}: {error}", case["id"])),
        }
    }
    eprintln!("filters: {accepted} accepted, {refused} refused, {} otherwise", failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn all_kinds_of_values() {
    let xml = "<filter name='f' chain='ipv4-x' priority='-700'>
  <uuid>01a992d2-f8c8-7c27-f69b-ab0a9d377379</uuid>
  <filterref filter='other'>
    <parameter name='IP' value='10.0.0.1'/>
    <parameter name='IP' value='10.0.0.2'/>
  </filterref>
  <rule action='drop' direction='inout' priority='-5' statematch='false'>
    <tcp srcmacaddr='02:00:00:00:00:01' srcipaddr='$IP[@1]' state='NEW,ESTABLISHED' srcportstart='0x14' srcportend='30' flags='SYN,ACK/SYN'/>
  </rule>
  <rule action='accept' direction='in' priority='500'>
    <arp opcode='Request' arpsrcipaddr='$IP' gratuitous='true' comment='a &apos;b&apos;'/>
  </rule>
  <rule action='accept' direction='out' priority='500'>
    <ipv6 protocol='icmpv6' type='1' typeend='0xff'/>
    <ipv6 match='no' srcipaddr='fe80::1' srcipmask='64'/>
  </rule>
  <rule action='return' direction='out' priority='500'/>
</filter>
";
    let def = FilterDef::parse(xml).unwrap();
    assert_eq!(def.to_xml(), xml);
    assert_eq!(def.references().collect::<Vec<_>>(), ["other"]);
    assert!(FilterDef::validate(xml).is_ok());
    let error = FilterDef::validate(&xml.replace("gratuitous", "gratuitious")).unwrap_err();
    assert_eq!(error.code, Code::XmlInvalidSchema, "{error}");
}

#[rstest]
#[case("<foo/>", "expecting root element of 'filter', not 'foo'")]
#[case("<filter/>", "filter has no name")]
#[case("<filter name='x' chain='foo'/>", "Invalid chain name 'foo'.")]
#[case("<filter name='x' chain='root-x'/>", "Invalid chain name 'root-x'.")]
#[case("<filter name='x' chain='arp x'/>", "Chain name contains invalid characters")]
#[case("<filter name='x' priority='1001'/>", "Priority '1001' is outside valid range of [-1000,1000]")]
#[case("<filter name='x'><uuid>y</uuid></filter>", "malformed uuid element")]
#[case("<filter name='x'><rule/></filter>", "rule node requires action attribute")]
#[case("<filter name='x'><rule action='q' direction='in'/></filter>", "unknown rule action attribute value")]
#[case("<filter name='x'><rule action='drop'/></filter>", "rule node requires direction attribute")]
fn refused_as_libvirt_does(#[case] xml: &str, #[case] start: &str) {
    let error = FilterDef::parse(xml).unwrap_err();
    assert!(error.detail.starts_with(start), "{error}");
}

#[rstest]
#[case("tcp", "dstportend", "65536")]
#[case("tcp", "dscp", "64")]
#[case("tcp", "srcipaddr", "1.2.3")]
#[case("tcp", "srcipmask", "33")]
#[case("tcp", "srcipmask", "255.0.255.0")]
#[case("tcp", "srcipaddr", "$A[x]")]
#[case("tcp", "state", "OLD")]
#[case("tcp", "flags", "SYN")]
#[case("tcp", "ipset", "a/b")]
#[case("tcp", "ipsetflags", "up")]
#[case("mac", "srcmacaddr", "1:2:3:4:5")]
#[case("mac", "srcmacmask", "ff:00:ff:00:00:00")]
#[case("mac", "protocolid", "0x5ff")]
#[case("vlan", "vlanid", "4096")]
#[case("ip", "protocol", "256")]
#[case("arp", "gratuitous", "maybe")]
#[case("tcp-ipv6", "srcipaddr", "10.0.0.1")]
fn illegal_values_are_named(#[case] protocol: &str, #[case] name: &str, #[case] value: &str) {
    let xml =
        format!("<filter name='x'><rule action='drop' direction='in'><{protocol} {name}='{value}'/></rule></filter>");
    let error = FilterDef::parse(&xml).unwrap_err();
    assert!(error.detail.starts_with(&format!("{name} has illegal value {value}")), "{error}");
}

const SEED: &str = "<filter name='f' chain='ipv4-x' priority='-7'><uuid>01a992d2-f8c8-7c27-f69b-ab0a9d377379</uuid><filterref \
                    filter='o'><parameter name='IP' value='10.0.0.1'/></filterref><rule action='drop' direction='in' \
                    priority='5' statematch='0'><tcp match='no' srcmacaddr='2:0:0:0:0:1' srcipaddr='$IP[@1]' state='NEW' \
                    srcportstart='0x14' flags='SYN/SYN' dscp='6'/><tcp ipset='a' ipsetflags='src'/></rule></filter>";

/// Every document that differs from a good one in a byte is read or refused, never worse; what is read is written so that
/// it reads back the same.
#[test]
fn broken_documents_do_no_harm() {
    for (at, _) in SEED.char_indices() {
        let (before, after) = SEED.split_at(at);
        let mut rest = after.chars();
        rest.next();
        for put in ["", "'", "<", "/", "$", "9999999999", "\u{e9}"] {
            let text = format!("{before}{put}{}", rest.as_str());
            if let Ok(def) = FilterDef::parse(&text) {
                let written = def.to_xml();
                let again = FilterDef::parse(&written).unwrap_or_else(|error| panic!("{text}\n{written}: {error}"));
                assert_eq!(again.to_xml(), written, "{text}");
            }
        }
    }
}
