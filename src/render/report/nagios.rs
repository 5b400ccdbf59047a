//! The line of a monitoring plugin.
//!
//! Comes in: a diagnosis and counts. Goes out: the code to exit with, and text.

use crate::diagnose::{Diagnosis, Finding, Severity};
use crate::render::sanitize;

/// The line of a monitoring plugin: status, the worst finding, perfdata.
#[must_use]
pub fn nagios(diagnosis: &Diagnosis, perfdata: &[(String, u64)]) -> (u8, String) {
    let worst = diagnosis.findings.first().map(|f| f.severity);
    let (code, word) = match worst {
        Some(Severity::Critical | Severity::High) => (2, "CRITICAL"),
        Some(Severity::Warning) => (1, "WARNING"),
        Some(Severity::Info) | None => (0, "OK"),
    };
    let loud: Vec<&Finding> = diagnosis.findings.iter().filter(|f| f.severity >= Severity::Warning).collect();
    let text = match loud.as_slice() {
        [] => "no finding at warning or above".to_owned(),
        [only] => only.summary.clone(),
        [first, rest @ ..] => format!("{} (and {} more)", first.summary, rest.len()),
    };
    // `|` begins the perfdata.
    let text = sanitize::clean(&text).replace('|', "/");
    let data: Vec<String> = perfdata.iter().map(|(name, n)| format!("{name}={n}")).collect();
    let mut out = format!("TCPSTATE {word} - {text} | {}\n", data.join(" "));
    for finding in loud {
        out.push_str(&format!(
            "{}: {}: {}\n",
            finding.severity.key(),
            finding.rule,
            sanitize::clean(&finding.summary).replace('|', "/")
        ));
    }
    (code, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monitoring_line_has_one_bar_and_the_code_of_the_worst() {
        for (severity, code) in
            [(Severity::Info, 0), (Severity::Warning, 1), (Severity::High, 2), (Severity::Critical, 2)]
        {
            let diagnosis = Diagnosis {
                findings: vec![Finding::new("close-wait-leak", severity, 0.95, "java (812) | really")],
                ..Diagnosis::default()
            };
            let (got, text) = nagios(&diagnosis, &[("established".into(), 5)]);
            assert_eq!(got, code);
            assert_eq!(text.lines().next().unwrap().matches('|').count(), 1, "{text}");
            assert!(text.contains("| established=5\n"), "{text}");
        }
    }
}
