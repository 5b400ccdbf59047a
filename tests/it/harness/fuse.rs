//! A file system with one executable, whose server stops answering on demand, as that of a dead file server does.
//!
//! Input: the program to serve. Output: its path below a mount. The kernel's FUSE protocol (`include/uapi/linux/fuse.h`)
//! is spoken as far as `execve()` needs it.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The server ends after so long without answers, so that nothing hangs longer than a test should take.
const SILENT: Duration = Duration::from_secs(8);
const ROOT: u64 = 1;
const PROGRAM: u64 = 2;

/// The mount; unmounted on drop.
pub struct DeadServer {
    folder: tempfile::TempDir,
    stopped: Arc<AtomicBool>,
}

impl DeadServer {
    /// Serves a copy of a program. Only real root can mount.
    pub fn with(program: &Path) -> Result<DeadServer, String> {
        let bytes = std::fs::read(program).map_err(|e| format!("{}: {e}", program.display()))?;
        let device = File::options().read(true).write(true).open("/dev/fuse").map_err(|e| format!("/dev/fuse: {e}"))?;
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let at = CString::new(folder.path().as_os_str().as_encoded_bytes()).map_err(|e| e.to_string())?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let options = CString::new(options).map_err(|e| e.to_string())?;
        // SAFETY: all arguments are strings that outlive the call.
        let result = unsafe {
            let flags = libc::MS_NOSUID | libc::MS_NODEV;
            libc::mount(c"dead".as_ptr(), at.as_ptr(), c"fuse".as_ptr(), flags, options.as_ptr().cast())
        };
        if result != 0 {
            return Err(format!("mount fuse: {}", std::io::Error::last_os_error()));
        }
        let stopped = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&stopped);
        std::thread::spawn(move || serve(device, &bytes, &theirs));
        Ok(DeadServer { folder, stopped })
    }

    pub fn program(&self) -> PathBuf {
        self.folder.path().join("program")
    }

    /// From now on nobody who opens the program gets an answer.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

impl Drop for DeadServer {
    fn drop(&mut self) {
        if let Ok(at) = CString::new(self.folder.path().as_os_str().as_encoded_bytes()) {
            // SAFETY: a string that outlives the call.
            unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

/// Answers until it is unmounted, or was silent for too long; with the device the kernel ends whatever waits.
fn serve(mut device: File, program: &[u8], stopped: &AtomicBool) {
    let mut silent_since: Option<Instant> = None;
    let mut request = vec![0; 1 << 20];
    loop {
        let mut ready = libc::pollfd { fd: device.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd that outlives the call.
        unsafe { libc::poll(&raw mut ready, 1, 100) };
        if silent_since.is_some_and(|since| since.elapsed() > SILENT) {
            return;
        }
        if ready.revents == 0 {
            continue;
        }
        let Ok(length) = device.read(&mut request) else { return };
        let number = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().expect("eight bytes"));
        let opcode = u32::from_ne_bytes(request[4..8].try_into().expect("four bytes"));
        let (unique, node) = (number(8), number(16));
        let attributes = |node: u64| {
            let (size, mode) = if node == ROOT { (0, 0o040_755) } else { (program.len() as u64, 0o100_755) };
            let mut bytes: Vec<u8> = [node, size, size.div_ceil(512), 0, 0, 0].map(u64::to_ne_bytes).concat();
            bytes.extend([0, 0, 0, mode, 1, 0, 0, 0, 4096, 0_u32].map(u32::to_ne_bytes).concat());
            bytes
        };
        let answer: Result<Vec<u8>, i32> = match opcode {
            // LOOKUP
            1 if request[40..length].starts_with(b"program\0") => {
                let head = [PROGRAM, 0, 60, 60, 0].map(u64::to_ne_bytes).concat();
                Ok([head, attributes(PROGRAM)].concat())
            }
            1 => Err(libc::ENOENT),
            // FORGET, INTERRUPT, BATCH_FORGET expect none.
            2 | 36 | 42 => continue,
            // GETATTR
            3 => Ok([[60, 0].map(u64::to_ne_bytes).concat(), attributes(node)].concat()),
            // OPEN
            14 if stopped.load(Ordering::SeqCst) => {
                silent_since.get_or_insert_with(Instant::now);
                continue;
            }
            14 => Ok(vec![0; 16]),
            // READ
            15 => {
                let at = usize::try_from(number(48)).unwrap_or(usize::MAX).min(program.len());
                let size = u32::from_ne_bytes(request[56..60].try_into().expect("four bytes")) as usize;
                Ok(program[at..program.len().min(at.saturating_add(size))].to_vec())
            }
            // RELEASE, FLUSH
            18 | 25 => Ok(Vec::new()),
            // INIT: version 7.31, and no feature.
            26 => {
                let words = [7, 31, 1 << 16, 0, 0, 1 << 16, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0_u32];
                Ok(words.map(u32::to_ne_bytes).concat())
            }
            _ => Err(libc::ENOSYS),
        };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(errno) => (-errno, Vec::new()),
        };
        let mut reply = u32::try_from(16 + body.len()).expect("a short reply").to_ne_bytes().to_vec();
        reply.extend(error.to_ne_bytes());
        reply.extend(unique.to_ne_bytes());
        reply.extend(body);
        // Who asked may be gone.
        let _ = device.write_all(&reply);
    }
}
