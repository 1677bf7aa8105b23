//! A revision as it travels: the columns of its row in a store, so that there is one way to write it down.

use std::borrow::Cow;
use std::collections::BTreeMap;

use impuls_domain::Revision;
use impuls_store::StoreError;
use impuls_store::rows::{Columns, RevisionRow, damaged, saturate, version_entry};
use serde::{Deserialize, Serialize};

/// One column.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Cell {
    Text(String),
    Integer(i64),
    Bytes(Vec<u8>),
}

/// A revision as it travels. Has secrets: never printed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct WireRevision(BTreeMap<String, Cell>);

impl Columns for WireRevision {
    fn text(&self, column: &str) -> Result<Option<Cow<'_, str>>, StoreError> {
        match self.0.get(column) {
            None => Ok(None),
            Some(Cell::Text(text)) => Ok(Some(Cow::Borrowed(text))),
            Some(Cell::Integer(_) | Cell::Bytes(_)) => Err(damaged(column, "it is no text")),
        }
    }

    fn integer(&self, column: &str) -> Result<Option<i64>, StoreError> {
        match self.0.get(column) {
            None => Ok(None),
            Some(Cell::Integer(number)) => Ok(Some(*number)),
            Some(Cell::Text(_) | Cell::Bytes(_)) => Err(damaged(column, "it is no number")),
        }
    }

    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, StoreError> {
        match self.0.get(column) {
            None => Ok(None),
            Some(Cell::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Cell::Text(_) | Cell::Integer(_)) => Err(damaged(column, "it is no bytes")),
        }
    }
}

impl WireRevision {
    pub(crate) fn of(revision: &Revision) -> Result<Self, StoreError> {
        let row = RevisionRow::from_domain(revision)?;
        let limits = &row.limits;
        let bytes = |bytes: &[u8]| Some(Cell::Bytes(bytes.to_vec()));
        let text = |text: &str| Some(Cell::Text(text.to_owned()));
        let number = |number: i64| Some(Cell::Integer(number));
        let limit = |most: std::num::NonZeroU32| Cell::Integer(i64::from(most.get()));
        let columns = [
            ("r_id", bytes(&row.id)),
            ("r_function", bytes(&row.function)),
            ("r_artifact", bytes(&row.artifact)),
            ("r_layout", text(row.layout)),
            ("r_code_size", number(row.code_size)),
            ("r_built", row.built.and_then(|built| bytes(&built))),
            ("r_build_failure", row.build_failure.as_deref().and_then(text)),
            ("r_runtime", text(&row.runtime)),
            ("r_contract", text(row.contract)),
            ("r_handler", text(&row.handler)),
            ("r_command", text(&row.command)),
            ("r_description", text(&row.description)),
            ("r_metadata", text(&row.metadata)),
            ("r_environment", text(&row.environment)),
            ("r_memory_mib", number(limits.memory_mib().into())),
            ("r_timeout_ms", number(saturate(limits.timeout().as_millis()))),
            ("r_milli_vcpu", number(limits.milli_vcpu().into())),
            ("r_concurrency", number(limits.concurrency().into())),
            ("r_max_concurrency", limits.max_concurrency().map(limit)),
            ("r_idle_timeout_sec", number(saturate(limits.idle_timeout().as_secs()))),
            ("r_min_warm", number(limits.min_warm().into())),
            ("r_driver", text(row.driver)),
            ("r_network", text(&row.network)),
            ("r_created_at", number(row.created_at)),
            // What `version_entry` reads besides.
            ("v_number", number(1)),
            ("v_published_at", number(row.created_at)),
        ];
        Ok(Self(columns.into_iter().filter_map(|(name, cell)| Some((name.to_owned(), cell?))).collect()))
    }

    pub(crate) fn revision(&self) -> Result<Revision, StoreError> {
        version_entry(self).map(|entry| entry.revision)
    }
}

#[cfg(test)]
mod tests {
    use impuls_domain::{
        ArtifactDigest, Built, CodeLayout, CommandLine, Contract, DriverChoice, Environment, FunctionId,
        Limits, LoadFailure, Metadata, NetworkPolicy, RevisionConfig, RevisionId,
    };

    use super::*;

    #[test]
    fn a_revision_comes_back_whole() {
        let limits = Limits::default().with_max_concurrency(Some(3)).unwrap().with_min_warm(2).unwrap();
        let revision = |built| Revision {
            id: RevisionId::new(),
            function: FunctionId::new(),
            artifact: ArtifactDigest::from_bytes([7; 32]),
            layout: CodeLayout::Zip,
            code_size: 12,
            built,
            config: RevisionConfig {
                runtime: "nodejs20".parse().unwrap(),
                contract: Contract::Http,
                handler: "index.handler".parse().unwrap(),
                command: CommandLine::new(vec!["a".to_owned(), "b c".to_owned()]).unwrap(),
                description: "with \0 and ü".to_owned(),
                metadata: Metadata::new(BTreeMap::new()).unwrap(),
                environment: Environment::new(BTreeMap::from([("A".to_owned(), "b".to_owned())])).unwrap(),
                limits: limits.clone(),
                driver: DriverChoice::Process,
                network: NetworkPolicy::Egress,
            },
            created_at: time_of(1_700_000_000_000_000),
        };
        let failure =
            LoadFailure { class: "E".to_owned(), message: "m".to_owned(), file: None, line: Some(3) };
        for built in
            [Built::AsIs, Built::Archive(ArtifactDigest::from_bytes([9; 32])), Built::Failed(failure)]
        {
            let revision = revision(built);
            let text = serde_json::to_vec(&WireRevision::of(&revision).unwrap()).unwrap();
            let back: WireRevision = serde_json::from_slice(&text).unwrap();
            assert_eq!(back.revision().unwrap(), revision);
        }
    }

    fn time_of(micros: i128) -> time::OffsetDateTime {
        time::OffsetDateTime::from_unix_timestamp_nanos(micros * 1_000).unwrap()
    }
}
