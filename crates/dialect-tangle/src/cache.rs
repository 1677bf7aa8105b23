//! Results of commands that were run with mode `cached`: bounded in number, size and age.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use impuls_dispatch::Executed;
use tokio::time::Instant;

use crate::wire::Order;

/// How long a result is good for, as in the original.
const LIFETIME: Duration = Duration::from_secs(3_600);
/// The most results.
const ENTRIES: usize = 1_000;
/// The most bytes of output in all results.
const BYTES: usize = 64 * 1024 * 1024;

/// Everything that a command's result depends on, and the key that the caller chose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    image: String,
    runtime: Option<String>,
    argv: Vec<String>,
    environment: BTreeMap<String, String>,
    working_dir: Option<String>,
    stdin: Vec<u8>,
    cache_key: Option<String>,
}

impl Key {
    pub(crate) fn of(order: &Order) -> Self {
        Self {
            image: order.image.clone(),
            runtime: order.runtime.clone(),
            argv: order.argv.clone(),
            environment: order.environment.variables().clone(),
            working_dir: order.working_dir.clone(),
            stdin: order.stdin.clone(),
            cache_key: order.cache_key.clone(),
        }
    }

    fn size(&self) -> usize {
        self.stdin.len() + self.argv.iter().map(String::len).sum::<usize>()
    }
}

struct Entry {
    executed: Executed,
    made: Instant,
    size: usize,
}

/// The results; time is handed in.
#[derive(Default)]
pub(crate) struct Cache {
    entries: HashMap<Key, Entry>,
    /// Oldest first.
    order: VecDeque<Key>,
    bytes: usize,
}

impl Cache {
    /// A result that is not too old.
    pub(crate) fn get(&mut self, key: &Key, now: Instant) -> Option<Executed> {
        while let Some(oldest) = self.order.front()
            && self.entries.get(oldest).is_none_or(|entry| now.duration_since(entry.made) >= LIFETIME)
        {
            self.drop_oldest();
        }
        self.entries.get(key).map(|entry| entry.executed.clone())
    }

    /// Keeps a result, at the cost of the oldest ones. One that is larger than the whole cache is not kept.
    pub(crate) fn put(&mut self, key: Key, executed: Executed, now: Instant) {
        let size = key.size() + executed.stdout.len() + executed.stderr.len();
        if size > BYTES || self.entries.contains_key(&key) {
            return;
        }
        while self.entries.len() >= ENTRIES || self.bytes + size > BYTES {
            self.drop_oldest();
        }
        self.bytes += size;
        self.order.push_back(key.clone());
        self.entries.insert(key, Entry { executed, made: now, size });
    }

    fn drop_oldest(&mut self) {
        let dropped = self.order.pop_front().and_then(|key| self.entries.remove(&key));
        self.bytes -= dropped.map_or(0, |entry| entry.size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key {
            image: "alpine".to_owned(),
            runtime: None,
            argv: vec![text.to_owned()],
            environment: BTreeMap::new(),
            working_dir: None,
            stdin: Vec::new(),
            cache_key: None,
        }
    }

    fn result(bytes: usize) -> Executed {
        Executed { stdout: vec![b'x'; bytes].into(), ..Executed::default() }
    }

    #[test]
    fn a_result_is_good_for_an_hour() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(key("a"), result(1), now);
        assert_eq!(cache.get(&key("a"), now + LIFETIME / 2), Some(result(1)));
        assert_eq!(cache.get(&key("b"), now), None);
        assert_eq!(cache.get(&key("a"), now + LIFETIME), None);
        assert_eq!((cache.bytes, cache.entries.len()), (0, 0));
    }

    #[test]
    fn the_oldest_results_make_room() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for n in 0..ENTRIES + 5 {
            cache.put(key(&n.to_string()), result(1), now);
        }
        assert_eq!((cache.entries.len(), cache.order.len()), (ENTRIES, ENTRIES));
        assert_eq!(cache.get(&key("4"), now), None);
        cache.put(key("large"), result(BYTES - 100), now);
        assert!(cache.bytes <= BYTES && cache.get(&key("large"), now).is_some());
        cache.put(key("too large"), result(BYTES), now);
        assert_eq!(cache.get(&key("too large"), now), None);
    }
}
