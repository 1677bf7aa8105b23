//! Artifacts in a real bucket: the suite of the seam, and what only a store behind a network can do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that does not find what it expects panics"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use impuls_artifacts::{ArtifactError, ArtifactStore as _};
use impuls_artifacts_s3::{Location, S3Artifacts, S3Error};
use impuls_testkit::s3::{ACCESS_KEY, SECRET_KEY};
use impuls_testkit::{Link, S3, Weather};

struct Opened {
    artifacts: S3Artifacts,
    s3: S3,
    link: Link,
}

impl AsRef<S3Artifacts> for Opened {
    fn as_ref(&self) -> &S3Artifacts {
        &self.artifacts
    }
}

fn location(at: SocketAddr, prefix: &str) -> Location {
    let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let keys: BTreeMap<_, _> = keys.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let location: Location = S3::location(at, prefix).parse().unwrap();
    location.with_variables(&keys).unwrap()
}

async fn open() -> Opened {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let s3 = tokio::task::spawn_blocking(|| S3::start(tools)).await.unwrap();
    let link = Link::to(s3.address());
    let artifacts = S3Artifacts::open(&location(link.address(), "some/folder")).await.unwrap();
    Opened { artifacts, s3, link }
}

/// More than one part.
fn large() -> Bytes {
    (0..17_u32 << 20).map(|at| (at % 249) as u8).collect()
}

mod suite {
    use super::open;

    impuls_artifacts::artifact_store_conformance!(
        #[ignore = "needs pip"]
        open
    );
}

/// That the store says what is wrong, where, and nothing that is secret.
fn is_unavailable<T: std::fmt::Debug>(result: Result<T, ArtifactError>, expected: &str) {
    let error = result.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    assert!(text.contains(expected) && text.contains("bucket impuls-test at http://127.0.0.1:"), "{text}");
    assert!(!text.contains(SECRET_KEY) && !text.contains(ACCESS_KEY), "{text}");
}

#[tokio::test]
#[ignore = "needs pip"]
async fn a_store_that_fails_is_unavailable_and_recovers() {
    let opened = open().await;
    let store = &opened.artifacts;
    let digest = store.put(Bytes::from_static(b"here")).await.unwrap();
    for (weather, expected) in [
        (Weather::Refusing, "503"),
        (Weather::Broken, "HTTP error"),
        (Weather::Silent, "no whole answer within 2s"),
    ] {
        opened.link.set(weather);
        let (put, got) = tokio::join!(store.put(Bytes::from_static(b"not here")), store.get(&digest));
        is_unavailable(put, expected);
        is_unavailable(got, expected);
        opened.link.set(Weather::Fair);
        assert_eq!(store.get(&digest).await.unwrap(), b"here".as_slice());
    }
}

#[tokio::test]
#[ignore = "needs pip"]
async fn connections_that_break_now_and_then_are_nobodys_business() {
    let opened = open().await;
    opened.link.set(Weather::Changeable);
    let digest = opened.artifacts.put(large()).await.unwrap();
    assert!(opened.artifacts.get(&digest).await.unwrap() == large());
}

#[tokio::test]
#[ignore = "needs pip"]
async fn an_upload_that_fails_half_way_is_no_artifact_and_leaves_nothing() {
    let opened = open().await;
    let digest = impuls_artifacts::digest_of(&large());
    let (store, link, s3) = (&opened.artifacts, &opened.link, &opened.s3);
    link.set_after(9 << 20, Weather::Refusing);
    let put = store.put(large()).await;
    is_unavailable(put, "503");
    link.set(Weather::Fair);
    assert!(matches!(store.get(&digest).await, Err(ArtifactError::NotFound(_))));
    assert_eq!(s3.occurrences(&digest.to_string()), 0);
    store.put(large()).await.unwrap();
    assert_eq!(s3.occurrences(&digest.to_string()), 1);
}

#[tokio::test]
#[ignore = "needs pip"]
async fn changed_bytes_are_damaged_and_putting_heals_them() {
    let opened = open().await;
    let digest = opened.artifacts.put(Bytes::from_static(b"whole")).await.unwrap();
    opened.s3.overwrite(&format!("some/folder/sha256/{digest}"), "half");
    let found = opened.artifacts.get(&digest).await;
    assert!(matches!(found, Err(ArtifactError::Damaged(damaged)) if damaged == digest), "{found:?}");
    opened.artifacts.put(Bytes::from_static(b"whole")).await.unwrap();
    assert_eq!(opened.artifacts.get(&digest).await.unwrap(), b"whole".as_slice());
}

#[tokio::test]
#[ignore = "needs pip"]
async fn a_bucket_that_cannot_be_used_is_named() {
    let opened = open().await;
    let refused = async |location: &Location| S3Artifacts::open(location).await.unwrap_err();
    let address = opened.s3.address();
    let other = S3::location(address, "").replace(S3::BUCKET, "nobodys-bucket").parse::<Location>().unwrap();
    let keys = BTreeMap::from([
        ("AWS_ACCESS_KEY_ID".to_owned(), ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY".to_owned(), SECRET_KEY.to_owned()),
    ]);
    let error = refused(&other.with_variables(&keys).unwrap()).await;
    assert!(error.to_string().contains("bucket nobodys-bucket at http://127.0.0.1:"), "{error}");
    assert!(matches!(error, S3Error::Refused { .. }), "{error:?}");
    assert!(format!("{error:?}").contains("NoSuchBucket"), "{error:?}");
    drop(opened);
    let error = refused(&location(address, "")).await;
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
