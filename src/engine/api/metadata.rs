//! Title, description and the applications' own elements of a domain.

use std::sync::Arc;

use super::{call, check_flags, stored};
use crate::domain_xml::DomainDef;
use crate::engine::Domain;
use crate::engine::domain::Op;
use crate::engine::domain::change::{Applied, Change, Edit, impact};
use crate::engine::event::EventKind;
use crate::error::{Code, Error, Result};
use crate::types::flags::affect;

/// `virDomainMetadataType`.
const DESCRIPTION: i32 = 0;
const TITLE: i32 = 1;
const ELEMENT: i32 = 2;

/// Arguments of `virDomainSetMetadata`.
#[derive(Clone, Debug)]
pub struct SetMetadataArgs {
    /// `virDomainMetadataType`: 0 description, 1 title, 2 element.
    pub kind: i32,
    /// `None` takes it away.
    pub metadata: Option<String>,
    /// Namespace prefix of a new element.
    pub key: Option<String>,
    /// Namespace of the element.
    pub uri: Option<String>,
    pub flags: u32,
}

/// libvirt's rules for which arguments go with which kind.
fn check(args: &SetMetadataArgs) -> Result<()> {
    let SetMetadataArgs { kind, metadata, key, uri, .. } = args;
    let bad = |text: &str| Err(Error::bare_arg(format!("{text} in virDomainSetMetadata")));
    match *kind {
        TITLE if metadata.as_ref().is_some_and(|text| text.contains('\n')) => {
            Err(Error::bare_arg("metadata title can't contain newlines in virDomainSetMetadata"))
        }
        TITLE | DESCRIPTION if uri.is_some() => bad("uri must be NULL"),
        TITLE | DESCRIPTION if key.is_some() => bad("key must be NULL"),
        ELEMENT if uri.is_none() => bad("uri must not be NULL"),
        ELEMENT if metadata.is_some() && key.is_none() => bad("key must not be NULL"),
        TITLE | DESCRIPTION | ELEMENT => Ok(()),
        other => Err(Error::invalid_arg(format!("unknown metadata type {other}"))),
    }
}

fn edit(def: &mut DomainDef, args: &SetMetadataArgs) -> Result<()> {
    let text = args.metadata.clone().filter(|text| !text.is_empty());
    match args.kind {
        DESCRIPTION => def.description = text,
        TITLE => def.title = text,
        _ => {
            let uri = args.uri.as_deref().unwrap_or_default();
            match &args.metadata {
                Some(xml) => {
                    let key = args.key.as_deref().unwrap_or_default();
                    def.metadata.get_or_insert_default().set(uri, key, xml)?;
                }
                None => {
                    let removed = def.metadata.as_mut().is_some_and(|metadata| metadata.remove(uri));
                    if !removed {
                        return Err(Error::new(Code::NoDomainMetadata, "Requested metadata element is not present"));
                    }
                    if def.metadata.as_ref().is_some_and(|metadata| metadata.elements.is_empty()) {
                        def.metadata = None;
                    }
                }
            }
        }
    }
    Ok(())
}

call! {
    /// Changes title, description or one application's element, of the running domain, its definition or both.
    SetMetadata = "virDomainSetMetadata", Write, "domain:write", "domain:save" if |args| stored(args.flags);
    (caller, on: Domain, args => SetMetadataArgs) -> () {
        check_flags(on, args.flags, affect::LIVE | affect::CONFIG, "virDomainSetMetadata")?;
        check(&args)?;
        let flags = args.flags;
        let event = EventKind::MetadataChange { kind: args.kind, uri: args.uri.clone().unwrap_or_default() };
        let told = event.clone();
        // Of a change of the definition alone, no guest tells.
        let before = on.snapshot();
        let (guest, _) = impact(flags, before.active(), before.persistent())?;
        let edit: Edit = Arc::new(move |def| edit(def, &args));
        let live = edit.clone();
        let change = Change {
            flags,
            config: edit,
            complete: false,
            // The guest has no part in it.
            live: Box::new(move |_, _, _| {
                let applied = Applied { edit: live, events: vec![event] };
                Box::pin(std::future::ready(Ok(applied)))
            }),
        };
        on.request(Op::Change(Box::new(change))).await?;
        if !guest {
            on.runtime().emit(on.snapshot().domain_id(), told);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(kind: i32, metadata: Option<&str>, key: Option<&str>, uri: Option<&str>) -> SetMetadataArgs {
        let text = |text: Option<&str>| text.map(String::from);
        SetMetadataArgs { kind, metadata: text(metadata), key: text(key), uri: text(uri), flags: 0 }
    }

    #[test]
    fn arguments_that_do_not_go_together_are_refused() {
        for refused in [
            args(TITLE, Some("a\nb"), None, None),
            args(TITLE, Some("a"), Some("k"), None),
            args(DESCRIPTION, Some("a"), None, Some("urn:x")),
            args(ELEMENT, Some("<a/>"), Some("k"), None),
            args(ELEMENT, Some("<a/>"), None, Some("urn:x")),
            args(7, None, None, None),
        ] {
            assert_eq!(check(&refused).unwrap_err().code, Code::InvalidArg, "{refused:?}");
        }
        assert!(check(&args(ELEMENT, None, None, Some("urn:x"))).is_ok());
    }

    #[test]
    fn an_element_comes_and_goes() {
        let mut def = DomainDef::default();
        edit(&mut def, &args(ELEMENT, Some("<a b='c'/>"), Some("k"), Some("urn:x"))).unwrap();
        let metadata = def.metadata.as_ref().unwrap();
        assert_eq!(metadata.get("urn:x").unwrap().to_xml(), "<k:a xmlns:k=\"urn:x\" b='c'/>");
        edit(&mut def, &args(ELEMENT, None, None, Some("urn:x"))).unwrap();
        assert!(def.metadata.is_none());
        let error = edit(&mut def, &args(ELEMENT, None, None, Some("urn:x"))).unwrap_err();
        assert_eq!(error.code, Code::NoDomainMetadata);
    }
}
