//! The edge: arguments, streams, loops, exit codes.
//!
//! Comes in: the words of the command line and an [`Env`]. Goes out: an [`Exit`]. Never here: decoding, counting,
//! judging; a command states its needs, drives the pipeline and hands the result to `render`.
#![allow(clippy::disallowed_methods, reason = "this is the folder that owns clock and environment")]

pub mod args;
mod config;
mod doctor;
pub mod env;
pub mod exit;
mod explain;
mod generate;
mod list;
mod select;
mod session;
mod signal;
mod summary;
mod trace;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use args::{Cli, Command};
pub use env::Env;
pub use exit::Exit;

/// Runs one command line.
pub fn run(args: impl IntoIterator<Item = OsString>, env: &mut Env) -> Exit {
    let cli = match Cli::try_parse_from(with_default_command(args.into_iter().collect())) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, env),
    };
    let result = dispatch(cli, env).and_then(|exit| {
        env.stdout.flush()?;
        Ok(exit)
    });
    match result {
        Ok(exit) => exit,
        Err(error) if is_closed_pipe(&error) => Exit::Done,
        Err(error) => {
            // Nothing is left to tell if standard error is closed too.
            let _ = writeln!(env.stderr, "tcpstate: {error:#}");
            Exit::Failed
        }
    }
}

fn dispatch(cli: Cli, env: &mut Env) -> anyhow::Result<Exit> {
    match cli.command {
        Command::Summary(args) => summary::run(&args, env),
        Command::List(args) => list::run(&args, env),
        Command::Doctor(args) => doctor::run(&args, env),
        Command::Watch(args) => watch::run(&args, env),
        Command::Trace(args) => trace::run(&args, env),
        Command::Explain(args) => explain::run(&args, env),
        Command::Generate(args) => generate::run(&args, env),
    }
}

/// Without a command the command is `summary`.
fn with_default_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let asks_for_itself = |word: &str| matches!(word, "-h" | "--help" | "-V" | "--version");
    let is_command = match args.get(1).and_then(|a| a.to_str()) {
        None => false,
        Some(word) => !word.starts_with('-') || asks_for_itself(word),
    };
    if !is_command {
        args.insert(args.len().min(1), "summary".into());
    }
    args
}

/// Help and version go to standard output; a complaint is one line on standard error.
fn usage(error: &clap::Error, env: &mut Env) -> Exit {
    if !error.use_stderr() {
        let text = error.render();
        let written = if env.style(env::ColorChoice::Auto).color {
            write!(env.stdout, "{}", text.ansi())
        } else {
            write!(env.stdout, "{text}")
        };
        return match written.and_then(|()| env.stdout.flush()) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                let _ = writeln!(env.stderr, "tcpstate: {e}");
                Exit::Failed
            }
            _ => Exit::Done,
        };
    }
    let _ = writeln!(env.stderr, "tcpstate: {}", complaint(error));
    Exit::Failed
}

/// What clap says, on one line.
fn complaint(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg)
        && let Some((_, way_out)) = ELSEWHERE.iter().find(|(letter, _)| letter == word)
    {
        return format!("`{word}` is not an argument here: {way_out}");
    }
    let text = error.render().to_string();
    let parts: Vec<&str> = text
        .lines()
        .map(str::trim)
        // That a wrong word could be quoted helps nobody who has mistyped it.
        .filter(|l| !l.is_empty() && !l.contains(" as a value, use '-- "))
        .filter(|l| !l.starts_with("Usage:") && !l.starts_with("For more information"))
        .map(|l| l.strip_prefix("error: ").unwrap_or(l))
        .collect();
    let text = parts.join(" ");
    let text = ["invalid digit found in string", "cannot parse integer from empty string"]
        .iter()
        .fold(text, |text, why| text.replace(why, "a whole number such as 10 is needed"));
    format!("{text}; see `tcpstate --help`")
}

/// Arguments that fingers bring along from ss, and what to do instead.
const ELSEWHERE: [(&str, &str); 12] = [
    ("-u", TCP_ONLY),
    ("-w", TCP_ONLY),
    ("-x", TCP_ONLY),
    ("-d", TCP_ONLY),
    ("-S", TCP_ONLY),
    ("-M", TCP_ONLY),
    ("-A", TCP_ONLY),
    ("-f", "for one family use -4 or -6"),
    ("-r", "names are not resolved; `-c +user,unit,container` shows the names of this host"),
    ("-E", "changes of state are shown by `tcpstate trace`"),
    ("-O", "each socket is one line already"),
    (
        "--from",
        "this version reads no saved captures, only this host and its namespaces; see --source, --netns and --proc-root",
    ),
];
const TCP_ONLY: &str = "tcpstate shows TCP only; leave it out";

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
            || cause
                .downcast_ref::<serde_json::Error>()
                .is_some_and(|e| e.io_error_kind() == Some(io::ErrorKind::BrokenPipe))
    })
}

/// The command line as clap describes it, for man page and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_has_examples() {
        for mut command in Cli::command().get_subcommands().cloned() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Examples:\n  tcpstate "), "{}", command.get_name());
        }
    }

    #[test]
    fn no_command_is_summary() {
        let words = |args: &[&str]| {
            let full = std::iter::once("tcpstate").chain(args.iter().copied()).map(OsString::from).collect();
            with_default_command(full).into_iter().map(|a| a.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words(&[]), "tcpstate summary");
        assert_eq!(words(&["--json"]), "tcpstate summary --json");
        assert_eq!(words(&["--help"]), "tcpstate --help");
        assert_eq!(words(&["list", "-l"]), "tcpstate list -l");
    }
}
