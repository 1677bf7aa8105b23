//! Code in a bucket that controllers and workers share.

use std::path::Path;

use impuls_testkit::s3::{ACCESS_KEY, SECRET_KEY};
use impuls_testkit::{Link, S3, Weather};

use super::*;

/// A cluster whose code is in a bucket, behind this link.
async fn in_a_bucket() -> (Cluster, S3, Link) {
    let s3 = tokio::task::spawn_blocking(|| S3::start(Path::new(env!("CARGO_TARGET_TMPDIR")))).await;
    let s3 = s3.expect("moto starts");
    let link = Link::to(s3.address());
    let code = vec![
        ("IMPULS_ARTIFACTS", S3::location(link.address(), "code")),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
    ];
    (Cluster { code, ..Cluster::new().await }, s3, link)
}

#[tokio::test]
#[ignore = "needs pip, postgres"]
async fn nodes_share_a_bucket_and_collect_what_nothing_needs() {
    let (cluster, s3, _link) = in_a_bucket().await;
    let workers = [cluster.worker("one").await, cluster.worker("two").await];
    let rules =
        ["--keep-versions=1", "--keep-versions-for=0s", "--keep-artifacts-for=2s", "--collect-every=1s"];
    let controller = cluster.launch("controller", &Data::new()).arguments(rules).start().await;
    let name = controller.node(ECHO).await;
    assert_eq!(controller.call(&name, &json!({"a": 1})).await, json!({"a": 1}));
    let id = submit(&controller, &name, &json!("queued")).await;
    assert_eq!(ended(&controller, &id, SOON).await["result"], "queued");
    assert_eq!(s3.occurrences("sha256/"), 1);
    controller.update(&name, &json!({"code": "exports.handler = async () => 'new';"})).await;
    let collected = async || (s3.occurrences("sha256/") == 1).then_some(());
    eventually("the code of the old version is collected", SOON, collected).await;
    let old = format!("{}/invoke?qualifier=1", path(&name));
    controller.post(&old, &json!(1)).await.with_status(404);
    assert_eq!(controller.call(&name, &json!(1)).await, json!("new"));
    // Workers that have never seen it.
    for worker in workers {
        assert!(worker.stop().await.success());
    }
    let last = cluster.worker("three").await;
    answers(&controller, &name).await;
    assert_eq!(controller.call(&name, &json!(1)).await, json!("new"));
    let id = submit(&controller, &name, &json!(1)).await;
    assert_eq!(ended(&controller, &id, SOON).await["result"], "new");
    for node in [&controller, &last] {
        assert!(!node.data().folder().join("artifacts").exists());
        assert!(!node.log().contains(SECRET_KEY), "{}", node.log());
    }
}

#[tokio::test]
#[ignore = "needs pip, postgres"]
async fn without_the_bucket_warm_functions_go_on_and_cold_ones_say_why_not() {
    let (cluster, _s3, link) = in_a_bucket().await;
    let first = cluster.worker("one").await;
    let controller = cluster.controller().await;
    let (warm, cold) = (controller.node(ECHO).await, controller.node(&format!("{ECHO} // cold")).await);
    // A worker that has neither of them.
    let second = cluster.worker("two").await;
    assert!(first.stop().await.success());
    answers(&controller, &warm).await;
    for node in [&second, &*controller] {
        node.expect_error("a request failed");
        node.expect_error("cannot start a sandbox");
    }
    for weather in [Weather::Refusing, Weather::Silent, Weather::Broken] {
        link.set(weather);
        assert_eq!(controller.call(&warm, &json!("on")).await, json!("on"));
        let refused = within("a cold call is refused", SOON, controller.invoke(&cold, &json!(1))).await;
        assert!(refused.headers.contains_key("retry-after"), "{weather:?}: {refused:?}");
        let message = refused.problem(503);
        assert!(!message.contains(SECRET_KEY) && !message.contains(ACCESS_KEY), "{message}");
        let code = format!("{ECHO} // {weather:?}");
        let fields =
            json!({"name": unique("late"), "runtime": "nodejs", "handler": "index.handler", "code": code});
        let refused = within("a deploy is refused", SOON, controller.post(FUNCTIONS, &fields)).await;
        assert!(refused.headers.contains_key("retry-after"), "{weather:?}: {refused:?}");
        refused.problem(503);
        assert_eq!(controller.call(&warm, &json!("still")).await, json!("still"));
    }
    let id = submit(&controller, &cold, &json!("kept")).await;
    link.set(Weather::Fair);
    assert_eq!(ended(&controller, &id, TAKEN_OVER).await["result"], "kept");
    assert_eq!(controller.call(&cold, &json!(2)).await, json!(2));
}
