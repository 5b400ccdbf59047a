//! Values as people read them: moments, durations, sizes, counts, processes, shortened words, and shell arguments.

use std::fmt;

use jiff::Timestamp;

use crate::model::Process;
use crate::model::capability::{Capabilities, Capability};
use crate::model::digits::Digits;

/// A process as people read it: `java (812)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    pub comm: &'a str,
    pub pid: u32,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.comm {
            // It ended before it could be asked.
            "" => write!(f, "process {}", self.pid),
            comm => write!(f, "{comm} ({})", self.pid),
        }
    }
}

/// A process as people read it.
#[must_use]
pub fn named(comm: &str, pid: u32) -> Named<'_> {
    Named { comm, pid }
}

/// The name of a process, as text.
#[must_use]
pub fn name(process: &Process) -> String {
    named(&process.comm, process.pid).to_string()
}

/// Processes of one command that come and go: `curl, 37 processes`.
#[must_use]
pub fn short_lived(comm: &str, processes: u64) -> String {
    format!("{comm}, {}", count(processes, "process", "processes"))
}

/// A moment in milliseconds since the epoch; `None` out of the range of dates.
#[must_use]
pub fn timestamp(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

/// The same in the name of a file: `20261129T030207Z`.
#[must_use]
pub fn compact_time(ms: u64) -> String {
    timestamp(ms).unwrap_or_default().strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The day of a moment, UTC: `2026-11-29`.
#[must_use]
pub fn day(ms: u64) -> String {
    timestamp(ms).unwrap_or_default().strftime("%Y-%m-%d").to_string()
}

/// Its time of day, UTC: `03:02:07`.
#[must_use]
pub fn time_of_day(ms: u64) -> String {
    timestamp(ms).unwrap_or_default().strftime("%H:%M:%S").to_string()
}

/// Both: `2026-11-29 03:02:07`.
#[must_use]
pub fn moment(ms: u64) -> String {
    format!("{} {}", day(ms), time_of_day(ms))
}

/// The time of a moment in a stretch; of several days it is the day and the minute.
#[must_use]
pub fn time_within(ms: u64, (from, to): (u64, u64)) -> String {
    if day(from) == day(to) {
        return time_of_day(ms);
    }
    timestamp(ms).unwrap_or_default().strftime("%m-%d %H:%M").to_string()
}

/// A duration in a sentence: `0.4 s`, `12 s`, `4 min 10 s`, `4 min`, `3 h`.
#[must_use]
pub fn duration(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        10_000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => minutes(ms / 1000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// Minutes, and the seconds beyond them if there are any.
fn minutes(seconds: u64) -> String {
    match seconds % 60 {
        0 => format!("{} min", seconds / 60),
        rest => format!("{} min {rest} s", seconds / 60),
    }
}

/// A duration in a table, written on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compact {
    us: u64,
    /// The source counts milliseconds, so less than one is not shown as microseconds.
    millis: bool,
}

/// `350ms`, `4.2s`, `4m10s`, `3h05m`, `12d04h`.
#[must_use]
pub fn compact_ms(ms: u64) -> Compact {
    Compact { us: ms.saturating_mul(1000), millis: true }
}

/// The same from microseconds, in three digits: `12us`, `3.45ms`, `34.5ms`, `345ms`, `4.2s`.
#[must_use]
pub fn compact_us(us: u64) -> Compact {
    Compact { us, millis: false }
}

impl fmt::Display for Compact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (us, ms) = (self.us, self.us / 1000);
        let seconds = ms / 1000;
        match us {
            0..1000 if !self.millis => return write!(f, "{us}us"),
            1000..10_000 if !self.millis => return write!(f, "{ms}.{:02}ms", us % 1000 / 10),
            10_000..100_000 if !self.millis => return write!(f, "{ms}.{}ms", us % 1000 / 100),
            _ => {}
        }
        match seconds {
            0 => write!(f, "{ms}ms"),
            1..10 if ms % 1000 >= 100 => write!(f, "{seconds}.{}s", ms % 1000 / 100),
            1..10 => write!(f, "{seconds}s"),
            10..60 => write!(f, "{seconds}s"),
            60..3600 => write!(f, "{}m{:02}s", seconds / 60, seconds % 60),
            3600..86_400 => write!(f, "{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
            _ => write!(f, "{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
        }
    }
}

/// Columns of a text on a terminal, for the text used here: addresses, numbers and sanitised names.
#[must_use]
pub fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

/// Cuts the end of what was written from `from` on, to this many columns.
pub fn cut_end(out: &mut String, from: usize, columns: usize) {
    if width(&out[from..]) <= columns {
        return;
    }
    let kept = out[from..].char_indices().nth(columns.saturating_sub(1)).map_or(0, |(at, _)| at);
    out.truncate(from + kept);
    out.push('…');
}

/// The start of the text, in this many columns.
#[must_use]
pub fn shorten_end(text: &str, columns: usize) -> String {
    let mut text = text.to_owned();
    cut_end(&mut text, 0, columns);
    text
}

/// The start and the end of the text, in this many columns.
#[must_use]
pub fn shorten_middle(text: &str, columns: usize) -> String {
    let len = width(text);
    if len <= columns {
        return text.to_owned();
    }
    let keep = columns.saturating_sub(1);
    let front = keep / 2;
    text.chars().take(front).chain(['…']).chain(text.chars().skip(len.saturating_sub(keep - front))).collect()
}

/// `512 bytes`, `64 KiB`, `3.2 MiB`, `714 MiB`, `1.5 GiB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    let (size, unit) = match n {
        0..1024 => return count(n, "byte", "bytes"),
        1024..1_048_576 => return format!("{} KiB", grouped(n / 1024)),
        1_048_576..1_073_741_824 => (n as f64 / 1_048_576.0, "MiB"),
        _ => (n as f64 / 1_073_741_824.0, "GiB"),
    };
    if size < 99.95 { format!("{size:.1} {unit}") } else { format!("{} {unit}", rounded(size)) }
}

/// A number with thousands separators: `1,234,567`.
#[must_use]
pub fn grouped(n: u64) -> String {
    let digits = Digits::new(n);
    let digits = digits.as_str();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// The same of a number that is not whole and not negative, without what is behind the point: `1,235`.
#[must_use]
pub fn rounded(n: f64) -> String {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and the text is for people"
    )]
    grouped(n.round() as u64)
}

/// `1 client`, `3 clients`, `1,307 clients`.
#[must_use]
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { many })
}

/// `2,044 of 28,232`.
#[must_use]
pub fn of(part: u64, whole: u64) -> String {
    format!("{} of {}", grouped(part), grouped(whole))
}

/// A rate in at most five characters: `0`, `3.2`, `140`, `12k`.
#[must_use]
pub fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => "-".into(),
        Some(0.0) => "0".into(),
        Some(r) if r < 9.95 => format!("{r:.1}"),
        Some(r) if r < 9999.5 => format!("{r:.0}"),
        Some(r) if r < 999_500.0 => format!("{:.0}k", r / 1e3),
        Some(r) => format!("{:.1}M", r / 1e6),
    }
}

/// The same of what grows or shrinks: `+1.4`, `-12`, `0`.
#[must_use]
pub fn signed_rate(per_second: f64) -> String {
    match per_second {
        r if r.abs() < 0.05 => "0".to_owned(),
        r => format!("{}{}", if r < 0.0 { '-' } else { '+' }, rate(Some(r.abs()))),
    }
}

/// `CAP_BPF and CAP_PERFMON`.
#[must_use]
pub fn capabilities(all: Capabilities) -> String {
    all.iter().map(Capability::name).collect::<Vec<_>>().join(" and ")
}

/// The options that give these capabilities to a container.
#[must_use]
pub fn container_options(all: Capabilities) -> String {
    let short = |c: Capability| c.name().strip_prefix("CAP_").unwrap_or(c.name());
    all.iter().map(|c| format!("--cap-add {}", short(c))).collect::<Vec<_>>().join(" ")
}

/// The words as one shell argument.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Commands that read sockets, and take the options that say where.
const LOOKING: [&str; 5] = ["list", "summary", "doctor", "watch", "trace"];

/// A command of this program, with the options that say where (`--netns blue`); any other stays as it is.
#[must_use]
pub fn within(command: &str, scope: &str) -> String {
    let ours = command.strip_prefix("tcpstate ").map(|words| words.split_once(' ').unwrap_or((words, "")));
    match ours {
        // A capture is not read by these.
        Some(("watch" | "trace", _)) if scope.starts_with("--from ") => command.to_owned(),
        Some((name, rest)) if !scope.is_empty() && LOOKING.contains(&name) && !rest.starts_with(scope) => {
            format!("tcpstate {name} {scope} {rest}").trim_end().to_owned()
        }
        Some(("explain", rest)) if !scope.is_empty() && rest.starts_with("bind ") => format!("{command} {scope}"),
        _ => command.to_owned(),
    }
}

/// Programs that answer for the network namespace in which they run.
const OF_NETNS: [&str; 8] = ["conntrack", "ip", "iptables", "nft", "nstat", "ss", "sysctl", "tc"];

/// Whether these options lead into other network namespaces of this host.
#[must_use]
pub fn leads_elsewhere(scope: &str) -> bool {
    ["--netns ", "--container ", "--pod "].iter().any(|option| scope.starts_with(option))
}

/// A command of another program, run in the network namespace of this name where its answer depends on that.
#[must_use]
pub fn inside(command: &str, netns: &str) -> String {
    let depends = command.split(' ').next().is_some_and(|program| OF_NETNS.contains(&program));
    if depends { format!("ip netns exec {netns} {command}") } else { command.to_owned() }
}

/// Options that say where (`--netns all`), with this network namespace in place of several; `None` where they name one or
/// none, or a capture.
#[must_use]
pub fn narrowed(scope: &str, netns: &str) -> Option<String> {
    let options = || scope.strip_prefix("--").unwrap_or(scope).split(" --").filter(|option| !option.is_empty());
    let spaces = options().filter(|option| option.starts_with("netns ")).count();
    if scope.starts_with("--from ") || !(spaces > 1 || options().any(|option| option == "netns all")) {
        return None;
    }
    let others = options().filter(|option| !option.starts_with("netns ")).map(|option| format!(" --{option}"));
    Some(format!("--netns {netns}") + &others.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_namespaces_that_of_the_finding_is_named() {
        let of = |scope| narrowed(scope, "web");
        assert_eq!(of("--netns all").as_deref(), Some("--netns web"));
        assert_eq!(of("--netns blue --netns web --proc-root /host").as_deref(), Some("--netns web --proc-root /host"));
        for one in ["", "--netns blue", "--container web", "--from x.tcps.zst --netns all"] {
            assert_eq!(of(one), None, "{one}");
        }
    }

    #[test]
    fn a_process_is_its_name_and_its_pid() {
        assert_eq!(named("java", 812).to_string(), "java (812)");
        assert_eq!(named("", 812).to_string(), "process 812");
    }

    #[test]
    fn the_next_command_looks_where_this_one_did() {
        let scope = "--netns blue";
        for (command, told) in [
            ("tcpstate list -p", "tcpstate list --netns blue -p"),
            ("tcpstate doctor", "tcpstate doctor --netns blue"),
            ("tcpstate list --netns blue -p", "tcpstate list --netns blue -p"),
            ("tcpstate explain time-wait", "tcpstate explain time-wait"),
            ("tcpstate explain bind 0.0.0.0:80", "tcpstate explain bind 0.0.0.0:80 --netns blue"),
            ("sysctl net.ipv4.tcp_mem", "sysctl net.ipv4.tcp_mem"),
        ] {
            assert_eq!(within(command, scope), told);
            assert_eq!(within(command, ""), command);
        }
    }

    #[test]
    fn another_program_is_run_where_the_finding_is() {
        assert_eq!(inside("ip neigh show to 10.0.0.9", "web"), "ip netns exec web ip neigh show to 10.0.0.9");
        assert_eq!(inside("tcpstate list", "web"), "tcpstate list");
        assert!(["--netns all", "--container web", "--pod a/b"].into_iter().all(leads_elsewhere));
        assert!(!leads_elsewhere("") && !leads_elsewhere("--from x.tcps.zst --netns all"));
    }

    #[test]
    fn files_are_named_after_the_moment_that_they_show() {
        assert_eq!(compact_time(1_760_000_000_500), "20251009T085320Z");
        assert_eq!(
            (timestamp(0).map(|at| at.to_string()), timestamp(u64::MAX)),
            (Some("1970-01-01T00:00:00Z".into()), None)
        );
    }

    #[test]
    fn durations_and_counts_read_as_people_say_them() {
        for (ms, text) in [
            (0, "0.0 s"),
            (1999, "1.9 s"),
            (10_000, "10 s"),
            (130_000, "2 min 10 s"),
            (240_000, "4 min"),
            (7_500_000, "2 h"),
        ] {
            assert_eq!(duration(ms), text);
        }
        assert_eq!(
            [1, 0, 1307].map(|n| count(n, "client", "clients")),
            ["1 client", "0 clients", "1,307 clients"].map(str::to_owned)
        );
        assert_eq!((of(2044, 28_232), rounded(1234.5)), ("2,044 of 28,232".into(), "1,235".into()));
    }

    #[test]
    fn durations_of_a_table_read_at_a_glance() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (4250, "4.2s"),
            (59_999, "59s"),
            (250_000, "4m10s"),
            (11_100_000, "3h05m"),
            (1_051_200_000, "12d04h"),
        ] {
            assert_eq!(compact_ms(ms).to_string(), text);
        }
        let shown =
            [0, 999, 3450, 34_599, 99_999, 345_678, 2_100_000, 125_000_000].map(|us| compact_us(us).to_string());
        assert_eq!(shown, ["0us", "999us", "3.45ms", "34.5ms", "99.9ms", "345ms", "2.1s", "2m05s"]);
    }

    #[test]
    fn rates_take_five_characters() {
        let shown = [0.0, 0.04, 3.24, 9.96, 140.4, 12_345.0, 2.5e6].map(|r| rate(Some(r)));
        assert_eq!(shown, ["0", "0.0", "3.2", "10", "140", "12k", "2.5M"]);
        assert_eq!([0.0, 0.04, 1.44, -12.0].map(signed_rate), ["0", "0", "+1.4", "-12"]);
        assert_eq!(rate(None), "-");
    }

    #[test]
    fn long_numbers_are_grouped() {
        assert_eq!([0, 999, 1_234_567].map(grouped), ["0", "999", "1,234,567"]);
    }

    #[test]
    fn shortened_words_keep_to_their_columns() {
        for (columns, end, middle) in [(6, "abcdef", "abcdef"), (5, "abcd…", "ab…ef"), (2, "a…", "…f"), (1, "…", "…")]
        {
            assert_eq!(
                (shorten_end("abcdef", columns), shorten_middle("abcdef", columns)),
                (end.into(), middle.into())
            );
        }
        let mut out = "x äöü".to_owned();
        cut_end(&mut out, 2, 2);
        assert_eq!(out, "x ä…");
    }

    #[test]
    fn sizes_read_as_people_say_them() {
        for (n, text) in [
            (1, "1 byte"),
            (1023, "1,023 bytes"),
            (65_536, "64 KiB"),
            (3_355_443, "3.2 MiB"),
            (501 << 20, "501 MiB"),
            (3 << 29, "1.5 GiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }
}
