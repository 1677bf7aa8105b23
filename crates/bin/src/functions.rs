//! All stored functions, for whoever keeps a table of them.

use std::collections::HashSet;

use impuls_domain::FunctionId;
use impuls_store::{FunctionPage, FunctionSnapshot, FunctionStore, StoreError};

/// Functions that are read at once.
const PAGE: u32 = 200;

/// Reads every function, and returns which there are. One that cannot be read is told of in the log and passed over: no other
/// depends on it.
pub(crate) async fn each(
    store: &dyn FunctionStore,
    mut take: impl FnMut(&FunctionSnapshot),
) -> Result<HashSet<FunctionId>, StoreError> {
    let (mut found, mut before) = (HashSet::new(), None);
    loop {
        let page = store.list_functions(FunctionPage { before, limit: PAGE }).await?;
        if page.last.is_none() {
            return Ok(found);
        }
        before = page.last;
        found.extend(page.functions.iter().map(|snapshot| snapshot.function.id));
        page.functions.iter().for_each(&mut take);
        for (id, error) in &page.unreadable {
            found.insert(*id);
            unreadable(*id, error);
        }
    }
}

/// Says that a function cannot be read.
pub(crate) fn unreadable(function: FunctionId, error: &StoreError) {
    let error = error as &dyn std::error::Error;
    tracing::error!(%function, error, "a stored function cannot be read; calls of it run what was known of it before, if anything was");
}
