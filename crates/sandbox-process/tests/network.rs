//! What sandboxes reach, and what they do not.
//!
//! This program is six: the tests, the server (argument `server`), the spawner (argument `spawner`), the tests that an
//! ordinary user runs (argument `ordinary`), those whose sandboxes are containers (argument `contained`), and process 1
//! of these. The tests play the machine in a network namespace of their own,
//! and the outside is another: nothing of the real machine's network is touched.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests"
)]

#[path = "network/cost.rs"]
mod cost;
#[path = "network/ends.rs"]
mod ends;
#[path = "support/fixture.rs"]
mod fixture;
#[path = "network/names.rs"]
mod names;
#[path = "network/world.rs"]
mod world;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use fixture::{NODE, ZYGOTE};
use impuls_sandbox::SandboxDriver;
use impuls_sandbox_container::init_main;
use impuls_sandbox_process::{Config, LayerName, NetworkConfig, ProcessDriver, spawner_main};
use serde_json::{Value, json};
use world::{Guest, Machine, tables_and_links};

type Test = (&'static str, fn());

const TESTS: [Test; 20] = [
    ("egress_reaches_what_is_public", reaches),
    ("egress_refuses_what_is_not_public_and_counts_it", refuses),
    ("no_sandbox_speaks_for_another", spoofs),
    ("what_is_refused_is_counted_for_each_sandbox", counted),
    ("no_network_is_no_network", off),
    ("a_list_opens_what_it_names_by_address", listed_by_address),
    ("a_list_opens_what_it_names_by_name", listed_by_name),
    ("a_name_cannot_be_rebound_to_the_inside", rebinding),
    ("the_operator_opens_private_and_own_addresses", operator),
    ("connections_and_lookups_are_bounded", bounded),
    ("deleted_rules_come_back", flushed),
    ("other_runtimes_have_a_network_too", runtimes),
    ("nothing_is_left_of_sandboxes_and_servers", leftovers),
    ("links_that_stay_hold_up_the_others_once", ends::lingering),
    ("a_dead_servers_table_goes_wherever_it_ran", ends::reaped),
    ("servers_do_not_disturb_each_other", neighbours),
    ("a_network_costs_milliseconds", cost::cost),
    ("containers_have_the_same_network", contained),
    ("an_ordinary_user_has_the_same_network", ordinary),
    ("an_ordinary_users_machine_may_change_its_addresses", renumbered),
];

/// Those of [`TESTS`] whose own part needs no rights, by the word that chooses them.
const ORDINARY: [Test; 12] = [
    ("reaches", reaches),
    ("refuses", refuses),
    ("listed_by_address", listed_by_address),
    ("listed_by_name", listed_by_name),
    ("rebinding", rebinding),
    ("operator", operator),
    ("bounded", bounded),
    ("runtimes", runtimes),
    ("counted", counted),
    ("yard_ends", yard_ends),
    ("renumbered", renumbering),
    ("cost", cost::cost),
];

/// Those of [`TESTS`] that hold for containers as well.
const CONTAINED: [Test; 10] = [
    ("reaches", reaches),
    ("refuses", refuses),
    ("spoofs", spoofs),
    ("counted", counted),
    ("off", off),
    ("listed_by_address", listed_by_address),
    ("listed_by_name", listed_by_name),
    ("rebinding", rebinding),
    ("operator", operator),
    ("bounded", bounded),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("spawner") => spawner_main(),
        Some("server") => {
            serve(Path::new(&arguments[1]));
            ExitCode::SUCCESS
        }
        Some(impuls_sandbox_container::config::ARGUMENT) => {
            init_main(&std::env::args_os().skip(2).collect::<Vec<_>>())
        }
        Some(which @ ("ordinary" | "contained")) => {
            let all: &[Test] = if which == "ordinary" { &ORDINARY } else { &CONTAINED };
            let chosen = all.iter().filter(|(name, _)| *name == arguments[1]);
            chosen.for_each(|(_, test)| test());
            ExitCode::SUCCESS
        }
        _ => run_tests(&arguments),
    }
}

fn run_tests(arguments: &[String]) -> ExitCode {
    let flags = ["--ignored", "--include-ignored"];
    let privileged = arguments.iter().any(|argument| flags.contains(&argument.as_str()));
    let chosen = |name: &str| {
        let is_filter = |argument: &&String| !argument.starts_with('-') && argument.parse::<u32>().is_err();
        let filters: Vec<&String> = arguments.iter().filter(is_filter).collect();
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    };
    for (name, test) in TESTS.into_iter().filter(|(name, _)| chosen(name)) {
        if privileged {
            world::leave_the_machines_network();
            test();
            println!("test {name} ... ok");
        } else {
            println!("test {name} ... ignored, needs root");
        }
    }
    ExitCode::SUCCESS
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work);
}

fn reaches() {
    block_on(async {
        // Somebody else's resolver, on all of the machine's addresses.
        let _other = std::net::UdpSocket::bind("0.0.0.0:53").unwrap();
        let machine = Machine::new(&[]).await;
        let layer = machine.driver.isolation().layer(LayerName::FunctionNetwork).unwrap();
        assert!(layer.works, "{layer:?}");
        let guest = machine.guest("egress").await;
        assert_eq!(guest.tcp("203.0.113.2", 8080).await, "hello 203.0.113.1");
        assert_eq!(guest.udp("203.0.113.2", 9999).await, "hello 203.0.113.1");
        assert_eq!(guest.resolve("www.example").await, json!(["203.0.113.2"]));
        assert_eq!(guest.tcp("www.example", 8080).await, "hello 203.0.113.1");
        assert_eq!(guest.ask("big.example", "tcp").await["answers"], 40);
        assert_eq!(guest.ask("big.example", "udp").await["truncated"], true);
        assert_eq!(guest.ask("nowhere.example", "udp").await["rcode"], 3);
        assert_eq!(guest.sandbox.refusals().lookups, 0);
        // The large answers among what came, and the rest at least. An ordinary user's links are out of sight.
        if rustix::process::geteuid().is_root() {
            let traffic = guest.sandbox.usage().unwrap().traffic.unwrap();
            assert!(traffic.received_bytes > 1_000 && traffic.sent_bytes > 500, "{traffic:?}");
        }
        machine.end().await;
    });
}

/// What a program is told of a connection that is refused.
const REFUSED: &str = "ConnectionRefusedError 111";

/// Places that would answer, were they not refused, and the counter of each.
const PLACES: [(&str, u16, &str); 14] = [
    ("203.0.113.1", 8080, "host"),
    ("198.51.100.1", 8080, "host"),
    ("10.77.0.1", 8080, "private"),
    ("172.16.77.1", 8080, "private"),
    ("192.168.77.1", 8080, "private"),
    ("100.64.77.1", 8080, "private"),
    ("169.254.169.254", 8080, "never"),
    ("169.254.170.2", 8080, "never"),
    ("100.100.100.200", 8080, "never"),
    ("169.254.1.1", 8080, "never"),
    ("240.0.0.1", 8080, "never"),
    ("::ffff:10.77.0.1", 8080, "private"),
    ("::ffff:169.254.169.254", 8080, "never"),
    ("::ffff:203.0.113.1", 8080, "host"),
];

fn refuses() {
    block_on(async {
        let machine = Machine::new(&[]).await;
        let (guest, other) = (machine.guest("egress").await, machine.guest("egress").await);
        for (address, port, reason) in PLACES {
            let before = machine.refused(reason).await;
            let begun = Instant::now();
            assert_eq!(guest.tcp(address, port).await, REFUSED, "{address}");
            assert!(begun.elapsed() < Duration::from_secs(1), "{address} is refused by silence");
            assert!(machine.refused(reason).await > before, "{address}");
        }
        // The sandbox's own loopback and IPv6, and what a socket cannot even be pointed at.
        for address in ["127.0.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(guest.tcp(address, 8080).await, REFUSED, "{address}");
        }
        for address in ["64:ff9b::a4d:1", "fd00:ec2::254", "2001:db8::1"] {
            assert_eq!(guest.tcp(address, 8080).await, "OSError 101", "{address}");
        }
        let gateway = guest.gateway().await;
        assert_eq!(guest.tcp(&gateway, 8080).await, REFUSED);
        let address = other.listen().await;
        assert_eq!(guest.tcp(&address, 8080).await, REFUSED);
        assert_eq!(machine.refused("sandbox").await, 1);
        machine.end().await;
    });
}

fn spoofs() {
    block_on(async {
        let machine = Machine::new(&[]).await;
        let (guest, other) = (machine.guest("egress").await, machine.guest("egress").await);
        let address = other.listen().await;
        let (spoofed, answered) = (machine.refused("spoofed").await, guest.udp("203.0.113.2", 9999).await);
        assert_eq!(answered, "hello 203.0.113.1");
        guest.spoof("203.0.113.77");
        guest.spoof(&address);
        assert_eq!(machine.refused("spoofed").await, spoofed + 2);
        machine.end().await;
    });
}

/// What is refused is counted for the sandbox that tried it, also when it is gone.
fn counted() {
    block_on(async {
        let machine = Machine::new(&[]).await;
        let (guest, other) = (machine.guest("egress").await, machine.guest("allow www.example").await);
        assert_eq!(guest.tcp("10.77.0.1", 8080).await, REFUSED);
        assert_eq!(guest.tcp("203.0.113.1", 8080).await, REFUSED);
        assert_eq!(other.tcp("203.0.113.3", 8080).await, REFUSED);
        assert_eq!(other.ask("elsewhere.example", "udp").await["rcode"], 5);
        guest.sandbox.destroy().await.unwrap();
        assert_eq!(guest.refused(), (2, 0));
        fixture::eventually_within(Duration::from_secs(30), || (other.refused() == (1, 1)).then_some(()))
            .await;
        other.sandbox.destroy().await.unwrap();
        assert_eq!(other.refused(), (1, 1));
        machine.end().await;
    });
}

fn ordinary() {
    for (name, _) in ORDINARY.iter().filter(|(name, _)| *name != "renumbered") {
        let mut child = world::as_ordinary_user(name).spawn().unwrap();
        assert!(child.wait().unwrap().success(), "{name}");
        world::eventually_no_process_of_the_user();
        println!("  ordinary user: {name} ... ok");
    }
}

fn contained() {
    for (name, _) in CONTAINED {
        let mut child = world::contained(name).spawn().unwrap();
        assert!(child.wait().unwrap().success(), "{name}");
        assert_eq!(tables_and_links(), Vec::<String>::new(), "{name}");
        println!("  containers: {name} ... ok");
    }
}

fn renumbered() {
    let mut child = world::as_ordinary_user("renumbered");
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "before");
    world::output("ip", &["addr", "add", "192.0.2.77/32", "dev", "lan0"]);
    writeln!(child.stdin.take().unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    world::output("ip", &["addr", "del", "192.0.2.77/32", "dev", "lan0"]);
}

/// The machine gets an address while a sandbox has a network.
fn renumbering() {
    block_on(async {
        let machine = Machine::new(&[]).await;
        let guest = machine.guest("egress").await;
        // Somebody else's, whom nobody knows.
        assert_ne!(guest.tcp("192.0.2.77", 8080).await, "control plane");
        let before = machine.refused("host").await;
        println!("before");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while machine.refused("host").await == before {
            assert!(Instant::now() < until, "the new address is not refused");
            let _refused = guest.tcp("192.0.2.77", 8080).await;
        }
        assert_eq!(guest.tcp("192.0.2.77", 8080).await, REFUSED);
        machine.end().await;
    });
}

/// With a sandbox goes its way out; a way out that ends is made again; with the spawner goes the yard.
fn yard_ends() {
    block_on(async {
        let machine = Machine::new(&[]).await;
        let (one, two) = (machine.guest("egress").await, machine.guest("egress").await);
        assert_eq!(world::processes("pasta").len(), 2);
        one.sandbox.destroy().await.unwrap();
        let left = world::processes("pasta");
        assert_eq!(left.len(), 1);
        assert_eq!(two.tcp("203.0.113.2", 8080).await, "hello 203.0.113.1");
        world::kill(left[0]);
        let another = || world::processes("pasta").first().is_some_and(|&pid| pid != left[0]);
        fixture::eventually_within(Duration::from_secs(30), || another().then_some(())).await;
        let again = async || two.tcp("203.0.113.2", 8080).await == "hello 203.0.113.1";
        assert!(again().await || again().await || again().await);
        for spawner in world::processes("impuls-spawner") {
            world::kill(spawner);
        }
        two.sandbox.exited().await;
        fixture::eventually(|| world::processes("pasta").is_empty().then_some(())).await;
        let three = loop {
            if let Some(sandbox) = Guest::try_sandbox(machine.driver.as_ref()).await {
                break Guest::assign(sandbox, machine.folder.path(), "allow www.example").await;
            }
        };
        assert_eq!(three.tcp("www.example", 8080).await, "hello 203.0.113.1");
        machine.end().await;
        assert_eq!(world::processes("pasta"), Vec::<u32>::new());
    });
}

fn off() {
    block_on(async {
        let machine = Machine::new(&[]).await;
        let guest = machine.guest("off").await;
        assert_eq!(guest.tcp("203.0.113.2", 8080).await, "OSError 101");
        assert!(guest.resolve("www.example").await.is_string());
        // Nothing has been made for it.
        assert_eq!(tables_and_links(), Vec::<String>::new());
        machine.end().await;
    });
}

fn listed_by_address() {
    block_on(async {
        let machine = Machine::new(&[]).await;
        let guest = machine.guest("allow 203.0.113.2:8080 10.77.0.0/24 0.0.0.0/0:5432").await;
        assert_eq!(guest.tcp("203.0.113.2", 8080).await, "hello 203.0.113.1");
        assert_eq!(guest.tcp("203.0.113.3", 5432).await, "hello 203.0.113.1");
        assert_eq!(guest.tcp("10.77.0.1", 8080).await, "hello 203.0.113.1");
        let refused = [
            ("203.0.113.3", 8080, "unlisted"),
            ("192.168.77.1", 5432, "private"),
            ("169.254.169.254", 5432, "never"),
            ("203.0.113.1", 5432, "host"),
        ];
        for (address, port, reason) in refused {
            let before = machine.refused(reason).await;
            assert_eq!(guest.tcp(address, port).await, REFUSED, "{address}");
            assert!(machine.refused(reason).await > before, "{address}");
        }
        machine.end().await;
    });
}

fn listed_by_name() {
    block_on(async {
        let machine = Machine::new(&[]).await;
        let guest = machine.guest("allow www.example *.wild.example:8080").await;
        let other = machine.guest("allow elsewhere.example").await;
        assert_eq!(guest.tcp("203.0.113.2", 8080).await, REFUSED);
        assert_eq!(guest.resolve("www.example").await, json!(["203.0.113.2"]));
        assert_eq!(guest.tcp("203.0.113.2", 8080).await, "hello 203.0.113.1");
        assert_eq!(guest.tcp("203.0.113.2", 5432).await, "hello 203.0.113.1");
        assert_eq!(guest.tcp("a.b.wild.example", 8080).await, "hello 203.0.113.1");
        assert_eq!(guest.tcp("a.b.wild.example", 5432).await, REFUSED);
        assert_eq!(guest.ask("wild.example", "udp").await["rcode"], 5);
        assert_eq!(guest.ask("elsewhere.example", "tcp").await["rcode"], 5);
        assert_eq!(guest.sandbox.refusals().lookups, 2);
        // What is open to one is open to no other.
        assert_eq!(other.tcp("203.0.113.2", 8080).await, REFUSED);
        machine.end().await;
    });
}

fn rebinding() {
    block_on(async {
        let machine = Machine::new(&[]).await;
        for policy in ["egress", "allow *.example"] {
            let guest = machine.guest(policy).await;
            for name in
                ["loopback.example", "private.example", "metadata.example", "alias.example", "six.example"]
            {
                let told = guest.ask(name, "udp").await;
                assert_eq!((&told["rcode"], &told["answers"]), (&json!(0), &json!(0)), "{name}");
            }
            // The public one of two.
            assert_eq!(guest.resolve("mixed.example").await, json!(["203.0.113.2"]));
            assert_eq!(guest.sandbox.refusals().lookups, 6, "{policy}");
            assert_eq!(guest.tcp("10.77.0.1", 8080).await, REFUSED);
        }
        let guest = machine.guest("allow *.example 10.77.0.0/24:8080").await;
        assert_eq!(guest.tcp("private.example", 8080).await, "hello 203.0.113.1");
        machine.end().await;
    });
}

fn operator() {
    block_on(async {
        let machine = Machine::new(&["10.77.0.0/24", "203.0.113.1"]).await;
        let guest = machine.guest("egress").await;
        assert_eq!(guest.tcp("10.77.0.1", 8080).await, "hello 203.0.113.1");
        assert_eq!(guest.tcp("private.example", 8080).await, "hello 203.0.113.1");
        assert_eq!(guest.tcp("203.0.113.1", 8080).await, "control plane");
        assert_eq!(guest.tcp("198.51.100.1", 8080).await, REFUSED);
        assert_eq!(guest.tcp("192.168.77.1", 8080).await, REFUSED);
        let listed = machine.guest("allow private.example 203.0.113.1:8080").await;
        assert_eq!(listed.tcp("10.77.0.1", 8080).await, REFUSED);
        assert_eq!(listed.tcp("private.example", 8080).await, "hello 203.0.113.1");
        assert_eq!(listed.tcp("203.0.113.1", 8080).await, "control plane");
        let other = Machine::new_beside(&[]).await;
        let own = other.guest("allow 203.0.113.1:8080 127.0.0.0/8 169.254.169.254").await;
        assert_eq!(own.tcp("203.0.113.1", 8080).await, REFUSED);
        assert_eq!(own.tcp("169.254.169.254", 8080).await, REFUSED);
        other.end().await;
        let unlisted = machine.guest("allow private.example").await;
        assert_eq!(unlisted.tcp("203.0.113.1", 8080).await, REFUSED);
        machine.end().await;
    });
}

fn bounded() {
    block_on(async {
        let machine = Machine::new(&[]).await;
        let (greedy, other) = (machine.guest("egress").await, machine.guest("egress").await);
        assert_eq!(greedy.flood("203.0.113.2", 9999, 1_100).await, 1_100);
        assert!(machine.refused("flows").await > 0);
        assert_eq!(other.tcp("203.0.113.2", 8080).await, "hello 203.0.113.1");
        greedy.flood(&other.gateway().await, 53, 1_000).await;
        assert_eq!(other.resolve("www.example").await, json!(["203.0.113.2"]));
        machine.end().await;
    });
}

fn flushed() {
    block_on(async {
        let machine = Machine::new(&[]).await;
        let (free, listed) =
            (machine.guest("egress").await, machine.guest("allow 203.0.113.2 www.example").await);
        assert_eq!(free.tcp("10.77.0.1", 8080).await, REFUSED);
        world::output("nft", &["flush", "ruleset"]);
        fixture::eventually(|| tables_and_links()[0].starts_with("impuls_").then_some(())).await;
        assert_eq!(free.tcp("10.77.0.1", 8080).await, REFUSED);
        assert_eq!(free.tcp("203.0.113.1", 8080).await, REFUSED);
        assert_eq!(free.tcp("203.0.113.2", 8080).await, "hello 203.0.113.1");
        assert_eq!(listed.tcp("203.0.113.3", 8080).await, REFUSED);
        assert_eq!(listed.tcp("203.0.113.2", 8080).await, "hello 203.0.113.1");
        assert_eq!(machine.refused("host").await, 1);
        free.sandbox.destroy().await.unwrap();
        listed.sandbox.destroy().await.unwrap();
        machine.end().await;
        assert_eq!(tables_and_links(), Vec::<String>::new());
    });
}

fn runtimes() {
    const NODE_CODE: &str = "exports.handler = async e => (await fetch(e)).text()";
    const PYTHON_CODE: &str = "import urllib.request\ndef handler(event, context):\n    \
        return urllib.request.urlopen(event, timeout=3).read().decode()\n";
    block_on(async {
        let machine = Machine::new(&[]).await;
        for (image, file, code) in [(&*NODE, "index.js", NODE_CODE), (&*ZYGOTE, "index.py", PYTHON_CODE)] {
            let sandbox = Guest::sandbox_of(machine.sandboxes(), image).await;
            let guest =
                Guest::give(sandbox, machine.folder.path(), (file, code), "allow www.example:80").await;
            assert_eq!(guest.call("http://www.example/").await, "web");
            assert!(guest.call("http://elsewhere.example/").await.contains("rror"));
        }
        machine.end().await;
    });
}

fn leftovers() {
    block_on(async {
        let machine = Machine::new(&[]).await;
        let (one, two) = (machine.guest("egress").await, machine.guest("allow www.example").await);
        assert_eq!(two.tcp("www.example", 8080).await, "hello 203.0.113.1");
        assert_eq!(tables_and_links().len(), 3, "{:?}", tables_and_links());
        assert_eq!(world::forwarding("wan0"), "1");
        one.sandbox.destroy().await.unwrap();
        two.sandbox.destroy().await.unwrap();
        let left = tables_and_links();
        assert!(left.len() == 1 && left[0].starts_with("impuls_"), "{left:?}");
        let rules = world::output("nft", &["list", "ruleset"]);
        assert!(!rules.contains("list_") && !rules.contains("named_"), "{rules}");
        let three = machine.guest("egress").await;
        machine.end().await;
        assert_eq!(tables_and_links(), Vec::<String>::new());
        assert_eq!(world::forwarding("wan0"), "0");
        drop((one, two, three));
    });
    killed();
    assert_eq!(tables_and_links(), Vec::<String>::new());
    assert_eq!(world::forwarding("wan0"), "0");
}

/// A server in a process of its own, and what it said.
fn start(folder: &Path) -> (Child, Value) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("server").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, serde_json::from_str::<Value>(&line).unwrap())
}

/// Servers that come and go while another's sandboxes use the same link to the outside.
fn neighbours() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let answers = json!({ "reaped": 0, "answer": "hello 203.0.113.1" });
        let (mut first, said) = start(&folder.path().join("first"));
        assert_eq!(said, answers);
        let machine = Machine::new(&[]).await;
        let guest = machine.guest("egress").await;
        assert_eq!(guest.tcp("203.0.113.2", 8080).await, "hello 203.0.113.1");
        drop(first.stdin.take());
        assert!(first.wait().unwrap().success());
        let (mut second, said) = start(&folder.path().join("second"));
        assert_eq!(said, answers);
        assert_eq!(guest.tcp("203.0.113.2", 8080).await, "hello 203.0.113.1");
        machine.end().await;
        assert_eq!(world::forwarding("wan0"), "1");
        drop(second.stdin.take());
        assert!(second.wait().unwrap().success());
        assert_eq!(tables_and_links(), Vec::<String>::new());
        assert_eq!(world::forwarding("wan0"), "0");
    });
}

fn killed() {
    let folder = tempfile::tempdir().unwrap();
    let start = || start(folder.path());
    let (mut server, said) = start();
    assert_eq!(said, json!({ "reaped": 0, "answer": "hello 203.0.113.1" }));
    assert_eq!(tables_and_links().len(), 2);
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(!tables_and_links().is_empty());
    let (mut next, said) = start();
    assert_eq!(said["reaped"], 1);
    assert_eq!(tables_and_links().len(), 2, "{:?}", tables_and_links());
    drop(next.stdin.take());
    assert!(next.wait().unwrap().success());
}

/// Starts a driver, reaps, makes a sandbox, says so and waits for the end of standard input.
fn serve(folder: &Path) {
    block_on(async {
        let config = Config {
            run_dir: folder.join("run"),
            exe: "/proc/self/exe".into(),
            allow_weaker: false,
            network: NetworkConfig::default(),
        };
        let driver = ProcessDriver::start(config).await.unwrap();
        let reaped = driver.reap_orphans().await.unwrap();
        let guest = Guest::new(driver.as_ref(), folder, "egress").await;
        let answer = guest.tcp("203.0.113.2", 8080).await;
        println!("{}", json!({ "reaped": reaped, "answer": answer }));
        std::io::stdout().flush().unwrap();
        let mut rest = String::new();
        std::io::stdin().read_to_string(&mut rest).unwrap();
        driver.shutdown().await;
    });
}
