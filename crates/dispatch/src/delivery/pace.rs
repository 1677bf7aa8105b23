//! How often delivery claims while much is running: as soon as half of the places are free, so that a busy queue is not
//! claimed one by one, and else after a short rest, so that what takes long does not keep the places beside it empty.

use std::time::Duration;

use tokio::time::Instant;

/// The rest.
const REST: Duration = Duration::from_millis(20);

/// The places, and when they were last filled.
#[derive(Debug)]
pub(super) struct Pace {
    places: usize,
    rests_until: Instant,
}

impl Pace {
    /// So many places, none of which was ever filled.
    pub(super) fn new(places: usize) -> Self {
        Self { places, rests_until: Instant::now() }
    }

    /// The places that are free.
    pub(super) const fn room(&self, running: usize) -> usize {
        self.places.saturating_sub(running)
    }

    /// Whether to fill so many places now.
    pub(super) fn allows(&self, room: usize) -> bool {
        room > 0 && (room * 2 >= self.places || self.rests_until <= Instant::now())
    }

    /// They are filled now, as far as there is something to fill them with.
    pub(super) fn claims(&mut self) {
        self.rests_until = Instant::now() + REST;
    }

    /// Waits for the end of the rest.
    pub(super) async fn rested(&self) {
        tokio::time::sleep_until(self.rests_until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn any_place_is_filled_after_a_rest_and_many_at_once() {
        let mut pace = Pace::new(128);
        assert_eq!((pace.room(65), pace.room(128), pace.room(200)), (63, 0, 0));
        pace.claims();
        assert!(pace.allows(64) && !pace.allows(63) && !pace.allows(0));
        pace.rested().await;
        assert!(pace.allows(63) && pace.allows(1) && !pace.allows(0));
        let one = Pace::new(1);
        assert!(one.allows(1) && !one.allows(0));
    }
}
