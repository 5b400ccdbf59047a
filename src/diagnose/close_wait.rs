//! CLOSE_WAIT rows that a process holds: which of them are old enough to count.

use crate::aggregate::Role;
use crate::diagnose::view::View;
use crate::model::socket::AgeBracket;
use crate::model::sysctl::TCP_FIN_TIMEOUT_MS;
use crate::model::{Socket, State, TcpInfo};

/// `TCP_FIN_TIMEOUT` (`include/net/tcp.h`), the default: after it a Linux peer that closed has forgotten the connection,
/// so that the row can never be of use again.
pub const FORGOTTEN_AFTER_MS: u64 = TCP_FIN_TIMEOUT_MS;
/// A younger row is transient.
pub const TRANSIENT_MS: u64 = 1000;

/// A CLOSE_WAIT row that counts.
#[derive(Clone, Copy)]
pub struct Counted<'a> {
    pub socket: &'a Socket,
    pub role: Role,
    pub age: AgeBracket,
    /// Its age is 60 s or more; else 60 s is only inside what is possible.
    pub certain: bool,
}

/// Whether a held CLOSE_WAIT row counts: nothing is being sent, and its FIN came 60 s ago or more. A row whose age is
/// only known to be possibly that (our own keepalive draws ACKs) counts if it was there before.
#[must_use]
pub fn counted<'a>(view: &View<'_>, socket: &'a Socket, role: Role) -> Option<Counted<'a>> {
    let (age, certain) = old_enough(socket)?;
    let earlier = view.earlier(socket);
    let bytes_sent = |s: &Socket| s.info.as_deref().and_then(TcpInfo::bytes_sent);
    if let Some(earlier) = earlier
        && bytes_sent(earlier) < bytes_sent(socket)
    {
        return None;
    }
    let was_there = earlier.is_some_and(|e| e.state == State::CloseWait);
    // Before there is a second sample the row is only a suspicion, which `check` tells apart.
    (certain || was_there || view.before.is_none()).then_some(Counted { socket, role, age, certain })
}

/// The age, and whether it is certain to be that of a row that counts.
#[must_use]
pub fn old_enough(socket: &Socket) -> Option<(AgeBracket, bool)> {
    if socket.state != State::CloseWait || socket.inode.is_none() || socket.send_q_bytes.is_some_and(|q| q > 0) {
        return None;
    }
    let age = socket.state_age()?;
    let sent_ms = socket.info.as_deref()?.last_data_sent_ms().map_or(u64::MAX, u64::from);
    if age.min_ms >= FORGOTTEN_AFTER_MS {
        return (sent_ms >= age.min_ms).then_some((age, true));
    }
    let possible = age.min_ms >= TRANSIENT_MS && age.max_ms.is_some_and(|max| max >= FORGOTTEN_AFTER_MS);
    (possible && sent_ms >= FORGOTTEN_AFTER_MS).then_some((age, false))
}
