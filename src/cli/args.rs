//! The command line, as clap sees it.
//!
//! Comes in: words. Goes out: a [`Cli`]. Never here: looking anything up; values are checked where they are used, so
//! that every complaint has one form.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cli::env::ColorChoice;
use crate::render::rows::{self, FORMATS, Format};

/// What are my TCP connections doing, which are in trouble, whose fault is it, and what do I do about it?
#[derive(Debug, Parser)]
#[command(name = "tcpstate", version, about, max_term_width = 100, after_help = EXAMPLES)]
#[command(disable_help_subcommand = true, subcommand_required = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tcpstate                            counts per state, top groups (the same as `summary`)
  tcpstate list -tanop                one row per socket, with timers and processes, as in ss
  tcpstate list --state CLOSE_WAIT    any spelling: close-wait, closewait, cw
  tcpstate summary --by peer-addr,process --top 5
  tcpstate list --port 443 --json | jq '.sockets[] | .owners'

Exit codes: 0 done, 1 found or nothing matched (where asked for), 2 wrong usage or nothing could be read.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Counts per state and family, and the largest groups
    #[command(after_help = SUMMARY_EXAMPLES)]
    Summary(SummaryArgs),
    /// One row per socket
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// The diagnosis: what is wrong, with whom, how it is known, what to do
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// The state machine, live: a full screen, plain blocks, or JSON lines
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(WatchArgs),
    /// Every change of state as it happens, and who made it
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(TraceArgs),
    /// A state, a rule, a column, or the state machine with live counts
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Print the man page, shell completions, the JSON schema or the list of columns
    #[command(after_help = GENERATE_EXAMPLES)]
    Generate(GenerateArgs),
}

const SUMMARY_EXAMPLES: &str = "\
Examples:
  tcpstate summary                          states, listeners, destinations, processes
  tcpstate summary --no-owners              without looking into processes: faster
  tcpstate summary --by peer-addr           who has how many connections, and in which states
  tcpstate summary --by listener,peer-addr --state established --top 20
  tcpstate summary --json | jq .states.close_wait";

const LIST_EXAMPLES: &str = "\
Examples:
  tcpstate list                             every socket
  tcpstate list -l                          listeners: Recv-Q is the accept queue, Send-Q its limit
  tcpstate list --state close-wait -c +age --sort age
  tcpstate list --peer 10.0.0.0/8 --process nginx
  tcpstate list -tanop                      the letters of ss add their columns
  tcpstate list --format csv -c state,local,peer,rtt > sockets.csv

On a terminal columns are aligned; in a pipe cells are separated by one tab. Run `tcpstate list --list-columns` for all columns.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  tcpstate doctor                           one look, and a second one if something needs it
  tcpstate doctor --interval 10s            two looks, ten seconds apart
  tcpstate doctor --once --json             one look, for scripts
  tcpstate doctor --rule close-wait-leak    one rule; `tcpstate explain` lists them
  tcpstate doctor --nagios                  as a monitoring plugin: exit 0 to 3, perfdata
  tcpstate doctor --fail-on high            exit 1 only for findings at high or above

Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 wrong usage or nothing could be read.";

const TRACE_EXAMPLES: &str = "\
Examples:
  tcpstate trace                            a line per change, of all network namespaces
  tcpstate trace state close-wait           whose peers have closed
  tcpstate trace --life dport = :443        a line per connection that ended: who opened, who closed first
  tcpstate trace --summary 10s              which changes, and how many
  tcpstate trace --json --duration 1m       JSON lines
  tcpstate trace --netns web                one network namespace, from where you stand
  tcpstate trace --poll --interval 100ms    without any right: differences of two looks

A process in [brackets] held the socket while a packet was handled; without them it made the change by a system call.
TIME_WAIT with an asterisk is inferred. Interrupt it for the totals.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  tcpstate explain                          all topics
  tcpstate explain CLOSE_WAIT               a state, in any spelling
  tcpstate explain close-wait-leak          a rule of the doctor
  tcpstate explain rtt                      a column of `list`
  tcpstate explain machine                  the state machine with this host's counts on it";

const GENERATE_EXAMPLES: &str = "\
Examples:
  tcpstate generate completions bash > /etc/bash_completion.d/tcpstate
  tcpstate generate man --dir /usr/local/share/man/man1
  tcpstate generate schema | jq .
  tcpstate generate columns";

/// Where the data comes from and how it is printed.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Where sockets are read from
    #[arg(long, value_enum, default_value_t, value_name = "SOURCE", help_heading = "Source")]
    pub source: SourceArg,
    /// A proc file system mounted elsewhere, such as a host's in a container
    #[arg(long, value_name = "DIR", help_heading = "Source")]
    pub proc_root: Option<std::path::PathBuf>,
    /// Network namespaces: a name of `ip netns`, a process id, a path, or `all`; may be repeated
    #[arg(long, short = 'N', value_name = "NAME|PID|PATH|all", help_heading = "Source")]
    pub netns: Vec<String>,
    /// Do not look for the processes that hold the sockets
    #[arg(long, help_heading = "Source")]
    pub no_owners: bool,
    /// How to find the processes
    #[arg(long, value_enum, default_value_t, value_name = "HOW", help_heading = "Source")]
    pub owners_via: OwnersArg,
    /// Print JSON (the same as --format json)
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// When to colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", help_heading = "Output")]
    pub color: ColorChoice,
    /// Fail with exit code 2 when something could not be seen
    #[arg(long, help_heading = "Output")]
    pub strict: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SourceArg {
    /// sock_diag, and /proc/net/tcp where there is none
    #[default]
    Auto,
    /// sock_diag over netlink
    Netlink,
    /// /proc/net/tcp and tcp6
    Proc,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OwnersArg {
    /// One BPF pass where many files are open and it is permitted, else /proc
    #[default]
    Auto,
    /// The walk over /proc/PID/fd
    Proc,
    /// One BPF pass, or fail
    Bpf,
}

/// Which sockets.
#[derive(Args, Clone, Debug, Default)]
pub struct Selection {
    /// States and groups of states, separated by commas, in any spelling
    #[arg(long, short = 's', value_name = "STATES", help_heading = "Selection")]
    pub state: Vec<String>,
    /// Listening sockets only
    #[arg(long, short = 'l', help_heading = "Selection")]
    pub listening: bool,
    /// IPv4 rows only
    #[arg(short = '4', long = "ipv4", conflicts_with = "ipv6", help_heading = "Selection")]
    pub ipv4: bool,
    /// IPv6 rows only
    #[arg(short = '6', long = "ipv6", help_heading = "Selection")]
    pub ipv6: bool,
    /// Local or peer port: numbers, ranges and service names, separated by commas
    #[arg(long, value_name = "PORTS", help_heading = "Selection")]
    pub port: Option<String>,
    /// Local address: ADDR, CIDR, ADDR:PORT or :PORT
    #[arg(long, value_name = "ADDR", help_heading = "Selection")]
    pub local: Option<String>,
    /// Peer address: ADDR, CIDR, ADDR:PORT or :PORT
    #[arg(long, value_name = "ADDR", help_heading = "Selection")]
    pub peer: Option<String>,
    /// Sockets that this process holds
    #[arg(long, value_name = "PID", allow_negative_numbers = true, help_heading = "Selection")]
    pub pid: Option<String>,
    /// Sockets of processes of this name; `*` stands for anything
    #[arg(long, value_name = "NAME", help_heading = "Selection")]
    pub process: Option<String>,
    /// Sockets of this user, by name or number
    #[arg(long, value_name = "USER", help_heading = "Selection")]
    pub user: Option<String>,
    /// A filter expression, as in ss and beyond: state close-wait and dport = :443 and age > 10m
    #[arg(value_name = "FILTER", help_heading = "Selection")]
    pub filter: Vec<String>,
}

#[derive(Args, Debug)]
pub struct SummaryArgs {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub selection: Selection,
    /// Cross states with these keys, separated by commas: local, local-addr, local-port, peer, peer-addr, peer-port,
    /// four-tuple, process, user, listener, destination, netns, unit, container, pod, family, state
    #[arg(long, value_name = "KEYS", help_heading = "Output")]
    pub by: Vec<String>,
    /// Only the counts per state: ESTABLISHED is taken from the kernel's counters and not read row by row
    #[arg(long, conflicts_with = "by", help_heading = "Output")]
    pub counts: bool,
    /// Print what the kernel is asked, and exit
    #[arg(long, help_heading = "Output")]
    pub explain_plan: bool,
    /// How many groups to show; the others are added up
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true, help_heading = "Output")]
    pub top: usize,
}

/// Takes the name of a format of `list`.
fn format() -> impl TypedValueParser<Value = &'static Format> {
    let names = FORMATS.iter().map(|format| PossibleValue::new(format.name).help(format.help));
    PossibleValuesParser::new(names).try_map(|name| rows::find(&name).ok_or("no format of this name"))
}

#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub selection: Selection,
    /// Output format
    #[arg(long, value_parser = format(), value_name = "FORMAT", help_heading = "Output")]
    pub format: Option<&'static Format>,
    /// Columns to show, separated by commas; +NAME adds to the default ones
    #[arg(long, short = 'c', value_name = "COLUMNS", allow_hyphen_values = true, help_heading = "Output")]
    pub columns: Option<String>,
    /// Print every column with its kind and meaning
    #[arg(long, help_heading = "Output")]
    pub list_columns: bool,
    /// Sort by a column; -NAME for the largest first
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true, help_heading = "Output")]
    pub sort: Option<String>,
    /// No header line
    #[arg(long, short = 'H', help_heading = "Output")]
    pub no_header: bool,
    /// Print what the kernel is asked, and exit
    #[arg(long, help_heading = "Output")]
    pub explain_plan: bool,
    /// Exit with 1 when no socket matches
    #[arg(long, help_heading = "Output")]
    pub exists: bool,
    /// TCP sockets: the default, for fingers that know ss
    #[arg(long, short = 't', help_heading = "Letters of ss")]
    pub tcp: bool,
    /// All states: the default
    #[arg(long, short = 'a', help_heading = "Letters of ss")]
    pub all: bool,
    /// Numeric addresses and ports: the default
    #[arg(long, short = 'n', help_heading = "Letters of ss")]
    pub numeric: bool,
    /// Add the processes (a default column)
    #[arg(long, short = 'p', help_heading = "Letters of ss")]
    pub processes: bool,
    /// Add tcp_info: round-trip times, windows, bytes
    #[arg(long, short = 'i', help_heading = "Letters of ss")]
    pub info: bool,
    /// Add socket memory
    #[arg(long, short = 'm', help_heading = "Letters of ss")]
    pub memory: bool,
    /// Add timers
    #[arg(long, short = 'o', help_heading = "Letters of ss")]
    pub options: bool,
    /// Add age, user, inode, cookie, shutdown, cgroup
    #[arg(long, short = 'e', help_heading = "Letters of ss")]
    pub extended: bool,
}

#[derive(Args, Debug)]
pub struct GenerateArgs {
    #[arg(value_enum)]
    pub what: Generated,
    /// For completions: the shell
    #[arg(value_enum, required_if_eq("what", "completions"))]
    pub shell: Option<clap_complete::Shell>,
    /// For man: write one page per command into this directory, instead of tcpstate(1) to standard output
    #[arg(long, value_name = "DIR")]
    pub dir: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Generated {
    /// The manual, in roff
    Man,
    /// Shell completions
    Completions,
    /// The JSON Schema of every document
    Schema,
    /// The table of columns, in Markdown
    Columns,
    /// The index of the rules, in Markdown
    Rules,
}

#[derive(Args, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub common: Common,
    /// Take a second look after this time [default: 2s, and only if a rule needs it]
    #[arg(long, value_name = "TIME", conflicts_with = "once", help_heading = "Diagnosis")]
    pub interval: Option<String>,
    /// One look only
    #[arg(long, help_heading = "Diagnosis")]
    pub once: bool,
    /// Trace for this time first, to know who closed what is in TIME_WAIT; needs the rights of `trace --via bpf`
    #[arg(long, value_name = "TIME", help_heading = "Diagnosis")]
    pub trace: Option<String>,
    /// Only these rules, separated by commas
    #[arg(long, value_name = "RULES", help_heading = "Diagnosis")]
    pub rule: Vec<String>,
    /// Set a threshold
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Diagnosis")]
    pub threshold: Vec<String>,
    /// Print every threshold, its value and where it comes from
    #[arg(long, help_heading = "Diagnosis")]
    pub show_thresholds: bool,
    /// Show findings at or above this severity: info, warning, high, critical
    #[arg(long, value_name = "SEVERITY", default_value = "info", help_heading = "Output")]
    pub min_severity: String,
    /// Exit with 1 for findings at or above this severity
    #[arg(long, value_name = "SEVERITY", default_value = "warning", help_heading = "Output")]
    pub fail_on: String,
    /// Print one line with perfdata and exit with 0 to 3, as monitoring plugins do
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    pub nagios: bool,
}

#[derive(Args, Debug)]
pub struct ExplainArgs {
    #[command(flatten)]
    pub common: Common,
    /// A state, a rule, a column or `machine`; without one, all topics
    pub topic: Vec<String>,
}

const WATCH_EXAMPLES: &str = "\
Examples:
  tcpstate watch                            the state machine, live; ? shows the keys
  tcpstate watch --state TIME_WAIT          who leaves TIME_WAIT behind, and how fast
  tcpstate watch --interval 200ms port 443  five times a second, one port
  tcpstate watch --plain --count 10         ten blocks of text, for a log
  tcpstate watch --json | jq -c 'select(.type == \"transition\")'

Off a terminal the output is plain blocks.";

#[derive(Args, Debug)]
pub struct WatchArgs {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub selection: Selection,
    /// Time between two looks, from 100ms
    #[arg(long, short = 'i', value_name = "TIME", default_value = "1s", help_heading = "Watching")]
    pub interval: String,
    /// End after this many looks
    #[arg(long, short = 'n', value_name = "N", help_heading = "Watching")]
    pub count: Option<u64>,
    /// Largest groups by: process, listener, destination, user, unit, container, pod, netns
    #[arg(long, value_name = "KEY", help_heading = "Watching")]
    pub by: Option<String>,
    /// How many groups in plain and JSON output
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = "Watching")]
    pub top: usize,
    /// Do not run the rules of the doctor
    #[arg(long, help_heading = "Watching")]
    pub no_findings: bool,
    /// Trace beside the looks: fail if it is not permitted, and keep it however many changes there are [default: where
    /// permitted and cheap]
    #[arg(long, conflicts_with = "no_trace", help_heading = "Watching")]
    pub trace: bool,
    /// Only look: what happens between two looks is counted and not seen
    #[arg(long, help_heading = "Watching")]
    pub no_trace: bool,
    /// Follow at most this many sockets; above it, every second, fourth... of them
    #[arg(long, value_name = "N", default_value_t = crate::aggregate::tracker::DEFAULT_CAP, help_heading = "Watching")]
    pub track: usize,
    /// A block of text per look instead of a full screen
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    pub plain: bool,
    /// Write the screen after the last look (see --count) as an SVG picture
    #[arg(long, value_name = "FILE", hide = true)]
    pub screenshot_svg: Option<std::path::PathBuf>,
    /// Columns and lines of that picture
    #[arg(long, value_name = "COLSxROWS", default_value = "110x34", hide = true)]
    pub screenshot_size: String,
    /// Keys to press before that picture is taken: `m`, `Down`, `Enter`, separated by commas
    #[arg(long, value_name = "KEYS", hide = true)]
    pub screenshot_keys: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ViaArg {
    /// The first of the following that works here
    #[default]
    Auto,
    /// A BPF program on the kernel's tracepoint, or fail
    Bpf,
    /// The same tracepoint through the trace file system, or fail
    Tracefs,
    /// Differences of two looks at the sockets
    Poll,
}

#[derive(Args, Debug)]
pub struct TraceArgs {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub selection: Selection,
    /// How changes are seen
    #[arg(long, value_enum, default_value_t, value_name = "HOW", help_heading = "Trace")]
    pub via: ViaArg,
    /// The same as --via poll
    #[arg(long, conflicts_with = "via", help_heading = "Trace")]
    pub poll: bool,
    /// For polling: the time between two looks
    #[arg(long, value_name = "TIME", default_value = "200ms", help_heading = "Trace")]
    pub interval: String,
    /// This network namespace only; without it and without --netns, all of the host
    #[arg(long, conflicts_with = "netns", help_heading = "Trace")]
    pub this_netns: bool,
    /// Room for changes that were not read yet; a change takes 136 bytes
    #[arg(long, value_name = "SIZE", default_value = "8M", help_heading = "Trace")]
    pub ring_size: String,
    /// A line per connection that has ended
    #[arg(long, help_heading = "Output")]
    pub life: bool,
    /// Count for this time, and print how often each change was seen
    #[arg(long, value_name = "TIME", help_heading = "Output")]
    pub summary: Option<String>,
    /// Stop after so many lines
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub count: Option<u64>,
    /// Stop after this time
    #[arg(long, value_name = "TIME", help_heading = "Output")]
    pub duration: Option<String>,
}
