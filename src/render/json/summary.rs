//! The document of `summary`: counts, groups, what is limited, what changed.
//!
//! Input: what was counted and read. Output: JSON, with `null` for what is not known. Not here: findings and gaps.

use serde_json::{Map, Value as Json, json};

use super::{Head, Unseen, endpoint, findings, head, incidents, states};
use crate::aggregate::{
    AcceptQueue, Amount, Census, Change, Group, Grouping, HostResources, Key, KeyValue, Legend, Limits, PortUse, Sum,
    Sums,
};
use crate::diagnose::{Diagnosis, Severity};
use crate::model::cgroup::Identity;
use crate::model::column::Names;
use crate::model::counter::Counter;
use crate::model::resources::Descriptors;
use crate::model::{Family, NetnsId, OwnerTable, State};

/// What a summary has besides its head.
pub struct Summary<'a> {
    pub census: &'a Census,
    pub unseen: Unseen,
    pub groups: Json,
    /// `None` where only some sockets were counted.
    pub host: Option<&'a HostResources>,
    /// Since an earlier look.
    pub change: Option<&'a Change>,
    pub diagnosis: &'a Diagnosis,
    pub taken_at_ms: u64,
    /// As objects.
    pub gaps: Vec<Json>,
}

/// The document of `summary`.
#[must_use]
pub fn summary(head_of: &Head, summary: Summary<'_>) -> Json {
    let Summary { census, unseen, groups, host, change, diagnosis, taken_at_ms, gaps } = summary;
    let mut map = head(head_of);
    let all = census.all();
    map.insert("total".into(), json!(all.total()));
    map.insert("states".into(), states(&all, unseen.0));
    let families: Map<String, Json> =
        Family::ALL.iter().map(|f| (f.key().to_owned(), states(census.family(*f), unseen.0))).collect();
    map.insert("families".into(), Json::Object(families));
    map.insert("change".into(), change.map_or(Json::Null, |change| changed(change, census, unseen)));
    map.insert("groups".into(), groups);
    map.insert("local_ports".into(), host.and_then(|h| h.ports).map_or(Json::Null, |ports| local_ports(&ports)));
    map.insert("tcp_memory".into(), host.map_or(Json::Null, tcp_memory));
    map.insert("findings".into(), findings(diagnosis, Severity::Info));
    map.insert("incidents".into(), incidents(diagnosis, Severity::Info, taken_at_ms));
    map.insert("gaps".into(), json!(gaps));
    Json::Object(map)
}

/// What changed since an earlier look, as counts over its time.
fn changed(change: &Change, census: &Census, unseen: Unseen) -> Json {
    let all = census.all();
    let by = |state: State| {
        let is_unseen = all.get(state) == 0 && change.of(state) == 0 && unseen.0.contains(state);
        if is_unseen { Json::Null } else { json!(change.of(state)) }
    };
    let states: Map<String, Json> = State::ALL.into_iter().map(|state| (state.key().to_owned(), by(state))).collect();
    json!({
        "elapsed_ms": change.elapsed_ms,
        "total": change.total(),
        "states": states,
        "active_opens": change.counted(Counter::TcpActiveOpens),
        "passive_opens": change.counted(Counter::TcpPassiveOpens),
        "attempt_fails": change.counted(Counter::TcpAttemptFails),
        "resets": change.counted(Counter::TcpEstabResets),
        "resets_sent": change.counted(Counter::TcpOutRsts),
        "segments_sent": change.counted(Counter::TcpOutSegs),
        "segments_retransmitted": change.counted(Counter::TcpRetransSegs),
        "listen_drops": change.counted(Counter::TcpExtListenDrops),
    })
}

fn local_ports(ports: &PortUse) -> Json {
    json!({
        "netns": ports.netns.map(NetnsId::get),
        "source": ports.source.to_string(),
        "destination": endpoint(ports.destination),
        "ports_blocked": ports.blocked(),
        "ports_usable": ports.usable,
        "fill_percent": percent(ports.fill_percent()),
        "live": ports.taken.live,
        "time_wait": ports.taken.time_wait,
        "fin_wait2_minis": ports.taken.fin_wait2_minis,
        "bound_or_listening": ports.bound,
        "time_wait_reusable": ports.taken.reusable,
    })
}

fn tcp_memory(host: &HostResources) -> Json {
    let bytes = |pages: u64| pages.saturating_mul(host.page_bytes);
    let limits = host.memory.and_then(|memory| memory.limits);
    json!({
        "used_bytes": host.memory.map(|memory| bytes(memory.used)),
        "min_bytes": limits.map(|limits| bytes(limits.min)),
        "pressure_bytes": limits.map(|limits| bytes(limits.pressure)),
        "max_bytes": limits.map(|limits| bytes(limits.max)),
    })
}

/// Two digits are all that such a number is good for.
fn percent(percent: f64) -> f64 {
    (percent * 100.0).round() / 100.0
}

fn accept_queue(queue: &AcceptQueue) -> Json {
    let (waiting, limit) = queue.fullest;
    json!({
        "sockets": queue.sockets,
        "full": queue.full,
        "waiting": queue.waiting,
        "fullest_waiting": waiting,
        "fullest_limit": limit,
        "drops": queue.drops,
    })
}

fn descriptors(open: &Descriptors, process: u32, owners: &OwnerTable) -> Json {
    json!({
        "pid": owners.processes.get(process as usize).map(|p| p.pid),
        "fd_used": open.used,
        "fd_soft_limit": open.soft,
        "fd_hard_limit": open.hard,
        "used_percent": open.percent().map(percent),
    })
}

/// The groups of one crossing: the first `top` and the rest. With limits, the most urgent ones come first, and what is
/// limited is beside the counts.
#[must_use]
pub fn group_rows(
    grouping: &Grouping,
    top: usize,
    legends: &[Legend<'_>],
    unseen: Unseen,
    limits: Option<Limits<'_>>,
) -> (Vec<Json>, Json) {
    let legend = |group: &Group| legends.get(group.host as usize).copied();
    let (groups, cut) = limits.map_or_else(|| grouping.split(top), |limits| limits.split(grouping, top));
    let insert_limits = |map: &mut Map<String, Json>, groups: &[&Group]| {
        let Some(limits) = limits else { return };
        match grouping.keys.last() {
            Some(Key::Listener) => {
                let queue = limits.queue(groups).map_or(Json::Null, |queue| accept_queue(&queue));
                map.insert("accept_queue".into(), queue);
            }
            Some(Key::Process) => {
                let fullest = limits.fullest(groups);
                // What is limited is of one host.
                let owners = legends.first().map(|legend| legend.owners);
                let open = fullest.zip(owners);
                let open = open.map_or(Json::Null, |((process, open), owners)| descriptors(&open, process, owners));
                map.insert("descriptors".into(), open);
            }
            _ => {}
        }
    };
    let rows = groups
        .iter()
        .map(|group| {
            let mut map = Map::new();
            for (key, value) in grouping.keys.iter().zip(&group.values) {
                let value = legend(group).map_or(Json::Null, |legend| key_value(value, legend.owners, legend.names));
                map.insert(key.name().into(), value);
            }
            map.insert("total".into(), json!(group.counts.total()));
            map.insert("states".into(), states(&group.counts, unseen.0));
            insert_sums(&mut map, &grouping.wanted.sums, group.sums.as_deref());
            insert_limits(&mut map, &[*group]);
            Json::Object(map)
        })
        .collect();
    let rest = grouping.rest(&cut).map_or(Json::Null, |rest| {
        let mut map = Map::new();
        map.insert("groups".into(), json!(rest.groups));
        map.insert("total".into(), json!(rest.counts.total()));
        map.insert("states".into(), states(&rest.counts, unseen.0));
        insert_sums(&mut map, &grouping.wanted.sums, rest.sums.as_ref());
        insert_limits(&mut map, &cut);
        Json::Object(map)
    });
    (rows, rest)
}

fn insert_sums(map: &mut Map<String, Json>, chosen: &[Sum], sums: Option<&Sums>) {
    if chosen.is_empty() {
        return;
    }
    map.insert("measured".into(), json!(sums.map_or(0, Sums::measured)));
    for sum in chosen {
        let value = match sums.and_then(|s| s.get(*sum)) {
            None => Json::Null,
            Some(Amount::Number(n)) => json!(n),
            // Six digits are all that such a number is good for.
            Some(Amount::Share(share)) => json!((share * 1e6).round() / 1e6),
        };
        map.insert(sum.key().into(), value);
    }
}

fn key_value(value: &KeyValue, owners: &OwnerTable, names: &dyn Names) -> Json {
    match value {
        KeyValue::State(state @ State::Unknown(_)) => json!(state.to_string()),
        KeyValue::State(state) => json!(state.key()),
        KeyValue::Family(family) => json!(family.key()),
        KeyValue::Endpoint(at) => endpoint(*at),
        KeyValue::Addr(addr) => json!(addr.to_string()),
        KeyValue::Net(addr, length) => json!(format!("{addr}/{length}")),
        KeyValue::Port(port) => json!(port),
        KeyValue::Tuple(tuple) => {
            json!({ "local": endpoint(tuple.local), "peer": endpoint(tuple.peer), "ifindex": tuple.ifindex })
        }
        KeyValue::Processes(indices) | KeyValue::ShortLived(indices) => {
            let processes: Vec<_> = indices.iter().map(|i| &owners.processes[*i as usize]).collect();
            let is_alike = |get: fn(&Identity) -> Option<&str>| {
                let mut all = processes.iter().map(|p| get(&p.identity));
                let first = all.next().flatten();
                // Processes that share a socket are told by the first; short-lived ones only where all are alike.
                first.filter(|_| matches!(value, KeyValue::Processes(_)) || all.all(|other| other == first))
            };
            json!({
                "comm": processes.first().map(|p| p.comm.as_str()),
                "pids": processes.iter().map(|p| p.pid).collect::<Vec<_>>(),
                "short_lived": matches!(value, KeyValue::ShortLived(_)),
                "unit": is_alike(|identity| identity.unit.as_deref()),
                "container": is_alike(Identity::container_label),
                "pod": is_alike(Identity::pod_label),
            })
        }
        KeyValue::NoProcess(status) => json!({ "comm": null, "pids": [], "owner_status": status.key() }),
        KeyValue::User(uid) => json!({ "uid": uid, "name": names.user(*uid).as_deref() }),
        KeyValue::Netns(inode) => json!(inode.get()),
        KeyValue::Text(text) => json!(text),
        KeyValue::None => Json::Null,
    }
}
