//! `tcpstate explain`: a state, a rule, a column, or the state machine with live counts.
//!
//! Comes in: a topic. Goes out: its page. Never here: the words of a page; they are in `docs/`.

use std::io::Write;
use std::ops::ControlFlow;

use anyhow::bail;

use crate::aggregate::Counts;
use crate::cli::args::ExplainArgs;
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::collect::Query;
use crate::diagnose::RULES;
use crate::model::column::{self, COLUMNS};
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

pub(crate) fn run(args: &ExplainArgs, env: &mut Env) -> anyhow::Result<Exit> {
    let style = env.style(args.common.color);
    let mut text = String::new();
    let topic = args.topic.join(" ");
    let topic = topic.trim();
    if topic.is_empty() {
        topics(&mut text);
    } else if topic.eq_ignore_ascii_case("machine") {
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
        let names = RULES.iter().map(|r| r.id).chain(COLUMNS.iter().map(|c| c.name)).chain(["machine"]);
        let near =
            names.map(|n| (column::distance(topic, n), n)).min().filter(|(d, _)| *d <= 3 && *d * 2 <= topic.len());
        let hint = near.map_or(String::new(), |(_, n)| format!("did you mean `{n}`? "));
        bail!("`{topic}` is no state, rule or column; {hint}`tcpstate explain` lists all topics");
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
        let sentence = rule.page.lines().find(|l| !l.is_empty() && !l.starts_with('#')).unwrap_or_default();
        text.push_str(&format!("  {:28} {sentence}\n", rule.id));
    }
    text.push_str("\ncolumns\n  any name of `tcpstate list --list-columns`\n");
}

fn count(args: &ExplainArgs, env: &mut Env) -> anyhow::Result<Counts> {
    let mut session = Session::open(&args.common)?;
    let mut counts = Counts::default();
    let query = Query::states(StateSet::ALL);
    session.live.sockets(&query, &mut session.gaps, &mut |socket| {
        counts.add(socket.state);
        ControlFlow::Continue(())
    })?;
    session.gaps.extend(session.live.gaps(&query));
    session.print_gaps(env, &args.common)?;
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
