//! `tcpstate explain`: an error, a state, a rule, a column, or the state machine with live counts. The text of the pages
//! is in `docs/`.

use std::io::Write;
use std::ops::ControlFlow;

use anyhow::bail;
use clap::Args;

use crate::aggregate::Counts;
use crate::cli::args::{Common, Origin};
use crate::cli::bind;
use crate::cli::env::{ColorChoice, Env};
use crate::cli::exit::Exit;
use crate::cli::parse;
use crate::cli::session::Session;
use crate::collect::Query;
use crate::diagnose::RULES;
use crate::model::column::{COLUMNS, Column};
use crate::model::{State, StateSet};
use crate::render::topics::{TOPICS, Topic, first_sentence, squashed};
use crate::render::{Style, explain};

/// The page of each state.
const STATES: [(State, &str); 12] = [
    (State::Established, include_str!("../../docs/states/established.md")),
    (State::SynSent, include_str!("../../docs/states/syn-sent.md")),
    (State::SynRecv, include_str!("../../docs/states/syn-recv.md")),
    (State::FinWait1, include_str!("../../docs/states/fin-wait1.md")),
    (State::FinWait2, include_str!("../../docs/states/fin-wait2.md")),
    (State::TimeWait, include_str!("../../docs/states/time-wait.md")),
    (State::Close, include_str!("../../docs/states/close.md")),
    (State::CloseWait, include_str!("../../docs/states/close-wait.md")),
    (State::LastAck, include_str!("../../docs/states/last-ack.md")),
    (State::Listen, include_str!("../../docs/states/listen.md")),
    (State::Closing, include_str!("../../docs/states/closing.md")),
    (State::BoundInactive, include_str!("../../docs/states/bound-inactive.md")),
];

const EXAMPLES: &str = "\
Examples:
  tcpstate explain                          all topics
  tcpstate explain EADDRINUSE               an error, a setting, a column: what people ask about it
  tcpstate explain CLOSE_WAIT               a state, in any spelling
  tcpstate explain close-wait-leak          a rule of the doctor
  tcpstate explain rtt                      a column of `list`
  tcpstate explain bind 0.0.0.0:8080        would bind() fail now, because of what, until when
  tcpstate explain machine                  the state machine with this host's counts on it";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ExplainArgs {
    #[command(flatten)]
    pub origin: Origin,
    /// Print JSON; for `bind`
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// When to colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", help_heading = "Output")]
    pub color: ColorChoice,
    /// An error, a state, a rule, a column, `machine`, or `bind ADDR:PORT`; without one, all topics
    #[arg(value_parser = parse::topic(), hide_possible_values = true)]
    pub topic: Vec<String>,
}

pub(crate) fn run(args: &ExplainArgs, env: &mut Env) -> anyhow::Result<Exit> {
    let style = env.style(args.color);
    let mut text = String::new();
    let topic = args.topic.join(" ");
    let topic = topic.trim();
    if let [verb, target] = &args.topic[..]
        && verb.eq_ignore_ascii_case("bind")
    {
        let (origin, color) = (args.origin.clone(), args.color);
        return bind::run(target, &Common { origin, color, json: args.json, ..Common::default() }, env);
    }
    if args.json {
        bail!("`--json` is for `tcpstate explain bind ADDR:PORT`; see `tcpstate explain --help`");
    }
    let machine = topic.eq_ignore_ascii_case("machine");
    if !machine && args.origin != Origin::default() {
        bail!("only `tcpstate explain machine` and `bind` read sockets; leave --source, --proc-root and --netns out");
    }
    if topic.is_empty() {
        topics(&mut text);
    } else if machine {
        explain::write_machine(&mut text, &count(args, env)?, style);
    } else if !page(&mut text, topic, style) {
        let words = parse::topics().into_iter().chain(TOPICS.iter().flat_map(|t| t.aliases.iter().copied()));
        let hint = parse::near(&topic.replace(' ', "-"), words);
        let hint = hint.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        bail!("`{topic}` is no topic, state, rule or column; {hint}`tcpstate explain` lists all topics");
    }
    env.stdout.write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

/// Appends what is known about a word: its page, or the line of a column and where to read on. False: nothing.
fn page(text: &mut String, word: &str, style: Style) -> bool {
    let column = COLUMNS.iter().find(|c| squashed(c.name) == squashed(word));
    let line = |text: &mut String, column: &Column| {
        text.push_str(&format!("{} ({}): {}\n", column.name, column.kind.name(), column.help));
    };
    if let Some((_, page)) = State::parse(word).and_then(|state| STATES.iter().find(|(s, _)| *s == state)) {
        explain::write_page(text, page, style);
    } else if let Some(topic) = TOPICS.iter().find(|t| t.is(word)) {
        if let Some(column) = column {
            line(text, column);
            text.push('\n');
        }
        explain::write_page(text, topic.page, style);
    } else if let Some(rule) = RULES.iter().find(|r| squashed(r.id) == squashed(word)) {
        explain::write_page(text, rule.page, style);
    } else if let Some(column) = column {
        line(text, column);
        if let Some(Topic { name, .. }) = TOPICS.iter().find(|t| t.is_also(word)) {
            text.push_str(&format!("more: tcpstate explain {name}\n"));
        }
    } else if let Some(topic) = TOPICS.iter().find(|t| t.is_also(word)) {
        explain::write_page(text, topic.page, style);
    } else {
        return false;
    }
    true
}

fn topics(text: &mut String) {
    text.push_str("machine\n  the TCP state machine with the live count on every state\n\nstates\n ");
    for (state, _) in STATES {
        text.push(' ');
        text.push_str(&state.key().replace('_', "-"));
    }
    text.push_str("\n\nerrors, settings, words\n");
    for topic in TOPICS {
        text.push_str(&format!("  {:28} {}\n", topic.name, topic.lead()));
    }
    text.push_str("\nrules\n");
    for rule in RULES {
        text.push_str(&format!("  {:28} {}\n", rule.id, first_sentence(rule.page)));
    }
    text.push_str("\ncolumns\n  any name of `tcpstate list --list-columns`\n");
}

fn count(args: &ExplainArgs, env: &mut Env) -> anyhow::Result<Counts> {
    let common = Common { origin: args.origin.clone(), color: args.color, ..Common::default() };
    let mut session = Session::open(&common)?;
    let mut counts = Counts::default();
    let query = Query::states(StateSet::ALL);
    session.live.sockets(&query, &mut session.gaps, &mut |socket| {
        counts.add(socket.state);
        ControlFlow::Continue(())
    })?;
    session.gaps.extend(session.live.gaps(&query));
    session.print_gaps(env, &common)?;
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command, select};
    use crate::collect::names::SystemNames;

    #[test]
    fn every_state_has_a_page_under_its_own_name() {
        for (state, page) in STATES {
            let title = page.lines().next().unwrap_or_default();
            assert_eq!(State::parse(title.trim_start_matches("# ")), Some(state), "{title}");
        }
    }

    /// The words of a command line, as a shell splits them; what follows a pipe, a redirection or a remark is not its own.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        let (mut word, mut quote) = (None::<String>, None);
        for c in line.chars() {
            match (quote, c) {
                (Some(q), c) if c == q => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, '|' | '>' | '#') => break,
                (None, c) if c.is_whitespace() => words.extend(word.take()),
                (_, c) => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    /// A command line of a page is one that the program takes: arguments, filters, topics.
    fn check(page: &str, line: &str) {
        let cli = Cli::try_parse_from(words(line)).unwrap_or_else(|error| panic!("{page}: {line}: {error}"));
        let selection = match &cli.command {
            Command::List(args) => &args.selection,
            Command::Summary(args) => &args.selection,
            Command::Watch(args) => &args.selection,
            Command::Trace(args) => &args.selection,
            Command::Explain(args) => {
                if let [verb, target] = &args.topic[..]
                    && verb == "bind"
                {
                    return assert!(bind::parse(target).is_ok(), "{page}: {line}: no address");
                }
                let word = args.topic.join(" ");
                let known =
                    matches!(word.as_str(), "" | "machine") || super::page(&mut String::new(), &word, Style::PLAIN);
                return assert!(known, "{page}: {line}: no such topic");
            }
            _ => return,
        };
        let filter = select::expression(selection, &SystemNames::default());
        assert!(filter.is_ok(), "{page}: {line}: {:#}", filter.unwrap_err());
    }

    #[test]
    fn every_command_on_a_page_is_one_that_works() {
        let mut lines = 0;
        let states = STATES.iter().map(|(state, page)| (state.name(), *page));
        for (name, page) in TOPICS.iter().map(|t| (t.name, t.page)).chain(states) {
            for (at, _) in page.match_indices("tcpstate ") {
                // In a fence the line ends it, in a sentence the closing backtick.
                let rest = page[at..].lines().next().unwrap_or_default();
                let before = &page[..at];
                let line = if before.ends_with('`') { rest.split('`').next().unwrap_or_default() } else { rest };
                if before.ends_with('`') || before.rsplit('\n').next().is_some_and(|start| start.trim().is_empty()) {
                    check(name, line);
                    lines += 1;
                }
            }
        }
        assert!(lines > 80, "{lines}");
    }

    #[test]
    fn a_word_is_answered_in_any_spelling() {
        for (word, answer) in [
            ("EADDRINUSE", "EADDRINUSE"),
            ("Time_Wait", "TIME_WAIT"),
            ("closewaitleak", "CLOSE-WAIT-LEAK"),
            ("RECV_Q", "recv-q (bytes)"),
            ("retransmits", "more: tcpstate explain retransmit"),
            ("SO_REUSEADDR", "EADDRINUSE"),
            ("net.core.somaxconn", "SOMAXCONN"),
        ] {
            let mut text = String::new();
            assert!(page(&mut text, word, Style::PLAIN) && text.contains(answer), "{word}: {text}");
        }
        assert!(!page(&mut String::new(), "teapot", Style::PLAIN));
    }

    #[test]
    fn the_list_of_topics_has_whole_sentences() {
        for rule in RULES {
            let sentence = first_sentence(rule.page);
            assert!(sentence.ends_with('.') && sentence.len() > 20, "{}: {sentence}", rule.id);
        }
    }

    #[test]
    fn every_rule_has_a_page_with_the_fixed_headings() {
        for rule in RULES {
            assert!(rule.page.starts_with(&format!("# {}\n", rule.id)), "{}", rule.id);
            for heading in [
                "What it sees",
                "Why it matters",
                "How it decides",
                "What to do",
                "What not to do",
                "When it is wrong",
                "References",
            ] {
                assert!(rule.page.contains(&format!("\n## {heading}\n")), "{}: {heading}", rule.id);
            }
        }
    }
}
