//! Lists that come in pages, put together.

use bytes::Bytes;
use impuls_client::{Client, ClientError, ListQuery};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::CliError;

/// The server's own pages, put together: the JSON of each element stays as it came.
#[derive(Deserialize, Serialize)]
struct Page {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    functions: Vec<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    versions: Vec<Box<RawValue>>,
    count: usize,
}

/// The bodies of all pages as one; a single page stays byte for byte as it came.
pub(super) fn join(bodies: &[Bytes]) -> Result<Bytes, CliError> {
    if let [only] = bodies {
        return Ok(only.clone());
    }
    let mut all = Page { functions: Vec::new(), versions: Vec::new(), count: 0 };
    for body in bodies {
        let page: Page = serde_json::from_slice(body).map_err(ClientError::Reply)?;
        all.functions.extend(page.functions);
        all.versions.extend(page.versions);
    }
    all.count = all.functions.len() + all.versions.len();
    let bytes = serde_json::to_vec(&all).map_err(|error| ClientError::Request(error.into()))?;
    Ok(bytes.into())
}

/// All functions, or at most `limit`, with the bodies they came in.
pub(super) async fn functions(
    client: &Client,
    limit: Option<u32>,
    fields: Option<&str>,
) -> Result<(Vec<impuls_client::wire::Function>, Vec<Bytes>), CliError> {
    let (mut all, mut bodies) = (Vec::new(), Vec::new());
    let mut query = ListQuery { limit, cursor: None, fields: fields.map(str::to_owned) };
    loop {
        let reply = client.list_functions(&query).await?;
        all.extend(reply.value.functions);
        bodies.push(reply.body);
        match reply.value.next_cursor {
            // A cursor that does not move would never end.
            Some(next) if limit.is_none() && query.cursor.as_ref() != Some(&next) => {
                query.cursor = Some(next);
            }
            _ => return Ok((all, bodies)),
        }
    }
}

/// All versions of a function, with the bodies they came in.
pub(super) async fn versions(
    client: &Client,
    name: &str,
) -> Result<(Vec<impuls_client::wire::Function>, Vec<Bytes>), CliError> {
    let (mut all, mut bodies, mut cursor) = (Vec::new(), Vec::new(), None::<String>);
    loop {
        let reply = client.versions(name, cursor.as_deref()).await?;
        all.extend(reply.value.versions);
        bodies.push(reply.body);
        match reply.value.next_cursor {
            Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
            _ => return Ok((all, bodies)),
        }
    }
}
