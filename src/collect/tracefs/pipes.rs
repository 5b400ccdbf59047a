//! One pipe for each CPU that may ever be there, waited for together.
//!
//! Comes in: open files of `trace_pipe_raw`. Goes out: which of them have a ring, and bytes of it. The kernel makes the ring
//! of a CPU when that is brought up for the first time, and keeps it when it is taken down: until then its pipe is in error
//! (`ring_buffer_poll_wait`, `kernel/trace/ring_buffer.c`), which would end every wait at once. Such a pipe is left alone
//! and asked again from time to time. Never here: what the bytes mean.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// A CPU without a ring is asked again after this time.
const ASK_AGAIN_NS: u64 = 1_000_000_000;

/// The pipe of a CPU.
struct Pipe {
    /// Its directory below `per_cpu`.
    cpu: String,
    file: OwnedFd,
    /// Whether the CPU has a ring yet.
    there: bool,
}

/// All of them.
#[derive(Default)]
pub struct Pipes {
    pipes: Vec<Pipe>,
    asked_ns: u64,
}

impl Pipes {
    pub fn add(&mut self, cpu: String, file: OwnedFd) {
        self.pipes.push(Pipe { cpu, file, there: true });
    }

    /// Places of the pipes that have a ring.
    pub fn there(&self) -> Vec<usize> {
        (0..self.pipes.len()).filter(|at| self.pipes[*at].there).collect()
    }

    /// The directories of the CPUs that have a ring.
    pub fn cpus(&self) -> impl Iterator<Item = &str> {
        self.pipes.iter().filter(|p| p.there).map(|p| p.cpu.as_str())
    }

    /// Waits until there is something to read. False when the time is over, a signal came, or nothing but news of CPUs.
    ///
    /// # Errors
    /// When poll(2) fails.
    pub fn wait(&mut self, timeout: Duration, now_ns: u64) -> io::Result<bool> {
        let all = self.asked_ns == 0 || now_ns.saturating_sub(self.asked_ns) > ASK_AGAIN_NS;
        if all {
            self.asked_ns = now_ns;
        }
        let asked: Vec<usize> = (0..self.pipes.len()).filter(|at| all || self.pipes[*at].there).collect();
        let mut fds: Vec<PollFd<'_>> =
            asked.iter().map(|at| PollFd::from_borrowed_fd(self.pipes[*at].file.as_fd(), PollFlags::IN)).collect();
        let timeout = if all { Duration::ZERO } else { timeout };
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&timeout)) {
            Err(Errno::INTR) => return Ok(false),
            other => other?,
        };
        let found: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        for (at, flags) in asked.into_iter().zip(&found) {
            self.pipes[at].there = !flags.contains(PollFlags::ERR);
        }
        Ok(found.iter().any(|flags| flags.contains(PollFlags::IN)))
    }

    /// Reads a page; `None` when there is nothing.
    ///
    /// # Errors
    /// When the kernel does not let us read what it let us open.
    pub fn read(&self, at: usize, page: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match rustix::io::read(&self.pipes[at].file, &mut *page) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(None),
                Ok(length) => return Ok(Some(length)),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// How many CPUs are named in `/sys/devices/system/cpu/online`: `0-3,8`.
pub fn count_online(text: &str) -> Option<usize> {
    let mut count = 0_usize;
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Write as _, pipe};

    use rustix::fs::{OFlags, fcntl_setfl};

    use super::*;

    fn ring() -> (OwnedFd, PipeWriter) {
        let (reader, writer) = pipe().unwrap();
        fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        (reader.into(), writer)
    }

    /// A pipe in error, as that of a CPU without a ring is; here it is the end to write to, with nobody to read.
    fn in_error() -> OwnedFd {
        pipe().unwrap().1.into()
    }

    #[test]
    fn a_cpu_without_a_ring_is_left_alone_until_it_has_one() {
        let (reader, mut writer) = ring();
        let mut pipes = Pipes::default();
        pipes.add("cpu0".into(), reader);
        pipes.add("cpu1".into(), in_error());
        let mut now = 5;
        assert!(!pipes.wait(Duration::ZERO, now).unwrap());
        assert_eq!((pipes.there(), pipes.cpus().collect::<Vec<_>>()), (vec![0], vec!["cpu0"]));
        writer.write_all(b"abc").unwrap();
        assert!(pipes.wait(Duration::from_secs(20), now).unwrap());
        let mut page = [0; 8];
        assert_eq!((pipes.read(0, &mut page).unwrap(), pipes.read(0, &mut page).unwrap()), (Some(3), None));
        // It is brought up, which is noticed at the next look at all.
        let (reader, mut late) = ring();
        rustix::io::dup2(&reader, &mut pipes.pipes[1].file).unwrap();
        late.write_all(b"de").unwrap();
        assert!(!pipes.wait(Duration::ZERO, now).unwrap());
        now += ASK_AGAIN_NS + 1;
        assert!(pipes.wait(Duration::ZERO, now).unwrap());
        assert_eq!((pipes.there(), pipes.read(1, &mut page).unwrap()), (vec![0, 1], Some(2)));
    }

    #[test]
    fn cpus_are_counted_from_their_ranges() {
        for (text, count) in [("0-1\n", Some(2)), ("0", Some(1)), ("0-3,8,10-11", Some(7)), ("", None), ("3-1", None)] {
            assert_eq!(count_online(text), count, "{text}");
        }
    }
}
