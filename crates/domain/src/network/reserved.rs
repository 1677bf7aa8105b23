//! Addresses that are not for users' code, whoever sends there: sandboxes, or the server on their behalf.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Cidr;

/// What nobody may reach unless the operator allows it: this network, loopback, link-local, multicast,
/// reserved and broadcast (RFC 6890), and where clouds keep the machine's secrets (Alibaba, Oracle; that of most
/// others is link-local).
pub const NEVER: [(Ipv4Addr, u8); 7] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 100, 100, 200), 32),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(192, 0, 0, 192), 32),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// What is private: RFC 1918, shared address space (RFC 6598), protocol assignments, benchmarks (RFC 2544; sandboxes' own
/// addresses are of these).
pub const PRIVATE: [(Ipv4Addr, u8); 6] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
];

/// The ranges of a table.
pub fn ranges(table: &[(Ipv4Addr, u8)]) -> impl Iterator<Item = Cidr> + '_ {
    table.iter().filter_map(|&(address, prefix)| Cidr::new(address.into(), prefix).ok())
}

/// The only part of IPv6 that is given out to the public (RFC 4291), and what in it is no place of its own: Teredo,
/// protocol assignments, documentation, and 6to4, which names IPv4 addresses.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const NOT_GLOBAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether an address is one of the public network, reached under its own name.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => !ranges(&NEVER).chain(ranges(&PRIVATE)).any(|range| range.contains(address)),
        IpAddr::V6(_) => {
            let within = |&(first, prefix): &(Ipv6Addr, u8)| {
                Cidr::new(first.into(), prefix).is_ok_and(|range| range.contains(address))
            };
            within(&GLOBAL_V6) && !NOT_GLOBAL_V6.iter().any(within)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_of_the_public_network_is_not_public() {
        for public in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700:4700::1111", "2a00::1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for other in [
            "0.0.0.0",
            "127.0.0.1",
            "127.9.9.9",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:1.1.1.1",
            "::127.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "100::1",
            "fec0::1",
        ] {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }
}
