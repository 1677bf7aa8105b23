//! The suite that every [`ArtifactStore`] runs. The macro owns the list of its cases:
//!
//! ```text
//! async fn open() -> Scratch; // `impl AsRef<MyArtifacts> for Scratch`
//! impuls_artifacts::artifact_store_conformance!(open);
//! ```
//!
//! The function given to the macro opens a new, empty store; what it returns lives as long as the case.
#![expect(clippy::expect_used, reason = "these are tests, which fail by panicking")]

use bytes::Bytes;
use impuls_domain::ArtifactDigest;

use crate::local::digest_of;
use crate::{ArtifactError, ArtifactStore};

/// Runs the suite of `ArtifactStore`.
#[macro_export]
macro_rules! artifact_store_conformance {
    (@cases $open:path: $($case:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $case() {
            let opened = $open().await;
            $crate::conformance::$case(opened.as_ref()).await;
        }
    )+};
    ($open:path) => {
        $crate::artifact_store_conformance!(@cases $open:
            unknown_artifact_is_not_found,
            bytes_come_back_under_their_digest,
            an_empty_artifact_is_an_artifact,
            putting_again_changes_nothing,
            artifacts_are_separate,
            deleting_is_repeatable,
            a_deleted_artifact_can_be_put_again,
            concurrent_puts_of_the_same_bytes_all_succeed,
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
