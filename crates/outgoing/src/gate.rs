//! Which addresses may be reached.

use std::net::IpAddr;

use impuls_domain::Cidr;
use impuls_domain::network::reserved::is_public;

/// Why an address is not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{host} is {address}, which is not an address of the public network; \
     the operator can allow it with --hook-allow"
)]
pub struct Refusal {
    /// The host that was asked for.
    pub host: String,
    /// What it is.
    pub address: IpAddr,
}

/// Which addresses may be reached: the public ones, and those that the operator allows.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// What may be reached besides, whatever it is.
    pub allow: Vec<Cidr>,
}

impl Gate {
    /// The first of a host's addresses, if *every* one of them may be reached: a host with one that may not is not to be
    /// trusted with the choice. `None` if there are none.
    pub fn choose(&self, host: &str, addresses: &[IpAddr]) -> Result<Option<IpAddr>, Refusal> {
        let may = |address: &IpAddr| {
            is_public(*address) || self.allow.iter().any(|range| range.contains(address.to_canonical()))
        };
        match addresses.iter().find(|address| !may(address)) {
            Some(address) => Err(Refusal { host: host.to_owned(), address: *address }),
            None => Ok(addresses.first().copied()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allow: &[&str], addresses: &[&str], expected: Option<&str>) {
        let gate = Gate { allow: allow.iter().map(|range| range.parse().unwrap()).collect() };
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let chosen = gate.choose("h", &addresses).ok().flatten();
        assert_eq!(chosen, expected.map(|address| address.parse().unwrap()), "{addresses:?}");
    }

    #[test]
    fn one_address_that_is_not_public_spoils_the_host() {
        check(&[], &["1.1.1.1", "8.8.8.8"], Some("1.1.1.1"));
        check(&[], &["1.1.1.1", "127.0.0.1"], None);
        check(&[], &["::ffff:127.0.0.1"], None);
        check(&[], &["169.254.169.254"], None);
        check(&[], &[], None);
    }

    #[test]
    fn the_operator_allows_what_he_names_and_nothing_else() {
        check(&["127.0.0.0/8"], &["127.0.0.1"], Some("127.0.0.1"));
        check(&["127.0.0.0/8"], &["::ffff:127.0.0.1"], Some("::ffff:127.0.0.1"));
        check(&["127.0.0.0/8"], &["10.0.0.1"], None);
        check(&["::1"], &["::1"], Some("::1"));
    }
}
