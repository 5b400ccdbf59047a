//! Error numbers of sockets, by name and in words.
//!
//! Input: a number of this machine's `<errno.h>`. Output: its name, and what it means for a connection. Not here: which
//! operation failed.

/// What `sk_err` held when a socket went to CLOSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LastError {
    /// No error: the socket was closed, not cut.
    Nothing,
    Errno(Errno),
}

/// An error number of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident $text:literal;)*) => {
        impl Errno {
            $(pub const $name: Errno = Errno(libc::$name);)*

            /// The name in `<errno.h>`, of those that a TCP socket can end with.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $(libc::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// What it means for a connection.
            #[must_use]
            pub const fn text(self) -> Option<&'static str> {
                match self.0 {
                    $(libc::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    ECONNREFUSED "refused";
    ETIMEDOUT "timed out";
    EHOSTUNREACH "host unreachable";
    ENETUNREACH "network unreachable";
    ECONNRESET "reset by the peer";
    EPIPE "reset by the peer after its FIN";
    ECONNABORTED "aborted on this host";
    EPROTO "protocol error";
    ENOPROTOOPT "protocol unreachable";
    EHOSTDOWN "host down";
    ENETDOWN "network down";
    ENONET "host isolated";
    EOPNOTSUPP "unreachable";
    EMSGSIZE "message too long";
    EACCES "prohibited";
    EPERM "not permitted";
    ENOBUFS "no buffer space";
    ENOMEM "no memory";
    EADDRNOTAVAIL "no free port";
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_has_its_name_or_its_number() {
        assert_eq!(Errno::ECONNREFUSED.to_string(), "ECONNREFUSED");
        assert_eq!((Errno(4000).to_string(), Errno(4000).name()), ("errno 4000".into(), None));
        assert_eq!(Errno::ETIMEDOUT.text(), Some("timed out"));
    }
}
