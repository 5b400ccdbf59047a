//! Rows as documents: every field, every change, nothing that only grew older.

use super::*;
use crate::capture::document::put;

/// A whole row, for a reader without the one before.
fn object(row: &Kept) -> Map<String, Json> {
    let mut text = String::new();
    write(&mut text, row, None);
    serde_json::from_str(&text).unwrap()
}

fn busy() -> Socket {
    let mut info = TcpInfo::default();
    info.load(&[0; 248]);
    for (place, name) in TcpInfo::FIELDS.iter().enumerate() {
        if *name != "total_rto_time_ms" && !name.contains("_e0_") && !name.contains("_e1_") && !name.ends_with("_ce") {
            let value = if name.ends_with("_ms") { 100 * (place as u64 + 1) } else { place as u64 % 200 };
            if place < 60 {
                assert!(info.set(name, value), "{name}");
            }
        }
    }
    Socket {
        netns: NetnsId::new(4_026_531_840),
        family: Family::V6,
        state: State::CloseWait,
        kind: RowKind::Full,
        local: Endpoint::new("fe80::1".parse().unwrap(), 443),
        peer: Endpoint::new("::ffff:10.0.0.1".parse().unwrap(), 50_000),
        ifindex: Some(3),
        cookie: Some(u64::MAX),
        timer: Some(Timer { kind: TimerKind::Keepalive, remaining_ms: 5000, retransmits: 2 }),
        recv_q_bytes: 1,
        send_q_bytes: Some(0),
        uid: Some(0),
        inode: Inode::new(7),
        shutdown: Some(1),
        v6only: Some(false),
        mark: Some(9),
        cgroup: Some(1),
        sockopt: Some(0x102),
        tos: Some(16),
        tclass: Some(0),
        congestion: Some(Congestion::new(b"cu\"bic")),
        skmem: Some(SkMem { rcvbuf_bytes: 5, drops: Some(0), ..SkMem::default() }),
        md5_key: true,
        ulp: true,
        mptcp: true,
        info: Some(info.into()),
    }
}

fn read_back(objects: &[&str]) -> Kept {
    let mut kept = Kept::default();
    for text in objects {
        let object: Map<String, Json> = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        read(&mut kept, &object).unwrap();
    }
    kept
}

#[test]
fn every_field_of_a_row_survives() {
    let now = 1_000_000;
    for socket in [busy(), Socket::default(), Socket { state: State::Unknown(44), ..busy() }] {
        let mut text = String::new();
        write(&mut text, &Kept::new(&socket, now, None), None);
        let read = read_back(&[&text]);
        assert_eq!(read.at(now), socket, "{text}");
    }
}

#[test]
fn changes_turn_any_row_into_any_other() {
    let mut shorter = busy();
    let mut info = TcpInfo::default();
    info.load(&[7; 104]);
    shorter.info = Some(info.into());
    let waits = Socket { info: None, state: State::TimeWait, kind: RowKind::TimeWaitMini, ..busy() };
    let rows = [busy(), Socket::default(), shorter, waits, Socket { timer: None, mptcp: false, ..busy() }];
    for from in &rows {
        for to in &rows {
            let before = Kept::new(from, 5000, None);
            let after = Kept::new(to, 6000, Some(&before));
            let (mut first, mut second) = (String::new(), String::new());
            write(&mut first, &before, None);
            write(&mut second, &after, Some(&before));
            let read = read_back(&[&first, &second]);
            assert_eq!(read.at(6000), after.at(6000), "{first}\n{second}");
            assert_eq!(second == "{}", before.is_same(&after), "{second}");
        }
    }
}

#[test]
fn a_row_that_does_nothing_does_not_change() {
    let older = |ms: u32| {
        let mut socket = busy();
        let info = socket.info.as_mut().unwrap();
        for (_, field) in AGES {
            let before = match field {
                "last_data_sent_ms" => info.last_data_sent_ms(),
                "last_data_recv_ms" => info.last_data_recv_ms(),
                _ => info.last_ack_recv_ms(),
            };
            info.set(field, u64::from(before.unwrap() + ms));
        }
        socket.timer.as_mut().unwrap().remaining_ms -= ms;
        socket
    };
    let before = Kept::new(&older(0), 100_000, None);
    // A second later, by clocks that differ by a few steps.
    let after = Kept::new(&older(1033), 101_000, Some(&before));
    assert!(before.is_same(&after));
    assert!(!before.is_same(&Kept::new(&older(1061), 101_000, Some(&before))), "more than the tolerance");
    let later = Kept::new(&Socket { recv_q_bytes: 2, ..older(1000) }, 101_000, Some(&before));
    assert!(!before.is_same(&later));
    let mut text = String::new();
    write(&mut text, &later, Some(&before));
    assert_eq!(text, r#"{"recv_q_bytes":2}"#);
}

#[test]
fn keys_of_later_versions_are_passed_over_and_wrong_values_are_not() {
    let mut object = object(&Kept::new(&busy(), 0, None));
    object.insert("colour".into(), "red".into());
    object["tcp_info"]["new_field"] = 5.into();
    assert!(read(&mut Kept::default(), &object).is_ok());
    for (key, value) in [
        ("family", Json::from("ipx")),
        ("state", 256.into()),
        ("local", "nowhere".into()),
        ("recv_q_bytes", Json::Null),
        ("cookie", 5.into()),
    ] {
        let mut wrong = object.clone();
        wrong.insert(key.into(), value);
        let why = read(&mut Kept::default(), &wrong).unwrap_err();
        assert!(why.starts_with(key), "{why}");
    }
    let mut wrong = object.clone();
    wrong["tcp_info"]["ca_state"] = 256.into();
    assert!(read(&mut Kept::default(), &wrong).is_err());
}

#[test]
fn memory_without_drops_is_not_without_drops() {
    let mut map = Map::new();
    put(&mut map, "drops", &Some(0u32));
    put(&mut map, "none", &None::<u32>);
    assert_eq!(Json::Object(map).to_string(), r#"{"drops":0}"#);
}
