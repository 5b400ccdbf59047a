//! One TCP socket of a test. Comes in: addresses and the steps of a situation. Goes out: a socket that did them, and
//! what the kernel says of it through the descriptor. Never here: waiting without a bound.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};
use tcpstate::model::state::State;

use super::{PATIENCE, wait_for};

/// A TCP socket. Dropping it resets the connection, so that nothing of it stays behind; [`Sock::close`] is the orderly
/// way, with a FIN.
#[derive(Debug)]
pub struct Sock {
    fd: OwnedFd,
    reset_on_drop: bool,
    /// Whom it called: before the handshake is done the kernel does not tell (`getpeername` is ENOTCONN).
    called: Option<SocketAddr>,
}

#[track_caller]
fn must<T>(operation: &str, result: rustix::io::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(e) => panic!("{operation}: {e}"),
    }
}

impl Sock {
    fn of(fd: OwnedFd) -> Sock {
        Sock { fd, reset_on_drop: true, called: None }
    }

    /// A socket that was never bound: no table of the kernel shows it.
    #[track_caller]
    pub fn new(family_of: SocketAddr) -> Sock {
        let family = if family_of.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let sock = Sock::of(must("socket", net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)));
        // Bounded waiting for accept, recv and send alike: a situation that does not come about is a failure, not a
        // hang.
        for side in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
            must("timeout", sockopt::set_socket_timeout(&sock.fd, side, Some(PATIENCE)));
        }
        sock
    }

    /// A socket bound to this address and nothing more.
    #[track_caller]
    pub fn bound(address: SocketAddr) -> Sock {
        let sock = Sock::new(address);
        sock.bind(address);
        sock
    }

    /// Gives the socket its own address; options that the kernel reads at that moment come before.
    #[track_caller]
    pub fn bind(&self, address: SocketAddr) {
        must("SO_REUSEADDR", sockopt::set_socket_reuseaddr(&self.fd, true));
        must(&format!("bind {address}"), net::bind(&self.fd, &address));
    }

    /// A listener. On an unspecified IPv6 address it takes IPv4 too.
    #[track_caller]
    pub fn listening(address: SocketAddr, backlog: u16) -> Sock {
        let sock = Sock::bound(address);
        sock.listen(backlog);
        sock
    }

    /// Starts to listen, or changes the backlog.
    #[track_caller]
    pub fn listen(&self, backlog: u16) {
        must("listen", net::listen(&self.fd, i32::from(backlog)));
    }

    /// A finished connection to a listener, from this local address if one is given.
    #[track_caller]
    pub fn connected(to: SocketAddr, from: Option<SocketAddr>) -> Sock {
        let sock = Sock::new(to);
        if let Some(from) = from {
            sock.bind(from);
        }
        sock.connect(to);
        sock
    }

    /// Connects a socket that was prepared before, and waits for the handshake.
    #[track_caller]
    pub fn connect(&self, to: SocketAddr) {
        must(&format!("connect to {to}"), net::connect(&self.fd, &to));
    }

    /// A connection attempt that is under way: nothing waits for its end.
    #[track_caller]
    pub fn connecting(to: SocketAddr, from: Option<SocketAddr>) -> Sock {
        let mut sock = Sock::new(to);
        if let Some(from) = from {
            sock.bind(from);
        }
        sock.called = Some(to);
        must("nonblocking", rustix::io::ioctl_fionbio(&sock.fd, true));
        match net::connect(&sock.fd, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => sock,
            Err(e) => panic!("connect to {to}: {e}"),
        }
    }

    /// The next connection out of the accept queue.
    #[track_caller]
    pub fn accept(&self) -> Sock {
        let sock = Sock::of(must("accept", net::accept_with(&self.fd, SocketFlags::CLOEXEC)));
        for side in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
            must("timeout", sockopt::set_socket_timeout(&sock.fd, side, Some(PATIENCE)));
        }
        sock
    }

    /// Sends all of this many bytes.
    #[track_caller]
    pub fn send(&self, bytes: usize) {
        let mut left = bytes;
        let block = [b'x'; 4096];
        while left > 0 {
            left -= must("send", net::send(&self.fd, &block[..left.min(block.len())], SendFlags::NOSIGNAL));
        }
    }

    /// Sends this many bytes in a segment of their own, as far as they fit: nothing is held back to fill it up.
    #[track_caller]
    pub fn send_at_once(&self, bytes: usize) {
        must("TCP_NODELAY", sockopt::set_tcp_nodelay(&self.fd, true));
        let block = [b'y'; 4096];
        match net::send(&self.fd, &block[..bytes.min(block.len())], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(e) => panic!("send: {e}"),
        }
    }

    /// Receives exactly this many bytes.
    #[track_caller]
    pub fn receive(&self, bytes: usize) {
        let mut left = bytes;
        let mut block = [0; 4096];
        while left > 0 {
            let end = left.min(block.len());
            let (got, _) = must("recv", net::recv(&self.fd, &mut block[..end], RecvFlags::empty()));
            assert!(got > 0, "end of stream with {left} of {bytes} bytes missing");
            left -= got;
        }
    }

    /// Receives the end of the stream, and nothing before it.
    #[track_caller]
    pub fn receive_eof(&self) {
        let (got, _) = must("recv", net::recv(&self.fd, &mut [0; 16], RecvFlags::empty()));
        assert_eq!(got, 0, "bytes where the end of the stream was expected");
    }

    /// Writes until the peer's buffer is full: all that was sent is acknowledged, and more waits behind a zero window.
    #[track_caller]
    pub fn fill(&self) {
        Sock::fill_all([self]);
    }

    /// As [`Sock::fill`] for many at once: each takes a delayed acknowledgement (40 ms) or two, all together no more.
    #[track_caller]
    pub fn fill_all<'a>(socks: impl IntoIterator<Item = &'a Sock>) {
        // What each showed when last looked at.
        let mut open: Vec<(&Sock, u32)> = socks.into_iter().map(|sock| (sock, 0)).collect();
        wait_for("zero windows", || {
            open.retain_mut(|(sock, before)| {
                sock.send_what_fits();
                // tcpi_unacked and tcpi_notsent_bytes.
                let (unacked, unsent) = (sock.info_u32(24), sock.info_u32(144));
                let settled = unacked == 0 && unsent > 0 && unsent == *before;
                *before = unsent;
                !settled
            });
            if open.is_empty() { Ok(()) } else { Err(format!("{} still open", open.len())) }
        });
    }

    fn send_what_fits(&self) {
        let block = [b'z'; 4096];
        loop {
            match net::send(&self.fd, &block, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(_) => {}
                Err(Errno::AGAIN) => return,
                Err(e) => panic!("send: {e}"),
            }
        }
    }

    /// Sends the FIN and keeps the socket.
    #[track_caller]
    pub fn shutdown(&self) {
        must("shutdown", net::shutdown(&self.fd, Shutdown::Write));
    }

    /// Closes in order, with a FIN (unless bytes were left unread, for which the kernel sends a reset).
    pub fn close(mut self) {
        self.reset_on_drop = false;
    }

    /// Waits until the kernel reports one of these states for the socket.
    #[track_caller]
    pub fn wait(&self, state: State) {
        wait_for(&format!("{state} on {}", self.local()), || {
            let now = self.state();
            if now == state { Ok(()) } else { Err(now.to_string()) }
        });
    }

    /// The state, from the first byte of `TCP_INFO`.
    #[track_caller]
    pub fn state(&self) -> State {
        State::from_kernel(self.info()[0])
    }

    /// Asks for a small receive buffer; before `listen` or `connect`, so that the first window is small already.
    #[track_caller]
    pub fn set_receive_buffer(&self, bytes: usize) {
        must("SO_RCVBUF", sockopt::set_socket_recv_buffer_size(&self.fd, bytes));
    }

    /// Asks for a small send buffer, so that [`Sock::fill`] ends early.
    #[track_caller]
    pub fn set_send_buffer(&self, bytes: usize) {
        must("SO_SNDBUF", sockopt::set_socket_send_buffer_size(&self.fd, bytes));
    }

    /// Turns keepalive probing on.
    #[track_caller]
    pub fn set_keepalive(&self, idle: Duration, interval: Duration) {
        must("SO_KEEPALIVE", sockopt::set_socket_keepalive(&self.fd, true));
        must("TCP_KEEPIDLE", sockopt::set_tcp_keepidle(&self.fd, idle));
        must("TCP_KEEPINTVL", sockopt::set_tcp_keepintvl(&self.fd, interval));
    }

    /// Restricts an IPv6 listener to IPv6.
    #[track_caller]
    pub fn set_only_v6(&self) {
        must("IPV6_V6ONLY", sockopt::set_ipv6_v6only(&self.fd, true));
    }

    /// Lets several listeners share a port.
    #[track_caller]
    pub fn set_reuseport(&self) {
        must("SO_REUSEPORT", sockopt::set_socket_reuseport(&self.fd, true));
    }

    /// Makes a listener leave connections in SYN_RECV until data comes, for this long.
    #[track_caller]
    pub fn set_defer_accept(&self, time: Duration) {
        let seconds = libc::c_int::try_from(time.as_secs()).expect("a short time");
        // SAFETY: the option reads one int, of four bytes.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_DEFER_ACCEPT,
                (&raw const seconds).cast(),
                4,
            )
        };
        assert_eq!(result, 0, "TCP_DEFER_ACCEPT: {}", std::io::Error::last_os_error());
    }

    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    #[track_caller]
    pub fn local(&self) -> SocketAddr {
        let address = must("getsockname", net::getsockname(&self.fd));
        plain(SocketAddr::try_from(address).expect("an IP address"))
    }

    /// The peer; an unspecified address where there is none.
    #[track_caller]
    pub fn peer(&self) -> SocketAddr {
        match net::getpeername(&self.fd) {
            Ok(Some(address)) => plain(SocketAddr::try_from(address).expect("an IP address")),
            Ok(None) | Err(Errno::NOTCONN) => self.called.unwrap_or_else(|| nobody(self.local())),
            Err(e) => panic!("getpeername: {e}"),
        }
    }

    /// The number in brackets of `/proc/PID/fd/FD`, and in the kernel's socket tables.
    #[track_caller]
    pub fn inode(&self) -> u64 {
        must("fstat", rustix::fs::fstat(&self.fd)).st_ino
    }

    #[track_caller]
    pub fn cookie(&self) -> u64 {
        must("SO_COOKIE", sockopt::socket_cookie(&self.fd))
    }

    /// Bytes that wait to be read (`tcp_inq`: without the FIN, which the socket tables count as one more).
    #[track_caller]
    pub fn unread(&self) -> u32 {
        u32::try_from(must("FIONREAD", rustix::io::ioctl_fionread(&self.fd))).expect("a buffer's size")
    }

    /// Bytes unsent or unacknowledged, a FIN among them counted as one: what the socket tables call the send queue.
    #[track_caller]
    pub fn unacknowledged(&self) -> u32 {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the ioctl writes one int.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        assert_eq!(result, 0, "SIOCOUTQ: {}", std::io::Error::last_os_error());
        u32::try_from(bytes).expect("a buffer's size")
    }

    /// `struct tcp_info` as it comes (include/uapi/linux/tcp.h), zeros where this kernel's is shorter.
    #[track_caller]
    fn info(&self) -> [u8; 256] {
        let mut bytes = [0u8; 256];
        let mut length: libc::socklen_t = 256;
        // SAFETY: the kernel writes at most `length` bytes.
        let result = unsafe {
            let to = bytes.as_mut_ptr().cast();
            libc::getsockopt(self.fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, to, &raw mut length)
        };
        assert_eq!(result, 0, "TCP_INFO: {}", std::io::Error::last_os_error());
        bytes
    }

    fn info_u32(&self, offset: usize) -> u32 {
        let bytes = self.info();
        u32::from_ne_bytes([bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]])
    }
}

impl Drop for Sock {
    fn drop(&mut self) {
        if self.reset_on_drop {
            // A linger time of zero turns close into a reset: no orphan, no TIME_WAIT.
            let _ = sockopt::set_socket_linger(&self.fd, Some(Duration::ZERO));
        }
    }
}

/// An address without flow label and scope, which no oracle prints alike.
fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::V4(SocketAddrV4::new(*v4.ip(), v4.port())),
        SocketAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0)),
    }
}

/// The peer of a socket that has none, in the family of its own address.
pub fn nobody(like: SocketAddr) -> SocketAddr {
    let ip: IpAddr = if like.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    SocketAddr::new(ip, 0)
}

impl std::os::fd::AsFd for Sock {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.fd)
    }
}
