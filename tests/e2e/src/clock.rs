//! Servers whose clock is wrong: Debian's libfaketime comes between them and the machine's. The clock that cannot be set stays true,
//! as do the clocks of sandboxes, which know nothing of it.

use std::path::PathBuf;

use crate::data::Data;
use crate::launch::Launch;

/// Where Debian puts the library, below the folder of each architecture.
const LIBRARIES: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A clock that a test sets while a server goes by it.
pub struct WallClock(PathBuf);

impl WallClock {
    /// One that is right, for servers on this data folder.
    #[must_use]
    pub fn of(data: &Data) -> Self {
        let clock = Self(data.scratch().join("clock"));
        clock.set("+0");
        clock
    }

    /// Sets it apart from the machine's by so much, such as `+1h` or `-90m`, from this moment on.
    pub fn set(&self, difference: &str) {
        // In one step: a server may be reading it.
        let next = self.0.with_extension("next");
        std::fs::write(&next, format!("{difference}\n")).expect("a file");
        std::fs::rename(next, &self.0).expect("the same folder");
    }

    /// The server goes by this clock.
    #[must_use]
    pub fn rules(&self, launch: Launch) -> Launch {
        faked(launch).variable("FAKETIME_TIMESTAMP_FILE", &self.0).variable("FAKETIME_NO_CACHE", "1")
    }
}

/// The server's clock differs from the machine's by so much all the time.
#[must_use]
pub fn apart(launch: Launch, difference: &str) -> Launch {
    faked(launch).variable("FAKETIME", difference)
}

/// Removes what the library has left of a process that has ended: it refuses to work in another that gets its number.
pub(crate) fn forget(process: u32) {
    for what in ["faketime_shm", "sem.faketime_sem"] {
        let _there_was_none = std::fs::remove_file(format!("/dev/shm/{what}_{process}"));
    }
}

fn faked(launch: Launch) -> Launch {
    let folders = std::fs::read_dir(LIBRARIES).into_iter().flatten().flatten();
    let library = folders.map(|folder| folder.path().join(LIBRARY)).find(|library| library.exists());
    let library = library.expect("libfaketime is installed (Debian package faketime)");
    launch
        .variable("LD_PRELOAD", library)
        .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .variable("NO_FAKE_STAT", "1")
}
