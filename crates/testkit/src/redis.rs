//! A Redis of the test's own: in a temporary folder, on a free port of 127.0.0.1; or the one that the variable
//! `TEST_REDIS_URL` names, which is emptied.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::watched::{Watched, pause};

/// The server's password: with characters that a URL has to encode.
pub const PASSWORD: &str = "p@ss/word?";
const ENCODED: &str = "p%40ss%2Fword%3F";

/// What a server is to be like.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisOptions {
    /// With TLS, and none without it: a certificate for `localhost` by an authority of its own ([`Redis::authority`]).
    pub tls: bool,
}

/// A running server.
#[derive(Debug)]
pub struct Redis {
    folder: PathBuf,
    port: u16,
    tls: bool,
    process: Watched,
}

impl Redis {
    /// Starts a server. It keeps everything in memory: what is killed has lost everything.
    #[must_use]
    pub fn start(options: RedisOptions) -> Self {
        let folder = tempfile::Builder::new().prefix("impuls-redis-").tempdir().expect("no temporary folder");
        let folder = folder.keep();
        let listener = TcpListener::bind("127.0.0.1:0").expect("no free port");
        let port = listener.local_addr().expect("no address").port();
        drop(listener);
        let pid_file = folder.join("pid");
        let mut settings = format!(
            "bind 127.0.0.1\nrequirepass {PASSWORD}\npidfile {}\ndir {}\nsave \"\"\nappendonly no\n",
            pid_file.display(),
            folder.display()
        );
        if options.tls {
            crate::certificate::certify(&folder, "DNS:localhost");
            settings.push_str(&format!(
                "port 0\ntls-port {port}\ntls-auth-clients no\ntls-cert-file {0}/server.pem\n\
                 tls-key-file {0}/server.key\ntls-ca-cert-file {0}/authority.pem\n",
                folder.display()
            ));
        } else {
            settings.push_str(&format!("port {port}\n"));
        }
        let file = folder.join("redis.conf");
        fs::write(&file, settings).expect("cannot write");
        let command = ["redis-server".to_owned(), file.display().to_string()];
        let process = Watched::new(&folder, &pid_file, "KILL", &command);
        let mut server = Self { folder, port, tls: options.tls, process };
        server.resume();
        server
    }

    /// Kills the server; connections break, and everything is lost.
    pub fn kill(&mut self) {
        self.process.stop();
    }

    /// Starts the server again, at the same address, and waits until it answers.
    pub fn resume(&mut self) {
        self.process.start();
        for _ in 0..1_200 {
            if self.ask(&["PING"]).is_some_and(|answer| answer == "PONG") {
                return;
            }
            pause();
        }
        panic!("Redis does not start: {}", fs::read_to_string(self.folder.join("log")).unwrap_or_default());
    }

    /// What the server answers.
    #[expect(clippy::must_use_candidate, reason = "most commands are given for what they do")]
    pub fn command(&self, words: &[&str]) -> String {
        self.ask(words).expect("Redis does not answer")
    }

    fn ask(&self, words: &[&str]) -> Option<String> {
        let mut client = Command::new("redis-cli");
        client.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "--no-auth-warning", "-a", PASSWORD]);
        if self.tls {
            client.args(["--tls", "--sni", "localhost", "--cacert"]).arg(self.authority());
        }
        let output = client.args(words).stdin(Stdio::null()).output().expect("no redis-cli");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The server as a URL, with the password.
    #[must_use]
    pub fn url(&self) -> String {
        let (scheme, host) = if self.tls { ("rediss", "localhost") } else { ("redis", "127.0.0.1") };
        format!("{scheme}://:{ENCODED}@{host}:{}/0", self.port)
    }

    /// The certificate of the authority that the server's is from; with [`RedisOptions::tls`].
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// The folder, for other files of the test.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// A server that a test only uses: its own, or the one that is named.
#[derive(Debug)]
pub struct SomeRedis {
    url: String,
    _own: Option<Redis>,
}

impl SomeRedis {
    /// The one that `TEST_REDIS_URL` names, emptied, else a new one.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "whoever runs the tests says so in the environment")]
    pub fn get() -> Self {
        let Some(url) = std::env::var("TEST_REDIS_URL").ok().filter(|url| !url.is_empty()) else {
            let own = Redis::start(RedisOptions::default());
            return Self { url: own.url(), _own: Some(own) };
        };
        Self::emptied(url)
    }

    /// The one that is named, emptied.
    #[must_use]
    pub fn emptied(url: String) -> Self {
        let emptied = Command::new("redis-cli").args(["--no-auth-warning", "-u", &url, "FLUSHDB"]).output();
        let output = emptied.expect("no redis-cli");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { url, _own: None }
    }

    /// As a URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}
