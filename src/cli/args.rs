//! The command line as clap sees it: the commands, and the arguments that several of them share.
//!
//! Input: words. Output: a [`Cli`] whose values are typed by the parsers in [`crate::cli::parse`]. A command's own
//! arguments are in the file of the command.
//!
//! Circle with `doctor`, `explain`, `list`, `summary`, `trace`, `watch`: each command declares its own arguments,
//! and the shared ones are here.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cli::env::ColorChoice;
use crate::cli::{doctor, explain, generate, list, parse, summary, trace, watch};
use crate::model::StateSet;

/// What are my TCP connections doing, which are in trouble, which process is at fault, and what do I do about it?
#[derive(Debug, Parser)]
#[command(name = "tcpstate", version, about, max_term_width = 100, after_help = EXAMPLES)]
#[command(propagate_version = true, subcommand_required = true)]
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
    Summary(summary::SummaryArgs),
    /// One row per socket
    List(list::ListArgs),
    /// Diagnosis: what is wrong, which process, how it is known, what to do
    Doctor(doctor::DoctorArgs),
    /// The state machine, live: full screen, plain blocks, or JSON lines
    Watch(watch::WatchArgs),
    /// Every change of state as it happens, and the process behind it
    Trace(trace::TraceArgs),
    /// A state, a rule, a column, or the state machine with live counts
    Explain(explain::ExplainArgs),
    /// Print the man page, shell completions, the JSON schema or the list of columns
    Generate(generate::GenerateArgs),
}

/// Where sockets come from.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Where sockets are read from
    #[arg(long, value_enum, default_value_t, value_name = "SOURCE", help_heading = "Source")]
    pub source: SourceArg,
    /// A proc file system mounted elsewhere, such as the host's in a container
    #[arg(long, value_name = "DIR", help_heading = "Source")]
    pub proc_root: Option<std::path::PathBuf>,
    /// Network namespaces: a name of `ip netns`, a process id, a path, or `all`; may be repeated
    #[arg(long, short = 'N', value_name = "NAME|PID|PATH|all", help_heading = "Source")]
    pub netns: Vec<String>,
}

/// Where the data comes from and how it is printed.
#[derive(Args, Clone, Debug, Default)]
pub struct Common {
    #[command(flatten)]
    pub origin: Origin,
    /// Do not search for the processes that hold the sockets
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
    /// Exit with 2 when something could not be seen
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
    #[arg(long, short = 's', value_name = "STATES", value_delimiter = ',', value_parser = parse::states())]
    #[arg(hide_possible_values = true, help_heading = "Selection")]
    pub state: Vec<StateSet>,
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
    /// Sockets held by this process
    #[arg(long, value_name = "PID", value_parser = parse::pid, allow_negative_numbers = true)]
    #[arg(help_heading = "Selection")]
    pub pid: Option<u32>,
    /// Sockets held by processes of this name; `*` matches anything
    #[arg(long, value_name = "NAME", value_parser = parse::process, help_heading = "Selection")]
    pub process: Option<String>,
    /// Sockets of this user, by name or number
    #[arg(long, value_name = "USER", help_heading = "Selection")]
    pub user: Option<String>,
    /// A filter expression, in the language of ss and more: state close-wait and dport = :443 and age > 10m
    #[arg(value_name = "FILTER", help_heading = "Selection")]
    pub filter: Vec<String>,
}
