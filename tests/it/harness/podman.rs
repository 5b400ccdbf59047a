//! Real containers. Comes in: options of `podman run`. Goes out: containers with their own storage, networks and state below a
//! folder of the test, in the test's network namespace. Never here: an image from a registry (one is imported that has
//! links into the host's `/usr`), or a container that outlives the test.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{Netns, finish, netns};

/// Podman with a storage of its own, which ends with the test.
pub struct Podman<'n> {
    ns: &'n Netns,
    folder: tempfile::TempDir,
}

/// The image.
pub const IMAGE: &str = "tcpstate-test:1";
/// The bridge network.
pub const NETWORK: &str = "bridge0";
/// What containers do: `KIND ARGUMENT...`.
const PROGRAM: &str = "
import socket, sys, threading, time
def listener(port, backlog=64):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('0.0.0.0', port))
    s.listen(backlog)
    return s
kept = []
def stay():
    while True:
        time.sleep(3600)
def serve(c):
    while True:
        data = c.recv(4096)
        if not data:
            break
        c.sendall(data)
# Answers every byte with itself.
def echo(port):
    s = listener(port)
    while True:
        threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
# Answers, reads to the end and never closes.
def leak(port):
    s = listener(port)
    while True:
        kept.append(s.accept()[0])
        threading.Thread(target=serve, args=(kept[-1],), daemon=True).start()
# Never accepts.
def stall(port):
    kept.append(listener(port, 16))
    stay()
# Accepts and never reads.
def mute(port):
    s = listener(port)
    while True:
        kept.append(s.accept()[0])
def hold(to, port, n):
    for _ in range(n):
        kept.append(socket.create_connection((to, port)))
    stay()
def close(to, port, n):
    for c in [socket.create_connection((to, port)) for _ in range(n)]:
        c.sendall(b'x')
        c.recv(1)
        c.close()
    stay()
def fill(to, port, n):
    for _ in range(n):
        c = socket.create_connection((to, port))
        c.setblocking(False)
        try:
            while True:
                c.send(b'x' * 65536)
        except BlockingIOError:
            pass
        kept.append(c)
    stay()
def dial(to, port, n):
    for _ in range(n):
        c = socket.socket()
        c.setblocking(False)
        c.connect_ex((to, port))
        kept.append(c)
    stay()
# A server and its client with the same ports wherever it runs, and a word on it each 100 ms.
def pair(port, source):
    s = listener(port)
    c = socket.create_connection(('127.0.0.1', port), source_address=('127.0.0.1', source))
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
    while True:
        c.sendall(b'x')
        c.recv(1)
        time.sleep(0.1)
# Comes, answers for a while and ends.
def brief(port, ms):
    threading.Thread(target=echo, args=(port,), daemon=True).start()
    time.sleep(ms / 1000)
kind, *words = sys.argv[1:]
globals()[kind](*[int(w) if w.isdigit() else w for w in words])
";

/// The image: an empty tree with links into `/usr`, as a tar archive.
pub fn image(folder: &Path) -> PathBuf {
    let image = folder.join("image");
    for name in ["usr", "etc", "tmp", "target", "program", "hostproc"] {
        fs::create_dir_all(image.join(name)).expect("make a folder");
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{link}"), image.join(link)).expect("make a link");
    }
    fs::create_dir_all(folder.join("program")).expect("make a folder");
    fs::write(folder.join("program").join("main.py"), PROGRAM).expect("write a file");
    let tar = folder.join("image.tar");
    let packed = finish(Command::new("tar").arg("-C").arg(&image).arg("-cf").arg(&tar).arg("."));
    assert!(packed.status.success(), "{packed:?}");
    tar
}

/// Options with which the programs of this host are there, read only, and the program under test as `/target/tcpstate`.
pub fn mounts(folder: &Path) -> Vec<String> {
    let product = Path::new(env!("CARGO_BIN_EXE_tcpstate")).parent().expect("a folder").display();
    let program = folder.join("program");
    let volumes =
        ["/usr:/usr:ro".into(), format!("{product}:/target:ro"), format!("{}:/program:ro", program.display())];
    volumes.into_iter().flat_map(|volume| ["-v".to_owned(), volume]).collect()
}

/// The command of a container that does this.
pub fn does<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["/usr/bin/python3", "/program/main.py"], words].concat()
}

/// What a runtime printed, or why it did not.
pub fn outcome(command: &mut Command, args: &[&str]) -> Result<String, String> {
    let output = finish(command);
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", args.join(" "), errors.trim().replace('\n', "; ")))
}

impl<'n> Podman<'n> {
    /// Podman with an image and a bridge network.
    ///
    /// # Errors
    /// Why it cannot run here.
    pub fn new(ns: &'n Netns) -> Result<Podman<'n>, String> {
        if !netns::is_real_root() {
            return Err("only root runs containers with networks".into());
        }
        for program in ["podman", "runc"] {
            let found = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
            if !found {
                return Err(format!("{program} is not installed"));
            }
        }
        let podman = Podman { ns, folder: tempfile::tempdir().expect("a folder") };
        // Raising a limit takes CAP_SYS_RESOURCE, which a container of a CI service lacks.
        let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n";
        fs::write(podman.path("containers.conf"), limits).expect("write a file");
        let tar = image(podman.folder.path());
        podman.try_run(&["import", &tar.display().to_string(), IMAGE])?;
        podman.try_run(&["network", "create", "--disable-dns", NETWORK])?;
        Ok(podman)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Podman with these words.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.ns.command("podman");
        let folders = [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp"), ("--network-config-dir", "net")];
        for (option, folder) in folders {
            command.arg(option).arg(self.path(folder));
        }
        command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command.env("CONTAINERS_CONF", self.path("containers.conf")).args(args);
        command
    }

    fn try_run(&self, args: &[&str]) -> Result<String, String> {
        outcome(&mut self.command(args), args)
    }

    /// What podman prints.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        self.try_run(args).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Makes a pod in the bridge network.
    #[track_caller]
    pub fn pod(&self, options: &[&str]) -> String {
        let mounts = mounts(self.folder.path());
        let mut args =
            vec!["pod", "create", "--infra=true", "--infra-image", IMAGE, "--infra-command", "/usr/bin/sleep 600"];
        args.extend(["--network", NETWORK]);
        args.extend(mounts.iter().map(String::as_str));
        args.extend(options);
        self.run(&args)
    }

    /// Starts a container that echoes on port 80.
    ///
    /// # Errors
    /// What podman says.
    pub fn echo(&self, options: &[&str]) -> Result<String, String> {
        self.start(options, &["echo", "80"])
    }

    /// Starts a container that does this.
    ///
    /// # Errors
    /// What podman says.
    pub fn start(&self, options: &[&str], words: &[&str]) -> Result<String, String> {
        let mounts = mounts(self.folder.path());
        let mut args = vec!["run", "-d"];
        if !options.contains(&"--pod") {
            // Members have the mounts of their pod.
            args.extend(mounts.iter().map(String::as_str));
        }
        args.extend(options);
        args.push(IMAGE);
        args.extend(does(words));
        self.try_run(&args)
    }

    /// Its address in the bridge network.
    #[track_caller]
    pub fn address(&self, container: &str) -> String {
        self.run(&[
            "inspect",
            "-f",
            &format!("{{{{(index .NetworkSettings.Networks \"{NETWORK}\").IPAddress}}}}"),
            container,
        ])
    }

    /// Its first process, as the host sees it.
    #[track_caller]
    pub fn pid(&self, container: &str) -> String {
        self.run(&["inspect", "-f", "{{.State.Pid}}", container])
    }

    /// The output of the program under test in a container of its own.
    pub fn product(&self, options: &[&str], args: &[&str]) -> Output {
        let mounts = mounts(self.folder.path());
        let mut words = vec!["run", "--rm"];
        words.extend(mounts.iter().map(String::as_str));
        words.extend(options);
        words.extend([IMAGE, "/target/tcpstate"]);
        words.extend(args);
        finish(&mut self.command(&words))
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        for args in
            [["pod", "rm", "-fa", "-t", "0"].as_slice(), &["rm", "-fa", "-t", "0"], &["network", "rm", "-f", NETWORK]]
        {
            let _ = self.try_run(args);
        }
        // The storage of podman is a mount of its own.
        let _ = Command::new("umount").arg("-l").arg(self.path("root/overlay")).output();
    }
}
