//! The documents of the host, its network namespaces and its names.

use serde_json::{Map, Value as Json};

use crate::capture::document::{Document, Refused, enums, structs};
use crate::model::Source;
use crate::model::conntrack::Conntrack;
use crate::model::counter::{Counter, Counters, SockStat, SockStats};
use crate::model::drops::DropPlace;
use crate::model::names::NameTable;
use crate::model::snapshot::{Machine, Netns, System};
use crate::model::sysctl::{Sysctl, Sysctls};

structs! {
    Netns {
        inode, name, counters, sockstat, sysctls, reserved_ports, addresses, conntrack, virtual_services, drops, incomplete,
    }
    Conntrack { entries, limit, established_timeout_s, drop, early_drop, insert_failed, invalid }
    System { files_used, files_max, page_bytes, machine, neighbour_table_full, softnet_dropped }
    Machine { vendor, bios, asset_tag }
    NameTable { users, interfaces, cgroups, identities, netns, netns_identities }
}

enums! {
    Source { Netlink = "netlink", Proc = "proc", Capture = "capture", Text = "text" }
    DropPlace {
        ReceiveErrors { device } = "receive_errors",
        ReceiveDropped { device } = "receive_dropped",
        SendErrors { device } = "send_errors",
        SendDropped { device } = "send_dropped",
        Qdisc { device } = "qdisc",
    }
}

/// Values by the kernel's own names; one that this version does not know is passed over.
macro_rules! by_name {
    ($($Values:ident of $Key:ident)*) => {
        $(impl Document for $Values {
            fn to_json(&self) -> Json {
                let named = $Key::ALL.iter().filter_map(|key| Some((key.name().to_owned(), self.get(*key)?.to_json())));
                Json::Object(named.collect::<Map<_, _>>())
            }

            fn from_json(json: &Json) -> Result<$Values, Refused> {
                let object = json.as_object().ok_or_else(|| format!("{json} is no object"))?;
                let known = object.iter().filter_map(|(name, value)| Some(($Key::from_name(name)?, value)));
                known.map(|(key, value)| Ok((key, Document::from_json(value)?))).collect()
            }

            fn absent() -> Option<$Values> {
                Some($Values::default())
            }

            fn is_absent(&self) -> bool {
                self.is_empty()
            }
        })*
    };
}

by_name! { Counters of Counter SockStats of SockStat Sysctls of Sysctl }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Endpoint, NetnsId};

    #[test]
    fn a_namespace_survives() {
        let device = || "eth0".to_owned();
        let netns = Netns {
            inode: NetnsId::new(7),
            name: Some("web".into()),
            counters: Counter::ALL.iter().copied().zip(1..).collect(),
            sockstat: SockStat::ALL.iter().copied().zip(u64::MAX - 9..).collect(),
            sysctls: Sysctl::ALL.iter().map(|s| (*s, vec![4096, 16384])).collect(),
            reserved_ports: vec![(8080, 8080), (9000, 9010)],
            addresses: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
            conntrack: Some(Conntrack { entries: Some(0), ..Conntrack::default() }),
            virtual_services: vec![Endpoint::UNSPECIFIED_V6],
            drops: Some(
                [
                    DropPlace::ReceiveErrors { device: device() },
                    DropPlace::ReceiveDropped { device: device() },
                    DropPlace::SendErrors { device: device() },
                    DropPlace::SendDropped { device: device() },
                    DropPlace::Qdisc { device: device() },
                ]
                .into_iter()
                .zip(1..)
                .collect(),
            ),
            incomplete: true,
        };
        let text = netns.to_json().to_string();
        let read = Netns::from_json(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{netns:?}"));
        let empty = Netns { drops: Some([].into()), ..Netns::default() };
        let read = Netns::from_json(&empty.to_json()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{empty:?}"), "read and empty is not unread");
    }
}
