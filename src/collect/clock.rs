//! The kernel's clocks, and how long a reader of events waits for more of them.

use std::time::Duration;

/// After a wake-up, records of this span are read together: a wake-up per record costs more than the record.
pub(super) const GATHER: Duration = Duration::from_millis(2);

/// `CLOCK_MONOTONIC`, as `bpf_ktime_get_ns` reads it.
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Milliseconds of the monotonic clock.
#[must_use]
pub fn monotonic_ms() -> u64 {
    monotonic_ns() / 1_000_000
}

/// Milliseconds of the wall clock since the epoch.
#[must_use]
pub fn wall_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// A span of time in whole milliseconds.
#[must_use]
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// CPU time of this process, all threads.
#[must_use]
pub fn cpu_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(used.tv_sec).unwrap_or(0), u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// Both clocks, read together: the wall clock may be set while a trace runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    wall_us: i64,
    pub monotonic_ns: u64,
}

impl Now {
    pub fn read() -> Now {
        Now { wall_us: jiff::Timestamp::now().as_microsecond(), monotonic_ns: monotonic_ns() }
    }

    /// The wall clock at a time of the monotonic one, in microseconds.
    pub fn wall_us_at(self, monotonic_ns: u64) -> i64 {
        let ago_us = self.monotonic_ns.saturating_sub(monotonic_ns) / 1000;
        self.wall_us - i64::try_from(ago_us).unwrap_or(0)
    }
}
