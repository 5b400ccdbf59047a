//! What each command can do with which rights, measured cell by cell and compared with the table of docs/rights.md. Input: the
//! program as nobody with capabilities, as root, behind a /proc that hides or lacks processes, in a user namespace. Output:
//! the table. `TCPSTATE_TESTS_WRITE=1` writes it to the page.

use std::os::unix::process::CommandExt as _;
use std::process::Output;

use rustix::thread::{CapabilitySet, CapabilitySets};
use serde_json::Value as Json;

use crate::harness::helper::Helper;
use crate::harness::{Netns, finish, in_netns, kernel_at_least, netns, skip};
use crate::product;
use crate::tidy::{read, root};

const NOBODY: u32 = 65534;

/// Around what is measured on the page.
const MARKS: (&str, &str) = ("<!-- measured by tests/it/rights.rs -->\n", "<!-- end -->\n");

const HEAD: &str = "\
| rights | `summary` `list` `doctor` `watch` `explain` | processes named | `fwmark` | other namespace | `trace` | `kill` |
| --- | --- | --- | --- | --- | --- | --- |
";

/// What stands before the program.
#[derive(Clone, Copy, PartialEq)]
enum Around {
    Nothing,
    /// /proc with `hidepid=2`.
    HidePid,
    NoProc,
    /// Nothing of the kernel's own below /sys, as in a container.
    NoSysKernel,
    /// Root of a user namespace that the user made.
    UserNamespace,
}

/// One row: as whom, and where.
struct Rights {
    name: &'static str,
    uid: u32,
    capabilities: CapabilitySet,
    around: Around,
}

const fn user(name: &'static str, capabilities: CapabilitySet) -> Rights {
    Rights { name, uid: NOBODY, capabilities, around: Around::Nothing }
}

/// The capabilities that Docker and podman leave to root of a container.
const CONTAINER: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

fn table() -> Vec<Rights> {
    use CapabilitySet as C;
    let hidden = |name, uid, capabilities| Rights { name, uid, capabilities, around: Around::HidePid };
    let root = |name, capabilities, around| Rights { name, uid: 0, capabilities, around };
    vec![
        user("any user", C::empty()),
        user("CAP_NET_ADMIN", C::NET_ADMIN),
        user("CAP_SYS_PTRACE", C::SYS_PTRACE),
        user("CAP_DAC_READ_SEARCH", C::DAC_READ_SEARCH),
        user("CAP_SYS_ADMIN", C::SYS_ADMIN),
        user("CAP_BPF", C::BPF),
        user("CAP_PERFMON", C::PERFMON),
        user("CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH", C::SYS_PTRACE | C::DAC_READ_SEARCH),
        user("CAP_BPF, CAP_PERFMON", C::BPF | C::PERFMON),
        user("CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH", C::SYS_ADMIN | C::DAC_READ_SEARCH),
        user("CAP_SYS_ADMIN, CAP_SYS_PTRACE", C::SYS_ADMIN | C::SYS_PTRACE),
        user("CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN", C::BPF | C::PERFMON | C::NET_ADMIN),
        user("all six", C::NET_ADMIN | C::SYS_PTRACE | C::DAC_READ_SEARCH | C::SYS_ADMIN | C::BPF | C::PERFMON),
        root("root", C::all(), Around::Nothing),
        root("root with the capabilities of a container", CONTAINER, Around::NoSysKernel),
        hidden("any user, `hidepid=2`", NOBODY, C::empty()),
        hidden("CAP_SYS_PTRACE, `hidepid=2`", NOBODY, C::SYS_PTRACE),
        hidden("CAP_BPF, CAP_PERFMON, `hidepid=2`", NOBODY, C::BPF | C::PERFMON),
        hidden("root, `hidepid=2`", 0, C::all()),
        root("root, no /proc", C::all(), Around::NoProc),
        Rights {
            name: "root of a user namespace",
            uid: NOBODY,
            capabilities: C::empty(),
            around: Around::UserNamespace,
        },
    ]
}

fn failed(failed: bool) -> std::io::Result<()> {
    if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// A file system of that kind, in a mount namespace that ends with the command.
fn mount_around(around: Around) -> std::io::Result<()> {
    let (kind, at, options) = match around {
        Around::HidePid => (c"proc", c"/proc", c"hidepid=2"),
        Around::NoProc => (c"tmpfs", c"/proc", c""),
        Around::NoSysKernel => (c"tmpfs", c"/sys/kernel", c""),
        Around::Nothing | Around::UserNamespace => return Ok(()),
    };
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: raw system calls on constants.
    failed(unsafe {
        libc::unshare(libc::CLONE_NEWNS) != 0
            || libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()) != 0
            || libc::mount(c"none".as_ptr(), at.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) != 0
    })
}

/// Keeps these capabilities through the change of user and through `exec`, and no other.
fn become_with(uid: u32, keep: CapabilitySet) -> std::io::Result<()> {
    if uid == 0 {
        // Root gets by `exec` what the bounding set still has.
        for bit in (0..64).map(|bit| CapabilitySet::from_bits_retain(1 << bit)).filter(|bit| !keep.contains(*bit)) {
            match rustix::thread::remove_capability_from_bounding_set(bit) {
                // Past the last capability of this kernel.
                Err(rustix::io::Errno::INVAL) => break,
                done => done?,
            }
        }
        return Ok(());
    }
    rustix::thread::set_keep_capabilities(true)?;
    netns::become_user(uid)?;
    rustix::thread::set_capabilities(None, CapabilitySets { effective: keep, permitted: keep, inheritable: keep })?;
    for bit in keep.iter() {
        rustix::thread::configure_capability_in_ambient_set(bit, true)?;
    }
    Ok(())
}

/// Makes a user namespace and becomes its root.
fn enter_user_namespace(map: &[u8]) -> std::io::Result<()> {
    use rustix::fs::{Mode, OFlags, open};
    // A process that changed its user does not own its /proc files until it is dumpable again.
    // SAFETY: a plain system call on numbers.
    failed(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) } != 0)?;
    // SAFETY: a single-threaded child between fork and exec.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER)? };
    for (path, text) in
        [(c"/proc/self/setgroups", &b"deny"[..]), (c"/proc/self/uid_map", map), (c"/proc/self/gid_map", map)]
    {
        rustix::io::write(&open(path, OFlags::WRONLY, Mode::empty())?, text)?;
    }
    Ok(())
}

/// Runs the program with these rights.
fn run(ns: &Netns, rights: &Rights, words: &[&str]) -> Output {
    // Without /proc there are no descriptors to name; only root is tried there, who may walk to the build directory.
    let (mut command, _binary) = if rights.around == Around::NoProc {
        (product::with(ns, words), None)
    } else {
        let (command, binary) = product::by_descriptor(ns, words);
        (command, Some(binary))
    };
    let (uid, capabilities, around) = (rights.uid, rights.capabilities, rights.around);
    let map = format!("0 {uid} 1");
    // SAFETY: raw system calls between fork and exec, on what was made before.
    unsafe {
        command.pre_exec(move || {
            mount_around(around)?;
            become_with(uid, capabilities)?;
            if around == Around::UserNamespace { enter_user_namespace(map.as_bytes()) } else { Ok(()) }
        });
    }
    let output = finish(&mut command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code().is_some_and(|code| code <= 2),
        "{}: {words:?}: {:?} {said}",
        rights.name,
        output.status
    );
    assert!(!said.contains("panicked"), "{}: {words:?}: {said}", rights.name);
    output
}

/// The first document of what was printed, on one line or on many.
fn first(output: &Output) -> Option<Json> {
    serde_json::Deserializer::from_slice(&output.stdout).into_iter().next()?.ok()
}

/// What the test prepared.
struct Scene {
    /// Holds a listener as root, and what `kill` may destroy.
    root: Helper,
    /// Holds a listener as nobody.
    nobody: Helper,
    elsewhere: Helper,
}

/// Whether every reading command gives every socket, or the names of those that do not.
fn reads(ns: &Netns, rights: &Rights) -> String {
    let total = |words: &[&str]| first(&run(ns, rights, words)).and_then(|document| document["total"].as_u64());
    let expected = 2;
    let mut short = Vec::new();
    for (name, words) in [
        ("`summary`", &["summary", "--json", "listen"][..]),
        ("`list`", &["list", "--json", "listen"]),
        ("`watch`", &["watch", "--json", "--count", "1", "--no-trace", "listen"]),
    ] {
        if total(words) != Some(expected) {
            short.push(name);
        }
    }
    let machine = first(&run(ns, rights, &["explain", "machine", "--json"]));
    if machine.and_then(|document| document["states"]["listen"].as_u64()) != Some(expected) {
        short.push("`explain`");
    }
    if !first(&run(ns, rights, &["doctor", "--once", "--json"])).is_some_and(|document| document["findings"].is_array())
    {
        short.push("`doctor`");
    }
    if short.is_empty() { "every socket".to_owned() } else { format!("not {}", short.join(", ")) }
}

/// Which processes `list` names, and whether it knows the mark.
fn owners(scene: &Scene, list: &Json) -> (&'static str, &'static str) {
    let rows = list["sockets"].as_array().expect("sockets");
    let named = |pid: u32| {
        let of =
            |row: &Json| row["owners"].as_array().into_iter().flatten().any(|o| o["pid"].as_u64() == Some(pid.into()));
        rows.iter().any(of)
    };
    let owners = match (named(scene.root.pid()), named(scene.nobody.pid())) {
        (true, true) => "all",
        (false, true) => "one's own",
        (false, false) => "none",
        (true, false) => "others'",
    };
    (owners, if rows.iter().all(|row| row["mark"].is_number()) { "yes" } else { "no" })
}

/// No way out is proposed that was taken already: a hint names no capabilities all of which are held.
fn hints_are_true(rights: &Rights, list: &Json) {
    const NAMES: [(&str, CapabilitySet); 6] = [
        ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
        ("CAP_SYS_PTRACE", CapabilitySet::SYS_PTRACE),
        ("CAP_DAC_READ_SEARCH", CapabilitySet::DAC_READ_SEARCH),
        ("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN),
        ("CAP_BPF", CapabilitySet::BPF),
        ("CAP_PERFMON", CapabilitySet::PERFMON),
    ];
    for gap in list["gaps"].as_array().into_iter().flatten() {
        let hint = gap["hint"].as_str().unwrap_or_default();
        let mut named = NAMES.iter().filter(|(name, _)| hint.contains(name)).peekable();
        let held = named.peek().is_some() && named.all(|(_, bit)| rights.capabilities.contains(*bit));
        assert!(!held, "{} holds what it is told to get: {gap}", rights.name);
    }
}

fn other_namespace(ns: &Netns, scene: &Scene, rights: &Rights) -> &'static str {
    let pid = scene.elsewhere.pid().to_string();
    let output = run(ns, rights, &["list", "--json", "-N", &pid, "listen"]);
    match (output.status.code(), first(&output).and_then(|document| document["total"].as_u64())) {
        (Some(0), Some(1)) => "yes",
        (Some(2), None) => "no",
        other => panic!("{}: {other:?} {}", rights.name, String::from_utf8_lossy(&output.stderr)),
    }
}

fn trace(ns: &Netns, rights: &Rights) -> String {
    let output = run(ns, rights, &["trace", "--json", "--duration", "100ms"]);
    let header =
        first(&output).unwrap_or_else(|| panic!("{}: {}", rights.name, String::from_utf8_lossy(&output.stderr)));
    format!("`{}`", header["via"].as_str().expect("a source"))
}

fn kill(ns: &Netns, scene: &mut Scene, rights: &Rights, port: u16) -> &'static str {
    scene.root.make(&format!("established {port} 1"));
    let output = run(ns, rights, &["kill", "--yes", "--json", &format!("established and sport = :{port}")]);
    let destroyed = first(&output).and_then(|document| document["destroyed"].as_u64());
    let left = ns
        .run(crate::harness::diag::dump)
        .iter()
        .any(|row| row.local.port() == port && row.state == tcpstate::model::state::State::Established);
    match (destroyed, left) {
        (Some(1), false) => "yes",
        (Some(0) | None, true) => "no",
        other => panic!("{}: {other:?} {}", rights.name, String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn the_table_of_rights_is_what_each_command_does() {
    in_netns(|ns| {
        if !netns::is_real_root() {
            return skip("only root can become another user with capabilities");
        }
        if !kernel_at_least(6, 4) || !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
            return skip("the page is of Linux 6.4 or later with BTF");
        }
        let other = Netns::new();
        let mut scene =
            Scene { root: Helper::start(ns), nobody: Helper::start_as(ns, NOBODY), elsewhere: Helper::start(&other) };
        scene.root.make("listen 7000 4");
        scene.nobody.make("listen 7001 4");
        scene.elsewhere.make("listen 7002 4");
        let mut measured = HEAD.to_owned();
        let rows = table();
        for rights in &rows {
            let list = first(&run(ns, rights, &["list", "--json", "listen"]))
                .unwrap_or_else(|| panic!("{}: no document", rights.name));
            hints_are_true(rights, &list);
            let (processes, mark) = owners(&scene, &list);
            let (reads, other, trace) = (reads(ns, rights), other_namespace(ns, &scene, rights), trace(ns, rights));
            measured += &format!("| {} | {reads} | {processes} | {mark} | {other} | {trace} |\n", rights.name);
        }
        // Afterwards, because each leaves connections behind that the rows above would count.
        let mut lines = measured.lines().map(str::to_owned).collect::<Vec<_>>();
        for ((rights, line), port) in rows.iter().zip(&mut lines[2..]).zip(7100..) {
            *line += &format!(" {} |", kill(ns, &mut scene, rights, port));
        }
        compare(&(lines.join("\n") + "\n"));
    });
}

fn compare(measured: &str) {
    let page = read("docs/rights.md");
    let (before, rest) = page.split_once(MARKS.0).expect("the first mark");
    let (written, after) = rest.split_once(MARKS.1).expect("the second mark");
    if std::env::var_os("TCPSTATE_TESTS_WRITE").is_some_and(|value| value == "1") {
        let page = format!("{before}{}{measured}{}{after}", MARKS.0, MARKS.1);
        return std::fs::write(root().join("docs/rights.md"), page).expect("write the page");
    }
    assert!(written == measured, "docs/rights.md says\n{written}\nand it is\n{measured}");
}
