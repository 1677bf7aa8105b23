//! From nothing to a sandbox that answers, and back to nothing.

mod common;

use common::{Fixture, NODE, call};

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
}
