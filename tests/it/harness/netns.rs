//! Private network namespaces. Comes in: a test body. Goes out: the body run in a fresh namespace with `lo` up, as
//! root or, where user namespaces are permitted, as anybody. Never here: a namespace with a name, or one that outlives
//! the test (nothing is mounted; the namespace ends with the descriptor and the sockets in it).

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::{diag, finish, skip};

/// Set in a copy of the test binary that already runs inside a user namespace of its own.
const IN_USERNS: &str = "TCPSTATE_TESTS_IN_USERNS";

/// A program that follows every namespace of the host keeps a socket in each, in those of other tests too.
static FOLLOWED: RwLock<()> = RwLock::new(());

/// While this is held, no test follows all namespaces: an empty one stays empty.
pub fn undisturbed() -> RwLockReadGuard<'static, ()> {
    FOLLOWED.read().unwrap_or_else(PoisonError::into_inner)
}

/// Held by a test that follows all namespaces.
pub fn following_all() -> RwLockWriteGuard<'static, ()> {
    FOLLOWED.write().unwrap_or_else(PoisonError::into_inner)
}

/// A network namespace that lives as long as this value (or a socket in it).
pub struct Netns {
    file: File,
    inode: u64,
    /// Whether [`Drop`] clears out what would keep the namespace alive: not for [`Netns::current`].
    owned: bool,
}

/// Runs a test body inside a new network namespace, or skips the test with the reason.
///
/// The body runs in a thread that never returns from there: root of a user namespace may enter the network namespaces that
/// it owns, and may not go back to the one that it came from.
///
/// Without root the kernel lets only a single-threaded process enter a user namespace (`userns_install` in
/// kernel/user_namespace.c), and a test binary is not one; so the test runs once more in a child that enters it between
/// `fork` and `exec`, and its outcome becomes that of the caller. Call this in the test function itself, with a closure
/// written there: its type is how the child is told which test to run.
#[track_caller]
pub fn in_netns<F: FnOnce(&Netns) + Send>(body: F) {
    let ns = match Netns::try_new() {
        Ok(ns) => ns,
        Err(Errno::PERM) if std::env::var_os(IN_USERNS).is_none() => return in_userns(&test_name::<F>()),
        Err(e) => return skip(&format!("cannot make a network namespace: {e}")),
    };
    let name = std::thread::current().name().unwrap_or("test").to_string();
    let outcome = std::thread::scope(|scope| {
        let inside = move || {
            enter(ns.file.as_fd()).expect("enter the namespace");
            body(&ns);
        };
        std::thread::Builder::new().name(name).spawn_scoped(scope, inside).expect("start a thread").join()
    });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Whether this process is root outside of any user namespace of ours: it can become another user, load BPF, and see
/// other users' processes.
pub fn is_real_root() -> bool {
    rustix::process::geteuid().is_root() && std::env::var_os(IN_USERNS).is_none()
}

/// The path by which libtest knows the function that wrote this closure.
fn test_name<F>() -> String {
    let name = std::any::type_name::<F>();
    let name = name.split("::{{closure}}").next().unwrap_or(name);
    name.split_once("::").map_or(name, |(_crate, rest)| rest).to_string()
}

#[track_caller]
fn in_userns(test: &str) {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let maps = [
        (c"/proc/self/setgroups", b"deny".to_vec()),
        (c"/proc/self/uid_map", format!("0 {uid} 1").into_bytes()),
        (c"/proc/self/gid_map", format!("0 {gid} 1").into_bytes()),
    ];
    let mut command = Command::new(std::env::current_exe().expect("path of the test binary"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(IN_USERNS, "1");
    // SAFETY: between fork and exec only raw system calls are made, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER)?;
            for (path, text) in &maps {
                let file = rustix::fs::open(*path, rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty())?;
                rustix::io::write(&file, text)?;
            }
            Ok(())
        });
    }
    // A refusal comes back as the error of spawn; ask with a probe first, so that it is a skip and not a panic.
    if let Err(e) = userns_permitted() {
        return skip(&format!("not root, and user namespaces are not permitted: {e}"));
    }
    let output = finish(&mut command);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for line in stderr.lines().filter(|line| line.starts_with("skipped: ")) {
        super::announce(line);
    }
    assert!(
        output.status.success() && stdout.contains("test result: ok. 1 passed"),
        "{test} in a user namespace: {}\n{stdout}\n{stderr}",
        output.status
    );
}

fn userns_permitted() -> std::io::Result<()> {
    let mut probe = Command::new("/proc/self/exe");
    probe.arg("--list").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    // SAFETY: one raw system call between fork and exec.
    unsafe {
        probe.pre_exec(|| Ok(rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET)?));
    }
    probe.status().map(|_| ())
}

impl Netns {
    /// A new namespace with `lo` up, while the calling thread stays where it is.
    ///
    /// # Panics
    /// When the kernel refuses; the first namespace of a test comes from [`in_netns`], which skips instead.
    #[track_caller]
    pub fn new() -> Netns {
        Netns::try_new().unwrap_or_else(|e| panic!("cannot make a network namespace: {e}"))
    }

    fn try_new() -> rustix::io::Result<Netns> {
        // A thread of its own leaves the caller's namespace alone, and ends with this call: the descriptor is what
        // keeps the namespace.
        let maker = std::thread::spawn(|| {
            // SAFETY: NEWNET alone shares no descriptor table; the thread ends here.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)? };
            bring_up_loopback()?;
            Ok(File::open("/proc/thread-self/ns/net").expect("open the namespace just made"))
        });
        let file = maker.join().expect("the thread that makes a namespace")?;
        let inode = file.metadata().expect("stat of a namespace").ino();
        Ok(Netns { file, inode, owned: true })
    }

    /// The namespace in which the calling thread already is.
    pub fn current() -> Netns {
        let file = File::open("/proc/thread-self/ns/net").expect("open this thread's namespace");
        let inode = file.metadata().expect("stat of a namespace").ino();
        Netns { file, inode, owned: false }
    }

    /// Runs a closure with the calling thread inside the namespace, and brings the thread back, also on panic.
    pub fn run<R>(&self, body: impl FnOnce() -> R) -> R {
        let before = Netns::current();
        // Moving needs privilege; staying does not, so that a helper without any can use the factory too.
        if before.inode == self.inode {
            return body();
        }
        let _back = Back(before);
        enter(self.file.as_fd()).expect("enter the namespace");
        body()
    }

    /// A path that leads to the namespace for as long as this value lives, for `--netns PATH`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// The namespace's number, as `readlink /proc/PID/ns/net` shows it in brackets.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// A command that will run inside the namespace, whichever thread starts it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let ns = OwnedFd::from(self.file.try_clone().expect("dup of a namespace"));
        // SAFETY: one raw system call between fork and exec.
        unsafe {
            command.pre_exec(move || Ok(enter(ns.as_fd())?));
        }
        command
    }

    /// The program under test, inside the namespace.
    pub fn product(&self) -> Command {
        self.command(env!("CARGO_BIN_EXE_tcpstate"))
    }

    /// As [`Netns::command`], but as another user: the namespace first, then the user, because the first needs root.
    /// (`Command::uid` would come before `pre_exec`.)
    pub fn command_as(&self, uid: u32, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command(program);
        as_user(&mut command, uid);
        command
    }

    /// Writes a setting of this namespace, by its path below `/proc/sys/net`: `ipv4/tcp_fin_timeout`.
    #[track_caller]
    pub fn set_sysctl(&self, name: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(name);
        // The kernel looks the table up for the thread that opens the file (`net_ctl_header_lookup`).
        self.run(|| std::fs::write(&path, value))
            .unwrap_or_else(|e| panic!("write {value} to {}: {e}", path.display()));
    }

    /// Reads a setting of this namespace.
    #[track_caller]
    pub fn sysctl(&self, name: &str) -> String {
        let path = Path::new("/proc/sys/net").join(name);
        let text = self.run(|| std::fs::read_to_string(&path));
        text.unwrap_or_else(|e| panic!("read {}: {e}", path.display())).trim().to_string()
    }
}

impl Drop for Netns {
    /// An orphan with unsent data holds its namespace until its last retransmission, minutes later: end such ones now.
    fn drop(&mut self) {
        if self.owned {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.run(diag::destroy_orphans)));
        }
    }
}

struct Back(Netns);

impl Drop for Back {
    fn drop(&mut self) {
        enter(self.0.file.as_fd()).expect("return to the namespace of before");
    }
}

fn enter(ns: BorrowedFd<'_>) -> rustix::io::Result<()> {
    move_into_link_name_space(ns, Some(LinkNameSpaceType::Network))
}

/// Has a command become another user, after everything that it was told to do before.
pub fn as_user(command: &mut Command, uid: u32) -> &mut Command {
    // SAFETY: raw system calls between fork and exec.
    unsafe { command.pre_exec(move || become_user(uid)) }
}

/// Gives up root for good: group first, while that is still permitted.
pub fn become_user(uid: u32) -> std::io::Result<()> {
    // SAFETY: plain system calls on numbers; an empty group list is not read.
    let failed = unsafe {
        libc::setgroups(0, std::ptr::null()) != 0
            || libc::setresgid(uid, uid, uid) != 0
            || libc::setresuid(uid, uid, uid) != 0
    };
    if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// What `ip link set lo up` does, without a program.
fn bring_up_loopback() -> rustix::io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let control = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all-zero is a valid ifreq; the name is short enough to stay terminated, and the ioctl reads that struct.
    let failed = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = (*from).cast_signed() as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).expect("a flag of 16 bits");
        libc::ioctl(control.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) != 0
    };
    if failed { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) } else { Ok(()) }
}
