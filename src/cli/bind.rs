//! `tcpstate explain bind ADDR:PORT`: whether `bind()` and `listen()` would succeed now.
//!
//! Input: an address and a port. Output: the verdict of `diagnose::binding` over the rows with that port.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;

use anyhow::{anyhow, bail};
use serde_json::Value as Json;

use crate::cli::args::Common;
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::collect::bindable;
use crate::collect::netns::NetnsHandle;
use crate::collect::rights;
use crate::diagnose::binding;
use crate::filter::{End, Expr};
use crate::model::binding::{AddressAnswer, BindFacts, BindRequest};
use crate::model::column::Needs;
use crate::model::{Endpoint, Socket};
use crate::render::binding::{self as words, Bind};
use crate::render::json as out;

pub(crate) fn run(target: &str, common: &Common, env: &mut Env) -> anyhow::Result<Exit> {
    common.replay.refuse("explain bind")?;
    let (addr, port, zone) = parse(target)?;
    let mut session = Session::open(common)?;
    if session.live.spaces().len() != 1 {
        bail!("bind() is a matter of one network namespace; give one, as in --netns web");
    }
    let space = session.live.spaces().next().cloned().unwrap_or_else(|| NetnsHandle::current(None));
    let here = session.live.root().is_own();
    let ifindex = match zone.as_deref() {
        None => 0,
        Some(zone) => match zone.parse() {
            Ok(index) => index,
            Err(_) => {
                bindable::interface(&space, zone)?.ok_or_else(|| anyhow!("there is no interface `{zone}` here"))?
            }
        },
    };
    let request = BindRequest { local: Endpoint::new(addr, port), v6only: false, ifindex, uid: rights::user() };
    // Another host's /proc says nothing of its addresses.
    let facts = if here {
        bindable::ask(&space, &request)?
    } else {
        BindFacts { address: AddressAnswer::Unknown, port_permitted: None }
    };
    let facts_of_netns = session.live.netns_facts();
    let (low, high) = facts_of_netns.port_range();
    let ephemeral = (low..=high).contains(&port) && !facts_of_netns.is_reserved(port);
    let filter = Expr::parse_endpoint(&format!(":{port}"), End::Local, &session.names).map_err(|e| anyhow!(e))?;
    let search = Some(session.live.search_owners(true, true));
    let mut rows: Vec<Socket> = Vec::new();
    let scan = session.scan(&filter, Needs { age: true, ..Needs::CGROUPS }, search, common)?;
    let (_, scanned) = scan.rows(|row| {
        rows.push(row.socket.clone());
        ControlFlow::<()>::Continue(())
    })?;
    session.keep(scanned);
    let judgement = binding::judge(&request, &facts, rows.iter());
    let bind = Bind { judgement, owners: &session.owners, names: &session.names, ephemeral };
    if let Some(to) = env.json(common.json) {
        let mut document = out::head(&session.head("explain"));
        document.insert("bind".into(), words::object(&bind)?);
        document.insert("gaps".into(), out::gaps(&session.gaps));
        out::write_document(to, &Json::Object(document))?;
    }
    if env.wants_text(common.json) {
        let mut text = String::new();
        words::write(&mut text, &bind, env.style(common.color));
        env.stdout.write_all(text.as_bytes())?;
        session.print_gaps(env, common)?;
    }
    Ok(Exit::Done)
}

/// `10.0.0.1:80`, `[::1]:80`, `[fe80::1%eth0]:80`; a port alone is `[::]`, as most servers bind.
pub(crate) fn parse(text: &str) -> anyhow::Result<(IpAddr, u16, Option<String>)> {
    let fail = || anyhow!("`{text}` is no address and port; use such as 0.0.0.0:8080, [::1]:8080 or 8080");
    let (addr, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port: u16 = port.parse().map_err(|_| fail())?;
    if port == 0 {
        bail!("port 0 lets the kernel choose one; `tcpstate doctor --rule bind-before-connect` says how many are left");
    }
    if matches!(addr, "" | "*") {
        return Ok((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port, None));
    }
    let inside = addr.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
    let (bare, zone) = match inside.and_then(|a| a.split_once('%')) {
        Some((bare, zone)) => (format!("[{bare}]:{port}"), Some(zone.to_owned())),
        None => (format!("{addr}:{port}"), None),
    };
    let at: SocketAddr = bare.parse().map_err(|_| fail())?;
    Ok((at.ip(), port, zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        for (text, addr, zone) in [
            ("8080", "::", None),
            (":8080", "::", None),
            ("*:8080", "::", None),
            ("0.0.0.0:8080", "0.0.0.0", None),
            ("[::1]:8080", "::1", None),
            ("[fe80::1%eth0]:8080", "fe80::1", Some("eth0")),
        ] {
            assert_eq!(parse(text).unwrap(), (addr.parse().unwrap(), 8080, zone.map(str::to_owned)), "{text}");
        }
        for bad in ["", "localhost:80", "::1:80x", "10.0.0.1", "[::1]", "1.2.3.4:70000", "fe80::1%eth0:80"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("0.0.0.0:0").unwrap_err().to_string().contains("the kernel choose"));
    }
}
