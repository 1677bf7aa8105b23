//! Artifacts as objects `<prefix>/sha256/<64 digits>` of a bucket.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use impuls_artifacts::{ArtifactError, ArtifactStore, Kept, OWNER_BYTES, digest_of};
use impuls_domain::ArtifactDigest;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, GetRange, MultipartId, ObjectStore as _,
    ObjectStoreExt as _, PutMode, PutOptions, PutPayload, RetryConfig,
};
use tokio::task::JoinSet;

use crate::error::S3Error;
use crate::location::Location;
use crate::transport::Transport;

/// What is larger is put and read in parts of this size.
const PART: usize = 8 << 20;
/// Parts under way at once.
const PARTS_AT_ONCE: usize = 4;
/// How often a request is repeated that S3 did not answer, or with a failure of its own.
const RETRIES: usize = 4;
/// The most bytes of one artifact. Nothing that a server of this kind makes is as large.
const LIMIT: u64 = 4 << 30;
/// How long moving an artifact may take whatever its size, in times of what one request may.
const PATIENCE: u32 = 3;
/// Objects of one page of a list; S3 gives no more.
const PAGE: usize = 1_000;

/// Artifacts in a bucket. Cheap to clone. An artifact that was not put completely is none: an upload in parts becomes an
/// object when it is completed, and is taken back if it fails.
#[derive(Clone, Debug)]
pub struct S3Artifacts(Arc<Bucket>);

#[derive(Debug)]
struct Bucket {
    s3: AmazonS3,
    folder: Path,
    /// The object with the name of whoever these are.
    owner: Path,
    place: String,
    timeout: Duration,
}

impl S3Artifacts {
    /// The bucket of this location, which has to answer and to let its objects be listed.
    pub async fn open(location: &Location) -> Result<Self, S3Error> {
        let settings = |source| S3Error::Settings { place: location.to_string(), source };
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                base: 2.,
            },
            max_retries: RETRIES,
            retry_timeout: location.timeout * 2,
        };
        let mut builder = AmazonS3Builder::new();
        for (name, value) in &location.credentials {
            let key: AmazonS3ConfigKey = name.to_lowercase().parse().map_err(settings)?;
            builder = builder.with_config(key, value);
        }
        if let Some(endpoint) = &location.endpoint {
            builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/'));
        }
        let s3 = builder
            .with_bucket_name(&location.bucket)
            .with_region(location.region())
            .with_virtual_hosted_style_request(!location.is_path_style())
            // The location has judged the endpoint; credentials of a machine in AWS come over plain HTTP.
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_disable_bulk_delete(true)
            .with_retry(retry)
            .with_http_connector(Transport(location.timeout))
            .build()
            .map_err(settings)?;
        let prefix = Path::parse(&location.prefix).map_err(|error| settings(error.into()))?;
        let (folder, owner) = (prefix.clone().join("sha256"), prefix.join("owner"));
        let bucket = Bucket { s3, folder, owner, place: location.to_string(), timeout: location.timeout };
        let opened = Self(Arc::new(bucket));
        let probed = opened.page(None, 1).await;
        probed.map_err(|source| S3Error::Refused { place: location.to_string(), source })?;
        Ok(opened)
    }

    fn path(&self, digest: &ArtifactDigest) -> Path {
        self.0.folder.clone().join(digest.to_string())
    }

    async fn page(&self, after: Option<ArtifactDigest>, limit: usize) -> Result<Vec<Kept>, Error> {
        let options = PaginatedListOptions {
            offset: after.map(|digest| self.path(&digest).to_string()),
            max_keys: Some(limit.clamp(1, PAGE)),
            ..PaginatedListOptions::default()
        };
        let prefix = format!("{}/", self.0.folder);
        let page = self.0.s3.list_paginated(Some(&prefix), options).await?;
        let kept = page.result.objects.into_iter().filter_map(|object| {
            // Others may keep things beside ours.
            let digest = object.location.filename()?.parse().ok()?;
            Some(Kept { digest, bytes: object.size, at: object.last_modified.into() })
        });
        Ok(kept.collect())
    }

    /// Whose the artifacts are, if somebody has said so.
    async fn owner(&self) -> Result<Option<String>, Error> {
        let range = GetRange::Bounded(0..OWNER_BYTES as u64);
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        match self.0.s3.get_opts(&self.0.owner, options).await {
            Ok(found) => Ok(Some(String::from_utf8_lossy(&found.bytes().await?).trim().to_owned())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn put_owner(&self, owner: &str) -> Result<String, Error> {
        if let Some(found) = self.owner().await? {
            return Ok(found);
        }
        let put = |mode| {
            let payload = PutPayload::from(owner.to_owned());
            self.0.s3.put_opts(&self.0.owner, payload, PutOptions { mode, ..PutOptions::default() })
        };
        let made = put(PutMode::Create).await;
        if let Some(found) = self.owner().await? {
            return Ok(found);
        }
        // Of the servers that know no conditions some say so, each in its own way.
        if made.is_err() {
            put(PutMode::Overwrite).await?;
        }
        let path = self.0.owner.to_string();
        let nothing = || Error::NotFound { path, source: "it was put, and is not there".into() };
        self.owner().await?.ok_or_else(nothing)
    }

    fn unavailable(&self, action: &'static str, source: Error) -> ArtifactError {
        let source = S3Error::Refused { place: self.0.place.clone(), source };
        ArtifactError::Unavailable { action, source: source.into() }
    }

    /// Bounds all requests of an artifact together: 1 MiB in a second, and what a few requests may take.
    async fn bounded<T>(
        &self,
        action: &'static str,
        bytes: u64,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, ArtifactError> {
        let time = self.0.timeout * PATIENCE + Duration::from_secs(bytes >> 20);
        match tokio::time::timeout(time, work).await {
            Ok(done) => done.map_err(|error| self.unavailable(action, error)),
            Err(_) => {
                let (place, seconds) = (self.0.place.clone(), time.as_secs());
                let source = S3Error::Slow { place, action, bytes, seconds };
                Err(ArtifactError::Unavailable { action, source: source.into() })
            }
        }
    }

    async fn upload(&self, path: Path, bytes: Bytes) -> Result<(), ArtifactError> {
        let size = bytes.len() as u64;
        if bytes.len() <= PART {
            let put = async { self.0.s3.put(&path, bytes.into()).await.map(drop) };
            return self.bounded("writing", size, put).await;
        }
        let id = self.bounded("writing", 0, self.0.s3.create_multipart(&path)).await?;
        let written = self.bounded("writing", size, self.upload_parts(&path, &id, bytes)).await;
        if written.is_err() {
            // S3 may well not answer this either; buckets have a rule that takes parts away which nobody completes.
            let _ = self.bounded("writing", 0, self.0.s3.abort_multipart(&path, &id)).await;
        }
        written
    }

    async fn upload_parts(&self, path: &Path, id: &MultipartId, mut bytes: Bytes) -> Result<(), Error> {
        let mut parts: Vec<(usize, PartId)> = Vec::new();
        let mut under_way = JoinSet::new();
        let mut next = 0;
        while !bytes.is_empty() || !under_way.is_empty() {
            while !bytes.is_empty() && under_way.len() < PARTS_AT_ONCE {
                let part = bytes.split_to(bytes.len().min(PART));
                let (this, path, id, number) = (self.clone(), path.clone(), id.clone(), next);
                under_way.spawn(async move {
                    let put = this.0.s3.put_part(&path, &id, number, PutPayload::from(part)).await;
                    put.map(|part| (number, part))
                });
                next += 1;
            }
            if let Some(done) = under_way.join_next().await {
                parts.push(done.map_err(|source| Error::JoinError { source })??);
            }
        }
        parts.sort_unstable_by_key(|(number, _)| *number);
        let parts = parts.into_iter().map(|(_, part)| part).collect();
        self.0.s3.complete_multipart(path, id, parts).await.map(drop)
    }

    /// The bytes from `from` on, as many as one answer has, and how many there are altogether.
    async fn read(&self, path: &Path, from: u64) -> Result<(Bytes, u64), Error> {
        let range = GetRange::Bounded(from..from + PART as u64);
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        let got = self.0.s3.get_opts(path, options).await?;
        let size = got.meta.size;
        Ok((got.bytes().await?, size))
    }

    async fn download(&self, digest: &ArtifactDigest) -> Result<Bytes, ArtifactError> {
        const ACTION: &str = "reading";
        let path = self.path(digest);
        let missing = |result: Result<_, ArtifactError>| match result {
            Err(error) if is_missing(&error) => Err(ArtifactError::NotFound(*digest)),
            other => other,
        };
        if *digest == digest_of(&[]) {
            // There is no range of nothing.
            let head = self.bounded(ACTION, 0, self.0.s3.head(&path)).await;
            return missing(head.map(|_| Bytes::new()));
        }
        let (first, size) = match self.bounded(ACTION, PART as u64, self.read(&path, 0)).await {
            Err(error) if is_missing(&error) => return Err(ArtifactError::NotFound(*digest)),
            read => read?,
        };
        if size > LIMIT {
            let source = S3Error::TooLarge { place: self.0.place.clone(), bytes: size, limit: LIMIT };
            return Err(ArtifactError::Unavailable { action: ACTION, source: source.into() });
        }
        if first.len() as u64 == size {
            return Ok(first);
        }
        missing(self.bounded(ACTION, size, self.read_rest(&path, first, size)).await)
    }

    async fn read_rest(&self, path: &Path, first: Bytes, size: u64) -> Result<Bytes, Error> {
        let mut whole = bytes::BytesMut::with_capacity(usize::try_from(size).unwrap_or(usize::MAX));
        whole.extend_from_slice(&first);
        while (whole.len() as u64) < size {
            let (part, _) = self.read(path, whole.len() as u64).await?;
            if part.is_empty() {
                // It has become shorter meanwhile, which the digest will tell.
                break;
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    }
}

/// Whether S3 said that there is no such object.
fn is_missing(error: &ArtifactError) -> bool {
    let ArtifactError::Unavailable { source, .. } = error else { return false };
    matches!(source.downcast_ref(), Some(S3Error::Refused { source: Error::NotFound { .. }, .. }))
}

#[async_trait]
impl ArtifactStore for S3Artifacts {
    async fn put(&self, bytes: Bytes) -> Result<ArtifactDigest, ArtifactError> {
        let digest = blocking_digest(bytes.clone()).await?;
        let (this, path) = (self.clone(), self.path(&digest));
        // To its end also if nobody waits any more, so that no parts are left.
        let put = tokio::spawn(async move { this.upload(path, bytes).await }).await;
        put.map_err(|error| self.unavailable("writing", Error::JoinError { source: error }))??;
        Ok(digest)
    }

    async fn get(&self, digest: &ArtifactDigest) -> Result<Bytes, ArtifactError> {
        let bytes = self.download(digest).await?;
        let is_whole = blocking_digest(bytes.clone()).await? == *digest;
        if is_whole { Ok(bytes) } else { Err(ArtifactError::Damaged(*digest)) }
    }

    async fn delete(&self, digest: &ArtifactDigest) -> Result<bool, ArtifactError> {
        let path = self.path(digest);
        let existed = match self.bounded("deleting", 0, self.0.s3.head(&path)).await {
            Err(error) if is_missing(&error) => return Ok(false),
            found => found.map(|_| true)?,
        };
        match self.bounded("deleting", 0, self.0.s3.delete(&path)).await {
            // Another server was faster.
            Err(error) if is_missing(&error) => Ok(false),
            deleted => deleted.map(|()| existed),
        }
    }

    async fn list(&self, after: Option<ArtifactDigest>, limit: usize) -> Result<Vec<Kept>, ArtifactError> {
        self.bounded("listing", 0, self.page(after, limit)).await
    }

    async fn claim(&self, owner: &str) -> Result<String, ArtifactError> {
        self.bounded("looking whose they are", 0, self.put_owner(owner)).await
    }

    async fn discard(&self, digest: &ArtifactDigest, since: SystemTime) -> Result<bool, ArtifactError> {
        match self.bounded("deleting", 0, self.0.s3.head(&self.path(digest))).await {
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
            Ok(object) if SystemTime::from(object.last_modified) > since => Ok(false),
            Ok(_) => self.delete(digest).await,
        }
    }
}

async fn blocking_digest(bytes: Bytes) -> Result<ArtifactDigest, ArtifactError> {
    let digest = tokio::task::spawn_blocking(move || digest_of(&bytes)).await;
    digest.map_err(|lost| ArtifactError::Io {
        action: "computing a digest",
        source: std::io::Error::other(lost),
    })
}
