//! The dump loop: one request, many datagrams, every socket pushed into a sink.
//!
//! Input: a [`Request`] and a sink. Output: a [`Report`]: how many rows arrived and, when the dump was incomplete,
//! why.

use std::io;
use std::ops::ControlFlow;
use std::sync::mpsc;

use netlink_sys::Socket as NetlinkSocket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use crate::collect::error::{self, Error};
use crate::collect::netlink::decode;
use crate::collect::netlink::message::{HEADER_BYTES, NLMSG_DONE, NLMSG_ERROR, receive};
use crate::collect::netlink::request::{self, Attributes, Request};
use crate::cores;
use crate::model::gap::Incomplete;
use crate::model::{Family, FourTuple, NetnsId, Socket};

/// The kernel fills at most 32 KiB per datagram (`netlink_dump`); twice that is headroom.
const BUFFER_BYTES: usize = 64 * 1024;
/// Datagrams passed on together when receiving runs ahead of the decoder: each batch wakes a thread.
const BATCH: usize = 8;
/// Minimum number of batches that may wait for the decoder.
const FEWEST_AHEAD: usize = 2;
/// Size of their buffers: the kernel fills half a buffer, and the last one must fit whole.
const BATCH_BYTES: usize = (BATCH + 1) * BUFFER_BYTES / 2;
/// The table changed under the dump (`NLM_F_DUMP_INTR`).
const FLAG_INTERRUPTED: u16 = 0x10;

/// The result of a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub rows: u64,
    /// Why rows are missing; `None` for a complete dump.
    pub incomplete: Option<Incomplete>,
    /// The sink asked to stop.
    pub stopped: bool,
}

impl Report {
    fn incomplete(&mut self, why: Incomplete) {
        self.incomplete.get_or_insert(why);
    }

    /// Adds the result of a second dump.
    fn add(&mut self, more: Report) {
        self.rows += more.rows;
        self.stopped = more.stopped;
        more.incomplete.into_iter().for_each(|why| self.incomplete(why));
    }
}

/// The source of datagrams: the kernel, or recorded bytes.
pub trait Datagrams {
    /// Puts the next datagrams into the buffer, or swaps in another buffer, and returns their true length, which
    /// exceeds the buffer when one was truncated.
    ///
    /// # Errors
    /// The system's error.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize>;
}

impl Datagrams for NetlinkSocket {
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        receive(self, buffer)
    }
}

/// An open `sock_diag` socket with its buffer. It sees the network namespace of the thread that opened it.
pub struct Channel {
    socket: NetlinkSocket,
    buffer: Vec<u8>,
    sequence: u32,
    netns: Option<NetnsId>,
    scratch: Socket,
}

impl Channel {
    /// Opens a channel in the namespace of this thread; `netns` is that namespace's inode, for the rows.
    ///
    /// # Errors
    /// When the kernel has no netlink `sock_diag`.
    pub fn open(netns: Option<NetnsId>) -> Result<Channel, Error> {
        let socket =
            NetlinkSocket::new(NETLINK_SOCK_DIAG).map_err(|e| Error::new("open a sock_diag netlink socket", "", e))?;
        Ok(Channel { socket, buffer: vec![0; BUFFER_BYTES], sequence: 0, netns, scratch: Socket::default() })
    }

    /// Runs one dump.
    ///
    /// # Errors
    /// When the kernel refuses the request; a dump that fails later is reported as incomplete instead.
    pub fn dump(
        &mut self,
        request: &Request,
        sink: &mut dyn FnMut(&Socket) -> ControlFlow<()>,
    ) -> Result<Report, Error> {
        let fail = |e| Error::new("ask sock_diag for a dump", "", e);
        let sequence = next(&mut self.sequence);
        self.socket.send(&request.encode(sequence), 0).map_err(fail)?;
        drain(&mut self.socket, &mut self.buffer, sequence, self.netns, &mut self.scratch, sink).map_err(fail)
    }

    /// Runs one dump with a thread that receives while this one decodes, so that the kernel's work and ours overlap.
    ///
    /// Up to `bytes` of answers may wait for the decoder. A second request can run `beside` the first, on its own
    /// channel: the kernel serves both at once, and its rows follow those of the first.
    ///
    /// # Errors
    /// As [`Channel::dump`].
    pub fn dump_ahead(
        &mut self,
        request: &Request,
        mut beside: Option<(&mut Channel, &Request)>,
        bytes: usize,
        sink: &mut dyn FnMut(&Socket) -> ControlFlow<()>,
    ) -> Result<Report, Error> {
        let fail = |e| Error::new("ask sock_diag for a dump", "", e);
        let scratch = &mut self.scratch;
        let sequence = next(&mut self.sequence);
        let (socket, question) = (&mut self.socket, request.encode(sequence));
        let second = beside.as_mut().map(|(channel, request)| {
            let sequence = next(&mut channel.sequence);
            (&mut channel.socket, request.encode(sequence), sequence)
        });
        // Without a thread, the dumps run one after the other.
        let taken = std::thread::scope(|scope| {
            let Some(mut main) = Ahead::start(scope, socket, question, bytes) else { return Ok(None) };
            let second = second
                .and_then(|(socket, question, sequence)| Some((Ahead::start(scope, socket, question, 0)?, sequence)));
            let mut buffer = Vec::new();
            let mut report = drain(&mut main, &mut buffer, sequence, self.netns, scratch, sink)?;
            let both = second.is_some();
            if let (Some((mut second, sequence)), false) = (second, report.stopped) {
                // A buffer returns to its thread.
                let mut buffer = Vec::new();
                report.add(drain(&mut second, &mut buffer, sequence, self.netns, scratch, sink)?);
            }
            Ok(Some((report, both)))
        })
        .map_err(fail)?;
        let (mut report, both) = match taken {
            Some(taken) => taken,
            None => (self.dump(request, sink)?, false),
        };
        if let (Some((channel, request)), false, false) = (beside, both, report.stopped) {
            report.add(channel.dump(request, sink)?);
        }
        Ok(report)
    }

    /// Looks up one socket by its four-tuple and cookie; `None` when it is gone.
    ///
    /// # Errors
    /// When the kernel refuses the request.
    pub fn lookup(
        &mut self,
        family: Family,
        tuple: FourTuple,
        cookie: u64,
        attributes: Attributes,
    ) -> Result<Option<Socket>, Error> {
        match self.ask(|sequence| request::encode_lookup(family, tuple, cookie, attributes, sequence)) {
            Err(e) if is_gone(&e) => Ok(None),
            other => other.map_err(|e| Error::new("look up a socket in sock_diag", tuple.to_string(), e)),
        }
    }

    /// Destroys one socket by its four-tuple and cookie.
    ///
    /// # Errors
    /// The kernel's; `ENOENT` when no socket has both.
    pub fn destroy(&mut self, family: Family, tuple: FourTuple, cookie: u64) -> io::Result<()> {
        self.ask(|sequence| request::encode_destroy(family, tuple, cookie, sequence)).map(drop)
    }

    /// Sends a request about one socket; its row, if the answer has one.
    fn ask(&mut self, encode: impl FnOnce(u32) -> Vec<u8>) -> io::Result<Option<Socket>> {
        let sequence = next(&mut self.sequence);
        self.socket.send(&encode(sequence), 0)?;
        let n = self.socket.receive(&mut self.buffer)?;
        let answer = &self.buffer[..n.min(self.buffer.len())];
        let mut found = None;
        let mut report = Report::default();
        let _end = scan(answer, sequence, self.netns, &mut self.scratch, &mut report, &mut |s| {
            found = Some(s.clone());
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }
}

/// The sequence number of the next request.
fn next(sequence: &mut u32) -> u32 {
    *sequence = sequence.wrapping_add(1);
    *sequence
}

/// A buffer and the result of receiving into it: the true length of one datagram, or of several that all fit.
type Batch = (Vec<u8>, io::Result<usize>);

/// Datagrams that another thread receives.
struct Ahead {
    arrivals: mpsc::Receiver<Batch>,
    back: mpsc::Sender<Vec<u8>>,
}

impl Ahead {
    /// Starts the thread; it ends with the dump, or when its output is no longer taken. It also sends the request:
    /// the kernel produces the first datagram while the request is sent (`netlink_dump_start`), which may be a whole
    /// walk. `None` when no thread can be started; then nothing was sent.
    fn start<'scope>(
        scope: &'scope std::thread::Scope<'scope, '_>,
        socket: &'scope mut NetlinkSocket,
        question: Vec<u8>,
        bytes: usize,
    ) -> Option<Ahead> {
        let buffers = (bytes / BATCH_BYTES).max(FEWEST_AHEAD);
        let (full, arrivals) = mpsc::sync_channel(buffers);
        let (back, empty) = mpsc::channel();
        cores::start(scope, move || match socket.send(&question, 0) {
            Ok(_) => receive_all(socket, buffers, &empty, &full),
            // Nothing waits for it when it cannot be sent.
            Err(e) => drop(full.send((Vec::new(), Err(e)))),
        })
        .ok()?;
        Some(Ahead { arrivals, back })
    }
}

impl Datagrams for Ahead {
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        if !buffer.is_empty() {
            // A receiver that has reached the end takes no buffer back.
            let _ = self.back.send(std::mem::take(buffer));
        }
        let Ok((next, received)) = self.arrivals.recv() else { return Ok(0) };
        *buffer = next;
        received
    }
}

/// Receives into this many buffers until the dump ends or its output is no longer taken.
fn receive_all(
    socket: &mut NetlinkSocket,
    buffers: usize,
    empty: &mpsc::Receiver<Vec<u8>>,
    full: &mpsc::SyncSender<Batch>,
) {
    let mut made = 0;
    loop {
        let mut buffer = match empty.try_recv() {
            Ok(buffer) => buffer,
            Err(_) if made < buffers => {
                made += 1;
                vec![0; BATCH_BYTES]
            }
            Err(_) => match empty.recv() {
                Ok(buffer) => buffer,
                Err(_) => return,
            },
        };
        let (filled, end) = receive_batch(&mut buffer, |room| receive(socket, room));
        let handed_on = (filled == 0 || full.send((buffer, Ok(filled))).is_ok()).then_some(end);
        match handed_on {
            Some(DumpEnd::More) => {}
            Some(DumpEnd::Error(why)) => return drop(full.send((Vec::new(), Err(why)))),
            Some(DumpEnd::Done) | None => return,
        }
    }
}

/// What to do after a batch.
enum DumpEnd {
    More,
    Done,
    Error(io::Error),
}

/// Fills a buffer with whole datagrams while another one fits. A length beyond the buffer means that the last one
/// was truncated.
fn receive_batch(buffer: &mut [u8], mut receive: impl FnMut(&mut [u8]) -> io::Result<usize>) -> (usize, DumpEnd) {
    let mut filled = 0;
    while filled + BUFFER_BYTES <= buffer.len() {
        let room = &mut buffer[filled..];
        match receive(room) {
            Err(why) => return (filled, DumpEnd::Error(why)),
            Ok(0) => return (filled, DumpEnd::Done),
            Ok(len) => {
                let last = is_last(&room[..len.min(room.len())]);
                // Messages are aligned to four bytes.
                filled += if len > room.len() { len } else { len.next_multiple_of(4).min(room.len()) };
                if last {
                    return (filled, DumpEnd::Done);
                }
            }
        }
    }
    (filled, DumpEnd::More)
}

/// Whether a datagram has the end of a dump.
fn is_last(mut bytes: &[u8]) -> bool {
    while let Some(head) = bytes.first_chunk::<HEADER_BYTES>() {
        let len = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = u16::from_ne_bytes([head[4], head[5]]);
        if matches!(kind, NLMSG_DONE | NLMSG_ERROR) {
            return true;
        }
        bytes = bytes.get(len.max(HEADER_BYTES).next_multiple_of(4)..).unwrap_or(&[]);
    }
    false
}

/// Reads datagrams until the dump ends.
///
/// # Errors
/// When the kernel answers the request itself with an error.
pub fn drain<D: Datagrams>(
    source: &mut D,
    buffer: &mut Vec<u8>,
    sequence: u32,
    netns: Option<NetnsId>,
    scratch: &mut Socket,
    sink: &mut dyn FnMut(&Socket) -> ControlFlow<()>,
) -> io::Result<Report> {
    let mut report = Report::default();
    loop {
        let len = source.receive(buffer)?;
        if len == 0 {
            report.incomplete(Incomplete::NoDone);
            return Ok(report);
        }
        if len > buffer.len() {
            report.incomplete(Incomplete::Truncated { bytes: len, room: buffer.len() });
        }
        let bytes = &buffer[..len.min(buffer.len())];
        if scan(bytes, sequence, netns, scratch, &mut report, sink)?.is_break() {
            return Ok(report);
        }
    }
}

/// Reads the messages of one datagram; `Break` at the end of the dump or when the sink has enough.
fn scan(
    mut bytes: &[u8],
    sequence: u32,
    netns: Option<NetnsId>,
    scratch: &mut Socket,
    report: &mut Report,
    sink: &mut dyn FnMut(&Socket) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    while bytes.len() >= HEADER_BYTES {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let (len, kind, flags) = (word(0) as usize, half(4), half(6));
        let Some(payload) = bytes.get(HEADER_BYTES..len) else {
            report.incomplete(Incomplete::LongMessage);
            return Ok(ControlFlow::Continue(()));
        };
        if word(8) == sequence {
            if flags & FLAG_INTERRUPTED != 0 {
                report.incomplete(Incomplete::Interrupted);
            }
            let code = || payload.first_chunk().map_or(0, |b| i32::from_ne_bytes(*b));
            match kind {
                NLMSG_DONE => {
                    // A dump that fails half-way reports it only here.
                    if code() < 0 {
                        let why = io::Error::from_raw_os_error(-code());
                        if report.rows == 0 {
                            return Err(why);
                        }
                        report.incomplete(Incomplete::Failed(error::reason(&why)));
                    }
                    return Ok(ControlFlow::Break(()));
                }
                NLMSG_ERROR => {
                    if code() != 0 {
                        return Err(io::Error::from_raw_os_error(code().saturating_neg()));
                    }
                }
                _ => match decode::decode_into(payload, netns, scratch) {
                    Ok(()) => {
                        report.rows += 1;
                        if sink(scratch).is_break() {
                            report.stopped = true;
                            return Ok(ControlFlow::Break(()));
                        }
                    }
                    Err(why) => report.incomplete(Incomplete::Undecoded(why.to_string())),
                },
            }
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    if !bytes.is_empty() {
        report.incomplete(Incomplete::CutHeader);
    }
    Ok(ControlFlow::Continue(()))
}

/// Whether the kernel finds no socket with these addresses, ports and cookie (`inet_diag_find_one_icsk`).
pub(in crate::collect) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::netlink::decode::tests::sample;
    use std::collections::VecDeque;

    struct Recorded(VecDeque<Vec<u8>>);

    impl Datagrams for Recorded {
        fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
            let Some(next) = self.0.pop_front() else { return Ok(0) };
            let n = next.len().min(buffer.len());
            buffer[..n].copy_from_slice(&next[..n]);
            Ok(next.len())
        }
    }

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&u32::try_from(16 + payload.len()).unwrap().to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&1u32.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(payload);
        while bytes.len() % 4 != 0 {
            bytes.push(0);
        }
        bytes
    }

    fn run(datagrams: Vec<Vec<u8>>, buffer: usize) -> io::Result<Report> {
        let mut seen = 0;
        let result =
            drain(&mut Recorded(datagrams.into()), &mut vec![0; buffer], 1, None, &mut Socket::default(), &mut |_| {
                seen += 1;
                ControlFlow::Continue(())
            });
        if let Ok(report) = &result {
            assert_eq!(report.rows, seen);
        }
        result
    }

    #[test]
    fn without_a_thread_both_questions_are_put_one_after_the_other() {
        use crate::model::{State, StateSet};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let of = |state| Request {
            walk: request::Walk::One(Family::V4),
            states: StateSet::of(&[state]),
            attributes: Attributes::default(),
            bytecode: Vec::new(),
        };
        let dump = || {
            let (mut channel, mut second) = (Channel::open(None).unwrap(), Channel::open(None).unwrap());
            let mut seen = 0;
            let listening = of(State::Listen);
            let report = channel.dump_ahead(&listening, Some((&mut second, &listening)), 0, &mut |s| {
                seen += u32::from(s.local.port == port);
                ControlFlow::Continue(())
            });
            (report.unwrap().incomplete, seen)
        };
        assert_eq!(dump(), (None, 2));
        assert_eq!(cores::testkit::without_threads(dump), (None, 2));
    }

    #[test]
    fn a_complete_dump_is_complete() {
        let rows = [message(20, 2, &sample()), message(20, 2, &sample())].concat();
        let report = run(vec![rows, message(NLMSG_DONE, 2, &0i32.to_ne_bytes())], 65536).unwrap();
        assert_eq!(report, Report { rows: 2, incomplete: None, stopped: false });
    }

    #[test]
    fn every_way_to_lose_rows_is_reported() {
        let row = message(20, 2, &sample());
        let done = |code: i32| message(NLMSG_DONE, 2, &code.to_ne_bytes());
        let short = decode::decode_into(&sample()[..40], None, &mut Socket::default()).unwrap_err().to_string();
        for (datagrams, buffer, why) in [
            (vec![row.clone(), done(-libc::ENOMEM)], 65536, Incomplete::Failed("cannot allocate memory".into())),
            (vec![row.clone(), done(0)], 100, Incomplete::Truncated { bytes: row.len(), room: 100 }),
            (vec![message(20, 2 | FLAG_INTERRUPTED, &sample()), done(0)], 65536, Incomplete::Interrupted),
            (vec![row.clone()], 65536, Incomplete::NoDone),
            (vec![message(20, 2, &sample()[..40]), done(0)], 65536, Incomplete::Undecoded(short)),
            (vec![row[..10].to_vec(), done(0)], 65536, Incomplete::CutHeader),
        ] {
            let report = run(datagrams, buffer).unwrap();
            assert_eq!(report.incomplete, Some(why));
        }
    }

    #[test]
    fn a_batch_holds_whole_datagrams_and_says_what_follows() {
        let row = message(20, 2, &sample());
        let done = message(NLMSG_DONE, 2, &0i32.to_ne_bytes());
        let batch = |datagrams: &[&[u8]], size: usize| {
            let mut waiting: VecDeque<&[u8]> = datagrams.iter().copied().collect();
            let mut buffer = vec![0; size];
            let (filled, end) = receive_batch(&mut buffer, |room| {
                let next = waiting.pop_front().ok_or(io::ErrorKind::TimedOut)?;
                let n = next.len().min(room.len());
                room[..n].copy_from_slice(&next[..n]);
                Ok(next.len())
            });
            (filled, end, buffer, waiting.len())
        };
        let (filled, end, buffer, _) = batch(&[&row, &row, &done, &row], BATCH_BYTES);
        assert!(matches!(end, DumpEnd::Done) && filled == 2 * row.len() + done.len());
        let report = run(vec![buffer[..filled].to_vec()], BATCH_BYTES).unwrap();
        assert_eq!((report.rows, report.incomplete), (2, None));
        // One whose length is not a multiple of four does not shift the next.
        let ragged = [&row[..], &[0; 2]].concat();
        let (filled, _, buffer, _) = batch(&[&ragged, &done], BATCH_BYTES);
        assert!(is_last(&buffer[row.len() + 4..filled]));
        // An error follows what came before it.
        let (filled, end, ..) = batch(&[&row], BATCH_BYTES);
        assert!(matches!(end, DumpEnd::Error(e) if e.kind() == io::ErrorKind::TimedOut) && filled == row.len());
        // The next one might not fit.
        let (filled, end, _, waiting) = batch(&[&row, &row], BUFFER_BYTES);
        assert!(matches!(end, DumpEnd::More) && filled == row.len() && waiting == 1);
        // The sum shows one that did not fit.
        let long = vec![0; BUFFER_BYTES + 8];
        assert!(batch(&[&long], BUFFER_BYTES).0 > BUFFER_BYTES);
    }

    #[test]
    fn a_refusal_is_an_error() {
        let refused = message(NLMSG_ERROR, 0, &(-libc::ENOENT).to_ne_bytes());
        assert_eq!(run(vec![refused], 65536).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        let done = message(NLMSG_DONE, 2, &(-libc::EINVAL).to_ne_bytes());
        assert_eq!(run(vec![done], 65536).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn a_datagram_cut_at_every_offset_never_panics_and_never_looks_complete() {
        let full = [message(20, 2, &sample()), message(NLMSG_DONE, 2, &0i32.to_ne_bytes())].concat();
        for len in 1..full.len() {
            if let Ok(report) = run(vec![full[..len].to_vec()], 65536) {
                assert!(report.incomplete.is_some(), "cut at {len}");
            }
        }
    }
}
