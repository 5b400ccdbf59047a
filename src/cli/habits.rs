//! Words of other tools, and what they are called here.
//!
//! Input: a word that this program does not have. Output: the word or the command to type. Not here: letters of ss,
//! which work (`fingers`), and misspellings, which are found by distance (`parse`).

use crate::diagnose::RULES;

/// Other names of options, columns and keys; of several the first that the vocabulary has.
const SYNONYMS: [(&str, &[&str]); 58] = [
    ("remote", &["peer"]),
    ("dst", &["peer"]),
    ("destination-address", &["peer-addr"]),
    ("src", &["local"]),
    ("ip", &["peer-addr", "peer"]),
    ("host", &["peer-addr", "peer"]),
    ("address", &["peer-addr", "peer"]),
    ("port", &["local-port"]),
    ("ports", &["local-port", "port"]),
    ("rport", &["peer-port"]),
    ("lport", &["local-port"]),
    ("pid", &["process"]),
    ("proc", &["process"]),
    ("program", &["process"]),
    ("programs", &["process"]),
    ("command", &["process"]),
    ("comm", &["process"]),
    ("cmd", &["process"]),
    ("name", &["process"]),
    ("app", &["process"]),
    ("exe", &["process"]),
    ("service", &["unit"]),
    ("uid", &["user"]),
    ("owner", &["user", "process"]),
    ("ns", &["netns"]),
    ("namespace", &["netns"]),
    ("uptime", &["age"]),
    ("since", &["age"]),
    ("rq", &["recv-q"]),
    ("rx", &["recv-q"]),
    ("sq", &["send-q"]),
    ("tx", &["send-q"]),
    ("status", &["state", "summary"]),
    ("open", &["connected"]),
    ("group", &["by"]),
    ("group-by", &["by"]),
    ("order", &["sort"]),
    ("order-by", &["sort"]),
    ("cols", &["columns"]),
    ("fields", &["columns"]),
    ("output", &["format"]),
    ("limit", &["top"]),
    ("head", &["top"]),
    ("severity", &["min-severity"]),
    ("level", &["min-severity"]),
    ("every", &["interval"]),
    ("delay", &["interval"]),
    ("refresh", &["interval"]),
    ("iterations", &["count"]),
    ("yaml", &["json"]),
    ("ls", &["list"]),
    ("ps", &["list"]),
    ("show", &["list"]),
    ("stats", &["summary"]),
    ("stat", &["summary"]),
    ("counts", &["summary"]),
    ("events", &["trace"]),
    ("man", &["generate"]),
];

/// The word of the vocabulary that another tool calls so.
pub(crate) fn meant<'a>(word: &str, vocabulary: &[&'a str]) -> Option<&'a str> {
    let (_, names) = SYNONYMS.iter().find(|(other, _)| *other == word)?;
    names.iter().find_map(|name| vocabulary.iter().find(|known| *known == name)).copied()
}

/// Commands of other tools: the words, and what to type.
const COMMANDS: [(&[&str], &str); 15] = [
    (&["top", "htop", "monitor", "live", "follow", "tail"], "type `tcpstate watch`"),
    (&["check", "diagnose", "diag", "health", "troubleshoot", "why"], "type `tcpstate doctor`"),
    (&["count", "status"], "type `tcpstate summary`"),
    (&["version"], "type `tcpstate --version`"),
    (&["completion", "completions"], "type `tcpstate generate completions SHELL`"),
    (&["close", "drop", "reset", "destroy"], ENDS),
    (
        &["serve", "exporter", "metrics", "prometheus"],
        "type `tcpstate export`, or `tcpstate doctor --nagios` for monitoring",
    ),
    (&["capture", "dump", "snapshot", "save"], "type `tcpstate record FILE`, or `tcpstate list --json` for one look"),
    (&["config", "settings"], "type `tcpstate doctor --show-thresholds`"),
    (&["fuser"], "type `tcpstate list --port PORT`"),
    (&["tcpdump", "wireshark"], "packets are not read; changes of state are shown by `tcpstate trace`"),
    (&["conntrack"], "its table is shown by `conntrack -L`, and what it does to TCP by `tcpstate explain conntrack`"),
    (&["filter", "filters"], "type `tcpstate help list`"),
    (&["column", "columns"], "type `tcpstate list --list-columns`"),
    (&["states", "rules", "topics"], "type `tcpstate explain`"),
];

/// What to type instead of `-K`.
pub(crate) const ENDS: &str =
    "type `tcpstate kill` with the same filter: it shows what would go, and destroys it with --yes";

/// What to type instead of a command that is not one.
pub(crate) fn command(word: &str) -> Option<&'static str> {
    COMMANDS.iter().find(|(words, _)| words.contains(&word)).map(|(_, answer)| *answer)
}

/// An option of another tool: its spellings, the commands that it is known for (all, if none is named), the answer.
type Elsewhere = (&'static [&'static str], &'static [&'static str], &'static str);

const ROWS: &[&str] = &["list", "summary"];
/// What to do instead of narrowing the doctor.
const JUDGES_ALL: &str = "doctor judges every socket; leave it out (`tcpstate list` takes it, `--rule` names rules)";

const ELSEWHERE: [Elsewhere; 52] = [
    (
        &[
            "-u", "-w", "-x", "-d", "-S", "-M", "-A", "-0", "-U", "--udp", "--unix", "--raw", "--sctp", "--dccp",
            "--mptcp", "--packet", "--vsock", "--xdp", "--query",
        ],
        ROWS,
        "tcpstate shows TCP only; leave it out",
    ),
    (&["-f", "--family", "--inet", "--inet6"], ROWS, "for one family use -4 or -6"),
    (&["-r", "--resolve"], ROWS, "names are not resolved; `-c +user,unit,container` shows the names of this host"),
    (&["-E"], ROWS, "changes of state are shown by `tcpstate trace`"),
    (&["--events"], &[], "changes of state are shown by `tcpstate trace`"),
    (&["-O", "--oneline"], ROWS, "each socket is one line already"),
    (&["--wrap", "--no-trunc"], &["list"], "`--wide` cuts nothing"),
    (&["-W", "--wide", "--wrap", "--no-trunc"], &["summary"], "off a terminal nothing is cut: add `| cat`"),
    (
        &["--port", "--local", "--peer", "--pid", "--process", "--unit", "--user", "--state", "-s", "-l", "-p"],
        &["doctor"],
        JUDGES_ALL,
    ),
    (&["--by"], &["list"], "groups are shown by `tcpstate summary --by KEYS`"),
    (
        &["--listener", "--listeners"],
        ROWS,
        "of one listener: `--local :PORT`; of each: `tcpstate summary --by listener`",
    ),
    (&["--host"], &["fan"], HOSTS),
    (&["-b", "--bpf"], ROWS, "socket filters are not shown; leave it out"),
    (&["-Z", "-z", "--context", "--contexts"], ROWS, "security contexts are not shown; `-c +user,unit,cgroup` is near"),
    (&["-D", "--diag"], ROWS, "raw dumps are not written; `--json` is for programs"),
    (&["-F", "--filter", "--where"], &[], "write the filter behind the options: `tcpstate list 'dport = :443'`"),
    (&["--from"], &[], "captures are read by summary, list, doctor and explain"),
    (&["--route", "-R"], ROWS, "routes are shown by `ip route`"),
    (&["-g", "--groups"], ROWS, "multicast groups are shown by `ip maddress`"),
    (&["-I", "--interfaces"], ROWS, "interfaces are shown by `ip -s link`"),
    (&["--stats", "--statistics"], &[], "totals are shown by `tcpstate summary`"),
    (&["--follow", "--continuous"], ROWS, "`tcpstate watch` follows"),
    (&["--top", "--head", "--lines"], &["list"], "type --limit: `tcpstate list --sort -age --limit 10`"),
    (&["--reverse", "--desc"], &["list"], "the largest first is `--sort -COLUMN`"),
    (&["--quiet", "-q", "--silent"], &["list"], "`tcpstate list --exists ... > /dev/null` answers by its exit code"),
    (&["--quiet", "-q", "--silent"], &["doctor"], "`tcpstate doctor > /dev/null` answers by its exit code"),
    (&["--verbose", "-v"], ROWS, "`tcpstate doctor --verbose` shows all that is known of a finding"),
    (&["--once", "-1"], &["watch"], "use `--count 1`"),
    (&["--once", "-1"], ROWS, "it looks once; leave it out"),
    (&["--count"], &["list"], "sockets are counted by `tcpstate summary`"),
    (&["--no-color", "--no-colour", "--nocolor"], &[], "use `--color never`"),
    (&["--colors", "--colour", "--colours"], &[], "use `--color always` or `--color never`"),
    (&["-j"], &[], "use `--json`"),
    (&["--csv"], &["list"], "use `--format csv`"),
    (&["--tsv"], &["list"], "use `--format tsv`"),
    (&["--jsonl", "--ndjson"], &["list"], "use `--format jsonl`"),
    (&["--sport", "--dport"], &[], "use --port for both ends, or a filter: `tcpstate list dport = :443`"),
    (&["-n"], &["summary"], "the number of groups is `--top N`"),
    (&["-t", "-a"], &["summary", "watch"], "letters of ss are for `tcpstate list`; leave it out"),
    (&["--tulpn", "--tlnp", "--tan", "--plant", "--antp"], &[], "letters of ss have one dash: `tcpstate -tlnp`"),
    (&["--established"], ROWS, "type `--state established`"),
    (&["--cgroup", "--tos"], ROWS, "type `tcpstate list -c +cgroup,tos`"),
    (&["-p"], &["summary", "watch", "trace"], "of one process: `--pid PID`, or `--process NAME`"),
    (&["-i"], &["summary"], "type `--interval TIME`: what changes between two looks"),
    (&["-f", "--follow"], &["trace", "watch"], "it follows until it is interrupted; leave it out"),
    (&["--tui"], &["watch"], "on a terminal it is a full screen; leave it out"),
    (&["--list", "--list-rules", "--rules"], &["doctor"], "`tcpstate explain` lists the rules"),
    (&["--explain"], &["doctor"], "`tcpstate explain RULE` explains one"),
    (&["--fix", "--repair", "--apply"], &[], "nothing is repaired; `tcpstate doctor` says what to do"),
    (&["--interval", "-i"], &["list"], "`tcpstate watch --interval TIME` looks again"),
    (&["-n"], &["doctor", "trace"], "addresses are numeric; leave it out"),
    (&["--kill", "-K"], &[], ENDS),
];

/// What to type where a command lacks what it is about.
const INCOMPLETE: [(&str, &str); 6] = [
    (
        "diff",
        "diff needs what to compare with: `tcpstate diff BEFORE.tcps.zst`, or `tcpstate diff --interval 10s` for the next 10 \
         seconds",
    ),
    ("record", "record needs a file to write: `tcpstate record now.tcps.zst --duration 1m`"),
    ("report", "report needs a recording: `tcpstate report now.tcps.zst -o report.html`"),
    ("convert", "convert needs a recording and a format: `tcpstate convert now.tcps.zst --to jsonl`"),
    ("fan", "fan needs hosts and what to ask them: `tcpstate fan --hosts FILE -- doctor`"),
    ("generate", "generate needs what to print: `tcpstate generate man`, or `tcpstate generate completions bash`"),
];

/// What to type where a command lacks what it is about.
pub(crate) fn incomplete(command: &str) -> Option<&'static str> {
    INCOMPLETE.iter().find(|(name, _)| *name == command).map(|(_, answer)| *answer)
}

/// How hosts are named.
const HOSTS: &str = "hosts are in a file, or come by a pipe: `echo HOST | tcpstate fan --hosts - -- doctor`";

/// What to type instead of a word where the command takes none.
pub(crate) fn word(command: &str, word: &str) -> Option<&'static str> {
    match command {
        _ if word.starts_with('-') => None,
        "doctor" if RULES.iter().any(|rule| rule.id == word) => Some("of one rule: `tcpstate doctor --rule RULE`"),
        "doctor" => Some(JUDGES_ALL),
        "fan" => Some(HOSTS),
        _ => None,
    }
}

/// What an option of another tool is here.
pub(crate) fn argument(command: &str, option: &str) -> Option<&'static str> {
    let known = |(options, commands, _): &&Elsewhere| {
        options.contains(&option) && (commands.is_empty() || commands.contains(&command))
    };
    ELSEWHERE.iter().find(known).map(|(.., answer)| *answer)
}

/// Single words in the place of a filter.
const WORDS: [(&[&str], &str); 8] = [
    (&["udp", "unix", "raw", "sctp"], "tcpstate shows TCP only; leave it out"),
    (&["tcp", "inet", "any"], "all rows are TCP; leave it out"),
    (&["tcp4", "inet4", "ipv4"], "for one family use -4"),
    (&["tcp6", "inet6", "ipv6"], "for one family use -6"),
    (&["json", "jsonl"], "use `--json` or `--format jsonl`"),
    (&["csv", "tsv"], "use `--format csv` or `--format tsv`"),
    (&["sort", "by"], "use `--sort COLUMN`"),
    (&["tulpn", "tlnp", "tan", "plant", "antp", "tulpen", "antup"], "letters of ss have a dash: `tcpstate -tlnp`"),
];

/// What a single word that is no filter is here.
pub(crate) fn filter(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    WORDS.iter().find(|(words, _)| words.contains(&word.as_str())).map(|(_, answer)| *answer)
}
