//! Connections in CLOSE_WAIT of one process and kind: whether they only become more, how fast, and the words for it.
//!
//! Input: rows of one kind and what went from it. Output: a [`Case`]. Not here: causes and remedies, which are the rule's.

use crate::aggregate::Role;
use crate::diagnose::arrivals::{self, Arrivals};
use crate::diagnose::close_wait::{self, Class, LEAK_ROWS, Moves, Row, TRANSIENT_MS, Unread};
use crate::diagnose::descriptors::Share;
use crate::diagnose::finding::{Evidence, Finding, Subject, most_frequent};
use crate::diagnose::measure::Measure;
use crate::diagnose::rate::Rate;
use crate::diagnose::view::View;
use crate::model::{Process, Socket, State};
use crate::text;

/// Rows of one place with only the FIN unread: a pool that fills up has fewer.
const POOL_ROWS: usize = 32;
/// The same over several places, each with its pool.
const POOLS_ROWS: usize = 100;
/// Percent of the descriptors: what becomes more and has this share hurts, whatever the cause.
const MUCH_PERCENT: f64 = 10.0;
/// Addresses and places that are named.
const NAMED: usize = 3;
/// Rows whose ages alone show that they arrive and stay.
pub const AGED_ROWS: usize = 8;
/// Rows between two samples that make a rate; fewer are chance.
const ROWS_FOR_A_RATE: i64 = 3;
/// The process, or where it is not known the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Culprit {
    Process(u32),
    User(Option<u32>),
}

impl Culprit {
    #[must_use]
    pub fn pid(self) -> Option<u32> {
        match self {
            Culprit::Process(pid) => Some(pid),
            Culprit::User(_) => None,
        }
    }
}

/// What the sentence, the severity and the evidence of one group come from.
pub struct Case<'a> {
    pub culprit: Culprit,
    pub class: Class,
    pub rows: Vec<Row<'a>>,
    /// The rows of the kind, the younger ones included.
    pub of: usize,
    /// `None` without a second sample.
    pub moves: Option<Moves>,
    pub arrivals: Option<Arrivals>,
    pub rate: Option<Rate>,
    pub share: Share,
    /// They only come.
    pub is_leak: bool,
}

impl<'a> Case<'a> {
    #[must_use]
    pub fn new(view: &View<'_>, culprit: Culprit, class: Class, rows: Vec<Row<'a>>, gone: u64) -> Case<'a> {
        let count = |of: fn(&Row<'_>) -> bool| rows.iter().filter(|r| of(r)).count() as u64;
        let moves = view.interval_ms().map(|over_ms| Moves {
            new: count(|r| r.is_new),
            stayed: count(|r| r.has_stayed),
            gone,
            over_ms,
        });
        let leaked = rows.len() as u64;
        let pid = culprit.pid();
        let share = pid.map_or_else(Share::default, |pid| Share::new(view, pid, leaked, None));
        let much = share.percent.is_some_and(|p| p >= MUCH_PERCENT);
        let several = rows.windows(2).any(|w| w[0].at != w[1].at);
        let enough = match class.unread {
            _ if class.is_plain() => LEAK_ROWS,
            Unread::Eof | Unread::LastWords if class.outgoing && !several => POOL_ROWS,
            Unread::Eof | Unread::LastWords if class.outgoing => POOLS_ROWS,
            _ if much => LEAK_ROWS,
            _ => usize::MAX,
        };
        let more = moves.filter(|m| {
            m.only_come() && m.stayed > 0 && rows.len() >= enough && close_wait::come_steadily(&rows, m.over_ms)
        });
        // Leaked rows never leave, so that their ages are the history, unless a second sample says otherwise.
        let exact: Vec<u64> = rows.iter().filter(|r| is_known(r)).map(|r| r.age.min_ms).collect();
        let aged = exact.len() >= AGED_ROWS.min(enough) && exact.iter().any(|ms| *ms >= close_wait::FORGOTTEN_AFTER_MS);
        let stays = moves.is_none_or(|m| m.gone == 0 || m.only_come());
        let plain = class.is_plain() && aged && stays;
        let arrivals = if plain { arrivals::steady(&exact, 0) } else { None };
        let rate = more.and_then(Moves::rate);
        let measured = rate.filter(|_| more.is_some_and(|m| m.net() >= ROWS_FOR_A_RATE)).map(Rate::per_second);
        let share = pid.map_or(share, |pid| Share::new(view, pid, leaked, measured));
        let is_leak = more.is_some() || arrivals.is_some();
        let of = rows.len();
        Case { culprit, class, rows, of, moves, arrivals, rate, share, is_leak }
    }

    #[must_use]
    pub fn sockets(&self) -> Vec<&'a Socket> {
        self.rows.iter().map(|r| r.socket).collect()
    }

    #[must_use]
    pub fn oldest(&self) -> Option<Measure<u64>> {
        let oldest = self.rows.iter().max_by_key(|r| r.age.min_ms)?;
        let ms = oldest.age.min_ms;
        Some(if is_known(oldest) { Measure::Exact(ms) } else { Measure::AtLeast(ms) })
    }

    #[must_use]
    pub fn unread_bytes(&self) -> u64 {
        self.rows.iter().map(|r| u64::from(r.socket.recv_q_bytes.saturating_sub(1))).sum()
    }

    /// When no descriptor is left at the rate of the samples, else at that of the ages.
    #[must_use]
    pub fn exhausted_in(&self) -> Option<Measure<u64>> {
        let per_second = self.rate.map(Rate::per_second).or(self.arrivals.map(|a| a.per_second))?;
        self.share.lasts_ms(per_second).map(Measure::Estimate)
    }

    /// `to 10.0.0.9:443`, `on 0.0.0.0:80`, `to 4 destinations`.
    fn place(&self) -> String {
        let places = close_wait::places(&self.rows);
        let way = if self.class.outgoing { "to" } else { "on" };
        match &places[..] {
            [] => String::new(),
            [(at, _)] => format!(" {way} {at}"),
            several if self.class.outgoing => format!(" to {} destinations", text::grouped(several.len() as u64)),
            several => format!(" on {} listeners", text::grouped(several.len() as u64)),
        }
    }

    fn unread_words(&self) -> String {
        let bytes = self.unread_bytes();
        match self.class.unread {
            Unread::Nothing if self.class.answered => "they were answered and read to EOF, and not closed".into(),
            Unread::Nothing => "everything was read, EOF too".into(),
            Unread::Eof => "EOF is unread".into(),
            Unread::LastWords if self.rows.len() == 1 => {
                format!("the last {} and EOF are unread", text::count(bytes, "byte", "bytes"))
            }
            Unread::LastWords => {
                let most = self.rows.iter().map(|r| r.socket.recv_q_bytes.saturating_sub(1)).max().unwrap_or(0);
                format!("the last {} bytes or fewer of each and EOF are unread", text::grouped(most.into()))
            }
            Unread::Data => format!("{} and EOF are unread", text::bytes(bytes)),
        }
    }

    #[must_use]
    pub fn summary(&self, who: &str) -> String {
        let n = self.rows.len() as u64;
        let place = self.place();
        let unread = self.unread_words();
        let told = self.share.percent.is_some_and(|p| p >= 1.0);
        let share = if told { self.share.words(n) } else { String::new() };
        let oldest = self.oldest().map_or_else(String::new, |m| format!(", the oldest for {}", m.text(text::duration)));
        if !self.is_leak {
            let (count, which) = if self.of > self.rows.len() {
                (format!("{} connections", text::of(n, self.of as u64)), ", those for a minute or more")
            } else {
                (text::count(n, "connection", "connections"), "")
            };
            return format!(
                "{who} keeps {count}{place} open that the other side closed{which}{oldest}{share}; {unread}"
            );
        }
        let more = match (self.rate, self.arrivals) {
            (Some(rate), _) => format!(", {rate} more"),
            (None, Some(arrivals)) => format!(", about {} more", per(arrivals.per_second)),
            (None, None) => String::new(),
        };
        let left = self
            .exhausted_in()
            .map_or_else(String::new, |m| format!(", out of descriptors in {}", m.text(text::duration)));
        format!(
            "{who} does not close connections{place} that the other side closed: {} in CLOSE_WAIT{more}{oldest}{share}\
             {left}; {unread}",
            text::grouped(n)
        )
    }

    #[must_use]
    pub fn confidence(&self, awaited: bool) -> (f64, &'static str) {
        if !self.is_leak && !self.rows.iter().any(|r| r.counted.is_some_and(|c| c.certain)) {
            (0.6, "keepalive of our own hides the age: the FIN may be younger than 60 s")
        } else if awaited {
            (0.6, "the other end, on this host, only shut down its sending side and may still wait for an answer")
        } else if self.is_leak && self.rate.is_some() {
            (if self.class.is_plain() { 0.95 } else { 0.8 }, "more came between the samples, and hardly any went")
        } else if self.is_leak {
            (0.85, "their ages show that they arrive steadily and stay")
        } else {
            (0.8, "they are there for 60 s or more; that they will never be closed is not proven")
        }
    }

    /// How many of the other ends are on this host and still held by a process: it did not close, it only shut down sending.
    #[must_use]
    pub fn peers_half_closed(&self, view: &View<'_>) -> usize {
        let holds_on =
            |r: &&Row<'_>| view.mirror(r.socket).is_some_and(|m| m.state == State::FinWait2 && m.inode.is_some());
        self.rows.iter().filter(holds_on).count()
    }

    /// Whom it is about.
    #[must_use]
    pub fn subject(&self, view: &View<'_>, process: Option<&Process>) -> Subject {
        let netns = self.rows.first().and_then(|r| r.socket.netns);
        let mut subject = match (process, self.culprit) {
            (Some(p), _) => view.subject_of(p, netns),
            (None, Culprit::User(uid)) => Subject { netns, uid, ..Subject::default() },
            (None, Culprit::Process(pid)) => Subject { pid: Some(pid), netns, ..Subject::default() },
        };
        // Every process that holds one of them, when there are several.
        let owners = &view.now.owners;
        let holders = self.rows.iter().flat_map(|r| view.owners(r.socket).1);
        let mut pids: Vec<u32> = holders.map(|h| owners.process(h).pid).collect();
        pids.sort_unstable();
        pids.dedup();
        if pids.len() > 1 {
            subject.pids = pids;
        }
        if let [(at, _)] = close_wait::places(&self.rows)[..] {
            if self.class.outgoing {
                subject.destination = Some(at);
            } else {
                subject.listener = Some(at);
            }
        }
        subject
    }

    /// Adds the numbers to a finding.
    #[must_use]
    pub fn onto(&self, view: &View<'_>, finding: Finding) -> Finding {
        let rows = &self.rows;
        let [mut eof_consumed, mut eof_unread, mut data_unread] = [0u64; 3];
        for row in rows {
            *match row.class.unread {
                Unread::Nothing => &mut eof_consumed,
                Unread::Eof => &mut eof_unread,
                Unread::LastWords | Unread::Data => &mut data_unread,
            } += 1;
        }
        let mut finding = finding
            .evidence("count", Evidence::Count(rows.len() as u64))
            .evidence("eof_consumed", Evidence::Count(eof_consumed))
            .evidence("eof_unread", Evidence::Count(eof_unread))
            .evidence("data_unread", Evidence::Count(data_unread));
        if self.of > rows.len() {
            finding = finding.evidence("count_with_younger", Evidence::Count(self.of as u64));
        }
        if self.unread_bytes() > 0 {
            finding = finding.evidence("unread_bytes", Evidence::Bytes(self.unread_bytes()));
        }
        let mut ages_ms: Vec<u64> = rows.iter().map(|r| r.age.min_ms).collect();
        ages_ms.sort_unstable();
        let exact = rows.iter().filter(|r| is_known(r)).count();
        let ages =
            if exact == rows.len() { "exact".into() } else { format!("{exact} exact, the others at least that") };
        finding = finding
            .evidence("oldest_age_ms", Evidence::millis(ages_ms.last().copied()))
            .evidence("median_age_ms", Evidence::millis(ages_ms.get(rows.len() / 2).copied()))
            .evidence("ages", Evidence::Text(ages));
        let most = rows.iter().filter(|r| !is_known(r)).filter_map(|r| r.age.max_ms).max();
        if let Some(most) = most {
            finding = finding.evidence("oldest_possible_age_ms", Evidence::Millis(most));
        }
        if let Some(arrivals) = self.arrivals {
            finding = finding
                .evidence("arrivals_per_second", Evidence::PerSecond(arrivals.per_second))
                .evidence("arrivals_over_ms", Evidence::Millis(arrivals.over_ms));
        }
        if let Some(moves) = self.moves {
            finding = finding
                .evidence("growth", Evidence::Text(format!("{:+}", moves.net())))
                .evidence("growth_over_ms", Evidence::Millis(moves.over_ms))
                .evidence("came", Evidence::Count(moves.new))
                .evidence("went", Evidence::Count(moves.gone));
        }
        let open = self.peers_half_closed(view);
        if open > 0 {
            finding = finding.evidence("peers_half_closed", Evidence::Count(open as u64));
        }
        places(view, self.share.onto(finding), rows, self.culprit.pid())
    }
}

/// Where the connections come from or go to, and under which numbers the process has them.
fn places(view: &View<'_>, finding: Finding, rows: &[Row<'_>], pid: Option<u32>) -> Finding {
    let name = |r: &Row<'_>| {
        let at = r.at?;
        Some(if r.role == Role::FormerServer { format!(":{} (no longer listening)", at.port) } else { at.to_string() })
    };
    let of = |outgoing: bool| {
        let rows = rows.iter().filter(|r| r.class.outgoing == outgoing);
        most_frequent(rows.filter_map(name), NAMED)
    };
    let mut finding = finding;
    for (key, names) in [("accepted_on", of(false)), ("connected_to", of(true))] {
        if !names.is_empty() {
            finding = finding.evidence(key, Evidence::List(names));
        }
    }
    let remotes = rows.iter().map(|r| r.socket.peer.addr.to_canonical().to_string());
    finding = finding.evidence("remotes", Evidence::List(most_frequent(remotes, NAMED)));
    let owners = &view.now.owners;
    let holders = rows.iter().flat_map(|r| view.owners(r.socket).1);
    let fds: Vec<String> =
        holders.filter(|h| Some(owners.process(h).pid) == pid).take(5).map(|h| h.fd.to_string()).collect();
    if fds.is_empty() {
        return finding
            .evidence("owner", Evidence::Text(view.owners(rows[0].socket).0.words().trim_matches(['(', ')']).into()));
    }
    finding.evidence("sample_fds", Evidence::List(fds))
}

/// Whether the age is known to a second.
fn is_known(row: &Row<'_>) -> bool {
    row.age.max_ms.is_some_and(|max| max - row.age.min_ms < TRANSIENT_MS)
}

/// `12 a minute`.
fn per(per_second: f64) -> String {
    let (rate, unit) = match per_second {
        r if r >= 1.0 => (r, "second"),
        r if r * 60.0 >= 1.0 => (r * 60.0, "minute"),
        r if r * 3600.0 >= 1.0 => (r * 3600.0, "hour"),
        r => (r * 86_400.0, "day"),
    };
    let a = if unit == "hour" { "an" } else { "a" };
    if rate >= 10.0 { format!("{} {a} {unit}", text::rounded(rate)) } else { format!("{rate:.1} {a} {unit}") }
}
