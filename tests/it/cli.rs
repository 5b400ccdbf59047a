//! The command line, end to end: what a person and a shell see. Comes in: namespaces with and without sockets, other
//! users, hostile names, broken files, narrow terminals, closed pipes. Goes out: text, one-line complaints and exit
//! codes. Never here: the library.

use serde_json::Value as Json;
use tcpstate::model::gap::{Missing, WayOut};
use tcpstate::model::state::State;
use tcpstate::render::gap;

use crate::harness::helper::Helper;
use crate::harness::{Netns, finish, in_netns, kernel_at_least, pty, skip};
use crate::product;
use crate::states::{self, Ports};

/// Files, pipes and disks that fail.
mod faults;
/// Completion in real shells, and the manual.
mod shells;
/// The words of the command line: refused, explained.
mod words;

/// A name that would colour a terminal, break a line, and is no text.
const HOSTILE: &[u8] = b"\x1b[31m\xff\n,\"\x07)";
/// The same as JSON has it: raw, but for the byte that is no text.
const HOSTILE_TEXT: &str = "\u{1b}[31m\u{fffd}\n,\"\u{7})";
/// The same as a terminal gets it.
const HARMLESS: &str = "\\x1b[31m\u{fffd}\\x0a,\"\\x07)";

#[test]
fn another_user_gets_rows_and_one_gap() {
    in_netns(|ns| {
        if !product::can_be_another_user() {
            return skip("only root can become another user");
        }
        let mut helper = Helper::start(ns);
        let rows = helper.make("established 7000 5");
        let waiting = helper.make("accept_queue_full 7010 2 1");
        let held = rows.iter().chain(&waiting).filter(|r| r.inode.is_some()).count();
        for command in ["list", "summary", "doctor"] {
            let (mut run, _binary) = product::with_user(ns, 65534, &[command, "--json"]);
            let output = finish(&mut run);
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command}");
            let document = product::document(&output);
            let gaps = document["gaps"].as_array().expect("gaps");
            let about_owners: Vec<&Json> = gaps.iter().filter(|g| g["missing"] == "owners").collect();
            let what = gap::what(&Missing::Owners { known: 0, of: held as u64 });
            assert_eq!(about_owners.iter().map(|g| &g["what"]).collect::<Vec<_>>(), [&what], "{command}: {gaps:?}");
            let hint = gap::hint(WayOut::READ_DESCRIPTORS);
            assert_eq!(about_owners[0]["hint"].as_str(), hint.as_deref(), "{command}");
            if command == "doctor" {
                continue;
            }
            assert_eq!(output.status.code(), Some(0), "{command}");
            assert_eq!(document["total"].as_u64(), Some((rows.len() + waiting.len()) as u64), "{command}");
        }
        let (mut run, _binary) = product::with_user(ns, 65534, &["list", "--json"]);
        let seen = product::sockets(&product::document(&finish(&mut run)));
        for socket in &seen {
            let status = if socket.inode.is_some() { "no_permission" } else { "not_accepted" };
            assert_eq!((socket.status.as_str(), socket.owners.len()), (status, 0), "{socket:?}");
        }
        // For people: the rows on standard output, one note on standard error; `--strict` makes it a failure.
        let (mut run, _binary) = product::with_user(ns, 65534, &["list"]);
        let output = finish(&mut run);
        let (text, notes) = (lossy(&output.stdout), lossy(&output.stderr));
        assert_eq!(text.matches("(no permission)").count(), held, "{text}");
        let notes: Vec<&str> = notes.lines().collect();
        assert_eq!(notes.len(), 1 + usize::from(!kernel_at_least(6, 8)), "{notes:?}");
        assert!(notes.iter().any(|n| n.contains("run as root")), "{notes:?}");
        let (mut run, _binary) = product::with_user(ns, 65534, &["list", "--strict"]);
        assert_eq!(finish(&mut run).status.code(), Some(2));
        // A HOME that is closed to the user is no configuration, and no reason to fail.
        let closed = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(closed.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("close it");
        let (mut run, _binary) = product::with_user(ns, 65534, &["summary"]);
        let output = finish(run.env("HOME", closed.path()));
        assert_eq!(output.status.code(), Some(0), "{}", lossy(&output.stderr));
        // Unknown owners are named once: as a note, not as a finding too.
        let (text, notes) = (lossy(&output.stdout), lossy(&output.stderr));
        assert!(!text.contains("no process could be named"), "{text}");
        assert_eq!(notes.matches("owner unknown for").count(), 1, "{notes}");
        // The plan is what would be done, and not what could be done with more rights.
        let (mut run, _binary) =
            product::with_user(ns, 65534, &["list", "--explain-plan", "mark = 1 and dport = 7000"]);
        let plan = lossy(&finish(&mut run).stdout);
        assert!(plan.contains("kernel checks: dport = 7000\nleft for user space: fwmark = 0x1"), "{plan}");
        let plan = product::text(ns, &["list", "--explain-plan", "mark = 1 and dport = 7000"]);
        assert!(plan.contains("left for user space: nothing"), "{plan}");
        let plan = product::text(ns, &["summary", "--no-owners", "--explain-plan"]);
        assert!(plan.contains("before: one request for the listeners") && !plan.contains("after: "), "{plan}");
        let plan = product::text(ns, &["summary", "--explain-plan", "--counts"]);
        assert!(!plan.contains("before: ") && !plan.contains("after: "), "{plan}");
        // Marks are told to the administrator only: that nothing matches is said to be no answer.
        for filter in ["fwmark = 1", "not mark = 1", "mark = 1 or recv-q > 1000000"] {
            let (mut run, _binary) = product::with_user(ns, 65534, &["list", "--json", filter]);
            let document = product::document(&finish(&mut run));
            assert!(product::missing(&document).contains(&"marks"), "{filter}: {}", document["gaps"]);
            let document = product::json(ns, &["list", "--json", filter]);
            assert!(!product::missing(&document).contains(&"marks"), "{filter}: {}", document["gaps"]);
        }
    });
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_hostile_name_reaches_a_terminal_as_text_and_a_script_as_it_is() {
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        helper.make("close_wait 7000 3 eof_read closed");
        helper.make("close_wait 7010 3 not_accepted closed");
        helper.rename(HOSTILE);
        for columns in [80, 200] {
            for words in [&["list"][..], &["summary"], &["doctor", "--once"], &["list", "-tanopiem", "--no-header"]] {
                let mut command = product::with(ns, words);
                let screen = pty::run(command.env("NO_COLOR", "1"), columns);
                for c in screen.text.chars().filter(|c| *c != '\n') {
                    assert!(!c.is_control(), "{words:?} on {columns} columns: {:?}", screen.text);
                }
                // Coloured, every escape is one of ours: it colours or ends a colour.
                let screen = pty::run(&mut product::with(ns, words), columns);
                let rest = without_colours(&screen.text);
                assert!(words[0] == "doctor" || screen.text.len() > rest.len(), "{words:?}: no colour at all");
                assert!(rest.chars().all(|c| c == '\n' || !c.is_control()), "{words:?}: {rest:?}");
                if columns == 200 && words == ["list"] {
                    assert!(rest.contains(HARMLESS), "{rest:?}");
                }
            }
        }
        let screen = pty::run(&mut product::with(ns, &["list", "--format", "csv"]), 80);
        assert!(screen.text.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", screen.text);
        // A table in a pipe is cleaned too: it will be read on a terminal.
        let text = product::text(ns, &["list"]);
        assert!(text.contains(HARMLESS) && text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()), "{text:?}");
        // Scripts get what is there.
        let list = product::json(ns, &["list", "--json"]);
        let comms: Vec<&str> = list["sockets"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|s| s["owners"].as_array().unwrap())
            .map(|o| o["comm"].as_str().unwrap())
            .collect();
        assert!(!comms.is_empty() && comms.iter().all(|c| *c == HOSTILE_TEXT), "{comms:?}");
        let csv = product::text(ns, &["list", "--format", "csv", "-c", "comm,local-port", "--sort", "local-port"]);
        let quoted = format!("\"{}\"", HOSTILE_TEXT.replace('"', "\"\""));
        assert!(csv.starts_with("comm,local-port\n") && csv.contains(&format!("{quoted},7000\n")), "{csv:?}");
    });
}

/// The text without what sets a colour or a weight (`ESC [ digits and semicolons m`).
fn without_colours(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        out.push_str(&rest[..at]);
        let body = &rest[at + 2..];
        let end = body.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(body.len());
        if body[end..].starts_with('m') {
            rest = &body[end + 1..];
        } else {
            out.push('\u{1b}');
            rest = &rest[at + 1..];
        }
    }
    out + rest
}

#[test]
fn a_terminal_of_80_columns_is_enough() {
    in_netns(|ns| {
        let _held = states::all_states(ns);
        let mut helper = Helper::start(ns);
        helper.rename(b"a-long-name-abc");
        helper.make("zero_window 8000+43210/v6 2");
        for _ in 0..3 {
            helper.fork(None);
        }
        for words in [
            &["list"][..],
            &["list", "--no-owners"],
            &["list", "-H", "--sort", "local"],
            &["summary"],
            &["summary", "--by", "four-tuple,process"],
            &["summary", "--by", "state,listener,user"],
            &["doctor", "--once"],
            &["explain", "machine"],
            &["list", "--source", "proc"],
            &["summary", "--source", "proc"],
        ] {
            for columns in [80, 120] {
                let screen = pty::run(product::with(ns, words).env("NO_COLOR", "1"), columns);
                assert!(!screen.text.is_empty());
                for line in screen.text.lines() {
                    let len = line.chars().count();
                    // A row of a list is wrapped rather than robbed of an address or a pid.
                    let fits = len <= usize::from(columns);
                    assert!(
                        fits || words[0] == "list" || line.starts_with("  next "),
                        "{words:?}: {len} of {columns} columns: {line}"
                    );
                    assert_eq!(line.trim_end(), line, "{words:?}: blanks at the end");
                }
            }
        }
        // Cut or not, each socket has its line, and its port is to be seen.
        let screen = pty::run(product::with(ns, &["list", "-H"]).env("NO_COLOR", "1"), 80);
        let ports: usize = screen.text.lines().filter(|l| l.contains(":43210 ")).count();
        assert_eq!(ports, 2, "{}", screen.text);
        let json = product::json(ns, &["list", "--json"]);
        assert_eq!(screen.text.lines().count() as u64, json["total"].as_u64().unwrap());
    });
}

#[test]
fn off_a_terminal_columns_are_aligned_and_nothing_is_cut() {
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        helper.rename(b"server");
        let rows = helper.make("established 7000+17000/v6 2");
        let pid = helper.pid();
        // The table has what it is sorted by, and what programs read only the columns that they know.
        let text = product::text(ns, &["list", "--sort", "local-port", "--format", "tsv"]);
        let columns = "state,recv-q,send-q,local,peer,process";
        let aligned = product::text(ns, &["list", "--sort", "local-port", "-c", columns]);
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&aligned), squeezed(&text));
        let at = |line: &str| line.find("server(").or_else(|| line.find("PROCESS"));
        let begin = aligned.find("PROCESS");
        assert!(aligned.lines().all(|l| at(l) == begin && !l.contains('\t')), "{aligned}");
        let listener = &rows.iter().find(|r| r.state == State::Listen).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("STATE\tRECV-Q\tSEND-Q\tLOCAL\tPEER\tPROCESS"));
        for line in lines.clone() {
            let row = rows.iter().find(|r| line.ends_with(&format!("\tserver({pid},fd={})", r.fd.unwrap())));
            let row = row.unwrap_or_else(|| panic!("nobody's row: {line}"));
            let peer = if row.peer.port() == 0 { "[::]:*".to_string() } else { row.peer.to_string() };
            let (recv_q, send_q) = (row.recv_q.unwrap(), row.send_q.unwrap());
            let wanted = format!(
                "{}\t{recv_q}\t{send_q}\t{}\t{peer}\tserver({pid},fd={})",
                row.state,
                row.local,
                row.fd.unwrap()
            );
            assert_eq!(line, wanted);
        }
        assert_eq!(lines.count(), rows.len());
        // Long cells stay whole.
        for i in 0..40 {
            assert!(helper.fork(Some(format!("child {i}").as_bytes())) > 0);
        }
        let text = product::text(ns, &["list", "-H", "-c", "process", "--sort", "local-port"]);
        let line = text.lines().find(|l| l.contains(&format!("server({pid},fd={})", listener.fd.unwrap()))).unwrap();
        assert_eq!(line.matches(",fd=").count(), 41, "{line}");
        assert!(!text.contains('…') && !text.contains("  "), "{text}");
        let summary = product::text(ns, &["summary"]);
        assert!(!summary.contains('…') && summary.lines().all(|l| l.trim_end() == l), "{summary}");
    });
}

#[test]
fn columns_order_and_header_are_as_asked_for() {
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        helper.make("unread 7000+17000 3 7");
        helper.make("close_wait 7100+17100 1 eof_read closed");
        let tsv = |args: &[&str]| product::text(ns, &[args, &["--format", "tsv"]].concat());
        let head = |args: &[&str]| tsv(args).lines().next().unwrap_or_default().to_owned();
        for (words, wanted) in [
            (&["list", "-c", "peer-port,state"][..], "PEER-PORT\tSTATE"),
            (&["list", "--columns=state,state, local "], "STATE\tLOCAL"),
            (&["list", "-c", "+age"], "STATE\tRECV-Q\tSEND-Q\tLOCAL\tPEER\tAGE\tPROCESS"),
            (&["list", "-c", "+age,+uid", "--no-owners"], "STATE\tRECV-Q\tSEND-Q\tLOCAL\tPEER\tAGE\tUID"),
            (&["list", "-o"], "STATE\tRECV-Q\tSEND-Q\tLOCAL\tPEER\tTIMER\tTIMER-REMAINING\tRETRANSMITS\tPROCESS"),
            (&["list", "-tan"], "STATE\tRECV-Q\tSEND-Q\tLOCAL\tPEER\tPROCESS"),
        ] {
            assert_eq!(head(words), wanted, "{words:?}");
        }
        for letters in ["-e", "-m", "-i", "-tanopiem"] {
            assert!(head(&["list", letters]).split('\t').count() > 8, "{letters}");
        }
        // No header, in any order of words; the rows are the same.
        let with = tsv(&["list", "-c", "state,local", "--sort", "local"]);
        let without = tsv(&["list", "-H", "-c", "state,local", "--sort", "local"]);
        assert_eq!(with, format!("STATE\tLOCAL\n{without}"));
        assert_eq!(tsv(&["list", "-Hc", "state,local", "--sort=local"]), without);
        let csv = product::text(ns, &["list", "-H", "--format", "csv", "-c", "state,local", "--sort", "local"]);
        assert_eq!(csv.to_uppercase(), without.replace('\t', ","));

        // Sorted by a number, both ways, and by a value that most rows do not have.
        let numbers = |sort: &str| -> Vec<u64> {
            let text = product::text(ns, &["list", "-H", "-c", "recv-q", "--sort", sort]);
            text.lines().map(|l| l.trim().parse().unwrap()).collect()
        };
        let mut up = numbers("recv-q");
        assert!(up.is_sorted() && up.last() == Some(&7), "{up:?}");
        let down = numbers("-recv-q");
        up.reverse();
        assert_eq!(up, down);
        for sort in ["age", "-age"] {
            let text = tsv(&["list", "-H", "-c", "age,state", "--sort", sort]);
            let first = text.lines().next().unwrap();
            assert!(first.ends_with("\tCLOSE_WAIT") && !first.starts_with('?'), "{sort}: {text}");
        }
        // Every column by itself, for people and for scripts.
        let columns = product::text(ns, &["list", "--list-columns"]);
        let names: Vec<&str> = columns.lines().map(|l| l.split_whitespace().next().unwrap()).collect();
        assert!(names.len() > 60, "{columns}");
        let all = names.join(",");
        let rows = product::json(ns, &["list", "--json"])["total"].as_u64().unwrap();
        for format in ["table", "tsv", "csv"] {
            let text = product::text(ns, &["list", "--format", format, "-c", &all]);
            assert_eq!(text.lines().count() as u64, rows + 1, "{format}");
        }
        for name in names {
            let text = product::text(ns, &["list", "-c", name, "--sort", name]);
            assert_eq!(text.lines().next().map(str::trim), Some(name.to_ascii_uppercase().as_str()));
            assert!(text.lines().skip(1).all(|l| !l.is_empty()), "{name}: {text}");
        }
    });
}

#[test]
fn colours_follow_the_flag_then_the_environment_then_the_terminal() {
    in_netns(|ns| {
        // In a process of its own: what a parallel test forks has copies of the sockets of this process until it calls
        // exec, and one of two lists would name it.
        let mut holder = Helper::start(ns);
        holder.make("established 7000 1");
        let coloured = |words: &[&str], vars: &[(&str, &str)], terminal: bool| {
            let mut command = product::with(ns, words);
            command.envs(vars.iter().copied());
            if terminal {
                return pty::run(&mut command, 100).text.contains('\u{1b}');
            }
            lossy(&finish(&mut command).stdout).contains('\u{1b}')
        };
        for command in [&["list", "--no-owners"][..], &["summary", "--no-owners"], &["explain", "machine"]] {
            for (flag, vars, on_terminal, in_pipe) in [
                (None, &[][..], true, false),
                (None, &[("NO_COLOR", "1")], false, false),
                (None, &[("NO_COLOR", "")], true, false),
                (None, &[("CLICOLOR_FORCE", "1")], true, true),
                (None, &[("CLICOLOR_FORCE", "0")], true, false),
                (None, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false, false),
                (None, &[("TERM", "dumb")], false, false),
                (Some("--color=always"), &[("NO_COLOR", "1")], true, true),
                (Some("--color=never"), &[("CLICOLOR_FORCE", "1")], false, false),
                (Some("--color=auto"), &[], true, false),
            ] {
                let words: Vec<&str> = command.iter().copied().chain(flag).collect();
                assert_eq!(coloured(&words, vars, true), on_terminal, "{words:?} {vars:?} on a terminal");
                assert_eq!(coloured(&words, vars, false), in_pipe, "{words:?} {vars:?} in a pipe");
            }
        }
        // Colour or not, the words are the same.
        let plain = pty::run(&mut product::with(ns, &["list", "--color", "never"]), 100).text;
        let painted = pty::run(&mut product::with(ns, &["list", "--color", "always"]), 100).text;
        assert_eq!(without_colours(&painted), plain);
    });
}

#[test]
fn a_namespace_without_sockets_is_an_answer() {
    in_netns(|ns| {
        for source in ["netlink", "proc"] {
            let list = product::json(ns, &["list", "--json", "--source", source]);
            assert_eq!((&list["total"], &list["sockets"]), (&0.into(), &Json::Array(Vec::new())), "{source}");
            let summary = product::json(ns, &["summary", "--json", "--source", source]);
            assert_eq!(summary["total"], 0, "{source}");
            assert_eq!(summary["states"].as_object().unwrap().len(), State::ALL.len(), "{source}");
        }
        for (words, table) in [(&["list"][..], "STATE RECV-Q SEND-Q LOCAL PEER PROCESS\n"), (&["list", "-H"], "")] {
            let output = finish(&mut product::with(ns, words));
            assert_eq!((output.status.code(), lossy(&output.stdout).as_str()), (Some(0), table));
            assert_eq!(lossy(&output.stderr), "tcpstate: there is no TCP socket\n");
        }
        let summary = product::text(ns, &["summary"]);
        assert!(summary.starts_with("0 TCP sockets on "), "{summary}");
        let lines = product::text(ns, &["list", "--format", "jsonl"]);
        let types: Vec<Json> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let types: Vec<&str> =
            types.iter().map(|l: &Json| l["type"].as_str().unwrap()).filter(|t| *t != "gap").collect();
        assert_eq!(types, ["header", "end"]);
        assert_eq!(finish(&mut product::with(ns, &["list", "--exists"])).status.code(), Some(1));
        assert_eq!(finish(&mut product::with(ns, &["doctor", "--once"])).status.code(), Some(0));
    });
}

#[test]
fn a_namespace_without_ipv6_is_a_namespace() {
    in_netns(|ns| {
        ns.set_sysctl("ipv6/conf/all/disable_ipv6", "1");
        let held = states::established(ns, Ports::server(7000), 2);
        for source in ["netlink", "proc"] {
            let list = product::json(ns, &["list", "--json", "--source", source]);
            assert_eq!(list["total"].as_u64(), Some(held.rows.len() as u64), "{source}");
            let summary = product::json(ns, &["summary", "--json", "--source", source]);
            assert_eq!(summary["families"]["ipv6"]["established"], 0, "{source}");
            assert_eq!(summary["families"]["ipv4"]["established"], 4, "{source}");
        }
        // A kernel built without it has no second table at all.
        let root = faults::proc_root(Some(faults::TABLE), None);
        let list = product::json(ns, &["list", "--json", "--proc-root", root.path().to_str().unwrap()]);
        assert_eq!((&list["total"], &list["source"]), (&3.into(), &"proc".into()));
    });
}

/// Without a command the program summarises, and its words are those of the manual.
#[test]
fn the_bare_program_is_the_summary() {
    in_netns(|ns: &Netns| {
        // In a process of its own, as above.
        let mut holder = Helper::start(ns);
        holder.make("listen 7000 5");
        // The clock in the first line and the memory of the host go on.
        let still = |line: &&str| !line.contains(" UTC") && !line.starts_with("TCP MEMORY");
        let look =
            |words: &[&str]| product::text(ns, words).lines().filter(still).map(str::to_owned).collect::<Vec<_>>();
        let bare = look(&[]);
        assert!(bare.iter().any(|line| line.contains("tcpstate-helper(")), "{bare:?}");
        assert_eq!(bare, look(&["summary"]));
        assert!(product::text(ns, &["--version"]).starts_with("tcpstate "));
        for words in [&["--help"][..], &["list", "--help"], &["doctor", "-h"]] {
            let help = product::text(ns, words);
            assert!(help.contains("Usage:") && !help.contains('\u{1b}'), "{help}");
        }
    });
}
