//! `tcpstate explain`: a state, a rule, a column, or the state machine with live counts. The text of the pages is in
//! `docs/`.

use std::io::Write;
use std::ops::ControlFlow;

use anyhow::bail;
use clap::Args;

use crate::aggregate::Counts;
use crate::cli::args::{Common, Origin};
use crate::cli::env::{ColorChoice, Env};
use crate::cli::exit::Exit;
use crate::cli::parse;
use crate::cli::session::Session;
use crate::collect::Query;
use crate::diagnose::RULES;
use crate::model::column;
use crate::model::{State, StateSet};
use crate::render::explain;

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
  tcpstate explain CLOSE_WAIT               a state, in any spelling
  tcpstate explain close-wait-leak          a rule of the doctor
  tcpstate explain rtt                      a column of `list`
  tcpstate explain machine                  the state machine with this host's counts on it";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ExplainArgs {
    #[command(flatten)]
    pub origin: Origin,
    /// When to colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", help_heading = "Output")]
    pub color: ColorChoice,
    /// A state, a rule, a column or `machine`; without one, all topics
    #[arg(value_parser = parse::topic(), hide_possible_values = true)]
    pub topic: Vec<String>,
}

pub(crate) fn run(args: &ExplainArgs, env: &mut Env) -> anyhow::Result<Exit> {
    let style = env.style(args.color);
    let mut text = String::new();
    let topic = args.topic.join(" ");
    let topic = topic.trim();
    let machine = topic.eq_ignore_ascii_case("machine");
    if !machine && args.origin != Origin::default() {
        bail!("only `tcpstate explain machine` reads sockets; leave --source, --proc-root and --netns out");
    }
    if topic.is_empty() {
        topics(&mut text);
    } else if machine {
        explain::write_machine(&mut text, &count(args, env)?, style);
    } else if let Some(state) = State::parse(topic) {
        if let Some((_, page)) = STATES.iter().find(|(s, _)| *s == state) {
            explain::write_page(&mut text, page, style);
        }
    } else if let Some(rule) = RULES.iter().find(|r| r.id == topic.to_ascii_lowercase().replace(['_', ' '], "-")) {
        explain::write_page(&mut text, rule.page, style);
    } else if let Some(column) = column::find(topic) {
        text = format!("{} ({}): {}\n", column.name, column.kind.name(), column.help);
    } else {
        let hint = parse::near(topic, parse::topics().into_iter());
        let hint = hint.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        bail!("`{topic}` is not a state, rule or column; {hint}`tcpstate explain` lists all topics");
    }
    env.stdout.write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

fn topics(text: &mut String) {
    text.push_str("machine\n  the TCP state machine with the live count on every state\n\nstates\n ");
    for (state, _) in STATES {
        text.push(' ');
        text.push_str(&state.key().replace('_', "-"));
    }
    text.push_str("\n\nrules\n");
    for rule in RULES {
        text.push_str(&format!("  {:28} {}\n", rule.id, first_sentence(rule.page)));
    }
    text.push_str("\ncolumns\n  any name of `tcpstate list --list-columns`\n");
}

/// The first sentence below the title of a page.
fn first_sentence(page: &str) -> String {
    let paragraph = page.lines().skip_while(|l| l.is_empty() || l.starts_with('#')).take_while(|l| !l.is_empty());
    let text = paragraph.collect::<Vec<_>>().join(" ");
    text.find(". ").map_or(text.clone(), |end| text[..=end].to_owned())
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
    use super::*;

    #[test]
    fn every_state_has_a_page_under_its_own_name() {
        for (state, page) in STATES {
            let title = page.lines().next().unwrap_or_default();
            assert_eq!(State::parse(title.trim_start_matches("# ")), Some(state), "{title}");
        }
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
