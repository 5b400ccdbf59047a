//! `tcpstate diff`: what appeared, vanished, moved or grew between two moments.
//!
//! Input: two captures, one and what is there now, or two looks at this host. Output: tables or a document; the exit code says
//! whether anything did.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use crate::aggregate::difference::Difference;
use crate::cli::args::{Common, Origin, Replay};
use crate::cli::env::{ColorChoice, Env};
use crate::cli::exit::Exit;
use crate::cli::history::{self, Moment};
use crate::cli::parse;
use crate::cli::session::Session;
use crate::model::Snapshot;
use crate::render::difference::{Comparison, Side};
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
    /// Which sockets of this host or of the captures
    #[command(flatten)]
    pub origin: Origin,
}

pub(crate) fn run(args: &DiffArgs, env: &mut Env) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let (earlier, before) = open(args.before.as_ref(), args)?;
    if let Some(interval) = args.interval {
        std::thread::sleep(interval.saturating_sub(started.elapsed()));
    }
    let (mut session, after) = open(args.after.as_ref(), args)?;
    session.add_unseen(earlier);
    let difference = Difference::between(&before, &after);
    let times = [&before, &after].map(|snapshot| history::clock(snapshot.taken_at_ms));
    let name = |place: &Option<Place>, none| place.as_ref().map_or_else(|| String::from(none), |p| p.typed.clone());
    let (earlier, later) = (name(&args.before, "then"), name(&args.after, "now"));
    let comparison = Comparison {
        before: Side { name: &earlier, time: &times[0], snapshot: &before },
        after: Side { name: &later, time: &times[1], snapshot: &after },
        difference: &difference,
        top: args.top,
        limit: args.limit,
    };
    if let Some(to) = env.json(args.json) {
        out::write_document(to, &comparison.document(&session.head("diff"), &session.gaps))?;
    }
    if env.wants_text(args.json) {
        let mut text = String::new();
        comparison.write(&mut text, env.style(args.color));
        env.stdout.write_all(text.as_bytes())?;
        session.print_gaps(env, &Common { color: args.color, ..Common::default() })?;
    } else {
        session.print_notes(env)?;
    }
    Ok(if difference.is_empty() { Exit::Done } else { Exit::No })
}

/// The snapshot of a place; without one that of this host.
fn open(place: Option<&Place>, args: &DiffArgs) -> anyhow::Result<(Session, Snapshot)> {
    let replay = place.map_or_else(Replay::default, |place| Replay { from: Some(place.path.clone()), at: place.at });
    let mut session = Session::open(&Common { origin: args.origin.clone(), replay, ..Common::default() })?;
    let snapshot = session.live.snapshot(true)?;
    session.gaps.extend(snapshot.gaps.iter().cloned());
    let mut coverage = crate::model::Coverage::default();
    snapshot.sockets.iter().for_each(|socket| coverage.add(snapshot.owners.of(socket).0));
    session.gaps.extend(coverage.gap(&snapshot.owners, session.live.looker()));
    Ok((session, snapshot))
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
