//! Prints the OpenAPI document; `cargo xtask gen` writes it to `openapi/impuls.json`.

use std::io::{Write as _, stdout};

fn main() -> std::io::Result<()> {
    stdout().write_all(impuls_api::openapi_json().as_bytes())
}
