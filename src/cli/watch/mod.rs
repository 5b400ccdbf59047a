//! `tcpstate watch`: the state machine, live.
//!
//! Comes in: its arguments. Goes out: a full screen on a terminal; blocks of text or JSON lines elsewhere. Never here:
//! how a screen is drawn.

mod detail;
mod place;
mod sampler;
mod screen;
mod signals;
mod tracing;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::cli::args::WatchArgs;
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::{config, doctor, select};
use crate::collect::names::SystemNames;
use crate::render::watch::{self as out, Frame, GroupBy, Sighting};
use sampler::{Sampler, Want};
use signals::Signals;

pub(crate) fn run(args: &WatchArgs, env: &mut Env) -> anyhow::Result<Exit> {
    give_back_memory();
    let interval = doctor::interval(&args.interval)?;
    if args.count == Some(0) {
        bail!("--count: 0 looks show nothing; use 1 or more");
    }
    let by = args.by.as_deref().map(|word| group_by(word, args)).transpose()?;
    let filter = select::expression(&args.selection, &SystemNames::default())?;
    select::can_be_watched(&filter, !args.common.no_owners)?;
    let thresholds = config::files(env)?.thresholds;
    let on_screen = by.unwrap_or(if args.common.no_owners { GroupBy::Listener } else { GroupBy::Process });
    if let Some(path) = &args.screenshot_svg {
        return screen::picture(args, env, path, &filter, on_screen, interval, thresholds);
    }
    let dumb = env.var("TERM").is_none_or(|t| t.is_empty() || t == "dumb");
    if env.width.is_some() && !args.plain && !args.common.json && !dumb {
        return screen::run(args, env, filter, on_screen, interval, thresholds);
    }
    let want = Want {
        filter,
        interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
        by: by.or((!args.common.no_owners).then_some(GroupBy::Process)),
        top: args.top,
        lines: None,
        events: args.common.json,
    };
    stream(args, env, &want, interval, Sampler::open(args, thresholds)?)
}

/// Tells the allocator to give large blocks back to the system as soon as they are free. Left alone it learns from the
/// first snapshot that is judged to keep blocks of tens of megabytes in its heap, and a watch of hours is twice as large as
/// what it holds. Nothing is lost where this does nothing.
fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE_BYTES: i32 = 128 << 10;
        // SAFETY: sets a number of the allocator, and takes none.
        #[allow(unsafe_code, reason = "there is no safe interface to the allocator's settings")]
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        }
    }
}

fn group_by(word: &str, args: &WatchArgs) -> anyhow::Result<GroupBy> {
    let Some(by) = GroupBy::ALL.into_iter().find(|g| g.name() == word.trim().to_ascii_lowercase()) else {
        let names: Vec<&str> = GroupBy::ALL.iter().map(|g| g.name()).collect();
        bail!("--by: `{word}` is not a key; use one of {}", names.join(" "));
    };
    if by.needs_owners() && args.common.no_owners {
        bail!("--by {word} needs the owners, and --no-owners forbids to look for them");
    }
    Ok(by)
}

/// When to look: at whole intervals after the first look, whatever a look costs. What cannot be kept is left out, and
/// counted.
struct Schedule {
    start: Instant,
    interval: Duration,
    next: u32,
}

impl Schedule {
    fn new(start: Instant, interval: Duration) -> Schedule {
        Schedule { start, interval, next: 1 }
    }

    /// A look was taken out of turn: the next one is still the one that was due.
    fn again(&mut self) {
        self.next = self.next.saturating_sub(1).max(1);
    }

    /// How long to wait for the next look, and how many were left out before it.
    fn next(&mut self, now: Instant) -> (Duration, u64) {
        let mut left_out = 0;
        loop {
            let due = self.start + self.interval * self.next;
            self.next += 1;
            if due > now || self.next == u32::MAX {
                return (due.saturating_duration_since(now), left_out);
            }
            // One that is due right now is late, and not left out.
            if now - due < self.interval / 2 {
                return (Duration::ZERO, left_out);
            }
            left_out += 1;
        }
    }
}

/// Blocks or lines, until the count is reached, a signal comes or nobody reads any more.
fn stream(
    args: &WatchArgs,
    env: &mut Env,
    want: &Want,
    interval: Duration,
    mut sampler: Sampler,
) -> anyhow::Result<Exit> {
    let signals = Signals::block()?;
    let style = env.style(args.common.color);
    let mut schedule: Option<Schedule> = None;
    let mut told = Vec::new();
    let mut gap_seen = false;
    let reason = loop {
        let started = Instant::now();
        let frame = sampler.sample(want)?;
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
            let news = sampler.judge(frame.all().total())?;
            if args.common.json {
                findings(env, &news)?;
            }
        }
        if args.count.is_some_and(|n| sampler.samples() >= n) {
            break "count";
        }
        let (wait, left_out) = schedule.get_or_insert_with(|| Schedule::new(started, interval)).next(Instant::now());
        sampler.skip(left_out);
        if signals.wait(Some(wait))? {
            break "signal";
        }
    };
    if args.common.json {
        out::end_line(&mut env.stdout, sampler.samples(), reason, Some(sampler.since_start()))?;
    }
    Ok(if args.common.strict && gap_seen { Exit::Failed } else { Exit::Done })
}

fn json(env: &mut Env, frame: &Frame, told: &mut Vec<crate::model::Gap>) -> anyhow::Result<()> {
    out::snapshot_line(&mut env.stdout, frame)?;
    for event in &frame.events {
        out::transition_line(&mut env.stdout, frame, event)?;
    }
    // A gap is told when it opens, not at every look.
    for gap in frame.gaps.iter().filter(|g| !told.contains(g)) {
        out::gap_line(&mut env.stdout, gap)?;
    }
    told.clone_from(&frame.gaps);
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
        assert_eq!(schedule.next(start + ms(150)), (ms(50), 0), "waking late does not move the next look");
        assert_eq!(schedule.next(start + ms(310)), (ms(0), 0), "a little late is late");
        assert_eq!(schedule.next(start + ms(960)), (ms(40), 6), "much too late leaves looks out");
    }
}
