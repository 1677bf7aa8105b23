//! Why an image or a kernel could not be made, kept or found.

use std::io;
use std::path::PathBuf;

use crate::manifest::Format;

/// Why an image or a kernel could not be made, kept or found. Nothing half-made is left behind.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// An unknown processor.
    #[error("architecture {0:?} is unknown; x86_64 and aarch64 are known")]
    Architecture(String),
    /// An unknown format.
    #[error("format {0:?} is unknown; squashfs, erofs, ext4 and oci are known")]
    Format(String),
    /// An image in a format that only a kernel reads.
    #[error(
        "image {name} is packed as {format}; sandboxes see the files of images that were built with --oci"
    )]
    Packed {
        /// Its name.
        name: String,
        /// Its format.
        format: Format,
    },
    /// A name that no image may have.
    #[error("{0:?} is no name of an image: 1 to 60 lower-case letters, digits and any of `.+_-`")]
    Name(String),
    /// Nothing is known about how to make such an image.
    #[error(
        "no recipe for {name:?}; there are recipes for {known}; for anything else give --from-oci FILE, or build \
         `provided` and deploy an executable"
    )]
    Recipe {
        /// What was asked for.
        name: String,
        /// Names that could be asked for.
        known: String,
    },
    /// Runtimes that no one release of Debian has together.
    #[error("no suite of Debian has all of {0}; build one image for each, or give --suite")]
    Suites(String),
    /// The interpreter is not of the version that the runtime's name says.
    #[error(
        "runtime {runtime} needs version {wanted} of Debian's package {package}, but suite {suite} has {found}; give a \
         suite that has it with --suite, or an image with --from-oci"
    )]
    Version {
        /// The runtime.
        runtime: String,
        /// The package that has its interpreter.
        package: String,
        /// How its version must begin.
        wanted: String,
        /// Its version in the suite.
        found: String,
        /// The suite.
        suite: String,
    },
    /// This machine's package sources say nothing about Debian.
    #[error(
        "no source of Debian packages with suite {0} in /etc/apt/sources.list or /etc/apt/sources.list.d; give a file with \
         --apt-sources"
    )]
    Sources(String),
    /// Programs are missing.
    #[error("{} missing: install the Debian package{} {}", missing_words(.programs), if .packages.len() == 1 { "" } else { "s" }, .packages.join(" "))]
    Tools {
        /// What is missing.
        programs: Vec<String>,
        /// What has it.
        packages: Vec<String>,
    },
    /// An ordinary user without subordinate ids.
    #[error(
        "an ordinary user needs subordinate user ids to build from packages: a line for {user} in /etc/subuid and /etc/subgid \
         (`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`), or run this as root"
    )]
    Subordinate {
        /// The user's name or number.
        user: String,
    },
    /// A program of this machine failed.
    #[error("{program} failed{}", tail(.output))]
    Tool {
        /// The program.
        program: String,
        /// The end of what it wrote.
        output: String,
    },
    /// A program of this machine could not be started or heard.
    #[error("cannot run {program}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is no agent.
    #[error(
        "no agent at {path}: an image needs the static program impuls-agent; give it with --agent FILE or IMPULS_AGENT, or put \
         it beside this program", path = .path.display()
    )]
    NoAgent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The agent cannot run in a guest.
    #[error("{path} cannot be the agent: {reason}", path = .path.display())]
    Agent {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that is no kernel.
    #[error("{path} is no kernel for {architecture}: {reason}", path = .path.display())]
    Kernel {
        /// The file.
        path: PathBuf,
        /// For which processor one was wanted.
        architecture: crate::Architecture,
        /// What is wrong with it.
        reason: String,
    },
    /// There are no sources of a kernel.
    #[error(
        "no kernel source in /usr/src: install the Debian package linux-source, or give an archive with --source FILE, or a \
         kernel with --kernel FILE"
    )]
    KernelSource,
    /// The kernel does not know options that the guest needs.
    #[error("this kernel source does not take these options, which guests need: {}", .0.join(", "))]
    KernelOptions(Vec<String>),
    /// An archive that is refused.
    #[error("{what}: {reason}")]
    Archive {
        /// Which archive.
        what: String,
        /// Why.
        reason: String,
    },
    /// An archive or a tree goes beyond a bound.
    #[error("image has more than {limit} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// An image without something that its runtime needs.
    #[error("the root file system has no {path}, which runtime {runtime} needs")]
    Incomplete {
        /// What is missing.
        path: String,
        /// For which runtime.
        runtime: String,
    },
    /// Somebody else builds.
    #[error("another image or kernel is being built in {folder}; wait for it to end", folder = .folder.display())]
    Busy {
        /// The store's folder.
        folder: PathBuf,
    },
    /// The store is full.
    #[error("{limit} images and kernels are kept already; remove one with `impuls image rm`")]
    Full {
        /// How many may be kept.
        limit: usize,
    },
    /// Nothing is kept under this name.
    #[error("no image or kernel {0:?}; `impuls image list` shows those that are kept")]
    NotFound(String),
    /// More than one is.
    #[error("{reference:?} means {count} images; give more of the digest, as `impuls image list` shows it")]
    Ambiguous {
        /// What was asked for.
        reference: String,
        /// How many it means.
        count: usize,
    },
    /// A file of the store is not what it was.
    #[error("{path} is damaged; remove it with `impuls image rm` and build it again", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The disk failed.
    #[error("{action} failed: {path}", path = .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ImageError {
    /// Whether what was asked for does not exist.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    /// For `map_err` on file operations.
    pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// An archive that is refused, with what is wrong with it.
    pub(crate) fn archive(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Archive { what: what.into(), reason: reason.into() }
    }
}

fn missing_words(programs: &[String]) -> String {
    format!("{} {}", programs.join(", "), if programs.len() == 1 { "is" } else { "are" })
}

fn tail(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(":\n{output}") }
}
