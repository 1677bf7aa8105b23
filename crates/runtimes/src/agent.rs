//! Sandboxes in which the agent runs code as programs: the agent's own files, and the machine's programs beside them.

use std::path::{Path, PathBuf};

use impuls_domain::{RuntimeName, limits};
use impuls_sandbox::{BindMount, RuntimeImage, StartMethod};

use crate::closure;

/// The agent inside a sandbox.
pub const GUEST_AGENT: &str = "/opt/impuls/agent";
/// The folders of the machine's own programs, with what they load.
const SYSTEM_FOLDERS: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];
/// How the names of folders in `/etc` begin that programs in `/usr` are led to by links: Debian's alternatives, and the
/// configuration of Java and Mono, which do not start without it. Nothing else of `/etc` is shown.
const CONFIGURATION: [&str; 3] = ["alternatives", "java-", "mono"];

/// The image of a language's shim with the agent instead of it.
pub(crate) fn beside(shim: &RuntimeImage, agent: &Path) -> RuntimeImage {
    let mut mounts = shim.mounts.clone();
    let libraries = closure::libraries(&[agent.to_owned()]);
    mounts.extend(libraries.into_iter().filter(|new| shim.mounts.iter().all(|old| old.guest != new.guest)));
    image(&shim.name, mounts, agent)
}

/// Nothing but the agent, for programs that need nothing of the machine.
pub(crate) fn bare(name: &RuntimeName, agent: &Path) -> RuntimeImage {
    image(name, closure::libraries(&[agent.to_owned()]), agent)
}

/// The machine's own programs and libraries, read-only, with the agent; `further` are folders that are shown
/// besides.
pub(crate) fn system(name: &RuntimeName, agent: &Path, further: Vec<BindMount>) -> RuntimeImage {
    let folders = SYSTEM_FOLDERS.map(PathBuf::from).into_iter().chain(configuration());
    // A link such as `/bin` is made again as a link.
    let folders = folders.filter(|folder| folder.is_dir() && !folder.is_symlink());
    let mut mounts: Vec<BindMount> =
        folders.map(|folder| BindMount { host: folder.clone(), guest: folder }).collect();
    let libraries = closure::libraries(&[agent.to_owned()]);
    let shown = |mount: &BindMount| SYSTEM_FOLDERS.iter().any(|folder| mount.guest.starts_with(folder));
    mounts.extend(libraries.into_iter().filter(|mount| !shown(mount)));
    mounts.extend(further);
    image(name, mounts, agent)
}

fn configuration() -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir("/etc").into_iter().flatten().flatten();
    let of_programs = |name: &str| CONFIGURATION.iter().any(|prefix| name.starts_with(prefix));
    entries.filter(move |entry| entry.file_name().to_str().is_some_and(of_programs)).map(|entry| entry.path())
}

fn image(name: &RuntimeName, mut mounts: Vec<BindMount>, agent: &Path) -> RuntimeImage {
    mounts.push(BindMount { host: agent.to_owned(), guest: PathBuf::from(GUEST_AGENT) });
    if let Some(certificates) = closure::certificates()
        && mounts.iter().all(|mount| mount.guest != certificates.guest)
    {
        mounts.push(certificates);
    }
    let argv = [GUEST_AGENT, "agent"].map(str::to_owned).to_vec();
    RuntimeImage {
        // Sandboxes of different images are never exchanged for one another.
        name: format!("{name}-agent").parse().unwrap_or_else(|_| name.clone()),
        mounts,
        links: closure::root_links(),
        files: Vec::new(),
        steered_argv: argv.clone(),
        argv,
        warm_argument: "",
        start: StartMethod::Exec,
        tmp_mib: limits::TMP_MIB,
        idle_memory_mib: 4,
    }
}
