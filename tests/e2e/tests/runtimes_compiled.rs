//! Languages that are compiled when they are deployed: C# on Mono and on .NET, and Rust.

#![expect(clippy::indexing_slicing, reason = "helpers of tests, which end by panicking")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use impuls_e2e::functions::merged;
use impuls_e2e::{Server, Value, json, unique, zip_of};

/// Deploys, which must succeed and give an active function; returns the name.
async fn deploy(server: &Server, fields: &Value) -> String {
    let name = unique("compiled");
    let created = server.create(&merged(json!({"name": name}), fields)).await;
    assert_eq!(created["status"], "active", "{created}");
    name
}

/// A C# handler on Mono.
async fn csharp(server: &Server, handler: &str, code: &str) -> String {
    deploy(server, &json!({"runtime": "mono6", "handler": handler, "code": code})).await
}

/// The fields of an archive.
fn archive(files: &[(&str, &str)]) -> Value {
    json!({"zip": BASE64.encode(zip_of(files))})
}

/// Handlers as clients of .NET write them; the first letters say how they are named.
const FORMS: &str = r#"
using System.Collections.Generic;
using System.Text.Json;
using System.Threading.Tasks;

public class Plain
{
    public int Nothing() { return 2; }
    public int Event(JsonElement input) { return input.GetProperty("a").GetInt32() + 1; }
    public int Both(JsonElement input, LambdaContext context) { return input.GetProperty("a").GetInt32() + context.FunctionName.Length * 0 + 1; }
    public string Context(LambdaContext context) { return context.FunctionVersion; }
    public static int Static(JsonElement input) { return input.GetProperty("a").GetInt32() + 1; }
    public void Void(JsonElement input) { }
    public async Task<int> Later(JsonElement input) { await Task.Delay(5); return input.GetProperty("a").GetInt32() + 1; }
    public async ValueTask<int> Value(JsonElement input) { await Task.Delay(5); return input.GetProperty("a").GetInt32() + 1; }
    public async Task Done(JsonElement input, LambdaContext context) { await Task.Delay(5); }
    public Task<Dictionary<string, int>> Made(JsonElement input)
    {
        return Task.FromResult(new Dictionary<string, int> { { "a", input.GetProperty("a").GetInt32() + 1 } });
    }
}

namespace My.Shop
{
    public class Function
    {
        int calls;
        public int Handle(JsonElement input, Amazon.Lambda.Core.ILambdaContext context) { return input.GetProperty("a").GetInt32() + 1; }
        public int Count() { return ++calls; }
        public int OnlyHere() { return 2; }
    }
}
"#;

async fn every_form_of_handler_is_called(runtime: &str) {
    let server = Server::shared().await;
    let forms = [
        ("Plain.Nothing", json!(2)),
        ("Plain.Event", json!(2)),
        ("Plain.Both", json!(2)),
        ("Plain.Context", json!("1")),
        ("Plain.Static", json!(2)),
        ("Plain.Void", Value::Null),
        ("Plain.Later", json!(2)),
        ("Plain.Value", json!(2)),
        ("Plain.Done", Value::Null),
        ("Plain.Made", json!({"a": 2})),
        ("My.Shop.Function.Handle", json!(2)),
        ("Function.Handle", json!(2)),
        ("MyAssembly::My.Shop.Function::Handle", json!(2)),
        ("OnlyHere", json!(2)),
    ];
    for (handler, expected) in forms {
        let name = deploy(&server, &json!({"runtime": runtime, "handler": handler, "code": FORMS})).await;
        assert_eq!(server.call(&name, &json!({"a": 1})).await, expected, "{handler}");
    }
    let counting =
        deploy(&server, &json!({"runtime": runtime, "handler": "Function.Count", "code": FORMS})).await;
    for n in 1..=3 {
        assert_eq!(server.call(&counting, &Value::Null).await, n, "one object answers all calls");
    }
}

#[tokio::test]
#[ignore = "needs mono"]
async fn every_form_of_a_csharp_handler_is_called_on_mono() {
    every_form_of_handler_is_called("mono6").await;
}

#[tokio::test]
#[ignore = "needs dotnet"]
async fn every_form_of_a_csharp_handler_is_called_on_dotnet() {
    every_form_of_handler_is_called("dotnet").await;
}

/// Classes and what else a handler may take an event as.
const TYPES: &str = r#"
using System;
using System.Collections;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json.Serialization;

public enum Size { Small, Large }
public class Line { public string Product { get; set; } public decimal Price { get; set; } public int? Count { get; set; } }
public class Order
{
    public string Id { get; set; }
    [JsonPropertyName("ordered_at")] public DateTime At { get; set; }
    public Size Size;
    public List<Line> Lines { get; set; }
    public Dictionary<string, double> Rates { get; set; }
    public string[] Tags { get; set; }
    [JsonIgnore] public string Secret { get; set; } = "x";
}
public class Point { public readonly int X, Y; public Point(int x, int y) { X = x; Y = y; } }

public class F
{
    public object Same(object e) { return e; }
    public Order Poco(Order order) { order.Lines[0].Count = (order.Lines[0].Count ?? 0) + 1; return order; }
    public int Keys(Dictionary<string, object> e) { return e.Count; }
    public object Member(Dictionary<string, object> e) { return ((IList)e["list"])[1]; }
    public object Dynamic(dynamic e) { int n = e.list.Count; return new { name = e.name, first = e.list[0] + 1, n, absent = e.no == null }; }
    public int Sum(IEnumerable<int> numbers) { return numbers.Sum(); }
    public string Upper(string e) { return e.ToUpperInvariant(); }
    public int Constructed(Point p) { return p.X * 10 + p.Y; }
    public Stream Raw(Stream e) { return e; }
    public object Tuples() { return new object[] { 1.5, 'c', Size.Large, Guid.Empty, null, new DateTime(2026, 1, 2, 3, 4, 5, DateTimeKind.Utc), new byte[] { 1, 2 }, float.Epsilon > 0 }; }
    public object Cycle() { var a = new List<object>(); a.Add(a); return a; }
}
"#;

#[tokio::test]
#[ignore = "needs mono"]
async fn an_event_becomes_what_a_csharp_handler_takes() {
    let server = Server::shared().await;
    let order = json!({"Id": "7", "ordered_at": "2026-11-21T10:00:00Z", "Size": 1, "Tags": ["a", "ü"],
        "Lines": [{"Product": "tea", "Price": 1.25, "Count": null}], "Rates": {"x": 0.5}});
    let mut counted = order.clone();
    counted["Lines"][0]["Count"] = json!(1);
    let by_other_case = json!({"id": "7", "size": "large", "lines": [{"count": 4}]});
    let mixed = json!({"list": [1, [2]], "name": "n"});
    for (handler, event, expected) in [
        ("F.Poco", order, counted),
        ("F.Keys", mixed.clone(), json!(2)),
        ("F.Member", mixed.clone(), json!([2])),
        ("F.Dynamic", mixed.clone(), json!({"name": "n", "first": 2, "n": 2, "absent": true})),
        ("F.Sum", json!([1, 2, 39]), json!(42)),
        ("F.Upper", json!("ab"), json!("AB")),
        ("F.Constructed", json!({"x": 4, "y": 2}), json!(42)),
        ("F.Raw", mixed.clone(), mixed),
        (
            "F.Tuples",
            Value::Null,
            json!([
                1.5,
                "c",
                1,
                "00000000-0000-0000-0000-000000000000",
                null,
                "2026-01-02T03:04:05Z",
                "AQI=",
                true
            ]),
        ),
    ] {
        let name = csharp(&server, handler, TYPES).await;
        assert_eq!(server.call(&name, &event).await, expected, "{handler}");
    }
    let poco = csharp(&server, "F.Poco", TYPES).await;
    let reply = server.call(&poco, &by_other_case).await;
    assert_eq!((&reply["Size"], &reply["Lines"][0]["Count"]), (&json!(1), &json!(5)), "{reply}");
    let refused = server.invoke(&poco, &json!({"Id": 7})).await.failure(500, "FunctionError");
    assert_eq!(refused["error"], "JSON has the number 7 where System.String is wanted");
    let cycle = csharp(&server, "F.Cycle", TYPES).await;
    let refused = server.invoke(&cycle, &Value::Null).await.failure(500, "FunctionError");
    assert!(refused["error"].as_str().expect("text").contains("holds itself"), "{refused}");
}

#[tokio::test]
#[ignore = "needs mono"]
async fn values_come_back_from_csharp_as_they_were_sent() {
    let server = Server::shared().await;
    let name = csharp(&server, "F.Same", TYPES).await;
    let text = "ünïcödé \u{1F980} \\ \" \n \u{7f} \u{2028} '''";
    for event in [
        json!(null),
        json!(true),
        json!(0),
        json!(-1.5e-7),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(0.1),
        json!(text),
        json!({"": {"a": [1, {}, []]}}),
        json!("x".repeat(300_000)),
    ] {
        assert_eq!(server.call(&name, &event).await, event);
    }
}

#[tokio::test]
#[ignore = "needs mono"]
async fn the_csharp_context_tells_about_function_and_call() {
    let server = Server::shared().await;
    let code = "
public class F
{
    public object Handle(object e, LambdaContext c)
    {
        c.Logger.LogLine(\"from the logger\");
        return new { c.FunctionName, c.FunctionVersion, c.AwsRequestId, c.MemoryLimitInMB, c.InvokedFunctionArn,
            c.LogGroupName, Left = c.GetRemainingTimeInMillis(), Seconds = c.RemainingTime.TotalSeconds,
            Own = System.Environment.GetEnvironmentVariable(\"OWN\") };
    }
}";
    let fields = json!({"runtime": "mono", "handler": "F.Handle", "code": code, "memory_mb": 256, "timeout_sec": 9,
                        "environment": {"OWN": "variable"}});
    let name = deploy(&server, &fields).await;
    let reply = server.invoke(&name, &Value::Null).await;
    let envelope = reply.json();
    assert_eq!(reply.logs(), "from the logger");
    let context = reply.result();
    assert_eq!(context["FunctionName"], name.as_str());
    assert_eq!(context["FunctionVersion"], "1");
    assert_eq!(context["AwsRequestId"], envelope["request_id"]);
    assert_eq!(context["MemoryLimitInMB"], 256);
    assert_eq!(context["Own"], "variable");
    let arn = context["InvokedFunctionArn"].as_str().expect("text");
    assert!(arn.ends_with(&format!(":function:{name}")), "{arn}");
    let left = context["Left"].as_i64().expect("a number");
    assert!((1..=9_000).contains(&left), "{left}");
}

#[tokio::test]
#[ignore = "needs mono"]
async fn what_csharp_writes_to_the_console_is_the_log() {
    let server = Server::shared().await;
    let code = "using System; public class F { public string Handle(string e) {
        Console.WriteLine(\"one {0} ü\", e); Console.Error.WriteLine(\"two\"); Console.Write(\"three\"); return e; } }";
    let name = csharp(&server, "F.Handle", code).await;
    for word in ["a", "b"] {
        let reply = server.invoke(&name, &json!(word)).await;
        let logs = reply.logs();
        let mut lines: Vec<&str> = logs.lines().collect();
        // Two pipes have no common order.
        lines.sort_unstable();
        assert_eq!(lines, [format!("one {word} ü").as_str(), "three", "two"]);
    }
}

#[tokio::test]
#[ignore = "needs mono"]
async fn an_exception_has_its_type_message_and_place() {
    let server = Server::shared().await;
    let code = "
using System;
using System.Threading.Tasks;
public class OutOfTea : Exception { public OutOfTea(string m, Exception why) : base(m, why) { } }
public class F
{
    public object Now(object e) { return Deep(e); }
    object Deep(object e)
    {
        throw new OutOfTea(\"no tea\", new InvalidOperationException(\"why\"));
    }
    public async Task<int> Later(object e)
    {
        await Task.Delay(1);
        throw new ArgumentException(\"late\");
    }
}";
    let now = csharp(&server, "F.Now", code).await;
    let failed = server.invoke(&now, &Value::Null).await.failure(500, "FunctionError");
    assert_eq!((&failed["error"], &failed["error_class"]), (&json!("no tea"), &json!("OutOfTea")));
    let stack = failed["stack"].as_str().expect("text");
    let lines: Vec<&str> = stack.lines().collect();
    assert_eq!(lines.len(), 3, "{stack}");
    assert!(lines[0].contains("F.Deep") && lines[0].ends_with("/var/task/Function.cs:10"), "{stack}");
    assert!(lines[1].contains("F.Now") && lines[1].ends_with("/var/task/Function.cs:7"), "{stack}");
    assert_eq!(lines[2], "---> System.InvalidOperationException: why");
    let later = csharp(&server, "F.Later", code).await;
    let failed = server.invoke(&later, &Value::Null).await.failure(500, "FunctionError");
    assert_eq!((&failed["error"], &failed["error_class"]), (&json!("late"), &json!("ArgumentException")));
    assert!(failed["stack"].as_str().expect("text").contains("Function.cs:15"), "{failed}");
}

#[tokio::test]
#[ignore = "needs mono"]
async fn a_constructor_that_throws_is_an_error_of_the_start() {
    let server = Server::shared().await;
    let code = "public class F {
    public F() { throw new System.FormatException(\"bad start\"); }
    public int Handle() { return 1; } }";
    let name = csharp(&server, "F.Handle", code).await;
    let failed = server.invoke(&name, &Value::Null).await.failure(500, "InitError");
    assert_eq!((&failed["error"], &failed["error_class"]), (&json!("bad start"), &json!("FormatException")));
}

#[tokio::test]
#[ignore = "needs mono"]
async fn csharp_that_does_not_compile_says_where_and_replaces_nothing() {
    let server = Server::shared().await;
    let broken = "public class F\n{\n    public int Handle()\n    {\n        int unused = 1;\n        return missing;\n    }\n}";
    let check = |error: &Value| {
        assert_eq!((&error["file"], &error["line"]), (&json!("Function.cs"), &json!(6)), "{error}");
        assert!(error["message"].as_str().expect("text").contains("CS0103"), "{error}");
        assert_eq!(error["type"], "BuildError");
    };
    let fields = json!({"runtime": "mono6", "handler": "F.Handle", "code": broken});
    let (_, error) = server.broken(&fields).await;
    check(&error);
    let name = csharp(&server, "F.Handle", "public class F { public int Handle() { return 1; } }").await;
    let updated = server.update(&name, &json!({"code": broken})).await;
    assert_eq!((&updated["status"], &updated["version"]), (&json!("error"), &json!(1)), "{updated}");
    check(&updated["error"]);
    assert_eq!(server.call(&name, &Value::Null).await, 1, "the version before serves");
    let mended = json!({"code": "public class F { public int Handle() { return 2; } }"});
    assert_eq!(server.update(&name, &mended).await["status"], "active");
    assert_eq!(server.call(&name, &Value::Null).await, 2);
}

#[tokio::test]
#[ignore = "needs mono"]
async fn a_csharp_handler_that_is_not_there_is_known_at_deploy() {
    let server = Server::shared().await;
    let code = "public class F { public int Handle() { return 1; } public int A(int x) { return x; } public int A() { return 1; }
        int Hidden() { return 1; } public int Three(int a, int b, int c) { return a; } }
        public class NeedsWords { public NeedsWords(string s) { } public int Handle() { return 1; } }";
    for (handler, expected) in [
        (
            "G.Handle",
            "handler G.Handle: no class has it; write it as Class.Method; there are the classes: F, NeedsWords",
        ),
        ("F.Other", "class F has no public method Other"),
        ("F.Hidden", "class F has no public method Hidden"),
        ("F.A", "class F has several public methods A"),
        ("Handle", "several classes have it"),
        ("F.Three", "method Three is no handler"),
        ("NeedsWords.Handle", "class NeedsWords has no public constructor without parameters"),
    ] {
        let (_, error) = server.broken(&json!({"runtime": "mono6", "handler": handler, "code": code})).await;
        assert!(error["message"].as_str().expect("text").contains(expected), "{handler}: {error}");
    }
}

#[tokio::test]
#[ignore = "needs mono"]
async fn an_archive_of_csharp_is_compiled_as_one() {
    let server = Server::shared().await;
    let files = [
        (
            "src/Function.cs",
            "namespace Shop { public class Function { public string Handle() { return Prices.Read(); } } }",
        ),
        (
            "src/deep/Prices.cs",
            "namespace Shop { static class Prices { public static string Read() { return System.IO.File.ReadAllText(\"prices.txt\"); } } }",
        ),
        ("prices.txt", "7 pence"),
        ("obj/Debug/AssemblyInfo.cs", "this is no C#"),
    ];
    let fields =
        merged(archive(&files), &json!({"runtime": "csharp", "handler": "Shop::Shop.Function::Handle"}));
    let name = deploy(&server, &fields).await;
    assert_eq!(server.call(&name, &Value::Null).await, "7 pence");
}

#[tokio::test]
#[ignore = "needs mono"]
async fn a_csharp_program_has_its_own_main() {
    let server = Server::shared().await;
    let code = "using System; class P { static int Main(string[] words) {
        string e = Console.In.ReadToEnd();
        Console.Error.WriteLine(\"a note\");
        Console.WriteLine(\"[\" + e + \",\" + e + \"]\");
        return e == \"3\" ? 4 : 0; } }";
    let fields = json!({"runtime": "mono6", "contract": "program", "handler": "main", "code": code});
    let name = deploy(&server, &fields).await;
    let reply = server.invoke(&name, &json!({"a": "ü"})).await;
    assert_eq!(reply.logs(), "a note");
    assert_eq!(reply.result(), json!([{"a": "ü"}, {"a": "ü"}]));
    let failed = server.invoke(&name, &json!(3)).await.failure(500, "FunctionError");
    assert_eq!(failed["error"], "Function exited with code 4");
}

#[tokio::test]
#[ignore = "needs mono"]
async fn a_csharp_program_can_be_a_web_server() {
    let server = Server::shared().await;
    let code = r#"
using System;
using System.IO;
using System.Net;
class P
{
    static void Main()
    {
        var listener = new HttpListener();
        listener.Prefixes.Add("http://*:" + Environment.GetEnvironmentVariable("PORT") + "/");
        listener.Start();
        while (true)
        {
            HttpListenerContext call = listener.GetContext();
            call.Response.StatusCode = 201;
            using (var writer = new StreamWriter(call.Response.OutputStream))
            {
                writer.Write(call.Request.HttpMethod + new StreamReader(call.Request.InputStream).ReadToEnd());
            }
        }
    }
}"#;
    let fields = json!({"runtime": "mono6", "contract": "http", "handler": "main", "code": code});
    let name = deploy(&server, &fields).await;
    for _ in 0..2 {
        let result = server.call(&name, &json!([1])).await;
        assert_eq!((&result["statusCode"], &result["body"]), (&json!(201), &json!("POST[1]")), "{result}");
    }
}

#[tokio::test]
#[ignore = "needs mono"]
async fn a_csharp_handler_connects_to_a_name() {
    let server = Server::shared().await;
    let code = r#"
using System;
using System.Net.Sockets;
public class F
{
    public bool Handle()
    {
        string[] api = Environment.GetEnvironmentVariable("AWS_LAMBDA_RUNTIME_API").Split(':');
        using (var client = new TcpClient("localhost", int.Parse(api[1]))) { return client.Connected; }
    }
}"#;
    let name = csharp(&server, "F.Handle", code).await;
    assert_eq!(server.call(&name, &Value::Null).await, true);
}

#[tokio::test]
async fn a_dotnet_that_is_not_there_is_refused_with_what_to_install() {
    let server = Server::shared().await;
    let fields = json!({"name": unique("absent"), "runtime": "dotnet7", "handler": "F.Handle", "code": "x"});
    let reply = server.post(impuls_e2e::functions::FUNCTIONS, &fields).await;
    // SDK 7 is out of support since May 2024 and part of no distribution.
    let message = reply.problem(400);
    assert!(message.contains("dotnet7 is not installed") && message.contains("dotnet-sdk-7.0"), "{message}");
}

#[tokio::test]
async fn a_rust_file_is_compiled_and_run() {
    let server = Server::shared().await;
    let code = "
use std::io::Read as _;
fn main() {
    let mut event = String::new();
    std::io::stdin().read_to_string(&mut event).unwrap();
    eprintln!(\"a note\");
    println!(\"[{event},{event}]\");
    if event == \"3\" { panic!(\"as asked\"); }
}";
    let name = deploy(&server, &json!({"runtime": "rust", "handler": "main", "code": code})).await;
    let reply = server.invoke(&name, &json!({"a": "ü"})).await;
    assert_eq!(reply.logs(), "a note");
    assert_eq!(reply.result(), json!([{"a": "ü"}, {"a": "ü"}]));
    let failed = server.invoke(&name, &json!(3)).await.failure(500, "FunctionError");
    assert_eq!(failed["error"], "Function exited with code 101");
    assert!(failed["logs"].as_str().expect("text").contains("main.rs:8"), "{failed}");
}

#[tokio::test]
async fn a_cargo_package_is_built_with_its_own_crates() {
    let server = Server::shared().await;
    let files = [
        (
            "Cargo.toml",
            "[package]\nname = \"shop\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\nprices = { path = \"prices\" }\n",
        ),
        ("src/main.rs", "mod tax;\nfn main() { println!(\"{}\", prices::TEA * tax::FACTOR); }\n"),
        ("src/tax.rs", "pub const FACTOR: u32 = 2;\n"),
        ("src/bin/other.rs", "fn main() { println!(\"\\\"other\\\"\"); }\n"),
        ("prices/Cargo.toml", "[package]\nname = \"prices\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
        ("prices/src/lib.rs", "pub const TEA: u32 = 21;\n"),
    ];
    for (handler, expected) in [("shop", json!(42)), ("other", json!("other"))] {
        let fields = merged(archive(&files), &json!({"runtime": "rust", "handler": handler}));
        let name = deploy(&server, &fields).await;
        assert_eq!(server.call(&name, &Value::Null).await, expected);
    }
    let (_, error) =
        server.broken(&merged(archive(&files), &json!({"runtime": "rust", "handler": "main"}))).await;
    let message = error["message"].as_str().expect("text");
    assert!(message.contains("the package has 2 programs: other shop"), "{message}");
}

#[tokio::test]
async fn rust_that_does_not_compile_says_where_and_replaces_nothing() {
    let server = Server::shared().await;
    let code = "fn main() { println!(\"1\"); }";
    let name = deploy(&server, &json!({"runtime": "rust", "handler": "main", "code": code})).await;
    let broken = "fn main() {\n    let unused = 1;\n    println!(\"{}\", missing);\n}";
    let updated = server.update(&name, &json!({"code": broken})).await;
    assert_eq!((&updated["status"], &updated["version"]), (&json!("error"), &json!(1)), "{updated}");
    let error = &updated["error"];
    assert_eq!((&error["file"], &error["line"]), (&json!("main.rs"), &json!(3)), "{error}");
    assert!(error["message"].as_str().expect("text").contains("cannot find value `missing`"), "{error}");
    assert_eq!(server.call(&name, &Value::Null).await, 1, "the version before serves");
}

#[tokio::test]
async fn a_rust_program_can_be_a_web_server_and_a_custom_runtime() {
    let server = Server::shared().await;
    let web = r#"
use std::io::{Read as _, Write as _};
fn main() {
    let port = std::env::var("PORT").unwrap();
    for stream in std::net::TcpListener::bind(format!("127.0.0.1:{port}")).unwrap().incoming() {
        let mut stream = stream.unwrap();
        let mut buffer = [0; 4096];
        let _count = stream.read(&mut buffer);
        let _sent = stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi");
    }
}"#;
    let fields = json!({"runtime": "rust", "contract": "http", "handler": "main", "code": web});
    let name = deploy(&server, &fields).await;
    let result = server.call(&name, &json!({"a": 1})).await;
    assert_eq!((&result["statusCode"], &result["body"]), (&json!(201), &json!("hi")), "{result}");
    let runtime = r#"
use std::io::{Read as _, Write as _};
fn ask(request: String) -> String {
    let mut stream = std::net::TcpStream::connect(std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}
fn main() {
    loop {
        let head = "HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
        let next = ask(format!("GET /2018-06-01/runtime/invocation/next {head}\r\n"));
        let id = next.lines().find_map(|line| line.strip_prefix("lambda-runtime-aws-request-id: ")).unwrap();
        let event = next.split("\r\n\r\n").nth(1).unwrap();
        let body = format!("[{event}]");
        ask(format!("POST /2018-06-01/runtime/invocation/{id}/response {head}content-length: {}\r\n\r\n{body}", body.len()));
    }
}"#;
    let fields = json!({"runtime": "rust", "contract": "bootstrap", "handler": "main", "code": runtime});
    let name = deploy(&server, &fields).await;
    for n in 0..2 {
        assert_eq!(server.call(&name, &json!({"n": n})).await, json!([{"n": n}]));
    }
}
