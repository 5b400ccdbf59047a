//! What tests on the real kernel stand on. Comes in: a test body. Goes out: the body run inside a private network
//! namespace, with everything it made gone afterwards, or a skip that gives its reason. Never here: a sleep that hopes
//! (waiting polls a condition and is bounded), or a judgement about the product.
//!
//! A test begins with [`in_netns`], makes its situation with [`crate::states`], and starts the product with
//! [`Netns::product`]:
//!
//! ```text
//! in_netns(|ns| {
//!     let held = states::close_wait(ns, Ports::server(7000), 250, CloseWait::EofRead, PeerEnd::Closed);
//!     let output = finish(ns.product().args(["summary", "--json"]));
//!     ...
//! });
//! ```
//!
//! Two facts to know when writing one. Sockets made in the body belong to the test process, and for the millisecond
//! between `fork` and `exec` every child that any parallel test starts holds them too; so a test that is exact about
//! *owners* makes its sockets in a [`helper::Helper`], whose table nobody else copies. And in a thread that changed its
//! namespace `/proc/net` still shows that of the main thread: read `/proc/thread-self/net`.

use std::io::Write as _;
use std::process::{Child, Command, ExitStatus, Output};
use std::time::{Duration, Instant};

#[allow(dead_code, reason = "a library: each area of tests uses its part")]
pub mod cgroup;
pub mod descriptors;
#[allow(dead_code, reason = "a library: each area of tests uses its part")]
pub mod diag;
#[allow(dead_code, reason = "a library: each area of tests uses its part")]
pub mod docker;
#[allow(dead_code, reason = "a library: each area of tests uses its part")]
pub mod fuse;
pub mod helper;
#[allow(dead_code, reason = "a library: each area of tests uses its part")]
pub mod netns;
#[allow(dead_code, reason = "a library: each area of tests uses its part")]
pub mod oracle;
pub mod podman;
#[allow(dead_code, reason = "a library: each area of tests uses its part")]
pub mod pty;
#[allow(dead_code, reason = "a library: each area of tests uses its part")]
pub mod script;
#[allow(dead_code, reason = "a library: each area of tests uses its part")]
pub mod sock;
#[allow(dead_code, reason = "a library: each area of tests uses its part")]
pub mod veth;

pub use netns::{Netns, in_netns};

/// How long any wait may take before the test fails with what it saw last. Waits end in milliseconds; this much is for
/// a machine on which everything else runs too.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Says that this test could not run here, and why; the caller then returns.
///
/// The line is shown although libtest captures output, so that a passing run still shows what it did not check.
/// Where the kernel must be
/// there (`TCPSTATE_TESTS_REQUIRE_KERNEL=1`, set by CI) a skip is a failure.
///
/// # Panics
/// When the environment requires the kernel tests to run.
#[track_caller]
pub fn skip(reason: &str) {
    assert!(
        std::env::var_os("TCPSTATE_TESTS_REQUIRE_KERNEL").is_none_or(|v| v != "1"),
        "skipped where the kernel tests are required: {reason}"
    );
    let thread = std::thread::current();
    announce(&format!("skipped: {}: {reason}", thread.name().unwrap_or("unnamed")));
}

/// A program that Debian does not have, in the folder that `TCPSTATE_TESTS_TOOLS` names (`.ci/run` fills one). `None`, and a line that
/// says so, where the variable is not set: then nobody asked for these tests.
pub fn tool(name: &str) -> Option<std::path::PathBuf> {
    let Some(folder) = std::env::var_os("TCPSTATE_TESTS_TOOLS") else {
        announce(&format!("not run, as TCPSTATE_TESTS_TOOLS is not set: what needs {name}"));
        return None;
    };
    let program = std::path::Path::new(&folder).join("bin").join(name);
    assert!(program.exists(), "{} is not there; .ci/run installs it", program.display());
    Some(program)
}

/// Past libtest's capture.
pub fn announce(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Polls until the probe gives a value, and fails with its last complaint after [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        match probe() {
            Ok(value) => return value,
            Err(seen) if start.elapsed() > PATIENCE => panic!("waited {PATIENCE:?} for {what}; last seen: {seen}"),
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Runs a command to its end and returns what it wrote; kills it, by its own id, when it takes longer than 20 s.
#[track_caller]
pub fn finish(command: &mut Command) -> Output {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {shown}: {e}"));
    // Both pipes are drained while waiting: a child that fills one would otherwise never end.
    let drains = [child.stdout.take().map(|p| drain(Box::new(p))), child.stderr.take().map(|p| drain(Box::new(p)))];
    let status = ended(&mut child, &shown);
    let [stdout, stderr] = drains.map(|d| d.map_or_else(Vec::new, |d| d.join().expect("pipe reader")));
    Output { status, stdout, stderr }
}

/// Waits for the end of a process, and kills it when it takes longer than 20 s.
#[track_caller]
fn ended(child: &mut Child, shown: &str) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match child.try_wait().expect("waitpid") {
            Some(status) => return status,
            None if Instant::now() > deadline => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{shown} did not end within 20 s");
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn drain(mut pipe: Box<dyn std::io::Read + Send>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// Whether the running kernel is at least this version, for states and attributes that came later.
pub fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}
