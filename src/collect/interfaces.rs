//! Names and numbers of the network interfaces of this thread's namespace.
//!
//! Input: one of the two. Output: the other; `None` where there is no such interface.

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

/// The name of an interface.
#[must_use]
pub fn name_of(index: u32) -> Option<String> {
    netdevice::index_to_name(socket()?, index).ok()
}

/// The number of an interface.
#[must_use]
pub fn index_of(name: &str) -> Option<u32> {
    netdevice::name_to_index(socket()?, name).ok()
}

/// Any socket takes the question (`sock_ioctl`); this family needs no network.
fn socket() -> Option<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_interface_of_every_namespace_is_lo() {
        assert_eq!((name_of(1).as_deref(), index_of("lo")), (Some("lo"), Some(1)));
        assert_eq!((name_of(u32::MAX), index_of("no-such-one")), (None, None));
    }
}
