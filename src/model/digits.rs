//! Numbers and IPv4 addresses as text without the standard formatter, which would be a large part of the cost of a long list.
//!
//! Input: a number or an address. Output: its text, on the stack.

use std::net::Ipv4Addr;

/// The digits of a number.
#[derive(Clone, Copy, Debug)]
pub struct Digits {
    buffer: [u8; 20],
    start: usize,
}

impl Digits {
    #[must_use]
    pub fn new(mut n: u64) -> Digits {
        let mut digits = Digits { buffer: [b'0'; 20], start: 20 };
        loop {
            digits.start -= 1;
            digits.buffer[digits.start] = b'0' + u8::try_from(n % 10).unwrap_or(0);
            n /= 10;
            if n == 0 {
                return digits;
            }
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.buffer[self.start..]).unwrap_or("?")
    }
}

/// An IPv4 address with its dots.
#[derive(Clone, Copy, Debug)]
pub struct Dotted {
    buffer: [u8; 15],
    len: usize,
}

impl Dotted {
    #[must_use]
    pub fn new(addr: Ipv4Addr) -> Dotted {
        let mut dotted = Dotted { buffer: [b'.'; 15], len: 0 };
        for (i, octet) in addr.octets().into_iter().enumerate() {
            dotted.len += usize::from(i > 0);
            if octet >= 100 {
                dotted.push(octet / 100);
            }
            if octet >= 10 {
                dotted.push(octet / 10 % 10);
            }
            dotted.push(octet % 10);
        }
        dotted
    }

    fn push(&mut self, digit: u8) {
        self.buffer[self.len] = b'0' + digit;
        self.len += 1;
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.buffer[..self.len]).unwrap_or("?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_formatter() {
        for n in [0, 7, 10, 255, 65_535, 4_026_531_840, u64::MAX] {
            assert_eq!(Digits::new(n).as_str(), n.to_string());
        }
    }

    #[test]
    fn addresses_are_those_of_the_formatter() {
        for octets in [[0; 4], [255; 4], [10, 0, 0, 1], [192, 168, 99, 100], [1, 9, 10, 101]] {
            let addr = Ipv4Addr::from(octets);
            assert_eq!(Dotted::new(addr).as_str(), addr.to_string());
        }
    }
}
