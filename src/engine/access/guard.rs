//! Somebody else decides: what a caller may do is asked of an authority (polkit), where neither the kernel's credentials
//! nor the configuration settle it.
//!
//! ```text
//! connection: Guard::admit (manage, monitor)  ── kept until the authority says that something changed
//! call:       Permit::on   (each right)       ── never kept, as rules may look at the object
//!                  └─> Authority::ask ── dropped (the caller has gone) ─> withdrawn there too
//! ```
//!
//! Knows no bus. An authority that does not answer delays only who is asked about.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::right::{MANAGE, MONITOR, Right};
use crate::engine::api::{CallInfo, Class, Presence};
use crate::error::{Code, Error, Result, Subsystem};
use crate::types::Uuid;

/// What a rule may look at beside the right: `domain_name` and its value, and so on.
pub type Details = Vec<(&'static str, String)>;

/// An answer that may take as long as a person needs for a password.
pub type Answer = Pin<Box<dyn Future<Output = Result<Verdict>> + Send>>;

/// Questions about the objects of one list that are in flight at once.
const AT_ONCE: usize = 16;

/// Calls that one who is asked about may have in flight.
pub const MAX_CALLS: usize = 64;

/// Who is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// As the kernel knows it; `start` in its clock ticks since boot, so that a pid of somebody else is not mistaken for it.
    Process { pid: u32, start: u64, uid: u32 },
    /// A unique name on the system bus.
    BusName(String),
}

/// What an authority says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Denied,
    /// Allowed to who gives a password; nobody was asked for one, or nobody could be.
    Challenge,
    /// Somebody was asked for a password and gave none.
    Dismissed,
}

/// May `subject` do this?
#[derive(Clone, Debug)]
pub struct Question {
    pub subject: Subject,
    /// Whose it is: no user's questions stand in the way of another's.
    pub user: u32,
    /// `org.libvirt.api.domain.start`
    pub action: String,
    pub details: Details,
    /// A person may be asked for a password.
    pub interactive: bool,
}

/// Who decides.
pub trait Authority: Debug + Send + Sync {
    /// Errors: code 94, it cannot be asked. Dropping the answer withdraws the question.
    fn ask(&self, question: Question) -> Answer;

    /// Another number whenever an earlier answer may no longer hold.
    fn generation(&self) -> u64;
}

/// Something a right is about.
pub trait Guarded {
    /// The first word of its rights: `domain`.
    const OBJECT: &'static str;

    fn details(&self) -> impl Future<Output = Details> + Send;
}

/// Details of something that has a name and a UUID; none yet is left out.
pub fn named([name_key, uuid_key]: [&'static str; 2], name: &str, uuid: Uuid) -> Details {
    let mut details = vec![(name_key, name.to_string())];
    if !uuid.is_nil() {
        details.push((uuid_key, uuid.to_string()));
    }
    details
}

/// Details of a domain.
pub fn domain_details(name: &str, uuid: Uuid) -> Details {
    named(["domain_name", "domain_uuid"], name, uuid)
}

/// What was answered about a connection.
#[derive(Debug, Default)]
struct Known {
    generation: u64,
    manage: Option<Verdict>,
    monitor: Option<Verdict>,
}

/// One who is asked about.
#[derive(Debug)]
pub struct Guard {
    authority: Arc<dyn Authority>,
    subject: Subject,
    user: u32,
    known: Mutex<Known>,
    /// Held while the connection is asked about: many calls at once ask once.
    asking: tokio::sync::Mutex<()>,
    /// Dropped when whoever it is has gone.
    here: Mutex<Option<watch::Sender<()>>>,
    presence: Presence,
    places: Arc<Semaphore>,
}

fn refused(code: Code, text: impl Into<String>) -> Error {
    Error::new(code, text).with_subsystem(Subsystem::Polkit)
}

/// Why `verdict` on `action` is no leave, in libvirt's words.
fn refusal(verdict: Verdict, action: &str) -> Error {
    match verdict {
        Verdict::Dismissed => refused(Code::AuthCancelled, "user cancelled authentication process"),
        Verdict::Challenge => {
            let text = format!("no polkit agent available to authenticate action '{action}'");
            refused(Code::AuthUnavailable, text)
        }
        _ => refused(Code::AuthFailed, "access denied by policy"),
    }
}

impl Guard {
    /// Of a connection of `user`.
    pub fn new(authority: Arc<dyn Authority>, subject: Subject, user: u32) -> Arc<Guard> {
        let (here, presence) = Presence::new();
        Arc::new(Guard {
            authority,
            subject,
            user,
            known: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            here: Mutex::new(Some(here)),
            presence,
            places: Arc::new(Semaphore::new(MAX_CALLS)),
        })
    }

    /// A place for one more call, until it is dropped. Callers who share a connection share its room: one who is asked
    /// about at length must not take all of it.
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Whoever it is has gone: what is still being asked is withdrawn.
    pub fn leave(&self) {
        drop(self.here.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    async fn ask(&self, action: String, details: Details, interactive: bool) -> Result<Verdict> {
        let question = Question { subject: self.subject.clone(), user: self.user, action, details, interactive };
        self.presence.during(self.authority.ask(question)).await
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.authority.generation();
        if known.generation != generation {
            *known = Known { generation, ..Known::default() };
        }
        known
    }

    /// Whether it was found that it may look, so that it may be told what happens.
    pub fn may_listen(&self) -> bool {
        let known = self.known();
        known.manage == Some(Verdict::Allowed) || known.monitor == Some(Verdict::Allowed)
    }

    /// What is said of the connection as a whole without anybody being asked for a password.
    async fn standing(&self, manage: bool) -> Result<Verdict> {
        let look = || {
            let known = self.known();
            (if manage { known.manage } else { known.monitor }, known.generation)
        };
        if let (Some(verdict), _) = look() {
            return Ok(verdict);
        }
        let _asking = self.asking.lock().await;
        let generation = match look() {
            (Some(verdict), _) => return Ok(verdict),
            (None, generation) => generation,
        };
        let verdict = self.ask(if manage { MANAGE } else { MONITOR }.into(), Details::new(), false).await?;
        let mut known = self.known();
        // What changed while it was asked may have changed the answer.
        if known.generation == generation {
            *(if manage { &mut known.manage } else { &mut known.monitor }) = Some(verdict);
        }
        Ok(verdict)
    }

    /// Lets in somebody who makes one call of `class`; whether it may only look. An answer that took a password is good for
    /// this call alone, unless the authority itself remembers. Errors: codes 45, 79, 94.
    pub async fn admit(&self, class: Class, interactive: bool) -> Result<bool> {
        let manage = self.standing(true).await?;
        if manage == Verdict::Allowed {
            return Ok(false);
        }
        if class == Class::Write && manage == Verdict::Challenge {
            self.authenticate(MANAGE, interactive).await?;
            return Ok(false);
        }
        match (self.standing(false).await?, class) {
            // One who may look is told that the call needs more, which is the caller's to do.
            (Verdict::Allowed, _) => Ok(true),
            (Verdict::Challenge, Class::Read) if interactive => {
                self.authenticate(MONITOR, true).await?;
                Ok(true)
            }
            (verdict, Class::Read) => Err(refusal(verdict, MONITOR)),
            (_, Class::Write) => Err(refusal(manage, MANAGE)),
        }
    }

    /// Refuses unless `action` is allowed. Errors: codes 45, 79, 94.
    pub async fn authenticate(&self, action: &str, interactive: bool) -> Result<()> {
        match self.ask(action.into(), Details::new(), interactive).await? {
            Verdict::Allowed => Ok(()),
            verdict => Err(refusal(verdict, action)),
        }
    }
}

/// Each call is asked about: carried by its caller.
#[derive(Clone, Debug)]
pub struct Ask {
    pub guard: Arc<Guard>,
    /// libvirt's name of the driver: `QEMU`.
    pub driver: &'static str,
    /// The caller can wait for a person's password.
    pub interactive: bool,
}

impl Ask {
    /// Whether `right` is given on what `details` describe.
    async fn given(&self, right: &Right, details: &Details) -> Result<Verdict> {
        let mut all = vec![("connect_driver", self.driver.to_string())];
        all.extend(details.iter().cloned());
        self.guard.ask(right.action(), all, self.interactive).await
    }

    /// Refuses unless every one of `rights` is given. Errors: code 88; 79 and 94 where a password could help.
    pub async fn demand(&self, rights: &[&'static Right], details: &Details) -> Result<()> {
        for right in rights {
            let verdict = self.given(right, details).await?;
            let bus = matches!(self.guard.subject, Subject::BusName(_));
            match verdict {
                Verdict::Allowed => {}
                // On the message bus there is a way to come back with leave to ask.
                Verdict::Challenge if bus && !self.interactive => return Err(refusal(verdict, &right.action())),
                Verdict::Dismissed => return Err(refusal(verdict, &right.action())),
                _ => {
                    let text = format!("'{}' denied access: no leave for {}", self.driver, right.action());
                    return Err(Error::new(Code::AccessDenied, text).with_subsystem(Subsystem::Access));
                }
            }
        }
        Ok(())
    }
}

/// The rights of one call, for what it finds or makes itself.
#[derive(Clone, Copy, Debug)]
pub struct Permit<'a> {
    pub ask: Option<&'a Ask>,
    pub info: &'a CallInfo,
}

impl Permit<'_> {
    /// Refuses unless the caller has the call's rights on `object`. Error: code 88.
    pub async fn on<T: Guarded + Sync>(&self, object: &T) -> Result<()> {
        match self.ask {
            None => Ok(()),
            Some(ask) => ask.demand(&self.rights_on(T::OBJECT), &object.details().await).await,
        }
    }

    /// `object`, unless the caller may not have it. Error: code 88.
    pub async fn found<T: Guarded + Sync>(&self, object: T) -> Result<T> {
        self.on(&object).await?;
        Ok(object)
    }

    /// Refuses unless the caller may make the object (`domain`) that `describe` describes, which is called only if somebody
    /// is asked. Error: code 88.
    pub async fn on_new(&self, object: &str, describe: impl FnOnce() -> Result<Details> + Send) -> Result<()> {
        match self.ask {
            None => Ok(()),
            Some(ask) => ask.demand(&self.rights_on(object), &describe()?).await,
        }
    }

    /// What the caller may see of `objects`, in their order.
    pub async fn visible<T: Guarded + Send + Sync>(&self, objects: Vec<T>) -> Result<Vec<T>> {
        let (Some(ask), Some(right)) = (self.ask, self.info.filter) else { return Ok(objects) };
        let asked = objects.into_iter().map(|object| async move {
            let given = ask.given(right, &object.details().await).await? == Verdict::Allowed;
            Ok(given.then_some(object))
        });
        let mut answers = stream::iter(asked).buffered(AT_ONCE);
        let mut seen = Vec::new();
        while let Some(answer) = answers.next().await {
            let answer: Result<Option<T>> = answer;
            seen.extend(answer?);
        }
        Ok(seen)
    }

    fn rights_on(&self, object: &str) -> Vec<&'static Right> {
        self.info.rights.iter().copied().filter(|right| right.object == object).collect()
    }
}
