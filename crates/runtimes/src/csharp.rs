//! C#: source is compiled when it is deployed, together with a shim that asks the Lambda Runtime API for events and calls
//! the handler. There are two implementations of the language: Mono, whose compiler knows C# 7, and the .NET SDK.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use impuls_domain::{Contract, Handler};
use impuls_sandbox::BindMount;

use crate::agent;
use crate::build::{Build, Inputs, Source, WORKPLACE};
use crate::language::{Installed, Language, SearchPath, Toolchain, is_program, output};
use crate::script::place;

/// What both implementations compile with a handler.
const SHIM: [(&str, &str); 2] = [
    ("ImpulsShim.cs", include_str!("../../../guest/shims/csharp/Shim.cs")),
    ("ImpulsLambda.cs", include_str!("../../../guest/shims/csharp/Lambda.cs")),
];
/// JSON for Mono, which has no serializer of its own that would do.
const MONO_JSON: [(&str, &str); 2] = [
    ("ImpulsJson.cs", include_str!("../../../guest/shims/csharp/JsonMono.cs")),
    ("ImpulsJsonElement.cs", include_str!("../../../guest/shims/csharp/JsonElement.cs")),
];
/// JSON for .NET.
const DOTNET_JSON: [(&str, &str); 1] =
    [("ImpulsJson.cs", include_str!("../../../guest/shims/csharp/JsonDotnet.cs"))];
/// The class of the shim where a program begins.
const SHIM_CLASS: &str = "Impuls.Shim";
/// Where builds leave what they make.
const OUTPUT: &str = "/tmp/out";
/// Where the code lies when it runs, and so what stack traces shall say.
const CODE: &str = "/var/task";

/// C# on Mono.
pub struct Mono;

/// The program that Mono's compiler makes.
const MONO_PROGRAM: &str = ".impuls-main.exe";
/// The compiler, below Mono's own folder.
const MONO_COMPILER: &str = "lib/mono/4.5/mcs.exe";
/// The arguments of the compiler, one on a line.
const RESPONSE_FILE: &str = "impuls.rsp";
/// Assemblies beside those that the compiler refers to by itself; used if they are installed.
const MONO_REFERENCES: [&str; 10] = [
    "Microsoft.CSharp",
    "System.ComponentModel.DataAnnotations",
    "System.Data",
    "System.IO.Compression",
    "System.Net.Http",
    "System.Numerics",
    "System.Runtime.Serialization",
    "System.Security",
    "System.Web.Extensions",
    "System.Xml.Linq",
];

impl Language for Mono {
    fn aliases(&self) -> &'static [&'static str] {
        &["mono", "csharp"]
    }

    fn known(&self) -> Vec<String> {
        vec!["mono6".to_owned()]
    }

    fn installation_hint(&self, _: &str) -> String {
        "install Mono with its compiler (Debian packages `mono-runtime` and `mono-mcs`; `libmono-system-net-http4.0-cil` \
         for HttpClient)"
            .to_owned()
    }

    fn detect(&self, search: &SearchPath) -> Vec<Installed> {
        let inspect = |folder: PathBuf| inspect_mono(&folder, search);
        newest_of_each(search.folders().into_iter().filter_map(inspect))
    }

    fn contracts(&self) -> &'static [Contract] {
        &[Contract::Module, Contract::Program, Contract::Http]
    }

    fn source_files(&self, contract: Contract, _: &Handler) -> Vec<String> {
        source_files(contract)
    }

    fn program(&self, _: &Handler) -> String {
        MONO_PROGRAM.to_owned()
    }

    fn serves(&self, contract: Contract) -> &'static str {
        serves(contract)
    }

    fn build(&self, installed: &Installed, source: &Source<'_>) -> Option<Build> {
        let toolchain = installed.toolchain.as_ref()?;
        let is_handler = source.config.contract == Contract::Module;
        let shim = if is_handler { [SHIM, MONO_JSON].concat() } else { Vec::new() };
        let arguments = mono_arguments(source, &shim, &mono_references(&installed.path));
        let mut files = texts(&shim);
        files.insert(RESPONSE_FILE.to_owned(), arguments);
        let mut step = toolchain.program.clone();
        step.push(format!("@{RESPONSE_FILE}"));
        let mut steps = vec![step];
        steps.extend(is_handler.then(|| check(installed, MONO_PROGRAM, &source.config.handler)));
        Some(Build {
            recipe: format!("mono {}", installed.version),
            image: toolchain.image.clone(),
            inputs: Inputs::All,
            files,
            steps,
            environment: environment(&[]),
            output: OUTPUT.to_owned(),
            network: false,
            seed: None,
            hints: Vec::new(),
        })
    }
}

/// C# on .NET.
pub struct Dotnet;

/// What the SDK calls its project and the assembly that it makes.
const DOTNET_NAME: &str = "impuls-main";
/// The versions that clients of the first Impuls name.
const DOTNET_KNOWN: [&str; 2] = ["dotnet7", "dotnet8"];

impl Language for Dotnet {
    fn aliases(&self) -> &'static [&'static str] {
        &["dotnet", "csharp"]
    }

    fn known(&self) -> Vec<String> {
        DOTNET_KNOWN.map(str::to_owned).to_vec()
    }

    fn installation_hint(&self, name: &str) -> String {
        let major = name.strip_prefix("dotnet").filter(|rest| !rest.is_empty()).unwrap_or("8");
        format!(
            "install the .NET SDK {major} (package `dotnet-sdk-{major}.0` of Microsoft or Ubuntu, or the SDK's folder below the \
             toolchains folder with a link `bin/dotnet` to its program); without it the runtime mono6 runs C# 7"
        )
    }

    fn detect(&self, search: &SearchPath) -> Vec<Installed> {
        newest_of_each(search.folders().into_iter().flat_map(|folder| inspect_dotnet(&folder, search)))
    }

    fn contracts(&self) -> &'static [Contract] {
        &[Contract::Module, Contract::Program, Contract::Http]
    }

    fn source_files(&self, contract: Contract, _: &Handler) -> Vec<String> {
        source_files(contract)
    }

    fn program(&self, _: &Handler) -> String {
        format!("{DOTNET_NAME}.dll")
    }

    fn serves(&self, contract: Contract) -> &'static str {
        serves(contract)
    }

    fn build(&self, installed: &Installed, source: &Source<'_>) -> Option<Build> {
        let toolchain = installed.toolchain.as_ref()?;
        let is_handler = source.config.contract == Contract::Module;
        let mut files = if is_handler { texts(&[&SHIM[..], &DOTNET_JSON].concat()) } else { BTreeMap::new() };
        let has = |name: &str| source.files.iter().any(|file| file == name);
        let own = source.files.iter().find(|file| !file.contains('/') && file.ends_with(".csproj"));
        let project = own.cloned().unwrap_or_else(|| format!("{DOTNET_NAME}.csproj"));
        if own.is_none() {
            files.insert(project.clone(), dotnet_project(installed.order.0));
            // Without this the SDK asks nuget.org although there is nothing to ask for.
            let no_sources = "<configuration><packageSources><clear/></packageSources></configuration>\n";
            files.insert("nuget.config".to_owned(), no_sources.to_owned());
        }
        if !has("global.json") {
            // Of several SDKs `dotnet` takes the newest unless it is told otherwise.
            let version = &installed.version;
            files.insert("global.json".to_owned(), format!("{{\"sdk\": {{\"version\": \"{version}\"}}}}\n"));
        }
        let mut steps = vec![dotnet_publish(&toolchain.program, &project, is_handler)];
        steps.extend(
            is_handler.then(|| check(installed, &format!("{DOTNET_NAME}.dll"), &source.config.handler)),
        );
        Some(Build {
            recipe: format!("dotnet {}", installed.version),
            image: toolchain.image.clone(),
            inputs: Inputs::All,
            files,
            steps,
            environment: environment(&DOTNET_ENVIRONMENT),
            output: OUTPUT.to_owned(),
            network: own.is_some(),
            seed: None,
            hints: Vec::new(),
        })
    }
}

/// <https://learn.microsoft.com/en-us/dotnet/core/tools/dotnet-environment-variables>
const DOTNET_ENVIRONMENT: [(&str, &str); 6] = [
    ("DOTNET_CLI_HOME", "/tmp"),
    ("DOTNET_CLI_TELEMETRY_OPTOUT", "1"),
    ("DOTNET_NOLOGO", "1"),
    ("DOTNET_SYSTEM_GLOBALIZATION_INVARIANT", "1"),
    ("MSBUILDDISABLENODEREUSE", "1"),
    ("NUGET_PACKAGES", "/tmp/nuget"),
];

/// <https://learn.microsoft.com/en-us/dotnet/core/tools/dotnet-publish>
fn dotnet_publish(dotnet: &[String], project: &str, is_handler: bool) -> Vec<String> {
    let words = ["publish", project, "-c", "Release", "-o", OUTPUT, "--nologo", "-v", "quiet"];
    let mut properties = vec![
        format!("AssemblyName={DOTNET_NAME}"),
        "OutputType=Exe".to_owned(),
        // It is started by `dotnet` itself.
        "UseAppHost=false".to_owned(),
        format!("PathMap={WORKPLACE}={CODE}"),
    ];
    if is_handler {
        properties.push(format!("StartupObject={SHIM_CLASS}"));
    }
    let properties = properties.into_iter().map(|property| format!("-p:{property}"));
    dotnet.iter().cloned().chain(words.map(str::to_owned)).chain(properties).collect()
}

fn dotnet_project(major: u32) -> String {
    format!(
        "<Project Sdk=\"Microsoft.NET.Sdk\">
  <PropertyGroup>
    <TargetFramework>net{major}.0</TargetFramework>
    <ImplicitUsings>enable</ImplicitUsings>
    <InvariantGlobalization>true</InvariantGlobalization>
    <SatelliteResourceLanguages>en</SatelliteResourceLanguages>
  </PropertyGroup>
</Project>
"
    )
}

/// The folder's own name for what AWS' template calls so too; a whole program's is the SDK's.
fn source_files(contract: Contract) -> Vec<String> {
    let name = if contract == Contract::Module { "Function.cs" } else { "Program.cs" };
    vec![name.to_owned()]
}

const fn serves(contract: Contract) -> &'static str {
    match contract {
        Contract::Module => "bootstrap",
        other => other.as_str(),
    }
}

/// The step that asks what was built whether it has the handler.
fn check(installed: &Installed, program: &str, handler: &Handler) -> Vec<String> {
    let own = [format!("{OUTPUT}/{program}"), "--check".to_owned(), handler.to_string()];
    installed.interpreter.iter().cloned().chain(own).collect()
}

fn texts(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
}

fn environment(further: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = [("HOME", "/tmp"), ("LANG", "C.UTF-8"), ("PATH", "/usr/local/bin:/usr/bin:/bin")];
    texts(&[&own[..], further].concat())
}

fn newest_of_each(all: impl Iterator<Item = Installed>) -> Vec<Installed> {
    let mut found: Vec<Installed> = Vec::new();
    for installed in all {
        match found.iter_mut().find(|other| other.name == installed.name) {
            Some(other) if other.path == installed.path && other.order < installed.order => {
                *other = installed
            }
            Some(_) => {}
            None => found.push(installed),
        }
    }
    found
}

/// What the compiler reads: a line for each argument, in quotes where it is a path.
fn mono_arguments(source: &Source<'_>, shim: &[(&str, &str)], references: &[&str]) -> String {
    let mut lines = vec![
        format!("-out:{OUTPUT}/{MONO_PROGRAM}"),
        "-target:exe".to_owned(),
        "-optimize+".to_owned(),
        // Stack traces have lines.
        "-debug".to_owned(),
        format!("-pathmap:{WORKPLACE}={CODE}"),
    ];
    lines.extend(references.iter().map(|name| format!("-r:{name}")));
    let at_top = |file: &&String| !file.contains('/') && file.ends_with(".dll");
    lines.extend(source.files.iter().filter(at_top).map(|file| format!("-r:\"{file}\"")));
    if !shim.is_empty() {
        lines.push(format!("-main:{SHIM_CLASS}"));
    }
    let own = source.files.iter().filter(|file| is_source(file)).map(String::as_str);
    lines.extend(own.chain(shim.iter().map(|&(name, _)| name)).map(|file| format!("\"{file}\"")));
    lines.join("\n") + "\n"
}

/// Whether this is source, and not what an IDE's own build has left.
fn is_source(file: &str) -> bool {
    file.ends_with(".cs")
        && !file.contains('"')
        && !file.split('/').any(|part| ["bin", "obj"].contains(&part))
}

/// The folder that Mono's programs and libraries are in.
fn mono_root(program: &Path) -> Option<&Path> {
    program.parent()?.parent()
}

fn mono_references(program: &Path) -> Vec<&'static str> {
    let Some(folder) = mono_root(program).map(|root| root.join("lib/mono/4.5")) else { return Vec::new() };
    MONO_REFERENCES.into_iter().filter(|name| folder.join(format!("{name}.dll")).is_file()).collect()
}

/// Where a sandbox sees a program that is nothing without the files beside it: one of the system's, or of an operator's
/// toolchain.
fn shown(path: &Path, folder: &Path, search: &SearchPath, name: &str) -> Option<(PathBuf, Vec<BindMount>)> {
    let toolchain = search.toolchain_of(folder);
    let is_whole = path.starts_with("/usr") || toolchain.as_ref().is_some_and(|root| path.starts_with(root));
    is_whole.then(|| place(path, toolchain.as_deref(), name))
}

fn inspect_mono(folder: &Path, search: &SearchPath) -> Option<Installed> {
    let path = folder.join("mono").canonicalize().ok().filter(|path| is_program(path))?;
    if !mono_root(&path)?.join(MONO_COMPILER).is_file() {
        return None;
    }
    // `Mono JIT compiler version 6.8.0.105 (Debian …)`
    let answer = output(&path, &["--version"])?;
    let version = answer.split_once("version ")?.1.split_whitespace().next()?.to_owned();
    let order = numbers(&version)?;
    let (guest, mounts) = shown(&path, folder, search, "mono")?;
    let name = format!("mono{}", order.0).parse().ok()?;
    let image = Arc::new(agent::system(&name, &search.agent, mounts));
    let compiler = mono_root(&guest)?.join(MONO_COMPILER);
    // What knows lines costs a few milliseconds at the start.
    let interpreter = vec![guest.to_string_lossy().into_owned(), "--debug".to_owned()];
    let program = [&guest, &compiler].map(|path| path.to_string_lossy().into_owned()).to_vec();
    Some(Installed {
        name,
        order,
        version,
        path,
        image: image.clone(),
        agent_image: image.clone(),
        interpreter,
        toolchain: Some(Toolchain { image, program }),
    })
}

fn inspect_dotnet(folder: &Path, search: &SearchPath) -> Vec<Installed> {
    let Some(path) = folder.join("dotnet").canonicalize().ok().filter(|path| is_program(path)) else {
        return Vec::new();
    };
    let Some((guest, mounts)) = shown(&path, folder, search, "dotnet") else { return Vec::new() };
    // `8.0.404 [/usr/share/dotnet/sdk]`
    let answer = output(&path, &["--list-sdks"]).unwrap_or_default();
    let sdk = |line: &str| {
        let version = line.split_whitespace().next()?.to_owned();
        let (major, _) = numbers(&version)?;
        let patch = version.split('.').nth(2)?.split('-').next()?.parse().ok()?;
        let name = format!("dotnet{major}").parse().ok()?;
        let image = Arc::new(agent::system(&name, &search.agent, mounts.clone()));
        let program = vec![guest.to_string_lossy().into_owned()];
        Some(Installed {
            name,
            order: (major, patch),
            version,
            path: path.clone(),
            image: image.clone(),
            agent_image: image.clone(),
            interpreter: program.clone(),
            toolchain: Some(Toolchain { image, program }),
        })
    };
    answer.lines().filter_map(sdk).collect()
}

/// The first two numbers of a version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests;
