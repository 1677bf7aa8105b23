//! How the driver is set up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use impuls_domain::Cidr;

/// Configuration of the process driver.
#[derive(Clone, Debug)]
pub struct Config {
    /// A folder for the sockets of live sandboxes, made with mode 0700 if it is missing. It must be no one
    /// else's; two servers may share it.
    pub run_dir: PathBuf,
    /// The program that is executed as the spawner; its `main` calls [`spawner_main`](crate::spawner_main) when
    /// its first argument is `spawner`. `/proc/self/exe` in the server.
    pub exe: PathBuf,
    /// Whether to go on when layers of isolation that this kind of user normally has are missing; `false` makes
    /// the start fail and name them.
    pub allow_weaker: bool,
    /// What sandboxes whose functions have a network may reach.
    pub network: NetworkConfig,
}

/// What the operator says about the network of sandboxes. The default suits most machines.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// What every function with free egress, and every function whose list names it, may reach although it is
    /// private, link-local or a metadata service. An address of the host itself counts only as a single address,
    /// and then all its ports are reached; what the host listens for on loopback is never reached. IPv4 only.
    /// Default: nothing.
    pub allow: Vec<Cidr>,
    /// Where sandboxes' own addresses are from: an IPv4 range of at least 16 addresses, of which a server takes
    /// a /19 that no route leads to. Nobody outside sees them. Default: `198.18.0.0/15`, which RFC 2544 sets
    /// aside for benchmarks.
    pub pool: Cidr,
    /// With root, the links to the outside, on which forwarding is switched on while a sandbox has a network. Empty,
    /// the default: the links of the default routes. As an ordinary user the machine's own routes decide.
    pub uplinks: Vec<String>,
    /// The resolvers that are asked on behalf of sandboxes. Empty, the default: those of `/etc/resolv.conf`.
    pub resolvers: Vec<SocketAddr>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        const POOL: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);
        let pool = Cidr::new(IpAddr::V4(POOL.0), POOL.1);
        Self {
            allow: Vec::new(),
            pool: pool.unwrap_or_else(|_| POOL.0.into()),
            uplinks: Vec::new(),
            resolvers: Vec::new(),
        }
    }
}
