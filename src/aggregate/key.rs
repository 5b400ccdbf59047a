//! What sockets are grouped by: the name of a key, and what it needs.
//!
//! Input: a word of the command line. Output: a [`Key`]. Not here: its value for a row (`aggregate::groups`).

use std::borrow::Cow;

use crate::aggregate::prefix::Prefix;

/// What to group by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// The host of a row, where captures of several are read.
    Host,
    State,
    Family,
    Local,
    LocalAddr,
    LocalPort,
    Peer,
    PeerAddr,
    PeerPort,
    FourTuple,
    Process,
    User,
    Listener,
    Destination,
    Netns,
    Unit,
    Container,
    Pod,
    /// `local-addr/24`: local addresses by prefix.
    LocalNet(Prefix),
    /// `peer-addr/24`: peer addresses by prefix.
    PeerNet(Prefix),
}

impl Key {
    /// Every key, of prefixes only what they are prefixes of.
    pub const ALL: [Key; 18] = [
        Key::Host,
        Key::State,
        Key::Family,
        Key::Local,
        Key::LocalAddr,
        Key::LocalPort,
        Key::Peer,
        Key::PeerAddr,
        Key::PeerPort,
        Key::FourTuple,
        Key::Process,
        Key::User,
        Key::Listener,
        Key::Destination,
        Key::Netns,
        Key::Unit,
        Key::Container,
        Key::Pod,
    ];

    /// The name on the command line and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Key::Host => "host",
            Key::State => "state",
            Key::Family => "family",
            Key::Local => "local",
            Key::LocalAddr | Key::LocalNet(_) => "local-addr",
            Key::LocalPort => "local-port",
            Key::Peer => "peer",
            Key::PeerAddr | Key::PeerNet(_) => "peer-addr",
            Key::PeerPort => "peer-port",
            Key::FourTuple => "four-tuple",
            Key::Process => "process",
            Key::User => "user",
            Key::Listener => "listener",
            Key::Destination => "destination",
            Key::Netns => "netns",
            Key::Unit => "unit",
            Key::Container => "container",
            Key::Pod => "pod",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Key> {
        let word = word.trim().to_ascii_lowercase().replace('_', "-");
        if let Some((name, prefix)) = word.split_once('/') {
            let prefix = Prefix::parse(prefix)?;
            return match name {
                "local-addr" => Some(Key::LocalNet(prefix)),
                "peer-addr" => Some(Key::PeerNet(prefix)),
                _ => None,
            };
        }
        let word = match word.as_str() {
            "src" => "local",
            "dst" => "peer",
            "sport" => "local-port",
            "dport" => "peer-port",
            "tuple" => "four-tuple",
            other => other,
        };
        Key::ALL.into_iter().find(|k| k.name() == word)
    }

    /// The name with its prefix, as typed.
    #[must_use]
    pub fn label(self) -> Cow<'static, str> {
        match self {
            Key::LocalNet(Prefix { v4, v6 }) | Key::PeerNet(Prefix { v4, v6 }) => {
                Cow::Owned(format!("{}/{v4}/{v6}", self.name()))
            }
            _ => Cow::Borrowed(self.name()),
        }
    }

    /// Whether it needs socket owners.
    #[must_use]
    pub const fn needs_owners(self) -> bool {
        matches!(self, Key::Process | Key::Unit | Key::Container | Key::Pod)
    }

    /// Whether it is of the peer, which a socket that listens or is only bound has not.
    #[must_use]
    pub const fn is_of_peer(self) -> bool {
        matches!(self, Key::Peer | Key::PeerAddr | Key::PeerPort | Key::PeerNet(_))
    }

    /// Whether equal values mean the same only within one network namespace.
    #[must_use]
    pub const fn is_local(self) -> bool {
        matches!(self, Key::Local | Key::Peer | Key::FourTuple | Key::Listener | Key::Destination)
    }

    /// Whether equal values mean the same only on one host: a number of it, or an address that it may share with others.
    #[must_use]
    pub const fn is_of_host(self) -> bool {
        self.is_local() || matches!(self, Key::Process | Key::User | Key::Netns | Key::LocalAddr | Key::LocalNet(_))
    }

    /// The keys for rows of several namespaces or hosts: endpoints get their namespace as a key, and what is of a host gets the
    /// host.
    #[must_use]
    pub fn apart(keys: &[Key], of_netns: bool, of_hosts: bool) -> Vec<Key> {
        let wants = |key, wanted: bool, is_of: fn(Key) -> bool| {
            (wanted && !keys.contains(&key) && keys.iter().any(|k| is_of(*k))).then_some(key)
        };
        let host = wants(Key::Host, of_hosts, Key::is_of_host);
        let netns = wants(Key::Netns, of_netns, Key::is_local);
        host.into_iter().chain(netns).chain(keys.iter().copied()).collect()
    }

    /// Whether it also needs the cgroups of those processes.
    #[must_use]
    pub const fn needs_cgroups(self) -> bool {
        matches!(self, Key::Unit | Key::Container | Key::Pod)
    }
}
