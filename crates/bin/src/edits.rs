//! Deploys what somebody has edited in the tree of functions, through the use cases of every other deploy.
//!
//! What is refused is said in the log, with the file and the reason, once; what served before goes on serving.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use impuls_api::wire::request::FunctionRequest;
use impuls_control::{Control, ControlError, FunctionChange, FunctionRef};
use impuls_domain::{Caller, FunctionId, FunctionState, RevisionId};
use impuls_store_file::{Edit, FileError, FileStore, Finding, NewCode, Touched};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::task::JoinSet;

/// How long the tree rests between two looks. Polling works on every file system, shared ones included, and sees what was
/// edited while no server was there.
const PAUSE: Duration = Duration::from_secs(1);
/// Looking takes at most one part in so many of the time.
const SHARE: u32 = 20;

/// The tree, and who deploys.
pub(crate) struct Edits {
    pub(crate) tree: FileStore,
    pub(crate) control: Arc<Control>,
}

impl Edits {
    /// Writes what an earlier server could not, and then looks until the task is dropped. To be called before anybody is
    /// told that this server is there: what is edited from then on is an edit.
    pub(crate) async fn start(self) -> JoinSet<()> {
        if let Err(error) = self.tree.recover().await {
            say_failure(&error);
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(self.run());
        tasks
    }

    async fn run(self) {
        let (mut failing, mut waiting) = (false, HashSet::new());
        loop {
            let began = tokio::time::Instant::now();
            let looked = self.tree.look(OffsetDateTime::now_utc()).await;
            let took = began.elapsed();
            failing = match looked {
                Ok(look) => {
                    say(look.findings);
                    for touched in &look.touched {
                        self.take(touched, &mut waiting).await;
                    }
                    false
                }
                Err(error) => {
                    if !failing {
                        say_failure(&error);
                    }
                    true
                }
            };
            tokio::time::sleep(PAUSE.max(took * SHARE)).await;
        }
    }

    /// Reads one edit and deploys it; `waiting` are those of whom has been said that this is tried again.
    async fn take(&self, touched: &Touched, waiting: &mut HashSet<String>) {
        let failed = match self.tree.edit_of(touched).await {
            Ok(Some(Finding::Edit(edit))) => self.apply(touched, edit).await,
            Ok(other) => {
                say(other.into_iter().collect());
                None
            }
            Err(error) => Some(error.into()),
        };
        let name = touched.name();
        match failed {
            Some(error) if waiting.insert(name.to_owned()) => {
                tracing::warn!(function = name, "an edit cannot be deployed now; trying again: {error:#}");
            }
            Some(_) => {}
            None => {
                waiting.remove(name);
            }
        }
    }

    /// Returns why the edit has to be tried again, if it has to.
    async fn apply(&self, touched: &Touched, edit: Edit) -> Option<anyhow::Error> {
        let (name, deployed) = match edit {
            Edit::Create { name, members, code } => {
                let created = self.create(&name, members, code).await;
                (name, created)
            }
            Edit::Change { id, name, revision, members, code } => {
                let changed = self.change((id, revision), members, code).await;
                (name, changed)
            }
            Edit::Delete { id, name } => {
                let deleted = self.control.delete_function(&Caller::System, &FunctionRef::of(id)).await;
                (name, deleted.map(|_| "deleted: its metadata file is gone").map_err(Into::into))
            }
        };
        let again = |error: &ControlError| error.is_retryable();
        match deployed {
            Ok(what) => tracing::info!(function = name, "an edit of its files: {what}"),
            Err(error) if error.downcast_ref().is_some_and(again) => {
                self.tree.look_again(touched).await;
                return Some(error);
            }
            Err(error) => {
                let file = format!("functions/metadata/{name}.json");
                tracing::warn!(file, function = name, "an edit is refused: {error:#}");
            }
        }
        None
    }

    async fn create(
        &self,
        name: &str,
        mut members: Map<String, Value>,
        code: Option<NewCode>,
    ) -> anyhow::Result<&'static str> {
        members.insert("name".to_owned(), name.into());
        let (fields, archive) = request(members, code)?;
        let resolve = |runtime: &_| self.control.resolve_runtime(&Caller::System, runtime).map(drop);
        let new =
            fields.into_new(archive, resolve).map_err(|problem| anyhow::anyhow!("{}", problem.detail()))?;
        let created = self.control.create_function(&Caller::System, new).await?;
        match created.function.state {
            FunctionState::Active => Ok("deployed as a new function"),
            FunctionState::Error { failure, .. } => bail!("it is deployed, and cannot be called: {failure}"),
        }
    }

    async fn change(
        &self,
        (function, revision): (FunctionId, RevisionId),
        members: Map<String, Value>,
        code: Option<NewCode>,
    ) -> anyhow::Result<&'static str> {
        let (fields, archive) = request(members, code)?;
        let change =
            fields.into_change(archive).map_err(|problem| anyhow::anyhow!("{}", problem.detail()))?;
        let change = FunctionChange { expected: Some(revision), ..change };
        let changed =
            self.control.update_function(&Caller::System, &FunctionRef::of(function), change).await?;
        match changed.function.state {
            FunctionState::Active => Ok("deployed as a new version"),
            FunctionState::Error { failure, serving: true } => {
                bail!("{failure}; the version before goes on serving")
            }
            FunctionState::Error { failure, serving: false } => bail!("it cannot be called: {failure}"),
        }
    }
}

/// What the HTTP API would have been sent.
fn request(
    mut members: Map<String, Value>,
    code: Option<NewCode>,
) -> anyhow::Result<(FunctionRequest, Option<Bytes>)> {
    let archive = match code {
        Some(NewCode::Source(text)) => {
            members.insert("code".to_owned(), text.into());
            None
        }
        Some(NewCode::Zip(archive)) => Some(archive),
        None => None,
    };
    let fields = serde_json::from_value(Value::Object(members));
    Ok((fields.context("a member has a value that it cannot have")?, archive))
}

fn say(findings: Vec<Finding>) {
    let restored = findings.iter().filter(|finding| matches!(finding, Finding::Restored(_))).count();
    if restored > 0 {
        tracing::info!(functions = restored, "wrote the files of functions that had none");
    }
    for finding in findings {
        match finding {
            Finding::Refused { file, reason } => tracing::warn!(file, "an edit is refused: {reason}"),
            Finding::Behind { name, reason } => {
                tracing::warn!(function = name, "the files of a function are not up to date: {reason}");
            }
            Finding::Overtaken(name) => tracing::info!(
                function = name,
                "a deploy came after an edit of its files, before that was deployed, and has written them anew"
            ),
            // Edits are deployed, not told.
            Finding::Edit(_) | Finding::Restored(_) => {}
        }
    }
}

fn say_failure(error: &FileError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "cannot look at the folder of functions; trying again"
    );
}
