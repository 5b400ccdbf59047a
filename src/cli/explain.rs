//! `tcpstate explain`: an error, a state, a rule, a column, or the state machine with live counts. The text of the pages
//! is in `docs/`.

use std::io::Write;
use std::ops::ControlFlow;

use anyhow::{anyhow, bail};
use clap::Args;
use serde_json::Value as Json;

use crate::aggregate::Counts;
use crate::cli::args::{Common, Origin, Replay};
use crate::cli::bind;
use crate::cli::env::{ColorChoice, Env};
use crate::cli::exit::Exit;
use crate::cli::parse;
use crate::cli::session::Session;
use crate::collect::Query;
use crate::diagnose::RULES;
use crate::model::column::COLUMNS;
use crate::model::{State, StateSet};
use crate::render::explain::{self, Known};
use crate::render::json as out;
use crate::render::topics::{TOPICS, squashed};

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
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// When to colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", help_heading = "Output")]
    pub color: ColorChoice,
    /// An error, a state, a rule, a column, `machine`, or `bind ADDR:PORT`; without one, all topics
    #[arg(value_parser = parse::topic(), hide_possible_values = true)]
    pub topic: Vec<String>,
    #[command(flatten)]
    pub origin: Origin,
    #[command(flatten)]
    pub replay: Replay,
}

pub(crate) fn run(args: &ExplainArgs, env: &mut Env) -> anyhow::Result<Exit> {
    let topic = args.topic.join(" ");
    let topic = topic.trim();
    if let [verb, target] = &args.topic[..]
        && verb.eq_ignore_ascii_case("bind")
    {
        let (origin, replay, color) = (args.origin.clone(), args.replay.clone(), args.color);
        return bind::run(target, &Common { origin, replay, color, json: args.json, ..Common::default() }, env);
    }
    if topic.eq_ignore_ascii_case("machine") {
        return machine(args, env);
    }
    if args.origin != Origin::default() || !args.replay.from.is_empty() {
        bail!(
            "only `tcpstate explain machine` and `bind` read sockets; leave --source, --proc-root, --netns and --from out"
        );
    }
    let known = match topic {
        "" => None,
        word => Some(known(word).ok_or_else(|| unknown(word))?),
    };
    if let Some(to) = env.json(args.json) {
        let document = match &known {
            Some(known) => explain::page_document(known),
            None => explain::topics_document(&all_topics()),
        };
        out::write_document(to, &document)?;
    }
    if !env.wants_text(args.json) {
        return Ok(Exit::Done);
    }
    let style = env.style(args.color);
    let mut text = String::new();
    match &known {
        Some(known) => explain::write(&mut text, known, style),
        None => explain::write_topics(&mut text, &all_topics(), style),
    }
    env.stdout.write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

/// The error for a word without a page, with the one that was probably meant.
fn unknown(word: &str) -> anyhow::Error {
    let words = parse::topics().into_iter().chain(TOPICS.iter().flat_map(|t| t.aliases.iter().copied()));
    // `8080`, `port 8080`, `:8080`, `10.0.0.1:8080`.
    let end = word.rsplit(' ').next().unwrap_or(word);
    let target = if end.bytes().all(|b| b.is_ascii_digit()) { format!(":{end}") } else { end.to_owned() };
    if bind::parse(&target).is_ok() && end.ends_with(|c: char| c.is_ascii_digit()) {
        return anyhow!(
            "`{word}` is no topic, state, rule or column; type `tcpstate explain bind {target}` for who has the port, or \
             `tcpstate list {target}` for its sockets"
        );
    }
    let hint = parse::near(&word.replace(' ', "-"), words);
    let hint = hint.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    anyhow!("`{word}` is no topic, state, rule or column; {hint}`tcpstate explain` lists all topics")
}

/// What is known about a word: its page, or the line of a column and where to read on.
fn known(word: &str) -> Option<Known> {
    let column = COLUMNS.iter().find(|c| squashed(c.name) == squashed(word));
    if let Some((state, page)) = State::parse(word).and_then(|state| STATES.iter().find(|(s, _)| *s == state)) {
        return Some(Known::paged("state", state.key(), page));
    }
    if let Some(topic) = TOPICS.iter().find(|t| t.is(word)) {
        return Some(Known { column, ..Known::paged("topic", topic.name, topic.page) });
    }
    if let Some(rule) = RULES.iter().find(|r| squashed(r.id) == squashed(word)) {
        return Some(Known::paged("rule", rule.id, rule.page));
    }
    let also = TOPICS.iter().find(|t| t.is_also(word));
    match column {
        Some(column) => {
            let more = also.map(|topic| topic.name);
            Some(Known { kind: "column", name: column.name, page: None, column: Some(column), more })
        }
        None => also.map(|topic| Known::paged("topic", topic.name, topic.page)),
    }
}

/// Everything that has a page, in the order of the list.
fn all_topics() -> Vec<Known> {
    let states = STATES.iter().map(|(state, page)| Known::paged("state", state.key(), page));
    let topics = TOPICS.iter().map(|t| Known::paged("topic", t.name, t.page));
    let rules = RULES.iter().map(|r| Known::paged("rule", r.id, r.page));
    states.chain(topics).chain(rules).collect()
}

/// The state machine with the live count on every state.
fn machine(args: &ExplainArgs, env: &mut Env) -> anyhow::Result<Exit> {
    let (origin, replay) = (args.origin.clone(), args.replay.clone());
    let common = Common { origin, replay, color: args.color, ..Common::default() };
    let mut session = Session::open(&common)?;
    let counts = count(&mut session)?;
    if let Some(to) = env.json(args.json) {
        let mut document = out::head(&session.head("explain"));
        document.insert("states".into(), out::states(&counts, session.unseen()));
        document.insert("gaps".into(), out::gaps(&session.gaps));
        out::write_document(to, &Json::Object(document))?;
    }
    if !env.wants_text(args.json) {
        session.print_notes(env)?;
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    explain::write_machine(&mut text, &counts, env.style(args.color));
    env.stdout.write_all(text.as_bytes())?;
    session.print_gaps(env, &common)?;
    Ok(Exit::Done)
}

fn count(session: &mut Session) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    let query = Query::states(StateSet::ALL);
    session.live.sockets(&query, &mut session.gaps, &mut |socket| {
        counts.add(socket.state);
        ControlFlow::Continue(())
    })?;
    session.gaps.extend(session.live.gaps(&query));
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command, select};
    use crate::collect::names::SystemNames;
    use crate::render::Style;
    use crate::render::topics::first_sentence;

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
                let known = matches!(word.as_str(), "" | "machine") || super::known(&word).is_some();
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
            explain::write(&mut text, &known(word).unwrap_or_else(|| panic!("{word}")), Style::PLAIN);
            assert!(text.contains(answer), "{word}: {text}");
        }
        assert!(known("teapot").is_none());
        for (word, instead) in
            [("8080", ":8080"), ("port 8080", ":8080"), (":80", ":80"), ("10.0.0.1:80", "10.0.0.1:80")]
        {
            let said = unknown(word).to_string();
            assert!(said.contains(&format!("explain bind {instead}`")), "{said}");
        }
        assert!(!unknown("teapot").to_string().contains("bind"));
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
