//! A tiny HTTP server for tests: answers every request with what a closure says and remembers the requests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Method and target: `GET /health`.
    pub line: String,
    /// The media type of the body.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// One reply.
pub struct Response {
    /// The status.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// More headers, each line ended by CR LF.
    pub headers: &'static str,
}

/// A JSON reply.
pub fn json(status: u16, body: &str) -> Response {
    Response { status, content_type: "application/json", body: body.as_bytes().to_vec(), headers: "" }
}

/// A problem reply whose message is `message`.
pub fn problem(status: u16, message: &str) -> Response {
    let body = format!(r#"{{"type":"kind","status":{status},"error":true,"message":"{message}"}}"#);
    Response {
        status,
        content_type: "application/problem+json",
        body: body.into_bytes(),
        headers: "retry-after: 3\r\n",
    }
}

/// A running stub. Its thread ends with the test process.
pub struct Stub {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Stub {
    /// Starts a stub that answers with what `answer` returns for the request.
    pub fn start(answer: impl Fn(&Request) -> Response + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let request = read(&stream);
                let response = answer(&request);
                seen.lock().unwrap().push(request);
                write(stream, &response);
            }
        });
        Self { address, requests }
    }

    /// The stub's address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The request lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.line).collect()
    }
}

fn read(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let (mut length, mut content_type) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "content-type" => content_type = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
    Request { line, content_type, body }
}

fn write(mut stream: TcpStream, response: &Response) {
    let head = format!(
        "HTTP/1.1 {} x\r\ncontent-type: {}\r\ncontent-length: {}\r\n{}connection: close\r\n\r\n",
        response.status,
        response.content_type,
        response.body.len(),
        response.headers,
    );
    // The client may have gone already; the test then says so itself.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&response.body));
}
