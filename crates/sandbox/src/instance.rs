//! What a server that makes sandboxes is called on its machine, and whether the server of a name is dead. Drivers name by it
//! whatever a killed server would leave; removing that is their own.

use std::fs;
use std::io;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A name that no driver has, now or later, in this process or another: `<pid>-<start time>-<number>`. Fails where this
/// process cannot read about itself in `/proc`, because the name would be that of a dead server.
pub fn name() -> io::Result<String> {
    let pid = process::id();
    let start = start_time(&stat_of(pid)?).ok_or(io::ErrorKind::InvalidData)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Ok(format!("{pid}-{start}-{number}"))
}

/// Whether the server of this name is known to be dead: no process has its number, or one that started at another time.
/// False for what is no name, and where that could not be found out, as without a free descriptor.
#[must_use]
pub fn is_dead(name: &str) -> bool {
    is_dead_by(name, stat_of)
}

fn is_dead_by(name: &str, stat: impl FnOnce(u32) -> io::Result<Vec<u8>>) -> bool {
    let mut parts = name.split('-');
    let pid: Option<u32> = parts.next().and_then(|pid| pid.parse().ok());
    let start: Option<u64> = parts.next().and_then(|start| start.parse().ok());
    let Some((pid, start)) = pid.zip(start) else { return false };
    match stat(pid) {
        Ok(stat) => start_time(&stat).is_some_and(|other| other != start),
        // The second comes from a process that ended after the file was opened.
        Err(error) => error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH),
    }
}

fn stat_of(pid: u32) -> io::Result<Vec<u8>> {
    fs::read(format!("/proc/{pid}/stat"))
}

/// When a process started, in clock ticks since boot: field 22 of proc(5)'s `stat`, counted after the name, which may
/// contain anything.
fn start_time(stat: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(stat);
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process whose name is `a) b` and a byte that is no text.
    fn stat(start: u64) -> Vec<u8> {
        let zeros = "0 ".repeat(18);
        [b"7 (a) b\xff) S ".as_slice(), format!("{zeros}{start} 0 0\n").as_bytes()].concat()
    }

    #[test]
    fn this_process_is_alive_and_one_with_another_start_time_is_not() {
        assert!(!is_dead(&name().unwrap()));
        assert!(is_dead(&format!("{}-1-0", process::id())));
        assert!(!is_dead("lost+found"));
        assert_ne!(name().unwrap(), name().unwrap());
    }

    #[test]
    fn a_start_time_is_compared_whatever_the_process_is_called() {
        assert!(!is_dead_by("7-5-0", |_| Ok(stat(5))));
        assert!(is_dead_by("7-5-0", |_| Ok(stat(6))));
        assert!(!is_dead_by("7-5-0", |_| Ok(Vec::new())));
    }

    #[test]
    fn a_server_that_cannot_be_looked_up_is_not_dead() {
        let fails_with = |errno| is_dead_by("7-5-0", |_| Err(io::Error::from_raw_os_error(errno)));
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EACCES] {
            assert!(!fails_with(errno), "{errno}");
        }
        assert!(fails_with(libc::ENOENT));
        assert!(fails_with(libc::ESRCH));
    }
}
