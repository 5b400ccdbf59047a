//! The edge: streams, terminal width and environment, as one value that a test can replace.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::collect::error::reason;
use crate::render::{Style, sanitize};

/// The streams and the environment of a command. The full screen of `watch` opens the terminal itself.
pub struct Env {
    pub stdout: Box<dyn Write>,
    pub stderr: Box<dyn Write>,
    /// Where the JSON document of an answer goes, if it is wanted beside the text.
    pub document: Option<Box<dyn Write>>,
    /// Columns of the terminal on standard output; `None` when it is not a terminal.
    pub width: Option<usize>,
    pub stderr_is_terminal: bool,
    /// Whether all three streams are a terminal, so that a question is seen and answered.
    pub can_ask: bool,
    vars: Option<HashMap<String, String>>,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR or TERM=dumb is set.
    #[default]
    Auto,
    Always,
    Never,
}

impl Env {
    /// The real process.
    #[must_use]
    pub fn real() -> Env {
        let stdout = io::stdout();
        let width = stdout.is_terminal().then(|| terminal_width().unwrap_or(80));
        // The standard library's own stream would search every block for line ends.
        let stream: Box<dyn Write> = match stdout.as_fd().try_clone_to_owned() {
            Ok(fd) => Box::new(File::from(fd)),
            Err(_) => Box::new(stdout),
        };
        Env {
            stdout: Box::new(io::BufWriter::with_capacity(64 * 1024, Output(stream))),
            stderr: Box::new(io::stderr()),
            document: None,
            width,
            stderr_is_terminal: io::stderr().is_terminal(),
            can_ask: width.is_some() && io::stderr().is_terminal() && io::stdin().is_terminal(),
            vars: None,
        }
    }

    /// Buffers and fixed variables, for tests.
    #[must_use]
    pub fn fake(stdout: Box<dyn Write>, stderr: Box<dyn Write>, width: Option<usize>, vars: &[(&str, &str)]) -> Env {
        let vars = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Env { stdout, stderr, document: None, width, stderr_is_terminal: false, can_ask: false, vars: Some(vars) }
    }

    /// Buffers for an answer in both forms, with the variables of the real process.
    #[cfg(feature = "mcp")]
    pub(crate) fn both(text: Box<dyn Write>, notes: Box<dyn Write>, document: Box<dyn Write>) -> Env {
        Env {
            stdout: text,
            stderr: notes,
            document: Some(document),
            width: None,
            stderr_is_terminal: false,
            can_ask: false,
            vars: None,
        }
    }

    /// Whether the answer is wanted as text; `json` is what the flag says.
    #[must_use]
    pub fn wants_text(&self, json: bool) -> bool {
        self.document.is_some() || !json
    }

    /// Where the document of the answer goes, if one is wanted; `json` is what the flag says.
    pub fn json(&mut self, json: bool) -> Option<&mut dyn Write> {
        match &mut self.document {
            Some(document) => Some(document),
            None if json => Some(&mut self.stdout),
            None => None,
        }
    }

    /// Prints what no document has a place for. It may quote names from somebody else's file.
    ///
    /// # Errors
    /// When standard error cannot be written.
    pub fn note(&mut self, note: &str) -> io::Result<()> {
        writeln!(self.stderr, "note: {}", sanitize::clean(note))
    }

    /// Prints why the command failed; lines stay lines.
    ///
    /// # Errors
    /// When standard error cannot be written.
    pub fn complain(&mut self, error: &anyhow::Error) -> io::Result<()> {
        writeln!(self.stderr, "tcpstate: {}", sanitize::lines(&format!("{error:#}")))
    }

    /// A variable of the environment.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<String> {
        match &self.vars {
            Some(vars) => vars.get(name).cloned(),
            None => std::env::var(name).ok(),
        }
    }

    /// Writes a file named by an argument.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        std::fs::write(path, bytes)
    }

    /// How to print on standard output: the flag, then NO_COLOR, CLICOLOR_FORCE, then the terminal.
    #[must_use]
    pub fn style(&self, choice: ColorChoice) -> Style {
        Style { color: self.color(choice, self.width.is_some()), width: self.width }
    }

    /// How to print notes on standard error.
    #[must_use]
    pub fn note_style(&self, choice: ColorChoice) -> Style {
        Style {
            color: self.color(choice, self.stderr_is_terminal),
            width: self.width.filter(|_| self.stderr_is_terminal),
        }
    }

    fn color(&self, choice: ColorChoice, terminal: bool) -> bool {
        let set = |name: &str| self.var(name).is_some_and(|v| !v.is_empty());
        match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR") => false,
            ColorChoice::Auto if self.var("CLICOLOR_FORCE").is_some_and(|v| !v.is_empty() && v != "0") => true,
            ColorChoice::Auto => terminal && self.var("TERM").is_none_or(|t| t != "dumb"),
        }
    }
}

/// Standard output; its errors name the operation that failed.
struct Output(Box<dyn Write>);

fn unwritten(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write to standard output: {}", reason(error)))
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|e| unwritten(&e))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|e| unwritten(&e))
    }
}

/// Columns of the terminal. The shell does not export COLUMNS, so the terminal itself is asked.
fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Names tried for a new file before it is given up.
const TRIED: u32 = 100;

/// Writes a file that did not exist, in the current directory: `STEM.EXTENSION`, or with a number if there is one of this
/// name. Returns its path.
///
/// # Errors
/// When the file cannot be written.
pub fn write_new(stem: &str, extension: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let dir = std::env::current_dir()?;
    for n in 1..=TRIED {
        let number = if n == 1 { String::new() } else { format!("-{n}") };
        let path = dir.join(format!("{stem}{number}.{extension}"));
        // Neither a file nor a link of that name is followed.
        let mut file = match File::create_new(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        };
        let written = file.write_all(bytes);
        if written.is_err() {
            // Half a file is worse than none.
            let _ = std::fs::remove_file(&path);
        }
        return written.map(|()| path);
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "a hundred files of that name exist"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn color(choice: ColorChoice, width: Option<usize>, vars: &[(&str, &str)]) -> bool {
        Env::fake(Box::new(io::sink()), Box::new(io::sink()), width, vars).style(choice).color
    }

    #[test]
    fn the_flag_wins_then_the_variables_then_the_terminal() {
        use ColorChoice::{Always, Auto, Never};
        assert!(color(Auto, Some(80), &[]) && !color(Auto, None, &[]));
        assert!(!color(Auto, Some(80), &[("NO_COLOR", "1")]) && color(Auto, Some(80), &[("NO_COLOR", "")]));
        assert!(color(Auto, None, &[("CLICOLOR_FORCE", "1")]) && !color(Auto, None, &[("CLICOLOR_FORCE", "0")]));
        assert!(!color(Auto, None, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
        assert!(!color(Auto, Some(80), &[("TERM", "dumb")]));
        assert!(color(Always, None, &[("NO_COLOR", "1")]) && !color(Never, Some(80), &[("CLICOLOR_FORCE", "1")]));
    }
}
