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

/// Says what it is told to, and counts how often it is asked.
#[derive(Debug)]
struct Told {
    say: std::sync::Mutex<guard::Verdict>,
    asked: std::sync::Mutex<Vec<String>>,
    generation: std::sync::atomic::AtomicU64,
    waits: tokio::sync::Semaphore,
}

impl Authority for Arc<Told> {
    fn ask(&self, question: guard::Question) -> guard::Answer {
        let told = self.clone();
        told.asked.lock().unwrap().push(question.action);
        Box::pin(async move {
            let _turn = told.waits.acquire().await;
            let say = *told.say.lock().unwrap();
            Ok(say)
        })
    }

    fn generation(&self) -> u64 {
        self.generation.load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn told(say: guard::Verdict, answers: usize) -> (Arc<Told>, Arc<Guard>) {
    let told = Arc::new(Told {
        say: say.into(),
        asked: std::sync::Mutex::default(),
        generation: 1.into(),
        waits: tokio::sync::Semaphore::new(answers),
    });
    (told.clone(), Guard::new(Arc::new(told), Subject::BusName(":1.1".into()), 1))
}

#[tokio::test]
async fn what_was_said_of_a_connection_holds_until_something_changes() {
    use crate::engine::api::Class;
    let (told, guard) = told(guard::Verdict::Allowed, 1);
    for _ in 0..3 {
        assert!(!guard.admit(Class::Write, false).await.unwrap());
    }
    assert_eq!(told.asked.lock().unwrap().len(), 1);
    assert!(guard.may_listen());
    *told.say.lock().unwrap() = guard::Verdict::Denied;
    assert!(!guard.admit(Class::Write, false).await.unwrap(), "nobody said that it changed");
    told.generation.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    assert!(!guard.may_listen());
    let refused = guard.admit(Class::Read, false).await.unwrap_err();
    assert_eq!(refused.message(), "authentication failed: access denied by policy");
}

#[tokio::test]
async fn an_answer_from_before_a_change_is_not_kept() {
    use crate::engine::api::Class;
    let (told, guard) = told(guard::Verdict::Allowed, 0);
    let asking = tokio::spawn({
        let guard = guard.clone();
        async move { guard.admit(Class::Read, false).await }
    });
    while told.asked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    told.generation.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    told.waits.add_permits(1);
    assert!(asking.await.unwrap().is_ok());
    assert!(!guard.may_listen());
    assert!(guard.admit(Class::Read, false).await.is_ok());
    assert_eq!(told.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn who_goes_is_asked_about_no_longer() {
    use crate::engine::api::Class;
    let (told, guard) = told(guard::Verdict::Allowed, 0);
    let asking: Vec<_> = (0..10)
        .map(|_| {
            let guard = guard.clone();
            tokio::spawn(async move { guard.admit(Class::Read, false).await })
        })
        .collect();
    while told.asked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(told.asked.lock().unwrap().len(), 1, "ten calls, one question");
    guard.leave();
    for asking in asking {
        assert_eq!(asking.await.unwrap().unwrap_err().code, crate::error::Code::OperationAborted);
    }
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
