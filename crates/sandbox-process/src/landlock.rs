//! Landlock: a second lock on the file system, and on signals and abstract sockets, that the kernel applies
//! whatever the mounts and namespaces say.
//!
//! Everything may be read and executed; only `/tmp`, `/dev/shm` and the harmless devices may be written. A kernel
//! that knows less of this gives less (the isolation report has the version).

use std::io;
use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};

use crate::failure::{Failure, Step};

/// The newest interface that the rules make use of.
const RULES: ABI = ABI::V6;
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty"];

/// Makes the rules in the mount namespace of the calling process; `None` on a kernel without Landlock.
pub(crate) fn rules() -> Result<Option<OwnedFd>, Failure> {
    make().map_err(io::Error::other).step("make Landlock rules")
}

fn make() -> Result<Option<OwnedFd>, Box<dyn std::error::Error + Send + Sync>> {
    let read = AccessFs::from_read(RULES);
    let nodes: BitFlags<AccessFs> = AccessFs::MakeChar | AccessFs::MakeBlock;
    let write = AccessFs::from_all(RULES) & !nodes & !BitFlags::from(AccessFs::IoctlDev);
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RULES))?
        .scope(Scope::from_all(RULES))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new("/")?, read))?;
    for folder in ["/tmp", "/dev/shm"] {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(folder)?, write))?;
    }
    for file in DEVICES {
        if let Ok(file) = PathFd::new(file) {
            rules = rules.add_rule(PathBeneath::new(file, device))?;
        }
    }
    Ok(rules.into())
}
