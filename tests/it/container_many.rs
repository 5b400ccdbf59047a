//! A host with 200 containers of 50 sockets each. Comes in: namespaces and cgroups in the shape of podman's, all with equal
//! addresses and ports. Goes out: names, pods and pairs of every one, and what one look reads. Never here: a runtime.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::cgroup::{container_id, hierarchies};
use crate::harness::script::Script;
use crate::harness::{Netns, finish, in_netns, netns, oracle, skip};
use crate::product;

const CONTAINERS: usize = 200;
/// Every tenth pod has two containers in one namespace, so there are fewer namespaces.
const IN_PODS: usize = 20;
const SOCKETS: usize = 50;

/// Forks a process for each line `CGROUP NEW-NAMESPACE?` of its input. Each opens a listener and 24 connections to it, with the
/// same ports in every namespace, and a second listener; a second container of a pod has a listener of its own.
const PROGRAM: &str = "
import ctypes, fcntl, os, signal, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def up():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(s, 0x8914, struct.pack('16sH14x', b'lo', 1))
def listener(port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('0.0.0.0', port))
    s.listen(64)
    return s
for line in sys.stdin:
    folder, space, first = line.split()
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        libc.prctl(1, signal.SIGKILL)
        os.close(0)
        with open(folder + '/cgroup.procs', 'w') as f:
            f.write(str(os.getpid()))
        kept = []
        if space == 'new':
            assert libc.unshare(0x40000000) == 0
            up()
        else:
            fd = os.open('/proc/' + space + '/ns/net', os.O_RDONLY)
            assert libc.setns(fd, 0x40000000) == 0
        port = int(first)
        s = listener(port)
        kept += [s, listener(port + 1)]
        for i in range(24):
            c = socket.create_connection(('127.0.0.1', port), source_address=('127.0.0.1', 40000 + port + i))
            kept += [c, s.accept()[0]]
        os.write(w, b'x')
        signal.pause()
    os.close(w)
    assert os.read(r, 1) == b'x', 'a container ended'
    os.close(r)
    print(pid, flush=True)
";

struct Many {
    script: Option<Script>,
    folders: Vec<PathBuf>,
    all: Vec<Made>,
}

/// One container.
struct Made {
    id: String,
    pod: Option<String>,
    pid: u32,
    port: u16,
}

impl Many {
    fn start(ns: &Netns) -> Result<Many, String> {
        let roots = hierarchies();
        let root = roots.iter().find(|r| r.join("cgroup.controllers").is_file()).ok_or("no cgroup version 2 here")?;
        let script = Script::start(ns, PROGRAM, &[]).ok_or("no python3")?;
        let mut many = Many { script: Some(script), folders: Vec::new(), all: Vec::new() };
        for number in 0..CONTAINERS {
            let of = u32::try_from(number).expect("a small number");
            // The last containers share the namespaces of those before them, two in a pod.
            let mate = number.checked_sub(CONTAINERS - IN_PODS).map(|m| CONTAINERS - 2 * IN_PODS + m);
            let in_pod = number >= CONTAINERS - 2 * IN_PODS;
            let pod_of = u32::try_from(mate.unwrap_or(number)).expect("a small number");
            let id = container_id(10_000 + of);
            let pod = in_pod.then(|| container_id(20_000 + pod_of));
            let mut folder = root.clone();
            if let Some(pod) = &pod {
                folder = folder.join(pod);
                if mate.is_none() {
                    many.make(&folder)?;
                }
            }
            let folder = folder.join(format!("libpod-{id}"));
            many.make(&folder)?;
            let space = mate.map_or_else(|| "new".to_owned(), |mate| many.all[mate].pid.to_string());
            let port = if mate.is_some() { 9080 } else { 7080 };
            let script = many.script.as_mut().expect("it runs");
            script.say(&format!("{} {space} {port}", folder.display()));
            let pid = script.line().parse().expect("a process id");
            many.all.push(Made { id, pod, pid, port });
        }
        Ok(many)
    }

    fn make(&mut self, folder: &std::path::Path) -> Result<(), String> {
        std::fs::create_dir(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        self.folders.push(folder.to_owned());
        Ok(())
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        // Its children end with it.
        self.script = None;
        for made in &self.all {
            crate::harness::helper::wait_for_end(made.pid);
        }
        for folder in self.folders.iter().rev() {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// The namespaces of these containers, and no others of this host.
fn scope(many: &Many) -> Vec<String> {
    many.all.iter().flat_map(|made| ["-N".to_owned(), made.id.clone()]).collect()
}

#[test]
fn names_pods_and_pairs_of_two_hundred_containers_are_right() {
    if !netns::is_real_root() {
        return skip("only root makes cgroups");
    }
    in_netns(|ns| {
        let many = match Many::start(ns) {
            Ok(many) => many,
            Err(why) => return skip(&why),
        };
        let scope = scope(&many);
        let words = |args: &[&str]| {
            let mut command = product::with(ns, args);
            command.args(&scope);
            finish(&mut command)
        };
        let spaces = CONTAINERS - IN_PODS;
        let plan = words(&["list", "--explain-plan"]);
        let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
        assert!(plan.contains(&format!("namespaces: {spaces} | walks of the table: {spaces}")), "{plan}");
        rows_have_their_container(&many, &product::document(&words(&["list", "--json"])));
        groups_add_up(&many, &product::document(&words(&["summary", "--json", "--by", "container", "--top", "1000"])));
        // Every connection is between two sockets of one process: a pair that was mixed would be half open, or another's.
        let doctor = product::document(&words(&["doctor", "--json", "--interval", "500ms"]));
        assert_eq!(doctor["sockets"], CONTAINERS * SOCKETS);
        assert_eq!(doctor["findings"], serde_json::json!([]), "{:#}", doctor["findings"]);
        every_process_is_read_once(ns, &many, &scope);
    });
}

fn rows_have_their_container(many: &Many, document: &Value) {
    let rows = document["sockets"].as_array().expect("rows");
    assert_eq!(rows.len(), CONTAINERS * SOCKETS);
    let by_pid: BTreeMap<u64, &Made> = many.all.iter().map(|made| (u64::from(made.pid), made)).collect();
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    let mut spaces: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for row in rows {
        let [owner] = &row["owners"].as_array().expect("owners")[..] else { panic!("one owner: {row:#}") };
        let pid = owner["pid"].as_u64().expect("a pid");
        let made = by_pid.get(&pid).unwrap_or_else(|| panic!("another process: {row:#}"));
        assert_eq!(
            (&owner["container_id"], &owner["runtime"]),
            (&made.id.as_str().into(), &"podman".into()),
            "{row:#}"
        );
        assert_eq!(owner["pod_uid"].as_str(), made.pod.as_deref(), "{row:#}");
        let ports = [&row["local"]["port"], &row["peer"]["port"]].map(|p| p.as_u64().expect("a port"));
        let own = u64::from(made.port);
        assert!(ports.iter().any(|p| (own..own + 2).contains(p)), "its own port: {row:#}");
        *counts.entry(pid).or_default() += 1;
        spaces.entry(row["netns"].as_u64().expect("a namespace")).or_default().push(pid);
    }
    assert!(counts.len() == CONTAINERS && counts.values().all(|n| *n == SOCKETS), "{counts:?}");
    for pids in spaces.values_mut() {
        pids.sort_unstable();
        pids.dedup();
    }
    let shared = spaces.values().filter(|pids| pids.len() == 2).count();
    assert_eq!((spaces.len(), shared), (CONTAINERS - IN_PODS, IN_PODS));
}

fn groups_add_up(many: &Many, document: &Value) {
    let rows = document["groups"]["by"]["rows"].as_array().expect("rows");
    let of: BTreeMap<&str, u64> = rows
        .iter()
        .map(|r| (r["container"].as_str().expect("a container"), r["total"].as_u64().expect("a sum")))
        .collect();
    let wanted: BTreeMap<&str, u64> = many.all.iter().map(|made| (made.id.as_str(), SOCKETS as u64)).collect();
    assert_eq!(of, wanted);
}

/// The descriptors of each process are listed once, its cgroup is read a few times however many containers are named.
fn every_process_is_read_once(ns: &Netns, many: &Many, scope: &[String]) {
    if !oracle::installed("strace") {
        return skip("strace is not installed");
    }
    let log = tempfile::NamedTempFile::new().expect("a file");
    let mut command = ns.command("strace");
    command.args(["-f", "-qq", "-e", "trace=openat", "-o"]).arg(log.path());
    command.arg(env!("CARGO_BIN_EXE_tcpstate"));
    command.args(["list", "-H", "--owners-via", "proc", "-c", "local,process,container,pod"]).args(scope);
    let output = finish(&mut command);
    assert!(output.status.success(), "{output:?}");
    let calls = std::fs::read_to_string(log.path()).expect("read the calls");
    let paths: Vec<&str> = calls.lines().filter_map(|line| line.split('"').nth(1)).collect();
    for made in many.all.iter().step_by(17) {
        let count = |file: &str| {
            let path = format!("{}/{file}", made.pid);
            paths.iter().filter(|p| p.strip_prefix("/proc/").unwrap_or(p) == path.as_str()).count()
        };
        let (descriptors, groups) = (count("fd"), count("cgroup"));
        assert!(descriptors == 1 && groups <= 3, "{descriptors} of descriptors, {groups} of the cgroup");
    }
}
