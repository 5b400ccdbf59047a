//! The events of a trace: their fields in a record.
//!
//! Input: the kernel's own descriptions, and the bytes of a record. Output: a [`Record`]. Not here: order, and what is
//! joined to a record later; the formats of errors, resets and repeated segments (`faults`).
//!
//! Circle with `faults`: an event of it becomes a [`Record`], and this knows which events there are.

use super::faults::{Layout, Seen};
use super::fields::{Context, EndFields};
use super::format::{Field, Format, FormatError, PageLayout};
use crate::model::State;
use crate::model::transition::{Transition, is_by_call};

pub(super) const IPPROTO_TCP: u64 = 6;

/// The layout of what is traced.
#[derive(Clone, Debug)]
pub(super) struct Events {
    pub page: PageLayout,
    /// Every event begins with its number.
    pub kind: Field,
    pub change: Change,
    pub destroyed: Option<Destroyed>,
    pub faults: Vec<Layout>,
}

#[derive(Clone, Debug)]
pub(super) struct Change {
    id: u64,
    context: Context,
    address: Field,
    old: Field,
    new: Field,
    protocol: Field,
    ends: EndFields,
}

#[derive(Clone, Debug)]
pub(super) struct Destroyed {
    id: u64,
    address: Field,
    cookie: Field,
}

/// What was read of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub at_ns: u64,
    /// Of the socket, in the kernel's memory; 0: not known.
    pub address: u64,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A change, without what is joined to it later: the wall clock, who made it, the cookie, the bytes and the error. `tid`:
    /// the thread that ran outside of interrupts.
    Change {
        transition: Transition,
        tid: Option<u32>,
    },
    Destroyed {
        cookie: u64,
    },
    Fault(Seen),
}

impl Change {
    pub fn new(format: &Format) -> Result<Change, FormatError> {
        Ok(Change {
            id: format.id,
            context: Context::new(format)?,
            address: format.number("skaddr")?,
            old: format.number("oldstate")?,
            new: format.number("newstate")?,
            protocol: format.number("protocol")?,
            ends: EndFields::new(format)?,
        })
    }

    fn record(&self, at_ns: u64, bytes: &[u8]) -> Option<Record> {
        let state = |field: Field| Some(State::from_kernel(u8::try_from(field.number(bytes)?).ok()?));
        // The filter has kept it out already, if the kernel took it.
        if self.protocol.number(bytes)? != IPPROTO_TCP {
            return None;
        }
        let (family, [local, peer]) = self.ends.read(bytes)?;
        let (old, new) = (state(self.old)?, state(self.new)?);
        let address = self.address.number(bytes)?;
        let transition = Transition {
            at_us: 0,
            monotonic_ns: at_ns,
            netns: None,
            cookie: None,
            address: Some(address),
            family,
            local,
            peer,
            old: Some(old),
            new,
            by: None,
            by_call: is_by_call(old, new),
            traffic: None,
            error: None,
        };
        Some(Record { at_ns, address, what: What::Change { transition, tid: self.context.tid(bytes) } })
    }
}

impl Destroyed {
    pub fn new(text: &str) -> Result<Destroyed, FormatError> {
        let format = Format::parse("tcp:tcp_destroy_sock", text)?;
        Ok(Destroyed { id: format.id, address: format.number("skaddr")?, cookie: format.number("sock_cookie")? })
    }
}

impl Events {
    /// The record in these bytes, if it is one.
    pub fn record(&self, at_ns: u64, bytes: &[u8]) -> Option<Record> {
        let id = self.kind.number(bytes)?;
        if id == self.change.id {
            return self.change.record(at_ns, bytes);
        }
        if let Some(layout) = self.faults.iter().find(|layout| layout.id == id) {
            let seen = layout.seen(at_ns, bytes)?;
            return Some(Record { at_ns, address: seen.at.address.unwrap_or(0), what: What::Fault(seen) });
        }
        let destroyed = self.destroyed.as_ref().filter(|d| d.id == id)?;
        let cookie = destroyed.cookie.number(bytes)?;
        Some(Record { at_ns, address: destroyed.address.number(bytes)?, what: What::Destroyed { cookie } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;

    fn events() -> Events {
        let format = Format::parse("x", super::super::format::tests::EVENT_FORMAT).unwrap();
        let destroyed =
            Destroyed { id: 9, address: Field { offset: 8, size: 8 }, cookie: Field { offset: 16, size: 8 } };
        Events {
            page: super::super::page::tests::layout(),
            kind: format.number("common_type").unwrap(),
            faults: Vec::new(),
            change: Change::new(&format).unwrap(),
            destroyed: Some(destroyed),
        }
    }

    /// ESTABLISHED to FIN_WAIT1 by thread 815, outside of interrupts.
    fn raw() -> Vec<u8> {
        let mut r = vec![0; 72];
        let mut put = |at: usize, bytes: &[u8]| r[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &2287_u16.to_ne_bytes());
        put(4, &815_u32.to_ne_bytes());
        put(8, &0xffff_8880_0000_1000_u64.to_ne_bytes());
        put(16, &1_u32.to_ne_bytes());
        put(20, &4_u32.to_ne_bytes());
        put(24, &443_u16.to_ne_bytes());
        put(26, &50_000_u16.to_ne_bytes());
        put(28, &2_u16.to_ne_bytes());
        put(30, &6_u16.to_ne_bytes());
        put(32, &[10, 0, 0, 1]);
        put(36, &[10, 0, 0, 2]);
        r
    }

    #[test]
    fn a_record_reads_back_field_by_field_and_only_when_it_is_one() {
        let record = events().record(5, &raw()).unwrap();
        assert_eq!((record.at_ns, record.address), (5, 0xffff_8880_0000_1000));
        let What::Change { transition: t, tid } = record.what else { panic!("{record:?}") };
        assert_eq!((t.old, t.new, t.by_call), (Some(State::Established), State::FinWait1, true));
        assert_eq!((t.family, t.address, tid), (Family::V4, Some(0xffff_8880_0000_1000), Some(815)));
        assert_eq!((t.local.to_string(), t.peer.to_string()), ("10.0.0.1:443".into(), "10.0.0.2:50000".into()));
        for length in 0..raw().len() {
            // The IPv6 addresses are not read of an IPv4 record.
            assert_eq!(events().record(5, &raw()[..length]).is_some(), length >= 40, "{length}");
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = raw();
            bytes[at] = byte;
            events().record(5, &bytes)
        };
        assert!(with(0, 0).is_none() && with(30, 132).is_none() && with(28, 1).is_none());
        for flags in [0x08, 0x10, 0x40, 0x18] {
            assert!(matches!(with(2, flags).unwrap().what, What::Change { tid: None, .. }), "{flags:#x}");
        }
        assert!(matches!(with(2, 0x01).unwrap().what, What::Change { tid: Some(815), .. }));
        let mut bytes = raw();
        bytes[0..2].copy_from_slice(&9_u16.to_ne_bytes());
        bytes[16..24].copy_from_slice(&77_u64.to_ne_bytes());
        assert_eq!(events().record(5, &bytes).unwrap().what, What::Destroyed { cookie: 77 });
    }
}
