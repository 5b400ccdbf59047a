//! What a text means, shown by the canonical text of its parse.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn reads(text: &str, canonical: &str) {
    let expr = parsed(text);
    assert_eq!(expr.to_string(), canonical, "{text}");
    assert_eq!(parse(canonical, &NoResolver).unwrap(), expr, "{canonical}");
}

#[test]
fn the_examples_of_the_ss_manual() {
    reads(
        "state established '( dport = :ssh or sport = :ssh )'".replace('\'', "").as_str(),
        "state established and (dport = 22 or sport = 22)",
    );
    reads(
        "state fin-wait-1 ( sport = :http or sport = :https ) dst 193.233.7/24",
        "state fin-wait1 and (sport = 80 or sport = 443) and dst = 193.233.7.0/24",
    );
    reads("fwmark = 0x01/0x03", "fwmark = 0x1/0x3");
    reads("state time-wait and dport = :443", "state time-wait and dport = 443");
    reads("dst 10.0.0.1:https", "dst = 10.0.0.1:443");
    reads("src *:22 dst [::1]:80", "sport = 22 and dst = [::1]:80");
    reads("autobound", "autobound");
    reads("cgroup /system.slice/nginx.service", "cgroup = 77");
    reads("dev eth0 and not dev != lo", "dev = 2 and not dev != 1");
}

#[test]
fn every_spelling_of_an_operator() {
    for (spellings, canonical) in
        [("= == eq", "="), ("!= ne neq", "!="), ("< lt", "<"), ("<= le leq", "<="), ("> gt", ">"), (">= ge geq", ">=")]
    {
        for spelling in spellings.split(' ') {
            reads(&format!("dport {spelling} :443"), &format!("dport {canonical} 443"));
            reads(&format!("sport {spelling} 443"), &format!("sport {canonical} 443"));
        }
    }
    reads("dport=443", "dport = 443");
    reads("(dport>=1024)&&(!sport<1024)", "dport >= 1024 and not sport < 1024");
    for or in ["or", "|", "||", "OR"] {
        for and in ["and", "&", "&&", "AND", ""] {
            for not in ["not", "!", "NOT"] {
                reads(&format!("sport 1 {or} {not} sport 2 {and} sport 3"), "sport = 1 or not sport = 2 and sport = 3");
            }
        }
    }
}

#[test]
fn binding() {
    reads("sport 1 and sport 2 or sport 3", "sport = 1 and sport = 2 or sport = 3");
    reads("sport 1 and (sport 2 or sport 3)", "sport = 1 and (sport = 2 or sport = 3)");
    reads("not (sport 1 sport 2)", "not (sport = 1 and sport = 2)");
    reads("not not sport 1", "not not sport = 1");
    reads("((((sport 1))))", "sport = 1");
    reads("", "all");
    reads("  \t\n ", "all");
    reads("all and sport 1", "sport = 1");
    reads("none or sport 1", "sport = 1");
    reads("sport 1 and none", "none");
    reads("not none", "all");
}

#[test]
fn states_in_a_row_add_up_as_in_ss() {
    reads("state established state close-wait", "state established,close-wait");
    reads("state connected exclude time-wait exclude fin-wait-2", {
        "exclude fin-wait2,time-wait,close,listen,bound-inactive"
    });
    reads("exclude listen", "exclude listen");
    reads("excl listen state listen", "all");
    reads("state = close-wait,TIME_WAIT", "state time-wait,close-wait");
    reads("state != listen", "exclude listen");
    reads("state time-wait and state close-wait", "state time-wait and state close-wait");
    reads("state time-wait state listen or sport 1", "state time-wait,listen or sport = 1");
    reads("sport 1 state time-wait state listen", "sport = 1 and state time-wait,listen");
    reads("time-wait close-wait", "state time-wait,close-wait");
    reads("not state listen", "not state listen");
    reads("not listen sport 1", "not state listen and sport = 1");
    reads("half-open dport 80", "state half-open and dport = 80");
    reads("state connected", "state connected");
    reads("state big", "state big");
    reads("state all", "all");
    reads("exclude all", "none");
}

#[test]
fn states_in_front_hold_for_the_whole_filter_as_in_ss() {
    let both = "(sport = 1 or sport = 2)";
    reads("state established sport 1 or sport 2", &format!("state established and {both}"));
    reads("state established ( sport 1 or sport 2 )", &format!("state established and {both}"));
    reads("state established state listen sport 1 or sport 2", &format!("state established,listen and {both}"));
    reads("exclude listen sport 1 or sport 2", &format!("exclude listen and {both}"));
    reads("established sport 1 or sport 2", &format!("state established and {both}"));
    reads(
        "state established sport 1 sport 2 or sport 3",
        "state established and (sport = 1 and sport = 2 or sport = 3)",
    );
    reads("state established not sport 1 or sport 2", "state established and (not sport = 1 or sport = 2)");
    reads("state established sport 1", "state established and sport = 1");
    // Unlike ss: a word follows the states, or something precedes them.
    reads("state established and sport 1 or sport 2", "state established and sport = 1 or sport = 2");
    reads("state established or sport 2", "state established or sport = 2");
    reads("sport 1 state established or sport 2", "sport = 1 and state established or sport = 2");
    reads("sport 1 or state established sport 2 or sport 3", {
        "sport = 1 or state established and sport = 2 or sport = 3"
    });
    reads("(state established sport 1 or sport 2)", "state established and sport = 1 or sport = 2");
}

#[test]
fn endpoints() {
    for (text, canonical) in [
        ("src 10.1.2.3/8", "src = 10.0.0.0/8"),
        ("src = 10.0.0.0/8:443", "src = 10.0.0.0/8:443"),
        ("src :443", "sport = 443"),
        ("src 10.0.0.1:*", "src = 10.0.0.1"),
        ("src web-3.example:443", "src = 10.0.0.3:443"),
        ("src localhost:ssh", "src = 127.0.0.1:22 or src = [::1]:22"),
        ("src inet6:localhost", "family = ipv6 and src = [::1]"),
        ("src != localhost", "not (src = 127.0.0.1 or src = [::1])"),
        ("src *", "all"),
        ("src != *", "none"),
        ("src 10/8", "src = 10.0.0.0/8"),
        ("src ::1", "src = [::1]"),
        ("src fe80::/10", "src = [fe80::/10]"),
        ("src [fe80::/10]:80", "src = [fe80::/10]:80"),
        ("src [fe80::]/10:80", "src = [fe80::/10]:80"),
        ("src [fe80::1]%eth0:80", "src = [fe80::1]:80 and dev = 2"),
        ("src fe80::1%eth0", "src = [fe80::1] and dev = 2"),
        ("src fe80::1%7", "src = [fe80::1] and dev = 7"),
        ("src ::ffff:10.0.0.1", "src = 10.0.0.1"),
        ("src ::ffff:10.0.0.0/104", "src = 10.0.0.0/8"),
        ("src inet6:[::ffff:10.0.0.1]", "family = ipv6 and src = 10.0.0.1"),
        ("src inet6:10.0.0.0/8", "family = ipv6 and src = 10.0.0.0/8"),
        ("src 10.1.2.3/255.255.0.0", "src = 10.1.0.0/16"),
        ("src 10.1.2.3/0.0.0.0:80", "src = 0.0.0.0/0:80"),
        ("src ::/0", "src = [::/0]"),
        ("src inet:*", "family = ipv4"),
        ("src inet:10.0.0.1", "family = ipv4 and src = 10.0.0.1"),
        ("src inet6::80", "family = ipv6 and sport = 80"),
        ("src inet6:[::1]:80", "family = ipv6 and src = [::1]:80"),
        ("src != 10.0.0.1", "not src = 10.0.0.1"),
        ("src 10.0.0.1,10.0.0.2:80", "src = 10.0.0.1 or src = 10.0.0.2:80"),
        ("local = 10.0.0.1 peer != :80", "src = 10.0.0.1 and not dport = 80"),
        ("local-addr = 10.0.0.0/8 and peer_port = 443", "src = 10.0.0.0/8 and dport = 443"),
    ] {
        reads(text, canonical);
    }
}

#[test]
fn ports() {
    for (text, canonical) in [
        ("sport = 80,443,8000-8100", "sport = 80 or sport = 443 or sport >= 8000 and sport <= 8100"),
        ("sport != 80,443", "not (sport = 80 or sport = 443)"),
        ("sport != 80", "sport != 80"),
        ("sport *", "all"),
        ("dport = http-alt", "dport = 8080"),
        ("dport = inet:80", "family = ipv4 and dport = 80"),
        ("dport != inet6::80", "not (family = ipv6 and dport = 80)"),
        ("dport >= inet6::80", "family = ipv6 and dport >= 80"),
        ("port 443", "sport = 443 or dport = 443"),
        ("port != 443", "not (sport = 443 or dport = 443)"),
        ("port > 1023", "sport > 1023 or dport > 1023"),
    ] {
        reads(text, canonical);
    }
}

#[test]
fn columns_by_kind() {
    for (text, canonical) in [
        ("pid = 812", "pid = 812"),
        ("process ~ nginx", "process ~ nginx"),
        ("process !~ nginx", "process !~ nginx"),
        ("process = \"Web Content\"", "process = \"Web Content\""),
        ("process = and", "process = and"),
        ("process = 'it'\"'\"'s'", "process = \"it's\""),
        ("unit = foo\\x2dbar.service", "unit = foo\\x2dbar.service"),
        ("user = www-data", "uid = 33"),
        ("user != 0", "uid != 0"),
        ("user ~ www", "user ~ www"),
        ("user = www*", "user = www*"),
        ("recv-q > 0", "recv-q > 0"),
        ("RECV_Q > 0", "recv-q > 0"),
        ("send-q >= 64k", "send-q >= 65536"),
        ("send-q >= 64kB", "send-q >= 64000"),
        ("send-q >= 1.5MiB", "send-q >= 1572864"),
        ("delivery-rate < 1M/s", "delivery-rate < 1048576"),
        ("age > 10m", "age > 10m"),
        ("age > 1h30m", "age > 90m"),
        ("age > 0", "age > 0s"),
        ("rtt > 100ms", "rtt > 100ms"),
        ("rtt > 1.5ms", "rtt > 1500us"),
        ("rtt > 90s", "rtt > 90s"),
        ("timer = keepalive", "timer = keepalive"),
        ("timer = on", "timer = retransmit"),
        ("timer = persist", "timer = zero_window_probe"),
        ("timer != timewait", "timer != time_wait"),
        ("timer = *", "timer = *"),
        ("owner-status = not-accepted", "owner-status = not_accepted"),
        ("kind = time-wait-mini", "kind = time_wait_mini"),
        ("exposure = Link-Local", "exposure = link_local"),
        ("family = inet6", "family = ipv6"),
        ("family != ipv6", "family = ipv4"),
        ("netns = 4026531840", "netns = 4026531840"),
        ("netns = blue", "netns = blue"),
        ("v6only = yes", "v6only = yes"),
        ("v6only", "v6only = yes"),
        ("not ulp", "not ulp = yes"),
        ("v6only ne off", "v6only != no"),
        ("ifindex = 2", "dev = 2"),
        ("ifindex > 2", "ifindex > 2"),
        ("mark = 5", "fwmark = 0x5"),
        ("cookie = 0x1f", "cookie = 0x1f"),
        ("cookie = sk:1f", "cookie = 0x1f"),
        ("cookie = 0x1f,sk:20", "cookie = 0x1f or cookie = 0x20"),
        ("pid != 1,2", "pid != 1 and pid != 2"),
        ("inode = 0", "inode = 0"),
        ("tos = 0x10", "tos = 16"),
        ("congestion = bbr", "congestion = bbr"),
        ("cgroup ~ docker", "cgroup ~ docker"),
        ("dev = veth*", "dev = veth*"),
    ] {
        reads(text, canonical);
    }
}

#[test]
fn every_column_is_a_predicate() {
    for column in COLUMNS {
        let name = column.name;
        let candidates = ["1", "1s", "yes", "10.0.0.1", "listen", "ipv4", "known", "full", "keepalive", "any"];
        let found = candidates.iter().find_map(|v| parse(&format!("{name} = {v}"), &Names).ok());
        let expr = found.unwrap_or_else(|| panic!("nothing compares with {name}"));
        assert_eq!(parse(&expr.to_string(), &NoResolver).unwrap(), expr, "{name}");
    }
}

#[test]
fn the_constructors_of_the_flags() {
    let port = |t| Expr::parse_port(t, &Names).map(|e| e.to_string());
    assert_eq!(port("443").unwrap(), "sport = 443 or dport = 443");
    assert_eq!(
        port("80,ssh,8000-8100").unwrap(),
        "sport = 80 or sport = 22 or sport >= 8000 and sport <= 8100 or dport = 80 or dport = 22 or \
         dport >= 8000 and dport <= 8100"
    );
    assert_eq!(port("99999").unwrap_err(), "`99999` is not a port (0 to 65535)");
    assert!(port("8100-8000").unwrap_err().contains("empty range"));
    assert!(port("").unwrap_err().contains("is not a port"));
    let endpoint = |t| Expr::parse_endpoint(t, End::Peer, &Names).map(|e| e.to_string());
    assert_eq!(endpoint("10.0.0.0/8").unwrap(), "dst = 10.0.0.0/8");
    assert_eq!(endpoint(":443").unwrap(), "dport = 443");
    let error = endpoint("1.2.3").unwrap_err();
    assert!(error.starts_with("`1.2.3` is not an address (") && error.contains("10.0.0.0/8"), "{error}");
    assert_eq!(Expr::pid(812).to_string(), "pid = 812");
    assert_eq!(Expr::process("nginx*").to_string(), "process = nginx*");
    assert_eq!(Expr::user("www-data", &Names).unwrap().to_string(), "uid = 33");
    assert_eq!(
        Expr::user("nobody-here", &Names).unwrap_err(),
        "there is no user `nobody-here` (a login name or a user id)"
    );
    assert_eq!(Expr::family(Family::V6).to_string(), "family = ipv6");
    assert_eq!(Expr::and(vec![Expr::all(), Expr::states(StateSet::LISTEN)]).to_string(), "state listen");
}

#[test]
fn bounds() {
    for (text, states, family) in [
        ("state time-wait and dport 443", "state time-wait", None),
        ("state time-wait or dport 443", "all", None),
        ("not (state time-wait or dport 443)", "exclude time-wait", None),
        ("(listen dport 1) or (close-wait dport 2)", "state close-wait,listen", None),
        ("listen and time-wait", "none", None),
        ("family = ipv6 dport 1", "all", Some(Family::V6)),
        ("not family = ipv6", "all", Some(Family::V4)),
        ("src 10.0.0.0/8", "all", None),
        ("src fe80::/10 or dst ::1", "all", Some(Family::V6)),
        ("src fe80::/10 or dport 1", "all", None),
    ] {
        let expr = parsed(text);
        assert_eq!(Expr::states(expr.state_bound()).to_string(), states, "{text}");
        assert_eq!(expr.family_bound(), family, "{text}");
    }
    let needs = parsed("rtt > 1ms or not (rmem > 0 and congestion = bbr) or tos = 1 or pid = 1").needs();
    assert!(needs.info && needs.skmem && needs.congestion && needs.tos && needs.owners);
    assert_eq!(parsed("dport = 443 and state listen and cgroup ~ x").needs(), crate::model::column::Needs::NONE);
    assert!(parsed("age > 1s").needs().info);
    let within = parsed("not autobound or dport = 1").autobound_within((32768, 60999)).to_string();
    assert_eq!(within, "not (autobound and sport >= 32768 and sport <= 60999) or dport = 1");
    assert!(parsed("not (a1 = 1 or autobound)".replace("a1", "inode").as_str()).is_kernel_only());
    assert!(parsed("mark > 5").uses_mark() && parsed("not fwmark 5").uses_mark() && !parsed("dport 1").uses_mark());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_printed_expression_reads_as_itself(expr in expr(5)) {
        let text = expr.to_string();
        prop_assert_eq!(parse(&text, &NoResolver), Ok(expr), "{}", text);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}") {
        let _ = parse(&text, &Names).map_err(|e| e.to_string());
    }

    #[test]
    fn no_soup_of_its_own_words_makes_it_panic(words in proptest::collection::vec(select(vec![
        "state", "exclude", "time-wait", "listen,tw", "dport", "src", "dev", "=", "!=", "~", ">", "(", ")", "not", "!",
        "and", "or", "|", "&", "443", ":ssh", "10.0.0.0/8", "[::1", "]", "::1%lo", "age", "10s", "1e9", "process", "'",
        "\"", "*", "fwmark", "0x1/0x3", "inet6:", "netns", "v6only", "user", "cgroup", "/", ":", "%", "é", "\u{0}",
        "all", "none", "autobound", "99999999999999999999", "1.5", ",",
    ]), 0..14), glue in select(vec![" ", ""])) {
        let text = words.join(glue);
        match parse(&text, &Names) {
            Ok(expr) => prop_assert_eq!(parse(&expr.to_string(), &NoResolver), Ok(expr)),
            Err(error) => {
                let shown = error.to_string();
                prop_assert_eq!(shown.lines().count(), 3, "{}", shown);
                prop_assert!(text.get(error.at.clone()).is_some(), "{:?}", error);
            }
        }
    }
}
