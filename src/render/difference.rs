//! What changed between two snapshots, as text and as JSON.
//!
//! Input: a [`Difference`] and both snapshots. Output: tables, or one document. Not here: what it means.

use comfy_table::Cell;
use serde_json::{Map, Value as Json, json};

use crate::aggregate::difference::{Difference, Pair, Share, process};
use crate::model::{NetnsId, Snapshot, Socket, State};
use crate::render::grid::{lines_of, number, right, small_table};
use crate::render::json as out;
use crate::render::sanitize;
use crate::render::style::Style;
use crate::text;

/// A socket of a snapshot, and a note about it.
type Line<'a> = (&'a Socket, &'a Snapshot, String);

/// One side of a comparison.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// What was typed: a file, or what is there now.
    pub name: &'a str,
    /// When it was taken, for people.
    pub time: &'a str,
    pub snapshot: &'a Snapshot,
}

/// Two snapshots and what is different.
pub struct Comparison<'a> {
    pub before: Side<'a>,
    pub after: Side<'a>,
    pub difference: &'a Difference<'a>,
    /// How many lines of each kind are shown.
    pub top: usize,
    /// How many entries the lists of the document have at most.
    pub limit: Option<usize>,
}

impl Comparison<'_> {
    /// Appends the tables.
    pub fn write(&self, out: &mut String, style: Style) {
        let (before, after) = (&self.before, &self.after);
        for side in [before, after] {
            let host = sanitize::clean(&side.snapshot.host);
            let many = text::count(side.snapshot.sockets.len() as u64, "socket", "sockets");
            out.push_str(&format!("{}  {host}, {}: {many}\n", side.time, sanitize::clean(side.name)));
        }
        if self.difference.is_empty() {
            out.push_str("\nno socket appeared, vanished, moved to another state, or queued more\n");
            return;
        }
        self.write_states(out, style);
        self.write_processes(out, style);
        let d = self.difference;
        let list: Vec<Line<'_>> = d.appeared.iter().map(|s| (*s, after.snapshot, String::new())).collect();
        self.write_sockets(out, "APPEARED", &list, style);
        let list: Vec<Line<'_>> = d.vanished.iter().map(|s| (*s, before.snapshot, String::new())).collect();
        self.write_sockets(out, "VANISHED", &list, style);
        let was = |pair: &Pair<'_>| format!("was {}", pair.before.state);
        let list: Vec<Line<'_>> = d.moved.iter().map(|pair| (pair.after, after.snapshot, was(pair))).collect();
        self.write_sockets(out, "MOVED", &list, style);
        let grew = |pair: &Pair<'_>| {
            let queued =
                |s: &Socket| format!("{}/{}", s.recv_q_bytes, s.send_q_bytes.map_or("?".into(), |n| n.to_string()));
            format!("queues were {}, are {}", queued(pair.before), queued(pair.after))
        };
        let list: Vec<Line<'_>> = d.grew.iter().map(|pair| (pair.after, after.snapshot, grew(pair))).collect();
        self.write_sockets(out, "GREW", &list, style);
    }

    fn write_states(&self, out: &mut String, style: Style) {
        let d = self.difference;
        let mut table = small_table(style);
        table.set_header(vec![Cell::new(style.heading("STATE")), right("BEFORE"), right("AFTER"), right("CHANGE")]);
        for state in State::ALL {
            let (before, after) = (d.before.get(state), d.after.get(state));
            if before != 0 || after != 0 {
                table.add_row(vec![
                    Cell::new(state.name()),
                    number(before),
                    number(after),
                    right(&signed(before, after)),
                ]);
            }
        }
        push(out, &table);
        let moves: Vec<String> =
            d.moves().iter().map(|(from, to, n)| format!("{} from {from} to {to}", text::grouped(*n))).collect();
        if !moves.is_empty() {
            style.push_wrapped(out, [0, 2], &format!("moved: {}", moves.join(", ")), anstyle::Style::new());
            out.push('\n');
        }
    }

    fn write_processes(&self, out: &mut String, style: Style) {
        let changed = self.processes(true);
        if changed.is_empty() {
            return;
        }
        let mut table = small_table(style);
        let heads = ["BEFORE", "AFTER", "CHANGE", "APPEARED", "VANISHED"].map(right);
        table.set_header([Cell::new(style.heading("PROCESS"))].into_iter().chain(heads).collect::<Vec<_>>());
        for (name, share) in changed.iter().take(self.top) {
            let name = name.map_or_else(|| "(none known)".into(), sanitize::clean);
            table.add_row(vec![
                Cell::new(name),
                number(share.before),
                number(share.after),
                right(&signed(share.before, share.after)),
                number(share.appeared),
                number(share.vanished),
            ]);
        }
        push(out, &table);
        self.write_rest(out, changed.len());
    }

    /// The processes whose sockets came or went: the largest change first, or by name.
    fn processes(&self, largest_first: bool) -> Vec<(Option<&str>, &Share)> {
        let shares = self.difference.processes.iter().filter(|(_, s)| s.appeared + s.vanished > 0);
        let mut changed: Vec<(Option<&str>, &Share)> = shares.map(|(name, share)| (*name, share)).collect();
        if largest_first {
            changed.sort_by_key(|(_, s)| std::cmp::Reverse(s.before.abs_diff(s.after).max(s.appeared + s.vanished)));
        }
        changed
    }

    fn write_sockets(&self, out: &mut String, title: &str, list: &[Line<'_>], style: Style) {
        if list.is_empty() {
            return;
        }
        let mut table = small_table(style);
        let title = format!("{title} {}", text::grouped(list.len() as u64));
        table.set_header([&title, "LOCAL", "PEER", "PROCESS", ""].map(|head| Cell::new(style.heading(head))).to_vec());
        for (socket, snapshot, note) in list.iter().take(self.top) {
            let name = process(snapshot, socket).map_or_else(|| "-".into(), sanitize::clean);
            table.add_row(vec![
                Cell::new(socket.state.name()),
                Cell::new(socket.local),
                Cell::new(socket.peer),
                Cell::new(name),
                Cell::new(note),
            ]);
        }
        push(out, &table);
        self.write_rest(out, list.len());
    }

    fn write_rest(&self, out: &mut String, all: usize) {
        if let Some(more) = all.checked_sub(self.top).filter(|more| *more > 0) {
            out.push_str(&format!("and {} more (--top)\n", text::grouped(more as u64)));
        }
    }

    /// The document, without its head and its gaps.
    #[must_use]
    pub fn document(&self) -> Map<String, Json> {
        let d = self.difference;
        let mut map = Map::new();
        let side = |side: &Side<'_>| {
            json!({
                "taken_at": out::stamp(side.snapshot.taken_at_ms), "host": side.snapshot.host,
                "total": side.snapshot.sockets.len(), "name": side.name,
            })
        };
        map.insert("before".into(), side(&self.before));
        map.insert("after".into(), side(&self.after));
        map.insert("changed".into(), json!(!d.is_empty()));
        let states = State::ALL.iter().map(|state| {
            (state.key().to_owned(), json!({ "before": d.before.get(*state), "after": d.after.get(*state) }))
        });
        map.insert("states".into(), Json::Object(states.collect::<Map<_, _>>()));
        let limit = self.limit.unwrap_or(usize::MAX);
        let moves =
            d.moves().into_iter().map(|(from, to, n)| json!({ "from": from.key(), "to": to.key(), "count": n }));
        map.insert("moves".into(), moves.collect());
        // What a limit keeps is the largest.
        let changed = self.processes(self.limit.is_some());
        let processes = changed.iter().take(limit).map(|(name, s)| {
            json!({
                "comm": name, "before": s.before, "after": s.after, "appeared": s.appeared, "vanished": s.vanished,
            })
        });
        map.insert("processes".into(), processes.collect());
        let (before, after) = (self.before.snapshot, self.after.snapshot);
        map.insert("appeared".into(), d.appeared.iter().take(limit).map(|s| socket(s, after)).collect());
        map.insert("vanished".into(), d.vanished.iter().take(limit).map(|s| socket(s, before)).collect());
        let moved = d.moved.iter().take(limit).map(|pair| {
            let mut row = socket(pair.after, after);
            row["state_before"] = pair.before.state.key().into();
            row
        });
        map.insert("moved".into(), moved.collect());
        let grew = d.grew.iter().take(limit).map(|pair| {
            let mut row = socket(pair.after, after);
            row["recv_q_bytes_before"] = pair.before.recv_q_bytes.into();
            row["send_q_bytes_before"] = pair.before.send_q_bytes.into();
            row
        });
        map.insert("grew".into(), grew.collect());
        if self.limit.is_some() {
            let lists = [
                ("processes", changed.len()),
                ("appeared", d.appeared.len()),
                ("vanished", d.vanished.len()),
                ("moved", d.moved.len()),
                ("grew", d.grew.len()),
            ];
            let left_out = lists.map(|(name, all)| (name.to_owned(), json!(all.saturating_sub(limit))));
            map.insert("left_out".into(), Json::Object(left_out.into_iter().collect()));
        }
        map
    }
}

/// The documents of hosts as one: entries of lists name their host, numbers are added up, and what differs is `null`.
#[must_use]
pub fn together(documents: Vec<(String, Map<String, Json>)>, of_hosts: bool) -> Map<String, Json> {
    let mut all: Option<Map<String, Json>> = None;
    for (host, mut document) in documents {
        if of_hosts {
            for value in document.values_mut().filter(|value| value.is_array()) {
                *value = Json::Array(out::on_host(value.take(), &host));
            }
        }
        match &mut all {
            Some(all) => add(all, document),
            None => all = Some(document),
        }
    }
    all.unwrap_or_default()
}

fn add(all: &mut Map<String, Json>, more: Map<String, Json>) {
    for (key, value) in more {
        match (all.get_mut(&key), value) {
            (Some(Json::Object(all)), Json::Object(more)) => add(all, more),
            (Some(Json::Array(all)), Json::Array(more)) => all.extend(more),
            (Some(Json::Bool(all)), Json::Bool(more)) => *all |= more,
            (Some(sum @ Json::Number(_)), Json::Number(more)) => {
                *sum = json!(sum.as_u64().unwrap_or(0) + more.as_u64().unwrap_or(0));
            }
            (Some(known), value) if *known != value => *known = Json::Null,
            _ => {}
        }
    }
}

fn socket(socket: &Socket, of: &Snapshot) -> Json {
    json!({
        "netns": socket.netns.map(NetnsId::get), "state": socket.state.key(), "local": out::endpoint(socket.local),
        "peer": out::endpoint(socket.peer), "cookie": socket.cookie.map(|c| format!("{c:#x}")),
        "recv_q_bytes": socket.recv_q_bytes, "send_q_bytes": socket.send_q_bytes, "comm": process(of, socket),
    })
}

fn signed(before: u64, after: u64) -> String {
    match after.cmp(&before) {
        std::cmp::Ordering::Equal => "0".into(),
        std::cmp::Ordering::Greater => format!("+{}", text::grouped(after - before)),
        std::cmp::Ordering::Less => format!("-{}", text::grouped(before - after)),
    }
}

fn push(out: &mut String, table: &comfy_table::Table) {
    out.push('\n');
    for line in lines_of(table) {
        out.push_str(&line);
        out.push('\n');
    }
}
