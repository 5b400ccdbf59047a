//! Which sockets: the selection flags and the filter words as one expression.
//!
//! Comes in: a [`Selection`]. Goes out: an [`Expr`]. Never here: deciding who checks it, the kernel or we.

use anyhow::{anyhow, bail};

use crate::cli::args::Selection;
use crate::collect::names::SystemNames;
use crate::filter::{self, End, Expr};
use crate::model::{Family, StateSet};

/// The expression that all flags and words together mean.
pub(crate) fn expression(selection: &Selection, names: &SystemNames) -> anyhow::Result<Expr> {
    let mut parts = Vec::new();
    if !selection.state.is_empty() {
        let list = selection.state.join(",");
        parts.push(Expr::states(StateSet::parse_list(&list).map_err(|e| anyhow!("--state: {e}"))?));
    }
    if selection.listening {
        parts.push(Expr::states(StateSet::LISTEN));
    }
    if selection.ipv4 {
        parts.push(Expr::family(Family::V4));
    }
    if selection.ipv6 {
        parts.push(Expr::family(Family::V6));
    }
    if let Some(ports) = &selection.port {
        parts.push(Expr::parse_port(ports, names).map_err(|e| anyhow!("--port: {e}"))?);
    }
    for (flag, text, end) in [("--local", &selection.local, End::Local), ("--peer", &selection.peer, End::Peer)] {
        if let Some(text) = text {
            parts.push(Expr::parse_endpoint(text, end, names).map_err(|e| anyhow!("{flag}: {e}"))?);
        }
    }
    if let Some(pid) = &selection.pid {
        let Ok(pid) = pid.trim().parse() else { bail!("--pid: `{pid}` is not a process id; use a number such as 812") };
        parts.push(Expr::pid(pid));
    }
    if let Some(process) = &selection.process {
        parts.push(Expr::process(process));
    }
    if let Some(user) = &selection.user {
        parts.push(Expr::user(user, names).map_err(|e| anyhow!("--user: {e}"))?);
    }
    if !selection.filter.is_empty() {
        parts.push(filter::parse(&selection.filter.join(" "), names).map_err(anyhow::Error::new)?);
    }
    Ok(Expr::and(parts))
}
