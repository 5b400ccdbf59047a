//! A finding: what is wrong, with whom, how it is known, what to do.
//!
//! Comes in: what a rule worked out. Goes out: one value that every output draws. Never here: how a rule decides.

use crate::model::{Endpoint, NetnsId, Socket};

/// How bad it is (diagnosis 0.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// An explanation; no action needed.
    Info,
    /// It will matter.
    Warning,
    /// Users are, or shortly will be, affected.
    High,
    /// A hard kernel limit is reached: operations fail now.
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 4] = [Severity::Info, Severity::Warning, Severity::High, Severity::Critical];

    /// The key on the command line and in JSON.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Severity> {
        let word = word.trim().to_ascii_lowercase();
        let word = match word.as_str() {
            "warn" => "warning",
            "crit" => "critical",
            other => other,
        };
        Severity::ALL.into_iter().find(|s| s.key() == word)
    }
}

/// The words for a confidence between 0 and 1.
#[must_use]
pub fn confidence_word(confidence: f64) -> &'static str {
    match confidence {
        c if c >= 0.97 => "certain",
        c if c >= 0.85 => "high",
        c if c >= 0.6 => "medium",
        _ => "low",
    }
}

/// Whom a finding is about; what does not apply is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    pub netns: Option<NetnsId>,
    /// The process to look at first.
    pub pid: Option<u32>,
    pub comm: Option<String>,
    /// Every process concerned, when there are several, sorted.
    pub pids: Vec<u32>,
    pub uid: Option<u32>,
    pub unit: Option<String>,
    /// By its name, else by its id.
    pub container: Option<String>,
    /// By namespace and name, else by its uid.
    pub pod: Option<String>,
    pub listener: Option<Endpoint>,
    pub destination: Option<Endpoint>,
    pub source: Option<std::net::IpAddr>,
    /// A sysctl or another object that is none of the above.
    pub object: Option<String>,
}

/// One number or word of evidence.
#[derive(Clone, Debug, PartialEq)]
pub enum Evidence {
    Count(u64),
    Bytes(u64),
    Millis(u64),
    /// Events per second.
    PerSecond(f64),
    /// 0 to 100, or above.
    Percent(f64),
    Text(String),
    List(Vec<String>),
    /// Looked for and not to be had: printed as `?`, `null` in JSON.
    Unknown,
}

impl Evidence {
    /// A count that may not be known.
    #[must_use]
    pub fn count(value: Option<u64>) -> Evidence {
        value.map_or(Evidence::Unknown, Evidence::Count)
    }

    /// A duration that may not be known.
    #[must_use]
    pub fn millis(value: Option<u64>) -> Evidence {
        value.map_or(Evidence::Unknown, Evidence::Millis)
    }
}

/// What kind of advice a program-specific remedy may add (see [`crate::diagnose::programs`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// On connections that the program opened.
    CloseWait,
    /// On connections that it accepted.
    CloseWaitServer,
    TimeWaitClient,
    TimeWaitServer,
    AcceptQueue,
    Keepalive,
    PortExhaustion,
}

/// One finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Id of the rule: the name of its page.
    pub rule: &'static str,
    pub severity: Severity,
    /// 0 to 1.
    pub confidence: f64,
    /// Why the confidence is what it is, in a few words.
    pub confidence_reason: String,
    /// One sentence: what is wrong, with whom, in numbers. No full stop.
    pub summary: String,
    pub subject: Subject,
    /// Names are snake_case with units, in the order of their importance.
    pub evidence: Vec<(&'static str, Evidence)>,
    /// Two plain sentences from the TCP state machine.
    pub why: String,
    /// Steps, application first, sysctl last.
    pub remedy: Vec<String>,
    /// What not to do.
    pub avoid: Vec<String>,
    /// The next command to run.
    pub next: String,
    /// Which advice of the program at fault fits.
    pub topic: Option<Topic>,
    /// Processes whose doing with these sockets is worth a look, and the inodes in question.
    pub inspect: Vec<(u32, Vec<u64>)>,
}

impl Finding {
    /// An empty finding of a rule.
    #[must_use]
    pub fn new(rule: &'static str, severity: Severity, confidence: f64, summary: impl Into<String>) -> Finding {
        Finding {
            rule,
            severity,
            confidence,
            confidence_reason: String::new(),
            summary: summary.into(),
            subject: Subject::default(),
            evidence: Vec::new(),
            why: String::new(),
            remedy: Vec::new(),
            avoid: Vec::new(),
            next: String::new(),
            topic: None,
            inspect: Vec::new(),
        }
    }

    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Finding {
        self.confidence_reason = reason.into();
        self
    }

    #[must_use]
    pub fn subject(mut self, subject: Subject) -> Finding {
        self.subject = subject;
        self
    }

    #[must_use]
    pub fn evidence(mut self, name: &'static str, value: Evidence) -> Finding {
        self.evidence.push((name, value));
        self
    }

    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Finding {
        self.why = why.into();
        self
    }

    #[must_use]
    pub fn remedy<S: Into<String>>(mut self, steps: impl IntoIterator<Item = S>) -> Finding {
        self.remedy.extend(steps.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn avoid<S: Into<String>>(mut self, steps: impl IntoIterator<Item = S>) -> Finding {
        self.avoid.extend(steps.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn next(mut self, command: impl Into<String>) -> Finding {
        self.next = command.into();
        self
    }

    #[must_use]
    pub fn topic(mut self, topic: Topic) -> Finding {
        self.topic = Some(topic);
        self
    }

    /// Asks for a look at what the process does with these sockets.
    #[must_use]
    pub fn inspect(mut self, pid: u32, sockets: &[&Socket]) -> Finding {
        self.inspect.push((pid, sockets.iter().map(|s| s.inode).filter(|i| *i != 0).collect()));
        self
    }
}
