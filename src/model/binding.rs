//! What `bind()` is asked for, and why the kernel refuses it.

use crate::model::{Endpoint, Family};

/// One call of `bind()` and `listen()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindRequest {
    pub local: Endpoint,
    /// `IPV6_V6ONLY`; means something on `[::]` only.
    pub v6only: bool,
    /// The interface that it is tied to (of a link-local address); 0 for none.
    pub ifindex: u32,
    pub uid: u32,
}

impl BindRequest {
    #[must_use]
    pub fn family(&self) -> Family {
        if self.local.addr.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Whether it takes IPv4 too: `[::]` without `IPV6_V6ONLY`.
    #[must_use]
    pub fn is_dual(&self) -> bool {
        self.family() == Family::V6 && self.local.addr.is_unspecified() && !self.v6only
    }
}

/// Why the kernel refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    AddressInUse,
    AddressNotAvailable,
    Permission,
    Invalid,
    NoFamily,
    Other(i32),
}

impl Refusal {
    /// The refusal for an error number.
    #[must_use]
    pub const fn of_errno(errno: i32) -> Refusal {
        // Numbers of include/uapi/asm-generic/errno.h; they differ on MIPS and others, where this program does not run.
        match errno {
            98 => Refusal::AddressInUse,
            99 => Refusal::AddressNotAvailable,
            13 => Refusal::Permission,
            22 => Refusal::Invalid,
            97 => Refusal::NoFamily,
            other => Refusal::Other(other),
        }
    }

    /// Its name in C; `None` for one that is not expected here.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Refusal::AddressInUse => "EADDRINUSE",
            Refusal::AddressNotAvailable => "EADDRNOTAVAIL",
            Refusal::Permission => "EACCES",
            Refusal::Invalid => "EINVAL",
            Refusal::NoFamily => "EAFNOSUPPORT",
            Refusal::Other(_) => return None,
        })
    }
}

/// What the kernel says of the address and of the port's number alone, whatever sockets there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindFacts {
    pub address: AddressAnswer,
    /// Whether the caller may take a port of this number; `None`: it could not be asked.
    pub port_permitted: Option<bool>,
}

/// What the kernel says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressAnswer {
    Accepted,
    Refused(Refusal),
    /// It could not be asked.
    Unknown,
}

impl AddressAnswer {
    #[must_use]
    pub const fn refusal(self) -> Option<Refusal> {
        match self {
            AddressAnswer::Refused(refusal) => Some(refusal),
            AddressAnswer::Accepted | AddressAnswer::Unknown => None,
        }
    }
}
