//! Real containers. Comes in: options of `podman run`. Goes out: containers with their own storage, networks and state below a
//! folder of the test, in the test's network namespace. Never here: an image from a registry (one is imported that has
//! links into the host's `/usr`), or a container that outlives the test.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
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
/// A server that answers every byte with itself.
const ECHO: &str = "
import socket, sys, threading
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('0.0.0.0', int(sys.argv[1])))
s.listen(64)
def serve(c):
    while True:
        data = c.recv(4096)
        if not data:
            break
        c.sendall(data)
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()
";

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
        let image = podman.path("image");
        for folder in ["usr", "etc", "tmp", "target", "echo", "hostproc"] {
            fs::create_dir_all(image.join(folder)).expect("make a folder");
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{link}"), image.join(link)).expect("make a link");
        }
        fs::create_dir_all(podman.path("echo")).expect("make a folder");
        fs::write(podman.path("echo").join("echo.py"), ECHO).expect("write a file");
        let tar = podman.path("image.tar");
        let packed = finish(Command::new("tar").arg("-C").arg(&image).arg("-cf").arg(&tar).arg("."));
        assert!(packed.status.success(), "{packed:?}");
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
        let output = finish(&mut self.command(args));
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!("podman {}: {}", args.join(" "), errors.trim().replace('\n', "; ")))
    }

    /// What podman prints.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        self.try_run(args).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Options with which the programs of this host are there, read only, and the program under test as `/target/tcpstate`.
    fn mounts(&self) -> Vec<String> {
        let product = std::path::Path::new(env!("CARGO_BIN_EXE_tcpstate")).parent().expect("a folder").display();
        let echo = self.path("echo");
        vec![
            "-v".into(),
            "/usr:/usr:ro".into(),
            "-v".into(),
            format!("{product}:/target:ro"),
            "-v".into(),
            format!("{}:/echo:ro", echo.display()),
        ]
    }

    /// Makes a pod in the bridge network.
    #[track_caller]
    pub fn pod(&self, options: &[&str]) -> String {
        let mounts = self.mounts();
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
        let mounts = self.mounts();
        let mut args = vec!["run", "-d"];
        if !options.contains(&"--pod") {
            // Members have the mounts of their pod.
            args.extend(mounts.iter().map(String::as_str));
        }
        args.extend(options);
        args.extend([IMAGE, "/usr/bin/python3", "/echo/echo.py", "80"]);
        self.try_run(&args)
    }

    /// The output of the program under test in a container of its own.
    pub fn product(&self, options: &[&str], args: &[&str]) -> Output {
        let mounts = self.mounts();
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
