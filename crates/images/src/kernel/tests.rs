use super::*;

fn request(kernel: Option<PathBuf>, architecture: Architecture) -> KernelRequest {
    let now = OffsetDateTime::UNIX_EPOCH;
    KernelRequest { kernel, source: None, architecture, kvm_pvm: false, rebuild: false, jobs: 1, now }
}

fn no_tools() -> Toolbox {
    Toolbox::only(vec![PathBuf::from("/nowhere")])
}

/// A file that looks like an uncompressed kernel for Arm.
fn arm_kernel(folder: &Path, release: &str) -> PathBuf {
    let mut bytes = vec![0; 64];
    bytes[56..60].copy_from_slice(b"ARM\x64");
    bytes.extend(format!("xLinux version {release} (a@b)").bytes());
    let path = folder.join(release);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_given_kernel_is_kept_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::new(folder.path().join("images"));
    let given = arm_kernel(folder.path(), "6.1.99");
    let registered =
        kernel(&store, &request(Some(given), Architecture::Arm), &no_tools(), &|_: &str| {}).unwrap();
    assert_eq!((registered.version.as_str(), registered.made_of.as_str()), ("6.1.99", "6.1.99"));
    let found = kernel(&store, &request(None, Architecture::Arm), &no_tools(), &|_: &str| {}).unwrap();
    assert_eq!(found, registered);
    assert!(store.path(&found.digest).is_file());
}

#[test]
fn a_kernel_without_hardening_is_only_for_who_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::new(folder.path().join("images"));
    let given = arm_kernel(folder.path(), "6.1.99");
    let ask = |kernel: Option<PathBuf>, kvm_pvm: bool| {
        let request = KernelRequest { kvm_pvm, ..request(kernel, Architecture::Arm) };
        super::kernel(&store, &request, &no_tools(), &|_: &str| {})
    };
    let registered = ask(Some(given), true).unwrap();
    assert!(matches!(ask(None, false), Err(ImageError::Tools { .. })), "another is built");
    assert_eq!(ask(None, true).unwrap(), registered);
}

#[test]
fn what_is_no_kernel_is_refused_with_what_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::new(folder.path().join("images"));
    let given = arm_kernel(folder.path(), "6.1.99");
    let error = kernel(&store, &request(Some(given), Architecture::X86), &no_tools(), &|_: &str| {});
    let text = error.unwrap_err().to_string();
    assert!(text.contains("uncompressed `vmlinux`") && text.contains("extract-vmlinux"), "{text}");
}

#[test]
fn a_machine_without_compilers_is_told_every_package() {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::new(folder.path().join("images"));
    let other =
        Architecture::ALL.into_iter().find(|other| *other != Architecture::of_this_machine()).unwrap();
    let text = kernel(&store, &request(None, other), &no_tools(), &|_: &str| {}).unwrap_err().to_string();
    for package in ["flex", "bison", "bc", "make", "xz-utils", other.compiler_package()] {
        assert!(text.contains(package), "{package}: {text}");
    }
    assert!(!store.folder().exists());
}

#[test]
fn the_newest_source_counts_by_its_numbers() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(newest_source(folder.path()), Err(ImageError::KernelSource)));
    for name in [
        "linux-source-6.1.tar.xz",
        "linux-source-6.12.tar.xz",
        "linux-source-6.2.tar.xz",
        "linux-source-7.patch.xz",
    ] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    assert_eq!(newest_source(folder.path()).unwrap(), folder.path().join("linux-source-6.12.tar.xz"));
}

#[test]
fn an_option_that_the_kernel_does_not_take_is_noticed() {
    let fragments = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=y\nCONFIG_D=y\n# CONFIG_D is not set\n";
    assert_eq!(lost(fragments, "CONFIG_A=y\nCONFIG_B=y\n"), ["CONFIG_C=y"]);
}

#[test]
fn the_fragments_have_lines_that_a_kernel_reads() {
    for kvm_pvm in [false, true] {
        for architecture in Architecture::ALL {
            let request = KernelRequest { kvm_pvm, ..request(None, architecture) };
            for line in fragments(&request).lines().filter(|line| !line.is_empty()) {
                assert!(
                    line.starts_with("# ") || line.starts_with("CONFIG_") && line.ends_with(['y', '1']),
                    "{line}"
                );
            }
        }
    }
}
