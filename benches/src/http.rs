//! One HTTP connection that is kept open, made to measure with: a request goes out in one write, and nothing happens
//! between the last byte of the reply and the reading of the clock.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Longer than any call that is measured takes, and than the first build of a Go function, which compiles the standard
/// library.
const TIMEOUT: Duration = Duration::from_secs(300);
/// No reply that is measured is larger.
const MAX_REPLY: usize = 64 << 20;

/// A reply; its body stays in the connection's buffer.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    /// From before the first byte was sent until the last was received.
    pub(crate) took: Duration,
}

/// A connection.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self { stream, received: Vec::with_capacity(64 << 10) })
    }

    /// Sends a request that [`post`] or [`request`] made and waits for the whole reply.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Reply<'_>> {
        self.received.clear();
        let sent = Instant::now();
        self.stream.write_all(request)?;
        let head = loop {
            self.receive()?;
            if let Some(head) = Head::find(&self.received)? {
                break head;
            }
        };
        let end = head
            .body
            .checked_add(head.length)
            .filter(|end| *end <= MAX_REPLY)
            .context("the reply is too large")?;
        while self.received.len() < end {
            self.receive()?;
        }
        let took = sent.elapsed();
        let body = self.received.get(head.body..end).unwrap_or_default();
        Ok(Reply { status: head.status, body, took })
    }

    fn receive(&mut self) -> anyhow::Result<()> {
        let mut chunk = [0; 32 << 10];
        let count = self.stream.read(&mut chunk).context("cannot read the reply")?;
        if count == 0 {
            bail!("the connection was closed before the reply was complete");
        }
        self.received.extend_from_slice(chunk.get(..count).unwrap_or_default());
        Ok(())
    }

    /// Sends JSON, or nothing, and reads JSON; a status other than 2xx is an error that shows the reply.
    pub(crate) fn json(&mut self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let reply = self.exchange(&request(method, path, body.as_bytes()))?;
        if !(200..300).contains(&reply.status) {
            bail!("{method} {path}: status {}: {}", reply.status, String::from_utf8_lossy(reply.body));
        }
        serde_json::from_slice(reply.body).with_context(|| format!("{method} {path}: the reply is not JSON"))
    }
}

/// The bytes of a `POST` request.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    request("POST", path, body)
}

fn request(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The head of a reply.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Where the body begins.
    body: usize,
    length: usize,
}

impl Head {
    /// `None` while it is incomplete. Only bodies with a length are read: every server that is measured sends them.
    fn find(received: &[u8]) -> anyhow::Result<Option<Self>> {
        let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let head =
            std::str::from_utf8(received.get(..end).unwrap_or_default()).context("the head is not text")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let length = lines.filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
        });
        Ok(Some(Self {
            status: status.context("the reply has no status")?,
            body: end + 4,
            length: length.context("the reply has no content-length")?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_found_when_it_is_complete() {
        let text = b"HTTP/1.1 404 Not Found\r\nA: b\r\ncontent-LENGTH:  12\r\n\r\n{}";
        assert_eq!(Head::find(&text[..20]).unwrap(), None);
        assert_eq!(Head::find(text).unwrap(), Some(Head { status: 404, body: text.len() - 2, length: 12 }));
        assert!(Head::find(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        let text = String::from_utf8(post("/a", b"{}")).unwrap();
        assert!(
            text.starts_with("POST /a HTTP/1.1\r\n") && text.ends_with("content-length: 2\r\n\r\n{}"),
            "{text}"
        );
    }
}
