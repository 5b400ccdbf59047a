//! Completion of the words of a command line, by the shell's question to the program itself: values may be of this
//! host, such as its namespaces, running processes and units.
//!
//! Input: the name of a shell, or its question in the environment. Output: the script that makes the shell ask, or the
//! words. The engine is that of clap; what an argument takes is in [`crate::cli::parse`].

use std::ffi::OsStr;
use std::io::Write;

use anyhow::anyhow;
use clap::builder::StyledStr;
use clap::{Arg, Command};
use clap_complete::env::{CompleteEnv, Shells};
use clap_complete::{ArgValueCompleter, CompletionCandidate, Shell};

use crate::cli::env::Env;
use crate::collect::netns;
use crate::collect::proc::processes;
use crate::diagnose::{self, RULES, THRESHOLDS};
use crate::model::column;
use crate::model::id::HOST;

/// The variable by which a script asks. Its own name: another program's `COMPLETE` is none of ours.
const ASKED: &str = "TCPSTATE_COMPLETE";
/// Words that begin or join filter expressions, beside columns and states.
const FILTER_WORDS: [&str; 9] = ["state", "exclude", "src", "dst", "sport", "dport", "and", "or", "not"];

/// Writes the script for one shell.
///
/// # Errors
/// When the stream fails.
pub(crate) fn script(shell: Shell, out: &mut dyn Write) -> anyhow::Result<()> {
    let name = shell.to_string();
    let shells = Shells::builtins();
    let shell = shells.completer(&name).ok_or_else(|| anyhow!("there are no completions for {name}"))?;
    shell.write_registration(ASKED, "tcpstate", "tcpstate", "tcpstate", out)?;
    Ok(())
}

/// Answers a shell. `None` when none asks.
pub(crate) fn answer(args: &[std::ffi::OsString], env: &mut Env) -> Option<anyhow::Result<()>> {
    env.var(ASKED).filter(|shell| !shell.is_empty())?;
    let folder = std::env::current_dir().ok();
    let answered = CompleteEnv::with_factory(command).var(ASKED).try_complete(args.to_vec(), folder.as_deref());
    Some(answered.map(drop).map_err(|error| anyhow!("cannot complete: {error}")))
}

/// The command line with what completes each value. Letters without a command are those of `list` and `summary`.
fn command() -> Command {
    let mut whole = super::command();
    for name in ["list", "summary"] {
        let args: Vec<Arg> =
            whole.find_subcommand(name).into_iter().flat_map(Command::get_arguments).cloned().collect();
        for arg in args {
            if whole.get_arguments().all(|known| known.get_id() != arg.get_id()) {
                whole = whole.arg(arg);
            }
        }
    }
    let names: Vec<String> = whole.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    names.into_iter().fold(whole.mut_args(with_values), |whole, name| {
        whole.mut_subcommand(name, |command| command.mut_args(with_values))
    })
}

/// What completes the values of an argument, by its id.
fn with_values(arg: Arg) -> Arg {
    let complete = match arg.get_id().as_str() {
        "columns" | "sort" => signed(&arg),
        "rule" => words(|| RULES.iter().map(|r| (r.id.to_owned(), diagnose::title(r.id).to_owned())).collect()),
        "threshold" => words(|| THRESHOLDS.iter().map(|t| (format!("{}=", t.name), t.help.to_owned())).collect()),
        "netns" => words(namespaces),
        "process" => words(process_names),
        "pid" => words(pids),
        "unit" => words(|| processes::units().into_iter().map(|unit| (unit, String::new())).collect()),
        "filter" => words(filter_words),
        _ => return arg,
    };
    arg.add(complete)
}

/// Completes with words and what each is.
fn words(all: fn() -> Vec<(String, String)>) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let typed = typed.to_string_lossy();
        let fitting = all().into_iter().filter(|(word, _)| word.starts_with(&*typed) && is_plain(word));
        fitting.map(|(word, help)| candidate(&word, &help)).collect()
    })
}

fn candidate(word: &str, help: &str) -> CompletionCandidate {
    CompletionCandidate::new(word).help((!help.is_empty()).then(|| StyledStr::from(help.to_owned())))
}

/// Whether a shell takes the word as it is: no name of a process may run as a command.
fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+@=/".contains(c))
}

/// Completes the words that an argument takes, also behind the `+` or `-` of a column.
fn signed(arg: &Arg) -> ArgValueCompleter {
    let values = arg.get_value_parser().possible_values().into_iter().flatten();
    let words: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
    ArgValueCompleter::new(move |typed: &OsStr| {
        let typed = typed.to_string_lossy();
        let word = typed.trim_start_matches(['+', '-']);
        let sign = &typed[..typed.len() - word.len()];
        let fitting = words.iter().filter(|known| known.starts_with(word));
        fitting.map(|w| candidate(&format!("{sign}{w}"), column::find(w).map_or("", |c| c.help))).collect()
    })
}

fn filter_words() -> Vec<(String, String)> {
    let columns = column::COLUMNS.iter().map(|c| (c.name.to_owned(), c.help.to_owned()));
    let others = FILTER_WORDS.into_iter().chain(super::parse::state_words());
    let mut all: Vec<(String, String)> = others.map(|word| (word.to_owned(), String::new())).collect();
    for (word, help) in columns {
        if all.iter().all(|(known, _)| *known != word) {
            all.push((word, help));
        }
    }
    all
}

fn namespaces() -> Vec<(String, String)> {
    let names = netns::names().into_values().filter(|name| name != HOST).map(|name| (name, String::new()));
    std::iter::once(("all".to_owned(), "every namespace of this host".to_owned())).chain(names).collect()
}

fn process_names() -> Vec<(String, String)> {
    let of = |pids: Vec<u32>| pids.first().map_or_else(String::new, |pid| format!("pid {pid}"));
    processes::names().into_iter().map(|(name, pids)| (name, of(pids))).collect()
}

fn pids() -> Vec<(String, String)> {
    let of = |(name, pids): (String, Vec<u32>)| pids.into_iter().map(move |pid| (pid.to_string(), name.clone()));
    processes::names().into_iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use clap_complete::engine::complete;

    use super::*;

    fn offered(line: &str) -> Vec<String> {
        let words: Vec<_> = std::iter::once("tcpstate").chain(line.split(' ')).map(Into::into).collect();
        let at = words.len() - 1;
        let found = complete(&mut command(), words, at, None).unwrap();
        found.iter().map(|c| c.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn values_are_completed_wherever_they_stand() {
        for (line, word) in [
            ("list --state clo", "close-wait"),
            ("list -s listen,clo", "listen,close-wait"),
            ("-tan --state clo", "close-wait"),
            ("--by peer-a", "peer-addr"),
            ("list -c +ag", "+age"),
            ("list -c state,rt", "state,rtt"),
            ("list --sort -rec", "-recv-q"),
            ("list --format ts", "tsv"),
            ("list -N al", "all"),
            ("list state fin-", "fin-wait2"),
            ("list dpo", "dport"),
            ("summary --by pro", "process"),
            ("summary --sort -bytes", "-bytes-sent"),
            ("watch --by uni", "unit"),
            ("doctor --rule close-wait-l", "close-wait-leak"),
            ("doctor --min-severity cri", "critical"),
            ("doctor --fail-on hi", "high"),
            ("doctor --threshold fd-w", "fd-warn-percent="),
            ("explain eaddri", "eaddrinuse"),
            ("explain close-wait-l", "close-wait-leak"),
            ("generate completions fi", "fish"),
            ("hel", "help"),
        ] {
            let offered = offered(line);
            assert!(offered.iter().any(|w| w == word), "{line}: {offered:?}");
        }
    }

    #[test]
    fn no_name_reaches_a_shell_that_it_would_run() {
        for name in ["$(reboot)", "a b", "`x`", "a;b", "", "tmux: server"] {
            assert!(!is_plain(name), "{name}");
        }
        assert!(is_plain("php-fpm7.4") && is_plain("getty@tty1.service"));
    }
}
