//! AWS' own runtime interface clients, unmodified, as custom runtimes.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests, which end by panicking")]

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use impuls_e2e::{Server, Value, json, unique};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// The clients at these versions.
const NPM: &str = "aws-lambda-ric@3.3.0";
const PYPI: &str = "awslambdaric==4.2.2";
/// Sources that the clients were built from and do not need any more.
const NOT_NEEDED: [&str; 2] = ["deps", "node-addon-api"];

/// A folder that is kept between runs, filled by a command that must succeed.
fn installed(name: &str, command: impl FnOnce(&Path) -> Command) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let done = folder.join(".done");
    if !done.is_file() {
        fs::create_dir_all(&folder).expect("a folder");
        let ended = command(&folder).status().expect("the installer starts");
        assert!(ended.success(), "cannot install {name}");
        fs::write(done, "").expect("a mark");
    }
    folder
}

fn add(zip: &mut ZipWriter<Cursor<Vec<u8>>>, root: &Path, folder: &Path) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
        if kind.is_dir() && !NOT_NEEDED.iter().any(|name| entry.file_name() == *name) {
            add(zip, root, &path);
        } else if kind.is_file() {
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy();
            zip.start_file(name, SimpleFileOptions::default()).expect("an entry");
            zip.write_all(&fs::read(&path).expect("a file")).expect("memory");
        }
    }
}

/// An archive of the folder with a bootstrap and one more file.
fn package(folder: &Path, bootstrap: &str, (name, code): (&str, &str)) -> String {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    add(&mut zip, folder, folder);
    let executable = SimpleFileOptions::default().unix_permissions(0o755);
    for (name, text, options) in
        [("bootstrap", bootstrap, executable), (name, code, SimpleFileOptions::default())]
    {
        zip.start_file(name, options).expect("an entry");
        zip.write_all(text.as_bytes()).expect("memory");
    }
    STANDARD.encode(zip.finish().expect("an archive").into_inner())
}

/// Deploys the package and tries what every client must do.
async fn behaves(zip: String) {
    let server = Server::shared().await;
    let name = unique("client");
    server.create(&json!({"name": name, "runtime": "provided", "handler": "app.handler", "zip": zip})).await;
    for n in 0..3 {
        let reply = server.invoke(&name, &json!({"n": n})).await;
        assert!(reply.logs().contains(&format!("called with {n}")), "{}", reply.text());
        let id = reply.json()["request_id"].clone();
        assert_eq!(reply.result(), json!({"event": {"n": n}, "id": id, "name": name, "has_time": true}));
    }
    let failed = server.invoke(&name, &json!({"fail": true})).await.failure(500, "FunctionError");
    assert_eq!(failed["error"], "no good", "{failed}");
    assert!(failed["error_class"].as_str().is_some_and(|class| class.ends_with("Error")), "{failed}");
    // The process goes on after an error.
    assert_eq!(server.call(&name, &json!({"n": 4})).await["event"], json!({"n": 4}));
    assert_eq!(server.call(&name, &Value::Null).await["event"], Value::Null);
}

#[tokio::test]
#[ignore = "needs npm, autoconf, cmake"]
async fn the_client_for_node_works_unmodified() {
    let folder = installed("lambda-client-node", |folder| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", NPM, "--prefix"]).arg(folder);
        npm
    });
    let bootstrap = "#!/bin/sh\nexec node node_modules/aws-lambda-ric/bin/index.mjs \"$_HANDLER\"\n";
    let code = "exports.handler = async (event, context) => {
        console.log('called with', event && event.n);
        if (event && event.fail) throw new TypeError('no good');
        const has_time = context.getRemainingTimeInMillis() > 0;
        return { event, id: context.awsRequestId, name: context.functionName, has_time };
    };";
    behaves(package(&folder, bootstrap, ("app.js", code))).await;
}

#[tokio::test]
#[ignore = "needs pip"]
async fn the_client_for_python_works_unmodified() {
    let folder = installed("lambda-client-python", |folder| {
        let mut pip = Command::new("/usr/bin/python3");
        let quiet =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"];
        pip.args(quiet).args([PYPI, "--target"]).arg(folder);
        pip
    });
    let bootstrap = "#!/bin/sh\nexec /usr/bin/python3 -m awslambdaric \"$_HANDLER\"\n";
    let code = "
def handler(event, context):
    print('called with', event and event.get('n'))
    if event and event.get('fail'):
        raise ValueError('no good')
    has_time = context.get_remaining_time_in_millis() > 0
    return {'event': event, 'id': context.aws_request_id, 'name': context.function_name, 'has_time': has_time}
";
    behaves(package(&folder, bootstrap, ("app.py", code))).await;
}
