//! What the cases store.

use std::collections::BTreeMap;
use std::time::Duration;

use impuls_domain::{
    Alias, AliasTarget, ArtifactDigest, Built, CodeLayout, CommandLine, Contract, DeployStep, DriverChoice,
    Environment, Function, FunctionId, FunctionState, Invocation, InvocationId, InvocationStatus, Limits,
    LoadFailure, Logs, Metadata, NetworkPolicy, Revision, RevisionConfig, RevisionId, Scope, StateLog, Usage,
    VersionNumber,
};
use time::OffsetDateTime;

use crate::{FunctionKey, FunctionSnapshot, FunctionStore};

/// An instant that every back end keeps exactly: whole microseconds.
#[must_use]
pub fn at(micros: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000) + time::Duration::microseconds(micros)
}

/// A version number.
#[must_use]
pub fn number(n: u64) -> VersionNumber {
    VersionNumber::new(n).expect("a number above zero")
}

/// A function that was never stored, in the empty scope, and its first revision.
#[must_use]
pub fn function(name: &str) -> (Function, Revision) {
    let id = FunctionId::new();
    let revision = revision(id, 0);
    let function = Function {
        id,
        scope: Scope::default(),
        name: name.parse().expect("a function name"),
        latest: revision.id,
        latest_version: VersionNumber::FIRST,
        state: FunctionState::Active,
        state_log: log([DeployStep::Accepted, DeployStep::Loading, DeployStep::Ready], revision.created_at),
        created_at: revision.created_at,
        updated_at: revision.created_at,
    };
    (function, revision)
}

fn log<const N: usize>(steps: [DeployStep; N], from: OffsetDateTime) -> StateLog {
    let mut log = StateLog::default();
    log.extend(steps.into_iter().zip(0..).map(|(step, n)| (step, from + Duration::from_micros(n))));
    log
}

/// A new revision; every field depends on the seed.
#[must_use]
pub fn revision(function: FunctionId, seed: u8) -> Revision {
    let limits = Limits::default()
        .with_memory_mib(128 + u32::from(seed))
        .and_then(|limits| limits.with_timeout_ms(1_500 + u64::from(seed)))
        .and_then(|limits| limits.with_milli_vcpu(500 + u32::from(seed)))
        .and_then(|limits| limits.with_concurrency(1 + u32::from(seed)))
        .and_then(|limits| limits.with_max_concurrency((seed > 0).then_some(u32::from(seed))))
        .and_then(|limits| limits.with_idle_timeout_secs(10 + u64::from(seed)))
        .and_then(|limits| limits.with_min_warm(u32::from(seed)))
        .expect("limits within the ranges");
    let variables = (0..seed).map(|n| (format!("NAME_{n}"), format!("\"välue\"\n{n}")));
    Revision {
        id: RevisionId::new(),
        function,
        artifact: ArtifactDigest::from_bytes([seed; 32]),
        layout: if seed.is_multiple_of(2) { CodeLayout::SingleFile } else { CodeLayout::Zip },
        code_size: 1_000 + u64::from(seed),
        built: match seed % 3 {
            0 => Built::AsIs,
            1 => Built::Archive(ArtifactDigest::from_bytes([seed; 32])),
            _ => Built::Failed(LoadFailure {
                class: "BuildError".to_owned(),
                message: format!("‘{seed}’ undefined"),
                file: Some("main.go".to_owned()),
                line: Some(u32::from(seed)),
            }),
        },
        config: RevisionConfig {
            runtime: "nodejs20".parse().expect("a runtime name"),
            contract: if seed.is_multiple_of(2) { Contract::Module } else { Contract::Scoped },
            handler: "src/index.handler".parse().expect("a handler"),
            command: CommandLine::new((0..seed).map(|n| format!("wörd \"{n}\"")).collect())
                .expect("a command"),
            description: format!("the ‘{seed}’th"),
            metadata: Metadata::new((0..seed).map(|n| (format!("läbel {n}"), n.to_string())).collect())
                .expect("labels"),
            environment: Environment::new(variables.collect::<BTreeMap<_, _>>()).expect("variables"),
            limits,
            driver: if seed.is_multiple_of(2) { DriverChoice::Auto } else { DriverChoice::Process },
            network: network(seed),
        },
        created_at: at(i64::from(seed)),
    }
}

fn network(seed: u8) -> NetworkPolicy {
    match seed % 3 {
        0 => NetworkPolicy::Off,
        1 => NetworkPolicy::Egress,
        _ => "allow *.example.com:443 10.0.0.0/8 [fd00::1]:80".parse().expect("an allowlist"),
    }
}

/// What the function becomes when the revision is deployed: the next version, changed a second later.
#[must_use]
pub fn deployed(function: &Function, revision: &Revision) -> Function {
    Function {
        latest: revision.id,
        latest_version: function.latest_version.next(),
        updated_at: function.updated_at + Duration::from_secs(1),
        state_log: log([DeployStep::Starting, DeployStep::Failed], function.updated_at),
        ..function.clone()
    }
}

/// Stores a new function.
pub async fn create(store: &impl FunctionStore, name: &str) -> Function {
    let (function, revision) = function(name);
    store.create_function(&function, &revision).await.expect("the function is created");
    function
}

/// Stores a new revision of a stored function and returns the function as it is then.
pub async fn deploy(store: &impl FunctionStore, function: &Function, seed: u8) -> Function {
    let revision = revision(function.id, seed);
    let next = deployed(function, &revision);
    store.deploy_revision(function, &next, &revision).await.expect("the revision is deployed");
    next
}

/// The stored function, which must exist.
pub async fn snapshot(store: &impl FunctionStore, id: FunctionId) -> FunctionSnapshot {
    let found = store.find_function(&FunctionKey::Id(id)).await.expect("the store answers");
    found.expect("the function exists")
}

/// An alias of versions with weights.
#[must_use]
pub fn alias(name: &str, targets: &[(u64, u32)]) -> Alias {
    let target = |&(version, weight): &(u64, u32)| AliasTarget { version: number(version), weight };
    let targets = targets.iter().map(target).collect();
    Alias::new(name.parse().expect("an alias name"), targets, format!("‘{name}’"), at(7)).expect("an alias")
}

/// The record of a call that succeeded, admitted so many microseconds after the others' zero.
#[must_use]
pub fn invocation(function: &Function, micros: i64) -> Invocation {
    Invocation {
        id: InvocationId::new(),
        function: function.id,
        revision: function.latest,
        version: function.latest_version,
        status: InvocationStatus::Succeeded,
        failure: None,
        exchange: None,
        logs: Logs::default(),
        usage: Usage {
            duration: Duration::from_micros(1_234),
            init_duration: Duration::from_micros(56),
            memory_mib: 128,
            measured: None,
        },
        started_at: at(micros),
    }
}
