//! Inflates an archive's files, counting what really comes out.

use std::io::{self, Read};

use super::plan::{Archive, Kind, Planned, shown};
use super::{ArchiveError, ArchiveLimits};

const BUFFER_BYTES: usize = 64 * 1024;

/// Inflates all files in order and hands each piece to `sink`; an empty piece ends a file, so that an empty file is
/// seen too. Stops at the first byte beyond the limit, whatever sizes were declared.
pub(super) fn inflate_all(
    archive: &mut Archive<'_>,
    entries: &[Planned],
    limits: &ArchiveLimits,
    mut sink: impl FnMut(&Planned, &[u8]) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let mut left = limits.unpacked_bytes;
    let mut buffer = vec![0; BUFFER_BYTES];
    for planned in entries.iter().filter(|planned| planned.kind != Kind::Folder) {
        let damaged = |source| ArchiveError::Damaged { name: shown(&planned.path), source };
        let file = archive.by_index(planned.index).map_err(|error| damaged(error.into()))?;
        let declared = file.size();
        let mut bounded = file.take(left.saturating_add(1));
        let mut inflated = 0u64;
        loop {
            let length = bounded.read(&mut buffer).map_err(damaged)?;
            inflated += length as u64;
            if inflated > left {
                let name = shown(&planned.path);
                return Err(ArchiveError::Unpacked { limit: limits.unpacked_bytes, name });
            }
            let Some(piece @ [_, ..]) = buffer.get(..length) else { break };
            sink(planned, piece)?;
        }
        if inflated != declared {
            return Err(damaged(io::Error::new(io::ErrorKind::InvalidData, "its size is not as declared")));
        }
        sink(planned, &[])?;
        left -= inflated;
    }
    Ok(())
}
