//! How the driver is set up.

use std::path::PathBuf;

/// Configuration of the process driver.
#[derive(Clone, Debug)]
pub struct Config {
    /// A folder for the sockets of live sandboxes, made with mode 0700 if it is missing. It must be no one
    /// else's; two servers may share it.
    pub run_dir: PathBuf,
    /// The program that is executed as the spawner; its `main` calls [`spawner_main`](crate::spawner_main) when
    /// its first argument is `spawner`. `/proc/self/exe` in the server.
    pub exe: PathBuf,
    /// Whether to go on when layers of isolation that this kind of user normally has are missing; `false` makes
    /// the start fail and name them.
    pub allow_weaker: bool,
}
