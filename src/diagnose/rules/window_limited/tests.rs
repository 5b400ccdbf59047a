//! Transfers that wait for a window, on snapshots made by hand.

#[cfg(test)]
use super::*;
use crate::diagnose::testkit::{World, info, row};
use crate::model::SkMem;
use crate::model::snapshot::WindowLook;
use crate::model::sysctl::Sysctl;

const RMEM: [u64; 3] = [4096, 131_072, 6_291_456];

/// A transfer with a window of 50,000 bytes; two seconds later it moved `moved` bytes and was held back `held_ms`.
fn sends(moved: u64, held_ms: u64, rtt_us: u64) -> World {
    let mut world = World::new();
    world.sysctl(Sysctl::Ipv4TcpRmem, &RMEM);
    let fields = [("snd_wnd_bytes", 50_000), ("rtt_us", rtt_us), ("min_rtt_us", rtt_us), ("bytes_acked", 1_000_000)];
    let socket = Socket {
        send_q_bytes: Some(90_000),
        ..info(row(State::Established, "10.0.0.1:40000", "10.0.0.2:80"), &fields)
    };
    world.hold(812, "backup", 3, socket.inode).add(socket).later(2000);
    let info = world.now.sockets[0].info.as_mut().unwrap();
    assert!(info.set("bytes_acked", 1_000_000 + moved) && info.set("rwnd_limited_us", held_ms * 1000));
    world
}

/// The receiver of the same connection, on this host.
fn received_by(world: &mut World, rcvbuf: u32) {
    let skmem = SkMem { rcvbuf_bytes: rcvbuf, ..SkMem::default() };
    let far = row(State::Established, "10.0.0.2:80", "10.0.0.1:40000");
    world.hold(900, "sink", 4, far.inode).add(Socket { skmem: Some(skmem), ..far });
}

#[test]
fn half_of_the_interval_and_a_real_transfer_are_an_explanation() {
    let outcome = sends(2_000_000, 1800, 50_000).check(check);
    let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
    assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(812)));
    assert!(finding.summary.contains("waits for the peer's window 90 % of the time"), "{}", finding.summary);
    assert_eq!(sends(2_000_000, 1000, 50_000).check(check).findings.len(), 1);
    // Half of what the window carries.
    assert_eq!(sends(1_000_000, 1000, 50_000).check(check).findings.len(), 1);
    assert_eq!(sends(1_000_000, 999, 50_000).check(check), Outcome::default());
    // A window that is used up limits a sender that paces itself for less of the time.
    assert_eq!(sends(2_000_000, 500, 50_000).check(check).findings.len(), 1);
    assert_eq!(sends(2_000_000, 499, 50_000).check(check), Outcome::default());
    assert_eq!(sends(65_535, 1800, 50_000).check(check), Outcome::default());
}

#[test]
fn a_window_without_its_scale_makes_a_transfer_creep_and_no_reader_does() {
    let found = |window: u64, (moved, segments): (u64, u64), held_ms, scale: u64| {
        let mut world = sends(moved, held_ms, 300);
        for (snapshot, before) in [(world.before.as_mut().unwrap(), true), (&mut world.now, false)] {
            let info = snapshot.sockets[0].info.as_mut().unwrap();
            let sent = if before { 5 } else { 5 + segments };
            let fields =
                [("snd_wnd_bytes", window), ("snd_mss_bytes", 1448), ("data_segs_out", sent), ("wscale", 0x70 + scale)];
            for (name, value) in fields {
                assert!(info.set(name, value), "{name}");
            }
        }
        world.check(check).findings
    };
    let [finding] = &found(64, (512, 8), 1990, 0)[..] else { panic!("no finding") };
    assert_eq!((finding.severity, finding.causes.left[0].cause.id), (Severity::Warning, "window-cut"));
    assert_eq!(
        finding.summary,
        "backup (812) sends 256 bytes a second on 1 connection with 10.0.0.2:80: the peer's window is 64 bytes, less \
         than a segment"
    );
    assert!(finding.remedy[0].starts_with("Compare the window scale"), "{:?}", finding.remedy);
    let silent = |window, moved, held_ms| assert_eq!(found(window, moved, held_ms, 7), []);
    silent(724, (512, 8), 1990);
    silent(64, (512, 8), 1700);
    silent(64, (128, 2), 1990);
    // A slow reader opens its window by segments, of which a part is left now and then.
    silent(300, (14_480, 12), 1990);
}

#[test]
fn a_fixed_buffer_is_named_only_when_it_is_seen_and_the_window_is_used_up() {
    let causes = |moved, rcvbuf: Option<u32>| {
        let mut world = sends(moved, 1800, 50_000);
        if let Some(bytes) = rcvbuf {
            received_by(&mut world, bytes);
        }
        world.check(check).findings.remove(0).causes
    };
    // A whole window per round trip is a million bytes a second.
    assert!(causes(2_000_000, Some(131_071)).is("buffer-fixed"));
    assert!(causes(2_000_000, Some(6_291_456)).is("buffer-at-limit"));
    assert!(causes(2_000_000, Some(131_072)).named().is_none(), "what a connection begins with");
    let mut unread = sends(2_000_000, 1800, 50_000);
    received_by(&mut unread, 131_072);
    unread.now.sockets[1].recv_q_bytes = 40_000;
    assert_eq!(unread.check(check).findings[0].causes.left[0].cause.id, "reader-slow");
    let unseen = causes(2_000_000, None);
    let left: Vec<&str> = unseen.left.iter().map(|h| h.cause.id).collect();
    assert_eq!(left, ["reader-slow", "buffer-fixed", "buffer-at-limit"], "what a reader leaves is used up, too");
    assert!(causes(400_000, None).is("reader-slow"), "a fifth of what the window carries");
    let left: Vec<&str> = causes(1_000_000, Some(131_071)).left.iter().map(|h| h.cause.id).collect();
    assert_eq!(left, ["reader-slow", "buffer-fixed", "path-full"], "half of it: any");
    // A whole one in the present round trip, which is long as the receiver delays its ACKs or the path is full.
    let mut late = sends(2_000_000, 1800, 50_000);
    assert!(late.now.sockets[0].info.as_mut().unwrap().set("min_rtt_us", 50));
    assert_eq!(late.check(check).findings[0].causes.left[0].cause.id, "reader-slow");
}

#[test]
fn a_receiver_without_scaling_is_told_and_where_it_is_off() {
    let of = |rtt_us, here| {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4TcpRmem, &RMEM).sysctl(Sysctl::Ipv4TcpWindowScaling, &[here]);
        let fields = [("rcv_wnd_bytes", 269_328), ("rcv_rtt_us", rtt_us), ("options", 3), ("rcv_mss_bytes", 1448)];
        let skmem = SkMem { rcvbuf_bytes: 400_000, ..SkMem::default() };
        let base = info(row(State::Established, "10.0.0.1:40000", "10.0.0.2:80"), &fields);
        let socket = Socket { skmem: Some(skmem), ..base };
        world.hold(812, "restore", 3, socket.inode).add(socket).later(2000);
        // 65,160 bytes in 120 ms are 543,000 a second.
        assert!(world.now.sockets[0].info.as_mut().unwrap().set("bytes_received", 1_000_000));
        world.check(check).findings
    };
    let found = of(120_000, 0);
    assert!(found[0].causes.is("no-window-scaling") && found[0].remedy == [SCALE_HERE], "{found:?}");
    assert!(found[0].evidence.contains(&("window_bytes", Evidence::Bytes(65_535))), "{found:?}");
    assert_eq!(of(120_000, 1)[0].remedy, [SCALE]);
    assert_eq!(of(80_000, 0), [], "two thirds of the window");
}

#[test]
fn no_scaling_is_named_only_at_a_full_window_without_the_option() {
    // 65,535 bytes in 200 ms are 327,675 a second.
    let causes = |window: (u64, u64), options: u64, here: u64| {
        let mut world = sends(640_000, 1800, 200_000);
        world.sysctl(Sysctl::Ipv4TcpWindowScaling, &[here]);
        let before = world.before.as_mut().unwrap();
        assert!(before.sockets[0].info.as_mut().unwrap().set("snd_wnd_bytes", window.0));
        let info = world.now.sockets[0].info.as_mut().unwrap();
        assert!(info.set("snd_wnd_bytes", window.1) && info.set("options", options));
        assert!(info.set("snd_mss_bytes", 1448));
        world.check(check).findings.remove(0)
    };
    let finding = causes((65_535, 65_535), 3, 1);
    assert!(finding.causes.is("no-window-scaling"), "{finding:?}");
    assert_eq!(finding.remedy, [SCALE]);
    let here = causes((65_535, 65_535), 3, 0);
    assert!(here.summary.ends_with("(net.ipv4.tcp_window_scaling = 0 on this host)") && here.remedy == [SCALE_HERE]);
    let out = |f: &Finding| f.causes.ruled_out.iter().any(|(c, _)| c.id == "no-window-scaling");
    assert!(out(&causes((65_535, 65_535), 7, 1)), "scaled");
    let shrinks = causes((65_535, 20_000), 3, 1);
    assert!(out(&shrinks) && shrinks.causes.left[0].cause.id == "reader-slow", "a window that comes and goes");
}

#[test]
fn a_receiver_that_fixed_its_buffer_is_told_where_its_sender_is_elsewhere() {
    let receives = |change: &dyn Fn(&mut Socket)| {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4TcpRmem, &RMEM);
        let fields = [("rcv_wnd_bytes", 50_000), ("rcv_rtt_us", 50_000), ("options", 7), ("bytes_received", 9)];
        let skmem = SkMem { rcvbuf_bytes: 100_000, ..SkMem::default() };
        let base = info(row(State::Established, "10.0.0.1:40000", "10.0.0.2:80"), &fields);
        let socket = Socket { skmem: Some(skmem), ..base };
        world.hold(812, "restore", 3, socket.inode).add(socket).later(2000);
        assert!(world.now.sockets[0].info.as_mut().unwrap().set("bytes_received", 2_000_009));
        change(&mut world.now.sockets[0]);
        world.check(check).findings
    };
    let found = receives(&|_| {});
    assert!(found[0].summary.contains("it has fixed its buffer at"), "{}", found[0].summary);
    assert!(found[0].causes.is("buffer-fixed") && found[0].severity == Severity::Info);
    let set = |s: &mut Socket, field, value| assert!(s.info.as_mut().unwrap().set(field, value));
    let at_limit = receives(&|s| s.skmem.as_mut().unwrap().rcvbuf_bytes = 6_291_456);
    assert!(at_limit[0].causes.is("buffer-at-limit") && at_limit[0].remedy == [RAISE], "{at_limit:?}");
    assert_eq!(receives(&|s| set(s, "options", 6)), [], "no timestamps");
    assert_eq!(receives(&|s| set(s, "rcv_rtt_us", 30_000)), []);
    assert_eq!(receives(&|s| s.recv_q_bytes = 25_000), []);
    let begun = |s: &mut Socket| s.skmem.as_mut().unwrap().rcvbuf_bytes = 131_072;
    assert_eq!(receives(&begun), []);
    let reads = |s: &mut Socket, bytes, read: u64| {
        s.skmem.as_mut().unwrap().rcvbuf_bytes = bytes;
        assert!(
            s.info.as_mut().unwrap().set("rcv_space_bytes", read) && s.info.as_mut().unwrap().set("advmss_bytes", 1448)
        );
    };
    // For 66,000 bytes in a round trip the kernel makes 132,000.
    assert!(receives(&|s| reads(s, 131_999, 66_000))[0].causes.is("buffer-fixed"));
    assert_eq!(receives(&|s| reads(s, 132_000, 66_000)), [], "as the kernel makes it");
    assert_eq!(receives(&|s| reads(s, 131_072, 66_000)), [], "perhaps tcp_moderate_rcvbuf is 0");
}

#[test]
fn a_buffer_that_the_host_keeps_small_is_not_of_the_program() {
    let of = |grows| {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4TcpRmem, &RMEM).sysctl(Sysctl::Ipv4TcpModerateRcvbuf, &[grows]);
        let fields = [
            ("rcv_wnd_bytes", 80_480),
            ("rcv_rtt_us", 80_000),
            ("options", 7),
            ("bytes_received", 9),
            ("rcv_space_bytes", 81_928),
            ("advmss_bytes", 1448),
        ];
        let skmem = SkMem { rcvbuf_bytes: 131_072, ..SkMem::default() };
        let base = info(row(State::Established, "10.0.0.1:40000", "10.0.0.2:80"), &fields);
        let socket = Socket { skmem: Some(skmem), ..base };
        world.hold(812, "restore", 3, socket.inode).add(socket).later(2000);
        assert!(world.now.sockets[0].info.as_mut().unwrap().set("bytes_received", 2_000_009));
        world.check(check).findings
    };
    let found = of(1);
    assert!(found[0].causes.is("buffer-fixed"), "{found:?}");
    assert!(found[0].summary.ends_with("it has fixed its buffer at 128 KiB (SO_RCVBUF)"), "{}", found[0].summary);
    assert_eq!(of(0), []);
}

#[test]
fn connections_of_one_program_are_judged_each_by_its_own_buffer() {
    let mut world = World::new();
    world.sysctl(Sysctl::Ipv4TcpRmem, &RMEM);
    let fields = [("rcv_wnd_bytes", 50_000), ("rcv_rtt_us", 50_000), ("options", 7), ("bytes_received", 9)];
    for (port, rcvbuf_bytes) in [(40_000, 6_291_456), (40_001, 100_000), (40_002, 90_000)] {
        let skmem = Some(SkMem { rcvbuf_bytes, ..SkMem::default() });
        let socket = info(row(State::Established, &format!("10.0.0.1:{port}"), "10.0.0.2:80"), &fields);
        world.hold(812, "restore", port, socket.inode).add(Socket { skmem, ..socket });
    }
    world.later(2000);
    for socket in &mut world.now.sockets {
        assert!(socket.info.as_mut().unwrap().set("bytes_received", 2_000_009));
    }
    let found = world.check(check).findings;
    assert_eq!(found.len(), 1, "{found:#?}");
    let left: Vec<&str> = found[0].causes.left.iter().map(|h| h.cause.id).collect();
    assert_eq!(left, ["buffer-fixed", "buffer-at-limit"]);
    assert!(found[0].evidence.contains(&("receive_buffer_bytes", Evidence::Bytes(90_000))));
    assert!(found[0].remedy == [LET_IT_GROW, RAISE] && found[0].summary.contains("(2 of 3)"), "{}", found[0].summary);
}

/// The causes of a transfer that uses up its window, which stood (or moved) in a dozen looks, by the peer's scale.
fn looked_at(window: u64, scale: u64, moves: bool) -> (Vec<&'static str>, Vec<&'static str>) {
    let mut world = sends(window * 40, 1800, 50_000);
    for snapshot in [world.before.as_mut().unwrap(), &mut world.now] {
        let info = snapshot.sockets[0].info.as_mut().unwrap();
        for (name, value) in [("snd_wnd_bytes", window), ("wscale", 0x70 + scale), ("options", 7)] {
            assert!(info.set(name, value), "{name}");
        }
    }
    let outcome = world.check(check);
    let row = &world.now.sockets[0];
    let connection = (row.netns, row.four_tuple());
    let asked = outcome.asked.windows.clone();
    assert_eq!(asked, [connection]);
    let looks = (0..12u32).map(|n| WindowLook {
        after_ms: u64::from(n) * 25,
        window_bytes: u32::try_from(window).unwrap() - if moves { n * 2000 } else { 0 },
        acked_bytes: u64::from(n) * window,
    });
    world.now.windows.insert(connection, looks.collect());
    let causes = world.check(check).findings.remove(0).causes;
    (causes.left.iter().map(|h| h.cause.id).collect(), causes.ruled_out.iter().map(|(c, _)| c.id).collect())
}

#[test]
fn a_window_that_is_used_up_and_stands_is_no_slow_readers() {
    let (left, out) = looked_at(50_000, 7, false);
    assert_eq!(left, ["buffer-fixed", "buffer-at-limit"]);
    assert!(out.contains(&"reader-slow") && out.contains(&"path-full"), "{out:?}");
    assert_eq!(
        looked_at(50_000, 1, false).0,
        ["buffer-fixed", "buffer-at-limit"],
        "no Linux that lets it grow has such a scale"
    );
    assert_eq!(looked_at(50_000, 2, false).0, ["buffer-fixed", "buffer-at-limit"]);
    assert_eq!(
        looked_at(3_000_000, 7, false).0,
        ["buffer-at-limit", "buffer-fixed"],
        "megabytes are where growth ends"
    );
    assert_eq!(looked_at(50_000, 7, true).0, ["reader-slow", "buffer-fixed", "buffer-at-limit"]);
    assert_eq!(looked_at(50_000, 1, true).0, ["reader-slow", "buffer-fixed", "buffer-at-limit"]);
    assert_eq!(looked_at(3_000_000, 7, true).0[0], "reader-slow");
}

#[test]
fn no_window_is_looked_at_again_where_the_receiver_is_seen() {
    let mut world = sends(2_000_000, 1800, 50_000);
    assert_eq!(world.check(check).asked.windows.len(), 1);
    received_by(&mut world, 131_072);
    assert!(world.check(check).asked.windows.is_empty());
    // Decided without it: the window carries five times as much.
    assert!(sends(400_000, 1800, 50_000).check(check).asked.windows.is_empty());
}
