//! What the tables of these checks share.

/// What a definition with this content is refused with, line and column included.
pub fn refusal(rest: &str) -> String {
    let head = "<domain type='qemu'><name>a</name><memory>1048576</memory><vcpu>4</vcpu><os><type>hvm</type></os>";
    let error = crate::domain_xml::parse(&format!("{head}{rest}</domain>")).expect_err("refused");
    error.message()
}

/// The same for devices.
pub fn device_refusal(devices: &str) -> String {
    refusal(&format!("<devices>{devices}</devices>"))
}
