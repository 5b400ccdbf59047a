//! The events of a trace beside changes of state: errors of sockets, resets and repeated segments.
//!
//! Input: the kernel's own description of each event, and the bytes of a record. Output: a [`Seen`]. Not here: which change
//! of state an error belongs to (`join`).
//!
//! Formats differ between kernels. What a record must have is its ends; the rest is read where it is.

use super::fields::{Context, EndFields};
use super::format::{Field, Format, FormatError, symbols};
use crate::model::event::{ResetReason, Sighting};
use crate::model::{Errno, State};

const IPPROTO_TCP: u64 = 6;

/// The events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// `sk_error_report` (`net/core/sock.c`): a socket that a process holds got an error. The record has no address of the
    /// socket.
    ErrorReport,
    ResetSent,
    ResetReceived,
    Retransmit,
}

impl Point {
    pub const ALL: [Point; 4] = [Point::ErrorReport, Point::ResetSent, Point::ResetReceived, Point::Retransmit];

    /// As the kernel names it.
    pub const fn name(self) -> &'static str {
        match self {
            Point::ErrorReport => "sock:inet_sk_error_report",
            Point::ResetSent => "tcp:tcp_send_reset",
            Point::ResetReceived => "tcp:tcp_receive_reset",
            Point::Retransmit => "tcp:tcp_retransmit_skb",
        }
    }

    /// Its directory.
    pub fn path(self) -> String {
        format!("events/{}", self.name().replace(':', "/"))
    }

    /// The field that tells more than that it happened.
    const fn value(self) -> Option<&'static str> {
        match self {
            Point::ErrorReport => Some("error"),
            Point::ResetSent => Some("reason"),
            Point::ResetReceived => None,
            Point::Retransmit => Some("err"),
        }
    }
}

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// 0: the process has taken it already.
    Error(i32),
    /// `None`: this kernel does not say why.
    ResetSent(Option<ResetReason>),
    ResetReceived,
    /// Why it did not leave.
    Retransmit(Option<Errno>),
}

/// A fault, where it happened, and the thread that ran outside of interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub fault: Fault,
    /// Without the wall clock, and who it was.
    pub at: Sighting,
    pub tid: Option<u32>,
}

/// The layout of one of the events.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub id: u64,
    point: Point,
    context: Context,
    ends: EndFields,
    address: Option<Field>,
    cookie: Option<Field>,
    state: Option<Field>,
    protocol: Option<Field>,
    value: Option<Field>,
    reasons: Vec<(u32, ResetReason)>,
}

impl Layout {
    pub fn new(point: Point, text: &str) -> Result<Layout, FormatError> {
        let format = Format::parse(point.name(), text)?;
        let optional = |name| format.number(name).ok();
        let named = |(number, name): (u32, &str)| Some((number, ResetReason::from_kernel(name)?));
        Ok(Layout {
            id: format.id,
            point,
            context: Context::new(&format)?,
            ends: EndFields::new(&format)?,
            address: optional("skaddr"),
            cookie: optional("sock_cookie"),
            state: optional("state"),
            protocol: optional("protocol"),
            value: point.value().and_then(optional),
            reasons: symbols(text, "reason").filter_map(named).collect(),
        })
    }

    pub const fn point(&self) -> Point {
        self.point
    }

    /// Whether resets have their reason.
    pub fn has_reasons(&self) -> bool {
        self.value.is_some() && !self.reasons.is_empty()
    }

    pub fn seen(&self, at_ns: u64, bytes: &[u8]) -> Option<Seen> {
        if let Some(protocol) = self.protocol
            && protocol.number(bytes)? != IPPROTO_TCP
        {
            return None;
        }
        let known = |field: Option<Field>| field.and_then(|field| field.number(bytes)).filter(|number| *number != 0);
        // Errors are signed numbers of 4 bytes.
        let value = self.value.and_then(|field| u32::try_from(field.number(bytes)?).ok());
        let fault = match self.point {
            Point::ErrorReport => Fault::Error(value?.cast_signed()),
            Point::ResetSent => {
                let number = value.filter(|_| self.has_reasons());
                Fault::ResetSent(number.map(|number| ResetReason::from_number(&self.reasons, number)))
            }
            Point::ResetReceived => Fault::ResetReceived,
            Point::Retransmit => {
                let error = value.unwrap_or(0).cast_signed().saturating_abs();
                Fault::Retransmit((error != 0).then_some(Errno(error)))
            }
        };
        let (family, [local, peer]) = self.ends.read(bytes)?;
        let at = Sighting {
            at_us: 0,
            monotonic_ns: at_ns,
            netns: None,
            cookie: known(self.cookie),
            address: known(self.address),
            family,
            local,
            peer,
            state: known(self.state).and_then(|number| Some(State::from_kernel(u8::try_from(number).ok()?))),
            by: None,
        };
        Some(Seen { fault, at, tid: self.context.tid(bytes) })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const COMMON: &str = "ID: 77\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n";
    const SPLIT: &str = "\tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;\n\
        \tfield:int state;\toffset:16;\tsize:4;\tsigned:1;\n\
        \tfield:__u16 sport;\toffset:20;\tsize:2;\tsigned:0;\n\tfield:__u16 dport;\toffset:22;\tsize:2;\tsigned:0;\n\
        \tfield:__u8 saddr[4];\toffset:24;\tsize:4;\tsigned:0;\n\tfield:__u8 daddr[4];\toffset:28;\tsize:4;\tsigned:0;\n\
        \tfield:__u8 saddr_v6[16];\toffset:32;\tsize:16;\tsigned:0;\n\
        \tfield:__u8 daddr_v6[16];\toffset:48;\tsize:16;\tsigned:0;\n";
    /// Linux 6.10 and later.
    const SENT: &str = "\tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;\n\
        \tfield:int state;\toffset:16;\tsize:4;\tsigned:1;\n\
        \tfield:enum sk_rst_reason reason;\toffset:20;\tsize:4;\tsigned:0;\n\
        \tfield:__u8 saddr[28];\toffset:24;\tsize:28;\tsigned:0;\n\tfield:__u8 daddr[28];\toffset:52;\tsize:28;\tsigned:0;\n\
        print fmt: \"state=%s reason=%s\", __print_symbolic(REC->state, { 7, \"TCP_CLOSE\" }), \
        __print_symbolic(REC->reason, { 0, \"NOT_SPECIFIED\" }, { 1, \"NO_SOCKET\" }, { 4, \"LATER\" })\n";

    pub(crate) fn layout(point: Point, text: &str) -> Layout {
        Layout::new(point, &format!("{COMMON}{text}")).unwrap()
    }

    fn bytes(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut record = vec![0; 80];
        for (at, part) in parts {
            record[*at..*at + part.len()].copy_from_slice(part);
        }
        record
    }

    #[test]
    fn a_reset_has_its_reason_by_the_names_of_the_kernel() {
        let layout = layout(Point::ResetSent, SENT);
        assert!(layout.has_reasons());
        let v4 = |port: u16, last: u8| {
            let mut address = vec![0; 8];
            address[..2].copy_from_slice(&2_u16.to_ne_bytes());
            address[2..4].copy_from_slice(&port.to_be_bytes());
            address[4..8].copy_from_slice(&[10, 0, 0, last]);
            address
        };
        let (local, peer) = (v4(443, 1), v4(50_000, 2));
        let record = |reason: u32| {
            let reason = reason.to_ne_bytes();
            bytes(&[(4, &815_u32.to_ne_bytes()), (20, &reason), (24, &local), (52, &peer)])
        };
        let seen = layout.seen(5, &record(1)).unwrap();
        assert_eq!((seen.fault, seen.tid), (Fault::ResetSent(Some(ResetReason::NoSocket)), Some(815)));
        assert_eq!(
            (seen.at.local.to_string(), seen.at.peer.to_string()),
            ("10.0.0.1:443".into(), "10.0.0.2:50000".into())
        );
        assert_eq!((seen.at.state, seen.at.address, seen.at.monotonic_ns), (None, None, 5), "there is no socket");
        // Named by the kernel and not known here, or not even named.
        for number in [4, 9] {
            let fault = layout.seen(5, &record(number)).unwrap().fault;
            assert_eq!(fault, Fault::ResetSent(Some(ResetReason::Unknown(number))));
        }
        for length in 0..80 {
            assert_eq!(layout.seen(5, &record(1)[..length]).is_some(), length >= 80, "{length}");
        }
    }

    #[test]
    fn older_kernels_have_neither_reason_nor_family() {
        let layout = layout(Point::ResetSent, SPLIT);
        assert!(!layout.has_reasons());
        let mapped = |last: u8| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last];
        let ports = [&443_u16.to_ne_bytes()[..], &50_000_u16.to_ne_bytes()].concat();
        let v4 = bytes(&[
            (2, &[0x10]),
            (4, &815_u32.to_ne_bytes()),
            (8, &9_u64.to_ne_bytes()),
            (16, &7_u32.to_ne_bytes()),
            (20, &ports),
            (24, &[10, 0, 0, 1, 10, 0, 0, 2]),
            (32, &mapped(1)),
            (48, &mapped(2)),
        ]);
        let seen = layout.seen(5, &v4).unwrap();
        assert_eq!((seen.fault, seen.tid), (Fault::ResetSent(None), None), "a packet is handled");
        assert_eq!((seen.at.state, seen.at.address), (Some(State::Close), Some(9)));
        assert_eq!(seen.at.peer.to_string(), "10.0.0.2:50000");
        let v6 = bytes(&[(20, &ports), (32, &std::net::Ipv6Addr::LOCALHOST.octets())]);
        assert_eq!(layout.seen(5, &v6).unwrap().at.local.to_string(), "[::1]:443");
    }

    #[test]
    fn errors_have_their_sign_and_other_protocols_are_skipped() {
        let again = layout(Point::Retransmit, &format!("{SPLIT}\tfield:int err;\toffset:64;\tsize:4;\tsigned:1;\n"));
        let record = |error: i32| bytes(&[(64, &error.to_ne_bytes())]);
        assert_eq!(again.seen(5, &record(0)).unwrap().fault, Fault::Retransmit(None));
        let failed = again.seen(5, &record(-libc::ENOBUFS)).unwrap().fault;
        assert_eq!(failed, Fault::Retransmit(Some(Errno(libc::ENOBUFS))));
        let fields = "\tfield:int error;\toffset:64;\tsize:4;\tsigned:1;\n\tfield:__u16 protocol;\toffset:68;\tsize:2;\tsigned:0;\n";
        let error = layout(Point::ErrorReport, &format!("{SPLIT}{fields}"));
        let record = |protocol: u16| bytes(&[(64, &111_i32.to_ne_bytes()), (68, &protocol.to_ne_bytes())]);
        assert_eq!(error.seen(5, &record(6)).unwrap().fault, Fault::Error(111));
        assert_eq!(error.seen(5, &record(132)), None);
        assert!(Layout::new(Point::ErrorReport, COMMON).is_err(), "without its ends it is of no use");
    }
}
