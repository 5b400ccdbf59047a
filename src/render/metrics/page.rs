//! docs/metrics.md, from the table.

use super::{Kind, METRICS};

const HEAD: &str = "\
# Metrics

Of `tcpstate export`, at `/metrics`, in a file (`--textfile`) or on standard output (`--once`). [fleet.md](fleet.md) says how to
run it; `tcpstate generate metrics` prints this page.

Units are those that Prometheus recommends. A label that does not apply is left out. What is not known has no series: absent is
not zero, and `tcpstate_gap` says what could not be seen. The number of series is bounded by `--top`.
";

/// Writes the page.
pub fn write_page(out: &mut String) {
    out.push_str(HEAD);
    for chapter in METRICS {
        out.push_str(&format!("\n## {}\n\n{}\n\n", chapter.title, chapter.text));
        out.push_str("| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n");
        for metric in chapter.metrics {
            let kind = match metric.kind {
                Kind::Gauge => "gauge",
                Kind::Counter => "counter",
            };
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let kernel = metric.kernel_counter().map(|counter| format!(" (`{counter}`)")).unwrap_or_default();
            let help = metric.help.trim_end_matches('.');
            out.push_str(&format!("| `{}` | {kind} | {} | {help}{kernel} |\n", metric.name, labels.join(" ")));
        }
    }
}
