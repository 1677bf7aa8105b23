//! What is written down about each image and kernel, beside its bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use impuls_runtimes::guest::ShimOf;
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::error::ImageError;
use crate::recipe::Recipe;

/// What an image's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A squashfs file system, compressed with zstd.
    Squashfs,
    /// An EROFS file system.
    Erofs,
    /// An ext4 file system, for programs that know nothing else. The only one whose bytes differ from build to build.
    Ext4,
    /// An OCI image layout that `docker load` takes too, as a tar archive.
    Oci,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Squashfs, Self::Erofs, Self::Ext4, Self::Oci];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::Ext4 => "ext4",
            Self::Oci => "oci",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let found = Self::ALL.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| ImageError::Format(text.chars().take(40).collect()))
    }
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageManifest {
    /// What it was built as: a runtime such as `nodejs18`, or several with `+` between them.
    pub name: String,
    /// For which processor.
    pub architecture: Architecture,
    /// What its bytes are.
    pub format: Format,
    /// `sha256:` and the digest of its bytes.
    pub digest: String,
    /// How many bytes it has.
    pub size: u64,
    /// When it was built, RFC 3339 in UTC.
    pub created: String,
    /// What it was made of.
    pub made_of: MadeOf,
    /// Process 1 of its guests.
    pub agent: AgentFile,
    /// How each of its runtimes is started; empty for images in which the agent runs everything itself.
    pub launches: Vec<Launch>,
    /// Variables that whatever runs in it is started with; those of an OCI image, and `PATH`.
    pub environment: BTreeMap<String, String>,
}

impl ImageManifest {
    /// Its runtimes with a shim: name, language and interpreter.
    #[must_use]
    pub fn languages(&self) -> Vec<(String, ShimOf, String)> {
        let Ok(recipe) = Recipe::of_oci(&self.name) else { return Vec::new() };
        let shim = |launch: &Launch| {
            let part = recipe.parts().iter().find(|part| part.runtime == launch.runtime)?;
            Some((launch.runtime.clone(), part.shim, launch.interpreter.clone()))
        };
        self.launches.iter().filter_map(shim).collect()
    }
}

/// What a root file system was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MadeOf {
    /// Debian packages.
    Debian {
        /// Of which release.
        suite: String,
        /// Each with its version, in the order of their names.
        packages: Vec<Package>,
    },
    /// The layers of an OCI image.
    Oci {
        /// The digest of the image's configuration, which names the image.
        config: String,
        /// The digests of its layers, uncompressed, the lowest first.
        layers: Vec<String>,
    },
}

/// One Debian package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, which is `all` for one without binaries.
    pub architecture: String,
}

/// The agent within an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentFile {
    /// Where it lies.
    pub path: String,
    /// `sha256:` and the digest of its bytes.
    pub digest: String,
}

/// How the shim of one runtime is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The runtime.
    pub runtime: String,
    /// The interpreter.
    pub interpreter: String,
    /// The command line that starts the shim.
    pub argv: Vec<String>,
    /// The command line instead if the function's own variables steer the interpreter.
    pub steered_argv: Vec<String>,
    /// An argument to append if the sandbox waits in a pool; empty if there is none.
    pub warm_argument: String,
}

/// One kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelManifest {
    /// Its release, such as `6.1.158`, as far as it is known.
    pub version: String,
    /// For which processor.
    pub architecture: Architecture,
    /// `sha256:` and the digest of its bytes.
    pub digest: String,
    /// How many bytes it has.
    pub size: u64,
    /// When it was built or registered, RFC 3339 in UTC.
    pub created: String,
    /// `linux-source` of Debian, or the file that was given.
    pub made_of: String,
    /// Whether it has the patch for hosts whose KVM emulates the guest's kernel.
    pub kvm_pvm: bool,
}
