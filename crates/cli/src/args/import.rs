//! What `import` takes.

use std::path::PathBuf;

use clap::Args;

use super::parsers::path;

/// What `import` takes.
#[derive(Args, Clone, PartialEq, Eq)]
pub struct ImportArgs {
    /// What an earlier server has left: a folder with functions/metadata, or postgres://user:password@host/database with
    /// the tables of the first Impuls or of GoFaas.
    #[arg(value_name = "SOURCE", env = "IMPULS_IMPORT_SOURCE", hide_env_values = true)]
    pub source: String,
    /// The folder of GoFaas' code, its STORAGE_BASE_DIR.
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub code: Option<PathBuf>,
}

/// Nothing: there are passwords among the values.
impl std::fmt::Debug for ImportArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportArgs").finish_non_exhaustive()
    }
}
