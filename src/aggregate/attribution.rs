//! How certain the lost owner of a row is (TIME_WAIT, an orphan): one scale of evidence for all callers.
//!
//! Input: the evidence for an owner. Output: a confidence, 0 to 1. The evidence is found by `ownership` (from
//! memory) and `diagnose::attribution` (from two snapshots).

/// Evidence for an owner, strongest first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OwnerEvidence {
    /// It held a socket with the same cookie.
    SeenBefore,
    /// It was traced closing the socket.
    Traced,
    /// It held a socket with the same four-tuple; the cookie is unknown.
    SameFourTuple,
    /// It holds the listener that accepted the connection; `exact`: on that address, not a wildcard.
    Listener { exact: bool },
    /// It is one of several processes that share the listener.
    ListenerOfService,
    /// It has connections to the row's destination.
    Destination {
        /// How many were seen.
        seen: u64,
        /// Its share of all that were seen, 0 to 1; `None` when it is the only one.
        share: Option<f64>,
    },
}

/// From this many connections on, a destination belongs to the only process that connects to it.
const ENOUGH: u64 = 3;
/// The most that connections to the same destination prove when they are few, or made by several processes.
const DOUBTFUL: f64 = 0.6;

impl OwnerEvidence {
    #[must_use]
    pub fn confidence(self) -> f64 {
        match self {
            OwnerEvidence::SeenBefore => 0.99,
            OwnerEvidence::Traced => 0.98,
            OwnerEvidence::SameFourTuple => 0.95,
            OwnerEvidence::Listener { exact: true } => 0.92,
            OwnerEvidence::ListenerOfService => 0.9,
            OwnerEvidence::Listener { exact: false } => 0.88,
            OwnerEvidence::Destination { seen, share } => match share {
                None if seen >= ENOUGH => 0.75,
                None => DOUBTFUL,
                Some(share) => share.min(DOUBTFUL),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_counts_more_than_what_is_likely() {
        let to = |seen, share| OwnerEvidence::Destination { seen, share };
        let ladder = [
            OwnerEvidence::SeenBefore,
            OwnerEvidence::Traced,
            OwnerEvidence::SameFourTuple,
            OwnerEvidence::Listener { exact: true },
            OwnerEvidence::ListenerOfService,
            OwnerEvidence::Listener { exact: false },
            to(3, None),
            to(2, None),
            to(50, Some(0.55)),
        ];
        let confidences: Vec<f64> = ladder.iter().map(|evidence| evidence.confidence()).collect();
        assert!(confidences.is_sorted_by(|a, b| a > b), "{confidences:?}");
    }
}
