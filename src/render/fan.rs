//! The answers of many hosts as one: text by host, or JSON.
//!
//! Input: what each host replied. Output: text or a document. Not here: how hosts are asked.

use serde_json::{Value as Json, json};

use crate::render::{json as out, sanitize};
use crate::text::count;

/// What became of a question to a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    #[default]
    Answered,
    /// The host was there, and the command gave no answer.
    Failed,
    TimedOut,
    Unreachable,
}

impl Outcome {
    pub const ALL: [Outcome; 4] = [Outcome::Answered, Outcome::Failed, Outcome::TimedOut, Outcome::Unreachable];

    /// The key that JSON prints.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::Unreachable => "unreachable",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed out",
            Outcome::Unreachable => "cannot be reached",
        }
    }
}

/// What a host replied.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub host: String,
    pub outcome: Outcome,
    pub exit_code: Option<i32>,
    pub took_ms: u64,
    /// Its document, where JSON was asked for.
    pub answer: Option<Json>,
    /// Its text, otherwise.
    pub text: String,
    /// Why there is no answer.
    pub error: Option<String>,
}

/// Writes what every host replied, and how many did what. `merged`: the answers are those of the doctor, in JSON.
pub fn write_report(out: &mut String, replies: &[Reply], merged: bool, on_terminal: bool) {
    let clean = |text: &str| if on_terminal { sanitize::clean(text) } else { text.to_owned() };
    for reply in replies {
        let host = clean(&reply.host);
        if reply.outcome != Outcome::Answered {
            let why = reply.error.as_deref().unwrap_or_default();
            out.push_str(&format!("{host}: {}: {}\n", reply.outcome.words(), clean(why)));
        } else if merged {
            write_findings(out, &host, reply.answer.as_ref().unwrap_or(&Json::Null), &clean);
        } else {
            out.push_str(&format!("{host}:\n"));
            for line in reply.text.lines() {
                // Tabs separate cells.
                let line: Vec<String> = line.split('\t').map(clean).collect();
                out.push_str(&format!("  {}\n", line.join("\t")));
            }
        }
    }
    let outcomes = Outcome::ALL.into_iter().filter_map(|outcome| {
        let n = replies.iter().filter(|reply| reply.outcome == outcome).count();
        (n > 0).then(|| format!("{n} {}", outcome.words()))
    });
    let outcomes: Vec<String> = outcomes.collect();
    out.push_str(&format!("\n{}: {}\n", count(replies.len() as u64, "host", "hosts"), outcomes.join(", ")));
}

fn write_findings(out: &mut String, host: &str, answer: &Json, clean: &impl Fn(&str) -> String) {
    let findings = answer["findings"].as_array().map_or(&[][..], Vec::as_slice);
    let gaps = answer["gaps"].as_array().map_or(0, Vec::len) as u64;
    let gaps = if gaps > 0 { format!(", {}", count(gaps, "gap", "gaps")) } else { String::new() };
    if findings.is_empty() {
        out.push_str(&format!("{host}: nothing found{gaps}\n"));
        return;
    }
    out.push_str(&format!("{host}: {}{gaps}\n", count(findings.len() as u64, "finding", "findings")));
    for finding in findings {
        let word = |key: &str| clean(finding[key].as_str().unwrap_or("?"));
        out.push_str(&format!("  {:8}  {}  [{}]\n", word("severity"), word("summary"), word("rule")));
    }
}

/// The replies as one document.
#[must_use]
pub fn document(replies: &[Reply], taken_at: &str) -> Json {
    let hosts: Vec<Json> = replies
        .iter()
        .map(|reply| {
            json!({
                "host": reply.host,
                "outcome": reply.outcome.key(),
                "exit_code": reply.exit_code,
                "took_ms": reply.took_ms,
                "error": reply.error,
                "answer": reply.answer,
            })
        })
        .collect();
    let mut map = out::start("fan", taken_at);
    map.insert("hosts".into(), json!(hosts));
    Json::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_its_line_and_the_last_one_counts() {
        let finding =
            json!({ "severity": "high", "summary": "34 connections of ja\u{1b}va", "rule": "close-wait-leak" });
        let replies = [
            Reply {
                host: "web1".into(),
                answer: Some(json!({ "findings": [finding], "gaps": [{}] })),
                exit_code: Some(1),
                ..Reply::default()
            },
            Reply { host: "web2".into(), answer: Some(json!({ "findings": [], "gaps": [] })), ..Reply::default() },
            Reply {
                host: "web3".into(),
                outcome: Outcome::TimedOut,
                error: Some("no answer within 30 s".into()),
                ..Reply::default()
            },
        ];
        let mut text = String::new();
        write_report(&mut text, &replies, true, true);
        let expected = "web1: 1 finding, 1 gap\n  high      34 connections of ja\\x1bva  [close-wait-leak]\nweb2: nothing found\n\
                        web3: timed out: no answer within 30 s\n\n3 hosts: 2 answered, 1 timed out\n";
        assert_eq!(text, expected);
        let raw = Reply { host: "a".into(), text: "x\ty\u{7}\nz\n".into(), ..Reply::default() };
        let mut text = String::new();
        write_report(&mut text, std::slice::from_ref(&raw), false, true);
        assert_eq!(text, "a:\n  x\ty\\x07\n  z\n\n1 host: 1 answered\n");
        text.clear();
        write_report(&mut text, &[raw], false, false);
        assert!(text.contains("y\u{7}\n"), "what is not a terminal gets it as it is");
        let document = document(&replies, "2026-11-29T20:00:00Z");
        assert_eq!(document["hosts"][2]["outcome"], "timed_out");
        assert_eq!(document["hosts"][0]["answer"]["findings"][0]["rule"], "close-wait-leak");
    }
}
