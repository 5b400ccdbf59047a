//! `tcpstate diff`: what appeared, vanished, moved or grew between two moments.
//!
//! Input: two captures, one and what is there now, or two looks at this host. Output: tables or a document; the exit code says
//! whether anything did.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use serde_json::{Value as Json, json};

use crate::aggregate::difference::Difference;
use crate::cli::args::{Common, Origin, Replay};
use crate::cli::env::{ColorChoice, Env};
use crate::cli::exit::Exit;
use crate::cli::history::{self, Moment};
use crate::cli::parse;
use crate::cli::session::{self, Session};
use crate::model::Snapshot;
use crate::render::difference::{self, Comparison, Side};
use crate::render::json as out;

const EXAMPLES: &str = "\
Examples:
  tcpstate diff monday.tcps.zst tuesday.tcps.zst       the ends of both
  tcpstate diff now.tcps.zst@-5m now.tcps.zst          the last five minutes of one
  tcpstate diff before.tcps.zst                        since then, until now, on this host
  tcpstate diff --interval 10s                         the next ten seconds, on this host
  tcpstate diff a.tcps.zst@12:30:00 b.tcps.zst --json | jq '.appeared | length'

Sockets are the same by their cookie, or, of another host or after a reboot, by their addresses. What came and went in between
is in neither snapshot.

Exit codes: 0 nothing is different, 1 something is, 2 wrong usage or nothing could be read.";

/// A capture and a moment in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    at: Option<Moment>,
    typed: String,
}

fn place(text: &str) -> Result<Place, String> {
    let (path, at) = match text.rsplit_once('@') {
        Some((path, moment)) if !path.is_empty() => match history::moment(moment) {
            Ok(at) => (path, Some(at)),
            // An `@` may be part of the name.
            Err(_) if Path::new(text).exists() => (text, None),
            Err(why) => return Err(why),
        },
        _ => (text, None),
    };
    if at.is_none() && !Path::new(path).exists() && parse::duration(text).is_ok() {
        return Err(format!(
            "`{text}` is a time, and diff takes captures; type `tcpstate diff --interval {text}` for the next {text}, or record \
             one with `tcpstate record FILE`, to compare with later"
        ));
    }
    Ok(Place { path: path.into(), at, typed: text.to_owned() })
}

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DiffArgs {
    /// A capture, at its end or at a moment: FILE@-5m, FILE@12:30:00
    #[arg(value_name = "BEFORE", value_parser = place, required_unless_present = "interval")]
    pub before: Option<Place>,
    /// Another one, or the same at another moment [default: this host now]
    #[arg(value_name = "AFTER", value_parser = place)]
    pub after: Option<Place>,
    /// Look twice at this host, TIME apart, instead of at captures
    #[arg(long, value_name = "TIME", value_parser = parse::interval, conflicts_with = "before")]
    pub interval: Option<Duration>,
    /// How many lines of each kind are shown
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Output")]
    pub top: usize,
    /// At most so many entries in each list of the JSON; the rest is counted
    #[arg(long, value_name = "N", requires = "json", help_heading = "Output")]
    pub limit: Option<usize>,
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// When to colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", help_heading = "Output")]
    pub color: ColorChoice,
    /// Of captures of several hosts those of this one; `*` matches anything
    #[arg(long, value_name = "NAME", requires = "before", help_heading = "Source")]
    pub host: Option<String>,
    /// Which sockets of this host or of the captures
    #[command(flatten)]
    pub origin: Origin,
}

pub(crate) fn run(args: &DiffArgs, env: &mut Env) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let before = open(args.before.as_ref(), args)?;
    if let Some(interval) = args.interval {
        std::thread::sleep(interval.saturating_sub(started.elapsed()));
    }
    let after = open(args.after.as_ref(), args)?;
    let name = |place: &Option<Place>, none| place.as_ref().map_or_else(|| String::from(none), |p| p.typed.clone());
    let names = [name(&args.before, "then"), name(&args.after, "now")];
    let (pairs, alone) = paired(before, after);
    if pairs.is_empty() {
        bail!("{} and {} have no host in common: {}", names[0], names[1], alone.join(", "));
    }
    let of_hosts = pairs.len() + alone.len() > 1;
    let (mut text, mut documents, mut sessions) = (String::new(), Vec::new(), Vec::new());
    let mut is_same = alone.is_empty();
    for ((earlier, before), (mut session, after)) in pairs {
        session.add_unseen(earlier);
        let difference = Difference::between(&before, &after);
        let times = [&before, &after].map(|snapshot| history::clock(snapshot.taken_at_ms));
        let comparison = Comparison {
            before: Side { name: &names[0], time: &times[0], snapshot: &before },
            after: Side { name: &names[1], time: &times[1], snapshot: &after },
            difference: &difference,
            top: args.top,
            limit: args.limit,
        };
        is_same &= difference.is_empty();
        if !text.is_empty() {
            text.push('\n');
        }
        comparison.write(&mut text, env.style(args.color));
        documents.push((after.host.clone(), comparison.document()));
        sessions.push(session);
    }
    if let (Some(first), false) = (sessions.first_mut(), alone.is_empty()) {
        first.notes.push(format!("not compared, since only one of the two has them: {}", alone.join(", ")));
    }
    if let Some(to) = env.json(args.json) {
        let mut map = out::head(&session::head(&sessions, "diff")?);
        map.extend(difference::together(documents, of_hosts));
        // As the exit code says: a host that only one of the two has is a change.
        map.insert("changed".into(), json!(!is_same));
        map.insert("gaps".into(), json!(session::gap_objects(&sessions)));
        out::write_document(to, &Json::Object(map))?;
    }
    if env.wants_text(args.json) {
        env.stdout.write_all(text.as_bytes())?;
        session::print_gaps(&sessions, env, &Common { color: args.color, ..Common::default() })?;
    } else {
        sessions.iter().try_for_each(|session| session.print_notes(env))?;
    }
    Ok(if is_same { Exit::Done } else { Exit::No })
}

/// What was opened of a host.
type Looked = (Session, Snapshot);

/// The two looks at each host, and the hosts of which there is one only. Where both sides have one, these are compared, whatever
/// they are called.
fn paired(before: Vec<Looked>, after: Vec<Looked>) -> (Vec<(Looked, Looked)>, Vec<String>) {
    if before.len() == 1 && after.len() == 1 {
        return (before.into_iter().zip(after).collect(), Vec::new());
    }
    let mut before: BTreeMap<String, Looked> = before.into_iter().map(|look| (look.1.host.clone(), look)).collect();
    let (mut pairs, mut alone) = (Vec::new(), Vec::new());
    for look in after {
        match before.remove(&look.1.host) {
            Some(earlier) => pairs.push((earlier, look)),
            None => alone.push(look.1.host),
        }
    }
    alone.extend(before.into_keys());
    alone.sort();
    (pairs, alone)
}

/// The snapshots of a place, by host; without one that of this host.
fn open(place: Option<&Place>, args: &DiffArgs) -> anyhow::Result<Vec<Looked>> {
    let replay = place.map_or_else(Replay::default, |place| Replay {
        at: place.at,
        host: args.host.clone(),
        ..Replay::of(&place.path)
    });
    let sessions = Session::open_all(&Common { origin: args.origin.clone(), replay, ..Common::default() })?;
    let mut looked = Vec::with_capacity(sessions.len());
    for mut session in sessions {
        let snapshot = session.live.snapshot(true)?;
        session.gaps.extend(snapshot.gaps.iter().cloned());
        let mut coverage = crate::model::Coverage::default();
        snapshot.sockets.iter().for_each(|socket| coverage.add(snapshot.owners.of(socket).0));
        session.gaps.extend(coverage.gap(&snapshot.owners, session.live.looker()));
        looked.push((session, snapshot));
    }
    Ok(looked)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_place_is_a_file_and_perhaps_a_moment() {
        let at = |text: &str| place(text).map(|p| (p.path.display().to_string(), p.at));
        assert_eq!(at("a.tcps.zst"), Ok(("a.tcps.zst".into(), None)));
        let five = Moment::BeforeEnd(Duration::from_secs(300));
        assert_eq!(at("a@b/c.tcps.zst@-5m"), Ok(("a@b/c.tcps.zst".into(), Some(five))));
        assert!(at("a.tcps.zst@soon").unwrap_err().contains("is no moment"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("web@host").display().to_string();
        std::fs::write(&file, "").unwrap();
        assert_eq!(at(&file), Ok((file.clone(), None)));
        let said = at("3s").unwrap_err();
        assert!(said.contains("diff takes captures; type `tcpstate diff --interval 3s`"), "{said}");
    }
}
