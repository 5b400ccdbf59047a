//! Relays: a process that passed the end of one connection on to another one, and waits for the end of that.
//!
//! Input: CLOSE_WAIT rows of processes. Output: for each the half-closed connection of the same process that belongs to it, found
//! by the kernel's stamps, and to whom these lead. Not here: counts alone, which prove nothing, and severity.
//!
//! What a relay does is in the stamps of its two halves. It sends its FIN when the other FIN came, and data as it comes: the data
//! that one half received last was sent on the other one then, and the other way round.

use std::collections::BTreeMap;

use crate::diagnose::closing;
use crate::diagnose::finding::{Evidence, Finding};
use crate::diagnose::hypothesis::{Cause, Weight};
use crate::diagnose::last_word::{self, By};
use crate::diagnose::peers;
use crate::diagnose::view::View;
use crate::model::{Endpoint, Process, RowKind, Socket, State, TcpInfo};
use crate::text;

pub const CAUSE: Cause = Cause {
    id: "passed-on",
    text: "it passed their end on, and the other side of it does not end",
    predicts: "the process has a FIN_WAIT2 for each of them, which began to wait when it did",
    refuted_by: "no such half, or halves that began at other times",
    decided_by: "the host where the halves lead: its program has the same connections in CLOSE_WAIT (close-wait-leak there)",
};

/// A FIN that is passed on at once is acknowledged within a delayed ACK (`TCP_DELACK_MAX`) and a round trip.
const ACKNOWLEDGED_WITHIN_MS: u64 = 300;
/// Both stamps of what passes through a relay may lie so far apart: a turn of its loop, and ticks of the clock (policy).
const PASSED_WITHIN_MS: u64 = 50;
/// Percent of the rows that have another half, for all of them to be a relay's (policy).
const MOST_PERCENT: usize = 75;
/// Percent from which on a relay is worth a thought (policy).
const SOME_PERCENT: usize = 25;
/// Fewer rows may coincide by chance.
const FEW: usize = 3;

/// The half-closed connections of each process, those that wait longest first.
#[derive(Default)]
pub struct Halves<'a> {
    by_process: BTreeMap<u32, Vec<Half<'a>>>,
}

/// One that a process shut down for writing, and whose peer has not ended.
#[derive(Clone, Copy)]
struct Half<'a> {
    socket: &'a Socket,
    /// Nothing came since, at least not after the acknowledgement of our FIN.
    silent_ms: u64,
}

/// Rows and their other halves.
pub struct PassedOn<'a> {
    /// The half-closed connections, one for each row that has one.
    pub halves: Vec<&'a Socket>,
    /// Of so many rows.
    pub of: usize,
    /// Who holds the other end of most of them, where that is on this host, and how many.
    pub by: Option<(&'a Process, u64)>,
}

impl<'a> Halves<'a> {
    #[must_use]
    pub fn new(view: &View<'a>) -> Halves<'a> {
        let mut by_process: BTreeMap<u32, Vec<Half<'a>>> = BTreeMap::new();
        for socket in view.active().filter(|s| is_half_closed(s)) {
            let Some(silent_ms) = socket.info.as_deref().and_then(TcpInfo::last_ack_recv_ms) else { continue };
            for process in view.holding(socket) {
                by_process.entry(process.pid).or_default().push(Half { socket, silent_ms: silent_ms.into() });
            }
        }
        for halves in by_process.values_mut() {
            halves.sort_by_key(|h| std::cmp::Reverse(h.silent_ms));
        }
        Halves { by_process }
    }

    /// The other halves of CLOSE_WAIT rows with their holders; `None` when they are too few to mean anything.
    #[must_use]
    pub fn of(&self, view: &View<'a>, rows: &[(&'a Socket, Option<&'a Process>)]) -> Option<PassedOn<'a>> {
        let mut by_process: BTreeMap<u32, Vec<(u64, &Socket)>> = BTreeMap::new();
        for (socket, holder) in rows {
            let (Some(process), Some(age)) = (holder, socket.state_age()) else { continue };
            by_process.entry(process.pid).or_default().push((age.min_ms, socket));
        }
        let mut halves: Vec<&'a Socket> = Vec::new();
        for (pid, mut ended) in by_process {
            let Some(candidates) = self.by_process.get(&pid) else { continue };
            ended.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
            pair(&ended, candidates, &mut halves);
        }
        if halves.len() < FEW || halves.len() * 100 < rows.len() * SOME_PERCENT {
            return None;
        }
        let by = closing::other_ends(view, &halves).first().map(|(process, _, n)| (*process, *n));
        Some(PassedOn { by: by.filter(|(_, n)| *n * 2 > halves.len() as u64), halves, of: rows.len() })
    }
}

/// Gives each row, the oldest first, a half of its own.
fn pair<'a>(ended: &[(u64, &Socket)], candidates: &[Half<'a>], found: &mut Vec<&'a Socket>) {
    let mut taken = vec![false; candidates.len()];
    let mut first = 0;
    for (age, socket) in ended {
        // The acknowledgement of our FIN came after the FIN that we passed on.
        while candidates.get(first).is_some_and(|h| h.silent_ms > age + PASSED_WITHIN_MS) {
            first += 1;
        }
        let near = candidates[first..].iter().take_while(|h| h.silent_ms + ACKNOWLEDGED_WITHIN_MS >= *age);
        let fits = near.enumerate().find(|(i, half)| !taken[first + i] && carried_the_same(socket, half.socket));
        if let Some((i, half)) = fits {
            taken[first + i] = true;
            found.push(half.socket);
        }
    }
}

fn is_half_closed(socket: &Socket) -> bool {
    socket.state == State::FinWait2
        && socket.kind == RowKind::Full
        && socket.inode.is_some()
        && socket.shutdown == Some(2)
}

/// Whether what came last on one was sent on the other then, in each direction in which both carried anything.
fn carried_the_same(ended: &Socket, half: &Socket) -> bool {
    let stamps = |s: &Socket| {
        let info = s.info.as_deref()?;
        Some((u64::from(info.last_data_recv_ms()?), u64::from(info.last_data_sent_ms()?), info.bytes_received()?))
    };
    let (Some(one), Some(other)) = (stamps(ended), stamps(half)) else { return false };
    let (Some(one_sent), Some(other_sent)) = (last_word::has_sent(ended), last_word::has_sent(half)) else {
        return false;
    };
    let near = |a: u64, b: u64| a.abs_diff(b) <= PASSED_WITHIN_MS;
    // The FIN counts as a byte that was received.
    let there = one.2 > 1 && other_sent;
    let back = one_sent && other.2 > 0;
    let is_word = last_word::of(half).is_some_and(|w| w.by != By::Nobody);
    (!there || near(one.0, other.1)) && (!back || near(one.1, other.0)) && (there || back || !is_word)
}

/// What it says of [`CAUSE`].
#[must_use]
pub fn weigh(passed: Option<&PassedOn<'_>>) -> Weight {
    match passed {
        Some(passed) if passed.is_proven() => Weight::Proven,
        Some(_) => Weight::Possible(0.4),
        None => Weight::Refuted("its process has no half-closed connections that began to wait when they did".into()),
    }
}

impl PassedOn<'_> {
    /// Hardly a row has no other half.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.halves.len() * 100 >= self.of * MOST_PERCENT
    }

    /// The one endpoint to which all of them lead, or the address with port 0.
    #[must_use]
    pub fn to(&self) -> Option<Endpoint> {
        peers::common_peer(&self.halves)
    }

    /// Adds the numbers to a finding.
    #[must_use]
    pub fn onto(&self, finding: Finding) -> Finding {
        finding
            .evidence("passed_on", Evidence::Count(self.halves.len() as u64))
            .evidence("passed_on_to", closing::peers_evidence(&self.halves))
            .evidence_if("waits_for", self.by.map(|(p, n)| Evidence::Text(format!("{}: {n}", text::name(p)))))
    }

    /// Who has not ended: `java (812) on this host`, `10.0.0.9:80`, `7 peers`.
    #[must_use]
    pub fn whom(&self) -> String {
        match (self.by, self.to()) {
            (Some((process, _)), _) => format!("{} on this host", text::name(process)),
            (None, Some(to)) if to.port != 0 => to.to_string(),
            (None, Some(to)) => to.addr.to_string(),
            (None, None) => "the other side".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::finding::Finding;
    use crate::diagnose::testkit::{World, info, listen, row};

    /// What one half of a relay has in its stamps: the FIN, the last data received and sent.
    fn stamped(socket: Socket, fin: u64, received: u64, sent: u64) -> Socket {
        let fields = [
            ("last_ack_recv_ms", fin),
            ("last_data_recv_ms", received),
            ("last_data_sent_ms", sent),
            ("bytes_sent", 100),
            ("bytes_received", 101),
        ];
        info(socket, &fields)
    }

    /// A client of `proxy` (700) that was answered `answered` before its end, so long ago.
    fn client(n: u16, ended: u64, answered: u64) -> Socket {
        let socket = row(State::CloseWait, "10.0.0.1:80", &format!("10.0.0.9:{}", 20_000 + n));
        stamped(socket, ended, ended + answered + 5, ended + answered)
    }

    /// The half towards the backend at 10.0.0.1:9000 of the same exchange, whose FIN was acknowledged 44 ms later.
    fn half(n: u16, ended: u64, answered: u64) -> Socket {
        let socket = row(State::FinWait2, &format!("10.0.0.1:{}", 30_000 + n), "10.0.0.1:9000");
        let socket = Socket { shutdown: Some(2), ..socket };
        stamped(socket, ended - 44, ended + answered + 1, ended + answered + 4)
    }

    /// 60 clients, one every 190 ms or so, and what the proxy has beside them.
    fn world(beside: impl Fn(u16, u64) -> Option<Socket>) -> World {
        let mut world = World::new();
        world.add(listen("0.0.0.0:80", 0, 128)).hold(700, "proxy", 3, 80 << 16);
        for n in 0..60u16 {
            let ended = 300 + u64::from(n) * 190 + u64::from(n * n % 70);
            let ours = client(n, ended, u64::from(n % 7) * 400);
            let all = [Some(ours), beside(n, ended)];
            for (fd, socket) in (0..).zip(all.into_iter().flatten()) {
                world.hold(700, "proxy", 4 + fd + 2 * u32::from(n), socket.inode).add(socket);
            }
        }
        world.later(2000);
        world.before.as_mut().unwrap().sockets.retain(|s| {
            s.state == State::Listen || s.info.as_ref().and_then(|i| i.last_ack_recv_ms()).is_some_and(|ms| ms >= 2000)
        });
        world
    }

    fn leaks(world: &World) -> Vec<Finding> {
        world.diagnose().findings.into_iter().filter(|f| f.rule == "close-wait-leak").collect()
    }

    fn named(world: &World) -> Option<&'static str> {
        leaks(world)[0].causes.named().map(|c| c.id)
    }

    fn other(n: u16, ended: u64) -> Socket {
        half(n, ended, u64::from(n % 7) * 400)
    }

    #[test]
    fn halves_that_began_to_wait_together_name_the_side_that_does_not_end() {
        let told = leaks(&world(|n, ended| Some(other(n, ended)))).remove(0);
        assert!(told.causes.is("passed-on"), "{told:#?}");
        let whom = "it passed their end on and waits for 10.0.0.1:9000, which has not ended its side";
        assert!(told.summary.starts_with("proxy (700) has not closed connections on 0.0.0.0:80"), "{}", told.summary);
        assert!(told.summary.ends_with(whom), "{}", told.summary);
        assert!(told.remedy[0].starts_with("Find out why 10.0.0.1:9000 does not end its side"), "{:?}", told.remedy);
        assert!(told.evidence.contains(&("passed_on", Evidence::Count(60))), "{:?}", told.evidence);
    }

    #[test]
    fn a_relay_that_loses_its_clients_is_the_leak() {
        assert_eq!(named(&world(|_, _| None)), Some("leak"), "no other halves");
        let before = |n, ended| Some(half(n, ended + 40_000, 0));
        assert_eq!(named(&world(before)), Some("leak"), "as many, and they began to wait long before");
        let other_data = |n, ended: u64| Some(stamped(half(n, ended, 0), ended - 44, ended + 90_000, ended + 95_000));
        assert_eq!(named(&world(other_data)), Some("leak"), "what they carried is not what the clients sent");
        let open = |n, ended| Some(Socket { state: State::Established, ..other(n, ended) });
        assert_eq!(named(&world(open)), Some("leak"), "it did not pass their end on");
        let of_another = |n, ended| (n == 0).then(|| other(n, ended));
        assert_eq!(named(&world(of_another)), Some("leak"), "one is chance");
    }

    #[test]
    fn three_quarters_prove_it_and_half_of_them_leave_it_open() {
        let some = |part: u16| world(move |n, ended| (n % 4 < part).then(|| other(n, ended)));
        assert_eq!((named(&some(3)), named(&some(2)), named(&some(1))), (Some("passed-on"), None, None));
    }

    #[test]
    fn a_backend_on_this_host_is_named_and_leads() {
        let mut world = world(|n, ended| Some(other(n, ended)));
        let end = |world: &mut World, n: u16| {
            let ended = 300 + u64::from(n) * 190 + u64::from(n * n % 70);
            let socket = row(State::CloseWait, "10.0.0.1:9000", &format!("10.0.0.1:{}", 30_000 + n));
            let answered = u64::from(n % 7) * 400;
            let socket = stamped(socket, ended - 1, ended + answered + 2, ended + answered + 1);
            world.hold(900, "backend", 4 + u32::from(n), socket.inode);
            if ended >= 2000 {
                world.before.as_mut().unwrap().sockets.push(socket.clone());
            }
            world.add(socket);
        };
        (0..60).for_each(|n| end(&mut world, n));
        world.add(listen("0.0.0.0:9000", 0, 128)).hold(900, "backend", 3, 9000 << 16);
        let owners = world.now.owners.clone();
        world.before.as_mut().unwrap().owners = owners;
        let diagnosis = world.diagnose();
        let incident = &diagnosis.incidents[0];
        let lead = &diagnosis.findings[incident.cause];
        assert_eq!((lead.rule, lead.subject.pid), ("close-wait-leak", Some(900)), "{:#?}", diagnosis.findings);
        let of_proxy = incident.consequences.iter().map(|i| &diagnosis.findings[*i]).find(|f| f.causes.is("passed-on"));
        assert!(of_proxy.unwrap().summary.contains("waits for backend (900) on this host"), "{of_proxy:#?}");
    }
}
