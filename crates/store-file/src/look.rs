//! What somebody has edited.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use impuls_domain::{CodeLayout, FunctionId, RevisionId};
use impuls_store::{FunctionKey, FunctionSnapshot};
use time::OffsetDateTime;

use crate::card::{self, CODE, Members};
use crate::error::FileError;
use crate::pack::pack;
use crate::scan::{CARD_LIMIT, Source, Stamps, files, metadata, read_file};
use crate::store::{FileStore, Shared, Task, Turn, blocking};
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
        /// What the files were compared with; a change of anything newer is not what somebody wants.
        revision: RevisionId,
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
    /// A deploy has written this function's files anew after they were noticed, and before they were compared.
    Overtaken(String),
    /// A function's files could not be written; they will be when the cause is gone.
    Behind {
        /// Of this one.
        name: String,
        /// What failed.
        reason: String,
    },
}

/// Files that are not as they were when they were compared with the other store, or are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    stem: String,
    /// What they looked like; `None` if there is no metadata file any more.
    stamps: Option<Stamps>,
    /// Whether they are as they were written.
    is_ours: bool,
}

impl Touched {
    /// What the files are called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.stem
    }
}

/// What a look has found.
#[derive(Debug, PartialEq)]
pub struct Look {
    /// What happened; no edits are among it.
    pub findings: Vec<Finding>,
    /// Where edits may be.
    pub touched: Vec<Touched>,
}

/// What is known of a function's files.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Settled {
    /// They were compared with the other store when they were like this.
    Seen(Stamps),
    /// They were noticed, or written, when they were like this, and not compared since.
    Known(Stamps),
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

    /// What is not as it was when it was [compared](Self::edit_of); after the first look that is everything. Files that
    /// were written within the last second before `now` are left for the next look. Writes files that could not be
    /// written before.
    pub async fn look(&self, now: OffsetDateTime) -> Result<Look, FileError> {
        let shared = &self.0;
        let mut turn = shared.turn.lock().await;
        shared.read(&mut turn).await?;
        let mut findings = shared.catch_up(&mut turn).await;
        let tree = shared.tree.clone();
        let stems = blocking(move || tree.stems().map_err(FileError::io(&tree.cards()))).await?;
        let stamped = shared.stamps(stems.clone()).await?;
        let (missing, of_missing) = shared.missing(&mut turn, &stems.into_iter().collect()).await;
        findings.extend(of_missing);
        let gone = |stem| Touched { stem, stamps: None, is_ours: false };
        let mut touched: Vec<_> = missing.into_iter().map(gone).collect();
        for (stem, stamps) in stamped {
            let (is_seen, is_ours) = match turn.settled.get(&stem) {
                Some(Settled::Seen(seen)) => (*seen == stamps, false),
                Some(Settled::Known(known)) => (false, *known == stamps),
                Some(Settled::Missing | Settled::Lost) | None => (false, false),
            };
            if !is_seen && stamps.card.is_some() && rests(&stamps, now) {
                turn.settled.insert(stem.clone(), Settled::Known(stamps));
                touched.push(Touched { stem, stamps: Some(stamps), is_ours });
            }
        }
        Ok(Look { findings, touched })
    }

    /// What somebody wants who has touched these files, compared with the other store as it is now; to be called
    /// immediately before that is done. Said once: until the files change again, or [`look_again`](Self::look_again).
    /// `None` if that is nothing, or if they were changed since the look, which the next one will find. After `Err` the
    /// next look finds them as well.
    pub async fn edit_of(&self, touched: &Touched) -> Result<Option<Finding>, FileError> {
        let mut turn = self.0.turn.lock().await;
        match touched.stamps {
            Some(stamps) => self.0.compare(&mut turn, touched, stamps).await,
            None => Ok(self.0.deletion(&mut turn, &touched.stem).map(Finding::Edit)),
        }
    }

    /// Has the next look find these files again, for whoever could not do what they want.
    pub async fn look_again(&self, touched: &Touched) {
        let mut turn = self.0.turn.lock().await;
        let is_function = turn.functions.iter().any(|functions| functions.contains_key(&touched.stem));
        let again = match (touched.stamps, turn.settled.get(&touched.stem)) {
            (Some(stamps), Some(Settled::Seen(seen))) if *seen == stamps => Settled::Known(stamps),
            (None, None) if is_function => Settled::Missing,
            _ => return,
        };
        turn.settled.insert(touched.stem.clone(), again);
    }
}

impl Shared {
    async fn catch_up(&self, turn: &mut Turn) -> Vec<Finding> {
        let mut findings = Vec::new();
        for task in std::mem::take(&mut turn.behind) {
            if let Err(error) = self.write(turn, &task).await {
                findings.push(Finding::Behind { name: task.stem.clone(), reason: told(&error) });
                turn.is_behind(task);
            }
        }
        findings
    }

    async fn compare(
        &self,
        turn: &mut Turn,
        touched: &Touched,
        stamps: Stamps,
    ) -> Result<Option<Finding>, FileError> {
        let stem = touched.name();
        let id = turn.functions.as_ref().and_then(|functions| functions.get(stem).copied());
        if turn.behind.iter().any(|task| Some(task.id) == id) {
            return Ok(None);
        }
        let now = self.stamps(vec![stem.to_owned()]).await?.pop().map(|(_, now)| now);
        if now != Some(stamps) {
            let is_anew = now.is_some_and(|now| now.card.is_some() && now == turn.known(stem));
            return Ok((is_anew && !touched.is_ours).then(|| Finding::Overtaken(stem.to_owned())));
        }
        let snapshot = match id {
            Some(id) => self.other.find_function(&FunctionKey::Id(id)).await?,
            None => None,
        };
        let edit = match snapshot {
            Some(snapshot) => self.changed(stem, snapshot, turn.shown.get(stem)).await?,
            None => self.created(stem).await?,
        };
        turn.settled.insert(stem.to_owned(), Settled::Seen(stamps));
        if let (Ok(None), Some(id), true) = (&edit, id, turn.shown.contains_key(stem)) {
            // What stayed was no edit after all.
            self.write(turn, &Task::careful(id, stem.to_owned())).await?;
        }
        let refused = |reason| Finding::Refused { file: self.tree.card(stem).display().to_string(), reason };
        Ok(match edit {
            Ok(edit) => edit.map(Finding::Edit),
            Err(reason) => Some(refused(reason)),
        })
    }

    /// The wish of whoever has removed a metadata file, if it is still away.
    fn deletion(&self, turn: &mut Turn, stem: &str) -> Option<Edit> {
        let id = turn.functions.as_ref()?.get(stem).copied()?;
        let is_missing = matches!(turn.settled.get(stem), Some(Settled::Missing));
        if !is_missing || metadata(&self.tree.card(stem)).is_ok_and(|found| found.is_some()) {
            return None;
        }
        // Files of a function that is still there then come back.
        turn.settled.remove(stem);
        Some(Edit::Delete { id, name: stem.to_owned() })
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

    /// What is different; `shown` is what the metadata file showed before it was edited, where that is not the newest.
    async fn changed(
        &self,
        stem: &str,
        snapshot: FunctionSnapshot,
        shown: Option<&FunctionSnapshot>,
    ) -> Result<Result<Option<Edit>, String>, FileError> {
        let Some(code) = self.code(&snapshot).await? else {
            return Ok(Err("the function's stored code is lost; deploy it again".to_owned()));
        };
        let shown = match shown {
            Some(shown) => Some((shown.clone(), self.code(shown).await?.unwrap_or_default())),
            None => None,
        };
        let (tree, stem) = (self.tree.clone(), stem.to_owned());
        blocking(move || Ok(change(&tree, &stem, &Stored { snapshot, code }, shown))).await
    }

    /// Functions whose metadata file is gone: deleted by somebody who has seen it, if it stays away until the next look.
    async fn missing(&self, turn: &mut Turn, stems: &HashSet<String>) -> (Vec<String>, Vec<Finding>) {
        let functions = turn.functions.clone().unwrap_or_default();
        // What somebody made and removed again.
        turn.settled.retain(|stem, _| stems.contains(stem) || functions.contains_key(stem));
        let missing: Vec<_> = functions
            .into_iter()
            .filter(|(stem, id)| !stems.contains(stem) && turn.behind.iter().all(|task| task.id != *id))
            .filter(|(stem, _)| !matches!(turn.settled.get(stem), Some(Settled::Lost)))
            .collect();
        let all_were_seen = missing.iter().all(|(stem, _)| turn.settled.contains_key(stem));
        if stems.is_empty() && missing.len() > 1 && all_were_seen {
            return (Vec::new(), self.restore_all(turn, missing).await);
        }
        let (mut deleted, mut findings) = (Vec::new(), Vec::new());
        for (stem, id) in missing {
            match turn.settled.get(&stem) {
                Some(Settled::Seen(_) | Settled::Known(_)) => {
                    turn.settled.insert(stem, Settled::Missing);
                }
                Some(Settled::Missing) => deleted.push(stem),
                Some(Settled::Lost) => {}
                None => findings.push(self.restore(turn, Task::careful(id, stem)).await),
            }
        }
        (deleted, findings)
    }

    async fn restore_all(&self, turn: &mut Turn, missing: Vec<(String, FunctionId)>) -> Vec<Finding> {
        for (stem, id) in missing {
            let task = Task::careful(id, stem);
            if self.write(turn, &task).await.is_err() {
                turn.is_behind(task);
            }
        }
        let reason = "every metadata file was gone at once, which deletes nothing: they are written again; \
                      delete functions one by one, or through the API"
            .to_owned();
        vec![Finding::Refused { file: self.tree.cards().display().to_string(), reason }]
    }

    async fn restore(&self, turn: &mut Turn, task: Task) -> Finding {
        let name = task.stem.clone();
        if let Err(error) = self.write(turn, &task).await {
            turn.is_behind(task);
            return Finding::Behind { name, reason: told(&error) };
        }
        let card = self.tree.card(&name);
        if metadata(&card).is_ok_and(|found| found.is_some()) {
            return Finding::Restored(name);
        }
        turn.settled.insert(name, Settled::Lost);
        let reason = "the function's stored code is lost; deploy it again".to_owned();
        Finding::Refused { file: card.display().to_string(), reason }
    }
}

fn rests(stamps: &Stamps, now: OffsetDateTime) -> bool {
    // A clock that was set back must not hold off edits for ever.
    !(0..i128::try_from(REST.as_nanos()).unwrap_or_default())
        .contains(&(now.unix_timestamp_nanos() - stamps.newest()))
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

/// A function as the other store has it.
struct Stored {
    snapshot: FunctionSnapshot,
    code: Bytes,
}

/// What is different from what is stored; `None` if nothing is. A metadata file is compared with what it showed.
fn change(
    tree: &Tree,
    stem: &str,
    stored: &Stored,
    shown: Option<(FunctionSnapshot, Bytes)>,
) -> Result<Option<Edit>, String> {
    let Stored { snapshot, code } = stored;
    let (function, layout) = (&snapshot.function, &snapshot.latest.layout);
    let name = function.name.as_str();
    let Found { members, files } = found(tree, stem, name)?;
    let (shown, shown_code) = shown.as_ref().map_or((snapshot, code), |(shown, code)| (shown, code));
    let text = source_text(&shown.latest.layout, shown_code);
    let card = card::render(shown, text).map_err(|error| error.to_string())?;
    let card = card::read(card.as_bytes(), shown.function.name.as_str())?;
    let said =
        said_code(&members)?.filter(|said| Some(*said) != text && Some(*said) != source_text(layout, code));
    let of_files = match &files {
        Some(files) if !is_same_code(layout, code, files) => Some(repack(layout, files)?),
        _ => None,
    };
    let code = match (of_files, said.map(|text| NewCode::Source(text.to_owned()))) {
        (Some(files), Some(said)) if files != said => return Err(contradiction(tree, stem)),
        (Some(files), _) => Some(files),
        (None, said) => said,
    };
    let members = card::changes(&card, &members);
    if members.is_empty() && code.is_none() {
        return Ok(None);
    }
    let (id, name, revision) = (function.id, function.name.to_string(), snapshot.latest.id);
    Ok(Some(Edit::Change { id, name, revision, members, code }))
}

/// A function that was an archive stays one.
fn repack(layout: &CodeLayout, files: &[Source]) -> Result<NewCode, String> {
    match layout {
        CodeLayout::SingleFile => code_of(files),
        CodeLayout::Zip => pack(files).map(|archive| NewCode::Zip(archive.into())),
    }
}
