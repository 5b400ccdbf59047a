//! What a user reads when a filter is wrong: the three lines of an error.

use super::*;

#[track_caller]
fn says(text: &str, lines: [&str; 3]) {
    assert_eq!(refused(text).to_string(), lines.join("\n"));
}

#[test]
fn the_caret_stands_under_the_word() {
    says(
        "state established and dport = 99999",
        [
            "filter: `99999` is not a port",
            "  state established and dport = 99999",
            "                                ^^^^^ expected 0 to 65535",
        ],
    );
    says(
        "state tw,FOO,cw",
        [
            "filter: `FOO` is not a TCP state",
            "  state tw,FOO,cw",
            &format!("           ^^^ expected {}", StateSet::vocabulary()),
        ],
    );
    says(
        "age > 10",
        [
            "filter: `10` needs a unit, such as 10s",
            "  age > 10",
            "        ^^ expected a duration in us, ms, s, m, h or d, such as 500ms, 10s or 1h30m",
        ],
    );
    says(
        "recvq > 0",
        ["filter: `recvq` is neither a predicate nor a state", "  recvq > 0", "  ^^^^^ did you mean `recv-q`?"],
    );
    says(
        "dport = 80 and",
        [
            "filter: the filter ends too early",
            "  dport = 80 and",
            "                ^ expected a predicate such as dport = 443, a state, `not` or `(`",
        ],
    );
    says("(dport = 80", ["filter: this `(` is not closed", "  (dport = 80", "  ^ expected a `)` later on"]);
    says(
        "dport = 80)",
        ["filter: this `)` closes nothing", "  dport = 80)", "            ^ expected and, or, or the end"],
    );
    says(
        "process = \"ngi",
        ["filter: the quote is not closed", "  process = \"ngi", "            ^ expected a \" at the end of the value"],
    );
}

#[test]
fn every_mistake_names_the_word_and_the_way_out() {
    for (text, found, expected) in [
        ("state FOO", "`FOO` is not a TCP state", "time-wait"),
        ("state tw,FOO", "`FOO` is not a TCP state", "time-wait"),
        ("state", "ends too early", "a state such as established"),
        ("dst 1.2.3", "`1.2.3` is not an address", "10.0.0.0/8"),
        ("dst 443", "`443` is not an address", "for a port write :443"),
        ("dst example.com", "`example.com` is not an address, and no host of that name was found", "HOST"),
        ("dst ::1:zz", "`::1:zz` is not an address", "brackets"),
        ("dst [::1", "`[::1` is not an address", "[IPV6]:PORT"),
        ("dst 10.0.0.0/33", "`33` is not a prefix length", "0 to 32"),
        ("dst ::/129", "`129` is not a prefix length", "0 to 128"),
        ("dst 1.2.3.4:", "a port is missing", ":PORT"),
        ("dst inet:::1", "is not of that family", "address of the family"),
        ("dst unix:/tmp/x", "`unix:` has no TCP sockets", "inet:"),
        ("dst > 10.0.0.1", "`dst` cannot be compared with `>`", "= !="),
        ("dport ~ 80", "`dport` cannot be compared with `~`", "<="),
        ("dport > 80,90", "cannot compare with several ports", "one port"),
        ("dport = nosuch", "`nosuch` is not a port", "service name"),
        ("dev = nosuch0", "there is no interface `nosuch0`", "ip link"),
        ("user = nosuch", "there is no user `nosuch`", "login name"),
        ("cgroup = /nosuch", "there is no cgroup `/nosuch`", "/system.slice"),
        ("fwmark = x", "`x` is not a mark", "VALUE/MASK"),
        ("rtt > 5", "`5` needs a unit, such as 5s", "500ms"),
        ("rtt > 5parsec", "`5parsec` is not a duration", "500ms"),
        ("rtt > 0.1us", "finer than a microsecond", "us"),
        ("age > 99999999999999d", "is too long", "years"),
        ("send-q > 5x", "`5x` is not a size", "64k"),
        ("cwnd > 5k", "`5k` is not a whole number", "without a unit"),
        ("pid = nginx", "`nginx` is not a whole number", "number"),
        ("pid 812", "`812` is not expected here", "a comparison: ="),
        ("pid", "`pid` lacks a comparison", "a comparison: ="),
        ("process > a", "`process` cannot be compared with `>`", "!~"),
        ("timer = foo", "`foo` is not a value of `timer`", "zero-window-probe"),
        ("owner-status = foo", "`foo` is not a value of `owner-status`", "not-accepted"),
        ("exposure = world", "`world` is not a value of `exposure`", "loopback link-local private public"),
        ("family = 5", "`5` is not a family", "ipv4 or ipv6"),
        ("v6only = maybe", "`maybe` is neither yes nor no", "yes or no"),
        ("tiem-wait", "`tiem-wait` is neither a predicate nor a state", "did you mean `time-wait`?"),
        ("qqqqqqqqqqqqqqq", "neither a predicate nor a state", "--list-columns"),
        ("listen = 5", "`=` is not expected here", "a predicate"),
        ("= 5", "`=` is not expected here", "a predicate"),
        ("or sport 1", "`or` joins nothing here", "a predicate"),
        ("sport 1 and and dport 2", "`and` joins nothing here", "a predicate"),
        ("foo", "`foo` is neither", "--list-columns"),
        ("#", "`#` is neither", "--list-columns"),
        ("dst 10.0.0.0/255.0.255.0", "`255.0.255.0` is not a prefix length", "0 to 32"),
        ("dst ::/255.0.0.0", "`255.0.0.0` is not a prefix length", "0 to 128"),
        ("dport = )", "`)` is not expected here", "a port"),
        ("()", "`)` is not expected here", "a predicate"),
        ("\"dport\" = 5", "`dport` is not expected here", "a predicate"),
    ] {
        let error = refused(text);
        assert!(error.found.contains(found), "{text}: {error}");
        assert!(error.advice().contains(expected), "{text}: {error}");
        let line = error.one_line();
        assert!(!line.contains('\n') && line.starts_with("filter: "), "{line}");
    }
}

#[test]
fn limits_are_errors() {
    let long = format!("dport = 1 {}", "or dport = 1 ".repeat(6000));
    assert!(refused(&long).found.contains("bytes long"));
    let fits = format!("dport = 1 {}", "or dport = 1 ".repeat(5000));
    assert!(parse(&fits, &NoResolver).is_ok());
    for (open, close) in [("(", ")"), ("not ", ""), ("!(", ")")] {
        let deep = |n: usize| format!("{}sport 1{}", open.repeat(n), close.repeat(n));
        assert!(refused(&deep(30_000 / open.len())).found.contains("nested too deeply"));
        let expr = parsed(&deep(MAX_DEPTH / open.trim().len().min(2)));
        assert_eq!(parse(&expr.to_string(), &NoResolver).unwrap(), expr);
    }
}

#[test]
fn a_long_or_hostile_text_is_shown_in_part_and_clean() {
    let text = format!("{} nosuch = 1 {}", "dport = 1 or ".repeat(100), "or dport = 1 ".repeat(100));
    let shown = refused(&text).to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[1].len() < 120, "{shown}");
    let caret = lines[2].find('^').unwrap();
    assert_eq!(&lines[1][caret..caret + 6], "nosuch", "{shown}");
    let shown = refused("state \u{1b}[31mred\n").to_string();
    assert_eq!(shown.lines().count(), 3);
    assert!(!shown.contains('\u{1b}'), "{shown}");
}
