use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::Read as _;

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        let path = scratch.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    scratch
}

fn named() -> Settings {
    Settings { name: Some("f".into()), ..Settings::default() }
}

fn read(path: &Path) -> Result<Package, PackageError> {
    Package::read(path, named(), None, Vec::new())
}

fn archive(code: &Code) -> zip::ZipArchive<Cursor<Vec<u8>>> {
    match code {
        Code::Archive(bytes) => zip::ZipArchive::new(Cursor::new(bytes.clone())).unwrap(),
        Code::Source(_) => panic!("not an archive"),
    }
}

fn names_of(code: &Code) -> Vec<String> {
    archive(code).file_names_raw().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
}

#[test]
fn the_same_files_give_the_same_archive() {
    let one = folder(&[("index.js", "x"), ("b/c.js", "y"), ("a.js", "z")]);
    let two = folder(&[("a.js", "z"), ("b/c.js", "y"), ("index.js", "x")]);
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::options().append(true).open(two.path().join("a.js")).unwrap().set_modified(old).unwrap();
    let (one, two) = (read(one.path()).unwrap(), read(two.path()).unwrap());
    assert_eq!(one.code, two.code);
    assert_eq!(names_of(&one.code), ["a.js", "b/c.js", "index.js"]);
    let mut text = String::new();
    archive(&one.code).by_name("b/c.js").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "y");
}

#[test]
fn what_is_ignored_is_not_packed() {
    let scratch = folder(&[
        (".impulsignore", "*.log\n!keep.log\nsecrets/\n"),
        ("impuls.toml", "memory_mb = 256"),
        ("index.py", "x"),
        ("a.log", "x"),
        ("keep.log", "x"),
        ("secrets/key", "x"),
        (".git/HEAD", "x"),
        ("__pycache__/index.pyc", "x"),
        ("node_modules/.bin/tool", "x"),
        ("node_modules/dep/index.js", "x"),
        ("node_modules/dep/node_modules/.bin/tool", "x"),
    ]);
    let package = read(scratch.path()).unwrap();
    assert_eq!(names_of(&package.code), ["index.py", "keep.log", "node_modules/dep/index.js"]);
    assert_eq!(package.entry.unwrap().family, "python");
    assert_eq!(package.settings.memory_mb, Some(256));
}

#[cfg(unix)]
#[test]
fn links_are_refused_unless_ignored() {
    let scratch = folder(&[("index.js", "x")]);
    std::os::unix::fs::symlink("/etc/passwd", scratch.path().join("link")).unwrap();
    let error = read(scratch.path()).unwrap_err();
    assert!(matches!(error, PackageError::Link(_)));
    assert!(error.to_string().contains("symbolic link"));
    fs::write(scratch.path().join(".impulsignore"), "link").unwrap();
    assert_eq!(names_of(&read(scratch.path()).unwrap().code), ["index.js"]);
}

#[test]
fn too_much_is_refused_before_it_is_read() {
    let scratch = folder(&[("index.js", "x")]);
    let large = fs::File::create(scratch.path().join("large")).unwrap();
    large.set_len(UNPACKED_LIMIT).unwrap();
    assert!(matches!(read(scratch.path()), Err(PackageError::Unpacked)));
    let file = scratch.path().join("large.py");
    fs::File::create(&file).unwrap().set_len(PACKED_LIMIT + 1).unwrap();
    assert!(matches!(read(&file), Err(PackageError::Packed { .. })));
}

#[test]
fn an_empty_folder_and_a_false_archive_are_refused() {
    assert!(matches!(read(folder(&[]).path()), Err(PackageError::Empty(_))));
    let scratch = folder(&[("f.zip", "not one"), ("f.js", "\u{0}"), ("f.txt", "x")]);
    assert!(matches!(read(&scratch.path().join("f.zip")), Err(PackageError::Archive { .. })));
    assert!(matches!(read(&scratch.path().join("f.txt")), Err(PackageError::Extension(_))));
    fs::write(scratch.path().join("f.js"), b"\xff").unwrap();
    assert!(matches!(read(&scratch.path().join("f.js")), Err(PackageError::Text(_))));
    assert!(matches!(read(&scratch.path().join("absent")), Err(PackageError::Read { .. })));
}

#[test]
fn an_archive_goes_as_it_is() {
    let source = folder(&[("app.py", "x")]);
    let Code::Archive(bytes) = read(source.path()).unwrap().code else { panic!("not an archive") };
    let scratch = folder(&[]);
    let path = scratch.path().join("job.zip");
    fs::write(&path, &bytes).unwrap();
    let package = Package::read(&path, Settings::default(), None, Vec::new()).unwrap();
    assert_eq!((package.name.as_str(), &package.code), ("job", &Code::Archive(bytes)));
    assert_eq!(package.entry.unwrap().handler, "app.handler");
}

#[test]
fn the_name_is_the_files_or_must_be_given() {
    let scratch = folder(&[("hello.js", "x"), ("no good.js", "x")]);
    let name = |file: &str| {
        let path = scratch.path().join(file);
        Package::read(&path, Settings::default(), None, Vec::new()).map(|package| package.name)
    };
    assert_eq!(name("hello.js").unwrap(), "hello");
    assert!(name("no good.js").unwrap_err().to_string().contains("give --name"));
}

#[test]
fn flags_beat_the_environment_file_and_that_the_folders_settings() {
    let scratch = folder(&[
        ("index.js", "x"),
        (
            "impuls.toml",
            "memory_mb = 256\ntimeout_sec = 5\nnetwork = { allow = ['a.example'] }\n[environment]\nA = 'toml'\nB = 'toml'\nC = 'toml'",
        ),
        ("env", "B=file\nC=file"),
    ]);
    let flags = Settings { memory_mb: Some(512), ..named() };
    let env = vec![("C".to_owned(), "flag".to_owned())];
    let package = Package::read(scratch.path(), flags, Some(&scratch.path().join("env")), env).unwrap();
    let expected = [("A", "toml"), ("B", "file"), ("C", "flag")];
    let expected: BTreeMap<_, _> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    assert_eq!(package.settings.environment, expected);
    assert_eq!((package.settings.memory_mb, package.settings.timeout_sec), (Some(512), Some(5)));
    assert_eq!(package.settings.network.unwrap().to_string(), "only a.example");
}

#[test]
fn an_unknown_setting_is_named() {
    let scratch = folder(&[("index.js", "x"), ("impuls.toml", "memory = 256")]);
    let error = read(scratch.path()).unwrap_err();
    assert!(error.source().unwrap().to_string().contains("unknown field `memory`"));
}
