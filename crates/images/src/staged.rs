//! Files on their way into the store: written under a name that nobody reads, digested, then renamed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::error::ImageError;

/// How much is read at once.
const PIECE: usize = 128 * 1024;

/// `sha256:` and the digest in hexadecimal digits.
pub(crate) fn written(digest: Sha256) -> String {
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in digest.finalize() {
        // Writing to a string cannot fail.
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
    }
    text
}

/// The digest of bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    written(Sha256::new_with_prefix(bytes))
}

/// The digest and length of a file.
pub(crate) fn digest_of_file(path: &Path) -> Result<(String, u64), ImageError> {
    let failed = || ImageError::io("reading", path);
    let mut file = File::open(path).map_err(failed())?;
    copy_digested(&mut file, &mut io::sink()).map_err(failed())
}

/// Copies everything; the digest and length of what was copied.
pub(crate) fn copy_digested(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<(String, u64)> {
    let (mut digest, mut length) = (Sha256::new(), 0);
    let mut piece = vec![0; PIECE];
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = piece.get(..read).unwrap_or_default();
        digest.update(bytes);
        to.write_all(bytes)?;
        length += bytes.len() as u64;
    }
    Ok((written(digest), length))
}

/// Puts a file that is complete, in the folder of `to` or one beside it, at its place for good.
pub(crate) fn keep(from: &Path, to: &Path) -> Result<(), ImageError> {
    fs::set_permissions(from, fs::Permissions::from_mode(0o644))
        .and_then(|()| File::open(from)?.sync_all())
        .and_then(|()| fs::rename(from, to))
        .and_then(|()| sync_folder(to))
        .map_err(ImageError::io("keeping", to))
}

/// Writes a small file at once.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut scratch = tempfile::NamedTempFile::new_in(folder).map_err(ImageError::io("writing", path))?;
    scratch.write_all(bytes).map_err(ImageError::io("writing", path))?;
    keep(&scratch.into_temp_path(), path)
}

/// Makes a name durable: names belong to the folder, not to the file.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
