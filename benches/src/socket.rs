//! The bare round trip: as many bytes as a call has go to another process and come back over TCP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::bench::EVENT;
use crate::http::post;

/// A connection to the bare socket server.
pub(crate) struct Socket {
    stream: TcpStream,
    bytes: Vec<u8>,
    received: Vec<u8>,
}

impl Socket {
    pub(crate) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let bytes = post("/", EVENT.as_bytes());
        let received = vec![0; bytes.len()];
        Ok(Self { stream, bytes, received })
    }

    pub(crate) fn round_trip(&mut self) -> anyhow::Result<Duration> {
        let sent = Instant::now();
        self.stream.write_all(&self.bytes)?;
        self.stream.read_exact(&mut self.received)?;
        Ok(sent.elapsed())
    }
}
