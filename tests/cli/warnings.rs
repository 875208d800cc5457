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
    let bad = lab.write("b.xml", "<domain type='test'>");
    let out = lab.run(&["xml", "check", &bad]);
    assert_eq!(out.code, Some(1));
    assert!(out.stderr.starts_with(&format!("error: {bad} is not a valid domain\nerror: ")), "{}", out.stderr);
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
