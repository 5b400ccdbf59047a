//! Which sockets: the selection flags and the filter words as one [`Expr`].

use anyhow::{anyhow, bail};

use crate::cli::args::Selection;
use crate::collect::names::SystemNames;
use crate::filter::{self, End, Expr};
use crate::model::{Family, StateSet};

/// The expression that all flags and words together mean.
pub(crate) fn expression(selection: &Selection, names: &SystemNames) -> anyhow::Result<Expr> {
    let mut parts = Vec::new();
    if !selection.state.is_empty() {
        let either = selection.state.iter().fold(StateSet::EMPTY, |all, set| all.union(*set));
        parts.push(Expr::states(either));
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
    if let Some(pid) = selection.pid {
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

/// A filter as typed into an input line.
pub(crate) fn parse(text: &str) -> anyhow::Result<Expr> {
    filter::parse(text, &SystemNames::default()).map_err(|e| anyhow!("{}", e.one_line()))
}

/// Whether a watch can track it: a watch must see rows that do not match, too.
pub(crate) fn can_be_watched(expr: &Expr, owners: bool) -> anyhow::Result<()> {
    if expr.is_kernel_only() {
        bail!("filter: only the kernel knows `autobound`, and it cannot be followed; use `tcpstate list`");
    }
    if !owners && expr.needs().owners {
        bail!("filter: it needs socket owners; remove --no-owners");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::State;

    #[test]
    fn flags_and_words_join() {
        let selection = Selection {
            state: vec![StateSet::of(&[State::TimeWait]), StateSet::of(&[State::CloseWait])],
            port: Some("443".into()),
            filter: vec!["dst".into(), "10.0.0.0/8".into()],
            process: Some("ngin*".into()),
            ..Selection::default()
        };
        let text = expression(&selection, &SystemNames::default()).unwrap().to_string();
        assert_eq!(parse(&text).unwrap(), expression(&selection, &SystemNames::default()).unwrap(), "{text}");
        assert!(expression(&Selection::default(), &SystemNames::default()).unwrap().is_all());
        let wrong = |selection: Selection| expression(&selection, &SystemNames::default()).unwrap_err().to_string();
        assert!(wrong(Selection { filter: vec!["dport".into()], ..Selection::default() }).contains("dport"));
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let outcome = |text: &str, owners| can_be_watched(&parse(text).unwrap(), owners).map_err(|e| e.to_string());
        assert_eq!(outcome("state tw and dport = 443 and recv-q > 0", false), Ok(()));
        assert!(outcome("autobound and dport = 443", true).unwrap_err().contains("autobound"));
        assert!(outcome("process = nginx", false).unwrap_err().contains("--no-owners"));
        assert_eq!(outcome("process = nginx", true), Ok(()));
    }
}
