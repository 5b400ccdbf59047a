//! The states of the TCP state machine as Linux numbers them, in every spelling people use.
//!
//! Input: a kernel number or a word. Output: a [`State`] or a [`StateSet`]. What a state means for the user is in
//! `diagnose` and the docs.

use std::fmt;

/// A TCP state (`include/net/tcp_states.h`; RFC 9293 section 3.3.2).
///
/// The kernel has 13 numbers. 12 (`TCP_NEW_SYN_RECV`) is a request socket and reads as `SYN_RECV`, as the kernel
/// itself reports it; 13 (`TCP_BOUND_INACTIVE`, Linux 6.8 and later) exists only in requests: such sockets come back
/// as state 7. A number that this version does not know stays visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    Established,
    SynSent,
    SynRecv,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    BoundInactive,
    /// A state number newer than this program.
    Unknown(u8),
}

impl State {
    /// Every named state, in the order in which tables and JSON show them.
    pub const ALL: [State; 12] = [
        State::Established,
        State::SynSent,
        State::SynRecv,
        State::FinWait1,
        State::FinWait2,
        State::TimeWait,
        State::Close,
        State::CloseWait,
        State::LastAck,
        State::Listen,
        State::Closing,
        State::BoundInactive,
    ];

    /// How many slots [`State::index`] needs: the named states, and one for all unknown numbers.
    pub const SLOTS: usize = 13;

    /// The state for a kernel number, 0 to 255.
    #[must_use]
    pub const fn from_kernel(number: u8) -> State {
        match number {
            1 => State::Established,
            2 => State::SynSent,
            3 | 12 => State::SynRecv,
            4 => State::FinWait1,
            5 => State::FinWait2,
            6 => State::TimeWait,
            7 => State::Close,
            8 => State::CloseWait,
            9 => State::LastAck,
            10 => State::Listen,
            11 => State::Closing,
            13 => State::BoundInactive,
            n => State::Unknown(n),
        }
    }

    /// The kernel's number for this state (3 for `SYN_RECV`, 13 for `BOUND_INACTIVE`).
    #[must_use]
    pub const fn kernel(self) -> u8 {
        match self {
            State::Established => 1,
            State::SynSent => 2,
            State::SynRecv => 3,
            State::FinWait1 => 4,
            State::FinWait2 => 5,
            State::TimeWait => 6,
            State::Close => 7,
            State::CloseWait => 8,
            State::LastAck => 9,
            State::Listen => 10,
            State::Closing => 11,
            State::BoundInactive => 13,
            State::Unknown(n) => n,
        }
    }

    /// A dense index below [`State::SLOTS`], for arrays of counts; all unknown numbers share the last one.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            State::BoundInactive => 11,
            State::Unknown(_) => 12,
            named => named.kernel() as usize - 1,
        }
    }

    /// The name that tables print: `TIME_WAIT`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Established => "ESTABLISHED",
            State::SynSent => "SYN_SENT",
            State::SynRecv => "SYN_RECV",
            State::FinWait1 => "FIN_WAIT1",
            State::FinWait2 => "FIN_WAIT2",
            State::TimeWait => "TIME_WAIT",
            State::Close => "CLOSE",
            State::CloseWait => "CLOSE_WAIT",
            State::LastAck => "LAST_ACK",
            State::Listen => "LISTEN",
            State::Closing => "CLOSING",
            State::BoundInactive => "BOUND_INACTIVE",
            State::Unknown(_) => "UNKNOWN",
        }
    }

    /// The key that JSON and metrics print: `time_wait`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            State::Established => "established",
            State::SynSent => "syn_sent",
            State::SynRecv => "syn_recv",
            State::FinWait1 => "fin_wait1",
            State::FinWait2 => "fin_wait2",
            State::TimeWait => "time_wait",
            State::Close => "close",
            State::CloseWait => "close_wait",
            State::LastAck => "last_ack",
            State::Listen => "listen",
            State::Closing => "closing",
            State::BoundInactive => "bound_inactive",
            State::Unknown(_) => "unknown",
        }
    }

    /// Parses one state in any spelling: `TIME_WAIT`, `time-wait`, `timewait`, `TIME WAIT`, `tw`.
    #[must_use]
    pub fn parse(word: &str) -> Option<State> {
        Some(match normalise(word).as_str() {
            "established" | "estab" | "est" => State::Established,
            "synsent" => State::SynSent,
            "synrecv" | "synreceived" | "synrcv" | "synrcvd" | "newsynrecv" => State::SynRecv,
            "finwait1" | "fw1" => State::FinWait1,
            "finwait2" | "fw2" => State::FinWait2,
            "timewait" | "tw" => State::TimeWait,
            "close" | "closed" | "unconn" => State::Close,
            "closewait" | "cw" => State::CloseWait,
            "lastack" => State::LastAck,
            "listen" | "listening" => State::Listen,
            "closing" => State::Closing,
            "boundinactive" | "bound" => State::BoundInactive,
            _ => return None,
        })
    }

    /// Whether a socket in this state can have a peer.
    #[must_use]
    pub const fn has_peer(self) -> bool {
        !matches!(self, State::Listen | State::BoundInactive | State::Close)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Unknown(n) => f.pad(&format!("unknown({n})")),
            named => f.pad(named.name()),
        }
    }
}

fn normalise(word: &str) -> String {
    word.trim().chars().filter(|c| !matches!(c, '-' | '_' | ' ')).map(|c| c.to_ascii_lowercase()).collect()
}

/// A set of states: one bit per kernel number, as `idiag_states` in a `sock_diag` request has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateSet(u32);

/// The groups of states that `--state` and the filter language accept, with what each is for.
pub const GROUPS: [(&str, StateSet, &str); 8] = [
    ("all", StateSet::ALL, "every state"),
    ("connected", StateSet::CONNECTED, "every state except LISTEN and the two closed ones"),
    ("synchronized", StateSet::SYNCHRONIZED, "connected, without SYN_SENT"),
    ("bucket", StateSet::BUCKET, "the small kernel objects: SYN_RECV and TIME_WAIT"),
    ("big", StateSet::BIG, "everything that is not bucket"),
    ("half-open", StateSet::HALF_OPEN, "handshake under way: SYN_SENT and SYN_RECV"),
    ("half-closed", StateSet::HALF_CLOSED, "one direction closed: FIN_WAIT1, FIN_WAIT2 and CLOSE_WAIT"),
    ("teardown", StateSet::TEARDOWN, "everything between the first FIN and the end"),
];

impl StateSet {
    pub const EMPTY: StateSet = StateSet(0);
    /// Every bit, so that a state of a later kernel is shown, not hidden.
    pub const ALL: StateSet = StateSet(0xffff_ffff);
    pub const LISTEN: StateSet = StateSet::of(&[State::Listen]);
    pub const CONNECTED: StateSet = StateSet(!(StateSet::of(&[State::Listen, State::Close, State::BoundInactive]).0));
    pub const SYNCHRONIZED: StateSet = StateSet(StateSet::CONNECTED.0 & !StateSet::of(&[State::SynSent]).0);
    pub const BUCKET: StateSet = StateSet::of(&[State::SynRecv, State::TimeWait]);
    pub const BIG: StateSet = StateSet(!StateSet::BUCKET.0);
    pub const HALF_OPEN: StateSet = StateSet::of(&[State::SynSent, State::SynRecv]);
    pub const HALF_CLOSED: StateSet = StateSet::of(&[State::FinWait1, State::FinWait2, State::CloseWait]);
    pub const TEARDOWN: StateSet = StateSet::of(&[
        State::FinWait1,
        State::FinWait2,
        State::CloseWait,
        State::Closing,
        State::LastAck,
        State::TimeWait,
    ]);

    /// The set of exactly these states; `SYN_RECV` also selects bit 12, which the kernel keeps for request sockets.
    #[must_use]
    pub const fn of(states: &[State]) -> StateSet {
        let mut bits = 0;
        let mut i = 0;
        while i < states.len() {
            bits |= StateSet::bits_of(states[i]);
            i += 1;
        }
        StateSet(bits)
    }

    const fn bits_of(state: State) -> u32 {
        match state {
            State::SynRecv => (1 << 3) | (1 << 12),
            State::Unknown(n) if n >= 32 => 0,
            other => 1 << other.kernel(),
        }
    }

    /// Parses a state or a group, in any spelling.
    ///
    /// # Errors
    /// The word, with the words that are valid.
    pub fn parse(word: &str) -> Result<StateSet, String> {
        if let Some(state) = State::parse(word) {
            return Ok(StateSet::of(&[state]));
        }
        let wanted = normalise(word);
        if let Some((_, set, _)) = GROUPS.iter().find(|(name, ..)| normalise(name) == wanted) {
            return Ok(*set);
        }
        Err(format!("`{word}` is not a TCP state; use one of {}", StateSet::vocabulary()))
    }

    /// Parses a comma-separated list of states and groups.
    ///
    /// # Errors
    /// As [`StateSet::parse`], for the first word that is neither.
    pub fn parse_list(list: &str) -> Result<StateSet, String> {
        let mut set = StateSet::EMPTY;
        for word in list.split(',').filter(|w| !w.trim().is_empty()) {
            set = set.union(StateSet::parse(word.trim())?);
        }
        if set == StateSet::EMPTY {
            return Err(format!("no state given; use one of {}", StateSet::vocabulary()));
        }
        Ok(set)
    }

    /// Every word that [`StateSet::parse`] accepts, in its preferred spelling.
    #[must_use]
    pub fn vocabulary() -> String {
        let mut words: Vec<String> = State::ALL.iter().map(|s| s.key().replace('_', "-")).collect();
        words.push("or a group:".into());
        words.extend(GROUPS.iter().map(|(name, ..)| (*name).to_string()));
        words.join(" ")
    }

    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    #[must_use]
    pub const fn from_bits(bits: u32) -> StateSet {
        StateSet(bits)
    }

    #[must_use]
    pub const fn contains(self, state: State) -> bool {
        self.0 & StateSet::bits_of(state) != 0
    }

    #[must_use]
    pub const fn union(self, other: StateSet) -> StateSet {
        StateSet(self.0 | other.0)
    }

    #[must_use]
    pub const fn intersection(self, other: StateSet) -> StateSet {
        StateSet(self.0 & other.0)
    }

    #[must_use]
    pub const fn complement(self) -> StateSet {
        StateSet(!self.0)
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        !State::ALL.iter().any(|s| self.contains(*s))
    }

    /// The named states in the set, in display order.
    pub fn iter(self) -> impl Iterator<Item = State> {
        State::ALL.into_iter().filter(move |s| self.contains(*s))
    }
}

impl fmt::Debug for StateSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for StateSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == StateSet::ALL || State::ALL.iter().all(|s| self.contains(*s)) {
            return f.write_str("all");
        }
        for (i, state) in self.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { "," } else { "" }, state.key().replace('_', "-"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_number_has_a_state() {
        for n in 1..=13u8 {
            let state = State::from_kernel(n);
            assert!(!matches!(state, State::Unknown(_)), "kernel state {n}");
            assert!(state.index() < State::SLOTS);
            if n != 12 {
                assert_eq!(state.kernel(), n);
            }
        }
        assert_eq!(State::from_kernel(12), State::SynRecv);
        assert_eq!(State::from_kernel(14).to_string(), "unknown(14)");
        assert_eq!(State::from_kernel(0), State::Unknown(0));
    }

    #[test]
    fn indices_are_dense_and_distinct() {
        let mut seen = [false; State::SLOTS];
        for state in State::ALL {
            assert!(!std::mem::replace(&mut seen[state.index()], true), "{state}");
        }
    }

    #[test]
    fn every_spelling_reads_as_the_same_state() {
        for word in ["TIME_WAIT", "time-wait", "timewait", "TIME-WAIT", "TimeWait", "tw", " time_wait "] {
            assert_eq!(State::parse(word), Some(State::TimeWait), "{word}");
        }
        for state in State::ALL {
            assert_eq!(State::parse(state.name()), Some(state));
            assert_eq!(State::parse(state.key()), Some(state));
            assert_eq!(State::parse(&state.key().replace('_', "-")), Some(state));
        }
        assert_eq!(State::parse("ESTAB"), Some(State::Established));
        assert_eq!(State::parse("fin-wait-1"), Some(State::FinWait1));
        assert_eq!(State::parse("FOO"), None);
    }

    #[test]
    fn groups_are_those_of_ss() {
        let set = StateSet::parse("connected").unwrap();
        assert!(set.contains(State::TimeWait) && !set.contains(State::Listen) && !set.contains(State::BoundInactive));
        assert!(!StateSet::parse("synchronized").unwrap().contains(State::SynSent));
        assert!(StateSet::parse_list("cw,tw").unwrap().contains(State::CloseWait));
        assert_eq!(StateSet::parse("closing").unwrap(), StateSet::of(&[State::Closing]));
        let error = StateSet::parse_list("tw,FOO").unwrap_err();
        assert!(error.contains("`FOO`") && error.contains("time-wait"), "{error}");
    }

    #[test]
    fn syn_recv_asks_for_request_sockets_too() {
        assert_eq!(StateSet::of(&[State::SynRecv]).bits(), (1 << 3) | (1 << 12));
    }
}
