//! Everything in one file: a tar archive, compressed with zstd.
//!
//! ```text
//!   impuls-backup.json      the format's number, when and what of; always first
//!   rows/functions/1.json   pages of rows, table by table: arrays of null, number, text or {"base64": …}
//!   artifacts/<digest>      code and what builds made of it
//!   sums.json               how many rows and artifacts there are, and the digests of all rows; always last
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use impuls_artifacts::digest_of;
use impuls_store::{Cell, Row, Table};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::error::TransferError;
use crate::source::{Piece, Progress, Source};
use crate::tally::{Sum, Tally};

const FORMAT: u64 = 1;
const HEADER: &str = "impuls-backup.json";
const SUMS: &str = "sums.json";
/// The most bytes of one entry: a page of rows is a few MiB and one row, an artifact what a build may make.
const ENTRY_LIMIT: u64 = 1024 * 1024 * 1024;
const LEVEL: i32 = 3;

#[derive(Serialize, Deserialize)]
struct Header {
    format: u64,
    created_at: String,
    of: String,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Debug, Default)]
struct Sums {
    tables: BTreeMap<String, Sum>,
    artifacts: u64,
}

impl Sums {
    fn of(tallies: BTreeMap<Table, Tally>, artifacts: u64) -> Self {
        let tables =
            tallies.into_iter().map(|(table, tally)| (table.name().to_owned(), tally.end())).collect();
        Self { tables, artifacts }
    }

    fn counts(&self) -> [u64; 3] {
        let functions = self.tables.get(Table::Functions.name()).map_or(0, |sum| sum.count);
        [functions, self.tables.values().map(|sum| sum.count).sum(), self.artifacts]
    }
}

type Packer = tar::Builder<zstd::Encoder<'static, BufWriter<File>>>;
type Unpacker = tar::Archive<zstd::Decoder<'static, BufReader<File>>>;

/// Writes everything to a new file, for its owner alone; the file appears whole or not at all. Says how many functions,
/// rows and artifacts it has.
pub async fn write_backup(
    source: &mut impl Source,
    path: &Path,
    now: OffsetDateTime,
    progress: &mut dyn Progress,
) -> Result<[u64; 3], TransferError> {
    let failed = |source| TransferError::Io { path: path.to_owned(), source };
    if path.exists() {
        return Err(failed(io::Error::other("it exists; move it away or give another name")));
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Temporary files are their owner's alone.
    let scratch = tempfile::Builder::new().prefix(".impuls-backup-").tempfile_in(folder).map_err(failed)?;
    let file = scratch.as_file().try_clone().map_err(failed)?;
    let encoder = zstd::Encoder::new(BufWriter::new(file), LEVEL).map_err(failed)?;
    let mut packer = tar::Builder::new(encoder);
    let header = Header { format: FORMAT, created_at: now.to_string(), of: source.name().to_owned() };
    append(&mut packer, HEADER, &encode(&header), now).map_err(failed)?;
    progress.total(source.steps().await?);
    let (mut tallies, mut artifacts, mut pages) = (BTreeMap::<Table, Tally>::new(), 0, 0_u64);
    while let Some(piece) = source.next().await? {
        match piece {
            Piece::Rows(table, rows) => {
                let tally = tallies.entry(table).or_default();
                rows.iter().for_each(|row| tally.add(row));
                pages += 1;
                let name = format!("rows/{}/{pages}.json", table.name());
                append(&mut packer, &name, &write_rows(&rows), now).map_err(failed)?;
                progress.doing(table.name());
                progress.done(rows.len() as u64);
            }
            Piece::Artifact(bytes) => {
                progress.doing("artifacts");
                append(&mut packer, &format!("artifacts/{}", digest_of(&bytes)), &bytes, now)
                    .map_err(failed)?;
                artifacts += 1;
            }
        }
    }
    let sums = Sums::of(tallies, artifacts);
    append(&mut packer, SUMS, &encode(&sums), now).map_err(failed)?;
    finish(packer).map_err(failed)?;
    scratch.persist_noclobber(path).map_err(|error| failed(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(sums.counts())
}

fn finish(packer: Packer) -> io::Result<()> {
    let mut written = packer.into_inner()?.finish()?;
    written.flush()?;
    written.get_ref().sync_all()
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    // Structures of texts and numbers.
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

fn append(packer: &mut Packer, name: &str, bytes: &[u8], now: OffsetDateTime) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(now.unix_timestamp()).unwrap_or_default());
    packer.append_data(&mut header, name, bytes)
}

fn write_rows(rows: &[Row]) -> Vec<u8> {
    let cell = |cell: &Cell| match cell {
        Cell::Null => Value::Null,
        Cell::Integer(number) => json!(number),
        Cell::Text(text) => json!(text),
        Cell::Bytes(bytes) => json!({ "base64": STANDARD.encode(bytes) }),
    };
    let rows: Vec<Vec<Value>> = rows.iter().map(|row| row.0.iter().map(cell).collect()).collect();
    serde_json::to_vec(&rows).unwrap_or_default()
}

fn read_rows(bytes: &[u8]) -> Result<Vec<Row>, String> {
    let cell = |value: Value| match value {
        Value::Null => Ok(Cell::Null),
        Value::Number(number) => {
            number.as_i64().map(Cell::Integer).ok_or_else(|| format!("{number} is no whole number"))
        }
        Value::String(text) => Ok(Cell::Text(text)),
        Value::Object(members) => match members.get("base64") {
            Some(Value::String(text)) => {
                STANDARD.decode(text).map(Cell::Bytes).map_err(|error| error.to_string())
            }
            _ => Err("a cell is an object without base64".to_owned()),
        },
        Value::Bool(_) | Value::Array(_) => Err("a cell is no value".to_owned()),
    };
    let rows: Vec<Vec<Value>> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let row = |cells: Vec<Value>| cells.into_iter().map(cell).collect::<Result<_, _>>().map(Row);
    rows.into_iter().map(row).collect()
}

/// A file that was read once to its end and is a whole backup.
pub struct Backup {
    path: PathBuf,
    name: String,
    sums: Sums,
    /// The same file, while it is read again.
    reading: Option<Reading>,
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A thread of one's own reads the archive, whose entries cannot be left and come back to.
type Reading = std::sync::mpsc::Receiver<Result<Piece, TransferError>>;

impl Backup {
    /// Reads the whole file, and compares all digests, before anybody does anything with it. Blocks.
    pub fn open(path: &Path) -> Result<Self, TransferError> {
        let mut found = (BTreeMap::<Table, Tally>::new(), 0);
        let (name, sums) = read(path, |piece| {
            match piece {
                Piece::Rows(table, rows) => {
                    let tally = found.0.entry(table).or_default();
                    rows.iter().for_each(|row| tally.add(row));
                }
                Piece::Artifact(_) => found.1 += 1,
            }
            true
        })?;
        let found = Sums::of(found.0, found.1);
        let Some(sums) = sums.filter(|sums| *sums == found) else {
            let reason = "it is cut off, or its contents are not those that it was written with".to_owned();
            return Err(TransferError::NoBackup { path: path.to_owned(), reason });
        };
        Ok(Self { path: path.to_owned(), name, sums, reading: None })
    }

    /// How many functions, rows and artifacts it has.
    #[must_use]
    pub fn counts(&self) -> [u64; 3] {
        self.sums.counts()
    }

    fn start(&self) -> Reading {
        let (pieces, reading) = std::sync::mpsc::sync_channel(1);
        let path = self.path.clone();
        std::thread::spawn(move || {
            let done = read(&path, |piece| pieces.send(Ok(piece)).is_ok());
            if let Err(error) = done {
                // Nobody listens any more, who could be told.
                drop(pieces.send(Err(error)));
            }
        });
        reading
    }
}

impl Source for Backup {
    fn name(&self) -> &str {
        &self.name
    }

    async fn steps(&mut self) -> Result<u64, TransferError> {
        let [_, rows, _] = self.sums.counts();
        Ok(rows)
    }

    async fn next(&mut self) -> Result<Option<Piece>, TransferError> {
        let reading = match self.reading.take() {
            Some(reading) => reading,
            None => self.start(),
        };
        let piece = reading.recv();
        self.reading = Some(reading);
        // The end of the thread is that of the file.
        piece.ok().transpose()
    }
}

/// Reads the file from its beginning; `take` has every piece, until it wants no more.
fn read(path: &Path, mut take: impl FnMut(Piece) -> bool) -> Result<(String, Option<Sums>), TransferError> {
    let failed = |source| TransferError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let size = fs::metadata(path).map_err(failed)?.size();
    let wrong = |reason: String| TransferError::NoBackup { path: path.to_owned(), reason };
    let decoder = zstd::Decoder::new(file).map_err(failed)?;
    let mut archive: Unpacker = tar::Archive::new(decoder);
    let (mut header, mut sums) = (None, None);
    for entry in archive.entries().map_err(|error| wrong(error.to_string()))? {
        let mut entry = entry.map_err(|error| wrong(error.to_string()))?;
        let name = entry.path().map_err(|error| wrong(error.to_string()))?.display().to_string();
        let mut bytes = Vec::new();
        entry
            .by_ref()
            .take(ENTRY_LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| wrong(error.to_string()))?;
        if bytes.len() as u64 > ENTRY_LIMIT {
            return Err(wrong(format!("{name} has more than {ENTRY_LIMIT} bytes")));
        }
        if header.is_none() {
            header = Some(read_header(&name, &bytes).map_err(|error| {
                error.unwrap_or_else(|| wrong(format!("it does not begin with {HEADER}")))
            })?);
            continue;
        }
        if name == SUMS {
            sums = Some(serde_json::from_slice(&bytes).map_err(|error| wrong(format!("{SUMS}: {error}")))?);
            continue;
        }
        if !take(piece(&name, bytes).map_err(|reason| wrong(format!("{name}: {reason}")))?) {
            break;
        }
    }
    let header = header.ok_or_else(|| wrong("it is empty".to_owned()))?;
    // The same bytes have the same name, so a restore that was cut off goes on.
    Ok((format!("a backup of {} made at {} ({size} bytes)", header.of, header.created_at), sums))
}

/// `Err(None)` if it is no header at all.
fn read_header(name: &str, bytes: &[u8]) -> Result<Header, Option<TransferError>> {
    if name != HEADER {
        return Err(None);
    }
    let header: Header = serde_json::from_slice(bytes).map_err(|_| None)?;
    if header.format == FORMAT {
        Ok(header)
    } else {
        Err(Some(TransferError::Format { found: header.format, known: FORMAT }))
    }
}

fn piece(name: &str, bytes: Vec<u8>) -> Result<Piece, String> {
    if let Some(digest) = name.strip_prefix("artifacts/") {
        let bytes = Bytes::from(bytes);
        if digest_of(&bytes).to_string() != digest {
            return Err("its bytes have another digest".to_owned());
        }
        return Ok(Piece::Artifact(bytes));
    }
    let table = name.strip_prefix("rows/").and_then(|rest| rest.split('/').next());
    let table = Table::ALL.into_iter().find(|known| Some(known.name()) == table);
    let table = table.ok_or_else(|| "it is not known".to_owned())?;
    let rows = read_rows(&bytes)?;
    if rows.iter().any(|row| row.0.len() != table.columns().len()) {
        return Err("a row has not the columns of its table".to_owned());
    }
    Ok(Piece::Rows(table, rows))
}
