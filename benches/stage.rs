//! A load for benches: a process of its own that opens and closes connections over loopback in a private network namespace,
//! at a given rate or as fast as one core can.
//!
//! Comes in: a rate and a time. Goes out: what was done, and the CPU that it took. Never here: who watches it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::netns;

/// The port of the load's listener.
const PORT: u16 = 7900;
/// Addresses that it is reached at by turns, so that ports do not run out.
const ADDRESSES: u32 = 4000;
/// Changes of state that a connection makes at its two ends.
pub const CHANGES: u64 = 10;
/// Whoever watches must be ready, and end, within this time.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The load: reads `RATE SECONDS` from standard input, and answers what it did.
pub fn play() -> Result<()> {
    netns::enter_private()?;
    // Changes of state are counted and not what remains of them; a TIME_WAIT more than these is not made.
    std::fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "20000").context("write tcp_max_tw_buckets")?;
    let listener = TcpListener::bind(("0.0.0.0", PORT)).context("listen")?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.context("read a request")?;
        let (rate, seconds) = line.split_once(' ').context("read a request: RATE SECONDS")?;
        let (rate, seconds): (f64, f64) = (rate.parse()?, seconds.parse()?);
        let cpu = own_cpu_us();
        let (start, mut made) = (Instant::now(), 0_u32);
        while start.elapsed().as_secs_f64() < seconds {
            if rate > 0.0 && f64::from(made) * CHANGES as f64 > rate * start.elapsed().as_secs_f64() {
                std::thread::sleep(Duration::from_micros(500));
                continue;
            }
            connect_and_close(&listener, made)?;
            made += 1;
        }
        let took_us = start.elapsed().as_micros();
        println!("changes={} us={took_us} cpu_us={}", u64::from(made) * CHANGES, own_cpu_us() - cpu);
    }
    Ok(())
}

fn connect_and_close(listener: &TcpListener, nth: u32) -> Result<()> {
    let [_, a, b, c] = (nth % ADDRESSES + 1).to_be_bytes();
    let client = TcpStream::connect(SocketAddr::from(([10, a + 1, b, c], PORT))).context("connect")?;
    let (server, _) = listener.accept().context("accept")?;
    let (first, second) = if nth.is_multiple_of(2) { (client, server) } else { (server, client) };
    drop(first);
    drop(second);
    Ok(())
}

fn own_cpu_us() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// The stage, from outside.
pub struct Stage {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub namespace: File,
}

/// What the stage did.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub changes: u64,
    pub seconds: f64,
    pub cpu_ms: f64,
}

impl Stage {
    pub fn start() -> Result<Stage> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("role:stage").stdin(Stdio::piped()).stdout(Stdio::piped());
        netns::tie_to_us(&mut command, None);
        let mut child = command.spawn().context("start the load")?;
        let (input, output) = child.stdin.take().zip(child.stdout.take()).context("talk to the load")?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line).context("wait for the load")?;
        if line.trim() != "ready" {
            bail!("start the load: it says {line:?}");
        }
        let namespace = File::open(format!("/proc/{}/ns/net", child.id())).context("open its network namespace")?;
        Ok(Stage { child, input, output, namespace })
    }

    pub fn play(&mut self, rate: u64, seconds: f64) -> Result<Load> {
        writeln!(self.input, "{rate} {seconds}").context("ask for load")?;
        let mut line = String::new();
        self.output.read_line(&mut line).context("wait for load")?;
        let number = |key| netns::number_of(&line, key);
        Ok(Load {
            changes: number("changes")?,
            seconds: number("us")? as f64 / 1e6,
            cpu_ms: number("cpu_us")? as f64 / 1e3,
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end of a child, and gives its CPU time.
pub fn wait(child: &Child) -> Result<f64> {
    let pid = libc::pid_t::try_from(child.id())?;
    let mut status = 0;
    // SAFETY: `rusage` is a C struct of integers: all zeroes is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let since = Instant::now();
    loop {
        // SAFETY: both pointers are to live variables of the right types, and the child has not been waited for yet.
        let waited = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
        if waited == pid {
            break;
        }
        if waited < 0 {
            return Err(std::io::Error::last_os_error()).context("wait for it");
        }
        if since.elapsed() > PATIENCE {
            kill_process(Pid::from_child(child), Signal::KILL).context("end it")?;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    Ok(ms(usage.ru_utime) + ms(usage.ru_stime))
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What was written to memory.
pub fn text_of(memory: &File) -> Result<String> {
    let mut bytes = vec![0; usize::try_from(memory.metadata()?.len())?];
    memory.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Where this was measured.
pub fn about() -> String {
    let uname = rustix::system::uname();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("Linux {}, {cores} cores.\n\n", uname.release().to_string_lossy())
}

/// Puts a table between two marks of a page.
pub fn write_docs(path: &str, [begin, end]: [&str; 2], table: &str) -> Result<()> {
    let page = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let parts = page.split_once(begin).and_then(|(left, rest)| Some((left, rest.split_once(end)?.1)));
    let (left, right) = parts.with_context(|| format!("write {path}: the marks {begin} and {end} are not there"))?;
    std::fs::write(path, format!("{left}{begin}\n\n{table}\n{end}{right}")).with_context(|| format!("write {path}"))?;
    eprintln!("wrote {path}");
    Ok(())
}
