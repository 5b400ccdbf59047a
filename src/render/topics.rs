//! The topics of `explain`: what people type, and the page that answers it. The index of the pages in Markdown.

use std::fmt::Write;

/// One page.
pub struct Topic {
    pub name: &'static str,
    /// What else people call it, or part of it.
    pub aliases: &'static [&'static str],
    pub page: &'static str,
}

macro_rules! topics {
    ($($name:literal: [$($alias:literal),* $(,)?]),* $(,)?) => {
        /// Every topic, in the order of the index.
        pub const TOPICS: &[Topic] = &[$(Topic {
            name: $name,
            aliases: &[$($alias),*],
            page: include_str!(concat!("../../docs/topics/", $name, ".md")),
        }),*];
    };
}

topics! {
    "eaddrinuse": [
        "address-already-in-use", "address-in-use", "bind", "so-reuseaddr", "reuseaddr", "so-reuseport", "reuseport",
    ],
    "eaddrnotavail": ["cannot-assign-requested-address"],
    "econnrefused": ["connection-refused", "refused"],
    "econnreset": ["connection-reset-by-peer", "connection-reset"],
    "ehostunreach": ["no-route-to-host", "enetunreach", "network-is-unreachable", "unreachable"],
    "emfile": ["too-many-open-files", "enfile", "ulimit", "nofile", "limitnofile", "file-max"],
    "epipe": ["broken-pipe", "sigpipe"],
    "etimedout": [
        "connection-timed-out", "timeout", "tcp-retries2", "tcp-syn-retries", "tcp-user-timeout", "user-timeout",
    ],
    "rst": ["reset", "so-linger", "linger", "abort"],
    "recv-q": ["receive-queue"],
    "send-q": ["send-queue"],
    "timer": ["timers"],
    "age": ["uptime"],
    "owner": ["owners", "no-process", "pid-column"],
    "retransmit": ["retransmits", "retransmission", "retransmissions", "retrans", "total-retrans", "rto", "loss"],
    "keepalive": [
        "so-keepalive", "tcp-keepalive", "tcp-keepalive-time", "tcp-keepalive-intvl", "tcp-keepalive-probes", "keepidle",
        "idle-timeout", "idle", "half-open", "nlb",
    ],
    "zero-window": ["window", "rwnd-limited", "snd-wnd", "rcv-wnd", "persist", "window-full"],
    "mtu": ["pmtu", "mss", "black-hole", "fragmentation-needed", "tcp-mtu-probing"],
    "backlog": ["accept-queue", "listen-backlog", "syn-queue", "syn-cookies", "listenoverflows", "listendrops"],
    "somaxconn": ["tcp-max-syn-backlog"],
    "conntrack": ["nf-conntrack", "table-full", "nat"],
    "ephemeral-ports": [
        "ephemeral-port", "ip-local-port-range", "ip-local-reserved-ports", "ports", "port-range", "port-exhaustion",
    ],
    "snat": [
        "snat-port-exhaustion", "snat-ports", "nat-port", "nat-ports", "nat-gateway", "cloud-nat", "masquerade",
        "errorportallocation", "out-of-resources",
    ],
    "cloud": [
        "aws", "azure", "gcp", "ec2", "google-cloud", "amazon", "cloud-idle-timeout", "conntrack-allowance-exceeded",
        "conntrack-allowance", "security-group", "security-groups",
    ],
    "ipvs": ["ipvsadm", "lvs", "kube-proxy", "keepalived", "virtual-server", "conn-reuse-mode", "expire-nodest-conn"],
    "neighbour-table": [
        "neighbour-table-overflow", "neighbor-table-overflow", "neighbor-table", "neighbour", "neighbor", "arp-cache", "arp",
        "arp-table", "ndisc-cache", "ndisc", "gc-thresh", "gc-thresh1", "gc-thresh2", "gc-thresh3", "table-fulls",
        "neighbour-arp-cache-neighbor-table-overflow", "arp-cache-neighbor-table-overflow",
    ],
    "tw-reuse": ["tcp-tw-reuse", "tcp-tw-recycle", "tw-recycle", "tcp-fin-timeout", "tcp-max-tw-buckets"],
    "orphans": [
        "orphan", "orphaned", "tcp-max-orphans", "too-many-orphaned-sockets", "out-of-socket-memory", "tcp-mem",
        "tcp-orphan-retries",
    ],
}

impl Topic {
    /// Whether it is the topic of this name: case, separators and the path of a sysctl do not matter.
    #[must_use]
    pub fn is(&self, word: &str) -> bool {
        squashed(self.name) == squashed(last(word))
    }

    /// Whether one of its other names is this one.
    #[must_use]
    pub fn is_also(&self, word: &str) -> bool {
        let word = squashed(last(word));
        self.aliases.iter().any(|alias| squashed(alias) == word)
    }

    /// The first sentence, for a list.
    #[must_use]
    pub fn lead(&self) -> String {
        first_sentence(self.page)
    }
}

/// `somaxconn` of `net.core.somaxconn`.
fn last(word: &str) -> &str {
    word.rsplit('.').next().unwrap_or(word)
}

/// A word without what people vary: case and separators.
#[must_use]
pub fn squashed(word: &str) -> String {
    word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The first sentence below the title of a page.
#[must_use]
pub fn first_sentence(page: &str) -> String {
    let paragraph = page.lines().skip_while(|l| l.is_empty() || l.starts_with('#')).take_while(|l| !l.is_empty());
    let text = paragraph.collect::<Vec<_>>().join(" ");
    text.find(". ").map_or(text.clone(), |end| text[..=end].to_owned())
}

/// Appends the index.
pub fn write_index(out: &mut String) {
    out.push_str(
        "# Topics\n\n\
         What people ask about: error numbers, columns, settings. `tcpstate explain TOPIC` prints the page in a\n\
         terminal; case and separators do not matter. This index is generated:\n\
         `cargo run -- generate topics > docs/topics/README.md`.\n\n\
         | topic | in short | also found as |\n| --- | --- | --- |\n",
    );
    for topic in TOPICS {
        let aliases: Vec<String> = topic.aliases.iter().map(|alias| format!("`{alias}`")).collect();
        // Writing into a String cannot fail.
        let _ = writeln!(out, "| [`{0}`]({0}.md) | {1} | {2} |", topic.name, topic.lead(), aliases.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_page_has_its_title_a_short_lead_commands_and_a_source() {
        for topic in TOPICS {
            let title = topic.page.lines().next().unwrap_or_default();
            assert!(topic.is(title.trim_start_matches("# ")), "{}: {title}", topic.name);
            let lead = topic.lead();
            assert!(lead.ends_with('.') && (20..200).contains(&lead.len()), "{}: {lead}", topic.name);
            for heading in ["What to look at", "References"] {
                assert!(topic.page.contains(&format!("\n## {heading}\n")), "{}: {heading}", topic.name);
            }
            let references = topic.page.split("\n## References\n").nth(1).unwrap_or_default();
            assert!(references.contains("Linux: `"), "{}: names no source of the kernel", topic.name);
            assert!(topic.page.matches("\n## ").count() >= 3, "{}: answers nothing", topic.name);
        }
    }

    #[test]
    fn no_word_leads_to_two_pages() {
        let mut seen = BTreeSet::new();
        for word in TOPICS.iter().flat_map(|t| std::iter::once(&t.name).chain(t.aliases)) {
            assert!(seen.insert(squashed(word)), "{word} stands twice");
        }
    }

    #[test]
    fn words_are_found_as_people_type_them() {
        for (word, name) in [
            ("EADDRINUSE", "eaddrinuse"),
            ("Connection reset by peer", "econnreset"),
            ("net.ipv4.tcp_tw_reuse", "tw-reuse"),
            ("recvq", "recv-q"),
            ("Recv-Q", "recv-q"),
            ("SO_KEEPALIVE", "keepalive"),
            ("nf_conntrack", "conntrack"),
            ("neighbour: arp_cache: neighbor table overflow!", "neighbour-table"),
            ("Neighbour table overflow", "neighbour-table"),
            ("net.ipv4.neigh.default.gc_thresh3", "neighbour-table"),
            ("SNAT port exhaustion", "snat"),
            ("AWS", "cloud"),
            ("Google Cloud", "cloud"),
            ("net.ipv4.vs.conn_reuse_mode", "ipvs"),
        ] {
            let found: Vec<&str> = TOPICS.iter().filter(|t| t.is(word) || t.is_also(word)).map(|t| t.name).collect();
            assert_eq!(found, [name], "{word}");
        }
    }
}
