//! `impuls migrate`, `impuls backup` and `impuls restore`.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use impuls_cli::{BackupArgs, MigrateArgs, RestoreArgs};
use impuls_transfer::{Backup, Filled, Progress, Source, StoreSource, fill, write_backup};
use indicatif::{ProgressBar, ProgressStyle};
use time::OffsetDateTime;

use crate::place::{Place, Writing};

/// How the bar looks.
const BAR: &str = "{bar:30} {pos}/{len} {msg}";

/// A bar on standard error, where that is a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::no_length();
        if let Ok(style) = ProgressStyle::with_template(BAR) {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Progress for Bar {
    fn total(&mut self, steps: u64) {
        self.0.set_length(steps);
    }

    fn done(&mut self, steps: u64) {
        self.0.inc(steps);
    }

    fn doing(&mut self, what: &str) {
        self.0.set_message(what.to_owned());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn wait_for(work: impl Future<Output = anyhow::Result<String>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let told = runtime.block_on(work)?;
    writeln!(std::io::stdout(), "{told}")?;
    Ok(())
}

fn counted([functions, rows, artifacts]: [u64; 3]) -> String {
    format!("{functions} functions, {rows} rows and {artifacts} artifacts")
}

fn and_missing(missing: u64) -> String {
    match missing {
        0 => String::new(),
        some => format!("; {some} artifacts that functions need were lost at the source and are missing"),
    }
}

/// `impuls migrate`.
pub(crate) fn migrate(args: MigrateArgs) -> anyhow::Result<()> {
    let (from_artifacts, to_artifacts) = args.artifacts()?;
    let from = Place::parse(&args.from, from_artifacts, "--from-artifacts").context("--from")?;
    let to = Place::parse(&args.to, to_artifacts, "--to-artifacts").context("--to")?;
    if from.is(&to) {
        bail!(
            "--from and --to are the same store; `impuls serve --storage file` makes files of an SQLite store by itself"
        );
    }
    wait_for(async {
        let reading = from.read(true).await.context("cannot read the source")?;
        let mut source =
            StoreSource::new(reading.name, reading.state, reading.artifacts, args.allow_missing_code);
        let writing = to.write().await.context("cannot open the target")?;
        let told = take(&mut source, writing, &to).await?;
        Ok(told + &and_missing(source.missing()))
    })
}

/// `impuls backup`.
pub(crate) fn backup(args: BackupArgs) -> anyhow::Result<()> {
    let from = Place::of_server(args.store)?;
    wait_for(async {
        let reading = from.read(false).await.context("cannot read the store")?;
        let mut source =
            StoreSource::new(reading.name, reading.state, reading.artifacts, args.allow_missing_code);
        let now = OffsetDateTime::now_utc();
        let counts = write_backup(&mut source, &args.file, now, &mut Bar::new()).await?;
        let file = args.file.display();
        Ok(format!("{file} has {} of {from}{}", counted(counts), and_missing(source.missing())))
    })
}

/// `impuls restore`.
pub(crate) fn restore(args: RestoreArgs) -> anyhow::Result<()> {
    let mut source = Backup::open(&args.file)?;
    let to = Place::of_server(args.store)?;
    wait_for(async {
        let writing = to.write().await.context("cannot open the store")?;
        take(&mut source, writing, &to).await
    })
}

/// Fills a store and has it say so.
async fn take(source: &mut impl Source, writing: Writing, to: &Place) -> anyhow::Result<String> {
    let now = OffsetDateTime::now_utc();
    let told = match fill(source, &writing.target, now, &mut Bar::new()).await? {
        Filled::Now(filled) => {
            writing.write_files().await.context("cannot write the files of functions")?;
            let counts = counted(filled.counts);
            filled.finish(OffsetDateTime::now_utc()).await?;
            format!("{to} has {counts}, which are the same as at the source")
        }
        Filled::Before { at, counts } => {
            let counts = counted(counts);
            format!("{to} was filled from here before, at {at}, and has the same: {counts}; nothing was done")
        }
    };
    writing.close().await?;
    Ok(told)
}
