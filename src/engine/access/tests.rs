use super::*;

#[test]
fn who_may_what() {
    let own = nix::unistd::geteuid().as_raw();
    let stranger = 4_000_000;
    let none = Policy::default();
    assert_eq!(none.access(0, Some(0)), Access::ReadWrite);
    assert_eq!(none.access(own, None), Access::ReadWrite);
    assert!(matches!(none.access(stranger, Some(4_000_000)), Access::Refused(_)));
    let readers = Policy { group: None, others: Others::ReadOnly };
    assert_eq!(readers.access(stranger, Some(4_000_000)), Access::ReadOnly);
    let group = Policy { group: Some("root".into()), others: Others::Refuse };
    assert_eq!(group.access(stranger, Some(0)), Access::ReadWrite);
    assert!(matches!(group.access(stranger, Some(4_000_000)), Access::Refused(why) if why.contains("group 'root'")));
    let asked = Policy { others: Others::Ask, ..group };
    assert_eq!(asked.access(stranger, None), Access::Ask);
    assert_eq!(asked.access(stranger, Some(0)), Access::ReadWrite);
}

/// An action of a policy file: its name, what it is for, and what is done of whom no rule speaks.
fn action(id: &str, what: &str, otherwise: &str) -> String {
    let mut letters = what.chars();
    let description =
        letters.next().map_or(String::new(), |first| format!("{}{}", first.to_uppercase(), letters.as_str()));
    let defaults: String =
        ["any", "inactive", "active"].map(|who| format!("      <allow_{who}>{otherwise}</allow_{who}>\n")).concat();
    format!(
        "  <action id=\"{id}\">\n    <description>{description}</description>\n    <message>It takes leave to {what}</message>\n    \
         <defaults>\n{defaults}    </defaults>\n  </action>\n"
    )
}

fn document(actions: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE policyconfig PUBLIC \"-//freedesktop//DTD polkit Policy \
         Configuration 1.0//EN\"\n \"http://www.freedesktop.org/software/polkit/policyconfig-1.dtd\">\n<!-- Written from \
         src/engine/access/right.rs by its test with DOMUS_BLESS=1; libvirt's names, so that rules written for it hold. -->\n\
         <policyconfig>\n  <vendor>domus</vendor>\n{actions}</policyconfig>\n"
    )
}

#[test]
fn the_policy_files_are_what_the_table_says() {
    use right::{MANAGE, MONITOR, RIGHTS};
    let calls: String = RIGHTS
        .iter()
        .map(|right| action(&right.action(), right.what, if right.by_default { "yes" } else { "no" }))
        .collect();
    let connections = action(MONITOR, "look at the virtual machines and containers of this host", "yes")
        + &action(MANAGE, "manage the virtual machines and containers of this host", "auth_admin_keep");
    for (name, actions) in [("org.libvirt.api.policy", calls), ("org.libvirt.unix.policy", connections)] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/polkit").join(name);
        let text = document(&actions);
        if std::env::var_os("DOMUS_BLESS").is_some() {
            #[allow(clippy::disallowed_methods)] // a document of the repository, no state
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "run the tests with DOMUS_BLESS=1");
    }
}
