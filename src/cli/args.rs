//! The arguments that several commands share.
//!
//! Input: words. Output: values typed by the parsers in [`crate::cli::parse`]. A command's own arguments are in the file
//! of the command.

use std::path::Path;

use clap::{Args, ValueEnum};

use crate::cli::env::ColorChoice;
use crate::cli::history::{self, Moment};
use crate::cli::parse;
use crate::model::StateSet;

/// Where sockets come from.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Where sockets are read from
    #[arg(long, value_enum, default_value_t, value_name = "SOURCE", help_heading = "Source")]
    pub source: SourceArg,
    /// A proc file system mounted elsewhere, such as the host's in a container
    #[arg(long, value_name = "DIR", help_heading = "Source")]
    pub proc_root: Option<std::path::PathBuf>,
    /// Network namespaces: a name of `ip netns`, a process id, an inode, a path, a container or pod, or `all`; may be
    /// repeated
    #[arg(long, short = 'N', value_name = "NAME|PID|PATH|all", help_heading = "Source")]
    pub netns: Vec<String>,
    /// What belongs to this container, by name or id, in its network namespace; `*` matches anything
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    pub container: Option<String>,
    /// What belongs to the containers of this pod, likewise
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    pub pod: Option<String>,
}

impl Origin {
    /// Whether network namespaces are named, and with them perhaps others than that of this process.
    #[must_use]
    pub fn names_netns(&self) -> bool {
        !self.netns.is_empty() || self.names_members()
    }

    /// Whether a container or a pod is named.
    #[must_use]
    pub fn names_members(&self) -> bool {
        self.container.is_some() || self.pod.is_some()
    }
}

/// A recording in place of this host.
#[derive(Args, Clone, Debug, Default)]
pub struct Replay {
    /// Read a capture that `record` wrote, or a folder of captures, instead of this host; also saved output of ss, netstat, lsof
    /// or /proc/net/tcp (`-`: standard input). They may be of several hosts, and the option be given again
    #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "proc_root"], help_heading = "Source")]
    pub from: Vec<std::path::PathBuf>,
    /// Of captures of several hosts those of this one; `*` matches anything
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    pub host: Option<String>,
    /// The moment of the capture: -5m before its end, 12:30:00 (UTC), 2026-11-29T12:30:00Z [default: its end]
    #[arg(long, value_name = "MOMENT", value_parser = history::moment, allow_hyphen_values = true, requires = "from")]
    #[arg(help_heading = "Source")]
    pub at: Option<Moment>,
}

impl Replay {
    /// What is in a file.
    pub(crate) fn of(file: &Path) -> Replay {
        Replay { from: vec![file.to_owned()], ..Replay::default() }
    }

    /// Leaves its options out of the help of a command that refuses them.
    pub(crate) fn hide(arg: clap::Arg) -> clap::Arg {
        let is_of_replay = ["from", "host", "at"].contains(&arg.get_id().as_str());
        if is_of_replay { arg.hide(true) } else { arg }
    }

    /// The error of a command that reads only the running system.
    pub(crate) fn refuse(&self, command: &str) -> anyhow::Result<()> {
        if !self.from.is_empty() {
            anyhow::bail!(
                "{command} needs the running system; summary, list, doctor, watch, trace and explain read --from"
            );
        }
        Ok(())
    }
}

/// Where the data comes from and how it is printed.
#[derive(Args, Clone, Debug, Default)]
pub struct Common {
    #[command(flatten)]
    pub origin: Origin,
    #[command(flatten)]
    pub replay: Replay,
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
    /// Sockets held by processes of this systemd unit, such as nginx.service; `*` matches anything
    #[arg(long, value_name = "UNIT", value_parser = parse::unit, help_heading = "Selection")]
    pub unit: Option<String>,
    /// Sockets of this user, by name or number
    #[arg(long, value_name = "USER", help_heading = "Selection")]
    pub user: Option<String>,
    /// A filter expression, in the language of ss and more: state close-wait and dport = :443 and age > 10m
    #[arg(value_name = "FILTER", help_heading = "Selection")]
    pub filter: Vec<String>,
}
