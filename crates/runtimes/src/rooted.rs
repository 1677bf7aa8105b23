//! Runtimes whose files are an image's: its root lies unpacked in a folder of this machine, and sandboxes see its entries at
//! their places.
//!
//! Beside them is what every sandbox has of ours (`/etc/passwd`, `/tmp`, `/var/task`, …), which comes before the image's,
//! and the agent with libraries of its own. The folder is a stranger's work: its links are made again inside the sandbox
//! and never followed here.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use impuls_domain::{Contract, Handler, RuntimeName, limits};
use impuls_sandbox::carried::Carried;
use impuls_sandbox::{BindMount, RuntimeImage, StartMethod};

use crate::agent::GUEST_AGENT;
use crate::build::Source;
use crate::closure;
use crate::guest::{Shim, ShimOf};
use crate::language::{Installed, Language, SearchPath};
use crate::node::Node;
use crate::python::Python;
use crate::ruby::Ruby;

/// Folders of which every sandbox has its own, whole.
const OURS: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];
/// Folders in which entries of ours lie, and these entries.
const SHARED: [(&str, &[&str]); 3] = [
    ("etc", &["group", "hostname", "hosts", "localtime", "nsswitch.conf", "passwd", "resolv.conf"]),
    ("opt", &["impuls"]),
    ("var", &["empty", "run", "task", "tmp"]),
];
/// The most mounts of one root; each costs every sandbox a moment.
const MOST_MOUNTS: usize = 512;

/// A runtime, and what says how it takes code.
type Found = (Box<dyn Language>, Installed);

/// An image whose root lies in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rooted {
    /// The image's name: runtimes, with `+` between them, or any name.
    pub name: String,
    /// How it differs from others of that name.
    pub version: String,
    /// The folder; absolute, without symbolic links, and nobody else's to write.
    pub root: PathBuf,
    /// The runtimes that it has shims for: name, language, and where the interpreter lies in it.
    pub shims: Vec<(String, ShimOf, String)>,
}

impl Rooted {
    /// Its runtimes: each with a shim by its own name, and one that runs programs by what is left of the image's name.
    /// Fails, saying why, if its root cannot be shown.
    pub(crate) fn runtimes(&self, search: &SearchPath) -> Result<Vec<Found>, String> {
        let tree = Tree::of(&self.root)?;
        let mut found: Vec<Found> = Vec::new();
        for (name, shim, interpreter) in &self.shims {
            let installed = self.installed(name, &tree, (search, Some((*shim, interpreter))))?;
            found.push((Box::new(OfImage { name: name.clone(), shim: Some(*shim) }), installed));
        }
        let rest: Vec<&str> = self.name.split('+').filter(|word| !self.has(word)).collect();
        if !rest.is_empty() {
            let name = rest.join("-");
            let installed = self.installed(&name, &tree, (search, None))?;
            found.push((Box::new(OfImage { name, shim: None }), installed));
        }
        Ok(found)
    }

    fn has(&self, word: &str) -> bool {
        self.shims.iter().any(|(name, ..)| name == word)
    }

    fn installed(
        &self,
        name: &str,
        tree: &Tree,
        (search, shim): (&SearchPath, Option<(ShimOf, &String)>),
    ) -> Result<Installed, String> {
        let name: RuntimeName =
            name.parse().map_err(|error| format!("{name:?} is no runtime's name: {error}"))?;
        let agent = Arc::new(tree.image(&name, &search.agent, None));
        let image = match shim {
            Some((shim, path)) => {
                Arc::new(tree.image(&name, &search.agent, Some(shim.for_interpreter(path))))
            }
            None => agent.clone(),
        };
        Ok(Installed {
            name,
            order: (0, 0),
            version: self.version.clone(),
            path: self.root.clone(),
            image,
            agent_image: agent,
            interpreter: shim.into_iter().map(|(_, path)| path.clone()).collect(),
            toolchain: None,
        })
    }
}

/// What of a root is shown.
struct Tree {
    mounts: Vec<BindMount>,
    links: Vec<(PathBuf, PathBuf)>,
}

impl Tree {
    fn of(root: &Path) -> Result<Self, String> {
        let mut tree = Self { mounts: Vec::new(), links: Vec::new() };
        let shared = |name: &str| SHARED.iter().find(|(shared, _)| *shared == name);
        for (name, path) in entries(root)? {
            match shared(&name) {
                // A link in its place would lead what is ours elsewhere.
                Some((_, ours)) if path.is_dir() && !path.is_symlink() => {
                    for (inner, path) in
                        entries(&path)?.into_iter().filter(|(inner, _)| !ours.contains(&&**inner))
                    {
                        tree.show(&path, Path::new("/").join(&name).join(inner));
                    }
                }
                Some(_) => {}
                None if OURS.contains(&&*name) => {}
                None => tree.show(&path, Path::new("/").join(name)),
            }
        }
        if tree.mounts.len() > MOST_MOUNTS {
            let count = tree.mounts.len();
            return Err(format!(
                "its root has {count} entries in its upper folders; at most {MOST_MOUNTS} are shown"
            ));
        }
        Ok(tree)
    }

    fn show(&mut self, host: &Path, guest: PathBuf) {
        match fs::read_link(host) {
            Ok(target) => self.links.push((guest, target)),
            Err(_) => self.mounts.push(BindMount { host: host.to_owned(), guest }),
        }
    }

    /// Sandboxes of this root, with a shim or with the agent.
    fn image(&self, name: &RuntimeName, agent: &Path, shim: Option<Shim>) -> RuntimeImage {
        let mut mounts = self.mounts.clone();
        let suffix = if shim.is_some() { "" } else { "-agent" };
        let shim = shim.unwrap_or_else(|| {
            let carried = Carried::new(agent, GUEST_AGENT, &closure::libraries(&[agent.to_owned()]));
            mounts.extend(carried.mounts);
            let mut argv = carried.command;
            argv.push("agent".to_owned());
            Shim { files: Vec::new(), steered_argv: argv.clone(), argv, warm_argument: "" }
        });
        RuntimeImage {
            // Sandboxes of different images are never exchanged for one another.
            name: format!("{name}{suffix}").parse().unwrap_or_else(|_| name.clone()),
            mounts,
            links: self.links.clone(),
            files: shim.files,
            argv: shim.argv,
            steered_argv: shim.steered_argv,
            warm_argument: shim.warm_argument,
            start: StartMethod::Exec,
            tmp_mib: limits::TMP_MIB,
            idle_memory_mib: 16,
        }
    }
}

/// What is in a folder, by name; what has none in UTF-8 is left out.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            found.push((name.to_owned(), path));
        }
    }
    found.sort();
    Ok(found)
}

/// A runtime of an image.
struct OfImage {
    name: String,
    shim: Option<ShimOf>,
}

impl OfImage {
    fn language(&self) -> Option<&'static dyn Language> {
        self.shim.map(|shim| -> &'static dyn Language {
            match shim {
                ShimOf::Node => &Node,
                ShimOf::Python => &Python,
                ShimOf::Ruby => &Ruby,
            }
        })
    }
}

impl Language for OfImage {
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    fn known(&self) -> Vec<String> {
        vec![self.name.clone()]
    }

    fn installation_hint(&self, _: &str) -> String {
        "build its image again with `impuls image build --oci` and restart the server".to_owned()
    }

    fn detect(&self, _: &SearchPath) -> Vec<Installed> {
        Vec::new()
    }

    fn contracts(&self) -> &'static [Contract] {
        const PROGRAMS: &[Contract] =
            &[Contract::Command, Contract::Program, Contract::Http, Contract::Bootstrap];
        self.language().map_or(PROGRAMS, Language::contracts)
    }

    fn source_files(&self, contract: Contract, handler: &Handler) -> Vec<String> {
        match self.language() {
            Some(language) => language.source_files(contract, handler),
            None if contract == Contract::Bootstrap => vec!["bootstrap".to_owned()],
            None => vec![self.program(handler)],
        }
    }

    fn program(&self, handler: &Handler) -> String {
        self.language().map_or_else(|| handler.as_str().to_owned(), |language| language.program(handler))
    }

    fn manifests(&self) -> &'static [&'static str] {
        self.language().map(Language::manifests).unwrap_or_default()
    }

    fn lacks(&self, installed: &Installed, source: &Source<'_>) -> Option<String> {
        self.language()?.build(installed, source)?;
        Some(
            "the runtime of an image builds nothing: put packages into the image, or into the archive"
                .to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_shown_around_what_is_ours_and_its_links_are_made_again() {
        let root = tempfile::tempdir().unwrap();
        for folder in
            ["usr/bin", "etc/ssl", "opt/tool", "opt/impuls/lib", "var/lib", "var/task", "dev", "tmp"]
        {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for file in ["etc/passwd", "etc/own.conf", "usr/bin/tool"] {
            fs::write(root.path().join(file), "x").unwrap();
        }
        std::os::unix::fs::symlink("/etc", root.path().join("lib")).unwrap();
        let tree = Tree::of(root.path()).unwrap();
        let guests: Vec<&Path> = tree.mounts.iter().map(|mount| mount.guest.as_path()).collect();
        assert_eq!(guests, ["/etc/own.conf", "/etc/ssl", "/opt/tool", "/usr", "/var/lib"].map(Path::new));
        assert_eq!(tree.links, [(PathBuf::from("/lib"), PathBuf::from("/etc"))]);
    }

    #[test]
    fn a_link_in_the_place_of_a_folder_with_ours_in_it_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        for name in ["etc", "opt", "var", "tmp", "dev", "proc"] {
            std::os::unix::fs::symlink("/usr", root.path().join(name)).unwrap();
        }
        let tree = Tree::of(root.path()).unwrap();
        assert!(tree.mounts.is_empty() && tree.links.is_empty());
    }

    #[test]
    fn an_image_has_the_runtimes_of_its_name() {
        let root = tempfile::tempdir().unwrap();
        let check = |name: &str, shims: &[&str], expected: &[(&str, Contract)]| {
            let shims = shims.iter().map(|&name| (name.to_owned(), ShimOf::Node, "/usr/bin/node".to_owned()));
            let (version, root) = (String::new(), root.path().to_owned());
            let rooted = Rooted { name: name.to_owned(), version, root, shims: shims.collect() };
            let found = rooted.runtimes(&SearchPath::default()).unwrap();
            let found: Vec<(&str, Contract)> = found
                .iter()
                .map(|(language, found)| (found.name.as_str(), language.contracts()[0]))
                .collect();
            assert_eq!(found, expected, "{name}");
        };
        check("nodejs22", &["nodejs22"], &[("nodejs22", Contract::Module)]);
        check("my-tools", &[], &[("my-tools", Contract::Command)]);
        let both = [("nodejs22", Contract::Module), ("my-tools", Contract::Command)];
        check("nodejs22+my-tools", &["nodejs22"], &both);
    }
}
