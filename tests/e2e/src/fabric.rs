//! Machines that a router joins: network namespaces of their own, and a router between them that can drop, in silence, whatever two
//! of them send each other.

use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::data::Data;
use crate::launch::{Launch, program};
use crate::network::Network;

/// The router. Machines are gone with it.
pub struct Fabric {
    router: Network,
    nodes: u8,
}

/// A machine behind the router.
pub struct Node {
    network: Network,
    address: Ipv4Addr,
}

/// The address of an end of the link to a machine: four addresses each, of which the router has the first that is any use.
const fn address(node: u8, end: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, node * 4 + end)
}

impl Fabric {
    /// A router without machines, in whose network the calling thread is from now on: what it connects to is reached from
    /// there. For a runtime of one thread. Needs root and iproute2.
    #[must_use]
    pub fn enter() -> Self {
        let router = Network::new();
        router.run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        enter(&router);
        Self { router, nodes: 0 }
    }

    /// One more machine, which reaches the others through the router.
    #[must_use]
    pub fn node(&mut self) -> Node {
        let (network, number) = (Network::new(), self.nodes);
        assert!(number < 60, "the router has no more addresses");
        self.nodes += 1;
        let (link, near) = (format!("node{number}"), address(number, 1).to_string());
        let far = address(number, 2);
        let ip = |router: bool, words: &[&str]| {
            let network = if router { &self.router } else { &network };
            network.run(&[&["ip"], words].concat());
        };
        let place = network.holder().to_string();
        ip(true, &["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &place]);
        ip(true, &["addr", "add", &format!("{near}/30"), "dev", &link]);
        ip(true, &["link", "set", &link, "up"]);
        ip(false, &["addr", "add", &format!("{far}/30"), "dev", "eth0"]);
        ip(false, &["link", "set", "eth0", "up"]);
        ip(false, &["route", "add", "default", "via", &near]);
        Node { network, address: far }
    }

    /// Drops everything between two machines from now on, in both directions. Nobody is told; what is on its way is lost.
    pub fn cut(&self, one: &Node, other: &Node) {
        self.rule("add", one, other);
    }

    /// Takes [`Fabric::cut`] back.
    pub fn heal(&self, one: &Node, other: &Node) {
        self.rule("del", one, other);
    }

    fn rule(&self, what: &str, one: &Node, other: &Node) {
        for (from, to) in [(one, other), (other, one)] {
            let (from, to) = (from.address.to_string(), to.address.to_string());
            self.router.run(&["ip", "rule", what, "from", &from, "to", &to, "blackhole"]);
        }
    }
}

impl Node {
    /// Its address.
    #[must_use]
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The program on this machine, without arguments.
    #[must_use]
    pub fn launch(&self, data: &Data) -> Launch {
        self.network.launch_bare(data).argument(program())
    }

    /// Does something on this machine, in a thread of its own; processes that it starts stay there.
    pub fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                enter(&self.network);
                what()
            });
            done.join().expect("what is done on a machine does not panic")
        })
    }
}

/// Moves the calling thread into a network.
fn enter(network: &Network) {
    let namespace = std::fs::File::open(network.namespace()).expect("the holder lives");
    let entered = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
    entered.expect("root may enter");
}
