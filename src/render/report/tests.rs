//! Reports, and what they leave out.

use super::*;
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};

fn finding(severity: Severity) -> Finding {
    Finding::new("close-wait-leak", severity, 0.95, "java (812) does not close 250 connections | really")
        .because("growth in two samples")
        .evidence("count", Evidence::Count(250))
        .evidence("oldest_age_ms", Evidence::Millis(250_000))
        .evidence("fd_share_percent", Evidence::Percent(24.414))
        .why("The peer sent FIN. The kernel waits for close() with no timer at all.")
        .remedy(["close on EOF and on error", "restart it"])
        .avoid(["Don't look for a sysctl"])
        .next("tcpstate list state close-wait and pid = 812")
}

#[test]
fn a_report_fits_the_terminal_and_says_everything() {
    let mut long = finding(Severity::Critical);
    long.summary = "a sentence that says ".repeat(8) + "everything";
    long.next = format!("tcpstate list {}", "state close-wait or ".repeat(5) + "state last-ack");
    let next = long.next.clone();
    let mut follows = finding(Severity::Warning);
    follows.rule = "fd-exhaustion";
    follows.summary = "java (812) has no descriptor left".into();
    let alone = |cause| Incident { cause, consequences: vec![], severity: Severity::Critical };
    let diagnosis = Diagnosis {
        findings: vec![finding(Severity::High), long, follows],
        incidents: vec![Incident { consequences: vec![2], ..alone(1) }, alone(0)],
        not_checked: vec![
            ("abort-storm", "needs a second sample".into()),
            ("orphan-limit", "no permission".into()),
            ("syn-flood", "needs a second sample".into()),
        ],
        ..Diagnosis::default()
    };
    let ran = Ran { sockets: 5000, rules: 36, one_look: true, may_look_again: true, at_end: false };
    let shown = Shown { at_least: Severity::Info, ran, verbose: false, course: None };
    let mut out = String::new();
    write_report(&mut out, &diagnosis, shown, Style { color: false, width: Some(80) });
    for part in [
        "   SEVERITY  WHAT",
        "\n1  critical  connection leak",
        "\n   warning   └ few descriptors left",
        "\n2  critical  connection leak",
        // The heading is as bad as the worst of its incident.
        "\n2  CRITICAL  java",
        "  because of this\n            warning: java (812) has no descriptor left\n",
        "oldest age 4 min 10 s",
        "fd share 24.41 %",
        "1. close on EOF",
        "2. restart",
        "  don't     look for",
        "33 of 36 rules judged 5,000 sockets",
        "not checked: abort-storm, syn-flood: needs a second sample",
        "not checked: orphan-limit: no permission",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(out.contains(&next), "a command stays in one piece: {out}");
    let fits = |l: &str| l.chars().count() <= 80 || l.contains(&next);
    assert!(out.lines().all(|l| fits(l) && l.trim_end() == l), "{out}");
    assert!(out.contains("\n             sentence"), "under itself: {out}");
    let mut raw = String::new();
    write_report(&mut raw, &diagnosis, Shown { verbose: true, ..shown }, Style::PLAIN);
    assert!(raw.contains("oldest_age_ms 250000 (4 min 10 s)"), "{raw}");
}

#[test]
fn what_could_not_be_seen_is_short_and_comes_last_unless_all_is_asked_for() {
    let mut unseen = finding(Severity::Info);
    unseen.rule = "unattributed-sockets";
    unseen.summary = "no process could be named for 2 of 2 sockets".into();
    let alone = |cause| Incident { cause, consequences: vec![], severity: Severity::Info };
    let diagnosis = Diagnosis {
        findings: vec![unseen, finding(Severity::Info)],
        incidents: vec![alone(0), alone(1)],
        ..Diagnosis::default()
    };
    let ran = Ran { sockets: 2, rules: 2, one_look: false, may_look_again: true, at_end: false };
    let shown = Shown { at_least: Severity::Info, ran, verbose: false, course: None };
    let told = |verbose| {
        let mut out = String::new();
        write_report(&mut out, &diagnosis, Shown { verbose, ..shown }, Style::PLAIN);
        out
    };
    let (short, full) = (told(false), told(true));
    let last = short.split("\n2  ").last().unwrap();
    assert!(last.starts_with("INFO  no process could be named"), "{short}");
    assert!(last.contains("  do        close on EOF") && last.contains("--verbose"), "{short}");
    assert!(!last.contains("certainty") && !last.contains("250"), "{short}");
    let nothing =
        Diagnosis { not_checked: vec![("reset-source", "needs a second sample".into())], ..Diagnosis::default() };
    let mut out = String::new();
    write_report(&mut out, &nothing, Shown { ran: Ran { rules: 1, ..ran }, ..shown }, Style::PLAIN);
    assert!(out.starts_with("nothing was judged (0 of 1 rule"), "{out}");
    assert!(full.split("\n2  ").last().unwrap().contains("certainty"), "{full}");
}

#[test]
fn a_brief_tells_what_hurts_and_then_its_cause() {
    let of = |severity, summary: &str| Finding { summary: summary.into(), ..finding(severity) };
    let findings = vec![
        of(Severity::High, "nobody accepts"),
        of(Severity::Info, "few descriptors are left"),
        of(Severity::Info, "it drops"),
    ];
    let mut diagnosis = Diagnosis { findings, ..Diagnosis::default() };
    let mut brief = |cause, consequences: Vec<usize>| {
        diagnosis.incidents = vec![Incident { cause, consequences, severity: Severity::High }];
        let mut out = String::new();
        write_brief(&mut out, &diagnosis, &diagnosis.incidents.iter().collect::<Vec<_>>(), Style::PLAIN);
        out.lines().skip(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let last = "run `tcpstate doctor` for evidence and remedies";
    assert_eq!(
        brief(1, vec![0, 2]),
        ["high     nobody accepts", "info     few descriptors are left; 1 more finding belongs to it", last]
    );
    assert_eq!(brief(0, vec![1, 2]), ["high     nobody accepts; 2 more findings belong to it", last]);
}

#[test]
fn of_many_causes_the_first_three_are_shown_and_the_rest_is_counted() {
    const fn cause(id: &'static str, text: &'static str) -> Cause {
        Cause { id, text, predicts: "", refuted_by: "", decided_by: "a stack trace of the thread that should accept" }
    }
    static CAUSES: [Cause; 9] = [
        cause("a", "the accept loop is stuck"),
        cause("b", "the process is stopped"),
        cause("c", "the process is frozen by its cgroup"),
        cause("d", "a limit of the program itself"),
        cause("e", "no descriptors are left"),
        cause("f", "the workers are busy"),
        cause("g", "the program computes"),
        cause("h", "the backlog is small"),
        cause("i", "a burst"),
    ];
    let mut many = finding(Severity::High);
    let mut open = many.clone();
    open.causes = Weighed::of(&CAUSES, |_| Weight::Possible(1.0));
    many.causes = Weighed::of(&CAUSES, |cause| match cause.id {
        "a" => Weight::Possible(3.0),
        "b" | "c" | "d" => Weight::Possible(1.0),
        _ => Weight::Refuted("a fact that is long enough to reach over the end of the line".into()),
    });
    let (mut terminal, mut pipe) = (String::new(), String::new());
    let incident = Incident { cause: 0, consequences: vec![], severity: Severity::High };
    let diagnosis = Diagnosis { findings: vec![many], incidents: vec![incident], ..Diagnosis::default() };
    let ran = Ran { sockets: 1, rules: 1, one_look: false, may_look_again: true, at_end: false };
    let shown = Shown { at_least: Severity::Info, ran, verbose: false, course: None };
    write_report(&mut terminal, &diagnosis, shown, Style { color: false, width: Some(80) });
    write_report(&mut pipe, &diagnosis, shown, Style::PLAIN);
    for (text, width) in [(&terminal, 80), (&pipe, 100)] {
        for part in [
            "  one of    the accept loop is stuck (50 %)\n              decided by a stack",
            "            and 1 more: tcpstate explain close-wait-leak\n",
            "  ruled out no descriptors are left: a fact",
            "            and 2 more: tcpstate explain close-wait-leak\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("the backlog is small") && text.lines().all(|l| l.len() <= width), "{text}");
    }
    write_report(&mut pipe, &diagnosis, Shown { verbose: true, ..shown }, Style::PLAIN);
    assert!(pipe.contains("the backlog is small") && pipe.contains("a burst"), "{pipe}");
    assert!(pipe.contains("certainty high (0.95) that it happens, the cause is open: growth"), "{pipe}");
    // Where none stands out, shares say nothing.
    let mut text = String::new();
    write_report(&mut text, &Diagnosis { findings: vec![open], ..diagnosis }, shown, Style::PLAIN);
    assert!(
        text.contains("  cause     not known, one of 9: the accept loop is stuck; the process is stopped;"),
        "{text}"
    );
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("; and 4 more: tcpstate explain close-wait-leak to decide a stack trace"), "{text}");
    assert_eq!(text.matches("a stack trace").count(), 1, "{text}");
    assert!(!text.contains(" %)"), "{text}");
}
