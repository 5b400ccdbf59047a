//! The last lines of a report: what all of it comes to, and which rules could not be judged.
//!
//! Comes in: a diagnosis and how it was made. Goes out: sentences without a layout.

use std::collections::BTreeSet;

use crate::diagnose::{Diagnosis, RULES, Samples};
use crate::text;

/// Lines about rules that were not judged, unless everything is asked for.
const FIRST_REASONS: usize = 3;

/// How the rules were run.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    pub sockets: usize,
    pub rules: usize,
    /// Whether there was one sample only.
    pub one_look: bool,
    /// Whether the same host can be looked at again.
    pub may_look_again: bool,
    /// Whether it is what was so at the end of a stretch of time.
    pub at_end: bool,
}

/// What is found, of how many rules and sockets. `shown` incidents are above this line, `below` are not shown because they are
/// less severe than `at_least`.
pub(super) fn verdict(diagnosis: &Diagnosis, ran: Ran, shown: usize, below: usize, at_least: &str) -> String {
    // A rule may have two reasons.
    let unjudged: BTreeSet<&str> = diagnosis.not_checked.iter().map(|(rule, _)| *rule).collect();
    let judged = ran.rules.saturating_sub(unjudged.len());
    let found = match (shown, below) {
        (0, 0) if judged == 0 => "nothing was judged".to_owned(),
        (0, 0) => nothing(diagnosis, ran, &unjudged),
        (0, n) => format!("nothing at or above {at_least}; {n} below it"),
        (n, 0) => text::count(n as u64, "incident", "incidents"),
        (n, h) => format!("{}, {h} below {at_least}", text::count(n as u64, "incident", "incidents")),
    };
    let rules = text::count(ran.rules as u64, "rule", "rules");
    let sockets = text::count(ran.sockets as u64, "socket", "sockets");
    let end = if ran.at_end { " at the end" } else { "" };
    format!("{found} ({judged} of {rules} judged {sockets}{end})")
}

/// One look that finds nothing is no all-clear while rules wait for a second one.
fn nothing(diagnosis: &Diagnosis, ran: Ran, unjudged: &BTreeSet<&str>) -> String {
    let suspects = |id: &str| diagnosis.wants_second.iter().any(|(rule, _)| *rule == id);
    let takes_two = |id: &str| RULES.iter().any(|rule| rule.id == id && rule.samples == Samples::Two);
    let waiting = unjudged.iter().filter(|id| suspects(id) || takes_two(id)).count();
    if !ran.one_look || waiting == 0 {
        return "nothing wrong found".to_owned();
    }
    let suspecting = unjudged.iter().filter(|id| suspects(id)).count();
    let need = text::count(waiting as u64, "rule needs two", "rules need two");
    let suspect = match suspecting {
        0 => String::new(),
        n => format!(", {} something", text::count(n as u64, "of them suspects", "of them suspect")),
    };
    let again = if ran.may_look_again { ": run `tcpstate doctor` without --once" } else { "" };
    format!("nothing wrong found in one look; {need}{suspect}{again}")
}

/// Why rules could not be judged, one reason a line. What a rule suspects comes first; without `all` the rest is counted.
pub(super) fn not_checked(diagnosis: &Diagnosis, all: bool) -> Vec<String> {
    // Rules that were not judged for the same reason share a line.
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (rule, why) in &diagnosis.not_checked {
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, rules)) => rules.push(rule),
            None => reasons.push((why, vec![rule])),
        }
    }
    let suspects = |rules: &[&str]| rules.iter().any(|id| diagnosis.wants_second.iter().any(|(rule, _)| rule == id));
    reasons.sort_by_key(|(_, rules)| !suspects(rules));
    let line = |(why, rules): &(&str, Vec<&str>)| format!("{}: {why}", rules.join(", "));
    if all || reasons.len() <= FIRST_REASONS {
        return reasons.iter().map(line).collect();
    }
    let (first, rest) = reasons.split_at(FIRST_REASONS - 1);
    let others: usize = rest.iter().map(|(_, rules)| rules.len()).sum();
    let more = text::count(others as u64, "more rule", "more rules");
    let last = format!("{more}, for {} reasons: add --verbose", rest.len());
    first.iter().map(line).chain([last]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnosis(suspected: &[(&'static str, &str)], plain: &[(&'static str, &str)]) -> Diagnosis {
        let own = |(rule, why): &(&'static str, &str)| (*rule, (*why).to_owned());
        Diagnosis {
            not_checked: plain.iter().chain(suspected).map(own).collect(),
            wants_second: suspected.iter().map(own).collect(),
            ..Diagnosis::default()
        }
    }

    const RAN: Ran = Ran { sockets: 1, rules: 40, one_look: true, may_look_again: true, at_end: false };

    #[test]
    fn one_look_is_no_all_clear_while_rules_wait_for_a_second() {
        let says = |diagnosis: &Diagnosis, ran| verdict(diagnosis, ran, 0, 0, "info");
        let quiet = Diagnosis::default();
        assert_eq!(says(&quiet, RAN), "nothing wrong found (40 of 40 rules judged 1 socket)");
        let waits = diagnosis(&[("close-wait-leak", "187 rows")], &[("abort-storm", "two"), ("abort-storm", "trace")]);
        assert_eq!(
            says(&waits, RAN),
            "nothing wrong found in one look; 2 rules need two, 1 of them suspects something: \
             run `tcpstate doctor` without --once (38 of 40 rules judged 1 socket)"
        );
        let capture = Ran { may_look_again: false, sockets: 5000, ..RAN };
        assert_eq!(
            says(&waits, capture),
            "nothing wrong found in one look; 2 rules need two, 1 of them suspects something \
             (38 of 40 rules judged 5,000 sockets)"
        );
        let stretch = Ran { one_look: false, at_end: true, ..RAN };
        assert_eq!(says(&waits, stretch), "nothing wrong found (38 of 40 rules judged 1 socket at the end)");
        // What lacks a right would not be judged by a second look either.
        let lacks = diagnosis(&[], &[("orphan-limit", "no permission")]);
        assert!(says(&lacks, RAN).starts_with("nothing wrong found (39"));
        let only = Ran { rules: 1, ..RAN };
        assert_eq!(says(&lacks, only), "nothing was judged (0 of 1 rule judged 1 socket)");
        assert_eq!(verdict(&waits, RAN, 2, 1, "high"), "2 incidents, 1 below high (38 of 40 rules judged 1 socket)");
    }

    #[test]
    fn of_many_reasons_those_with_a_suspicion_come_first_and_the_rest_is_counted() {
        let plain = [("a", "one"), ("b", "one"), ("c", "two"), ("d", "three")];
        let many = diagnosis(&[("close-wait-leak", "187 rows wait")], &plain);
        assert_eq!(
            not_checked(&many, false),
            ["close-wait-leak: 187 rows wait", "a, b: one", "2 more rules, for 2 reasons: add --verbose"]
        );
        assert_eq!(not_checked(&many, true).len(), 4);
        assert_eq!(not_checked(&diagnosis(&[], &plain), false).len(), 3);
    }
}
