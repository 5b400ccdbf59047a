//! How values read for people: durations, sizes, counts, processes, and arguments of a shell.

use std::fmt;

use crate::model::Process;

/// A process as people read it: `java (812)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    pub comm: &'a str,
    pub pid: u32,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.comm, self.pid)
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

/// `0.4 s`, `12 s`, `4 min`, `3 h`.
#[must_use]
pub fn duration(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        10_000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// `512 bytes`, `64 KiB`, `3.2 MiB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    match n {
        0..1024 => count(n, "byte", "bytes"),
        1024..1_048_576 => format!("{} KiB", n / 1024),
        _ => format!("{:.1} MiB", n as f64 / 1_048_576.0),
    }
}

/// A number with its thousands set apart, which reads at a glance: `1,234,567`.
#[must_use]
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `1 client`, `3 clients`.
#[must_use]
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The words as one argument of a shell.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Commands that look at sockets, and can be told where.
const LOOKING: [&str; 5] = ["list", "summary", "doctor", "watch", "trace"];

/// A command of this program, told where to look (`--netns blue`); any other stays as it is.
#[must_use]
pub fn within(command: &str, scope: &str) -> String {
    let ours = command.strip_prefix("tcpstate ").map(|words| words.split_once(' ').unwrap_or((words, "")));
    match ours {
        Some((name, rest)) if !scope.is_empty() && LOOKING.contains(&name) && !rest.starts_with(scope) => {
            format!("tcpstate {name} {scope} {rest}").trim_end().to_owned()
        }
        _ => command.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_its_name_and_its_pid() {
        assert_eq!(named("java", 812).to_string(), "java (812)");
    }

    #[test]
    fn the_next_command_looks_where_this_one_did() {
        let scope = "--netns blue";
        for (command, told) in [
            ("tcpstate list -p", "tcpstate list --netns blue -p"),
            ("tcpstate doctor", "tcpstate doctor --netns blue"),
            ("tcpstate list --netns blue -p", "tcpstate list --netns blue -p"),
            ("tcpstate explain time-wait", "tcpstate explain time-wait"),
            ("sysctl net.ipv4.tcp_mem", "sysctl net.ipv4.tcp_mem"),
        ] {
            assert_eq!(within(command, scope), told);
            assert_eq!(within(command, ""), command);
        }
    }

    #[test]
    fn durations_and_counts_read_as_people_say_them() {
        for (ms, text) in [(0, "0.0 s"), (1999, "1.9 s"), (10_000, "10 s"), (130_000, "2 min"), (7_200_000, "2 h")] {
            assert_eq!(duration(ms), text);
        }
        assert_eq!(
            (count(1, "client", "clients"), count(0, "client", "clients")),
            ("1 client".into(), "0 clients".into())
        );
    }

    #[test]
    fn sizes_read_as_people_say_them() {
        for (n, text) in [(1, "1 byte"), (1023, "1023 bytes"), (65_536, "64 KiB"), (3_355_443, "3.2 MiB")] {
            assert_eq!(bytes(n), text);
        }
    }
}
