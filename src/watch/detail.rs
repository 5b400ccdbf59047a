//! Every attribute of one socket, as the kernel reports it now, and its holders.

use std::ops::ControlFlow;

use rustc_hash::FxHashSet;

use super::frame::Detail;
use crate::collect::{self, Ahead, Families, Live, Query, plan};
use crate::filter::{self, Abilities, End, Expr};
use crate::model::column::Needs;
use crate::model::{Endpoint, Inode, OwnerTable, Socket, StateSet};

/// Requests this one socket with every attribute, and finds its holders.
pub(super) fn of(live: &mut Live, wanted: &Socket, with_owners: bool) -> Result<Detail, collect::Error> {
    let needs = Needs { info: true, age: true, skmem: true, congestion: true, tos: true, owners: true, cgroups: true };
    let query = Query {
        ahead: Ahead::No,
        states: StateSet::of(&[wanted.state]),
        families: Families::Only(wanted.family),
        attributes: plan::attributes(needs),
        bytecode: filter::compile(&at(wanted), Abilities { mark: false, cgroup: false }).program,
    };
    let mut found: Option<Socket> = None;
    live.sockets(&query, &mut Vec::new(), &mut |socket| {
        if socket.cookie == wanted.cookie && socket.four_tuple() == wanted.four_tuple() {
            found = Some(socket.clone());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    // It may have changed since the row was read: then that row is all there is.
    let socket = found.unwrap_or_else(|| wanted.clone());
    let inodes: FxHashSet<Inode> = socket.inode.into_iter().collect();
    let owners = if inodes.is_empty() || !with_owners { OwnerTable::default() } else { live.owners(Some(&inodes))? };
    Ok(Detail { socket, owners })
}

/// The filter for its four-tuple.
fn at(socket: &Socket) -> Expr {
    let end = |endpoint: Endpoint, end| {
        Expr::parse_endpoint(&endpoint.to_string(), end, &filter::NoResolver).unwrap_or_else(|_| Expr::all())
    };
    if socket.state.has_peer() {
        Expr::and(vec![end(socket.local, End::Local), end(socket.peer, End::Peer)])
    } else {
        Expr::all()
    }
}
