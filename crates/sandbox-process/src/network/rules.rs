//! The packet filter, as scripts for `nft`.
//!
//! One table per server. A sandbox with free egress needs no rule of its own: the name of its link says what it
//! is, and the kernel's own route to it says which address it may send from. A sandbox with a list has a chain
//! and two sets for what the resolver has told it.
//!
//! A packet of a sandbox passes `prerouting` (no IPv6, no foreign source), then `to_host` or `from_sandbox`. What
//! is refused is counted under its reason and for its link, and answered, so that a program learns at once.
//!
//! In a yard the machine itself is on the other side of the way out, where every packet would be taken for one to
//! somebody else. So the table knows the machine's own addresses there (`machine`), and `to_machine` is what
//! `to_host` is elsewhere.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use impuls_domain::{Allowlist, Cidr};

use super::address::{self, NEVER, PRIVATE, Part};

/// How tables of ours are called, before the server's name.
pub(crate) const TABLE_PREFIX: &str = "impuls_";
/// What every link of every server's sandboxes begins with.
const LINK_PREFIX: &str = "im";
/// Letters and digits that tell links of one server from those of others.
const OWN: u32 = 7;
/// Names that the resolver has opened at once for one sandbox.
pub(super) const OPENED_LIMIT: usize = 4_096;
/// Connections that a sandbox may have at once; those that it has left count for as long as the kernel remembers
/// them. The machine's table of connections is everybody's.
const FLOWS: u32 = 1_024;
/// The set of the machine's own addresses, where the table is not on the machine itself.
const MACHINE: &str = "machine";
/// The set that counts refused packets by link, and how many links it holds: as many as a server has addresses.
pub(super) const REFUSED: &str = "refused";
const REFUSED_LIMIT: usize = 8_192;
/// Why packets are refused: the counters.
pub(super) const REASONS: [&str; 11] = [
    "ipv6", "spoofed", "host", "never", "private", "sandbox", "protocol", "unlisted", "inward", "router",
    "flows",
];

/// What things of one server are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// The table.
    pub(crate) table: String,
    /// How names of links begin: at most 9 characters, so that 6 are left.
    pub(crate) link: String,
    /// How names of the ways out of a yard begin: as long.
    pub(crate) tap: String,
}

/// A number in as few lower-case letters and digits as possible.
fn base36(mut number: u64, width: usize) -> String {
    let mut digits = Vec::new();
    while number > 0 || digits.len() < width {
        let digit = u32::try_from(number % 36).ok().and_then(|digit| char::from_digit(digit, 36));
        digits.push(digit.unwrap_or('0'));
        number /= 36;
    }
    digits.iter().rev().collect()
}

/// A number that stands for a text (FNV-1a).
fn digest(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Names {
    /// The names of the server that is called `<pid>-<start time>-<number>` and has claimed this gateway. Those of links
    /// follow from all of it: in another container a server may have the same process id, and share the network.
    pub(crate) fn of(instance: &str, gateway: Ipv4Addr) -> Self {
        Self::of_table(format!("{TABLE_PREFIX}{instance}_{:08x}", gateway.to_bits()))
    }

    /// The names of the server that has a table.
    pub(super) fn of_table(table: String) -> Self {
        let own = base36(digest(&table) % 36_u64.pow(OWN), OWN as usize);
        Self { table, link: format!("{LINK_PREFIX}{own}"), tap: format!("it{own}") }
    }

    /// The gateway that the owner of a table has claimed for as long as it lives.
    pub(super) fn gateway_of(table: &str) -> Option<Ipv4Addr> {
        let (_, gateway) = table.strip_prefix(TABLE_PREFIX)?.rsplit_once('_')?;
        u32::from_str_radix(gateway, 16).ok().filter(|_| gateway.len() == 8).map(Ipv4Addr::from_bits)
    }

    /// A sandbox's link on the host: at most 15 characters, which is what the kernel takes.
    pub(super) fn link(&self, number: u32, listed: bool) -> String {
        format!("{}{}{}", self.link, if listed { 'a' } else { 'e' }, base36(number.into(), 1))
    }

    /// A sandbox's own way out of a yard.
    pub(super) fn tap(&self, number: u32) -> String {
        format!("{}{}", self.tap, base36(number.into(), 1))
    }
}

/// Where the resolver listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) udp: u16,
    pub(super) tcp: u16,
}

/// What a server's table is made from.
pub(super) struct Base<'a> {
    pub(super) names: &'a Names,
    pub(super) part: Part,
    pub(super) ports: Ports,
    /// What the operator lets every sandbox reach.
    pub(super) operator: &'a [Cidr],
    pub(super) outside: Outside<'a>,
}

/// How packets leave the network namespace that the table is in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outside<'a> {
    /// By the machine's own links. These are the ones on which this server switched forwarding on: what arrives
    /// there for others than sandboxes was not passed on before, and is not now.
    Links(&'a [String]),
    /// By a way out of its own for each sandbox, behind which is the machine.
    Taps,
}

/// `{ a, b }`, or nothing where nft would not take an empty list.
fn elements(texts: &[String]) -> String {
    if texts.is_empty() { String::new() } else { format!("elements = {{ {} }};", texts.join(", ")) }
}

fn table_of(ranges: &[(Ipv4Addr, u8)]) -> String {
    ranges.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect::<Vec<_>>().join(", ")
}

/// What is refused, by link. A reset for TCP, because the kernel answers a sandbox only once a second with anything
/// else. A link that finds no room in the set is refused all the same: only that rule ends there.
fn refuse() -> String {
    format!(
        "set {REFUSED} {{ type ifname; flags dynamic; counter; size {REFUSED_LIMIT}; }}\n\
         chain refuse {{\n add @{REFUSED} {{ iifname }}\n meta l4proto tcp reject with tcp reset\n \
            reject with icmpx type admin-prohibited\n}}\n\
         chain silence {{\n add @{REFUSED} {{ iifname }}\n drop\n}}\n"
    )
}

impl Base<'_> {
    /// The script that makes the table.
    pub(super) fn script(&self) -> String {
        let v4 = || self.operator.iter().filter(|range| range.address().is_ipv4());
        let operator: Vec<String> = v4().map(ToString::to_string).collect();
        let hosts: Vec<String> = v4().filter(|range| range.is_single()).map(ToString::to_string).collect();
        let mut script = format!("table inet {} {{\n", self.names.table);
        for reason in REASONS {
            let _infallible = writeln!(script, "counter {reason} {{ }}");
        }
        let _infallible = write!(
            script,
            "{}set operator {{ type ipv4_addr; flags interval; auto-merge; {} }}\n\
             set operator_hosts {{ type ipv4_addr; {} }}\n\
             map lists {{ type ipv4_addr : verdict; }}\n{}{}{}{}}}\n",
            refuse(),
            elements(&operator),
            elements(&hosts),
            self.refusals(),
            self.machine(),
            self.sandboxes(),
            self.hooks(),
        );
        script
    }

    fn refusals(&self) -> String {
        format!(
            "chain never {{\n ip daddr @operator return\n ip daddr {{ {never} }} counter name never goto refuse\n}}\n\
             chain private {{\n ip daddr @operator return\n ip daddr {{ {private} }} counter name private goto refuse\n}}\n",
            never = table_of(&NEVER),
            private = table_of(&PRIVATE),
        )
    }

    /// What stands for the input hook where the machine is behind the way out.
    fn machine(&self) -> String {
        let (link, Outside::Taps) = (&self.names.link, self.outside) else {
            return String::new();
        };
        format!(
            "set {MACHINE} {{ type ipv4_addr; flags interval; auto-merge; }}\n\
             chain to_machine {{\n iifname \"{link}a*\" ip daddr @operator_hosts goto listed\n \
                ip daddr @operator_hosts accept\n counter name host goto refuse\n}}\n"
        )
    }

    fn sandboxes(&self) -> String {
        let (link, gateway, Ports { udp, tcp }) = (&self.names.link, self.part.gateway(), self.ports);
        let to_machine = match self.outside {
            Outside::Links(_) => String::new(),
            Outside::Taps => format!(" ip daddr @{MACHINE} goto to_machine\n"),
        };
        format!(
            "set flows {{ type ipv4_addr; flags dynamic; size 65535; }}\n\
             chain bounds {{\n \
                ct state new add @flows {{ ip saddr ct count over {FLOWS} }} counter name flows goto refuse\n}}\n\
             chain listed {{\n ip saddr vmap @lists\n counter name unlisted goto refuse\n}}\n\
             chain from_sandbox {{\n ct state established accept\n jump bounds\n \
                oifname \"{link}*\" counter name sandbox goto refuse\n{to_machine} \
                iifname \"{link}a*\" goto listed\n \
                meta l4proto != {{ tcp, udp, icmp }} counter name protocol goto refuse\n \
                jump never\n jump private\n accept\n}}\n\
             chain to_sandbox {{\n ct state established,related accept\n counter name inward drop\n}}\n\
             chain to_host {{\n jump bounds\n ip daddr {gateway} udp dport {udp} accept\n ip daddr {gateway} tcp dport {tcp} accept\n \
                iifname \"{link}a*\" ip daddr @operator_hosts goto listed\n \
                ip daddr @operator_hosts accept\n \
                counter name host goto refuse\n}}\n"
        )
    }

    fn hooks(&self) -> String {
        let (link, gateway, Ports { udp, tcp }) = (&self.names.link, self.part.gateway(), self.ports);
        let part = self.part.range().map(|range| range.to_string()).unwrap_or_default();
        let (guard, masquerade) = self.outside.rules(self.names);
        format!(
            "chain prerouting {{\n type filter hook prerouting priority raw; policy accept;\n \
                iifname != \"{link}*\" accept\n \
                meta nfproto ipv6 counter name ipv6 drop\n \
                ip saddr != {part} counter name spoofed goto silence\n \
                fib saddr . iif oif missing counter name spoofed goto silence\n}}\n\
             chain names {{\n type nat hook prerouting priority dstnat; policy accept;\n \
                iifname \"{link}*\" ip daddr {gateway} udp dport 53 dnat ip to {gateway}:{udp}\n \
                iifname \"{link}*\" ip daddr {gateway} tcp dport 53 dnat ip to {gateway}:{tcp}\n}}\n\
             chain input {{\n type filter hook input priority filter; policy accept;\n \
                iifname \"{link}*\" goto to_host\n \
                ip daddr {gateway} counter name inward drop\n}}\n\
             chain forward {{\n type filter hook forward priority filter; policy accept;\n \
                iifname \"{link}*\" goto from_sandbox\n \
                oifname \"{link}*\" goto to_sandbox\n{guard}}}\n\
             chain outward {{\n {masquerade}\n}}\n\
             chain postrouting {{\n type nat hook postrouting priority srcnat; policy accept;\n \
                ip saddr {part} oifname != \"{link}*\" goto outward\n}}\n"
        )
    }
}

impl Outside<'_> {
    /// The rule that keeps others from using what was switched on for sandboxes, and how packets get a new source.
    fn rules(self, names: &Names) -> (String, &'static str) {
        let (links, masquerade) = match self {
            Self::Links([]) => return (String::new(), "masquerade"),
            Self::Links(links) => {
                let quoted: Vec<String> = links.iter().map(|name| format!("\"{name}\"")).collect();
                (format!("{{ {} }}", quoted.join(", ")), "masquerade")
            }
            // pasta takes the port that a datagram comes from for itself on the machine, so it is not for
            // functions to choose.
            Self::Taps => (
                format!("\"{}*\"", names.tap),
                "meta l4proto { tcp, udp } masquerade to :32768-60999 fully-random\n masquerade",
            ),
        };
        // Those of all servers: another one's sandboxes have their answers through the same links to the outside.
        let guard = format!(" iifname {links} oifname != \"{LINK_PREFIX}*\" counter name router drop\n");
        (guard, masquerade)
    }
}

/// The script that says which addresses are the machine's own, in a table whose outside is [`Outside::Taps`].
pub(super) fn machine(names: &Names, ranges: &[Cidr]) -> String {
    let table = &names.table;
    let mut script = format!("flush set inet {table} {MACHINE}\n");
    let own: Vec<String> = v4_only(ranges).iter().map(ToString::to_string).collect();
    if !own.is_empty() {
        let _infallible = writeln!(script, "add element inet {table} {MACHINE} {{ {} }}", own.join(", "));
    }
    script
}

/// The script that forgets what was refused on a link. What is not there cannot be deleted, so it is added first.
pub(super) fn forget(names: &Names, link: &str) -> String {
    let element = format!("element inet {} {REFUSED} {{ \"{link}\" }}\n", names.table);
    format!("add {element}delete {element}")
}

fn rule(script: &mut String, (range, port): (Cidr, Option<u16>)) {
    let port = port.map(|port| format!("th dport {port} ")).unwrap_or_default();
    let _infallible = writeln!(script, " ip daddr {range} {port}accept");
}

/// The script that opens what a list names by address for one sandbox.
pub(super) fn open_list(names: &Names, number: u32, address: Ipv4Addr, list: &Allowlist) -> String {
    let table = &names.table;
    let v4 = || list.ranges().filter(|(range, _)| range.address().is_ipv4());
    let mut script = format!(
        "table inet {table} {{\n\
         set named_{number} {{ type ipv4_addr; flags timeout; size {OPENED_LIMIT}; }}\n\
         set ports_{number} {{ type ipv4_addr . inet_service; flags timeout; size {OPENED_LIMIT}; }}\n\
         chain list_{number} {{\n meta l4proto != {{ tcp, udp }} counter name protocol goto refuse\n \
            ip daddr @named_{number} accept\n ip daddr . th dport @ports_{number} accept\n jump never\n"
    );
    v4().filter(|(range, _)| address::is_private(range)).for_each(|entry| rule(&mut script, entry));
    script.push_str(" jump private\n");
    v4().filter(|(range, _)| !address::is_private(range)).for_each(|entry| rule(&mut script, entry));
    let _infallible = write!(
        script,
        " counter name unlisted goto refuse\n}}\n}}\nadd element inet {table} lists {{ {address} : goto list_{number} }}\n"
    );
    script
}

/// The script that takes a sandbox's list away again.
pub(super) fn close_list(names: &Names, number: u32, address: Ipv4Addr) -> String {
    let table = &names.table;
    format!(
        "delete element inet {table} lists {{ {address} }}\nflush chain inet {table} list_{number}\n\
         delete chain inet {table} list_{number}\n\
         delete set inet {table} named_{number}\ndelete set inet {table} ports_{number}\n"
    )
}

/// The script that opens an address under these ports (`None` is all of them), for so many seconds from now.
pub(super) fn open_name(
    names: &Names,
    number: u32,
    targets: &[(Ipv4Addr, Option<u16>)],
    secs: u64,
) -> String {
    let table = &names.table;
    let mut script = String::new();
    for (address, port) in targets {
        let (set, element) = match port {
            None => ("named", address.to_string()),
            Some(port) => ("ports", format!("{address} . {port}")),
        };
        // An element that is there keeps its time unless it goes first, and one that is not there cannot go.
        for (verb, timeout) in [("add", " timeout 1h"), ("delete", ""), ("add", &format!(" timeout {secs}s"))]
        {
            let _infallible =
                writeln!(script, "{verb} element inet {table} {set}_{number} {{ {element}{timeout} }}");
        }
    }
    script
}

/// The script that removes a server's table.
pub(crate) fn remove(table: &str) -> String {
    format!("delete table inet {table}\n")
}

/// The IPv4 ranges among these.
pub(super) fn v4_only(ranges: &[Cidr]) -> Vec<Cidr> {
    ranges.iter().copied().filter(|range| matches!(range.address(), IpAddr::V4(_))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links_are_short_and_belong_to_one_server() {
        let gateway = Ipv4Addr::new(198, 18, 0, 1);
        let names = Names::of("4194303-18446744073709551615-1295", gateway);
        assert_eq!(names.link.len(), 9);
        assert!(names.link(8_191, true).len() <= 15);
        // The same process id, as in a container that was started again.
        assert_ne!(names.link, Names::of("4194303-1-1295", gateway).link);
        assert_ne!(names.link, Names::of("4194303-18446744073709551615-1294", gateway).link);
        assert_eq!(Names::of_table(names.table.clone()), names);
        assert_eq!(Names::gateway_of(&names.table), Some(gateway));
        for other in ["impuls_7-1-0_1", "impuls_7-1-0_4026531836", "impuls_7-1-0", "filter"] {
            assert_eq!(Names::gateway_of(other), None, "{other}");
        }
    }

    #[test]
    fn in_a_yard_the_machine_comes_before_what_is_allowed() {
        let names = Names::of("7-1-0", Ipv4Addr::LOCALHOST);
        let part = Part::of(&"198.18.0.0/24".parse().unwrap(), 0)[0];
        let (ports, operator) = (Ports { udp: 1, tcp: 2 }, ["203.0.113.1".parse().unwrap()]);
        let base = |outside| Base { names: &names, part, ports, operator: &operator, outside }.script();
        let yard = base(Outside::Taps);
        let sandboxes = &yard[yard.find("chain from_sandbox").unwrap()..];
        let at = |text: &str| sandboxes.find(text).unwrap();
        assert!(at("ip daddr @machine goto to_machine") < at("goto listed"));
        assert!(
            yard.contains(&format!("iifname \"{}*\" oifname != \"im*\" counter name router drop", names.tap))
        );
        assert!(!base(Outside::Links(&[])).contains("machine"));
        assert_eq!(machine(&names, &[]), format!("flush set inet {} machine\n", names.table));
        assert!(machine(&names, &operator).contains("machine { 203.0.113.1 }"));
    }

    #[test]
    fn what_is_private_is_opened_only_by_entries_that_are() {
        let names = Names::of("7-1-0", Ipv4Addr::LOCALHOST);
        let list = Allowlist::new(["0.0.0.0/0", "10.0.0.0/8:5432", "fd00::/8", "example.com"]).unwrap();
        let script = open_list(&names, 9, Ipv4Addr::new(198, 18, 0, 9), &list);
        let at = |text: &str| script.find(text).unwrap();
        assert!(at("jump never") < at("ip daddr 10.0.0.0/8 th dport 5432 accept"));
        assert!(at("th dport 5432 accept") < at("jump private"));
        assert!(at("jump private") < at("ip daddr 0.0.0.0/0 accept"));
        assert!(!script.contains("fd00") && !script.contains("example"));
    }
}
