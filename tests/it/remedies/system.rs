//! Remedies of the rules on resets, dropped data and settings. Input: servers that close too early, a reader that is stopped,
//! settings of a private namespace. Output: the first step of each finding, and silence after it.

use std::net::SocketAddr;

use rustix::process::Signal;
use tcpstate::diagnose::Diagnosis;
use tcpstate::model::State;

use super::{Doctor, cured, stopped, told};
use crate::harness::helper::Helper;
use crate::harness::sock::Sock;
use crate::harness::{Netns, in_netns, wait_for};
use crate::judge::pause;

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
pub fn a_server_that_reads_to_the_end_resets_nobody() {
    in_netns(|ns| {
        let listener = Sock::listening(loopback(8400), 64);
        let serve = |reads: bool| {
            for _ in 0..20 {
                let (client, server) = (Sock::connected(loopback(8400), None), listener.accept());
                client.send(10);
                client.shutdown();
                server.wait(State::CloseWait);
                if reads {
                    server.receive(10);
                    server.receive_eof();
                }
                server.close();
                client.wait(State::Close);
                client.close();
            }
        };
        let ill = Doctor::of(ns).looks(|| serve(false));
        told(&ill, "abort-storm", "Read to EOF before close()");
        let well = Doctor::of(ns).looks(|| serve(true));
        cured(&well, "abort-storm");
    });
}

#[test]
pub fn a_reader_that_reads_again_drops_nothing() {
    in_netns(|ns| {
        let rule = "rcvbuf-pruning";
        let Some(reader) = super::reader(ns, 8410) else { return };
        ns.set_sysctl("ipv4/tcp_rmem", "4096 4608 4608");
        let writer = Sock::connected(loopback(8410), None);
        super::wait_for_no_queue(ns);
        stopped(&reader);
        // Small segments take more memory than the window that was offered for them.
        let write = |doctor: &Doctor<'_>| -> Diagnosis {
            doctor.looks(|| {
                for _ in 0..300 {
                    writer.send_at_once(1);
                    pause(3);
                }
            })
        };
        told(&write(&Doctor::of(ns)), rule, "Make the reader faster: recv-queue-stuck shows what blocks it");
        reader.signal(Signal::CONT);
        wait_for("everything to be read", || match writer.unacknowledged() {
            0 => Ok(()),
            left => Err(left.to_string()),
        });
        let well = wait_for("a reader that is never late", || {
            // On a busy machine it may be.
            let diagnosis = write(&Doctor::of(ns));
            let dropped = diagnosis.findings.iter().any(|f| f.rule == rule);
            if dropped { Err("drops".to_owned()) } else { Ok(diagnosis) }
        });
        cured(&well, rule);
    });
}

/// A setting as a number.
fn setting(ns: &Netns, name: &str) -> u64 {
    ns.sysctl(name).parse().unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
pub fn each_setting_is_put_right_by_its_first_step() {
    in_netns(|ns| {
        let rule = "sysctl-hazard";
        for (name, value, right, step) in [
            ("ipv4/tcp_syncookies", 0, 1, "Set tcp_syncookies back to 1"),
            ("ipv4/tcp_retries2", 5, 15, "Set tcp_retries2 to 8 or more, 15 by default"),
            ("ipv4/tcp_max_tw_buckets", 100, setting(ns, "ipv4/tcp_max_tw_buckets"), "Set tcp_max_tw_buckets back"),
            ("ipv4/tcp_fin_timeout", 65, 60, "Set tcp_fin_timeout back to 60"),
            ("ipv4/tcp_abort_on_overflow", 1, 0, "Set tcp_abort_on_overflow back to 0"),
            ("core/somaxconn", 64, 4096, "Raise somaxconn together with the backlog of the application"),
            (
                "ipv4/tcp_max_syn_backlog",
                100_000,
                setting(ns, "ipv4/tcp_max_syn_backlog"),
                "Set tcp_max_syn_backlog back to the default",
            ),
        ] {
            ns.set_sysctl(name, &value.to_string());
            told(&Doctor::of(ns).look(), rule, step);
            ns.set_sysctl(name, &right.to_string());
            cured(&Doctor::of(ns).look(), rule);
        }
        ns.set_sysctl("ipv4/tcp_tw_reuse", "1");
        ns.set_sysctl("ipv4/tcp_timestamps", "0");
        told(&Doctor::of(ns).look(), rule, "Set net.ipv4.tcp_timestamps back to 1");
        ns.set_sysctl("ipv4/tcp_timestamps", "1");
        cured(&Doctor::of(ns).look(), rule);
    });
}

#[test]
pub fn a_service_outside_the_range_is_in_nobody_s_way() {
    in_netns(|ns| {
        for port in [40_000, 8420] {
            let mut service = Helper::start(ns);
            service.make(&format!("listen {port} 8"));
            let diagnosis = Doctor::of(ns).look();
            if port == 40_000 {
                told(&diagnosis, "sysctl-hazard", "Move the service to a port outside the range");
            } else {
                cured(&diagnosis, "sysctl-hazard");
            }
        }
    });
}
