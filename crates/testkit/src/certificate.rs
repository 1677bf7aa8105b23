//! Certificates for servers with TLS, made by `openssl`.

use std::fs;
use std::path::Path;
use std::process::Command;

/// An authority (`authority.pem`), and a certificate from it for these names (`server.pem`, `server.key`; names as `openssl`
/// has them: `DNS:localhost`), in this folder.
pub fn certify(folder: &Path, names: &str) {
    let steps = [
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout authority.key \
         -out authority.pem",
        "openssl req -new -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
        "openssl x509 -req -days 2 -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial \
         -extfile names -out server.pem",
    ];
    fs::write(folder.join("names"), format!("subjectAltName={names}\n")).expect("cannot write");
    for step in steps {
        let words: Vec<String> = step.split_whitespace().map(str::to_owned).collect();
        run(&words, folder);
    }
}

/// Runs a program in a folder; it must succeed.
pub(crate) fn run(words: &[String], folder: &Path) {
    let (program, arguments) = words.split_first().expect("no command");
    let output = Command::new(program).args(arguments).current_dir(folder).env("LC_ALL", "C.UTF-8").output();
    let output = output.expect("cannot start a program");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
