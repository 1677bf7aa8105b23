//! HTTP by hand, for what no well-behaved client does.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::Server;
use crate::wait::within;

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One TCP connection; dropping it hangs up.
pub struct Raw(TcpStream);

impl Raw {
    /// Connects.
    pub async fn open(server: &Server) -> Self {
        Self(TcpStream::connect(server.address()).await.expect("the server accepts connections"))
    }

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("the connection is open");
    }

    /// Sends bytes as they are, as many as the server takes before it hangs up.
    pub async fn try_write(&mut self, bytes: &[u8]) {
        let _hung_up = self.0.write_all(bytes).await;
    }

    /// Sends a complete call of a function with this event.
    pub async fn invoke(&mut self, name: &str, event: &str) {
        let head = format!("POST /api/v1/functions/{name}/invoke HTTP/1.1\r\nHost: localhost\r\n");
        self.write(format!("{head}Content-Length: {}\r\n\r\n{event}", event.len()).as_bytes()).await;
    }

    /// Reads until the head of a reply and as many body bytes as its `Content-Length` says are here, or until the
    /// server has hung up; returns all of it as text.
    pub async fn reply(&mut self) -> String {
        within("the reply is complete", PATIENCE, self.read_reply()).await
    }

    /// Reads until this text has come so many times, or the server has hung up; returns all of it as text.
    pub async fn until(&mut self, text: &str, times: usize) -> String {
        within("the text comes", PATIENCE, async {
            let mut bytes = Vec::new();
            while String::from_utf8_lossy(&bytes).matches(text).count() < times {
                if self.0.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
                    break;
                }
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
        .await
    }

    async fn read_reply(&mut self) -> String {
        let mut bytes = Vec::new();
        while !is_complete(&bytes) {
            // A reset is an end, too.
            let count = self.0.read_buf(&mut bytes).await.unwrap_or_default();
            if count == 0 {
                break;
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn is_complete(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    body.len() >= length.unwrap_or(0)
}
