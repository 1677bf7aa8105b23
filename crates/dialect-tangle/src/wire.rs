//! What clients send and what they get, and the checks between that and the domain.

pub mod execute;
pub mod payload;
pub mod variables;

pub(crate) use execute::{ExecuteBody, Mode, Order, Shape};
pub(crate) use variables::environment;
