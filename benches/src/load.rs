//! Load from `wrk`: one thread, 64 connections, the same small event again and again.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bench::{Bench, EVENT};
use crate::http::{Connection, post};

/// Connections at once.
pub(crate) const CONNECTIONS: u32 = 64;
/// What `wrk` may take beyond the time of the load.
const GRACE: Duration = Duration::from_secs(30);
/// What the line of figures begins with.
const FIGURES: &str = "figures ";

/// Somebody who gives the event back.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    /// Whether the event is the member `body` of the reply, or the reply itself.
    pub(crate) in_envelope: bool,
}

/// What one load measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Load {
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// What `echo.lua` writes.
#[derive(Debug, Deserialize)]
struct Figures {
    requests: f64,
    duration_us: f64,
    p50_us: f64,
    p99_us: f64,
    socket_errors: u64,
    bad_statuses: u64,
}

impl Target {
    /// A peer: it takes any path and gives the bare event back.
    pub(crate) fn bare(name: &'static str, address: SocketAddr) -> Self {
        Self { name, address, path: "/".to_owned(), in_envelope: false }
    }

    pub(crate) fn request(&self) -> Vec<u8> {
        post(&self.path, EVENT.as_bytes())
    }

    /// Calls once and compares the event with what comes back.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let mut connection = Connection::open(self.address)?;
        let reply =
            connection.exchange(&self.request()).with_context(|| format!("cannot call {}", self.name))?;
        let event: Value = serde_json::from_str(EVENT)?;
        let body: Value = serde_json::from_slice(reply.body).unwrap_or_default();
        let body = if self.in_envelope { body.get("body").cloned().unwrap_or_default() } else { body };
        if reply.status != 200 || body != event {
            let text = String::from_utf8_lossy(reply.body).into_owned();
            bail!("{} does not give the event back: status {}: {text}", self.name, reply.status);
        }
        Ok(())
    }

    /// Loads the target; a single reply that is not 2xx makes the figures worthless, so it is an error.
    pub(crate) fn load(&self, bench: &Bench, time: Duration) -> anyhow::Result<Load> {
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{}s", time.as_secs().max(1)), "-s"]);
        wrk.arg(bench.repository("benches/echo.lua"));
        wrk.args([&format!("http://{}{}", self.address, self.path), "--", EVENT]);
        let running = bench.processes.start(&mut wrk, &bench.scratch("wrk.log"));
        let running =
            running.context("the load comes from the Debian package wrk; `cargo xtask setup` installs it")?;
        let output = running.finished(time + GRACE)?;
        self.read(&output)
    }

    fn read(&self, output: &str) -> anyhow::Result<Load> {
        let line = output.lines().find_map(|line| line.strip_prefix(FIGURES));
        let line = line.with_context(|| format!("wrk wrote no figures:\n{output}"))?;
        let figures: Figures = serde_json::from_str(line)?;
        if figures.socket_errors + figures.bad_statuses > 0 || figures.requests < 1.0 {
            bail!("{} failed under load: {line}", self.name);
        }
        Ok(Load {
            per_second: figures.requests / figures.duration_us * 1e6,
            p50_us: figures.p50_us,
            p99_us: figures.p99_us,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target::bare("peer", SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    #[test]
    fn figures_are_read() {
        let output = "Running\nfigures {\"requests\":10,\"duration_us\":2000000,\"p50_us\":1.5,\"p99_us\":2,\
                      \"socket_errors\":0,\"bad_statuses\":0}\n";
        let load = target().read(output).unwrap();
        assert_eq!((load.per_second, load.p50_us, load.p99_us), (5.0, 1.5, 2.0));
    }

    #[test]
    fn one_bad_reply_spoils_the_figures() {
        let output = "figures {\"requests\":10,\"duration_us\":2000000,\"p50_us\":1.5,\"p99_us\":2,\
                      \"socket_errors\":0,\"bad_statuses\":1}\n";
        assert!(target().read(output).is_err());
        assert!(target().read("Running").is_err());
    }
}
