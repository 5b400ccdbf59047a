//! The index of the rules in Markdown: docs/rules/README.md, and its table of thresholds.

use std::fmt::Write;

use crate::diagnose::finding::{CONFIDENCE_WORDS, Severity};
use crate::diagnose::rule::{Chapter, Rule, Samples};
use crate::diagnose::thresholds::THRESHOLDS;

/// Appends the index.
pub fn write_index(out: &mut String, rules: &[Rule]) {
    let (one, both, two) = (Samples::One.label(), Samples::OneOrTwo.label(), Samples::Two.label());
    // Writing into a String cannot fail.
    let _ = write!(
        out,
        "# Rules\n\n\
         One page per rule of `tcpstate doctor`. `tcpstate explain RULE` prints the page in a terminal,\n\
         and each rule's source file includes it as its documentation. This index is generated from the\n\
         rules: `cargo run -- generate rules > docs/rules/README.md`.\n\n\
         *Samples* is how many samples of the kernel's tables a rule needs: {one} tells a state, {two} tell a rate\n\
         or a growth. \"{both}\" works with one and says more with two.\n"
    );
    for chapter in Chapter::ALL {
        let _ = write!(out, "\n## {}\n\n| rule | what is wrong | samples |\n| --- | --- | --- |\n", chapter.title());
        for rule in rules.iter().filter(|r| r.chapter == chapter) {
            let _ = writeln!(out, "| [`{0}`]({0}.md) | {1} | {2} |", rule.id, rule.what, rule.samples.label());
        }
    }
    out.push_str("\n## Severity and confidence\n\n");
    for severity in Severity::ALL {
        let _ = writeln!(out, "- {}: {}.", severity.key(), severity.meaning());
    }
    out.push_str("\nConfidence is a number from 0 to 1: ");
    for (word, least) in CONFIDENCE_WORDS {
        if least > 0.0 {
            let _ = write!(out, "{word} from {least}, ");
        } else {
            let _ = writeln!(out, "{word} below.");
        }
    }
    out.push_str(
        "\n## Thresholds\n\n\
         A limit that the kernel sets is taken from the kernel. The rest is policy, and can be set in\n\
         the table `[thresholds]` of `/etc/tcpstate/config.toml`, in that of\n\
         `$XDG_CONFIG_HOME/tcpstate/config.toml` (`~/.config` without the variable), or by\n\
         `--threshold`; the later ones win:\n\n\
         | key | default | meaning | rules |\n| --- | --- | --- | --- |\n",
    );
    for threshold in THRESHOLDS {
        let used: Vec<String> =
            rules.iter().filter(|r| names(r.page, threshold.name)).map(|r| format!("`{}`", r.id)).collect();
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            threshold.name,
            threshold.default,
            threshold.help,
            used.join(", ")
        );
    }
}

/// Whether a page names a threshold of its rule.
fn names(page: &str, threshold: &str) -> bool {
    page.contains(&format!("`{threshold}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::RULES;

    #[test]
    fn every_threshold_is_named_on_the_page_of_a_rule() {
        for threshold in THRESHOLDS {
            assert!(RULES.iter().any(|r| names(r.page, threshold.name)), "{}", threshold.name);
        }
    }

    #[test]
    fn every_rule_is_in_the_index_once() {
        let mut out = String::new();
        write_index(&mut out, RULES);
        for rule in RULES {
            assert_eq!(out.matches(&format!("| [`{0}`]({0}.md) |", rule.id)).count(), 1, "{}", rule.id);
        }
    }
}
