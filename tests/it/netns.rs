//! Many network namespaces in one view. Comes in: namespaces with overlapping addresses, empty ones, wires between two,
//! a cgroup made for the test. Goes out: nothing merged, nothing lost, each asked once, and a gap for what is closed.
//! Never here: a namespace of the host, or one with a name.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::Value;
use tcpstate::collect::netns::Wanted;
use tcpstate::collect::proc::ProcRoot;
use tcpstate::collect::{Live, Query, SourceChoice};
use tcpstate::model::gap::Why;
use tcpstate::model::{State, StateSet};

use crate::harness::cgroup::{Cgroup, hierarchies};
use crate::harness::helper::Helper;
use crate::harness::veth::{Side, VethPair};
use crate::harness::{Netns, finish, in_netns, netns, skip, wait_for};
use crate::{product, rules_close_wait};

fn path(ns: &Netns) -> String {
    ns.path().display().to_string()
}

/// `--netns` once for each.
fn flags(spaces: &[&Netns]) -> Vec<String> {
    spaces.iter().flat_map(|ns| ["--netns".to_string(), path(ns)]).collect()
}

#[track_caller]
fn json(ns: &Netns, args: &[&str], more: &[String]) -> Value {
    let output = finish(product::with(ns, args).args(more));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

fn rows(document: &Value) -> &[Value] {
    document["sockets"].as_array().expect("sockets")
}

#[track_caller]
fn text(ns: &Netns, args: &[&str], more: &[String]) -> String {
    let output = finish(product::with(ns, args).args(more));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The numbers of the line `namespaces: 8 | walks of the table: 8`.
fn planned(plan: &str) -> (u64, u64) {
    let line = plan.lines().find(|l| l.starts_with("namespaces: ")).unwrap_or_else(|| panic!("{plan}"));
    let numbers: Vec<u64> = line.split(|c: char| !c.is_ascii_digit()).filter_map(|w| w.parse().ok()).collect();
    (numbers[0], *numbers.last().expect("a number"))
}

#[test]
fn eight_namespaces_with_the_same_four_tuples_stay_apart() {
    in_netns(|outside| {
        let spaces: Vec<Netns> = (0..8).map(|_| Netns::new()).collect();
        let mut helpers: Vec<Helper> = spaces.iter().map(Helper::start).collect();
        // A listener and both ends of 100 connections, with the same ports everywhere.
        let made: Vec<_> = helpers.iter_mut().map(|h| h.make("established 7000+20000 100")).collect();
        let all: Vec<&Netns> = spaces.iter().collect();
        for wanted in [flags(&all), vec!["--netns".into(), "all".into()]] {
            let document = json(outside, &["list", "--json"], &wanted);
            let mut tuples = BTreeSet::new();
            for (ns, (helper, expected)) in spaces.iter().zip(helpers.iter().zip(&made)) {
                assert_eq!(expected.len(), 201);
                let seen: Vec<&Value> =
                    rows(&document).iter().filter(|r| r["netns"].as_u64() == Some(ns.inode())).collect();
                let mut owners: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
                let mut here = BTreeSet::new();
                for row in &seen {
                    let [owner] = &row["owners"].as_array().expect("owners")[..] else { panic!("{row}") };
                    let number = |v: &Value| v.as_u64().expect("a number");
                    owners.insert(number(&row["inode"]), (number(&owner["pid"]), number(&owner["fd"])));
                    here.insert(format!("{} {}", row["local"], row["peer"]));
                }
                let expected: BTreeMap<u64, (u64, u64)> = expected
                    .iter()
                    .map(|e| {
                        let fd = u64::try_from(e.fd.expect("held")).expect("a descriptor");
                        (e.inode.expect("held"), (u64::from(helper.pid()), fd))
                    })
                    .collect();
                assert_eq!((seen.len(), here.len()), (201, 201), "namespace {}", ns.inode());
                assert_eq!(owners, expected);
                tuples.insert(here);
            }
            assert_eq!(tuples.len(), 1, "the four-tuples are equal in all of them");
        }
        assert_eq!(planned(&text(outside, &["list", "--explain-plan"], &flags(&all))), (8, 8));
        // The same namespace by pid and by path is one.
        let twice = vec!["-N".into(), helpers[0].pid().to_string(), "-N".into(), path(&spaces[0])];
        assert_eq!(rows(&json(outside, &["list", "--json"], &twice)).len(), 201);
        assert_eq!(planned(&text(outside, &["list", "--explain-plan"], &twice)), (1, 1));
        // Groups keep them apart too, and every source counts the same.
        for source in ["netlink", "proc"] {
            let args = ["summary", "--json", "--by", "netns,local-port", "--state", "listen", "--source", source];
            let groups = json(outside, &args, &flags(&all));
            let found = groups["by"]["rows"].as_array().or(groups["groups"]["by"]["rows"].as_array());
            assert_eq!(found.unwrap_or_else(|| panic!("{groups:#}")).len(), 8, "{source}");
        }
        // An endpoint means another one in another namespace, so groups of endpoints are told apart unasked.
        let groups = json(outside, &["summary", "--json", "--top", "20"], &flags(&all));
        let listeners = groups["groups"]["listeners"].as_array().expect("listeners");
        let counted: BTreeSet<_> = listeners.iter().map(|g| (g["netns"].as_u64(), g["total"].as_u64())).collect();
        assert_eq!(counted, spaces.iter().map(|ns| (Some(ns.inode()), Some(101))).collect(), "{groups:#}");
        for by in ["listener", "destination"] {
            let args = ["watch", "--json", "--count", "1", "--no-trace", "--no-findings", "--by", by];
            let lines = text(outside, &args, &flags(&all));
            let look: Value = serde_json::from_str(lines.lines().next().expect("a look")).expect("JSON");
            let rows = look["groups"]["rows"].as_array().unwrap_or_else(|| panic!("{look:#}"));
            let ends = rows.iter().filter(|r| !r["group"].is_null());
            let shown: Vec<_> = ends.map(|r| (r["group"]["netns"].as_u64(), r["total"].as_u64())).collect();
            let each = if by == "listener" { 101 } else { 100 };
            let made: BTreeSet<_> = spaces.iter().map(|ns| (Some(ns.inode()), Some(each))).collect();
            let apart: BTreeSet<_> = shown.iter().copied().collect();
            // The largest are shown, the others are counted.
            assert!(apart.is_subset(&made) && apart.len() == shown.len(), "{by}: {look:#}");
            let groups = rows.len() as u64 + look["groups"]["other"]["groups"].as_u64().unwrap_or(0);
            assert!(apart.len() > 2 && groups == 9, "{by}: {look:#}");
        }
        let tuples = json(outside, &["summary", "--json", "--by", "four-tuple", "--top", "2000"], &flags(&all));
        let tuples = tuples["groups"]["by"]["rows"].as_array().expect("rows");
        assert!(tuples.len() == 8 * 201 && tuples.iter().all(|g| g["total"] == 1), "{}", tuples.len());
        let document = json(outside, &["list", "--json", "--source", "proc"], &flags(&all));
        assert_eq!(rows(&document).len(), 8 * 201);
    });
}

#[test]
fn two_hundred_empty_namespaces_cost_no_walk_and_the_plan_says_so() {
    let _undisturbed = netns::undisturbed();
    in_netns(|outside| {
        let spaces: Vec<Netns> = (0..200).map(|_| Netns::new()).collect();
        let mut live = Live::open(SourceChoice::Netlink, ProcRoot::default()).expect("a source");
        let wanted: Vec<Wanted> = spaces.iter().map(|ns| Wanted::One(path(ns))).collect();
        live.enter(&wanted).expect("enter");
        assert_eq!(walked(&mut live), (0, 0));
        // Nothing but descriptors of this process holds them, and they are found.
        let mut live = Live::open(SourceChoice::Netlink, ProcRoot::default()).expect("a source");
        live.enter(&[Wanted::All]).expect("enter");
        let found: Vec<u64> = live.spaces().filter_map(|s| Some(s.inode?.get())).collect();
        let distinct: BTreeSet<u64> = found.iter().copied().collect();
        assert_eq!(distinct.len(), found.len(), "each once");
        // On a host with very many open files descriptors are not searched, and that is said.
        let gaps = live.gaps(&Query::states(StateSet::ALL));
        let unsearched = gaps.iter().any(|gap| matches!(gap.why, Why::TooManyOpenFiles { .. }));
        assert!(unsearched || spaces.iter().all(|ns| distinct.contains(&ns.inode())), "{gaps:?}");
        assert_eq!(found[0], outside.inode(), "our own comes first");
        let plan = text(outside, &["list", "--explain-plan"], &flags(&spaces.iter().collect::<Vec<_>>()));
        assert_eq!(planned(&plan), (200, 0), "{plan}");
        assert!(plan.contains("namespaces: 200, 200 without a socket, skipped"), "{plan}");
    });
}

/// How many sockets a source shows, and how many walks that took.
fn walked(live: &mut Live) -> (u64, u64) {
    let (before, mut seen) = (live.dumps(), 0);
    live.sockets(&Query::states(StateSet::ALL), &mut Vec::new(), &mut |_| {
        seen += 1;
        ControlFlow::Continue(())
    })
    .expect("dump");
    (seen, live.dumps() - before)
}

#[test]
fn a_namespace_is_only_left_out_when_it_is_certainly_empty() {
    let _undisturbed = netns::undisturbed();
    in_netns(|_| {
        let other = Netns::new();
        let mut live = Live::open(SourceChoice::Netlink, ProcRoot::default()).expect("a source");
        live.enter(&[Wanted::One(path(&other))]).expect("enter");
        assert_eq!(walked(&mut live), (0, 0));
        // A socket that is in no table of connections, and not counted as in use by TCP.
        let bound = other.run(|| {
            let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
                .expect("a socket");
            rustix::net::bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], 7000))).expect("bind");
            socket
        });
        let lists_bound = crate::harness::kernel_at_least(6, 8);
        assert_eq!(walked(&mut live), (u64::from(lists_bound), 1));
        drop(bound);
        // The kernel frees sockets a little later, the one by which we asked too.
        wait_for("nothing to be left", || match walked(&mut live) {
            (0, 0) => Ok(()),
            seen => Err(format!("{seen:?}")),
        });
        // A listener, and what remains of a connection when everybody has left.
        let mut helper = Helper::start(&other);
        helper.make("listen 7000 4");
        assert_eq!(walked(&mut live), (1, 1));
        helper.make("time_wait 7001 3 client");
        helper.kill();
        wait_for("the remains alone", || match walked(&mut live) {
            (3, 1) => Ok(()),
            seen => Err(format!("{seen:?}")),
        });
    });
}

#[test]
fn the_doctor_names_process_and_unit_in_a_namespace_that_it_is_not_in() {
    let roots = hierarchies();
    if roots.is_empty() || !netns::is_real_root() {
        return skip("only root makes cgroups, and there must be some");
    }
    for (i, root) in roots.iter().enumerate() {
        in_netns(|outside| {
            let inside = Netns::new();
            // Sockets know their cgroup since they were made, so the helpers move first. They end before their cgroups.
            let mut units = Vec::new();
            let mut helpers = Vec::new();
            for what in ["tw", "queue", "leak"] {
                let unit = format!("tcpstate-test-{}-{i}-{what}.service", std::process::id());
                let cgroup = match Cgroup::new(root, &unit) {
                    Ok(cgroup) => cgroup,
                    Err(why) => return skip(&why),
                };
                let helper = Helper::start(&inside);
                cgroup.take(&helper);
                helpers.push(helper);
                units.push((unit, cgroup));
            }
            helpers[0].make("time_wait 7000 150 server");
            helpers[1].make("accept_queue_full 7100 4 3");
            helpers[2].make("close_wait 7200 40 eof_read closed");
            let rules = "time-wait-server-churn,accept-queue-overflow";
            let wanted = flags(&[&inside]);
            let whose = |finding: &Value, rule: &str, at: usize| {
                let subject = &finding["subject"];
                assert_eq!(finding["rule"], rule, "{finding:#}");
                assert_eq!(subject["pid"].as_u64(), Some(helpers[at].pid().into()), "{finding:#}");
                assert_eq!(subject["unit"], units[at].0.as_str(), "{finding:#}");
                assert_eq!(subject["netns"].as_u64(), Some(inside.inode()), "{finding:#}");
            };
            wait_for("the queue and the remains", || {
                let report = json(outside, &["doctor", "--json", "--interval", "1s", "--rule", rules], &wanted);
                let findings = report["findings"].as_array().expect("findings");
                let find = |rule| findings.iter().find(|f| f["rule"] == rule).ok_or_else(|| format!("{report:#}"));
                whose(find("time-wait-server-churn")?, "time-wait-server-churn", 0);
                whose(find("accept-queue-overflow")?, "accept-queue-overflow", 1);
                Ok(())
            });
            // A leak counts from 60 s on.
            let mut live = Live::open(SourceChoice::Netlink, ProcRoot::default()).expect("a source");
            live.cgroups = true;
            live.enter(&[Wanted::One(path(&inside))]).expect("enter");
            let mut now = live.snapshot(true).expect("a snapshot");
            for socket in now.sockets.iter_mut().filter(|s| s.state == State::CloseWait) {
                rules_close_wait::age(socket, Duration::from_secs(120));
            }
            let leak = rules_close_wait::judge(&live, &mut now, None, &["close-wait-leak"]);
            let [finding] = &leak.findings[..] else { panic!("{leak:#?}") };
            whose(&tcpstate::render::json::finding(finding), "close-wait-leak", 2);
            // In words it is there too.
            let args = ["doctor", "--once", "--rule", "time-wait-server-churn"];
            let output = finish(product::with(outside, &args).args(&wanted));
            let shown = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(shown.contains(&format!("unit {}", units[0].0)), "{shown}");
            // And watch, which groups by what it is told, agrees.
            let args = ["watch", "--json", "--count", "1", "--state", "listen", "--by", "unit"];
            let watched = text(outside, &args, &wanted);
            assert!(units.iter().all(|(unit, _)| watched.contains(unit.as_str())), "{watched}");
            helpers.into_iter().for_each(Helper::kill);
        });
    }
}

#[test]
fn the_doctor_finds_the_queue_of_another_namespace_and_its_process() {
    in_netns(|outside| {
        let inside = Netns::new();
        let (mut full, mut left) = (Helper::start(&inside), Helper::start(&inside));
        full.make("accept_queue_full 7000 4 3");
        left.make("close_wait 7100 5 not_accepted closed");
        let rules = "accept-queue-overflow,close-wait-unaccepted";
        let wanted = flags(&[outside, &inside]);
        wait_for("both findings", || {
            let report = json(outside, &["doctor", "--json", "--interval", "1s", "--rule", rules], &wanted);
            let findings = report["findings"].as_array().expect("findings");
            for (rule, helper) in [("accept-queue-overflow", &full), ("close-wait-unaccepted", &left)] {
                let found = findings.iter().find(|f| f["rule"] == rule).ok_or_else(|| format!("{report:#}"))?;
                assert_eq!(found["subject"]["pid"].as_u64(), Some(helper.pid().into()), "{found:#}");
                assert_eq!(found["subject"]["netns"].as_u64(), Some(inside.inode()), "{found:#}");
                // What to run next looks where its sockets are.
                let there = format!("--netns {} ", inside.inode());
                assert!(found["next"].as_str().is_some_and(|next| next.contains(&there)), "{found:#}");
            }
            Ok(())
        });
        let output = finish(product::with(outside, &["doctor", "--interval", "1s", "--rule", rules]).args(&wanted));
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(shown.contains(&format!("net:[{}]", inside.inode())), "{shown}");
        // Without the flag it is not ours to see.
        let own = json(outside, &["doctor", "--json", "--once"], &[]);
        assert_eq!(own["findings"].as_array().map(Vec::len), Some(0), "{own:#}");
    });
}

#[test]
fn the_two_ends_of_a_wire_are_one_connection() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(why) => return skip(&why),
        };
        let (mut server, mut client) = (Helper::start(&wire.far), Helper::start(wire.near));
        let listener = server.make("listen 7000/mapped 64");
        let clients = client.connect(Side::Far.at(7000), 12);
        server.accept(&listener[0], 12);
        for row in &clients {
            client.close(row);
        }
        let args = ["doctor", "--json", "--once", "--rule", "fin-wait2-orphan-pileup"];
        let found = |wanted: &[String]| {
            wait_for("the orphans to be old enough", || {
                let report = json(ns, &args, wanted);
                let findings = report["findings"].as_array().expect("findings");
                findings.first().cloned().ok_or_else(|| format!("{report:#}"))
            })
        };
        let both = found(&flags(&[wire.near, &wire.far]));
        assert_eq!(both["subject"]["pid"].as_u64(), Some(server.pid().into()), "{both:#}");
        assert_eq!(both["subject"]["netns"].as_u64(), Some(wire.far.inode()), "{both:#}");
        let one = found(&[]);
        assert_ne!(one["subject"]["pid"].as_u64(), Some(server.pid().into()), "{one:#}");
    });
}

#[test]
fn a_cgroup_names_its_path_and_unit_also_of_what_nobody_accepted() {
    in_netns(|ns| {
        if !netns::is_real_root() {
            return skip("only root makes cgroups and opens them by their id");
        }
        let name = format!("tcpstate-test-{}.service", std::process::id());
        let cgroup = match Cgroup::version_two(&name) {
            Ok(cgroup) => cgroup,
            Err(why) => return skip(&why),
        };
        let mut helper = Helper::start(ns);
        cgroup.take(&helper);
        helper.make("accept_queue_full 7000 4 0");
        let shown = text(ns, &["list", "--format", "tsv", "-c", "state,cgroup,unit,owner-status"], &[]);
        let lines: Vec<&str> = shown.lines().skip(1).collect();
        assert_eq!(lines.len(), 11, "{shown}");
        for line in &lines {
            assert!(line.contains(&format!("\t/{name}\t{name}\t")), "{shown}");
        }
        let waiting = lines.iter().filter(|l| l.ends_with("\tnot_accepted")).count();
        assert_eq!(waiting, 5, "{shown}");
        let document = json(ns, &["list", "--json", "--listening"], &[]);
        assert_eq!(rows(&document)[0]["owners"][0]["unit"], name.as_str());
        let groups = json(ns, &["summary", "--json", "--by", "unit", "--state", "listen"], &[]);
        assert!(groups.to_string().contains(&name), "{groups:#}");
        // Connections that nobody accepted are counted with the unit too: 5 of them, 5 clients and the listener.
        let groups = json(ns, &["summary", "--json", "--by", "unit"], &[]);
        let of_unit = groups["groups"]["by"]["rows"].as_array().expect("rows");
        assert_eq!((of_unit.len(), of_unit[0]["total"].as_u64()), (1, Some(11)), "{groups:#}");
        helper.kill();
    });
}

#[test]
fn another_user_sees_their_own_namespace_and_a_gap_for_what_is_closed() {
    in_netns(|ns| {
        if !product::can_be_another_user() {
            return skip("only root can be another user");
        }
        let other = Netns::new();
        let mut own = Helper::start_as(ns, 65534);
        own.make("listen 7000 4");
        let mut elsewhere = Helper::start_as(&other, 65534);
        elsewhere.make("listen 7001 4");
        let (mut run, _binary) = product::with_user(ns, 65534, &["list", "--json", "--netns", "all"]);
        let output = finish(&mut run);
        assert!(output.status.success(), "{output:?}");
        let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let ports: Vec<u64> = rows(&document).iter().filter_map(|r| r["local"]["port"].as_u64()).collect();
        assert_eq!(ports, [7000], "{document:#}");
        let (gaps, missing) = (document["gaps"].to_string(), product::missing(&document));
        assert!(missing.contains(&"closed_netns") && missing.contains(&"process_netns"), "{gaps}");
        // The first five are listed. The host and parallel tests may have more, so then only their number is known.
        let refused = document["gaps"].as_array().expect("gaps").iter().find(|gap| gap["missing"] == "closed_netns");
        let what = refused.expect("found above")["what"].as_str().expect("a text");
        let count: usize = what.split(' ').find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{what}"));
        assert!(count > 5 || what.contains(&format!("net:[{}]", other.inode())), "{what}");
        // One that was asked for by name and is closed is an error, not an empty answer.
        let pid = elsewhere.pid().to_string();
        let (mut run, _binary) = product::with_user(ns, 65534, &["list", "-N", &pid]);
        let output = finish(&mut run);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
        assert!(said.contains("cannot enter the network namespace") && said.contains("CAP_SYS_ADMIN"), "{said}");
    });
}

/// Root of a user namespace: the capabilities there do not reach what other user namespaces own.
#[test]
fn root_of_a_user_namespace_sees_its_own_network_namespace_and_a_gap_for_the_rest() {
    in_netns(|ns| {
        let other = Netns::new();
        let (mut here, mut elsewhere) = (Helper::start(ns), Helper::start(&other));
        here.make("listen 7000 4");
        elsewhere.make("listen 7001 4");
        let mut command = product::with(ns, &["list", "--json", "--netns", "all"]);
        // SAFETY: one raw system call between fork and exec.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut command, || {
                Ok(rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER)?)
            });
        }
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| finish(&mut command)));
        let Ok(output) = run else { return skip("user namespaces are not permitted") };
        assert!(output.status.success(), "{output:?}");
        let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let ports: Vec<u64> = rows(&document).iter().filter_map(|r| r["local"]["port"].as_u64()).collect();
        assert_eq!(ports, [7000], "{document:#}");
        assert!(product::missing(&document).contains(&"process_netns"), "{document:#}");
    });
}

/// A thread may be in a namespace in which its process is not, and nothing else need hold it.
#[test]
fn a_namespace_that_only_a_thread_is_in_is_found_and_can_be_named() {
    in_netns(|outside| {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            // SAFETY: the flag names the network namespace only, and the thread ends here.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("unshare");
            let inode =
                std::os::unix::fs::MetadataExt::ino(&std::fs::metadata("/proc/thread-self/ns/net").expect("ns"));
            let bound = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
            let bound = bound.expect("a socket");
            rustix::net::bind(&bound, &std::net::SocketAddr::from(([0, 0, 0, 0], 7000))).expect("bind");
            rustix::net::listen(&bound, 4).expect("listen");
            tell.send((inode, rustix::thread::gettid().as_raw_nonzero())).expect("tell");
            // Until the test has seen it, or has failed.
            let _ = ended.recv();
            drop(bound);
        });
        let (inode, tid) = told.recv().expect("a namespace");
        let named = format!("/proc/{}/task/{tid}/ns/net", std::process::id());
        for wanted in ["all", named.as_str()] {
            let document = json(outside, &["list", "-l", "--json", "--netns", wanted], &[]);
            let seen: Vec<&Value> = rows(&document).iter().filter(|r| r["netns"].as_u64() == Some(inode)).collect();
            let [row] = &seen[..] else { panic!("{wanted}: {document:#}") };
            assert_eq!((row["local"]["port"].as_u64(), &row["owner_status"]), (Some(7000), &"known".into()), "{row:#}");
        }
        drop(end);
        thread.join().expect("the thread");
        let output = finish(&mut product::with(outside, &["list", "--netns", &named]));
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    });
}

#[test]
fn a_word_that_names_no_namespace_is_an_error() {
    in_netns(|ns| {
        for (word, why) in [
            ("no-such-name", "no namespace, container or pod is called that"),
            ("/dev/null", "not a network namespace"),
        ] {
            let output = finish(&mut product::with(ns, &["summary", "--netns", word]));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(why), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    });
}
