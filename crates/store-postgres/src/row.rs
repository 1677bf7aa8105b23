//! A row of PostgreSQL's as the seam's rows are read, and texts as PostgreSQL keeps them.

use std::borrow::Cow;

use impuls_store::StoreError;
use impuls_store::rows::{Columns, Key, damaged};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// PostgreSQL's texts have no NUL, which those of users may have. This character, which nobody uses, stands before a
/// `0` for NUL and before a `1` for itself.
const MARK: char = '\u{10FFFD}';

/// One row.
pub(crate) struct Row<'r>(pub(crate) &'r PgRow);

impl Columns for Row<'_> {
    fn text(&self, column: &str) -> Result<Option<Cow<'_, str>>, StoreError> {
        let text: Result<Option<&str>, _> = self.0.try_get(column);
        text.map(|text| text.map(Cow::Borrowed)).map_err(|error| damaged(column, error))
    }

    fn integer(&self, column: &str) -> Result<Option<i64>, StoreError> {
        self.0.try_get(column).map_err(|error| damaged(column, error))
    }

    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, StoreError> {
        // Unchecked, because a UUID is its 16 bytes as well.
        self.0.try_get_unchecked(column).map_err(|error| damaged(column, error))
    }

    fn restore<'t>(&self, stored: Cow<'t, str>) -> Cow<'t, str> {
        restore(stored)
    }
}

/// An id as PostgreSQL takes it.
pub(crate) fn uuid(key: &Key) -> Uuid {
    Uuid::from_bytes(*key)
}

/// One column of many rows, as a statement takes it that has an array for each.
pub(crate) fn column<'r, R, T>(rows: &[&'r R], value: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(|row| value(row)).collect()
}

/// A text as PostgreSQL takes it.
pub(crate) fn keep(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', MARK]) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => kept.extend([MARK, '0']),
            MARK => kept.extend([MARK, '1']),
            other => kept.push(other),
        }
    }
    Cow::Owned(kept)
}

/// The same, for a column.
pub(crate) fn kept(text: &str) -> String {
    keep(text).into_owned()
}

/// The text that was kept as this one, for whoever owns it.
pub(crate) fn restored(stored: &str) -> String {
    restore(Cow::Borrowed(stored)).into_owned()
}

/// The text that was kept as this one.
fn restore(stored: Cow<'_, str>) -> Cow<'_, str> {
    if !stored.contains(MARK) {
        return stored;
    }
    let mut text = String::with_capacity(stored.len());
    let mut characters = stored.chars();
    while let Some(character) = characters.next() {
        match character {
            MARK => text.push(if characters.next() == Some('0') { '\0' } else { MARK }),
            other => text.push(other),
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_kept_without_nul_and_comes_back(text in "[a\0\u{10FFFD}01]{0,12}|.{0,20}") {
            let kept = keep(&text).into_owned();
            prop_assert!(!kept.contains('\0'));
            prop_assert_eq!(restore(Cow::Owned(kept)), text);
        }
    }
}
