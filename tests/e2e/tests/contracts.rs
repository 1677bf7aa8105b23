//! Contracts beside handlers: programs, command lines, custom runtimes and web servers, in every language that is on the
//! machine.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests, which end by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use impuls_e2e::functions::{FUNCTIONS, path};
use impuls_e2e::{Data, Launch, Reply, Server, Value, json, unique};

/// Deploys, which must succeed and give an active function; returns the name.
async fn deploy(server: &Server, fields: Value) -> String {
    let name = unique("contract");
    let mut fields = fields;
    fields["name"] = json!(name);
    let created = server.create(&fields).await;
    assert_eq!(created["status"], "active", "{created}");
    name
}

async fn program(server: &Server, runtime: &str, handler: &str, code: &str) -> String {
    deploy(server, json!({"runtime": runtime, "contract": "program", "handler": handler, "code": code})).await
}

async fn command(server: &Server, command: Value) -> String {
    deploy(server, json!({"runtime": "command", "command": command})).await
}

#[tokio::test]
async fn a_python_program_gets_the_event_and_prints_the_result() {
    let server = Server::shared().await;
    let code = "
import json, os, sys
event = json.load(sys.stdin)
print('a note', file=sys.stderr)
print(json.dumps({'event': event, 'payload': json.loads(os.environ['FUNCTION_PAYLOAD']),
                  'handler': os.environ['FUNCTION_HANDLER'], 'headers': os.environ['FUNCTION_HEADERS'],
                  'file': __file__, 'folder': os.getcwd(), 'own': os.environ['OWN']}))
";
    let fields = json!({"runtime": "python", "contract": "program", "handler": "src/app.run", "code": code,
                        "environment": {"OWN": "variable"}});
    let name = deploy(&server, fields).await;
    let event = json!({"a": [1, "ü"], "b": null});
    let reply = server.invoke(&name, &event).await;
    assert_eq!(reply.logs(), "a note");
    let expected = json!({"event": event, "payload": event, "handler": "src/app.run", "headers": "{}",
                          "file": "/var/task/src/app.py", "folder": "/var/task", "own": "variable"});
    assert_eq!(reply.result(), expected);
}

#[tokio::test]
async fn a_node_program_starts_anew_for_each_call() {
    let server = Server::shared().await;
    let code = "
globalThis.calls = (globalThis.calls ?? 0) + 1;
let text = '';
process.stdin.on('data', (more) => { text += more; });
process.stdin.on('end', () => console.log(JSON.stringify({ event: JSON.parse(text), calls: globalThis.calls })));
";
    let name = program(&server, "nodejs", "main.js", code).await;
    for n in 0..3 {
        assert_eq!(server.call(&name, &json!(n)).await, json!({"event": n, "calls": 1}));
    }
}

#[tokio::test]
async fn text_that_is_no_json_becomes_a_json_string() {
    let server = Server::shared().await;
    let name = program(&server, "python", "main.py", "print('hello\\nyou')").await;
    let result = server.call(&name, &Value::Null).await;
    assert_eq!(result.as_str().map(str::trim_end), Some("hello\nyou"));
}

#[tokio::test]
async fn a_program_that_fails_is_an_error_of_the_function() {
    let server = Server::shared().await;
    let code = "import sys\nprint('out')\nprint('why', file=sys.stderr)\nsys.exit(3)";
    let name = program(&server, "python", "main.py", code).await;
    let body = server.invoke(&name, &Value::Null).await.failure(500, "FunctionError");
    assert_eq!(body["error"], "Function exited with code 3");
    assert_eq!(body["logs"], "why");
    // The sandbox goes on.
    server.invoke(&name, &Value::Null).await.failure(500, "FunctionError");
}

#[tokio::test]
async fn a_large_event_comes_on_standard_input_alone() {
    let server = Server::shared().await;
    let code = "import json, os, sys\nprint(json.dumps([len(json.load(sys.stdin)), 'FUNCTION_PAYLOAD' in os.environ]))";
    let name = program(&server, "python", "main.py", code).await;
    // With the quotes around them, the most that Linux takes in one variable beside its name is 131,054 bytes.
    for (size, in_environment) in [(1_000, true), (131_052, true), (131_053, false), (200_000, false)] {
        assert_eq!(server.call(&name, &json!("x".repeat(size))).await, json!([size, in_environment]));
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_stopped_with_its_children() {
    let server = Server::shared().await;
    let fields = json!({"runtime": "command", "command": "sleep 100 & sleep 100", "timeout_sec": 1});
    let name = deploy(&server, fields).await;
    server.invoke(&name, &Value::Null).await.failure(504, "Timeout");
}

#[tokio::test]
async fn a_command_is_words_or_a_text_for_the_shell() {
    let server = Server::shared().await;
    let words = command(&server, json!(["/usr/bin/wc", "-c"])).await;
    assert_eq!(server.call(&words, &json!("abc")).await, 5);
    let text = command(&server, json!("cat; echo \"$HOME\" >&2")).await;
    let reply = server.invoke(&text, &json!({"a": 1})).await;
    assert_eq!(reply.logs(), "/tmp");
    assert_eq!(reply.result(), json!({"a": 1}));
    let shown = server.get(&path(&text)).await.json();
    assert_eq!(shown["command"], json!(["/bin/sh", "-c", "cat; echo \"$HOME\" >&2"]));
    assert_eq!(shown["contract"], "command");
    // A change of the command is a new version.
    assert_eq!(server.update(&text, &json!({"command": ["/bin/echo", "7"]})).await["version"], 2);
    assert_eq!(server.call(&text, &Value::Null).await, 7);
}

#[tokio::test]
async fn commands_see_the_programs_of_the_machine_and_no_file_of_its_owner() {
    let server = Server::shared().await;
    let name =
        command(&server, json!("ls -d /root /home /etc/shadow /srv /var/lib 2>/dev/null; cat /etc/passwd"))
            .await;
    let result = server.call(&name, &Value::Null).await;
    let text = result.as_str().expect("text");
    assert!(text.starts_with("root:x:0:0:root:/:/sbin/nologin\nsandbox:x:1000"), "{text}");
    let name = command(&server, json!("touch /usr/x /etc/x /var/task/x /opt/impuls/x && echo written")).await;
    server.invoke(&name, &Value::Null).await.failure(500, "FunctionError");
}

#[tokio::test]
async fn an_executable_file_is_run_as_it_is() {
    let server = Server::shared().await;
    let code = "#!/bin/sh\nread event\necho \"{\\\"event\\\": $event, \\\"zero\\\": \\\"$0\\\"}\"\n";
    let name = deploy(&server, json!({"runtime": "executable", "handler": "bin/run", "code": code})).await;
    let expected = json!({"event": [1], "zero": "/var/task/bin/run"});
    assert_eq!(server.call(&name, &json!([1])).await, expected);
}

/// The example of the Runtime API's documentation, which needs nothing but a shell and curl.
const BOOTSTRAP: &str = r#"#!/bin/sh
set -u
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
count=0
while true; do
  head=$(mktemp)
  event=$(curl -sS -D "$head" "$api/invocation/next")
  id=$(tr -d '\r' < "$head" | sed -n 's/^[Ll]ambda-[Rr]untime-[Aa]ws-[Rr]equest-[Ii]d: //p')
  count=$((count + 1))
  echo "call $count"
  if [ "$event" = '"fail"' ]; then
    error='{"errorMessage": "as asked", "errorType": "Asked"}'
    curl -sS -X POST "$api/invocation/$id/error" -d "$error" > /dev/null
  else
    curl -sS -X POST "$api/invocation/$id/response" -d "{\"count\": $count, \"event\": $event, \"handler\": \"$_HANDLER\"}" > /dev/null
  fi
done
"#;

#[tokio::test]
#[ignore = "needs curl"]
async fn a_bootstrap_asks_the_runtime_api_for_events() {
    let server = Server::shared().await;
    let fields = json!({"runtime": "provided.al2023", "handler": "function.handler", "code": BOOTSTRAP});
    let name = deploy(&server, fields).await;
    let result = server.call(&name, &json!({"a": 1})).await;
    assert_eq!(result, json!({"count": 1, "event": {"a": 1}, "handler": "function.handler"}));
    let failed = server.invoke(&name, &json!("fail")).await.failure(500, "FunctionError");
    assert_eq!((&failed["error"], &failed["error_class"]), (&json!("as asked"), &json!("Asked")));
    assert_eq!(server.call(&name, &json!(3)).await["count"], 3, "one process answers all calls");
}

#[tokio::test]
async fn a_bootstrap_that_ends_fails_its_calls_with_how_it_ended() {
    let server = Server::shared().await;
    let fields = json!({"runtime": "provided", "handler": "x.y", "code": "#!/bin/sh\nexit 7"});
    let name = deploy(&server, fields).await;
    let body = server.invoke(&name, &Value::Null).await.failure(500, "InitError");
    assert!(body["error"].as_str().expect("text").contains("code 7"), "{body}");
}

fn http_event(method: &str, path: &str, body: &str) -> Value {
    json!({"version": "2.0", "rawPath": path, "rawQueryString": "q=1", "headers": {"x-one": "1"},
           "requestContext": {"http": {"method": method}}, "body": body, "isBase64Encoded": false})
}

fn check_web(reply: Reply) {
    let result = reply.result();
    assert_eq!(result["statusCode"], 201, "{result}");
    assert_eq!(result["headers"]["x-method"], "PUT", "{result}");
    assert_eq!(result["body"], "/a?q=1 hi 1", "{result}");
}

#[tokio::test]
async fn a_python_web_server_answers_http_events() {
    let server = Server::shared().await;
    let code = "
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_PUT(self):
        body = self.rfile.read(int(self.headers['content-length'])).decode()
        self.send_response(201)
        self.send_header('x-method', self.command)
        self.end_headers()
        self.wfile.write((self.path + ' ' + body + ' ' + self.headers['x-one']).encode())
HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
";
    let fields = json!({"runtime": "python", "contract": "http", "handler": "app.py", "code": code});
    let name = deploy(&server, fields).await;
    for _ in 0..2 {
        check_web(server.invoke(&name, &http_event("PUT", "/a", "hi")).await);
    }
}

#[tokio::test]
async fn a_node_web_server_answers_http_events() {
    let server = Server::shared().await;
    let code = "
require('http').createServer((request, response) => {
  let body = '';
  request.on('data', (more) => { body += more; });
  request.on('end', () => {
    response.writeHead(201, { 'x-method': request.method });
    response.end(`${request.url} ${body} ${request.headers['x-one']}`);
  });
}).listen(process.env.PORT);
";
    let fields =
        json!({"runtime": "nodejs", "contract": "http", "handler": "app.js", "code": code, "concurrency": 8});
    let name = deploy(&server, fields).await;
    let events = (0..16).map(|_| http_event("PUT", "/a", "hi")).collect();
    for reply in server.invoke_all(&name, events).await {
        check_web(reply);
    }
}

/// A program that listens, and answers as [`check_web`] wants it.
async fn serves(runtime: &str, handler: &str, code: &str) {
    serves_on(&*Server::shared().await, runtime, handler, code).await;
}

async fn serves_on(server: &Server, runtime: &str, handler: &str, code: &str) {
    let fields =
        json!({"runtime": runtime, "contract": "http", "handler": handler, "code": code, "memory_mb": 512});
    let name = deploy(server, fields).await;
    for _ in 0..2 {
        check_web(server.invoke(&name, &http_event("PUT", "/a", "hi")).await);
    }
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn a_ruby_web_server_answers_http_events() {
    let code = "
require 'socket'
server = TCPServer.new('127.0.0.1', ENV['PORT'].to_i)
loop do
  client = server.accept
  if (line = client.gets)
    verb, path = line.split
    headers = {}
    while (line = client.gets) && line != \"\\r\\n\"
      name, value = line.split(':', 2)
      headers[name.downcase] = value.strip
    end
    body = path + ' ' + client.read(headers['content-length'].to_i) + ' ' + headers['x-one']
    client.write \"HTTP/1.1 201 Created\\r\\nx-method: #{verb}\\r\\nconnection: close\\r\\n\" \\
                 \"content-length: #{body.bytesize}\\r\\n\\r\\n#{body}\"
  end
  client.close
end
";
    serves("ruby", "app.rb", code).await;
}

#[tokio::test]
#[ignore = "needs php"]
async fn a_php_web_server_answers_http_events() {
    let code = "<?php
$server = stream_socket_server('tcp://127.0.0.1:' . getenv('PORT'));
while (true) {
    $client = @stream_socket_accept($server, -1);
    if ($client && ($line = fgets($client))) {
        [$method, $path] = explode(' ', $line);
        $headers = [];
        while (($line = fgets($client)) && $line !== \"\\r\\n\") {
            [$name, $value] = explode(':', $line, 2);
            $headers[strtolower($name)] = trim($value);
        }
        $body = $path . ' ' . fread($client, (int) $headers['content-length']) . ' ' . $headers['x-one'];
        fwrite($client, \"HTTP/1.1 201 Created\\r\\nx-method: $method\\r\\nconnection: close\\r\\n\"
            . 'content-length: ' . strlen($body) . \"\\r\\n\\r\\n$body\");
    }
    if ($client) fclose($client);
}
";
    serves("php", "app.php", code).await;
}

#[tokio::test]
#[ignore = "needs perl"]
async fn a_perl_web_server_answers_http_events() {
    let code = "
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ENV{PORT}, Listen => 16, ReuseAddr => 1)
    or die \"cannot listen: $!\";
while (my $client = $server->accept) {
    if (defined(my $line = <$client>)) {
        my ($method, $path) = split / /, $line;
        my %headers;
        while (defined($line = <$client>) && $line ne \"\\r\\n\") {
            $headers{lc $1} = $2 if $line =~ /^([^:]+):\\s*(.*?)\\r/;
        }
        read $client, my $sent, $headers{'content-length'};
        my $body = \"$path $sent $headers{'x-one'}\";
        print $client \"HTTP/1.1 201 Created\\r\\nx-method: $method\\r\\nconnection: close\\r\\n\",
            'content-length: ', length $body, \"\\r\\n\\r\\n$body\";
    }
    close $client;
}
";
    serves("perl", "app.pl", code).await;
}

#[tokio::test]
#[ignore = "needs java"]
async fn a_java_web_server_answers_http_events() {
    let code = "import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
public class Main { public static void main(String[] arguments) throws Exception {
    int port = Integer.parseInt(System.getenv(\"PORT\"));
    HttpServer server = HttpServer.create(new InetSocketAddress(\"127.0.0.1\", port), 0);
    server.createContext(\"/\", exchange -> {
        String sent = new String(exchange.getRequestBody().readAllBytes(), \"UTF-8\");
        String body = exchange.getRequestURI() + \" \" + sent + \" \" + exchange.getRequestHeaders().getFirst(\"x-one\");
        exchange.getResponseHeaders().set(\"x-method\", exchange.getRequestMethod());
        exchange.sendResponseHeaders(201, body.length());
        exchange.getResponseBody().write(body.getBytes(\"UTF-8\"));
        exchange.close();
    });
    server.start();
} }";
    serves("java", "Main", code).await;
}

/// A program that prints its event again, twice.
async fn echoes(runtime: &str, handler: &str, code: &str) {
    echoes_on(&*Server::shared().await, runtime, handler, code).await;
}

async fn echoes_on(server: &Server, runtime: &str, handler: &str, code: &str) {
    let fields = json!({"runtime": runtime, "contract": "program", "handler": handler, "code": code, "memory_mb": 512});
    let name = deploy(server, fields).await;
    for event in [json!({"a": [1, "ü"]}), json!(2)] {
        assert_eq!(server.call(&name, &event).await, json!([event, event]), "{runtime}");
    }
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn ruby_programs_run() {
    echoes("ruby", "main.rb", "require 'json'\nevent = JSON.parse(STDIN.read)\nputs [event, event].to_json")
        .await;
}

#[tokio::test]
#[ignore = "needs php"]
async fn php_programs_run() {
    let code =
        "<?php $event = json_decode(file_get_contents('php://stdin')); echo json_encode([$event, $event]);";
    echoes("php", "main.php", code).await;
}

#[tokio::test]
#[ignore = "needs perl"]
async fn perl_programs_run() {
    echoes("perl", "main.pl", "local $/; my $event = <STDIN>; print \"[$event, $event]\";").await;
}

#[tokio::test]
#[ignore = "needs java"]
async fn java_programs_run() {
    let code = "public class Main { public static void main(String[] arguments) throws Exception {
        String event = new String(System.in.readAllBytes(), \"UTF-8\");
        System.out.write((\"[\" + event + \",\" + event + \"]\").getBytes(\"UTF-8\"));
        System.out.flush();
    } }";
    echoes("java", "Main", code).await;
}

/// Deno and Bun as npm has them, kept between runs.
fn from_npm() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("npm-deno-bun");
    if !folder.join("node_modules").is_dir() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "deno@2", "bun@1", "--prefix"]);
        let ended = npm.arg(&folder).status().expect("npm starts");
        assert!(ended.success(), "npm cannot install Deno and Bun");
    }
    folder.join("node_modules")
}

/// The one program that is at `within` in the one package of the platform.
fn platform_program(packages: &Path, within: &str) -> PathBuf {
    let packages = fs::read_dir(packages).expect("packages");
    let mut programs = packages.map(|entry| entry.expect("a package").path().join(within));
    programs.find(|program| program.is_file()).expect("a program for this platform")
}

#[tokio::test]
#[ignore = "needs npm"]
async fn toolchains_are_found_in_their_folder() {
    let packages = from_npm();
    let data = Data::new();
    let toolchains = data.scratch().join("toolchains");
    for (name, program) in [
        ("deno", platform_program(&packages.join("@deno"), "deno")),
        ("bun", platform_program(&packages.join("@oven"), "bin/bun")),
    ] {
        let folder = toolchains.join(name).join("bin");
        fs::create_dir_all(&folder).expect("a folder");
        fs::copy(program, folder.join(name)).expect("a copy");
    }
    let server = Launch::on(&data).argument("--toolchains").argument(&toolchains).start().await;
    let deno =
        "const event = await new Response(Deno.stdin.readable).text(); console.log(`[${event},${event}]`);";
    echoes_on(&server, "deno", "main.ts", deno).await;
    let bun = "const event: string = await Bun.stdin.text(); console.log(`[${event},${event}]`);";
    echoes_on(&server, "bun", "main.ts", bun).await;
    let answer = "async (request: Request) => {
  const { pathname, search } = new URL(request.url);
  const body = `${pathname}${search} ${await request.text()} ${request.headers.get('x-one')}`;
  return new Response(body, { status: 201, headers: { 'x-method': request.method } });
}";
    let port = "{ hostname: '127.0.0.1', port: Number(Deno.env.get('PORT')) }";
    serves_on(&server, "deno", "app.ts", &format!("Deno.serve({port}, {answer});")).await;
    let port = "hostname: '127.0.0.1', port: Number(process.env.PORT)";
    serves_on(&server, "bun", "app.ts", &format!("Bun.serve({{ {port}, fetch: {answer} }});")).await;
}

#[tokio::test]
async fn what_a_runtime_cannot_do_is_refused_by_name() {
    let server = Server::shared().await;
    let refuse = async |fields: Value, expected: &str| {
        let mut fields = fields;
        fields["name"] = json!(unique("refused"));
        let message = server.post(FUNCTIONS, &fields).await.problem(400);
        assert!(message.contains(expected), "{message}");
    };
    let python = json!({"runtime": "python", "contract": "bootstrap", "handler": "a.b", "code": "1"});
    refuse(python, "has no contract bootstrap; it has: module, scoped, program, http").await;
    let no_command = json!({"runtime": "command", "handler": "x", "code": "x"});
    refuse(no_command, "needs the field command").await;
    refuse(json!({"runtime": "command", "command": [""]}), "command: command begins with an empty word")
        .await;
    refuse(json!({"runtime": "cobol", "handler": "x", "code": "x"}), "known runtimes: ").await;
    let missing = json!({"runtime": "provided", "contract": "program", "handler": "x", "zip": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="});
    let mut fields = missing;
    fields["name"] = json!(unique("refused"));
    let created = server.create(&fields).await;
    assert_eq!(created["status"], "error");
    assert_eq!(created["error"]["message"], "the code has no file bootstrap");
}

#[tokio::test]
async fn another_language_brings_its_own_default_contract() {
    let server = Server::shared().await;
    let name = server.node("exports.handler = async () => 1;").await;
    let change = json!({"runtime": "executable", "handler": "run", "code": "#!/bin/sh\necho 2"});
    assert_eq!(server.update(&name, &change).await["contract"], "program");
    assert_eq!(server.call(&name, &Value::Null).await, 2);
}

#[tokio::test]
async fn labels_are_kept_with_each_version() {
    let server = Server::shared().await;
    let name =
        server.node_with("exports.handler = async () => 1;", &json!({"metadata": {"team": "a"}})).await;
    assert_eq!(server.get(&path(&name)).await.json()["metadata"], json!({"team": "a"}));
    let updated = server.update(&name, &json!({"metadata": {"team": "b", "tier": "1"}})).await;
    assert_eq!((&updated["version"], &updated["metadata"]), (&json!(2), &json!({"team": "b", "tier": "1"})));
    let versions = server.get(&format!("{}/versions", path(&name))).await.json();
    assert_eq!(versions["versions"][1]["metadata"], json!({"team": "a"}), "{versions}");
}
