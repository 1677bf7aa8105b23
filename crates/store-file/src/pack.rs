//! A folder as a ZIP archive: the same files give the same bytes.

use std::io::{Cursor, Write as _};

use impuls_artifacts::ArchiveLimits;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::scan::{Source, read_file};

/// The archive of these files.
pub(crate) fn pack(files: &[Source]) -> Result<Vec<u8>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("its files cannot be packed: {error}");
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for file in files {
        let bytes = read_file(&file.path, file.size).map_err(|why| format!("{:?}: {why}", file.name))?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(if file.executable { 0o755 } else { 0o644 });
        archive.start_file(&file.name, options).map_err(|error| failed(&error))?;
        archive.write_all(&bytes).map_err(|error| failed(&error))?;
    }
    let bytes = archive.finish().map_err(|error| failed(&error))?.into_inner();
    let limit = ArchiveLimits::default().packed_bytes;
    if bytes.len() as u64 > limit {
        return Err(format!("its files have more than {limit} bytes as an archive"));
    }
    Ok(bytes)
}
