//! Names of containers and pods, and whose connections a docker-proxy carries. Comes in: a host that is nothing but files,
//! and a real process with the name and the arguments of a docker-proxy. Goes out: columns, groups and JSON. Never here: a
//! runtime, or a file outside of the test's own folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{finish, in_netns, wait_for};
use crate::product;

/// A process of a host in files: its name, its cgroup, its arguments and the sockets that it holds.
struct Process<'a> {
    pid: u32,
    comm: &'a str,
    cgroup: &'a str,
    cmdline: &'a str,
    inodes: &'a [u32],
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
    fs::write(path, text).expect("write a file");
}

fn process(root: &Path, process: &Process<'_>) {
    let pid = process.pid;
    put(root, &format!("{pid}/comm"), &format!("{}\n", process.comm));
    put(root, &format!("{pid}/cgroup"), process.cgroup);
    put(root, &format!("{pid}/cmdline"), &process.cmdline.replace(' ', "\0"));
    put(root, &format!("{pid}/stat"), &format!("{pid} ({}) S 1 1 1 0 -1 0 0 0\n", process.comm));
    let fds = root.join(format!("{pid}/fd"));
    fs::create_dir_all(&fds).expect("make a folder");
    for (fd, inode) in (3..).zip(process.inodes) {
        symlink(format!("socket:[{inode}]"), fds.join(fd.to_string())).expect("make a link");
    }
}

/// A listener of `/proc/net/tcp`.
fn listener(port: u16, inode: u32) -> String {
    format!(
        "   0: 00000000:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
    )
}

#[test]
fn a_host_in_files_shows_containers_and_pods_by_name() {
    let (web, app, pod) = ("1".repeat(64), "2".repeat(64), "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9");
    let host = tempfile::tempdir().expect("a folder");
    let root = host.path();
    let table: String = [(80, 11), (8080, 12), (9000, 13), (9001, 14)].map(|(p, i)| listener(p, i)).concat();
    put(root, "1/net/tcp", &format!("  sl  local_address rem_address   st tx_queue rx_queue tr\n{table}"));
    put(root, "1/cmdline", "init");
    put(root, "sys/fs/file-nr", "100 0 1000\n");
    let proxy = "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 \
                 -container-port 80 ";
    let (in_docker, in_pod) = (
        format!("0::/system.slice/docker-{web}.scope\n"),
        format!(
            "11:memory:/kubepods/burstable/pod{pod}/{app}\n1:name=systemd:/kubepods/burstable/pod{pod}/{app}\n0::/\n"
        ),
    );
    for one in [
        Process { pid: 100, comm: "nginx", cgroup: &in_docker, cmdline: "nginx ", inodes: &[11] },
        Process {
            pid: 200,
            comm: "docker-proxy",
            cgroup: "0::/system.slice/docker.service\n",
            cmdline: proxy,
            inodes: &[12],
        },
        Process { pid: 300, comm: "java", cgroup: &in_pod, cmdline: "java ", inodes: &[13] },
        Process { pid: 400, comm: "sshd", cgroup: "0::/system.slice/ssh.service\n", cmdline: "sshd ", inodes: &[14] },
    ] {
        process(root, &one);
    }
    put(
        root,
        &format!("1/root/var/lib/docker/containers/{web}/config.v2.json"),
        r#"{"Name":"/web-1","NetworkSettings":{"Networks":{"bridge":{"IPAddress":"172.17.0.2"}}}}"#,
    );
    put(
        root,
        &format!("1/root/run/containerd/io.containerd.runtime.v2.task/k8s.io/{app}/config.json"),
        r#"{"annotations":{"io.kubernetes.cri.container-name":"app","io.kubernetes.cri.sandbox-name":"shop-0",
            "io.kubernetes.cri.sandbox-namespace":"prod"}}"#,
    );
    in_netns(|ns| {
        let root = root.display().to_string();
        let run = |args: &[&str]| {
            let output = finish(product::with(ns, args).args(["--proc-root", &root]));
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).expect("text")
        };
        let shown = run(&[
            "list",
            "-l",
            "--format",
            "tsv",
            "-c",
            "local-port,comm,unit,container,container-id,runtime,pod,pod-uid",
        ]);
        let docker = format!("docker-{web}.scope");
        let wanted = [
            ["80", "nginx", &docker, "web-1", &web, "docker", "-", "-"],
            ["8080", "docker-proxy", "docker.service", "web-1", &web, "docker", "-", "-"],
            ["9000", "java", "-", "app", &app, "containerd", "prod/shop-0", pod],
            ["9001", "sshd", "ssh.service", "-", "-", "-", "-", "-"],
        ];
        let lines: Vec<Vec<&str>> = shown.lines().skip(1).map(|l| l.split('\t').collect()).collect();
        assert_eq!(lines, wanted, "{shown}");
        // Tables have the digits that runtimes print.
        let bare = run(&["list", "-l", "-H", "-c", "pod,container-id"]);
        assert!(bare.contains(&web) && bare.contains(&app), "{bare}");
        // Filters and groups take the names, and the proxy counts with what it serves.
        let filtered = run(&["list", "-l", "-H", "-c", "local-port", "container = web-1"]);
        assert_eq!(filtered.lines().map(str::trim).collect::<Vec<_>>(), ["80", "8080"]);
        let groups: Value = serde_json::from_str(&run(&["summary", "--json", "--by", "container"])).expect("JSON");
        let rows = groups["groups"]["by"]["rows"].as_array().expect("rows");
        let of: Vec<_> = rows.iter().map(|r| (r["container"].as_str(), r["total"].as_u64())).collect();
        assert_eq!(of, [(Some("web-1"), Some(2)), (Some("app"), Some(1)), (None, Some(1))], "{groups:#}");
        let pods: Value = serde_json::from_str(&run(&["summary", "--json", "--by", "pod"])).expect("JSON");
        assert!(pods.to_string().contains(r#""pod":"prod/shop-0""#), "{pods:#}");
        let document: Value = serde_json::from_str(&run(&["list", "-l", "--json"])).expect("JSON");
        let owner = &document["sockets"][2]["owners"][0];
        assert_eq!((&owner["container"], &owner["container_id"]), (&"app".into(), &app.as_str().into()), "{owner:#}");
        assert_eq!((&owner["pod"], &owner["pod_uid"]), (&"prod/shop-0".into(), &pod.into()), "{owner:#}");
        // Without the state of a runtime there is the id.
        fs::remove_dir_all(host.path().join("1/root")).expect("remove");
        let shown = run(&["list", "-l", "-H", "--format", "tsv", "-c", "local-port,container,runtime,pod"]);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], format!("80\t{web}\tdocker\t-"));
        assert_eq!(lines[1], "8080\t172.17.0.2:80\tdocker\t-");
        assert_eq!(lines[2], format!("9000\t{app}\t-\t{pod}"));
        let table = run(&["list", "-l", "-H", "-c", "container"]);
        let short: Vec<&str> = table.lines().map(str::trim).collect();
        assert_eq!(short, [&web[..12], "172.17.0.2:80", &app[..12], "-"]);
        let groups = run(&["summary", "--by", "container"]);
        assert!(groups.contains(&web[..12]) && !groups.contains(&web), "{groups}");
    });
}

#[test]
fn a_connection_that_the_kernel_lists_is_its_own() {
    let host = tempfile::tempdir().expect("a folder");
    let root = host.path();
    let row = |port: u16, inode: u32| {
        format!(
            "   0: 0100000A:0320 0900000A:{port:04X} 01 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
        )
    };
    let table = [row(2049, 11), row(8080, 12), row(445, 13)].concat();
    put(root, "1/net/tcp", &format!("  sl  local_address rem_address   st tx_queue rx_queue tr\n{table}"));
    put(root, "1/mounts", "nas:/export /data nfs4 rw,vers=4.2,addr=10.0.0.9 0 0\n");
    put(root, "sys/fs/file-nr", "100 0 1000\n");
    process(root, &Process { pid: 1, comm: "init", cgroup: "0::/init.scope\n", cmdline: "init ", inodes: &[] });
    in_netns(|ns| {
        let root = root.display().to_string();
        let args = ["list", "-H", "--format", "tsv", "-c", "peer-port,process,kernel-user", "--proc-root", &root];
        let shown = String::from_utf8(finish(&mut product::with(ns, &args)).stdout).expect("text");
        let lines: Vec<&str> = shown.lines().collect();
        let nas = "nas:/export is mounted at /data";
        assert_eq!(lines[0], format!("2049\t(kernel: nfs)\tnfs (97 %: no process holds it, and {nas})"));
        let other = format!("nfs (70 %: no process holds it, and {nas}, though not with this port)");
        assert_eq!(lines[1], format!("8080\t(kernel: nfs?)\t{other}"));
        assert_eq!(lines[2], "445\t(kernel: cifs?)\tcifs (50 %: no process holds it, and its port is one of cifs)");
    });
}

/// Ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_docker_proxy_tells_what_is_behind_it() {
    in_netns(|ns| {
        let folder = tempfile::tempdir().expect("a folder");
        // The kernel calls a process as the file is called by which it was started.
        let program = folder.path().join("docker-proxy");
        symlink("/bin/sh", &program).expect("make a link");
        let listener = std::net::TcpListener::bind("127.0.0.1:8080").expect("listen");
        let mut command: Command = ns.command(&program);
        command.args(["-c", "read end", "-proto", "tcp", "-host-ip", "127.0.0.1", "-host-port", "8080"]);
        command.args(["-container-ip", "192.0.2.77", "-container-port", "80"]);
        let held = Stdio::from(std::os::fd::OwnedFd::from(listener));
        let child = command.stdin(Stdio::piped()).stdout(held).spawn().expect("start it");
        let proxy = Running(child);
        wait_for("the proxy to hold the listener", || {
            let document = product::json(ns, &["list", "-l", "--json"]);
            let owners = document["sockets"][0]["owners"].as_array().cloned().unwrap_or_default();
            let owner = owners.iter().find(|o| o["pid"].as_u64() == Some(proxy.0.id().into()));
            let Some(owner) = owner.filter(|o| o["comm"] == "docker-proxy") else {
                return Err(format!("{document:#}"));
            };
            assert_eq!(owner["container"], "192.0.2.77:80", "{owner:#}");
            assert_eq!(owner["runtime"], "docker", "{owner:#}");
            Ok(())
        });
    });
}
