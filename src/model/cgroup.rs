//! What a process belongs to, from its cgroup path: systemd unit, container, Kubernetes pod.
//!
//! Input: the text of `/proc/PID/cgroup`, or one path. Output: an [`Identity`]. No file is read and no daemon is
//! asked; an unknown naming scheme yields nothing, never a guess.

use crate::model::pattern::{self, is_id};

/// The runtime that made a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    Docker,
    Containerd,
    CriO,
    Podman,
    Lxc,
    Nspawn,
    /// A container id without the name of its runtime, as kubelet's cgroupfs driver and ECS write it.
    Unnamed,
}

impl Runtime {
    /// The name in tables and JSON; `None` where the path does not name the runtime.
    #[must_use]
    pub const fn key(self) -> Option<&'static str> {
        match self {
            Runtime::Docker => Some("docker"),
            Runtime::Containerd => Some("containerd"),
            Runtime::CriO => Some("cri-o"),
            Runtime::Podman => Some("podman"),
            Runtime::Lxc => Some("lxc"),
            Runtime::Nspawn => Some("nspawn"),
            Runtime::Unnamed => None,
        }
    }
}

/// What a cgroup path says, and the names that belong to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The innermost service or scope of systemd.
    pub unit: Option<String>,
    /// Id of the container, or its name where the runtime uses names only (LXC, nspawn).
    pub container: Option<String>,
    pub runtime: Option<Runtime>,
    /// Uid of the Kubernetes pod, with dashes; id of the pod of Podman.
    pub pod: Option<String>,
    /// Uid of the user whose systemd instance or session this is.
    pub user: Option<u32>,
    /// The name that people gave the container. It is in no path; a reader of the runtime's state adds it.
    pub container_name: Option<String>,
    /// `namespace/name` of the pod, likewise.
    pub pod_name: Option<String>,
}

impl Identity {
    /// The container's name, or its id.
    #[must_use]
    pub fn container_label(&self) -> Option<&str> {
        self.container_name.as_deref().or(self.container.as_deref())
    }

    /// The same, with an id as runtimes print it.
    #[must_use]
    pub fn short_label(&self) -> Option<&str> {
        self.container_label().map(pattern::shortened)
    }

    /// The pod's name, or its uid or id.
    #[must_use]
    pub fn pod_label(&self) -> Option<&str> {
        self.pod_name.as_deref().or(self.pod.as_deref())
    }

    /// Whether it belongs to the container and to the pod that are named; `None` names none.
    #[must_use]
    pub fn is_member(&self, container: Option<&str>, pod: Option<&str>) -> bool {
        container.is_none_or(|word| self.is_container(word)) && pod.is_none_or(|word| self.is_pod(word))
    }

    /// Whether a word means its container: the name, the id, or the first digits of the id; with `*`, or not.
    #[must_use]
    pub fn is_container(&self, word: &str) -> bool {
        let is = |text: &str| pattern::is(word, text) || pattern::begins_id(word, text);
        self.container_name.as_deref().is_some_and(|name| pattern::is(word, name))
            || self.container.as_deref().is_some_and(is)
    }

    /// Whether a word means its pod: the name with or without its namespace, or the id likewise.
    #[must_use]
    pub fn is_pod(&self, word: &str) -> bool {
        let by_name = |name: &str| {
            pattern::is(word, name) || name.rsplit_once('/').is_some_and(|(_, name)| pattern::is(word, name))
        };
        let by_id = |id: &str| pattern::is(word, id) || pattern::begins_id(word, id);
        self.pod_name.as_deref().is_some_and(by_name) || self.pod.as_deref().is_some_and(by_id)
    }

    /// Whether it is `POD/CONTAINER`.
    #[must_use]
    pub fn is_in_pod(&self, word: &str) -> bool {
        word.rsplit_once('/').is_some_and(|(pod, container)| self.is_pod(pod) && self.is_container(container))
    }
}

/// Prefixes before an id: `docker-ID.scope`, `cri-containerd-ID.scope`, `libpod-ID`.
const PREFIXES: [(&str, Runtime); 6] = [
    ("docker-", Runtime::Docker),
    ("cri-containerd-", Runtime::Containerd),
    ("nerdctl-", Runtime::Containerd),
    ("crio-", Runtime::CriO),
    ("libpod-", Runtime::Podman),
    ("podman-", Runtime::Podman),
];

/// The identity in the text of `/proc/PID/cgroup`: first the version 2 path, then systemd's version 1 hierarchy,
/// then the others, each filling in what the ones before lack.
#[must_use]
pub fn of_process(text: &str) -> Identity {
    let mut lines: Vec<(u8, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let rank = match (number, controllers) {
                ("0", "") => 0,
                (_, "name=systemd") => 1,
                _ => 2,
            };
            Some((rank, path))
        })
        .collect();
    lines.sort_by_key(|(rank, _)| *rank);
    let mut all = Identity::default();
    for (_, path) in lines {
        let one = of_path(path);
        all.unit = all.unit.or(one.unit);
        if all.container.is_none() {
            (all.container, all.runtime) = (one.container, one.runtime);
        }
        all.pod = all.pod.or(one.pod);
        all.user = all.user.or(one.user);
    }
    all
}

/// The identity in one path.
#[must_use]
pub fn of_path(path: &str) -> Identity {
    let mut found = Identity::default();
    let mut before = "";
    for part in path.split('/').filter(|p| !p.is_empty() && *p != "..") {
        // systemd escapes names that clash with the kernel's cgroup files with `_` (cg_escape).
        let part = part.strip_prefix('_').unwrap_or(part);
        found.take(part, before);
        before = part;
    }
    if is_monitor(before) {
        (found.container, found.runtime, found.pod) = (None, None, None);
    }
    found
}

/// The pod that a monitor is kept in: `/libpod_parent/POD/conmon`. It watches the pod, and is not in it.
#[must_use]
pub fn pod_of_monitor(text: &str) -> Option<String> {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut above =
        paths.filter_map(|path| path.rsplit_once('/').filter(|(_, last)| is_monitor(last)).map(|(above, _)| above));
    above.find_map(|above| {
        let parent = above.rsplit('/').next()?;
        of_path(above).pod.or_else(|| is_id(parent).then(|| parent.to_owned()))
    })
}

/// The cgroup of a program that watches containers: `conmon`, `libpod-conmon-ID.scope`, `crio-conmon-ID.scope`.
fn is_monitor(part: &str) -> bool {
    part == "conmon" || part.starts_with("libpod-conmon-") || part.starts_with("crio-conmon-")
}

impl Identity {
    /// Takes one directory of the path; `before` is its parent. Inner directories override outer ones.
    fn take(&mut self, part: &str, before: &str) {
        if let Some(pod) = pod(part).or_else(|| pod_of_podman(part)) {
            self.pod = Some(pod);
        }
        if let Some(uid) = part.strip_prefix("user-").and_then(|p| p.strip_suffix(".slice")) {
            self.user = uid.parse().ok();
        }
        // kubelet's systemd path under a runtime with the cgroupfs driver: `slice:cri-containerd:ID`.
        if let [.., prefix, id] = part.split(':').collect::<Vec<_>>()[..]
            && is_id(id)
        {
            let runtime = PREFIXES.iter().find(|(p, _)| p.strip_suffix('-') == Some(prefix));
            self.set(id, runtime.map_or(Runtime::Unnamed, |(_, r)| *r));
            return;
        }
        let (name, is_unit) = match part.strip_suffix(".service").or_else(|| part.strip_suffix(".scope")) {
            Some(name) => (name, true),
            None => (part, false),
        };
        if is_unit {
            self.unit = Some(part.to_owned());
        }
        for (prefix, runtime) in PREFIXES {
            // `crio-conmon-ID` and `libpod-conmon-ID` are the monitors outside the container; their prefix is not
            // followed by an id.
            if let Some(id) = name.strip_prefix(prefix).filter(|id| is_id(id)) {
                if runtime == Runtime::Podman && is_id(before) {
                    // Podman's cgroupfs driver: the folder of a pod has the folders of its containers.
                    self.pod = Some(before.to_owned());
                }
                self.set(id, runtime);
                return;
            }
        }
        if let Some(name) = name.strip_prefix("lxc.payload.").filter(|n| !n.is_empty()) {
            self.set(name, Runtime::Lxc);
        } else if let Some(name) = name.strip_prefix("systemd-nspawn@").filter(|_| is_unit) {
            self.set(&unescape(name), Runtime::Nspawn);
        } else if let Some(name) = name.strip_prefix("machine-").filter(|_| is_unit) {
            // machined's names of virtual machines and of libvirt's containers begin differently.
            match unescape(name) {
                name if name.starts_with("qemu-") => {}
                name if name.starts_with("lxc-") => self.set(&name, Runtime::Lxc),
                name => self.set(&name, Runtime::Nspawn),
            }
        } else if matches!(before, "lxc" | "lxc.payload") && !is_unit {
            self.set(part, Runtime::Lxc);
        } else if is_id(part) && before == "libpod_parent" {
            self.pod = Some(part.to_owned());
        } else if is_id(part) {
            self.set(part, if before == "docker" { Runtime::Docker } else { Runtime::Unnamed });
        }
    }

    fn set(&mut self, id: &str, runtime: Runtime) {
        self.container = Some(id.to_owned());
        self.runtime = Some(runtime);
    }
}

/// `pod<uid>` of cgroupfs and `kubepods-burstable-pod<uid>.slice` of systemd, which writes `_` for `-`; a static pod's uid
/// is a hash of 32 digits.
fn pod(part: &str) -> Option<String> {
    // `kubelet-kubepods-...` under kind; a slice may be followed by `:cri-containerd:ID`.
    let part = part.split(':').next()?;
    let uid = match part.strip_suffix(".slice") {
        Some(slice) if slice.contains("kubepods") => slice.rsplit_once("-pod")?.1,
        Some(_) => return None,
        None => part.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes = uid.bytes().filter(|b| *b == b'-').count();
    (digits == 32 && digits + dashes == uid.len() && matches!(dashes, 0 | 4)).then_some(uid)
}

/// `machine-libpod_pod_ID.slice` and `user-libpod_pod_ID.slice` of Podman's systemd driver.
fn pod_of_podman(part: &str) -> Option<String> {
    let (_, id) = part.strip_suffix(".slice")?.rsplit_once("libpod_pod_")?;
    is_id(id).then(|| id.to_owned())
}

/// `\x2d` for a dash, as systemd writes names of units.
fn unescape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("\\x") {
        out.push_str(&rest[..at]);
        let byte = rest.get(at + 2..at + 4).and_then(|d| u8::from_str_radix(d, 16).ok()).filter(u8::is_ascii);
        out.push_str(byte.map(char::from).map_or("\\x".into(), String::from).as_str());
        rest = &rest[if byte.is_some() { at + 4 } else { at + 2 }..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f5e0b2a9c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f";
    const POD: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

    #[test]
    fn every_runtime_is_recognised_by_its_path() {
        use Runtime::{Containerd, CriO, Docker, Lxc, Nspawn, Podman, Unnamed};
        let pod_slice = POD.replace('-', "_");
        let kube = format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{pod_slice}.slice");
        for (path, container, runtime, is_pod) in [
            (format!("/docker/{ID}"), ID, Docker, false),
            (format!("/system.slice/docker-{ID}.scope"), ID, Docker, false),
            (format!("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope"), ID, Docker, false),
            (format!("{kube}/cri-containerd-{ID}.scope"), ID, Containerd, true),
            (format!("/system.slice/nerdctl-{ID}.scope"), ID, Containerd, false),
            (
                format!("/system.slice/containerd.service/kubepods-burstable-pod{pod_slice}.slice:cri-containerd:{ID}"),
                ID,
                Containerd,
                true,
            ),
            (format!("{kube}/crio-{ID}.scope/container"), ID, CriO, true),
            (format!("/kubepods/besteffort/pod{POD}/crio-{ID}"), ID, CriO, true),
            (format!("/kubepods/burstable/pod{POD}/{ID}"), ID, Unnamed, true),
            (format!("/kubepods.slice/kubepods-pod{pod_slice}.slice/docker-{ID}.scope"), ID, Docker, true),
            (format!("/machine.slice/libpod-{ID}.scope/container"), ID, Podman, false),
            (format!("/libpod_parent/libpod-{ID}"), ID, Podman, false),
            ("/lxc/web-1/system.slice".into(), "web-1", Lxc, false),
            ("/lxc.payload.web-1/init.scope".into(), "web-1", Lxc, false),
            ("/lxc.payload/web".into(), "web", Lxc, false),
            ("/machine.slice/machine-lxc\\x2d12\\x2dweb.scope".into(), "lxc-12-web", Lxc, false),
            ("/machine.slice/systemd-nspawn@deb\\x2d1.service/payload".into(), "deb-1", Nspawn, false),
            ("/machine.slice/machine-deb.scope/payload".into(), "deb", Nspawn, false),
            (format!("/ecs/task/{ID}"), ID, Unnamed, false),
        ] {
            let found = of_path(&path);
            assert_eq!(found.container.as_deref(), Some(container), "{path}");
            assert_eq!(found.runtime, Some(runtime), "{path}");
            assert_eq!(found.pod.as_deref(), is_pod.then_some(POD), "{path}");
        }
    }

    #[test]
    fn a_pod_of_podman_is_a_pod_and_its_monitor_is_not_in_it() {
        let pod = "0123456789abcdef".repeat(4);
        for path in [
            format!("/libpod_parent/{pod}/libpod-{ID}"),
            format!("/mine/{pod}/libpod-{ID}"),
            format!("/machine.slice/machine-libpod_pod_{pod}.slice/libpod-{ID}.scope/container"),
            format!(
                "/user.slice/user-1000.slice/user@1000.service/user.slice/user-libpod_pod_{pod}.slice/libpod-{ID}.scope"
            ),
        ] {
            let found = of_path(&path);
            let shown = (found.container.as_deref(), found.runtime, found.pod.as_deref());
            assert_eq!(shown, (Some(ID), Some(Runtime::Podman), Some(pod.as_str())), "{path}");
            assert!(found.is_pod(&pod[..12]) && !found.is_container(&pod));
        }
        let alone = of_path(&format!("/libpod_parent/{pod}"));
        assert_eq!((alone.container, alone.pod.as_deref()), (None, Some(pod.as_str())));
        for path in [
            format!("/libpod_parent/{pod}/conmon"),
            format!("/machine.slice/machine-libpod_pod_{pod}.slice/libpod-conmon-{ID}.scope"),
        ] {
            let found = of_path(&path);
            assert_eq!((found.container, found.runtime, found.pod), (None, None, None), "{path}");
            assert_eq!(pod_of_monitor(&format!("7:pids:{path}\n0::/\n")).as_deref(), Some(pod.as_str()));
        }
        assert_eq!(pod_of_monitor("7:pids:/libpod_parent/conmon\n0::/conmon\nx\n"), None);
        assert_eq!(pod_of_monitor(&format!("0::/libpod_parent/{pod}/libpod-{ID}\n")), None);
    }

    #[test]
    fn what_is_no_container_is_none() {
        for path in [
            "/",
            "/system.slice/nginx.service",
            &format!("/machine.slice/libpod-conmon-{ID}.scope"),
            &format!("/system.slice/crio-conmon-{ID}.scope"),
            "/lxc.monitor.web",
            "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope",
            "/system.slice/docker-registry.service",
            "/podcast",
            "/kubepods.slice",
        ] {
            let found = of_path(path);
            assert_eq!((found.container, found.pod), (None, None), "{path}");
        }
    }

    #[test]
    fn the_unit_is_the_innermost_service_or_scope() {
        for (path, unit) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox.scope", Some("app-firefox.scope")),
            ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
            ("/init.scope", Some("init.scope")),
            ("/system.slice/_cpu.service", Some("cpu.service")),
            ("/lxc.payload.web/system.slice/nginx.service", Some("nginx.service")),
            ("/user.slice", None),
            ("/", None),
        ] {
            assert_eq!(of_path(path).unit.as_deref(), unit, "{path}");
        }
    }

    #[test]
    fn versions_one_two_and_both_read_alike() {
        let two = "0::/system.slice/nginx.service\n";
        let one = "12:pids:/system.slice/nginx.service\n1:name=systemd:/system.slice/nginx.service\n";
        let both = "12:pids:/user.slice\n1:name=systemd:/system.slice/nginx.service\n0::/system.slice/nginx.service\n";
        let hybrid = "4:memory:/other\n1:name=systemd:/system.slice/nginx.service\n0::/\n";
        for text in [two, one, both, hybrid] {
            assert_eq!(of_process(text).unit.as_deref(), Some("nginx.service"), "{text}");
        }
        let docker = format!("9:name=systemd:/\n8:pids:/docker/{ID}\n4:memory:/docker/{ID}\n0::/\n");
        assert_eq!(of_process(&docker).container.as_deref(), Some(ID));
        assert_eq!(of_process("garbage\n\n::\n1:2"), Identity::default());
    }
}
