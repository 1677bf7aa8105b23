//! `impuls image` by the real program: what it builds of packages and of OCI images, and what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use impuls_e2e::cli::Outcome;
use impuls_e2e::launch::program;
use serde_json::Value;

/// Where programs are found.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A data folder, and an agent that guests would start.
struct Workplace {
    folder: tempfile::TempDir,
}

impl Workplace {
    fn new() -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(this.agent(), static_program()).unwrap();
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn agent(&self) -> PathBuf {
        self.path("impuls-agent")
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with(PATH, arguments)
    }

    fn run_with(&self, path: &str, arguments: &[&str]) -> Outcome {
        let mut command = Command::new(program());
        command.args(arguments).env_clear().env("PATH", path).stdin(Stdio::null());
        command.env("IMPULS_DATA_DIR", self.path("data")).env("IMPULS_AGENT", self.agent());
        let output = command.output().expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The store's entries.
    fn list(&self) -> Vec<Value> {
        let list = self.run(&["--json", "image", "list"]).json();
        assert_eq!(list["count"].as_u64().unwrap() as usize, list["images"].as_array().unwrap().len());
        list["images"].as_array().unwrap().clone()
    }
}

/// The least that is a static program for this machine: a header that loads nothing.
fn static_program() -> Vec<u8> {
    let this = fs::read(program()).unwrap();
    let mut bytes = this[..64].to_vec();
    // No program headers, so no loader is asked for; no sections.
    bytes[32..48].fill(0);
    bytes[56..64].fill(0);
    bytes
}

/// What a file in a squashfs image has, as far as the tool that reads it says; `None` if it is not there.
fn file_in(image: &str, path: &str) -> Option<String> {
    let output = Command::new("unsquashfs").args(["-cat", image, path]).output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
#[ignore = "needs root, mmdebstrap, squashfs, debian"]
fn an_image_of_packages_is_the_same_each_time_and_can_be_looked_at_and_removed() {
    let workplace = Workplace::new();
    let first = workplace.run(&["--json", "image", "build", "python"]).json();
    let name = first["name"].as_str().unwrap();
    assert!(name.starts_with("python3") && name != "python3", "{name}");
    let second = workplace.run(&["image", "build", name]);
    let path = second.stdout.trim().to_owned();
    assert_eq!(second.code, Some(0), "{second:?}");
    assert_eq!(first["path"], path.as_str());
    let [entry] = workplace.list().try_into().expect("equal bytes are kept once");
    assert_eq!((&entry["digest"], &entry["format"]), (&first["digest"], &Value::from("squashfs")));
    let packages = first["made_of"]["packages"].as_array().unwrap();
    assert!(packages.iter().any(|package| package["name"] == "python3"), "{packages:?}");
    let launch = &first["launches"][0];
    assert_eq!(launch["runtime"], name);
    for path_inside in
        [launch["interpreter"].as_str().unwrap(), "opt/impuls/agent", "opt/impuls/python/shim.py"]
    {
        assert!(file_in(&path, path_inside).is_some(), "{path_inside}");
    }
    assert!(file_in(&path, "etc/ssl/certs/ca-certificates.crt").unwrap().contains("BEGIN CERTIFICATE"));
    assert_eq!(file_in(&path, "etc/machine-id").unwrap(), "");
    for left_out in
        ["etc/apt/sources.list.d/0000impuls.sources", "var/lib/dpkg/status", "etc/resolv.conf.orig"]
    {
        assert_eq!(file_in(&path, left_out), None);
    }
    let digest = first["digest"].as_str().unwrap();
    let shown = workplace.run(&["image", "inspect", &digest[7..17]]).success();
    assert!(shown.contains(digest) && shown.contains("tzdata"), "{shown}");
    fs::write(&path, "damaged").unwrap();
    let refused = workplace.run(&["image", "inspect", name]);
    assert!(refused.code == Some(2) && refused.stderr.contains("damaged"), "{refused:?}");
    workplace.run(&["image", "rm", digest]).success();
    assert!(workplace.list().is_empty() && !Path::new(&path).exists());
    assert_eq!(workplace.run(&["image", "inspect", name]).code, Some(3));
}

#[test]
#[ignore = "needs root, debian"]
fn the_password_of_a_proxy_is_on_no_command_line() {
    let workplace = Workplace::new();
    let option = r#"Acquire::http::Proxy "http://somebody:hunter2@proxy:3128";"#;
    // Written by a process that has ended, because nobody may write to a program that is executed.
    let script = r#"set -eu
        mkdir programs
        printf '#!/bin/sh\necho '"'%s'"'\n' "$1" >programs/apt-config
        cat >programs/mmdebstrap <<'END'
#!/bin/sh
cd "$(dirname "$0")"
printf '%s\n' "$@" >arguments
for word; do case $word in --aptopt=*) cat "${word#*=}" >options ;; esac; done
echo 'E: nothing is fetched here' >&2
exit 1
END
        chmod 755 programs/*"#;
    let mut sh = Command::new("sh");
    sh.args(["-c", script, "sh", option]).current_dir(workplace.folder.path());
    assert!(sh.status().unwrap().success());
    let path = format!("{}:{PATH}", workplace.path("programs").display());
    let refused = workplace.run_with(&path, &["image", "build", "python"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("nothing is fetched here"), "{refused:?}");
    let read = |name: &str| fs::read_to_string(workplace.path("programs").join(name)).unwrap();
    assert!(!read("arguments").contains("hunter2"), "{}", read("arguments"));
    assert_eq!(read("options").trim(), option);
}

/// An image as `docker save` writes it, of one layer with these files; damaged if a digest is not true.
fn docker_archive(workplace: &Workplace, files: &[(&str, &str)]) -> PathBuf {
    let root = workplace.path("root");
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let script = r#"set -eu
        tar -C root -cf layer.tar .
        digest=$(sha256sum layer.tar | cut -d ' ' -f 1)
        case $(uname -m) in x86_64) architecture=amd64 ;; *) architecture=arm64 ;; esac
        gzip -n layer.tar
        printf '{"architecture":"%s","os":"linux","config":{"Env":["A=b"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
            "$architecture" "$digest" >config.json
        printf '[{"Config":"config.json","RepoTags":["x:1"],"Layers":["layer.tar.gz"]}]' >manifest.json
        tar -cf image.tar manifest.json config.json layer.tar.gz"#;
    let done = Command::new("sh").args(["-c", script]).current_dir(workplace.folder.path()).status().unwrap();
    assert!(done.success());
    workplace.path("image.tar")
}

#[test]
#[ignore = "needs squashfs"]
fn an_image_of_a_docker_archive_has_its_files_and_ours() {
    let workplace = Workplace::new();
    let archive = docker_archive(&workplace, &[("usr/local/bin/node", "node"), ("app/data", "theirs")]);
    let archive = archive.to_string_lossy();
    let image = workplace.run(&["--json", "image", "build", "nodejs22", "--from-oci", &archive]).json();
    let path = image["path"].as_str().unwrap();
    assert_eq!(file_in(path, "app/data").unwrap(), "theirs");
    assert_eq!(image["launches"][0]["interpreter"], "/usr/local/bin/node");
    assert!(file_in(path, "opt/impuls/node/shim.js").is_some());
    assert_eq!(
        (&image["environment"]["A"], &image["made_of"]["kind"]),
        (&Value::from("b"), &Value::from("oci"))
    );
    // The same root for containers, and of that one again.
    let copy = workplace.path("copy.tar");
    let copy_text = copy.to_string_lossy();
    let oci =
        ["image", "build", "nodejs22", "--from-oci", &archive, "--oci", "--tag", "a/b:1", "-o", &copy_text];
    assert_eq!(workplace.run(&oci).success().trim(), copy_text);
    let again = workplace.run(&["--json", "image", "build", "nodejs22", "--from-oci", &copy_text]).json();
    assert_eq!(again["digest"], image["digest"]);
    let refused = workplace.run(&["image", "build", "python312", "--from-oci", &archive]);
    assert!(refused.stderr.contains("/usr/bin/python3.12"), "{refused:?}");
}

#[test]
#[ignore = "needs root, erofs, mke2fs, squashfs"]
fn the_other_formats_hold_the_same_files() {
    let workplace = Workplace::new();
    let archive = docker_archive(&workplace, &[("app/data", "theirs")]);
    let archive = archive.to_string_lossy();
    let build = |format: &str| {
        let arguments = ["--json", "image", "build", "tools", "--from-oci", &archive, "--format", format];
        workplace.run(&arguments).json()
    };
    for format in ["erofs", "ext4"] {
        let image = build(format);
        let bytes = fs::read(image["path"].as_str().unwrap()).unwrap();
        // Their magic numbers (Linux, include/uapi/linux/magic.h).
        let (at, magic): (usize, &[u8]) =
            if format == "erofs" { (1024, &[0xe2, 0xe1, 0xf5, 0xe0]) } else { (1080, &[0x53, 0xef]) };
        assert_eq!(&bytes[at..at + magic.len()], magic, "{format}");
    }
    assert_eq!(build("erofs")["digest"], build("erofs")["digest"]);
    let ext4 = build("ext4")["path"].as_str().unwrap().to_owned();
    let shown = Command::new("/sbin/debugfs").args(["-R", "cat /app/data", &ext4]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&shown.stdout), "theirs");
}

#[test]
fn what_cannot_be_built_is_refused_with_what_to_do() {
    let workplace = Workplace::new();
    let check = |arguments: &[&str], code: i32, expected: &[&str]| {
        let outcome = workplace.run(arguments);
        assert_eq!(outcome.code, Some(code), "{outcome:?}");
        for text in expected {
            assert!(outcome.stderr.contains(text), "{text}: {outcome:?}");
        }
    };
    check(&["image", "build", "cobol"], 2, &["nodejs18", "--from-oci"]);
    check(&["image", "build", "../x"], 2, &["no name of an image"]);
    check(&["image", "build", "nodejs", "--arch", "vax"], 2, &["aarch64"]);
    check(&["image", "build", "nodejs", "--format", "zip"], 2, &["squashfs"]);
    check(
        &["image", "build", "x", "--from-oci", "docker://node:22"],
        2,
        &["skopeo copy docker://node:22 oci-archive"],
    );
    check(&["image", "build", "nodejs", "--agent", "/nowhere"], 2, &["/nowhere", "IMPULS_AGENT"]);
    // Programs of this machine, which need its libraries, and are no kernels.
    check(&["image", "build", "nodejs", "--agent", "/bin/sh"], 2, &["linked dynamically", "musl"]);
    check(&["image", "kernel", "--kernel", "/bin/sh", "--arch", "aarch64"], 2, &["uncompressed `Image`"]);
    check(&["image", "inspect", "nodejs18"], 3, &["impuls image list"]);
    check(&["image", "rm", "abcdef"], 3, &["impuls image list"]);
    assert!(workplace.list().is_empty());
    assert!(!workplace.path("data").exists(), "looking makes nothing");
}

#[test]
fn a_given_kernel_is_registered_and_found() {
    let workplace = Workplace::new();
    // An uncompressed kernel for Arm, as far as its header says.
    let mut bytes = vec![0; 64];
    bytes[56..60].copy_from_slice(b"ARM\x64");
    bytes.extend(b"Linux version 6.1.7 (x@y)");
    let given = workplace.path("Image");
    fs::write(&given, &bytes).unwrap();
    let given = given.to_string_lossy();
    let registered = workplace.run(&["image", "kernel", "--arch", "aarch64", "--kernel", &given]);
    assert!(registered.stderr.contains("Linux 6.1.7"), "{registered:?}");
    let path = registered.success();
    assert_eq!(workplace.run(&["image", "kernel", "--arch", "aarch64"]).success(), path);
    assert_eq!(fs::read(path.trim()).unwrap(), bytes);
    let list = workplace.run(&["image", "list"]).success();
    assert!(list.contains("kernel") && list.contains("aarch64"), "{list}");
    workplace.run(&["image", "rm", "kernel"]).success();
    assert!(workplace.list().is_empty());
}

/// An archive that builds as the kernel's source does, in a moment; `olddefconfig` is a command of the test's.
fn kernel_source(workplace: &Workplace, name: &str, olddefconfig: &str) -> PathBuf {
    let folder = workplace.path("linux");
    fs::create_dir_all(&folder).unwrap();
    let makefile = format!(
        "tinyconfig:\n\techo 'CONFIG_X=y' >.config\nolddefconfig:\n\t{olddefconfig}\n\
         vmlinux:\n\t@echo '  CC      a.o'; cat /bin/true >$@; printf 'Linux version 6.1.42 (x)' >>$@\n\
         Image: vmlinux\n\tmkdir -p arch/arm64/boot; mv vmlinux arch/arm64/boot/Image\n"
    );
    fs::write(folder.join("Makefile"), makefile).unwrap();
    let archive = workplace.path(name);
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(workplace.folder.path()).arg("-cJf").arg(&archive).arg("linux");
    assert!(tar.status().unwrap().success());
    archive
}

#[test]
#[ignore = "needs flex, bison, bc, xz, libelf"]
fn a_kernel_is_built_of_an_archive_once_and_found_then() {
    let workplace = Workplace::new();
    let source = kernel_source(&workplace, "a.tar.xz", "@true");
    let source = source.to_string_lossy();
    let copy = workplace.path("vmlinux");
    let copy_text = copy.to_string_lossy();
    let built = workplace.run(&["--json", "image", "kernel", "--source", &source, "-o", &copy_text]).json();
    assert_eq!((&built["version"], &built["made_of"]), (&Value::from("6.1.42"), &Value::from("a.tar.xz")));
    assert!(String::from_utf8_lossy(&fs::read(&copy).unwrap()).contains("Linux version 6.1.42"));
    let found = workplace.run(&["--json", "image", "kernel"]).json();
    assert_eq!(found["digest"], built["digest"]);
    let log = fs::read_to_string(workplace.path("data/images/kernel-build.log")).unwrap();
    assert!(log.contains("CC      a.o"), "{log}");
    let left: Vec<_> = fs::read_dir(workplace.path("data/images")).unwrap().flatten().collect();
    assert!(!left.iter().any(|entry| entry.file_name().to_string_lossy().starts_with(".tmp-")), "{left:?}");
}

#[test]
#[ignore = "needs flex, bison, bc, xz, libelf"]
fn a_source_that_lacks_what_guests_need_is_refused_by_its_options() {
    let workplace = Workplace::new();
    let source = kernel_source(&workplace, "b.tar.xz", "sed -i '/^CONFIG_VSOCKETS=y/d' .config");
    let refused = workplace.run(&["image", "kernel", "--source", &source.to_string_lossy()]);
    assert!(refused.code == Some(2) && refused.stderr.contains("CONFIG_VSOCKETS=y"), "{refused:?}");
    let broken = kernel_source(&workplace, "c.tar.xz", "@echo it breaks; false");
    let refused = workplace.run(&["image", "kernel", "--source", &broken.to_string_lossy()]);
    assert!(refused.code == Some(2) && refused.stderr.contains("it breaks"), "{refused:?}");
    assert!(workplace.list().is_empty());
}
