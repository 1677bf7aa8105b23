//! Ruby.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use impuls_domain::{Contract, Handler, RuntimeName, limits};
use impuls_sandbox::{BindMount, RuntimeImage, StartMethod};

use crate::agent;
use crate::closure;
use crate::guest::Shim;
use crate::language::{Installed, Language, SearchPath, is_program, output, source_stem};

/// Versions that can be asked for by name.
const KNOWN: [(u32, u32); 6] = [(2, 7), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)];
/// The oldest version that the shim runs on.
const OLDEST: (u32, u32) = (2, 7);
const GUEST_SHIM: &str = "/opt/impuls/ruby/shim.rb";
/// The shim's files, as they lie in its folder.
const FILES: &[(&str, &str)] = &[
    ("describe.rb", include_str!("../../../guest/shims/ruby/describe.rb")),
    ("load.rb", include_str!("../../../guest/shims/ruby/load.rb")),
    ("output.rb", include_str!("../../../guest/shims/ruby/output.rb")),
    ("rehearse.rb", include_str!("../../../guest/shims/ruby/rehearse.rb")),
    ("server.rb", include_str!("../../../guest/shims/ruby/server.rb")),
    ("shim.rb", include_str!("../../../guest/shims/ruby/shim.rb")),
    ("slots.rb", include_str!("../../../guest/shims/ruby/slots.rb")),
    ("warm.rb", include_str!("../../../guest/shims/ruby/warm.rb")),
];

/// The reference implementation of Ruby.
pub struct Ruby;

impl Language for Ruby {
    fn aliases(&self) -> &'static [&'static str] {
        &["ruby"]
    }

    fn known(&self) -> Vec<String> {
        KNOWN.iter().map(|version| version_name(*version)).collect()
    }

    fn installation_hint(&self, name: &str) -> String {
        let known = KNOWN.iter().find(|version| version_name(**version) == name);
        known.map_or_else(
            || "install Ruby (Debian package `ruby`)".to_owned(),
            |(major, minor)| {
                format!(
                    "install Ruby {major}.{minor} (Debian package `ruby{major}.{minor}`, or `rbenv install {major}.{minor}`) and put `ruby` on PATH"
                )
            },
        )
    }

    fn detect(&self, search: &SearchPath) -> Vec<Installed> {
        let mut names = vec!["ruby".to_owned()];
        names.extend(KNOWN.iter().map(|(major, minor)| format!("ruby{major}.{minor}")));
        let folders = search.folders().into_iter().chain(managed_folders(search));
        let paths =
            folders.flat_map(|folder| names.iter().map(move |name| folder.join(name)).collect::<Vec<_>>());
        let mut seen = BTreeSet::new();
        let mut found: Vec<Installed> = Vec::new();
        for path in paths.filter_map(|path| path.canonicalize().ok()) {
            if !seen.insert(path.clone()) || !is_program(&path) {
                continue;
            }
            let Some(installed) = inspect(&path, &search.agent) else { continue };
            if found.iter().all(|other| other.name != installed.name) {
                found.push(installed);
            }
        }
        found
    }

    fn contracts(&self) -> &'static [Contract] {
        &[Contract::Module, Contract::Program, Contract::Http]
    }

    fn source_files(&self, contract: Contract, handler: &Handler) -> Vec<String> {
        let stem = source_stem(contract, handler);
        let stem = if contract.needs_shim() { without_constant(stem) } else { stem };
        vec![format!("{stem}.rb")]
    }

    fn program(&self, handler: &Handler) -> String {
        format!("{}.rb", source_stem(Contract::Program, handler))
    }
}

fn version_name((major, minor): (u32, u32)) -> String {
    format!("ruby{major}{minor}")
}

/// The file of a handler's part before the method, which may go on with a class or module: `app.Shop::Api`.
fn without_constant(stem: &str) -> &str {
    let is_constant = |text: &str| {
        text.split("::").all(|name| {
            name.starts_with(|c: char| c.is_ascii_uppercase())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
    };
    match stem.rsplit_once('.') {
        Some((file, constant)) if is_constant(constant) => file,
        None if stem.contains("::") && is_constant(stem) => "index",
        _ => stem,
    }
}

/// Where rbenv keeps interpreters.
fn managed_folders(search: &SearchPath) -> Vec<PathBuf> {
    let versions = search.home.iter().filter_map(|home| std::fs::read_dir(home.join(".rbenv/versions")).ok());
    let mut folders: Vec<PathBuf> =
        versions.flatten().flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders
}

/// Asks an interpreter what it is and where its library lies: its own part, what a distribution adds (Debian keeps
/// RubyGems there), and the gems that come with it.
const QUESTION: &str = "c = RbConfig::CONFIG; puts RUBY_ENGINE, RUBY_VERSION, c['prefix'], \
    c['rubylibdir'], c['rubyarchdir'], c['vendordir'], c['vendorarchdir'], \
    File.join(c['rubylibprefix'], 'gems', c['ruby_version'])";

/// What an interpreter says of itself.
struct Answer {
    version: String,
    prefix: PathBuf,
    /// Only folders that exist; none lies in another.
    folders: Vec<PathBuf>,
}

impl Answer {
    fn of(path: &Path) -> Option<Self> {
        let answer = output(path, &["--disable=gems", "-rrbconfig", "-e", QUESTION])?;
        let mut lines = answer.lines();
        let (engine, version, prefix) = (lines.next()?, lines.next()?.to_owned(), lines.next()?);
        let mut folders: Vec<PathBuf> = Vec::new();
        for folder in lines.map(PathBuf::from).filter(|folder| folder.is_dir()).collect::<BTreeSet<_>>() {
            if !folders.iter().any(|outer| folder.starts_with(outer)) {
                folders.push(folder);
            }
        }
        (engine == "ruby").then(|| Self { version, prefix: PathBuf::from(prefix), folders })
    }

    fn major_and_minor(&self) -> Option<(u32, u32)> {
        let mut numbers = self.version.split('.').map(|part| part.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    }
}

fn inspect(path: &Path, agent: &Path) -> Option<Installed> {
    let answer = Answer::of(path)?;
    let order = answer.major_and_minor().filter(|order| *order >= OLDEST)?;
    let name: RuntimeName = version_name(order).parse().ok()?;
    let own = mounts(path, &answer);
    // Programs see all of the machine's own, so that they can start others; only what lies elsewhere is added.
    let elsewhere = own.iter().filter(|mount| !mount.guest.starts_with("/usr") && !is_linked(&mount.guest));
    let agent_image = Arc::new(agent::system(&name, agent, elsewhere.cloned().collect()));
    let image = Arc::new(image(&name, path, own));
    let interpreter = vec![path.to_string_lossy().into_owned()];
    let path = path.to_owned();
    let (version, toolchain) = (answer.version, None);
    Some(Installed { name, order, version, path, image, agent_image, interpreter, toolchain })
}

/// Whether this lies in one of the system's folders beside `/usr`.
fn is_linked(path: &Path) -> bool {
    ["/bin", "/lib", "/lib64"].iter().any(|folder| path.starts_with(folder))
}

/// The interpreter, its library and all that both load. Unlike others, Ruby is told where its library lies when it is
/// built: everything is shown at its own place.
fn mounts(path: &Path, answer: &Answer) -> Vec<BindMount> {
    let at_own_place = |path: &Path| BindMount { host: path.to_owned(), guest: path.to_owned() };
    let mut binaries = vec![path.to_owned()];
    answer.folders.iter().for_each(|folder| extensions(folder, &mut binaries));
    let mut mounts = closure::libraries(&binaries);
    // An interpreter that may be moved looks for its library from where its own shared object lies.
    let moved = mounts
        .iter()
        .filter(|mount| !answer.prefix.starts_with("/usr") && mount.host.starts_with(&answer.prefix));
    let moved: Vec<BindMount> = moved
        .filter_map(|mount| {
            let guest = mount.host.with_file_name(mount.guest.file_name()?);
            Some(BindMount { host: mount.host.clone(), guest })
        })
        .collect();
    mounts.extend(moved);
    mounts.push(at_own_place(path));
    mounts.extend(answer.folders.iter().map(|folder| at_own_place(folder)));
    mounts
}

/// Adds every extension below a folder.
fn extensions(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "so") {
                found.push(path);
            }
        }
    }
}

fn image(name: &RuntimeName, path: &Path, mut mounts: Vec<BindMount>) -> RuntimeImage {
    mounts.extend(closure::shared_data());
    let Shim { files, argv, steered_argv, warm_argument } = shim(&path.to_string_lossy());
    RuntimeImage {
        name: name.clone(),
        mounts,
        links: closure::root_links().into_iter().chain([closure::certificates_link()]).collect(),
        files,
        steered_argv,
        argv,
        warm_argument,
        start: StartMethod::Exec,
        tmp_mib: limits::TMP_MIB,
        idle_memory_mib: 10,
    }
}

/// The shim for the interpreter at this path.
pub(crate) fn shim(interpreter: &str) -> Shim {
    let argv = [interpreter, GUEST_SHIM].map(str::to_owned).to_vec();
    let files = FILES.iter().map(|(name, text)| (Path::new(GUEST_SHIM).with_file_name(name), *text));
    Shim { files: files.collect(), steered_argv: argv.clone(), argv, warm_argument: "--warm" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_shim_is_taken_along() {
        crate::language::assert_complete(
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest/shims/ruby"),
            FILES,
        );
    }

    #[test]
    fn the_handler_names_the_file() {
        let check = |contract: Contract, handler: &str, expected: &str| {
            let handler: Handler = handler.parse().unwrap();
            assert_eq!(Ruby.source_files(contract, &handler), [expected], "{handler}");
        };
        check(Contract::Module, "handler", "index.rb");
        check(Contract::Module, "src/app.run", "src/app.rb");
        check(Contract::Module, "app.Shop::Api.call", "app.rb");
        check(Contract::Module, "app.Main.call", "app.rb");
        check(Contract::Module, "Shop::Api.call", "index.rb");
        check(Contract::Module, "App.call", "App.rb");
        check(Contract::Module, "app.v2.call", "app.v2.rb");
        check(Contract::Program, "main.rb", "main.rb");
        check(Contract::Program, "run", "main.rb");
    }

    #[test]
    fn a_known_version_has_a_name_and_a_hint() {
        assert_eq!(Ruby.known()[..2], ["ruby27", "ruby30"]);
        assert!(Ruby.installation_hint("ruby33").contains("Ruby 3.3"));
        assert!(Ruby.installation_hint("ruby").contains("Debian package `ruby`"));
    }
}
