//! Guest kernels: built of Debian's `linux-source` with the fragments in `guest/kernel`, or given.
//!
//! The fragments and the patch there are carried along as they are, under the kernel's own licence (GPL-2.0-only).

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use time::OffsetDateTime;

use crate::agent::machine_of;
use crate::architecture::Architecture;
use crate::build::written;
use crate::error::ImageError;
use crate::manifest::KernelManifest;
use crate::staged;
use crate::store::{Entry, ImageStore};
use crate::tool::{self, Need, Steps, Toolbox};

const COMMON: &str = include_str!("../../../guest/kernel/common.config");
const KVM_PVM: &str = include_str!("../../../guest/kernel/kvm-pvm.config");
const KVM_PVM_PATCH: &str = include_str!("../../../guest/kernel/kvm-pvm.patch");
/// Where Debian's package puts its archive, and how that is called.
const SOURCES: &str = "/usr/src";
const ARCHIVE: &str = "linux-source-";
/// What the kernel's own build needs.
const NEEDS: [Need; 8] = [
    Need("make", "make"),
    Need("gcc", "gcc"),
    Need("flex", "flex"),
    Need("bison", "bison"),
    Need("bc", "bc"),
    Need("tar", "tar"),
    Need("xz", "xz-utils"),
    Need("nice", "coreutils"),
];
const PATCH: Need = Need("patch", "patch");
/// A header without which the build ends after a minute.
const LIBELF: &str = "/usr/include/libelf.h";
/// The most bytes of a kernel.
const MOST: u64 = 256 * 1024 * 1024;
/// What an uncompressed kernel for Arm begins with, at this offset (Documentation/arch/arm64/booting.rst).
const ARM_MAGIC: (usize, &[u8]) = (56, b"ARM\x64");
/// How a kernel says which one it is.
const BANNER: &[u8] = b"Linux version ";
/// The name of the log, in the store's folder.
pub const LOG: &str = "kernel-build.log";

/// Which kernel is wanted.
#[derive(Clone, Debug)]
pub struct KernelRequest {
    /// Take this file instead of building one.
    pub kernel: Option<PathBuf>,
    /// The archive with the kernel's source; without one, the newest of Debian's in `/usr/src`.
    pub source: Option<PathBuf>,
    /// For which processor.
    pub architecture: Architecture,
    /// With the patch for hosts whose KVM emulates the guest's kernel. Of a given file, whether it has that.
    pub kvm_pvm: bool,
    /// Build although such a kernel is kept.
    pub rebuild: bool,
    /// How many compilers run at once.
    pub jobs: usize,
    /// The time, for the manifest.
    pub now: OffsetDateTime,
}

/// The kernel of this kind that is kept, or else one that is registered or built now. On an error nothing is left but the log of a
/// build. Blocks, for minutes where it builds.
pub fn kernel(
    store: &ImageStore,
    request: &KernelRequest,
    tools: &Toolbox,
    steps: &dyn Steps,
) -> Result<KernelManifest, ImageError> {
    if let Some(path) = &request.kernel {
        return register(store, request, path);
    }
    if !request.rebuild && request.source.is_none() {
        match store.kernel(request.architecture, request.kvm_pvm) {
            Err(error) if error.is_not_found() => {}
            found => return found,
        }
    }
    build(store, request, tools, steps)
}

fn register(store: &ImageStore, request: &KernelRequest, path: &Path) -> Result<KernelManifest, ImageError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(ImageError::io("reading", path))?;
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(ImageError::io("reading", path))?;
    if let Some(reason) = refusal(&bytes, request.architecture) {
        return Err(ImageError::Kernel { path: path.to_owned(), architecture: request.architecture, reason });
    }
    let workshop = store.workshop()?;
    let staged = workshop.folder().join("kernel");
    fs::write(&staged, &bytes).map_err(ImageError::io("writing", &staged))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    keep(store, request, &staged, name)
}

fn keep(
    store: &ImageStore,
    request: &KernelRequest,
    path: &Path,
    made_of: String,
) -> Result<KernelManifest, ImageError> {
    let bytes = fs::read(path).map_err(ImageError::io("reading", path))?;
    let kernel = KernelManifest {
        version: version(&bytes),
        architecture: request.architecture,
        digest: staged::digest_of(&bytes),
        size: bytes.len() as u64,
        created: written(request.now),
        made_of,
        kvm_pvm: request.kvm_pvm,
    };
    store.keep(path, &Entry::Kernel(kernel.clone()))?;
    Ok(kernel)
}

/// Why these bytes are no kernel that a virtual machine monitor loads without a boot loader.
fn refusal(bytes: &[u8], architecture: Architecture) -> Option<String> {
    if bytes.len() as u64 > MOST {
        return Some(format!("it has more than {MOST} bytes"));
    }
    let fits = match architecture {
        Architecture::X86 => machine_of(bytes) == Some(architecture.elf_machine()),
        Architecture::Arm => bytes.get(ARM_MAGIC.0..).is_some_and(|rest| rest.starts_with(ARM_MAGIC.1)),
    };
    let wanted = architecture.kernel_target();
    (!fits).then(|| format!("an uncompressed `{wanted}` is wanted; the kernel's scripts/extract-vmlinux makes one of a compressed file"))
}

/// The release that a kernel's banner names.
fn version(bytes: &[u8]) -> String {
    let found = bytes.windows(BANNER.len()).position(|window| window == BANNER);
    let rest = found.and_then(|at| bytes.get(at + BANNER.len()..)).unwrap_or_default();
    let release = rest.iter().take(64).take_while(|byte| byte.is_ascii_graphic() && **byte != b'%');
    release.map(|byte| char::from(*byte)).collect()
}

fn build(
    store: &ImageStore,
    request: &KernelRequest,
    tools: &Toolbox,
    steps: &dyn Steps,
) -> Result<KernelManifest, ImageError> {
    require(request, tools)?;
    let source = request.source.clone().map_or_else(|| newest_source(Path::new(SOURCES)), Ok)?;
    let workshop = store.workshop()?;
    let log = store.folder().join(LOG);
    fs::write(&log, "").map_err(ImageError::io("writing", &log))?;
    let tree = workshop.folder().join("linux");
    fs::create_dir(&tree).map_err(ImageError::io("making", &tree))?;
    let shown = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
    steps.step(&format!("unpacking {shown}"));
    let mut unpack = tools.command("tar");
    unpack.arg("--strip-components=1").arg("-C").arg(&tree).arg("-xf").arg(&source);
    tool::run(&mut unpack, Some(&log), |_| {})?;
    if request.kvm_pvm {
        patch(&tree, tools, &log)?;
    }
    steps.step(&format!("configuring {shown}"));
    configure(&tree, request, tools, &log)?;
    let mut files = 0;
    let mut make = make(&tree, request, tools);
    make.arg(format!("-j{}", request.jobs.max(1))).arg(request.architecture.kernel_target());
    tool::run(&mut make, Some(&log), |line| {
        files += u32::from(line.starts_with("  CC ") || line.starts_with("  AS "));
        steps.step(&format!("compiling {shown}: {files} files; the log is {}", log.display()));
    })?;
    let built = tree.join(request.architecture.kernel_file());
    // Out of the source's folder, which goes away.
    let staged = workshop.folder().join("kernel");
    fs::rename(&built, &staged).map_err(ImageError::io("reading", &built))?;
    keep(store, request, &staged, shown)
}

fn require(request: &KernelRequest, tools: &Toolbox) -> Result<(), ImageError> {
    let mut needs: Vec<Need> = NEEDS.to_vec();
    needs.extend(request.kvm_pvm.then_some(PATCH));
    let missing = tools.require(&needs).err();
    let compiler = format!("{}gcc", prefix(request.architecture));
    let (mut programs, mut packages) = match missing {
        Some(ImageError::Tools { programs, packages }) => (programs, packages),
        Some(other) => return Err(other),
        None => (Vec::new(), Vec::new()),
    };
    if tools.find(&compiler).is_none() && compiler != "gcc" {
        programs.push(compiler);
        packages.push(request.architecture.compiler_package().to_owned());
    }
    if !Path::new(LIBELF).exists() {
        programs.push("libelf.h".to_owned());
        packages.push("libelf-dev".to_owned());
    }
    if programs.is_empty() { Ok(()) } else { Err(ImageError::Tools { programs, packages }) }
}

/// How the names of compilers begin; nothing for this machine's own.
fn prefix(architecture: Architecture) -> &'static str {
    if architecture == Architecture::of_this_machine() { "" } else { architecture.compiler_prefix() }
}

/// The newest of Debian's archives, by its version's numbers.
fn newest_source(folder: &Path) -> Result<PathBuf, ImageError> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let numbered = entries.filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        let version = name.strip_prefix(ARCHIVE)?.split(".tar.").next().filter(|_| name.contains(".tar."))?;
        let numbers: Vec<u32> = version.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        Some((numbers, path))
    });
    numbered.max().map(|(_, path)| path).ok_or(ImageError::KernelSource)
}

fn patch(tree: &Path, tools: &Toolbox, log: &Path) -> Result<(), ImageError> {
    let file = tree.join("kvm-pvm.patch");
    fs::write(&file, KVM_PVM_PATCH).map_err(ImageError::io("writing", &file))?;
    let mut command = tools.command(PATCH.0);
    command.args(["-p1", "--batch", "--forward", "-i"]).arg(&file).current_dir(tree);
    tool::run(&mut command, Some(log), |_| {})
}

fn fragments(request: &KernelRequest) -> String {
    let last = if request.kvm_pvm { KVM_PVM } else { "" };
    [COMMON, request.architecture.kernel_config(), last].join("\n")
}

/// The smallest configuration with our fragments over it; the later of two lines counts.
fn configure(tree: &Path, request: &KernelRequest, tools: &Toolbox, log: &Path) -> Result<(), ImageError> {
    tool::run(make(tree, request, tools).arg("tinyconfig"), Some(log), |_| {})?;
    let path = tree.join(".config");
    let failed = || ImageError::io("writing", &path);
    let text = fs::read_to_string(&path).map_err(failed())?;
    let fragments = fragments(request);
    fs::write(&path, format!("{text}\n{fragments}")).map_err(failed())?;
    tool::run(make(tree, request, tools).arg("olddefconfig"), Some(log), |_| {})?;
    let made = fs::read_to_string(&path).map_err(failed())?;
    let lost = lost(&fragments, &made);
    if lost.is_empty() { Ok(()) } else { Err(ImageError::KernelOptions(lost)) }
}

/// Options that the fragments switch on, and do not switch off again, but the configuration does not have.
fn lost(fragments: &str, made: &str) -> Vec<String> {
    let has = |line: &str| made.lines().any(|other| other == line);
    let off_again = |line: &str| {
        let option = line.trim_end_matches("=y");
        fragments.lines().any(|other| other == format!("# {option} is not set"))
    };
    let wanted = fragments.lines().filter(|line| line.starts_with("CONFIG_") && !off_again(line));
    wanted.filter(|line| !has(line)).map(str::to_owned).collect()
}

/// `make` at low priority, with nothing in the kernel of who built it and when.
fn make(tree: &Path, request: &KernelRequest, tools: &Toolbox) -> Command {
    let mut command = tools.command("nice");
    command.arg("make").arg(format!("ARCH={}", request.architecture.linux())).current_dir(tree);
    let prefix = prefix(request.architecture);
    if !prefix.is_empty() {
        command.arg(format!("CROSS_COMPILE={prefix}"));
    }
    command.env("KBUILD_BUILD_TIMESTAMP", "1980-01-01").env("KBUILD_BUILD_VERSION", "1");
    command.env("KBUILD_BUILD_USER", "impuls").env("KBUILD_BUILD_HOST", "impuls");
    command
}

#[cfg(test)]
mod tests;
