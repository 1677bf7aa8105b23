//! The system call filter of a container, as the OCI runtime specification describes it: the same lists that the process
//! driver filters by. libseccomp compares whole 64-bit arguments and joins several comparisons of one argument with "or",
//! so what is refused by value is described by the bits in which everything else differs from it.
//!
//! Calls that are newer than a runtime's libseccomp cannot be named to it, and would be refused like any other. So process 1
//! puts what it starts under a small filter of its own, by which they do not exist.

use std::io;

use impuls_sandbox::syscalls;
use serde_json::{Value, json};

use crate::sys;

const ALLOW: &str = "SCMP_ACT_ALLOW";
const ERRNO: &str = "SCMP_ACT_ERRNO";
/// Bits of an `ioctl` request; the kernel ignores those above.
const REQUEST_BITS: u32 = 32;

/// The object `linux.seccomp`.
pub(crate) fn profile() -> Value {
    let names =
        |calls: &[syscalls::SystemCall]| -> Vec<&str> { calls.iter().map(|call| call.name).collect() };
    let mut rules = vec![
        json!({ "names": names(&syscalls::ALLOWED), "action": ALLOW }),
        json!({ "names": names(&syscalls::UNKNOWN), "action": ERRNO, "errnoRet": libc::ENOSYS }),
        allow_if("clone", &masked(0, syscalls::NEW_NAMESPACES, 0)),
    ];
    rules.extend(syscalls::SOCKET_FAMILIES.iter().map(|&family| allow_if("socket", &equal(0, family))));
    rules.push(allow_if("socketpair", &equal(0, libc::AF_UNIX as u64)));
    rules.extend(syscalls::PERSONALITIES.iter().map(|&which| allow_if("personality", &equal(0, which))));
    rules.extend(syscalls::PRCTL.iter().map(|&operation| allow_if("prctl", &equal(0, operation))));
    let requests = all_but(syscalls::REFUSED_IOCTLS, REQUEST_BITS);
    rules.extend(requests.into_iter().map(|(mask, value)| allow_if("ioctl", &masked(1, mask, value))));
    json!({
        "defaultAction": ERRNO,
        "defaultErrnoRet": libc::EPERM,
        "architectures": [architecture()],
        "syscalls": rules,
    })
}

/// Has [`NEWER`](syscalls::NEWER) calls answer as if the kernel were older (`ENOSYS`), in this thread and whatever it starts,
/// for good: of two filters that refuse, the kernel takes the answer of the one that was installed last (seccomp(2)).
/// `PR_SET_NO_NEW_PRIVS` must have been set.
pub(crate) fn answer_as_older() -> io::Result<()> {
    let step = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let (first, end) = (syscalls::NEWER.start as u32, syscalls::NEWER.end as u32);
    sys::install_filter(&[
        // The number is what the kernel's data begin with.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, first, 0, 2),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, end, 1, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ])
}

const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" }
}

fn allow_if(name: &str, argument: &Value) -> Value {
    json!({ "names": [name], "action": ALLOW, "args": [argument] })
}

fn equal(index: u32, value: u64) -> Value {
    json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" })
}

fn masked(index: u32, mask: u64, value: u64) -> Value {
    json!({ "index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" })
}

/// Masks and values of which every number of so many bits matches at least one, except these two, which match none.
fn all_but([a, b]: [u64; 2], bits: u32) -> Vec<(u64, u64)> {
    let common = (0..bits).filter(|bit| (a ^ b) & (1 << bit) == 0);
    let mut patterns: Vec<(u64, u64)> = common.map(|bit| (1 << bit, !a & (1 << bit))).collect();
    // What agrees with both where they agree: every combination of the other bits that is neither of them.
    let others = (0..bits).filter(|bit| (a ^ b) & (1 << bit) != 0).fold(0, |mask, bit| mask | (1 << bit));
    let mut combination = 0_u64;
    loop {
        if combination != a & others && combination != b & others {
            patterns.push((others, combination));
        }
        // The next subset of a mask.
        combination = combination.wrapping_sub(others) & others;
        if combination == 0 {
            return patterns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_two_numbers_match() {
        let patterns = all_but([0b0101_0010, 0b0101_1100], 8);
        for number in 0..256_u64 {
            let matches = patterns.iter().any(|(mask, value)| number & mask == *value);
            assert_eq!(matches, number != 0b0101_0010 && number != 0b0101_1100, "{number:b}");
        }
    }

    #[test]
    fn a_refused_request_is_refused_with_any_bits_above() {
        let patterns = all_but(syscalls::REFUSED_IOCTLS, REQUEST_BITS);
        for request in syscalls::REFUSED_IOCTLS {
            for number in [request, request | 1 << 32, request | 1 << 63] {
                assert!(!patterns.iter().any(|(mask, value)| number & mask == *value));
            }
        }
        assert!(patterns.iter().any(|(mask, value)| libc::TIOCGWINSZ & mask == *value));
        assert!(patterns.len() < 64);
    }

    #[test]
    fn what_is_not_named_is_refused() {
        let profile = profile();
        assert_eq!(profile["defaultErrnoRet"], 1);
        let text = profile.to_string();
        for call in ["\"mount\"", "\"unshare\"", "\"bpf\"", "\"ptrace\"", "\"keyctl\""] {
            assert!(!text.contains(call), "{call}");
        }
    }
}
