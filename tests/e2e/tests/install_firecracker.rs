//! `scripts/install-firecracker.sh` against releases of our own making: no official one can be fetched here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use impuls_e2e::cli::Outcome;

fn run(arguments: &[&str]) -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let output = Command::new("sh")
        .arg(root.join("scripts/install-firecracker.sh"))
        .args(arguments)
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .expect("a shell starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Serves a folder until the test's process ends; its address.
fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let path = lines.next().unwrap_or_default();
            let path = path.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
            let _headers = lines.take_while(|line| !line.is_empty()).count();
            let (status, bytes) = match fs::read(folder.join(path)) {
                Ok(bytes) => ("200 OK", bytes),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", bytes.len());
            let _sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes));
        }
    });
    address
}

/// A release with its checksum file, as the project lays them out.
fn release(folder: &Path, version: &str) {
    let script = r#"set -eu
        name=v$1-$(uname -m)
        mkdir -p "v$1" "release-$name"
        for program in firecracker jailer; do printf '#!/bin/sh\necho %s %s\n' "$program" "$1" >"release-$name/$program-$name"; done
        tar -czf "v$1/firecracker-$name.tgz" "release-$name"
        cd "v$1"; sha256sum "firecracker-$name.tgz" >"firecracker-$name.tgz.sha256.txt""#;
    let done = Command::new("sh").args(["-c", script, "sh", version]).current_dir(folder).status().unwrap();
    assert!(done.success());
}

#[test]
#[ignore = "needs curl"]
fn a_release_is_installed_once_it_is_what_its_checksum_file_says() {
    let folder = tempfile::tempdir().unwrap();
    release(folder.path(), "1.16.1");
    release(folder.path(), "1.17.0");
    let address = serve(folder.path().to_owned());
    let prefix = folder.path().join("prefix");
    let prefix_text = prefix.to_string_lossy();
    let install =
        |version: &str| run(&["--version", version, "--prefix", &prefix_text, "--base-url", &address]);
    let said = |program: &str| {
        let output = Command::new(prefix.join("bin").join(program)).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    install("v1.17.0").success();
    assert_eq!(said("jailer"), "jailer 1.17.0");
    run(&["--prefix", &prefix_text, "--base-url", &address]).success();
    assert_eq!(said("firecracker"), "firecracker 1.16.1");
    // What was changed after it was signed for replaces nothing.
    let machine = std::env::consts::ARCH;
    let archive = folder.path().join(format!("v1.17.0/firecracker-v1.17.0-{machine}.tgz"));
    let mut bytes = fs::read(&archive).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&archive, bytes).unwrap();
    let refused = install("1.17.0");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("not what the release's checksum file says"), "{refused:?}");
    fs::write(archive.with_extension("tgz.sha256.txt"), "").unwrap();
    assert!(install("1.17.0").stderr.contains("says nothing about"));
    assert!(install("1.18.0").stderr.contains("cannot fetch"));
    assert_eq!((said("firecracker"), said("jailer")), ("firecracker 1.16.1".into(), "jailer 1.16.1".into()));
    assert_eq!(fs::read_dir(prefix.join("bin")).unwrap().count(), 2);
}

#[test]
fn known_bad_versions_and_wrong_arguments_are_refused() {
    let check = |arguments: &[&str], expected: &str| {
        let refused = run(arguments);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(expected), "{expected}: {refused:?}");
    };
    for old in ["1.14.3", "1.9.9", "0.25.2", "v1.14.0"] {
        check(&["--version", old], "CVE-2026-1386");
    }
    check(&["--version", "1.15.0"], "CVE-2026-5747");
    check(&["--version", "1.16.0"], "vsock");
    for none in ["latest", "1.16", "1.16.1/../../x", ""] {
        check(&["--version", none], if none.is_empty() { "needs a value" } else { "is no version" });
    }
    check(&["--prefix"], "needs a value");
    check(&["--force"], "unknown argument");
    assert!(run(&["--help"]).success().contains("--base-url"));
}
