//! Deploys what somebody has edited in the tree of functions, through the use cases of every other deploy.
//!
//! What is refused is said in the log, with the file and the reason, once; what served before goes on serving.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use impuls_api::wire::request::FunctionRequest;
use impuls_control::{Control, FunctionRef};
use impuls_domain::{Caller, FunctionState};
use impuls_store_file::{Edit, FileError, FileStore, Finding, NewCode};
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
        let mut failing = false;
        loop {
            let began = tokio::time::Instant::now();
            let looked = self.tree.look(OffsetDateTime::now_utc()).await;
            let took = began.elapsed();
            failing = match looked {
                Ok(findings) => {
                    self.take(findings).await;
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

    async fn take(&self, findings: Vec<Finding>) {
        let restored = findings.iter().filter(|finding| matches!(finding, Finding::Restored(_))).count();
        if restored > 0 {
            tracing::info!(functions = restored, "wrote the files of functions that had none");
        }
        for finding in findings {
            match finding {
                Finding::Edit(edit) => self.apply(edit).await,
                Finding::Refused { file, reason } => tracing::warn!(file, "an edit is refused: {reason}"),
                Finding::Behind { name, reason } => {
                    tracing::warn!(function = name, "the files of a function are not up to date: {reason}");
                }
                Finding::Restored(_) => {}
            }
        }
    }

    async fn apply(&self, edit: Edit) {
        let (name, deployed) = match edit {
            Edit::Create { name, members, code } => {
                let created = self.create(&name, members, code).await;
                (name, created)
            }
            Edit::Change { id, name, members, code } => {
                let changed = self.change(FunctionRef::of(id), members, code).await;
                (name, changed)
            }
            Edit::Delete { id, name } => {
                let deleted = self.control.delete_function(&Caller::System, &FunctionRef::of(id)).await;
                (name, deleted.map(|_| "deleted: its metadata file is gone").map_err(Into::into))
            }
        };
        match deployed {
            Ok(what) => tracing::info!(function = name, "an edit of its files: {what}"),
            Err(error) => {
                let file = format!("functions/metadata/{name}.json");
                tracing::warn!(file, function = name, "an edit is refused: {error:#}");
            }
        }
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
        function: FunctionRef,
        members: Map<String, Value>,
        code: Option<NewCode>,
    ) -> anyhow::Result<&'static str> {
        let (fields, archive) = request(members, code)?;
        let change =
            fields.into_change(archive).map_err(|problem| anyhow::anyhow!("{}", problem.detail()))?;
        let changed = self.control.update_function(&Caller::System, &function, change).await?;
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

fn say_failure(error: &FileError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "cannot look at the folder of functions; trying again"
    );
}
