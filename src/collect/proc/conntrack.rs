//! The table of connection tracking, by its settings and counters.
//!
//! Input: `/proc/sys/net/netfilter` and the text of `/proc/net/stat/nf_conntrack`. Output: [`Conntrack`]; `None` where
//! no connection is tracked because the kernel has no such table.

use crate::collect::proc::ProcRoot;
use crate::model::conntrack::Conntrack;

/// Reads the table of the namespace that `root.net()` shows.
#[must_use]
pub fn read(root: &ProcRoot) -> Option<Conntrack> {
    let setting = |name: &str| -> Option<u64> {
        let path = root.path().join("sys/net/netfilter").join(name);
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let entries = setting("nf_conntrack_count")?;
    let mut table = counters(&std::fs::read_to_string(root.net().join("stat/nf_conntrack")).unwrap_or_default());
    table.entries = Some(entries);
    table.limit = setting("nf_conntrack_max");
    table.established_timeout_s = setting("nf_conntrack_tcp_timeout_established");
    Some(table)
}

fn counters(text: &str) -> Conntrack {
    Conntrack {
        drop: column(text, "drop"),
        early_drop: column(text, "early_drop"),
        insert_failed: column(text, "insert_failed"),
        invalid: column(text, "invalid"),
        ..Conntrack::default()
    }
}

/// The sum of one column of a file below `/proc/net/stat`: a line of names, then one of hexadecimal numbers per CPU.
#[must_use]
pub fn column(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let place = lines.next()?.split_ascii_whitespace().position(|n| n == name)?;
    let values = lines.filter_map(|line| line.split_ascii_whitespace().nth(place));
    values.filter_map(|word| u64::from_str_radix(word, 16).ok()).reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error
00000011  00000000 00000000 00000000 00000002 00000000 00000000 00000003 00000000 00000001 0000000a 00000000 00000000
00000011  00000000 00000000 00000000 00000001 00000000 00000000 00000003 00000000 00000002 00000006 00000001 00000000
";

    #[test]
    fn counters_are_sums_over_the_cpus_and_found_by_name() {
        let table = counters(TEXT);
        assert_eq!((table.drop, table.early_drop), (Some(16), Some(1)));
        assert_eq!((table.insert_failed, table.invalid, table.entries), (Some(3), Some(3), None));
    }

    #[test]
    fn what_is_missing_or_cut_is_not_known() {
        assert_eq!(counters(""), Conntrack::default());
        assert_eq!(counters("entries drop\nzz zz\n"), Conntrack::default());
        for end in 0..TEXT.len() {
            let sum = counters(&TEXT[..end]).drop;
            assert!(sum.is_none_or(|n| n <= 16), "{end}: {sum:?}");
        }
    }
}
