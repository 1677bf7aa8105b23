//! Which addresses sandboxes have, and which addresses are not for them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use impuls_domain::Cidr;

/// The most addresses of one server: a /19 of the pool. Half of them are for sandboxes with a list, so that a
/// connection of one with free egress never passes for one of a sandbox with a list.
const PART_BITS: u8 = 19;
/// The smallest pool that is of use.
const SMALLEST: u8 = 28;

/// What no sandbox may reach unless the operator allows it; and what it may reach only if its function's list or the
/// operator names it.
pub(super) use impuls_domain::network::reserved::{NEVER, PRIVATE, ranges};

/// Whether all of a range is private, so that naming it means naming what is private.
pub(super) fn is_private(range: &Cidr) -> bool {
    ranges(&PRIVATE).any(|private| private.covers(range))
}

/// Whether an address may be given to a sandbox as that of a name: it is public, or one of `named` covers it.
pub(super) fn may_be_told(address: Ipv4Addr, operator: &[Cidr], named: &[Cidr]) -> bool {
    let covers = |ranges: &[Cidr]| ranges.iter().any(|range| range.contains(address.into()));
    if covers(operator) {
        return true;
    }
    let address = Cidr::from(address);
    if ranges(&NEVER).any(|never| never.covers(&address)) {
        return false;
    }
    // A range that covers more than what is private does not name it.
    !is_private(&address) || named.iter().any(|range| is_private(range) && range.contains(address.address()))
}

/// The addresses of one server. The first is nobody's, the second the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    first: u32,
    prefix: u8,
}

impl Part {
    /// The parts of a pool, in an order that depends on `seed`; none if it is not of use.
    pub(super) fn of(pool: &Cidr, seed: u32) -> Vec<Self> {
        let IpAddr::V4(first) = pool.address() else { return Vec::new() };
        if pool.prefix() > SMALLEST {
            return Vec::new();
        }
        let prefix = pool.prefix().max(PART_BITS);
        let count = 1_u32 << u32::from(prefix - pool.prefix()).min(8);
        let step = 1_u32 << (32 - prefix);
        (0..count)
            .map(|n| first.to_bits() + (n + seed % count) % count * step)
            .map(|first| Self { first, prefix })
            .collect()
    }

    /// All of it.
    pub(super) fn range(self) -> Option<Cidr> {
        Cidr::new(Ipv4Addr::from_bits(self.first).into(), self.prefix).ok()
    }

    /// The host's address on every sandbox's link, which is their resolver too.
    pub(crate) const fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first + 1)
    }

    /// The last address, which is nobody's: what is named as the next hop on a way out of a yard.
    pub(super) const fn beyond(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first + self.size() - 1)
    }

    const fn size(self) -> u32 {
        1 << (32 - self.prefix)
    }
}

/// Addresses in use. One comes back only when its link is gone, and then rests the longest.
#[derive(Debug)]
pub(super) struct Addresses {
    part: Part,
    taken: BTreeSet<u32>,
    next: [u32; 2],
}

impl Addresses {
    /// None taken.
    pub(super) const fn new(part: Part) -> Self {
        Self { part, taken: BTreeSet::new(), next: [0; 2] }
    }

    /// A number that no sandbox has, and its address.
    pub(super) fn take(&mut self, listed: bool) -> Option<(u32, Ipv4Addr)> {
        let half = self.part.size() / 2;
        // Without the first two of all, and the last of all.
        let (first, count) = if listed { (half, half - 1) } else { (2, half - 2) };
        let next = self.next.get_mut(usize::from(listed))?;
        let found =
            (0..count).map(|n| (*next + n) % count).find(|offset| !self.taken.contains(&(first + offset)))?;
        *next = (found + 1) % count;
        let number = first + found;
        self.taken.insert(number);
        Some((number, Ipv4Addr::from_bits(self.part.first + number)))
    }

    /// Gives one back.
    pub(super) fn give_back(&mut self, number: u32) {
        self.taken.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn told(address: &str, operator: &[&str], named: &[&str]) -> bool {
        may_be_told(address.parse().unwrap(), &cidrs(operator), &cidrs(named))
    }

    #[test]
    fn the_tables_are_ranges() {
        assert_eq!(ranges(&NEVER).count(), NEVER.len());
        assert_eq!(ranges(&PRIVATE).count(), PRIVATE.len());
    }

    #[test]
    fn a_private_address_is_told_only_if_it_is_named_as_such() {
        assert!(told("93.184.216.34", &[], &[]));
        for private in ["10.0.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1"] {
            assert!(!told(private, &[], &[]), "{private}");
            assert!(!told(private, &[], &["0.0.0.0/0", "11.0.0.0/8"]), "{private}");
            assert!(told(private, &[private], &[]), "{private}");
            assert!(told(private, &[], &[private]), "{private}");
        }
        assert!(told("10.1.2.3", &[], &["10.0.0.0/8"]));
    }

    #[test]
    fn only_the_operator_names_what_is_never_reached() {
        for never in
            ["127.0.0.1", "0.0.0.0", "169.254.169.254", "100.100.100.200", "224.0.0.1", "255.255.255.255"]
        {
            assert!(!told(never, &[], &[never, "0.0.0.0/0", "100.64.0.0/10"]), "{never}");
            assert!(told(never, &[never], &[]), "{never}");
        }
    }

    #[test]
    fn parts_do_not_overlap_and_start_anywhere() {
        let pool = "198.18.0.0/15".parse().unwrap();
        let parts = Part::of(&pool, 5);
        assert_eq!(parts.len(), 16);
        let ranges: Vec<Cidr> = parts.iter().map(|part| part.range().unwrap()).collect();
        assert!(ranges.iter().all(|range| pool.covers(range)));
        assert!(ranges.iter().enumerate().all(|(n, a)| ranges.iter().skip(n + 1).all(|b| !a.overlaps(b))));
        assert_eq!(ranges[0].to_string(), "198.18.160.0/19");
        assert_eq!(parts[0].gateway().to_string(), "198.18.160.1");
        assert_eq!(Part::of(&"10.9.0.0/29".parse().unwrap(), 0), []);
        assert_eq!(Part::of(&"10.9.0.0/24".parse().unwrap(), 9).len(), 1);
        assert_eq!(Part::of(&"fd00::/8".parse().unwrap(), 0), []);
    }

    #[test]
    fn addresses_of_the_two_kinds_never_meet() {
        let part = Part::of(&"10.9.0.0/28".parse().unwrap(), 0)[0];
        let mut addresses = Addresses::new(part);
        let all = |addresses: &mut Addresses, listed| -> Vec<u32> {
            std::iter::from_fn(|| addresses.take(listed)).map(|(number, _)| number).collect()
        };
        assert_eq!(all(&mut addresses, false), (2..8).collect::<Vec<_>>());
        assert_eq!(all(&mut addresses, true), (8..15).collect::<Vec<_>>());
        addresses.give_back(4);
        assert_eq!(addresses.take(true), None);
        assert_eq!(addresses.take(false), Some((4, "10.9.0.4".parse().unwrap())));
    }
}
