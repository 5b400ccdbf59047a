//! Who sent the last data of a connection, and how long ago: the stamps of data, which acknowledgements do not move.
//!
//! Input: a row. Output: the sender and an exact time. `tcp_event_data_sent` and `tcp_event_data_recv` set the stamps;
//! the end of the handshake sets both (`tcp_finish_connect`, `tcp_create_openreq_child`), so a connection without any
//! data tells its age.

use crate::model::Socket;

/// Who sent the last data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// No byte was sent in either direction.
    Nobody,
    Us,
    Peer,
    /// Both within one tick: a request and its answer.
    Either,
}

/// The last data of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastWord {
    pub by: By,
    /// Since then, or since the handshake when there was no data.
    pub ago_ms: u64,
}

/// Both stamps of one exchange may fall into one tick of the kernel's clock (`HZ` 100).
const TICK_MS: u32 = 10;

/// The last data, as the row tells it; `None` where the source has no `tcp_info`.
#[must_use]
pub fn of(socket: &Socket) -> Option<LastWord> {
    let info = socket.info.as_deref()?;
    let (sent_ms, received_ms) = (info.last_data_sent_ms()?, info.last_data_recv_ms()?);
    let ago_ms = u64::from(sent_ms.min(received_ms));
    let by = match (has_sent(socket)?, info.bytes_received()? > 0) {
        (false, false) => By::Nobody,
        (true, true) if sent_ms.abs_diff(received_ms) <= TICK_MS => By::Either,
        (true, received) if !received || sent_ms < received_ms => By::Us,
        _ => By::Peer,
    };
    Some(LastWord { by, ago_ms })
}

/// An answer that comes within this is no wait (policy).
pub const PROMPT_MS: u64 = 1000;

/// For how long what we sent last has had no answer, once that is a wait.
#[must_use]
pub fn unanswered_ms(socket: &Socket) -> Option<u64> {
    of(socket).filter(|last| last.by == By::Us && last.ago_ms >= PROMPT_MS).map(|last| last.ago_ms)
}

/// Whether we sent any data: the SYN counts as one acknowledged byte (`tcp_ack`).
#[must_use]
pub fn has_sent(socket: &Socket) -> Option<bool> {
    let info = socket.info.as_deref()?;
    match info.bytes_sent() {
        Some(sent) => Some(sent > 0),
        // Before Linux 4.19.
        None => Some(info.bytes_acked()? > 1 || socket.send_q_bytes? > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{info, row};
    use crate::model::State;

    fn last(fields: &[(&str, u64)]) -> LastWord {
        of(&info(row(State::Established, "10.0.0.1:5000", "10.0.0.2:80"), fields)).unwrap()
    }

    #[test]
    fn the_stamps_tell_who_spoke_last() {
        let stamps = |sent, received| [("last_data_sent_ms", sent), ("last_data_recv_ms", received)];
        let with = |sent, received, bytes: &[(&str, u64)]| last(&[&stamps(sent, received)[..], bytes].concat());
        let both = [("bytes_sent", 9), ("bytes_received", 9)];
        assert_eq!(with(900, 900, &[("bytes_acked", 1)]), LastWord { by: By::Nobody, ago_ms: 900 });
        assert_eq!(with(900, 40, &both), LastWord { by: By::Peer, ago_ms: 40 });
        assert_eq!(with(40, 900, &both), LastWord { by: By::Us, ago_ms: 40 });
        assert_eq!(with(40, 900, &both[..1]).by, By::Us, "an unanswered first request");
        assert_eq!(with(900, 40, &both[1..]).by, By::Peer, "a greeting");
        assert_eq!((with(40, 50, &both).by, with(40, 51, &both).by), (By::Either, By::Us));
        assert_eq!(of(&row(State::Established, "10.0.0.1:5000", "10.0.0.2:80")), None);
    }
}
