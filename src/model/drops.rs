//! Where a host itself drops what it should send or has received.

/// A place with a counter of its own, cumulative since the device or the queue was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropPlace {
    /// Damaged on receipt (`/proc/net/dev`, `errs`).
    ReceiveErrors {
        device: String,
    },
    /// Received and dropped: no memory, no room in the ring of the driver, or nobody wanted it.
    ReceiveDropped {
        device: String,
    },
    SendErrors {
        device: String,
    },
    SendDropped {
        device: String,
    },
    /// Dropped by the queueing discipline of the device (`TCA_STATS_QUEUE`).
    Qdisc {
        device: String,
    },
}

impl DropPlace {
    /// As evidence names it.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            DropPlace::ReceiveErrors { device } => format!("{device} receive errors"),
            DropPlace::ReceiveDropped { device } => format!("{device} receive drops"),
            DropPlace::SendErrors { device } => format!("{device} send errors"),
            DropPlace::SendDropped { device } => format!("{device} send drops"),
            DropPlace::Qdisc { device } => format!("{device} qdisc drops"),
        }
    }
}
