//! `tcpstate kill`: destroys exactly the sockets that match, or shows what that would be.
//!
//! Input: its arguments, and a yes on a terminal. Output: the rows and what follows; with the yes, what became of each.

use std::io::{self, BufRead, Write};
use std::ops::ControlFlow;

use anyhow::bail;
use clap::Args;

use crate::cli::args::{Common, Replay, Selection, SourceArg};
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::select;
use crate::cli::session::Session;
use crate::collect::destroy::Destroyer;
use crate::model::Source;
use crate::model::column::{COLUMNS, Column, Group, Row};
use crate::model::fate::{Fate, Spared};
use crate::render::json as out;
use crate::render::kill::{Kill, Target};
use crate::render::rows::Listing;
use crate::render::{self, FORMATS};

const EXAMPLES: &str = "\
Examples:
  tcpstate kill close-wait and pid = 812          shows what would go; on a terminal it asks
  tcpstate kill --yes dst 10.0.0.7                destroys without a question
  tcpstate kill --yes --json 'established and last-data-recv > 1h'

It takes CAP_NET_ADMIN. The peer gets a RST. The program keeps its descriptor until it closes it: after a leak was destroyed no
list of sockets shows it, but `tcpstate doctor` does (closed-socket-fd-leak). Right before each socket is destroyed, its cookie
and its state are compared with those that were listed.

Exit codes: 0 no matching socket is left (or nothing was to be done), 1 some are left, 2 nothing was destroyed.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, mut_args(Replay::hide))]
pub struct KillArgs {
    #[command(flatten)]
    pub selection: Selection,
    /// Destroy them; otherwise they are listed, and a terminal is asked
    #[arg(long, help_heading = "Destruction")]
    pub yes: bool,
    /// Listeners too
    #[arg(long, help_heading = "Destruction")]
    pub listen: bool,
    /// Sockets in TIME_WAIT too
    #[arg(long, help_heading = "Destruction")]
    pub force: bool,
    #[command(flatten)]
    pub common: Common,
}

pub(crate) fn run(args: &KillArgs, env: &mut Env) -> anyhow::Result<Exit> {
    let common = &args.common;
    common.replay.refuse("kill")?;
    if common.origin.source == SourceArg::Proc || common.origin.proc_root.is_some() {
        bail!("kill needs sock_diag of this host: only it knows cookies; leave out --source and --proc-root");
    }
    let mut session = Session::open(common)?;
    if session.live.source() != Source::Netlink {
        bail!("kill needs sock_diag, which this host does not offer; `tcpstate list` says why");
    }
    let filter = select::of_command_line(&args.selection, &common.origin, &session.names, env)?;
    if filter.is_all() {
        bail!(
            "kill without a filter would destroy every socket; name those that are to go: `tcpstate kill dst 10.0.0.7`"
        );
    }
    let head = session.head("kill");
    let format = if common.json { render::format("json") } else { None }.unwrap_or(&FORMATS[0]);
    let columns = columns(common.no_owners);
    let needs = columns.iter().fold((format.needs)(&columns, false), |n, c| n.union(c.needs)).union(filter.needs());
    let search = (!common.no_owners).then(|| session.live.search_owners(needs.cgroups, true));
    let mut targets: Vec<Target> = Vec::new();
    let (_, scanned) = session.scan(&filter, needs, search, common)?.rows(|row| {
        let fate = Spared::of(row.socket, args.listen, args.force).map_or(Fate::Planned, Fate::Spared);
        targets.push(Target { socket: row.socket.clone(), fate });
        ControlFlow::<()>::Continue(())
    })?;
    session.keep(scanned);
    if common.strict && !session.gaps.is_empty() {
        session.print_gaps(env, common)?;
        bail!("something could not be seen; with --strict nothing is destroyed then");
    }
    let planned = targets.iter().filter(|target| target.fate == Fate::Planned).map(|target| &target.socket);
    let mut destroyer = Destroyer::open(&session.live, planned)?;
    let shows = !args.yes && !common.json;
    if shows {
        show(&targets, &session, columns, args, env)?;
    }
    let executed = args.yes || (shows && is_wanted(&targets, env)?);
    if executed {
        for target in targets.iter_mut().filter(|target| target.fate == Fate::Planned) {
            target.fate = destroyer.destroy(&target.socket);
        }
    }
    let kill = Kill { targets: &targets, owners: &session.owners, names: &session.names, scope: &session.scope };
    if common.json {
        out::write_document(&mut env.stdout, &kill.document(&head, executed, &session.gaps)?)?;
    } else if executed {
        let mut text = String::new();
        kill.write_outcome(&mut text);
        env.stdout.write_all(text.as_bytes())?;
        if !shows {
            session.print_gaps(env, common)?;
        }
    }
    let tally = kill.tally();
    Ok(if executed && tally.changed + tally.refused > 0 { Exit::No } else { Exit::Done })
}

/// Prints the rows that would go, and what follows.
fn show(
    targets: &[Target],
    session: &Session,
    columns: Vec<&'static Column>,
    args: &KillArgs,
    env: &mut Env,
) -> anyhow::Result<()> {
    let kill = Kill { targets, owners: &session.owners, names: &session.names, scope: &session.scope };
    let tally = kill.tally();
    if tally.planned > 0 {
        let style = env.style(args.common.color);
        let head = session.head("kill");
        let mut writer = (FORMATS[0].writer)(Listing { head, columns, chosen: false, style, header: true });
        writer.begin(&mut env.stdout)?;
        for target in targets.iter().filter(|target| target.fate == Fate::Planned) {
            writer.row(&mut env.stdout, &Row::new(&target.socket, &session.owners, &session.names))?;
        }
        writer.finish(&mut env.stdout, &[], None)?;
    }
    let mut text = String::new();
    kill.write_plan(&mut text);
    if tally.planned > 0 && !env.can_ask {
        text.push_str("Nothing was destroyed; the same with --yes does it.\n");
    }
    env.stdout.write_all(text.as_bytes())?;
    session.print_gaps(env, &args.common)
}

/// Asks on the terminal whether to go on. Only a plain yes is one.
fn is_wanted(targets: &[Target], env: &mut Env) -> anyhow::Result<bool> {
    if !env.can_ask || targets.iter().all(|target| target.fate != Fate::Planned) {
        return Ok(false);
    }
    env.stdout.flush()?;
    write!(env.stderr, "Destroy them? [y/N] ")?;
    env.stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    let wanted = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !wanted {
        writeln!(env.stderr, "tcpstate: nothing was destroyed")?;
    }
    Ok(wanted)
}

/// The default columns of `list`, the processes last.
fn columns(no_owners: bool) -> Vec<&'static Column> {
    let of = |group| COLUMNS.iter().filter(move |column| column.group == group);
    of(Group::Default).chain(of(Group::Process).filter(|_| !no_owners)).collect()
}
