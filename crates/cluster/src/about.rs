//! What a worker says of itself to everybody, in the store.

use impuls_runtimes::Announced;
use serde::{Deserialize, Serialize};

/// What a worker says of itself. Members that a reader does not know are skipped, and those that a writer did not know
/// have their defaults, so that two releases understand each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Where its internal listener is reached: `host:port`.
    pub address: String,
    /// Whether it takes connections with TLS alone.
    #[serde(default)]
    pub tls: bool,
    /// The version of the program.
    #[serde(default)]
    pub version: String,
    /// Whether it takes nothing new, because it stops.
    #[serde(default)]
    pub draining: bool,
    /// Calls that it has now.
    #[serde(default)]
    pub load: usize,
    /// Calls that it runs side by side without them being felt.
    #[serde(default)]
    pub slots: usize,
    /// The memory of its machine, in MiB; 0 if it does not know.
    #[serde(default)]
    pub memory_mib: u64,
    /// Whether its sandboxes can have a network.
    #[serde(default)]
    pub network: bool,
    /// The runtimes that it has.
    #[serde(default)]
    pub runtimes: Vec<Announced>,
}

impl About {
    /// Whether it can run code of this runtime, by version name.
    #[must_use]
    pub fn has(&self, runtime: &str) -> bool {
        self.runtimes.iter().any(|announced| announced.name == runtime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_release_says_is_understood() {
        let about: About = serde_json::from_str(r#"{"address": "a:1", "mood": "good", "load": 3}"#).unwrap();
        assert_eq!(about, About { address: "a:1".to_owned(), load: 3, ..About::default() });
    }
}
