//! A JSON object, appended to a buffer.
//!
//! This is a hot path, so keys are written as they are (they need no escapes), and nothing is allocated.

use std::io::{self, Write};
use std::net::IpAddr;

use serde::Serialize;

use crate::model::digits::Dotted;
use crate::model::{Endpoint, State};

/// A key of the schema with its punctuation: one copy instead of three. None needs an escape.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}
pub(crate) use key;

/// An object being written.
pub struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    pub fn begin(out: &'o mut Vec<u8>) -> Object<'o> {
        out.push(b'{');
        Object { out, empty: true }
    }

    pub fn end(self) {
        self.out.push(b'}');
    }

    /// A key as [`key!`] writes it; the caller appends its value.
    #[inline]
    pub fn key(&mut self, key: &str) -> &mut Vec<u8> {
        self.out.extend_from_slice(if self.empty { &key.as_bytes()[1..] } else { key.as_bytes() });
        self.empty = false;
        self.out
    }

    /// A number under a key that is known only at run time.
    pub fn named(&mut self, name: &'static str, value: Option<u64>) -> io::Result<()> {
        self.out.extend_from_slice(if self.empty { b"\"" } else { b",\"" });
        self.empty = false;
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        Ok(serde_json::to_writer(&mut *self.out, &value)?)
    }

    /// A number, `null`, or a text that may contain anything.
    #[inline]
    pub fn value<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> io::Result<()> {
        Ok(serde_json::to_writer(self.key(key), value)?)
    }

    /// A word of the schema, which needs no escape either.
    #[allow(clippy::unnecessary_wraps, reason = "as every other value of a table of fields")]
    #[inline]
    pub fn word(&mut self, key: &'static str, word: &'static str) -> io::Result<()> {
        write_word(self.key(key), word);
        Ok(())
    }

    /// A state, which may be an unnamed one.
    #[inline]
    pub fn state(&mut self, key: &'static str, state: State) -> io::Result<()> {
        write_state(self.key(key), state)
    }

    #[allow(clippy::unnecessary_wraps, reason = "as every other value of a table of fields")]
    #[inline]
    pub fn null(&mut self, key: &'static str) -> io::Result<()> {
        self.key(key).extend_from_slice(b"null");
        Ok(())
    }

    /// A 64-bit id: more than a JSON number can hold.
    #[inline]
    pub fn hex(&mut self, key: &'static str, id: Option<u64>) -> io::Result<()> {
        let Some(id) = id else { return self.null(key) };
        write_hex(self.key(key), id);
        Ok(())
    }

    #[inline]
    pub fn endpoint(&mut self, key: &'static str, endpoint: Endpoint) -> io::Result<()> {
        write_endpoint(self.key(key), endpoint)
    }
}

pub fn write_state(out: &mut Vec<u8>, state: State) -> io::Result<()> {
    match state {
        State::Unknown(_) => serde_json::to_writer(out, &state.to_string())?,
        known => write_word(out, known.key()),
    }
    Ok(())
}

#[inline]
fn write_word(out: &mut Vec<u8>, word: &'static str) {
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

pub fn write_hex(out: &mut Vec<u8>, id: u64) {
    out.extend_from_slice(b"\"0x");
    let digits = (16 - id.leading_zeros() / 4).max(1);
    out.extend((0..digits).rev().map(|i| b"0123456789abcdef"[(id >> (4 * i) & 15) as usize]));
    out.push(b'"');
}

pub fn write_endpoint(out: &mut Vec<u8>, endpoint: Endpoint) -> io::Result<()> {
    let mut inner = Object::begin(out);
    let out = inner.key(key!("addr"));
    out.push(b'"');
    write_address(out, endpoint.addr)?;
    out.push(b'"');
    inner.value(key!("port"), &endpoint.port)?;
    inner.end();
    Ok(())
}

pub fn write_address(out: &mut Vec<u8>, addr: IpAddr) -> io::Result<()> {
    match addr {
        IpAddr::V4(addr) => out.write_all(Dotted::new(addr).as_str().as_bytes()),
        IpAddr::V6(addr) => write!(out, "{addr}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_the_standard_library_prints_them() {
        for addr in ["0.0.0.0", "255.255.255.255", "1.20.100.9", "::ffff:1.2.3.4", "fe80::1"] {
            let addr: IpAddr = addr.parse().unwrap();
            let mut out = Vec::new();
            write_address(&mut out, addr).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), addr.to_string());
        }
    }
}
