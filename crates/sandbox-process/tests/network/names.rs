//! A resolver that says what the tests want, on the machine's loopback.

use std::net::{Ipv4Addr, SocketAddr};

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

fn addresses(name: &str) -> Option<Vec<Ipv4Addr>> {
    let texts: Vec<String> = match name {
        "www.example." | "elsewhere.example." => vec!["203.0.113.2".into()],
        "a.b.wild.example." => vec!["203.0.113.3".into()],
        "loopback.example." => vec!["127.0.0.1".into()],
        "private.example." | "inside.test." => vec!["10.77.0.1".into()],
        "metadata.example." => vec!["169.254.169.254".into()],
        "mixed.example." => vec!["10.77.0.1".into(), "203.0.113.2".into()],
        "big.example." => (1..=40).map(|n| format!("203.0.113.{n}")).collect(),
        _ => return None,
    };
    Some(texts.iter().map(|text| text.parse().unwrap()).collect())
}

fn answer(bytes: &[u8], limit: usize) -> Vec<u8> {
    let asked = Message::from_vec(bytes).unwrap();
    let mut answer = Message::response(asked.metadata.id, OpCode::Query);
    let query = asked.queries[0].clone();
    let owner = query.name().clone();
    answer.add_query(query);
    let name = owner.to_string();
    let mut add = |owner: &Name, data| {
        answer.add_answer(Record::from_rdata(owner.clone(), 5, data));
    };
    match (name.as_str(), addresses(&name)) {
        ("alias.example.", _) => {
            let target = Name::from_ascii("inside.test.").unwrap();
            add(&owner, RData::CNAME(CNAME(target.clone())));
            add(&target, RData::A(A("10.77.0.1".parse().unwrap())));
        }
        // Not what was asked, and mapped at that.
        ("six.example.", _) => add(&owner, RData::AAAA(AAAA("::ffff:10.77.0.1".parse().unwrap()))),
        (_, Some(found)) => found.into_iter().for_each(|address| add(&owner, RData::A(A(address)))),
        (_, None) => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    let whole = answer.to_vec().unwrap();
    if whole.len() <= limit { whole } else { answer.truncate().to_vec().unwrap() }
}

/// Starts it; it ends with the runtime.
pub async fn serve() -> SocketAddr {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            udp.send_to(&answer(&buffer[..length], 512), from).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut buffer = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut buffer).await.unwrap();
            let answer = answer(&buffer, 65_535);
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    address
}
