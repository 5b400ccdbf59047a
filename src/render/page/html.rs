//! The page as HTML.
//!
//! Input: a [`Page`]. Output: one file. Every text of the recording is escaped.
//!
//! Circle with `chart`: a chart escapes its names as the page does.

use std::fmt::Write;

use super::assets::{SCRIPT, STYLE};
use super::chart::{self, Bars, Curve};
use super::{Page, RATES, end_of_move};
use crate::diagnose::finding::confidence_word;
use crate::diagnose::{self, Finding, Incident};
use crate::model::State;
use crate::render::{course, gap, report, sanitize};
use crate::text;

/// Curves in one chart.
const CURVES: usize = 8;

/// Text as HTML, in attributes too; what could move or reorder text is made visible.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in sanitize::clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// Writes the page.
#[must_use]
pub fn html(page: &Page<'_>) -> String {
    let mut out = String::new();
    let (host, head) = (escape(page.host), escape(&course::head(page.course, page.host)));
    // Writing into a String cannot fail.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n\
         <title>TCP on {host}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>TCP on {host}</h1>\n<p>{head}</p>\n<p><b>{}</b></p>\n",
        escape(&page.verdict())
    );
    findings(&mut out, page);
    over_time(&mut out, page);
    moves(&mut out, page);
    groups(&mut out, page);
    sockets(&mut out, page);
    gaps(&mut out, page);
    let _ = write!(
        out,
        "<p class=\"dim\">tcpstate {}, from {}; kernel {}. The same again: <code>{}</code></p>\n<script>{SCRIPT}</script>\n\
         </body>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
        escape(page.file),
        escape(page.kernel),
        escape(page.again)
    );
    out
}

fn findings(out: &mut String, page: &Page<'_>) {
    let (course, findings) = (page.course, &page.diagnosis.findings);
    let line = |finding: &Finding| {
        let spells = course.of(&finding.id).map_or(&[][..], |run| &run.spells);
        let spells = spells.iter().map(|spell| (spell.first_ms, spell.last_ms)).collect();
        let who = report::subject_text(&finding.subject);
        let name = format!("{}: {}", diagnose::title(finding.rule), if who.is_empty() { "this host" } else { &who });
        Bars { name: text::shorten_end(&name, 110), class: finding.severity.key(), spells }
    };
    let members = page.incidents().iter().flat_map(Incident::members);
    let lines: Vec<Bars> = members.map(|member| line(&findings[member])).collect();
    if let Some(bars) = chart::bars("findings over time", (course.first_ms, course.last_ms), &lines) {
        let _ = write!(out, "<h2>What was wrong when</h2>\n{bars}\n");
    }
    for incident in page.incidents() {
        let cause = &findings[incident.cause];
        let _ = write!(out, "<article class=\"{}\">", incident.severity.key());
        finding(out, page, cause);
        for consequence in &incident.consequences {
            let consequence = &findings[*consequence];
            let _ = write!(
                out,
                "<article class=\"{0}\"><span class=\"tag\">{0}</span>{1} <span class=\"dim\">({2})</span></article>",
                consequence.severity.key(),
                escape(&consequence.summary),
                escape(&course.of(&consequence.id).map_or_else(String::new, |run| course::seen(course, run)))
            );
        }
        out.push_str("</article>\n");
    }
}

fn finding(out: &mut String, page: &Page<'_>, finding: &Finding) {
    let severity = finding.severity.key();
    let _ = write!(out, "<h3><span class=\"tag\">{severity}</span>{}</h3><dl>", escape(&finding.summary));
    let row = |out: &mut String, name: &str, text: &str| {
        if !text.is_empty() {
            let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(text));
        }
    };
    row(out, "who", &report::subject_text(&finding.subject));
    row(out, "seen", &page.course.of(&finding.id).map_or_else(String::new, |run| course::seen(page.course, run)));
    let list = |out: &mut String, name: &str, kind: &str, items: Vec<String>| {
        if !items.is_empty() {
            let _ = write!(out, "<dt>{name}</dt><dd><{kind}>");
            for item in items {
                let _ = write!(out, "<li>{}</li>", escape(&item));
            }
            let _ = write!(out, "</{kind}></dd>");
        }
    };
    match &finding.causes.left[..] {
        [one] => row(out, "cause", one.cause.text),
        several => {
            let one = |h: &diagnose::Hypothesis| {
                let percent = h.confidence * 100.0;
                format!("{} ({percent:.0} %), decided by {}", h.cause.text, h.cause.decided_by)
            };
            list(out, "one of", "ul", several.iter().map(one).collect());
        }
    }
    let facts: Vec<String> =
        finding.evidence.iter().map(|(name, value)| format!("{name} {}", report::evidence_text(value))).collect();
    row(out, "evidence", &facts.join(", "));
    let word = confidence_word(finding.confidence);
    let sure = match finding.confidence_reason.as_str() {
        "" => format!("{word} ({:.2})", finding.confidence),
        why => format!("{word} ({:.2}): {why}", finding.confidence),
    };
    row(out, "certainty", &sure);
    row(out, "why", &finding.why);
    list(out, "do", "ol", finding.remedy.clone());
    let avoid = finding.avoid.iter().map(|step| step.strip_prefix("Don't ").unwrap_or(step).to_owned());
    list(out, "don't", "ul", avoid.collect());
    if !finding.next.is_empty() {
        let _ = write!(out, "<dt>check</dt><dd><code>{}</code></dd>", escape(&finding.next));
    }
    ruled_out(out, finding);
    out.push_str("</dl>");
}

/// What it is not: the longest list, and the last that one reads.
fn ruled_out(out: &mut String, finding: &Finding) {
    let causes = &finding.causes.ruled_out;
    if causes.is_empty() {
        return;
    }
    let many = text::count(causes.len() as u64, "other cause", "other causes");
    let _ = write!(out, "<dt>ruled out</dt><dd><details><summary>{many}</summary><ul>");
    for (cause, why) in causes {
        let _ = write!(out, "<li>{}</li>", escape(&format!("{}: {why}", cause.text)));
    }
    out.push_str("</ul></details></dd>");
}

fn over_time(out: &mut String, page: &Page<'_>) {
    let at: Vec<u64> = page.points.iter().map(|point| point.at_ms).collect();
    let states = page.states();
    let count = |state: State| page.points.iter().map(move |point| Some(point.counts.get(state) as f64));
    let curves: Vec<Curve> = states
        .iter()
        .take(CURVES)
        .map(|state| Curve { name: state.to_string(), values: count(*state).collect() })
        .collect();
    if let Some(svg) = chart::curves("sockets by state over time", &at, &curves) {
        let _ = write!(out, "<h2>Sockets by state</h2>\n{svg}\n");
    }
    for (name, rate) in RATES {
        let values = page.points.iter().map(rate).collect();
        if let Some(svg) = chart::curves(name, &at, &[Curve { name: name.into(), values }]) {
            let _ = write!(out, "<h2>{name}</h2>\n{svg}\n");
        }
    }
}

fn moves(out: &mut String, page: &Page<'_>) {
    if page.moves.is_empty() {
        return;
    }
    out.push_str("<h2>Changes of state between the looks</h2>\n<div class=\"wide\"><table>");
    out.push_str("<tr><th>from</th><th>to</th><th class=\"n\">sockets</th></tr>");
    for (from, to, n) in page.moves {
        let (from, to) = (end_of_move(*from, "(new)"), end_of_move(*to, "(gone)"));
        let _ = write!(out, "<tr><td>{from}</td><td>{to}</td><td class=\"n\">{}</td></tr>", text::grouped(*n));
    }
    out.push_str("</table></div>\n");
}

fn groups(out: &mut String, page: &Page<'_>) {
    if page.groups.is_empty() {
        return;
    }
    out.push_str("<h2>Processes</h2>\n<div class=\"wide\"><table><tr><th>process</th><th class=\"n\">at first</th>");
    out.push_str("<th class=\"n\">at most</th><th class=\"n\">at last</th></tr>");
    for group in page.groups {
        let cell = |n: u64| format!("<td class=\"n\">{}</td>", text::grouped(n));
        let cells = [group.first, group.most, group.last].map(cell).concat();
        let _ = write!(out, "<tr><td>{}</td>{cells}</tr>", escape(&group.label));
    }
    out.push_str("</table></div>\n");
}

fn sockets(out: &mut String, page: &Page<'_>) {
    if page.sockets.is_empty() {
        return;
    }
    out.push_str("<h2>Sockets at the end</h2>\n<p class=\"screen\"><input type=\"search\" aria-label=\"search\" ");
    out.push_str("placeholder=\"words that a row must have\"> <span id=\"shown\" class=\"dim\"></span></p>\n");
    if page.left_out > 0 {
        let _ = writeln!(out, "<p>{} more are not in this table.</p>", text::grouped(page.left_out as u64));
    }
    out.push_str("<div class=\"wide\"><table class=\"sockets\"><thead><tr>");
    for head in page.heads {
        let _ = write!(out, "<th><button type=\"button\">{}</button></th>", escape(head));
    }
    out.push_str("</tr></thead><tbody>");
    for row in page.sockets {
        out.push_str("<tr>");
        for cell in row {
            let number = cell.number.map_or_else(String::new, |n| format!(" class=\"n\" data-n=\"{n}\""));
            let _ = write!(out, "<td{number}>{}</td>", escape(&cell.text));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>\n");
}

fn gaps(out: &mut String, page: &Page<'_>) {
    if page.gaps.is_empty() && page.diagnosis.not_checked.is_empty() {
        return;
    }
    out.push_str("<h2>What was not seen</h2>\n<ul>");
    for gap in page.gaps {
        let _ = write!(out, "<li>{}</li>", escape(&gap::line(gap)));
    }
    for (rule, why) in &page.diagnosis.not_checked {
        let _ = write!(out, "<li>not checked: {rule}: {}</li>", escape(why));
    }
    out.push_str("</ul>\n");
}
