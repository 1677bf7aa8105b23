//! A function.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize, Serializer};

use super::network::Network;

/// What to create or to change. A member that is `None` keeps its value, or gets its default on creation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FunctionFields {
    /// The name; needed on creation and fixed afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its owner wrote about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The language: `nodejs20`, `python`, ….
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// What to call: `file.function`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// The source text of a function of one file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The bytes of a zip archive, instead of `code`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "base64_text")]
    pub zip: Option<Vec<u8>>,
    /// Memory of one sandbox, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// Time for one invocation, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_sec: Option<u64>,
    /// Environment variables; replaces all earlier ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<BTreeMap<String, String>>,
    /// `module`, `scoped`, `program`, `command`, `bootstrap` or `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contract: Option<String>,
    /// A shell's command, for the contracts `command` and `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The owner's labels; replaces all earlier ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Invocations that one sandbox runs at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Invocations of the function at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// Processor share of one sandbox, in cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpu: Option<f64>,
    /// How long an unused sandbox is kept, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_sec: Option<u64>,
    /// Sandboxes that are kept however long they are unused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_warm: Option<u32>,
    /// The isolation technology.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// What the sandbox may reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

fn base64_text<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
    bytes.as_ref().map(|bytes| STANDARD.encode(bytes)).serialize(to)
}

/// A function, or one version of it. A member that the reply left out has its type's default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Function {
    /// The id, a UUID.
    pub id: String,
    /// The name.
    pub name: String,
    /// What the name is unique within; empty for functions of the native API.
    pub scope: String,
    /// What its owner wrote about it.
    pub description: Option<String>,
    /// The language.
    pub runtime: String,
    /// What is called: `file.function`.
    pub handler: String,
    /// The source text of a function of one file.
    pub code: Option<String>,
    /// Memory of one sandbox, in MiB.
    pub memory_mb: u32,
    /// Time for one invocation, in seconds.
    pub timeout_sec: u64,
    /// Environment variables.
    pub environment: Option<BTreeMap<String, String>>,
    /// When it was created (RFC 3339).
    pub created_at: String,
    /// When it was last changed (RFC 3339).
    pub updated_at: String,
    /// When this version was published (RFC 3339); only in a list of versions.
    pub published_at: Option<String>,
    /// `active`, or `error` when the code does not load.
    pub status: String,
    /// Why the code does not load.
    pub error: Option<LoadError>,
    /// The current version.
    pub version: Option<u64>,
    /// The id of the deploy.
    pub revision_id: String,
    /// SHA-256 of the code, in hexadecimal.
    pub code_sha256: String,
    /// Size of the code, in bytes.
    pub code_size: u64,
    /// `source` or `zip`.
    pub package: String,
    /// `module`, `scoped`, `program`, `command`, `bootstrap` or `http`.
    pub contract: String,
    /// What is run, for the contracts `command` and `http`.
    pub command: Vec<String>,
    /// The owner's labels.
    pub metadata: BTreeMap<String, String>,
    /// Invocations that one sandbox runs at once.
    pub concurrency: u32,
    /// Invocations of the function at once.
    pub max_concurrency: Option<u32>,
    /// Processor share of one sandbox, in cores.
    pub vcpu: f64,
    /// How long an unused sandbox is kept, in seconds.
    pub idle_timeout_sec: u64,
    /// Sandboxes that are kept however long they are unused.
    pub min_warm: u32,
    /// The isolation technology.
    pub driver: String,
    /// What the sandbox may reach.
    pub network: Network,
}

/// Why a function's code does not load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LoadError {
    /// The language's own name of the error, such as `SyntaxError`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One sentence for a person.
    pub message: String,
    /// The file within the function's code.
    pub file: Option<String>,
    /// The line within the file, from 1.
    pub line: Option<u64>,
}

/// One page of functions.
#[derive(Clone, Debug, Deserialize)]
pub struct FunctionList {
    /// The functions of this page.
    pub functions: Vec<Function>,
    /// How many functions there are in all.
    #[serde(default)]
    pub count: u64,
    /// Where the next page starts, if there is one.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// The answer to a deletion.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Deleted {
    /// One sentence for a person.
    pub message: String,
    /// The deleted function.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_given_fields_are_sent_and_archives_are_base64() {
        let fields = FunctionFields { zip: Some(b"PK".to_vec()), vcpu: Some(0.5), ..Default::default() };
        assert_eq!(serde_json::to_string(&fields).unwrap(), r#"{"zip":"UEs=","vcpu":0.5}"#);
    }

    #[test]
    fn a_partial_object_is_read() {
        let function: Function = serde_json::from_str(r#"{"name":"a","later":1}"#).unwrap();
        assert_eq!(function, Function { name: "a".into(), ..Function::default() });
    }
}
