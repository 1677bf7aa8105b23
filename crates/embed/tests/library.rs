//! Commands through the library, and the examples as their users run them.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use impuls_embed::{
    ExecutorError, InvocationResult, Options, ProcessExecutor, SandboxConfig, SandboxExecutor,
};

const HELPER: &str = env!("CARGO_BIN_EXE_impuls-embed-host");

fn options() -> Options {
    Options { helper: Some(HELPER.into()), ..Options::default() }
}

fn config(command: &[&str], payload: &[u8]) -> SandboxConfig {
    SandboxConfig {
        function_id: "test".to_owned(),
        source: "alpine:latest".to_owned(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        env_vars: None,
        payload: payload.to_vec(),
    }
}

async fn run(executor: &ProcessExecutor, command: &[&str], payload: &[u8]) -> InvocationResult {
    executor.execute(config(command, payload)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_input_two_outputs_and_an_exit_code() {
    let executor = ProcessExecutor::start(options()).await.unwrap();
    let result = run(&executor, &["echo", "Hello FaaS"], b"").await;
    assert_eq!(result.response.as_deref(), Some(&b"Hello FaaS\n"[..]));
    assert_eq!((result.exit_code, result.logs, result.error), (Some(0), None, None));
    let result = run(&executor, &["cat"], b"\x00\xff binary").await;
    assert_eq!(result.response.as_deref(), Some(&b"\x00\xff binary"[..]));
    let result = run(&executor, &["sh", "-c", "echo out; echo err >&2; exit 3"], b"").await;
    assert_eq!((result.exit_code, result.response), (Some(3), None));
    assert_eq!((result.stdout.as_slice(), result.logs.as_deref()), (&b"out\n"[..], Some("err\n")));
    assert_eq!(result.error.as_deref(), Some("command exited with code 3"));
    let result = run(&executor, &["no-such-program"], b"").await;
    assert_eq!(result.exit_code, Some(127), "{result:?}");
    executor.shutdown().await;
    assert!(matches!(executor.execute(config(&["true"], b"")).await, Err(ExecutorError::ShutDown)));
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_reach_the_command_and_nothing_else_does() {
    let executor = ProcessExecutor::start(options()).await.unwrap();
    let env_vars = Some(vec!["GREETING=hi=ho".to_owned()]);
    let result = executor.execute(SandboxConfig { env_vars, ..config(&["env"], b"") }).await.unwrap();
    let text = String::from_utf8(result.stdout).unwrap();
    assert!(text.contains("GREETING=hi=ho\n") && text.contains("PATH="), "{text}");
    assert!(!text.contains("CARGO"), "{text}");
    let bad = SandboxConfig { env_vars: Some(vec!["X".to_owned()]), ..config(&["env"], b"") };
    assert!(matches!(executor.execute(bad).await, Err(ExecutorError::Variable(_))));
    let other = SandboxConfig { source: "rust:1".to_owned(), ..config(&["env"], b"") };
    assert!(matches!(executor.execute(other).await, Err(ExecutorError::Image(_))));
    executor.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_long_is_killed_and_keeps_its_output() {
    let timeout = Duration::from_secs(1);
    let executor = ProcessExecutor::start(Options { timeout, ..options() }).await.unwrap();
    let begun = Instant::now();
    let result = run(&executor, &["sh", "-c", "echo begun; sleep 60"], b"").await;
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(result.error.as_deref(), Some("command timed out"));
    assert_eq!((result.stdout.as_slice(), result.exit_code), (&b"begun\n"[..], None));
    executor.shutdown().await;
}

/// A folder in which the helper is the installed `impuls`.
fn installed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(HELPER, folder.path().join("impuls")).unwrap();
    folder
}

/// Builds an example, for which a test run need not have asked, and runs it.
fn example(name: &str, path: &std::path::Path) -> String {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "impuls-embed", "--example", name]);
    cargo.arg("--target-dir").arg(profile.parent().unwrap());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    assert!(
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success(),
        "{name} does not build"
    );
    let file: PathBuf = profile.join("examples").join(name);
    let output = Command::new(&file).env_clear().env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_seeds_example_prints_what_the_command_wrote() {
    let output = example("hello", installed().path());
    assert_eq!(output, format!("Output: {:?}\n", Some(b"Hello FaaS\n".to_vec())));
}

#[test]
fn a_program_can_be_its_own_helper() {
    let output = example("standalone", std::path::Path::new("/nonexistent"));
    let expected = ["exit code Some(3)", r#"stdout "Hello, World\n""#, r#"stderr "from a sandbox\n""#];
    for line in expected {
        assert!(output.lines().any(|found| found == line), "{output}");
    }
}
