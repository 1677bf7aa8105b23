//! What servers stand on: PostgreSQL and Redis, started for the run as tests start them, or named by whoever runs it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, bail};
use impuls_testkit::postgres::programs;
use impuls_testkit::{Postgres, PostgresOptions, SomeDatabase, SomeRedis};

use crate::bench::{Bench, EVENT};
use crate::load::CONNECTIONS;

/// It ends with the process.
static OWN: LazyLock<Postgres> = LazyLock::new(start);
/// How long `pgbench` may take.
const MOST_WAIT: Duration = Duration::from_secs(120);
/// What the line begins with in which `pgbench` says how fast it was.
const FIGURE: &str = "tps = ";

fn start() -> Postgres {
    Postgres::start(PostgresOptions { durable: true, ..PostgresOptions::default() })
}

fn installed() -> anyhow::Result<PathBuf> {
    programs().context("PostgreSQL is missing (Debian package postgresql; `cargo xtask setup` installs it)")
}

/// A PostgreSQL server of one measurement's own, which keeps what it is given as it would elsewhere.
pub(crate) fn postgres() -> anyhow::Result<Postgres> {
    installed().map(|_| start())
}

/// A new database of the server that is named, or of one that all measurements share.
pub(crate) fn database(bench: &Bench) -> anyhow::Result<SomeDatabase> {
    installed()?;
    Ok(match &bench.options.database {
        Some(server) => SomeDatabase::within(server.clone()),
        None => SomeDatabase::of(&OWN),
    })
}

/// The Redis server that is named, or a new one.
pub(crate) fn redis(bench: &Bench) -> anyhow::Result<SomeRedis> {
    if Command::new("redis-server").arg("--version").output().is_err() {
        bail!("Redis is missing (Debian package redis-server; `cargo xtask setup` installs it)");
    }
    Ok(bench.options.redis.clone().map_or_else(SomeRedis::get, SomeRedis::emptied))
}

/// A program that does nothing but insert the event into a table, one row in each commit: `pgbench`.
pub(crate) struct Inserts {
    database: SomeDatabase,
    programs: PathBuf,
}

impl Inserts {
    pub(crate) fn prepare(bench: &Bench) -> anyhow::Result<Self> {
        let (database, programs) = (database(bench)?, installed()?);
        let table = "CREATE TABLE bare (id bigserial PRIMARY KEY, event text NOT NULL)";
        let made = Command::new(programs.join("psql")).args(["-qXc", table, database.url()]).output()?;
        if !made.status.success() {
            bail!("cannot make a table: {}", String::from_utf8_lossy(&made.stderr));
        }
        std::fs::write(bench.scratch("insert.sql"), "INSERT INTO bare (event) VALUES (:event);\n")?;
        Ok(Self { database, programs })
    }

    /// Inserts about so many over as many connections as the load has, and gives how many there were in a second.
    pub(crate) fn run(&self, bench: &Bench, rows: u32) -> anyhow::Result<f64> {
        let mut command = Command::new(self.programs.join("pgbench"));
        command.args(["--no-vacuum", "--protocol=prepared", "--jobs=1"]);
        command.arg(format!("--define=event={EVENT}"));
        command.arg(format!("--client={CONNECTIONS}")).arg(format!("--transactions={}", rows / CONNECTIONS));
        command.arg("--file").arg(bench.scratch("insert.sql")).arg(self.database.url());
        let running = bench.processes.start(&mut command, &bench.scratch("pgbench.log"))?;
        let output = running.finished(MOST_WAIT)?;
        let figure =
            output.lines().find_map(|line| line.strip_prefix(FIGURE)?.split(' ').next()?.parse().ok());
        figure.with_context(|| format!("pgbench wrote no figure:\n{output}"))
    }
}
