//! Functions that run whatever code the event brings, for looking around in a sandbox.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::server::Server;

const NODE: &str = "
    const AsyncFunction = (async () => {}).constructor;
    exports.handler = async (event) => new AsyncFunction('event', 'require', event.code)(event, require);";

const PYTHON: &str = "
def handler(event, context):
    names = {'event': event, 'result': None}
    exec(event['code'], names)
    return names['result']
";

/// A deployed function that runs code.
pub struct Probe {
    /// Its server.
    pub server: Arc<Server>,
    /// Its name.
    pub name: String,
}

impl Probe {
    /// One that runs the body of an async JavaScript function and returns what that returns.
    pub async fn node(server: &Arc<Server>, fields: &Value) -> Self {
        Self { server: server.clone(), name: server.node_with(NODE, fields).await }
    }

    /// One that runs Python statements and returns what they leave in `result`.
    pub async fn python(server: &Arc<Server>, fields: &Value) -> Self {
        Self { server: server.clone(), name: server.python_with(PYTHON, fields).await }
    }

    /// Runs code in the sandbox.
    pub async fn run(&self, code: &str) -> Value {
        self.server.call(&self.name, &json!({"code": code})).await
    }
}
