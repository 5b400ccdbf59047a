//! `tcpstate export`: sockets by state, queues, limits and findings as metrics for Prometheus, over HTTP or in a file.

mod http;
mod negotiate;
mod textfile;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{FromRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use rustix::io::FdFlags;

use crate::cli::args::{Common, Origin};
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::session::{self, Session};
use crate::cli::watch::signals::Signals;
use crate::cli::watch::{Schedule, complaint, give_back_memory};
use crate::cli::{config, parse};
use crate::collect::clock::millis;
use crate::collect::confine;
use crate::collect::error::reason;
use crate::diagnose::Thresholds;
use crate::filter::Expr;
use crate::model::Gap;
use crate::render::json::Head;
use crate::render::metrics::{Collected, Facts, Run, Series, findings};
use crate::text;
use crate::watch::{Config, Frame, GroupOrder, SampleRequest, Sampler, Verdicts};
use http::{Page, Pages};

/// Where it listens if nothing else is said.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 19_140);
/// Connections that wait to be accepted; `net.core.somaxconn` may allow fewer.
const WAITING: i32 = 4096;
/// After so many intervals without a collection it is not healthy.
const STALE_INTERVALS: u32 = 3;
const STALE_LEAST: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  tcpstate export                                    http://127.0.0.1:19140/metrics
  tcpstate export --listen 10.0.0.5:19140 --peers    for a Prometheus elsewhere, with destinations
  tcpstate export --once | promtool check metrics
  tcpstate export --textfile /var/lib/prometheus/node-exporter/tcpstate.prom

It also answers at /findings.json and /healthz. A collection is made once per interval, however many ask. Whoever can connect
reads names of processes and addresses: it listens on loopback unless told otherwise, and has no password.

Exit codes: 0 ended by a signal, or printed once; 2 wrong usage, or nothing could be read or served.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ExportArgs {
    /// Address and port to serve; may be repeated [default: 127.0.0.1:19140, and none with --textfile]
    #[arg(long, value_name = "ADDR:PORT", alias = "web.listen-address", help_heading = "Serving")]
    #[arg(conflicts_with = "once")]
    pub listen: Vec<String>,
    /// Serve the sockets that systemd opened, of a .socket unit
    #[arg(long, alias = "web.systemd-socket", help_heading = "Serving", conflicts_with_all = ["listen", "once"])]
    pub systemd_socket: bool,
    /// Where metrics are
    #[arg(
        long,
        value_name = "PATH",
        alias = "web.telemetry-path",
        default_value = "/metrics",
        help_heading = "Serving"
    )]
    #[arg(value_parser = path)]
    pub metrics_path: String,
    /// Write this file for the textfile collector of node_exporter; it is replaced as a whole
    #[arg(long, value_name = "FILE", help_heading = "Serving")]
    pub textfile: Option<PathBuf>,
    /// Collect once, print the metrics (or write the file), and end
    #[arg(long, help_heading = "Serving")]
    pub once: bool,
    /// Time between two collections, from 100ms
    #[arg(long, short = 'i', value_name = "TIME", value_parser = parse::interval, default_value = "15s")]
    #[arg(help_heading = "Collecting")]
    pub interval: Duration,
    /// How many programs, listeners and destinations have series of their own
    #[arg(long, value_name = "N", default_value_t = 50, help_heading = "Collecting")]
    pub top: usize,
    /// Label the fullest ranges of local ports with source and destination
    #[arg(long, help_heading = "Collecting")]
    pub peers: bool,
    /// Do not run the rules of the doctor
    #[arg(long, help_heading = "Collecting")]
    pub no_findings: bool,
    /// Do not trace changes of state
    #[arg(long, help_heading = "Collecting")]
    pub no_trace: bool,
    /// Do not search for the processes that hold the sockets; without them there are no findings
    #[arg(long, help_heading = "Collecting")]
    pub no_owners: bool,
    #[command(flatten)]
    pub origin: Origin,
}

fn path(word: &str) -> Result<String, String> {
    let fits =
        word.starts_with('/') && word.len() > 1 && word.bytes().all(|b| b.is_ascii_graphic() && !b"?#".contains(&b));
    let taken = matches!(word, "/findings.json" | "/healthz");
    if fits && !taken { Ok(word.to_owned()) } else { Err(format!("`{word}` is no path such as /metrics")) }
}

pub(crate) fn run(args: &ExportArgs, env: &mut Env) -> anyhow::Result<Exit> {
    give_back_memory();
    if args.origin.names_members() {
        bail!(
            "export reads whole network namespaces; --netns takes the name of a container or pod too, and reads all of its namespace"
        );
    }
    let thresholds = config::files(env)?.thresholds;
    // Before any thread: they inherit the mask.
    let signals = Signals::block()?;
    let listeners = listen(args, env)?;
    // Nothing was started yet: what is given up here no thread has.
    let writes_in = args.textfile.as_ref().map(|file| file.parent().unwrap_or(Path::new("")));
    confine::keep_what_is_used(confine::Mode { enters_namespaces: args.origin.names_netns(), writes_in })
        .context("give up capabilities")?;
    let mut exporter = Exporter::open(args, thresholds)?;
    if args.once {
        let page = exporter.collect();
        if let Some(failure) = page.failure {
            bail!("{failure}");
        }
        match &args.textfile {
            Some(file) => textfile::replace(file, &page.prometheus)?,
            None => env.stdout.write_all(&page.prometheus)?,
        }
        return Ok(Exit::Done);
    }
    let pages = Pages::new(args.metrics_path.clone());
    if !listeners.is_empty() {
        http::serve(listeners, &pages).context("serve HTTP")?;
    }
    let mut schedule = Schedule::new(Instant::now(), args.interval);
    let mut told: Option<String> = None;
    loop {
        let page = exporter.collect();
        let mut failure = page.failure.clone();
        if let Some(file) = &args.textfile
            && let Err(error) = textfile::replace(file, &page.prometheus)
        {
            failure.get_or_insert(format!("{error:#}"));
        }
        pages.publish(page);
        // The same trouble is told once.
        if failure != told {
            if let Some(failure) = &failure {
                writeln!(env.stderr, "tcpstate: {failure}")?;
            }
            told = failure;
        }
        let (wait, left_out) = schedule.next(Instant::now());
        exporter.skip(left_out);
        if signals.wait(Some(wait))? {
            return Ok(Exit::Done);
        }
    }
}

/// Opens what is to be served, and says where.
fn listen(args: &ExportArgs, env: &mut Env) -> anyhow::Result<Vec<TcpListener>> {
    if args.systemd_socket {
        let sockets = handed_over()?;
        for socket in &sockets {
            say(socket.local_addr()?, args, env)?;
        }
        return Ok(sockets);
    }
    if args.once || (args.listen.is_empty() && args.textfile.is_some()) {
        return Ok(Vec::new());
    }
    let mut wanted = Vec::new();
    crate::collect::names::without_modules();
    for word in &args.listen {
        // `:9100` is every address, as exporters take it.
        let full = if word.starts_with(':') { format!("[::]{word}") } else { word.clone() };
        let found = full.to_socket_addrs().map_err(|e| anyhow::anyhow!("{}", reason(&e)));
        let found: Vec<SocketAddr> = found
            .with_context(|| format!("--listen: `{word}` is no address with a port, such as 127.0.0.1:19140"))?
            .collect();
        wanted.extend(found.first());
    }
    if wanted.is_empty() {
        wanted.push(DEFAULT);
    }
    let mut sockets = Vec::new();
    for address in wanted {
        let way_out = "choose another with --listen";
        let socket = TcpListener::bind(address)
            .map_err(|e| anyhow::anyhow!("cannot listen on {address}: {}; {way_out}", reason(&e)))?;
        // Those of the standard library are few: the next client would wait for the timer of its SYN.
        rustix::net::listen(&socket, WAITING).with_context(|| format!("listen on {address}"))?;
        say(socket.local_addr().unwrap_or(address), args, env)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Where the metrics are, and who can read them.
fn say(address: SocketAddr, args: &ExportArgs, env: &mut Env) -> anyhow::Result<()> {
    writeln!(env.stderr, "tcpstate: metrics at http://{address}{}", args.metrics_path)?;
    if !address.ip().to_canonical().is_loopback() {
        env.note(&format!("whoever can connect to {address} reads names of processes and addresses"))?;
    }
    Ok(())
}

/// The sockets that the service manager opened for this process (`sd_listen_fds(3)`).
fn handed_over() -> anyhow::Result<Vec<TcpListener>> {
    const FIRST: RawFd = 3;
    let number = |name| std::env::var(name).ok().and_then(|value: String| value.parse::<u32>().ok());
    let count = number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(std::process::id())).unwrap_or(0);
    if count == 0 {
        bail!("--systemd-socket: no socket was handed over; start it by a .socket unit with ListenStream=");
    }
    let end = RawFd::try_from(count).ok().and_then(|count| FIRST.checked_add(count)).unwrap_or(FIRST);
    let mut sockets = Vec::new();
    for fd in FIRST..end {
        // SAFETY: the service manager opened this descriptor for this process, and nothing here owns it yet.
        #[allow(unsafe_code, reason = "a descriptor by its number is all that is handed over")]
        let socket = unsafe { TcpListener::from_raw_fd(fd) };
        rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)
            .with_context(|| format!("--systemd-socket: descriptor {fd} was handed over"))?;
        if !rustix::net::sockopt::socket_acceptconn(&socket).unwrap_or(false) || socket.local_addr().is_err() {
            bail!("--systemd-socket: descriptor {fd} is no TCP socket that listens; the .socket unit needs Accept=no");
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Collects, and makes pages.
struct Exporter {
    sampler: Sampler,
    request: SampleRequest,
    with_findings: bool,
    run: Run,
    head: Head,
    fresh_for: Duration,
}

impl Exporter {
    fn open(args: &ExportArgs, thresholds: Thresholds) -> anyhow::Result<Exporter> {
        let common = Common { origin: args.origin.clone(), no_owners: args.no_owners, ..Common::default() };
        let session = Session::open(&common)?;
        let head = session.head("export");
        let with_owners = !args.no_owners;
        let config = Config {
            with_owners,
            with_findings: with_owners && !args.no_findings,
            // A trace that ends at once has seen nothing.
            trace: !args.no_trace && !args.once && args.origin.proc_root.is_none(),
            insist_on_trace: false,
            track: crate::aggregate::tracker::DEFAULT_CAP,
            thresholds,
            scope: session::scope(&common),
        };
        let interval_ms = millis(args.interval);
        Ok(Exporter {
            with_findings: config.with_findings,
            sampler: Sampler::new(session.live, session.names, config).map_err(complaint)?,
            request: SampleRequest {
                filter: Expr::and(Vec::new()),
                interval_ms,
                by: None,
                top: 0,
                order: GroupOrder::LARGEST,
                rows: None,
                events: false,
                measures: Some(args.top),
            },
            run: Run { version: env!("CARGO_PKG_VERSION"), interval_ms, with_peers: args.peers, ..Run::default() },
            head,
            fresh_for: (args.interval * STALE_INTERVALS).max(STALE_LEAST),
        })
    }

    fn skip(&mut self, intervals: u64) {
        self.sampler.skip(intervals);
        self.run.skipped += intervals;
    }

    /// One collection. What fails is part of the page.
    fn collect(&mut self) -> Page {
        self.run.collections += 1;
        let mut failure = None;
        let started = Instant::now();
        let sampled = self.sampler.sample(&self.request);
        self.note("sockets", started, sampled.is_ok());
        let frame = match sampled {
            Ok(frame) => Some(frame),
            Err(error) => {
                failure = Some(format!("{:#}", complaint(error)));
                None
            }
        };
        let verdicts = match &frame {
            Some(frame) if self.with_findings => self.judge(frame, &mut failure),
            _ => None,
        };
        self.page(frame.as_ref(), verdicts.as_ref(), failure)
    }

    fn judge(&mut self, frame: &Frame, failure: &mut Option<String>) -> Option<Verdicts> {
        let started = Instant::now();
        if self.sampler.judge_is_due() {
            let judged = self.sampler.judge(frame.all().total());
            self.note("rules", started, judged.is_ok());
            if let Err(error) = judged {
                *failure = Some(format!("{:#}", complaint(error)));
                return None;
            }
        }
        Some(self.sampler.verdicts())
    }

    fn note(&mut self, name: &'static str, started: Instant, is_done: bool) {
        self.run.collectors.retain(|c| c.name != name);
        self.run.collectors.push(Collected { name, seconds: started.elapsed().as_secs_f64(), is_done });
    }

    fn page(&mut self, frame: Option<&Frame>, verdicts: Option<&Verdicts>, mut failure: Option<String>) -> Page {
        let facts = Facts { run: &self.run, frame, verdicts, names: self.sampler.names() };
        let series = Arc::new(Series::of(&facts));
        let mut page = |encoded: Result<String, std::fmt::Error>| {
            encoded.unwrap_or_else(|_| {
                failure = Some("cannot write the metrics as text".into());
                String::new()
            })
        };
        let (openmetrics, prometheus) = (page(series.openmetrics()), page(series.prometheus()));
        if let Some(at) = frame.and_then(|frame| text::timestamp(frame.taken_at_ms)) {
            self.head.taken_at = at.to_string();
        }
        let gaps: &[Gap] = frame.map_or(&[], |frame| &frame.gaps);
        let findings = findings::document(&self.head, verdicts, gaps);
        Page {
            openmetrics: openmetrics.into(),
            prometheus: prometheus.into(),
            findings: findings.to_string().into(),
            failure,
            fresh_until: Instant::now() + self.fresh_for,
        }
    }
}
