//! What the client sends and what it makes of replies, against a stub server.

#[cfg(test)]
#[path = "support/stub.rs"]
mod stub;

#[cfg(test)]
mod tests {
    use crate::stub::{Response, Stub, json, problem};
    use bytes::Bytes;
    use impuls_client::wire::{AliasFields, AliasTarget, FunctionFields};
    use impuls_client::{Client, ClientError, ListQuery, LogsQuery};

    fn client(stub: &Stub) -> Client {
        Client::new(&stub.url()).unwrap()
    }

    #[tokio::test]
    async fn every_method_takes_its_route() {
        let stub = Stub::start(|request| match request.line.as_str() {
            "GET /health" => json(200, r#"{"status":"healthy"}"#),
            "GET /api/v1/runtimes" => json(200, r#"{"runtimes":[{"name":"nodejs20"}]}"#),
            line if line.contains("/versions") => json(200, r#"{"versions":[]}"#),
            line if line.ends_with("/aliases") => json(200, r#"{"aliases":[]}"#),
            line if line.contains("/logs") => json(200, r#"{"items":[]}"#),
            line if line.starts_with("GET /api/v1/functions?") => {
                json(200, r#"{"functions":[],"count":0,"next_cursor":"n"}"#)
            }
            _ => json(200, r#"{"name":"a","version":4}"#),
        });
        let client = client(&stub);
        let fields = FunctionFields { name: Some("a".into()), code: Some("x".into()), ..Default::default() };
        client.create_function(&fields, &mut |_| {}).await.unwrap();
        assert_eq!(client.update_function("a", &fields, &mut |_| {}).await.unwrap().value.version, Some(4));
        client.function("a").await.unwrap();
        let query =
            ListQuery { limit: Some(2), cursor: Some("c d".into()), fields: Some("name,runtime".into()) };
        assert_eq!(client.list_functions(&query).await.unwrap().value.next_cursor.as_deref(), Some("n"));
        client.delete_function("a").await.unwrap();
        client.code("a").await.unwrap();
        client.upload_zip("a", Bytes::from_static(b"PK")).await.unwrap();
        client.versions("a", Some("c")).await.unwrap();
        client.rollback("a", Some(3)).await.unwrap();
        client.aliases("a").await.unwrap();
        client.alias("a", "live").await.unwrap();
        let target = AliasFields { versions: vec![AliasTarget { version: 3, weight: 9 }], description: None };
        client.set_alias("a", "live", &target).await.unwrap();
        client.delete_alias("a", "live").await.unwrap();
        let query = LogsQuery { limit: Some(5), offset: Some(1), status: Some("error".into()) };
        client.logs("a", &query).await.unwrap();
        assert_eq!(client.runtimes().await.unwrap().value.runtimes.len(), 1);
        assert_eq!(client.health().await.unwrap().value.status, "healthy");
        let expected = [
            "POST /api/v1/functions",
            "PUT /api/v1/functions/a",
            "GET /api/v1/functions/a",
            "GET /api/v1/functions?limit=2&cursor=c+d&fields=name%2Cruntime",
            "DELETE /api/v1/functions/a",
            "GET /api/v1/functions/a/code",
            "PUT /api/v1/functions/a/code",
            "GET /api/v1/functions/a/versions?cursor=c",
            "POST /api/v1/functions/a/rollback",
            "GET /api/v1/functions/a/aliases",
            "GET /api/v1/functions/a/aliases/live",
            "PUT /api/v1/functions/a/aliases/live",
            "DELETE /api/v1/functions/a/aliases/live",
            "GET /api/v1/functions/a/logs?limit=5&offset=1&status=error",
            "GET /api/v1/runtimes",
            "GET /health",
        ];
        assert_eq!(stub.lines(), expected);
        let requests = stub.requests();
        assert_eq!(requests[0].body, br#"{"name":"a","code":"x"}"#);
        assert_eq!(
            (requests[6].content_type.as_str(), requests[6].body.as_slice()),
            ("application/zip", &b"PK"[..])
        );
        assert_eq!(requests[8].body, br#"{"version":3}"#);
        assert_eq!(requests[11].body, br#"{"versions":[{"version":3,"weight":9}]}"#);
    }

    #[tokio::test]
    async fn event_and_result_pass_byte_for_byte() {
        let stub = Stub::start(|_| Response {
            headers: "x-impuls-duration: 1.512\r\n",
            ..json(
                200,
                r#"{"status_code":200,"body":{"b": 1.0, "a":[]},"duration_ms":2,"request_id":"r","version":2}"#,
            )
        });
        let reply =
            client(&stub).invoke("a", Some("live"), Bytes::from_static(b"{ \"x\":1 }")).await.unwrap();
        assert!((reply.value.duration_ms - 1.512).abs() < 1e-9);
        assert_eq!(reply.value.body.unwrap().get(), r#"{"b": 1.0, "a":[]}"#);
        assert_eq!(stub.requests()[0].line, "POST /api/v1/functions/a/invoke?qualifier=live");
        assert_eq!(stub.requests()[0].body, b"{ \"x\":1 }");
    }

    #[tokio::test]
    async fn a_failed_invocation_is_an_outcome_and_a_refusal_is_a_problem() {
        let stub = Stub::start(|request| {
            if request.line.contains("/a/") {
                json(
                    504,
                    r#"{"status_code":504,"body":null,"duration_ms":9,"error":"late","error_type":"Timeout"}"#,
                )
            } else {
                problem(429, "busy")
            }
        });
        let outcome = client(&stub).invoke("a", None, Bytes::new()).await.unwrap().value;
        assert_eq!((outcome.error_type.as_deref(), outcome.body.is_none()), (Some("Timeout"), true));
        let ClientError::Problem(problem) = client(&stub).invoke("b", None, Bytes::new()).await.unwrap_err()
        else {
            panic!("not a problem");
        };
        assert_eq!((problem.status.as_u16(), problem.retry_after_sec), (429, Some(3)));
        assert_eq!((problem.kind.as_str(), problem.message.as_str()), ("kind", "busy"));
    }

    #[tokio::test]
    async fn a_raw_call_returns_the_functions_own_reply() {
        let stub = Stub::start(|_| Response {
            status: 404,
            content_type: "application/problem+json",
            body: b"gone".into(),
            headers: "x-impuls-request-id: r\r\n",
        });
        let reply = client(&stub).invoke_raw("a", None, Bytes::new()).await.unwrap();
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (404, &b"gone"[..]));
        assert_eq!(reply.headers["content-type"], "application/problem+json");
        assert_eq!(stub.lines(), ["POST /api/v1/functions/a/invoke?raw=true"]);
    }

    #[tokio::test]
    async fn an_absent_server_is_named_with_the_remedy() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Client::new(&format!("http://{free}")).unwrap().health().await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }));
        assert_eq!(error.to_string(), format!("no server at http://{free}; start one with `impuls serve`"));
    }

    #[tokio::test]
    async fn another_programs_reply_is_recognised() {
        let stub = Stub::start(|_| json(200, "<html>"));
        assert!(matches!(client(&stub).health().await.unwrap_err(), ClientError::Reply(_)));
    }

    #[tokio::test]
    async fn a_deploy_passes_on_what_its_build_writes() {
        let stub = Stub::start(|request| {
            let end = match request.line.as_str() {
                "POST /api/v1/functions" => "{\"function\":{\"name\":\"a\",\"version\":4}}\n",
                "PUT /api/v1/functions/a" => "{\"problem\":{\"status\":409,\"message\":\"no\"}}\n",
                _ => "",
            };
            let body = format!("{{\"log\":\"one\\n\"}}\n{{\"log\":\"two\"}}\n{end}");
            Response { content_type: "application/x-ndjson", ..json(200, &body) }
        });
        let client = client(&stub);
        let mut log = String::new();
        let fields = FunctionFields::default();
        let created = client.create_function(&fields, &mut |text| log.push_str(text)).await.unwrap();
        assert_eq!(
            (created.value.version, &created.body[..]),
            (Some(4), &br#"{"name":"a","version":4}"#[..])
        );
        let refused = client.update_function("a", &fields, &mut |text| log.push_str(text)).await;
        assert!(matches!(refused, Err(ClientError::Problem(problem)) if problem.status == 409));
        assert_eq!(log, "one\ntwoone\ntwo");
        let cut = client.update_function("b", &fields, &mut |_| {}).await;
        assert!(matches!(cut, Err(ClientError::Reply(_))), "it ended before the deploy did");
    }
}
