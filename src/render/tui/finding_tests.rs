//! Enter on a finding, for every kind of them: its very sockets on the screen, and a command that lists the same.
//!
//! Input: a finding and the snapshot that it is of; each unit test of a rule brings some (`diagnose::testkit`). Output: a
//! failed test. Not here: the sampler, which finds the same sockets in a later sample (`tests/it/watch/sockets.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;

use super::hits::Target;
use super::order::{Order, Table};
use super::{App, Drawn, Theme, draw};
use crate::aggregate::Key;
use crate::diagnose::Finding;
use crate::filter::{self, NoResolver};
use crate::model::column::{NoNames, Row};
use crate::model::{OwnerStatus, Snapshot, Socket};
use crate::watch::{Frame, Line, Lines, OfFinding, RowOwner, Sighting, testkit};

/// The rows that a screen of a test has room for.
const DRAWN: usize = 60;

fn press(app: &mut App, code: KeyCode) {
    app.on_key(KeyEvent::new(code, KeyModifiers::NONE), &Drawn::default());
}

fn pids(now: &Snapshot, socket: &Socket) -> Vec<u32> {
    let holders = now.owners.holders(socket.inode).iter();
    holders.map(|holder| now.owners.processes[holder.process as usize].pid).collect()
}

/// The rows of a snapshot that a filter selects, by cookie.
fn selected(now: &Snapshot, text: &str) -> BTreeSet<u64> {
    let filter = filter::parse(text, &NoResolver).unwrap_or_else(|why| panic!("{text}: {why}"));
    let matches = |socket: &&Socket| {
        let holders = now.owners.holders(socket.inode);
        let status = OwnerStatus::without_holder(socket).unwrap_or(OwnerStatus::Known);
        filter.matches(&Row { socket, status, holders, owners: &now.owners, names: &NoNames })
    };
    now.sockets.iter().filter(matches).filter_map(|socket| socket.cookie).collect()
}

/// The cookies on the screen, sorted by them so that each row has its own.
fn drawn(app: &App) -> BTreeSet<u64> {
    let area = Rect::new(0, 0, 300, 80);
    let mut buf = Buffer::empty(area);
    let hits = draw(app, &NoNames, Theme::PLAIN, area, &mut buf).hits;
    let rows = hits.of(|target| matches!(target, Target::Socket(_)));
    let text = |y: u16| (0..area.width).map(|x| buf[(x, y)].symbol()).collect::<String>();
    let cookie = |(row, _): &(Rect, Target)| {
        let text = text(row.y);
        let word = text.split_whitespace().find_map(|word| word.strip_prefix("0x")).unwrap_or_else(|| panic!("{text}"));
        u64::from_str_radix(word, 16).unwrap_or_else(|why| panic!("{text}: {why}"))
    };
    rows.iter().map(cookie).collect()
}

/// Checks that Enter on the finding lists its sockets and no others, and so does the command at the foot of the screen.
pub(crate) fn enter_lists_its_sockets(finding: &Finding, now: &Snapshot) {
    let finding = Finding { id: "of a test".into(), ..finding.clone() };
    let named: Vec<&Socket> = now.sockets.iter().filter(|s| finding.sockets.contains(s)).collect();
    let sighting = Sighting { finding: finding.clone(), first_ms: 1, last_ms: 1, gone_ms: None };
    let frame = Frame { findings: Arc::new(vec![sighting]), lines: None, ..testkit::frame() };
    let mut app = App::new(1000, Key::Process, true);
    app.on_frame(frame.clone());
    press(&mut app, KeyCode::Char('4'));
    press(&mut app, KeyCode::Enter);
    assert_eq!(app.drill.is_some(), !finding.sockets.is_empty(), "{}", finding.rule);
    let Some(drill) = app.drill.clone() else { return };
    assert_eq!((drill.title.as_str(), drill.of.finding.as_deref()), (finding.rule, Some("of a test")));
    // What the sampler answers.
    let line = |socket: &&Socket| Line {
        socket: (*socket).clone(),
        owner: RowOwner::Unknown(OwnerStatus::NotCollected),
        in_state_ms: (1, false),
        known_ms: 1,
    };
    let is_same = |s: &Socket| drill.of.rows.includes(s, pids(now, s).into_iter()) == finding.sockets.contains(s);
    let is_selection = now.sockets.iter().all(is_same);
    let lines = Lines {
        lines: named.iter().map(line).collect(),
        total: named.len() as u64,
        of_finding: Some(OfFinding { sockets: finding.sockets.len() as u64, is_selection }),
        of: Some(Box::new(drill.of.clone())),
        ..Lines::default()
    };
    app.on_frame(Frame { seq: 4, lines: Some(Arc::new(lines)), ..frame });
    let cookies: BTreeSet<u64> = named.iter().filter_map(|socket| socket.cookie).collect();
    if named.len() <= DRAWN && cookies.len() == named.len() {
        app.set_order(Table::Sockets, Order { column: "cookie", descending: false });
        assert_eq!(drawn(&app), cookies, "{}: on the screen", finding.rule);
    }
    let command = app.command();
    let filter = command.strip_prefix("tcpstate list ").unwrap_or_else(|| panic!("{}: {command}", finding.rule));
    match app.command_note() {
        None => assert_eq!(selected(now, filter.trim_matches('\'')), cookies, "{}: {filter}", finding.rule),
        Some(note) => {
            assert!(named.len() > 3000 || cookies.len() < named.len(), "{}: {note}: {command}", finding.rule);
        }
    }
}
