//! `tcpstate watch`: the state machine, live: full screen on a terminal, blocks of text or JSON lines elsewhere.

mod feed;
mod sampling;
mod screen;
pub(super) mod signals;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use clap::Args;

use crate::aggregate::Key;
use crate::cli::args::{Common, Selection};
use crate::cli::config::{self, Settings};
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::stretch::Range;
use crate::cli::{parse, select};
use crate::collect::clock::millis;
use crate::collect::names::SystemNames;
use crate::model::Gap;
use crate::render::gap;
use crate::render::tui::Palette;
use crate::render::watch as out;
use crate::watch::{Error, Frame, GroupOrder, SampleRequest, Sighting};
use feed::Feed;
use signals::Signals;

const EXAMPLES: &str = "\
Examples:
  tcpstate watch                            the state machine, live; ? shows the keys
  tcpstate watch --state TIME_WAIT          who leaves TIME_WAIT behind, and how fast
  tcpstate watch --interval 200ms port 443  five times a second, one port
  tcpstate watch --plain --count 10         ten blocks of text, for a log
  tcpstate watch --from now.tcps.zst --since 10m       what a recording shows, played
  tcpstate watch --json | jq -c 'select(.type == \"transition\")'

Off a terminal the output is plain blocks.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, mut_args(Range::without_at))]
pub struct WatchArgs {
    #[command(flatten)]
    pub selection: Selection,
    /// Time between two samples, from 100ms [default: 1s; of a recording every snapshot]
    #[arg(long, short = 'i', value_name = "TIME", value_parser = parse::interval, help_heading = "Watching")]
    pub interval: Option<Duration>,
    /// End after this many samples
    #[arg(long, short = 'n', value_name = "N", value_parser = parse::at_least_one, help_heading = "Watching")]
    pub count: Option<u64>,
    /// Largest groups by
    #[arg(long, value_name = "KEY", value_parser = parse::group_by(), help_heading = "Watching")]
    pub by: Option<Key>,
    /// How many groups in plain and JSON output
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = "Watching")]
    pub top: usize,
    /// Do not run the rules of the doctor
    #[arg(long, help_heading = "Watching")]
    pub no_findings: bool,
    /// Trace changes between samples: fail if it is not permitted, and keep it however many changes there are [default: where
    /// permitted and cheap]
    #[arg(long, conflicts_with = "no_trace", help_heading = "Watching")]
    pub trace: bool,
    /// Do not trace: what happens between two samples is counted but not seen
    #[arg(long, help_heading = "Watching")]
    pub no_trace: bool,
    /// Track at most this many sockets; above it, every second, fourth... of them
    #[arg(long, value_name = "N", default_value_t = crate::aggregate::tracker::DEFAULT_CAP, help_heading = "Watching")]
    pub track: usize,
    /// A block of text per sample instead of a full screen
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    pub plain: bool,
    /// Colours of the screen, all of which are legible on black and on white
    #[arg(long, value_name = "THEME", value_parser = parse::theme(), help_heading = "Output")]
    pub theme: Option<Palette>,
    /// Leave the mouse to the terminal, which selects text with it; M on the screen takes it
    #[arg(long, help_heading = "Output")]
    pub no_mouse: bool,
    /// Write the screen after the last sample (see --count) as an SVG picture
    #[arg(long, value_name = "FILE", hide = true)]
    pub screenshot_svg: Option<std::path::PathBuf>,
    /// Columns and lines of that picture
    #[arg(long, value_name = "COLSxROWS", default_value = "110x34", hide = true)]
    pub screenshot_size: String,
    /// Keys to press before that picture is taken: `m`, `Down`, `Enter`, separated by commas
    #[arg(long, value_name = "KEYS", hide = true)]
    pub screenshot_keys: Option<String>,
    #[command(flatten)]
    pub range: Range,
    #[command(flatten)]
    pub common: Common,
}

/// Time between two samples of the running system, and between two snapshots that are shown of a recording.
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &WatchArgs, env: &mut Env) -> anyhow::Result<Exit> {
    give_back_memory();
    let interval = args.interval.unwrap_or(INTERVAL);
    if args.range.is_named() && args.common.replay.from.is_empty() {
        bail!("--since and --until are of a recording; give --from FILE");
    }
    let by = args.by;
    if let Some(by) = by.filter(|by| args.common.no_owners && by.needs_owners()) {
        bail!("--by {} needs socket owners; remove --no-owners", by.name());
    }
    let filter = select::of_command_line(&args.selection, &args.common.origin, &SystemNames::default(), env)?;
    select::can_be_watched(&filter, !args.common.no_owners)?;
    let Settings { thresholds, watch: look, .. } = config::files(env)?;
    let on_screen = by.unwrap_or(if args.common.no_owners { Key::Listener } else { Key::Process });
    let palette = args.theme.or(look.theme).unwrap_or_default();
    let mouse = !args.no_mouse && look.mouse.unwrap_or(true);
    let setup = screen::Setup { base: filter, by: on_screen, interval, thresholds, palette, mouse };
    if let Some(path) = &args.screenshot_svg {
        return screen::picture(args, env, path, setup);
    }
    let dumb = env.var("TERM").is_none_or(|t| t.is_empty() || t == "dumb");
    if env.width.is_some() && !args.plain && !args.common.json && !dumb {
        return screen::run(args, env, setup);
    }
    let screen::Setup { base: filter, thresholds, .. } = setup;
    let request = SampleRequest {
        filter,
        interval_ms: millis(interval),
        by: by.or((!args.common.no_owners).then_some(Key::Process)),
        top: args.top,
        order: GroupOrder::LARGEST,
        rows: None,
        events: args.common.json,
        measures: None,
    };
    stream(args, env, &request, interval, Feed::open(args, thresholds)?)
}

/// The sampler's error on one line.
pub(super) fn complaint(error: Error) -> anyhow::Error {
    match error {
        Error::Trace(why) => anyhow!("--trace: {}", gap::line(&why)),
        other => other.into(),
    }
}

/// Makes the allocator return large blocks to the system as soon as they are free. By default it adapts to the first
/// judged snapshot and keeps blocks of tens of megabytes in its heap, which doubles the size of a watch that runs
/// for hours. It does no harm where it has no effect.
pub(super) fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE_BYTES: i32 = 128 << 10;
        // SAFETY: sets a number of the allocator, and passes no pointer.
        #[allow(unsafe_code, reason = "there is no safe interface to the allocator's settings")]
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        }
    }
}

/// When samples are due: at whole intervals after the first, whatever a sample costs. One that cannot be taken in
/// time is skipped and counted.
pub(super) struct Schedule {
    start: Instant,
    interval: Duration,
    next: u32,
}

impl Schedule {
    pub(super) fn new(start: Instant, interval: Duration) -> Schedule {
        Schedule { start, interval, next: 1 }
    }

    /// An extra sample was taken: the next one keeps its time.
    fn again(&mut self) {
        self.next = self.next.saturating_sub(1).max(1);
    }

    /// How long to wait for the next sample, and how many were skipped before it.
    pub(super) fn next(&mut self, now: Instant) -> (Duration, u64) {
        let mut left_out = 0;
        loop {
            let due = self.start + self.interval * self.next;
            self.next += 1;
            if due > now || self.next == u32::MAX {
                return (due.saturating_duration_since(now), left_out);
            }
            // One that is due right now is late, not skipped.
            if now - due < self.interval / 2 {
                return (Duration::ZERO, left_out);
            }
            left_out += 1;
        }
    }
}

/// Blocks or lines, until the count is reached, a signal arrives or the reader is gone.
fn stream(
    args: &WatchArgs,
    env: &mut Env,
    request: &SampleRequest,
    interval: Duration,
    mut feed: Feed,
) -> anyhow::Result<Exit> {
    let signals = Signals::block()?;
    let style = env.style(args.common.color);
    let mut schedule: Option<Schedule> = None;
    let mut told = Vec::new();
    let (mut gap_seen, mut shown, is_replay) = (false, 0, feed.ends().is_some());
    let reason = loop {
        let started = Instant::now();
        if !feed.advance()? {
            break "end";
        }
        let sampler = &mut feed.sampler;
        let frame = sampler.sample(request).map_err(complaint)?;
        gap_seen |= !frame.gaps.is_empty();
        if args.common.json {
            json(env, &frame, &mut told)?;
        } else {
            let mut text = String::new();
            out::write_block(&mut text, &frame, sampler.names(), style);
            env.stdout.write_all(text.as_bytes())?;
        }
        env.stdout.flush()?;
        if sampler.judge_is_due() {
            let news = sampler.judge(frame.all().total()).map_err(complaint)?;
            if args.common.json {
                findings(env, &news)?;
            }
        }
        shown += 1;
        if args.count.is_some_and(|n| shown >= n) {
            break "count";
        }
        if is_replay {
            // A recording is told as fast as it is read.
            if signals.wait(Some(Duration::ZERO))? {
                break "signal";
            }
            continue;
        }
        let (wait, left_out) = schedule.get_or_insert_with(|| Schedule::new(started, interval)).next(Instant::now());
        sampler.skip(left_out);
        if signals.wait(Some(wait))? {
            break "signal";
        }
    };
    if args.common.json {
        let since_start = feed.sampler.since_start();
        out::end_line(&mut env.stdout, shown, reason, Some(since_start))?;
    }
    if let Some(note) = feed.note() {
        env.note(&note)?;
    }
    Ok(if args.common.strict && gap_seen { Exit::Failed } else { Exit::Done })
}

fn json(env: &mut Env, frame: &Frame, told: &mut Vec<Gap>) -> anyhow::Result<()> {
    out::snapshot_line(&mut env.stdout, frame)?;
    for event in &frame.events {
        out::transition_line(&mut env.stdout, frame, event)?;
    }
    for gap in &frame.gaps {
        if !told.iter().any(|t| t.is_like(gap)) {
            out::gap_line(&mut env.stdout, gap)?;
            told.push(gap.clone());
        }
    }
    Ok(())
}

fn findings(env: &mut Env, news: &[Sighting]) -> anyhow::Result<()> {
    for sighting in news {
        out::finding_line(&mut env.stdout, sighting)?;
    }
    env.stdout.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_does_not_drift_and_counts_what_it_leaves_out() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut schedule = Schedule::new(start, ms(100));
        assert_eq!(schedule.next(start + ms(7)), (ms(93), 0));
        assert_eq!(schedule.next(start + ms(150)), (ms(50), 0), "waking late does not move the next sample");
        assert_eq!(schedule.next(start + ms(310)), (ms(0), 0), "a little late is late");
        assert_eq!(schedule.next(start + ms(960)), (ms(40), 6), "much too late leaves samples out");
    }
}
