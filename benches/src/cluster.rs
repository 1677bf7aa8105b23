//! Controllers and workers, each a process of its own, that share a database and a folder of code.

use std::process::Command;

use crate::bench::Bench;
use crate::cores::Core;
use crate::server::Server;

/// The secret of nodes that live as long as a measurement.
const TOKEN: &str = "only-for-this-measurement";

/// What the nodes of one cluster share.
pub(crate) struct Cluster {
    name: &'static str,
    database: String,
    redis: Option<String>,
}

impl Cluster {
    /// A cluster without nodes.
    pub(crate) fn new(name: &'static str, database: &str, redis: Option<&str>) -> Self {
        Self { name, database: database.to_owned(), redis: redis.map(str::to_owned) }
    }

    pub(crate) fn controller(&self, bench: &Bench) -> anyhow::Result<Server> {
        let mut command = Command::new(bench.server()?);
        self.start(bench, "controller", command.arg("controller"))
    }

    /// A worker of this name, on the whole machine or on one core that is made for it.
    pub(crate) fn worker(
        &self,
        bench: &Bench,
        name: &str,
        core: Option<&Core>,
        flags: &[&str],
    ) -> anyhow::Result<Server> {
        let program = bench.server()?;
        let mut command = core.map_or_else(|| Command::new(&program), |core| core.command(&program));
        self.start(bench, name, command.args(["worker", "--worker-id", name]).args(flags))
    }

    /// Starts a node with a data folder of its own, in which the folder of code is everybody's.
    fn start(&self, bench: &Bench, node: &str, command: &mut Command) -> anyhow::Result<Server> {
        let name = format!("{}-{node}", self.name);
        let (code, data) = (bench.scratch(&format!("{}-code", self.name)), bench.scratch(&name));
        std::fs::create_dir_all(&code)?;
        if !data.exists() {
            std::fs::create_dir(&data)?;
            std::os::unix::fs::symlink(code, data.join("artifacts"))?;
        }
        command.env("IMPULS_DB_CONN", &self.database).env("IMPULS_CLUSTER_TOKEN", TOKEN);
        if let Some(redis) = &self.redis {
            command.env("IMPULS_REDIS", redis);
        }
        Server::launch(bench, &name, command)
    }
}
