//! A page on an incident, for whoever was not there: HTML in one file, or Markdown.
//!
//! Input: a [`Page`]: what was found over a part of a recording, counts and rates over time, the sockets at its end. Output: text. No
//! request leaves the page: style, script and charts are in it.

mod assets;
mod chart;
mod html;
mod markdown;

use crate::aggregate::Counts;
use crate::diagnose::{Diagnosis, Incident, Severity};
use crate::model::{Gap, State};
use crate::watch::Course;

pub use html::html;
pub use markdown::markdown;

/// One look at a recording: counts, and what happened per second since the look before.
#[derive(Clone, Debug)]
pub struct Point {
    pub at_ms: u64,
    pub counts: Counts,
    pub opened: Option<f64>,
    pub failed: Option<f64>,
    pub resets: Option<f64>,
}

/// The sockets of one process, at the first look, at most, and at the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOverTime {
    pub label: String,
    pub first: u64,
    pub most: u64,
    pub last: u64,
}

/// A cell of the table of sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub text: String,
    /// What it is sorted by, where it is a number.
    pub number: Option<u64>,
}

/// What the page tells.
pub struct Page<'a> {
    pub host: &'a str,
    pub kernel: &'a str,
    pub file: &'a str,
    pub course: &'a Course,
    pub diagnosis: &'a Diagnosis,
    pub points: &'a [Point],
    /// Changes of state between the looks, the most frequent first; `None`: not there before, or gone.
    pub moves: &'a [(Option<State>, Option<State>, u64)],
    pub groups: &'a [GroupOverTime],
    /// The heads of a table of sockets, and its rows; at the last look.
    pub heads: &'a [&'static str],
    pub sockets: &'a [Vec<Cell>],
    /// Sockets that the table leaves out.
    pub left_out: usize,
    pub gaps: &'a [Gap],
    /// The command that judges the same again.
    pub again: &'a str,
}

impl Page<'_> {
    /// The incidents that are told, the worst first.
    fn incidents(&self) -> &[Incident] {
        &self.diagnosis.incidents
    }

    /// One line on all of it.
    fn verdict(&self) -> String {
        let of = |severity: Severity| self.incidents().iter().filter(|i| i.severity == severity).count();
        let parts: Vec<String> = Severity::ALL
            .into_iter()
            .rev()
            .filter(|severity| of(*severity) > 0)
            .map(|severity| format!("{} {}", of(severity), severity.key()))
            .collect();
        if parts.is_empty() { "nothing wrong found".into() } else { format!("incidents: {}", parts.join(", ")) }
    }

    /// The states that had sockets, those with the most first.
    fn states(&self) -> Vec<State> {
        let most = |state: State| self.points.iter().map(|point| point.counts.get(state)).max().unwrap_or(0);
        let mut states: Vec<State> = State::ALL.into_iter().filter(|state| most(*state) > 0).collect();
        states.sort_by_key(|state| std::cmp::Reverse(most(*state)));
        states
    }
}

/// A state that a socket came from or went to.
fn end_of_move(state: Option<State>, otherwise: &'static str) -> String {
    state.map_or_else(|| otherwise.to_owned(), |state| state.to_string())
}

/// A rate as the series of a chart.
type Rate = (&'static str, fn(&Point) -> Option<f64>);

/// The rates that are told.
const RATES: [Rate; 3] = [
    ("Connections opened per second", |point| point.opened),
    ("Connects that failed, per second", |point| point.failed),
    ("Connections cut off by a reset, per second", |point| point.resets),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::Finding;
    use crate::watch::Looks;

    fn cell(text: &str, number: Option<u64>) -> Cell {
        Cell { text: text.into(), number }
    }

    const NOON: u64 = 1_764_417_600_000;

    /// A minute with a leak in its middle, whose process has a name that is no text.
    fn with_page(test: impl FnOnce(&Page<'_>)) {
        let mut looks = Looks::default();
        let mut points = Vec::new();
        for at in 0..12u64 {
            let mut diagnosis = Diagnosis::default();
            if (3..7).contains(&at) {
                let summary = "<script>alert(1)</script> does not close | 9";
                let mut finding = Finding::new("close-wait-leak", Severity::High, 0.95, summary);
                finding.remedy = vec!["Close it".into()];
                finding.next = "tcpstate list --state close-wait".into();
                diagnosis.findings.push(Finding { id: "close-wait-leak/x".into(), ..finding });
                diagnosis.incidents.push(Incident { cause: 0, consequences: Vec::new(), severity: Severity::High });
            }
            looks.add(diagnosis, NOON + at * 5000);
            let mut counts = Counts::default();
            counts.add_many(State::CloseWait, at * 10);
            counts.add_many(State::Listen, 2);
            let known = |n: f64| (at > 0).then_some(n);
            points.push(Point {
                at_ms: NOON + at * 5000,
                counts,
                opened: known(2.0),
                failed: known(0.0),
                resets: None,
            });
        }
        let (course, diagnosis) = looks.finish();
        test(&Page {
            host: "web<3>",
            kernel: "6.18.0",
            file: "now.tcps.zst",
            course: &course,
            diagnosis: &diagnosis,
            points: &points,
            moves: &[(None, Some(State::CloseWait), 110), (Some(State::Established), Some(State::CloseWait), 3)],
            groups: &[GroupOverTime { label: "a|b(7)".into(), first: 2, most: 112, last: 112 }],
            heads: &["state", "local"],
            sockets: &[vec![cell("345ms", Some(345)), cell("<b>:80", None)]],
            left_out: 5,
            gaps: &[],
            again: "tcpstate doctor --from now.tcps.zst",
        });
    }

    #[test]
    fn nothing_of_a_recording_is_markup() {
        with_page(|page| {
            let page = html(page);
            assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
            assert!(page.contains("data-n=\"345\">345ms<"), "ages are sorted as numbers");
            for part in ["&lt;script&gt;alert(1)", "web&lt;3&gt;", "&lt;b&gt;:80"] {
                assert!(page.contains(part), "{part}");
            }
            assert!(!page.contains("<script>alert") && !page.contains("<b>:80"));
            // Nothing to load: the one address is the name space of SVG.
            let addresses: Vec<&str> = page.match_indices("http:").map(|(at, _)| &page[at..at + 26]).collect();
            assert!(addresses.iter().all(|a| *a == "http://www.w3.org/2000/svg"), "{addresses:?}");
            assert!(!page.contains("https:") && !page.contains("src=") && !page.contains("url("));
            assert!(page.contains("default-src 'none'") && !page.contains("NaN"));
        });
    }

    #[test]
    fn the_page_tells_times_findings_and_counts() {
        with_page(|page| {
            let (html, markdown) = (html(page), markdown(page));
            for part in
                ["12:00:15 to 12:00:30 (15 s), in 4 of 12 looks", "tcpstate list --state close-wait", "Close it"]
            {
                assert!(html.contains(part) && markdown.contains(part), "{part}\n{markdown}");
            }
            assert!(markdown.contains("| CLOSE_WAIT | 0 | 110 | 110 |"), "{markdown}");
            assert!(markdown.contains("| a\\|b(7) | 2 | 112 | 112 |"), "a bar ends no cell: {markdown}");
            assert!(
                markdown.contains("| ESTABLISHED | CLOSE_WAIT | 3 |")
                    && markdown.contains("| (new) | CLOSE_WAIT | 110 |")
            );
            // Every chart has its curves, and what is not known is no zero.
            assert_eq!(html.matches("<svg").count(), 1 + 1 + 2, "the time line, the states, two of three rates");
            assert!(html.contains("5 more"), "what the table leaves out is told");
        });
    }

    #[test]
    fn an_empty_recording_is_a_page_too() {
        let (course, diagnosis) = Looks::default().finish();
        let page = Page {
            host: "h",
            kernel: "k",
            file: "f",
            course: &course,
            diagnosis: &diagnosis,
            points: &[],
            moves: &[],
            groups: &[],
            heads: &[],
            sockets: &[],
            left_out: 0,
            gaps: &[],
            again: "",
        };
        assert!(html(&page).contains("nothing wrong found") && markdown(&page).contains("nothing wrong found"));
    }
}
