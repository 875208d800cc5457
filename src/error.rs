//! libvirt's error: a code, the subsystem ("domain") that raised it, and a detail text.
//!
//! Owns the numbers and message prefixes of libvirt's `virterror.h`: clients match on them, so they never change.
//! Never decides anything; every module converts its own error enum into [`Error`] at its edge.
//!
//! The text a client sees is libvirt's prefix for the code plus our detail, see [`Error::message`].
//! The detail says what is wrong, where it is, and what to do.

use std::fmt;

/// Result with libvirt's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $num:literal, $format:literal;)*) => {
        /// Error code (`virErrorNumber`). The numbers are wire ABI.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum Code { $($(#[$doc])* $name = $num,)* }

        impl Code {
            /// libvirt's message format for this code, with at most one `%s` for the detail.
            /// RPC sends it as `str1`.
            pub fn format(self) -> &'static str {
                match self { $(Code::$name => $format,)* }
            }

            /// The code with this number, if it is one of ours.
            pub fn from_number(number: i32) -> Option<Code> {
                match number { $($num => Some(Code::$name),)* _ => None }
            }
        }
    };
}

codes! {
    InternalError = 1, "internal error: %s";
    NoMemory = 2, "out of memory";
    NoSupport = 3, "this function is not supported by the connection driver: %s";
    NoConnect = 5, "no connection driver available for %s";
    InvalidConn = 6, "invalid connection pointer in %s";
    InvalidDomain = 7, "invalid domain pointer in %s";
    InvalidArg = 8, "invalid argument: %s";
    OperationFailed = 9, "operation failed: %s";
    OsType = 16, "unknown OS type %s";
    NoSource = 19, "missing source information for device %s";
    NoTarget = 20, "missing target information for device %s";
    NoName = 21, "missing name information in %s";
    XmlError = 27, "XML error: %s";
    DomExist = 28, "domain %s exists already";
    OperationDenied = 29, "operation forbidden: %s";
    OpenFailed = 30, "failed to open configuration file %s";
    ReadFailed = 31, "failed to read configuration file %s";
    ParseFailed = 32, "failed to parse configuration file %s";
    ConfSyntax = 33, "configuration file syntax error: %s";
    WriteFailed = 34, "failed to write configuration file: %s";
    XmlDetail = 35, "%s";
    NetworkExist = 37, "network %s exists already";
    SystemError = 38, "%s";
    Rpc = 39, "RPC error: %s";
    NoDomain = 42, "Domain not found: %s";
    NoNetwork = 43, "Network not found: %s";
    InvalidMac = 44, "invalid MAC address: %s";
    AuthFailed = 45, "authentication failed: %s";
    NoStoragePool = 49, "Storage pool not found: %s";
    NoStorageVol = 50, "Storage volume not found: %s";
    NoNodeDevice = 53, "Node device not found: %s";
    OperationInvalid = 55, "Requested operation is not valid: %s";
    NoInterface = 57, "Interface not found: %s";
    MultipleInterfaces = 58, "multiple matching interfaces found: %s";
    NoNwfilter = 62, "Network filter not found: %s";
    InvalidSecret = 65, "Invalid secret: %s";
    NoSecret = 66, "Secret not found: %s";
    ConfigUnsupported = 67, "unsupported configuration: %s";
    OperationTimeout = 68, "Timed out during operation: %s";
    InvalidDomainSnapshot = 71, "Invalid snapshot: %s";
    NoDomainSnapshot = 72, "Domain snapshot not found: %s";
    InvalidStream = 73, "invalid stream pointer in %s";
    ArgumentUnsupported = 74, "argument unsupported: %s";
    OperationAborted = 78, "operation aborted: %s";
    AuthCancelled = 79, "authentication cancelled: %s";
    NoDomainMetadata = 80, "metadata not found: %s";
    Overflow = 82, "numerical overflow: %s";
    OperationUnsupported = 84, "Operation not supported: %s";
    AgentUnresponsive = 86, "Guest agent is not responding: %s";
    ResourceBusy = 87, "resource busy: %s";
    AccessDenied = 88, "access denied: %s";
    DbusService = 89, "error from service: %s";
    StorageVolExist = 90, "storage volume %s exists already";
    CpuIncompatible = 91, "the CPU is incompatible with host CPU: %s";
    XmlInvalidSchema = 92, "XML document failed to validate against schema: %s";
    AuthUnavailable = 94, "authentication unavailable: %s";
    DeviceMissing = 99, "device not found: %s";
    NoDomainCheckpoint = 103, "Domain checkpoint not found: %s";
    NoDomainBackup = 104, "Domain backup job id not found: %s";
    NetworkPortExist = 106, "network port %s exists already";
    NoNetworkPort = 107, "network port not found: %s";
    NoNetworkMetadata = 111, "metadata not found: %s";
}

/// Subsystem that raised an error (`virErrorDomain`). The numbers are wire ABI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Subsystem {
    #[default]
    None = 0,
    Xml = 5,
    Dom = 6,
    Rpc = 7,
    Conf = 9,
    Qemu = 10,
    Net = 11,
    Test = 12,
    Lxc = 17,
    Storage = 18,
    Network = 19,
    Domain = 20,
    NodeDev = 22,
    Security = 24,
    Interface = 26,
    Secret = 30,
    Cpu = 31,
    Nwfilter = 33,
    DomainSnapshot = 35,
    Streams = 38,
    Event = 40,
    Capabilities = 44,
    Auth = 46,
    Dbus = 47,
    Cgroup = 54,
    Access = 55,
    Polkit = 60,
}

/// libvirt's error, as every engine call, driver trait and service returns it.
#[derive(Debug)]
pub struct Error {
    /// What kind of failure; clients branch on it.
    pub code: Code,
    /// Who raised it.
    pub subsystem: Subsystem,
    /// What is wrong, where, and what to do; without libvirt's prefix.
    pub detail: String,
    /// The message is the detail alone: libvirt leaves the prefix out where it reports a bad argument by name.
    pub bare: bool,
    /// The element of the document that the error is about, until somebody who has the document adds line and column.
    pub subject: Option<Box<Subject>>,
    /// The cause, for the log; its text is never repeated in `detail` by [`Error::message`].
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// An element of a document, named without its place: checks of the typed model know no lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Element names below the root, `devices/disk`.
    pub path: &'static str,
    /// Which of the elements of that name (and with those attributes), from 0.
    pub nth: usize,
    /// Attributes that the element has.
    pub attributes: Vec<(&'static str, String)>,
}

impl Error {
    /// An error of `code` with `detail`; the subsystem is filled in by whoever knows it.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Error { code, subsystem: Subsystem::None, detail: detail.into(), bare: false, subject: None, source: None }
    }

    /// The text clients see: libvirt's prefix for the code with the detail in it.
    pub fn message(&self) -> String {
        if self.bare {
            return self.detail.clone();
        }
        self.code.format().replacen("%s", &self.detail, 1)
    }

    /// Sets the subsystem unless a deeper module already did.
    pub fn or_subsystem(mut self, subsystem: Subsystem) -> Self {
        if self.subsystem == Subsystem::None {
            self.subsystem = subsystem;
        }
        self
    }

    /// Sets the subsystem.
    pub fn with_subsystem(mut self, subsystem: Subsystem) -> Self {
        self.subsystem = subsystem;
        self
    }

    /// Says which element the error is about, unless it is known already: the `nth` (from 0) element `path` below the
    /// root.
    pub fn about(self, path: &'static str, nth: usize) -> Self {
        self.about_one(path, nth, Vec::new())
    }

    /// The same, counting only elements with these attributes.
    pub fn about_one(mut self, path: &'static str, nth: usize, attributes: Vec<(&'static str, String)>) -> Self {
        self.subject.get_or_insert_with(|| Box::new(Subject { path, nth, attributes }));
        self
    }

    /// Keeps the cause for the log.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Code 1: something that should not happen, or a failure libvirt has no code for.
    pub fn internal(detail: impl Into<String>) -> Self {
        Error::new(Code::InternalError, detail)
    }

    /// Code 8.
    pub fn invalid_arg(detail: impl Into<String>) -> Self {
        Error::new(Code::InvalidArg, detail)
    }

    /// Code 8 without libvirt's prefix (`virReportInvalidArg`).
    pub fn bare_arg(detail: impl Into<String>) -> Self {
        Error { bare: true, ..Error::invalid_arg(detail) }
    }

    /// Code 9.
    pub fn failed(detail: impl Into<String>) -> Self {
        Error::new(Code::OperationFailed, detail)
    }

    /// Code 55: not in this state.
    pub fn invalid_state(detail: impl Into<String>) -> Self {
        Error::new(Code::OperationInvalid, detail)
    }

    /// Code 67: the configuration asks for something that cannot be had here.
    pub fn unsupported_config(detail: impl Into<String>) -> Self {
        Error::new(Code::ConfigUnsupported, detail)
    }

    /// Code 3: the driver does not have this call; `function` is libvirt's name of it.
    pub fn no_support(function: impl Into<String>) -> Self {
        Error::new(Code::NoSupport, function)
    }

    /// Code 38 with libvirt's `what: strerror` text.
    pub fn system(what: impl fmt::Display, errno: std::io::Error) -> Self {
        let reason = match errno.raw_os_error() {
            // The C library's text, which nix has for sockets only.
            Some(nix::libc::EOPNOTSUPP) => "Operation not supported".to_string(),
            Some(number) => nix::errno::Errno::from_raw(number).desc().to_string(),
            None => errno.to_string(),
        };
        Error::new(Code::SystemError, format!("{what}: {reason}")).with_source(errno)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

impl From<crate::sys::exec::ExecError> for Error {
    fn from(error: crate::sys::exec::ExecError) -> Self {
        let code = match error {
            crate::sys::exec::ExecError::Timeout { .. } => Code::OperationTimeout,
            _ => Code::InternalError,
        };
        Error::new(code, error.to_string()).with_source(error)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_libvirts_prefix_and_our_detail() {
        let error = Error::new(Code::NoDomain, "no domain with matching name 'x'");
        assert_eq!(error.message(), "Domain not found: no domain with matching name 'x'");
        assert_eq!(Code::from_number(42), Some(Code::NoDomain));
    }

    #[test]
    fn a_deeper_subsystem_is_kept() {
        let error = Error::internal("x").with_subsystem(Subsystem::Cpu).or_subsystem(Subsystem::Qemu);
        assert_eq!(error.subsystem, Subsystem::Cpu);
    }

    #[test]
    fn system_error_names_errno_text() {
        let error = Error::system("cannot open file '/x'", std::io::Error::from_raw_os_error(2));
        assert_eq!(error.message(), "cannot open file '/x': No such file or directory");
    }
}
