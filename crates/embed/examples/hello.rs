//! One command in one sandbox.
//!
//! Needs the program `impuls` on the `PATH`, because `#[tokio::main]` leaves no room for `impuls_embed::init()`:
//! `cargo build -p impuls && PATH=target/debug:$PATH cargo run -p impuls-embed --example hello`. The example
//! `standalone` needs nothing but itself.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example")]

use impuls_embed::{Options, ProcessExecutor};
use impuls_embed::{SandboxConfig, SandboxExecutor};

#[tokio::main]
async fn main() {
    let executor = ProcessExecutor::start(Options::default()).await.unwrap();

    let result = executor
        .execute(SandboxConfig {
            function_id: "test".to_string(),
            source: "alpine:latest".to_string(),
            command: vec!["echo".to_string(), "Hello FaaS".to_string()],
            env_vars: None,
            payload: vec![],
        })
        .await
        .unwrap();

    println!("Output: {:?}", result.response);
}
