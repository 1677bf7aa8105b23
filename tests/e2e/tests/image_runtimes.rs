//! Functions in the roots of images: with shims, commands, programs, bootstraps and web servers, in either kind of sandbox.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests, which end by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use impuls_e2e::launch::program;
use impuls_e2e::{Data, Launch, Server, Value, json, unique};

/// Debian's programs, with the libraries that they load, as somebody's image has them.
const PROGRAMS: [&str; 3] = ["/bin/sh", "/bin/cat", "/usr/bin/python3.11"];
/// What Python loads besides.
const LIBRARY: &str = "/usr/lib/python3.11";

/// An image as `docker save` writes it, of what is in the folder `root` of this one.
const SAVE: &str = r#"set -eu
    tar -C root -cf layer.tar .
    digest=$(sha256sum layer.tar | cut -d ' ' -f 1)
    case $(uname -m) in x86_64) architecture=amd64 ;; *) architecture=arm64 ;; esac
    printf '{"architecture":"%s","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        "$architecture" "$digest" >config.json
    printf '[{"Config":"config.json","RepoTags":["x:1"],"Layers":["layer.tar"]}]' >manifest.json
    tar -cf image.tar manifest.json config.json layer.tar"#;

fn run(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Builds an image of this name into the store of a data folder: this machine's programs in a root that says whose it is.
fn build(data: &Data, name: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    for path in PROGRAMS.iter().map(PathBuf::from).chain(PROGRAMS.iter().flat_map(|it| libraries(it))) {
        copy(&path, &root);
    }
    // A version that no machine of ours has.
    fs::create_dir_all(root.join("usr/local/bin")).expect("the folder is made");
    fs::copy(PROGRAMS[2], root.join("usr/local/bin/python3.99")).expect("the file is copied");
    let library = root.join(LIBRARY.trim_start_matches('/'));
    fs::create_dir_all(library.parent().expect("it has one")).expect("the folder is made");
    run(Command::new("cp").args(["-a", LIBRARY]).arg(&library));
    for (path, text) in
        [("etc/whose", "the image's"), ("etc/passwd", "nobody's"), ("opt/impuls/agent", "not ours")]
    {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("the folder is made");
        fs::write(path, text).expect("the file is written");
    }
    run(Command::new("sh").args(["-c", SAVE]).current_dir(folder.path()));
    // The least that is a static program for this machine: a header that loads nothing.
    let mut agent = fs::read(program()).expect("the program is read")[..64].to_vec();
    agent[32..48].fill(0);
    agent[56..64].fill(0);
    fs::write(folder.path().join("agent"), agent).expect("the agent is written");
    let mut build = Command::new(program());
    build.args(["image", "build", name, "--oci", "--from-oci"]).arg(folder.path().join("image.tar"));
    build.arg("--agent").arg(folder.path().join("agent")).arg("--data-dir").arg(data.folder());
    run(&mut build);
}

/// The shared libraries of a program, as `ldd` finds them.
fn libraries(program: &str) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// Copies a file to its own place, without links on the way.
fn copy(path: &Path, root: &Path) {
    let place = root.join(path.strip_prefix("/").expect("it is absolute"));
    fs::create_dir_all(place.parent().expect("it has one")).expect("the folder is made");
    fs::copy(path, place).expect("the file is copied");
}

async fn deploy(server: &Server, mut fields: Value) -> String {
    let name = unique("imaged");
    fields["name"] = json!(name);
    fields["network"] = json!("off");
    let created = server.create(&fields).await;
    assert_eq!(created["status"], "active", "{created}");
    name
}

async fn functions_run_in_images(arguments: &[&str]) {
    let data = Data::new();
    build(&data, "python399+my-tools");
    let launch = Launch::on(&data);
    let server = arguments.iter().fold(launch, |launch, argument| launch.argument(*argument)).start().await;

    let code = "def handler(event, context):\n    return [event, open('/etc/whose').read()]\n";
    let handler =
        deploy(&server, json!({"runtime": "python399", "handler": "index.handler", "code": code})).await;
    assert_eq!(server.call(&handler, &json!({"a": 1})).await, json!([{"a": 1}, "the image's"]));

    let whose = ["/bin/sh", "-c", "cat; cat /etc/whose >&2; test \"$(cat /etc/passwd)\" != \"nobody's\""];
    let command = deploy(&server, json!({"runtime": "my-tools", "command": whose})).await;
    let reply = server.invoke(&command, &json!([1])).await;
    assert_eq!(reply.logs(), "the image's");
    assert_eq!(reply.result(), json!([1]));

    let code =
        "#!/bin/sh\nread event\necho \"{\\\"event\\\": $event, \\\"whose\\\": \\\"$(cat /etc/whose)\\\"}\"\n";
    let fields = json!({"runtime": "my-tools", "contract": "program", "handler": "run.me", "code": code});
    let program = deploy(&server, fields).await;
    assert_eq!(server.call(&program, &json!(2)).await, json!({"event": 2, "whose": "the image's"}));

    let code = "#!/bin/sh\nexec /usr/bin/python3.11 -c '\n\
        import json, os, urllib.request\n\
        api = \"http://\" + os.environ[\"AWS_LAMBDA_RUNTIME_API\"] + \"/2018-06-01/runtime/invocation/\"\n\
        while True:\n    \
            with urllib.request.urlopen(api + \"next\") as call:\n        \
                name, event = call.headers[\"Lambda-Runtime-Aws-Request-Id\"], json.load(call)\n    \
            answer = json.dumps([event, open(\"/etc/whose\").read()]).encode()\n    \
            urllib.request.urlopen(api + name + \"/response\", answer)\n'\n";
    let fields = json!({"runtime": "my-tools", "contract": "bootstrap", "handler": "x.y", "code": code});
    let bootstrap = deploy(&server, fields).await;
    assert_eq!(server.call(&bootstrap, &json!(3)).await, json!([3, "the image's"]));

    let serve = "import http.server, os\n\
        class Page(http.server.BaseHTTPRequestHandler):\n    \
            def do_GET(self):\n        \
                self.send_response(200)\n        \
                self.end_headers()\n        \
                self.wfile.write(open('/etc/whose', 'rb').read())\n\
        http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Page).serve_forever()\n";
    let fields = json!({"runtime": "my-tools", "contract": "http", "handler": "page.py", "code": serve,
                        "command": ["/usr/bin/python3.11", "/var/task/page.py"]});
    let web = deploy(&server, fields).await;
    let event = json!({"version": "2.0", "rawPath": "/", "headers": {}, "body": "", "isBase64Encoded": false,
                       "requestContext": {"http": {"method": "GET"}}});
    assert_eq!(server.call(&web, &event).await["body"], "the image's");

    let runtimes = server.get("/api/v1/runtimes").await.with_status(200).json().to_string();
    assert!(runtimes.contains("my-tools"), "{runtimes}");
    assert!(server.stop().await.success());
}

#[tokio::test]
#[ignore = "needs root, python"]
async fn functions_run_in_images_as_processes() {
    functions_run_in_images(&[]).await;
}

#[tokio::test]
#[ignore = "needs root, python, crun"]
async fn functions_run_in_images_as_containers() {
    functions_run_in_images(&["--driver", "container", "--oci-runtime", "crun"]).await;
}
