//! What a rule is: its id, the judgement, and the words that it always uses.
//!
//! Input: nothing. Output: the types that a rule file fills in, and the macro that does it. Not here: the list of rules
//! (`rules`), and findings (`finding`).

use crate::diagnose::Outcome;
pub use crate::diagnose::finding::Text;
use crate::diagnose::finding::{Finding, Severity, Topic};
use crate::diagnose::hypothesis::Cause;
use crate::diagnose::view::View;
use crate::model::{State, StateSet};

/// How many snapshots a rule needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Samples {
    /// One is enough.
    One,
    /// One gives a finding, two a better one.
    OneOrTwo,
    /// It judges differences.
    Two,
}

impl Samples {
    /// `1`, `1 (2)`, `2`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Samples::One => "1",
            Samples::OneOrTwo => "1 (2)",
            Samples::Two => "2",
        }
    }
}

/// The part of the index that a rule is listed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Chapter {
    Ports,
    CloseWait,
    Listeners,
    Connecting,
    Closing,
    Established,
    System,
}

impl Chapter {
    pub const ALL: [Chapter; 7] = [
        Chapter::Ports,
        Chapter::CloseWait,
        Chapter::Listeners,
        Chapter::Connecting,
        Chapter::Closing,
        Chapter::Established,
        Chapter::System,
    ];

    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Chapter::Ports => "TIME_WAIT and ports",
            Chapter::CloseWait => "CLOSE_WAIT and descriptors",
            Chapter::Listeners => "Listeners",
            Chapter::Connecting => "Connecting",
            Chapter::Closing => "Closing states",
            Chapter::Established => "Established",
            Chapter::System => "System-wide",
        }
    }
}

/// What makes two findings of a rule the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// The listener, else the program.
    Listener,
    /// The program: its unit, else its name.
    Program,
    Destination,
    /// The listener, else the destination: the rule groups connections by where they came in or went out.
    Place,
    ProgramAndDestination,
    /// A setting or a resource of the host.
    Object,
}

/// One rule.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Rule {
    /// Kebab-case, names the pattern and not the cure; printed so that people can cite it. The file and the page have the
    /// same name.
    pub id: &'static str,
    pub chapter: Chapter,
    pub samples: Samples,
    /// States of the sockets that its findings are about; empty when the state does not matter.
    pub states: StateSet,
    /// What is wrong, for the index.
    pub what: &'static str,
    /// What is wrong in two to four words, for the table of incidents.
    pub title: &'static str,
    pub identity: Identity,
    /// The causes that the picture may have, when it has several.
    pub causes: &'static [Cause],
    /// The first is that of most findings.
    pub texts: &'static [&'static Text],
    /// `docs/rules/<id>.md`.
    pub page: &'static str,
    pub check: fn(&View<'_>) -> Outcome,
    /// Which advice for the program at fault fits.
    pub topic: Option<Topic>,
    /// What it takes over a large table, as a rank; the longest begin first, so that no core waits for the last one.
    pub cost: u8,
    /// It is about what runs out: of equally severe findings these explain the others.
    pub is_cause: bool,
    /// It judges what was traced between two samples.
    pub reads_trace: bool,
    /// Where owners are unknown, a gap of the answer says so too.
    pub is_about_owners: bool,
}

impl Rule {
    /// A finding of this rule with its first text.
    #[must_use]
    pub fn finding(&self, severity: Severity, confidence: f64, summary: impl Into<String>) -> Finding {
        let finding = Finding { topic: self.topic, ..Finding::new(self.id, severity, confidence, summary) };
        match self.texts.first() {
            Some(text) => finding.text(text),
            None => finding,
        }
    }

    #[must_use]
    pub const fn title(self, title: &'static str) -> Rule {
        Rule { title, ..self }
    }

    #[must_use]
    pub const fn identity(self, identity: Identity) -> Rule {
        Rule { identity, ..self }
    }

    #[must_use]
    pub const fn causes(self, causes: &'static [Cause]) -> Rule {
        Rule { causes, ..self }
    }

    #[must_use]
    pub const fn states(self, states: &[State]) -> Rule {
        Rule { states: StateSet::of(states), ..self }
    }

    #[must_use]
    pub const fn topic(self, topic: Topic) -> Rule {
        Rule { topic: Some(topic), ..self }
    }

    #[must_use]
    pub const fn cost(self, rank: u8) -> Rule {
        Rule { cost: rank, ..self }
    }

    #[must_use]
    pub const fn traced(self) -> Rule {
        Rule { reads_trace: true, ..self }
    }

    #[must_use]
    pub const fn cause(self) -> Rule {
        Rule { is_cause: true, ..self }
    }

    #[must_use]
    pub const fn about_owners(self) -> Rule {
        Rule { is_about_owners: true, ..self }
    }
}

/// `rule!("last-ack-stuck", Closing, One, "what is wrong", check, [TEXT])`; the page is found by the id.
macro_rules! rule {
    ($id:literal, $chapter:ident, $samples:ident, $what:literal, $check:ident, [$($text:ident),+]) => {
        $crate::diagnose::rule::Rule {
            id: $id,
            chapter: $crate::diagnose::rule::Chapter::$chapter,
            samples: $crate::diagnose::rule::Samples::$samples,
            what: $what,
            title: $id,
            identity: $crate::diagnose::rule::Identity::Listener,
            causes: &[],
            texts: &[$(&$text),+],
            page: include_str!(concat!("../../../docs/rules/", $id, ".md")),
            check: $check,
            states: $crate::model::StateSet::of(&[]),
            topic: None,
            cost: 0,
            is_cause: false,
            reads_trace: false,
            is_about_owners: false,
        }
    };
}
pub(crate) use rule;

#[cfg(test)]
mod tests {
    use crate::diagnose::RULES;

    /// What stands under a heading of a page.
    fn section<'a>(page: &'a str, heading: &str) -> &'a str {
        let begin = format!("\n## {heading}\n");
        let (_, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no heading {heading}"));
        rest.split("\n## ").next().unwrap_or_default()
    }

    /// Words without what Markdown adds; a hole of a text is a word in capitals on the page.
    fn plain(text: &str) -> String {
        let text = text.replace(['`', '*', '{', '}'], "").to_lowercase();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_page_of_a_rule_says_what_its_findings_say() {
        let mut missing = Vec::new();
        for rule in RULES {
            for (heading, lines) in [
                ("Why it matters", rule.texts.iter().map(|t| t.why).collect::<Vec<_>>()),
                ("What to do", rule.texts.iter().flat_map(|t| t.remedy).copied().collect()),
                ("What not to do", rule.texts.iter().flat_map(|t| t.avoid).copied().collect()),
            ] {
                let page = plain(section(rule.page, heading));
                for line in lines.into_iter().filter(|l| !page.contains(&plain(l))) {
                    missing.push(format!("docs/rules/{}.md, {heading}: {line}", rule.id));
                }
            }
        }
        assert!(missing.is_empty(), "not on the page:\n{}", missing.join("\n"));
    }

    #[test]
    fn the_page_of_a_rule_has_the_table_of_its_causes() {
        for rule in RULES.iter().filter(|r| !r.causes.is_empty()) {
            let page = plain(section(rule.page, "Causes"));
            for cause in rule.causes {
                for cell in [cause.text, cause.predicts, cause.refuted_by, cause.decided_by] {
                    assert!(page.contains(&plain(cell)), "docs/rules/{}.md, Causes: {cell}", rule.id);
                }
            }
        }
    }

    #[test]
    fn texts_are_written_alike() {
        let capital = |line: &str| line.starts_with(|c: char| c.is_uppercase() || c == '`');
        for rule in RULES {
            assert!(!rule.texts.is_empty() && !rule.what.ends_with('.'), "{}", rule.id);
            for text in rule.texts {
                assert!(text.why.ends_with('.') && !text.remedy.is_empty() && !text.avoid.is_empty(), "{}", rule.id);
                for line in text.remedy {
                    assert!(capital(line), "{}: {line}", rule.id);
                    assert!(!line.ends_with('.'), "{}: {line}", rule.id);
                }
                for line in text.avoid {
                    assert!(line.starts_with("Don't ") && !line.ends_with('.'), "{}: {line}", rule.id);
                }
            }
        }
    }
}
