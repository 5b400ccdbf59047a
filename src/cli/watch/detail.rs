//! Everything that can be asked about one socket.
//!
//! Comes in: a row. Goes out: name and value of every column that says something. Never here: which socket.

use std::ops::ControlFlow;

use rustc_hash::FxHashSet;

use crate::cli::session::Session;
use crate::collect::{Ahead, Families, Query, plan};
use crate::filter::{self, Abilities, End, Expr};
use crate::model::column::{COLUMNS, Needs, Row, Value};
use crate::model::{Inode, OwnerTable, Socket, StateSet};
use crate::render::table;
use crate::render::watch::Line;

/// Asks the kernel for this one row with every attribute, and for its holders.
pub(crate) fn of(session: &mut Session, line: &Line, with_owners: bool) -> anyhow::Result<Vec<(String, String)>> {
    let wanted = &line.socket;
    let needs = Needs { info: true, age: true, skmem: true, congestion: true, tos: true, owners: true, cgroups: true };
    let query = Query {
        ahead: Ahead::No,
        states: StateSet::of(&[wanted.state]),
        families: Families::Only(wanted.family),
        attributes: plan::attributes(needs),
        bytecode: filter::compile(&at(wanted), Abilities { mark: false, cgroup: false }).program,
    };
    let mut found: Option<Socket> = None;
    session.live.sockets(&query, &mut Vec::new(), &mut |socket| {
        if socket.cookie == wanted.cookie && socket.four_tuple() == wanted.four_tuple() {
            found = Some(socket.clone());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    // It may have moved on since the row was read: then what was read is all there is.
    let socket = found.unwrap_or_else(|| wanted.clone());
    let inodes: FxHashSet<Inode> = socket.inode.into_iter().collect();
    let owners = if inodes.is_empty() || !with_owners {
        OwnerTable::default()
    } else {
        // Of one socket, unlike of all, it costs nothing.
        session.live.cgroups = true;
        let owners = session.live.owners(Some(&inodes));
        session.live.cgroups = false;
        owners?
    };
    let row = Row::new(&socket, &owners, &session.names);
    let said = |column: &&crate::model::column::Column| {
        !matches!((column.get)(&row), Value::Unknown | Value::Absent)
            // The screen has these above, and knows the owner of what has none any more.
            && !matches!(column.name, "state" | "local" | "peer" | "process" | "owner-status")
            && !matches!(column.name, "local-addr" | "local-port" | "peer-addr" | "peer-port" | "pid" | "comm" | "fd")
    };
    Ok(COLUMNS.iter().filter(said).map(|c| (c.name.to_owned(), table::cell(c, &row))).collect())
}

/// The filter for its four-tuple.
fn at(socket: &Socket) -> Expr {
    let end = |endpoint: crate::model::Endpoint, end| {
        Expr::parse_endpoint(&endpoint.to_string(), end, &filter::NoResolver).unwrap_or_else(|_| Expr::all())
    };
    if socket.state.has_peer() {
        Expr::and(vec![end(socket.local, End::Local), end(socket.peer, End::Peer)])
    } else {
        Expr::all()
    }
}
