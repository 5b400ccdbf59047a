//! Thresholds that are policy and not limits of the kernel.
//!
//! Comes in: defaults, overridden by name. Goes out: a number per name. Never here: reading a file; and no threshold that
//! the kernel itself defines.

/// One threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Threshold {
    pub name: &'static str,
    pub default: f64,
    /// Smallest and largest sensible value.
    pub range: (f64, f64),
    pub help: &'static str,
}

macro_rules! thresholds {
    ($($field:ident $name:literal = $default:literal in $min:literal..$max:literal, $help:literal;)*) => {
        /// The values in force.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub struct Thresholds {
            $(#[doc = $help] pub $field: f64,)*
        }

        impl Default for Thresholds {
            fn default() -> Thresholds {
                Thresholds { $($field: $default,)* }
            }
        }

        /// Every threshold, with its default.
        pub const THRESHOLDS: &[Threshold] = &[
            $(Threshold { name: $name, default: $default, range: ($min as f64, $max as f64), help: $help },)*
        ];

        impl Thresholds {
            /// The value of a threshold by name.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<f64> {
                match name {
                    $($name => Some(self.$field),)*
                    _ => None,
                }
            }

            fn slot(&mut self, name: &str) -> Option<&mut f64> {
                match name {
                    $($name => Some(&mut self.$field),)*
                    _ => None,
                }
            }
        }
    };
}

thresholds! {
    fd_warn_percent "fd-warn-percent" = 1.0 in 0..100, "leaked sockets, percent of the descriptor limit: warning";
    fd_high_percent "fd-high-percent" = 50.0 in 0..100, "leaked sockets, percent of the descriptor limit: warning, high on growth";
    fd_eta_high_hours "fd-eta-high-hours" = 1.0 in 0..8760, "time until descriptors run out, in hours: high";
    port_eta_high_seconds "port-eta-high-seconds" = 10.0 in 0..60, "time until ports run out, in seconds: high";
    queue_stuck_seconds "queue-stuck-seconds" = 10.0 in 0..86400, "data not read for so many seconds, from one sample";
    imbalance_sigma "imbalance-sigma" = 4.0 in 1..100, "deviation of one SO_REUSEPORT queue from its share, in sigma";
    abort_percent "abort-percent" = 5.0 in 0..100, "connections that end by reset, percent of those opened";
    abort_per_second "abort-per-second" = 1.0 in 0..1_000_000, "connections that end by reset, per second";
    bind_rows "bind-rows" = 16.0 in 1..65535, "connections of one owner before its port parity says anything";
    bind_port_percent "bind-port-percent" = 75.0 in 0..100, "ports bound before connecting, percent of the range: warning";
    accept_wait_high_seconds "accept-wait-high-seconds" = 3.0 in 1..86400, "wait in an accept queue, in seconds: high";
    zero_window_warn_seconds "zero-window-warn-seconds" = 10.0 in 0..86400, "peer does not read, in seconds: warning";
    zero_window_high_seconds "zero-window-high-seconds" = 60.0 in 0..86400, "peer does not read, in seconds: high";
    send_stuck_warn_seconds "send-stuck-warn-seconds" = 60.0 in 0..86400, "send queue does not move, in seconds: warning";
    fd_exhaustion_warn_percent "fd-exhaustion-warn-percent" = 80.0 in 0..100, "descriptors in use, percent of it: warning on growth";
    fd_exhaustion_high_percent "fd-exhaustion-high-percent" = 90.0 in 0..100, "descriptors in use, percent of it: warning, high if soon";
    fd_exhaustion_crit_percent "fd-exhaustion-crit-percent" = 98.0 in 0..100, "descriptors in use, percent of the limit: high";
    syn_sent_high_count "syn-sent-high-count" = 5.0 in 1..65535, "unanswered connects to one destination: high";
    accept_wait_warn_seconds "accept-wait-warn-seconds" = 1.0 in 0..86400, "wait in an accept queue, in seconds: warning";
    orphan_warn_percent "orphan-warn-percent" = 25.0 in 0..100, "stuck orphans, percent of the limit that they share: warning";
    conntrack_percent "conntrack-percent" = 90.0 in 1..100, "entries of connection tracking, percent of the limit: warning";
    path_idle_seconds "path-idle-seconds" = 0.0 in 0..86400, "silence that the path forgets, in seconds; 0: as the cloud or this host says";
    connect_failures "connect-failures" = 5.0 in 1..1_000_000, "failed connects of a program to a destination in one interval: warning";
    connect_failure_percent "connect-failure-percent" = 10.0 in 0..100, "the same, percent of its connects there: warning";
    loss_percent "loss-percent" = 5.0 in 0..100, "segments that are lost on the way to a peer, percent of those sent: warning";
    slow_request_seconds "slow-request-seconds" = 5.0 in 1..86400, "age of a request that does not end, in seconds";
    pileup_rows "pileup-rows" = 10.0 in 1..1_000_000, "closing connections of one peer or listener that are a pile-up";
}

/// Why a threshold cannot be set.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    UnknownName { name: String, nearest: Option<&'static str> },
    OutOfRange { name: &'static str, value: f64, range: (f64, f64) },
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::UnknownName { name, nearest: Some(near) } => {
                write!(f, "`{name}` is not a threshold; did you mean `{near}`?")
            }
            Refused::UnknownName { name, nearest: None } => write!(f, "`{name}` is not a threshold"),
            Refused::OutOfRange { name, value, range } => {
                write!(f, "{name} = {value} is out of range; use {} to {}", range.0, range.1)
            }
        }
    }
}

impl Thresholds {
    /// Sets a threshold by name, and returns the name as it is in the table.
    ///
    /// # Errors
    /// When there is no such threshold or the value is out of its range.
    pub fn set(&mut self, name: &str, value: f64) -> Result<&'static str, Refused> {
        let known = name.trim().to_ascii_lowercase().replace('_', "-");
        let Some(threshold) = THRESHOLDS.iter().find(|t| t.name == known) else {
            let nearest = crate::model::column::similar(&known, THRESHOLDS.iter().map(|t| t.name));
            return Err(Refused::UnknownName { name: name.to_owned(), nearest });
        };
        if !value.is_finite() || value < threshold.range.0 || value > threshold.range.1 {
            return Err(Refused::OutOfRange { name: threshold.name, value, range: threshold.range });
        }
        if let Some(slot) = self.slot(threshold.name) {
            *slot = value;
        }
        Ok(threshold.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_threshold_can_be_read_and_set_by_its_name() {
        let mut values = Thresholds::default();
        for threshold in THRESHOLDS {
            assert_eq!(values.get(threshold.name), Some(threshold.default));
            assert!(threshold.range.0 <= threshold.default && threshold.default <= threshold.range.1);
            values.set(threshold.name, threshold.range.1).unwrap();
            assert_eq!(values.get(threshold.name), Some(threshold.range.1));
        }
        assert!(values.set("fd-warn-percnt", 1.0).unwrap_err().to_string().contains("`fd-warn-percent`"));
        assert!(values.set("fd-warn-percent", 101.0).is_err() && values.set("fd-warn-percent", f64::NAN).is_err());
    }
}
