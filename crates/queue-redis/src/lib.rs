//! Offers of asynchronous invocations in a stream of a Redis server, which several servers share; see
//! [`impuls_queue::InvocationQueue`] for what that promises.

mod link;
mod queue;
mod reader;
mod server;
mod writer;

pub use queue::RedisQueue;
pub use server::{RedisServer, RedisServerError};
