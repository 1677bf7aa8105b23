//! Ranges of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::NetworkError;

/// A range of IP addresses, or one address. Its address has no bits beyond its prefix, and is no IPv4 address in
/// IPv6 clothes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The first `prefix` bits of an address.
fn first_of(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

impl Cidr {
    /// The range that an address and a number of leading bits name.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, NetworkError> {
        let text = || format!("{address}/{prefix}");
        if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            return Err(NetworkError::Mapped(text()));
        }
        if prefix > width(address) {
            return Err(NetworkError::Entry(text()));
        }
        let range = Self { address: first_of(address, prefix), prefix };
        if range.address == address { Ok(range) } else { Err(NetworkError::HostBits(text(), range)) }
    }

    /// The first address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits all addresses share.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it is one address.
    #[must_use]
    pub const fn is_single(&self) -> bool {
        self.prefix == width(self.address)
    }

    /// Whether an address is in it. IPv4 and IPv6 are never in one another.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && first_of(address, self.prefix) == self.address
    }

    /// Whether all of another range is in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// Whether an address is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl From<Ipv4Addr> for Cidr {
    fn from(address: Ipv4Addr) -> Self {
        Self { address: address.into(), prefix: 32 }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single() {
            return write!(f, "{}", self.address);
        }
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = NetworkError;

    /// `10.0.0.0/8`, `fd00::/8`, or an address alone.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let invalid = || NetworkError::Entry(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, prefix)) => {
                // `parse` alone would take `+8` and `008`.
                let plain = prefix.len() <= 3 && prefix.bytes().all(|byte| byte.is_ascii_digit());
                (address, Some(prefix.parse().ok().filter(|_| plain).ok_or_else(invalid)?))
            }
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        Self::new(address, prefix.unwrap_or(width(address))).map_err(|error| match error {
            NetworkError::Mapped(_) => NetworkError::Mapped(text.to_owned()),
            NetworkError::HostBits(_, range) => NetworkError::HostBits(text.to_owned(), range),
            _ => invalid(),
        })
    }
}
