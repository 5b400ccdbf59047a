//! The words of the command line. Input: wrong words, durations, `--help`. Output: one line that names the word, help.

use super::lossy;
use crate::harness::{finish, in_netns};
use crate::product;

#[test]
fn a_wrong_word_gives_one_line_that_names_it_and_exit_2() {
    in_netns(|ns| {
        for (words, named, helps) in [
            (&["lsit"][..], "`lsit`", "did you mean `list`? see `tcpstate --help`"),
            (&["help", "lsit"], "`lsit`", "did you mean `list`? see `tcpstate --help`"),
            (&["list", "--bogus"], "`--bogus`", "`list`; see `tcpstate list --help`"),
            (&["list", "--kill"], "same filter", "type `tcpstate kill`"),
            (&["list", "--yaml"], "`--yaml`", "did you mean `--json`? see `tcpstate list --help`"),
            (&["list", "--colums", "state"], "`--colums`", "did you mean `--columns`? see `tcpstate list --help`"),
            (&["--bogus"], "`--bogus`", "--help"),
            (&["list", "-u"], "`-u`", "TCP only"),
            (&["-nP", "-iTCP:443", "-sTCP:LISTEN"], "lsof", "type `tcpstate list --port 443 --state listen`"),
            (&["list", "-K"], "same filter", "type `tcpstate kill`"),
            (&["list", "-E"], "`-E`", "tcpstate trace"),
            (&["list", "--from", "x"], "cannot open x", "no such file"),
            (&["list", "--pid", "-1"], "`-1`", "a number such as 812"),
            (&["list", "--process", ""], "--process", "nginx"),
            (&["summary", "--top", "-1"], "`-1`", "a whole number such as 10"),
            (&["summary", "--by", ""], "--by", "peer-addr"),
            (&["list", "-c", "state,recvq"], "`recvq`", "`recv-q`"),
            (&["list", "-c", "nosuchcolumn"], "`nosuchcolumn`", "--list-columns"),
            (&["list", "-c", ""], "--columns", "--list-columns"),
            (&["list", "--sort", "stat"], "`stat`", "`state`"),
            (&["list", "--sort", "-stat"], "`stat`", "`state`"),
            (&["list", "--format", "xml"], "`xml`", "jsonl"),
            (&["list", "--json", "--format", "csv"], "--json", "--format"),
            (&["list", "--source", "netstat"], "`netstat`", "proc"),
            (&["list", "--color", "sometimes"], "`sometimes`", "never"),
            (&["list", "-4", "-6"], "--ipv4", "--ipv6"),
            (&["summary", "--by", "peer,colour"], "`colour`", "peer-addr"),
            (&["summary", "--top", "many"], "`many`", "a whole number such as 10"),
            (&["summary", "--by", "process", "--no-owners"], "--by process", "needs socket owners; remove --no-owners"),
            (&["watch", "--by", "unit", "--no-owners"], "--by unit", "needs socket owners; remove --no-owners"),
            (&["watch", "--by", "unti"], "`unti`", "`unit`"),
            (&["watch", "--count", "0"], "`0`", "1 or more"),
            (&["list", "--state", "LISTNE"], "`LISTNE`", "did you mean `listen`? see `tcpstate list --help`"),
            (&["list", "process", "=", "x", "--no-owners"], "owners", "remove --no-owners"),
            (&["trace", "--duration", "soon"], "--duration: `soon`", "seconds, such as 2"),
            (&["trace", "--ring-size", "1"], "--ring-size: `1`", "4k to 1G"),
            (&["doctor", "--rule", "nope"], "`nope`", "`tcpstate explain` lists all; see `tcpstate doctor --help`"),
            (&["explain", "close-wait", "--source", "proc"], "--source", "explain machine"),
            (&["doctor", "--rule", "close-wait-unacepted"], "`close-wait-unacepted`", "`close-wait-unaccepted`"),
            (&["doctor", "--interval", "soon"], "`soon`", "500ms"),
            (&["doctor", "--interval", "1us"], "`1us`", "100ms"),
            (&["doctor", "--fail-on", "loud"], "`loud`", "warning"),
            (&["doctor", "--min-severity", "loud"], "`loud`", "critical"),
            (&["doctor", "--threshold", "fd-wran-percent=2"], "`fd-wran-percent`", "`fd-warn-percent`"),
            (&["doctor", "--threshold", "fd-warn-percent"], "`fd-warn-percent`", "NAME=VALUE"),
            (&["explain", "time-wiat"], "`time-wiat`", "explain"),
            (&["generate", "poem"], "`poem`", "schema"),
            (&["generate", "completions"], "completions bash", "--help"),
            (&["diff"], "BEFORE.tcps.zst", "--interval 10s"),
        ] {
            let output = finish(&mut product::with(ns, words));
            let complaint = lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{words:?}: {complaint}");
            assert_eq!(lossy(&output.stdout), "", "{words:?}");
            assert!(complaint.starts_with("tcpstate: ") && complaint.ends_with('\n'), "{words:?}: {complaint}");
            assert_eq!(complaint.lines().count(), 1, "{words:?}: {complaint}");
            assert!(!complaint.contains("as a value"), "{words:?} is told to quote a mistake: {complaint}");
            assert!(complaint.contains(named), "{words:?} does not name {named}: {complaint}");
            assert!(complaint.contains(helps), "{words:?} does not say {helps}: {complaint}");
        }
    });
}

/// The words of a line of `invocations.txt`; `'...'` is one word.
fn typed(line: &str) -> Vec<&str> {
    let quoted = line.split('\'').enumerate();
    quoted.flat_map(|(i, part)| if i % 2 == 1 { vec![part] } else { part.split_whitespace().collect() }).collect()
}

const COMMANDS: [&str; 13] = [
    "summary", "list", "doctor", "watch", "trace", "explain", "record", "export", "diff", "fan", "kill", "mcp",
    "generate",
];

#[test]
fn every_habit_works_or_is_answered_in_one_line() {
    let lines = include_str!("invocations.txt").lines().filter(|l| !l.is_empty() && !l.starts_with("# "));
    let cases: Vec<(&str, Option<&str>)> =
        lines.map(|l| l.split_once(" => ").map_or((l, None), |(typed, answer)| (typed, Some(answer)))).collect();
    assert!(cases.len() >= 275, "{}", cases.len());
    let commands = COMMANDS;
    in_netns(|ns| {
        for (line, answer) in cases {
            let words = typed(line);
            let output = finish(&mut product::with(ns, &words));
            let complaint = lossy(&output.stderr);
            let Some(answer) = answer else {
                assert_eq!(output.status.code(), Some(0), "{line}: {complaint}");
                continue;
            };
            assert_eq!((output.status.code(), lossy(&output.stdout).as_str()), (Some(2), ""), "{line}: {complaint}");
            assert_eq!(complaint.lines().count(), 1, "{line}: {complaint}");
            assert!(complaint.contains(answer), "{line}: {complaint}");
            // The help that it names is that of the command.
            if let Some(command) = commands.iter().find(|c| words.first() == Some(c))
                && complaint.contains("--help`")
            {
                assert!(complaint.contains(&format!("`tcpstate {command} --help`")), "{line}: {complaint}");
            }
        }
    });
}

#[test]
fn a_word_that_is_no_filter_is_taken_for_what_it_looks_like() {
    in_netns(|ns| {
        let server = std::net::TcpListener::bind("127.0.0.1:7443").expect("bind");
        let other = std::net::TcpListener::bind("127.0.0.2:7444").expect("bind");
        for (words, said, rows) in [
            (&["list", "-H", ":7443"][..], "--port 7443", 1),
            (&["list", "-H", "7444"], "--pid 7444", 1),
            (&["list", "-H", "127.0.0.2"], "src 127.0.0.2 or dst 127.0.0.2", 1),
            (&["-tlnpH", "127.0.0.1:7443"], "an address", 1),
            (&["-tulnpH"], "UDP is not shown", 2),
            (&["-antupH"], "UDP is not shown", 2),
        ] {
            let output = finish(&mut product::with(ns, words));
            let complaint = lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{words:?}: {complaint}");
            assert_eq!(complaint.lines().filter(|l| l.contains(said)).count(), 1, "{words:?}: {complaint}");
            assert_eq!(lossy(&output.stdout).lines().count(), rows, "{words:?}");
        }
        drop((server, other));
    });
}

#[test]
fn all_behind_listening_shows_all_and_nothing_found_is_said() {
    in_netns(|ns| {
        let server = std::net::TcpListener::bind("127.0.0.1:7443").expect("bind");
        let client = std::net::TcpStream::connect("127.0.0.1:7443").expect("connect");
        for (letters, rows) in [("-plantH", 3), ("-lantH", 3), ("-tanlpH", 1), ("-tlnpH", 1), ("-tanH", 3)] {
            let text = product::text(ns, &[letters]);
            assert_eq!(text.lines().count(), rows, "{letters}: {text}");
        }
        drop((client, server));
        for (words, said) in [
            (&["list", "--port", "1234"][..], "tcpstate: no socket matches sport = 1234 or dport = 1234\n"),
            (&["list", "--port", "1234", "--exists"], ""),
            (&["list", "--port", "1234", "--json"], ""),
            (&["list", "--port", "1234", "--format", "csv"], ""),
        ] {
            let output = finish(&mut product::with(ns, words));
            assert_eq!(lossy(&output.stderr), said, "{words:?}");
            assert_eq!(output.status.code(), Some(i32::from(words.contains(&"--exists"))), "{words:?}");
        }
    });
}

#[test]
fn bare_seconds_are_a_time_everywhere() {
    in_netns(|ns| {
        for words in [
            &["doctor", "--interval", "0.1", "--rule", "abort-storm"][..],
            &["watch", "--plain", "--count", "1", "--interval", "5", "--no-trace"],
            &["trace", "--poll", "--this-netns", "--interval", "1", "--duration", "1"],
            &["trace", "--poll", "--this-netns", "--summary", "1"],
        ] {
            let output = finish(&mut product::with(ns, words));
            assert_eq!(output.status.code(), Some(0), "{words:?}: {}", lossy(&output.stderr));
        }
    });
}

#[test]
fn help_and_version_are_everywhere() {
    in_netns(|ns| {
        let version = format!("tcpstate {}\n", env!("CARGO_PKG_VERSION"));
        for command in COMMANDS {
            for flag in ["-V", "--version"] {
                assert_eq!(product::text(ns, &[command, flag]), version, "{command} {flag}");
            }
            let help = product::text(ns, &["help", command]);
            assert_eq!(help, product::text(ns, &[command, "--help"]), "{command}");
            assert!(help.contains(&format!("Usage: tcpstate {command}")), "{help}");
        }
        assert_eq!(product::text(ns, &["-V"]), version);
        assert_eq!(product::text(ns, &["help"]), product::text(ns, &["--help"]));
    });
}

#[test]
fn every_line_of_the_phrasebook_runs() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/phrasebook.md")).expect("read");
    let lines: Vec<&str> = page.lines().filter(|l| l.starts_with("| ") && l.contains("`tcpstate ")).collect();
    assert!(lines.len() > 20, "{}", lines.len());
    in_netns(|ns| {
        for line in lines {
            let cells: Vec<&str> = line.replace("\\|", "").leak().split('|').collect();
            let typed = cells[2].trim().trim_matches('`');
            let words: Vec<&str> = typed.split(' ').skip(1).collect();
            let output = finish(&mut product::with(ns, &words));
            assert_eq!(output.status.code(), Some(0), "{typed}: {}", lossy(&output.stderr));
        }
    });
}
