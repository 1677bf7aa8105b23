//! Asking the machine's own resolvers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// Where the machine says which resolvers it uses.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Resolvers that are asked in turn, as many as the C library asks (resolv.conf(5)).
const SERVERS: usize = 3;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer over UDP, as the DNS flag day of 2020 agreed.
pub(super) const UDP_LIMIT: u16 = 1_232;

/// The machine's resolvers. Read for every question, because it changes with the networks that it is in.
pub(super) fn machines_own() -> Vec<SocketAddr> {
    parse(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default())
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|&word| word == "nameserver").and(words.next())?;
        Some(SocketAddr::new(address.parse().ok()?, 53))
    };
    text.lines().filter_map(server).take(SERVERS).collect()
}

/// The answer of the first resolver that has one: that there is something, or that there is no such name.
pub(super) async fn ask(query: &Query, servers: &[SocketAddr]) -> io::Result<Message> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the machine has no resolver");
    for &server in servers {
        let asked = tokio::time::timeout(PATIENCE, ask_one(query, server)).await;
        match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(answer) if is_final(answer.metadata.response_code) => return Ok(answer),
            Ok(answer) => last = io::Error::other(format!("{server}: {}", answer.metadata.response_code)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

const fn is_final(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

async fn ask_one(query: &Query, server: SocketAddr) -> io::Result<Message> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_LIMIT);
    message.set_edns(edns);
    let bytes = message.to_vec().map_err(io::Error::other)?;
    let answer = over_udp(&message, &bytes, server).await?;
    if answer.metadata.truncation { over_tcp(&message, &bytes, server).await } else { Ok(answer) }
}

/// A socket of its own for every question: a port that nobody can guess.
async fn over_udp(message: &Message, bytes: &[u8], server: SocketAddr) -> io::Result<Message> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; usize::from(UDP_LIMIT)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).and_then(|bytes| Message::from_vec(bytes).ok());
        // Whatever else comes is not for this question; the time that all may take is bounded.
        if let Some(answer) = answer.filter(|answer| is_answer(message, answer)) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(message: &Message, bytes: &[u8], server: SocketAddr) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(io::Error::other)?;
    let other = || io::Error::new(io::ErrorKind::InvalidData, "the answer is to another question");
    if is_answer(message, &answer) { Ok(answer) } else { Err(other()) }
}

fn is_answer(asked: &Message, answer: &Message) -> bool {
    answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == asked.metadata.id
        && answer.queries == asked.queries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_name_servers_count() {
        let text = "# x\nsearch a.b\nnameserver 10.0.0.1\n nameserver fd00::1\nnameserver fe80::1%eth0\n\
                    nameserver 10.0.0.2\nnameserver 10.0.0.3\n";
        let servers: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[fd00::1]:53", "10.0.0.2:53"]);
    }
}
