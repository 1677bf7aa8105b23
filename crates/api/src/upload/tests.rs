use http::StatusCode;

use super::*;

fn request(content_type: &str, uri: &str, body: impl Into<Body>) -> Request {
    let request = http::Request::post(uri).header(header::CONTENT_TYPE, content_type);
    request.body(body.into()).unwrap()
}

async fn upload(content_type: &str, uri: &str, body: &'static [u8]) -> Result<Upload, Problem> {
    Upload::from_request(request(content_type, uri, body), &UploadRoom::default()).await
}

fn status<T>(result: Result<T, Problem>) -> Option<StatusCode> {
    result.err().map(|problem| problem.render().0)
}

#[tokio::test]
async fn json_is_read_whatever_its_content_type() {
    for content_type in ["application/json", "application/x-www-form-urlencoded", "text/plain"] {
        let upload = upload(content_type, "/", br#"{"name":"a"}"#).await.unwrap();
        assert_eq!(upload.fields.name.as_deref(), Some("a"), "{content_type}");
        assert!(upload.archive.is_none());
    }
}

#[tokio::test]
async fn an_archive_takes_its_fields_from_the_query() {
    let uri = "/?name=a&memory_mb=256&vcpu=0.5&environment=%7B%22A%22%3A%22b%22%7D&handler=12";
    for content_type in ["application/zip", "Application/ZIP; x=y", "application/x-www-form-urlencoded"] {
        let upload = upload(content_type, uri, b"PK\x03\x04").await.unwrap();
        assert_eq!(upload.archive.as_deref(), Some(b"PK\x03\x04".as_slice()), "{content_type}");
        let fields = upload.fields;
        assert_eq!(
            (fields.memory_mb, fields.vcpu, fields.handler.as_deref()),
            (Some(256), Some(0.5), Some("12"))
        );
        assert_eq!(fields.environment.unwrap()["A"], "b");
    }
    let bad = upload("application/zip", "/?memory_mb=lots", b"PK\x03\x04").await;
    assert_eq!(status(bad), Some(StatusCode::BAD_REQUEST));
}

#[tokio::test]
async fn code_alone_is_text_or_an_archive() {
    let source = CodeUpload::from_request(request("text/plain", "/", "let x;"), &UploadRoom::default())
        .await
        .unwrap()
        .0;
    assert_eq!(source.fields.code.as_deref(), Some("let x;"));
    let zip = CodeUpload::from_request(request("text/plain", "/", "PK\x03\x04"), &UploadRoom::default())
        .await
        .unwrap()
        .0;
    assert!(zip.archive.is_some());
    let neither =
        CodeUpload::from_request(request("text/plain", "/", vec![0xff]), &UploadRoom::default()).await;
    assert_eq!(status(neither), Some(StatusCode::BAD_REQUEST));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_announced_or_not() {
    assert_eq!(read(request("", "/", "1234"), 4, &UploadRoom::default()).await.unwrap().bytes, "1234");
    assert_eq!(
        status(read(request("", "/", "12345"), 4, &UploadRoom::default()).await),
        Some(StatusCode::PAYLOAD_TOO_LARGE)
    );
    let mut announced = request("", "/", "");
    announced.headers_mut().insert(header::CONTENT_LENGTH, 5.into());
    assert_eq!(status(read(announced, 4, &UploadRoom::default()).await), Some(StatusCode::PAYLOAD_TOO_LARGE));
}

#[tokio::test]
async fn large_bodies_wait_for_room_and_give_it_back() {
    let room = UploadRoom::default();
    let large = || read(request("", "/", vec![b'x'; FIRST_READ + 1]), UPLOAD_LIMIT, &room);
    let mut there = Vec::new();
    for _ in 0..LARGE_BODIES {
        there.push(large().await.unwrap());
    }
    let mut waiting = Box::pin(large());
    assert!(tokio::time::timeout(Duration::ZERO, &mut waiting).await.is_err());
    assert!(read(request("", "/", "small"), UPLOAD_LIMIT, &room).await.is_ok());
    there.pop();
    assert!(waiting.await.is_ok());
}
