//! The programs of `examples/`, built and run in a namespace of their own. Input: sockets in known states. Output: what
//! each program prints of them. Not here: what the library decides; other tests have that.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::harness::helper::Helper;
use crate::harness::sock::Sock;
use crate::harness::{Netns, finish, in_netns};
use crate::tidy::root;

/// The folder of the built programs, beside the product. Cargo has the library already, and builds them once for all tests.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_tcpstate")).parent().expect("a folder");
        let profile = match folder.file_name().and_then(|name| name.to_str()).expect("a profile") {
            "debug" => "dev",
            other => other,
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = Command::new(cargo)
            .current_dir(root())
            .args(["build", "--examples", "--locked", "--offline", "--quiet", "--profile", profile, "--target-dir"])
            .arg(folder.parent().expect("a folder"))
            .output()
            .expect("start cargo");
        assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
        folder.join("examples")
    })
}

/// What the program prints, in the namespace.
fn lines(ns: &Netns, program: &str, words: &[&str]) -> Vec<String> {
    let output = finish(ns.command(built().join(program)).args(words));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

#[test]
fn count_states_counts_by_state_and_process() {
    in_netns(|ns| {
        let mut server = Helper::start(ns);
        let listener = server.make("listen 7700 128").remove(0);
        let mut client = Helper::start(ns);
        client.connect(listener.local, 5);
        server.accept(&listener, 3);
        let of = |helper: &Helper| {
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", helper.pid())).expect("its name");
            format!("{} ({})", comm.trim_end(), helper.pid())
        };
        let mut expected = vec![
            format!("1\tlisten\t{}", of(&server)),
            format!("3\testablished\t{}", of(&server)),
            format!("5\testablished\t{}", of(&client)),
            "2\testablished\t(not accepted)".to_owned(),
        ];
        let mut seen = lines(ns, "count_states", &[]);
        expected.sort();
        seen.sort();
        assert_eq!(seen, expected);
        let filtered = lines(ns, "count_states", &["dport", "=", ":7700"]);
        assert_eq!(filtered, [format!("5\testablished\t{}", of(&client))]);
        let wrong = finish(ns.command(built().join("count_states")).arg("nonsense = 1"));
        assert!(!wrong.status.success() && wrong.stdout.is_empty(), "{wrong:?}");
    });
}

#[test]
fn close_wait_leaks_names_the_process_with_dead_descriptors() {
    in_netns(|ns| {
        let mut server = Helper::start(ns);
        let listener = server.make("listen 7710 128").remove(0);
        let quiet = lines(ns, "close_wait_leaks", &[]);
        assert!(quiet.iter().all(|line| !line.contains("closed-socket-fd-leak")), "{quiet:?}");
        let clients: Vec<Sock> = (0..7).map(|_| Sock::connected(listener.local, None)).collect();
        server.accept(&listener, 7);
        // Reset: the server's descriptors are of connections that no table has any more.
        drop(clients);
        let seen = lines(ns, "close_wait_leaks", &[]);
        let found = seen.iter().position(|line| line.split('\t').nth(1) == Some("closed-socket-fd-leak"));
        let found = found.unwrap_or_else(|| panic!("no finding: {seen:?}"));
        assert!(seen[found + 1].contains(&format!("({})", server.pid())), "{seen:?}");
        assert!(seen[found + 2].starts_with("\t- "), "{seen:?}");
    });
}

#[test]
fn follow_changes_prints_each_change_and_its_process() {
    in_netns(|ns| {
        let listener = Sock::listening(([127, 0, 0, 1], 7720).into(), 64);
        let to = listener.local();
        // Built before the connections begin.
        built();
        let seen = std::thread::scope(|scope| {
            let follow = scope.spawn(|| lines(ns, "follow_changes", &[]));
            let mut held = Vec::new();
            while !follow.is_finished() {
                held.push(ns.run(|| Sock::connected(to, None)));
                std::thread::sleep(Duration::from_millis(250));
            }
            follow.join().expect("the program")
        });
        let via = seen[0].strip_prefix("from ").expect("the source").to_owned();
        let opened = seen.iter().filter(|line| line.contains(" > 127.0.0.1:7720\t") && line.contains("> established"));
        assert!(opened.count() >= 3, "{seen:?}");
        // Samples do not name the process behind a change; the kernel's own report does.
        if via != tcpstate::model::transition::Via::Poll.name() {
            let connects = format!("({})", std::process::id());
            let by_us = seen.iter().any(|line| line.contains("close > syn_sent") && line.ends_with(&connects));
            assert!(by_us, "no line ends with {connects}: {seen:?}");
        }
        assert!(seen.last().is_some_and(|line| line.starts_with("lost ")), "{seen:?}");
    });
}
