//! Why something could not be read: one line that names the operation, its object, the system's error and the way
//! out.

use std::fmt;
use std::io;

/// An error of the collectors.
#[derive(Debug)]
pub struct Error {
    /// `ask sock_diag for a dump`
    operation: &'static str,
    /// `/proc/net/tcp`; empty when the operation is enough.
    object: String,
    source: io::Error,
    hint: &'static str,
    no_thread: bool,
}

impl Error {
    pub fn new(operation: &'static str, object: impl Into<String>, source: io::Error) -> Error {
        Error { operation, object: object.into(), source, hint: "", no_thread: false }
    }

    #[must_use]
    pub fn hint(mut self, hint: &'static str) -> Error {
        self.hint = hint;
        self
    }

    /// A filter that no source, or not this one, can run.
    pub fn unanswerable(why: impl Into<String>) -> Error {
        Error::new("answer the filter", "", io::Error::new(io::ErrorKind::InvalidInput, why.into()))
    }

    /// The system's error.
    #[must_use]
    pub fn why(&self) -> String {
        reason(&self.source)
    }

    /// Marks it as the failure to start a thread.
    #[must_use]
    pub fn no_thread(mut self) -> Error {
        self.no_thread = true;
        self
    }

    /// Whether it is the failure to start a thread.
    #[must_use]
    pub fn is_no_thread(&self) -> bool {
        self.no_thread
    }

    /// The system's number of the error.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Whether a privilege is missing.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }

    /// Whether this process cannot have sockets of that family.
    #[must_use]
    pub fn is_unsupported_family(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EAFNOSUPPORT)
    }

    /// Whether the kernel does not understand the request.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EINVAL)
    }

    /// Whether the object does not exist: a file, or a facility that this kernel lacks.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported)
            || matches!(
                self.source.raw_os_error(),
                Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::ENOSYS)
            )
    }
}

/// The system's message, without the number that Rust adds.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => "unknown error".into(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.operation)?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        write!(f, ": {}", reason(&self.source))?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

/// Without a `source`: the system's message is in the line already, and a chain would repeat it.
impl std::error::Error for Error {}
