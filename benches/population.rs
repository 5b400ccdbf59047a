//! The populations: many real kernel sockets in a private network namespace, made in seconds and held until the end.
//!
//! Comes in: a [`Plan`]. Goes out: processes that hold the sockets, and a line that says so. Never here: a measurement.
//!
//! One *maker* process owns the namespace and starts *holders*, each with fewer descriptors than `RLIMIT_NOFILE`
//! allows. Both wait on their standard input and end when it closes; a dead parent kills them as well.
//!
//! How each state is made:
//!
//! * ESTABLISHED, without a handshake: `TCP_REPAIR` before `connect` makes `tcp_connect` go straight to
//!   `tcp_finish_connect`. Nothing is sent, the other half does not exist, and `TCP_REPAIR_OFF_NO_WP` ends the repair
//!   without the window probe that would be answered by a reset.
//! * TIME_WAIT, FIN_WAIT2 and CLOSE_WAIT: real connections over loopback, closed by one side or by both. TIME_WAIT and
//!   an orphaned FIN_WAIT2 last 60 s (`TCP_TIMEWAIT_LEN`), which no sysctl changes, so they are made last.
//! * SYN_SENT: connects to a listener whose accept queue is full (`tcp_conn_request` drops the SYN).

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::{floor, netns};

/// Names of the holders, as a host would have them; taken in turn.
const NAMES: [&std::ffi::CStr; 6] = [c"edge-proxy", c"orders", c"payments", c"search", c"sessions", c"reports"];
const LISTENERS: usize = 40;
const DESTINATIONS: usize = 200;
const HOLDERS: usize = 6;
const DESTINATION_PORTS: [u16; 5] = [5432, 6379, 443, 9092, 3306];
/// Every one of so many inbound connections is an IPv6 one.
const IPV6_EVERY: usize = 8;
/// Descriptors a holder needs for itself.
const SPARE_DESCRIPTORS: usize = 200;
/// So many TIME_WAIT per source address: the ports of `ip_local_port_range` with some room.
const PORTS_PER_SOURCE: usize = 53_000;
/// Above every port that listens here: a wildcard listener would refuse the bind of a client.
const FIRST_PORT: u16 = 12_000;
/// Listeners of one holder follow each other from here, so many apart from those of the next.
const FIRST_LISTENER: usize = 8_000;
const LISTENERS_APART: usize = 8;

/// How many sockets of each kind a population has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plan {
    /// ESTABLISHED by repair.
    pub established: usize,
    /// Connections closed by one side only: a CLOSE_WAIT and a FIN_WAIT2 each.
    pub half_closed: usize,
    pub syn_sent: usize,
    pub listeners: usize,
    pub time_wait: usize,
    /// Network namespaces beside that of the population, with nothing in them.
    pub namespaces: usize,
}

impl Plan {
    /// Nothing at all: an idle host.
    pub fn idle() -> Plan {
        Plan::default()
    }

    pub fn established(sockets: usize) -> Plan {
        Plan { established: sockets.saturating_sub(LISTENERS), listeners: LISTENERS.min(sockets), ..Plan::default() }
    }

    pub fn time_wait(sockets: usize) -> Plan {
        Plan { time_wait: sockets, ..Plan::default() }
    }

    pub fn empty_namespaces(namespaces: usize) -> Plan {
        Plan { namespaces, ..Plan::default() }
    }

    /// A busy host with one process that forgets to close: 9 % CLOSE_WAIT, 9 % FIN_WAIT2, 9 % TIME_WAIT, some
    /// SYN_SENT, 40 listeners, the rest (72 %) ESTABLISHED.
    pub fn mix(sockets: usize) -> Plan {
        let share = sockets * 9 / 100;
        let syn_sent = sockets / 500;
        let rest = sockets.saturating_sub(3 * share + syn_sent + LISTENERS);
        Plan { established: rest, half_closed: share, syn_sent, listeners: LISTENERS, time_wait: share, namespaces: 0 }
    }

    /// Rows of a dump when all of it is there. Listeners of the plumbing (a few) come on top.
    pub fn sockets(&self) -> usize {
        self.established + 2 * self.half_closed + self.syn_sent + self.listeners + self.time_wait
    }

    /// Sockets that some descriptor points to; every other half-closed client lets go of its own.
    pub fn owned(&self) -> usize {
        self.established + self.half_closed + self.half_closed / 2 + self.syn_sent + self.listeners
    }

    /// Whether the population melts away after a minute.
    pub fn expires(&self) -> bool {
        self.time_wait > 0 || self.half_closed > 0
    }

    fn arguments(&self) -> [String; 6] {
        [self.established, self.half_closed, self.syn_sent, self.listeners, self.time_wait, self.namespaces]
            .map(|n| n.to_string())
    }

    fn from_arguments(arguments: &[String]) -> Result<Plan> {
        let numbers: Vec<usize> =
            arguments.iter().map(|text| text.parse()).collect::<Result<_, _>>().context("read the plan")?;
        let &[established, half_closed, syn_sent, listeners, time_wait, namespaces] = numbers.as_slice() else {
            bail!("read the plan: 6 numbers expected, {} given", numbers.len());
        };
        Ok(Plan { established, half_closed, syn_sent, listeners, time_wait, namespaces })
    }

    /// The share of each holder, filled so that no process runs out of descriptors: first the half-closed
    /// connections, so that they pile up in few processes as leaks do, then ESTABLISHED. TIME_WAIT belongs to nobody.
    fn shares(&self, descriptor_limit: usize) -> Vec<Plan> {
        let room = descriptor_limit.saturating_sub(SPARE_DESCRIPTORS).max(1);
        let descriptors = self.owned();
        if descriptors == 0 {
            return Vec::new();
        }
        let holders = descriptors.div_ceil(room).max(HOLDERS);
        let per_holder = descriptors.div_ceil(holders) + 2;
        let mut left = *self;
        // A holder without a listener could not have inbound connections.
        let listeners = left.listeners.max(holders);
        let mut shares = Vec::with_capacity(holders);
        for index in 0..holders {
            let mut share = Plan { listeners: listeners / holders, ..Plan::default() };
            share.listeners += usize::from(index < listeners % holders);
            share.syn_sent = if index + 1 == holders { left.syn_sent } else { 0 };
            share.half_closed = left.half_closed.min(per_holder.saturating_sub(share.owned()) * 2 / 3);
            share.established = left.established.min(per_holder.saturating_sub(share.owned()));
            if index + 1 == holders {
                share.established = left.established;
            }
            left.half_closed -= share.half_closed;
            left.established -= share.established;
            shares.push(share);
        }
        shares
    }
}

/// A population that lives: its namespace is open, its processes end when this is dropped.
pub struct Population {
    maker: Child,
    stdin: Option<ChildStdin>,
    expires: bool,
    pub namespace: OwnedFd,
    /// When the last socket was made.
    pub ready_at: Instant,
    pub made_in: Duration,
    /// TIME_WAIT made per second, where some were asked for.
    pub time_wait_per_second: Option<u64>,
}

impl Population {
    /// Makes the population and returns when all of it is there.
    pub fn make(plan: &Plan) -> Result<Population> {
        let started = Instant::now();
        let mut command = Command::new(std::env::current_exe().context("find the path of this program")?);
        command.arg("role:make").args(plan.arguments());
        let (mut maker, stdin, mut stdout) = spawn_role(command)?;
        let line = match wait_for_ready(&mut stdout) {
            Ok(line) => line,
            Err(error) => {
                // The maker says on its standard error what went wrong; it must not stay behind.
                drop(stdin);
                end(&mut maker);
                return Err(error);
            }
        };
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", maker.id()))
            .context("open the network namespace of the population")?;
        Ok(Population {
            maker,
            expires: plan.expires(),
            stdin: Some(stdin),
            namespace: namespace.into(),
            ready_at: Instant::now(),
            made_in: started.elapsed(),
            time_wait_per_second: netns::number_of(&line, "time_wait_per_second").ok(),
        })
    }
}

impl Population {
    /// The sockets in it by the kernel's state number, in the words of [`floor::Dumped`].
    pub fn census(&self) -> Result<floor::Dumped> {
        let mut command = Command::new(std::env::current_exe().context("find the path of this program")?);
        command.arg("role:census").stdin(Stdio::null()).stderr(Stdio::inherit());
        netns::tie_to_us(&mut command, Some(self.namespace.as_fd()));
        let output = command.output().context("count the sockets of the population")?;
        let line = String::from_utf8_lossy(&output.stdout);
        let mut counted = floor::Dumped { sockets: netns::number_of(&line, "sockets")?, ..floor::Dumped::default() };
        for (state, count) in counted.by_state.iter_mut().enumerate() {
            *count = netns::number_of(&line, &format!("state{state}"))?;
        }
        Ok(counted)
    }

    /// When the first of its sockets dies of old age.
    pub fn good_until(&self) -> Option<Instant> {
        // TCP_TIMEWAIT_LEN is 60 s.
        let margin = self.made_in + Duration::from_secs(4);
        self.expires.then(|| self.ready_at + Duration::from_secs(60).saturating_sub(margin))
    }
}

impl Drop for Population {
    fn drop(&mut self) {
        drop(self.stdin.take());
        end(&mut self.maker);
    }
}

/// Gives a child whose standard input is closed time to end by itself, then ends it.
fn end(child: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Ok(Some(_)) | Err(_) => return,
        }
    }
    // A child that is gone already is what was wanted.
    drop(child.kill());
    drop(child.wait());
}

fn spawn_role(mut command: Command) -> Result<(Child, ChildStdin, BufReader<ChildStdout>)> {
    netns::tie_to_us(&mut command, None);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {:?}", command.get_args().collect::<Vec<_>>()))?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        bail!("start a role: no pipes");
    };
    Ok((child, stdin, BufReader::new(stdout)))
}

fn wait_for_ready(stdout: &mut BufReader<ChildStdout>) -> Result<String> {
    let mut line = String::new();
    stdout.read_line(&mut line).context("wait for the population")?;
    if !line.starts_with("ready") {
        bail!("make the population: a process of it ended early, its message is above");
    }
    Ok(line)
}

/// Runs a role of this binary, if `role` names one of this module.
pub fn run_role(role: &str, arguments: &[String]) -> Option<Result<()>> {
    match role {
        "role:make" => Some(make(arguments)),
        "role:hold" => Some(hold(arguments)),
        "role:close" => Some(close_many(arguments)),
        "role:census" => Some(print_census()),
        _ => None,
    }
}

/// The maker: enters a new namespace, starts the holders, then the closers, reports, and waits to be told to end.
fn make(arguments: &[String]) -> Result<()> {
    let plan = Plan::from_arguments(arguments)?;
    netns::enter_private()?;
    let limit = netns::raise_descriptor_limit()?;
    let me = std::env::current_exe().context("find the path of this program")?;
    // They live as long as their descriptors.
    let _namespaces: Vec<std::fs::File> =
        (0..plan.namespaces).map(|_| netns::another()).collect::<Result<_>>().context("make the namespaces")?;

    let mut holders = Vec::new();
    for (index, share) in plan.shares(limit).iter().enumerate() {
        let mut command = Command::new(&me);
        command.arg("role:hold").arg(index.to_string()).args(share.arguments());
        holders.push(spawn_role(command)?);
    }
    for (_, _, stdout) in &mut holders {
        wait_for_ready(stdout)?;
    }

    let closing = Instant::now();
    let mut closers = Vec::new();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
    for index in 0..threads.min(plan.time_wait) {
        let share = plan.time_wait / threads + usize::from(index < plan.time_wait % threads);
        let mut command = Command::new(&me);
        command.arg("role:close").arg(index.to_string()).arg(share.to_string());
        closers.push(spawn_role(command)?);
    }
    for (child, _, stdout) in &mut closers {
        wait_for_ready(stdout)?;
        child.wait().context("wait for a closer")?;
    }
    let per_second = plan.time_wait as f64 / closing.elapsed().as_secs_f64();

    let rate = if plan.time_wait > 0 { format!("time_wait_per_second={}", per_second as u64) } else { String::new() };
    say_ready(&rate)?;
    wait_for_end();
    for (child, stdin, _) in holders {
        drop(stdin);
        let mut child = child;
        end(&mut child);
    }
    Ok(())
}

fn say_ready(details: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "ready {details}").and_then(|()| stdout.flush()).context("report that the sockets are there")
}

fn print_census() -> Result<()> {
    let counted = floor::census()?;
    let mut line = format!("sockets={}", counted.sockets);
    for (state, count) in counted.by_state.iter().enumerate() {
        write!(line, " state{state}={count}").context("write the census")?;
    }
    writeln!(std::io::stdout(), "{line}").context("print the census")
}

/// Returns when standard input closes: the parent asks us to end, or is gone.
fn wait_for_end() {
    let mut sink = [0_u8; 16];
    while !matches!(std::io::stdin().read(&mut sink), Ok(0) | Err(_)) {}
}

/// A holder: makes its share of the sockets and keeps them.
fn hold(arguments: &[String]) -> Result<()> {
    let (index, plan) = arguments.split_first().context("read the holder's number")?;
    let index: usize = index.parse().context("read the holder's number")?;
    let plan = Plan::from_arguments(plan)?;
    netns::raise_descriptor_limit()?;
    rustix::thread::set_name(NAMES[index % NAMES.len()]).context("name the holder")?;

    let mut sockets: Vec<OwnedFd> = Vec::with_capacity(plan.owned() + 8);
    // Listeners first: their ports could not be bound once repaired sockets sit on them.
    let first = FIRST_LISTENER + index * LISTENERS_APART;
    let ports: Vec<u16> = (first..first + plan.listeners).map(small).collect();
    let ipv6 = ipv6_works();
    let wildcard = if ipv6 { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
    for port in &ports {
        sockets.push(listen(SocketAddr::new(wildcard, *port), 4096)?);
    }
    half_close(index, plan.half_closed, &mut sockets)?;
    stay_syn_sent(plan.syn_sent, &mut sockets)?;
    for number in 0..plan.established {
        let (local, peer) = if ports.is_empty() || number % 5 >= 3 {
            outbound(index, number)
        } else {
            inbound(index, number, &ports, ipv6)
        };
        let socket =
            repaired(local, peer, number).with_context(|| format!("make ESTABLISHED {number}: {local} to {peer}"))?;
        sockets.push(socket);
    }
    say_ready("")?;
    wait_for_end();
    Ok(())
}

/// False on hosts that were booted without IPv6.
fn ipv6_works() -> bool {
    let address = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 0);
    open(&address, SocketFlags::empty()).is_ok_and(|socket| rustix::net::bind(&socket, &address).is_ok())
}

fn small(number: usize) -> u16 {
    u16::try_from(number % 65_536).unwrap_or(0)
}

fn ten(b: usize, c: usize, d: usize) -> IpAddr {
    Ipv4Addr::new(10, (b % 256) as u8, (c % 256) as u8, (d % 256) as u8).into()
}

/// A client of one of this holder's listeners: few local ports, thousands of peers.
fn inbound(holder: usize, number: usize, ports: &[u16], ipv6: bool) -> (SocketAddr, SocketAddr) {
    let port = ports[number % ports.len()];
    let client = number / ports.len();
    if ipv6 && number.is_multiple_of(IPV6_EVERY) {
        // Only ::1 is local in IPv6, so the peers differ by port alone.
        let loopback = IpAddr::from(Ipv6Addr::LOCALHOST);
        return (SocketAddr::new(loopback, port), SocketAddr::new(loopback, small(1_024 + client % 60_000)));
    }
    let (host, turn) = (client % 4_096, client / 4_096);
    let peer = ten(128 + holder % 64, host / 256 + 16 * (holder / 64), host % 256);
    (SocketAddr::new(ten(0, 0, 1), port), SocketAddr::new(peer, small(20_000 + turn * 7 + host % 7)))
}

/// A connection of this holder to one of 200 services.
fn outbound(holder: usize, number: usize) -> (SocketAddr, SocketAddr) {
    let service = number % DESTINATIONS;
    let peer = SocketAddr::new(ten(64, 0, service + 1), DESTINATION_PORTS[service % DESTINATION_PORTS.len()]);
    (SocketAddr::new(ten(0, 1, holder + 1), small(32_768 + number / DESTINATIONS)), peer)
}

fn open(address: &SocketAddr, flags: SocketFlags) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    rustix::net::socket_with(family, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None).context("open a socket")
}

fn listen(address: SocketAddr, backlog: i32) -> Result<OwnedFd> {
    let socket = open(&address, SocketFlags::empty())?;
    sockopt::set_socket_reuseaddr(&socket, true).context("set SO_REUSEADDR")?;
    rustix::net::bind(&socket, &address).with_context(|| format!("bind {address}"))?;
    rustix::net::listen(&socket, backlog).with_context(|| format!("listen on {address}"))?;
    Ok(socket)
}

fn set_tcp(socket: &OwnedFd, option: libc::c_int, value: libc::c_int) -> Result<()> {
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the descriptor is open, and the option value is a c_int of the size given that outlives the call.
    let status = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, std::ptr::from_ref(&value).cast(), size)
    };
    if status != 0 {
        return Err(std::io::Error::last_os_error()).context(format!("set TCP option {option} to {value}"));
    }
    Ok(())
}

/// Makes the end of the holder the end of the socket.
///
/// Without it a repaired socket, which believes that its peer's window is zero, would keep its FIN and stay as an
/// orphan for minutes, in the hash table that all namespaces share and under the limit `tcp_max_orphans`.
fn reset_on_close(socket: &OwnedFd) -> Result<()> {
    sockopt::set_socket_linger(socket, Some(Duration::ZERO)).context("set SO_LINGER")
}

/// One ESTABLISHED socket of which the other half never existed.
fn repaired(local: SocketAddr, peer: SocketAddr, number: usize) -> Result<OwnedFd> {
    // The values of `TCP_RECV_QUEUE` and `TCP_SEND_QUEUE` (`include/uapi/linux/tcp.h`).
    const RECV_QUEUE: libc::c_int = 1;
    const SEND_QUEUE: libc::c_int = 2;
    const REPAIR_OFF_NO_WINDOW_PROBE: libc::c_int = -1;
    let sequence = libc::c_int::try_from(number % 1_000_000).unwrap_or(0) * 1_000 + 1;
    let socket = open(&local, SocketFlags::empty())?;
    // Repair mode also forces address reuse, so that many sockets share one local port as accepted ones do.
    set_tcp(&socket, libc::TCP_REPAIR, 1)?;
    set_tcp(&socket, libc::TCP_REPAIR_QUEUE, SEND_QUEUE)?;
    set_tcp(&socket, libc::TCP_QUEUE_SEQ, sequence)?;
    set_tcp(&socket, libc::TCP_REPAIR_QUEUE, RECV_QUEUE)?;
    set_tcp(&socket, libc::TCP_QUEUE_SEQ, sequence + 7)?;
    if number.is_multiple_of(2) {
        sockopt::set_socket_keepalive(&socket, true).context("set SO_KEEPALIVE")?;
    }
    rustix::net::bind(&socket, &local).context("bind")?;
    rustix::net::connect(&socket, &peer).context("connect in repair mode")?;
    reset_on_close(&socket)?;
    set_tcp(&socket, libc::TCP_REPAIR, REPAIR_OFF_NO_WINDOW_PROBE)?;
    Ok(socket)
}

/// A client socket bound to `source` and connected to `target`.
fn connected(source: SocketAddr, target: SocketAddr) -> Result<OwnedFd> {
    let client = open(&source, SocketFlags::empty())?;
    rustix::net::bind(&client, &source).with_context(|| format!("bind {source}"))?;
    rustix::net::connect(&client, &target).with_context(|| format!("connect {source} to {target}"))?;
    Ok(client)
}

/// Connections whose client said goodbye and whose server did not: FIN_WAIT2 here, CLOSE_WAIT there.
fn half_close(holder: usize, count: usize, sockets: &mut Vec<OwnedFd>) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let target = SocketAddr::new(ten(0, 0, 1), small(7_000 + holder));
    let listener = listen(target, 64)?;
    for number in 0..count {
        let source = SocketAddr::new(ten(32, holder, 1 + number / PORTS_PER_SOURCE), source_port(number));
        let client = connected(source, target)?;
        let server = rustix::net::accept_with(&listener, SocketFlags::CLOEXEC).context("accept")?;
        if number.is_multiple_of(3) {
            // A leak often has unread data in it.
            rustix::io::write(&client, b"GET / HTTP/1.1\r\n\r\n").context("write")?;
        }
        rustix::net::shutdown(&client, rustix::net::Shutdown::Write).context("shut down")?;
        reset_on_close(&server)?;
        sockets.push(server);
        if number.is_multiple_of(2) {
            reset_on_close(&client)?;
            sockets.push(client);
        }
    }
    sockets.push(listener);
    // The last acknowledgements may be delayed by 40 ms and more: until then FIN_WAIT2 is FIN_WAIT1.
    std::thread::sleep(Duration::from_millis(300));
    Ok(())
}

fn source_port(number: usize) -> u16 {
    FIRST_PORT + small(number % PORTS_PER_SOURCE)
}

/// Connects that nobody answers: the accept queue of their listener is full.
fn stay_syn_sent(count: usize, sockets: &mut Vec<OwnedFd>) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let target = SocketAddr::new(ten(0, 0, 1), 6_999);
    sockets.push(listen(target, 0)?);
    for number in 0..count {
        let client = open(&target, SocketFlags::NONBLOCK)?;
        let source = SocketAddr::new(ten(33, 0, 1), source_port(number));
        rustix::net::bind(&client, &source).with_context(|| format!("bind {source}"))?;
        match rustix::net::connect(&client, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => sockets.push(client),
            Err(error) => return Err(error).with_context(|| format!("connect {source} to {target}")),
        }
    }
    Ok(())
}

/// A closer: makes TIME_WAIT by real connections, the client closing first, then ends.
fn close_many(arguments: &[String]) -> Result<()> {
    let [index, count] = arguments else { bail!("read the closer's task: 2 numbers expected") };
    let index: usize = index.parse().context("read the closer's number")?;
    let count: usize = count.parse().context("read how many to close")?;
    // The wildcard takes every 10.x address, so one listener stands for all destinations.
    let port = small(1_100 + index);
    let listener = listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), 64)?;
    for number in 0..count {
        let source = SocketAddr::new(ten(16, index, 1 + number / PORTS_PER_SOURCE), source_port(number));
        let target = SocketAddr::new(ten(64, 1, 1 + number % DESTINATIONS), port);
        let client = connected(source, target)?;
        let server = rustix::net::accept_with(&listener, SocketFlags::CLOEXEC).context("accept")?;
        drop(client);
        drop(server);
    }
    say_ready("")
}
