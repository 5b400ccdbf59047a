//! What the screen shows.
//!
//! Input: frames. Output: the state that `draw` draws, and the command that shows the same sockets. Not here: what a key
//! changes (`keys`).

use super::drill::{Drill, of_group, of_state};
use super::history::{History, Rate, Series};
use super::order::{Order, Table};
use crate::aggregate::Key;
use crate::model::column::{self, Column};
use crate::model::{FourTuple, NetnsId, Socket, State};
use crate::text;
use crate::watch::{DEFAULT_SORT, Frame, GroupId, Line, Lines, Sighting};

/// The four tabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    States,
    Machine,
    Groups,
    Findings,
}

impl Tab {
    pub const ALL: [Tab; 4] = [Tab::States, Tab::Machine, Tab::Groups, Tab::Findings];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Tab::States => "states",
            Tab::Machine => "machine",
            Tab::Groups => "groups",
            Tab::Findings => "findings",
        }
    }
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Quit,
    /// The next sample needs something else: take it now.
    Sample,
    /// Time between two samples from now on.
    Interval(u64),
    /// Play a recording, or pause.
    Play(bool),
    /// The next snapshot of a recording.
    Advance,
    /// A moment of it, in milliseconds since the epoch.
    Seek(u64),
    /// The moment when another finding comes.
    NextFinding,
    /// Use this filter from now on.
    Filter(String),
    /// Put a text into the clipboard.
    Copy(String),
    /// Stop, as a shell's job control does.
    Suspend,
    /// Redraw everything.
    Redraw,
    /// Write the screen to a new file.
    Export(Format),
    /// Take the mouse, or leave it to the terminal.
    Mouse(bool),
}

/// A recording that is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Playback {
    /// Its first snapshot and its last, in milliseconds since the epoch.
    pub ends_ms: (u64, u64),
    pub playing: bool,
}

/// What a screen can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Svg,
    Text,
}

impl Format {
    /// The extension of its files.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Format::Svg => "svg",
            Format::Text => "txt",
        }
    }
}

/// A line that is being typed at the foot of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Filter(String),
    /// The name of a column, and which of those that match is chosen.
    Sort(Table, String, usize),
}

/// What a line is about, to find it again in the next sample.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    State(State),
    Rate(Rate),
    Group(GroupId),
    Finding(String),
    Socket(Option<NetnsId>, Option<u64>, FourTuple),
}

/// The selected line of a list. One that was chosen stays selected when the list is sorted anew.
#[derive(Clone, Debug, Default)]
struct Cursor {
    index: usize,
    chosen: Option<Subject>,
}

/// The lists, by the number of their cursor.
const STATES: usize = 0;
const GROUPS: usize = 1;
const FINDINGS: usize = 2;
const SOCKETS: usize = 3;

/// The screen.
#[derive(Debug)]
pub struct App {
    pub tab: Tab,
    /// One for each list; see [`App::list`].
    cursors: [Cursor; 4],
    pub drill: Option<Drill>,
    pub detail: Option<Box<Line>>,
    /// How far one socket, or one finding, is scrolled.
    pub detail_scroll: usize,
    /// One finding has the whole screen.
    pub full: bool,
    orders: [Order; 3],
    pub by: Key,
    pub owners: bool,
    pub help: bool,
    pub help_scroll: usize,
    /// The machine shows rates; otherwise what happened within a minute.
    pub per_second: bool,
    /// Clicks come here; otherwise the terminal selects text with them.
    pub mouse: bool,
    pub input: Option<Input>,
    /// What is wrong with what was typed, or what was just done; until the next key.
    pub notice: Option<String>,
    /// The words of the filter that was typed on screen.
    pub typed_filter: String,
    pub history: History,
    /// The sample on screen; `None` is the newest.
    pub(super) held: Option<u64>,
    pub interval_ms: u64,
    /// The next sample is overdue.
    pub stale: bool,
    /// The options that make another command read the same sockets.
    pub scope: String,
    /// Several network namespaces are watched.
    pub several: bool,
    /// A recording instead of the running system.
    pub playback: Option<Playback>,
}

impl App {
    #[must_use]
    pub fn new(interval_ms: u64, by: Key, owners: bool) -> App {
        App {
            tab: Tab::States,
            cursors: Default::default(),
            drill: None,
            detail: None,
            detail_scroll: 0,
            full: false,
            orders: Table::FIRST,
            by,
            owners,
            help: false,
            help_scroll: 0,
            per_second: false,
            mouse: true,
            input: None,
            notice: None,
            typed_filter: String::new(),
            history: History::default(),
            held: None,
            interval_ms,
            stale: false,
            scope: String::new(),
            several: false,
            playback: None,
        }
    }

    /// Takes a sample.
    pub fn on_frame(&mut self, frame: Frame) {
        if self.history.latest().is_some_and(|last| last.filter != frame.filter) {
            self.held = None;
        }
        self.history.push(frame);
        self.stale = false;
        self.follow();
    }

    /// What follows is of another place of the recording.
    pub fn jumped(&mut self) {
        self.history = History::default();
        self.held = None;
    }

    /// The recording is played, or not any more: why.
    pub fn played(&mut self, playing: bool, why: Option<String>) {
        if let Some(playback) = &mut self.playback {
            playback.playing = playing;
        }
        self.notice = why.or(self.notice.take());
    }

    /// The sample on screen.
    #[must_use]
    pub fn frame(&self) -> Option<&Frame> {
        match self.held {
            Some(seq) => self.history.at(seq),
            None => self.history.latest(),
        }
    }

    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The states that have a line on the first screen, sorted.
    #[must_use]
    pub fn states(&self) -> Vec<State> {
        let Some(frame) = self.frame() else { return Vec::new() };
        let all = frame.all();
        let quiet = |s: &State| matches!(s, State::Close | State::BoundInactive) && all.get(*s) == 0;
        let mut states: Vec<State> = State::ALL.into_iter().filter(|s| frame.shown.contains(*s) && !quiet(s)).collect();
        let Order { column, descending } = self.order(Table::States);
        let value = |state: State| match column {
            "count" => Some(all.get(state) as f64),
            "change" => self.history.slope(&Series::State(state), frame.seq),
            "in" => self.history.flow(state, frame.seq).map(|flow| flow.0),
            "out" => self.history.flow(state, frame.seq).map(|flow| flow.1),
            _ => None,
        };
        if column != "state" {
            states.sort_by_cached_key(|state| {
                let value = value(*state).map(|n| if descending { -n } else { n });
                // What is not known comes last. Thousandths tell rates apart.
                #[allow(clippy::cast_possible_truncation, reason = "the order of what is too large does not matter")]
                value.map_or(i64::MAX, |n| (n * 1000.0) as i64)
            });
        } else if descending {
            states.reverse();
        }
        states
    }

    /// The order of a table.
    #[must_use]
    pub fn order(&self, table: Table) -> Order {
        self.orders[table as usize]
    }

    /// Sets the order of a table; a long one begins at its top.
    pub(super) fn set_order(&mut self, table: Table, order: Order) {
        self.orders[table as usize] = order;
        match table {
            // A screen has all of them.
            Table::States => self.follow(),
            Table::Groups => self.cursors[GROUPS] = Cursor::default(),
            Table::Sockets => self.cursors[SOCKETS] = Cursor::default(),
        }
    }

    /// The column that the sockets are sorted by.
    #[must_use]
    pub fn sort(&self) -> &'static Column {
        column::find(self.order(Table::Sockets).column).unwrap_or(DEFAULT_SORT)
    }

    /// The table on screen, if it can be sorted.
    #[must_use]
    pub fn table(&self) -> Option<Table> {
        match self.tab {
            _ if self.detail.is_some() || self.full => None,
            _ if self.drill.is_some() => Some(Table::Sockets),
            Tab::States => Some(Table::States),
            Tab::Groups => Some(Table::Groups),
            Tab::Machine | Tab::Findings => None,
        }
    }

    /// The list on screen, by the number of its cursor. The machine is another picture of the states.
    fn list(&self) -> usize {
        match self.tab {
            _ if self.drill.is_some() => SOCKETS,
            Tab::States | Tab::Machine => STATES,
            Tab::Groups => GROUPS,
            Tab::Findings => FINDINGS,
        }
    }

    /// Lines of the list on screen.
    pub(super) fn len(&self) -> usize {
        let Some(frame) = self.frame() else { return 0 };
        if self.drill.is_some() {
            return self.lines().len();
        }
        match self.tab {
            Tab::States => self.states().len() + Rate::ALL.len(),
            Tab::Machine => self.states().len(),
            Tab::Groups => frame.groups.as_ref().map_or(0, |g| g.rows.len()),
            Tab::Findings => frame.findings.len(),
        }
    }

    /// The rows of the list of sockets. After a return from one socket the frame has only that one for a moment.
    pub(super) fn lines(&self) -> &[Line] {
        self.open_lines().map_or(&[], |lines| &lines.lines)
    }

    /// The same with what is known of all of them.
    pub(super) fn open_lines(&self) -> Option<&Lines> {
        let lines = self.frame()?.lines.as_ref()?;
        let is_open = |drill: &Drill| drill.has(lines);
        (!lines.only && self.drill.as_ref().is_none_or(is_open)).then_some(lines)
    }

    /// What a line of the list on screen is about.
    fn subject(&self, index: usize) -> Option<Subject> {
        if self.drill.is_some() {
            let socket = &self.lines().get(index)?.socket;
            return Some(Subject::Socket(socket.netns, socket.cookie, socket.four_tuple()));
        }
        let frame = self.frame()?;
        match self.tab {
            Tab::States | Tab::Machine => {
                let states = self.states();
                let rate = || Some(Subject::Rate(*Rate::ALL.get(index.checked_sub(states.len())?)?));
                states.get(index).map(|state| Subject::State(*state)).or_else(rate)
            }
            Tab::Groups => Some(Subject::Group(frame.groups.as_ref()?.rows.get(index)?.id.clone())),
            Tab::Findings => Some(Subject::Finding(frame.findings.get(index)?.finding.id.clone())),
        }
    }

    /// The selected line of the list on screen.
    #[must_use]
    pub fn cursor(&self) -> usize {
        self.cursors[self.list()].index
    }

    /// The rate that is selected below the states.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        let at = self.cursor().checked_sub(self.states().len())?;
        Rate::ALL.get(at).copied().filter(|_| self.tab == Tab::States && self.drill.is_none())
    }

    /// What the chart shows: the selected state, group or rate.
    #[must_use]
    pub fn series(&self) -> Option<Series> {
        if self.tab == Tab::Groups {
            let groups = self.frame()?.groups.as_ref()?;
            return Some(Series::Group(groups.rows.get(self.cursor())?.id.clone()));
        }
        let state = self.states().get(self.cursor()).copied();
        state.map(Series::State).or_else(|| self.rate().map(Series::Rate))
    }

    /// Selects a line, which stays selected wherever it moves.
    pub(super) fn choose(&mut self, index: usize) {
        let index = index.min(self.len().saturating_sub(1));
        self.cursors[self.list()] = Cursor { index, chosen: self.subject(index) };
    }

    /// Selects the first line, whichever it is.
    pub(super) fn choose_first(&mut self) {
        self.cursors[self.list()] = Cursor::default();
    }

    /// Finds the selected line again.
    pub(super) fn follow(&mut self) {
        let len = self.len();
        // A list that is empty for a moment keeps its place.
        if len == 0 {
            return;
        }
        let list = self.list();
        let found = self.cursors[list].chosen.as_ref().and_then(|chosen| {
            let is_chosen = |index: &usize| self.subject(*index).as_ref() == Some(chosen);
            let before = self.cursors[list].index;
            // Most samples have it where it was.
            Some(before).filter(is_chosen).or_else(|| (0..len).find(is_chosen))
        });
        let cursor = &mut self.cursors[list];
        cursor.index = found.unwrap_or(cursor.index).min(len - 1);
    }

    /// The result of applying a typed filter, or why it failed.
    pub fn filter_set(&mut self, text: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                text.clone_into(&mut self.typed_filter);
                self.held = None;
            }
            Err(why) => {
                self.notice = Some(why);
                self.input = Some(Input::Filter(text.to_owned()));
            }
        }
    }

    /// The socket that is shown with every attribute.
    #[must_use]
    pub fn only(&self) -> Option<&Socket> {
        self.detail.as_ref().map(|line| &line.socket)
    }

    /// The conditions that select what the cursor is on, or what is open, and what else they select.
    fn conditions(&self) -> (Vec<String>, Option<String>) {
        let drill = self.drill.clone().or_else(|| match self.tab {
            Tab::States | Tab::Machine => self.states().get(self.cursor()).map(|s| of_state(*s)),
            Tab::Groups => {
                let groups = self.frame()?.groups.as_ref()?;
                groups.rows.get(self.cursor()).map(|g| of_group(groups.by, &g.id))
            }
            Tab::Findings => None,
        });
        drill.map_or((Vec::new(), None), |drill| drill.conditions(self.frame()))
    }

    /// What [`App::command`] lists that is not selected or open.
    #[must_use]
    pub(super) fn command_note(&self) -> Option<String> {
        if self.detail.is_some() { None } else { self.conditions().1 }
    }

    /// The finding that is selected, or whose sockets are open.
    #[must_use]
    pub(super) fn sighting(&self) -> Option<&Sighting> {
        let findings = &self.frame()?.findings;
        match &self.drill {
            Some(drill) => {
                let id = drill.of.finding.as_ref()?;
                findings.iter().find(|sighting| sighting.finding.id == *id)
            }
            None if self.tab == Tab::Findings => findings.get(self.cursor()),
            None => None,
        }
    }

    /// The command that shows the selection in full.
    #[must_use]
    pub fn command(&self) -> String {
        text::within(&self.bare_command(), &self.scope)
    }

    fn bare_command(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        if let Some(frame) = self.frame() {
            let filter = &*frame.filter;
            let whole = if filter.contains(" or ") { format!("({filter})") } else { filter.to_owned() };
            parts.extend((!filter.is_empty()).then_some(whole));
        }
        match self.rate() {
            Some(Rate::Opened) => return "tcpstate trace".into(),
            Some(Rate::Failed) => return "tcpstate trace --failed".into(),
            Some(Rate::Resets) => return "tcpstate trace --resets".into(),
            None => {}
        }
        if let Some(line) = &self.detail {
            let (local, peer) = (line.socket.local, line.socket.peer);
            parts = vec![format!("src {local}")];
            if line.socket.state.has_peer() {
                parts.push(format!("dst {peer}"));
            }
            return format!("tcpstate list -tanopiem {}", text::quoted(&parts.join(" and ")));
        }
        if self.tab == Tab::Findings && self.drill.is_none() {
            let finding = self.frame().and_then(|f| f.findings.get(self.cursor()));
            return finding.map_or_else(|| "tcpstate doctor".to_owned(), |s| s.finding.next.clone());
        }
        for part in self.conditions().0 {
            // `watch --state TIME_WAIT` has that condition already.
            if !parts.iter().any(|said| said.split(" and ").any(|word| word == part)) {
                parts.push(part);
            }
        }
        if parts.is_empty() {
            "tcpstate list".into()
        } else {
            format!("tcpstate list {}", text::quoted(&parts.join(" and ")))
        }
    }
}
