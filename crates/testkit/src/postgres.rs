//! A PostgreSQL of the test's own: in a temporary folder, on a free port of 127.0.0.1 and a Unix socket.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::certificate::{certify, run};
use crate::watched::{Watched, pause};

/// The user that everything belongs to.
pub const USER: &str = "postgres";
/// The user's password: with characters that a URL has to encode.
pub const PASSWORD: &str = "it's a p@ss/word?";
/// Who the server runs as where this process is root, which PostgreSQL refuses to be: `nobody`.
const NOBODY: u32 = 65_534;
/// Where Debian puts the programs of each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// What a server is to be like.
#[derive(Clone, Copy, Debug, Default)]
pub struct PostgresOptions {
    /// With TLS, and none without it: a certificate for `localhost` by an authority of its own ([`Postgres::authority`]).
    pub tls: bool,
    /// What is committed survives the machine, with memory and logs as on a server; for measurements. Without it, the end of the
    /// processes alone, which is what tests kill.
    pub durable: bool,
    /// On all addresses of the network that it is started in rather than on 127.0.0.1 alone. For networks of a test's own.
    pub everywhere: bool,
}

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    programs: PathBuf,
    process: Watched,
    databases: AtomicU32,
}

impl Postgres {
    /// Makes a cluster and starts its server.
    #[must_use]
    pub fn start(options: PostgresOptions) -> Self {
        let programs = programs().expect("PostgreSQL is not installed (Debian package postgresql)");
        let folder = tempfile::Builder::new().prefix("impuls-pg-").tempdir().expect("no temporary folder");
        let folder = folder.keep();
        own(&folder);
        initialise(&programs, &folder);
        let listener = TcpListener::bind("127.0.0.1:0").expect("no free port");
        let port = listener.local_addr().expect("no address").port();
        drop(listener);
        configure(&folder, port, options);
        let mut server = as_somebody(&programs.join("postgres"));
        server.push("-D".to_owned());
        server.push(folder.join("data").display().to_string());
        let pid_file = folder.join("data/postmaster.pid");
        let process = Watched::new(&folder, &pid_file, "QUIT", &server);
        let mut server = Self { folder, port, programs, process, databases: AtomicU32::new(0) };
        server.resume();
        server
    }

    /// Kills the server at once, as `pg_ctl stop -m immediate` does. Connections break; what was committed stays.
    pub fn kill(&mut self) {
        self.process.stop();
    }

    /// Starts the server again, at the same address, and waits until it answers.
    pub fn resume(&mut self) {
        self.process.start();
        let port = self.port.to_string();
        let mut ready = Command::new(self.programs.join("pg_isready"));
        ready.args(["--quiet", "--timeout=1", "--host=127.0.0.1", "--port", &port]);
        for _ in 0..1_200 {
            if ready.status().is_ok_and(|status| status.success()) {
                return;
            }
            pause();
        }
        panic!(
            "PostgreSQL does not start: {}",
            fs::read_to_string(self.folder.join("log")).unwrap_or_default()
        );
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// The certificate of the authority that the server's is from; with [`PostgresOptions::tls`].
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// A new, empty database.
    #[must_use]
    pub fn database(&self) -> String {
        let name = format!("impuls_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// A connection to a database of this server, as a URL.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_at("127.0.0.1", database)
    }

    /// The same from elsewhere; with [`PostgresOptions::everywhere`].
    #[must_use]
    pub fn url_at(&self, host: &str, database: &str) -> String {
        format!("postgres://{USER}:it's%20a%20p%40ss%2Fword%3F@{host}:{}/{database}", self.port)
    }

    /// What `psql` prints of the statements, as the user [`USER`].
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let output = self.psql(USER, database, statements);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{statements}: {text}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs statements as any user, over the socket.
    pub fn psql(&self, user: &str, database: &str, statements: &str) -> Output {
        let mut psql = psql(&self.programs.join("psql"));
        psql.arg("--host").arg(&self.folder).args(["--port", &self.port.to_string()]);
        psql.args(["--username", user, "--dbname", database]).env("PGPASSWORD", PASSWORD);
        told(&mut psql, statements)
    }
}

/// A new, empty database for a test that only uses it: in a server that all tests of this process share, or in the one that
/// `TEST_DATABASE_URL` names, whose user may make databases. There it goes when this is dropped.
#[derive(Debug)]
pub struct SomeDatabase {
    url: String,
    /// The server's own database and the name of this one, where the server is not the test's.
    lent: Option<(String, String)>,
}

impl SomeDatabase {
    /// Makes one.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "whoever runs the tests says so in the environment")]
    pub fn get() -> Self {
        /// It ends with the process.
        static OWN: LazyLock<Postgres> = LazyLock::new(|| Postgres::start(PostgresOptions::default()));
        match std::env::var("TEST_DATABASE_URL").ok().filter(|url| !url.is_empty()) {
            Some(server) => Self::within(server),
            None => Self::of(&OWN),
        }
    }

    /// In a server of one's own.
    #[must_use]
    pub fn of(own: &Postgres) -> Self {
        Self { url: own.url(&own.database()), lent: None }
    }

    /// In the server that this connection names, whose user may make databases.
    #[must_use]
    pub fn within(server: String) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("impuls_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        query(&server, &format!("CREATE DATABASE {name}"));
        let (place, parameters) = server.split_once('?').unwrap_or((&server, ""));
        let after_host = place.find("://").map_or(0, |at| at + 3);
        let end = place[after_host..].find('/').map_or(place.len(), |at| after_host + at);
        let url = format!("{}/{name}?{parameters}", &place[..end]);
        Self { url: url.trim_end_matches('?').to_owned(), lent: Some((server, name)) }
    }

    /// The connection, as a URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What `psql` prints of the statements.
    pub fn sql(&self, statements: &str) -> String {
        query(&self.url, statements)
    }

    /// What `pg_dump` writes of it.
    #[must_use]
    pub fn dump(&self) -> String {
        output_of(Command::new(program("pg_dump")).arg(&self.url), "")
    }
}

impl Drop for SomeDatabase {
    fn drop(&mut self) {
        if let Some((server, name)) = &self.lent {
            query(server, &format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}

/// What `psql` prints of statements, in the database of a URL.
pub fn query(url: &str, statements: &str) -> String {
    output_of(psql(&program("psql")).arg(url), statements).trim().to_owned()
}

fn program(name: &str) -> PathBuf {
    programs().expect("PostgreSQL is not installed (Debian package postgresql)").join(name)
}

fn psql(program: &Path) -> Command {
    let mut psql = Command::new(program);
    psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
    psql
}

/// What a program writes that is told this; it must succeed.
fn output_of(command: &mut Command, input: &str) -> String {
    let output = told(command, input);
    assert!(output.status.success(), "{input}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn told(command: &mut Command, input: &str) -> Output {
    use std::io::Write as _;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a program of PostgreSQL starts");
    let mut stdin = child.stdin.take().expect("no pipe");
    // It may have ended without reading.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    child.wait_with_output().expect("a program of PostgreSQL is lost")
}

/// The folder of PostgreSQL's programs: the newest of Debian's, else where `PATH` has `initdb`.
#[must_use]
pub fn programs() -> Option<PathBuf> {
    let debian = fs::read_dir(DEBIAN).into_iter().flatten().filter_map(Result::ok);
    let versions = debian.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    if let Some(newest) = versions.filter(|version| folder_of(*version).join("initdb").exists()).max() {
        return Some(folder_of(newest));
    }
    let found = Command::new("sh").args(["-c", "command -v initdb"]).output().ok()?;
    Some(Path::new(String::from_utf8(found.stdout).ok()?.trim()).parent()?.to_owned())
        .filter(|folder| !folder.as_os_str().is_empty())
}

fn folder_of(version: u32) -> PathBuf {
    Path::new(DEBIAN).join(version.to_string()).join("bin")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The words that run a program as somebody whom PostgreSQL accepts.
fn as_somebody(program: &Path) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    if is_root() {
        let id = NOBODY.to_string();
        words.extend(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"].map(str::to_owned));
    }
    words.push(program.display().to_string());
    words
}

fn own(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("cannot give a file away");
    }
}

/// Writes a file that is the server's.
fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).expect("cannot write");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("cannot set permissions");
    own(path);
}

fn initialise(programs: &Path, folder: &Path) {
    let password = folder.join("password");
    write(&password, PASSWORD, 0o600);
    let mut initdb = as_somebody(&programs.join("initdb"));
    let data = folder.join("data").display().to_string();
    let password = format!("--pwfile={}", password.display());
    let words =
        ["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "-U", USER, "-D"];
    initdb.extend(words.map(str::to_owned));
    initdb.extend([data, password]);
    run(&initdb, folder);
}

fn configure(folder: &Path, port: u16, options: PostgresOptions) {
    let data = folder.join("data");
    let (addresses, clients) =
        if options.everywhere { ("*", "0.0.0.0/0") } else { ("127.0.0.1", "127.0.0.1/32") };
    let mut settings = format!(
        "listen_addresses = '{addresses}'\nport = {port}\nunix_socket_directories = '{}'\nmax_connections = 200\n",
        folder.display()
    );
    settings.push_str(if options.durable {
        "shared_buffers = 128MB\nmax_wal_size = 1GB\n"
    } else {
        "fsync = off\nfull_page_writes = off\nshared_buffers = 32MB\n"
    });
    let mut access = format!("local all all scram-sha-256\nhost all all {clients} scram-sha-256\n");
    if options.tls {
        certify(folder, "DNS:localhost");
        for (name, mode) in [("server.key", 0o600), ("server.pem", 0o644)] {
            let path = folder.join(name);
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("cannot set permissions");
            own(&path);
        }
        settings.push_str("ssl = on\nssl_cert_file = '../server.pem'\nssl_key_file = '../server.key'\n");
        access = access.replace("host all", "hostssl all");
    }
    write(&data.join("postgresql.conf"), &settings, 0o600);
    write(&data.join("pg_hba.conf"), &access, 0o600);
}
