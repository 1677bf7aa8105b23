//! An S3 of the test's own on a free port of 127.0.0.1, and a link to it that can be slow, break or be refused.
//!
//! The server is moto, a Python package that is installed into a folder of the test's the first time. A shell watches over
//! it as over PostgreSQL: it ends with the test's process.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The package at this version.
const PACKAGE: &str = "moto[server,s3]==5.2.5";
/// Who may do everything.
pub const ACCESS_KEY: &str = "AKIATESTTESTTESTTEST";
/// The key's secret, which must not be seen anywhere.
pub const SECRET_KEY: &str = "a/secret+that=nobody/may+see";
/// Runs the server, and ends it when standard input is closed.
const WATCH: &str = r#""$@" >/dev/null 2>&1 </dev/null & server=$!; read -r _; kill "$server"; wait"#;

/// A running server with one bucket.
#[derive(Debug)]
pub struct S3 {
    address: SocketAddr,
    watch: Child,
}

impl S3 {
    /// The name of the bucket.
    pub const BUCKET: &str = "impuls-test";

    /// Installs moto into the folder `moto` below `tools` unless it is there, and starts it.
    #[must_use]
    pub fn start(tools: &Path) -> Self {
        let packages = tools.join("moto");
        install(&packages);
        let listener = TcpListener::bind("127.0.0.1:0").expect("no free port");
        let address = listener.local_addr().expect("no address");
        drop(listener);
        let mut watch = Command::new("sh");
        watch.args(["-c", WATCH, "watch", "/usr/bin/python3", "-m", "moto.server", "-H", "127.0.0.1", "-p"]);
        watch.arg(address.port().to_string()).env("PYTHONPATH", &packages).stdin(Stdio::piped());
        let server = Self { address, watch: watch.spawn().expect("no shell") };
        for _ in 0..600 {
            if request(address, "PUT", &format!("/{}", Self::BUCKET))
                .is_some_and(|reply| reply.contains(" 200 "))
            {
                return server;
            }
            pause();
        }
        panic!("moto does not start");
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often the text occurs in a list of the bucket: a digest once if there is such an object.
    #[must_use]
    pub fn occurrences(&self, text: &str) -> usize {
        let list = request(self.address, "GET", &format!("/{}?list-type=2", Self::BUCKET));
        list.expect("moto answers").matches(text).count()
    }

    /// How many uploads nobody has completed.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        let list = request(self.address, "GET", &format!("/{}?uploads", Self::BUCKET));
        list.expect("moto answers").matches("<UploadId>").count()
    }

    /// Puts other bytes in the place of an object's.
    pub fn overwrite(&self, key: &str, text: &str) {
        let put = exchange(self.address, "PUT", &format!("/{}/{key}", Self::BUCKET), text);
        assert!(put.is_some_and(|reply| reply.contains(" 200 ")), "moto takes {key}");
    }

    /// A location in the bucket, reached at this address.
    #[must_use]
    pub fn location(at: SocketAddr, prefix: &str) -> String {
        format!("s3://{}/{prefix}?endpoint=http://{at}&allow_http=true&timeout=2s", Self::BUCKET)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        drop(self.watch.wait());
    }
}

fn install(packages: &Path) {
    fs::create_dir_all(packages).expect("no folder for moto");
    // Several tests may come at once.
    let lock = File::create(packages.join(".lock")).expect("no lock");
    lock.lock().expect("no lock");
    let done = packages.join(".done");
    if fs::read_to_string(&done).is_ok_and(|version| version == PACKAGE) {
        return;
    }
    let mut pip = Command::new("/usr/bin/python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]);
    let ended = pip.args(["--upgrade", PACKAGE, "--target"]).arg(packages).status().expect("pip starts");
    assert!(ended.success(), "cannot install {PACKAGE}");
    fs::write(done, PACKAGE).expect("a mark");
}

fn request(address: SocketAddr, method: &str, path: &str) -> Option<String> {
    exchange(address, method, path, "")
}

fn exchange(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    // moto takes anybody's word, but wants one.
    let credential = format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/us-east-1/s3/aws4_request");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {credential}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).ok()?;
    Some(String::from_utf8_lossy(&reply).into_owned())
}

/// How a link treats new connections, and those that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Weather {
    /// Everything passes.
    Fair,
    /// Requests pass, and nothing is ever answered.
    Silent,
    /// Connections are closed in the middle of a request.
    Broken,
    /// Every request is answered with 503.
    Refusing,
    /// Every other connection is closed in the middle of a request.
    Changeable,
}

/// A link to a server, with weather.
#[derive(Clone, Debug)]
pub struct Link {
    address: SocketAddr,
    weather: Arc<AtomicUsize>,
    change: Arc<Mutex<Option<(usize, Weather)>>>,
}

impl Link {
    /// A link in fair weather that ends with the test's process.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("no free port");
        let address = listener.local_addr().expect("no address");
        let weather = Arc::new(AtomicUsize::new(Weather::Fair as usize));
        let link = Self { address, weather, change: Arc::default() };
        let of = link.clone();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (link, stream) = (of.clone(), stream.expect("a connection"));
                std::thread::spawn(move || link.carry(number, &stream, server));
            }
        });
        link
    }

    /// Where to connect to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather, also for connections that are open.
    pub fn set(&self, weather: Weather) {
        self.weather.store(weather as usize, Ordering::SeqCst);
    }

    /// Changes the weather when so many more bytes have gone to the server.
    pub fn set_after(&self, bytes: usize, weather: Weather) {
        *self.change.lock().expect("a lock") = Some((bytes, weather));
    }

    fn sent(&self, bytes: usize) {
        let mut change = self.change.lock().expect("a lock");
        if let Some((left, weather)) = *change {
            *change = (left > bytes).then(|| (left - bytes, weather));
            if left <= bytes {
                self.set(weather);
            }
        }
    }

    fn is(&self, weather: Weather) -> bool {
        self.weather.load(Ordering::SeqCst) == weather as usize
    }

    fn carry(&self, number: usize, near: &TcpStream, server: SocketAddr) {
        let Ok(far) = TcpStream::connect(server) else { return };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut buffer = [0; 16 << 10];
                while let Ok(count @ 1..) = (&*near).read(&mut buffer) {
                    self.sent(count);
                    if self.is(Weather::Refusing) {
                        let refusal = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                        drop((&*near).write_all(refusal.as_bytes()));
                        break;
                    }
                    let breaks = self.is(Weather::Broken) || self.is(Weather::Changeable) && number.is_multiple_of(2);
                    if breaks || (&far).write_all(buffer.get(..count).unwrap_or_default()).is_err() {
                        break;
                    }
                }
                drop(far.shutdown(Shutdown::Both));
                drop(near.shutdown(Shutdown::Both));
            });
            let mut buffer = [0; 16 << 10];
            while let Ok(count @ 1..) = (&far).read(&mut buffer) {
                while self.is(Weather::Silent) {
                    pause();
                }
                if (&*near).write_all(buffer.get(..count).unwrap_or_default()).is_err() {
                    break;
                }
            }
            drop(near.shutdown(Shutdown::Both));
            drop(far.shutdown(Shutdown::Both));
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "neither a server that starts nor the weather tells anybody")]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}
