//! What the daemon thinks of XML is told with file, line and column; what it refuses, with libvirt's code and a place.

use super::harness::{Lab, xml};

fn doubtful() -> String {
    xml("vm1").replace("<vcpu>1</vcpu>", "<vcpuu>1</vcpuu>")
}

#[test]
fn define_warns_and_defines() {
    let lab = Lab::new();
    let file = lab.write("d.xml", &doubtful());
    let out = lab.run(&["define", &file]);
    assert_eq!((out.code, out.stdout.as_str()), (Some(0), &*format!("Domain 'vm1' defined from {file}\n\n")));
    assert!(out.stderr.starts_with(&format!("warning: {file}:5:")), "{}", out.stderr);
    assert!(out.stderr.contains("vcpuu"), "{}", out.stderr);
}

#[test]
fn validate_refuses_what_would_be_a_warning() {
    let lab = Lab::new();
    let file = lab.write("d.xml", &doubtful());
    for command in ["define", "create"] {
        let out = lab.run(&[command, &file, "--validate"]);
        assert_eq!(out.code, Some(1), "{command}");
        assert!(out.stderr.contains(&format!("error: Failed to {command} domain from {file}\n")), "{}", out.stderr);
    }
    assert_eq!(lab.ok(&["list", "--all", "--name"]), "\n");
    let good = lab.write("g.xml", &xml("vm1"));
    lab.ok(&["define", &good, "--validate"]);
}

#[test]
fn xml_check_tells_and_counts() {
    let lab = Lab::new();
    let good = lab.write("g.xml", &xml("vm1"));
    assert_eq!(lab.ok(&["xml", "check", &good]), "\n");
    let file = lab.write("d.xml", &doubtful());
    let out = lab.run(&["xml", "check", &file]);
    assert_eq!((out.code, out.stderr.as_str()), (Some(1), ""));
    assert!(out.stdout.starts_with(&format!("{file}:5:")), "{}", out.stdout);
    assert!(out.stdout.contains("did you mean 'vcpu'?"), "{}", out.stdout);
    let bad = lab.write("b.xml", "<domain type='test'>");
    let out = lab.run(&["xml", "check", &bad]);
    let expected = format!(
        "{bad}:1:21: error: Premature end of data in tag domain line 1\n 1 | <domain type='test'>\n   |                     ^\n\n"
    );
    assert_eq!((out.code, out.stdout, out.stderr.as_str()), (Some(1), expected, ""));
}

#[test]
fn xml_check_tells_everything_at_once() {
    let lab = Lab::new();
    let devices = "<disk type='fil'><target dev='vda'/></disk>\n<dsk/>\n<disk snapshot='maybe'>\
                   <target dev='vdb' bus='virtoi'/></disk>\n</devices>";
    let broken = doubtful().replace("</devices>", devices);
    let file = lab.write("d.xml", &broken);
    let out = lab.run(&["xml", "check", &file]);
    assert_eq!((out.code, out.stderr.as_str()), (Some(1), ""));
    for part in ["'vcpuu'", "'fil'", "'dsk'", "did you mean 'disk'?", "'maybe'", "did you mean 'virtio'?"] {
        assert!(out.stdout.contains(part), "{part} is not in {}", out.stdout);
    }
    let carets = out.stdout.lines().filter(|line| line.trim_end().ends_with('^')).count();
    assert_eq!(carets, 5, "{}", out.stdout);
    let json = lab.run(&["--json", "xml", "check", &file]).stdout;
    let found = &serde_json::from_str::<serde_json::Value>(&json).unwrap()["warnings"];
    assert_eq!(found.as_array().map(Vec::len), Some(5), "{found}");
}

#[test]
fn validate_names_every_place() {
    let lab = Lab::new();
    let file = lab.write("d.xml", &doubtful().replace("</domain>", "<memtuen/></domain>"));
    let out = lab.run(&["define", &file, "--validate"]);
    assert_eq!(out.code, Some(1));
    for part in ["'vcpuu'", "did you mean 'vcpu'?", "'memtuen'", "did you mean 'memtune'?"] {
        assert!(out.stderr.contains(part), "{part} is not in {}", out.stderr);
    }
}

#[test]
fn xml_diff_shows_what_counts() {
    let lab = Lab::new();
    let first = lab.write("a.xml", &xml("vm1"));
    let same = lab.write("b.xml", &xml("vm1").replace("<vcpu>1</vcpu>", "<vcpu placement='static'>1</vcpu>"));
    assert_eq!(lab.ok(&["xml", "diff", &first, &same]), "\n");
    let other = lab.write("c.xml", &xml("vm1").replace("<vcpu>1</vcpu>", "<vcpu>2</vcpu><iothreads>2</iothreads>"));
    let out = lab.run(&["xml", "diff", &first, &other]);
    assert_eq!(
        (out.code, out.stdout.as_str(), out.stderr.as_str()),
        (Some(1), "domain/vcpu\n  - 1\n  + 2\ndomain/iothreads\n  + 2\n\n", "")
    );
    let out = lab.run(&["xml", "diff", &first, &lab.write("d.xml", "<domain type='test'/>")]);
    assert_eq!(out.code, Some(1));
    assert!(out.stderr.contains("second document: "), "{}", out.stderr);
}

#[test]
fn bad_xml_is_refused_once() {
    let lab = Lab::new();
    for text in
        ["no xml at all", "<domain type='test'>", "<domain type='test'><name>x</name></domain>", "", "<network/>"]
    {
        let file = lab.write("b.xml", text);
        let out = lab.run(&["define", &file]);
        assert_eq!((out.code, out.stdout.as_str()), (Some(1), "\n"), "{text}");
        let lines: Vec<&str> = out.stderr.lines().collect();
        assert_eq!(lines[0], format!("error: Failed to define domain from {file}"), "{text}");
        assert!(lines.len() >= 2, "{text}: {}", out.stderr);
    }
    let file = lab.dir_file_of_bytes();
    let out = lab.run(&["define", &file]);
    assert!(out.stderr.contains("is not UTF-8 text"), "{}", out.stderr);
}
