//! Findings over a stretch of time, in words and as JSON.
//!
//! Input: a [`Course`]. Output: what a report of the doctor adds to its findings. Not here: the findings themselves.

use serde_json::{Value as Json, json};

use crate::text;
use crate::watch::{Course, Run, Spell};

/// Times that one line lists.
const SPELLS: usize = 5;

fn timestamp(ms: u64) -> jiff::Timestamp {
    text::timestamp(ms).unwrap_or_default()
}

/// The time of a look, UTC; with its day where the stretch has several.
fn clock(course: &Course, ms: u64) -> String {
    text::time_within(ms, (course.first_ms, course.last_ms))
}

/// Widths of the table of incidents on a terminal of 80 columns; see `report`.
pub(super) fn widths(course: &Course) -> [usize; 5] {
    match clock(course, course.first_ms).len() {
        8 => [8, 25, 20, 8, 8],
        longer => [8, 22, 17, longer, longer],
    }
}

/// When it came and when it went, for a table.
pub(super) fn cells(course: &Course, id: &str) -> [String; 2] {
    let Some((first, last)) = course.of(id).and_then(|run| Some((run.spells.first()?, run.spells.last()?))) else {
        return ["-".into(), "-".into()];
    };
    let from = if course.began_before(first) { "before".into() } else { clock(course, first.first_ms) };
    let to = if course.goes_on(last) { "still".into() } else { clock(course, last.last_ms) };
    [from, to]
}

/// What the report is about.
pub(super) fn head(course: &Course, host: &str) -> String {
    let (from, to) = (course.first_ms, course.last_ms);
    let to = if text::day(from) == text::day(to) { clock(course, to) } else { text::moment(to) };
    let snapshots = text::count(course.snapshots, "snapshot", "snapshots");
    let looks = if course.looks == course.snapshots {
        String::new()
    } else {
        format!(", {}", text::count(course.looks, "look", "looks"))
    };
    format!("{host}, {} to {to} UTC: {snapshots}{looks}", text::moment(from))
}

/// When a finding was there, in how many looks, and about how many sockets.
pub(super) fn seen(course: &Course, run: &Run) -> String {
    let at = |ms| clock(course, ms);
    let one = |spell: &Spell| {
        let (first, last) = (at(spell.first_ms), at(spell.last_ms));
        match (course.began_before(spell), course.goes_on(spell)) {
            _ if spell.first_ms == spell.last_ms => format!("at {first}"),
            (true, true) => "all the time".to_owned(),
            (true, false) => format!("until {last}"),
            (false, true) => format!("since {first}"),
            (false, false) => {
                format!("{first} to {last} ({})", text::duration(spell.last_ms.saturating_sub(spell.first_ms)))
            }
        }
    };
    let mut spells: Vec<String> = run.spells.iter().take(SPELLS).map(one).collect();
    if run.spells.len() > SPELLS {
        spells.push(format!("and {} more", run.spells.len() - SPELLS));
    }
    let times = if run.spells.len() > 1 { format!("{} times: ", run.spells.len()) } else { String::new() };
    let [first, most, last] = run.sockets.map(|n| text::grouped(n as u64));
    let sockets = if first == most && most == last {
        String::new()
    } else {
        format!("; sockets: {first} at first, {most} at most, {last} at last")
    };
    let looks = format!("in {} of {}", text::grouped(run.looks), text::count(course.looks, "look", "looks"));
    format!("{times}{}, {looks}{sockets}", spells.join("; "))
}

/// The same as JSON.
#[must_use]
pub fn document(course: &Course) -> Json {
    let at = |ms: u64| timestamp(ms).to_string();
    let run = |run: &Run| {
        let spell = |spell: &Spell| {
            json!({
                "first_seen": at(spell.first_ms),
                "last_seen": at(spell.last_ms),
                "gone_at": spell.gone_ms.map(at),
            })
        };
        let [first, most, last] = run.sockets;
        json!({
            "id": run.id,
            "spells": run.spells.iter().map(spell).collect::<Vec<_>>(),
            "looks": run.looks,
            "sockets": { "first": first, "most": most, "last": last },
        })
    };
    json!({
        "since": at(course.first_ms),
        "until": at(course.last_ms),
        "snapshots": course.snapshots,
        "looks": course.looks,
        "findings": course.runs.iter().map(run).collect::<Vec<_>>(),
    })
}

/// When the incidents of a stretch began: with the first look that found their cause.
pub fn settle_times(incidents: &mut Json, course: &Course) {
    for incident in incidents.as_array_mut().into_iter().flatten() {
        let first = incident["id"].as_str().and_then(|id| course.of(id)?.spells.first());
        let first = first.filter(|spell| !course.began_before(spell));
        incident["since"] = json!(first.map(|spell| timestamp(spell.first_ms).to_string()));
        incident["exhausted_at"] = Json::Null;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{Diagnosis, Finding, Severity};
    use crate::watch::Looks;

    /// `present` says at which of the looks, 5 s apart, there is something.
    fn course(first_ms: u64, present: &[bool]) -> Course {
        let mut looks = Looks::default();
        for (at, there) in present.iter().enumerate() {
            let mut diagnosis = Diagnosis::default();
            if *there {
                let finding = Finding::new("close-wait-leak", Severity::High, 0.9, "s");
                diagnosis.findings.push(Finding { id: "a".into(), ..finding });
                diagnosis.incidents.push(crate::diagnose::Incident {
                    cause: 0,
                    consequences: Vec::new(),
                    severity: Severity::High,
                });
            }
            looks.add(diagnosis, first_ms + at as u64 * 5000);
        }
        looks.finish().0
    }

    const NOON: u64 = 1_764_417_600_000;

    fn told(present: &[bool]) -> (String, [String; 2]) {
        let course = course(NOON, present);
        (seen(&course, course.of("a").unwrap()), cells(&course, "a"))
    }

    #[test]
    fn times_are_told_as_far_as_they_were_seen() {
        let cells = |from: &str, to: &str| [from.to_owned(), to.to_owned()];
        let (no, yes) = (false, true);
        assert_eq!(told(&[yes; 3]), ("all the time, in 3 of 3 looks".into(), cells("before", "still")));
        assert_eq!(told(&[no, yes, yes]), ("since 12:00:05, in 2 of 3 looks".into(), cells("12:00:05", "still")));
        assert_eq!(
            told(&[no, yes, yes, no]),
            ("12:00:05 to 12:00:10 (5.0 s), in 2 of 4 looks".into(), cells("12:00:05", "12:00:10"))
        );
        let (text, _) = told(&[yes, no, no, no, no, yes, no, no, no, no, yes]);
        assert_eq!(text, "3 times: at 12:00:00; at 12:00:25; at 12:00:50, in 3 of 11 looks");
        let days = course(NOON, &[no, yes]);
        assert_eq!(head(&days, "web3"), "web3, 2025-11-29 12:00:00 to 12:00:05 UTC: 0 snapshots, 2 looks");
        let over_midnight = course(NOON + 43_195_000, &[no, yes]);
        assert!(head(&over_midnight, "web3").contains("2025-11-29 23:59:55 to 2025-11-30 00:00:00 UTC"));
        assert_eq!(widths(&over_midnight), [8, 22, 17, 11, 11]);
        for widths in [widths(&days), widths(&over_midnight)] {
            assert_eq!(widths.iter().sum::<usize>() + 3 + 4 * 2, 80);
        }
    }

    #[test]
    fn json_has_every_spell() {
        let json = document(&course(NOON, &[false, true, true, false]));
        assert_eq!(json["findings"][0]["spells"][0]["first_seen"], "2025-11-29T12:00:05Z");
        assert_eq!(json["findings"][0]["spells"][0]["gone_at"], "2025-11-29T12:00:15Z");
        let mut incidents = json!([{ "id": "a", "since": null, "exhausted_at": "x" }]);
        settle_times(&mut incidents, &course(NOON, &[false, true]));
        assert_eq!(incidents, json!([{ "id": "a", "since": "2025-11-29T12:00:05Z", "exhausted_at": null }]));
    }
}
