//! `tcpstate diff`: what appeared, vanished, moved or grew between two moments.
//!
//! Input: two captures, or one and what is there now. Output: tables or a document; the exit code says whether anything did.

use std::io::Write;
use std::path::{Path, PathBuf};

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
        Some((path, moment)) if !path.is_empty() => (path, Some(history::moment(moment)?)),
        _ => (text, None),
    };
    if at.is_none() && !Path::new(path).exists() && parse::duration(text).is_ok() {
        return Err(format!(
            "`{text}` is a time, and diff takes captures: `tcpstate record before.tcps.zst --duration 1s`, and after {text} \
             `tcpstate diff before.tcps.zst`; `tcpstate summary --interval {text}` shows what changes meanwhile"
        ));
    }
    Ok(Place { path: path.into(), at, typed: text.to_owned() })
}

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DiffArgs {
    /// A capture, at its end or at a moment: FILE@-5m, FILE@12:30:00
    #[arg(value_name = "BEFORE", value_parser = place)]
    pub before: Place,
    /// Another one, or the same at another moment [default: this host now]
    #[arg(value_name = "AFTER", value_parser = place)]
    pub after: Option<Place>,
    /// How many lines of each kind are shown
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Output")]
    pub top: usize,
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
    let (earlier, before) = open(Some(&args.before), args)?;
    let (mut session, after) = open(args.after.as_ref(), args)?;
    session.add_unseen(earlier);
    let difference = Difference::between(&before, &after);
    let times = [&before, &after].map(|snapshot| history::clock(snapshot.taken_at_ms));
    let now = args.after.as_ref().map_or("now", |place| &place.typed);
    let comparison = Comparison {
        before: Side { name: &args.before.typed, time: &times[0], snapshot: &before },
        after: Side { name: now, time: &times[1], snapshot: &after },
        difference: &difference,
        top: args.top,
    };
    if args.json {
        out::write_document(&mut env.stdout, &comparison.document(&session.head("diff"), &session.gaps))?;
        session.print_notes(env)?;
    } else {
        let mut text = String::new();
        comparison.write(&mut text, env.style(args.color));
        env.stdout.write_all(text.as_bytes())?;
        session.print_gaps(env, &Common { color: args.color, ..Common::default() })?;
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
    session.gaps.extend(coverage.gap(&snapshot.owners, session.live.rights()));
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
        let said = at("3s").unwrap_err();
        assert!(said.contains("diff takes captures") && said.contains("summary --interval 3s"), "{said}");
    }
}
