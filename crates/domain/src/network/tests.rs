use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn entry(text: &str) -> Result<String, NetworkError> {
    text.parse::<AllowEntry>().map(|entry| entry.to_string())
}

#[test]
fn entries_are_names_addresses_and_ranges_with_ports() {
    for (text, canonical) in [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("*.example.com:443", "*.example.com:443"),
        ("_srv.a-b.example", "_srv.a-b.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1/32:80", "192.0.2.1:80"),
        ("10.0.0.0/8:5432", "10.0.0.0/8:5432"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("FD00::/8", "fd00::/8"),
        ("[fd00::1]:443", "[fd00::1]:443"),
        ("[fd00::/8]", "fd00::/8"),
        ("::/0", "::/0"),
        ("*", "*"),
        ("*:443", "*:443"),
    ] {
        assert_eq!(entry(text).as_deref(), Ok(canonical), "{text}");
        assert_eq!(entry(canonical).as_deref(), Ok(canonical), "{text}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let bad = [
        "",
        "*.",
        "a..b",
        "-a.b",
        "a-.b",
        "a b",
        "a/b",
        "a.*.b",
        "1.2.3",
        "0x7f.1",
        "1",
        "010.0.0.1",
        "10.0.0.0/33",
        "10.0.0.0/+8",
        "10.0.0.0/",
        "[10.0.0.1]:1",
        "[fd00::1",
        "[fd00::1]x",
        "example.com,b",
        "ä.de",
        "127.1",
        "2130706433",
    ];
    for text in bad {
        assert_eq!(entry(text), Err(NetworkError::Entry(text.to_owned())), "{text}");
    }
    for text in ["http://a", "a:0", "a:65536", "a:", "a:+1", "10.0.0.0/8:x"] {
        assert_eq!(entry(text), Err(NetworkError::Port(text.to_owned())), "{text}");
    }
    assert!(
        matches!(entry("10.1.2.3/8"), Err(NetworkError::HostBits(_, range)) if range.to_string() == "10.0.0.0/8")
    );
    assert!(matches!(entry("::ffff:10.0.0.1"), Err(NetworkError::Mapped(_))));
    assert!(matches!(entry("[::ffff:7f00:1]:80"), Err(NetworkError::Mapped(_))));
}

#[test]
fn a_pattern_names_what_is_below_it_and_nothing_that_only_ends_alike() {
    let list = Allowlist::new(["api.example.com:443", "*.example.com", "*.example.com:8080"]).unwrap();
    let ports = |name: &str| list.ports_of(name).collect::<Vec<_>>();
    assert_eq!(ports("API.example.com."), [Some(443), None, Some(8080)]);
    assert_eq!(ports("a.b.example.com"), [None, Some(8080)]);
    for name in ["example.com", ".example.com", "badexample.com", "example.com.evil.org", ""] {
        assert_eq!(ports(name), [], "{name}");
    }
}

#[test]
fn a_list_is_bounded_and_has_no_entry_twice() {
    assert_eq!(Allowlist::new([""; 0]), Err(NetworkError::Count(0)));
    let many = |count: usize| Allowlist::new((0..count).map(|n| format!("h{n}.example")));
    assert_eq!(many(MAX_ENTRIES).unwrap().entries().len(), MAX_ENTRIES);
    assert_eq!(many(MAX_ENTRIES + 1), Err(NetworkError::Count(MAX_ENTRIES + 1)));
    assert_eq!(Allowlist::new(["a", "A.", "a"]).unwrap().to_texts(), ["a"]);
}

#[test]
fn a_policy_is_one_of_three_texts() {
    assert_eq!("off".parse(), Ok(NetworkPolicy::Off));
    assert_eq!("egress".parse(), Ok(NetworkPolicy::Egress));
    let text = "allow example.com:443 10.0.0.0/8";
    assert_eq!(NetworkPolicy::parse(text).unwrap().to_text(), text);
    for text in ["", "OFF", "on", "allow", "allowed a", "example.com"] {
        assert!(NetworkPolicy::parse(text).is_err(), "{text}");
    }
}

fn any_entry() -> impl Strategy<Value = AllowEntry> {
    let port = prop::option::of(1..=u16::MAX);
    let host = (r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?\.){0,4}[a-z]{1,20}", port.clone())
        .prop_map(|(name, port)| AllowEntry::Host(name.parse().unwrap(), port));
    let range = (any::<IpAddr>(), 0..=128_u8, port).prop_filter_map("mapped", |(address, prefix, port)| {
        let prefix = if address.is_ipv4() { prefix % 33 } else { prefix };
        let range = match Cidr::new(address, prefix) {
            Err(NetworkError::HostBits(_, range)) => range,
            other => other.ok()?,
        };
        Some(AllowEntry::Range(range, port))
    });
    prop_oneof![host, range]
}

proptest! {
    #[test]
    fn every_policy_survives_its_text(entries in prop::collection::vec(any_entry(), 1..=MAX_ENTRIES)) {
        let list = Allowlist::new(entries.iter().map(ToString::to_string)).unwrap();
        prop_assert!(entries.iter().all(|entry| list.entries().contains(entry)));
        prop_assert_eq!(Allowlist::new(list.to_texts()), Ok(list.clone()));
        let policy = NetworkPolicy::Allow(list);
        prop_assert_eq!(NetworkPolicy::parse(&policy.to_text()), Ok(policy));
    }

    #[test]
    fn any_text_is_refused_or_read_as_what_it_prints(text in ".{0,80}") {
        if let Ok(entry) = text.parse::<AllowEntry>() {
            prop_assert_eq!(entry.to_string().parse(), Ok(entry));
        }
    }

    #[test]
    fn a_range_holds_its_own_addresses(address: IpAddr, prefix in 0..=32_u8, other: IpAddr) {
        if let Ok(range) | Err(NetworkError::HostBits(_, range)) = Cidr::new(address, prefix) {
            prop_assert!(range.contains(address));
            prop_assert!(range.covers(&range));
            prop_assert_eq!(range.to_string().parse(), Ok(range));
            if let Ok(single) = Cidr::new(other, if other.is_ipv4() { 32 } else { 128 }) {
                prop_assert_eq!(range.covers(&single), range.contains(other));
            }
        }
    }
}
