//! A column in JSON: its key, its type, and its place in the whole socket. The writer, the schema and the documents
//! share it.

use super::Kind;

/// A column in JSON.
#[derive(Clone, Copy, Debug)]
pub struct Json {
    /// The key in the objects of `list -c`, unique, with the unit.
    pub key: &'static str,
    pub ty: Type,
    pub whole: Whole,
}

/// Where `list` without `-c` puts the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// Keys joined by dots; `[]` stands for every element of a list.
    At(&'static str),
    /// Not there, and why.
    NotInJson(&'static str),
}

/// The type of a JSON value.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    Text,
    /// One of a few words.
    Word(fn() -> Vec<&'static str>),
    Integer,
    Port,
    /// From 0 to 1.
    Share,
    Flag,
    /// A 64-bit id, as a string of hexadecimal digits.
    Id,
    Endpoint,
    /// Two bounds of a time.
    Age,
    Timer,
    /// The processes that hold the socket.
    Owners,
    KernelUser,
    SkMem,
    TcpInfo,
    /// A text per process that holds the socket.
    Texts,
    /// A number per process that holds the socket.
    Integers,
}

/// Where a line of the table puts its column; the type follows from the kind unless it is given.
pub(super) struct Place {
    key: &'static str,
    ty: Option<Type>,
    whole: Whole,
}

/// A key that the whole socket has as well.
pub(super) const fn top(key: &'static str) -> Place {
    at(key, key)
}

/// A key with another place in the whole socket.
pub(super) const fn at(key: &'static str, path: &'static str) -> Place {
    Place { key, ty: None, whole: Whole::At(path) }
}

/// A key that only `-c` has.
pub(super) const fn apart(key: &'static str, why: &'static str) -> Place {
    Place { key, ty: None, whole: Whole::NotInJson(why) }
}

impl Place {
    pub(super) const fn is(self, ty: Type) -> Place {
        Place { ty: Some(ty), ..self }
    }

    pub(super) const fn of(self, kind: Kind) -> Json {
        let ty = match (self.ty, kind) {
            (Some(ty), _) => ty,
            (None, Kind::Text | Kind::State | Kind::Address) => Type::Text,
            (None, Kind::Endpoint) => Type::Endpoint,
            (None, Kind::Port) => Type::Port,
            (None, Kind::Flag) => Type::Flag,
            (None, Kind::Id) => Type::Id,
            (None, Kind::Age) => Type::Age,
            (None, Kind::Count | Kind::Bytes | Kind::Millis | Kind::Micros | Kind::BytesPerSecond | Kind::Number) => {
                Type::Integer
            }
        };
        Json { key: self.key, ty, whole: self.whole }
    }
}
