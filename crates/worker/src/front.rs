//! Which front thread this is.

use std::cell::Cell;

thread_local! {
    static FRONT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Makes the calling thread the front thread of this number, from 0; called once, before it serves.
pub fn enter(index: usize) {
    FRONT.set(Some(index));
}

/// The place of this thread's connection among those of a sandbox: its number, or the last place, which every
/// other thread shares.
pub(crate) fn place(fronts: usize) -> usize {
    FRONT.get().filter(|index| *index < fronts).unwrap_or(fronts)
}
