//! The handlers: each extracts, makes one call inward and converts.

pub(crate) mod aliases;
pub(crate) mod automation;
mod deploying;
pub(crate) mod function_url;
pub(crate) mod functions;
pub(crate) mod invocations;
pub(crate) mod logs;
pub(crate) mod sandboxes;
pub(crate) mod server;
pub(crate) mod versions;
