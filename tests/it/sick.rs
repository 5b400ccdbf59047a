//! A host that is sick itself: no thread left, a closed `/proc/self/auxv`, files that never answer. The program must say
//! what it can, and end.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::fuse::DeadServer;
use crate::harness::helper::Helper;
use crate::harness::sock::Sock;
use crate::harness::{finish, in_netns, netns, skip};
use crate::product;

/// A system call that fails: its number, what its first argument must be for that, and how it fails.
type Refused = (libc::c_long, Option<u32>, libc::c_int);

/// What a thread is made by. Without clone3 the C library uses clone.
const THREADS: [Refused; 2] = [(libc::SYS_clone3, None, libc::ENOSYS), (libc::SYS_clone, None, libc::EAGAIN)];

/// Refuses system calls to a command and what it starts.
fn refuse<'c>(command: &'c mut Command, calls: &[Refused]) -> &'c mut Command {
    let op =
        |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: u16::try_from(code).expect("a code"), jt, jf, k };
    let load = |at| op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    let equal = |value, skip| op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, skip, value);
    let mut filter = Vec::new();
    for (call, argument, errno) in calls {
        filter
            .extend([load(0), equal(u32::try_from(*call).expect("a number"), if argument.is_some() { 3 } else { 1 })]);
        // The low half of args[0] of struct seccomp_data, on little-endian machines.
        filter.extend(argument.iter().flat_map(|value| [load(16), equal(*value, 1)]));
        filter.push(op(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | u32::try_from(*errno).expect("positive"),
        ));
    }
    filter.push(op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    // SAFETY: two system calls between fork and exec; the filter belongs to the closure, and the kernel copies it.
    unsafe {
        command.pre_exec(move || {
            let len = u16::try_from(filter.len()).unwrap_or(0);
            let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
            let failed = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0;
            if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        })
    }
}

#[test]
fn every_command_works_without_a_thread() {
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        helper.make("established 7000 2");
        for words in [
            &["summary", "--json"][..],
            &["list", "--json"],
            &["doctor", "--once", "--json"],
            &["doctor", "--interval", "1s", "--json"],
            &["watch", "--json", "--count", "1"],
            &["watch", "--json", "--count", "2", "--interval", "100ms", "--no-trace"],
        ] {
            let output = finish(refuse(&mut product::with(ns, words), &THREADS));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code().is_some_and(|code| code <= 1), "{words:?}: {:?} {said}", output.status);
            let first = output.stdout.split(|b| *b == b'\n').next().unwrap_or_default();
            assert!(!first.is_empty() && !said.contains("panicked"), "{words:?}: {said}");
        }
        let list = product::document(&finish(refuse(&mut product::with(ns, &["list", "--json"]), &THREADS)));
        assert_eq!(list["total"].as_u64(), Some(5), "{list:#}");
    });
}

/// Each network namespace is entered in a thread: without one the others are a gap, or an error where one was named.
#[test]
fn without_a_thread_another_namespace_is_a_gap_with_the_true_reason() {
    in_netns(|ns| {
        if !netns::is_real_root() {
            return skip("only root sees the namespaces of others");
        }
        let all = &mut product::with(ns, &["list", "--json", "--netns", "all"]);
        let list = product::document(&finish(refuse(all, &THREADS)));
        let gaps = list["gaps"].as_array().expect("gaps");
        let threads =
            |gap: &&serde_json::Value| gap["why"].as_str().is_some_and(|why| why.contains("cannot start a thread"));
        assert!(gaps.iter().any(|gap| threads(&gap)), "{gaps:?}");
        let named = format!("/proc/{}/ns/net", std::process::id());
        let output = finish(refuse(&mut product::with(ns, &["list", "--netns", &named]), &THREADS));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("cannot start a thread") && said.contains("pids.max"), "{said}");
    });
}

/// Before Linux 6.4 there is no `PR_GET_AUXV`, and a program with file capabilities may not open its own `auxv`.
#[test]
fn nothing_needs_the_auxiliary_vector() {
    const PR_GET_AUXV: u32 = 0x4155_5856;
    in_netns(|ns| {
        if !netns::is_real_root() {
            return skip("only root can mount over /proc");
        }
        for words in [&["list", "--json"][..], &["summary", "--json"], &["doctor", "--once", "--json"]] {
            let mut run = product::with(ns, words);
            crate::owners::cover_proc(&mut run);
            let output = finish(refuse(&mut run, &[(libc::SYS_prctl, Some(PR_GET_AUXV), libc::EINVAL)]));
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
        }
    });
}

/// The executable of a process in a finding is on a file server that is gone: opening it would never return, not even for
/// SIGKILL.
#[test]
fn an_executable_on_a_dead_file_server_holds_nobody_up() {
    in_netns(|ns| {
        if !netns::is_real_root() {
            return skip("only root can mount");
        }
        let server = match DeadServer::with(Path::new("/bin/sleep")) {
            Ok(server) => server,
            Err(why) => return skip(&why),
        };
        // A listener whose queue is full, held by a process of that program alone.
        let listener = Sock::listening(SocketAddr::from(([127, 0, 0, 1], 7000)), 1);
        let mut sleeper = ns.command(server.program());
        let fd = listener.fd();
        // SAFETY: one system call between fork and exec.
        unsafe {
            sleeper
                .arg("60")
                .pre_exec(move || if libc::dup(fd) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) })
        };
        let mut sleeper = sleeper.spawn().expect("a program on FUSE");
        let to = listener.local();
        listener.close();
        let clients: Vec<Sock> = (0..4).map(|_| Sock::connecting(to, None)).collect();
        // After 3 s in the queue one sample is enough for a finding.
        std::thread::sleep(Duration::from_millis(3500));
        server.stop();
        for words in [&["summary", "--json"][..], &["doctor", "--once", "--json"]] {
            let begun = Instant::now();
            let output = finish(&mut product::with(ns, words));
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(5), "{words:?} took {took:?}");
            let document = product::document(&output);
            // The name of the process is in what was found.
            assert!(document.to_string().contains(&format!("\"pid\":{}", sleeper.id())), "{words:?}: {document:#}");
        }
        drop((server, clients));
        sleeper.kill().expect("kill");
        sleeper.wait().expect("wait");
    });
}

/// A pipe or a device where the configuration should be is an error at once, and never waited for.
#[test]
fn a_configuration_that_is_no_file_is_an_error_and_not_waited_for() {
    in_netns(|ns| {
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join("tcpstate");
        std::fs::create_dir(&folder).expect("a folder");
        let file = folder.join("config.toml");
        let run = |words: &[&str]| finish(product::with(ns, words).env("XDG_CONFIG_HOME", home.path()));
        let pipe = || rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RUSR).expect("a pipe");
        let device = || std::os::unix::fs::symlink("/dev/zero", &file).expect("a link");
        for make in [&pipe as &dyn Fn(), &device] {
            make();
            for words in [&["doctor", "--once"][..], &["summary"], &["watch", "--json", "--count", "1"]] {
                let begun = Instant::now();
                let output = run(words);
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(begun.elapsed() < Duration::from_secs(5), "{words:?}");
                assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
                assert!(said.ends_with("tcpstate/config.toml: it is not a regular file\n"), "{said}");
            }
            std::fs::remove_file(&file).expect("remove");
        }
    });
}

/// Under sudo with the HOME of the caller: what is wrong with its file is reported, and is no reason not to run.
#[test]
fn a_broken_configuration_of_another_user_is_reported_and_ignored() {
    in_netns(|ns| {
        if !product::can_be_another_user() {
            return skip("only root can give a file away");
        }
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join("tcpstate");
        std::fs::create_dir(&folder).expect("a folder");
        let file = folder.join("config.toml");
        std::fs::write(&file, "[thresholds]\nfd-warn-percent = 2\nno-such-thing = 1\n").expect("a file");
        let run = || finish(product::with(ns, &["doctor", "--show-thresholds"]).env("XDG_CONFIG_HOME", home.path()));
        assert_eq!(run().status.code(), Some(2), "one's own");
        std::os::unix::fs::chown(&file, Some(1000), None).expect("chown");
        let output = run();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.starts_with("note: ") && said.contains("config.toml:3: ") && said.contains("ignored"), "{said}");
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!table.contains("config.toml"), "half of it is in force: {table}");
    });
}
