//! A terminal for a program under test. Comes in: a command, a width. Goes out: every byte that the program wrote to
//! it. Never here: an emulator; what the bytes would do to a screen is for the test to say.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What came out of a terminal.
pub struct Screen {
    pub status: ExitStatus,
    /// Standard output and standard error, as they came, with the terminal's line ends undone.
    pub text: String,
}

/// Runs a command to its end with a terminal of this many columns as standard output and standard error.
#[track_caller]
pub fn run(command: &mut Command, columns: u16) -> Screen {
    let shown = format!("{command:?}");
    let (mut near, far) = open(columns);
    let stdio = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("dup of a terminal"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdio(&far))
        .stderr(stdio(&far))
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {shown}: {e}"));
    drop(far);
    // The command's own copies of the terminal: the reader sees the end when the last one is closed.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut block = [0; 4096];
        // A terminal whose other end is closed answers EIO, not an end of file.
        while let Ok(n @ 1..) = near.read(&mut block) {
            bytes.extend_from_slice(&block[..n]);
        }
        bytes
    });
    let status = super::ended(&mut child, &shown);
    let bytes = reader.join().expect("the reader of the terminal");
    let text = String::from_utf8(bytes).expect("text on the terminal").replace("\r\n", "\n");
    Screen { status, text }
}

/// Runs a command with a terminal as all of its streams, closes the terminal as soon as the command has written `until` to
/// it, and returns how the command ended. With `controls` it is the terminal of the command's session, as a window's is:
/// the kernel then sends SIGHUP.
#[track_caller]
pub fn hang_up(command: &mut Command, columns: u16, until: &str, controls: bool) -> ExitStatus {
    use std::os::unix::process::CommandExt as _;
    let shown = format!("{command:?}");
    let (mut near, far) = open(columns);
    let stdio = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("dup of a terminal"));
    command.stdin(stdio(&far)).stdout(stdio(&far)).stderr(stdio(&far));
    if controls {
        // SAFETY: both calls may be made between fork and exec, and take no memory of this process.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() != -1 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0 {
                    Ok(())
                } else {
                    Err(std::io::Error::last_os_error())
                }
            });
        }
    }
    let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {shown}: {e}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    drop(far);
    let deadline = Instant::now() + Duration::from_secs(20);
    let end = |child: &mut std::process::Child, what: &str| {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{shown} {what} within 20 s");
        }
    };
    let (mut seen, mut block) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains(until) {
        end(&mut child, &format!("did not write {until:?}"));
        // The screen is drawn at every interval, so this returns; EIO means that the command has ended before.
        let n = near.read(&mut block).unwrap_or(0);
        assert!(n > 0, "ended before the terminal was closed: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&block[..n]);
    }
    drop(near);
    loop {
        if let Some(status) = child.try_wait().expect("waitpid") {
            return status;
        }
        end(&mut child, "did not end after its terminal was closed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn open(columns: u16) -> (File, OwnedFd) {
    let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut near, mut far) = (-1, -1);
    // SAFETY: the two numbers and the size outlive the call; no name and no settings are asked for.
    let failed =
        unsafe { libc::openpty(&raw mut near, &raw mut far, std::ptr::null_mut(), std::ptr::null(), &raw const size) }
            != 0;
    assert!(!failed, "openpty: {}", std::io::Error::last_os_error());
    for fd in [near, far] {
        // SAFETY: both were just opened; a child of a parallel test must not keep them.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: both descriptors are fresh and owned by nobody else.
    unsafe { (File::from_raw_fd(near), OwnedFd::from_raw_fd(far)) }
}
