//! The back end as a [`RetentionStore`].

use async_trait::async_trait;
use impuls_domain::{ArtifactDigest, FunctionId, VersionNumber};
use impuls_store::rows::micros;
use impuls_store::{NotedBuild, RetentionStore, StoreError};
use time::OffsetDateTime;

use super::SqliteStore;
use crate::read;
use crate::writer::{RetentionWork, Work};

#[async_trait]
impl RetentionStore for SqliteStore {
    async fn delete_versions(
        &self,
        function: FunctionId,
        numbers: &[VersionNumber],
    ) -> Result<u64, StoreError> {
        let numbers = numbers.iter().filter_map(|number| i64::try_from(number.get()).ok()).collect();
        let work = RetentionWork::Versions(*function.as_uuid().as_bytes(), numbers);
        self.writer.run(Work::Retention(Box::new(work)), "deleting versions").await
    }

    async fn delete_builds(&self, noted_before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let work = RetentionWork::Builds(micros(noted_before), limit);
        self.writer.run(Work::Retention(Box::new(work)), "forgetting builds").await
    }

    async fn list_builds(
        &self,
        after: Option<ArtifactDigest>,
        limit: u32,
    ) -> Result<Vec<NotedBuild>, StoreError> {
        read::list_builds(&self.readers, after, limit).await
    }

    async fn list_artifacts(
        &self,
        after: Option<ArtifactDigest>,
        limit: u32,
    ) -> Result<Vec<ArtifactDigest>, StoreError> {
        read::list_artifacts(&self.readers, after, limit).await
    }
}
