//! Helper processes: children that hold sockets, so that who owns what is exact. Comes in: lines of a small language on
//! the child's standard input. Goes out: lines that start with `@`, one per row that the kernel should now show. Never
//! here: a child that outlives its test (it dies with the thread that started it, and on the end of its input).
//!
//! The child is this test binary again, asked for one test, `helper_entry`, with a marker in its environment. `exec`
//! matters: a bare `fork` would copy every descriptor of every test that runs in parallel. Inside, libtest's main
//! thread
//! waits for the one test thread, which is all there is to disturb a `fork`.
//!
//! | line | what the helper does |
//! | --- | --- |
//! | `make SITUATION...` | [`crate::states::by_name`], held until told otherwise |
//! | `apart SITUATION...` | the same in a thread with a descriptor table of its own (`CLONE_FILES` unshared) |
//! | `connect ADDRESS COUNT` | connects to a listener elsewhere |
//! | `accept FD COUNT` | accepts from a listener made before |
//! | `send FD BYTES`, `receive FD BYTES`, `shutdown FD`, `close FD`, `reset FD` | that, on a socket made before |
//! | `rename HEX` | changes the process's name to these bytes |
//! | `fork [HEX]` | a child that shares every socket, under this name if one is given |
//! | `churn PORT`, `calm` | opens and resets connections without pause; stops, with how many there were |
//! | `beat PORT` | the same a few hundred times a second |
//! | `serve PORT` | accepts in a thread, and closes each connection after its peer has |
//! | `lives ADDRESS FROM COUNT LIFE_MS EVERY_MS` | opens a connection every so often, closes each after its life |
//! | `exit_after MS` | ends by itself, wherever the test then is |

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;
use tcpstate::model::state::State;

use super::sock::Sock;
use super::{Netns, netns};
use crate::states::{self, Expected, Held};

/// Set in the environment of a helper.
const MARKER: &str = "TCPSTATE_TESTS_HELPER";

/// How long a helper may take to answer: the largest situations are thousands of connections.
const ANSWER: Duration = Duration::from_secs(30);

/// A running helper process; killed and reaped when dropped.
pub struct Helper {
    child: Child,
    unread: Vec<u8>,
}

/// What a helper answered.
#[derive(Debug, Default)]
pub struct Answer {
    pub rows: Vec<Expected>,
    /// A process or thread id, or a count.
    pub number: Option<u64>,
}

impl Helper {
    /// Starts a helper inside a namespace.
    #[track_caller]
    pub fn start(ns: &Netns) -> Helper {
        Helper::spawn(ns, None)
    }

    /// Starts a helper as another user. Only root can.
    #[track_caller]
    pub fn start_as(ns: &Netns, uid: u32) -> Helper {
        Helper::spawn(ns, Some(uid))
    }

    #[track_caller]
    fn spawn(ns: &Netns, uid: Option<u32>) -> Helper {
        // By descriptor, not by path: another user may not be permitted to walk to the build directory.
        let binary = std::fs::File::open("/proc/self/exe").expect("open this test binary");
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&binary));
        let mut command: Command = ns.command(path);
        command
            .arg0("tcpstate-helper")
            .args(["--exact", "helper_entry", "--nocapture", "--test-threads=1"])
            .env(MARKER, "1")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // SAFETY: raw system calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                if let Some(uid) = uid {
                    netns::become_user(uid)?;
                }
                // After the change of user, which clears it.
                set_parent_process_death_signal(Some(Signal::KILL))?;
                Ok(())
            });
        }
        let child = command.spawn().expect("start a helper");
        let mut helper = Helper { child, unread: Vec::new() };
        helper.ask("ready");
        helper
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has the helper make a situation (see [`states::by_name`]) and returns its rows.
    #[track_caller]
    pub fn make(&mut self, situation: &str) -> Vec<Expected> {
        self.ask(&format!("make {situation}")).rows
    }

    /// As [`Helper::make`], in a thread whose descriptors no other thread of the process has. Returns its id too.
    #[track_caller]
    pub fn make_apart(&mut self, situation: &str) -> (u32, Vec<Expected>) {
        let answer = self.ask(&format!("apart {situation}"));
        (u32::try_from(answer.number.expect("a thread id")).expect("a thread id"), answer.rows)
    }

    /// Connects to a listener that another process holds.
    #[track_caller]
    pub fn connect(&mut self, to: SocketAddr, count: u16) -> Vec<Expected> {
        self.ask(&format!("connect {to} {count}")).rows
    }

    /// Accepts from a listener that [`Helper::make`] returned.
    #[track_caller]
    pub fn accept(&mut self, listener: &Expected, count: u16) -> Vec<Expected> {
        self.ask(&format!("accept {} {count}", listener.fd.expect("a held listener"))).rows
    }

    /// Closes one socket, with a FIN.
    #[track_caller]
    pub fn close(&mut self, row: &Expected) {
        self.ask(&format!("close {}", row.fd.expect("a held socket")));
    }

    /// Changes the process's name, to bytes that need not be text.
    #[track_caller]
    pub fn rename(&mut self, name: &[u8]) {
        self.ask(&format!("rename {}", hex(name)));
    }

    /// Has the helper fork a child, which shares every socket; returns the child's id. It ends with the helper.
    #[track_caller]
    pub fn fork(&mut self, name: Option<&[u8]>) -> u32 {
        let answer = self.ask(&format!("fork {}", name.map_or_else(String::new, hex)));
        u32::try_from(answer.number.expect("a process id")).expect("a process id")
    }

    /// Stops the process as it stands (`SIGSTOP`), until [`Helper::resume`].
    #[track_caller]
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        super::wait_for("the helper to stop", || match process_state(self.pid()) {
            'T' => Ok(()),
            other => Err(other.to_string()),
        });
    }

    #[track_caller]
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    #[track_caller]
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("signal the helper");
    }

    /// Kills the process and everything that shares its sockets, and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks in the helper's own words (the table above) and returns the answer.
    ///
    /// # Panics
    /// With the helper's complaint, when it did not understand or could not do it.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> Answer {
        self.try_ask(line).unwrap_or_else(|complaint| panic!("helper, asked to `{line}`: {complaint}"))
    }

    /// As [`Helper::ask`], with the complaint as a value.
    ///
    /// # Errors
    /// What the helper complained of, or that it is gone.
    #[track_caller]
    pub fn try_ask(&mut self, line: &str) -> Result<Answer, String> {
        let pipe = self.child.stdin.as_mut().expect("the helper's input");
        pipe.write_all(format!("{line}\n").as_bytes()).map_err(|e| format!("the helper is gone: {e}"))?;
        let deadline = Instant::now() + ANSWER;
        let mut answer = Answer::default();
        loop {
            let line = self.line(deadline)?;
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("@row", row) => answer.rows.push(row.parse()?),
                ("@number", number) => answer.number = number.parse().ok(),
                ("@ok", _) => return Ok(answer),
                ("@error", complaint) => return Err(complaint.to_string()),
                // libtest's own words.
                _ => {}
            }
        }
    }

    fn line(&mut self, deadline: Instant) -> Result<String, String> {
        let pipe = self.child.stdout.as_mut().expect("the helper's output");
        loop {
            if let Some(end) = self.unread.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = rustix::event::Timespec::try_from(left).expect("a short time");
            let mut ready = [PollFd::new(&*pipe, PollFlags::IN)];
            if poll(&mut ready, Some(&timeout)).expect("poll the helper") == 0 {
                return Err(format!("no answer within {ANSWER:?}"));
            }
            let mut block = [0; 4096];
            match rustix::io::read(pipe.as_fd(), &mut block).expect("read from the helper") {
                0 => return Err("the helper ended".into()),
                length => self.unread.extend(&block[..length]),
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.end();
    }
}

/// The state letter of a process, from `/proc/PID/stat`; `-` when it is gone.
pub fn process_state(pid: u32) -> char {
    // The name in it may hold anything, brackets, spaces and halves of characters included.
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.windows(2).rposition(|pair| pair == b") ");
    after_name.and_then(|at| stat.get(at + 2)).map_or('-', |letter| char::from(*letter))
}

/// Waits until a process has ended, reaped or not: a forked child's last parent is whoever runs this machine.
#[track_caller]
pub fn wait_for_end(pid: u32) {
    super::wait_for("the end of a process", || match process_state(pid) {
        '-' | 'Z' | 'X' => Ok(()),
        state => Err(format!("{pid} is {state}")),
    });
}

/// What `/proc/PID/fd`, or that of one thread, says: descriptor to socket inode.
pub fn socket_fds(directory: &str) -> BTreeMap<RawFd, u64> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("read {directory}: {e}"));
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let link = std::fs::read_link(entry.path()).ok()?;
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, inode))
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.as_bytes();
    digits
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok()))
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| format!("`{text}` is not hexadecimal"))
}

/// Whether this process was started as a helper.
pub fn is_helper() -> bool {
    std::env::var_os(MARKER).is_some()
}

/// What a helper holds.
#[derive(Default)]
struct World {
    socks: BTreeMap<RawFd, Sock>,
    churn: Option<(Arc<AtomicBool>, JoinHandle<u64>)>,
}

/// The helper's side: answers line by line until its input ends.
pub fn serve() {
    // Sockets by the thousand; the hard limit is as far as anybody may go.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, ..limit };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, all);
    // Started by descriptor, the process would be named after its number.
    rename(b"tcpstate-helper").expect("a name of its own");
    let mut world = World::default();
    // libtest left its line open.
    reply("\n");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("read a command");
        let words: Vec<&str> = line.split_whitespace().collect();
        // A panic is an answer too: the factory's complaint belongs to the test that asked.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.apply(&words)));
        let outcome = outcome.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
        });
        match outcome {
            Ok(answer) => {
                let rows = answer.rows.iter().map(|row| format!("@row {row}"));
                let lines: Vec<String> = rows.chain(answer.number.map(|n| format!("@number {n}"))).collect();
                reply(&format!("{}\n@ok\n", lines.join("\n")));
            }
            Err(complaint) => reply(&format!("@error {}\n", complaint.replace('\n', "; "))),
        }
    }
    std::process::exit(0);
}

/// Past libtest, straight to the pipe.
fn reply(text: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).expect("answer");
}

impl World {
    fn apply(&mut self, words: &[&str]) -> Result<Answer, String> {
        match *words {
            ["ready"] => {}
            ["make", ref situation @ ..] => return states::by_name(&Netns::current(), situation).map(|h| self.keep(h)),
            ["apart", ref situation @ ..] => return apart(situation),
            ["connect", to, count] => {
                let to: SocketAddr = to.parse().map_err(|_| format!("`{to}` is no address"))?;
                let socks = (0..number::<u16>(count)?).map(|_| Sock::connected(to, None)).collect();
                return Ok(self.keep(open("helper/client", socks)));
            }
            ["accept", fd, count] => {
                let listener = self.sock(fd)?;
                let socks = (0..number::<u16>(count)?).map(|_| listener.accept()).collect();
                return Ok(self.keep(open("helper/server", socks)));
            }
            ["send", fd, bytes] => self.sock(fd)?.send(number(bytes)?),
            ["receive", fd, bytes] => self.sock(fd)?.receive(number(bytes)?),
            ["shutdown", fd] => self.sock(fd)?.shutdown(),
            ["close", fd] => self.take(fd)?.close(),
            ["reset", fd] => drop(self.take(fd)?),
            ["rename", name] => rename(&from_hex(name)?)?,
            ["fork"] => return fork(None),
            ["fork", name] => return fork(Some(&from_hex(name)?)),
            ["churn", port] => self.start_churn(number(port)?, Duration::ZERO),
            ["beat", port] => self.start_churn(number(port)?, Duration::from_millis(3)),
            ["calm"] => {
                let (stop, thread) = self.churn.take().ok_or("nothing to calm")?;
                stop.store(true, Ordering::Relaxed);
                let count = thread.join().map_err(|_| "the churn failed")?;
                return Ok(Answer { number: Some(count), ..Answer::default() });
            }
            ["serve", port] => serve_port(number(port)?),
            ["lives", to, from, count, life_ms, every_ms] => {
                let to: SocketAddr = to.parse().map_err(|_| format!("`{to}` is no address"))?;
                let from: std::net::IpAddr = from.parse().map_err(|_| format!("`{from}` is no address"))?;
                let (life, every) = (Duration::from_millis(number(life_ms)?), Duration::from_millis(number(every_ms)?));
                live(to, SocketAddr::new(from, 0), number(count)?, life, every);
            }
            ["exit_after", ms] => {
                let time = Duration::from_millis(number(ms)?);
                std::thread::spawn(move || {
                    std::thread::sleep(time);
                    std::process::exit(0);
                });
            }
            _ => return Err(format!("`{}` is no command", words.join(" "))),
        }
        Ok(Answer::default())
    }

    fn keep(&mut self, held: Held) -> Answer {
        self.socks.extend(held.socks.into_iter().map(|sock| (sock.fd(), sock)));
        Answer { rows: held.rows, number: None }
    }

    fn sock(&self, fd: &str) -> Result<&Sock, String> {
        self.socks.get(&number(fd)?).ok_or_else(|| format!("no socket {fd}"))
    }

    fn take(&mut self, fd: &str) -> Result<Sock, String> {
        self.socks.remove(&number(fd)?).ok_or_else(|| format!("no socket {fd}"))
    }

    fn start_churn(&mut self, port: u16, pause: Duration) {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let listener = Sock::listening(SocketAddr::from(([127, 0, 0, 1], port)), 128);
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                // Dropped at once: reset, so that ports and TIME_WAIT do not run out.
                drop((Sock::connected(listener.local(), None), listener.accept()));
                count += 1;
                std::thread::sleep(pause);
            }
            count
        });
        self.churn = Some((stop, thread));
    }
}

/// A listener whose connections are closed after their peers have said goodbye, for as long as the process lives.
fn serve_port(port: u16) {
    let listener = Sock::listening(SocketAddr::from(([0, 0, 0, 0], port)), 1024);
    std::thread::spawn(move || {
        loop {
            // By poll: `accept` fails when nobody comes for as long as a socket waits.
            let mut ready = [PollFd::new(&listener, PollFlags::IN)];
            poll(&mut ready, None).expect("poll the listener");
            let sock = listener.accept();
            std::thread::spawn(move || {
                sock.receive_eof();
                sock.close();
            });
        }
    });
}

/// Connections one after the other, each with its own life; returns when the last has ended.
fn live(to: SocketAddr, from: SocketAddr, count: u32, life: Duration, every: Duration) {
    // Every connection has a port of its own: one that the kernel chose might be that of a TIME_WAIT, which it then
    // takes over (`tcp_tw_reuse` is 2 on loopback), and a remainder that a test counts would be gone.
    static PORT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let mut lives = Vec::new();
    for _ in 0..count {
        let from = SocketAddr::new(from.ip(), 10_000 + PORT.fetch_add(1, Ordering::Relaxed) % 50_000);
        lives.push(std::thread::spawn(move || {
            let sock = Sock::connected(to, Some(from));
            std::thread::sleep(life);
            sock.close();
        }));
        std::thread::sleep(every);
    }
    for life in lives {
        life.join().expect("a connection");
    }
}

fn number<N: std::str::FromStr>(word: &str) -> Result<N, String> {
    word.parse().map_err(|_| format!("`{word}` is no number of the right size"))
}

/// Rows of open connections of which this process has one end.
fn open(what: &str, socks: Vec<Sock>) -> Held {
    let mut held = Held::default();
    for sock in socks {
        held.keep(what, sock, State::Established, 0, 0);
    }
    held
}

/// A name may hold any byte but zero: escape sequences, line ends, half a character.
///
/// By file and not by `PR_SET_NAME`, which names the calling thread: the process is called what its first thread is,
/// and that one belongs to libtest.
fn rename(name: &[u8]) -> Result<(), String> {
    std::fs::write("/proc/self/comm", name).map_err(|e| format!("write /proc/self/comm: {e}"))
}

/// Makes a situation in a thread that has left the process's descriptor table, and holds it there for good.
fn apart(situation: &[&str]) -> Result<Answer, String> {
    let words: Vec<String> = situation.iter().map(ToString::to_string).collect();
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // SAFETY: the thread uses only descriptors that it opens itself from here on; those of the main thread were
        // copied and stay unused.
        let left = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FILES) };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let made = left
            .map_err(|e| format!("unshare the descriptor table: {e}"))
            .and_then(|()| states::by_name(&Netns::current(), &words));
        let id = u64::from(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
        let (answer, held) = match made {
            Ok(held) => (Ok(Answer { rows: held.rows.clone(), number: Some(id) }), Some(held)),
            Err(complaint) => (Err(complaint), None),
        };
        let _ = send.send(answer);
        loop {
            std::thread::park();
            std::hint::black_box(&held);
        }
    });
    receive.recv().map_err(|_| "the thread ended")?
}

/// A child with a copy of every descriptor, which then does nothing until it is killed with its parent.
fn fork(name: Option<&[u8]>) -> Result<Answer, String> {
    let parent = rustix::process::getpid();
    // SAFETY: the helper has one thread unless `apart` or `churn` came first; the child makes only system calls.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(format!("fork: {}", std::io::Error::last_os_error()));
    }
    if pid == 0 {
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        if let Some(name) = name {
            let _ = rename(name);
        }
        // The pipes to the test are the helper's alone.
        // SAFETY: nothing in this process uses the two descriptors any more.
        unsafe {
            libc::close(0);
            libc::close(1);
        }
        // The parent may have ended before the death signal was asked for.
        while rustix::process::getppid() == Some(parent) {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
        // SAFETY: leaves without running anything that belongs to the parent.
        unsafe { libc::_exit(0) };
    }
    let pid = u32::try_from(pid).map_err(|_| "fork gave no process id")?;
    if let Some(name) = name {
        // The name is set by the child itself; answer when it shows.
        let shown = name.split(|b| *b == b'\n').next().unwrap_or_default().to_vec();
        super::wait_for("the child's name", || {
            let comm = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
            if comm.starts_with(&shown[..shown.len().min(15)]) { Ok(()) } else { Err(format!("{comm:?}")) }
        });
    }
    Ok(Answer { number: Some(u64::from(pid)), ..Answer::default() })
}

/// The ordinary run of `helper_entry`: the protocol end to end, without any socket.
pub fn check_protocol(ns: &Netns) {
    let mut helper = Helper::start(ns);
    assert!(helper.ask("ready").rows.is_empty());
    assert_eq!(helper.try_ask("dance").unwrap_err(), "`dance` is no command");
    assert_eq!(helper.try_ask("make dance").unwrap_err(), "`dance` is no situation");
    assert_eq!(helper.try_ask("close 99").unwrap_err(), "no socket 99");
    let pid = helper.pid();
    drop(helper);
    assert_eq!(process_state(pid), '-', "a dropped helper is killed and reaped");
}
