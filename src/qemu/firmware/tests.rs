//! From a wish to a full description, on a small set of descriptors.

use rstest::rstest;

use super::*;
use crate::domain_xml::{FormatOptions, format, parse_inactive};

fn flash(mode: &str, code: &str, vars: &str, kind: &str, features: &str) -> Descriptor {
    let template = match mode {
        "split" => format!(r#","nvram-template":{{"filename":"/fw/{vars}","format":"{kind}"}}"#),
        _ => String::new(),
    };
    let text = format!(
        r#"{{"interface-types":["uefi"],"mapping":{{"device":"flash","mode":"{mode}",
        "executable":{{"filename":"/fw/{code}","format":"{kind}"}}{template}}},
        "targets":[{{"architecture":"x86_64","machines":["pc-q35-*"]}}],"features":[{features}]}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn choice() -> FirmwareChoice {
    let secure = r#""secure-boot","requires-smm""#;
    let bios = r#"{"interface-types":["bios"],"mapping":{"device":"memory","filename":"/fw/bios.bin"},
        "targets":[{"architecture":"x86_64","machines":["pc-*"]}]}"#;
    FirmwareChoice {
        descriptors: vec![
            flash("combined", "all.fd", "", "raw", ""),
            flash("split", "sb.qcow2", "sb-keys.qcow2", "qcow2", &format!(r#"{secure},"enrolled-keys","acpi-s3""#)),
            flash("split", "sb.fd", "sb.fd", "raw", secure),
            flash("split", "plain.fd", "plain.raw", "raw", r#""acpi-s3","amd-sev""#),
            flash("stateless", "sev.fd", "", "raw", r#""amd-sev","amd-sev-es""#),
            serde_json::from_str(bios).unwrap(),
        ],
        nvram_dir: "/nv".into(),
        new: true,
    }
}

/// The `<os>` and `<features>` that come out, in one line.
fn completed(os: &str, rest: &str, choice: &FirmwareChoice) -> Result<String> {
    let (attributes, children) = os.split_once('|').unwrap_or((os, ""));
    let xml = format!(
        "<domain type='kvm'><name>g</name><memory>1024</memory><os{attributes}><type arch='x86_64' \
         machine='pc-q35-9.0'>hvm</type>{children}</os>{rest}</domain>"
    );
    let mut def = parse_inactive(&xml)?.def;
    complete(&mut def, choice)?;
    let once = def.clone();
    complete(&mut def, choice)?;
    assert_eq!(def, once, "not idempotent");
    let text = format(&def, FormatOptions { inactive: true, ..Default::default() });
    let lines = text.lines().map(str::trim);
    let own = lines
        .filter(|line| ["<os", "<feature ", "<loader", "<nvram", "<smm"].iter().any(|start| line.starts_with(start)));
    Ok(own.collect::<Vec<_>>().join(""))
}

const SECURE: &str = "<os firmware='efi'><feature enabled='yes' name='enrolled-keys'/><feature enabled='yes' name='secure-boot'/>\
                      <loader readonly='yes' secure='yes' type='pflash' format='qcow2'>/fw/sb.qcow2</loader>\
                      <nvram template='/fw/sb-keys.qcow2' templateFormat='qcow2' format='qcow2'>/nv/g_VARS.qcow2</nvram>\
                      <smm state='on'/>";
const PLAIN: &str = "<os firmware='efi'><feature enabled='no' name='enrolled-keys'/><feature enabled='no' name='secure-boot'/>\
                     <loader readonly='yes' type='pflash' format='raw'>/fw/plain.fd</loader>\
                     <nvram template='/fw/plain.raw' templateFormat='raw' format='raw'>/nv/g_VARS.raw</nvram>";

#[rstest]
#[case::first(" firmware='efi'", "", SECURE)]
#[case::a_feature_refused(" firmware='efi'|<firmware><feature enabled='no' name='secure-boot'/></firmware>", "", PLAIN)]
#[case::no_smm(" firmware='efi'", "<features><smm state='off'/></features>", &format!("{PLAIN}<smm state='off'/>"))]
#[case::sleep(" firmware='efi'|<loader secure='no'/>", "<pm><suspend-to-mem enabled='yes'/></pm>", &PLAIN.replace("readonly='yes' ", "readonly='yes' secure='no' "))]
#[case::by_path("|<loader readonly='yes' type='pflash'>/fw/plain.fd</loader>", "", PLAIN)]
#[case::template(
    " firmware='efi'|<nvram template='/fw/sb.fd'/>",
    "",
    "<os firmware='efi'><feature enabled='no' name='enrolled-keys'/><feature enabled='yes' name='secure-boot'/>\
     <loader readonly='yes' secure='yes' type='pflash' format='raw'>/fw/sb.fd</loader>\
     <nvram template='/fw/sb.fd' templateFormat='raw' format='raw'>/nv/g_VARS.fd</nvram><smm state='on'/>"
)]
#[case::network(
    " firmware='efi'|<loader format='raw' secure='no'/><nvram type='network'><source protocol='nbd' name='v'><host name='h'/></source></nvram>",
    "",
    "<os firmware='efi'><feature enabled='no' name='secure-boot'/>\
     <loader readonly='yes' secure='no' type='pflash' format='raw'>/fw/plain.fd</loader><nvram type='network' format='raw'>"
)]
#[case::stateless(
    " firmware='efi'|<loader stateless='yes'/>",
    "",
    "<os firmware='efi'><feature enabled='no' name='enrolled-keys'/><feature enabled='no' name='secure-boot'/>\
     <loader readonly='yes' type='pflash' stateless='yes' format='raw'>/fw/sev.fd</loader>"
)]
#[case::bios(" firmware='bios'", "", "<os firmware='bios'><loader type='rom' format='raw'>/fw/bios.bin</loader>")]
#[case::rom("|<loader>/x</loader>", "", "<os><loader type='rom' format='raw'>/x</loader>")]
#[case::own_flash(
    "|<loader readonly='yes' type='pflash'>/x</loader>",
    "",
    "<os><loader readonly='yes' type='pflash' format='raw'>/x</loader><nvram format='raw'>/nv/g_VARS.fd</nvram>"
)]
#[case::legacy(
    "|<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>",
    "",
    "<os><loader readonly='yes' type='pflash' format='raw'>/usr/share/OVMF/OVMF_CODE.fd</loader>\
     <nvram template='/usr/share/OVMF/OVMF_VARS.fd' templateFormat='raw' format='raw'>/nv/g_VARS.fd</nvram>"
)]
#[case::nothing("", "", "<os>")]
fn chosen(#[case] os: &str, #[case] rest: &str, #[case] expected: &str) {
    assert_eq!(completed(os, rest, &choice()).unwrap(), expected);
}

#[rstest]
#[case(" firmware='efi'|<loader secure='yes'/>", "<features><smm state='off'/></features>")]
#[case(" firmware='efi'|<loader readonly='yes' type='pflash'>/x</loader>", "")]
#[case(" firmware='efi'|<loader readonly='no'/>", "")]
fn nothing_fits(#[case] os: &str, #[case] rest: &str) {
    let error = completed(os, rest, &choice()).unwrap_err();
    assert_eq!(error.code, Code::OperationFailed);
    assert!(error.detail.starts_with("Unable to find 'efi' firmware"), "{}", error.detail);
}

#[test]
fn a_guest_keeps_firmware_that_has_gone() {
    let gone = FirmwareChoice { new: false, ..FirmwareChoice::default() };
    let os = " firmware='efi'|<loader readonly='yes' type='pflash' format='raw'>/x</loader>";
    assert!(completed(os, "", &gone).unwrap().contains("/x</loader>"));
}
