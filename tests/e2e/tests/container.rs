//! The server in a container with exactly the privileges of the compose file and of the manifests of workers, and with
//! less: then it says what it misses.

#![allow(clippy::indexing_slicing, reason = "a test that cannot go on ends by panicking")]

use impuls_e2e::container::{Container, Privileges};
use impuls_e2e::probe::Probe;
use impuls_e2e::{Refused, json};

/// Starts a server that must refuse.
async fn refusal(change: impl FnOnce(&mut Privileges)) -> Refused {
    let mut privileges = Privileges::of_workers();
    change(&mut privileges);
    let container = Container::prepare(&privileges);
    let refused = container.launch().refused().await;
    assert_ne!(refused.code, Some(0), "{}", refused.message);
    refused
}

#[tokio::test]
#[ignore = "needs root, runc"]
async fn functions_run_in_a_container_without_privileges() {
    let container = Container::prepare(&Privileges::of_workers());
    let server = std::sync::Arc::new(container.launch().start().await);
    let node = Probe::node(&server, &json!({})).await;
    let python = Probe::python(&server, &json!({})).await;
    assert_eq!(node.run("return 6 * 7;").await, 42);
    assert_eq!(python.run("result = 6 * 7").await, 42);
    let code = "
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
result = [status[name].strip() for name in ['CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp']]
";
    assert_eq!(python.run(code).await, json!(["0000000000000000", "0000000000000000", "1", "2"]));
    let log = server.log();
    for layer in ["user namespace", "masked /proc", "seccomp", "landlock", "zygote"] {
        assert!(!log.contains(&format!("isolation layer missing: {layer}")), "{layer}: {log}");
    }
}

#[tokio::test]
#[ignore = "needs root, runc"]
async fn what_hides_parts_of_proc_is_named() {
    let refused = refusal(|privileges| privileges.masks_proc = true).await;
    for text in ["without masked /proc", "systempaths=unconfined", "procMount: Unmasked"] {
        assert!(refused.message.contains(text), "{text}: {}", refused.message);
    }
}

#[tokio::test]
#[ignore = "needs root, runc"]
async fn a_profile_without_the_calls_of_sandboxes_is_named() {
    let refused = refusal(|privileges| {
        let rules = privileges.profile["syscalls"].as_array_mut();
        let names = rules.and_then(|rules| rules.last_mut()?["names"].as_array_mut());
        // Without these two there would be no processes and threads at all.
        names.into_iter().for_each(|names| names.retain(|name| name == "clone" || name == "clone3"));
    })
    .await;
    for text in ["make user namespace", "deploy/kubernetes/seccomp.json"] {
        assert!(refused.message.contains(text), "{text}: {}", refused.message);
    }
}

#[tokio::test]
#[ignore = "needs root, runc"]
async fn root_without_rights_is_told_to_be_an_ordinary_user() {
    let refused = refusal(|privileges| privileges.user = 0).await;
    for text in ["CAP_SYS_ADMIN", "run the server as an ordinary user"] {
        assert!(refused.message.contains(text), "{text}: {}", refused.message);
    }
}
