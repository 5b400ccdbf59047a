//! The full screen in a real terminal: threads for keys, samples and signals, one loop that draws.
//!
//! Comes in: events from all of them over one channel. Goes out: the screen; the terminal as it was before, however the
//! watch ends: by a key, a signal, an error or a panic. Never here: what a key means, how a view looks.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;

use super::Schedule;
use super::sampler::{Sampler, Want, WantLines};
use super::signals::Signals;
use crate::cli::args::WatchArgs;
use crate::cli::exit::Exit;
use crate::cli::select;
use crate::cli::session;
use crate::collect::names::SystemNames;
use crate::cores;
use crate::diagnose::Thresholds;
use crate::filter::Expr;
use crate::render::tui::{self, App, Command, Theme};
use crate::render::watch::{Frame, GroupBy};

/// Groups that a frame carries: more than a screen has lines, fewer than would make the history large.
const GROUPS: usize = 60;

/// Keys, samples and signals each take a thread here.
const NO_THREAD: &str =
    "cannot start a thread for the screen; raise the limit of threads (pids.max, ulimit -u), or use --plain";

enum Event {
    Input(Input),
    Frame(Box<Frame>),
    Failed(anyhow::Error),
    Signal,
}

enum Order {
    /// Look for this from now on, and at once.
    Want(Box<Want>),
    /// Look so often from now on.
    Interval(Duration),
}

/// The terminal, and its restoration.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> anyhow::Result<Screen> {
        // A panic restores the terminal before it says its words: the hook is set here.
        Ok(Screen(ratatui::try_init().context("cannot take over the terminal; use --plain")?))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has hung up cannot be restored, and nobody is left to be told.
        let _ = ratatui::try_restore();
    }
}

/// Runs the screen to its end.
pub(super) fn run(
    args: &WatchArgs,
    base: Expr,
    by: GroupBy,
    interval: Duration,
    thresholds: Thresholds,
    theme: Theme,
) -> anyhow::Result<Exit> {
    let signals = Signals::block()?;
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    let mut app = App::new(interval_ms, by, !args.common.no_owners);
    app.scope = session::scope(&args.common);
    app.several = !args.common.netns.is_empty();
    // What cannot be opened is said before the screen is taken.
    drop(Sampler::open(args, thresholds.clone())?);
    let mut ui = Ui { base, filter: Expr::all(), names: SystemNames::default(), theme, page: 10 };
    let (events, inbox) = mpsc::channel();
    let (orders, outbox) = mpsc::channel();
    let mut screen = Screen::open()?;
    let first = ui.want(&app);
    std::thread::scope(|scope| {
        let (to_us, from_us) = (events.clone(), outbox);
        cores::start(scope, move || sample(args, thresholds, first, interval, &from_us, &to_us)).context(NO_THREAD)?;
        let exit = ui.events(args, &mut app, &mut screen, &inbox, &orders, (events, signals));
        // The sampler ends when nobody gives it orders any more; nobody waits for the one that reads keys.
        drop(orders);
        drop(screen);
        exit
    })
}

/// Takes samples until the orders end.
fn sample(
    args: &WatchArgs,
    thresholds: Thresholds,
    mut want: Want,
    interval: Duration,
    orders: &Receiver<Order>,
    events: &Sender<Event>,
) {
    let run = || -> anyhow::Result<()> {
        let mut sampler = Sampler::open(args, thresholds)?;
        let mut schedule: Option<Schedule> = None;
        let mut interval = interval;
        loop {
            let started = Instant::now();
            let frame = sampler.sample(&want)?;
            let total = frame.all().total();
            if events.send(Event::Frame(Box::new(frame))).is_err() {
                return Ok(());
            }
            if sampler.judge_is_due() {
                // What it found is shown with the next look.
                sampler.judge(total)?;
            }
            let (wait, left_out) =
                schedule.get_or_insert_with(|| Schedule::new(started, interval)).next(Instant::now());
            sampler.skip(left_out);
            let due = Instant::now() + wait;
            // An order ends the wait; of several that have come the last counts.
            let order = match orders.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            for order in order.into_iter().chain(orders.try_iter()) {
                match order {
                    Order::Interval(new) => {
                        interval = new;
                        want.interval_ms = u64::try_from(new.as_millis()).unwrap_or(u64::MAX);
                        schedule = None;
                    }
                    Order::Want(new) => {
                        let interval_ms = want.interval_ms;
                        want = Want { interval_ms, ..*new };
                        // The looks after this one keep their time.
                        if let Some(schedule) = &mut schedule {
                            schedule.again();
                        }
                    }
                }
            }
        }
    };
    // A panic has restored the terminal and said its words; the loop that draws must not go on behind them.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    if let Err(error) = outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("the sampler panicked"))) {
        // Nobody listens if the screen has been closed meanwhile.
        let _ = events.send(Event::Failed(error));
    }
}

/// What the loop needs beside the state of the screen.
struct Ui {
    base: Expr,
    /// What was typed on screen.
    filter: Expr,
    names: SystemNames,
    theme: Theme,
    page: usize,
}

impl Ui {
    /// What the screen needs of the next sample.
    fn want(&self, app: &App) -> Want {
        want(app, &self.base, &self.filter)
    }

    fn events(
        &mut self,
        args: &WatchArgs,
        app: &mut App,
        screen: &mut Screen,
        inbox: &Receiver<Event>,
        orders: &Sender<Order>,
        (events, signals): (Sender<Event>, Signals),
    ) -> anyhow::Result<Exit> {
        let for_signals = events.clone();
        // Neither thread can be woken to end; both end with the process.
        cores::start_detached(move || {
            if matches!(signals.wait(None), Ok(true)) {
                let _ = for_signals.send(Event::Signal);
            }
        })
        .context(NO_THREAD)?;
        cores::start_detached(move || {
            while let Ok(input) = event::read() {
                if events.send(Event::Input(input)).is_err() {
                    break;
                }
            }
        })
        .context(NO_THREAD)?;
        let mut last_frame = Instant::now();
        let mut looks = 0u64;
        self.draw(app, screen)?;
        loop {
            let overdue = Duration::from_millis(app.interval_ms) * 2;
            let first =
                match inbox.recv_timeout(overdue.saturating_sub(last_frame.elapsed()).max(Duration::from_millis(50))) {
                    Ok(event) => Some(event),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return Ok(Exit::Done),
                };
            // Everything that has come meanwhile is drawn at once.
            for event in first.into_iter().chain(inbox.try_iter()) {
                match event {
                    Event::Signal => return Ok(Exit::Done),
                    Event::Failed(error) => return Err(error),
                    Event::Frame(frame) => {
                        last_frame = Instant::now();
                        looks += 1;
                        app.on_frame(*frame);
                        if args.count.is_some_and(|n| looks >= n) {
                            self.draw(app, screen)?;
                            return Ok(Exit::Done);
                        }
                    }
                    Event::Input(Input::Key(key)) if key.kind != KeyEventKind::Release => {
                        if let Some(command) = app.on_key(key, self.page)
                            && self.obey(command, app, screen, orders)?
                        {
                            return Ok(Exit::Done);
                        }
                    }
                    Event::Input(_) => {}
                }
            }
            app.stale = last_frame.elapsed() > overdue;
            self.draw(app, screen)?;
        }
    }

    fn draw(&mut self, app: &App, screen: &mut Screen) -> anyhow::Result<()> {
        let (names, theme) = (&self.names, self.theme);
        let mut page = self.page;
        screen.0.draw(|frame| page = tui::draw(app, names, theme, frame.area(), frame.buffer_mut()))?;
        self.page = page;
        Ok(())
    }

    /// Does what a key asked for; true ends the watch.
    fn obey(
        &mut self,
        command: Command,
        app: &mut App,
        screen: &mut Screen,
        orders: &Sender<Order>,
    ) -> anyhow::Result<bool> {
        // A sampler that has failed says so itself.
        match command {
            Command::Quit => return Ok(true),
            Command::Sample => drop(orders.send(Order::Want(Box::new(self.want(app))))),
            Command::Interval(ms) => drop(orders.send(Order::Interval(Duration::from_millis(ms)))),
            Command::Filter(text) => {
                let outcome = set_filter(&text, &mut self.filter, app.owners);
                app.filter_set(&text, outcome);
                drop(orders.send(Order::Want(Box::new(self.want(app)))));
            }
            Command::Copy(text) => {
                // OSC 52: the terminal's own clipboard, through any number of ssh and tmux in between.
                let mut out = io::stdout();
                out.write_all(format!("\x1b]52;c;{}\x07", base64(text.as_bytes())).as_bytes())?;
                out.flush()?;
            }
            Command::Redraw => {
                // Not `clear`, which asks the terminal for the cursor: the answer would go to the thread that reads keys.
                let size = screen.0.size()?;
                screen.0.resize(Rect::new(0, 0, size.width, size.height))?;
            }
            Command::Suspend => {
                ratatui::try_restore()?;
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TSTP)?;
                // Not by a second `Screen`: dropping the first would restore the terminal once more.
                screen.0 = ratatui::try_init()?;
            }
        }
        Ok(false)
    }
}

fn set_filter(text: &str, filter: &mut Expr, owners: bool) -> Result<(), String> {
    let parsed = if text.is_empty() { Expr::all() } else { select::parse(text).map_err(|e| e.to_string())? };
    select::can_be_watched(&parsed, owners).map_err(|e| e.to_string())?;
    *filter = parsed;
    Ok(())
}

fn want(app: &App, base: &Expr, filter: &Expr) -> Want {
    let lines = app.drill.as_ref().map(|drill| WantLines {
        rows: drill.rows.clone(),
        group: drill.group.clone(),
        sort: app.sort,
        descending: app.descending,
        only: app.only().map(|s| Box::new(s.clone())),
    });
    Want {
        filter: Expr::and(vec![base.clone(), filter.clone()]),
        interval_ms: app.interval_ms,
        by: Some(app.by),
        top: GROUPS,
        lines,
        events: false,
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let block = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(block >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// Takes the looks that `--count` asks for, presses the keys, and writes the screen as a picture.
pub(super) fn picture(
    args: &WatchArgs,
    path: &std::path::Path,
    base: &Expr,
    by: GroupBy,
    interval: Duration,
    thresholds: Thresholds,
) -> anyhow::Result<Exit> {
    let Some(area) = size(&args.screenshot_size) else {
        anyhow::bail!("--screenshot-size: `{}` is not COLSxROWS, such as 110x34", args.screenshot_size);
    };
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    let mut app = App::new(interval_ms, by, !args.common.no_owners);
    app.scope = session::scope(&args.common);
    app.several = !args.common.netns.is_empty();
    let mut sampler = Sampler::open(args, thresholds)?;
    let mut filter = Expr::all();
    let signals = Signals::block()?;
    let mut schedule = Schedule::new(Instant::now(), interval);
    for look in 0..args.count.unwrap_or(3) {
        if look > 0 {
            let (wait, left_out) = schedule.next(Instant::now());
            sampler.skip(left_out);
            if signals.wait(Some(wait))? {
                return Ok(Exit::Done);
            }
        }
        if look > 0 && sampler.judge_is_due() {
            sampler.judge(app.frame().map_or(0, |f| f.all().total()))?;
        }
        app.on_frame(sampler.sample(&want(&app, base, &filter))?);
    }
    for word in args.screenshot_keys.iter().flat_map(|w| w.split(',')) {
        let Some(code) = key(word) else { anyhow::bail!("--screenshot-keys: `{word}` is not a key") };
        match app.on_key(KeyEvent::new(code, KeyModifiers::NONE), 10) {
            Some(Command::Filter(text)) => {
                let outcome = set_filter(&text, &mut filter, app.owners);
                app.filter_set(&text, outcome);
            }
            Some(Command::Sample) => {}
            _ => continue,
        }
        app.on_frame(sampler.sample(&want(&app, base, &filter))?);
    }
    let mut buffer = Buffer::empty(area);
    tui::draw(&app, sampler.names(), Theme { color: true }, area, &mut buffer);
    std::fs::write(path, tui::svg(&buffer)).with_context(|| format!("cannot write the picture {}", path.display()))?;
    Ok(Exit::Done)
}

fn size(text: &str) -> Option<Rect> {
    let (columns, rows) = text.split_once('x')?;
    let (columns, rows) = (columns.parse().ok()?, rows.parse().ok()?);
    ((40..=1000).contains(&columns) && (10..=500).contains(&rows)).then(|| Rect::new(0, 0, columns, rows))
}

fn key(word: &str) -> Option<KeyCode> {
    Some(match word {
        "Enter" => KeyCode::Enter,
        "Esc" => KeyCode::Esc,
        "Tab" => KeyCode::Tab,
        "Up" => KeyCode::Up,
        "Down" => KeyCode::Down,
        "Left" => KeyCode::Left,
        "Right" => KeyCode::Right,
        one if one.chars().count() == 1 => KeyCode::Char(one.chars().next()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clipboard_gets_base64() {
        for (text, code) in [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("tcpstate", "dGNwc3RhdGU=")] {
            assert_eq!(base64(text.as_bytes()), code);
        }
    }

    #[test]
    fn sizes_and_keys_are_read() {
        assert_eq!(size("110x34"), Some(Rect::new(0, 0, 110, 34)));
        assert_eq!((size("110"), size("1x1"), size("9999x20")), (None, None, None));
        assert_eq!((key("m"), key("Enter"), key("Enterx")), (Some(KeyCode::Char('m')), Some(KeyCode::Enter), None));
    }
}
