//! The system call filter: an allowlist. What is not on it returns `EPERM`, and `ENOSYS` where programs then take
//! an older call; nothing is ever killed for a call.
//!
//! Two programs are stacked, because one can only have one answer: [`ALLOWED`](syscalls::ALLOWED) with `EPERM` for the rest,
//! and above it [`UNKNOWN`](syscalls::UNKNOWN) with `ENOSYS`. Where both refuse, the kernel takes the answer of the one that
//! was installed last (seccomp(2)). Calls that are allowed whatever their arguments cost nothing: the kernel
//! remembers them in a bitmap.

use std::collections::BTreeMap;
use std::io;

use impuls_sandbox::syscalls;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::failure::{Failure, Step};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The compiled programs, in the order of installation.
#[derive(Debug)]
pub(crate) struct Filters {
    programs: [BpfProgram; 2],
}

impl Filters {
    /// Compiles the programs for this machine's processor.
    pub(crate) fn compile() -> Result<Self, Failure> {
        compile().map(|programs| Self { programs }).step("compile system call filter")
    }

    /// Puts this process under the filter, for good. `PR_SET_NO_NEW_PRIVS` must have been set.
    pub(crate) fn install(&self) -> io::Result<()> {
        self.programs.iter().try_for_each(crate::sys::install_filter)
    }

    /// The programs as bytes for a zygote, which installs them in the same order.
    pub(crate) fn bytes(&self) -> [Vec<u8>; 2] {
        let [first, second] = &self.programs;
        [crate::sys::filter_bytes(first), crate::sys::filter_bytes(second)]
    }
}

fn compile() -> io::Result<[BpfProgram; 2]> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let (eperm, enosys) =
        (SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Errno(libc::ENOSYS as u32));
    let program = |rules, otherwise, matching| -> io::Result<BpfProgram> {
        let filter = SeccompFilter::new(rules, otherwise, matching, arch).map_err(io::Error::other)?;
        filter.try_into().map_err(io::Error::other)
    };
    let unknown = syscalls::UNKNOWN
        .iter()
        .map(|call| call.number)
        .chain(syscalls::NEWER)
        .map(|call| (call, Vec::new()))
        .collect();
    Ok([
        program(allowed().map_err(io::Error::other)?, eperm, SeccompAction::Allow)?,
        program(unknown, SeccompAction::Allow, enosys)?,
    ])
}

fn allowed() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = syscalls::ALLOWED.iter().map(|call| (call.number, Vec::new())).collect();
    let one_of = |argument: u8, values: &[u64]| -> Result<Vec<SeccompRule>, _> {
        values.iter().map(|&value| rule(&[(argument, SeccompCmpOp::Eq, value)])).collect()
    };
    rules.insert(libc::SYS_clone, vec![rule(&[(0, SeccompCmpOp::MaskedEq(syscalls::NEW_NAMESPACES), 0)])?]);
    rules.insert(libc::SYS_socket, one_of(0, &syscalls::SOCKET_FAMILIES)?);
    rules.insert(libc::SYS_socketpair, one_of(0, &[libc::AF_UNIX as u64])?);
    rules.insert(libc::SYS_personality, one_of(0, &syscalls::PERSONALITIES)?);
    rules.insert(libc::SYS_prctl, one_of(0, &syscalls::PRCTL)?);
    // Neither of them may put characters into somebody's terminal.
    let input = syscalls::REFUSED_IOCTLS.map(|request| (1, SeccompCmpOp::Ne, request));
    rules.insert(libc::SYS_ioctl, vec![rule(&input)?]);
    Ok(rules)
}

fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = |(argument, op, value): &(u8, SeccompCmpOp, u64)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, op.clone(), *value)
    };
    SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_fit_into_a_program() {
        let filters = Filters::compile().unwrap();
        for bytes in filters.bytes() {
            assert!(!bytes.is_empty() && bytes.len() / 8 < 4096, "{} instructions", bytes.len() / 8);
        }
    }

    #[test]
    fn what_opens_the_kernel_is_not_allowed() {
        for call in [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_io_uring_setup,
            libc::SYS_open_by_handle_at,
            libc::SYS_name_to_handle_at,
            libc::SYS_clone3,
            libc::SYS_fsopen,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_init_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_quotactl,
            libc::SYS_acct,
            libc::SYS_pidfd_getfd,
        ] {
            assert!(!syscalls::ALLOWED.iter().any(|allowed| allowed.number == call), "{call}");
        }
    }
}
