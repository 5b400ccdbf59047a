//! A container of a user who is not root. Comes in: podman as a user with a range of subordinate ids. Goes out: its rows with the
//! container, from the host. Never here: its network (slirp4netns needs `/dev/net/tun`, which machines of CI services do not
//! give to users, so no port is published).

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::process::Command;

use crate::harness::podman::{IMAGE, does, image, mounts, outcome};
use crate::harness::{Netns, finish, in_netns, netns, skip, wait_for};
use crate::podman::name;
use crate::product;

const USER: &str = "tcpstate-test";
const UID: u32 = 64_242;
/// The ids of the user's containers: nobody has them.
const SUBORDINATE: &str = "tcpstate-test:1700000000:65536\n";

/// Podman of that user, who exists in a mount namespace of the test alone.
struct Rootless<'n> {
    ns: &'n Netns,
    folder: tempfile::TempDir,
}

impl<'n> Rootless<'n> {
    fn new(ns: &'n Netns) -> Result<Rootless<'n>, String> {
        if !netns::is_real_root() {
            return Err("only root gives a user subordinate ids".into());
        }
        for program in ["podman", "runc", "newuidmap", "setpriv", "unshare"] {
            let found = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
                .iter()
                .any(|at| fs::metadata(format!("{at}/{program}")).is_ok());
            if !found {
                return Err(format!("{program} is not installed"));
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let passwd = fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
        let home = folder.path().display();
        fs::write(at("passwd"), format!("{passwd}{USER}:x:{UID}:{UID}::{home}:/bin/sh\n")).expect("write a file");
        let group = fs::read_to_string("/etc/group").expect("read /etc/group");
        fs::write(at("group"), format!("{group}{USER}:x:{UID}:\n")).expect("write a file");
        fs::write(at("subuid"), SUBORDINATE).expect("write a file");
        let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n";
        fs::write(at("containers.conf"), limits).expect("write a file");
        fs::create_dir(at("xdg")).expect("make a folder");
        image(folder.path());
        for path in [folder.path().to_owned(), at("xdg")] {
            chown(path, Some(UID), Some(UID)).expect("give it to the user");
        }
        let rootless = Rootless { ns, folder };
        let tar = rootless.folder.path().join("image.tar").display().to_string();
        outcome(&mut rootless.command(&["import", &tar, IMAGE]), &["import"])?;
        Ok(rootless)
    }

    /// Podman with these words, as the user.
    fn command(&self, args: &[&str]) -> Command {
        let home = self.folder.path().display();
        let mut command = self.ns.command("unshare");
        let bind = "cd \"$0\" && for f in passwd group subuid; do mount --bind $f /etc/$f || exit 1; done && \
                    mount --bind subuid /etc/subgid && exec \"$@\"";
        command.args(["-m", "--propagation", "private", "sh", "-c", bind]).arg(self.folder.path());
        command.args([
            "setpriv",
            "--reuid",
            USER,
            "--regid",
            USER,
            "--clear-groups",
            "env",
            "-i",
            "PATH=/usr/bin:/bin:/usr/sbin:/sbin",
        ]);
        command.arg(format!("HOME={home}")).arg(format!("XDG_RUNTIME_DIR={home}/xdg"));
        command.arg(format!("CONTAINERS_CONF={home}/containers.conf"));
        command.args(["podman", "--root"]).arg(self.folder.path().join("root"));
        command
            .arg("--runroot")
            .arg(self.folder.path().join("run"))
            .arg("--tmpdir")
            .arg(self.folder.path().join("tmp"));
        command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command.args(["--storage-driver", "vfs"]).args(args);
        command
    }
}

impl Drop for Rootless<'_> {
    fn drop(&mut self) {
        for args in [["rm", "-fa", "-t", "0"].as_slice(), &["system", "migrate"]] {
            let _ = outcome(&mut self.command(args), args);
        }
        // Its files belong to ids of the user's containers.
    }
}

#[test]
fn a_container_of_another_user_is_known_by_its_monitor() {
    in_netns(|ns| {
        let rootless = match Rootless::new(ns) {
            Ok(rootless) => rootless,
            Err(why) => return skip(&why),
        };
        let container = name("rootless");
        // The build directory may be closed to the user: the program is not run inside.
        let volumes = mounts(rootless.folder.path());
        let volumes: Vec<&str> =
            volumes.chunks(2).filter(|pair| !pair[1].ends_with(":/target:ro")).flatten().map(String::as_str).collect();
        let mut args = vec!["run", "-d", "--name", &container, "--network", "none"];
        args.extend(volumes);
        args.push(IMAGE);
        args.extend(does(&["pair", "7090", "47090"]));
        let id = match outcome(&mut rootless.command(&args), &args) {
            Ok(id) => id,
            Err(why) => return skip(&format!("podman does not run as a user here: {why}")),
        };
        let pid = outcome(&mut rootless.command(&["inspect", "-f", "{{.State.Pid}}", &container]), &["inspect"]);
        let pid = pid.unwrap_or_else(|why| panic!("{why}"));
        let inode = fs::metadata(format!("/proc/{pid}/ns/net")).expect("its namespace").ino().to_string();
        let columns = ["list", "-H", "--format", "tsv", "-c", "state,container,container-id,runtime"];
        let shown = wait_for("its pair", || {
            let text = product::text(ns, &[&columns[..], &["-N", &inode]].concat());
            if text.lines().count() == 3 { Ok(text) } else { Err(text) }
        });
        for line in shown.lines() {
            let cells: Vec<&str> = line.split('\t').collect();
            assert_eq!(cells[1..], [container.as_str(), &id, "podman"], "{shown}");
        }
        // It is found by its name and by its id; its user is seen as the host counts.
        for word in [container.as_str(), &id[..12]] {
            assert_eq!(product::text(ns, &[&columns[..], &["-N", word]].concat()).lines().count(), 3, "-N {word}");
        }
        let groups = product::json(ns, &["summary", "--json", "--container", &container, "--by", "container"]);
        assert_eq!(groups["groups"]["by"]["rows"][0]["total"], 3, "{groups:#}");
        let doctor = product::document(&finish(
            product::with(ns, &["doctor", "--json", "-N", &container]).args(["--interval", "500ms"]),
        ));
        assert_eq!(doctor["findings"], serde_json::json!([]), "{doctor:#}");
    });
}
