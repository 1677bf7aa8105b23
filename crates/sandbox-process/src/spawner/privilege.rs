//! How the spawner gets the rights to make namespaces and mounts: it has them as root, and as an ordinary user in
//! a user namespace of its own.

use std::ffi::CString;
use std::fs;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;

use super::{ARGUMENT, INSIDE};
use crate::failure::{Failure, Step};
use crate::sys;

/// Whose rights the spawner has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The machine's (or container's) root: every sandbox gets a user id of its own.
    Root,
    /// An ordinary user, who is root in the spawner's own user namespace: every sandbox runs as that user.
    Mapped,
}

/// The steps that machines and containers forbid.
const GROUPS: &str = "drop supplementary groups";
const USER: &str = "make user namespace";
const MOUNTS: &str = "make mount namespace";

/// What whoever started the server can do about a failure of [`acquire`]; begins with a semicolon, or is empty.
pub(super) fn remedy(failure: &Failure) -> &'static str {
    match &*failure.step {
        USER => {
            "; no sandbox can be made without it. On a machine, set the sysctls user.max_user_namespaces above 0 and \
             kernel.apparmor_restrict_unprivileged_userns to 0. In a container, its seccomp profile forbids it: take \
             deploy/kubernetes/seccomp.json, see docs/deployment.md"
        }
        GROUPS | MOUNTS if geteuid().is_root() => {
            "; root without CAP_SETGID and CAP_SYS_ADMIN, as in a container, can make no sandbox: run the server as an \
             ordinary user, see docs/deployment.md"
        }
        _ => "",
    }
}

/// Gets the rights. As an ordinary user it executes the program again and returns only on failure: the kernel
/// lets a process look into its children's namespaces by the rights that it had when it was executed.
pub(super) fn acquire() -> Result<Identity, Failure> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    if uid == 0 {
        // Groups of root must not reach sandboxes.
        rustix::thread::set_thread_groups(&[]).step(GROUPS)?;
        own_mounts()?;
        return Ok(Identity::Root);
    }
    sys::unshare(UnshareFlags::NEWUSER).step(USER)?;
    fs::write("/proc/self/setgroups", "deny").step("deny setgroups")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).step("map user id")?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).step("map group id")?;
    own_mounts()?;
    let arguments = ["impuls-spawner", ARGUMENT, INSIDE].map(|text| CString::new(text).unwrap_or_default());
    match sys::execute_self(&arguments).step("execute spawner again")? {}
}

/// Mounts made here are nobody else's and vanish with the last process; what the host mounts later still arrives.
fn own_mounts() -> Result<(), Failure> {
    sys::unshare(UnshareFlags::NEWNS).step(MOUNTS)?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave).step("separate mounts from the host's")
}
