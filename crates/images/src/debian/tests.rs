use super::*;

fn sources(text: &str) -> Sources {
    Sources { codename: Some("bookworm".to_owned()), text: text.to_owned(), given: None }
}

#[test]
fn the_archives_own_sources_are_taken_for_any_suite() {
    let text = "# x\nTypes: deb deb-src\nURIs: http://a/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\n\
                Signed-By:\n -----BEGIN\n .\n x\n\nTypes: deb\nURIs: http://v\nSuites: nodistro\nComponents: main\n\n\
                Types: deb\nURIs: http://w\nSuites: bookworm\nComponents: stable\n";
    let expected = "Types: deb\nURIs: http://a/debian\nSuites: trixie trixie-updates\nComponents: main contrib\n\
                    Signed-By: \n -----BEGIN\n .\n x\n\n";
    assert_eq!(sources(text).for_suite("trixie").unwrap(), expected);
}

#[test]
fn lines_of_the_older_format_are_understood() {
    let text = "deb [arch=amd64 signed-by=/k.gpg] http://a/debian bookworm main # x\n\
                deb-src http://a/debian bookworm main\ndeb http://a/security bookworm-security main\n\
                deb http://v sdk-bookworm main\n";
    let expected = "Types: deb\nURIs: http://a/debian\nSuites: bookworm\nComponents: main\nSigned-By: /k.gpg\n\n\
                    Types: deb\nURIs: http://a/security\nSuites: bookworm-security\nComponents: main\n\n";
    assert_eq!(sources(text).for_suite("bookworm").unwrap(), expected);
}

#[test]
fn passwords_of_proxies_are_on_no_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("apt-config");
    let printed = r#"Acquire::http::Proxy "http://somebody:hunter2@proxy:3128";"#;
    // Written by a process that has ended, because nobody may write to a program that is executed.
    let script = format!("#!/bin/sh\nprintf '%s\\n' '{printed}'\n");
    let write = "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"";
    let written = Command::new("sh").args(["-c", write, "sh", &script]).arg(&program).status().unwrap();
    assert!(written.success());
    assert!(apt_options(&Toolbox::only(Vec::new())).unwrap().is_none());
    let tools = Toolbox::only(vec![folder.path().to_owned()]);
    let (option, _file) = apt_options(&tools).unwrap().unwrap();
    assert!(!option.contains("hunter2"), "{option}");
    // What inherits it reads it, from its beginning.
    let path = option.strip_prefix("--aptopt=").unwrap();
    let read = Command::new("cat").arg(path).output().unwrap();
    assert_eq!(String::from_utf8(read.stdout).unwrap(), format!("{printed}\n"));
}

#[test]
fn a_machine_without_debian_is_told_what_to_give() {
    let error = sources("deb http://v nodistro main").for_suite("bookworm").unwrap_err().to_string();
    assert!(error.contains("--apt-sources"), "{error}");
}

fn package(name: &str, version: &str) -> Package {
    Package { name: name.to_owned(), version: version.to_owned(), architecture: "amd64".to_owned() }
}

#[test]
fn a_package_of_another_version_is_refused() {
    let recipe = Recipe::of_packages("nodejs20+ruby31", Some("bookworm"), None).unwrap();
    let check = |node: &str, ruby: &str| {
        check_versions(&recipe, &[package("nodejs", node), package("ruby", ruby)], "bookworm")
    };
    check("20.1.2", "1:3.1").unwrap();
    let error = check("18.20.4", "1:3.1").unwrap_err().to_string();
    assert!(
        error.contains("needs version 20 of Debian's package nodejs") && error.contains("18.20.4"),
        "{error}"
    );
    assert!(check("20.1", "1:3.3").is_err());
}

#[test]
fn the_list_of_packages_is_read_and_removed() {
    let mut tree = Tree::default();
    let list = b"zlib1g_1%3a1.2_amd64.deb\nlock\npartial\ntzdata_2024a-0+deb12u1_all.deb\n";
    tree.put(Path::new(PACKAGES), Node::file(0o644, list)).unwrap();
    let found: Vec<String> = packages(&mut tree)
        .unwrap()
        .iter()
        .map(|package| format!("{} {}", package.name, package.version))
        .collect();
    assert_eq!(found, ["tzdata 2024a-0+deb12u1", "zlib1g 1:1.2"]);
    assert!(tree.is_empty());
    assert!(packages(&mut tree).is_err());
}

#[test]
fn roots_are_merged_and_have_the_authorities_in_one_file() {
    let mut tree = Tree::default();
    for (path, text) in [
        ("bin/sh", "sh"),
        ("lib64/ld.so", "ld"),
        ("usr/bin/mawk", "awk"),
        ("usr/lib/ld-new.so", "new"),
        ("usr/share/ca-certificates/mozilla/a.crt", "A\n"),
        ("usr/share/ca-certificates/mozilla/b.crt", "B\n"),
        ("usr/share/doc/x/copyright", "c"),
    ] {
        tree.put(Path::new(path), Node::file(0o644, text.as_bytes())).unwrap();
    }
    tidy(&mut tree).unwrap();
    let text = |path: &str| {
        let mut text = String::new();
        let (_, content) = tree.file(Path::new(path)).unwrap();
        std::io::Read::read_to_string(&mut content.reader(), &mut text).unwrap();
        text
    };
    assert_eq!(
        (text("/bin/sh"), text("/lib64/ld.so"), text("/usr/bin/awk")),
        ("sh".into(), "ld".into(), "awk".into())
    );
    assert_eq!(text("/lib/ld-new.so"), "new");
    assert_eq!(text(BUNDLE), "A\nB\n");
    assert!(tree.get(Path::new("usr/share/doc")).is_none());
}
