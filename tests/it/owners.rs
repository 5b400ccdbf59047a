//! Who holds which socket: every holder of a thousand sockets, by both routes, and the reason where there is none.
//! Comes in: helper processes that say what they opened. Goes out: no owner too many and none too few. Never here:
//! sockets of the test process itself, which every child of a parallel test shares for a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};
use tcpstate::collect::proc::ProcRoot;
use tcpstate::collect::{Live, OwnersVia, Query, Route, SourceChoice};
use tcpstate::model::capability::Denial;
use tcpstate::model::gap::{Missing, WayOut, Why};
use tcpstate::model::state::State;
use tcpstate::model::{StateSet, Unlisted};

use crate::harness::helper::{Helper, wait_for_end};
use crate::harness::oracle::installed;
use crate::harness::sock::Sock;
use crate::harness::{Netns, finish, in_netns, netns, skip};
use crate::product::{self, Owner, Shown};
use crate::states::Expected;

/// A helper under a name of its own and, where that can be, as a user of its own.
fn start(ns: &Netns, index: u32) -> (Helper, String, u64) {
    let uid = 1000 + index;
    let (mut helper, uid) =
        if netns::is_real_root() { (Helper::start_as(ns, uid), uid.into()) } else { (Helper::start(ns), 0) };
    let name = format!("holder {index}");
    helper.rename(name.as_bytes());
    (helper, name, uid)
}

/// How owners can be found here; BPF needs rights that a user namespace does not give.
fn routes() -> Vec<&'static str> {
    if netns::is_real_root() && bpf().is_ok() {
        return vec!["proc", "bpf", "auto"];
    }
    skip("no BPF here: only the walk over /proc is checked");
    vec!["proc", "auto"]
}

/// Whether the kernel lets us find owners by BPF.
fn bpf() -> Result<(), String> {
    let mut live = Live::open(SourceChoice::Netlink, ProcRoot::default()).map_err(|e| e.to_string())?;
    live.owners_via = OwnersVia::Bpf;
    live.owners(None).map(|_| ()).map_err(|e| e.to_string())
}

#[test]
fn every_owner_of_a_thousand_sockets_in_six_processes() {
    in_netns(|ns| {
        let mut helpers: Vec<(Helper, String, u64)> = (0..6).map(|i| start(ns, i)).collect();
        let mut expected: BTreeMap<u64, BTreeSet<Owner>> = BTreeMap::new();
        let mut rows: Vec<Expected> = Vec::new();
        for (i, (helper, comm, uid)) in helpers.iter_mut().enumerate() {
            // 6 listeners and 497 connections, both ends.
            let connections = if i == 5 { 82 } else { 83 };
            let made = helper.make(&format!("established {} {connections}", 7000 + i));
            for row in &made {
                let owner = owner(row, comm, *uid);
                assert_eq!(owner.pid, u64::from(helper.pid()));
                expected.entry(row.inode.expect("a held socket")).or_default().insert(owner);
            }
            rows.extend(made);
        }
        assert_eq!((rows.len(), expected.len()), (1000, 1000));
        let heir = helpers[3].0.fork(Some(b"heir"));
        let parent = u64::from(helpers[3].0.pid());
        let mut shared = 0;
        for owners in expected.values_mut() {
            let inherited: Vec<Owner> = owners
                .iter()
                .filter(|o| o.pid == parent)
                .map(|o| Owner { pid: heir.into(), comm: "heir".into(), ..o.clone() })
                .collect();
            shared += inherited.len();
            owners.extend(inherited);
        }
        assert_eq!(shared, 167);

        for route in routes() {
            let document = product::json(ns, &["list", "--json", "--owners-via", route]);
            let seen = product::sockets(&document);
            assert_eq!(seen.len(), 1000, "{route}");
            for socket in &seen {
                let inode = socket.inode.expect("every socket here is held");
                let owners: BTreeSet<Owner> = socket.owners.iter().cloned().collect();
                assert_eq!(owners.len(), socket.owners.len(), "{route}: an owner twice: {socket:?}");
                assert_eq!(Some(&owners), expected.get(&inode), "{route}: {socket:?}");
                assert_eq!(socket.status, "known", "{route}: {socket:?}");
            }
            assert_eq!(product::gaps(&document), Vec::<String>::new(), "{route}");
        }

        // The summary by process: the two that share are one group, and nobody is left over.
        let summary = product::json(ns, &["summary", "--json", "--by", "process", "--top", "100"]);
        let groups = summary["groups"]["by"]["rows"].as_array().unwrap();
        let totals: BTreeMap<Vec<u64>, u64> = groups
            .iter()
            .map(|g| {
                let pids = g["process"]["pids"].as_array().unwrap();
                (pids.iter().map(|p| p.as_u64().unwrap()).collect(), g["total"].as_u64().unwrap())
            })
            .collect();
        let wanted: BTreeMap<Vec<u64>, u64> = helpers
            .iter()
            .enumerate()
            .map(|(i, (helper, ..))| {
                let pid = u64::from(helper.pid());
                let mut pids = if i == 3 { vec![pid, heir.into()] } else { vec![pid] };
                pids.sort_unstable();
                (pids, if i == 5 { 165 } else { 167 })
            })
            .collect();
        let sorted: BTreeMap<Vec<u64>, u64> = totals
            .into_iter()
            .map(|(mut pids, n)| {
                pids.sort_unstable();
                (pids, n)
            })
            .collect();
        assert_eq!(sorted, wanted);
    });
}

fn owner(row: &Expected, comm: &str, uid: u64) -> Owner {
    Owner {
        pid: row.pid.expect("a holder").into(),
        fd: row.fd.and_then(|fd| u64::try_from(fd).ok()).expect("a descriptor"),
        comm: comm.into(),
        uid: Some(uid),
    }
}

/// Holders by inode, as the library tells them: process, descriptor, name, user.
type Holders = BTreeMap<u64, Vec<(u32, u32, String, Option<u32>)>>;

/// The holders of the sockets of a namespace, by one route.
fn holders(ns: &Netns, via: OwnersVia) -> Holders {
    ns.run(|| {
        let mut live = Live::open(SourceChoice::Netlink, ProcRoot::default()).expect("a source");
        live.owners_via = via;
        let table = live.owners(None).expect("owners");
        let via = live.owner_route.as_ref().map(|r| r.via);
        assert_eq!(via, Some(if live.owners_via == OwnersVia::Bpf { Route::Bpf } else { Route::Proc }));
        let mut found = Holders::new();
        let query = Query::states(StateSet::ALL);
        let mut keep = |socket: &tcpstate::model::Socket| {
            let (_, holders) = table.of(socket);
            if let Some(inode) = socket.inode {
                let mut all: Vec<_> = holders
                    .iter()
                    .map(|h| {
                        let p = table.process(h);
                        (p.pid, h.fd, p.comm.clone(), p.uid)
                    })
                    .collect();
                all.sort();
                found.insert(inode.get(), all);
            }
            ControlFlow::Continue(())
        };
        live.sockets(&query, &mut Vec::new(), &mut keep).expect("sockets");
        found
    })
}

/// The same table by the walk over `/proc` and by BPF: shared after a fork, and in a thread with its own descriptors.
#[test]
fn both_routes_give_the_same_table() {
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        helper.rename(b"parent");
        let before = helper.make("established 7000 20");
        // The thread's table is a copy of that of its process, and then goes its own way.
        let (thread, apart) = helper.make_apart("listen 7100 5");
        let after = helper.make("listen 7200 5");
        let mut lone = Helper::start(ns);
        let (other, only) = lone.make_apart("established 7300 5");
        let mut sharer = Helper::start(ns);
        let shared = sharer.make("established 7400 5");
        let child = sharer.fork(Some(b"child"));
        assert_ne!(thread, helper.pid());
        assert_ne!(other, lone.pid());

        let by_proc = holders(ns, OwnersVia::Proc);
        let pids = |row: &Expected| -> Vec<(u32, i64)> {
            by_proc[&row.inode.unwrap()].iter().map(|(pid, fd, ..)| (*pid, i64::from(*fd))).collect()
        };
        for (rows, holder) in [(&before, &helper), (&apart, &helper), (&after, &helper), (&only, &lone)] {
            for row in rows {
                assert_eq!(pids(row), [(holder.pid(), i64::from(row.fd.unwrap()))], "{row:?}");
            }
        }
        for row in &shared {
            let fd = i64::from(row.fd.unwrap());
            let mut both = vec![(sharer.pid(), fd), (child, fd)];
            both.sort_unstable();
            assert_eq!(pids(row), both, "{row:?}");
        }
        if let Err(reason) = bpf() {
            return skip(&reason);
        }
        let by_bpf = holders(ns, OwnersVia::Bpf);
        assert_eq!(by_proc, by_bpf);
        assert_eq!(by_bpf.len(), before.len() + apart.len() + after.len() + only.len() + shared.len());
    });
}

/// What the row alone tells about its owner, for every form in which a socket has none.
#[test]
fn a_socket_without_a_holder_says_why() {
    const REASONS: [(&str, &str); 9] = [
        ("accept_queue_full/waiting", "not_accepted"),
        ("syn_recv/request", "not_accepted"),
        ("close_wait/not_accepted", "not_accepted"),
        ("reuseport/waiting", "not_accepted"),
        ("fin_wait1/orphan", "orphaned"),
        ("last_ack/orphan", "orphaned"),
        ("close_wait/peer", "orphaned"),
        ("time_wait/client", "time_wait"),
        ("time_wait/server", "time_wait"),
    ];
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        let mut rows = Vec::new();
        for situation in [
            "accept_queue_full 7000 3 1",
            "syn_recv 7010 2",
            "close_wait 7020 2 not_accepted closed",
            "reuseport 7025 2 4",
            "fin_wait1 7030 2 closed",
            "last_ack 7040 2 closed",
            "fin_wait2_orphan 7050 2",
            "time_wait 7060 2 client",
            "time_wait 7070 2 server",
        ] {
            rows.extend(helper.make(situation));
        }
        // With more than 60 s to wait a FIN_WAIT2 stays a full socket (`tcp_close` in net/ipv4/tcp.c).
        ns.set_sysctl("ipv4/tcp_fin_timeout", "120");
        let full: Vec<SocketAddr> = helper
            .make("fin_wait2_orphan 7080 2")
            .into_iter()
            .filter_map(|row| {
                let orphan = row.what == "close_wait/peer";
                let local = row.local;
                if !orphan {
                    rows.push(row);
                }
                orphan.then_some(local)
            })
            .collect();
        let mut seen = product::sockets(&product::json(ns, &["list", "--json"]));
        let (orphans, rest): (Vec<Shown>, Vec<Shown>) =
            seen.drain(..).partition(|s| s.state == State::FinWait2 && full.contains(&s.local));
        assert_eq!(orphans.len(), 2);
        assert!(orphans.iter().all(|s| s.status == "orphaned" && s.owners.is_empty()), "{orphans:?}");
        seen = rest;
        assert_eq!(seen.len(), rows.len());
        let mut occurred = BTreeSet::new();
        for row in &rows {
            let ends = (row.state, row.local, row.peer, row.inode);
            let socket = seen.iter().find(|s| (s.state, s.local, s.peer, s.inode) == ends);
            let socket = socket.unwrap_or_else(|| panic!("not shown: {row:?}"));
            if row.inode.is_some() {
                assert_eq!((socket.status.as_str(), socket.owners.len()), ("known", 1), "{row:?}");
                continue;
            }
            let reason = REASONS.iter().find(|(what, _)| *what == row.what);
            let (what, reason) = reason.unwrap_or_else(|| panic!("no holder, and no reason foretold: {row:?}"));
            occurred.insert(*what);
            assert_eq!((socket.status.as_str(), socket.owners.len()), (*reason, 0), "{row:?}");
        }
        assert_eq!(occurred.len(), REASONS.len(), "{occurred:?}");
    });
}

/// A descriptor in flight between two processes belongs to nobody, and the socket is there.
#[test]
fn a_socket_that_no_process_holds_is_the_kernels() {
    in_netns(|ns| {
        let listener = ns.run(|| Sock::listening(SocketAddr::from(([127, 0, 0, 1], 2049)), 5));
        let inode = listener.inode();
        let (near, far) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("socketpair");
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        let fd = std::fs::File::open(format!("/proc/self/fd/{}", listener.fd()));
        assert!(fd.is_err(), "a socket cannot be opened again, only sent");
        // SAFETY: the descriptor is open for as long as `listener` lives, which is beyond the call.
        let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(listener.fd()) };
        let descriptors = [borrowed];
        assert!(message.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(near.as_fd(), &[IoSlice::new(b"x")], &mut message, SendFlags::empty()).expect("send a descriptor");
        drop(listener);
        // A child of a parallel test may have it until its exec.
        crate::harness::wait_for("nobody to hold the socket", || {
            let seen = product::sockets(&product::json(ns, &["list", "--json"]));
            let socket = seen.iter().find(|s| s.inode == Some(inode)).expect("the listener lives");
            // Where some process is closed to us it might be the holder.
            let status = if closed_processes() == 0 { "kernel" } else { "no_permission" };
            if socket.status == status { Ok(()) } else { Err(format!("{socket:?}, not {status}")) }
        });
        // A port is a sign and no proof; where a process is closed to us it is not even that.
        let document = product::json(ns, &["list", "--json"]);
        let row = document["sockets"].as_array().expect("rows").iter().find(|r| r["inode"] == inode).expect("the row");
        let output = crate::harness::finish(&mut product::with(
            ns,
            &["list", "-l", "-H", "--format", "tsv", "-c", "process,kernel-user"],
        ));
        let shown = String::from_utf8(output.stdout).expect("text");
        if row["owner_status"] == "kernel" {
            assert_eq!((&row["kernel_user"]["name"], &row["kernel_user"]["confidence"]), (&"nfs".into(), &0.5.into()));
            assert!(shown.starts_with("(kernel: nfs?)\tnfs (50 %: no process holds it, and its port"), "{shown}");
        } else {
            assert!(row["kernel_user"].is_null(), "{row}");
            assert_eq!(shown, "(no permission)\t-\n");
        }
        drop(far);
    });
}

/// How many processes, apart from kernel threads, do not show their descriptors to this one.
fn closed_processes() -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    entries
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let denied = |e: &std::io::Error| e.kind() == std::io::ErrorKind::PermissionDenied;
            let links = std::fs::read_dir(format!("/proc/{pid}/fd")).map(|entries| {
                entries.filter_map(Result::ok).any(|e| std::fs::read_link(e.path()).as_ref().is_err_and(denied))
            });
            let refused = match &links {
                Ok(refused) => *refused,
                Err(e) => denied(e),
            };
            refused && !std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().is_empty()
        })
        .count()
        + usize::from(in_a_pid_namespace())
}

/// Whether there are processes around those that `/proc` lists.
fn in_a_pid_namespace() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() != "pid:[4026531836]")
}

/// Processes that end, and sockets that come and go, while the program looks: an answer every time, never an error.
#[test]
fn what_vanishes_during_the_walk_is_no_error() {
    in_netns(|ns| {
        let mut churner = Helper::start(ns);
        churner.ask("churn 7900");
        let mut keeper = Helper::start(ns);
        let kept = keeper.make("established 7800 10");
        let mut statuses: BTreeMap<String, usize> = BTreeMap::new();
        for round in 0..8u64 {
            let mut leaver = Helper::start(ns);
            leaver.make(&format!("established {} 50", 7000 + round));
            let pid = leaver.pid();
            // It may be gone before it has answered, which is what this is about.
            let _ = leaver.try_ask(&format!("exit_after {}", 2 * round));
            let via = if round % 2 == 0 { "proc" } else { "auto" };
            for command in ["list", "summary", "list"] {
                let output = finish(&mut product::with(ns, &[command, "--json", "--owners-via", via]));
                assert_eq!(String::from_utf8_lossy(&output.stderr), "", "round {round}: {command}");
                assert_eq!(output.status.code(), Some(0), "round {round}: {command}");
                let document = product::document(&output);
                if command == "summary" {
                    continue;
                }
                let seen = product::sockets(&document);
                for row in &kept {
                    let socket = seen.iter().find(|s| s.inode == row.inode).expect("a socket that stays");
                    assert_eq!(socket.owners.len(), 1, "{socket:?}");
                    assert_eq!(socket.owners[0].pid, u64::from(keeper.pid()));
                }
                for socket in seen {
                    *statuses.entry(socket.status.clone()).or_default() += 1;
                    let known = socket.status == "known";
                    assert_eq!(known, !socket.owners.is_empty(), "{socket:?}");
                }
            }
            wait_for_end(pid);
        }
        assert!(churner.ask("calm").number.unwrap() > 0);
        assert!(statuses["known"] >= 8 * 2 * kept.len(), "{statuses:?}");
        let allowed = ["known", "raced", "not_accepted", "orphaned", "time_wait", "no_permission", "kernel"];
        assert!(statuses.keys().all(|s| allowed.contains(&s.as_str())), "{statuses:?}");
    });
}

/// Whether none of five owners is known because processes are not listed.
fn knows_no_owner(document: &serde_json::Value, unlisted: Unlisted, way_out: WayOut) -> bool {
    let has = |refused, denial| {
        let why = Why::Descriptors { refused, denial, unlisted: Some(unlisted) };
        product::has_gap(document, Missing::Owners { known: 0, of: 5 }, why, way_out)
    };
    // Tests beside this one may run processes of the same user that may not be read.
    (0..10).any(|refused| has(refused, Denial::Forbidden) || has(refused, Denial::NotRoot))
}

/// Where the processes of others are not even listed (`hidepid=2`), a socket without a holder is somebody's, not the
/// kernel's.
#[test]
fn hidden_processes_are_a_gap() {
    in_netns(|ns| {
        if !product::can_be_another_user() {
            return skip("only root can mount /proc and become another user");
        }
        let mut helper = Helper::start(ns);
        helper.make("established 7000 2");
        let (mut run, _binary) = product::by_descriptor(ns, &["list", "--json"]);
        hide_processes(&mut run);
        let output = finish(netns::as_user(&mut run, 65534));
        let document = product::document(&output);
        assert_eq!((output.status.code(), document["total"].as_u64()), (Some(0), Some(5)));
        let seen = product::sockets(&document);
        assert!(seen.iter().all(|s| s.status == "no_permission"), "{seen:?}");
        assert!(knows_no_owner(&document, Unlisted::Hidden, WayOut::READ_DESCRIPTORS), "{}", document["gaps"]);
    });
}

/// In a PID namespace of its own, and a network namespace that is not its own alone (a container with the host's network),
/// nobody can tell whether a socket without a holder is the kernel's.
#[test]
fn processes_outside_of_the_pid_namespace_are_a_gap() {
    in_netns(|ns| {
        if !netns::is_real_root() {
            return skip("only root can mount /proc");
        }
        let mut helper = Helper::start(ns);
        helper.make("established 7000 2");
        for words in [&["list", "--json"][..], &["list", "--json", "--owners-via", "proc"], &["summary", "--json"]] {
            let mut run = ns.command("unshare");
            run.args(["--pid", "--fork", "--mount-proc"]).arg(env!("CARGO_BIN_EXE_tcpstate")).args(words);
            let document = product::document(&product::quiet(&mut run));
            let gap = knows_no_owner(&document, Unlisted::PidNamespace, WayOut::HostProc);
            assert!(gap, "{words:?}: {}", document["gaps"]);
            if words[0] == "list" {
                let seen = product::sockets(&document);
                assert!(seen.iter().all(|s| s.status == "other_pidns"), "{seen:?}");
            }
        }
    });
}

/// Without a proc file system there are still sockets, counted and listed.
#[test]
fn without_proc_there_are_sockets_and_a_gap() {
    in_netns(|ns| {
        if !netns::is_real_root() {
            return skip("only root can mount over /proc");
        }
        let mut helper = Helper::start(ns);
        helper.make("established 7000 2");
        for words in [&["list", "--json"][..], &["summary", "--json"], &["doctor", "--once", "--json"]] {
            let mut run = product::with(ns, words);
            cover_proc(&mut run);
            let document = product::document(&finish(&mut run));
            assert_eq!(document["source"], "netlink", "{words:?}");
            let gap = knows_no_owner(&document, Unlisted::NoProc, WayOut::MountProc);
            assert!(gap, "{words:?}: {}", document["gaps"]);
            if words[0] != "doctor" {
                assert_eq!(document["total"].as_u64(), Some(5), "{words:?}");
            }
        }
    });
}

/// Lays an empty file system over /proc.
pub fn cover_proc(command: &mut Command) -> &mut Command {
    // SAFETY: raw system calls on constants between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            let failed = libc::unshare(libc::CLONE_NEWNS) != 0
                || libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()) != 0
                || libc::mount(c"none".as_ptr(), c"/proc".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()) != 0;
            if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        })
    }
}

/// Gives the command a /proc that lists no process of another user.
fn hide_processes(command: &mut Command) -> &mut Command {
    // SAFETY: raw system calls on constants between fork and exec, while still root.
    unsafe {
        command.pre_exec(|| {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            let failed = libc::unshare(libc::CLONE_NEWNS) != 0
                || libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()) != 0
                || libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), 0, c"hidepid=2".as_ptr().cast())
                    != 0;
            if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        })
    }
}

/// A process found in the first look and again in the second is one process.
#[test]
fn a_second_look_does_not_make_a_second_process() {
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        helper.make("listen 7000 5");
        ns.run(|| {
            let mut live = Live::open(SourceChoice::Netlink, ProcRoot::default()).expect("a source");
            let mut table = live.owners(None).expect("owners");
            let late = tcpstate::model::Inode::new(helper.make("listen 7001 5").remove(0).inode.unwrap());
            assert!(table.holders(late).is_empty());
            live.settle(&mut table, &late.into_iter().collect()).expect("a second look");
            let holders = table.holders(late);
            assert_eq!(holders.len(), 1);
            assert_eq!(table.process(&holders[0]).pid, helper.pid());
            let times = table.processes.iter().filter(|p| p.pid == helper.pid()).count();
            assert_eq!(times, 1, "one process, listed {times} times");
        });
    });
}

/// A binary with the capabilities for BPF and without that for /proc, as the documentation of `trace` advises.
#[test]
fn where_proc_is_refused_and_bpf_is_permitted_owners_come_from_bpf() {
    in_netns(|ns| {
        if !netns::is_real_root() || bpf().is_err() || !installed("setpriv") {
            return skip("no BPF here, or no setpriv");
        }
        let (mut helper, _, _) = start(ns, 1);
        helper.make("listen 8800 8");
        let listed = |capabilities: &[&str]| {
            let mut command = ns.command("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(capabilities);
            let output = finish(command.arg(env!("CARGO_BIN_EXE_tcpstate")).args(["list", "-l", "--json"]));
            let text: String = String::from_utf8_lossy(&output.stdout).split_whitespace().collect();
            assert!(text.contains("8800"), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
            text.contains(&format!("\"pid\":{}", helper.pid()))
        };
        assert!(!listed(&[]), "nobody may not read the helper");
        assert!(listed(&["--inh-caps=+bpf,+perfmon", "--ambient-caps=+bpf,+perfmon"]));
    });
}
