//! The full screen in a real terminal: threads for keys, samples and signals, one loop that draws.
//!
//! Input: events from all of them over one channel. Output: the screen; and the terminal as it was before, whether
//! the watch ends by a key, a signal, an error or a panic.

use std::cell::Cell;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::style::Print;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::layout::Rect;

use super::feed::Feed;
use super::sampling::{self, Event, Order};
use super::signals::{self, Caught, Signals};
use super::{INTERVAL, Schedule, WatchArgs, complaint};
use crate::aggregate::Key;
use crate::cli::env::{self, Env};
use crate::cli::exit::Exit;
use crate::cli::select;
use crate::cli::session;
use crate::collect::clock::millis;
use crate::collect::error::reason;
use crate::collect::names::SystemNames;
use crate::cores;
use crate::diagnose::Thresholds;
use crate::filter::{self, Expr, NoResolver};
use crate::render::tui::order::{Table, of_groups};
use crate::render::tui::{self, App, Command, Depth, Drawn, Format, Palette, Playback, Theme};
use crate::text::compact_time;
use crate::watch::{RowRequest, SampleRequest};

/// Groups in a frame: more than a screen has lines, few enough to keep the history small.
const GROUPS: usize = 60;

/// Keys, samples and signals have one thread each.
const NO_THREAD: &str =
    "cannot start a thread for the screen; raise the limit of threads (pids.max, ulimit -u), or use --plain";

/// Standard output as the screen's terminal. After the terminal hangs up, writes are discarded and succeed: nothing
/// can be shown any more, and a destructor that fails to restore the cursor would end the process by a panic.
struct TerminalOutput<'e> {
    stdout: &'e mut Box<dyn Write>,
    gone: Rc<Cell<bool>>,
}

impl TerminalOutput<'_> {
    fn hang_up<T>(&mut self, result: io::Result<T>, otherwise: T) -> T {
        result.unwrap_or_else(|_| {
            self.gone.set(true);
            *self.stdout = Box::new(io::sink());
            otherwise
        })
    }
}

impl Write for TerminalOutput<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stdout.write(bytes);
        Ok(self.hang_up(written, bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.stdout.flush();
        self.hang_up(flushed, ());
        Ok(())
    }
}

/// Clicks and the wheel, not movements: `EnableMouseCapture` of crossterm reports these too, a line of bytes for each
/// cell that the pointer crosses.
const MOUSE_ON: Print<&str> = Print("\x1b[?1000h\x1b[?1006h");
const MOUSE_OFF: Print<&str> = Print("\x1b[?1006l\x1b[?1000l");

/// Gives the terminal back. The mouse first: a click that is reported in between would be echoed as text.
fn leave(out: &mut impl Write) {
    // A terminal that has hung up cannot be restored.
    let _ = execute!(out, MOUSE_OFF, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// The terminal, and its restoration.
struct Screen<'e> {
    terminal: Terminal<CrosstermBackend<TerminalOutput<'e>>>,
    gone: Rc<Cell<bool>>,
}

impl<'e> Screen<'e> {
    fn open(env: &'e mut Env) -> anyhow::Result<Screen<'e>> {
        // A panic restores the terminal before its message is printed.
        let message = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // The hook of a whole process cannot borrow the streams of `Env`.
            leave(&mut io::stdout());
            message(panic);
        }));
        let gone = Rc::new(Cell::new(false));
        let mut output = TerminalOutput { stdout: &mut env.stdout, gone: Rc::clone(&gone) };
        let open = || {
            enable_raw_mode()?;
            execute!(output, EnterAlternateScreen)?;
            Terminal::new(CrosstermBackend::new(output))
        };
        match open() {
            Ok(terminal) => Ok(Screen { terminal, gone }),
            Err(error) => {
                // The stream of `Env` went into what could not be opened.
                leave(&mut io::stdout());
                Err(error).context("cannot take over the terminal; use --plain")
            }
        }
    }

    fn restore(&mut self) {
        leave(self.terminal.backend_mut());
    }

    /// Takes the mouse, or leaves it to the terminal.
    fn mouse(&mut self, taken: bool) -> anyhow::Result<()> {
        execute!(self.terminal.backend_mut(), if taken { MOUSE_ON } else { MOUSE_OFF })?;
        Ok(())
    }

    /// Takes the terminal again after [`Screen::restore`].
    fn resume(&mut self, mouse: bool) -> anyhow::Result<()> {
        enable_raw_mode()?;
        execute!(self.terminal.backend_mut(), EnterAlternateScreen)?;
        self.mouse(mouse)?;
        self.redraw()
    }

    /// Redraws every cell next time.
    fn redraw(&mut self) -> anyhow::Result<()> {
        // Not `clear`, which queries the terminal for the cursor: the reply would go to the thread that reads keys.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::new(0, 0, size.width, size.height))?;
        Ok(())
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.restore();
    }
}

/// How the screen begins.
pub(super) struct Setup {
    pub base: Expr,
    pub by: Key,
    pub interval: Duration,
    pub thresholds: Thresholds,
    pub palette: Palette,
    pub mouse: bool,
}

impl Setup {
    /// The state of the screen; of a recording with its first moment and its last.
    fn app(&self, args: &WatchArgs, ends_ms: Option<(u64, u64)>) -> App {
        // The pace at which a recording is played; `--interval` says which snapshots are shown.
        let interval = if ends_ms.is_some() { INTERVAL } else { self.interval };
        let interval_ms = millis(interval);
        let mut app = App::new(interval_ms, self.by, !args.common.no_owners);
        app.scope = session::scope(&args.common);
        app.several = args.common.origin.names_netns();
        app.mouse = self.mouse;
        app.playback = ends_ms.map(|ends_ms| Playback { ends_ms, playing: true });
        app
    }
}

/// The colours of the terminal: `COLORTERM` says that it has all of them.
fn depth(args: &WatchArgs, env: &Env) -> Depth {
    let all = env.var("COLORTERM").is_some_and(|v| v == "truecolor" || v == "24bit");
    match env.style(args.common.color).color {
        false => Depth::None,
        true if all => Depth::True,
        true => Depth::Sixteen,
    }
}

/// Runs the screen to its end.
pub(super) fn run(args: &WatchArgs, env: &mut Env, setup: Setup) -> anyhow::Result<Exit> {
    let signals = Signals::block_with_stop()?;
    // An error is reported before the screen is taken. The sampler proper is opened by its own thread.
    let feed = Feed::open(args, setup.thresholds.clone())?;
    let mut app = setup.app(args, feed.ends());
    let names = feed.into_names();
    let theme = Theme { depth: depth(args, env), palette: setup.palette };
    let Setup { base, thresholds, .. } = setup;
    let mut ui = Ui { base, filter: Expr::all(), names, theme, drawn: Drawn::default() };
    let (events, inbox) = mpsc::channel();
    let (orders, outbox) = mpsc::channel();
    let mut screen = Screen::open(env)?;
    if app.mouse {
        screen.mouse(true)?;
    }
    let first = ui.request(&app);
    std::thread::scope(|scope| {
        let (to_us, from_us) = (events.clone(), outbox);
        cores::start(scope, move || sampling::run(args, thresholds, first, &from_us, &to_us)).context(NO_THREAD)?;
        let exit = ui.events(args, &mut app, &mut screen, &inbox, &orders, (events, signals));
        // The sampler ends when its channel closes; the thread that reads keys is not waited for.
        drop(orders);
        drop(screen);
        exit
    })
}

/// What the loop needs besides the state of the screen.
struct Ui {
    base: Expr,
    /// What was typed on screen.
    filter: Expr,
    names: SystemNames,
    theme: Theme,
    /// What is on the screen.
    drawn: Drawn,
}

impl Ui {
    /// What the screen needs from the next sample.
    fn request(&self, app: &App) -> SampleRequest {
        request(app, &self.base, &self.filter)
    }

    fn events(
        &mut self,
        args: &WatchArgs,
        app: &mut App,
        screen: &mut Screen<'_>,
        inbox: &Receiver<Event>,
        orders: &Sender<Order>,
        (events, signals): (Sender<Event>, Signals),
    ) -> anyhow::Result<Exit> {
        let for_signals = events.clone();
        // Neither thread can be woken to end; both end with the process.
        cores::start_detached(move || {
            while let Ok(caught) = signals.next() {
                if for_signals.send(Event::Signal(caught)).is_err() {
                    break;
                }
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
        let mut samples = 0u64;
        if !self.draw(app, screen)? {
            return Ok(Exit::Done);
        }
        loop {
            let overdue = Duration::from_millis(app.interval_ms) * 2;
            let first =
                match inbox.recv_timeout(overdue.saturating_sub(last_frame.elapsed()).max(Duration::from_millis(50))) {
                    Ok(event) => Some(event),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return Ok(Exit::Done),
                };
            // Everything that arrived meanwhile is drawn at once.
            for event in first.into_iter().chain(inbox.try_iter()) {
                match event {
                    Event::Signal(Caught::End) => return Ok(Exit::Done),
                    Event::Signal(Caught::Stop) => drop(self.apply(Command::Suspend, app, screen, orders)?),
                    Event::Failed(error) => return Err(error),
                    Event::Jumped => app.jumped(),
                    Event::Playing(playing, why) => app.played(playing, why),
                    Event::Frame(frame) => {
                        last_frame = Instant::now();
                        samples += 1;
                        app.on_frame(*frame);
                        if args.count.is_some_and(|n| samples >= n) {
                            self.draw(app, screen)?;
                            return Ok(Exit::Done);
                        }
                    }
                    Event::Input(input) => {
                        let command = match input {
                            Input::Key(key) if key.kind != KeyEventKind::Release => app.on_key(key, &self.drawn),
                            Input::Mouse(mouse) => app.on_mouse(mouse, &self.drawn),
                            _ => None,
                        };
                        if let Some(command) = command
                            && self.apply(command, app, screen, orders)?
                        {
                            return Ok(Exit::Done);
                        }
                    }
                }
            }
            app.stale = app.playback.is_none() && last_frame.elapsed() > overdue;
            if !self.draw(app, screen)? {
                return Ok(Exit::Done);
            }
        }
    }

    /// Draws the screen; false when the terminal has hung up.
    fn draw(&mut self, app: &App, screen: &mut Screen<'_>) -> anyhow::Result<bool> {
        let (names, theme) = (&self.names, self.theme);
        let mut drawn = Drawn::default();
        let outcome =
            screen.terminal.draw(|frame| drawn = tui::draw(app, names, theme, frame.area(), frame.buffer_mut()));
        self.drawn = drawn;
        // A terminal that has hung up does not report its size either.
        match outcome {
            Ok(_) => Ok(!screen.gone.get()),
            Err(_) if screen.gone.get() || rustix::termios::tcgetattr(io::stdin()).is_err() => Ok(false),
            Err(error) => Err(error).context("cannot draw"),
        }
    }

    /// Writes the screen to a new file, and says where it is.
    fn export(&self, app: &App, area: Rect, format: Format) -> String {
        let mut buf = Buffer::empty(area);
        // A file has all colours, if it has any.
        let depth = if self.theme.depth == Depth::None { Depth::None } else { Depth::True };
        tui::draw(app, &self.names, Theme { depth, ..self.theme }, area, &mut buf);
        let content = match format {
            Format::Svg => tui::svg(&buf),
            Format::Text => tui::text(&buf),
        };
        let at_ms = app.frame().map_or(0, |frame| frame.taken_at_ms);
        match env::write_new(&format!("tcpstate-watch-{}", compact_time(at_ms)), format.extension(), content.as_bytes())
        {
            Ok(path) => format!("the screen is in {}", path.display()),
            Err(why) => format!("cannot write the screen to a file: {}", reason(&why)),
        }
    }

    /// Carries out a key's command; true ends the watch.
    fn apply(
        &mut self,
        command: Command,
        app: &mut App,
        screen: &mut Screen<'_>,
        orders: &Sender<Order>,
    ) -> anyhow::Result<bool> {
        // A failed sampler reports it by itself.
        match command {
            Command::Quit => return Ok(true),
            Command::Sample => drop(orders.send(Order::Request(Box::new(self.request(app))))),
            Command::Interval(ms) => drop(orders.send(Order::Interval(Duration::from_millis(ms)))),
            Command::Play(playing) => drop(orders.send(Order::Play(playing))),
            Command::Advance => drop(orders.send(Order::Advance)),
            Command::Seek(at_ms) => drop(orders.send(Order::Seek(at_ms))),
            Command::NextFinding => drop(orders.send(Order::NextFinding)),
            Command::Filter(text) => {
                let outcome = set_filter(&text, &mut self.filter, app.owners);
                app.filter_set(&text, outcome);
                drop(orders.send(Order::Request(Box::new(self.request(app)))));
            }
            Command::Copy(text) => {
                // OSC 52: the terminal's own clipboard, through any number of ssh and tmux in between.
                let out = screen.terminal.backend_mut();
                out.write_all(format!("\x1b]52;c;{}\x07", base64(text.as_bytes())).as_bytes())?;
                out.flush()?;
            }
            Command::Redraw => screen.redraw()?,
            Command::Export(format) => {
                let size = screen.terminal.size()?;
                app.notice = Some(self.export(app, Rect::new(0, 0, size.width, size.height), format));
            }
            Command::Mouse(taken) => screen.mouse(taken)?,
            Command::Suspend => {
                screen.restore();
                signals::stop()?;
                screen.resume(app.mouse)?;
            }
        }
        Ok(false)
    }
}

fn set_filter(text: &str, filter: &mut Expr, owners: bool) -> Result<(), String> {
    let parsed = if text.is_empty() { Expr::all() } else { select::typed(text).map_err(|e| e.to_string())? };
    select::can_be_watched(&parsed, owners).map_err(|e| e.to_string())?;
    *filter = parsed;
    Ok(())
}

fn request(app: &App, base: &Expr, filter: &Expr) -> SampleRequest {
    let rows = app.drill.as_ref().map(|drill| RowRequest {
        of: drill.of.clone(),
        sort: app.sort(),
        descending: app.order(Table::Sockets).descending,
        only: app.only().map(|s| Box::new(s.clone())),
        command: drill.of.group.as_ref().and_then(|_| filter::parse(&drill.filter.join(" and "), &NoResolver).ok()),
    });
    SampleRequest {
        filter: Expr::and(vec![base.clone(), filter.clone()]),
        interval_ms: app.interval_ms,
        by: Some(app.by),
        top: GROUPS,
        order: of_groups(app.order(Table::Groups)),
        rows,
        events: false,
        measures: None,
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

/// Takes the samples of `--count`, presses the keys, and writes the screen as a picture.
pub(super) fn picture(args: &WatchArgs, env: &Env, path: &Path, setup: Setup) -> anyhow::Result<Exit> {
    let Some(area) = size(&args.screenshot_size) else {
        anyhow::bail!("--screenshot-size: `{}` is not COLSxROWS, such as 110x34", args.screenshot_size);
    };
    let mut feed = Feed::open(args, setup.thresholds.clone())?;
    let mut app = setup.app(args, feed.ends());
    let theme = Theme { depth: Depth::True, palette: setup.palette };
    let Setup { base, interval, .. } = setup;
    let mut filter = Expr::all();
    let signals = Signals::block()?;
    let mut schedule = Schedule::new(Instant::now(), interval);
    for sample in 0..args.count.unwrap_or(3) {
        if sample > 0 && app.playback.is_none() {
            let (wait, left_out) = schedule.next(Instant::now());
            feed.sampler.skip(left_out);
            if signals.wait(Some(wait))? {
                return Ok(Exit::Done);
            }
        }
        if !feed.advance()? {
            break;
        }
        let sampler = &mut feed.sampler;
        if sample > 0 && sampler.judge_is_due() {
            sampler.judge(app.frame().map_or(0, |f| f.all().total())).map_err(complaint)?;
        }
        app.on_frame(sampler.sample(&request(&app, &base, &filter)).map_err(complaint)?);
    }
    let sampler = &mut feed.sampler;
    for word in args.screenshot_keys.iter().flat_map(|w| w.split(',')) {
        let Some(code) = key(word) else { anyhow::bail!("--screenshot-keys: `{word}` is not a key") };
        match app.on_key(KeyEvent::new(code, KeyModifiers::NONE), &Drawn { page: 10, ..Drawn::default() }) {
            Some(Command::Filter(text)) => {
                let outcome = set_filter(&text, &mut filter, app.owners);
                app.filter_set(&text, outcome);
            }
            Some(Command::Sample) => {}
            _ => continue,
        }
        app.on_frame(sampler.sample(&request(&app, &base, &filter)).map_err(complaint)?);
    }
    let mut buffer = Buffer::empty(area);
    tui::draw(&app, sampler.names(), theme, area, &mut buffer);
    env.write_file(path, tui::svg(&buffer).as_bytes())
        .with_context(|| format!("cannot write the picture {}", path.display()))?;
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
    fn the_terminal_is_given_back_with_its_mouse() {
        // The hook of a panic does the same.
        let mut bytes = Vec::new();
        leave(&mut bytes);
        assert_eq!(String::from_utf8(bytes).unwrap(), "\x1b[?1006l\x1b[?1000l\x1b[?1049l\x1b[?25h");
    }

    #[test]
    fn sizes_and_keys_are_read() {
        assert_eq!(size("110x34"), Some(Rect::new(0, 0, 110, 34)));
        assert_eq!((size("110"), size("1x1"), size("9999x20")), (None, None, None));
        assert_eq!((key("m"), key("Enter"), key("Enterx")), (Some(KeyCode::Char('m')), Some(KeyCode::Enter), None));
    }
}
