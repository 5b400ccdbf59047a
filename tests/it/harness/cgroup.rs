//! Cgroups of a test. Comes in: a name, below the root of a hierarchy. Goes out: the cgroup, removed with the value. Never
//! here: controllers, or a cgroup that was there before.

use std::path::{Path, PathBuf};

use super::helper::Helper;

/// A cgroup that ends with the test.
pub struct Cgroup(PathBuf);

/// The roots in which a process can be given a unit: version 2, and beside or instead of it systemd's own of version 1.
pub fn hierarchies() -> Vec<PathBuf> {
    let roots = [
        ("/sys/fs/cgroup", "cgroup.controllers"),
        ("/sys/fs/cgroup/unified", "cgroup.controllers"),
        ("/sys/fs/cgroup/systemd", "cgroup.clone_children"),
    ];
    roots.iter().filter(|(root, file)| Path::new(root).join(file).is_file()).map(|(root, _)| root.into()).collect()
}

impl Cgroup {
    /// Makes one below a root.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(root: &Path, name: &str) -> Result<Cgroup, String> {
        let path = root.join(name);
        std::fs::create_dir(&path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
        Ok(Cgroup(path))
    }

    /// Version 2, whose id sockets carry.
    ///
    /// # Errors
    /// When there is no version 2, or it cannot be made.
    pub fn version_two(name: &str) -> Result<Cgroup, String> {
        let roots = hierarchies();
        let root = roots.iter().find(|r| r.join("cgroup.controllers").is_file()).ok_or("no cgroup version 2 here")?;
        Cgroup::new(root, name)
    }

    #[track_caller]
    pub fn take(&self, helper: &Helper) {
        self.take_pid(helper.pid());
    }

    #[track_caller]
    pub fn take_pid(&self, pid: u32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("move the process");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Busy until the last process in it is reaped, which its helper's end waits for.
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// An id as runtimes make them, of this run alone.
pub fn container_id(of: u32) -> String {
    let seed = u128::from(std::process::id()) << 32 | u128::from(of);
    let half = format!("{:032x}", seed.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    [half.as_str(), half.as_str()].concat()
}
