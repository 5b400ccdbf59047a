//! Connections in CLOSE_WAIT of one process, or of one program in many, and of one kind: whether they only become more,
//! how fast, and the words for it.
//!
//! Input: a view. Output: [`Case`]s. Not here: causes and remedies, which are the rule's.

/// The causes.
mod causes;

use std::collections::BTreeMap;

use crate::aggregate::Role;
use crate::diagnose::arrivals::{self, Arrivals};
use crate::diagnose::close_wait::{self, Class, Gone, LEAK_ROWS, Moves, Row, TRANSIENT_MS, Unread};
use crate::diagnose::closing::Place;
use crate::diagnose::descriptors::Share;
use crate::diagnose::family::{self, Culprit, Kin, Members};
use crate::diagnose::fd_inheritance::FdInheritance;
use crate::diagnose::finding::{Evidence, Finding, Subject, most_frequent};
use crate::diagnose::measure::Measure;
use crate::diagnose::rate::Rate;
use crate::diagnose::view::View;
use crate::model::{Endpoint, Process, Socket, State};
use crate::text;
pub use causes::CAUSES;

/// Rows of one place with only the FIN unread: a pool that fills up has fewer.
const POOL_ROWS: usize = 32;
/// The same over several places, each with its pool.
const POOLS_ROWS: usize = 100;
/// Percent of the descriptors: what becomes more and has this share hurts, whatever the cause.
const MUCH_PERCENT: f64 = 10.0;
/// Addresses and places that are named.
const NAMED: usize = 3;
/// Rows whose ages alone show that they arrive and stay.
const AGED_ROWS: usize = 8;
/// So many rows of one look, the oldest of which is so old, that were answered and read to the end (policy).
const MANY_ROWS: usize = 32;
const STANDING_MS: u64 = 8000;
/// Rows between two samples that make a rate; fewer are chance.
const ROWS_FOR_A_RATE: i64 = 3;

/// Whose, of which kind, and where.
type Cell = (Culprit, Class, Option<Endpoint>);

/// All rows on which nothing happens, but for those that only a helper has.
#[derive(Default)]
pub struct Cells<'a> {
    by_process: BTreeMap<Cell, Vec<Row<'a>>>,
}

impl<'a> Cells<'a> {
    #[must_use]
    pub fn new(view: &View<'a>, holding: &FdInheritance<'_, 'a>) -> Cells<'a> {
        let mut cells = Cells::default();
        for (socket, role) in view.restless_rows() {
            let Some(row) = close_wait::row(view, socket, role) else { continue };
            if holding.inherited(socket, role).is_some_and(|i| i.alone) {
                continue;
            }
            let holder = holding.principal(socket, role);
            let culprit = holder.map_or(Culprit::User(socket.uid), |p| Culprit::Process(p.pid));
            cells.by_process.entry((culprit, row.class, row.at)).or_default().push(Row { holder, ..row });
        }
        cells
    }

    /// What only a second sample can tell: whether rows become more, and how old those are that send keepalive probes.
    #[must_use]
    pub fn wants_second(&self, view: &View<'_>) -> Option<String> {
        let rows = || self.by_process.values().flatten();
        if rows().any(|r| r.counted.is_some_and(|c| !c.certain)) {
            return Some("CLOSE_WAIT sockets with keepalive hide their age".into());
        }
        let mut alone: BTreeMap<(Culprit, bool), Vec<u64>> = BTreeMap::new();
        let mut together: BTreeMap<(Kin, bool), Vec<u64>> = BTreeMap::new();
        for ((culprit, class, at), rows) in &self.by_process {
            let ages = rows.iter().map(|r| r.age.min_ms);
            if let Some(kin) = kin(view, *class, *at, rows) {
                together.entry((kin, class.outgoing)).or_default().extend(ages.clone());
            }
            alone.entry((culprit.clone(), class.outgoing)).or_default().extend(ages);
        }
        let spread = |ages: &&Vec<u64>| {
            let (youngest, oldest) = (ages.iter().min().copied(), ages.iter().max().copied());
            ages.len() >= AGED_ROWS && oldest.zip(youngest).is_some_and(|(o, y)| o - y >= TRANSIENT_MS)
        };
        let ages = alone.values().chain(together.values()).find(spread)?;
        let n = text::grouped(ages.len() as u64);
        Some(format!("{n} CLOSE_WAIT sockets that came at different times may become more"))
    }

    /// What becomes more at one place is told of that place; the rest by what is unread, over all places. What no process
    /// shows alone, those of one program may show together.
    #[must_use]
    pub fn cases(self, view: &View<'a>) -> Vec<Case<'a>> {
        let gone = Gone::new(view);
        let judge = |(culprit, class, at): Cell, rows: Vec<Row<'a>>| {
            let left = gone.count(&culprit, class, at);
            Case::new(view, culprit, class, rows, left)
        };
        let mut leaks = Vec::new();
        let mut others: Vec<(Cell, Vec<Row<'a>>)> = Vec::new();
        for (cell, rows) in self.by_process {
            let case = judge(cell.clone(), rows);
            if case.is_leak {
                leaks.push(case);
            } else {
                others.push((cell, case.rows));
            }
        }
        let mut rest: BTreeMap<(Culprit, bool, Unread), Vec<Row<'a>>> = BTreeMap::new();
        for ((culprit, class, at), mut rows) in by_family(view, others) {
            if matches!(culprit, Culprit::Family(_)) {
                let case = judge((culprit.clone(), class, at), rows);
                if case.is_leak {
                    leaks.push(case);
                    continue;
                }
                rows = case.rows;
            }
            rest.entry((culprit, class.outgoing, class.unread)).or_default().extend(rows);
        }
        for ((culprit, outgoing, unread), rows) in rest {
            let class = Class { outgoing, unread, answered: rows.iter().all(|r| r.class.answered) };
            let whole = judge((culprit.clone(), class, None), rows);
            if whole.is_leak {
                leaks.push(whole);
                continue;
            }
            let mut rows = whole.rows;
            let of = rows.len();
            if view.before.is_none() && stands_unclosed(class, &rows) {
                rows.retain(|r| r.age.min_ms >= TRANSIENT_MS);
                leaks.push(Case { of, ..Case::new(view, culprit, class, rows, 0) });
                continue;
            }
            // Rows whose age is only possibly a minute are a suspicion before there is a second sample.
            rows.retain(|r| r.counted.is_some_and(|c| c.certain || view.before.is_some()));
            if !rows.is_empty() {
                leaks.push(Case { of, ..Case::new(view, culprit, class, rows, 0) });
            }
        }
        leaks
    }
}

/// The kin of the process behind the rows of a cell; `None` when they are so many that it speaks for itself.
fn kin(view: &View<'_>, class: Class, at: Option<Endpoint>, rows: &[Row<'_>]) -> Option<Kin> {
    let first = rows.first().filter(|_| rows.len() < LEAK_ROWS)?;
    Some(Kin::of(view, first.holder?, first.socket.netns, at.filter(|_| !class.outgoing)))
}

/// Rows of processes of which each has a few, by family where there are several; all others by process as before.
fn by_family<'a>(view: &View<'a>, cells: Vec<(Cell, Vec<Row<'a>>)>) -> BTreeMap<Cell, Vec<Row<'a>>> {
    let kins = family::of_several(cells.iter().map(|((_, class, at), rows)| {
        let pid = rows.first().and_then(|r| r.holder).map(|p| p.pid);
        ((class.outgoing, class.unread), pid.zip(kin(view, *class, *at, rows)))
    }));
    let mut merged: BTreeMap<Cell, Vec<Row<'a>>> = BTreeMap::new();
    for (kin, ((culprit, class, at), rows)) in kins.into_iter().zip(cells) {
        merged.entry((kin.map_or(culprit, Culprit::Family), class, at)).or_default().extend(rows);
    }
    merged
}

/// Whether one look shows many that were read to the end, and of which no younger ones are waited for: seconds old, and closed
/// by nobody. That they never will be takes a second look.
fn stands_unclosed(class: Class, rows: &[Row<'_>]) -> bool {
    let old = rows.iter().filter(|r| r.age.min_ms >= TRANSIENT_MS).count();
    let oldest = rows.iter().map(|r| r.age.min_ms).max();
    class.is_plain()
        && class.unread == Unread::Nothing
        && old >= MANY_ROWS
        && oldest.is_some_and(|ms| (STANDING_MS..close_wait::FORGOTTEN_AFTER_MS).contains(&ms))
}

/// How many rows of a kind no pool of so many processes has, and no requests that are at work.
fn enough(class: Class, rows: &[Row<'_>], processes: usize, much: bool) -> usize {
    let several = rows.windows(2).any(|w| w[0].at != w[1].at);
    match class.unread {
        Unread::Nothing if class.outgoing => LEAK_ROWS * processes,
        _ if class.is_plain() => LEAK_ROWS,
        Unread::Eof | Unread::LastWords if class.outgoing && !several => POOL_ROWS * processes,
        Unread::Eof | Unread::LastWords if class.outgoing => POOLS_ROWS * processes,
        _ if much => LEAK_ROWS,
        _ => usize::MAX,
    }
}

/// What the sentence, the severity and the evidence of one group come from.
pub struct Case<'a> {
    pub culprit: Culprit,
    pub class: Class,
    pub rows: Vec<Row<'a>>,
    /// The processes behind them; none when they are not known.
    pub members: Members<'a>,
    /// The rows of the kind, the younger ones included.
    pub of: usize,
    /// `None` without a second sample.
    pub moves: Option<Moves>,
    pub arrivals: Option<Arrivals>,
    pub rate: Option<Rate>,
    /// Of the process that has most.
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
        let members = Members::of(rows.iter().filter_map(|r| r.holder));
        let alone = members.len() <= 1;
        let share = |per_second| {
            let of = |(p, n): (&Process, usize)| Share::new(view, p.pid, n as u64, per_second);
            members.lead().map_or_else(Share::default, of)
        };
        let much = share(None).percent.is_some_and(|p| p >= MUCH_PERCENT);
        let enough = enough(class, &rows, members.len().max(1), much);
        let ages: Vec<u64> = rows.iter().map(|r| r.age.min_ms).collect();
        let more = moves.filter(|m| {
            m.only_come() && m.stayed > 0 && rows.len() >= enough && arrivals::keep_coming(&ages, m.over_ms)
        });
        // Leaked rows never leave, so that their ages are the history, unless a second sample says otherwise.
        let exact: Vec<u64> = rows.iter().filter(|r| is_known(r)).map(|r| r.age.min_ms).collect();
        let aged = exact.len() >= enough / (LEAK_ROWS / AGED_ROWS)
            && exact.iter().any(|ms| *ms >= close_wait::FORGOTTEN_AFTER_MS);
        let stays = moves.is_none_or(|m| m.gone == 0 || m.only_come());
        let plain = class.is_plain() && aged && stays;
        let arrivals = if plain { arrivals::steady(&exact, 0) } else { None };
        let rate = more.and_then(Moves::rate);
        // How fast the descriptors of one process go is not known from a rate of several.
        let measured = rate.filter(|_| alone && more.is_some_and(|m| m.net() >= ROWS_FOR_A_RATE)).map(Rate::per_second);
        let share = share(measured);
        let is_leak = more.is_some() || arrivals.is_some();
        let of = rows.len();
        Case { culprit, class, rows, members, of, moves, arrivals, rate, share, is_leak }
    }

    /// None is a minute old, as far as one look tells.
    #[must_use]
    pub fn is_young(&self) -> bool {
        !self.is_leak && self.rows.iter().all(|r| r.counted.is_none())
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

    /// Accepted connections with a request of which no byte was ever read: no worker has taken any of them.
    #[must_use]
    pub fn is_untaken(&self) -> bool {
        let untaken = |r: &Row<'_>| r.socket.recv_q_bytes > 1 && r.socket.consumed_bytes() == Some(0);
        !self.class.outgoing && self.class.unread == Unread::Data && self.rows.iter().all(untaken)
    }

    /// Of those that came since the sample before some were read.
    #[must_use]
    pub fn reads_new_ones(&self) -> bool {
        self.rows.iter().any(|r| r.is_new && r.socket.consumed_bytes().is_some_and(|n| n > 0))
    }

    /// When the process has no descriptor left at the rate of the samples, else at that of the ages.
    #[must_use]
    pub fn exhausted_in(&self) -> Option<Measure<u64>> {
        if self.members.len() > 1 {
            return None;
        }
        let per_second = self.rate.map(Rate::per_second).or(self.arrivals.map(|a| a.per_second))?;
        self.share.lasts_ms(per_second).map(Measure::Estimate)
    }

    /// The options of `tcpstate list` that show the one place of all of them.
    #[must_use]
    pub fn selection(&self) -> Option<String> {
        match close_wait::places(&self.rows)[..] {
            [(at, _)] if self.class.outgoing => Some(Place::Destination(at).selection()),
            [(at, _)] => Some(Place::Listener(at).selection()),
            _ => None,
        }
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

    /// `waits_for`: whose end they wait for, when theirs was passed on.
    #[must_use]
    pub fn summary(&self, who: &str, waits_for: Option<&str>) -> String {
        let n = self.rows.len() as u64;
        let place = self.place();
        let unread = match waits_for {
            Some(whom) => format!("it passed their end on and waits for {whom}, which has not ended its side"),
            None => self.unread_words(),
        };
        let several = self.members.len() > 1;
        let told = !several && self.share.percent.is_some_and(|p| p >= 1.0);
        let share = if told { self.share.words(n) } else { String::new() };
        let oldest = self.oldest().map_or_else(String::new, |m| format!(", the oldest for {}", m.text(text::duration)));
        if !self.is_leak {
            let (count, which) = if self.of > self.rows.len() {
                let least = if self.is_young() { "second" } else { "minute" };
                (format!("{} connections", text::of(n, self.of as u64)), format!(", those for a {least} or more"))
            } else {
                (text::count(n, "connection", "connections"), String::new())
            };
            let keep = if several { "keep" } else { "keeps" };
            return format!(
                "{who} {keep} {count}{place} open that the other side closed{which}{oldest}{share}; {unread}"
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
        let not_close = match (waits_for.is_some(), several) {
            (true, true) => "have not closed",
            (true, false) => "has not closed",
            (false, true) => "do not close",
            (false, false) => "does not close",
        };
        format!(
            "{who} {not_close} connections{place} that the other side closed: {} in CLOSE_WAIT{more}{oldest}{share}\
             {left}; {unread}",
            text::grouped(n)
        )
    }

    #[must_use]
    pub fn confidence(&self, awaited: bool) -> (f64, &'static str) {
        if self.is_young() {
            (0.6, "one look: they are seconds old, and whether they go a second one shows")
        } else if !self.is_leak && !self.rows.iter().any(|r| r.counted.is_some_and(|c| c.certain)) {
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

    /// The process to look at first.
    #[must_use]
    pub fn lead(&self) -> Option<&'a Process> {
        self.members.lead().map(|(process, _)| process)
    }

    /// The sockets of that one.
    #[must_use]
    pub fn sockets_of_lead(&self) -> Vec<&'a Socket> {
        let pid = self.lead().map(|p| p.pid);
        self.rows.iter().filter(|r| r.holder.map(|p| p.pid) == pid).map(|r| r.socket).collect()
    }

    /// The name of the process, or how many of which program.
    #[must_use]
    pub fn who(&self, view: &View<'_>) -> String {
        match &self.culprit {
            Culprit::User(Some(uid)) => format!("a process of uid {uid}"),
            _ => self.members.name(view),
        }
    }

    /// Whom it is about.
    #[must_use]
    pub fn subject(&self, view: &View<'_>) -> Subject {
        let netns = self.rows.first().and_then(|r| r.socket.netns);
        let mut subject = match (self.lead(), &self.culprit) {
            (Some(p), _) => view.subject_of(p, netns),
            (None, Culprit::User(uid)) => Subject { netns, uid: *uid, ..Subject::default() },
            (None, _) => Subject { netns, ..Subject::default() },
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
        let finding = self.members.onto(view, self.share.onto(finding));
        places(view, finding, rows, self.lead().map(|p| p.pid))
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
