//! A program that is its own helper, and a command that reads its input, writes to both streams and fails.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example")]

use impuls_embed::{Options, ProcessExecutor, SandboxConfig, SandboxExecutor};

fn main() {
    // Before anything else: an executor starts this program again to make sandboxes and to run inside them.
    impuls_embed::init();
    run();
}

#[tokio::main]
async fn run() {
    let executor = ProcessExecutor::start(Options { memory_mib: 128, ..Options::default() }).await.unwrap();
    let script = r#"read name; echo "Hello, $name"; echo "from $PLACE" >&2; exit 3"#;
    let config = SandboxConfig {
        function_id: "greeting".to_owned(),
        source: "alpine:latest".to_owned(),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env_vars: Some(vec!["PLACE=a sandbox".to_owned()]),
        payload: b"World\n".to_vec(),
    };
    let result = executor.execute(config).await.unwrap();
    println!("exit code {:?}", result.exit_code);
    println!("stdout {:?}", String::from_utf8_lossy(&result.stdout));
    println!("stderr {:?}", result.logs.unwrap_or_default());
    println!("error {:?}", result.error.unwrap_or_default());
    executor.shutdown().await;
}
