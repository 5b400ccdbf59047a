//! The process that a thread belongs to, while `/proc` still has it.
//!
//! Input: numbers of threads as the kernel records them, which are those of the first pid namespace. Output: process and
//! name, `None` once the process has ended and nothing remembers it. Not here: whether the thread did anything.

use rustc_hash::FxHashMap;

use super::instance::Instance;
use crate::model::transition::{Actor, Comm};

/// How long an answer is trusted: the kernel reuses a number only after all others.
const FRESH_NS: u64 = 1_000_000_000;
/// The same for a thread that has ended.
const STALE_NS: u64 = 10_000_000_000;
/// Threads that are remembered.
const REMEMBERED: usize = 20_000;

/// A thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    pub actor: Actor,
    pub kernel: bool,
}

/// Threads that were read before.
#[derive(Debug, Default)]
pub struct Tasks {
    known: FxHashMap<u32, (u64, Option<Task>)>,
}

impl Tasks {
    /// The process of a thread that acted at this time (nanoseconds of the monotonic clock).
    pub fn of(&mut self, tid: u32, at_ns: u64, instance: &Instance) -> Option<Task> {
        let before = self.known.get(&tid);
        if let Some((asked, task)) = before
            && at_ns.saturating_sub(*asked) < FRESH_NS
        {
            return *task;
        }
        let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok();
        let task = status
            .and_then(|text| parse(&text))
            .or_else(|| remembered(tid, instance))
            // It has ended, and is the one that acted before: numbers do not come again so soon.
            .or_else(|| before.filter(|(asked, _)| at_ns.saturating_sub(*asked) < STALE_NS)?.1);
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(tid, (at_ns, task));
        task
    }
}

/// `/proc/TID/status`.
fn parse(status: &str) -> Option<Task> {
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let pid: u32 = field("Tgid")?.parse().ok()?;
    // kthreadd is process 2, and all kernel threads are its children.
    let kernel = pid == 2 || field("PPid") == Some("2");
    Some(Task { actor: Actor { pid, comm: Comm::from(&*unescaped(field("Name")?)) }, kernel })
}

/// A newline and a backslash in a name are escaped in `/proc/PID/status`.
fn unescaped(name: &str) -> String {
    name.replace("\\n", "\n").replace("\\\\", "\\")
}

/// What the kernel remembers of threads that have ended: their process, and for some their name.
fn remembered(tid: u32, instance: &Instance) -> Option<Task> {
    let find = |text: &str| {
        text.lines().find_map(|line| {
            let (number, value) = line.trim().split_once(' ')?;
            (number.parse() == Ok(tid)).then(|| value.to_owned())
        })
    };
    let pid = find(&instance.read_global("saved_tgids").ok()?)?.parse().ok()?;
    let comm = find(&instance.read_global("saved_cmdlines").ok()?)?;
    Some(Task { actor: Actor { pid, comm: Comm::from(&*comm) }, kernel: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_the_number_of_its_process_and_a_name_of_its_own() {
        let text = "Name:\tto\\\\kio 1\nUmask:\t0022\nTgid:\t812\nNgid:\t0\nPid:\t815\nPPid:\t1\n";
        assert_eq!(parse(text), Some(Task { actor: Actor { pid: 812, comm: "to\\kio 1".into() }, kernel: false }));
        assert!(parse(&text.replace("PPid:\t1", "PPid:\t2")).unwrap().kernel);
        assert_eq!(parse("Name:\tx\n"), None);
        assert_eq!(parse(""), None);
    }
}
