//! What a question of a sandbox and the answer to it come to; pure.

use std::net::Ipv4Addr;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use impuls_domain::{Cidr, NetworkPolicy};

use crate::network::address;

/// Longest chain of other names for a name.
const CHAIN: usize = 16;

/// What becomes of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is no question that a resolver answers.
    Malformed,
    /// The policy does not let it be asked.
    Refused,
    /// The answer is that there is nothing, whatever others would say: sandboxes have no IPv6, and addresses
    /// inside service records could not be judged by whoever made them.
    Empty,
    /// The answer is that there is no such name: it would tell the name of an address that is not for the sandbox.
    Absent,
    /// Others are asked. The ports are those under which the policy names the host, if it has a list.
    Ask(Vec<Option<u16>>),
}

/// Judges a message that came from a sandbox.
pub(super) fn question(message: &Message, policy: &NetworkPolicy, operator: &[Cidr]) -> Verdict {
    let metadata = &message.metadata;
    let plain = metadata.message_type == MessageType::Query && metadata.op_code == OpCode::Query;
    let [query] = message.queries.as_slice() else { return Verdict::Malformed };
    if !plain || query.query_class() != DNSClass::IN {
        return Verdict::Malformed;
    }
    let ports: Vec<Option<u16>> = match policy {
        NetworkPolicy::Off => return Verdict::Refused,
        NetworkPolicy::Egress => Vec::new(),
        NetworkPolicy::Allow(list) => {
            let ports = list.ports_of(&text(query.name())).collect::<Vec<_>>();
            if ports.is_empty() {
                return Verdict::Refused;
            }
            // Every port makes single ones needless.
            if ports.contains(&None) { vec![None] } else { ports }
        }
    };
    if !may_be_named(query.name(), policy, operator) {
        return Verdict::Absent;
    }
    match query.query_type() {
        RecordType::AAAA | RecordType::HTTPS | RecordType::SVCB => Verdict::Empty,
        RecordType::A
        | RecordType::CAA
        | RecordType::CNAME
        | RecordType::MX
        | RecordType::NAPTR
        | RecordType::NS
        | RecordType::PTR
        | RecordType::SOA
        | RecordType::SRV
        | RecordType::TXT => Verdict::Ask(ports),
        _ => Verdict::Refused,
    }
}

/// Whether a name is not that of an address, or of one that the sandbox may be told. The zones between are nobody's to
/// ask for: they say which addresses there are.
fn may_be_named(name: &Name, policy: &NetworkPolicy, operator: &[Cidr]) -> bool {
    let text = text(name);
    let labels: Vec<&str> = text.trim_end_matches('.').split('.').collect();
    match labels.as_slice() {
        [.., "ip6", "arpa"] => false,
        [d, c, b, a, "in-addr", "arpa"] => [a, b, c, d]
            .map(|label| label.parse::<u8>().ok())
            .iter()
            .copied()
            .collect::<Option<Vec<u8>>>()
            .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
            .is_some_and(|bytes| address::may_be_told(bytes.into(), operator, &named(policy))),
        [.., "in-addr", "arpa"] => false,
        _ => true,
    }
}

/// The ranges that a policy names.
fn named(policy: &NetworkPolicy) -> Vec<Cidr> {
    policy.allowlist().map(|list| list.ranges().map(|(range, _)| range).collect()).unwrap_or_default()
}

/// A name as the policy's lists write it.
fn text(name: &Name) -> String {
    name.to_lowercase().to_ascii()
}

/// What a sandbox is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) records: Vec<Record>,
    /// The addresses among them.
    pub(super) addresses: Vec<Ipv4Addr>,
    /// The shortest time for which an address holds, in seconds.
    pub(super) ttl: u32,
    /// Addresses that were kept back.
    pub(super) withheld: u64,
}

/// Judges the records of an answer: those of the name that was asked, and of the names that it stands for. An
/// address that is not for sandboxes is kept back, whatever the name: names can be pointed anywhere.
pub(super) fn answer(query: &Query, records: &[Record], policy: &NetworkPolicy, operator: &[Cidr]) -> Told {
    let named = named(policy);
    let names = chain(query.name(), records);
    let mut told = Told { ttl: u32::MAX, ..Told::default() };
    for record in records.iter().filter(|record| names.contains(&record.name)) {
        let asked = record.record_type() == query.query_type() || record.record_type() == RecordType::CNAME;
        match &record.data {
            RData::A(a) if asked && address::may_be_told(a.0, operator, &named) => {
                told.ttl = told.ttl.min(record.ttl);
                told.addresses.push(a.0);
                told.records.push(record.clone());
            }
            RData::A(_) if asked => told.withheld += 1,
            _ if asked => told.records.push(record.clone()),
            _ => {}
        }
    }
    if told.withheld > 0 && told.addresses.is_empty() {
        told.records.clear();
    }
    told
}

fn chain(asked: &Name, records: &[Record]) -> Vec<Name> {
    let mut names = vec![asked.clone()];
    while let Some(last) = names.last().filter(|_| names.len() < CHAIN) {
        let next = records.iter().find_map(|record| match &record.data {
            RData::CNAME(cname) if record.name == *last => Some(cname.0.clone()),
            _ => None,
        });
        match next {
            Some(next) if !names.contains(&next) => names.push(next),
            _ => break,
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::{A, CNAME};
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn asked(text: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.add_query(Query::query(name(text), kind));
        message
    }

    fn a(owner: &str, address: &str) -> Record {
        Record::from_rdata(name(owner), 30, RData::A(A(address.parse().unwrap())))
    }

    fn told(records: &[Record], policy: &str, operator: &[&str]) -> (Vec<String>, u64) {
        let operator: Vec<Cidr> = operator.iter().map(|text| text.parse().unwrap()).collect();
        let query = Query::query(name("a.example."), RecordType::A);
        let told = answer(&query, records, &policy.parse().unwrap(), &operator);
        (told.addresses.iter().map(ToString::to_string).collect(), told.withheld)
    }

    #[test]
    fn a_list_answers_for_what_it_names_only() {
        let policy = "allow *.example:443 b.test".parse().unwrap();
        let judge = |text, kind| question(&asked(text, kind), &policy, &[]);
        let question = |message: &Message, policy: &NetworkPolicy| question(message, policy, &[]);
        assert_eq!(judge("A.Example.", RecordType::A), Verdict::Ask(vec![Some(443)]));
        assert_eq!(judge("b.test.", RecordType::TXT), Verdict::Ask(vec![None]));
        assert_eq!(judge("b.test.", RecordType::AAAA), Verdict::Empty);
        assert_eq!(judge("c.test.", RecordType::A), Verdict::Refused);
        assert_eq!(judge("c.test.", RecordType::AAAA), Verdict::Refused);
        assert_eq!(judge("b.test.", RecordType::AXFR), Verdict::Refused);
        assert_eq!(question(&asked("c.test.", RecordType::A), &NetworkPolicy::Egress), Verdict::Ask(vec![]));
        assert_eq!(question(&asked("c.test.", RecordType::A), &NetworkPolicy::Off), Verdict::Refused);
        assert_eq!(question(&Message::query(), &policy), Verdict::Malformed);
        let response = Message::response(1, OpCode::Query);
        assert_eq!(question(&response, &policy), Verdict::Malformed);
    }

    #[test]
    fn a_name_that_points_inside_is_not_told() {
        let records =
            [a("a.example.", "127.0.0.1"), a("a.example.", "93.184.216.34"), a("a.example.", "10.0.0.1")];
        assert_eq!(told(&records, "egress", &[]), (vec!["93.184.216.34".into()], 2));
        assert_eq!(told(&records[..1], "egress", &[]), (vec![], 1));
        assert_eq!(told(&records[2..], "allow a.example", &[]), (vec![], 1));
        assert_eq!(told(&records[2..], "allow a.example 10.0.0.0/8", &[]), (vec!["10.0.0.1".into()], 0));
        assert_eq!(told(&records[2..], "egress", &["10.0.0.1"]), (vec!["10.0.0.1".into()], 0));
    }

    #[test]
    fn addresses_that_are_not_told_have_no_names() {
        let judge = |text, policy: &str, operator: &[&str]| {
            let operator: Vec<Cidr> = operator.iter().map(|text| text.parse().unwrap()).collect();
            question(&asked(text, RecordType::PTR), &policy.parse().unwrap(), &operator)
        };
        let inside = "5.0.0.10.in-addr.arpa.";
        assert_eq!(judge(inside, "egress", &[]), Verdict::Absent);
        assert_eq!(judge(inside, "egress", &["10.0.0.0/8"]), Verdict::Ask(vec![]));
        assert_eq!(judge(inside, "allow *.in-addr.arpa", &[]), Verdict::Absent);
        assert_eq!(judge(inside, "allow *.in-addr.arpa 10.0.0.0/24", &[]), Verdict::Ask(vec![None]));
        assert_eq!(judge("254.169.254.169.In-Addr.Arpa.", "egress", &[]), Verdict::Absent);
        assert_eq!(judge("34.216.184.93.in-addr.arpa.", "egress", &[]), Verdict::Ask(vec![]));
        for zone in
            ["10.in-addr.arpa.", "1.0-25.0.0.10.in-addr.arpa.", "x.0.0.10.in-addr.arpa.", "d.f.ip6.arpa."]
        {
            assert_eq!(judge(zone, "egress", &[]), Verdict::Absent, "{zone}");
        }
    }

    #[test]
    fn only_the_chain_from_the_name_that_was_asked_counts() {
        let alias = |owner: &str, target: &str| {
            Record::from_rdata(name(owner), 30, RData::CNAME(CNAME(name(target))))
        };
        let records = [
            a("other.example.", "93.184.216.35"),
            alias("a.example.", "b.example."),
            alias("b.example.", "c.example."),
            a("c.example.", "93.184.216.34"),
            alias("c.example.", "a.example."),
        ];
        assert_eq!(told(&records, "egress", &[]), (vec!["93.184.216.34".into()], 0));
    }

    proptest! {
        #[test]
        fn whatever_a_resolver_says_nothing_inside_is_told(
            answers in prop::collection::vec((any::<u8>(), any::<[u8; 4]>(), any::<bool>()), 0..20),
            listed: bool,
        ) {
            let owner = |n: u8| ["a.example.", "b.example.", "c.example."][usize::from(n % 3)];
            let records: Vec<Record> = answers.iter().map(|&(n, bytes, inside)| {
                let [_, b, c, d] = bytes;
                match (n % 5, inside) {
                    (0, _) => Record::from_rdata(name(owner(n)), 5, RData::CNAME(CNAME(name(owner(b))))),
                    (_, true) => a(owner(n), &format!("10.{b}.{c}.{d}")),
                    (_, false) => Record::from_rdata(name(owner(n)), 5, RData::A(A(bytes.into()))),
                }
            }).collect();
            let policy = if listed { "allow a.example 0.0.0.0/0" } else { "egress" }.parse().unwrap();
            let query = Query::query(name("a.example."), RecordType::A);
            let told = answer(&query, &records, &policy, &[]);
            prop_assert!(told.addresses.iter().all(|&address| address::may_be_told(address, &[], &[])));
            let shown = told.records.iter().filter(|record| record.record_type() == RecordType::A).count();
            prop_assert_eq!(shown, told.addresses.len());
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(message) = Message::from_vec(&bytes) {
                let policy = "allow *.example".parse().unwrap();
                let _verdict = question(&message, &policy, &[]);
                if let Some(query) = message.queries.first() {
                    let _told = answer(query, &message.answers, &policy, &[]);
                }
            }
        }
    }
}
