//! `edit`: a domain's XML in the user's editor, and defined again.
//!
//! The text is in a file only the user can read (it holds secrets). When the daemon refuses it, the user may edit
//! again; an edited text is never thrown away without being asked.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use uuid::Uuid;

use super::args::DomainArg;
use super::client::{CallError, reason};
use super::define;
use super::domains::{By, CONNECT, Domain, Session};
use super::lifecycle::done;
use super::output::{self, Failure};
use crate::types::flags::xml as flag;

/// Options of `edit`.
#[derive(Debug, Args)]
pub struct EditArgs {
    #[command(flatten)]
    domain: DomainArg,
    /// Do not ask the daemon for warnings
    #[arg(long)]
    skip_validate: bool,
}

/// `domus edit`
pub async fn edit(session: &Session, args: &EditArgs) -> Result<(), Failure> {
    let domain = session.domain(args.domain.given(), By::ANY).await?;
    let flags = flag::SECURE | flag::INACTIVE;
    let before = session.xml(&domain.path, flags).await?;
    let edited = rounds(
        &before,
        async || session.xml(&domain.path, flags).await,
        async |text: &str| {
            if !args.skip_validate {
                for warning in define::check(session, domain.driver, text).await? {
                    output::warning(&define::warning_text("edited XML", &warning));
                }
            }
            redefine(session, &domain, text).await
        },
    )
    .await?;
    match edited {
        None => {
            let words = format!("Domain '{}' XML configuration not changed.", domain.name);
            done(session, &domain, "unchanged", &words);
        }
        Some(path) => {
            let defined = session.domain_at(domain.driver, &path).await?;
            done(session, &defined, "edited", &format!("Domain '{}' XML configuration edited.", defined.name));
        }
    }
    Ok(())
}

/// Has the user edit `before` until the daemon takes it: the path of the object then, `None` when nothing was changed.
/// `fetch` reads the text as it is now, `define` hands over the edited one.
pub async fn rounds(
    before: &str,
    fetch: impl AsyncFn() -> Result<String, CallError>,
    define: impl AsyncFn(&str) -> Result<String, CallError>,
) -> Result<Option<String>, Failure> {
    let file = Draft::new(before)?;
    loop {
        file.run_editor()?;
        let text = file.read()?;
        if text == before {
            file.remove();
            return Ok(None);
        }
        // Somebody else's change in the meantime must not be lost without a word.
        if fetch().await? != before {
            let kept = format!("the XML configuration was changed by another user; your text is in {}", file.name());
            return Err(Failure::new(kept));
        }
        match define(&text).await {
            Ok(path) => {
                file.remove();
                return Ok(Some(path));
            }
            Err(error) if !error.is_answer() => return Err(error.into()),
            Err(error) => {
                if !io::stdin().is_terminal() {
                    let kept = format!("Failed. Your text is in {}", file.name());
                    return Err(Failure::from(error).context(kept));
                }
                output::error(&error.to_string());
                if !again()? {
                    file.remove();
                    return Err(Failure::new("Failed."));
                }
            }
        }
    }
}

async fn redefine(session: &Session, domain: &Domain, text: &str) -> Result<String, CallError> {
    let path: zbus::OwnedObjectPath =
        session.client.call(domain.driver.path(), CONNECT, "DomainDefineXML", &(text,)).await?;
    Ok(path.to_string())
}

/// The user's answer after a failure: whether to edit again. The end of input is a no.
fn again() -> Result<bool, Failure> {
    loop {
        output::raw("Failed. Try again? [y,n,?]: ");
        let mut answer = String::new();
        let count = io::stdin()
            .read_line(&mut answer)
            .map_err(|error| Failure::new(format!("cannot read standard input: {}", reason(&error))))?;
        match answer.trim() {
            "y" => return Ok(true),
            "n" => return Ok(false),
            _ if count == 0 => return Ok(false),
            _ => output::raw("y - yes, start editor again\nn - no, throw away my changes\n? - print this help\n"),
        }
    }
}

/// The text being edited.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn new(text: &str) -> Result<Draft, Failure> {
        let path = env::temp_dir().join(format!("domus-{}.xml", Uuid::new_v4().simple()));
        let failed = |error: io::Error| {
            Failure::new(format!("cannot write temporary file '{}': {}", path.display(), reason(&error)))
        };
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        Ok(Draft { path })
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn read(&self) -> Result<String, Failure> {
        fs::read_to_string(&self.path)
            .map_err(|error| Failure::new(format!("cannot read '{}': {}", self.name(), reason(&error))))
    }

    fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }

    fn run_editor(&self) -> Result<(), Failure> {
        let editor = editor();
        let status = shell(&editor, &self.path).map_err(|error| {
            self.remove();
            Failure::new(format!("cannot start the editor '{editor}': {}", reason(&error)))
        })?;
        if status.success() {
            return Ok(());
        }
        // An editor that fails may still have saved.
        let kept = format!("the editor '{editor}' ended with {status}; your text is in {}", self.name());
        Err(Failure::new(kept))
    }
}

/// `$VISUAL`, `$EDITOR`, else the system's choice.
fn editor() -> String {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
    set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| {
        let sensible = "/usr/bin/sensible-editor";
        if Path::new(sensible).exists() { sensible.to_owned() } else { "vi".to_owned() }
    })
}

/// Runs the editor as the shell would, so that `EDITOR="code --wait"` works; the file's name is an argument, never
/// part of the command text.
#[expect(
    clippy::disallowed_methods,
    reason = "the user's own editor, on the user's terminal, with the user's environment: the opposite of sys::exec"
)]
fn shell(editor: &str, file: &Path) -> io::Result<std::process::ExitStatus> {
    std::process::Command::new("/bin/sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(file).status()
}
