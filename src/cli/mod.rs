//! The edge: arguments, streams, loops, exit codes.
//!
//! Input: the command line and an [`Env`]. Output: an [`Exit`]. A command states its needs, drives the pipeline and
//! passes the result to `render`; decoding, counting and judging happen elsewhere.
#![allow(clippy::disallowed_methods, reason = "this is the folder that owns clock and environment")]

pub(crate) mod args;
mod bind;
mod bundle;
mod complete;
mod config;
mod convert;
mod diff;
mod doctor;
pub(crate) mod env;
pub(crate) mod exit;
mod explain;
mod export;
mod fan;
mod fingers;
mod generate;
mod habits;
mod history;
mod interval;
mod kill;
mod list;
#[cfg(feature = "mcp")]
mod mcp;
mod parse;
mod record;
mod recording;
mod report;
mod saved;
mod select;
mod session;
mod signal;
mod stretch;
mod summary;
mod trace;
mod version;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

pub use env::Env;
pub use exit::Exit;

/// Runs one command line.
pub fn run(args: impl IntoIterator<Item = OsString>, env: &mut Env) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(answered) = complete::answer(&args, env) {
        return match answered {
            Ok(()) => Exit::Done,
            Err(error) => {
                let _ = env.complain(&error);
                Exit::Failed
            }
        };
    }
    let words = match fingers::read(&args) {
        Ok(read) => {
            for note in &read.notes {
                let _ = writeln!(env.stderr, "tcpstate: {note}");
            }
            read.words
        }
        Err(instead) => {
            let _ = writeln!(env.stderr, "tcpstate: {instead}");
            return Exit::Failed;
        }
    };
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &words, env),
    };
    let result = dispatch(cli, env).and_then(|exit| {
        env.stdout.flush()?;
        Ok(exit)
    });
    match result {
        Ok(exit) => exit,
        Err(error) if is_closed_pipe(&error) => Exit::Done,
        Err(error) => {
            // If standard error is closed too, the error cannot be reported.
            let _ = env.complain(&error);
            Exit::Failed
        }
    }
}

/// What are my TCP connections doing, which are in trouble, which process is at fault, and what do I do about it?
#[derive(Debug, Parser)]
#[command(name = "tcpstate", version, about, max_term_width = 100, after_help = EXAMPLES)]
#[command(propagate_version = true, subcommand_required = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tcpstate                            counts per state, top groups (the same as `summary`)
  tcpstate -tlnp                      letters of ss and netstat: the same as `list -tlnp`
  tcpstate list --state CLOSE_WAIT    any spelling: close-wait, closewait, cw
  tcpstate summary --by peer-addr,process --top 5
  tcpstate list --port 443 --json | jq '.sockets[] | .owners'
  tcpstate --version --verbose        build, kernel and rights, for a bug report

Exit codes: 0 done, 1 found or nothing matched (where asked for), 2 wrong usage or nothing could be read.";

/// A command: a file, its `mod` above, a line here and an arm of `dispatch`.
#[derive(Debug, Subcommand)]
enum Command {
    /// Counts per state and family, and the largest groups
    Summary(summary::SummaryArgs),
    /// One row per socket
    List(list::ListArgs),
    /// Diagnosis: what is wrong, which process, how it is known, what to do
    Doctor(doctor::DoctorArgs),
    /// The state machine, live: full screen, plain blocks, or JSON lines
    Watch(watch::WatchArgs),
    /// Every change of state as it happens, and the process behind it
    Trace(trace::TraceArgs),
    /// An error, a setting, a state, a rule, a column, or the state machine with live counts
    Explain(explain::ExplainArgs),
    /// Write snapshots into a file, for `--from` of the other commands
    Record(record::RecordArgs),
    /// Metrics for Prometheus: states, queues, limits and findings, over HTTP or in a file
    Export(export::ExportArgs),
    /// What appeared, vanished, moved or grew between two moments
    Diff(diff::DiffArgs),
    /// A page on a part of a recording, to hand over: findings over time, charts, sockets
    Report(report::ReportArgs),
    /// Every row of a recording as JSON lines or CSV
    Convert(convert::ConvertArgs),
    /// The same command on many hosts by ssh, and one answer by host
    Fan(fan::FanArgs),
    /// Destroy exactly the sockets that match, or show what that would be
    Kill(kill::KillArgs),
    /// Answer agents over the Model Context Protocol: the diagnosis, counts and rows, read-only
    #[cfg(feature = "mcp")]
    Mcp(mcp::McpArgs),
    /// Print the man page, shell completions, the JSON schema or the list of columns
    Generate(generate::GenerateArgs),
}

fn dispatch(cli: Cli, env: &mut Env) -> anyhow::Result<Exit> {
    match cli.command {
        Command::Summary(args) => summary::run(&args, env),
        Command::List(args) => list::run(&args, env),
        Command::Doctor(args) => doctor::run(&args, env),
        Command::Watch(args) => watch::run(&args, env),
        Command::Trace(args) => trace::run(&args, env),
        Command::Explain(args) => explain::run(&args, env),
        Command::Record(args) => record::run(&args, env),
        Command::Export(args) => export::run(&args, env),
        Command::Diff(args) => diff::run(&args, env),
        Command::Report(args) => report::run(&args, env),
        Command::Convert(args) => convert::run(&args, env),
        Command::Fan(args) => fan::run(&args, env),
        Command::Kill(args) => kill::run(&args, env),
        #[cfg(feature = "mcp")]
        Command::Mcp(args) => mcp::run(&args),
        Command::Generate(args) => generate::run(&args, env),
    }
}

/// Runs a command line inside a server, which goes on whatever happens. An error is one line.
#[cfg(feature = "mcp")]
fn serve(words: &[OsString], env: &mut Env) -> Result<(), String> {
    let cli = Cli::try_parse_from(words).map_err(|error| {
        let cli = Cli::command();
        let command = words.get(1).and_then(|name| cli.find_subcommand(name));
        let why = reason(&error, command.unwrap_or(&cli));
        // Who asks has no options, but arguments of the same name.
        why.strip_prefix("--").map(str::to_owned).unwrap_or(why)
    })?;
    let done = dispatch(cli, env).map_err(|error| match error.downcast_ref::<crate::filter::ParseError>() {
        Some(error) => error.one_line(),
        None => format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" "),
    });
    done.map(drop)
}

/// Help and version go to standard output; an error is one line on standard error.
fn usage(error: &clap::Error, words: &[OsString], env: &mut Env) -> Exit {
    if !error.use_stderr() {
        let text = error.render();
        // The version is the program's, for every command.
        let written = if error.kind() == ErrorKind::DisplayVersion {
            version::write(&mut env.stdout, words.iter().any(|word| word == "--verbose"))
        } else if env.style(env::ColorChoice::Auto).color {
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
    let _ = writeln!(env.stderr, "tcpstate: {}", complaint(error, words));
    Exit::Failed
}

/// The error on one line, with the help of the command as the way out.
fn complaint(error: &clap::Error, words: &[OsString]) -> String {
    let cli = Cli::command();
    let typed: Vec<&str> = words.iter().skip(1).filter_map(|word| word.to_str()).collect();
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(answer) = instead_of_command(&typed)
    {
        return answer;
    }
    let command = typed.first().and_then(|name| cli.find_subcommand(name));
    let help = command.map_or_else(|| "tcpstate --help".to_owned(), |c| format!("tcpstate {} --help", c.get_name()));
    let why = reason(error, command.unwrap_or(&cli));
    format!("{why}{} see `{help}`", if why.ends_with('?') { "" } else { ";" })
}

/// What to type, where the first word is a command of another tool or begins a filter.
fn instead_of_command(typed: &[&str]) -> Option<String> {
    let first = match typed {
        ["help", word, ..] => *word,
        _ => *typed.first()?,
    };
    if let Some(answer) = habits::command(first) {
        return Some(format!("`{first}` is not a command; {answer}"));
    }
    let word = |word: &&str| {
        if word.contains([' ', '(', ')', '!', '*', '<', '>']) { format!("'{word}'") } else { (*word).to_owned() }
    };
    let line: Vec<String> = typed.iter().map(word).collect();
    select::is_filter(typed).then(|| format!("`{first}` is not a command; type `tcpstate list {}`", line.join(" ")))
}

fn reason(error: &clap::Error, command: &clap::Command) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    let arg = context(ContextKind::InvalidArg);
    // `--top <N>`, without the placeholder.
    let flag = arg.map(|arg| arg.split(' ').next().unwrap_or(arg));
    let value = context(ContextKind::InvalidValue);
    let meant = |near: Option<&str>| near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    match (error.kind(), flag, value) {
        (ErrorKind::UnknownArgument, Some(word), _) => {
            let name = command.get_name();
            if let Some(way_out) = habits::argument(name, word).or_else(|| habits::word(name, word)) {
                return format!("`{word}` is not an argument here: {way_out}");
            }
            if let Some(name) = word.strip_prefix("--").filter(|name| Cli::command().find_subcommand(name).is_some()) {
                return format!("`{word}` is not an argument here: type `tcpstate {name}`");
            }
            let longs: Vec<String> =
                command.get_arguments().filter_map(|a| Some(format!("--{}", a.get_long()?))).collect();
            let near = word.strip_prefix("--").and_then(|w| parse::near(w, longs.iter().map(|l| &l[2..])));
            let near = near.map(|near| format!("--{near}"));
            format!("`{word}` is not an argument of `{}`{}", command.get_name(), meant(near.as_deref()))
        }
        (ErrorKind::InvalidSubcommand, ..) => {
            let word = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
            format!("`{word}` is not a command{}", meant(parse::near(word, names.iter().copied())))
        }
        (ErrorKind::MissingRequiredArgument, ..) => missing(error, command),
        (ErrorKind::InvalidValue, Some(flag), None | Some("")) => format!("{flag} needs a value"),
        (ErrorKind::InvalidValue, Some(flag), Some(word)) => {
            let Some(ContextValue::Strings(words)) = error.get(ContextKind::ValidValue) else {
                return format!("{flag}: `{word}` is not a value for it");
            };
            let near = parse::near(word, words.iter().map(String::as_str));
            format!("{flag}: `{word}` is not one of {}{}", words.join(" "), meant(near))
        }
        (ErrorKind::ValueValidation, Some(flag), Some(word)) => match std::error::Error::source(error) {
            Some(why) if why.is::<std::num::ParseIntError>() => {
                format!("{flag}: `{word}` is not a whole number such as 10")
            }
            Some(why) => format!("{flag}: {why}"),
            None => format!("{flag}: `{word}` is not a value for it"),
        },
        _ => one_line(error),
    }
}

/// What a command lacks: what it is about, or an option that another one needs.
fn missing(error: &clap::Error, command: &clap::Command) -> String {
    let names = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(names)) => names.as_slice(),
        _ => &[],
    };
    // What is always required is told with the whole command.
    let is_option = |name: &String| {
        let long = name.strip_prefix("--").and_then(|name| name.split([' ', '<']).next());
        long.is_some() && command.get_arguments().any(|arg| arg.get_long() == long && !arg.is_required_set())
    };
    match habits::incomplete(command.get_name()) {
        _ if !names.is_empty() && names.iter().all(is_option) => {
            format!("{} is needed beside what was typed; add it", names.join(" "))
        }
        Some(answer) => answer.to_owned(),
        None => format!("{} is missing", names.join(" ")),
    }
}

/// clap's own text for errors without a form here.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let parts: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with("Usage:") && !l.starts_with("For more information"))
        .map(|l| l.strip_prefix("error: ").unwrap_or(l))
        .collect();
    parts.join(" ")
}

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
}
