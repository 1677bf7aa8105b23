//! What `deploy` sends: code and settings from a file, a folder or an archive. Talks to no server.

mod detect;
mod environment;
mod error;
mod folder;

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use crate::args::Settings;
pub(crate) use detect::Entry;
pub(crate) use error::PackageError;

/// The most bytes of code, packed (an archive) or as they are (a single file); the server's own limit.
const PACKED_LIMIT: u64 = 50 * 1024 * 1024;
/// The most bytes of code, unpacked; the server's own limit.
const UNPACKED_LIMIT: u64 = 250 * 1024 * 1024;
/// The most files of an archive; the server's own limit.
const ENTRY_LIMIT: usize = 65_000;
/// The settings of a folder.
const PROJECT_FILE: &str = "impuls.toml";

/// A function ready to be sent.
#[derive(Debug)]
pub(crate) struct Package {
    /// The function's name.
    pub(crate) name: String,
    /// Its code.
    pub(crate) code: Code,
    /// Where it seems to begin, if that can be told from the names of the files.
    pub(crate) entry: Option<Entry>,
    /// Flags over environment file over the folder's settings.
    pub(crate) settings: Settings,
}

/// A function's code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The text of a single file.
    Source(String),
    /// A zip archive.
    Archive(Vec<u8>),
}

impl Code {
    /// Its size, in bytes.
    pub(crate) const fn size(&self) -> u64 {
        match self {
            Self::Source(text) => text.len() as u64,
            Self::Archive(bytes) => bytes.len() as u64,
        }
    }
}

impl Package {
    /// Reads what is at `path`.
    pub(crate) fn read(
        path: &Path,
        flags: Settings,
        env_file: Option<&Path>,
        env: Vec<(String, String)>,
    ) -> Result<Self, PackageError> {
        let real = fs::canonicalize(path).map_err(|source| PackageError::read(path, source))?;
        let is_folder = real.is_dir();
        let project = if is_folder { project(&real)? } else { Settings::default() };
        let mut settings = overlay(project, flags);
        if let Some(file) = env_file {
            settings.environment.extend(environment::read(file)?);
        }
        settings.environment.extend(env);
        let (code, entry) = if is_folder {
            let files = folder::files(&real)?;
            let names = files.iter().map(|file| file.name.as_str());
            let entry = detect::in_archive(names, settings.handler.as_deref());
            (Code::Archive(folder::pack(&files)?), entry)
        } else if has_extension(&real, "zip") {
            let bytes = bounded(&real)?;
            let entry = detect::in_archive(
                names(&real, &bytes)?.iter().map(String::as_str),
                settings.handler.as_deref(),
            );
            (Code::Archive(bytes), entry)
        } else {
            let text = String::from_utf8(bounded(&real)?).map_err(|_| PackageError::Text(path.to_owned()))?;
            (Code::Source(text), source_entry(&real, &settings)?)
        };
        let name = match &settings.name {
            Some(name) => name.clone(),
            None => default_name(&real, is_folder)?,
        };
        Ok(Self { name, code, entry, settings })
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|own| own.eq_ignore_ascii_case(extension))
}

/// A single file's language is in its extension, or given.
fn source_entry(path: &Path, settings: &Settings) -> Result<Option<Entry>, PackageError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match detect::single_file(name) {
        None if settings.runtime.is_none() => Err(PackageError::Extension(path.to_owned())),
        entry => Ok(entry),
    }
}

fn bounded(path: &Path) -> Result<Vec<u8>, PackageError> {
    let read = |source| PackageError::read(path, source);
    let bytes = fs::metadata(path).map_err(read)?.len();
    if bytes > PACKED_LIMIT {
        return Err(PackageError::Packed { bytes });
    }
    fs::read(path).map_err(read)
}

/// The names in an archive. The server checks everything else about it.
fn names(path: &Path, archive: &[u8]) -> Result<Vec<String>, PackageError> {
    let wrong = |source| PackageError::Archive { path: path.to_owned(), source };
    let archive = zip::ZipArchive::new(Cursor::new(archive)).map_err(wrong)?;
    Ok(archive.file_names_raw().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

fn project(folder: &Path) -> Result<Settings, PackageError> {
    let path = folder.join(PROJECT_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(|source| PackageError::Project { path, source }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Settings::default()),
        Err(source) => Err(PackageError::Read { path, source }),
    }
}

/// `high` where it says something, else `low`.
fn overlay(low: Settings, high: Settings) -> Settings {
    let mut environment = low.environment;
    environment.extend(high.environment);
    let mut metadata = low.metadata;
    metadata.extend(high.metadata);
    Settings {
        name: high.name.or(low.name),
        runtime: high.runtime.or(low.runtime),
        handler: high.handler.or(low.handler),
        memory_mb: high.memory_mb.or(low.memory_mb),
        timeout_sec: high.timeout_sec.or(low.timeout_sec),
        concurrency: high.concurrency.or(low.concurrency),
        max_concurrency: high.max_concurrency.or(low.max_concurrency),
        vcpu: high.vcpu.or(low.vcpu),
        idle_timeout_sec: high.idle_timeout_sec.or(low.idle_timeout_sec),
        min_warm: high.min_warm.or(low.min_warm),
        network: high.network.or(low.network),
        contract: high.contract.or(low.contract),
        command: high.command.or(low.command),
        description: high.description.or(low.description),
        environment,
        metadata,
    }
}

/// The name of the file or folder, if a function may be called so.
fn default_name(path: &Path, is_folder: bool) -> Result<String, PackageError> {
    let name = if is_folder { path.file_name() } else { path.file_stem() };
    let fits = |name: &&str| {
        (1..=255).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let name = name.and_then(|name| name.to_str()).filter(fits);
    name.map(str::to_owned).ok_or_else(|| PackageError::Name(PathBuf::from(path)))
}

#[cfg(test)]
mod tests;
