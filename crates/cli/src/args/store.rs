//! What `store apply` takes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use super::node::{NodeArgs, PlaceArgs};
use super::parsers::path;
use super::serve::ServeArgs;
use crate::config::{ConfigError, ServeConfig};

/// Which database `store apply` brings up to date: the same flags, variables and file as for `serve`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyArgs {
    /// Which storage; of those of one machine the server makes the tables when it starts.
    #[arg(long, value_name = "NAME", default_value = "postgres")]
    pub storage: String,
    /// Which database, as for `serve`.
    #[arg(long, value_name = "STRING", env = "IMPULS_DB_CONN", hide_env_values = true)]
    pub db_conn: Option<String>,
    /// The server's configuration file.
    #[arg(long, value_name = "FILE", env = "IMPULS_CONFIG", value_parser = path())]
    pub config: Option<PathBuf>,
}

impl ApplyArgs {
    /// What the server would be told of its store by the same file, variables and flags. Whether it may make tables by
    /// itself does not count here: it is asked to.
    pub fn load(self) -> Result<ServeConfig, ConfigError> {
        let Self { storage, db_conn, config } = self;
        // Nobody listens; so the variables of the server's addresses have no say.
        let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let place = PlaceArgs { config, ..PlaceArgs::default() };
        let no_auto_migrate = Some(false);
        let storage = Some(storage);
        let node = NodeArgs { storage, db_conn, place, listen, no_auto_migrate, ..NodeArgs::default() };
        ServeArgs::from(node).load()
    }
}
