//! `--version`, and with `--verbose` what a bug report needs: the build, what this kernel has, and what this user may use of it.
//!
//! Input: the running system. Output: lines of a name and its value.

use std::io::{self, Write};

use crate::collect::changes::{self, Changes, Faults, Refusal, Request, Scope, Via};
use crate::collect::proc::ProcRoot;
use crate::collect::rights;
use crate::collect::{Live, Query, SourceChoice};
use crate::model::StateSet;
use crate::model::capability::Capability;
use crate::model::rights::Rights;
use crate::render::gap;
use crate::render::sanitize;

/// The commit that a release was built from; the workflow sets it.
const COMMIT: Option<&str> = option_env!("TCPSTATE_COMMIT");

pub(super) fn write(out: &mut dyn Write, verbose: bool) -> io::Result<()> {
    writeln!(out, "tcpstate {}", env!("CARGO_PKG_VERSION"))?;
    if !verbose {
        return Ok(());
    }
    for (name, value) in [
        ("commit", COMMIT.unwrap_or("not recorded").to_owned()),
        ("build", build()),
        ("features", if cfg!(feature = "mcp") { "mcp" } else { "none" }.to_owned()),
        ("kernel", crate::collect::Host::here().kernel),
        ("sockets", sockets()),
        ("trace bpf", trace(Via::Bpf)),
        ("trace tracefs", trace(Via::Tracefs)),
    ] {
        writeln!(out, "{name:<14} {}", sanitize::clean(&value))?;
    }
    for (name, value) in [
        ("user", rights::user().to_string()),
        ("capabilities", capabilities(rights::own())),
        ("user namespace", namespace(rights::in_first_user_namespace()).to_owned()),
        ("pid namespace", namespace(rights::in_first_pid_namespace()).to_owned()),
    ] {
        writeln!(out, "{name:<14} {value}")?;
    }
    Ok(())
}

/// The names of those that the program can use.
fn capabilities(rights: Rights) -> String {
    let names: Vec<&str> = rights.held().iter().map(Capability::name).collect();
    if names.is_empty() { "none that tcpstate uses".to_owned() } else { names.join(" ") }
}

fn namespace(is_first: Option<bool>) -> &'static str {
    match is_first {
        None => "unknown",
        Some(true) => "initial",
        Some(false) => "not the initial one",
    }
}

fn build() -> String {
    let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    let linked = if cfg!(target_feature = "crt-static") { "static" } else { "dynamic" };
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!("{}-linux-{libc}, {linked}, {profile}", std::env::consts::ARCH)
}

/// Which source a command would take, and why not the better one.
fn sockets() -> String {
    let query = Query::states(StateSet::LISTEN);
    // Only a dump shows whether the kernel has the module.
    let dumped = Live::open(SourceChoice::Auto, ProcRoot::default()).and_then(|mut live| {
        let mut gaps = Vec::new();
        live.sockets(&query, &mut gaps, &mut |_| std::ops::ControlFlow::Continue(()))?;
        gaps.extend(live.gaps(&query));
        gaps.dedup();
        let gaps: Vec<String> = gaps.iter().map(gap::line).collect();
        Ok(format!("{}{}{}", live.source(), if gaps.is_empty() { "" } else { ": " }, gaps.join("; ")))
    });
    dumped.unwrap_or_else(|error| error.to_string())
}

/// Whether this source of changes begins here; it is ended at once.
fn trace(via: Via) -> String {
    let mut request = Request {
        scope: Scope::Host,
        ring_bytes: 64 * 1024,
        lives: false,
        changes: Changes::All,
        faults: Faults::default(),
        event_filter: None,
        live: None,
        replay: None,
        interval: std::time::Duration::ZERO,
    };
    match changes::begin(via, &mut request) {
        Ok(_source) => "works".to_owned(),
        Err(Refusal::Unavailable(gap)) => format!("no: {}", gap::line(&gap)),
        Err(Refusal::Failed(error)) => format!("no: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named_where_tcpstate_uses_them() {
        let shown = |effective| capabilities(Rights { is_root: false, effective });
        let chown = 1;
        assert_eq!(shown(chown), "none that tcpstate uses");
        assert_eq!(shown(chown | Capability::Bpf.bit() | Capability::NetAdmin.bit()), "CAP_NET_ADMIN CAP_BPF");
        let every = "CAP_NET_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_BPF CAP_PERFMON CAP_SYS_ADMIN";
        assert_eq!(shown(u64::MAX), every);
    }
}
