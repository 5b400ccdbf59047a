//! The screen at six sizes: sorting by every column, the filter, the mouse, another size, and what fills a list that is short.

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Rect;

use super::hits::Target;
use super::order::Table;
use super::state::{App, Command, Tab};
use super::tests::{app, everywhere, press, screen};
use super::{Drawn, Theme, draw};
use crate::aggregate::{Counts, Key};
use crate::diagnose::Sockets;
use crate::model::column::NoNames;
use crate::model::{Endpoint, Socket, State};
use crate::watch::{Frame, GroupId, Line, Lines, OfFinding, Others, testkit};

const SIZES: [(u16, u16); 6] = [(40, 10), (80, 24), (100, 30), (120, 40), (200, 60), (300, 80)];

fn drawn(app: &App, (width, height): (u16, u16)) -> (Drawn, Vec<String>) {
    let area = Rect::new(0, 0, width, height);
    let mut buf = Buffer::empty(area);
    let drawn = draw(app, &NoNames, Theme::PLAIN, area, &mut buf);
    let line = |y| (0..width).map(|x| buf[(x, y)].symbol()).collect::<String>();
    (drawn, (0..height).map(line).collect())
}

fn type_keys(app: &mut App, text: &str) {
    for c in text.chars() {
        app.on_key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE), &Drawn::default());
    }
}

fn mouse(app: &mut App, kind: MouseEventKind, (column, row): (u16, u16), drawn: &Drawn) -> Option<Command> {
    app.on_mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }, drawn)
}

fn click(app: &mut App, at: Rect, drawn: &Drawn) -> Option<Command> {
    mouse(app, MouseEventKind::Down(MouseButton::Left), (at.x, at.y), drawn)
}

/// The screens on which a table stands.
const TABLES: [(Table, &str); 3] = [(Table::States, "1"), (Table::Groups, "3"), (Table::Sockets, "1 Home Enter")];

#[test]
fn every_table_is_sorted_by_every_column_at_every_size() {
    for size in SIZES {
        for (table, keys) in TABLES {
            for column in table.columns() {
                let mut app = app();
                press(&mut app, keys);
                press(&mut app, "s");
                type_keys(&mut app, column);
                let text = drawn(&app, size).1.join("\n");
                assert!(
                    text.contains(&format!("sort by: {column}")) && text.contains(&format!(" {column} ")),
                    "{text}"
                );
                let asked = press(&mut app, "Enter");
                assert_eq!(asked.is_empty(), table == Table::States, "{size:?}: {column}");
                assert_eq!(app.order(table).column, column, "{size:?}");
                let (drawn, lines) = drawn(&app, size);
                // Its heading says so, where it has one; rows have the column that they are sorted by.
                let headings = drawn.hits.of(|target| target == Target::Sort(table, column));
                assert!(!headings.is_empty() || table != Table::Sockets, "{size:?}: {column}\n{}", lines.join("\n"));
                for (at, _) in headings {
                    let heading: String =
                        lines[usize::from(at.y)].chars().skip(at.x.into()).take(at.width.into()).collect();
                    assert!(heading.ends_with(['▲', '▼']), "{size:?}: {column}: `{heading}`");
                }
                press(&mut app, "r");
                assert_eq!(app.order(table).descending, !table.descends(column), "{size:?}: {column}");
            }
        }
    }
}

#[test]
fn the_rows_of_the_states_are_in_the_order_that_is_chosen() {
    for size in SIZES {
        let mut app = app();
        for (column, first) in [("count", State::TimeWait), ("change", State::TimeWait), ("state", State::Established)]
        {
            press(&mut app, "Home s");
            type_keys(&mut app, column);
            press(&mut app, "Enter");
            let (drawn, lines) = drawn(&app, size);
            let top = drawn.hits.of(|target| matches!(target, Target::Line(Tab::States, _)))[0].0;
            assert!(lines[usize::from(top.y)].contains(first.name()), "{size:?} by {column}: {}", lines.join("\n"));
        }
    }
}

#[test]
fn a_filter_is_typed_on_every_view_at_every_size() {
    for size in SIZES {
        for keys in ["1", "2", "3", "4", "1 Home Enter", "Down Enter", "4 Home Enter"] {
            let mut app = app();
            press(&mut app, keys);
            press(&mut app, "/");
            type_keys(&mut app, "dport = 443");
            let text = drawn(&app, size).1.join("\n");
            assert!(text.contains("filter: dport = 443") && text.contains("Enter: use it"), "{size:?} {keys}: {text}");
            assert_eq!(press(&mut app, "Enter"), [Command::Filter("dport = 443".into())]);
            app.filter_set("dport = 443", Ok(()));
            app.on_frame(Frame { filter: "dport = 443".into(), ..testkit::frame() });
            // The smallest has no room for it beside the tabs and what is open.
            let text = drawn(&app, size).1.join("\n");
            assert!(size.0 < 80 || text.contains("filter: dport = 443"), "{size:?} {keys}: {text}");
            press(&mut app, "/");
            press(&mut app, "Esc");
            assert!(app.input.is_none());
        }
    }
}

#[test]
fn the_mouse_reaches_tabs_rows_headings_and_keys_at_every_size() {
    for size in SIZES {
        let mut app = app();
        for tab in [Tab::Machine, Tab::Groups, Tab::Findings, Tab::States] {
            let (screen, lines) = drawn(&app, size);
            let at = screen.hits.of(|target| target == Target::Tab(tab));
            assert_eq!(at.len(), 1, "{size:?}: {tab:?}\n{}", lines.join("\n"));
            click(&mut app, at[0].0, &screen);
            assert_eq!(app.tab, tab, "{size:?}");
        }
        // Every line that is visible, from the last to the first: one click chooses, a second opens.
        for (tab, key) in [(Tab::States, "1"), (Tab::Groups, "3"), (Tab::Findings, "4")] {
            press(&mut app, key);
            let (screen, _) = drawn(&app, size);
            let rows = screen.hits.of(|target| matches!(target, Target::Line(of, _) if of == tab));
            assert!(!rows.is_empty(), "{size:?}: {tab:?}");
            for (at, target) in rows.iter().rev() {
                click(&mut app, *at, &screen);
                assert_eq!(Target::Line(tab, app.cursor()), *target, "{size:?}");
            }
        }
        press(&mut app, "1 Home");
        let (screen, _) = drawn(&app, size);
        let first = screen.hits.of(|target| target == Target::Line(Tab::States, 0))[0].0;
        assert_eq!(click(&mut app, first, &screen), Some(Command::Sample), "{size:?}: chosen already");
        let (screen, _) = drawn(&app, size);
        let rows = screen.hits.of(|target| matches!(target, Target::Socket(_)));
        assert!(rows.len() > 2, "{size:?}");
        click(&mut app, rows[2].0, &screen);
        assert_eq!(app.cursor(), 2, "{size:?}");
        for (at, target) in screen.hits.of(|target| matches!(target, Target::Sort(Table::Sockets, _))) {
            assert_eq!(click(&mut app, at, &screen), Some(Command::Sample), "{size:?}");
            assert_eq!(Target::Sort(Table::Sockets, app.order(Table::Sockets).column), target, "{size:?}");
        }
        press(&mut app, "1 Home");
        for (kind, cursor) in [(MouseEventKind::ScrollDown, 3), (MouseEventKind::ScrollUp, 0)] {
            let (screen, _) = drawn(&app, size);
            mouse(&mut app, kind, (1, 4), &screen);
            assert_eq!(app.cursor(), cursor, "{size:?}");
        }
        // The names of keys do what the keys do.
        let (screen, _) = drawn(&app, size);
        let keys = screen.hits.of(|target| matches!(target, Target::Key(_)));
        let help = keys.iter().find(|(_, target)| *target == Target::Key(KeyCode::Char('?')));
        click(&mut app, help.expect("a place for the help").0, &screen);
        assert!(app.help, "{size:?}");
        press(&mut app, "x");
        let quit = keys.iter().find(|(_, target)| *target == Target::Key(KeyCode::Char('q')));
        assert_eq!(click(&mut app, quit.expect("a place to quit").0, &screen), Some(Command::Quit));
    }
}

#[test]
fn another_size_keeps_the_place_and_the_selected_line_in_sight() {
    for keys in ["1 End Up Up", "3 Down Down Down", "4 Down", "1 Home Enter Down Down", "1 Home Enter Down Enter"] {
        let mut app = app();
        press(&mut app, keys);
        let (cursor, tab) = (app.cursor(), app.tab);
        for size in SIZES.iter().rev().chain(&SIZES) {
            let (screen, lines) = drawn(&app, *size);
            assert_eq!((app.cursor(), app.tab), (cursor, tab));
            let wanted = |target| target == Target::Line(tab, cursor) || target == Target::Socket(cursor);
            let is_list = app.detail.is_none();
            assert!(!is_list || !screen.hits.of(wanted).is_empty(), "{size:?} {keys}:\n{}", lines.join("\n"));
        }
    }
}

/// A finding about one of the sockets of a process, opened.
fn opened() -> App {
    let mut app = app();
    let mut frame = Frame { seq: 4, ..testkit::frame() };
    let all: Vec<Line> = frame.lines.as_ref().unwrap().lines.clone();
    let mut findings = frame.findings.to_vec();
    findings[0].finding.sockets = Sockets::of(&[all[0].socket.clone()]);
    frame.findings = findings.into();
    frame.lines = None;
    app.on_frame(frame.clone());
    press(&mut app, "4 Enter");
    let mut counts = Counts::default();
    let other = |i: u16| {
        let socket = Socket {
            state: State::Established,
            local: Endpoint::at(&format!("10.0.0.5:{}", 42_000 + i)),
            ..all[0].socket.clone()
        };
        Line { socket, ..all[0].clone() }
    };
    counts.add_many(State::Established, 12);
    let lines = Lines {
        lines: vec![all[0].clone()],
        total: 1,
        of_finding: Some(OfFinding { sockets: 1, is_selection: true }),
        others: Others { lines: (0..12).map(other).collect(), counts },
        of: app.drill.as_ref().map(|drill| Box::new(drill.of.clone())),
        ..Lines::default()
    };
    app.on_frame(Frame { seq: 5, lines: Some(lines.into()), ..frame });
    app
}

#[test]
fn a_short_list_of_a_finding_is_filled_with_what_is_needed_then() {
    let app = opened();
    assert_eq!(app.drill.as_ref().map(|drill| drill.of.beside.clone()), Some(vec![812]));
    for (size, wanted) in [
        ((80, 24), &["close the socket when read returns 0", "evidence", "check     tcpstate list --state"][..]),
        ((120, 40), &["evidence", "why", "don't", "12 OTHER SOCKETS OF java (812): 12 ESTABLISHED", "10.0.0.5:42001"]),
        ((200, 60), &["evidence", "don't", "12 OTHER SOCKETS OF java (812)", "THE STATE MACHINE", "10.0.0.5:42011"]),
        ((300, 80), &["evidence", "don't", "12 OTHER SOCKETS OF java (812)", "THE STATE MACHINE", "FROM", "now"]),
    ] {
        let (_, lines) = drawn(&app, size);
        let text = lines.join("\n");
        for part in wanted {
            assert!(text.contains(part), "{size:?} {part}:\n{text}");
        }
        let blank = lines.iter().filter(|line| line.trim().is_empty()).count();
        assert!(blank <= usize::from(size.1) / 5, "{size:?}: {blank} lines are blank\n{text}");
    }
    everywhere("finding_sockets", &app);
    // The whole report, and back to the list.
    let mut app = app;
    press(&mut app, "d");
    assert!(app.full && screen(&app, 80, 24).contains("certainty"), "{}", screen(&app, 80, 24));
    press(&mut app, "Enter");
    assert!(!app.full && app.drill.is_some() && app.detail.is_none());
    press(&mut app, "d Esc");
    assert!(!app.full && app.drill.is_some());
}

#[test]
fn a_long_list_of_a_finding_leaves_room_for_its_report_on_a_tall_screen() {
    let mut app = opened();
    let mut frame = Frame { seq: 6, ..app.frame().unwrap().clone() };
    let mut lines = frame.lines.as_deref().unwrap().clone();
    lines.lines = (0..500).map(|_| lines.lines[0].clone()).collect();
    lines.total = 500;
    frame.lines = Some(lines.into());
    app.on_frame(frame);
    for (size, is_told) in [((80, 24), false), ((120, 40), true), ((200, 60), true), ((300, 80), true)] {
        let (screen, lines) = drawn(&app, size);
        let text = lines.join("\n");
        assert_eq!(text.contains("close the socket when read returns 0"), is_told, "{size:?}: {text}");
        let rows = screen.hits.of(|target| matches!(target, Target::Socket(_))).len();
        assert!(rows >= usize::from(size.1) / 5 * 2, "{size:?}: {rows}");
        assert!(text.contains(" more "), "{size:?}: {text}");
    }
}

#[test]
fn the_command_of_a_group_lists_its_rows_or_says_what_else() {
    let mut app = app();
    let mut frame = Frame { seq: 4, ..testkit::frame() };
    let groups = frame.groups.as_mut().unwrap();
    groups.rows[2].id = GroupId::ShortLived("wget".into());
    groups.rows[2].processes = Some(37);
    app.on_frame(frame.clone());
    press(&mut app, "3 Down Down c");
    assert_eq!(app.command(), "tcpstate list 'process = \"wget\"'");
    let notice = |app: &App| app.notice.clone().unwrap_or_default();
    assert!(notice(&app).contains("(it lists what every wget holds now)"), "{}", notice(&app));
    assert_eq!(press(&mut app, "Enter"), [Command::Sample]);
    let lines = frame.lines.as_deref().unwrap().clone();
    let of = app.drill.as_ref().map(|drill| Box::new(drill.of.clone()));
    let mut seq = 4;
    let mut told = |app: &mut App, is_as_command, total| {
        seq += 1;
        let lines = Lines { is_as_command, total, of: of.clone(), ..lines.clone() };
        app.on_frame(Frame { seq, lines: Some(lines.into()), ..frame.clone() });
        press(app, "c");
        (app.command(), notice(app).contains("(it "))
    };
    let by_name = || "tcpstate list 'process = \"wget\"'".to_owned();
    let by_cookie = || "tcpstate list 'cookie = 0x63567,0x63567,0x63567,0x63567'".to_owned();
    assert_eq!(told(&mut app, Some(true), 4), (by_name(), false), "it selects just these");
    assert_eq!(told(&mut app, Some(false), 4), (by_cookie(), false), "others have that name");
    assert_eq!(told(&mut app, Some(false), 5000), (by_name(), true), "not all of them are known");
    assert_eq!(told(&mut app, None, 4), (by_name(), true), "not asked yet");
    assert_eq!(app.by, Key::Process);
}
