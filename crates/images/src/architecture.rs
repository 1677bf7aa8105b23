//! What differs between processors: every table with a row for each has it here.

use std::fmt;
use std::str::FromStr;

use object::elf;
use serde::{Deserialize, Serialize};

use crate::error::ImageError;

/// A processor architecture that guests can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// 64-bit Intel and AMD.
    #[serde(rename = "x86_64")]
    X86,
    /// 64-bit Arm.
    #[serde(rename = "aarch64")]
    Arm,
}

/// One row of the table.
struct Row {
    name: &'static str,
    debian: &'static str,
    linux: &'static str,
    kernel_target: &'static str,
    kernel_file: &'static str,
    kernel_config: &'static str,
    compiler_prefix: &'static str,
    compiler_package: &'static str,
    elf_machine: u16,
}

const X86: Row = Row {
    name: "x86_64",
    debian: "amd64",
    linux: "x86",
    kernel_target: "vmlinux",
    kernel_file: "vmlinux",
    kernel_config: include_str!("../../../guest/kernel/x86_64.config"),
    compiler_prefix: "x86_64-linux-gnu-",
    compiler_package: "gcc-x86-64-linux-gnu",
    elf_machine: elf::EM_X86_64,
};

const ARM: Row = Row {
    name: "aarch64",
    debian: "arm64",
    linux: "arm64",
    kernel_target: "Image",
    kernel_file: "arch/arm64/boot/Image",
    kernel_config: include_str!("../../../guest/kernel/aarch64.config"),
    compiler_prefix: "aarch64-linux-gnu-",
    compiler_package: "gcc-aarch64-linux-gnu",
    elf_machine: elf::EM_AARCH64,
};

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 2] = [Self::X86, Self::Arm];

    const fn row(self) -> &'static Row {
        match self {
            Self::X86 => &X86,
            Self::Arm => &ARM,
        }
    }

    /// That of this program; guests of another one can be built here, but not run.
    #[must_use]
    pub const fn of_this_machine() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm } else { Self::X86 }
    }

    /// Its name, as `uname -m` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// What Debian and OCI call it.
    #[must_use]
    pub const fn debian(self) -> &'static str {
        self.row().debian
    }

    /// What the kernel's `make ARCH=` calls it.
    pub(crate) const fn linux(self) -> &'static str {
        self.row().linux
    }

    /// What of the kernel is built: what a virtual machine monitor loads without a boot loader.
    pub(crate) const fn kernel_target(self) -> &'static str {
        self.row().kernel_target
    }

    /// Where the kernel's `make` puts it.
    pub(crate) const fn kernel_file(self) -> &'static str {
        self.row().kernel_file
    }

    /// The part of the kernel's configuration that only this architecture has.
    pub(crate) const fn kernel_config(self) -> &'static str {
        self.row().kernel_config
    }

    /// How the names of compilers begin that make code for it on a machine of another architecture.
    pub(crate) const fn compiler_prefix(self) -> &'static str {
        self.row().compiler_prefix
    }

    /// The Debian package with such a compiler.
    pub(crate) const fn compiler_package(self) -> &'static str {
        self.row().compiler_package
    }

    /// `e_machine` of its programs (System V ABI).
    pub(crate) const fn elf_machine(self) -> u16 {
        self.row().elf_machine
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Architecture {
    type Err = ImageError;

    /// Also takes what Debian and OCI call it.
    fn from_str(text: &str) -> Result<Self, ImageError> {
        let found = Self::ALL.into_iter().find(|this| text == this.name() || text == this.debian());
        found.ok_or_else(|| ImageError::Architecture(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_has_all_of_its_names() {
        for this in Architecture::ALL {
            assert_eq!(this.name().parse::<Architecture>().unwrap(), this);
            assert_eq!(this.debian().parse::<Architecture>().unwrap(), this);
            assert_eq!(serde_json::to_value(this).unwrap(), this.name());
            assert!(this.kernel_config().contains("CONFIG_"));
        }
        assert!("riscv64".parse::<Architecture>().unwrap_err().to_string().contains("aarch64"));
    }
}
