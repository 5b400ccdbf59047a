//! A recording on the screen: where it is, whether it is played, and what its keys do.
//!
//! Input: keys, and the frame that is shown. Output: a line of time, and commands. Not here: the recording.

use super::pen::Pen;
use super::state::{App, Command, Playback};
use crate::render::watch::clock;
use crate::watch::Frame;

/// Keys that a recording has beside those of every watch.
pub(super) const KEYS: [(&str, &str); 3] = [
    ("p  space", "of a recording: pause, and play on"),
    (",  .", "of a recording: a tenth of it back, forward"),
    ("n", "of a recording: on to the next finding"),
];

impl App {
    /// Pauses a recording, or plays on.
    pub(super) fn play(&mut self) -> Option<Command> {
        let playback = self.playback.as_mut()?;
        // Who looked back looks at the newest again.
        playback.playing = !playback.playing;
        self.held = None;
        Some(Command::Play(playback.playing))
    }

    /// Steps through a recording: back through what was shown, forward through what comes.
    pub(super) fn step_recorded(&mut self, by: i64) -> Option<Command> {
        let was_playing = std::mem::take(&mut self.playback.as_mut()?.playing);
        let (shown, newest) = (self.frame().map(|f| f.seq), self.history.latest().map(|f| f.seq));
        if by > 0 && shown == newest {
            self.held = None;
            return Some(Command::Advance);
        }
        self.step(by);
        was_playing.then_some(Command::Play(false))
    }

    /// A tenth of a recording back or forward.
    pub(super) fn seek(&self, tenths: i64) -> Option<Command> {
        let (from, to) = self.playback.as_ref()?.ends_ms;
        let now = self.frame().map_or(from, |frame| frame.taken_at_ms);
        let part = i64::try_from(to.saturating_sub(from) / 10).unwrap_or(0);
        Some(Command::Seek(now.saturating_add_signed(part * tenths).clamp(from, to)))
    }
}

/// Whether a recording is played, in a word.
pub(super) fn word(playback: Playback, behind: Option<&str>) -> (String, bool) {
    match (playback.playing, behind) {
        (true, _) => ("replay".into(), false),
        (false, None) => ("PAUSED (p: play)".into(), true),
        (false, Some(behind)) => (format!("PAUSED {behind} back (p: play)"), true),
    }
}

/// The line of time: where it is, and when findings came as far as it was played.
pub(super) fn draw(playback: Playback, frame: &Frame, pen: &mut Pen<'_>) {
    let theme = pen.theme;
    let (from, to) = playback.ends_ms;
    let seconds = |ms| clock(ms).split('.').next().unwrap_or_default().to_owned();
    let (first, last) = (seconds(from), seconds(to));
    let width = pen.area.width;
    let taken = u16::try_from(first.len() + last.len() + 2).unwrap_or(0);
    let Some(room) = width.checked_sub(taken).filter(|room| *room >= 10) else { return };
    let at = |ms: u64| {
        let span = to.saturating_sub(from).max(1);
        let passed = ms.saturating_sub(from).min(span);
        u16::try_from(passed * u64::from(room - 1) / span).unwrap_or(0)
    };
    let x = pen.text(0, 0, &first, theme.dim()) + 1;
    let now = at(frame.taken_at_ms);
    for column in 0..room {
        let (cell, style) = if column <= now { ("━", theme.heading()) } else { ("─", theme.dim()) };
        pen.text(x + column, 0, cell, style);
    }
    for sighting in frame.findings.iter().filter(|sighting| sighting.first_ms >= from) {
        pen.text(x + at(sighting.first_ms), 0, "!", theme.alert());
    }
    pen.text(x + now, 0, "●", theme.heading());
    pen.text(x + room + 1, 0, &last, theme.dim());
}
