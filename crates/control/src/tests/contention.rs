//! What happens when another server on the same store deploys the same function at the same time.

use std::sync::atomic::AtomicUsize;

use impuls_artifacts::{ArtifactStore as _, digest_of};
use impuls_domain::{ArtifactDigest, Function};
use impuls_store::{FunctionKey, FunctionPage, FunctionStore, ListedFunctions, StoreError};

use super::*;

/// A store whose next so many deploys come too late.
struct Late {
    store: Arc<SqliteStore>,
    conflicts: AtomicUsize,
}

#[async_trait]
impl FunctionStore for Late {
    async fn create_function(&self, function: &Function, revision: &Revision) -> Result<(), StoreError> {
        self.store.create_function(function, revision).await
    }

    async fn deploy_revision(
        &self,
        was: &Function,
        is: &Function,
        revision: &Revision,
    ) -> Result<(), StoreError> {
        let left =
            self.conflicts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            return Err(StoreError::Conflict);
        }
        self.store.deploy_revision(was, is, revision).await
    }

    async fn find_function(&self, key: &FunctionKey) -> Result<Option<FunctionSnapshot>, StoreError> {
        self.store.find_function(key).await
    }

    async fn list_functions(&self, page: FunctionPage) -> Result<ListedFunctions, StoreError> {
        self.store.list_functions(page).await
    }

    async fn count_functions(&self) -> Result<u64, StoreError> {
        self.store.count_functions().await
    }

    async fn delete_function(&self, id: FunctionId) -> Result<bool, StoreError> {
        self.store.delete_function(id).await
    }
}

/// Deploys once while the store refuses so often, and returns what became of it.
async fn deploy_against(conflicts: usize) -> (Result<FunctionSnapshot, ControlError>, usize) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&folder.path().join("metadata.db")).await.unwrap());
    let late = Arc::new(Late { store: store.clone(), conflicts: AtomicUsize::new(conflicts) });
    let artifacts = Arc::new(LocalArtifacts::open(&folder.path().join("artifacts")).unwrap());
    let notes = Arc::new(Notes::default());
    let stores = Stores {
        functions: late,
        versions: store.clone(),
        invocations: store.clone(),
        queue: store.clone(),
        schedules: store.clone(),
        clock: store,
    };
    let control = Control::new(stores, artifacts, notes.clone());
    control.create_function(CALLER, new("f", "1")).await.unwrap();
    let deployed = control.update_function(CALLER, &reference("f"), code("2")).await;
    let activated = notes.activated.lock().len();
    (deployed, activated)
}

#[tokio::test]
async fn a_deploy_that_comes_too_late_begins_again() {
    let (deployed, activated) = deploy_against(3).await;
    assert_eq!(deployed.unwrap().function.latest_version, version(2));
    assert_eq!(activated, 2, "only what was stored reaches calls");
}

/// Deploys while somebody else holds the function for longer than code is sure to be kept, and does something meanwhile.
async fn deploy_late(
    meanwhile: impl AsyncFnOnce(&LocalArtifacts, ArtifactDigest),
) -> (Bench, Result<FunctionSnapshot, ControlError>) {
    let bench = bench().await;
    let first = bench.control.create_function(CALLER, new("f", "1")).await.unwrap();
    let guard = bench.control.locks.lock(first.function.id).await;
    let control = bench.control.clone();
    let deploying =
        tokio::spawn(async move { control.update_function(CALLER, &reference("f"), code("2")).await });
    let artifacts = LocalArtifacts::open(&bench._folder.path().join("artifacts")).unwrap();
    let put = digest_of(b"2");
    while artifacts.get(&put).await.is_err() {
        tokio::task::yield_now().await;
    }
    meanwhile(&artifacts, put).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3_600)).await;
    tokio::time::resume();
    drop(guard);
    let deployed = deploying.await.unwrap();
    (bench, deployed)
}

#[tokio::test]
async fn a_deploy_that_waited_for_long_puts_its_code_again() {
    let mut put_at = None;
    let at = async |artifacts: &LocalArtifacts, digest| {
        let kept = artifacts.list(None, 10).await.unwrap();
        kept.into_iter().find(|kept| kept.digest == digest).unwrap().at
    };
    let (bench, deployed) = deploy_late(async |artifacts, digest| {
        let first = at(artifacts, digest).await;
        // Until the file system's clock has moved on: it ticks every few milliseconds.
        loop {
            let other = artifacts.put(bytes::Bytes::from_static(b"other")).await.unwrap();
            if at(artifacts, other).await > first {
                break;
            }
        }
        put_at = Some(first);
    })
    .await;
    let artifacts = LocalArtifacts::open(&bench._folder.path().join("artifacts")).unwrap();
    let digest = deployed.unwrap().latest.artifact;
    assert!(at(&artifacts, digest).await > put_at.unwrap());
}

#[tokio::test]
async fn a_deploy_whose_code_was_collected_is_refused() {
    let (bench, deployed) = deploy_late(async |artifacts, digest| {
        assert!(artifacts.delete(&digest).await.unwrap());
    })
    .await;
    assert!(matches!(deployed, Err(ControlError::Contended(_))), "{deployed:?}");
    assert_eq!(bench.notes.activated.lock().len(), 1);
}

#[tokio::test]
async fn a_deploy_gives_up_after_a_bounded_number_of_attempts() {
    let (deployed, activated) = deploy_against(usize::MAX).await;
    assert!(matches!(deployed, Err(ControlError::Contended(_))));
    assert_eq!(activated, 1);
}

#[tokio::test]
async fn a_change_of_what_is_not_the_newest_any_more_is_refused() {
    let bench = bench().await;
    let first = bench.control.create_function(CALLER, new("f", "1")).await.unwrap();
    let second = bench.update(code("2")).await.unwrap();
    let late = FunctionChange { expected: Some(first.latest.id), ..code("3") };
    let refused = bench.update(late.clone()).await.unwrap_err();
    assert!(matches!(refused, ControlError::Contended(_)) && refused.is_retryable(), "{refused:?}");
    let known = FunctionChange { expected: Some(second.latest.id), ..late };
    assert_eq!(bench.update(known).await.unwrap().function.latest_version, version(3));
}
