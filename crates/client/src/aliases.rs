//! Aliases of a function.

use http::Method;

use crate::client::{Client, Content, Reply};
use crate::error::ClientError;
use crate::functions::below;
use crate::wire::{Alias, AliasFields, AliasList};

impl Client {
    /// All aliases of a function.
    pub async fn aliases(&self, function: &str) -> Result<Reply<AliasList>, ClientError> {
        self.call(Method::GET, &below(function, &["aliases"]), Content::default()).await
    }

    /// One alias.
    pub async fn alias(&self, function: &str, alias: &str) -> Result<Reply<Alias>, ClientError> {
        self.call(Method::GET, &below(function, &["aliases", alias]), Content::default()).await
    }

    /// Creates the alias or points it elsewhere.
    pub async fn set_alias(
        &self,
        function: &str,
        alias: &str,
        fields: &AliasFields,
    ) -> Result<Reply<Alias>, ClientError> {
        self.call(Method::PUT, &below(function, &["aliases", alias]), Content::json(fields)?).await
    }

    /// Deletes the alias. The versions behind it stay. The reply's body is whatever the server sent, maybe nothing.
    pub async fn delete_alias(&self, function: &str, alias: &str) -> Result<bytes::Bytes, ClientError> {
        let answer =
            self.send(Method::DELETE, &below(function, &["aliases", alias]), Content::default()).await?;
        Ok(answer.success()?.body)
    }
}
