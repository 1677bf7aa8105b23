//! What a controller needs of workers at a deploy: they have the sandboxes in which code is built and loaded.

use std::time::Duration;

use impuls_dispatch::{OnOutput, RunError};
use impuls_domain::{Built, Deadline, FunctionName, LoadFailure, Revision};
use impuls_store::StoreError;
use tokio::time::Instant;

use crate::convert::{CodeHead, Failed, WireBuilt, WireChecked, chain};
use crate::protocol::{Frames, ProtocolError, Sending, json, kind, path};
use crate::remote::exchange::text;
use crate::remote::{RemoteWorkers, Wanted, key};
use crate::ring;
use crate::row::WireRevision;

/// How long a build may take, packages that are fetched included, before its worker is given up. Workers have a bound of
/// their own, which is shorter.
const BUILD_TIMEOUT: Duration = Duration::from_secs(3_600);
/// How long loading code once may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);
/// How often something is asked that has certainly not begun.
const TRIES: usize = 2;

/// Why no worker has done it.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// There is none that could.
    #[error(transparent)]
    NoWorker(RunError),
    /// It did not do it, or did not say so.
    #[error("worker {worker} has not done it: {why}")]
    Failed {
        /// Which.
        worker: String,
        /// What it said.
        why: String,
    },
    /// The revision cannot be written down.
    #[error("the revision cannot be sent")]
    Revision(#[from] StoreError),
}

/// What loading code once came to: after how long there was a sandbox, and why the code cannot be called.
pub type Loaded = (Option<Duration>, Option<LoadFailure>);

impl RemoteWorkers {
    /// Builds a revision's source on a worker, unless it runs as it is or the same was built before. Equal sources go to the
    /// same worker, which builds each once.
    pub async fn build(
        &self,
        function: &FunctionName,
        revision: &Revision,
        log: &OnOutput,
    ) -> Result<Built, Unreached> {
        let key = ring::hash(revision.artifact.as_bytes());
        let built: WireBuilt =
            self.deploy(path::BUILD, (key, BUILD_TIMEOUT), (function, revision), log).await?;
        Ok(built.into())
    }

    /// Loads a revision's code once in a sandbox that is thrown away.
    pub async fn check(&self, function: &FunctionName, revision: &Revision) -> Result<Loaded, Unreached> {
        let silent = OnOutput::new(|_, _| {});
        let place = (key(revision.function), CHECK_TIMEOUT);
        let checked: WireChecked = self.deploy(path::CHECK, place, (function, revision), &silent).await?;
        Ok((checked.sandbox_after_us.map(Duration::from_micros), checked.failure.map(Into::into)))
    }

    async fn deploy<T: serde::de::DeserializeOwned>(
        &self,
        path: &'static str,
        (key, within): (u64, Duration),
        (function, revision): (&FunctionName, &Revision),
        log: &OnOutput,
    ) -> Result<T, Unreached> {
        let head = CodeHead { function: function.to_string(), revision: WireRevision::of(revision)? };
        let wanted = Wanted { key, runtime: revision.config.runtime.as_str(), stays: true };
        let by = Deadline::at((Instant::now() + within).into_std());
        let mut tried = Vec::new();
        loop {
            let peer = self.find(&wanted, &tried, by).await.map_err(Unreached::NoWorker)?;
            let failed = |why| Unreached::Failed { worker: peer.id().to_owned(), why };
            let _counted = peer.count();
            let response = match peer.ask(path, Sending::whole([json(kind::HEAD, &head)])).await {
                Ok(response) => response,
                Err(missed) => {
                    let has_begun = matches!(missed, crate::client::Missed::Lost(_));
                    if has_begun || tried.len() + 1 >= TRIES {
                        return Err(failed(missed.to_string()));
                    }
                    tried.push(peer.clone());
                    continue;
                }
            };
            let mut frames = Frames::new(response.into_body());
            let answer = tokio::time::timeout(within, answer(&mut frames, log)).await;
            let answer = answer.map_err(|_| failed("it takes too long".to_owned()))?;
            return answer.map_err(failed);
        }
    }
}

async fn answer<T: serde::de::DeserializeOwned>(
    frames: &mut Frames<hyper::body::Incoming>,
    log: &OnOutput,
) -> Result<T, String> {
    loop {
        match frames.next().await.map_err(|error| chain(&error))? {
            Some((kind::TEXT, payload)) => {
                if let Some((stream, text)) = text(&payload) {
                    log.call(stream, text);
                }
            }
            Some((kind::ENDED, json)) => {
                return serde_json::from_slice(&json).map_err(|error| chain(&ProtocolError::from(error)));
            }
            Some((kind::FAILED, json)) => {
                let failed: Failed = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
                return Err(chain(&failed.error().0));
            }
            Some(_) => {}
            None => return Err("its answer ended before it was complete".to_owned()),
        }
    }
}
