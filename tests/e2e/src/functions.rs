//! Deploying and calling functions.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::http::Reply;
use crate::server::Server;

/// The path of all functions.
pub const FUNCTIONS: &str = "/api/v1/functions";

/// A text that no other test uses, good as a function's name and as a mark in a command line.
#[must_use]
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The path of a function.
#[must_use]
pub fn path(name: &str) -> String {
    format!("{FUNCTIONS}/{name}")
}

/// Node code whose handler first gives its process a mark that the host sees, and then does this.
#[must_use]
pub fn marked(mark: &str, body: &str) -> String {
    format!("exports.handler = async (event) => {{ process.title = '{mark}'; {body} }};")
}

/// The second object's members over the first's.
#[must_use]
pub fn merged(mut base: Value, over: &Value) -> Value {
    for (key, value) in over.as_object().into_iter().flatten() {
        base[key.as_str()] = value.clone();
    }
    base
}

impl Server {
    /// Creates a function, which must succeed, and returns it.
    pub async fn create(&self, fields: &Value) -> Value {
        self.post(FUNCTIONS, fields).await.with_status(201).json()
    }

    async fn create_active(&self, fields: &Value) -> String {
        let created = self.create(fields).await;
        assert_eq!(created["status"], "active", "{created}");
        created["name"].as_str().expect("a function has a name").to_owned()
    }

    /// Deploys Node code whose handler is `index.handler`; returns the name.
    pub async fn node(&self, code: &str) -> String {
        self.node_with(code, &json!({})).await
    }

    /// As [`Server::node`], with further fields.
    pub async fn node_with(&self, code: &str, fields: &Value) -> String {
        let name = unique("node");
        let base = json!({"name": name, "runtime": "nodejs", "handler": "index.handler", "code": code});
        self.create_active(&merged(base, fields)).await
    }

    /// Deploys Python code whose handler is `index.handler`; returns the name.
    pub async fn python(&self, code: &str) -> String {
        self.python_with(code, &json!({})).await
    }

    /// As [`Server::python`], with further fields.
    pub async fn python_with(&self, code: &str, fields: &Value) -> String {
        let name = unique("python");
        let base = json!({"name": name, "runtime": "python", "handler": "index.handler", "code": code});
        self.create_active(&merged(base, fields)).await
    }

    /// Deploys Ruby code whose handler is `index.handler`; returns the name.
    pub async fn ruby(&self, code: &str) -> String {
        self.ruby_with(code, &json!({})).await
    }

    /// As [`Server::ruby`], with further fields.
    pub async fn ruby_with(&self, code: &str, fields: &Value) -> String {
        let name = unique("ruby");
        let base = json!({"name": name, "runtime": "ruby", "handler": "index.handler", "code": code});
        self.create_active(&merged(base, fields)).await
    }

    /// Deploys code that cannot be loaded; returns the name and the error.
    pub async fn broken(&self, fields: &Value) -> (String, Value) {
        let created = self.create(&merged(json!({"name": unique("broken")}), fields)).await;
        assert_eq!(created["status"], "error", "{created}");
        (created["name"].as_str().expect("a function has a name").to_owned(), created["error"].clone())
    }

    /// Calls a function.
    pub async fn invoke(&self, name: &str, event: &Value) -> Reply {
        self.post(&format!("{}/invoke", path(name)), event).await
    }

    /// Calls a function, which must succeed, and returns its result.
    pub async fn call(&self, name: &str, event: &Value) -> Value {
        self.invoke(name, event).await.result()
    }

    /// Changes a function, which must succeed, and returns it.
    pub async fn update(&self, name: &str, fields: &Value) -> Value {
        self.put(&path(name), fields).await.with_status(200).json()
    }

    /// Deletes a function, which must be there.
    pub async fn remove(&self, name: &str) {
        self.delete(&path(name)).await.with_status(200);
    }

    /// Calls a function with the same event many times at once; replies in the order of the calls.
    pub async fn invoke_all(self: &std::sync::Arc<Self>, name: &str, events: Vec<Value>) -> Vec<Reply> {
        let calls: Vec<_> = events
            .into_iter()
            .map(|event| {
                let (server, name) = (self.clone(), name.to_owned());
                tokio::spawn(async move { server.invoke(&name, &event).await })
            })
            .collect();
        let mut replies = Vec::with_capacity(calls.len());
        for call in calls {
            replies.push(call.await.expect("a call does not panic"));
        }
        replies
    }
}
