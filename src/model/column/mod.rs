//! The columns: every value of a row that can be shown, sorted by or filtered on.
//!
//! Input: a [`Row`] or a [`Change`]. Output: a [`Value`] of a known [`Kind`], in [`COLUMNS`]. The table is in the model and not in `render`
//! because the filter language uses it too.

mod get;
mod identity;
mod json;
mod order;
mod table;
mod value;

use std::fmt;
use std::rc::Rc;

use crate::model::cgroup::{self, Identity};
use crate::model::id::NetnsId;
use crate::model::kernel_user::{self, KernelUser};
use crate::model::owner::{Holder, OwnerStatus, OwnerTable, Process};
use crate::model::socket::Socket;
use crate::model::transition::Transition;

pub use json::{Json, Type, Whole};
pub use order::{order, prefix};
pub use table::COLUMNS;
pub use value::{Kind, Value};

/// Names for kernel numbers. `cli` looks them up; the model only asks.
pub trait Names {
    /// The host that the rows are of.
    fn host(&self) -> Option<&str> {
        None
    }
    /// Login name of a user id.
    fn user(&self, uid: u32) -> Option<Rc<str>>;
    /// Name of a network interface of a namespace.
    fn interface(&self, netns: Option<NetnsId>, ifindex: u32) -> Option<Rc<str>>;
    /// Path of a cgroup v2 directory by its id.
    fn cgroup(&self, id: u64) -> Option<Rc<str>>;
    /// Unit, container and pod by the same id.
    fn identity(&self, id: u64) -> Option<Rc<Identity>> {
        self.cgroup(id).map(|path| Rc::new(cgroup::of_path(&path)))
    }
    /// The container or pod that alone uses a network namespace.
    fn netns_identity(&self, _: NetnsId) -> Option<Rc<Identity>> {
        None
    }
    /// The same of a row that no process holds: by its own cgroup, else by its namespace.
    fn unheld_identity(&self, socket: &Socket) -> Option<Rc<Identity>> {
        let is_told = |identity: &Rc<Identity>| identity.container.is_some() || identity.pod.is_some();
        let own = socket.cgroup.and_then(|id| self.identity(id));
        if own.as_ref().is_some_and(is_told) {
            return own;
        }
        socket.netns.and_then(|netns| self.netns_identity(netns)).or(own)
    }
    /// Name of a network namespace by its inode.
    fn netns(&self, inode: NetnsId) -> Option<Rc<str>>;
    /// What in the kernel uses a socket that no process holds.
    fn kernel_user(&self, socket: &Socket) -> Option<KernelUser> {
        kernel_user::find(socket, &[])
    }
}

/// Resolves nothing: numbers stay numbers.
pub struct NoNames;

impl Names for NoNames {
    fn user(&self, _: u32) -> Option<Rc<str>> {
        None
    }
    fn interface(&self, _: Option<NetnsId>, _: u32) -> Option<Rc<str>> {
        None
    }
    fn cgroup(&self, _: u64) -> Option<Rc<str>> {
        None
    }
    fn netns(&self, _: NetnsId) -> Option<Rc<str>> {
        None
    }
}

/// A socket with its owners, as columns see it.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Row<'a> {
    pub socket: &'a Socket,
    pub status: OwnerStatus,
    pub holders: &'a [Holder],
    pub owners: &'a OwnerTable,
    pub names: &'a dyn Names,
}

impl<'a> Row<'a> {
    #[must_use]
    pub fn new(socket: &'a Socket, owners: &'a OwnerTable, names: &'a dyn Names) -> Row<'a> {
        let (status, holders) = owners.of(socket);
        Row { socket, status, holders, owners, names }
    }

    /// What in the kernel uses the socket, if no process holds it and there is evidence.
    #[must_use]
    pub fn kernel_user(&self) -> Option<KernelUser> {
        match self.status {
            OwnerStatus::Kernel => self.names.kernel_user(self.socket),
            OwnerStatus::NoPermission | OwnerStatus::OtherPidns => self.names.kernel_user(self.socket)?.unless_hidden(),
            _ => None,
        }
    }

    /// The first holder's process: the one to name when there is room for one only.
    #[must_use]
    pub fn first_process(&self) -> Option<&'a Process> {
        self.holders.first().map(|h| self.owners.process(h))
    }
}

/// A change of state, as columns see it.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Change<'a> {
    pub transition: &'a Transition,
    pub names: &'a dyn Names,
    /// Unit, container and pod of the process, else of the namespace; `None`: not known.
    pub identity: Option<&'a Identity>,
}

/// What a column needs beyond the 72 bytes that every row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Needs {
    /// `INET_DIAG_INFO` (`struct tcp_info`).
    pub info: bool,
    /// The time in the state, for the one state whose age needs `tcp_info`: CLOSE_WAIT.
    pub age: bool,
    /// `INET_DIAG_SKMEMINFO`.
    pub skmem: bool,
    /// `INET_DIAG_CONG`.
    pub congestion: bool,
    /// `INET_DIAG_TOS` and `INET_DIAG_TCLASS`.
    pub tos: bool,
    /// The processes that hold the socket.
    pub owners: bool,
    /// Their cgroups: unit, container, pod.
    pub cgroups: bool,
}

impl Needs {
    pub const NONE: Needs =
        Needs { info: false, age: false, skmem: false, congestion: false, tos: false, owners: false, cgroups: false };
    pub const INFO: Needs = Needs { info: true, ..Needs::NONE };
    pub const SKMEM: Needs = Needs { skmem: true, ..Needs::NONE };
    pub const CONGESTION: Needs = Needs { congestion: true, ..Needs::NONE };
    pub const TOS: Needs = Needs { tos: true, ..Needs::NONE };
    pub const OWNERS: Needs = Needs { owners: true, ..Needs::NONE };
    pub const CGROUPS: Needs = Needs { owners: true, cgroups: true, ..Needs::NONE };

    #[must_use]
    pub const fn union(self, other: Needs) -> Needs {
        Needs {
            info: self.info || other.info,
            age: self.age || other.age,
            skmem: self.skmem || other.skmem,
            congestion: self.congestion || other.congestion,
            tos: self.tos || other.tos,
            owners: self.owners || other.owners,
            cgroups: self.cgroups || other.cgroups,
        }
    }
}

/// The letter of `list` that adds a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Shown by default.
    Default,
    /// `-p`.
    Process,
    /// `-o`.
    Timer,
    /// `-e`.
    Extended,
    /// `-m`.
    Memory,
    /// `-i`.
    Info,
    /// By name only.
    Other,
}

/// One column.
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    pub group: Group,
    pub needs: Needs,
    pub json: Json,
    pub help: &'static str,
    pub get: for<'a> fn(&Row<'a>) -> Value<'a>,
    /// The same for a change of state; `None`: a change does not have it.
    pub of_change: Option<for<'a> fn(&Change<'a>) -> Value<'a>>,
    /// The ids of what the column names, of a row and of a change, where names have ids.
    pub id: Option<IdGetters>,
}

/// What returns the id of a row, and of a change.
pub type IdGetters = (for<'a> fn(&Row<'a>) -> Value<'a>, for<'a> fn(&Change<'a>) -> Value<'a>);

impl Column {
    /// The value of a change of state.
    #[must_use]
    pub fn of_change<'a>(&self, change: &Change<'a>) -> Value<'a> {
        self.of_change.map_or(Value::Unknown, |get| get(change))
    }
}

impl fmt::Debug for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Finds a column by name; `_` equals `-`, case is ignored.
#[must_use]
pub fn find(name: &str) -> Option<&'static Column> {
    let wanted = name.trim().to_ascii_lowercase().replace('_', "-");
    COLUMNS.iter().find(|c| c.name == wanted)
}

/// The column name closest to a misspelt one, if any is close.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    let wanted = name.to_ascii_lowercase().replace('_', "-");
    similar(&wanted, COLUMNS.iter().map(|c| c.name))
}

/// The word that was probably meant: at most a quarter of the letters differ, or one letter of a short word.
/// Anything further off is another word (`uptime` is not `runtime`), not a typo; so is a short word with another letter
/// in it (`list` is not `lost`).
pub fn similar<'a>(wanted: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters = wanted.chars().count();
    words
        .filter(|word| letters > 4 || word.len() != wanted.len() || sorted(word) == sorted(wanted))
        .map(|word| (distance(wanted, word), word))
        .min()
        .filter(|(edits, _)| *edits < letters && *edits <= (letters / 4).max(1))
        .map(|(_, word)| word)
}

fn sorted(word: &str) -> Vec<char> {
    let mut letters: Vec<char> = word.chars().collect();
    letters.sort_unstable();
    letters
}

/// Edit distance of two short words; a transposition counts as one edit.
#[must_use]
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![i + 1];
        for j in 0..b.len() {
            let mut edits = (row[j] + usize::from(a[i] != b[j])).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                edits = edits.min(before[j - 1] + 1);
            }
            next.push(edits);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RowKind, State};
    use std::collections::HashSet;

    #[test]
    fn the_table_is_well_formed() {
        let (mut names, mut keys) = (HashSet::new(), HashSet::new());
        for column in COLUMNS {
            assert!(names.insert(column.name), "{} stands twice", column.name);
            assert!(column.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            assert!(!column.help.is_empty() && !column.help.ends_with('.'), "{}", column.name);
            assert!(column.help.len() <= 90, "{}: help is too long", column.name);
            let key = column.json.key;
            assert!(keys.insert(key), "two columns have the key {key}");
            assert!(key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{key}");
            let unit = match column.kind {
                Kind::Millis | Kind::Age => "_ms",
                Kind::Micros => "_us",
                Kind::Bytes => "_bytes",
                Kind::BytesPerSecond => "_bytes_per_s",
                _ => "",
            };
            let named = column.kind == Kind::Bytes && key.starts_with("bytes_");
            assert!(named || key.ends_with(unit), "{key} has no unit");
        }
    }

    #[test]
    fn every_column_answers_for_an_empty_socket_without_inventing_zero() {
        let socket = Socket::default();
        let owners = OwnerTable::default();
        let row = Row::new(&socket, &owners, &NoNames);
        for column in COLUMNS.iter().filter(|c| c.needs.info || c.needs.skmem) {
            assert!(matches!((column.get)(&row), Value::Unknown), "{}", column.name);
        }
    }

    #[test]
    fn what_was_never_measured_is_no_measurement() {
        let owners = OwnerTable::default();
        let shown = |socket: &Socket, name: &str| match (find(name).unwrap().get)(&Row::new(socket, &owners, &NoNames))
        {
            Value::Number(n) => Some(n),
            Value::Absent => None,
            Value::Unlimited => Some(u64::MAX),
            _ => panic!("{name} is unknown"),
        };
        let mut info = crate::model::TcpInfo::default();
        for (field, value) in [
            ("rtt_us", 0),
            ("min_rtt_us", 0xffff_ffff),
            ("snd_cwnd", 10),
            ("snd_ssthresh", 0x7fff_ffff),
            ("rcv_rtt_us", 0),
            ("pacing_rate_bytes_per_s", u64::MAX),
            ("last_data_sent_ms", 5),
        ] {
            assert!(info.set(field, value), "{field}");
        }
        let mut socket = Socket { state: State::SynSent, info: Some(info.into()), ..Socket::default() };
        for name in ["rtt", "min-rtt", "ssthresh", "rcv-rtt", "last-data-sent"] {
            assert_eq!(shown(&socket, name), None, "{name}");
        }
        assert_eq!(shown(&socket, "cwnd"), Some(10));
        // "No limit" is a value of its own: neither absent nor unknown.
        assert_eq!(shown(&socket, "pacing-rate"), Some(u64::MAX));
        socket.state = State::Established;
        assert_eq!(shown(&socket, "last-data-sent"), Some(5));
        assert!(socket.info.as_mut().unwrap().set("rtt_us", 7));
        assert_eq!(shown(&socket, "rtt"), Some(7));
        socket.state = State::Listen;
        assert_eq!((shown(&socket, "cwnd"), shown(&socket, "rtt")), (None, None));
        let remainder = Socket { state: State::TimeWait, kind: RowKind::TimeWaitMini, ..Socket::default() };
        assert_eq!(shown(&remainder, "rtt"), None);
    }

    #[test]
    fn names_are_found_in_any_spelling_and_near_misses_are_suggested() {
        assert_eq!(find("RECV_Q").map(|c| c.name), Some("recv-q"));
        assert!(find("nonsense").is_none());
        assert_eq!(nearest("recvq"), Some("recv-q"));
        assert_eq!(nearest("zzzzzzzzzzzzzz"), None);
    }
}
