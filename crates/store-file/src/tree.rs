//! Where things are in the tree, and how they get there: each file and each folder of code appears whole or not at all,
//! for its owner alone, because environments hold secrets.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use impuls_artifacts::{ArchiveLimits, ArtifactError, extract_zip, read_zip, zip_files};
use impuls_domain::{CodeLayout, Function, FunctionId, Revision};
use impuls_store::FunctionSnapshot;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use crate::card;
use crate::error::FileError;
use crate::scan::{Source, Stamp, Stamps, files, metadata, read_file, stamp};

const CARDS: &str = "metadata";
const CODE: &str = "code";
const PENDING: &str = "pending";
/// Where folders are made before they are moved to their places; emptied when the tree is opened.
const SCRATCH: &str = ".new";
/// Said by a server that changes the other store and not the tree.
const STALE: &str = "stale";
/// What a metadata file's name ends with.
const CARD_SUFFIX: &str = ".json";
/// What stands before the part of an id in the names of functions whose own name is not enough.
const MARK: char = '~';
/// The longest name that is the name of the files; file systems allow 255 bytes.
const PLAIN_NAME: usize = 200;
/// The last digits of an id that are part of a file's name: the first ones are the time.
const ID_DIGITS: usize = 8;

/// What may be written over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Over<T> {
    /// Whatever is there.
    Anything,
    /// What looks like this; anything else is somebody's, and stays.
    Known(T),
}

impl Over<Stamps> {
    const fn card(self) -> Over<Option<Stamp>> {
        match self {
            Self::Anything => Over::Anything,
            Self::Known(stamps) => Over::Known(stamps.card),
        }
    }

    const fn code(self) -> Over<Option<Stamp>> {
        match self {
            Self::Anything => Over::Anything,
            Self::Known(stamps) => Over::Known(stamps.code),
        }
    }
}

impl Over<Option<Stamp>> {
    /// Whether what is in this place now may go. Nobody loses anything where nothing is.
    fn allows(self, path: &Path) -> Result<bool, FileError> {
        let Self::Known(known) = self else { return Ok(true) };
        let present = stamped(path)?;
        Ok(present.is_none() || present == known)
    }

    const fn known(self) -> Option<Stamp> {
        match self {
            Self::Anything => None,
            Self::Known(stamp) => stamp,
        }
    }
}

/// What was made of a function's files.
#[derive(Debug)]
pub(crate) struct Shown {
    /// What the files look like that show the store; of those that are somebody's and stayed, what was known before.
    pub(crate) stamps: Stamps,
    /// Whether the metadata file stayed.
    pub(crate) card_stayed: bool,
    /// Whether the code stayed.
    pub(crate) code_stayed: bool,
}

/// The tree in its folder.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Makes the folders that are missing and empties what was being made. Blocks.
    pub(crate) fn open(root: &Path) -> Result<Self, FileError> {
        match fs::remove_dir_all(root.join(SCRATCH)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(FileError::io(root)(error)),
            _ => {}
        }
        for folder in
            [root.to_owned(), root.join(CARDS), root.join(CODE), root.join(PENDING), root.join(SCRATCH)]
        {
            make_folder(&folder).map_err(FileError::io(&folder))?;
        }
        // Whoever made it, the secrets inside are the owner's alone.
        fs::set_permissions(root, Permissions::from_mode(0o700)).map_err(FileError::io(root))?;
        sync(root)?;
        Ok(Self { root: root.to_owned() })
    }

    /// Whether a folder has a tree with at least one function.
    pub(crate) fn is_at(root: &Path) -> bool {
        fs::read_dir(root.join(CARDS)).is_ok_and(|mut cards| cards.next().is_some())
    }

    /// Says that the tree is not what the other store says, from now on.
    pub(crate) fn mark_stale(root: &Path) -> Result<(), FileError> {
        let path = root.join(STALE);
        File::create(&path).and_then(|file| file.sync_all()).map_err(FileError::io(&path))?;
        sync(root)
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.root.join(STALE).exists()
    }

    pub(crate) fn no_longer_stale(&self) -> Result<(), FileError> {
        remove_file(&self.root.join(STALE))?;
        sync(&self.root)
    }

    pub(crate) fn cards(&self) -> PathBuf {
        self.root.join(CARDS)
    }

    pub(crate) fn card(&self, stem: &str) -> PathBuf {
        self.root.join(CARDS).join(format!("{stem}{CARD_SUFFIX}"))
    }

    pub(crate) fn code(&self, stem: &str) -> PathBuf {
        self.root.join(CODE).join(stem)
    }

    /// The names of all metadata files, without their endings.
    pub(crate) fn stems(&self) -> io::Result<Vec<String>> {
        let mut stems = Vec::new();
        for entry in fs::read_dir(self.cards())? {
            let name = entry?.file_name();
            // Hidden files are those that are being written, here and in editors.
            let stem = name.to_str().and_then(|name| name.strip_suffix(CARD_SUFFIX));
            stems.extend(stem.filter(|stem| !stem.starts_with('.')).map(str::to_owned));
        }
        Ok(stems)
    }

    /// Notes durably that a function is about to change, and what its files are called.
    pub(crate) fn begin(&self, id: FunctionId, stem: &str) -> Result<(), FileError> {
        let folder = self.root.join(PENDING);
        let path = folder.join(id.to_string());
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(stem.as_bytes())?;
            file.sync_all()
        });
        written.map_err(FileError::io(&path))?;
        sync(&folder)
    }

    /// Notes that the tree shows what the other store says.
    pub(crate) fn end(&self, id: FunctionId) -> Result<(), FileError> {
        remove_file(&self.root.join(PENDING).join(id.to_string()))
    }

    /// What was begun and not ended, with the names of the files.
    pub(crate) fn pending(&self) -> Result<Vec<(FunctionId, String)>, FileError> {
        let folder = self.root.join(PENDING);
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(FileError::io(&folder))? {
            let entry = entry.map_err(FileError::io(&folder))?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let stem = fs::read_to_string(entry.path()).map_err(FileError::io(&entry.path()))?;
            found.push((id, stem));
        }
        Ok(found)
    }

    /// Writes a function's files where they differ from what they must be and may be written over.
    pub(crate) fn show(
        &self,
        stem: &str,
        snapshot: &FunctionSnapshot,
        code: &[u8],
        over: Over<Stamps>,
    ) -> Result<Shown, FileError> {
        let code_stamp = self.show_code(&self.code(stem), &snapshot.latest, code, over.code())?;
        let text = card::render(snapshot, source_text(&snapshot.latest.layout, code))?;
        let card = self.show_card(&self.card(stem), text.as_bytes(), over.card())?;
        let stamps = Stamps {
            card: card.or_else(|| over.card().known()),
            code: code_stamp.or_else(|| over.code().known()),
        };
        Ok(Shown { stamps, card_stayed: card.is_none(), code_stayed: code_stamp.is_none() })
    }

    /// What the files look like that are exactly what this function is shown as, whoever has touched them.
    pub(crate) fn unchanged(
        &self,
        stem: &str,
        snapshot: &FunctionSnapshot,
        code: &[u8],
    ) -> Result<Stamps, FileError> {
        let (card, folder) = (self.card(stem), self.code(stem));
        let stamps = Stamps { card: stamped(&card)?, code: stamped(&folder)? };
        let layout = &snapshot.latest.layout;
        let text = card::render(snapshot, source_text(layout, code))?;
        let is_code = files(&folder).ok().flatten().is_some_and(|files| is_same_code(layout, code, &files));
        Ok(Stamps {
            card: stamps.card.filter(|_| has_text(&card, text.as_bytes())),
            code: stamps.code.filter(|_| is_code),
        })
    }

    /// What the folder looks like that has this code; `None` if what is there is somebody's.
    fn show_code(
        &self,
        folder: &Path,
        revision: &Revision,
        code: &[u8],
        over: Over<Option<Stamp>>,
    ) -> Result<Option<Stamp>, FileError> {
        // Taken before the files are read: whoever writes to them meanwhile changes it.
        let before = stamped(folder)?;
        let present = files(folder).ok().flatten();
        if present.is_some_and(|files| is_same_code(&revision.layout, code, &files)) {
            return Ok(before);
        }
        let made = self.make_code(revision, code)?;
        if !over.allows(folder)? {
            return Ok(None);
        }
        put_in_place(made.path(), folder).map_err(FileError::io(folder))?;
        sync(&self.root.join(CODE))?;
        stamped(folder)
    }

    fn make_code(&self, revision: &Revision, code: &[u8]) -> Result<TempDir, FileError> {
        let scratch = self.root.join(SCRATCH);
        let made = tempfile::tempdir_in(&scratch).map_err(FileError::io(&scratch))?;
        match revision.layout {
            CodeLayout::SingleFile => {
                let path = made.path().join(file_name(revision.config.runtime.as_str()));
                write_private(&path, code).map_err(FileError::io(&path))?;
            }
            CodeLayout::Zip => {
                // It must not exist, or be empty.
                extract_zip(code, made.path(), &ArchiveLimits::default()).map_err(ArtifactError::from)?;
            }
        }
        make_private(made.path()).map_err(FileError::io(made.path()))?;
        Ok(made)
    }

    /// What the metadata file looks like that has this text; `None` if what is there is somebody's.
    fn show_card(
        &self,
        path: &Path,
        text: &[u8],
        over: Over<Option<Stamp>>,
    ) -> Result<Option<Stamp>, FileError> {
        let before = stamped(path)?;
        if has_text(path, text) {
            return Ok(before);
        }
        let folder = self.cards();
        let written =
            tempfile::Builder::new().prefix(".tmp-").tempfile_in(&folder).and_then(|mut scratch| {
                scratch.write_all(text)?;
                scratch.as_file().sync_all()?;
                Ok(scratch)
            });
        let written = written.map_err(FileError::io(path))?;
        if !over.allows(path)? {
            return Ok(None);
        }
        written.persist(path).map_err(|error| FileError::io(path)(error.error))?;
        sync(&folder)?;
        stamped(path)
    }

    /// Removes a function's files.
    pub(crate) fn remove(&self, stem: &str) -> Result<(), FileError> {
        remove_file(&self.card(stem))?;
        let folder = self.code(stem);
        match metadata(&folder) {
            Ok(Some(found)) if found.is_dir() => fs::remove_dir_all(&folder),
            Ok(Some(_)) => fs::remove_file(&folder),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        }
        .map_err(FileError::io(&folder))?;
        sync(&self.cards())?;
        sync(&self.root.join(CODE))
    }
}

/// What a function's files are called: its name; with the last digits of its id where others may have that name too, or
/// where it is too long for a file.
pub(crate) fn stem_of(function: &Function) -> String {
    let name = function.name.as_str();
    if function.scope.as_str().is_empty() && name.len() <= PLAIN_NAME {
        return name.to_owned();
    }
    let id = function.id.to_string();
    let digits = id.get(id.len().saturating_sub(ID_DIGITS)..).unwrap_or(&id);
    // Names are ASCII.
    format!("{}{MARK}{digits}", name.get(..PLAIN_NAME).unwrap_or(name))
}

/// Whether somebody may name the files of a new function so.
pub(crate) fn may_be_new(stem: &str) -> bool {
    !stem.contains(MARK) && stem.len() <= PLAIN_NAME
}

/// The text of a function that is one file.
pub(crate) fn source_text<'c>(layout: &CodeLayout, code: &'c [u8]) -> Option<&'c str> {
    match layout {
        CodeLayout::SingleFile => std::str::from_utf8(code).ok(),
        CodeLayout::Zip => None,
    }
}

/// The file of a function that is one file. The first Impuls had `function.js` for every language; the ending here is the
/// language's.
fn file_name(runtime: &str) -> &'static str {
    let families = [
        ("nodejs", "function.js"),
        ("bun", "function.js"),
        ("deno", "function.js"),
        ("typescript", "function.ts"),
        ("python", "function.py"),
        ("ruby", "function.rb"),
        ("go", "function.go"),
        ("rust", "function.rs"),
        ("dotnet", "function.cs"),
        ("php", "function.php"),
        ("perl", "function.pl"),
        ("java", "function.java"),
    ];
    families.into_iter().find(|(family, _)| runtime.starts_with(family)).map_or("function", |(_, name)| name)
}

/// Whether these files are the code, whatever a single one is called.
pub(crate) fn is_same_code(layout: &CodeLayout, code: &[u8], files: &[Source]) -> bool {
    match (layout, files) {
        (CodeLayout::SingleFile, [file]) => is_same_file(file, code),
        (CodeLayout::SingleFile, _) => false,
        (CodeLayout::Zip, files) => {
            let limits = ArchiveLimits::default();
            let Ok(mut names) = zip_files(code, &limits) else { return false };
            names.sort();
            if !names.iter().eq(files.iter().map(|file| &file.name)) {
                return false;
            }
            let Ok(mut contents) = read_zip(code, &names, &limits) else { return false };
            contents.sort();
            contents.iter().zip(files).all(|((_, content), file)| is_same_file(file, content))
        }
    }
}

fn is_same_file(file: &Source, content: &[u8]) -> bool {
    file.size == content.len() as u64 && read_file(&file.path, file.size).is_ok_and(|bytes| bytes == content)
}

fn has_text(path: &Path, text: &[u8]) -> bool {
    metadata(path).is_ok_and(|found| found.is_some_and(|found| found.len() == text.len() as u64))
        && read_file(path, text.len() as u64).is_ok_and(|present| present == text)
}

fn stamped(path: &Path) -> Result<Option<Stamp>, FileError> {
    stamp(path).map_err(FileError::io(path))
}

fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

/// Takes what others might read or write away from a new folder, and has its files on the disk.
fn make_private(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    fs::set_permissions(path, Permissions::from_mode(found.permissions().mode() & 0o700))?;
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            make_private(&entry?.path())?;
        }
    }
    File::open(path)?.sync_all()
}

/// Moves a folder to its place, where another one may be, which then goes.
fn put_in_place(made: &Path, place: &Path) -> io::Result<()> {
    if metadata(place)?.is_none() {
        fs::rename(made, place)?;
        // Whoever removes the temporary folder wants to find it.
        return make_folder(made);
    }
    match renameat_with(CWD, made, CWD, place, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        // Not every file system can exchange; what is pending says that this is not done yet.
        Err(_) => {
            if place.is_dir() && !place.is_symlink() {
                fs::remove_dir_all(place)?
            } else {
                fs::remove_file(place)?
            }
            fs::rename(made, place)?;
            return make_folder(made);
        }
    }
    // What was there may be a link or a file, which the temporary folder is not removed as.
    if !fs::symlink_metadata(made)?.is_dir() {
        fs::remove_file(made)?;
        make_folder(made)?;
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(FileError::io(path)(error)),
        _ => Ok(()),
    }
}

/// Makes names durable.
fn sync(folder: &Path) -> Result<(), FileError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(FileError::io(folder))
}
