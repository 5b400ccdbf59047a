//! A docker daemon of a test. Comes in: a namespace of the test. Goes out: containers of that daemon, which has its data, its socket and
//! its firewall to itself. Never here: the daemon of the host, or an image from a registry.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::podman::{IMAGE, does, image, mounts, outcome};
use super::{Netns, netns, wait_for};

/// The daemon, ended with the test.
pub struct Docker<'n> {
    ns: &'n Netns,
    folder: tempfile::TempDir,
    daemon: Child,
}

impl<'n> Docker<'n> {
    /// A daemon with the image. It runs in the network namespace of the test and in a mount namespace of its own, in which
    /// `/etc/docker` says where its data is.
    ///
    /// # Errors
    /// Why it cannot run here.
    pub fn new(ns: &'n Netns, userland_proxy: bool) -> Result<Docker<'n>, String> {
        if !netns::is_real_root() {
            return Err("only root runs a docker daemon".into());
        }
        for program in ["dockerd", "docker", "containerd"] {
            let found = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
            if !found {
                return Err(format!("{program} is not installed"));
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs::create_dir(at("etc")).expect("make a folder");
        let settings = serde_json::json!({
            "data-root": at("data"),
            "exec-root": at("exec"),
            "pidfile": at("pid"),
            "hosts": [format!("unix://{}", at("socket"))],
            "storage-driver": "vfs",
            "userland-proxy": userland_proxy,
            "cgroup-parent": format!("/tcpstate-{}/docker", std::process::id()),
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
        });
        fs::write(folder.path().join("etc/daemon.json"), settings.to_string()).expect("write a file");
        let log = fs::File::create(at("log")).expect("make a file");
        let mut command = ns.command("unshare");
        // Docker makes this folder itself where there is none.
        let start = "mkdir -p /etc/docker && mount --bind \"$0\" /etc/docker && exec dockerd";
        command.args(["-m", "--propagation", "private", "sh", "-c", start]).arg(at("etc"));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("the same file")).stderr(log).process_group(0);
        let daemon = command.spawn().map_err(|e| format!("unshare: {e}"))?;
        let mut docker = Docker { ns, folder, daemon };
        wait_for("the docker daemon", || {
            if let Ok(Some(status)) = docker.daemon.try_wait() {
                let said = fs::read_to_string(docker.path("log")).unwrap_or_default();
                return Ok(Err(format!("dockerd ended ({status}): {}", said.lines().last().unwrap_or_default())));
            }
            docker.try_run(&["version"]).map(|_| Ok(()))
        })?;
        let tar = image(docker.folder.path());
        docker.try_run(&["import", &tar.display().to_string(), IMAGE])?;
        Ok(docker)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Docker with these words.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.ns.command("docker");
        command.arg("-H").arg(format!("unix://{}", self.path("socket").display())).args(args);
        command.env("HOME", self.folder.path());
        command
    }

    fn try_run(&self, args: &[&str]) -> Result<String, String> {
        outcome(&mut self.command(args), args)
    }

    /// What docker prints.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        self.try_run(args).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Starts a container that does this.
    #[track_caller]
    pub fn start(&self, options: &[&str], words: &[&str]) -> String {
        let mounts = mounts(self.folder.path());
        let mut args = vec!["run", "-d"];
        args.extend(mounts.iter().map(String::as_str));
        args.extend(options);
        args.push(IMAGE);
        args.extend(does(words));
        self.run(&args)
    }

    /// The program under test where the files of this daemon are: in its mount namespace.
    pub fn product(&self, args: &[&str]) -> Command {
        let mut command = self.ns.command("nsenter");
        command.arg("-t").arg(self.daemon.id().to_string()).args(["-m", "--"]);
        command.arg(Path::new(env!("CARGO_BIN_EXE_tcpstate"))).args(args);
        for name in ["NO_COLOR", "CLICOLOR_FORCE", "HOME", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command.env("TERM", "xterm");
        command
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        let all = self.try_run(&["ps", "-aq"]).unwrap_or_default();
        let ids: Vec<&str> = all.split_whitespace().collect();
        if !ids.is_empty() {
            let _ = self.try_run(&[&["rm", "-f"], &ids[..]].concat());
        }
        // By its number: it ends its containerd itself.
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.daemon.id()).unwrap_or(0)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while matches!(self.daemon.try_wait(), Ok(None)) && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let group = format!("tcpstate-{}", std::process::id());
            for base in [hierarchy.path(), PathBuf::from("/sys/fs/cgroup")] {
                let _ = fs::remove_dir(base.join(&group).join("docker"));
                let _ = fs::remove_dir(base.join(&group));
            }
        }
    }
}
