//! From nothing to a sandbox that answers, and back to nothing.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[path = "support/fixture.rs"]
mod fixture;

use fixture::{Fixture, NODE, PYTHON, ZYGOTE, call};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn a_node_sandbox_answers_and_goes() {
    let fixture = Fixture::new().await;
    for layer in &fixture.driver.isolation().layers {
        println!("{:20} {} {}", layer.name.to_string(), layer.works, layer.detail);
    }
    let (sandbox, connection) =
        fixture.run(&NODE, "index.js", "exports.handler = async e => ({ got: e.a })").await;
    let answer = call(&connection, r#"{"a": 7}"#).await.unwrap();
    assert_eq!(answer, serde_json::json!({ "got": 7 }));
    sandbox.destroy().await.unwrap();
    assert!(call(&connection, "{}").await.is_err());
    assert_eq!(sandbox.exited().await.signal, Some(9));
    fixture.driver.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn an_executed_python_answers() {
    let fixture = Fixture::new().await;
    let (sandbox, connection) =
        fixture.run(&PYTHON, "index.py", "def handler(event, context):\n    return event['a'] + 1\n").await;
    assert_eq!(call(&connection, r#"{"a": 7}"#).await.unwrap(), 8);
    sandbox.destroy().await.unwrap();
    fixture.driver.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn a_forked_python_answers_and_its_exit_code_survives() {
    let fixture = Fixture::new().await;
    let code = "import os, sys\n\
                def handler(event, context):\n    \
                    if event: os._exit(event)\n    \
                    return [os.getpid(), 'ctypes' in sys.modules]\n";
    let (sandbox, connection) = fixture.run(&ZYGOTE, "index.py", code).await;
    assert_eq!(call(&connection, "0").await.unwrap(), serde_json::json!([2, true]));
    assert!(call(&connection, "42").await.is_err());
    let exit = sandbox.exited().await;
    assert_eq!((exit.code, exit.signal, exit.out_of_memory), (Some(42), None, false));
    sandbox.destroy().await.unwrap();
    fixture.driver.shutdown().await;
}
