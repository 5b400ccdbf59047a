//! Why a sample could not be taken: one line with the way out.

use std::fmt;

use crate::collect;
use crate::model::Gap;

/// An error of the sampler.
#[derive(Debug)]
pub enum Error {
    Collect(collect::Error),
    /// The owners of sockets could not be read.
    Owners(collect::Error),
    /// The filter has a part that only the kernel can check, in a place where it cannot.
    Filter(String),
    /// A trace was required and cannot be started.
    Trace(Box<Gap>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Collect(error) => error.fmt(f),
            Error::Owners(error) => write!(f, "{error}; use --no-owners to do without"),
            Error::Filter(why) => write!(f, "filter: {why}"),
            Error::Trace(_) => f.write_str("--trace: cannot trace here"),
        }
    }
}

impl std::error::Error for Error {}

impl From<collect::Error> for Error {
    fn from(error: collect::Error) -> Error {
        Error::Collect(error)
    }
}
