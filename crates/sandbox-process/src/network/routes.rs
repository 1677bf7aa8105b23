//! The machine's own routes, as `/proc/thread-self/net/route` has them.

use std::fs;
use std::io;
use std::net::Ipv4Addr;

use impuls_domain::Cidr;

/// One route: by which link, and to what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) link: String,
    pub(super) to: Cidr,
}

/// The IPv4 routes of the main table.
pub(super) fn routes() -> io::Result<Vec<Route>> {
    Ok(parse(&fs::read_to_string("/proc/thread-self/net/route")?))
}

/// Lines of `interface destination gateway flags refcnt use metric mask …`, addresses in hexadecimal as they are
/// in memory.
fn parse(text: &str) -> Vec<Route> {
    let route = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let link = words.next()?.to_owned();
        let hex = |word: &str| Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes());
        let to = Ipv4Addr::from(hex(words.next()?)?);
        let mask = Ipv4Addr::from(hex(words.nth(5)?)?).to_bits();
        let prefix = u8::try_from(mask.leading_ones()).ok()?;
        Some(Route { link, to: Cidr::new(to.into(), prefix).ok()? })
    };
    text.lines().skip(1).filter_map(route).collect()
}

/// The links of the default routes.
pub(super) fn uplinks(routes: &[Route]) -> Vec<String> {
    let mut links: Vec<String> =
        routes.iter().filter(|route| route.to.prefix() == 0).map(|route| route.link.clone()).collect();
    links.sort();
    links.dedup();
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_table_is_read() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    eth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n";
        let routes = parse(text);
        assert_eq!(uplinks(&routes), ["eth0"]);
        assert_eq!(routes[1].to.to_string(), "10.0.0.0/8");
    }
}
