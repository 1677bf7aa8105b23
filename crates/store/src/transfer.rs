//! Everything that a store has, as rows that mean the same in every store: what moves from one to another, and what a
//! backup holds.
//!
//! A row is not looked into on its way. Whoever reads it from the store where it ends up checks it as every other row.

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;

/// The kinds of rows, in an order in which nothing comes before what it refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the table of its name")]
pub enum Table {
    Functions,
    Revisions,
    Versions,
    Aliases,
    AliasTargets,
    Builds,
    Invocations,
    AsyncSettings,
    Schedules,
    AsyncInvocations,
}

/// What a cell of a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A UUID as 16 bytes.
    Id,
    /// Bytes.
    Bytes,
    /// A text; any characters, NUL among them.
    Text,
    /// A number.
    Integer,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in every store.
    pub name: &'static str,
    /// What it holds, or NULL.
    pub kind: Kind,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// NULL.
    Null,
    /// A number.
    Integer(i64),
    /// A text.
    Text(String),
    /// Bytes, or a UUID.
    Bytes(Vec<u8>),
}

/// The values of a row, in the order of [`Table::columns`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(pub Vec<Cell>);

impl Row {
    /// About how much memory it takes, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let bytes = |cell: &Cell| match cell {
            Cell::Null | Cell::Integer(_) => 0,
            Cell::Text(text) => text.len(),
            Cell::Bytes(bytes) => bytes.len(),
        };
        self.0.iter().map(|cell| bytes(cell) + size_of::<Cell>()).sum()
    }
}

macro_rules! columns {
    ($($name:literal: $kind:ident),* $(,)?) => { &[$(Column { name: $name, kind: Kind::$kind }),*] };
}

impl Table {
    /// Every kind, in the order in which rows are put into a store.
    pub const ALL: [Self; 10] = [
        Self::Functions,
        Self::Revisions,
        Self::Versions,
        Self::Aliases,
        Self::AliasTargets,
        Self::Builds,
        Self::Invocations,
        Self::AsyncSettings,
        Self::Schedules,
        Self::AsyncInvocations,
    ];

    /// Its name, in backups and after whatever prefix a store has.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Functions => "functions",
            Self::Revisions => "revisions",
            Self::Versions => "versions",
            Self::Aliases => "aliases",
            Self::AliasTargets => "alias_targets",
            Self::Builds => "builds",
            Self::Invocations => "invocations",
            Self::AsyncSettings => "async_settings",
            Self::Schedules => "schedules",
            Self::AsyncInvocations => "async_invocations",
        }
    }

    /// How many of the first columns are the key.
    #[must_use]
    pub const fn key_columns(self) -> usize {
        match self {
            Self::Versions | Self::Aliases => 2,
            Self::AliasTargets => 3,
            Self::Functions
            | Self::Revisions
            | Self::Builds
            | Self::Invocations
            | Self::AsyncSettings
            | Self::Schedules
            | Self::AsyncInvocations => 1,
        }
    }

    /// The columns that have something to say in every store, the key first.
    #[must_use]
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Functions => FUNCTIONS,
            Self::Revisions => REVISIONS,
            Self::Versions => {
                columns!["function": Id, "number": Integer, "revision": Id, "published_at": Integer]
            }
            Self::Aliases => {
                columns!["function": Id, "name": Text, "description": Text, "updated_at": Integer]
            }
            Self::AliasTargets => columns![
                "function": Id, "alias": Text, "position": Integer, "version": Integer, "weight": Integer,
            ],
            Self::Builds => columns!["key": Bytes, "artifact": Bytes, "created_at": Integer],
            Self::Invocations => INVOCATIONS,
            Self::AsyncSettings => columns!["function": Id, "policy": Text, "destinations": Text],
            Self::Schedules => SCHEDULES,
            Self::AsyncInvocations => ASYNC_INVOCATIONS,
        }
    }

    /// The columns that hold digests of artifacts.
    #[must_use]
    pub const fn artifact_columns(self) -> &'static [&'static str] {
        match self {
            Self::Revisions => &["artifact", "built"],
            Self::Builds => &["artifact"],
            _ => &[],
        }
    }

    /// The place of a column in a row.
    #[must_use]
    pub fn place(self, column: &str) -> Option<usize> {
        self.columns().iter().position(|known| known.name == column)
    }
}

const FUNCTIONS: &[Column] = columns![
    "id": Id, "scope": Text, "name": Text, "latest": Id, "latest_version": Integer, "state": Text,
    "failure_class": Text, "failure_message": Text, "failure_file": Text, "failure_line": Integer,
    "state_log": Text, "created_at": Integer, "updated_at": Integer,
];
const REVISIONS: &[Column] = columns![
    "id": Id, "function": Id, "artifact": Bytes, "layout": Text, "code_size": Integer, "built": Bytes,
    "build_failure": Text, "runtime": Text, "contract": Text, "handler": Text, "command": Text,
    "description": Text, "metadata": Text, "environment": Text, "memory_mib": Integer, "timeout_ms": Integer,
    "milli_vcpu": Integer, "concurrency": Integer, "max_concurrency": Integer, "idle_timeout_sec": Integer,
    "min_warm": Integer, "driver": Text, "network": Text, "created_at": Integer,
];
const INVOCATIONS: &[Column] = columns![
    "id": Id, "function": Id, "revision": Id, "version": Integer, "status": Text, "error_type": Text,
    "error_class": Text, "error_message": Text, "error_stack": Text, "duration_ns": Integer,
    "init_duration_ns": Integer, "memory_mib": Integer, "started_at": Integer, "log_dropped": Integer,
    "logs": Bytes, "exchange": Bytes,
];
const SCHEDULES: &[Column] = columns![
    "id": Id, "function": Id, "name": Text, "qualifier": Text, "interval_ms": Integer, "expression": Text,
    "time_zone": Text, "enabled": Integer, "next_tick": Integer, "last_tick": Integer, "created_at": Integer,
    "updated_at": Integer, "event": Bytes,
];
const ASYNC_INVOCATIONS: &[Column] = columns![
    "id": Id, "function": Id, "qualifier": Text, "status": Text, "attempt": Integer, "due": Integer,
    "timeout_ms": Integer, "policy": Text, "destinations": Text, "hook": Text, "idempotency_key": Text,
    "origin": Id, "chain": Integer, "failures": Integer, "throttled": Integer, "broken": Integer,
    "deaths": Integer, "created_at": Integer, "ready_at": Integer, "started_at": Integer,
    "completed_at": Integer, "error_type": Text, "error_class": Text, "error_message": Text,
    "error_stack": Text, "duration_ns": Integer, "init_duration_ns": Integer, "memory_mib": Integer,
    "measured": Text, "log_dropped": Integer, "logs": Bytes, "result": Bytes, "context": Bytes, "event": Bytes,
];

/// What fills a store from elsewhere, or has filled it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filling {
    /// What it comes from; a name that another source does not have.
    pub source: String,
    /// When that began.
    pub started_at: OffsetDateTime,
    /// When everything was there; `None` until then, and nobody may use the store meanwhile.
    pub ended_at: Option<OffsetDateTime>,
}

/// What came of wanting a store for oneself.
pub enum Hold {
    /// Nobody else uses it as long as this lives.
    Held(Box<dyn Send>),
    /// So many servers use it.
    Servers(u64),
    /// Somebody else has it for themselves.
    Taken,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Held(_) => f.write_str("Held"),
            Self::Servers(count) => f.debug_tuple("Servers").field(count).finish(),
            Self::Taken => f.write_str("Taken"),
        }
    }
}

/// A store that everything can be taken from and put into. What returned `Ok` is durable.
#[async_trait]
pub trait Transfer: Send + Sync + 'static {
    /// Everything as it is in one moment, whatever is changed from then on. The store goes on working meanwhile.
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError>;

    /// Puts rows in one commit, as part of this filling; those whose keys exist are replaced. What rows refer to must be
    /// there. Repeatable. [`StoreError::Damaged`] if a row has not the columns of its table, [`StoreError::Conflict`] if
    /// this filling was not said last, or has ended.
    async fn put_rows(&self, filling: &Filling, table: Table, rows: Vec<Row>) -> Result<(), StoreError>;

    /// What fills this store, or filled it last.
    async fn find_filling(&self) -> Result<Option<Filling>, StoreError>;

    /// Says what fills this store; replaces what was said before. Repeatable. That a filling has ended can only be said of
    /// the one that was said last: [`StoreError::Conflict`] otherwise.
    async fn put_filling(&self, filling: &Filling) -> Result<(), StoreError>;

    /// Which store this is: a number that no other has, and that is no part of what is transferred. A copy of its files or
    /// of its database is the same store.
    async fn identity(&self) -> Result<Uuid, StoreError>;

    /// Takes the store for oneself, if nobody uses it. Where one program at a time is kept by other means, it is held
    /// already.
    async fn hold(&self) -> Result<Hold, StoreError>;
}

/// One state of a store, held as long as this lives.
#[async_trait]
pub trait Snapshot: Send {
    /// What filled the store then, or had filled it last.
    async fn find_filling(&mut self) -> Result<Option<Filling>, StoreError>;

    /// Which store it is of.
    async fn identity(&mut self) -> Result<Uuid, StoreError>;

    /// How many rows there are.
    async fn count_rows(&mut self, table: Table) -> Result<u64, StoreError>;

    /// Rows in the order of their keys, compared as bytes and numbers: those after `after`, at most `limit`, fewer where
    /// they are large. None only at the end.
    async fn rows(&mut self, table: Table, after: Option<&Row>, limit: u32) -> Result<Vec<Row>, StoreError>;
}

/// A page of rows ends when it has so many bytes.
pub const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Statements on tables, for stores that speak SQL: as `?1` and `$1` both count from one, `mark` is the difference.
#[derive(Clone, Copy, Debug)]
pub struct Statements {
    /// What stands before a table's name.
    pub prefix: &'static str,
    /// What stands before the number of a parameter.
    pub mark: char,
    /// What makes an order of texts one of bytes.
    pub collation: &'static str,
}

impl Statements {
    /// Counts the rows.
    #[must_use]
    pub fn count(&self, table: Table) -> String {
        format!("SELECT count(*) FROM {}{}", self.prefix, table.name())
    }

    /// Reads rows in the order of their keys; the parameters are the key that they come after, if there is one, and how
    /// many.
    #[must_use]
    pub fn read(&self, table: Table, after: bool) -> String {
        let (columns, keys) = (table.columns(), table.key_columns());
        let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
        let order: Vec<String> = columns.iter().take(keys).map(|column| self.ordered(column)).collect();
        let order = order.join(", ");
        let place = |n: usize| format!("{}{n}", self.mark);
        let condition = if after {
            let marks: Vec<String> = (1..=keys).map(place).collect();
            format!("WHERE ({order}) > ({})", marks.join(", "))
        } else {
            String::new()
        };
        let limit = place(if after { keys + 1 } else { 1 });
        let (prefix, name, names) = (self.prefix, table.name(), names.join(", "));
        format!("SELECT {names} FROM {prefix}{name} {condition} ORDER BY {order} LIMIT {limit}")
    }

    fn ordered(&self, column: &Column) -> String {
        match column.kind {
            Kind::Text => format!("{}{}", column.name, self.collation),
            Kind::Id | Kind::Bytes | Kind::Integer => column.name.to_owned(),
        }
    }

    /// Puts so many rows; the parameters are their columns, row after row.
    #[must_use]
    pub fn put(&self, table: Table, rows: usize) -> String {
        let names: Vec<&str> = table.columns().iter().map(|column| column.name).collect();
        let row = |row: usize| {
            let first = row * names.len() + 1;
            let marks = (first..first + names.len()).map(|n| format!("{}{n}", self.mark));
            format!("({})", marks.collect::<Vec<_>>().join(", "))
        };
        let values: Vec<String> = (0..rows).map(row).collect();
        let (keys, others) = names.split_at_checked(table.key_columns()).unwrap_or((&names, &[]));
        let set: Vec<String> = others.iter().map(|name| format!("{name} = excluded.{name}")).collect();
        format!(
            "INSERT INTO {}{} ({}) VALUES {} ON CONFLICT ({}) DO UPDATE SET {}",
            self.prefix,
            table.name(),
            names.join(", "),
            values.join(", "),
            keys.join(", "),
            set.join(", ")
        )
    }
}
