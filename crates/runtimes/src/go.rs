//! Go: source is compiled when it is deployed, and its sandboxes hold nothing but the program that came out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use impuls_domain::{Contract, Handler, RuntimeName};

use crate::agent;
use crate::build::{Build, Hint, Inputs, Seed, Source};
use crate::language::{Installed, Language, SearchPath, Toolchain, is_program, output};
use crate::script::place;

/// What turns a package with a handler into a program.
const SHIM: &str = include_str!("../../../guest/shims/go/shim.go");
/// The program that comes out of a build, among the code's files.
const PROGRAM: &str = ".impuls-main";
/// Where builds leave it.
const OUTPUT: &str = "/tmp/out";
/// Where builds find the compiled standard library.
const CACHE: &str = "/opt/impuls/go-build";
/// Where the build that compiles the standard library leaves it.
const SEED_OUTPUT: &str = "/tmp/go-build";
/// The packages of the standard library that functions use, which pull in nearly all others.
const STANDARD_LIBRARY: [&str; 12] = [
    "archive/zip",
    "crypto/...",
    "database/sql",
    "encoding/...",
    "html/template",
    "log/...",
    "math/...",
    "net/...",
    "os/...",
    "strings",
    "time",
    "unicode/...",
];

/// The language.
pub struct Go;

impl Language for Go {
    fn aliases(&self) -> &'static [&'static str] {
        &["go", "golang"]
    }

    fn known(&self) -> Vec<String> {
        Vec::new()
    }

    fn installation_hint(&self, _: &str) -> String {
        "install Go (Debian package `golang-go`, or the folder of an official release below the toolchains folder)"
            .to_owned()
    }

    fn detect(&self, search: &SearchPath) -> Vec<Installed> {
        let mut found: Vec<Installed> = Vec::new();
        for folder in search.folders() {
            let path = folder.join("go").canonicalize().ok().filter(|path| is_program(path));
            let Some(installed) = path.and_then(|path| inspect(path, search)) else { continue };
            if found.iter().all(|other| other.name != installed.name) {
                found.push(installed);
            }
        }
        found
    }

    fn contracts(&self) -> &'static [Contract] {
        &[Contract::Module, Contract::Program, Contract::Bootstrap, Contract::Http]
    }

    fn source_files(&self, _: Contract, _: &Handler) -> Vec<String> {
        vec!["main.go".to_owned()]
    }

    fn program(&self, _: &Handler) -> String {
        PROGRAM.to_owned()
    }

    fn serves(&self, contract: Contract) -> &'static str {
        match contract {
            Contract::Module => "native",
            other => other.as_str(),
        }
    }

    fn manifests(&self) -> &'static [&'static str] {
        &["go.mod"]
    }

    fn build(&self, installed: &Installed, source: &Source<'_>) -> Option<Build> {
        let toolchain = installed.toolchain.as_ref()?;
        let mut files = BTreeMap::new();
        let module = source.manifests.get("go.mod");
        if module.is_none() {
            files.insert("go.mod".to_owned(), format!("module function\n\ngo {}\n", language(installed)));
        }
        if source.config.contract == Contract::Module {
            let handler = source.config.handler.as_str();
            let name = handler.rsplit(['.', ':']).next().unwrap_or(handler);
            files.insert("impuls_shim.go".to_owned(), SHIM.to_owned());
            files.insert(
                "impuls_handler.go".to_owned(),
                format!("package main\n\nvar impulsHandler any = {name}\n"),
            );
        }
        let is_vendored = source.files.iter().any(|file| file == "vendor/modules.txt");
        let network = !is_vendored && module.is_some_and(|text| text.contains("require"));
        let program = if source.config.contract == Contract::Bootstrap { "bootstrap" } else { PROGRAM };
        let output = format!("{OUTPUT}/{program}");
        let words = ["build", "-trimpath", "-ldflags=-s -w", "-o", &output, "."].map(str::to_owned);
        Some(Build {
            recipe: format!("go {}", installed.version),
            image: toolchain.image.clone(),
            inputs: Inputs::All,
            files,
            steps: vec![toolchain.program.iter().cloned().chain(words).collect()],
            environment: environment(CACHE, !is_vendored),
            output: OUTPUT.to_owned(),
            network,
            seed: Some(seed(installed, toolchain)),
            hints: hints(source.config.handler.as_str()),
        })
    }
}

/// What the compiler says of the files that this language adds.
fn hints(handler: &str) -> Vec<Hint> {
    let hint = |sign: &str, meaning: String| Hint { sign: sign.to_owned(), meaning };
    vec![
        hint(
            "main redeclared in this block",
            "the code is a whole program, with a main of its own: deploy it with the contract `program`, or with \
             `bootstrap` if it uses a client of AWS Lambda, `http` if it listens on $PORT"
                .to_owned(),
        ),
        hint(
            "impuls_handler.go",
            format!("handler {handler:?} names a function that the code's package main does not have"),
        ),
    ]
}

/// The version of the language, as `go.mod` names it: the first two numbers.
fn language(installed: &Installed) -> String {
    let (major, minor) = installed.order;
    format!("{major}.{minor}")
}

fn environment(cache: &str, resolves: bool) -> BTreeMap<String, String> {
    let flags = if resolves { "-mod=mod -modcacherw -buildvcs=false" } else { "-modcacherw -buildvcs=false" };
    let variables = [
        ("GOCACHE", cache),
        ("GOPATH", "/tmp/go"),
        ("GOFLAGS", flags),
        // Nothing of another machine's, and never another toolchain than the one that is here.
        ("CGO_ENABLED", "0"),
        ("GOTOOLCHAIN", "local"),
        ("GOTELEMETRY", "off"),
        ("GOENV", "off"),
        ("HOME", "/tmp"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ];
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// The standard library, compiled: most of the time that a small function's first build would take.
fn seed(installed: &Installed, toolchain: &Toolchain) -> Seed {
    let words = ["build", "-trimpath"].into_iter().chain(STANDARD_LIBRARY).map(str::to_owned);
    let build = Build {
        recipe: String::new(),
        image: toolchain.image.clone(),
        inputs: Inputs::All,
        files: BTreeMap::from([(
            "go.mod".to_owned(),
            format!("module seed\n\ngo {}\n", language(installed)),
        )]),
        steps: vec![toolchain.program.iter().cloned().chain(words).collect()],
        environment: environment(SEED_OUTPUT, true),
        output: SEED_OUTPUT.to_owned(),
        network: false,
        seed: None,
        hints: Vec::new(),
    };
    let name = format!("go-{}", installed.version);
    let without = BTreeMap::from([("GOCACHE".to_owned(), SEED_OUTPUT.to_owned())]);
    Seed { name, guest: PathBuf::from(CACHE), without, build: Box::new(build) }
}

fn inspect(path: PathBuf, search: &SearchPath) -> Option<Installed> {
    // `go version go1.26.8 linux/amd64`
    let answer = output(&path, &["version"])?;
    let version = answer.split_whitespace().nth(2)?.strip_prefix("go")?.to_owned();
    let mut parts = version.split('.');
    let number =
        |part: Option<&str>| part?.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    let (major, minor): (u32, u32) = (number(parts.next())?, number(parts.next())?);
    let name: RuntimeName = format!("go{major}{minor}").parse().ok()?;
    // Programs, libraries and sources lie in one folder, beside `bin`.
    let root = path.parent()?.parent()?;
    let (guest, further) = place(&path, Some(root), "go");
    let image = Arc::new(agent::bare(&name, &search.agent));
    let build_name: RuntimeName = format!("{name}-build").parse().ok()?;
    let build_image = agent::system(&build_name, &search.agent, further);
    Some(Installed {
        name,
        order: (major, minor),
        version,
        image: image.clone(),
        agent_image: image,
        interpreter: Vec::new(),
        toolchain: Some(Toolchain {
            image: Arc::new(build_image),
            program: vec![guest.to_string_lossy().into_owned()],
        }),
        path,
    })
}
