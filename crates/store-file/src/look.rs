//! What somebody has edited.

use std::time::Duration;

use bytes::Bytes;
use impuls_domain::{CodeLayout, FunctionId};
use impuls_store::{FunctionKey, FunctionSnapshot};
use time::OffsetDateTime;

use crate::card::{self, CODE, Members};
use crate::error::FileError;
use crate::pack::pack;
use crate::scan::{CARD_LIMIT, Source, Stamp, files, metadata, read_file, stamp};
use crate::store::{FileStore, Shared, Turn, blocking};
use crate::tree::{Tree, is_same_code, may_be_new, source_text};

/// How long a function's files have to rest before they are looked at, so that nobody's half-written files are deployed.
const REST: Duration = Duration::from_secs(1);

/// Code as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewCode {
    /// The text of one file.
    Source(String),
    /// Several files, as an archive.
    Zip(Bytes),
}

/// What somebody wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// A further function of this name. Members are those of the HTTP API.
    Create {
        /// Its name, as the files have it.
        name: String,
        /// Everything but name and code.
        members: Members,
        /// Its code; none where it is a command line.
        code: Option<NewCode>,
    },
    /// Another revision.
    Change {
        /// Of this function.
        id: FunctionId,
        /// Its name.
        name: String,
        /// What is to be different, in members of the HTTP API.
        members: Members,
        /// Its code, if that is to be different.
        code: Option<NewCode>,
    },
    /// No such function any more.
    Delete {
        /// Which.
        id: FunctionId,
        /// Its name.
        name: String,
    },
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Somebody's edit.
    Edit(Edit),
    /// Files that mean nothing.
    Refused {
        /// Which.
        file: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A function's metadata file was not there, and was written again: this one's.
    Restored(String),
    /// A function's files could not be written; they will be when the cause is gone.
    Behind {
        /// Of this one.
        name: String,
        /// What failed.
        reason: String,
    },
}

/// What is known of a function's files.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Settled {
    /// They were looked at when they were like this.
    Seen(Stamp),
    /// They were written here, and not looked at since.
    Written,
    /// The metadata file was there, and is gone.
    Missing,
    /// There is none, and there is no code to write one for.
    Lost,
}

/// The files of one function, read.
struct Found {
    members: Members,
    files: Option<Vec<Source>>,
}

impl FileStore {
    /// Writes what a crash has cut off; to be called before anybody may take the files for finished. What cannot be written
    /// is written, or reported, by the next [look](Self::look).
    pub async fn recover(&self) -> Result<(), FileError> {
        let mut turn = self.0.turn.lock().await;
        self.0.read(&mut turn).await?;
        self.0.catch_up(&mut turn).await;
        Ok(())
    }

    /// What has changed in the tree since the last look, each change once. The first look finds everything that is not
    /// what the other store says. Files that were written within the last second before `now` are left for the next look.
    /// Writes files that could not be written before.
    pub async fn look(&self, now: OffsetDateTime) -> Result<Vec<Finding>, FileError> {
        let shared = &self.0;
        let (mut findings, rested) = {
            let mut turn = shared.turn.lock().await;
            shared.read(&mut turn).await?;
            let mut findings = shared.catch_up(&mut turn).await;
            let tree = shared.tree.clone();
            let stems = blocking(move || tree.stems().map_err(FileError::io(&tree.cards()))).await?;
            findings.extend(shared.look_for_missing(&mut turn, &stems).await?);
            (findings, shared.rested(&turn, stems, now).await?)
        };
        for (stem, stamped) in rested {
            // Whoever deploys meanwhile waits for one function, not for all.
            let mut turn = shared.turn.lock().await;
            findings.extend(shared.look_at(&mut turn, &stem, stamped).await?);
        }
        Ok(findings)
    }
}

impl Shared {
    async fn catch_up(&self, turn: &mut Turn) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (id, stem) in std::mem::take(&mut turn.behind) {
            if let Err(error) = self.write(turn, id, Some(stem.clone())).await {
                let reason = told(&error);
                findings.push(Finding::Behind { name: stem.clone(), reason });
                turn.behind.push((id, stem));
            }
        }
        findings
    }

    /// Whose files are not as they were when they were looked at, and rest.
    async fn rested(
        &self,
        turn: &Turn,
        stems: Vec<String>,
        now: OffsetDateTime,
    ) -> Result<Vec<(String, Stamp)>, FileError> {
        let tree = self.tree.clone();
        let stamped = blocking(move || {
            // Gone or unreadable in this moment: the next look will tell.
            let stamp = |stem: String| Some((stamp(&tree.card(&stem), &tree.code(&stem)).ok()?, stem));
            Ok(stems.into_iter().filter_map(stamp).collect::<Vec<_>>())
        });
        let is_new = |(stamp, stem): &(Stamp, String)| {
            let seen = matches!(turn.settled.get(stem), Some(Settled::Seen(seen)) if seen == stamp);
            !seen && rests(stamp, now)
        };
        Ok(stamped.await?.into_iter().filter(is_new).map(|(stamp, stem)| (stem, stamp)).collect())
    }

    async fn look_at(
        &self,
        turn: &mut Turn,
        stem: &str,
        stamped: Stamp,
    ) -> Result<Option<Finding>, FileError> {
        let id = turn.functions.as_ref().and_then(|functions| functions.get(stem).copied());
        if turn.behind.iter().any(|(behind, _)| Some(*behind) == id) {
            return Ok(None);
        }
        // Deleted since the stamp was taken.
        let (tree, name) = (self.tree.clone(), stem.to_owned());
        if blocking(move || Ok(metadata(&tree.card(&name)).is_ok_and(|found| found.is_none()))).await? {
            return Ok(None);
        }
        let snapshot = match id {
            Some(id) => self.other.find_function(&FunctionKey::Id(id)).await?,
            None => None,
        };
        let edit = match snapshot {
            Some(snapshot) => self.changed(stem, snapshot).await?,
            None => self.created(stem).await?,
        };
        turn.settled.insert(stem.to_owned(), Settled::Seen(stamped));
        let refused = |reason| Finding::Refused { file: self.tree.card(stem).display().to_string(), reason };
        Ok(match edit {
            Ok(edit) => edit.map(Finding::Edit),
            Err(reason) => Some(refused(reason)),
        })
    }

    async fn created(&self, stem: &str) -> Result<Result<Option<Edit>, String>, FileError> {
        if !may_be_new(stem) {
            let reason =
                "a new function's files have its name, at most 200 characters of it and no `~`".to_owned();
            return Ok(Err(reason));
        }
        let (tree, name) = (self.tree.clone(), stem.to_owned());
        blocking(move || Ok(new_function(&tree, &name).map(Some))).await
    }

    async fn changed(
        &self,
        stem: &str,
        snapshot: FunctionSnapshot,
    ) -> Result<Result<Option<Edit>, String>, FileError> {
        let Some(code) = self.code(&snapshot).await? else {
            return Ok(Err("the function's stored code is lost; deploy it again".to_owned()));
        };
        let (tree, stem) = (self.tree.clone(), stem.to_owned());
        blocking(move || Ok(change(&tree, &stem, &snapshot, &code))).await
    }

    /// Functions whose metadata file is gone: deleted by somebody who has seen it, if it stays away until the next look.
    async fn look_for_missing(&self, turn: &mut Turn, stems: &[String]) -> Result<Vec<Finding>, FileError> {
        let functions = turn.functions.clone().unwrap_or_default();
        let missing: Vec<_> = functions
            .iter()
            .filter(|(stem, id)| {
                !stems.contains(stem) && !turn.behind.iter().any(|(behind, _)| behind == *id)
            })
            .collect();
        let all_were_seen = missing.iter().all(|(stem, _)| turn.settled.contains_key(*stem));
        if stems.is_empty() && missing.len() > 1 && all_were_seen {
            let file = self.tree.cards().display().to_string();
            turn.settled.clear();
            for (stem, id) in missing {
                self.write(turn, *id, Some(stem.clone())).await?;
            }
            let reason =
                "every metadata file was gone at once, which deletes nothing: they are written again; \
                          delete functions one by one, or through the API"
                    .to_owned();
            return Ok(vec![Finding::Refused { file, reason }]);
        }
        let mut findings = Vec::new();
        for (stem, id) in missing {
            match turn.settled.get(stem) {
                Some(Settled::Seen(_) | Settled::Written) => {
                    turn.settled.insert(stem.clone(), Settled::Missing);
                }

                Some(Settled::Missing) => {
                    turn.settled.remove(stem);
                    findings.push(Finding::Edit(Edit::Delete { id: *id, name: stem.clone() }));
                }
                Some(Settled::Lost) => {}
                None => findings.push(self.restore(turn, *id, stem).await?),
            }
        }
        Ok(findings)
    }

    async fn restore(&self, turn: &mut Turn, id: FunctionId, stem: &str) -> Result<Finding, FileError> {
        self.write(turn, id, Some(stem.to_owned())).await?;
        let (tree, name) = (self.tree.clone(), stem.to_owned());
        if blocking(move || Ok(tree.card(&name).exists())).await? {
            return Ok(Finding::Restored(stem.to_owned()));
        }
        turn.settled.insert(stem.to_owned(), Settled::Lost);
        let reason = "the function's stored code is lost; deploy it again".to_owned();
        Ok(Finding::Refused { file: self.tree.card(stem).display().to_string(), reason })
    }
}

fn rests(stamp: &Stamp, now: OffsetDateTime) -> bool {
    // A clock that was set back must not hold off edits for ever.
    !(0..i128::try_from(REST.as_nanos()).unwrap_or_default())
        .contains(&(now.unix_timestamp_nanos() - stamp.newest))
}

fn told(error: &FileError) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

fn found(tree: &Tree, stem: &str, name: &str) -> Result<Found, String> {
    let path = tree.card(stem);
    let is_file = metadata(&path).is_ok_and(|found| found.is_some_and(|found| found.is_file()));
    if !is_file {
        return Err("it is no plain file, and links are refused".to_owned());
    }
    let members = card::read(&read_file(&path, CARD_LIMIT)?, name)?;
    let files = files(&tree.code(stem)).map_err(|why| format!("its code is refused: {why}"))?;
    Ok(Found { members, files: files.filter(|files| !files.is_empty()) })
}

/// The text of the member `code`.
fn said_code(members: &Members) -> Result<Option<&str>, String> {
    match members.get(CODE) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some(text)),
        Some(_) => Err("its member \"code\" is no text".to_owned()),
    }
}

/// What these files are as code; one file is its text.
fn code_of(files: &[Source]) -> Result<NewCode, String> {
    if let [file] = files
        && let Ok(text) = String::from_utf8(read_file(&file.path, file.size)?)
    {
        return Ok(NewCode::Source(text));
    }
    pack(files).map(|archive| NewCode::Zip(archive.into()))
}

fn new_function(tree: &Tree, stem: &str) -> Result<Edit, String> {
    let Found { members, files } = found(tree, stem, stem)?;
    let of_files = files.as_deref().map(code_of).transpose()?;
    let said = said_code(&members)?.map(|text| NewCode::Source(text.to_owned()));
    let code = match (of_files, said) {
        (Some(files), Some(said)) if files != said => return Err(contradiction(tree, stem)),
        (Some(files), _) => Some(files),
        (None, said) => said,
    };
    Ok(Edit::Create { name: stem.to_owned(), members: card::request(&members), code })
}

fn contradiction(tree: &Tree, stem: &str) -> String {
    format!(
        "its member \"code\" and the files in {} are different; change one of them, or remove the member",
        tree.code(stem).display()
    )
}

/// What is different from what is stored; `None` if nothing is.
fn change(
    tree: &Tree,
    stem: &str,
    snapshot: &FunctionSnapshot,
    stored: &[u8],
) -> Result<Option<Edit>, String> {
    let (function, layout) = (&snapshot.function, &snapshot.latest.layout);
    let Found { members, files } = found(tree, stem, function.name.as_str())?;
    let text = source_text(layout, stored);
    let shown = card::render(snapshot, text).map_err(|error| error.to_string())?;
    let shown = card::read(shown.as_bytes(), function.name.as_str())?;
    let said = said_code(&members)?.filter(|said| Some(*said) != text);
    let of_files = match &files {
        Some(files) if !is_same_code(layout, stored, files) => Some(repack(layout, files)?),
        _ => None,
    };
    let code = match (of_files, said.map(|text| NewCode::Source(text.to_owned()))) {
        (Some(files), Some(said)) if files != said => return Err(contradiction(tree, stem)),
        (Some(files), _) => Some(files),
        (None, said) => said,
    };
    let members = card::changes(&shown, &members);
    if members.is_empty() && code.is_none() {
        return Ok(None);
    }
    Ok(Some(Edit::Change { id: function.id, name: function.name.to_string(), members, code }))
}

/// A function that was an archive stays one.
fn repack(layout: &CodeLayout, files: &[Source]) -> Result<NewCode, String> {
    match layout {
        CodeLayout::SingleFile => code_of(files),
        CodeLayout::Zip => pack(files).map(|archive| NewCode::Zip(archive.into())),
    }
}
