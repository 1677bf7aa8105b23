//! A row of SQLite's as the seam's rows are read.

use std::borrow::Cow;

use impuls_store::StoreError;
use impuls_store::rows::{Columns, damaged};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

/// One row. SQLite keeps every text as it is.
pub(crate) struct Row<'r>(pub(crate) &'r SqliteRow);

impl Columns for Row<'_> {
    fn text(&self, column: &str) -> Result<Option<Cow<'_, str>>, StoreError> {
        let text: Result<Option<&str>, _> = self.0.try_get(column);
        text.map(|text| text.map(Cow::Borrowed)).map_err(|error| damaged(column, error))
    }

    fn integer(&self, column: &str) -> Result<Option<i64>, StoreError> {
        self.0.try_get(column).map_err(|error| damaged(column, error))
    }

    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, StoreError> {
        self.0.try_get(column).map_err(|error| damaged(column, error))
    }
}
