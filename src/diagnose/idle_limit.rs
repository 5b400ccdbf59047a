//! After how much silence the path of a connection forgets it.
//!
//! Input: the option, what the machine is, connection tracking and IPVS of the namespace. Output: the smallest known
//! limit. Not here: limits that nothing on this host tells of (a firewall on the way).

use crate::diagnose::conntrack::Table;
use crate::diagnose::view::View;
use crate::model::snapshot::Machine;
use crate::model::{Endpoint, NetnsId, Socket};

/// Who forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgets {
    /// The limit was set by option (`path-idle-seconds`).
    Option,
    /// Connection tracking of this namespace.
    Conntrack,
    /// IPVS of this namespace, for its virtual services.
    Ipvs,
    Cloud(Cloud),
}

impl Forgets {
    /// Who, as the subject or object of a sentence.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Forgets::Option => "the path (path-idle-seconds)",
            Forgets::Conntrack => "connection tracking of this host",
            Forgets::Ipvs => "IPVS of this host",
            Forgets::Cloud(Cloud::Aws) => "a load balancer or NAT gateway of AWS",
            Forgets::Cloud(Cloud::Azure) => "a load balancer or NAT gateway of Azure",
            Forgets::Cloud(Cloud::Gcp) => "a firewall or load balancer of Google Cloud",
        }
    }
}

/// A cloud by its firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    Aws,
    Azure,
    Gcp,
}

/// The asset tag of every virtual machine of Azure; elsewhere Hyper-V has the same vendor.
const AZURE_TAG: &str = "7783-7084-3265-9085-8269-3286-77";

impl Cloud {
    #[must_use]
    pub fn of(machine: &Machine) -> Option<Cloud> {
        let vendor = machine.vendor.as_deref().unwrap_or_default();
        match vendor {
            "Amazon EC2" => Some(Cloud::Aws),
            // The older instances run on Xen.
            "Xen" if machine.bios.as_deref().is_some_and(|b| b.contains("amazon")) => Some(Cloud::Aws),
            "Microsoft Corporation" if machine.asset_tag.as_deref() == Some(AZURE_TAG) => Some(Cloud::Azure),
            "Google" => Some(Cloud::Gcp),
            _ => None,
        }
    }

    /// The documented idle limit in seconds: NLB, NAT gateway and Nitro v6 interfaces of AWS; the load balancer and NAT
    /// gateway of Azure (4 minutes); firewall connection tracking of Google Cloud (10 minutes).
    #[must_use]
    pub const fn limit_s(self) -> u64 {
        match self {
            Cloud::Aws => 350,
            Cloud::Azure => 240,
            Cloud::Gcp => 600,
        }
    }
}

/// `ip_vs_tcp_timeouts` (`net/netfilter/ipvs/ip_vs_proto_tcp.c`): an established connection, unless `ipvsadm --set`.
const IPVS_S: u64 = 900;

/// The limits of one namespace.
#[derive(Clone, Debug)]
pub struct Limits<'a> {
    /// Of every connection: the smallest, in milliseconds.
    common: Option<(u64, Forgets)>,
    services: &'a [Endpoint],
}

impl<'a> Limits<'a> {
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the table bounds it from 0 to a day")]
    pub fn of(view: &View<'a>, netns: Option<NetnsId>) -> Limits<'a> {
        let own = Some(view.thresholds.path_idle_seconds).filter(|s| *s > 0.0).map(|s| (s * 1000.0) as u64);
        let tracked = Table::of(view, netns).filter(|t| t.entries > 0).and_then(|t| t.now.established_timeout_s);
        let cloud = Cloud::of(&view.now.system.machine);
        let common = match own {
            Some(ms) => Some((ms, Forgets::Option)),
            None => [
                tracked.map(|s| (s.saturating_mul(1000), Forgets::Conntrack)),
                cloud.map(|cloud| (cloud.limit_s() * 1000, Forgets::Cloud(cloud))),
            ]
            .into_iter()
            .flatten()
            .min_by_key(|(ms, _)| *ms),
        };
        Limits { common, services: view.netns(netns).map_or(&[], |n| &n.virtual_services) }
    }

    /// The limit of one connection, in milliseconds.
    #[must_use]
    pub fn of_connection(&self, socket: &Socket) -> Option<(u64, Forgets)> {
        let ipvs = self.services.contains(&socket.peer.normalised()).then_some((IPVS_S * 1000, Forgets::Ipvs));
        self.common.into_iter().chain(ipvs).min_by_key(|(ms, _)| *ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{NETNS, World, row};
    use crate::model::State;
    use crate::model::conntrack::Conntrack;

    fn machine(vendor: &str, bios: &str, tag: &str) -> Machine {
        let word = |text: &str| Some(text.to_owned());
        Machine { vendor: word(vendor), bios: word(bios), asset_tag: word(tag) }
    }

    #[test]
    fn clouds_are_told_by_their_firmware_and_hyper_v_is_none() {
        assert_eq!(Cloud::of(&machine("Amazon EC2", "1.0", "")), Some(Cloud::Aws));
        assert_eq!(Cloud::of(&machine("Xen", "4.11.amazon", "")), Some(Cloud::Aws));
        assert_eq!(Cloud::of(&machine("Xen", "4.17", "")), None);
        assert_eq!(Cloud::of(&machine("Microsoft Corporation", "", AZURE_TAG)), Some(Cloud::Azure));
        assert_eq!(Cloud::of(&machine("Microsoft Corporation", "", "None")), None);
        assert_eq!(Cloud::of(&machine("Google", "", "")), Some(Cloud::Gcp));
        assert_eq!(Cloud::of(&Machine::default()), None);
    }

    #[test]
    fn the_smallest_limit_counts_and_an_own_one_replaces_what_is_guessed() {
        let socket = row(State::Established, "10.0.0.1:5000", "10.96.0.1:443");
        let of =
            |world: &World| Limits::of(&View::new(&world.now, None, &world.thresholds), NETNS).of_connection(&socket);
        let mut world = World::new();
        assert_eq!(of(&world), None);
        world.now.netns[0].virtual_services = vec![socket.peer];
        assert_eq!(of(&world), Some((900_000, Forgets::Ipvs)));
        world.now.system.machine = machine("Google", "", "");
        assert_eq!(of(&world), Some((600_000, Forgets::Cloud(Cloud::Gcp))));
        let tracked = |entries| Conntrack {
            entries: Some(entries),
            limit: Some(9),
            established_timeout_s: Some(300),
            ..Conntrack::default()
        };
        world.now.netns[0].conntrack = Some(tracked(0));
        assert_eq!(of(&world), Some((600_000, Forgets::Cloud(Cloud::Gcp))), "nothing is tracked");
        world.now.netns[0].conntrack = Some(tracked(1));
        assert_eq!(of(&world), Some((300_000, Forgets::Conntrack)));
        world.thresholds.set("path-idle-seconds", 700.0).unwrap();
        assert_eq!(of(&world), Some((700_000, Forgets::Option)));
    }
}
