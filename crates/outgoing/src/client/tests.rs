use std::time::Duration;

use impuls_domain::InvocationId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

fn request(url: String) -> HookRequest {
    HookRequest {
        url: url.parse().unwrap(),
        id: InvocationId::new(),
        attempt: 1,
        body: Bytes::from_static(b"{}"),
        timeout: Duration::from_secs(20),
    }
}

fn local() -> OutgoingClient {
    OutgoingClient::new(Gate { allow: vec!["127.0.0.0/8".parse().unwrap()] })
}

/// Answers one connection with these bytes, and tells what it read first.
async fn answering(answer: Vec<u8>) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a?b=c", listener.local_addr().unwrap());
    let answered = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"{}") {
            assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0);
        }
        // The client may have read enough.
        drop(stream.write_all(&answer).await);
        String::from_utf8(asked).unwrap()
    });
    (url, answered)
}

#[tokio::test]
async fn the_body_and_who_sends_it_arrive() {
    let (url, asked) = answering(b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\ndone".to_vec()).await;
    let request = request(url);
    let id = request.id;
    let reply = local().post(request).await.unwrap();
    assert_eq!(reply, HookReply { status: 201, body: "done".to_owned() });
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("POST /a?b=c HTTP/1.1\r\nhost: 127.0.0.1:"), "{asked}");
    assert!(asked.contains(&format!("x-impuls-delivery: {id}\r\nx-impuls-attempt: 1\r\n")), "{asked}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let answer = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let (url, _asked) = answering(answer.into()).await;
    assert_eq!(local().post(request(url)).await.unwrap().status, 302);
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    answer.resize(10 * ANSWER_LIMIT, b'x');
    let (url, _asked) = answering(answer).await;
    assert_eq!(local().post(request(url)).await.unwrap().body.len(), ANSWER_LIMIT);
}

#[tokio::test]
async fn what_is_not_public_is_refused_by_every_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in
        ["127.0.0.1", "localhost", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"]
    {
        let refused = OutgoingClient::default().post(request(format!("http://{host}:{port}/"))).await;
        assert!(
            matches!(&refused, Err(HookError::Refused(why)) if why.contains("--hook-allow")),
            "{host}: {refused:?}"
        );
    }
    assert!(tokio::time::timeout(Duration::ZERO, listener.accept()).await.is_err(), "nobody came");
}

#[tokio::test]
async fn silence_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let impatient = HookRequest { timeout: Duration::from_millis(50), ..request(url) };
    let failed = local().post(impatient).await;
    assert!(matches!(&failed, Err(HookError::Failed(why)) if why.contains("50ms")), "{failed:?}");
}
