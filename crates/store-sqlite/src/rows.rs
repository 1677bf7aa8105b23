//! What rows look like, and how they become values of the model. Whatever a row holds is checked like input from
//! outside: [`StoreError::Damaged`] names the column that does not hold what it must.

mod async_invocation;
mod exchange;
mod function;
mod invocation;
mod logs;
mod revision;
mod schedule;
mod settings;

use std::fmt::Display;
use std::str::FromStr;

use impuls_store::StoreError;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row as _, Sqlite, Type};
use time::OffsetDateTime;
use uuid::Uuid;

pub(crate) use async_invocation::{AsyncRow, CompletionRow, async_invocation};
pub(crate) use function::{AliasRow, FunctionRow, snapshot};
pub(crate) use invocation::{InvocationRow, invocation};
pub(crate) use revision::{RevisionRow, digest, version_entry};
pub(crate) use schedule::{ScheduleRow, schedule};
pub(crate) use settings::{SettingsRow, settings};

/// A UUID as stored.
pub(crate) type Key = [u8; 16];

/// Microseconds since 1970, rounded down.
pub(crate) fn micros(instant: OffsetDateTime) -> i64 {
    saturate(instant.unix_timestamp_nanos().div_euclid(1_000))
}

/// The number as SQLite keeps it. What does not fit is far beyond every limit of the model.
pub(crate) fn saturate(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Reads the columns of one row by name.
pub(crate) struct Fields<'r>(pub(crate) &'r SqliteRow);

impl<'r> Fields<'r> {
    /// A column that SQLite's own type describes fully.
    fn plain<T: Decode<'r, Sqlite> + Type<Sqlite>>(&self, column: &str) -> Result<T, StoreError> {
        self.0.try_get(column).map_err(|error| damaged(column, error))
    }

    fn text(&self, column: &str) -> Result<String, StoreError> {
        self.plain(column)
    }

    /// A text that has a syntax.
    fn parse<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T, StoreError> {
        self.plain::<&str>(column)?.parse().map_err(|error| damaged(column, error))
    }

    /// A text that is one of a list.
    fn one_of<T>(&self, column: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, StoreError> {
        let text = self.plain::<&str>(column)?;
        parse(text).ok_or_else(|| damaged(column, format_args!("{text:?} is not known")))
    }

    fn number<T: TryFrom<i64, Error: Display>>(&self, column: &str) -> Result<T, StoreError> {
        T::try_from(self.plain::<i64>(column)?).map_err(|error| damaged(column, error))
    }

    fn optional_number<T: TryFrom<i64, Error: Display>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, StoreError> {
        let number: Option<i64> = self.plain(column)?;
        number.map(T::try_from).transpose().map_err(|error| damaged(column, error))
    }

    fn uuid(&self, column: &str) -> Result<Uuid, StoreError> {
        Uuid::from_slice(self.plain(column)?).map_err(|error| damaged(column, error))
    }

    fn instant(&self, column: &str) -> Result<OffsetDateTime, StoreError> {
        instant(self.plain(column)?).map_err(|error| damaged(column, error))
    }
}

fn instant(micros: i64) -> Result<OffsetDateTime, time::error::ComponentRange> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)
}

fn damaged(column: &str, why: impl Display) -> StoreError {
    StoreError::Damaged(format!("column {column}: {why}"))
}
