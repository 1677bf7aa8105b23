//! The suite of `NodeStore`.

use std::time::Duration;

use uuid::Uuid;

use crate::node::{NodeRecord, NodeStore};

/// Longer than any case takes.
const LONG: Duration = Duration::from_secs(3_600);

fn node(id: &str, about: &str) -> NodeRecord {
    NodeRecord { id: id.to_owned(), session: Uuid::now_v7(), about: about.to_owned() }
}

/// What a node says of itself is listed as it said it, and the last word counts.
pub async fn announced_nodes_are_listed_by_id(store: &impl NodeStore) {
    assert_eq!(store.list_nodes(LONG).await.expect("the store answers"), []);
    let (b, mut a) = (node("b", r#"{"text": "ü\u0000\""}"#), node("a", "{}"));
    for node in [&b, &a] {
        assert!(store.announce_node(node, LONG).await.expect("announced"));
    }
    a.about = r#"{"load": 1}"#.to_owned();
    assert!(store.announce_node(&a, LONG).await.expect("announced again"));
    assert_eq!(store.list_nodes(LONG).await.expect("the store answers"), [a, b]);
}

/// Whoever has been silent for too long is not listed, and its id is free.
pub async fn a_silent_node_is_not_there(store: &impl NodeStore) {
    let first = node("a", "{}");
    assert!(store.announce_node(&first, LONG).await.expect("announced"));
    assert_eq!(store.list_nodes(Duration::ZERO).await.expect("the store answers"), []);
    let second = node("a", r#"{"second": true}"#);
    assert!(!store.announce_node(&second, LONG).await.expect("the store answers"), "the id is in use");
    assert_eq!(store.list_nodes(LONG).await.expect("the store answers"), [first]);
    assert!(store.announce_node(&second, Duration::ZERO).await.expect("announced"));
    assert_eq!(store.list_nodes(LONG).await.expect("the store answers"), [second]);
}

/// A node that leaves is gone at once; another life of its id is not touched.
pub async fn a_node_leaves_alone(store: &impl NodeStore) {
    let (gone, stays) = (node("a", "{}"), node("b", "{}"));
    for node in [&gone, &stays] {
        assert!(store.announce_node(node, LONG).await.expect("announced"));
    }
    assert!(store.remove_node(gone.session, LONG).await.expect("removed"));
    assert!(!store.remove_node(gone.session, LONG).await.expect("repeatable"));
    assert!(!store.remove_node(Uuid::now_v7(), LONG).await.expect("repeatable"));
    assert_eq!(store.list_nodes(LONG).await.expect("the store answers"), [stays]);
    assert!(!store.remove_node(gone.session, Duration::ZERO).await.expect("repeatable"));
    assert_eq!(store.list_nodes(LONG).await.expect("the store answers"), [], "the silent go as well");
}
