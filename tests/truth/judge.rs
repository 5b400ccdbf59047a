//! Compares what the doctor said with what is true.

use serde_json::Value as Json;
use tcpstate::diagnose::Severity;

use crate::case::{Case, Expect};

/// How true a diagnosis was, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Everything expected was found, and nothing untrue.
    Right,
    /// The right rule; subject, severity, cause or a number is off, or something untrue stands beside it.
    Partly,
    /// Nothing was found.
    Missed,
    /// Something untrue was found instead, or a cause that is not the cause.
    Wrong,
    /// A warning about something healthy.
    FalseAlarm,
}

impl Verdict {
    pub const ALL: [Verdict; 5] =
        [Verdict::Right, Verdict::Partly, Verdict::Missed, Verdict::Wrong, Verdict::FalseAlarm];

    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Verdict::Right => "right",
            Verdict::Partly => "partly",
            Verdict::Missed => "missed",
            Verdict::Wrong => "wrong",
            Verdict::FalseAlarm => "false alarm",
        }
    }
}

/// One finding at or above warning, and whether it was true.
#[derive(Clone, Debug)]
pub struct Said {
    pub confidence: f64,
    pub is_true: bool,
    /// Its rule and headline, as the page lists what was said and is not true.
    pub words: String,
}

/// A judged document of the doctor.
#[derive(Clone, Debug)]
pub struct Judged {
    pub verdict: Verdict,
    /// What is off, in the words of the case.
    pub why: Vec<String>,
    pub said: Vec<Said>,
}

/// Judges one document.
#[must_use]
pub fn judge(case: &Case, document: &Json) -> Judged {
    let none = Vec::new();
    let findings = document["findings"].as_array().unwrap_or(&none);
    let mut why = Vec::new();
    let (mut is_true, mut is_off) = (vec![false; findings.len()], vec![false; findings.len()]);
    let (mut met, mut touched, mut contradicted) = (0, false, false);
    for expect in &case.header.expect {
        let candidates: Vec<usize> = (0..findings.len()).filter(|i| names_rule(expect, &findings[*i])).collect();
        let mut best: Option<(usize, Vec<Off>)> = None;
        for i in candidates {
            let off = differences(expect, &findings[i]);
            if best.as_ref().is_none_or(|(_, known)| off.len() < known.len()) {
                best = Some((i, off));
            }
        }
        match best {
            None => why.push(format!("no {}", expect.rule.join(" or "))),
            Some((i, off)) => {
                touched = true;
                if off.is_empty() {
                    met += 1;
                    is_true[i] = true;
                }
                is_off[i] |= !off.is_empty();
                contradicted |= off.iter().any(|o| o.kind == OffKind::WrongCause);
                why.extend(off.into_iter().map(|o| format!("{}: {}", text(&findings[i]["rule"]), o.what)));
            }
        }
    }
    let mut untrue = false;
    let mut said = Vec::new();
    for ((finding, is_true), is_off) in findings.iter().zip(is_true).zip(is_off) {
        if severity(finding) < Some(Severity::Warning) {
            continue;
        }
        let rule = text(&finding["rule"]).to_owned();
        let expected = case.header.expect.iter().any(|e| names_rule(e, finding));
        let is_true = is_true
            || case.header.also.contains(&rule)
            || !is_off && case.header.expect.iter().any(|e| names_rule(e, finding) && says_the_same(e, finding));
        let words = format!("{rule}: {}", text(&finding["summary"]));
        if !is_true && !expected {
            untrue = true;
            why.push(format!("untrue: {} {words}", text(&finding["severity"])));
        }
        said.push(Said { confidence: finding["confidence"].as_f64().unwrap_or(0.0), is_true, words });
    }
    let verdict = match (case.header.healthy, untrue) {
        (true, true) => Verdict::FalseAlarm,
        (true, false) => Verdict::Right,
        (false, _) if contradicted => Verdict::Wrong,
        (false, untrue) if met == case.header.expect.len() => {
            if untrue {
                Verdict::Partly
            } else {
                Verdict::Right
            }
        }
        (false, _) if touched => Verdict::Partly,
        (false, true) => Verdict::Wrong,
        (false, false) => Verdict::Missed,
    };
    Judged { verdict, why, said }
}

/// What one finding has otherwise than expected.
struct Off {
    what: String,
    kind: OffKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OffKind {
    /// It names a cause that is not the cause, or says what sends a person the wrong way.
    WrongCause,
    /// It is about another destination, listener or amount: true of a further finding about the same fault.
    Elsewhere,
    Detail,
}

/// Whether a further finding of an expected rule says of another place what is expected of this one: the same process,
/// severity and cause.
fn says_the_same(expect: &Expect, finding: &Json) -> bool {
    differences(expect, finding).iter().all(|off| off.kind == OffKind::Elsewhere)
}

fn names_rule(expect: &Expect, finding: &Json) -> bool {
    expect.rule.iter().any(|r| r == text(&finding["rule"]))
}

fn differences(expect: &Expect, finding: &Json) -> Vec<Off> {
    let mut off = Vec::new();
    let mut note = |what: String, kind: OffKind| off.push(Off { what, kind });
    let subject = &finding["subject"];
    if let Some(comm) = expect.comm.as_deref().filter(|comm| *comm != text(&subject["comm"])) {
        note(format!("names {} and not {comm}", subject["comm"]), OffKind::Detail);
    }
    for (key, wanted) in [("destination", &expect.destination), ("listener", &expect.listener)] {
        if let Some(wanted) = wanted.as_deref().filter(|w| !is_endpoint(w, &subject[key])) {
            note(format!("{key} {} and not {wanted}", subject[key]), OffKind::Elsewhere);
        }
    }
    let level = severity(finding);
    let bound = |word: &Option<String>| word.as_deref().and_then(Severity::parse);
    if let Some(least) = bound(&expect.severity_at_least).filter(|least| level < Some(*least)) {
        note(format!("{} and not at least {}", text(&finding["severity"]), least.key()), OffKind::Detail);
    }
    if let Some(most) = bound(&expect.severity_at_most).filter(|most| level > Some(*most)) {
        note(format!("{} and not at most {}", text(&finding["severity"]), most.key()), OffKind::Detail);
    }
    let led = leading_cause(finding);
    if let Some(cause) = expect.cause.as_deref().filter(|cause| led != Some(*cause)) {
        let sure = finding["hypotheses"].as_array().is_some_and(|h| h.len() == 1);
        note(
            format!("cause {} and not {cause}", led.unwrap_or("?")),
            if sure { OffKind::WrongCause } else { OffKind::Detail },
        );
    }
    if let Some(cause) = led.filter(|cause| expect.never_cause.iter().any(|never| never == cause)) {
        note(format!("names the cause {cause}"), OffKind::WrongCause);
    }
    let sentences = sentences(finding);
    for phrase in expect.never_said.iter().filter(|phrase| sentences.contains(phrase.as_str())) {
        note(format!("says `{phrase}`"), OffKind::WrongCause);
    }
    if !expect.said.is_empty() && !expect.said.iter().any(|phrase| sentences.contains(phrase.as_str())) {
        note(format!("says none of {:?}", expect.said), OffKind::Detail);
    }
    for (key, [from, to]) in &expect.numbers {
        let value = finding["evidence"][key].as_f64();
        if value.is_none_or(|v| v < *from || v > *to) {
            note(format!("{key} is {} and not {from} to {to}", finding["evidence"][key]), OffKind::Elsewhere);
        }
    }
    off
}

/// The cause that the finding names, or puts first.
fn leading_cause(finding: &Json) -> Option<&str> {
    finding["hypotheses"][0]["cause"].as_str()
}

/// Everything that a person acts on.
fn sentences(finding: &Json) -> String {
    let mut all = vec![text(&finding["summary"]), text(&finding["confidence_reason"])];
    all.extend(finding["remedy"].as_array().into_iter().flatten().map(text));
    all.extend(finding["hypotheses"].as_array().into_iter().flatten().map(|h| text(&h["text"])));
    all.join("\n")
}

/// `10.0.0.1:80` or `:80` against `{"addr": …, "port": …}`.
fn is_endpoint(wanted: &str, endpoint: &Json) -> bool {
    let Some((addr, port)) = wanted.rsplit_once(':') else { return false };
    let same_port = endpoint["port"].as_u64().map(|p| p.to_string()).as_deref() == Some(port);
    same_port && (addr.is_empty() || text(&endpoint["addr"]) == addr.trim_matches(['[', ']']))
}

fn severity(finding: &Json) -> Option<Severity> {
    finding["severity"].as_str().and_then(Severity::parse)
}

fn text(value: &Json) -> &str {
    value.as_str().unwrap_or_default()
}
