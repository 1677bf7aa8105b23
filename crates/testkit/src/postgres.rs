//! A PostgreSQL of the test's own: in a temporary folder, on a free port of 127.0.0.1 and a Unix socket.
//!
//! A shell watches over it and holds one end of a pipe. When the other end is closed, because the test says so, or
//! because its process is gone for whatever reason, the shell stops the server and removes the folder.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The user that everything belongs to.
pub const USER: &str = "postgres";
/// The user's password: with characters that a URL has to encode.
pub const PASSWORD: &str = "it's a p@ss/word?";
/// Who the server runs as where this process is root, which PostgreSQL refuses to be: `nobody`.
const NOBODY: u32 = 65_534;
/// Where Debian puts the programs of each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// What the watching shell does: `$1` the folder, from `$2` on the command of the server, which is told by its standard
/// input that the test is gone, and told again if it was started anew.
const WATCH: &str = r#"
folder=$1; shift
stop() { [ -f "$folder/data/postmaster.pid" ] && kill -QUIT "$(head -n 1 "$folder/data/postmaster.pid")" 2>/dev/null; }
while read -r word; do
  case $word in
    start) "$@" >>"$folder/log" 2>&1 </dev/null & echo started ;;
    stop) stop; wait; echo stopped ;;
  esac
done
stop; wait; rm -rf "$folder"
"#;

/// What a server is to be like.
#[derive(Clone, Copy, Debug, Default)]
pub struct PostgresOptions {
    /// With TLS, and none without it: a certificate for `localhost` by an authority of its own ([`Postgres::authority`]).
    pub tls: bool,
}

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    programs: PathBuf,
    watch: Child,
    words: Option<std::process::ChildStdin>,
    answers: BufReader<std::process::ChildStdout>,
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
        let mut watch = Command::new("sh");
        watch.args(["-c", WATCH, "watch"]).arg(&folder).args(server);
        watch.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut watch = watch.spawn().expect("no shell");
        let words = watch.stdin.take();
        let answers = BufReader::new(watch.stdout.take().expect("no pipe"));
        let mut server = Self { folder, port, programs, watch, words, answers, databases: AtomicU32::new(0) };
        server.resume();
        server
    }

    /// Kills the server at once, as `pg_ctl stop -m immediate` does. Connections break; what was committed stays.
    pub fn kill(&mut self) {
        self.tell("stop");
    }

    /// Starts the server again, at the same address, and waits until it answers.
    pub fn resume(&mut self) {
        self.tell("start");
        let port = self.port.to_string();
        let mut ready = Command::new(self.programs.join("pg_isready"));
        ready.args(["--quiet", "--timeout=1", "--host=127.0.0.1", "--port", &port]);
        for _ in 0..600 {
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

    fn tell(&mut self, word: &str) {
        use std::io::Write as _;
        let words = self.words.as_mut().expect("the shell is gone");
        writeln!(words, "{word}").expect("the shell is gone");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the shell is gone");
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
        format!("postgres://{USER}:it's%20a%20p%40ss%2Fword%3F@127.0.0.1:{}/{database}", self.port)
    }

    /// What `psql` prints of the statements, as the user [`USER`].
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let output = self.psql(USER, database, statements);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{statements}: {text}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What `pg_dump` writes of a database.
    #[must_use]
    pub fn dump(&self, database: &str) -> String {
        let mut dump = Command::new(self.programs.join("pg_dump"));
        dump.arg("--host").arg(&self.folder).args(["--port", &self.port.to_string(), "--username", USER]);
        let output = dump.arg(database).env("PGPASSWORD", PASSWORD).output().expect("no pg_dump");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs statements as any user, over the socket.
    pub fn psql(&self, user: &str, database: &str, statements: &str) -> Output {
        use std::io::Write as _;
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
        psql.arg("--host").arg(&self.folder).args(["--port", &self.port.to_string()]);
        psql.args(["--username", user, "--dbname", database]).env("PGPASSWORD", PASSWORD);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut psql = psql.spawn().expect("no psql");
        let mut input = psql.stdin.take().expect("no pipe");
        input.write_all(statements.as_bytes()).expect("psql does not read");
        drop(input);
        psql.wait_with_output().expect("psql is lost")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.words = None;
        // The shell ends by itself, and nobody is left who would want to know how.
        drop(self.watch.wait());
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a server says in no other way that it is ready than by answering"
)]
fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(100));
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

fn run(words: &[String], folder: &Path) {
    let (program, arguments) = words.split_first().expect("no command");
    let output = Command::new(program).args(arguments).current_dir(folder).env("LC_ALL", "C.UTF-8").output();
    let output = output.expect("cannot start a program");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
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
    // What tests kill is the process, never the machine.
    let mut settings = format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\n\
         full_page_writes = off\nmax_connections = 200\nshared_buffers = 32MB\n",
        folder.display()
    );
    let mut access = "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n".to_owned();
    if options.tls {
        certify(folder);
        settings.push_str("ssl = on\nssl_cert_file = '../server.pem'\nssl_key_file = '../server.key'\n");
        access = access.replace("host all", "hostssl all");
    }
    write(&data.join("postgresql.conf"), &settings, 0o600);
    write(&data.join("pg_hba.conf"), &access, 0o600);
}

/// An authority, and a certificate from it for `localhost`.
fn certify(folder: &Path) {
    let steps = [
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout authority.key \
         -out authority.pem",
        "openssl req -new -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
        "openssl x509 -req -days 2 -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial \
         -extfile names -out server.pem",
    ];
    write(&folder.join("names"), "subjectAltName=DNS:localhost\n", 0o644);
    for step in steps {
        let words: Vec<String> = step.split_whitespace().map(str::to_owned).collect();
        run(&words, folder);
    }
    for (name, mode) in [("server.key", 0o600), ("server.pem", 0o644)] {
        let path = folder.join(name);
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("cannot set permissions");
        own(&path);
    }
}
