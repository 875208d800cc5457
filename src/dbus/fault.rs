//! What goes wrong, as D-Bus says it: an error name and a text.
//!
//! libvirt-dbus reports every libvirt failure as `org.libvirt.Error` with libvirt's text and nothing else; what GDBus
//! itself refuses has the standard names and GDBus's texts. Clients match on these texts.

use crate::error::{Code, Error, Subsystem};

/// An error reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub name: &'static str,
    pub message: String,
}

/// Any libvirt failure.
pub const LIBVIRT: &str = "org.libvirt.Error";
const ACCESS_DENIED: &str = "org.freedesktop.DBus.Error.AccessDenied";
/// A password would help, and the call did not allow to ask for one (`ALLOW_INTERACTIVE_AUTHORIZATION`), or nobody could.
const INTERACTIVE: &str = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";
const INVALID_ARGS: &str = "org.freedesktop.DBus.Error.InvalidArgs";
const UNKNOWN_METHOD: &str = "org.freedesktop.DBus.Error.UnknownMethod";

impl Fault {
    /// An error of one of the standard names below `org.freedesktop.DBus.Error.`, given in full.
    pub fn new(name: &'static str, message: impl Into<String>) -> Fault {
        Fault { name, message: message.into() }
    }

    /// A libvirt failure.
    pub fn libvirt(message: impl Into<String>) -> Fault {
        Fault::new(LIBVIRT, message)
    }

    /// `org.freedesktop.DBus.Error.InvalidArgs`.
    pub fn invalid_args(message: impl Into<String>) -> Fault {
        Fault::new(INVALID_ARGS, message)
    }

    /// In arguments of another type than the method's.
    pub fn wrong_signature(given: &str, expected: &str) -> Fault {
        Fault::invalid_args(format!("Type of message, “({given})”, does not match expected type “({expected})”"))
    }

    /// No such object.
    pub fn unknown_object(path: &str) -> Fault {
        Fault::new(UNKNOWN_METHOD, format!("Object does not exist at path “{path}”"))
    }

    /// The object does not have this interface.
    pub fn unknown_interface(interface: &str, path: &str) -> Fault {
        Fault::new(UNKNOWN_METHOD, format!("No such interface “{interface}” on object at path {path}"))
    }

    /// The interface does not have this method.
    pub fn unknown_method(method: &str) -> Fault {
        Fault::new(UNKNOWN_METHOD, format!("No such method “{method}”"))
    }

    /// A driver does not have this libvirt function.
    pub fn no_support(function: &str) -> Fault {
        Error::no_support(function).into()
    }

    /// There is no driver behind this root.
    pub fn no_driver(uri: &str) -> Fault {
        Error::new(Code::NoConnect, uri).into()
    }

    /// The caller may not.
    pub fn access_denied(message: impl Into<String>) -> Fault {
        Fault::new(ACCESS_DENIED, message)
    }

    /// Too much at once.
    pub fn limits(message: impl Into<String>) -> Fault {
        Fault::new("org.freedesktop.DBus.Error.LimitsExceeded", message)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        if let Some(source) = &error.source {
            tracing::debug!(error = %error, cause = %source, "call failed");
        }
        // Who was refused as a whole is told so in the bus's own words, by which clients know to ask for a password.
        let name = match (error.subsystem, error.code) {
            (Subsystem::Polkit, Code::AuthUnavailable) => INTERACTIVE,
            (Subsystem::Polkit, _) => ACCESS_DENIED,
            _ => LIBVIRT,
        };
        Fault::new(name, error.message())
    }
}

/// A message that could not be built or read although its signature was right.
impl From<zbus::Error> for Fault {
    fn from(error: zbus::Error) -> Fault {
        Fault::new("org.freedesktop.DBus.Error.Failed", format!("cannot encode or decode the message: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_clients_match_on() {
        assert_eq!(
            Fault::wrong_signature("u", "s").message,
            "Type of message, “(u)”, does not match expected type “(s)”"
        );
        assert_eq!(
            Fault::no_support("virDomainPMWakeup").message,
            "this function is not supported by the connection driver: virDomainPMWakeup"
        );
        assert_eq!(Fault::no_driver("xen:///system").message, "no connection driver available for xen:///system");
    }
}
