//! The thread that takes the samples of the screen: of the running system when they are due, of a recording as it is played.
//!
//! Input: orders over a channel. Output: events over another. It ends when the screen does.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::Event as Input;

use super::feed::Feed;
use super::signals::Caught;
use super::{INTERVAL, Schedule, WatchArgs, complaint};
use crate::collect::clock::millis;
use crate::diagnose::Thresholds;
use crate::watch::{Frame, SampleRequest};

/// What the screen is told.
pub(super) enum Event {
    Input(Input),
    Frame(Box<Frame>),
    /// The frames that follow are of another place of the recording.
    Jumped,
    /// A recording is played, or not: as it was ordered, at its end, or where a finding came.
    Playing(bool, Option<String>),
    Failed(anyhow::Error),
    Signal(Caught),
}

/// What the thread is told.
pub(super) enum Order {
    /// Sample this from now on, starting now.
    Request(Box<SampleRequest>),
    /// Time between two samples from now on.
    Interval(Duration),
    /// Play a recording, or pause.
    Play(bool),
    /// Show the next snapshot of a recording.
    Advance,
    /// Go to a moment of it.
    Seek(u64),
    /// Go on until a finding comes.
    NextFinding,
}

/// Takes samples until the channel closes.
pub(super) fn run(
    args: &WatchArgs,
    thresholds: Thresholds,
    request: SampleRequest,
    orders: &Receiver<Order>,
    events: &Sender<Event>,
) {
    let run = || -> anyhow::Result<()> {
        let feed = Feed::open(args, thresholds)?;
        if feed.ends().is_some() {
            // The pace of a screen; `--interval` says which snapshots are shown.
            let player = Player {
                feed,
                request,
                interval: INTERVAL,
                orders,
                events,
                playing: true,
                latest: 0,
                next_order: None,
            };
            return player.run();
        }
        live(feed, request, args.interval.unwrap_or(INTERVAL), orders, events)
    };
    // A panic has restored the terminal and printed its message; the loop that draws must not continue.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    if let Err(error) = outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("the sampler panicked"))) {
        // The screen may have been closed meanwhile.
        let _ = events.send(Event::Failed(error));
    }
}

fn live(
    mut feed: Feed,
    mut request: SampleRequest,
    mut interval: Duration,
    orders: &Receiver<Order>,
    events: &Sender<Event>,
) -> anyhow::Result<()> {
    let sampler = &mut feed.sampler;
    let mut schedule: Option<Schedule> = None;
    loop {
        let started = Instant::now();
        let frame = sampler.sample(&request).map_err(complaint)?;
        let total = frame.all().total();
        if events.send(Event::Frame(Box::new(frame))).is_err() {
            return Ok(());
        }
        if sampler.judge_is_due() {
            // What is found is shown with the next sample.
            sampler.judge(total).map_err(complaint)?;
        }
        let (wait, left_out) = schedule.get_or_insert_with(|| Schedule::new(started, interval)).next(Instant::now());
        sampler.skip(left_out);
        let due = Instant::now() + wait;
        // A request ends the wait; the last of several counts.
        let order = match orders.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        for order in order.into_iter().chain(orders.try_iter()) {
            match order {
                Order::Interval(new) => {
                    interval = new;
                    request.interval_ms = millis(new);
                    schedule = None;
                }
                Order::Request(new) => {
                    let interval_ms = request.interval_ms;
                    request = SampleRequest { interval_ms, ..*new };
                    // The samples after this one keep their time.
                    if let Some(schedule) = &mut schedule {
                        schedule.again();
                    }
                }
                // The running system is not played.
                Order::Play(_) | Order::Advance | Order::Seek(_) | Order::NextFinding => {}
            }
        }
    }
}

/// Plays a recording.
struct Player<'a> {
    feed: Feed,
    request: SampleRequest,
    /// Between two snapshots on the screen.
    interval: Duration,
    orders: &'a Receiver<Order>,
    events: &'a Sender<Event>,
    playing: bool,
    /// Sockets of the snapshot that is shown.
    latest: u64,
    /// The order that ended a search.
    next_order: Option<Order>,
}

/// What a look at the next snapshot showed.
enum Shown {
    Snapshot,
    /// A finding came; what it says.
    Finding(String),
    End,
}

impl Player<'_> {
    fn run(mut self) -> anyhow::Result<()> {
        self.advance()?;
        loop {
            let order = if let Some(order) = self.next_order.take() {
                Some(order)
            } else if self.playing {
                match self.orders.recv_timeout(self.interval) {
                    Ok(order) => Some(order),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
            } else {
                match self.orders.recv() {
                    Ok(order) => Some(order),
                    Err(_) => return Ok(()),
                }
            };
            let Some(order) = order else {
                if let Shown::End = self.advance()? {
                    self.pause(Some("this is the end of the recording".into()));
                }
                continue;
            };
            match order {
                Order::Interval(new) => self.interval = new,
                Order::Play(playing) => {
                    self.playing = playing;
                    // A pause of its own may have crossed the order.
                    let _ = self.events.send(Event::Playing(playing, None));
                }
                Order::Request(new) => {
                    self.request = *new;
                    // The same snapshot, with what is wanted now.
                    self.show()?;
                }
                Order::Advance => {
                    // Who steps stays there.
                    self.playing = false;
                    if let Shown::End = self.advance()? {
                        self.pause(Some("this is the end of the recording".into()));
                    }
                }
                Order::Seek(at_ms) => {
                    self.feed.seek(at_ms)?;
                    let _ = self.events.send(Event::Jumped);
                    self.advance()?;
                }
                Order::NextFinding => self.next_finding()?,
            }
        }
    }

    /// Stops to play, and says why.
    fn pause(&mut self, why: Option<String>) {
        self.playing = false;
        let _ = self.events.send(Event::Playing(false, why));
    }

    /// Goes to the next snapshot, judges it, and shows it with what was found.
    fn advance(&mut self) -> anyhow::Result<Shown> {
        if !self.feed.advance()? {
            return Ok(Shown::End);
        }
        let mut found = None;
        if self.feed.sampler.judge_is_due() {
            let news = self.feed.sampler.judge(self.latest).map_err(complaint)?;
            found = news.into_iter().find(|sighting| !sighting.is_gone());
        }
        self.show()?;
        Ok(found.map_or(Shown::Snapshot, |sighting| {
            Shown::Finding(format!("{}: {}", sighting.finding.severity.key(), sighting.finding.summary))
        }))
    }

    fn show(&mut self) -> anyhow::Result<()> {
        let frame = self.feed.sampler.sample(&self.request).map_err(complaint)?;
        self.latest = frame.all().total();
        let _ = self.events.send(Event::Frame(Box::new(frame)));
        Ok(())
    }

    /// Goes on until a finding comes, or somebody wants something else.
    fn next_finding(&mut self) -> anyhow::Result<()> {
        let why = loop {
            match self.advance()? {
                Shown::Finding(what) => break Some(what),
                Shown::End => break Some("no other finding comes until the end".into()),
                Shown::Snapshot => {}
            }
            match self.orders.try_recv() {
                Err(TryRecvError::Empty) => {}
                Ok(Order::Request(new)) => self.request = *new,
                Ok(Order::Interval(new)) => self.interval = new,
                // A second press of the same key.
                Ok(Order::NextFinding) => {}
                Ok(order) => {
                    self.next_order = Some(order);
                    return Ok(());
                }
                Err(TryRecvError::Disconnected) => break None,
            }
        };
        self.pause(why);
        Ok(())
    }
}
