//! What nodes show each other before one does what another asks.

use std::sync::Arc;

use crate::tls::Tls;
use crate::token::Token;

/// How a node knows the others, and they it. With neither, everybody is taken for a node.
#[derive(Clone, Default)]
pub struct Trust {
    /// The secret that every request shows.
    pub token: Option<Token>,
    /// The certificates that both ends of every connection show.
    pub tls: Option<Arc<Tls>>,
}
