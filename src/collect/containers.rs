//! Names of containers and pods, from what their runtimes keep on disk.
//!
//! Input: an [`Identity`] from a cgroup path. Output: the same with names, looked up again while the program runs, as a container is
//! renamed, or begins before its runtime has written its name. No daemon is asked; a container that cannot be read keeps its id.
//!
//! The files were written by a runtime, but the names in them were chosen by the user of the container: every read
//! has a limit, and no link leads out of the root.

use std::collections::HashMap;
use std::io::Read;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::Deserialize;

use crate::collect::monitors::{self, Monitor};
use crate::collect::proc::ProcRoot;
use crate::model::cgroup::{Identity, Runtime};

/// The largest file that is read: one container's settings take some ten kilobytes, a list of all a kilobyte each.
const MOST_BYTES: u64 = 4 << 20;
/// Most Docker containers and containerd namespaces scanned.
const MOST_ENTRIES: usize = 2000;
/// Where containerd keeps the bundles of running tasks: standalone, in k3s, and in the `MicroK8s` snap.
const TASKS: [&str; 3] = [
    "run/containerd/io.containerd.runtime.v2.task",
    "run/k3s/containerd/io.containerd.runtime.v2.task",
    "var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task",
];
/// Where CRI-O and Podman keep theirs, below a folder named after the storage driver.
const STORAGE: [&str; 2] = ["run/containers/storage", "var/lib/containers/storage"];
const DRIVERS: [&str; 3] = ["overlay-containers", "vfs-containers", "btrfs-containers"];

/// The state that runtimes keep on disk, read lazily and cached.
#[derive(Debug)]
pub struct Containers {
    /// The root of the file system in which runtimes keep it.
    root: String,
    known: Mutex<FxHashMap<String, Known>>,
    lists: Mutex<FxHashMap<String, List>>,
    behind: Mutex<Behind>,
    proc: ProcRoot,
    monitors: Mutex<Monitors>,
}

/// What was found of a container.
#[derive(Clone, Debug)]
struct Known {
    at: Instant,
    /// How often in a row nothing was found.
    misses: u32,
    named: Option<NamedContainer>,
}

impl Known {
    /// Whether it is too early to look again. What has no name yet has one soon, or never.
    fn holds(&self) -> bool {
        let time = if self.misses == 0 { NAMED_FOR } else { FRESH * (1 << self.misses.min(6)) };
        self.at.elapsed() < time
    }
}

/// The names in a list of containers, by id, and the state of its file when it was read: time, nanoseconds, bytes.
type List = ((i64, u64, i64), Arc<FxHashMap<String, String>>);

/// How long a name holds: a container may be renamed.
const NAMED_FOR: Duration = Duration::from_secs(10);

/// The monitors of containers that keep no state where it is looked for, as of a moment.
type Monitors = Option<(Instant, FxHashMap<String, Monitor>)>;
/// How long a walk over the processes for monitors holds.
const FRESH: Duration = Duration::from_secs(1);

/// What the state of a container contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct NamedContainer {
    runtime: Option<Runtime>,
    container: Option<String>,
    pod: Option<String>,
    pod_uid: Option<String>,
}

/// Docker containers by address, as of a moment.
#[derive(Debug, Default)]
struct Behind {
    /// Modification time of the folder of containers, before it was read.
    as_of: Option<(i64, u64)>,
    ids: HashMap<IpAddr, String>,
}

impl Containers {
    /// The state of the host behind `proc`: this one, or one whose process 1 has its root there.
    #[must_use]
    pub fn new(proc: &ProcRoot) -> Containers {
        let root = if proc.is_own() { "/".into() } else { proc.path().join("1/root").to_string_lossy().into_owned() };
        Containers {
            root,
            known: Mutex::default(),
            lists: Mutex::default(),
            behind: Mutex::default(),
            proc: proc.clone(),
            monitors: Mutex::default(),
        }
    }

    /// Adds the names to an identity.
    pub fn name(&self, identity: &mut Identity) {
        let Some(id) = &identity.container else { return };
        // LXC and nspawn have names but no ids.
        if matches!(identity.runtime, Some(Runtime::Lxc | Runtime::Nspawn) | None) {
            return;
        }
        let known = self.known.lock().ok().and_then(|known| known.get(id).cloned());
        let named = match known {
            Some(known) if known.holds() => known.named,
            before => {
                let found = self.look_up(id, identity);
                let has_name = found.as_ref().is_some_and(|named| named.container.is_some());
                let misses = if has_name { 0 } else { before.as_ref().map_or(1, |known| known.misses + 1) };
                // The files of one that has ended are gone; its name is not.
                let named = found.filter(|_| has_name || before.is_none()).or_else(|| before?.named);
                if let Ok(mut all) = self.known.lock() {
                    all.insert(id.clone(), Known { at: Instant::now(), misses, named: named.clone() });
                }
                named
            }
        };
        let Some(named) = named else { return };
        if identity.runtime == Some(Runtime::Unnamed) {
            identity.runtime = named.runtime.or(identity.runtime);
        }
        identity.container_name = named.container;
        identity.pod_name = named.pod;
        identity.pod = identity.pod.take().or(named.pod_uid);
    }

    /// Id and name of the Docker container with that address.
    pub fn behind(&self, addr: IpAddr) -> Option<(String, Option<String>)> {
        let mut behind = self.behind.lock().ok()?;
        // An address is reassigned when its container ends, so the cache is read again.
        let with_address = |id: &String| {
            let container: Docker = self.json(&[&self.docker(), "/", id, "/config.v2.json"].concat())?;
            let still_there = container.addresses().any(|a| a == addr);
            still_there.then(|| (id.clone(), container.named().container))
        };
        if let Some(found) = behind.ids.get(&addr).and_then(with_address) {
            return Some(found);
        }
        let folder = self.open(&self.docker(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let changed = rustix::fs::fstat(&folder).ok().map(|s| (s.st_mtime, s.st_mtime_nsec));
        if behind.as_of == changed {
            return None;
        }
        behind.as_of = changed;
        behind.ids.clear();
        for id in names_in(&folder) {
            let path = [&self.docker(), "/", id.as_str(), "/config.v2.json"].concat();
            let Some(container) = self.json::<Docker>(&path) else { continue };
            behind.ids.extend(container.addresses().map(|a| (a, id.clone())));
        }
        behind.ids.get(&addr).and_then(with_address)
    }

    fn look_up(&self, id: &str, identity: &Identity) -> Option<NamedContainer> {
        let any = identity.runtime == Some(Runtime::Unnamed);
        let is = |runtime| any || identity.runtime == Some(runtime);
        let docker = || {
            let rootless = self.home(identity.user).map(|home| [&home, "/.local/share/docker/containers"].concat());
            let folders =
                [Some(self.docker()), rootless, Some("var/snap/docker/common/var-lib-docker/containers".into())];
            let read = |folder: String| self.json::<Docker>(&[&folder, "/", id, "/config.v2.json"].concat());
            folders.into_iter().flatten().find_map(read).map(Docker::named)
        };
        let containerd = || {
            TASKS.iter().find_map(|tasks| {
                let spaces = self.open(tasks, OFlags::RDONLY | OFlags::DIRECTORY)?;
                let read = |space: String| self.json::<Oci>(&[tasks, "/", &space, "/", id, "/config.json"].concat());
                names_in(&spaces).into_iter().find_map(read).map(|oci| oci.named(Runtime::Containerd))
            })
        };
        let storage = || {
            let home = self.home(identity.user).map(|home| home + "/.local/share/containers/storage");
            let run = identity.user.map(|uid| format!("run/user/{uid}/containers"));
            let roots = STORAGE.iter().map(|s| (*s).to_owned()).chain(run).chain(home);
            let folders: Vec<String> = roots.flat_map(|r| DRIVERS.map(|d| format!("{r}/{d}"))).collect();
            let named = self.stored(id, &folders, identity.runtime);
            if named.as_ref().is_some_and(|n| n.container.is_some()) {
                return named;
            }
            self.by_monitor(id, identity.runtime).or(named)
        };
        is(Runtime::Docker)
            .then(docker)
            .flatten()
            .or_else(|| is(Runtime::Containerd).then(containerd).flatten())
            .or_else(|| (is(Runtime::CriO) || is(Runtime::Podman)).then(storage).flatten())
    }

    /// What the monitor of a container says: where its state is (`--root`, `graphroot`), else the name it was started with.
    fn by_monitor(&self, id: &str, runtime: Option<Runtime>) -> Option<NamedContainer> {
        let mut known = self.monitors.lock().ok()?;
        if known.as_ref().is_none_or(|(at, monitors)| !monitors.contains_key(id) && at.elapsed() >= FRESH) {
            *known = Some((Instant::now(), monitors::running(&self.proc)));
        }
        let monitor = known.as_ref()?.1.get(id)?.clone();
        drop(known);
        let folder = monitor.folder.map(|folder| folder.trim_matches('/').to_owned());
        let stored = folder.and_then(|folder| self.stored(id, &[folder], runtime)).filter(|n| n.container.is_some());
        stored.or_else(|| {
            Some(NamedContainer {
                runtime: Some(monitor.runtime),
                container: Some(monitor.name?),
                ..NamedContainer::default()
            })
        })
    }

    /// CRI-O writes the names into each container's settings, Podman into one list.
    fn stored(&self, id: &str, folders: &[String], runtime: Option<Runtime>) -> Option<NamedContainer> {
        let settings = |folder: &String| self.json::<Oci>(&[folder, "/", id, "/userdata/config.json"].concat());
        let oci = folders.iter().find_map(settings);
        let runtime = match (runtime, &oci) {
            (Some(Runtime::Unnamed), Some(oci)) if oci.has("io.kubernetes.cri-o.ContainerType") => Runtime::CriO,
            (Some(Runtime::Unnamed), _) => Runtime::Podman,
            (other, _) => other?,
        };
        let mut named = oci.map(|oci| oci.named(runtime));
        if named.as_ref().is_none_or(|n| n.container.is_none()) {
            let lists = ["containers.json", "volatile-containers.json"];
            let paths = folders.iter().flat_map(|folder| lists.map(|list| [folder, "/", list].concat()));
            let listed = |path: String| self.list(&path)?.get(id).cloned();
            if let Some(name) = paths.into_iter().find_map(listed) {
                let named =
                    named.get_or_insert_with(|| NamedContainer { runtime: Some(runtime), ..NamedContainer::default() });
                named.container = Some(name);
            }
        }
        named
    }

    /// A list of containers, read again when it has changed: it has all of them, and each is looked up in it.
    fn list(&self, path: &str) -> Option<Arc<FxHashMap<String, String>>> {
        let stat = rustix::fs::fstat(self.open(path, OFlags::PATH)?).ok()?;
        let stamp = (stat.st_mtime, stat.st_mtime_nsec, stat.st_size);
        let mut lists = self.lists.lock().ok()?;
        if let Some((_, names)) = lists.get(path).filter(|(of, _)| *of == stamp) {
            return Some(Arc::clone(names));
        }
        let stored = self.json::<Vec<Stored>>(path)?.into_iter();
        let names = Arc::new(stored.filter_map(|c| Some((c.id, c.names?.into_iter().next()?))).collect());
        lists.insert(path.to_owned(), (stamp, Arc::clone(&names)));
        Some(names)
    }

    /// The folder of Docker's containers: `data-root` moves it.
    fn docker(&self) -> String {
        let settings: Option<Daemon> = self.json("etc/docker/daemon.json");
        let root = settings.and_then(|s| s.data_root).unwrap_or_else(|| "/var/lib/docker".into());
        [root.trim_matches('/'), "/containers"].concat()
    }

    /// The home of a user, from the password file of that root.
    fn home(&self, uid: Option<u32>) -> Option<String> {
        let uid = uid?.to_string();
        let text = self.read("etc/passwd")?;
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
        Some(line.split(':').nth(5)?.trim_matches('/').to_owned())
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Option<T> {
        serde_json::from_slice(&self.read(path)?).ok()
    }

    /// A regular file below the root, if it is within the limit.
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        // A pipe at such a path must not block.
        let file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = rustix::fs::fstat(&file).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let mut bytes = Vec::new();
        std::fs::File::from(file).take(MOST_BYTES + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= MOST_BYTES).then_some(bytes)
    }

    fn open(&self, path: &str, flags: OFlags) -> Option<OwnedFd> {
        let (flags, mode) = (flags | OFlags::CLOEXEC, Mode::empty());
        let root =
            rustix::fs::openat(CWD, &self.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, mode).ok()?;
        match rustix::fs::openat2(root.as_fd(), path, flags, mode, ResolveFlags::IN_ROOT) {
            // Linux before 5.6, or a sandbox that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) if self.root == "/" => rustix::fs::openat(root.as_fd(), path, flags, mode),
            other => other,
        }
        .ok()
    }
}

/// Names in a folder, up to a limit.
fn names_in(folder: &OwnedFd) -> Vec<String> {
    let Ok(entries) = rustix::fs::Dir::read_from(folder) else { return Vec::new() };
    let names = entries.flatten().filter_map(|e| e.file_name().to_str().ok().map(str::to_owned));
    names.filter(|name| !name.starts_with('.')).take(MOST_ENTRIES).collect()
}

/// `namespace/name`, the usual name of a pod.
fn pod(namespace: Option<&String>, name: Option<&String>) -> Option<String> {
    match (namespace, name) {
        (Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
        (None, Some(name)) => Some(name.clone()),
        _ => None,
    }
}

type Labels = HashMap<String, String>;

/// The container and pod names that kubelet sets, under the keys of each runtime.
fn kubernetes(labels: &Labels) -> NamedContainer {
    let first = |keys: &[&str]| keys.iter().find_map(|key| labels.get(*key)).filter(|value| !value.is_empty());
    let container = first(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name"]);
    let namespace = first(&["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]);
    let name = first(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]);
    let uid = first(&["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]);
    NamedContainer { runtime: None, container: container.cloned(), pod: pod(namespace, name), pod_uid: uid.cloned() }
}

/// `config.json` of an OCI bundle.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Oci {
    annotations: Option<Labels>,
}

impl Oci {
    fn has(&self, key: &str) -> bool {
        self.annotations.as_ref().is_some_and(|a| a.contains_key(key))
    }

    fn named(self, runtime: Runtime) -> NamedContainer {
        let labels = self.annotations.unwrap_or_default();
        let mut named = NamedContainer { runtime: Some(runtime), ..kubernetes(&labels) };
        // nerdctl passes its own labels on as annotations.
        named.container = named.container.or_else(|| labels.get("nerdctl/name").filter(|n| !n.is_empty()).cloned());
        named
    }
}

/// `config.v2.json` of Docker.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Docker {
    name: String,
    config: Option<DockerConfig>,
    network_settings: Option<DockerNetworks>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct DockerConfig {
    labels: Option<Labels>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct DockerNetworks {
    networks: Option<HashMap<String, Option<DockerEndpoint>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerEndpoint {
    #[serde(rename = "IPAddress")]
    v4: String,
    #[serde(rename = "GlobalIPv6Address")]
    v6: String,
}

impl Docker {
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let networks = self.network_settings.as_ref().and_then(|n| n.networks.as_ref());
        let endpoints = networks.into_iter().flat_map(HashMap::values).flatten();
        endpoints.flat_map(|e| [e.v4.parse().ok(), e.v6.parse().ok()]).flatten()
    }

    fn named(self) -> NamedContainer {
        let named = kubernetes(&self.config.and_then(|c| c.labels).unwrap_or_default());
        let own = Some(self.name.trim_start_matches('/').to_owned()).filter(|n| !n.is_empty());
        NamedContainer { runtime: Some(Runtime::Docker), container: named.container.or(own), ..named }
    }
}

/// `/etc/docker/daemon.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Daemon {
    #[serde(rename = "data-root")]
    data_root: Option<String>,
}

/// One entry of the containers/storage list.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Stored {
    id: String,
    names: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cgroup;
    use std::fs::{create_dir_all, write};

    const POD: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

    fn id(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    /// The root of a host.
    fn host() -> (tempfile::TempDir, Containers) {
        let proc = tempfile::tempdir().unwrap();
        let containers = Containers::new(&ProcRoot::new(proc.path()));
        (proc, containers)
    }

    fn write_file(proc: &tempfile::TempDir, path: &str, text: &str) {
        let path = proc.path().join("1/root").join(path);
        create_dir_all(path.parent().unwrap()).unwrap();
        write(path, text).unwrap();
    }

    /// Runtime, container and pod of a path.
    fn shown(containers: &Containers, path: &str) -> (Option<&'static str>, String, String) {
        let mut identity = cgroup::of_path(path);
        containers.name(&mut identity);
        let label = |l: Option<&str>| l.unwrap_or("-").to_owned();
        (identity.runtime.and_then(Runtime::key), label(identity.container_label()), label(identity.pod_label()))
    }

    #[test]
    fn every_runtime_names_its_containers_on_disk() {
        let (proc, containers) = host();
        let (web, app, side, db, job, ui, home) = (id('1'), id('2'), id('3'), id('4'), id('5'), id('6'), id('7'));
        write_file(
            &proc,
            &format!("var/lib/docker/containers/{web}/config.v2.json"),
            r#"{"Name":"/web-1","Config":null}"#,
        );
        write_file(
            &proc,
            &format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{app}/config.json"),
            r#"{"annotations":{"io.kubernetes.cri.container-name":"app","io.kubernetes.cri.sandbox-name":"shop-7d9",
                "io.kubernetes.cri.sandbox-namespace":"prod"}}"#,
        );
        let nerd = r#"{"annotations":{"nerdctl/name":"side","nerdctl/namespace":"default"}}"#;
        write_file(&proc, &format!("run/containerd/io.containerd.runtime.v2.task/default/{side}/config.json"), nerd);
        write_file(
            &proc,
            &format!("run/containers/storage/overlay-containers/{db}/userdata/config.json"),
            r#"{"annotations":{"io.kubernetes.container.name":"db","io.kubernetes.pod.name":"db-0",
                "io.kubernetes.pod.namespace":"prod","io.kubernetes.cri-o.ContainerType":"container"}}"#,
        );
        write_file(
            &proc,
            "var/lib/containers/storage/overlay-containers/containers.json",
            &format!(r#"[{{"id":"{}","names":["other"]}},{{"id":"{job}","names":["job"],"layer":"x"}}]"#, id('f')),
        );
        let labels = format!(
            r#"{{"Name":"/k8s_ui_ui-0_prod_{POD}_0","Config":{{"Labels":{{"io.kubernetes.container.name":"ui",
                "io.kubernetes.pod.name":"ui-0","io.kubernetes.pod.namespace":"prod"}}}}}}"#
        );
        write_file(&proc, &format!("var/lib/docker/containers/{ui}/config.v2.json"), &labels);
        write_file(&proc, "etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n");
        write_file(
            &proc,
            "home/ann/.local/share/containers/storage/overlay-containers/containers.json",
            &format!(r#"[{{"id":"{home}","names":["mine"]}}]"#),
        );
        let slice = POD.replace('-', "_");
        let kube = format!("/kubepods.slice/kubepods-pod{slice}.slice");
        let user = "/user.slice/user-1000.slice/user@1000.service/user.slice";
        for (path, runtime, container, pod) in [
            (format!("/system.slice/docker-{web}.scope"), "docker", "web-1", "-"),
            (format!("/docker/{web}"), "docker", "web-1", "-"),
            (format!("{kube}/cri-containerd-{app}.scope"), "containerd", "app", "prod/shop-7d9"),
            (format!("/kubepods/burstable/pod{POD}/{app}"), "containerd", "app", "prod/shop-7d9"),
            (format!("/default/{side}"), "containerd", "side", "-"),
            (format!("{kube}/crio-{db}.scope"), "cri-o", "db", "prod/db-0"),
            (format!("/kubepods/besteffort/pod{POD}/{db}"), "cri-o", "db", "prod/db-0"),
            (format!("/machine.slice/libpod-{job}.scope/container"), "podman", "job", "-"),
            (format!("{kube}/docker-{ui}.scope"), "docker", "ui", "prod/ui-0"),
            (format!("{user}/libpod-{home}.scope"), "podman", "mine", "-"),
            ("/lxc.payload.web/init.scope".into(), "lxc", "web", "-"),
            // The runtime that made it has left nothing, and other runtimes' names are not used.
            (format!("{kube}/crio-{web}.scope"), "cri-o", &id('1'), POD),
        ] {
            let containers = containers_of(&containers);
            assert_eq!(shown(&containers, &path), (Some(runtime), container.to_owned(), pod.to_owned()), "{path}");
        }
    }

    fn containers_of(other: &Containers) -> Containers {
        Containers { root: other.root.clone(), ..Containers::new(&other.proc) }
    }

    #[test]
    fn what_cannot_be_read_keeps_its_id_and_is_asked_for_once() {
        let (proc, containers) = host();
        let web = id('a');
        let path = format!("/docker/{web}");
        let file = format!("var/lib/docker/containers/{web}/config.v2.json");
        for broken in ["{", "[]", r#"{"Name":7}"#, r#"{"Name":"/"}"#, ""] {
            write_file(&proc, &file, broken);
            assert_eq!(shown(&containers_of(&containers), &path).1, web, "{broken}");
        }
        write_file(&proc, &file, &format!(r#"{{"Name":"/{}"}}"#, "x".repeat(usize::try_from(MOST_BYTES).unwrap())));
        assert_eq!(shown(&containers, &path).1, web, "too large");
        write_file(&proc, &file, r#"{"Name":"/late"}"#);
        assert_eq!(shown(&containers, &path).1, web, "known from before");
        assert_eq!(shown(&containers_of(&containers), &path).1, "late");
        // Links are followed below the root, never out of it.
        let outside = tempfile::tempdir().unwrap();
        write(outside.path().join("config.v2.json"), r#"{"Name":"/outside"}"#).unwrap();
        let linked = id('b');
        let at = proc.path().join(format!("1/root/var/lib/docker/containers/{linked}"));
        std::os::unix::fs::symlink(outside.path(), &at).unwrap();
        assert_eq!(shown(&containers, &format!("/docker/{linked}")).1, linked);
        // Non-files do not block.
        let pipe = id('c');
        let folder = proc.path().join(format!("1/root/var/lib/docker/containers/{pipe}"));
        create_dir_all(&folder).unwrap();
        rustix::fs::mknodat(CWD, folder.join("config.v2.json"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(shown(&containers, &format!("/docker/{pipe}")).1, pipe);
    }

    #[test]
    fn a_container_in_another_storage_is_named_where_its_monitor_says() {
        let (proc, containers) = host();
        let (web, old) = (id('a'), id('b'));
        for (pid, id, name) in [(7, &web, "web"), (8, &old, "old")] {
            let folder = proc.path().join(pid.to_string());
            create_dir_all(&folder).unwrap();
            write(folder.join("comm"), "conmon\n").unwrap();
            let line = format!("conmon -c {id} -b /data/overlay-containers/{id}/userdata -n {name} ");
            write(folder.join("cmdline"), line.replace(' ', "\0")).unwrap();
        }
        write_file(
            &proc,
            "data/overlay-containers/containers.json",
            &format!(r#"[{{"id":"{web}","names":["renamed"]}}]"#),
        );
        let path = |id: &str| format!("/libpod_parent/libpod-{id}");
        assert_eq!(shown(&containers, &path(&web)), (Some("podman"), "renamed".into(), "-".into()));
        assert_eq!(shown(&containers, &path(&old)).1, "old", "the name that it was started with");
        assert_eq!(shown(&containers, &path(&id('c'))).1, id('c'), "no monitor");
    }

    #[test]
    fn the_container_behind_an_address_is_the_one_that_has_it_now() {
        let (proc, containers) = host();
        let (one, two): (IpAddr, IpAddr) = ("172.17.0.2".parse().unwrap(), "fd00::2".parse().unwrap());
        assert_eq!(containers.behind(one), None);
        write_file(&proc, "etc/docker/daemon.json", r#"{"data-root":"/data/docker"}"#);
        let settings = |name: &str, v4: &str| {
            format!(
                r#"{{"Name":"/{name}","NetworkSettings":{{"Networks":{{"bridge":{{"IPAddress":"{v4}",
                    "GlobalIPv6Address":"fd00::2"}},"none":null}}}}}}"#
            )
        };
        let file = format!("data/docker/containers/{}/config.v2.json", id('a'));
        write_file(&proc, &file, &settings("web", "172.17.0.2"));
        assert_eq!(containers.behind(one), Some((id('a'), Some("web".into()))));
        assert_eq!(containers.behind(two), Some((id('a'), Some("web".into()))));
        // It was restarted and has another address.
        write_file(&proc, &file, &settings("web", "172.17.0.3"));
        assert_eq!(containers.behind(one), None);
        // Another one started, which changes the folder.
        write_file(
            &proc,
            &format!("data/docker/containers/{}/config.v2.json", id('b')),
            &settings("new", "172.17.0.2"),
        );
        assert_eq!(containers.behind(one), Some((id('b'), Some("new".into()))));
    }
}
