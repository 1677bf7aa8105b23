//! Builds.

use super::{Columns, Fields, digest};
use crate::error::StoreError;
use crate::retention::NotedBuild;

/// A build, from a row of `builds` with a column `is_deployed` that is 0 or 1.
pub fn noted_build(row: &dyn Columns) -> Result<NotedBuild, StoreError> {
    let fields = Fields(row);
    Ok(NotedBuild {
        key: digest(fields.bytes("key")?, "key")?,
        archive: digest(fields.bytes("artifact")?, "artifact")?,
        noted_at: fields.instant("created_at")?,
        is_deployed: fields.number::<u8>("is_deployed")? != 0,
    })
}
