//! `cargo bench --bench soak -- --seconds 600`: `tcpstate watch` for a long time over sockets that come and go.
//!
//! Comes in: options after `--`. Goes out: a line every ten seconds, then memory, descriptors and CPU with a verdict each;
//! exit code 1 when memory or descriptors grow. Never here: a verdict by the speed of the machine in the exit code.
//!
//! The population is private: connections held at both ends for ten seconds, and a minute of TIME_WAIT behind them; it has
//! settled before the watch starts. The watch has a terminal of its own, a pty that is read and thrown away. CPU *beyond the
//! dump* is that of the whole process less one bare dump (`floor`) per look, measured beside it in the same minutes.
#![allow(
    clippy::large_stack_arrays,
    clippy::unwrap_used,
    reason = "a benchmark ends by panicking, and has its stack to itself"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    unsafe_code,
    reason = "a command of its own, that asks the kernel and talks to people"
)]
#![allow(dead_code, reason = "floor and netns serve another bench too")]
#![allow(clippy::doc_markdown, reason = "TCP states are words here, not items")]

mod floor;
mod netns;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;

/// Watches churning sockets for a long time.
#[derive(Parser, Debug)]
#[command(name = "cargo bench --bench soak --")]
struct Options {
    /// How long
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Rows of the kernel's table, once it has settled
    #[arg(long, default_value_t = 20_000)]
    sockets: u32,
    /// Looks per second
    #[arg(long, default_value_t = 5)]
    hertz: u32,
    /// `screen`, `json` or `plain`
    #[arg(long, default_value = "screen")]
    mode: String,
    /// Seconds of the watch before memory is compared
    #[arg(long, default_value_t = 60)]
    warm_up: u64,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// CPU beyond the dump that the project allows, in percent of one core.
const CPU_BUDGET: f64 = 5.0;
/// Connections are held so long.
const LIFE_SECONDS: u32 = 10;
const LISTENERS: u16 = 16;
/// `TCP_TIMEWAIT_LEN`.
const TIME_WAIT_SECONDS: u32 = 60;
/// Rows per connection opened each second: both its ends, and then what remains of one.
const ROWS_PER_RATE: u32 = 2 * LIFE_SECONDS + TIME_WAIT_SECONDS;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let outcome = match arguments.get(1).map(String::as_str) {
        Some("role:churn") => churn(arguments.get(2).and_then(|r| r.parse().ok()).unwrap_or(1)).map(|()| true),
        _ => soak(&Options::parse()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Opens so many connections a second, holds each for its time at both ends, and closes it, by turns from either side.
fn churn(per_second: u32) -> Result<()> {
    netns::raise_descriptor_limit()?;
    // A connection may be given the port of one that its server closed first, whose TIME_WAIT ends then: with one listener
    // every eighth is.
    let bind = |port| TcpListener::bind(SocketAddr::from(([10, 0, 0, 1], port))).context("listen");
    let listeners: Vec<TcpListener> = (7000..7000 + LISTENERS).map(bind).collect::<Result<_>>()?;
    let mut held: VecDeque<(TcpStream, TcpStream)> = VecDeque::new();
    let most = (per_second * LIFE_SECONDS) as usize;
    let start = Instant::now();
    let mut opened = 0u32;
    loop {
        let due = (start.elapsed().as_secs_f64() * f64::from(per_second)) as u32;
        while opened < due {
            let listener = &listeners[opened as usize % listeners.len()];
            let client = TcpStream::connect(listener.local_addr()?).context("connect")?;
            let (server, _) = listener.accept().context("accept")?;
            held.push_back((client, server));
            opened += 1;
            if held.len() > most
                && let Some((client, server)) = held.pop_front()
            {
                let (first, mut second) = if opened.is_multiple_of(2) { (client, server) } else { (server, client) };
                drop(first);
                // Its FIN has arrived: what is left of the first end is a TIME_WAIT as soon as the second is closed.
                let _ = second.read(&mut [0; 1]);
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The process under test, and the one that makes the sockets; both end with this value.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Usage {
    cpu_ms: u64,
    rss_kib: u64,
    fds: usize,
    threads: u64,
}

fn usage(pid: u32) -> Result<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the watch has ended")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split_ascii_whitespace().collect();
    let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    Ok(Usage {
        cpu_ms: (number(11) + number(12)) * 1000 / ticks,
        rss_kib: rss.unwrap_or(0),
        fds: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        threads: number(17),
    })
}

/// A terminal of 160 by 50, whose far end is read and thrown away.
fn terminal() -> Result<OwnedFd> {
    let (mut near, mut far) = (-1, -1);
    let size = libc::winsize { ws_row: 50, ws_col: 160, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the two descriptors are written before the call returns 0, and belong to nobody else.
    let (near, far) = unsafe {
        let name = std::ptr::null_mut();
        if libc::openpty(&raw mut near, &raw mut far, name, std::ptr::null(), &raw const size) != 0 {
            bail!("openpty: {}", std::io::Error::last_os_error());
        }
        (OwnedFd::from_raw_fd(near), OwnedFd::from_raw_fd(far))
    };
    let mut near = File::from(near);
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while near.read(&mut buffer).is_ok_and(|n| n > 0) {}
    });
    Ok(far)
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}

fn soak(options: &Options) -> Result<bool> {
    netns::enter_private()?;
    let rate = options.sockets.div_ceil(ROWS_PER_RATE) + 1;
    let mut churner = Command::new("/proc/self/exe");
    churner.args(["role:churn", &rate.to_string()]);
    netns::tie_to_us(&mut churner, None);
    let mut running = Running(vec![churner.spawn().context("start the churn")?]);
    println!("making the sockets: {} s", LIFE_SECONDS + TIME_WAIT_SECONDS + 2);
    std::thread::sleep(Duration::from_secs(u64::from(LIFE_SECONDS + TIME_WAIT_SECONDS + 2)));
    let interval = Duration::from_secs(1) / options.hertz.max(1);
    let mut watch = Command::new(env!("CARGO_BIN_EXE_tcpstate"));
    watch.args(["watch", "--interval", &format!("{}ms", interval.as_millis())]).env("TERM", "xterm-256color");
    match options.mode.as_str() {
        "screen" => {
            let far = terminal()?;
            watch.stdin(far.try_clone()?).stdout(far);
        }
        mode @ ("json" | "plain") => {
            watch.arg(format!("--{mode}")).stdin(Stdio::null()).stdout(Stdio::null());
        }
        other => bail!("--mode: `{other}` is none of screen, json, plain"),
    }
    netns::tie_to_us(&mut watch, None);
    let child = watch.spawn().context("start the watch")?;
    let pid = child.id();
    running.0.push(child);
    println!(
        "{rate} connections a second, each held {LIFE_SECONDS} s, then a minute in TIME_WAIT; looks every {interval:?}"
    );
    println!(
        "{:>7} {:>9} {:>9} {:>6} {:>8} {:>14} {:>14}",
        "seconds", "sockets", "RSS KiB", "fds", "threads", "CPU % of core", "one dump, ms"
    );
    let start = Instant::now();
    let (mut warm, mut last) = (None, None);
    let mut floors: Vec<Duration> = Vec::new();
    let mut rss_after_warm_up = Vec::new();
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let elapsed = start.elapsed().as_secs();
        let now = usage(pid)?;
        if elapsed >= options.warm_up {
            if warm.is_none() {
                warm = Some((Instant::now(), now));
            }
            rss_after_warm_up.push(now.rss_kib);
        }
        if elapsed.is_multiple_of(10) || elapsed >= options.seconds {
            let before = cpu();
            let dumped = floor::census()?;
            let took = cpu().saturating_sub(before);
            if warm.is_some() {
                floors.push(took);
            }
            let percent = last.map_or(0.0, |(at, then): (Instant, Usage)| {
                (now.cpu_ms - then.cpu_ms) as f64 / 10.0 / at.elapsed().as_secs_f64()
            });
            println!(
                "{elapsed:>7} {:>9} {:>9} {:>6} {:>8} {percent:>14.1} {:>14.2}",
                dumped.sockets,
                now.rss_kib,
                now.fds,
                now.threads,
                took.as_secs_f64() * 1000.0
            );
            std::io::stdout().flush()?;
            last = Some((Instant::now(), now));
        }
        if elapsed >= options.seconds {
            break;
        }
    }
    let Some((warm_at, warm)) = warm else { bail!("--seconds must be more than --warm-up") };
    verdict(options, pid, (warm_at, warm), &floors, &rss_after_warm_up)
}

fn verdict(
    options: &Options,
    pid: u32,
    (warm_at, warm): (Instant, Usage),
    floors: &[Duration],
    rss: &[u64],
) -> Result<bool> {
    let end = usage(pid)?;
    let seconds = warm_at.elapsed().as_secs_f64();
    let mut floors = floors.to_vec();
    floors.sort_unstable();
    let floor = floors.get(floors.len() / 2).copied().unwrap_or_default();
    let all = (end.cpu_ms - warm.cpu_ms) as f64 / 10.0 / seconds;
    let dumps = floor.as_secs_f64() * f64::from(options.hertz) * 100.0;
    let beyond = all - dumps;
    // Medians of the first and the last quarter: a single second of more is no growth.
    let quarter = (rss.len() / 4).max(1);
    let median = |part: &[u64]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part.get(part.len() / 2).copied().unwrap_or(0)
    };
    let (first, last) = (median(&rss[..quarter]), median(&rss[rss.len() - quarter..]));
    let flat = last <= first + first / 20 + 1024;
    let fds = end.fds <= warm.fds;
    let word = |good: bool| if good { "ok" } else { "NOT OK" };
    println!("\nafter the first {} s, over {seconds:.0} s:", options.warm_up);
    println!("memory       {first} KiB in the first quarter, {last} KiB in the last: {}", word(flat));
    println!("descriptors  {} then, {} now: {}", warm.fds, end.fds, word(fds));
    println!(
        "CPU          {all:.1} % of a core, of it the bare dump {dumps:.1} %; beyond it {beyond:.1} % of {CPU_BUDGET} %: {}",
        word(beyond <= CPU_BUDGET)
    );
    Ok(flat && fds)
}
