//! A network namespace as a source: its channel, and what the last visit read.
//!
//! Input: a handle of the namespace. Output: a channel into it, or none where there are no sockets.

use crate::collect::error::Error;
use crate::collect::netlink::Channel;
use crate::collect::netns::NetnsHandle;
use crate::collect::probe::NetnsProbe;
use crate::collect::proc::ProcRoot;
use crate::model::StateSet;

/// A namespace to look into.
pub(super) struct NetnsSource {
    pub(super) space: NetnsHandle,
    /// Kept open in our own namespace; in others it lives for one dump, because there may be hundreds.
    pub(super) channel: Option<Channel>,
    /// What the last visit read.
    pub(super) seen: Option<NetnsProbe>,
}

impl NetnsSource {
    pub(super) fn new(space: NetnsHandle, seen: Option<NetnsProbe>) -> NetnsSource {
        NetnsSource { space, channel: None, seen }
    }

    /// Visits the namespace.
    pub(super) fn visit(&mut self, root: &ProcRoot) -> Result<&NetnsProbe, Error> {
        let seen = match self.seen.take().filter(NetnsProbe::is_fresh) {
            Some(seen) => seen,
            None => self.space.inside(|| NetnsProbe::read(root))?,
        };
        Ok(self.seen.insert(seen))
    }

    /// A channel into this namespace: the open one, or a new one; none if there are no sockets. Only other
    /// namespaces can be without a socket, because the channel is one. A visit serves one query; the query for
    /// listeners alone, which precedes the one for all rows, does not use it up.
    pub(super) fn take_channel(&mut self, root: &ProcRoot, states: StateSet) -> Result<Option<Channel>, Error> {
        if let Some(channel) = self.channel.take() {
            return Ok(Some(channel));
        }
        let (inode, own) = (self.space.inode, self.space.is_own());
        // A netlink socket belongs to the namespace of the thread that made it, whichever thread uses it later.
        let open = || Channel::open(inode).map(Some);
        if own {
            return open();
        }
        let seen = &mut self.seen;
        let channel = match seen.as_ref().filter(|s| s.is_fresh()).map(|s| s.empty) {
            Some(true) => Ok(None),
            Some(false) => self.space.inside(open)?,
            None => self.space.inside(|| if seen.insert(NetnsProbe::read(root)).empty { Ok(None) } else { open() })?,
        };
        if let Some(seen) = seen {
            seen.used |= states != StateSet::LISTEN;
        }
        channel
    }

    /// Keeps a channel for the next query.
    pub(super) fn keep_channel(&mut self, channel: Channel) {
        self.channel = self.space.is_own().then_some(channel);
    }
}
