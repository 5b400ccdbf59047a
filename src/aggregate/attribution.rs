//! How certain the owner of a row is that has none any more (TIME_WAIT, an orphan): one ladder of evidence for all.
//!
//! Input: what speaks for an owner. Output: a confidence, 0 to 1. Not here: finding the evidence, which a memory
//! (`ownership`) and a pair of snapshots (`diagnose::attribution`) do each in their way.

/// What speaks for an owner, the best first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OwnerEvidence {
    /// It held a socket with the same cookie.
    SeenBefore,
    /// It was traced closing the socket.
    Traced,
    /// It held a socket with the same four-tuple; the cookie is not known.
    SameFourTuple,
    /// It holds the listener by which the connection came; `exact`: of that address, not of a wildcard.
    Listener { exact: bool },
    /// It is one of several processes that hold the listener together.
    ListenerOfService,
    /// It has connections to where the row's went.
    Destination {
        same: Same,
        /// How many were seen.
        seen: u64,
        /// Its part of all that were seen, 0 to 1; `None` when it alone was seen.
        share: Option<f64>,
    },
}

/// What two destinations have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Same {
    HostAndPort,
    Host,
    Port,
}

/// Connections by which a destination belongs to the only process that has any.
const ENOUGH: u64 = 3;
/// The most that connections to the same destination prove if they are few, or of several processes.
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
            OwnerEvidence::Destination { same, seen, share } => {
                let most = match same {
                    Same::HostAndPort => 0.75,
                    Same::Host => 0.4,
                    Same::Port => 0.3,
                };
                match share {
                    None if seen >= ENOUGH => most,
                    None => DOUBTFUL.min(most),
                    Some(share) => share.min(most).min(DOUBTFUL),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_counts_more_than_what_is_likely() {
        let to = |same, seen, share| OwnerEvidence::Destination { same, seen, share };
        let ladder = [
            OwnerEvidence::SeenBefore,
            OwnerEvidence::Traced,
            OwnerEvidence::SameFourTuple,
            OwnerEvidence::Listener { exact: true },
            OwnerEvidence::ListenerOfService,
            OwnerEvidence::Listener { exact: false },
            to(Same::HostAndPort, 3, None),
            to(Same::HostAndPort, 2, None),
            to(Same::HostAndPort, 50, Some(0.55)),
            to(Same::Host, 3, None),
            to(Same::Port, 3, None),
            to(Same::Port, 3, Some(0.1)),
        ];
        let confidences: Vec<f64> = ladder.iter().map(|evidence| evidence.confidence()).collect();
        assert!(confidences.is_sorted_by(|a, b| a > b), "{confidences:?}");
    }
}
