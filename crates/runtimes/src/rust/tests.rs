use super::*;
use crate::build::tests::{installed, plan};

fn planned(contract: Contract, files: &[(&str, &str)]) -> Build {
    plan(&Rust, &installed("rust195", (1, 95), &[], &["/opt/toolchains/rust/bin/cargo"]), contract, files)
}

#[test]
fn a_single_file_becomes_a_package_that_needs_no_network() {
    let build = planned(Contract::Program, &[("main.rs", "fn main() {}")]);
    let manifest = &build.files["Cargo.toml"];
    assert!(manifest.contains("path = \"main.rs\"") && manifest.contains("edition = \"2024\""), "{manifest}");
    assert_eq!(build.steps[0], ["/opt/toolchains/rust/bin/cargo", "build", "--release", "--bins"]);
    assert_eq!(build.environment["CARGO_NET_OFFLINE"], "true");
    assert!(build.environment["PATH"].starts_with("/opt/toolchains/rust/bin:"));
    assert!(!build.network);
}

#[test]
fn the_edition_is_one_that_the_compiler_knows() {
    for (minor, edition) in [(95, "2024"), (84, "2021"), (63, "2021"), (50, "2018")] {
        assert!(manifest((1, minor), true).contains(&format!("edition = \"{edition}\"")), "{minor}");
    }
}

#[test]
fn a_custom_runtime_comes_out_under_its_own_name() {
    for (contract, name) in
        [(Contract::Bootstrap, "/tmp/out/bootstrap"), (Contract::Http, "/tmp/out/.impuls-main")]
    {
        let build = planned(contract, &[("Cargo.toml", "[package]"), ("Cargo.lock", "version = 4")]);
        assert!(build.files.is_empty());
        assert_eq!(build.steps[0].last().map(String::as_str), Some("--locked"));
        assert_eq!(build.steps[1][5], name);
    }
}

#[test]
fn only_what_is_not_in_the_archive_is_fetched() {
    let with = "[package]\nname = \"a\"\n[dependencies]\nserde = \"1\"\n";
    let check = |files: &[(&str, &str)], expected: bool| {
        assert_eq!(planned(Contract::Program, files).network, expected, "{files:?}");
    };
    check(&[("Cargo.toml", with)], true);
    check(&[("Cargo.toml", "[package]\nname = \"a\"\n")], false);
    check(&[("Cargo.toml", with), ("Cargo.lock", "[[package]]\nsource = \"registry+x\"")], true);
    check(&[("Cargo.toml", with), ("Cargo.lock", "[[package]]\nname = \"own\"")], false);
    let vendored = "[source.crates-io]\nreplace-with = \"vendored-sources\"";
    check(&[("Cargo.toml", with), (".cargo/config.toml", vendored)], false);
}

#[test]
fn a_toolchain_among_other_files_is_not_shown() {
    let search = SearchPath { toolchains: Some(PathBuf::from("/srv/toolchains")), ..SearchPath::default() };
    for (root, expected) in [
        ("/usr", true),
        ("/usr/local", true),
        ("/home/me/.rustup/toolchains/stable", true),
        ("/home/me/.local", false),
        ("/home/me/toolchains/stable", false),
    ] {
        assert_eq!(may_be_shown(Path::new(root), &search), expected, "{root}");
    }
}

#[test]
fn the_program_is_the_handlers_or_the_only_one() {
    let check = |handler: &str, programs: &[&str], expected: Result<&str, &str>| {
        let folder = tempfile::tempdir().unwrap();
        let release = folder.path().join("release");
        std::fs::create_dir_all(release.join("deps")).unwrap();
        std::fs::write(release.join("a.d"), "").unwrap();
        for name in programs {
            use std::os::unix::fs::PermissionsExt as _;
            let path = release.join(name);
            std::fs::write(&path, name).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let taken = folder.path().join("taken");
        let words = ["-euc", TAKE, "take", handler, taken.to_str().unwrap(), folder.path().to_str().unwrap()];
        let ended = std::process::Command::new("/bin/sh").args(words).output().unwrap();
        match expected {
            Ok(name) => assert_eq!(std::fs::read_to_string(taken).unwrap(), name),
            Err(text) => assert!(String::from_utf8_lossy(&ended.stderr).contains(text), "{ended:?}"),
        }
    };
    check("main.handler", &["only", "libfunction.so"], Ok("only"));
    check("b", &["a", "b", "c"], Ok("b"));
    check("z", &["a", "b"], Err("the package has 2 programs: a b"));
    check("z", &[], Err("the package has 0 programs"));
}
