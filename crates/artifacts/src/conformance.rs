//! The suite that every [`ArtifactStore`] runs. The macro owns the list of its cases:
//!
//! ```text
//! async fn open() -> Scratch; // `impl AsRef<MyArtifacts> for Scratch`
//! impuls_artifacts::artifact_store_conformance!(open);
//! ```
//!
//! The function given to the macro opens a new, empty store; what it returns lives as long as the case. Attributes before
//! it, such as `#[ignore = "needs …"]`, are those of every case.
#![expect(clippy::expect_used, reason = "these are tests, which fail by panicking")]

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use impuls_domain::ArtifactDigest;

use crate::local::digest_of;
use crate::{ArtifactError, ArtifactStore};

/// Runs the suite of `ArtifactStore`.
#[macro_export]
macro_rules! artifact_store_conformance {
    (@cases $(#[$attribute:meta])* $open:path: $($case:ident),+ $(,)?) => {
        $crate::artifact_store_conformance!(@each [$(#[$attribute])*] $open: $($case),+);
    };
    (@each $attributes:tt $open:path: $($case:ident),+) => {
        $($crate::artifact_store_conformance!(@case $attributes $open: $case);)+
    };
    (@case [$(#[$attribute:meta])*] $open:path: $case:ident) => {
        #[tokio::test]
        $(#[$attribute])*
        async fn $case() {
            let opened = $open().await;
            $crate::conformance::$case(opened.as_ref()).await;
        }
    };
    ($(#[$attribute:meta])* $open:path) => {
        $crate::artifact_store_conformance!(@cases $(#[$attribute])* $open:
            unknown_artifact_is_not_found,
            bytes_come_back_under_their_digest,
            an_empty_artifact_is_an_artifact,
            putting_again_changes_nothing,
            artifacts_are_separate,
            deleting_is_repeatable,
            a_deleted_artifact_can_be_put_again,
            concurrent_puts_of_the_same_bytes_all_succeed,
            a_large_artifact_comes_back_whole,
            a_list_has_every_artifact_in_order,
            what_was_put_since_is_not_discarded,
            putting_again_counts_as_putting,
            artifacts_belong_to_who_says_so_first,
        );
    };
}

async fn put(store: &impl ArtifactStore, bytes: &'static [u8]) -> ArtifactDigest {
    store.put(Bytes::from_static(bytes)).await.expect("the bytes are kept")
}

async fn get(store: &impl ArtifactStore, digest: &ArtifactDigest) -> Bytes {
    store.get(digest).await.expect("the bytes are there")
}

/// No bytes, and the error says so.
pub async fn unknown_artifact_is_not_found(store: &impl ArtifactStore) {
    let digest = digest_of(b"never put");
    let found = store.get(&digest).await;
    assert!(matches!(found, Err(ArtifactError::NotFound(missing)) if missing == digest), "{found:?}");
}

/// The digest is the SHA-256, as others compute it.
pub async fn bytes_come_back_under_their_digest(store: &impl ArtifactStore) {
    let digest = put(store, b"abc").await;
    let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(digest.to_string(), known);
    assert_eq!(get(store, &digest).await, b"abc".as_slice());
}

/// Nothing is something.
pub async fn an_empty_artifact_is_an_artifact(store: &impl ArtifactStore) {
    let digest = put(store, b"").await;
    assert_eq!(get(store, &digest).await, b"".as_slice());
}

/// Putting is repeatable.
pub async fn putting_again_changes_nothing(store: &impl ArtifactStore) {
    let (first, second) = (put(store, b"again").await, put(store, b"again").await);
    assert_eq!(first, second);
    assert_eq!(get(store, &first).await, b"again".as_slice());
}

/// Each digest leads to its own bytes.
pub async fn artifacts_are_separate(store: &impl ArtifactStore) {
    let (one, two) = (put(store, b"one").await, put(store, b"two").await);
    assert!(store.delete(&one).await.expect("deleted"));
    assert_eq!(get(store, &two).await, b"two".as_slice());
}

/// The second time there is nothing to delete.
pub async fn deleting_is_repeatable(store: &impl ArtifactStore) {
    let digest = put(store, b"gone").await;
    assert!(store.delete(&digest).await.expect("deleted"));
    assert!(!store.delete(&digest).await.expect("the store answers"));
    let found = store.get(&digest).await;
    assert!(matches!(found, Err(ArtifactError::NotFound(_))), "{found:?}");
}

/// Deleting leaves no trace that would be in the way.
pub async fn a_deleted_artifact_can_be_put_again(store: &impl ArtifactStore) {
    let digest = put(store, b"back").await;
    store.delete(&digest).await.expect("deleted");
    put(store, b"back").await;
    assert_eq!(get(store, &digest).await, b"back".as_slice());
}

/// Two deploys of the same code at once are two deploys.
pub async fn concurrent_puts_of_the_same_bytes_all_succeed(store: &impl ArtifactStore) {
    let (a, b, c) = tokio::join!(put(store, b"same"), put(store, b"same"), put(store, b"same"));
    assert!(a == b && b == c);
    assert_eq!(get(store, &a).await, b"same".as_slice());
}

/// As large as what stores take in parts.
pub async fn a_large_artifact_comes_back_whole(store: &impl ArtifactStore) {
    let bytes: Bytes = (0..20_u32 << 20).map(|at| (at % 251) as u8).collect();
    let digest = store.put(bytes.clone()).await.expect("the bytes are kept");
    assert!(get(store, &digest).await == bytes, "other bytes came back");
}

/// Page by page.
pub async fn a_list_has_every_artifact_in_order(store: &impl ArtifactStore) {
    let mut expected = Vec::new();
    for number in 0..7_u8 {
        let bytes = Bytes::from(vec![number; usize::from(number)]);
        expected.push((store.put(bytes).await.expect("the bytes are kept"), u64::from(number)));
    }
    expected.sort_by_key(|(digest, _)| digest.to_string());
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(after, 3).await.expect("a list");
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 3);
        after = Some(last.digest);
        found.extend(page.iter().map(|kept| (kept.digest, kept.bytes)));
    }
    assert_eq!(found, expected);
}

/// The one kept artifact's time, by the clock of the store.
async fn put_at(store: &impl ArtifactStore) -> SystemTime {
    store.list(None, 10).await.expect("a list").first().expect("an artifact").at
}

/// Neither what is new nor what is not there.
pub async fn what_was_put_since_is_not_discarded(store: &impl ArtifactStore) {
    let digest = put(store, b"young").await;
    let at = put_at(store).await;
    let discarded = store.discard(&digest, at - Duration::from_secs(2)).await;
    assert!(!discarded.expect("the store answers"));
    assert_eq!(get(store, &digest).await, b"young".as_slice());
    assert!(store.discard(&digest, at + Duration::from_secs(2)).await.expect("the store answers"));
    assert!(!store.discard(&digest, at + Duration::from_secs(2)).await.expect("the store answers"));
    let found = store.get(&digest).await;
    assert!(matches!(found, Err(ArtifactError::NotFound(_))), "{found:?}");
}

/// Whoever puts bytes that are there already relies on them from now on.
pub async fn putting_again_counts_as_putting(store: &impl ArtifactStore) {
    let digest = put(store, b"old and new").await;
    let first = put_at(store).await;
    // Some stores know seconds only.
    let mut again = first;
    while again == first {
        put(store, b"old and new").await;
        again = put_at(store).await;
    }
    assert!(again > first);
    assert!(!store.discard(&digest, first).await.expect("the store answers"));
}

/// Whoever comes later is told whose they are, and the owner is no artifact.
pub async fn artifacts_belong_to_who_says_so_first(store: &impl ArtifactStore) {
    for claimed in ["first", "second", "first"] {
        assert_eq!(store.claim(claimed).await.expect("the store answers"), "first");
    }
    assert_eq!(store.list(None, 10).await.expect("a list"), []);
    let digest = put(store, b"owned").await;
    assert_eq!(get(store, &digest).await, b"owned".as_slice());
}
