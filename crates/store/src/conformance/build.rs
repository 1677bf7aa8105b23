//! The suite of `BuildStore`.

use impuls_domain::ArtifactDigest;

use super::fixture::at;
use crate::build::BuildStore;

const fn digest(byte: u8) -> ArtifactDigest {
    ArtifactDigest::from_bytes([byte; 32])
}

/// A build is found under its own key only.
pub async fn a_build_is_found_by_its_key(store: &impl BuildStore) {
    assert_eq!(store.find_build(&digest(1)).await.expect("the store answers"), None);
    store.put_build(&digest(1), &digest(2), at(1)).await.expect("noted");
    assert_eq!(store.find_build(&digest(1)).await.expect("the store answers"), Some(digest(2)));
    assert_eq!(store.find_build(&digest(2)).await.expect("the store answers"), None);
}

/// The last build of a key counts.
pub async fn a_build_replaces_the_one_before(store: &impl BuildStore) {
    for archive in [2, 3, 3] {
        store.put_build(&digest(1), &digest(archive), at(i64::from(archive))).await.expect("noted");
        assert_eq!(store.find_build(&digest(1)).await.expect("the store answers"), Some(digest(archive)));
    }
}
