//! What the screen shows and what a key does to it.
//!
//! Input: keys, frames. Output: the state that `draw` draws, and a [`Command`] for what only the caller can do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::aggregate::Key;
use crate::diagnose::{Finding, Rows};
use crate::model::column::{self, Column, Names};
use crate::model::{Socket, State, StateSet};
use crate::render::tui::history::{History, Rate, Series};
use crate::text;
use crate::watch::{DEFAULT_SORT, Frame, GroupId, Line, SORT_COLUMNS, next_key};

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

/// A list of sockets opened from one of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Drill {
    pub title: String,
    pub rows: Rows,
    pub group: Option<(Key, GroupId)>,
    /// The same in the filter language, for the command to run next.
    pub filter: Vec<String>,
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Quit,
    /// The next sample needs something else: take it now.
    Sample,
    /// Time between two samples from now on.
    Interval(u64),
    /// Use this filter from now on.
    Filter(String),
    /// Put a text into the clipboard.
    Copy(String),
    /// Stop, as a shell's job control does.
    Suspend,
    /// Redraw everything.
    Redraw,
}

/// Intervals that `+` and `-` step through.
const INTERVALS_MS: [u64; 10] = [100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 300_000];

/// The screen.
#[derive(Debug)]
pub struct App {
    pub tab: Tab,
    cursors: [usize; 4],
    pub drill: Option<Drill>,
    pub drill_cursor: usize,
    pub detail: Option<Box<Line>>,
    pub detail_scroll: usize,
    pub sort: &'static Column,
    pub descending: bool,
    pub by: Key,
    pub owners: bool,
    pub help: bool,
    /// The filter line while it is being typed.
    pub input: Option<String>,
    /// What is wrong with the filter, or what was just done; until the next key.
    pub notice: Option<String>,
    /// The words of the filter that was typed on screen.
    pub typed_filter: String,
    pub history: History,
    /// The sample on screen; `None` is the newest.
    held: Option<u64>,
    pub interval_ms: u64,
    /// The next sample is overdue.
    pub stale: bool,
    /// The options that make another command read the same sockets.
    pub scope: String,
    /// Several network namespaces are watched.
    pub several: bool,
}

impl App {
    #[must_use]
    pub fn new(interval_ms: u64, by: Key, owners: bool) -> App {
        App {
            tab: Tab::States,
            cursors: [0; 4],
            drill: None,
            drill_cursor: 0,
            detail: None,
            detail_scroll: 0,
            sort: DEFAULT_SORT,
            descending: false,
            by,
            owners,
            help: false,
            input: None,
            notice: None,
            typed_filter: String::new(),
            history: History::default(),
            held: None,
            interval_ms,
            stale: false,
            scope: String::new(),
            several: false,
        }
    }

    /// Takes a sample.
    pub fn on_frame(&mut self, frame: Frame) {
        if self.history.latest().is_some_and(|last| last.filter != frame.filter) {
            self.held = None;
        }
        self.history.push(frame);
        self.stale = false;
        self.clamp();
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

    /// The states that have a line on the first screen.
    #[must_use]
    pub fn states(&self) -> Vec<State> {
        let Some(frame) = self.frame() else { return Vec::new() };
        let all = frame.all();
        let quiet = |s: &State| matches!(s, State::Close | State::BoundInactive) && all.get(*s) == 0;
        State::ALL.into_iter().filter(|s| frame.shown.contains(*s) && !quiet(s)).collect()
    }

    /// Lines of the list on screen.
    fn len(&self) -> usize {
        let Some(frame) = self.frame() else { return 0 };
        if self.drill.is_some() {
            return frame.lines.as_ref().map_or(0, |l| l.lines.len());
        }
        match self.tab {
            Tab::States => self.states().len() + Rate::ALL.len(),
            Tab::Machine => self.states().len(),
            Tab::Groups => frame.groups.as_ref().map_or(0, |g| g.rows.len()),
            Tab::Findings => frame.findings.len(),
        }
    }

    /// The selected line of the list on screen.
    #[must_use]
    pub fn cursor(&self) -> usize {
        if self.drill.is_some() { self.drill_cursor } else { self.cursors[self.tab as usize] }
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

    fn set_cursor(&mut self, at: usize) {
        let at = at.min(self.len().saturating_sub(1));
        if self.drill.is_some() {
            self.drill_cursor = at;
        } else {
            self.cursors[self.tab as usize] = at;
            if matches!(self.tab, Tab::States | Tab::Machine) {
                self.cursors[Tab::States as usize] = at;
                self.cursors[Tab::Machine as usize] = at;
            }
        }
    }

    fn clamp(&mut self) {
        // A list that is empty for a moment keeps its place.
        if self.len() > 0 {
            self.set_cursor(self.cursor());
        }
    }

    /// What a key does.
    pub fn on_key(&mut self, key: KeyEvent, page: usize) -> Option<Command> {
        self.notice = None;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Some(Command::Quit),
            KeyCode::Char('z') if control => return Some(Command::Suspend),
            KeyCode::Char('l') if control => return Some(Command::Redraw),
            _ => {}
        }
        if self.input.is_some() {
            return self.type_filter(key.code, control);
        }
        if self.help {
            self.help = false;
            return (key.code == KeyCode::Char('q')).then_some(Command::Quit);
        }
        let detail_open = self.detail.is_some();
        match key.code {
            KeyCode::Char('q') => return Some(Command::Quit),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.help = true,
            KeyCode::Char(c @ '1'..='4') => return self.open_tab(Tab::ALL[c as usize - '1' as usize]),
            KeyCode::Char('m') => return self.open_tab(Tab::Machine),
            KeyCode::Char('f') => return self.open_tab(Tab::Findings),
            KeyCode::Tab => return self.open_tab(Tab::ALL[(self.tab as usize + 1) % 4]),
            KeyCode::BackTab => return self.open_tab(Tab::ALL[(self.tab as usize + 3) % 4]),
            KeyCode::Esc | KeyCode::Backspace => return self.back(),
            KeyCode::Down | KeyCode::Char('j') if detail_open => self.detail_scroll += 1,
            KeyCode::Up | KeyCode::Char('k') if detail_open => {
                self.detail_scroll = self.detail_scroll.saturating_sub(1);
            }
            KeyCode::Down | KeyCode::Char('j') => self.set_cursor(self.cursor() + 1),
            KeyCode::Up | KeyCode::Char('k') => self.set_cursor(self.cursor().saturating_sub(1)),
            KeyCode::PageDown => self.set_cursor(self.cursor() + page.max(1)),
            KeyCode::PageUp => self.set_cursor(self.cursor().saturating_sub(page.max(1))),
            KeyCode::Home => self.set_cursor(0),
            KeyCode::End => self.set_cursor(usize::MAX),
            KeyCode::Enter => return self.enter(),
            KeyCode::Char('g') => {
                self.by = next_key(self.by, self.owners);
                self.cursors[Tab::Groups as usize] = 0;
                return Some(Command::Sample);
            }
            KeyCode::Char('s') => {
                let at = SORT_COLUMNS.iter().position(|name| *name == self.sort.name).unwrap_or(0);
                self.sort = column::find(SORT_COLUMNS[(at + 1) % SORT_COLUMNS.len()]).unwrap_or(DEFAULT_SORT);
                return self.drill.is_some().then_some(Command::Sample);
            }
            KeyCode::Char('r') => {
                self.descending = !self.descending;
                return self.drill.is_some().then_some(Command::Sample);
            }
            KeyCode::Char(' ' | 'p') => {
                self.held = match self.held {
                    None => self.history.latest().map(|f| f.seq),
                    Some(_) => None,
                };
            }
            KeyCode::Left | KeyCode::Char('[') => self.step(-1),
            KeyCode::Right | KeyCode::Char(']') => self.step(1),
            KeyCode::Char('+' | '=') => return self.change_interval(1),
            KeyCode::Char('-') => return self.change_interval(-1),
            KeyCode::Char('/') => self.input = Some(self.typed_filter.clone()),
            KeyCode::Char('c') => {
                let command = self.command();
                self.notice = Some(format!("copied, if the terminal allows it: {command}"));
                return Some(Command::Copy(command));
            }
            _ => {}
        }
        None
    }

    fn type_filter(&mut self, code: KeyCode, control: bool) -> Option<Command> {
        let text = self.input.as_mut()?;
        match code {
            KeyCode::Esc => self.input = None,
            KeyCode::Enter => {
                let text = self.input.take()?;
                return Some(Command::Filter(text.trim().to_owned()));
            }
            KeyCode::Backspace => {
                text.pop();
            }
            KeyCode::Char('u') if control => text.clear(),
            KeyCode::Char(c) if !control && !c.is_control() && text.chars().count() < 500 => text.push(c),
            _ => {}
        }
        None
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
                self.input = Some(text.to_owned());
            }
        }
    }

    fn open_tab(&mut self, tab: Tab) -> Option<Command> {
        let had_rows = self.drill.is_some();
        self.tab = tab;
        self.drill = None;
        self.detail = None;
        had_rows.then_some(Command::Sample)
    }

    fn back(&mut self) -> Option<Command> {
        if self.detail.take().is_some() || self.drill.take().is_some() {
            return Some(Command::Sample);
        }
        if self.held.take().is_none() && !self.typed_filter.is_empty() {
            return Some(Command::Filter(String::new()));
        }
        None
    }

    fn step(&mut self, by: i64) {
        let Some(now) = self.frame().map(|f| f.seq) else { return };
        let wanted = now.saturating_add_signed(by);
        let last = self.history.latest().map_or(0, |f| f.seq);
        // Past the newest sample there is only the live one.
        self.held = if wanted > last { None } else { self.history.at(wanted).map(|f| f.seq) };
        if by < 0 && self.held == Some(now) {
            self.notice = Some("this is the oldest sample that is kept".into());
        }
        self.clamp();
    }

    fn change_interval(&mut self, by: i32) -> Option<Command> {
        let next = if by > 0 {
            INTERVALS_MS.iter().find(|ms| **ms > self.interval_ms)
        } else {
            INTERVALS_MS.iter().rev().find(|ms| **ms < self.interval_ms)
        };
        self.interval_ms = *next?;
        Some(Command::Interval(self.interval_ms))
    }

    fn enter(&mut self) -> Option<Command> {
        if self.detail.is_some() {
            return None;
        }
        let cursor = self.cursor();
        if self.rate().is_some() {
            self.notice = Some("a rate has no sockets; c copies the command that shows each event".into());
            return None;
        }
        if self.drill.is_some() {
            let line = self.frame()?.lines.as_ref()?.lines.get(cursor)?.clone();
            self.detail = Some(Box::new(line));
            self.detail_scroll = 0;
            return Some(Command::Sample);
        }
        let drill = match self.tab {
            Tab::States | Tab::Machine => of_state(*self.states().get(cursor)?),
            Tab::Groups => {
                let groups = self.frame()?.groups.as_ref()?;
                of_group(groups.by, &groups.rows.get(cursor)?.id)
            }
            Tab::Findings => {
                let Some(drill) = of_finding(&self.frame()?.findings.get(cursor)?.finding, self.several) else {
                    self.notice = Some("this finding is about no particular socket; c copies its next command".into());
                    return None;
                };
                drill
            }
        };
        self.drill = Some(drill);
        self.drill_cursor = 0;
        // Rows are current, not historical.
        self.held = None;
        Some(Command::Sample)
    }

    /// The socket that is shown with every attribute.
    #[must_use]
    pub fn only(&self) -> Option<&Socket> {
        self.detail.as_ref().map(|line| &line.socket)
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
        let drill = self.drill.clone().or_else(|| match self.tab {
            Tab::States | Tab::Machine => self.states().get(self.cursor()).map(|s| of_state(*s)),
            Tab::Groups => {
                let groups = self.frame()?.groups.as_ref()?;
                groups.rows.get(self.cursor()).map(|g| of_group(groups.by, &g.id))
            }
            Tab::Findings => None,
        });
        if self.tab == Tab::Findings && self.drill.is_none() {
            let finding = self.frame().and_then(|f| f.findings.get(self.cursor()));
            return finding.map_or_else(|| "tcpstate doctor".to_owned(), |s| s.finding.next.clone());
        }
        for part in drill.map(|d| d.filter).unwrap_or_default() {
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

    /// Labels need user names, which the drawing side has.
    pub(super) fn label(id: &GroupId, names: &dyn Names) -> String {
        crate::render::watch::group_label(id, names)
    }
}

fn of_state(state: State) -> Drill {
    Drill {
        title: state.name().to_owned(),
        rows: Rows { states: Some(StateSet::of(&[state])), ..Rows::default() },
        group: None,
        filter: vec![format!("state {}", state.key().replace('_', "-"))],
    }
}

fn of_group(by: Key, id: &GroupId) -> Drill {
    let text = |t: &str| format!("\"{}\"", t.replace('"', "*"));
    let name = |label: &str| text(label.split('(').next().unwrap_or(label));
    let filter = match (by, id) {
        (_, GroupId::Owner(label)) => format!("process = {}", name(label)),
        (_, GroupId::Nobody(status)) => format!("owner-status = {}", status.key().replace('_', "-")),
        (Key::Listener, GroupId::Endpoint(at, _)) => format!("sport = :{}", at.port),
        (_, GroupId::Endpoint(at, _)) => format!("dst {at}"),
        (_, GroupId::User(uid)) => format!("user = {uid}"),
        (_, GroupId::Text(value)) => format!("{} = {}", by.name(), text(value)),
        (_, GroupId::Likely(_) | GroupId::None) => String::new(),
    };
    let netns = match id {
        GroupId::Endpoint(_, Some(inode)) => format!("netns = {inode}"),
        _ => String::new(),
    };
    let title = match id {
        GroupId::User(uid) => format!("user {uid}"),
        other => format!("{} {}", by.name(), App::label(other, &crate::model::column::NoNames)),
    };
    Drill {
        title,
        rows: Rows::default(),
        group: Some((by, id.clone())),
        filter: [filter, netns].into_iter().filter(|part| !part.is_empty()).collect(),
    }
}

/// The sockets of a finding; none if it is about a limit or a setting.
fn of_finding(finding: &Finding, several: bool) -> Option<Drill> {
    let rows = finding.rows();
    let filter = rows.filter(several);
    (!rows.is_all()).then(|| Drill { title: finding.rule.to_owned(), rows, group: None, filter })
}
