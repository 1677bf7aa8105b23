//! The use cases over the real embedded back ends, with a rollout that only notes what it is told.

mod contention;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use impuls_artifacts::LocalArtifacts;
use impuls_domain::{
    AliasTarget, Built, Caller, CommandLine, Contract, FunctionId, FunctionName, FunctionState, LoadFailure,
    Qualifier, Revision, RuntimeName, Scope, VersionNumber,
};
use impuls_store_sqlite::SqliteStore;
use parking_lot::Mutex;

use crate::*;

const CALLER: &Caller = &Caller::LocalUser;

fn failure(class: &str) -> LoadFailure {
    LoadFailure { class: class.to_owned(), message: "no".to_owned(), file: None, line: None }
}

#[derive(Default)]
struct Notes {
    activated: Mutex<Vec<(String, u64)>>,
    removed: Mutex<Vec<FunctionId>>,
    is_broken: AtomicBool,
    is_unbuildable: AtomicBool,
    cannot_build: AtomicBool,
}

#[async_trait]
impl Rollout for Notes {
    fn resolve_runtime(&self, name: &RuntimeName) -> Result<RuntimeName, RuntimeRefusal> {
        match name.as_str() {
            "nodejs" | "nodejs20" => Ok("nodejs20".parse().unwrap()),
            "command" => Ok(name.clone()),
            _ => Err(RuntimeRefusal::Unknown { name: name.clone(), known: vec!["nodejs20".into()] }),
        }
    }

    fn contracts(&self, runtime: &RuntimeName) -> &'static [Contract] {
        if runtime.as_str() == "command" {
            &[Contract::Command]
        } else {
            &[Contract::Module, Contract::Scoped]
        }
    }

    fn source_file_names(&self, _: &Revision) -> Vec<String> {
        vec!["src/index.js".into(), "src/index.mjs".into()]
    }

    fn announce(&self, _: &FunctionName, _: Duration) -> Box<dyn Send> {
        Box::new(())
    }

    async fn build(
        &self,
        _: &FunctionName,
        revision: &Revision,
        log: &BuildLog,
    ) -> Result<Built, BuildUnavailable> {
        log.write("building\n");
        if self.cannot_build.load(Ordering::Relaxed) {
            return Err(BuildUnavailable("no sandbox".into()));
        }
        Ok(if self.is_unbuildable.load(Ordering::Relaxed) {
            Built::Failed(failure("BuildError"))
        } else {
            Built::Archive(revision.artifact)
        })
    }

    async fn check(&self, _: &FunctionName, revision: &Revision) -> Checked {
        assert!(matches!(revision.built, Built::Archive(_)), "only what was built is loaded");
        tokio::task::yield_now().await;
        let failure = self.is_broken.load(Ordering::Relaxed).then(|| failure("SyntaxError"));
        Checked { sandbox_after: Some(Duration::ZERO), failure }
    }

    async fn activate(&self, snapshot: &FunctionSnapshot) {
        let function = &snapshot.function;
        self.activated.lock().push((function.name.to_string(), function.latest_version.get()));
    }

    async fn remove(&self, id: FunctionId) {
        self.removed.lock().push(id);
    }
}

struct Bench {
    control: Arc<Control>,
    notes: Arc<Notes>,
    _folder: tempfile::TempDir,
}

async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&folder.path().join("metadata.db")).await.unwrap());
    let artifacts = Arc::new(LocalArtifacts::open(&folder.path().join("artifacts")).unwrap());
    let notes = Arc::new(Notes::default());
    let stores = Stores {
        functions: store.clone(),
        versions: store.clone(),
        invocations: store.clone(),
        queue: store.clone(),
        schedules: store.clone(),
        clock: store,
    };
    let control = Arc::new(Control::new(stores, artifacts, notes.clone()));
    Bench { control, notes, _folder: folder }
}

fn new(name: &str, code: &str) -> NewFunction {
    NewFunction {
        scope: Scope::default(),
        name: name.parse().unwrap(),
        runtime: "nodejs".parse().unwrap(),
        handler: "index.handler".parse().unwrap(),
        code: Code::Source(code.to_owned()),
        settings: Settings::default(),
        build_log: BuildLog::nobody(),
    }
}

fn reference(text: &str) -> FunctionRef {
    FunctionRef::parse(Scope::default(), text).unwrap()
}

fn code(text: &str) -> FunctionChange {
    FunctionChange { code: Some(Code::Source(text.to_owned())), ..FunctionChange::default() }
}

fn version(number: u64) -> VersionNumber {
    VersionNumber::new(number).unwrap()
}

impl Bench {
    /// A function `f` whose versions have these codes.
    async fn with_versions(codes: &[&str]) -> Self {
        let bench = bench().await;
        for (index, text) in codes.iter().enumerate() {
            if index == 0 {
                bench.control.create_function(CALLER, new("f", text)).await.unwrap();
            } else {
                bench.update(code(text)).await.unwrap();
            }
        }
        bench
    }

    async fn update(&self, change: FunctionChange) -> Result<FunctionSnapshot, ControlError> {
        self.control.update_function(CALLER, &reference("f"), change).await
    }

    async fn source(&self, qualifier: &Qualifier) -> String {
        let file = self.control.read_code(CALLER, &reference("f"), qualifier).await.unwrap();
        String::from_utf8(file.bytes.into()).unwrap()
    }

    async fn alias(&self, name: &str, targets: &[(u64, u32)]) -> Result<impuls_domain::Alias, ControlError> {
        let target = |&(number, weight): &(u64, u32)| AliasTarget { version: version(number), weight };
        let targets = targets.iter().map(target).collect();
        let new = NewAlias { name: name.parse().unwrap(), targets, description: String::new() };
        self.control.put_alias(CALLER, &reference("f"), new).await
    }
}

#[tokio::test]
async fn a_new_function_is_version_1_and_reaches_calls() {
    let bench = bench().await;
    let created = bench.control.create_function(CALLER, new("f", "1")).await.unwrap();
    assert_eq!(created.function.latest_version, VersionNumber::FIRST);
    assert_eq!(created.latest.config.runtime.as_str(), "nodejs20", "the alias is resolved");
    assert_eq!(*bench.notes.activated.lock(), [("f".to_owned(), 1)]);
    let by_id = reference(&created.function.id.to_string());
    assert_eq!(bench.control.get_function(CALLER, &by_id).await.unwrap(), created, "nothing is rounded");
    assert_eq!(bench.control.read_source(CALLER, &created).await.unwrap(), Some("1".to_owned()));
}

#[tokio::test]
async fn a_name_can_be_taken_only_once() {
    let bench = Bench::with_versions(&["1"]).await;
    let again = bench.control.create_function(CALLER, new("f", "2")).await;
    assert!(matches!(again, Err(ControlError::NameTaken(_))));
    let (a, b) = tokio::join!(
        bench.control.create_function(CALLER, new("g", "1")),
        bench.control.create_function(CALLER, new("g", "2")),
    );
    let refusal = [a, b].into_iter().find_map(Result::err).unwrap();
    assert!(matches!(refusal, ControlError::NameTaken(_)));
}

#[tokio::test]
async fn code_that_does_not_load_is_stored_in_state_error() {
    let bench = bench().await;
    bench.notes.is_broken.store(true, Ordering::Relaxed);
    let created = bench.control.create_function(CALLER, new("f", "(")).await.unwrap();
    assert!(!created.function.state.is_serving());
    bench.notes.is_broken.store(false, Ordering::Relaxed);
    let again = bench.update(code("(")).await.unwrap();
    assert_eq!(again.function.latest_version, version(2), "the same code is tried again");
    assert_eq!(again.function.state, FunctionState::Active);
}

#[tokio::test]
async fn code_that_cannot_be_called_does_not_replace_code_that_can() {
    let bench = Bench::with_versions(&["1"]).await;
    let good = bench.update(code("2")).await.unwrap();
    for (flag, class) in
        [(&bench.notes.is_unbuildable, "BuildError"), (&bench.notes.is_broken, "SyntaxError")]
    {
        flag.store(true, Ordering::Relaxed);
        let failed = bench.update(code(class)).await.unwrap();
        flag.store(false, Ordering::Relaxed);
        let expected = FunctionState::Error { failure: failure(class), serving: true };
        assert_eq!(failed.function.state, expected);
        assert_eq!(failed.latest, good.latest, "the version before serves");
    }
    let fixed = bench.update(code("2")).await.unwrap();
    assert_eq!((fixed.function.state, fixed.function.latest_version), (FunctionState::Active, version(3)));
}

#[tokio::test]
async fn code_that_was_never_built_is_replaced() {
    let bench = bench().await;
    bench.notes.is_unbuildable.store(true, Ordering::Relaxed);
    let first = bench.control.create_function(CALLER, new("f", "(")).await.unwrap();
    assert_eq!(first.latest.built, Built::Failed(failure("BuildError")));
    let second = bench.update(code("((")).await.unwrap();
    assert_eq!(
        second.function.state,
        FunctionState::Error { failure: failure("BuildError"), serving: false }
    );
    assert_eq!(second.function.latest_version, version(2));
}

#[tokio::test]
async fn a_build_that_cannot_be_made_changes_nothing() {
    let bench = Bench::with_versions(&["1"]).await;
    bench.notes.cannot_build.store(true, Ordering::Relaxed);
    assert!(matches!(bench.update(code("2")).await, Err(ControlError::Build(_))));
    let heard = Arc::new(Mutex::new(String::new()));
    let ear = heard.clone();
    let build_log = BuildLog::new(move |text| ear.lock().push_str(text));
    bench.notes.cannot_build.store(false, Ordering::Relaxed);
    let updated = bench.update(FunctionChange { build_log, ..code("2") }).await.unwrap();
    assert_eq!(updated.function.latest_version, version(2));
    assert_eq!(*heard.lock(), "building\n");
}

#[tokio::test]
async fn an_update_is_validated_like_a_creation() {
    let bench = Bench::with_versions(&["1"]).await;
    let runtime = FunctionChange { runtime: Some("cobol".parse().unwrap()), ..FunctionChange::default() };
    assert!(matches!(bench.update(runtime).await, Err(ControlError::Runtime(_))));
    assert!(matches!(bench.update(code("")).await, Err(ControlError::CodeEmpty)));
    let mut limit = FunctionChange::default();
    limit.settings.limits.memory_mib = Some(1);
    assert!(matches!(bench.update(limit).await, Err(ControlError::Limit(_))));
    let mut long = FunctionChange::default();
    long.settings.description = Some("x".repeat(1_025));
    assert!(matches!(bench.update(long).await, Err(ControlError::Description(1_025))));
    let zip = FunctionChange { code: Some(Code::Zip("PK".into())), ..FunctionChange::default() };
    assert!(matches!(bench.update(zip).await, Err(ControlError::Archive(_))));
    let other = FunctionChange { name: Some("g".parse().unwrap()), ..FunctionChange::default() };
    assert!(matches!(bench.update(other).await, Err(ControlError::NameFixed(_))));
    assert_eq!(bench.notes.activated.lock().len(), 1, "nothing was deployed");
}

#[tokio::test]
async fn absent_fields_keep_their_values_and_zero_restores_a_default() {
    let bench = bench().await;
    let mut function = new("f", "1");
    function.settings.limits.memory_mib = Some(256);
    function.settings.limits.timeout_ms = Some(5_000);
    function.settings.limits.max_concurrency = Some(3);
    bench.control.create_function(CALLER, function).await.unwrap();
    let mut change = code("2");
    change.settings.limits.timeout_ms = Some(0);
    let changed = bench.update(change).await.unwrap();
    let limits = &changed.latest.config.limits;
    assert_eq!((limits.memory_mib(), limits.timeout().as_secs()), (256, 30));
    assert_eq!(limits.max_concurrency().unwrap().get(), 3);
    let mut change = FunctionChange::default();
    change.settings.limits.max_concurrency = Some(0);
    assert_eq!(bench.update(change).await.unwrap().latest.config.limits.max_concurrency(), None);
}

#[tokio::test]
async fn a_change_that_changes_nothing_publishes_nothing() {
    let bench = Bench::with_versions(&["1"]).await;
    assert_eq!(bench.update(code("1")).await.unwrap().function.latest_version, version(1));
    assert_eq!(bench.update(FunctionChange::default()).await.unwrap().function.latest_version, version(1));
}

#[tokio::test]
async fn concurrent_deploys_get_consecutive_versions() {
    let bench = Bench::with_versions(&["0"]).await;
    let deploys = (1..=8).map(|n| {
        let control = bench.control.clone();
        tokio::spawn(
            async move { control.update_function(CALLER, &reference("f"), code(&n.to_string())).await },
        )
    });
    let mut versions = Vec::new();
    for deploy in deploys.collect::<Vec<_>>() {
        versions.push(deploy.await.unwrap().unwrap().function.latest_version.get());
    }
    versions.sort_unstable();
    assert_eq!(versions, [2, 3, 4, 5, 6, 7, 8, 9]);
    let activated: Vec<u64> = bench.notes.activated.lock().iter().map(|(_, version)| *version).collect();
    assert_eq!(activated, [1, 2, 3, 4, 5, 6, 7, 8, 9], "calls never go back to an older version");
}

#[tokio::test]
async fn rollback_publishes_an_old_version_anew() {
    let bench = Bench::with_versions(&["1", "2", "3"]).await;
    let f = reference("f");
    let back = bench.control.rollback(CALLER, &f, None).await.unwrap();
    assert_eq!(back.function.latest_version, version(4));
    assert_eq!(bench.source(&Qualifier::Latest).await, "2");
    bench.control.rollback(CALLER, &f, Some(version(1))).await.unwrap();
    assert_eq!(bench.source(&Qualifier::Latest).await, "1");
    assert_eq!(bench.source(&Qualifier::Version(version(3))).await, "3", "old versions stay");
    let unknown = bench.control.rollback(CALLER, &f, Some(version(9))).await;
    assert!(matches!(unknown, Err(ControlError::VersionNotFound { .. })));
    let listed = bench.control.list_versions(CALLER, &f, None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|entry| entry.number.get()).collect::<Vec<_>>(), [5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn a_function_with_one_version_cannot_be_rolled_back() {
    let bench = Bench::with_versions(&["1"]).await;
    let refused = bench.control.rollback(CALLER, &reference("f"), None).await;
    assert!(matches!(refused, Err(ControlError::NothingToRollBack(_))));
}

#[tokio::test]
async fn aliases_point_at_existing_versions_by_weight() {
    let bench = Bench::with_versions(&["1", "2"]).await;
    bench.alias("live", &[(1, 9), (2, 1)]).await.unwrap();
    assert_eq!(bench.source(&Qualifier::Alias("live".parse().unwrap())).await, "1");
    assert!(matches!(bench.alias("live", &[(7, 1)]).await, Err(ControlError::VersionNotFound { .. })));
    assert!(matches!(bench.alias("live", &[(1, 0)]).await, Err(ControlError::Alias(_))));
    bench.alias("live", &[(2, 1)]).await.unwrap();
    assert_eq!(bench.source(&Qualifier::Alias("live".parse().unwrap())).await, "2");
    let (f, live) = (reference("f"), "live".parse().unwrap());
    assert_eq!(bench.notes.activated.lock().len(), 4, "calls see each change of an alias");
    bench.control.delete_alias(CALLER, &f, "live".parse().unwrap()).await.unwrap();
    let gone = bench.control.get_alias(CALLER, &f, &live).await;
    assert!(matches!(gone, Err(ControlError::AliasNotFound { .. })));
    let again = bench.control.delete_alias(CALLER, &f, live).await;
    assert!(matches!(again, Err(ControlError::AliasNotFound { .. })));
}

#[tokio::test]
async fn a_deleted_function_is_gone_for_calls_too() {
    let bench = Bench::with_versions(&["1"]).await;
    let deleted = bench.control.delete_function(CALLER, &reference("f")).await.unwrap();
    assert_eq!(*bench.notes.removed.lock(), [deleted.id]);
    let again = bench.control.delete_function(CALLER, &reference("f")).await;
    assert!(matches!(again, Err(ControlError::FunctionNotFound(name)) if name == "f"));
    assert!(matches!(bench.update(code("2")).await, Err(ControlError::FunctionNotFound(_))));
}

#[tokio::test]
async fn pages_together_are_the_whole_list() {
    let bench = bench().await;
    for name in ["a", "b", "c"] {
        bench.control.create_function(CALLER, new(name, "1")).await.unwrap();
    }
    let list = async |before, limit| {
        let list = bench.control.list_functions(CALLER, FunctionListQuery { before, limit }).await.unwrap();
        let names = list.functions.iter().map(|f| f.function.name.to_string()).collect::<Vec<_>>().concat();
        (names, list.total, list.next)
    };
    assert_eq!(list(None, None).await, ("cba".to_owned(), 3, None));
    let (names, total, next) = list(None, Some(2)).await;
    assert_eq!((names.as_str(), total), ("cb", 3));
    assert_eq!(list(next, Some(2)).await, ("a".to_owned(), 3, None));
    assert_eq!(list(None, Some(3)).await.2, None, "a full last page has no successor");
    let none = bench.control.list_functions(CALLER, FunctionListQuery { before: None, limit: Some(0) }).await;
    assert!(matches!(none, Err(ControlError::PageLimit { .. })));
}

#[tokio::test]
async fn every_deploy_is_told_step_by_step() {
    use impuls_domain::DeployStep::{Accepted, Failed, Loading, Ready, Starting};
    let bench = Bench::with_versions(&["1"]).await;
    let log = async || {
        let found = bench.control.get_function(CALLER, &reference("f")).await.unwrap().function;
        assert!(found.state_log.steps().is_sorted_by_key(|(_, at)| *at), "{:?}", found.state_log);
        found.state_log.steps().iter().map(|(step, _)| *step).collect::<Vec<_>>()
    };
    let mut expected = vec![Accepted, Starting, Loading, Ready];
    assert_eq!(log().await, expected);
    bench.notes.is_broken.store(true, Ordering::Relaxed);
    bench.update(code("2")).await.unwrap();
    expected.extend([Starting, Loading, Failed]);
    assert_eq!(log().await, expected);
    bench.notes.is_unbuildable.store(true, Ordering::Relaxed);
    bench.update(code("3")).await.unwrap();
    expected.push(Failed);
    assert_eq!(log().await, expected);
}

#[tokio::test]
async fn whoever_hangs_up_after_the_check_does_not_stop_the_deploy_half_way() {
    let bench = Bench::with_versions(&["1"]).await;
    for polls in 0..20 {
        let (f, text) = (reference("f"), format!("code {polls}"));
        let mut deploy = Box::pin(bench.control.update_function(CALLER, &f, code(&text)));
        for _ in 0..polls {
            let waiting = tokio::time::timeout(Duration::from_micros(300), &mut deploy).await;
            if waiting.is_ok() {
                break;
            }
        }
        drop(deploy);
    }
    // Whoever comes next waits until nobody else is changing the function.
    bench.update(code("last")).await.unwrap();
    let newest = bench.control.get_function(CALLER, &reference("f")).await.unwrap();
    let activated = bench.notes.activated.lock().clone();
    let expected =
        (1..=newest.function.latest_version.get()).map(|n| ("f".to_owned(), n)).collect::<Vec<_>>();
    assert_eq!(activated, expected, "whatever was stored reached calls, in order");
}

#[test]
fn a_reference_that_cannot_be_a_name_is_not_found() {
    let refused = FunctionRef::parse(Scope::default(), "a b");
    assert!(matches!(refused, Err(ControlError::FunctionNotFound(text)) if text == "a b"));
}

#[tokio::test]
async fn a_renamed_function_keeps_everything_else() {
    let bench = Bench::with_versions(&["1", "2"]).await;
    bench.alias("live", &[(1, 100)]).await.unwrap();
    let before = bench.control.get_function(CALLER, &reference("f")).await.unwrap();
    let rename =
        |name: &str| FunctionChange { rename: Some(name.parse().unwrap()), ..FunctionChange::default() };
    let after = bench.update(rename("g")).await.unwrap();
    assert_eq!((after.function.id, after.function.name.as_str()), (before.function.id, "g"));
    assert_eq!((&after.aliases, &after.latest.config), (&before.aliases, &before.latest.config));
    assert_eq!(bench.notes.activated.lock().last(), Some(&("g".to_owned(), 3)));
    let gone = bench.control.get_function(CALLER, &reference("f")).await;
    assert!(matches!(gone, Err(ControlError::FunctionNotFound(_))), "{gone:?}");
    // The old name is free, and the new one is not.
    bench.control.create_function(CALLER, new("f", "other")).await.unwrap();
    let taken = bench.update(rename("g")).await;
    assert!(matches!(&taken, Err(ControlError::NameTaken(name)) if name.as_str() == "g"), "{taken:?}");
}

#[tokio::test]
async fn a_name_of_another_scope_is_found_when_the_own_has_none() {
    let bench = bench().await;
    let mut foreign = new("f", "foreign");
    foreign.scope = Scope::new("other");
    let foreign = bench.control.create_function(CALLER, foreign).await.unwrap();
    assert_eq!(bench.control.get_function(CALLER, &reference("f")).await.unwrap(), foreign);
    let own = bench.control.create_function(CALLER, new("f", "own")).await.unwrap();
    assert_eq!(bench.control.get_function(CALLER, &reference("f")).await.unwrap(), own);
}

#[tokio::test]
async fn a_contract_must_be_one_of_the_runtimes() {
    let bench = Bench::with_versions(&["1"]).await;
    let settings = Settings { contract: Some(Contract::Http), ..Settings::default() };
    let refused = bench.update(FunctionChange { settings, ..FunctionChange::default() }).await;
    assert_eq!(
        refused.unwrap_err().to_string(),
        "runtime nodejs20 has no contract http; it has: module, scoped"
    );
    // A change of the language changes the contract with it.
    let command =
        || FunctionChange { runtime: Some("command".parse().unwrap()), ..FunctionChange::default() };
    assert!(matches!(bench.update(command()).await, Err(ControlError::NoCommand)));
    let words = CommandLine::new(vec!["true".to_owned()]).unwrap();
    let settings = Settings { command: Some(words), ..Settings::default() };
    let changed = bench.update(FunctionChange { settings, ..command() }).await.unwrap();
    assert_eq!(changed.latest.config.contract, Contract::Command);
}

#[tokio::test]
async fn a_function_can_be_a_command_line_and_no_code() {
    let bench = bench().await;
    let words = CommandLine::new(vec!["true".to_owned()]).unwrap();
    let settings = Settings { command: Some(words), ..Settings::default() };
    let function =
        NewFunction { runtime: "command".parse().unwrap(), code: Code::nothing(), settings, ..new("f", "") };
    let created = bench.control.create_function(CALLER, function).await.unwrap();
    assert_eq!(created.latest.config.contract, Contract::Command);
    assert_eq!(created.latest.layout, impuls_domain::CodeLayout::Zip);
}
