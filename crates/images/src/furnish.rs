//! What of ours goes into every root: the agent, the shims, the folders that are mounted on, and the few files of `/etc`
//! that programs look for.

use std::path::Path;

use impuls_runtimes::guest;

use crate::error::ImageError;
use crate::manifest::{AgentFile, Launch};
use crate::recipe::Recipe;
use crate::staged;
use crate::tree::{Node, Tree};

/// Folders that are mounted on, or hold what was of no use after its maker ended: empty in the image.
const EMPTY: [(&str, u32); 6] =
    [("dev", 0o755), ("proc", 0o555), ("sys", 0o555), ("run", 0o755), ("tmp", 0o1777), ("var/tmp", 0o1777)];

/// Folders that are there in any case: for code, for the superuser, and for the overlay of what is written.
const PRESENT: [(&str, u32); 3] = [("var/task", 0o755), ("root", 0o700), ("mnt", 0o755)];

/// Files that say nothing of the machine that built the image.
const FILES: [(&str, &str); 5] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n"),
    ("etc/hostname", "localhost\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
];

/// Files whose text would tell one machine from another, or that the agent writes.
const OF_A_MACHINE: [(&str, &str); 3] =
    [("etc/machine-id", ""), ("etc/resolv.conf", ""), ("etc/hostname", "localhost\n")];

/// Puts everything in and says how it is started. Links of the root itself are followed within it.
pub(crate) fn furnish(
    tree: &mut Tree,
    recipe: &Recipe,
    agent: &[u8],
) -> Result<(AgentFile, Vec<Launch>), ImageError> {
    for (path, mode) in EMPTY {
        for below in tree.below(Path::new(path)) {
            tree.remove(&below);
        }
        tree.put(Path::new(path), Node::folder(mode))?;
    }
    for (path, mode) in PRESENT {
        if tree.get(Path::new(path)).is_none() {
            tree.put(Path::new(path), Node::folder(mode))?;
        }
    }
    for (path, text) in FILES {
        // An image's own users stay: its files may belong to them.
        if tree.get(Path::new(path)).is_none() {
            tree.put(Path::new(path), Node::file(0o644, text.as_bytes()))?;
        }
    }
    for (path, text) in OF_A_MACHINE {
        tree.remove(Path::new(path));
        tree.put(Path::new(path), Node::file(0o644, text.as_bytes()))?;
    }
    tree.put(Path::new(guest::AGENT), Node::file(0o755, agent))?;
    // What a kernel starts that is told nothing.
    tree.put(Path::new("sbin/init"), Node::link(guest::AGENT))?;
    let launches = recipe.parts().iter().map(|part| {
        let found = part.interpreters.iter().find(|path| tree.file(Path::new(path)).is_some());
        let interpreter = found.cloned().ok_or_else(|| ImageError::Incomplete {
            path: part.interpreters.join(" or "),
            runtime: part.runtime.clone(),
        })?;
        let shim = part.shim.for_interpreter(&interpreter);
        for (path, text) in &shim.files {
            tree.put(path, Node::file(0o644, text.as_bytes()))?;
        }
        Ok(Launch {
            runtime: part.runtime.clone(),
            interpreter,
            argv: shim.argv,
            steered_argv: shim.steered_argv,
            warm_argument: shim.warm_argument.to_owned(),
        })
    });
    let launches: Vec<Launch> = launches.collect::<Result<_, ImageError>>()?;
    Ok((AgentFile { path: guest::AGENT.to_owned(), digest: staged::digest_of(agent) }, launches))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_has_the_agent_the_shim_and_nothing_of_a_machine() {
        let mut tree = Tree::default();
        for path in ["usr/local/bin/node", "etc/machine-id", "run/pid", "etc/passwd", "usr/sbin/x"] {
            tree.put(Path::new(path), Node::file(0o755, b"theirs")).unwrap();
        }
        tree.put(Path::new("sbin"), Node::link("usr/sbin")).unwrap();
        let recipe = Recipe::of_oci("nodejs22+tools").unwrap();
        let (agent, launches) = furnish(&mut tree, &recipe, b"agent").unwrap();
        let text = |path: &str| {
            let mut text = String::new();
            let (_, content) = tree.file(Path::new(path)).unwrap();
            std::io::Read::read_to_string(&mut content.reader(), &mut text).unwrap();
            text
        };
        assert_eq!((text(&agent.path).as_str(), text("/sbin/init").as_str()), ("agent", "agent"));
        assert_eq!((text("etc/machine-id").as_str(), text("etc/passwd").as_str()), ("", "theirs"));
        assert!(tree.get(Path::new("run/pid")).is_none());
        let [launch] = launches.as_slice() else { panic!("{launches:?}") };
        assert_eq!((launch.runtime.as_str(), launch.argv[0].as_str()), ("nodejs22", "/usr/local/bin/node"));
        assert!(text(launch.argv.last().unwrap()).contains("require"));
    }

    #[test]
    fn a_root_without_the_interpreter_is_refused() {
        let recipe = Recipe::of_oci("python312").unwrap();
        let error = furnish(&mut Tree::default(), &recipe, b"agent").unwrap_err().to_string();
        assert!(error.contains("/usr/bin/python3.12"), "{error}");
    }
}
