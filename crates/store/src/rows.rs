//! What rows look like in a database that speaks SQL, and how they become values of the model. Back ends share this,
//! so that a row means the same everywhere; statements and types of columns are theirs. Whatever a row holds is
//! checked like input from outside: [`StoreError::Damaged`] names the column that does not hold what it must.

mod async_invocation;
mod build;
mod exchange;
mod function;
mod invocation;
mod logs;
mod revision;
mod schedule;
mod settings;

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;

pub use async_invocation::{AsyncRow, CompletionRow, async_invocation, brief_columns};
pub use build::noted_build;
pub use function::{AliasRow, FunctionRow, listed, snapshot};
pub use invocation::{InvocationRow, invocation};
pub use revision::{RevisionRow, digest, version_entry};
pub use schedule::{ScheduleRow, schedule};
pub use settings::{SettingsRow, settings};

/// A UUID as stored.
pub type Key = [u8; 16];

/// The columns of a function `f` that [`snapshot`] reads.
#[macro_export]
macro_rules! function_columns {
    () => {
        "f.id AS f_id, f.scope AS f_scope, f.name AS f_name, f.latest AS f_latest, \
         f.latest_version AS f_latest_version, f.state AS f_state, f.failure_class AS f_failure_class, \
         f.failure_message AS f_failure_message, f.failure_file AS f_failure_file, \
         f.failure_line AS f_failure_line, f.created_at AS f_created_at, f.updated_at AS f_updated_at, \
         f.state_log AS f_state_log"
    };
}

/// The columns of a revision `r` that [`snapshot`] and [`version_entry`] read.
#[macro_export]
macro_rules! revision_columns {
    () => {
        "r.id AS r_id, r.function AS r_function, r.artifact AS r_artifact, r.layout AS r_layout, \
         r.code_size AS r_code_size, r.built AS r_built, r.build_failure AS r_build_failure, \
         r.runtime AS r_runtime, r.contract AS r_contract, \
         r.handler AS r_handler, r.command AS r_command, r.description AS r_description, \
         r.metadata AS r_metadata, r.environment AS r_environment, \
         r.memory_mib AS r_memory_mib, r.timeout_ms AS r_timeout_ms, r.milli_vcpu AS r_milli_vcpu, \
         r.concurrency AS r_concurrency, r.max_concurrency AS r_max_concurrency, \
         r.idle_timeout_sec AS r_idle_timeout_sec, r.min_warm AS r_min_warm, r.driver AS r_driver, \
         r.network AS r_network, r.created_at AS r_created_at"
    };
}

/// One row of a database. Each method reads the column of a name, `None` where it is NULL; a column that is not
/// there or has another type is [`StoreError::Damaged`].
pub trait Columns {
    /// A text as it is stored.
    fn text(&self, column: &str) -> Result<Option<Cow<'_, str>>, StoreError>;

    /// A number.
    fn integer(&self, column: &str) -> Result<Option<i64>, StoreError>;

    /// Bytes, or a UUID as bytes.
    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, StoreError>;

    /// The text that was stored as this one, for databases that cannot keep every text as it is.
    fn restore<'t>(&self, stored: Cow<'t, str>) -> Cow<'t, str> {
        stored
    }
}

/// Microseconds since 1970, rounded down.
#[must_use]
pub fn micros(instant: OffsetDateTime) -> i64 {
    saturate(instant.unix_timestamp_nanos().div_euclid(1_000))
}

/// The instant of so many microseconds since 1970, in this column.
pub fn instant_of(micros: i64, column: &str) -> Result<OffsetDateTime, StoreError> {
    instant(micros).map_err(|error| damaged(column, error))
}

/// The number as a database keeps it. What does not fit is far beyond every limit of the model.
#[must_use]
pub fn saturate(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Says that a column does not hold what it must.
#[must_use]
pub fn damaged(column: &str, why: impl Display) -> StoreError {
    StoreError::Damaged(format!("column {column}: {why}"))
}

/// Reads the columns of one row by name.
struct Fields<'r>(&'r dyn Columns);

impl<'r> Fields<'r> {
    fn optional_text(&self, column: &str) -> Result<Option<Cow<'r, str>>, StoreError> {
        Ok(self.0.text(column)?.map(|stored| self.0.restore(stored)))
    }

    fn text(&self, column: &str) -> Result<Cow<'r, str>, StoreError> {
        self.optional_text(column)?.ok_or_else(|| is_null(column))
    }

    fn optional_string(&self, column: &str) -> Result<Option<String>, StoreError> {
        Ok(self.optional_text(column)?.map(Cow::into_owned))
    }

    fn string(&self, column: &str) -> Result<String, StoreError> {
        self.text(column).map(Cow::into_owned)
    }

    /// A text that has a syntax.
    fn parse<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T, StoreError> {
        self.text(column)?.parse().map_err(|error| damaged(column, error))
    }

    /// A text that is one of a list.
    fn one_of<T>(&self, column: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, StoreError> {
        let text = self.text(column)?;
        parse(&text).ok_or_else(|| damaged(column, format_args!("{text:?} is not known")))
    }

    fn integer(&self, column: &str) -> Result<i64, StoreError> {
        self.0.integer(column)?.ok_or_else(|| is_null(column))
    }

    fn number<T: TryFrom<i64, Error: Display>>(&self, column: &str) -> Result<T, StoreError> {
        T::try_from(self.integer(column)?).map_err(|error| damaged(column, error))
    }

    fn optional_number<T: TryFrom<i64, Error: Display>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, StoreError> {
        let number = self.0.integer(column)?;
        number.map(T::try_from).transpose().map_err(|error| damaged(column, error))
    }

    fn optional_bytes(&self, column: &str) -> Result<Option<&'r [u8]>, StoreError> {
        self.0.bytes(column)
    }

    fn bytes(&self, column: &str) -> Result<&'r [u8], StoreError> {
        self.optional_bytes(column)?.ok_or_else(|| is_null(column))
    }

    fn uuid(&self, column: &str) -> Result<Uuid, StoreError> {
        Uuid::from_slice(self.bytes(column)?).map_err(|error| damaged(column, error))
    }

    fn optional_instant(&self, column: &str) -> Result<Option<OffsetDateTime>, StoreError> {
        let micros = self.0.integer(column)?;
        micros.map(instant).transpose().map_err(|error| damaged(column, error))
    }

    fn instant(&self, column: &str) -> Result<OffsetDateTime, StoreError> {
        self.optional_instant(column)?.ok_or_else(|| is_null(column))
    }
}

fn is_null(column: &str) -> StoreError {
    damaged(column, "it is NULL")
}

fn instant(micros: i64) -> Result<OffsetDateTime, time::error::ComponentRange> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)
}
