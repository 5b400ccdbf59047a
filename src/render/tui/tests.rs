//! Every view at every size, without a terminal and without colour: a frame made by hand and keys, compared with the
//! screens in `snapshots/`.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Rect;
use ratatui::style::Color;

use super::order::Table;
use super::state::{App, Command, Tab};
use super::{Depth, Drawn, Format, Palette, Playback, Theme, draw, svg, text};
use crate::aggregate::{Flow, Key, Matrix};
use crate::diagnose::Sockets;
use crate::model::column::NoNames;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::{Gap, Socket, State, StateSet};
use crate::watch::{Frame, Lines, OfFinding, TimeWaitOwners, TraceStatus, testkit};

pub(super) fn app() -> App {
    let mut app = App::new(1000, Key::Process, true);
    for seq in 1..=3 {
        let mut frame = testkit::frame();
        frame.seq = seq;
        frame.taken_at_ms -= (3 - seq) * 1000;
        frame.counts[0].add_many(State::TimeWait, seq * 4000);
        app.on_frame(frame);
    }
    app
}

pub(super) fn press(app: &mut App, keys: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    for word in keys.split(' ') {
        let code = match word {
            "Enter" => KeyCode::Enter,
            "Esc" => KeyCode::Esc,
            "Down" => KeyCode::Down,
            "Up" => KeyCode::Up,
            "Home" => KeyCode::Home,
            "Left" => KeyCode::Left,
            "Right" => KeyCode::Right,
            "End" => KeyCode::End,
            "PgDn" => KeyCode::PageDown,
            "Tab" => KeyCode::Tab,
            one => KeyCode::Char(one.chars().next().unwrap()),
        };
        commands.extend(
            app.on_key(KeyEvent::new(code, KeyModifiers::NONE), &Drawn { page: 10, scroll: 100, ..Drawn::default() }),
        );
    }
    commands
}

pub(super) fn screen(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| {
            draw(app, &NoNames, Theme::PLAIN, frame.area(), frame.buffer_mut());
        })
        .unwrap();
    let text = terminal.backend().to_string();
    let lines: Vec<&str> = text.lines().map(|l| l.trim_matches('"').trim_end()).collect();
    lines.join("\n")
}

pub(super) fn everywhere(name: &str, app: &App) {
    for (width, height) in [(40, 10), (80, 24), (200, 50)] {
        insta::assert_snapshot!(format!("{name}_{width}x{height}"), screen(app, width, height));
    }
}

#[test]
fn every_view_at_every_size() {
    let mut app = app();
    everywhere("states", &app);
    press(&mut app, "2 Down");
    everywhere("machine", &app);
    press(&mut app, "3");
    everywhere("groups", &app);
    press(&mut app, "4");
    everywhere("findings", &app);
    assert_eq!(press(&mut app, "1 Enter"), [Command::Sample]);
    everywhere("sockets", &app);
    press(&mut app, "Down Enter");
    everywhere("socket", &app);
    press(&mut app, "?");
    everywhere("help", &app);
}

#[test]
fn a_recording_is_paused_stepped_and_searched() {
    let mut app = app();
    let now = app.frame().unwrap().taken_at_ms;
    app.playback = Some(Playback { ends_ms: (now - 60_000, now + 40_000), playing: true });
    let shown = screen(&app, 80, 24);
    assert!(shown.lines().next().unwrap().contains("replay") && !shown.contains("live"), "{shown}");
    let time = shown.lines().nth(21).unwrap();
    let place = time.chars().position(|c| c == '●').unwrap();
    assert!(time.starts_with("08:5") && (44..50).contains(&place), "60 of 100 s: {time}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80) && shown.contains("n next finding"), "{shown}");
    assert_eq!(press(&mut app, "p"), [Command::Play(false)]);
    assert!(screen(&app, 80, 24).contains("PAUSED (p: play)"));
    // Back through what was shown; forward again, and then the next snapshot.
    assert_eq!(press(&mut app, "Left"), []);
    assert!(screen(&app, 80, 24).contains("PAUSED 1s back"), "{}", screen(&app, 80, 24));
    assert_eq!(press(&mut app, "Right Right"), [Command::Advance]);
    assert_eq!(press(&mut app, "p Left"), [Command::Play(true), Command::Play(false)], "who steps back pauses");
    assert_eq!(press(&mut app, "p"), [Command::Play(true)]);
    assert_eq!(press(&mut app, ", . ."), [now - 10_000, now + 10_000, now + 10_000].map(Command::Seek));
    assert_eq!(press(&mut app, "n"), [Command::NextFinding]);
    app.played(false, Some("high: a leak".into()));
    assert!(screen(&app, 80, 24).contains("high: a leak"));
    app.jumped();
    assert!(app.frame().is_none());
    press(&mut app, "?");
    app.on_frame(testkit::frame());
    assert!(screen(&app, 120, 60).contains("of a recording: on to the next finding"));
}

#[test]
fn a_trace_shows_in_the_accounts_and_on_the_edges() {
    let mut app = app();
    let mut frame = Frame { seq: 4, ..testkit::frame() };
    let mut matrix = Matrix::default();
    for (from, to, n) in [
        (State::Established, State::FinWait1, 40),
        (State::FinWait1, State::FinWait2, 39),
        (State::FinWait2, State::Close, 38),
        (State::Established, State::CloseWait, 37),
        (State::LastAck, State::Close, 36),
    ] {
        matrix.add(Some(from), Some(to), n);
    }
    let mut cut = Matrix::default();
    cut.add(Some(State::LastAck), Some(State::Close), 2);
    frame.trace = Some(TraceStatus { via: "bpf", changes: 190, lost: 0, matrix: Some(matrix), cut: Some(cut) });
    frame.since_start.opened = Flow { seen: 40, traced: 160, unseen: Some(2) };
    frame.time_wait_owners = Some(TimeWaitOwners { exact: 20_017, traced: 17, likely: 400, unknown: 0 });
    app.on_frame(frame);
    insta::assert_snapshot!("traced_states", screen(&app, 80, 24));
    press(&mut app, "2");
    // Not all of the minute was traced.
    assert!(screen(&app, 80, 24).contains("in the last 4s") && screen(&app, 80, 24).contains("≥"));
    press(&mut app, "t");
    let mut only = App::new(1000, Key::Process, true);
    only.on_frame(app.frame().unwrap().clone());
    press(&mut only, "2");
    insta::assert_snapshot!("traced_machine", screen(&only, 80, 24));
}

#[test]
fn a_larger_screen_says_no_less_of_the_states() {
    for (width, height) in [(80, 24), (116, 30), (120, 40), (200, 50)] {
        let text = screen(&app(), width, height);
        for heading in ["COUNT", "CHANGE/s", "IN/s", "OUT/s"] {
            assert!(text.contains(heading), "{heading} at {width}x{height}: {text}");
        }
    }
    assert!(screen(&app(), 120, 40).contains("4: in full"));
}

#[test]
fn nothing_is_drawn_outside_and_no_size_panics() {
    let mut app = app();
    for keys in ["1", "2", "3", "4", "1 Enter", "Enter", "?", "Esc Esc / x"] {
        press(&mut app, keys);
        for (width, height) in [(1, 1), (39, 9), (40, 10), (57, 13), (80, 24), (131, 20), (400, 120)] {
            screen(&app, width, height);
        }
    }
}

#[test]
fn held_and_stale_looks_say_so() {
    let mut app = app();
    press(&mut app, "Left");
    assert!(app.is_held());
    assert!(screen(&app, 100, 24).contains("HELD 1s back"), "{}", screen(&app, 100, 24));
    let before = screen(&app, 100, 24);
    app.on_frame(Frame { seq: 4, ..testkit::frame() });
    assert_eq!(screen(&app, 100, 24).lines().nth(4), before.lines().nth(4), "a held sample does not move");
    press(&mut app, "Right Right Right");
    assert!(!app.is_held() && screen(&app, 100, 24).contains("live"));
    app.stale = true;
    assert!(screen(&app, 100, 24).contains("STALE"));
    app.on_frame(Frame { seq: 5, sample_us: 3_000_000, ..testkit::frame() });
    assert!(screen(&app, 100, 24).contains("STALE: a sample takes 3s"));
    press(&mut app, "p");
    assert!(app.is_held());
    press(&mut app, "p");
    assert!(!app.is_held());
}

#[test]
fn a_command_to_copy_is_shown_whole() {
    let mut app = app();
    press(&mut app, "4 Enter");
    let commands = press(&mut app, "c");
    let [Command::Copy(command)] = &commands[..] else { panic!("{commands:?}") };
    for width in [60, 80, 200] {
        let text = screen(&app, width, 24);
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[22..].concat();
        assert!(end.replace(' ', "").contains(&command.replace(' ', "")), "{width}: {command}\n{text}");
    }
}

#[test]
fn a_port_is_never_cut() {
    let long = [
        ("10.128.200.201:50443", "203.0.113.250:51234"),
        ("[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:50443", "[2001:db8:1111:2222:3333:4444:5555:6666]:51234"),
    ];
    for (local, peer) in long {
        let mut app = app();
        press(&mut app, "1 Enter");
        let mut frame = Frame { seq: 4, ..testkit::frame() };
        let mut lines = frame.lines.as_deref().unwrap().clone();
        let at = crate::model::Endpoint::at;
        (lines.lines[0].socket.local, lines.lines[0].socket.peer) = (at(local), at(peer));
        frame.lines = Some(lines.into());
        app.on_frame(frame);
        for width in 40..200 {
            let text = screen(&app, width, 24);
            let row = text.lines().nth(3).unwrap();
            assert!(row.contains(":51234 "), "{width}: {row}");
            assert!(width < 60 || row.contains(":50443 "), "{width}: {row}");
            assert!(row.contains(peer) || row.contains("…:51234 "), "{width}: {row}");
            assert!(row.contains("java") || row.contains("curl") || row.contains("nginx"), "{width}: {row}");
        }
        assert!(screen(&app, 80, 24).contains(peer) != peer.starts_with('['), "{}", screen(&app, 80, 24));
    }
}

#[test]
fn a_finding_opens_the_sockets_it_is_about() {
    let mut app = app();
    let mut frame = Frame { seq: 4, ..testkit::frame() };
    let rows: Vec<Socket> = frame.lines.as_ref().unwrap().lines.iter().map(|l| l.socket.clone()).collect();
    let mut findings = frame.findings.to_vec();
    findings.truncate(1);
    let queue = findings[0].clone();
    findings[0].finding.states = Some(StateSet::of(&[State::CloseWait]));
    findings[0].finding.sockets = Sockets::of(&rows[..1]);
    findings.push(queue.clone());
    findings[1].finding.id = "accept-queue-overflow:0.0.0.0:80".into();
    findings[1].finding.subject.listener = Some(crate::model::Endpoint::new("0.0.0.0".parse().unwrap(), 80));
    findings[1].finding.sockets = Sockets::of(&[Socket { cookie: Some(7), ..rows[0].clone() }, rows[0].clone()]);
    findings.push(queue);
    findings[2].finding.subject = crate::diagnose::Subject { object: Some("fs.file-max".into()), ..Default::default() };
    frame.findings = findings.into();
    app.on_frame(frame.clone());
    assert_eq!(press(&mut app, "4 Enter"), [Command::Sample]);
    let drill = |app: &App| app.drill.as_ref().and_then(|drill| drill.of.finding.clone());
    assert_eq!(drill(&app).as_deref(), Some(""), "by its id");
    // Before its rows are there nobody knows what else its facts select.
    assert_eq!(app.command(), "tcpstate list 'cookie = 0x63567'");
    let told = |app: &mut App, of_finding| {
        let lines = Lines { of_finding: Some(of_finding), total: 4, ..frame.lines.as_deref().unwrap().clone() };
        let seq = app.frame().unwrap().seq + 1;
        app.on_frame(Frame { lines: Some(lines.into()), seq, ..frame.clone() });
    };
    told(&mut app, OfFinding { sockets: 4, is_selection: true });
    assert_eq!(app.command(), "tcpstate list 'state close-wait and pid = 812'");
    told(&mut app, OfFinding { sockets: 9, is_selection: false });
    assert_eq!(app.command(), "tcpstate list 'cookie = 0x63567'", "its facts select others too");
    let text = screen(&app, 80, 24);
    assert!(text.contains("5 of the 9 sockets that it is about are gone"), "{text}");
    press(&mut app, "Esc Down Enter");
    assert_eq!(drill(&app).as_deref(), Some("accept-queue-overflow:0.0.0.0:80"));
    assert_eq!(app.command(), "tcpstate list 'cookie = 0x7,0x63567'");
    told(&mut app, OfFinding { sockets: 2, is_selection: true });
    assert_eq!(app.command(), "tcpstate list 'sport = :80'");
    assert_eq!(press(&mut app, "Esc Down Enter"), [Command::Sample], "Esc closes the rows; a limit has none");
    assert!(app.drill.is_none() && screen(&app, 80, 24).contains("no particular socket"));
}

#[test]
fn rows_of_what_was_open_before_are_not_shown_under_another_title() {
    let mut app = app();
    press(&mut app, "1 Enter");
    let of = app.drill.as_ref().unwrap().of.clone();
    let frame = Frame { seq: 4, ..testkit::frame() };
    let lines = Lines { of: Some(Box::new(of)), ..frame.lines.as_deref().unwrap().clone() };
    app.on_frame(Frame { lines: Some(lines.into()), ..frame });
    assert!(screen(&app, 80, 24).contains("10.0.0.5:8080"));
    press(&mut app, "Esc Down Enter");
    let text = screen(&app, 80, 24);
    assert!(text.contains("on their way") && !text.contains("10.0.0.5:8080"), "{text}");
}

#[test]
fn the_cookies_of_many_sockets_are_too_many_for_a_command() {
    let mut app = app();
    let mut frame = Frame { seq: 4, ..testkit::frame() };
    let row = frame.lines.as_ref().unwrap().lines[0].socket.clone();
    let rows: Vec<Socket> = (0..20_000).map(|i| Socket { cookie: Some(1 << 30 | i), ..row.clone() }).collect();
    let mut findings = frame.findings.to_vec();
    findings[0].finding.sockets = Sockets::of(&rows);
    frame.findings = findings.into();
    app.on_frame(frame);
    press(&mut app, "4 Enter c");
    let text = screen(&app, 120, 24);
    assert!(text.contains("(it lists others too): tcpstate list 'pid = 812'"), "{text}");
}

#[test]
fn the_help_begins_with_what_is_not_seen_and_scrolls_to_its_end() {
    let mut app = app();
    let mut frame = Frame { seq: 4, ..testkit::frame() };
    frame.gaps.push(Gap::new(Missing::Trace(None), Why::Error("not permitted".into()), WayOut::None));
    app.on_frame(frame);
    for (width, height) in [(40, 10), (80, 24)] {
        let drawn = |app: &App| {
            let area = Rect::new(0, 0, width, height);
            draw(app, &NoNames, Theme::PLAIN, area, &mut Buffer::empty(area))
        };
        let key = |app: &mut App, code| {
            let drawn = drawn(app);
            app.on_key(KeyEvent::new(code, KeyModifiers::NONE), &drawn)
        };
        press(&mut app, "?");
        let first = screen(&app, width, height);
        assert!(first.lines().nth(2).unwrap().contains("note: ") && first.contains("more below"), "{first}");
        assert!(!first.contains("the sums are"), "{first}");
        key(&mut app, KeyCode::PageDown);
        assert!(app.help && app.help_scroll > 0);
        key(&mut app, KeyCode::End);
        let last = screen(&app, width, height);
        assert!(last.contains("the end") && !last.contains("note: "), "{last}");
        key(&mut app, KeyCode::Home);
        assert_eq!(screen(&app, width, height), first);
        key(&mut app, KeyCode::Char('x'));
        assert!(!app.help, "any other key closes it");
    }
}

#[test]
fn the_keys_that_scroll_one_socket_leave_the_list_where_it_was() {
    let mut app = app();
    press(&mut app, "1 Enter Down Enter");
    let chosen = app.cursor();
    press(&mut app, "PgDn");
    assert_eq!((app.detail_scroll, app.cursor()), (10, chosen));
    press(&mut app, "End");
    assert_eq!((app.detail_scroll, app.cursor()), (100, chosen));
    press(&mut app, "Home");
    assert_eq!((app.detail_scroll, app.cursor()), (0, chosen));
}

#[test]
fn a_group_that_was_chosen_is_found_again_after_another_tab() {
    let mut app = app();
    press(&mut app, "3 Down Down");
    let named = |app: &App| app.frame().unwrap().groups.as_ref().unwrap().rows[app.cursor()].id.clone();
    let chosen = named(&app);
    press(&mut app, "1");
    let mut frame = Frame { seq: 4, ..testkit::frame() };
    frame.groups.as_mut().unwrap().rows.reverse();
    app.on_frame(frame);
    press(&mut app, "3");
    assert_eq!(named(&app), chosen);
}

#[test]
fn keys_ask_for_what_they_need() {
    let mut app = app();
    assert_eq!(press(&mut app, "+"), [Command::Interval(2000)]);
    assert_eq!(press(&mut app, "- -"), [Command::Interval(1000), Command::Interval(500)]);
    assert_eq!(press(&mut app, "g"), [Command::Sample]);
    assert_eq!(app.by, Key::Listener);
    assert_eq!(press(&mut app, "Enter r"), [Command::Sample, Command::Sample]);
    assert_eq!(press(&mut app, "Esc"), [Command::Sample], "rows are not asked for any longer");
    assert_eq!(press(&mut app, "Esc"), []);
    assert_eq!(press(&mut app, "e E"), [Command::Export(Format::Svg), Command::Export(Format::Text)]);
    assert_eq!(press(&mut app, "q"), [Command::Quit]);
    assert_eq!(press(&mut app, "/ c w Enter"), [Command::Filter("cw".into())]);
    app.filter_set("cw", Err("filter: bad".into()));
    assert!(screen(&app, 80, 24).contains("filter: bad"), "the text stays, to be mended");
    press(&mut app, "Esc");
    app.filter_set("cw", Ok(()));
    assert_eq!(app.typed_filter, "cw");
    assert_eq!(press(&mut app, "Esc"), [Command::Filter(String::new())]);
    let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.on_key(control, &Drawn::default()), Some(Command::Quit));
}

#[test]
fn every_list_is_sorted_by_the_column_that_is_typed() {
    let mut app = app();
    let order = |app: &App, table| (app.order(table).column, app.order(table).descending);
    assert_eq!(press(&mut app, "s u n Enter"), [], "a screen has every state");
    assert_eq!(order(&app, Table::States), ("count", true), "a part of the name will do");
    let text = screen(&app, 80, 24);
    let line = |text: &str, n: usize| text.lines().nth(n).unwrap().to_owned();
    assert!(line(&text, 2).contains("COUNT▼") && line(&text, 3).contains("TIME_WAIT"), "{text}");
    assert_eq!(press(&mut app, "r"), []);
    assert!(screen(&app, 80, 24).contains("COUNT▲"));
    // The chosen state stays chosen wherever it moves.
    press(&mut app, "End Up Up Up");
    let chosen = app.states()[app.cursor()];
    press(&mut app, "s s t a Enter");
    assert_eq!((order(&app, Table::States), app.states()[app.cursor()]), (("state", false), chosen));

    assert_eq!(press(&mut app, "3 s c l o s e Tab Enter"), [Command::Sample]);
    assert_eq!(order(&app, Table::Groups), ("close_wait", true));
    assert!(screen(&app, 120, 24).contains("CLOSE_WAIT▼"));

    press(&mut app, "1 Home Enter");
    assert_eq!(press(&mut app, "s a g e Enter"), [Command::Sample], "the sampler sorts rows");
    assert_eq!(order(&app, Table::Sockets), ("age", true), "the oldest first");
    for width in [40, 60, 80, 200] {
        assert!(screen(&app, width, 24).contains("AGE▼"), "{}", screen(&app, width, 24));
    }
    assert_eq!(press(&mut app, "> < r"), [Command::Sample, Command::Sample, Command::Sample]);
    // Any column of `list`: it is shown while rows are sorted by it.
    press(&mut app, "s c o o k Enter");
    let text = screen(&app, 80, 24);
    assert!(text.contains("COOKIE▼") && text.contains("0x63567"), "{text}");
    assert_eq!(press(&mut app, "s x y z"), []);
    assert!(screen(&app, 80, 24).contains("sort by: xyz"));
    press(&mut app, "Enter");
    assert!(screen(&app, 80, 24).contains("no column is called `xyz`"), "the text stays, to be mended");
    press(&mut app, "Esc 4 s");
    assert!(app.input.is_none() && screen(&app, 80, 24).contains("has its own order"));
}

/// Clicks on a text of the screen.
fn click(app: &mut App, (width, height): (u16, u16), text: &str) -> Option<Command> {
    let area = Rect::new(0, 0, width, height);
    let mut buf = Buffer::empty(area);
    let drawn = draw(app, &NoNames, Theme::PLAIN, area, &mut buf);
    let line = |y| (0..width).map(|x| buf[(x, y)].symbol()).collect::<String>();
    let found = (0..height).find_map(|y| Some((line(y).find(text)?, y)));
    let (at, row) = found.unwrap_or_else(|| panic!("{text} is on {}", screen(app, width, height)));
    let column = u16::try_from(line(row)[..at].chars().count()).unwrap();
    let kind = MouseEventKind::Down(MouseButton::Left);
    app.on_mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }, &drawn)
}

#[test]
fn the_mouse_chooses_opens_sorts_and_goes_back() {
    let mut app = app();
    for size in [(80, 24), (200, 60)] {
        // Not the title of the chart.
        assert_eq!(click(&mut app, size, "CLOSE_WAIT     "), None);
        assert_eq!(app.states()[app.cursor()], State::CloseWait, "chosen");
        assert_eq!(click(&mut app, size, "CLOSE_WAIT     "), Some(Command::Sample), "opened");
        assert_eq!(app.drill.as_ref().unwrap().title, "CLOSE_WAIT");
        assert_eq!(click(&mut app, size, "AGE"), Some(Command::Sample));
        assert_eq!((app.sort().name, app.order(Table::Sockets).descending), ("age", true));
        assert_eq!(click(&mut app, size, "AGE"), Some(Command::Sample));
        assert!(!app.order(Table::Sockets).descending, "the other way");
        assert_eq!(click(&mut app, size, "10.0.0.5:41002"), None);
        assert_eq!(click(&mut app, size, "10.0.0.5:41002"), Some(Command::Sample));
        assert_eq!(app.only().unwrap().local.port, 41002);
        assert_eq!(click(&mut app, size, "CLOSE_WAIT"), Some(Command::Sample), "the way back is in the head");
        assert!(app.detail.is_none() && app.drill.is_some());
        assert_eq!(click(&mut app, size, "2 machine"), Some(Command::Sample));
        assert_eq!((app.tab, click(&mut app, size, "TIME_WAIT 3")), (Tab::Machine, None));
        assert_eq!(app.states()[app.cursor()], State::TimeWait);
        assert_eq!((click(&mut app, size, "3 groups"), app.tab), (None, Tab::Groups));
        assert_eq!(click(&mut app, size, "TIME_WAIT  CLOSE_WAIT"), Some(Command::Sample), "by a state");
        assert_eq!(app.order(Table::Groups).column, "time_wait");
        click(&mut app, size, "1 states");
        press(&mut app, "s");
        assert_eq!((click(&mut app, size, " change "), app.order(Table::States).column), (None, "change"));
        click(&mut app, size, "STATE");
        app.set_order(Table::Groups, Table::FIRST[Table::Groups as usize]);
    }
    // What is below the states of a large screen leads to its own view.
    assert_eq!(click(&mut app, (200, 60), "nginx(80 +3)"), None);
    assert_eq!((app.tab, app.cursor()), (Tab::Groups, 1));
    press(&mut app, "1");
    assert_eq!(click(&mut app, (200, 60), "curl leaves 9"), None);
    assert_eq!((app.tab, app.cursor()), (Tab::Findings, 1));
    press(&mut app, "?");
    assert_eq!((click(&mut app, (80, 24), "arrows"), app.help), (None, false));
}

#[test]
fn the_wheel_moves_and_a_key_leaves_the_mouse_to_the_terminal() {
    let mut app = app();
    let drawn = Drawn { page: 10, scroll: 4, ..Drawn::default() };
    let turn = |app: &mut App, kind| {
        app.on_mouse(MouseEvent { kind, column: 0, row: 0, modifiers: KeyModifiers::NONE }, &drawn)
    };
    assert_eq!((turn(&mut app, MouseEventKind::ScrollDown), app.cursor()), (None, 3));
    turn(&mut app, MouseEventKind::ScrollUp);
    turn(&mut app, MouseEventKind::ScrollUp);
    assert_eq!(app.cursor(), 0);
    press(&mut app, "Enter Enter");
    turn(&mut app, MouseEventKind::ScrollDown);
    turn(&mut app, MouseEventKind::ScrollDown);
    assert_eq!(app.detail_scroll, 4, "not beyond its end");
    press(&mut app, "1 /");
    assert_eq!((turn(&mut app, MouseEventKind::ScrollDown), app.cursor()), (None, 0));
    press(&mut app, "Esc");
    assert_eq!(press(&mut app, "M"), [Command::Mouse(false)]);
    assert!(screen(&app, 80, 24).contains("to select text"));
    assert_eq!(press(&mut app, "M"), [Command::Mouse(true)]);
}

#[test]
fn a_chosen_row_is_followed_and_the_way_back_ends_at_it() {
    let mut app = app();
    press(&mut app, "1 Enter Down");
    let row = |app: &App| app.lines()[app.cursor()].socket.local;
    let chosen = row(&app);
    let mut frame = Frame { seq: 4, ..testkit::frame() };
    let mut lines = frame.lines.as_deref().unwrap().clone();
    lines.lines.reverse();
    frame.lines = Some(lines.clone().into());
    app.on_frame(frame.clone());
    assert_eq!((row(&app), app.cursor()), (chosen, 2));
    // One socket, and back: for a moment the frame has that one alone.
    press(&mut app, "Enter");
    let one = Lines { lines: vec![lines.lines[2].clone()], only: true, ..lines.clone() };
    app.on_frame(Frame { seq: 5, lines: Some(one.into()), ..frame.clone() });
    press(&mut app, "Esc");
    assert!(screen(&app, 80, 24).contains("on their way"));
    app.on_frame(Frame { seq: 6, ..frame });
    assert_eq!((row(&app), app.cursor()), (chosen, 2));
}

#[test]
fn the_next_command_is_one_that_can_be_run() {
    let mut app = app();
    assert_eq!(app.command(), "tcpstate list 'state established'");
    press(&mut app, "3");
    assert_eq!(app.command(), "tcpstate list 'process = \"curl\"'");
    press(&mut app, "Enter");
    assert_eq!(app.command(), "tcpstate list 'process = \"curl\"'");
    press(&mut app, "Enter");
    assert_eq!(app.command(), "tcpstate list -tanopiem 'src 10.0.0.5:8080 and dst 10.0.0.9:51234'");
    press(&mut app, "4");
    assert_eq!(app.command(), "tcpstate list --state CLOSE_WAIT --pid 812");
    assert_eq!(app.tab, Tab::Findings);
    for keys in ["1 End", "3 Down", "Down", "Down", "Down"] {
        press(&mut app, keys);
        let command = app.command();
        if let Some(filter) = command.strip_prefix("tcpstate list '").and_then(|c| c.strip_suffix('\'')) {
            crate::filter::parse(filter, &crate::filter::NoResolver).unwrap_or_else(|e| panic!("{command}: {e}"));
        }
    }
}

#[test]
fn foreign_text_cannot_move_the_cursor() {
    let mut app = App::new(1000, Key::Process, true);
    let mut frame = testkit::frame();
    frame.host = "web\x1b[2J3".into();
    frame.filter = "process = \"\x07\"".into();
    frame.gaps.push(Gap::new(Missing::Trace(None), Why::Error("x\x1b[1m".into()), WayOut::None));
    app.on_frame(frame);
    for keys in ["1", "?"] {
        press(&mut app, keys);
        let text = screen(&app, 120, 40);
        assert!(text.contains("web\\x1b[2J3") && !text.contains('\x1b') && !text.contains('\x07'), "{text}");
    }
}

#[test]
fn colour_is_never_alone_and_no_more_than_the_terminal_has() {
    let app = app();
    let area = Rect::new(0, 0, 80, 24);
    let drawn = |depth| {
        let mut buf = Buffer::empty(area);
        draw(&app, &NoNames, Theme { depth, palette: Palette::Usual }, area, &mut buf);
        buf
    };
    let plain = drawn(Depth::None);
    for (depth, rgb) in [(Depth::Sixteen, false), (Depth::True, true)] {
        let coloured = drawn(depth);
        let mut colours = 0;
        for (a, b) in plain.content.iter().zip(&coloured.content) {
            assert_eq!((a.symbol(), a.fg), (b.symbol(), Color::Reset));
            assert!(b.fg == Color::Reset || matches!(b.fg, Color::Rgb(..)) == rgb, "{:?}", b.fg);
            colours += usize::from(b.fg != Color::Reset);
        }
        assert!(colours > 0);
        assert_eq!(text(&coloured).trim_end(), screen(&app, 80, 24).trim_end(), "without its colours");
        let picture = svg(&coloured);
        assert!(picture.starts_with("<svg ") && picture.contains("TIME_WAIT") && picture.ends_with("</svg>\n"));
        assert_eq!(picture.contains("#1590a5"), rgb, "a picture has the colours of its screen");
    }
}

#[test]
fn states_without_a_column_are_added_up() {
    let mut app = app();
    press(&mut app, "3");
    let text = screen(&app, 60, 20);
    let end = |of: &str| text.lines().find(|l| l.contains(of)).unwrap().split_whitespace().rev().take(3).collect();
    let ends: [Vec<&str>; 2] = [end("BY PROCESS"), end("nginx(80")];
    assert_eq!(ends, [["OTHER", "TIME_WAIT", "ESTAB"], ["4", "0", "1,178"]]);
}
