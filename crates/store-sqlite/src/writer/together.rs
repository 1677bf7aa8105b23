//! Changes of a group that one statement makes for many of them: accepting invocations, and their ends. Each statement is a
//! hand-over to SQLite's thread, and each change alone takes three of them.

use std::collections::HashSet;
use std::sync::LazyLock;

use impuls_store::rows::{AsyncRow, CompletionRow, Key};
use sqlx::{Row as _, SqliteConnection};

use super::async_invocations::{self, AsyncWork, Attempt, Query};
use super::{Work, run};

/// How many rows one statement takes. Few sizes, so that every statement stays compiled; what is left over is made alone.
const ROWS_PER_STATEMENT: [usize; 3] = [64, 16, 4];

static ACCEPT: LazyLock<[String; 3]> = LazyLock::new(|| {
    ROWS_PER_STATEMENT.map(|rows| {
        let row = async_invocations::NEW_ROW;
        format!(
            "{} {} ON CONFLICT DO NOTHING RETURNING id",
            async_invocations::INSERT,
            vec![row; rows].join(", ")
        )
    })
});
static END: LazyLock<[String; 3]> = LazyLock::new(|| {
    ROWS_PER_STATEMENT.map(|rows| {
        let row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        format!(
            "UPDATE async_invocations SET status = column1, due = NULL, completed_at = column2, error_type = column3, \
             error_class = column4, error_message = column5, error_stack = column6, duration_ns = column7, \
             init_duration_ns = column8, memory_mib = column9, measured = column10, log_dropped = column11, \
             logs = column12, result = column13 FROM (VALUES {}) AS ends \
             WHERE id = column14 AND attempt = column15 AND status = 'running' RETURNING id",
            vec![row; rows].join(", ")
        )
    })
});

/// A change that can be made together with others of its kind.
struct Item<'w> {
    /// Its place in the group.
    place: usize,
    what: What<'w>,
}

enum What<'w> {
    New(&'w AsyncRow),
    End(&'w Attempt, &'w CompletionRow),
}

impl<'w> Item<'w> {
    fn of(place: usize, work: &'w Work) -> Option<Self> {
        let Work::Async(work) = work else { return None };
        let what = match &**work {
            AsyncWork::Enqueue(row) => What::New(row),
            AsyncWork::Complete(attempt, row, None) => What::End(attempt, row),
            _ => return None,
        };
        Some(Self { place, what })
    }

    const fn is_new(&self) -> bool {
        matches!(self.what, What::New(_))
    }

    const fn id(&self) -> Key {
        match self.what {
            What::New(row) => row.id,
            What::End((id, _), _) => *id,
        }
    }

    fn bind(&self, query: Query<'w>) -> Query<'w> {
        match self.what {
            What::New(row) => async_invocations::bind_new(query, row),
            What::End((id, attempt), row) => {
                async_invocations::bind_end(query, row).bind(id.to_vec()).bind(*attempt)
            }
        }
    }
}

/// Makes what can be made together; answers by the place in the group, with `None` for what is still to be made. `Err` means that
/// the transaction is lost.
pub(super) async fn make(
    connection: &mut SqliteConnection,
    works: &[Work],
) -> Result<Vec<Option<u64>>, sqlx::Error> {
    let mut made = vec![None; works.len()];
    // Who asks for the same twice gets two answers, so the second is made by itself.
    let mut seen = HashSet::new();
    let items = works.iter().enumerate().filter_map(|(place, work)| Item::of(place, work));
    let (new, ends): (Vec<Item<'_>>, Vec<Item<'_>>) =
        items.filter(|item| seen.insert((item.is_new(), item.id()))).partition(Item::is_new);
    for (statements, items) in [(&ACCEPT, new), (&END, ends)] {
        let mut left = items.as_slice();
        while let Some((statement, rows)) = fitting(statements, left.len())
            && let Some((part, rest)) = left.split_at_checked(rows)
        {
            left = rest;
            if let Some(done) = one(connection, statement, part).await? {
                for item in part {
                    if let Some(answer) = made.get_mut(item.place) {
                        *answer = Some(u64::from(done.contains(item.id().as_slice())));
                    }
                }
            }
        }
    }
    Ok(made)
}

/// The largest statement for so many rows.
fn fitting(statements: &'static [String; 3], rows: usize) -> Option<(&'static str, usize)> {
    let mut sizes = statements.iter().zip(ROWS_PER_STATEMENT);
    sizes.find(|(_, size)| *size <= rows).map(|(statement, size)| (statement.as_str(), size))
}

/// One statement; the ids of what it changed. `None` if one of its rows was refused: then nothing of it has changed.
async fn one(
    connection: &mut SqliteConnection,
    statement: &'static str,
    part: &[Item<'_>],
) -> Result<Option<HashSet<Vec<u8>>>, sqlx::Error> {
    run(connection, "SAVEPOINT together").await?;
    let query = part.iter().fold(sqlx::query(statement), |query, item| item.bind(query));
    let done = query.fetch_all(&mut *connection).await;
    if done.is_err() && run(connection, "ROLLBACK TO together").await.is_err() {
        // SQLite has rolled everything back by itself; its first error is the one worth telling.
        return done.map(|_| None);
    }
    run(connection, "RELEASE together").await?;
    let Ok(rows) = done else { return Ok(None) };
    rows.iter().map(|row| row.try_get::<Vec<u8>, _>(0)).collect::<Result<_, _>>().map(Some)
}
