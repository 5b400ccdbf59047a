//! Every view in windows of six sizes. Comes in: known connections. Goes out: that each screen has what it must have, that
//! nothing is cut without a sign, and that no port is another. Never here: how a screen looks in detail.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tcpstate::model::column::COLUMNS;

use super::tmux::{Tmux, product, watch_pid, without_tmux};
use crate::harness::helper::Helper;
use crate::harness::sock::Sock;
use crate::harness::{in_netns, wait_for};

/// Columns and lines of a window, the largest first: what it shows in full is known when the others are looked at.
const SIZES: [(u16, u16); 6] = [(300, 80), (200, 60), (120, 40), (100, 30), (80, 24), (40, 10)];

/// One window, and the words that larger ones showed.
struct Window<'t, 'n> {
    tmux: &'t Tmux<'n>,
    size: (u16, u16),
    words: BTreeSet<String>,
    ports: BTreeSet<u16>,
}

fn words(screen: &str) -> impl Iterator<Item = String> {
    let trimmed = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
    screen.split_whitespace().map(trimmed).filter(|word| !word.is_empty())
}

impl Window<'_, '_> {
    /// Waits for a view, and checks what holds for every one.
    #[track_caller]
    fn see(&mut self, all: &[&str]) -> String {
        let screen = self.tmux.see(all);
        let (width, height) = (usize::from(self.size.0), usize::from(self.size.1));
        let lines: Vec<&str> = screen.lines().collect();
        assert!(lines.len() <= height, "{:?}:\n{screen}", self.size);
        if self.size == SIZES[0] {
            self.words.extend(words(&screen));
        }
        for line in &lines {
            let cells = line.chars().count();
            assert!(cells <= width, "{:?}: {line}", self.size);
            // A word that ends at the edge may have been cut there: larger windows show it whole, or it is a number in full.
            let last = line.chars().last().filter(|c| cells == width && c.is_alphanumeric());
            if let Some(word) = last.and_then(|_| words(line).last()) {
                // A gap may come at any time, and is counted in the head.
                let is_gap = ["gap", "gaps"].contains(&word.as_str());
                let whole = self.words.contains(&word) || is_gap || word.bytes().all(|b| b.is_ascii_digit());
                assert!(whole, "{:?}: `{word}` is cut at the edge: {line}\n{screen}", self.size);
            }
        }
        screen
    }

    /// Goes to a view by its keys.
    #[track_caller]
    fn go(&mut self, keys: &[&str], all: &[&str]) -> String {
        self.tmux.keys(keys);
        self.see(all)
    }

    /// Every port on a list of sockets is one of those that exist.
    fn check_ports(&self, screen: &str) {
        let rows = screen.lines().skip(3).filter(|line| line.starts_with(" ESTABLISHED ") || line.contains("]:"));
        for word in rows.clone().flat_map(str::split_whitespace) {
            let Some((_, port)) = word.rsplit_once(':').filter(|(at, _)| at.contains(['.', ']', '…'])) else {
                continue;
            };
            let port: u16 = port.parse().unwrap_or_else(|_| panic!("{:?}: {word}\n{screen}", self.size));
            assert!(port == 0 || self.ports.contains(&port), "{:?}: {word} is no port\n{screen}", self.size);
        }
        assert!(rows.count() > 0, "{:?}:\n{screen}", self.size);
    }

    fn every_view(&mut self) {
        let small = self.size.0 < 80;
        let states = self.go(&["1", "Home"], &["1 states", "STATE", "COUNT", "ESTABLISHED", "q quit"]);
        if !small {
            assert!(["opened/s", "resets/s", "CHANGE/s"].iter().all(|part| states.contains(part)), "{states}");
        }
        self.go(&["Down", "Down"], &["COUNT", "next: "]);
        self.go(&["2"], if small { &["FROM", "SYN_SENT"] } else { &["in the last ", "FIN_WAIT1"] });
        if !small {
            self.go(&["t"], &["per second", "receive FIN", "gone after 60 s"]);
            self.go(&["t"], &["in the last "]);
        }
        self.go(&["3"], &["BY PROCESS", "TOTAL", "server"]);
        self.go(&["4"], &["FINDINGS", "accept"]);
        self.go(&["Down", "Up"], &["FINDINGS"]);
        self.go(&["d"], &["Esc back"]);
        self.go(&["End", "Escape"], &["FINDINGS"]);
        self.go(&["?"], if small { &["more below"] } else { &["1 2 3 4  Tab"] });
        self.tmux.keys(&["End"]);
        // The last lines of the help, wherever they stand.
        let end = ["the end: arrows", "unseen: lived"];
        wait_for("the end of the help", || {
            let screen = self.tmux.screen();
            if end.iter().any(|part| screen.contains(part)) { Ok(()) } else { Err(screen) }
        });
        self.go(&["x", "/"], &["filter:", "Enter: use it"]);
        self.go(&["dport = 7000", "Enter"], &["sockets", "next: "]);
        self.go(&["1"], &["STATE", "COUNT"]);
        self.go(&["Escape"], &["ESTABLISHED"]);
        self.drill_down();
        self.go(&["1", "p"], &["HELD"]);
        self.go(&["p"], &["live"]);
    }

    /// From a state to its sockets, and to one of them.
    fn drill_down(&mut self) {
        self.go(&["1", "Home", "s", "state", "Enter"], &["STATE▲"]);
        // To ESTABLISHED, wherever it is.
        let screen = self.tmux.screen();
        let at = screen.lines().skip(3).position(|line| line.contains("ESTABLISHED ")).unwrap_or(0);
        self.tmux.keys(&["Home"]);
        self.tmux.keys(&vec!["Down"; at]);
        let list = self.go(&["Enter"], &["> ESTABLISHED", "PEER", "Enter socket"]);
        self.check_ports(&list);
        self.go(&["s", "age", "Enter"], &["AGE▼"]);
        let seen: &[&str] = if self.size.0 < 80 { &["> socket", "whose"] } else { &["> socket", "cookie", "q quit"] };
        let one = self.go(&["Enter"], seen);
        // Both ends in one line, or a line for each.
        let head = one.lines().nth(2).unwrap_or_default();
        let labelled = one.contains(" local ") && one.contains(" peer ");
        assert!(head.contains(" > ") || labelled, "{:?}:\n{one}", self.size);
        self.go(&["PageDown"], &["> socket"]);
        self.go(&["Escape"], &["Enter socket"]);
        self.go(&["s", "state", "Enter"], &["STATE▲"]);
        self.go(&["Escape"], &["STATE", "COUNT"]);
    }

    /// The list of each table by each of its columns.
    fn every_column(&mut self) {
        let of_a_process = |name: &str| name != "process";
        let sockets = COLUMNS.iter().filter(|c| !(c.needs.owners && of_a_process(c.name))).map(|c| c.name);
        self.go(&["1", "Home", "Enter"], &["PEER", "Enter socket"]);
        for (i, column) in sockets.enumerate() {
            // The first is that by which rows are sorted already.
            let keys: &[&str] = if i == 0 { &[] } else { &[">"] };
            if !keys.is_empty() {
                self.tmux.keys(keys);
            }
            let name = column.to_ascii_uppercase();
            wait_for(&format!("rows by {column}"), || {
                let screen = self.tmux.screen();
                let head = screen.lines().nth(2).unwrap_or_default();
                let marked = ["▲", "▼"].iter().any(|mark| head.contains(&format!("{name}{mark}")));
                if marked { Ok(()) } else { Err(screen) }
            });
        }
        self.go(&["Escape", "3"], &["BY PROCESS"]);
        for column in ["name", "total", "time_wait", "established", "listen"] {
            self.go(&["s", column, "Enter"], &["BY PROCESS", "next: "]);
        }
        self.go(&["1"], &["COUNT"]);
        for (column, heading) in [("count", "COUNT▼"), ("change", "CHANGE/s▼"), ("state", "STATE▲")] {
            self.go(&["s", column, "Enter"], &[heading]);
        }
    }

    /// Clicks on a text (mode 1006 of the terminal): line and column begin at 1.
    fn click(&mut self, text: &str) {
        let screen = self.tmux.screen();
        let found =
            screen.lines().zip(1..).find_map(|(line, y)| Some((line[..line.find(text)?].chars().count() + 1, y)));
        let (x, y) = found.unwrap_or_else(|| panic!("{text} is on\n{screen}"));
        self.tmux.keys(&["-l", &format!("\x1b[<0;{x};{y}M\x1b[<0;{x};{y}m")]);
    }

    fn mouse(&mut self) {
        self.click("3 groups");
        self.see(&["BY PROCESS"]);
        // Whatever it was sorted by.
        self.click("BY PROCESS");
        self.see(&["BY PROCESS▲"]);
        self.click("TOTAL");
        self.see(&["TOTAL▼"]);
        self.click("TOTAL▼");
        self.see(&["TOTAL▲"]);
        self.click("1 states");
        self.see(&["COUNT"]);
        // Not the title of the chart. It is chosen already, so that one click opens it.
        self.click("ESTABLISHED     ");
        self.see(&["> ESTABLISHED", "PEER"]);
        self.tmux.keys(&["1"]);
        self.see(&["COUNT"]);
    }
}

#[test]
fn every_view_in_every_size_has_what_it_must_and_cuts_nothing_silently() {
    if without_tmux() {
        return;
    }
    let begun = Instant::now();
    in_netns(|ns| {
        let mut server = Helper::start(ns);
        server.rename(b"server");
        server.make("listen 7000 2");
        let open = server.make("listen 7002 64");
        let to = |at: &str| at.parse::<SocketAddr>().expect("an address");
        let mut held: Vec<Sock> = (0..5).map(|_| ns.run(|| Sock::connected(to("127.0.0.1:7002"), None))).collect();
        server.accept(&open[0], 5);
        held.extend((0..3).map(|_| ns.run(|| Sock::connected(to("127.0.0.1:7000"), None))));
        held.extend((0..2).map(|_| ns.run(|| Sock::connecting(to("127.0.0.1:7000"), None))));
        // Both ends have addresses that are as long as they can be.
        let six = ns.run(|| Sock::listening(to("[::]:7006"), 16));
        held.extend((0..4).map(|_| ns.run(|| Sock::connected(to("[::ffff:127.0.0.1]:7006"), None))));
        let mut ports: BTreeSet<u16> = held.iter().map(|sock| sock.local().port()).collect();
        ports.extend([7000, 7002, 7006]);
        let (columns, rows) = SIZES[0];
        let tmux = Tmux::start(ns, columns, rows, &format!("{} watch --interval 200ms", product()));
        tmux.see(&["STATE", "live", "accept queue of 127.0.0.1:7000 "]);
        let pid = watch_pid(&tmux);
        let mut window = Window { tmux: &tmux, size: SIZES[0], words: BTreeSet::new(), ports };
        for size in SIZES {
            window.size = size;
            window.tmux.resize(size.0, size.1);
            window.every_view();
            if size == (120, 40) {
                window.every_column();
            }
            if size.0 >= 80 {
                window.mouse();
            }
        }
        assert_eq!(watch_pid(&tmux), pid, "no panic on the way");
        tmux.keys(&["q"]);
        drop((held, six));
    });
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
}
