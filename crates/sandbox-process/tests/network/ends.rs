//! Ends that take their time: of links whose sandboxes have connections, and of servers that left their tables.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use impuls_sandbox::SandboxDriver as _;

use super::block_on;
use super::world::{self, Machine, tables_and_links};

/// Connections whose end nobody acknowledges keep the kernel from removing their sandboxes' networks.
pub fn lingering() {
    block_on(async {
        let machine = Machine::new(&[]).await;
        let mut guests = Vec::new();
        for _ in 0..20 {
            let guest = machine.guest("egress").await;
            assert_eq!(guest.keep("203.0.113.2", 8080).await, 1);
            guests.push(guest);
        }
        world::output("ip", &["link", "set", "wan0", "down"]);
        let mut ending = tokio::task::JoinSet::new();
        for guest in guests {
            ending.spawn(async move { guest.sandbox.destroy().await.unwrap() });
        }
        // Some tenths of a second for all of them, where it was as much for each.
        let ended = tokio::time::timeout(Duration::from_secs(4), ending.join_all()).await;
        world::output("ip", &["link", "set", "wan0", "up"]);
        world::output("ip", &["route", "add", "default", "via", "203.0.113.2"]);
        assert!(ended.is_ok(), "they wait for one another");
        machine.end().await;
    });
}

/// Tables of servers in containers that share the machine's network: the process ids mean nothing here.
pub fn reaped() {
    block_on(async {
        let machine = Machine::new(&[]).await;
        let guest = machine.guest("egress").await;
        let own = tables_and_links();
        let (dead, living) = ("impuls_1-5-0_0a4d0001", "impuls_1-5-0_0a4d0101");
        let name = SocketAddr::from_abstract_name("impuls-network-10.77.1.1").unwrap();
        let claim = UnixDatagram::bind_addr(&name).unwrap();
        for table in [dead, living] {
            world::output("nft", &["add", "table", "inet", table]);
        }
        machine.driver.reap_orphans().await.unwrap();
        let left = tables_and_links();
        assert!(left.contains(&living.to_owned()) && !left.contains(&dead.to_owned()), "{left:?}");
        drop(claim);
        machine.driver.reap_orphans().await.unwrap();
        assert_eq!(tables_and_links(), own);
        assert_eq!(guest.tcp("203.0.113.2", 8080).await, "hello 203.0.113.1");
        machine.end().await;
    });
}
