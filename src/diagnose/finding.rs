//! A finding: what is wrong, with whom, how it is known, what to do.
//!
//! Comes in: what a rule worked out. Goes out: one value that every output draws. Never here: how a rule decides.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::diagnose::hypothesis::Weighed;
use crate::diagnose::measure::Measure;
use crate::diagnose::sockets::Sockets;
use crate::model::{Endpoint, Inode, NetnsId, Socket, State, StateSet};

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
    pub const fn meaning(self) -> &'static str {
        match self {
            Severity::Info => "an explanation, no action needed",
            Severity::Warning => "it will matter",
            Severity::High => "users are affected, or will be shortly",
            Severity::Critical => "a hard limit is reached and operations fail now",
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

/// The words for a confidence, each with the least that it is used for.
pub const CONFIDENCE_WORDS: [(&str, f64); 4] = [("certain", 0.97), ("high", 0.85), ("medium", 0.6), ("low", 0.0)];

/// The word for a confidence between 0 and 1.
#[must_use]
pub fn confidence_word(confidence: f64) -> &'static str {
    CONFIDENCE_WORDS.iter().find(|(_, least)| confidence >= *least).map_or("low", |(word, _)| word)
}

/// Whom a finding is about; what does not apply is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
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

/// States in which a process usually holds the socket. In the others `close()` was called, or `accept()` was not.
const HELD: StateSet = StateSet::of(&[
    State::Listen,
    State::SynSent,
    State::Established,
    State::CloseWait,
    State::BoundInactive,
    State::Close,
]);

/// Which sockets something is about; what does not narrow the selection is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rows {
    pub states: Option<StateSet>,
    pub netns: Option<NetnsId>,
    /// The listener and the connections to it.
    pub listener: Option<Endpoint>,
    /// Port 0 is any port.
    pub destination: Option<Endpoint>,
    pub source: Option<IpAddr>,
    /// Held by one of these.
    pub pids: Vec<u32>,
}

impl Rows {
    /// Every socket.
    #[must_use]
    pub fn is_all(&self) -> bool {
        Rows { netns: None, ..self.clone() } == Rows::default()
    }

    /// Whether a socket with these holders is one of them.
    #[must_use]
    pub fn includes(&self, socket: &Socket, mut holders: impl Iterator<Item = u32>) -> bool {
        let same = |a: IpAddr, b: IpAddr| a.to_canonical() == b.to_canonical();
        self.states.is_none_or(|s| s.contains(socket.state))
            && self.netns.is_none_or(|n| Some(n) == socket.netns)
            && self.listener.is_none_or(|at| {
                at.port == socket.local.port && (at.addr.is_unspecified() || same(at.addr, socket.local.addr))
            })
            && self
                .destination
                .is_none_or(|to| same(to.addr, socket.peer.addr) && (to.port == 0 || to.port == socket.peer.port))
            && self.source.is_none_or(|from| same(from, socket.local.addr))
            && (self.pids.is_empty() || holders.any(|pid| self.pids.contains(&pid)))
    }

    /// The same in the filter language, one part per fact.
    #[must_use]
    pub fn filter(&self, several_namespaces: bool) -> Vec<String> {
        let mut parts = Vec::new();
        parts.extend(self.states.map(|s| format!("state {s}")));
        parts
            .extend(self.listener.map(|at| {
                if at.addr.is_unspecified() { format!("sport = :{}", at.port) } else { format!("src {at}") }
            }));
        parts.extend(self.destination.map(|to| match to.port {
            0 => format!("dst {}", to.addr),
            _ => format!("dst {to}"),
        }));
        parts.extend(self.source.map(|from| format!("src {from}")));
        let pids: Vec<String> = self.pids.iter().map(|pid| format!("pid = {pid}")).collect();
        match &pids[..] {
            [] => {}
            [one] => parts.push(one.clone()),
            several => parts.push(format!("({})", several.join(" or "))),
        }
        parts.extend(self.netns.filter(|_| several_namespaces).map(|inode| format!("netns = {inode}")));
        parts
    }
}

/// One number or word of evidence.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
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

/// The most frequent of some names, each with its number: `10.0.0.9:443 (12)`.
#[must_use]
pub fn most_frequent(names: impl Iterator<Item = String>, n: usize) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    let mut ranked: Vec<(String, usize)> = counts.into_iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    ranked.into_iter().take(n).map(|(name, count)| format!("{name} ({count})")).collect()
}

/// What kind of advice a program-specific remedy may add (see `diagnose::programs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
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

/// The words that do not depend on what was found. The page of the rule has each of these lines too, under "Why it
/// matters", "What to do" and "What not to do"; a test compares them.
///
/// `{name}` is filled in by [`Finding::fill`]; the page has `NAME` in its place. Lines begin with a capital letter and
/// have no full stop at their end.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Two plain sentences from the TCP state machine.
    pub why: &'static str,
    /// Every step that a finding may show: application first, sysctl last.
    pub remedy: &'static [&'static str],
    /// Each begins with "Don't".
    pub avoid: &'static [&'static str],
}

/// One finding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// The same in every sample and run as long as the fault stays (see `diagnose::identity`); empty before the
    /// rules have all been run.
    pub id: String,
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
    /// States of the sockets it is about; `None` when the state does not matter.
    pub states: Option<StateSet>,
    /// The sockets it is about; none where it is about a setting, a counter, or what is gone.
    pub sockets: Sockets,
    /// What may have caused it, when the rule has several causes.
    pub causes: Weighed,
    /// How long it has lasted, in milliseconds.
    pub lasting_ms: Option<Measure<u64>>,
    /// When what runs out is used up, in milliseconds from now.
    pub exhausted_in_ms: Option<Measure<u64>>,
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
    pub inspect: Vec<(u32, Vec<Inode>)>,
    /// The services that those at fault were seen waiting for.
    pub waits_for: Vec<Endpoint>,
}

impl Finding {
    /// An empty finding of a rule.
    #[must_use]
    pub fn new(rule: &'static str, severity: Severity, confidence: f64, summary: impl Into<String>) -> Finding {
        Finding {
            id: String::new(),
            rule,
            severity,
            confidence,
            confidence_reason: String::new(),
            summary: summary.into(),
            subject: Subject::default(),
            states: None,
            sockets: Sockets::default(),
            causes: Weighed::default(),
            lasting_ms: None,
            exhausted_in_ms: None,
            evidence: Vec::new(),
            why: String::new(),
            remedy: Vec::new(),
            avoid: Vec::new(),
            next: String::new(),
            topic: None,
            inspect: Vec::new(),
            waits_for: Vec::new(),
        }
    }

    /// Names the sockets it is about.
    #[must_use]
    pub fn about<'s>(mut self, rows: impl IntoIterator<Item = &'s Socket>) -> Finding {
        self.sockets = Sockets::of(rows);
        self
    }

    /// What its sockets have in common. Others may have it too: [`Finding::sockets`] are the very ones.
    #[must_use]
    pub fn rows(&self) -> Rows {
        let subject = &self.subject;
        let Subject { netns, listener, destination, source, .. } = *subject;
        // The listener or the destination finds what no process holds any more, or none yet.
        let held = self.states.is_some_and(|s| s.intersection(HELD.complement()) == StateSet::EMPTY);
        let by_process = listener.is_none() && (destination.is_none() || held);
        let pids = match &subject.pids[..] {
            _ if !by_process => Vec::new(),
            [] => subject.pid.into_iter().collect(),
            pids => pids.to_vec(),
        };
        Rows { states: self.states, netns, listener, destination, source, pids }
    }

    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Finding {
        self.confidence_reason = reason.into();
        self
    }

    #[must_use]
    pub fn causes(mut self, causes: Weighed) -> Finding {
        self.causes = causes;
        self
    }

    #[must_use]
    pub fn lasting(mut self, lasting_ms: Option<Measure<u64>>) -> Finding {
        self.lasting_ms = lasting_ms;
        self
    }

    #[must_use]
    pub fn exhausted_in(mut self, exhausted_in_ms: Option<Measure<u64>>) -> Finding {
        self.exhausted_in_ms = exhausted_in_ms;
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

    /// Evidence that only some findings have.
    #[must_use]
    pub fn evidence_if(mut self, name: &'static str, value: Option<Evidence>) -> Finding {
        self.evidence.extend(value.map(|value| (name, value)));
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

    /// The words of a rule, in place of those that it has.
    #[must_use]
    pub fn text(mut self, text: &Text) -> Finding {
        text.why.clone_into(&mut self.why);
        self.avoid = text.avoid.iter().map(|line| (*line).to_owned()).collect();
        self.steps(text.remedy.iter().copied())
    }

    /// Of the steps of the text those that fit here.
    #[must_use]
    pub fn steps<'a>(mut self, steps: impl IntoIterator<Item = &'a str>) -> Finding {
        self.remedy = steps.into_iter().map(str::to_owned).collect();
        self
    }

    /// A step before all others, if there is one.
    #[must_use]
    pub fn first(mut self, step: Option<String>) -> Finding {
        if let Some(step) = step {
            self.remedy.insert(0, step);
        }
        self
    }

    /// Puts a value in the place of `{name}`, wherever the text has it.
    #[must_use]
    pub fn fill(mut self, name: &str, value: impl std::fmt::Display) -> Finding {
        let (hole, value) = (format!("{{{name}}}"), value.to_string());
        for line in self.remedy.iter_mut().chain(&mut self.avoid).chain([&mut self.why]) {
            if line.contains(&hole) {
                *line = line.replace(&hole, &value);
            }
        }
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
        self.inspect.push((pid, sockets.iter().filter_map(|s| s.inode).collect()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_selects_the_sockets_it_is_about() {
        let at = |text: &str| {
            let at: std::net::SocketAddr = text.parse().unwrap();
            Endpoint::new(at.ip(), at.port())
        };
        let subject = |s: Subject| Finding::new("r", Severity::Info, 1.0, "s").subject(s);
        let socket = |state, local, peer| Socket { state, local: at(local), peer: at(peer), ..Socket::default() };
        let leak = Finding {
            states: Some(StateSet::of(&[State::CloseWait])),
            ..subject(Subject { pid: Some(812), destination: Some(at("10.0.0.9:443")), ..Subject::default() })
        };
        let rows = leak.rows();
        assert_eq!(rows.filter(true).join(" and "), "state close-wait and dst 10.0.0.9:443 and pid = 812");
        let row = socket(State::CloseWait, "10.0.0.1:5000", "[::ffff:10.0.0.9]:443");
        assert!(rows.includes(&row, [1, 812].into_iter()) && !rows.includes(&row, [1].into_iter()));
        assert!(!rows.includes(&Socket { state: State::Close, ..row.clone() }, [812].into_iter()));
        assert!(!rows.includes(&Socket { peer: at("10.0.0.9:444"), ..row }, [812].into_iter()));
        // The same destination in a state that no process holds.
        let churn = Finding { states: Some(StateSet::of(&[State::TimeWait])), ..leak };
        assert_eq!(churn.rows().filter(true).join(" and "), "state time-wait and dst 10.0.0.9:443");
        // A queue: the listener and what waits in it, which nobody holds yet.
        let queue = subject(Subject {
            pid: Some(1),
            netns: NetnsId::new(7),
            listener: Some(at("0.0.0.0:80")),
            ..Subject::default()
        });
        assert_eq!(queue.rows().filter(false), ["sport = :80"]);
        assert_eq!(queue.rows().filter(true), ["sport = :80", "netns = 7"]);
        let waiting = Socket { netns: NetnsId::new(7), ..socket(State::Established, "10.0.0.1:80", "10.0.0.9:5000") };
        assert!(queue.rows().includes(&waiting, std::iter::empty()));
        assert!(!queue.rows().includes(&Socket { netns: NetnsId::new(8), ..waiting }, std::iter::empty()));
        // Any port of an address, one address of a listener, several processes, nothing at all.
        let peer = subject(Subject { destination: Some(at("[2001:db8::1]:0")), ..Subject::default() });
        assert_eq!(peer.rows().filter(true), ["dst 2001:db8::1"]);
        let one = subject(Subject { listener: Some(at("[::1]:80")), ..Subject::default() });
        assert_eq!(one.rows().filter(true), ["src [::1]:80"]);
        let both = subject(Subject { pids: vec![1, 2], pid: Some(1), ..Subject::default() });
        assert_eq!(both.rows().filter(true), ["(pid = 1 or pid = 2)"]);
        assert!(
            subject(Subject { object: Some("x".into()), netns: NetnsId::new(7), ..Subject::default() }).rows().is_all()
        );
        for finding in [&churn, &queue, &peer, &one, &both] {
            let text = finding.rows().filter(true).join(" and ");
            crate::filter::parse(&text, &crate::filter::NoResolver).unwrap_or_else(|e| panic!("{text}: {e}"));
        }
    }
}
