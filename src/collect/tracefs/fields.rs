//! What the records of several events share: who ran, and the two ends of a connection.
//!
//! Input: where the kernel says the fields are, and the bytes of a record. Output: a thread, a family, two ends. Not here:
//! what happened between them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::format::{Field, Format, FormatError};
use crate::model::{Endpoint, Family};

/// Bits of `common_flags`, `include/linux/trace_events.h`: hard interrupt, soft interrupt, NMI.
const INTERRUPTS: u64 = 0x08 | 0x10 | 0x40;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
/// Bytes of `struct sockaddr_in6`, which has room for either family.
const SOCKADDR: usize = 28;

/// Who ran when a record was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    flags: Field,
    pid: Field,
}

impl Context {
    pub fn new(format: &Format) -> Result<Context, FormatError> {
        Ok(Context { flags: format.number("common_flags")?, pid: format.number("common_pid")? })
    }

    /// The thread, outside of interrupts; number 0 is an idle CPU.
    pub fn tid(&self, bytes: &[u8]) -> Option<u32> {
        let tid = u32::try_from(self.pid.number(bytes)?).ok()?;
        let interrupted = self.flags.number(bytes)? & INTERRUPTS != 0;
        (tid != 0 && !interrupted).then_some(tid)
    }
}

/// The two ends of a connection: local, peer.
pub(super) type Ends = (Family, [Endpoint; 2]);

/// Where the two ends are.
#[derive(Clone, Copy, Debug)]
pub(super) enum EndFields {
    /// A field each for ports and for the addresses of each family. Before Linux 5.18 `tcp:` events have no family.
    Split { family: Option<Field>, ports: [Field; 2], v4: [Field; 2], v6: [Field; 2] },
    /// Two `struct sockaddr` (`tcp:tcp_send_reset` since Linux 6.10).
    Sockaddr([Field; 2]),
}

impl EndFields {
    pub fn new(format: &Format) -> Result<EndFields, FormatError> {
        if let (Ok(local), Ok(peer)) = (format.array("saddr", SOCKADDR), format.array("daddr", SOCKADDR)) {
            return Ok(EndFields::Sockaddr([local, peer]));
        }
        Ok(EndFields::Split {
            family: format.number("family").ok(),
            ports: [format.number("sport")?, format.number("dport")?],
            v4: [format.array("saddr", 4)?, format.array("daddr", 4)?],
            v6: [format.array("saddr_v6", 16)?, format.array("daddr_v6", 16)?],
        })
    }

    /// The ends; `None` for a record that is cut, or of another family.
    pub fn read(&self, bytes: &[u8]) -> Option<Ends> {
        match self {
            EndFields::Split { family, ports, v4, v6 } => {
                let number = match family {
                    Some(family) => family.number(bytes)?,
                    // An IPv4 socket has its addresses in both, there as ::ffff:a.b.c.d.
                    None if address_v6(v6[0], bytes)?.to_ipv4_mapped().is_some() => AF_INET,
                    None => AF_INET6,
                };
                let (family, addresses) = match number {
                    AF_INET => (Family::V4, v4.map(|field| Some(IpAddr::V4(address_v4(field, bytes)?)))),
                    AF_INET6 => (Family::V6, v6.map(|field| Some(IpAddr::V6(address_v6(field, bytes)?)))),
                    _ => return None,
                };
                let [local, peer] = addresses;
                let [sport, dport] = ports.map(|field| u16::try_from(field.number(bytes)?).ok());
                Some((family, [Endpoint::new(local?, sport?), Endpoint::new(peer?, dport?)]))
            }
            EndFields::Sockaddr([local, peer]) => {
                let (family, local) = sockaddr(local.bytes(bytes)?)?;
                Some((family, [local, sockaddr(peer.bytes(bytes)?)?.1]))
            }
        }
    }
}

fn address_v4(field: Field, bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*field.bytes(bytes)?.first_chunk::<4>()?))
}

fn address_v6(field: Field, bytes: &[u8]) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(*field.bytes(bytes)?.first_chunk::<16>()?))
}

/// `struct sockaddr_in` or `struct sockaddr_in6`.
fn sockaddr(bytes: &[u8]) -> Option<(Family, Endpoint)> {
    let family = u64::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match family {
        AF_INET => {
            let address = Ipv4Addr::from(*bytes.get(4..)?.first_chunk::<4>()?);
            Some((Family::V4, Endpoint::new(address.into(), port)))
        }
        AF_INET6 => {
            let address = Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?);
            Some((Family::V6, Endpoint::new(address.into(), port)))
        }
        _ => None,
    }
}
