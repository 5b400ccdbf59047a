//! What is measured: every command, its budget, how its answer is checked, and how one run of it is timed.
//!
//! Comes in: the command line of a subject and a namespace. Goes out: its wall time, CPU time and peak memory, or the
//! reason why it could not be measured. Never here: a ratio or a table.

use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::netns;

/// No subject may take longer; one that does is ended and shows as not available.
const LONGEST_RUN: Duration = Duration::from_secs(60);

/// At most this long, by the measurements of the same round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    None,
    TimesFloor(f64),
    FloorPlusMs(f64),
    /// The floor, and so many times the bare walk over `/proc/*/fd`.
    FloorPlusWalks(f64),
    Ms(f64),
    /// So many times these floors together.
    Times(f64, &'static [&'static str]),
}

/// How many of the sockets that are there an answer has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// All, one line each.
    LinePerSocket,
    /// Those that belong to a process, one line each.
    LinePerOwned,
    /// All, an object with a `local` endpoint each.
    ObjectPerSocket,
    /// All, as the `total` of the same command with `--json`.
    Total,
    /// All, as the `sockets=` of a floor.
    FloorCount,
    /// Something.
    Anything,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// This binary.
    Floor,
    Tcpstate,
    Peer(&'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    pub name: &'static str,
    pub program: Program,
    pub arguments: &'static [&'static str],
    pub budget: Budget,
    pub shows: Shows,
    /// Takes seconds: one or two rounds must do.
    pub slow: bool,
    /// Names owners, so it has nothing to do where nobody owns anything.
    pub owners: bool,
}

const fn subject(name: &'static str, program: Program, arguments: &'static [&'static str], shows: Shows) -> Subject {
    Subject { name, program, arguments, budget: Budget::None, shows, slow: false, owners: false }
}

impl Subject {
    const fn budget(mut self, budget: Budget) -> Subject {
        self.budget = budget;
        self
    }

    const fn slow(mut self) -> Subject {
        self.slow = true;
        self
    }

    const fn owners(mut self) -> Subject {
        self.owners = true;
        self
    }
}

/// The row against which budgets count.
pub const FLOOR: &str = "floor: dump";
pub const WALK: &str = "floor: /proc/*/fd walk";
/// What a diagnosis needs: every socket with what the kernel knows of it, and who holds it.
const DIAGNOSIS: &str = "floor: dump with tcp_info and memory";
const DESCRIPTORS: &str = "floor: descriptors by BPF";

const fn floor(name: &'static str, arguments: &'static [&'static str]) -> Subject {
    subject(name, Program::Floor, arguments, Shows::FloorCount)
}

const fn ours(name: &'static str, arguments: &'static [&'static str], shows: Shows) -> Subject {
    subject(name, Program::Tcpstate, arguments, shows)
}

const fn peer(name: &'static str, program: &'static str, arguments: &'static [&'static str], shows: Shows) -> Subject {
    subject(name, Program::Peer(program), arguments, shows)
}

/// Every row, floors first.
pub const ALL: &[Subject] = &[
    subject("floor: start and end", Program::Floor, &["role:floor", "start"], Shows::Anything),
    floor(FLOOR, &["role:floor", "dump"]),
    floor("floor: dump with tcp_info", &["role:floor", "dump-info"]),
    floor(DIAGNOSIS, &["role:floor", "dump-diagnosis"]),
    subject(DESCRIPTORS, Program::Floor, &["role:floor", "descriptors"], Shows::Anything).owners(),
    floor("floor: dump, two passes", &["role:floor", "dump-two-pass"]),
    floor("floor: dump, no bound-inactive", &["role:floor", "dump-no-bound"]),
    subject("floor: dump that matches nothing", Program::Floor, &["role:floor", "dump-none"], Shows::Anything),
    subject(WALK, Program::Floor, &["role:floor", "fd-walk"], Shows::Anything).owners(),
    ours("tcpstate summary --no-owners", &["summary", "--no-owners"], Shows::Total).budget(Budget::TimesFloor(1.10)),
    ours("tcpstate summary --counts", &["summary", "--counts"], Shows::Total).budget(Budget::TimesFloor(0.30)),
    ours("tcpstate list --no-owners", &["list", "--no-owners"], Shows::LinePerSocket),
    ours("tcpstate list --no-owners --json", &["list", "--no-owners", "--json"], Shows::ObjectPerSocket)
        .budget(Budget::TimesFloor(1.40)),
    ours("tcpstate list --no-owners --format csv", &["list", "--no-owners", "--format", "csv"], Shows::LinePerSocket)
        .budget(Budget::TimesFloor(1.40)),
    ours("tcpstate list", &["list"], Shows::LinePerSocket).owners(),
    ours("tcpstate list --owners-via bpf", &["list", "--owners-via", "bpf"], Shows::LinePerSocket)
        .budget(Budget::FloorPlusMs(100.0))
        .owners(),
    ours("tcpstate list --owners-via proc", &["list", "--owners-via", "proc"], Shows::LinePerSocket)
        .budget(Budget::FloorPlusWalks(1.2))
        .owners(),
    ours("tcpstate summary", &["summary"], Shows::Total),
    ours("tcpstate doctor --once --no-owners", &["doctor", "--once", "--no-owners"], Shows::Anything)
        .budget(Budget::Times(1.3, &[DIAGNOSIS])),
    ours("tcpstate doctor --once", &["doctor", "--once"], Shows::Anything)
        .budget(Budget::Times(1.3, &[DIAGNOSIS, DESCRIPTORS]))
        .owners(),
    peer("ss -tan", "ss", &["-tan"], Shows::LinePerSocket),
    peer("netstat -tan", "netstat", &["-tan"], Shows::LinePerSocket),
    peer("ss -tanp", "ss", &["-tanp"], Shows::LinePerSocket).slow().owners(),
    peer("netstat -tanp", "netstat", &["-tanp"], Shows::LinePerSocket).slow().owners(),
    peer("lsof -nP -iTCP", "lsof", &["-nP", "-iTCP"], Shows::LinePerOwned).slow().owners(),
];

/// The one row of the idle host.
pub const IDLE: &[Subject] = &[
    subject("floor: start and end", Program::Floor, &["role:floor", "start"], Shows::Anything),
    floor(FLOOR, &["role:floor", "dump"]),
    ours("tcpstate summary", &["summary"], Shows::Total).budget(Budget::Ms(10.0)),
    peer("ss -tan", "ss", &["-tan"], Shows::Anything),
];

/// The rows of 200 empty namespaces.
pub const NAMESPACES: &[Subject] = &[
    subject("floor: start and end", Program::Floor, &["role:floor", "start"], Shows::Anything),
    subject(FLOOR, Program::Floor, &["role:floor", "walks-200"], Shows::Anything),
    ours("tcpstate summary --netns all --no-owners", &["summary", "--netns", "all", "--no-owners"], Shows::Anything)
        .budget(Budget::TimesFloor(1.0)),
    ours("tcpstate list --netns all", &["list", "--netns", "all"], Shows::Anything),
];

/// A peer, the command of ours that answers the same question, and how many times faster that has to be.
pub const DUELS: &[(&str, &str, f64)] = &[
    ("ss -tan", "tcpstate list --no-owners", 2.0),
    ("ss -tanp", "tcpstate list", 25.0),
    ("netstat -tanp", "tcpstate list", 10.0),
    ("lsof -nP -iTCP", "tcpstate list", 10.0),
];

/// Peak memory of `summary`, whatever the number of sockets.
pub const SUMMARY_PEAK_MIB: f64 = 16.0;

/// One run, measured from before `fork` to after `wait4`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    pub wall_ms: f64,
    pub cpu_ms: f64,
    /// Never below the memory of this benchmark itself, from which the kernel counts on across `exec`.
    pub peak_kib: i64,
}

/// How many sockets an answer has to show here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected {
    pub sockets: u64,
    pub owned: u64,
}

/// A subject that is there, in one namespace.
pub struct Runner<'a> {
    pub subject: &'a Subject,
    path: PathBuf,
    namespace: BorrowedFd<'a>,
}

impl<'a> Runner<'a> {
    /// Fails with the reason when the program is not installed.
    pub fn new(subject: &'a Subject, tcpstate: &Path, namespace: BorrowedFd<'a>) -> Result<Runner<'a>, String> {
        let path = match subject.program {
            Program::Floor => std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?,
            Program::Tcpstate => tcpstate.to_owned(),
            Program::Peer(name) => find_in_path(name).ok_or_else(|| format!("{name} is not installed"))?,
        };
        Ok(Runner { subject, path, namespace })
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(self.subject.arguments).args(more).stdin(Stdio::null());
        netns::tie_to_us(&mut command, Some(self.namespace));
        command
    }

    /// Runs the subject once with its answer thrown away.
    pub fn run(&self) -> Result<Run, String> {
        let errors = errors_file()?;
        let mut command = self.command(&[]);
        command.stdout(Stdio::null()).stderr(errors.try_clone().map_err(text)?);
        let started = Instant::now();
        let child = command.spawn().map_err(|error| format!("does not start: {error}"))?;
        let (status, usage) = wait(&child)?;
        let wall = started.elapsed();
        self.judge_status(status, errors)?;
        Ok(Run { wall_ms: wall.as_secs_f64() * 1e3, cpu_ms: usage.cpu_ms, peak_kib: usage.peak_kib })
    }

    /// Runs the subject once and reads its answer, so that a fast nothing is not taken for a fast answer.
    pub fn check(&self, expected: &Expected) -> Result<(), String> {
        let answer = self.read_answer(&[])?;
        let (shown, wanted) = match self.subject.shows {
            Shows::Anything => (answer.bytes, 1),
            Shows::LinePerSocket => (answer.lines, expected.sockets),
            Shows::LinePerOwned => (answer.lines, expected.owned),
            Shows::ObjectPerSocket => (answer.locals, expected.sockets),
            Shows::FloorCount => (netns::number_of(&answer.head(), "sockets").map_err(text)?, expected.sockets),
            Shows::Total => {
                if answer.bytes == 0 {
                    return Err("prints nothing".to_owned());
                }
                let json = self.read_answer(&["--json"])?;
                (total_of(&json.head).map_err(|error| format!("with --json: {error}"))?, expected.sockets)
            }
        };
        // A socket may end between the census and the answer, never one in fifty of them.
        if shown < wanted - wanted / 50 {
            return Err(match self.subject.shows {
                Shows::Anything => "prints nothing".to_owned(),
                _ => format!("shows {shown} of {wanted} sockets"),
            });
        }
        Ok(())
    }

    fn read_answer(&self, more: &[&str]) -> Result<Answer, String> {
        let errors = errors_file()?;
        let mut command = self.command(more);
        command.stdout(Stdio::piped()).stderr(errors.try_clone().map_err(text)?);
        let mut child = command.spawn().map_err(|error| format!("does not start: {error}"))?;
        let mut answer = Answer::default();
        if let Some(stdout) = child.stdout.take() {
            answer.read(stdout).map_err(text)?;
        }
        let (status, _) = wait(&child)?;
        self.judge_status(status, errors)?;
        Ok(answer)
    }

    /// `doctor` ends with 1 when it found something; lsof when one of several files is not there.
    fn judge_status(&self, status: i32, mut errors: std::fs::File) -> Result<(), String> {
        let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 };
        if code == 0 || (code == 1 && matches!(self.subject.arguments.first(), Some(&"doctor" | &"-nP"))) {
            return Ok(());
        }
        let mut message = String::new();
        let read =
            errors.seek(SeekFrom::Start(0)).and_then(|_| errors.by_ref().take(4096).read_to_string(&mut message));
        let first = message.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        match (read, libc::WIFSIGNALED(status)) {
            (Err(error), _) => Err(format!("fails, and its message cannot be read: {error}")),
            (Ok(_), true) => Err(format!("ended by signal {}", libc::WTERMSIG(status))),
            (Ok(_), false) => Err(format!("exit code {code}: {first}")),
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn errors_file() -> Result<std::fs::File, String> {
    tempfile::tempfile().map_err(|error| format!("cannot make a temporary file: {error}"))
}

fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Root's own tools live where a user's PATH may not lead.
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].into_iter().map(PathBuf::from));
    places.map(|place| place.join(name)).find(|file| Path::is_file(file))
}

fn total_of(json: &[u8]) -> Result<u64, String> {
    let value: serde_json::Value = serde_json::from_slice(json).map_err(|error| format!("not JSON: {error}"))?;
    value.get("total").and_then(serde_json::Value::as_u64).ok_or_else(|| "no total".to_owned())
}

/// What was seen of a standard output that may have many megabytes.
#[derive(Default)]
struct Answer {
    bytes: u64,
    lines: u64,
    /// How often `"local":` was there, with or without a space before the colon.
    locals: u64,
    head: Vec<u8>,
}

impl Answer {
    fn head(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }

    fn read(&mut self, mut from: impl Read) -> std::io::Result<()> {
        const NEEDLE: &[u8] = b"\"local\"";
        // Large enough for any summary; small enough to leave the memory of this process, and so of the children it
        // forks, as it was.
        const HEAD_BYTES: usize = 512 * 1024;
        let mut chunk = vec![0_u8; 64 * 1024];
        let mut kept = 0;
        loop {
            let read = from.read(&mut chunk[kept..])?;
            if read == 0 {
                return Ok(());
            }
            let new = &chunk[kept..kept + read];
            self.bytes += read as u64;
            // A crate to count line ends would be one more to build and read.
            #[allow(clippy::naive_bytecount, reason = "no crate for one count")]
            let line_ends = new.iter().filter(|byte| **byte == b'\n').count();
            self.lines += line_ends as u64;
            let wanted = HEAD_BYTES.saturating_sub(self.head.len()).min(read);
            self.head.extend_from_slice(&new[..wanted]);
            // The end of the last chunk stays in front of this one: a needle may lie across both.
            let all = &chunk[..kept + read];
            self.locals += all.windows(NEEDLE.len()).filter(|window| *window == NEEDLE).count() as u64;
            let tail = all.len().min(NEEDLE.len() - 1);
            let start = all.len() - tail;
            chunk.copy_within(start..start + tail, 0);
            kept = tail;
        }
    }
}

struct Usage {
    cpu_ms: f64,
    peak_kib: i64,
}

/// Waits for a child with its resource usage; ends it when it takes too long.
fn wait(child: &Child) -> Result<(i32, Usage), String> {
    let raw_pid = libc::pid_t::try_from(child.id()).map_err(text)?;
    let pid = Pid::from_raw(raw_pid).ok_or("the child has no process id")?;
    let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(text)?;
    let limit = Timespec { tv_sec: LONGEST_RUN.as_secs().cast_signed(), tv_nsec: 0 };
    let mut waited_for = [PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)];
    let ended = poll(&mut waited_for, Some(&limit)).map_err(text)?;
    if ended == 0 {
        pidfd_send_signal(&handle, Signal::KILL).map_err(text)?;
    }
    let mut status = 0;
    // SAFETY: `rusage` is a C struct of integers: all zeroes is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables of the right types, and the child has not been waited for yet.
    let waited = unsafe { libc::wait4(raw_pid, &raw mut status, 0, &raw mut usage) };
    if waited != raw_pid {
        return Err(format!("cannot wait for it: {}", std::io::Error::last_os_error()));
    }
    if ended == 0 {
        return Err(format!("did not end within {} s", LONGEST_RUN.as_secs()));
    }
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    Ok((status, Usage { cpu_ms: ms(usage.ru_utime) + ms(usage.ru_stime), peak_kib: usage.ru_maxrss as i64 }))
}
