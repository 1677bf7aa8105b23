//! What `image` takes. It is performed by the binary, which knows the store of images.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::parsers::path;
use crate::config::DataDir;

/// The subcommands on images and kernels of guests.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ImageCommand {
    /// Build the root file system of a runtime, and print where it is kept.
    Build(Box<ImageBuildArgs>),
    /// List images and kernels, the newest first.
    List(ImageStoreArgs),
    /// Show what an image or kernel was made of, after comparing its bytes with its digest.
    Inspect {
        /// Its name (the newest of that name), `kernel`, or the first digits of its digest.
        image: String,
        /// Where it is kept.
        #[command(flatten)]
        store: ImageStoreArgs,
    },
    /// Remove images and kernels.
    Rm {
        /// The first digits of their digests, or names that mean only one.
        #[arg(required = true)]
        images: Vec<String>,
        /// Where they are kept.
        #[command(flatten)]
        store: ImageStoreArgs,
    },
    /// Print where the guest kernel is kept, after building one of Debian's linux-source if there is none.
    Kernel(Box<ImageKernelArgs>),
}

/// Where images are kept: below the server's data folder, in `images`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageStoreArgs {
    /// The server's data folder [default: as for `serve`].
    #[arg(long, value_name = "DIR", env = "IMPULS_DATA_DIR", value_parser = path())]
    pub data_dir: Option<PathBuf>,
    /// The user's data folder, as the XDG base directory specification has it.
    #[arg(long, env = "XDG_DATA_HOME", hide = true, value_parser = path())]
    pub xdg_data_home: Option<PathBuf>,
    /// The user's home folder.
    #[arg(long, env = "HOME", hide = true, value_parser = path())]
    pub home: Option<PathBuf>,
}

impl ImageStoreArgs {
    /// The data folder that was given, or the default as `serve` has it.
    #[must_use]
    pub fn data_dir(&self) -> DataDir {
        match self.data_dir.clone().filter(|path| !path.as_os_str().is_empty()) {
            Some(given) => DataDir::Given(given),
            None => DataDir::default_for(self.xdg_data_home.clone(), self.home.clone()),
        }
    }
}

/// What `image build` takes.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageBuildArgs {
    /// The runtime: nodejs18, nodejs20, python311, ruby31, … or nodejs, python, ruby for the version that this machine's
    /// release has; provided for programs of any origin; several with + between them.
    pub runtime: String,
    /// Take the root from this OCI image, a tar archive of `docker save` or `skopeo copy … oci-archive:FILE`, instead of
    /// Debian packages.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["suite", "apt_sources"])]
    pub from_oci: Option<PathBuf>,
    /// The release of Debian to take packages from [default: the newest that has the runtime's version, this machine's
    /// own before others].
    #[arg(long, value_name = "NAME")]
    pub suite: Option<String>,
    /// Take packages from the sources in this file, which is in one of apt's formats, as they are [default: this machine's
    /// sources of Debian].
    #[arg(long, value_name = "FILE")]
    pub apt_sources: Option<PathBuf>,
    /// For which processor: x86_64 or aarch64 [default: this machine's].
    #[arg(long, value_name = "NAME")]
    pub arch: Option<String>,
    /// squashfs, erofs, ext4 or oci [default: squashfs].
    #[arg(long, value_name = "NAME")]
    pub format: Option<String>,
    /// An OCI image that `docker load` takes; the same as --format oci.
    #[arg(long, conflicts_with = "format")]
    pub oci: bool,
    /// A name with tag that `docker load` gives the image; may be repeated [default: impuls-RUNTIME:latest].
    #[arg(long, value_name = "NAME:TAG")]
    pub tag: Vec<String>,
    /// The agent, a static program [default: impuls-agent beside this program].
    #[arg(long, value_name = "FILE", env = "IMPULS_AGENT", value_parser = path())]
    pub agent: Option<PathBuf>,
    /// Also register this kernel, as `image kernel --kernel` does.
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Also copy the image to this file.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The time of every file in it, in seconds since 1970 [default: 1980-01-01].
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    pub source_date_epoch: Option<u64>,
    /// Where it is kept.
    #[command(flatten)]
    pub store: ImageStoreArgs,
    /// Where programs are looked for.
    #[arg(long, env = "PATH", hide = true, default_value = "")]
    pub search_path: OsString,
}

/// What `image kernel` takes.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageKernelArgs {
    /// Register this uncompressed kernel instead of building one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "rebuild", "jobs"])]
    pub kernel: Option<PathBuf>,
    /// Build of this archive with the source of Linux [default: the newest of Debian's linux-source in /usr/src].
    #[arg(long, value_name = "FILE")]
    pub source: Option<PathBuf>,
    /// For which processor: x86_64 or aarch64 [default: this machine's].
    #[arg(long, value_name = "NAME")]
    pub arch: Option<String>,
    /// With the patch for hosts whose KVM is the module kvm_pvm, and for no others; of a given kernel: it has that.
    #[arg(long)]
    pub kvm_pvm: bool,
    /// Build although a kernel is kept.
    #[arg(long)]
    pub rebuild: bool,
    /// How many compilers run at once [default: one for each processor].
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Also copy the kernel to this file.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where it is kept.
    #[command(flatten)]
    pub store: ImageStoreArgs,
    /// Where programs are looked for.
    #[arg(long, env = "PATH", hide = true, default_value = "")]
    pub search_path: OsString,
}
