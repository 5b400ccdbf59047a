//! Runs one query: from `sock_diag` or `/proc/net/tcp`, namespace by namespace, with or without a thread.
//!
//! Input: a [`Query`]. Output: sockets pushed into a sink, and a [`Gap`] for what is missing.

use std::io;
use std::ops::ControlFlow;

use crate::collect::error::Error;
use crate::collect::live::{BOUND_INACTIVE_SINCE, Fallback, Live, SourceChoice};
use crate::collect::netlink::request::Walk;
use crate::collect::proc::net_tcp;
use crate::collect::query::{Ahead, Families, LARGE_TABLE, Query, Sink};
use crate::cores;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::{Family, Gap, Socket, Source};

/// How much may queue for a sink that is not ready: less with many sockets, because the table of their owners takes
/// memory at the same time.
const WAITING_BYTES: u64 = 8 << 20;
const OWNER_BYTES: u64 = 8;

impl Live {
    /// Pushes every matching socket into the sink, and returns what is missing.
    ///
    /// # Errors
    /// When the source returns nothing at all.
    pub fn sockets(&mut self, query: &Query, gaps: &mut Vec<Gap>, sink: Sink<'_>) -> Result<(), Error> {
        if let Some(recorded) = &self.recorded {
            Live::recorded_sockets(recorded, query, sink);
            return Ok(());
        }
        let mut given = false;
        for place in 0..self.spaces.len() {
            let result = self.sockets_of(place, query, gaps, &mut |socket| {
                given = true;
                sink(socket)
            });
            match result {
                Ok(true) => break,
                Ok(false) => given = true,
                // The caller may retry with another query as long as no row was pushed; after that, rows would
                // repeat.
                Err(e) if !given => return Err(e),
                Err(e) => {
                    let netns = self.spaces[place].space.label();
                    gaps.push(Gap::new(Missing::NetnsSockets { netns }, Why::Error(e.to_string()), WayOut::None));
                }
            }
        }
        Ok(())
    }

    /// The same for a sink that stops with a value, which is returned.
    ///
    /// # Errors
    /// As [`Live::sockets`].
    pub fn sockets_until<B>(
        &mut self,
        query: &Query,
        gaps: &mut Vec<Gap>,
        mut sink: impl FnMut(&Socket) -> ControlFlow<B>,
    ) -> Result<Option<B>, Error> {
        let mut value = None;
        self.sockets(query, gaps, &mut |socket| match sink(socket) {
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
            ControlFlow::Break(broke) => {
                value = Some(broke);
                ControlFlow::Break(())
            }
        })?;
        Ok(value)
    }

    /// The same for one namespace; true when the sink has enough.
    pub(super) fn sockets_of(
        &mut self,
        place: usize,
        query: &Query,
        gaps: &mut Vec<Gap>,
        sink: Sink<'_>,
    ) -> Result<bool, Error> {
        if self.netlink {
            let mut given = false;
            match self.netlink_sockets(place, query, gaps, &mut |socket| {
                given = true;
                sink(socket)
            }) {
                // With bytecode, the kernel may have refused the bytecode: the caller can send another.
                Err(e)
                    if self.choice == SourceChoice::Auto
                        && !given
                        && query.bytecode.is_empty()
                        && (e.is_missing() || e.is_permission()) =>
                {
                    self.netlink = false;
                    self.fallback = Some(Fallback::new(&e));
                }
                other => return other,
            }
        }
        self.proc_sockets(place, query, gaps, sink)
    }

    fn netlink_sockets(
        &mut self,
        place: usize,
        query: &Query,
        gaps: &mut Vec<Gap>,
        sink: Sink<'_>,
    ) -> Result<bool, Error> {
        let threads = (query.ahead != Ahead::No).then(|| self.threads(place)).flatten();
        let waiting_bytes = match (query.ahead, threads) {
            (Ahead::Start, Some(sockets)) => WAITING_BYTES.saturating_sub(OWNER_BYTES * sockets),
            _ => 0,
        };
        let beside = query.beside().filter(|_| threads.is_some() && self.host.version() >= BOUND_INACTIVE_SINCE);
        let walks: &[Walk] = match query.families {
            Families::Only(family) => &[Walk::One(family)],
            Families::Both if self.two_passes => &[Walk::One(Family::V4), Walk::One(Family::V6)],
            Families::Both => &[Walk::Both],
        };
        for (i, walk) in walks.iter().enumerate() {
            let Some(mut channel) = self.spaces[place].take_channel(&self.root, query.states)? else {
                return Ok(false);
            };
            self.dumps += 1;
            let second =
                if beside.is_some() { self.spaces[place].take_channel(&self.root, query.states)? } else { None };
            let beside = beside.zip(second);
            let request = query.request(*walk, beside.as_ref().map_or(query.states, |((rest, _), _)| *rest));
            let dumped = if let Some(((_, bound), mut second)) = beside {
                self.dumps += 1;
                let bound = query.request(*walk, bound);
                channel.dump_ahead(&request, Some((&mut second, &bound)), bytes_of(waiting_bytes), sink)
            } else if threads.is_some() {
                channel.dump_ahead(&request, None, bytes_of(waiting_bytes), sink)
            } else {
                channel.dump(&request, sink)
            };
            let report = match dumped {
                Err(e) if *walk == Walk::Both && e.is_missing() => {
                    self.two_passes = true;
                    self.spaces[place].keep_channel(channel);
                    return self.netlink_sockets(place, query, gaps, sink);
                }
                // This kernel may lack the second family.
                Err(e) if i > 0 && e.is_missing() => continue,
                other => other?,
            };
            if let Some(why) = report.incomplete {
                let netns = (self.spaces.len() > 1).then(|| self.spaces[place].space.label());
                gaps.push(Gap::new(Missing::Rows { netns }, Why::Dump(why), WayOut::RunAgain));
            }
            if report.stopped {
                // The rest of the answer is still queued in this channel; the next query opens another.
                return Ok(true);
            }
            self.spaces[place].keep_channel(channel);
        }
        Ok(false)
    }

    /// About how many sockets the namespace has, when they are enough to make threads worthwhile.
    pub(super) fn threads(&mut self, place: usize) -> Option<u64> {
        let place = &mut self.spaces[place];
        // A recent count will do.
        let size = match &place.seen {
            Some(seen) => seen.sockets,
            None => place.visit(&self.root).map_or(0, |seen| seen.sockets),
        };
        (size >= LARGE_TABLE && cores::count() > 1).then_some(size)
    }

    /// The namespaces whose tables are so large that threads receive ahead of the decoder.
    pub fn large_tables(&mut self) -> usize {
        if self.source() != Source::Netlink {
            return 0;
        }
        (0..self.spaces.len()).filter(|place| self.threads(*place).is_some()).count()
    }

    /// The namespaces without sockets, which are skipped.
    #[must_use]
    pub fn empty_namespaces(&mut self) -> usize {
        if self.source() != Source::Netlink {
            return 0;
        }
        let others = self.spaces.iter_mut().filter(|place| !place.space.is_own());
        others.filter_map(|place| place.visit(&self.root).ok().map(|seen| seen.empty)).filter(|empty| *empty).count()
    }

    fn proc_sockets(&self, place: usize, query: &Query, gaps: &mut Vec<Gap>, sink: Sink<'_>) -> Result<bool, Error> {
        let space = &self.spaces[place].space;
        for (family, file) in [(Family::V4, "tcp"), (Family::V6, "tcp6")] {
            if !query.families.contains(family) {
                continue;
            }
            // The table belongs to the namespace of the thread that opens it, whichever thread reads it later.
            let path = self.root.net().join(file);
            let opened = space.inside(|| std::fs::File::open(&path))?;
            let read = opened.and_then(|table| {
                net_tcp::parse(table, family, space.inode, &mut |socket| {
                    if query.states.contains(socket.state) { sink(socket) } else { ControlFlow::Continue(()) }
                })
            });
            let table = match read {
                // A kernel without IPv6 has neither this table nor such sockets.
                Err(e) if family == Family::V6 && e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => {
                    return Err(
                        Error::new("read", path.display().to_string(), e).hint("is a proc file system mounted there?")
                    );
                }
                Ok(table) => table,
            };
            if table.unreadable_lines > 0 {
                let missing = table.unreadable_lines;
                gaps.push(Gap::new(
                    Missing::Lines { missing, of: table.rows + missing },
                    Why::Malformed { path: path.display().to_string() },
                    WayOut::None,
                ));
            }
            if table.stopped {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn bytes_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}
