use super::*;
use crate::build::tests::{installed, plan};

fn on_mono(contract: Contract, files: &[(&str, &str)]) -> Build {
    let mono = installed(
        "mono6",
        (6, 8),
        &["/usr/bin/mono", "--debug"],
        &["/usr/bin/mono", "/usr/lib/mono/4.5/mcs.exe"],
    );
    plan(&Mono, &mono, contract, files)
}

fn on_dotnet(contract: Contract, files: &[(&str, &str)]) -> Build {
    plan(
        &Dotnet,
        &installed("dotnet8", (8, 404), &["/usr/bin/dotnet"], &["/usr/bin/dotnet"]),
        contract,
        files,
    )
}

#[test]
fn the_shim_is_complete() {
    let texts = [&SHIM[..], &MONO_JSON, &DOTNET_JSON].concat().into_iter().map(|(_, text)| text);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest/shims/csharp");
    let mut present: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let mut listed: Vec<String> = texts.map(str::to_owned).collect();
    present.sort();
    listed.sort();
    assert_eq!(present, listed);
}

#[test]
fn mono_compiles_a_handler_with_the_shim() {
    let build = on_mono(
        Contract::Module,
        &[
            ("Function.cs", ""),
            ("a b/C.cs", ""),
            ("obj/Debug/X.cs", ""),
            ("lib.dll", ""),
            ("deep/lib.dll", ""),
        ],
    );
    let words = |step: usize| build.steps[step].join(" ");
    assert_eq!(words(0), "/usr/bin/mono /usr/lib/mono/4.5/mcs.exe @impuls.rsp");
    assert_eq!(words(1), "/usr/bin/mono --debug /tmp/out/.impuls-main.exe --check app.handler");
    let arguments: Vec<&str> = build.files[RESPONSE_FILE].lines().collect();
    for expected in
        ["-main:Impuls.Shim", "\"Function.cs\"", "\"a b/C.cs\"", "\"ImpulsShim.cs\"", "-r:\"lib.dll\""]
    {
        assert!(arguments.contains(&expected), "{expected} in {arguments:?}");
    }
    assert!(!arguments.iter().any(|line| line.contains("obj/") || line.contains("deep/")), "{arguments:?}");
    assert!(build.files.contains_key("ImpulsJsonElement.cs") && !build.network);
}

#[test]
fn a_whole_program_is_compiled_alone() {
    for contract in [Contract::Program, Contract::Http] {
        let build = on_mono(contract, &[("Program.cs", "")]);
        assert_eq!(build.files.keys().collect::<Vec<_>>(), [RESPONSE_FILE]);
        assert!(!build.files[RESPONSE_FILE].contains("Impuls"), "{}", build.files[RESPONSE_FILE]);
        let build = on_dotnet(contract, &[("Program.cs", "")]);
        assert_eq!(
            build.files.keys().collect::<Vec<_>>(),
            ["global.json", "impuls-main.csproj", "nuget.config"]
        );
        assert!(!build.steps[0].iter().any(|word| word.contains("StartupObject")));
    }
    assert_eq!((Mono.serves(Contract::Module), Mono.serves(Contract::Http)), ("bootstrap", "http"));
}

#[test]
fn dotnet_publishes_a_project_of_its_own_without_a_network() {
    let build = on_dotnet(Contract::Module, &[("Function.cs", "")]);
    let command = build.steps[0].join(" ");
    assert!(
        command.starts_with("/usr/bin/dotnet publish impuls-main.csproj -c Release -o /tmp/out "),
        "{command}"
    );
    assert!(
        command.contains("-p:StartupObject=Impuls.Shim") && command.contains("-p:UseAppHost=false"),
        "{command}"
    );
    assert!(build.files["impuls-main.csproj"].contains("<TargetFramework>net8.0</TargetFramework>"));
    assert!(build.files["global.json"].contains("\"version\": \"1.2.3\""));
    assert!(build.files["nuget.config"].contains("<clear/>"));
    assert!(build.files.contains_key("ImpulsShim.cs") && !build.files.contains_key("ImpulsJsonElement.cs"));
    assert!(!build.network);
}

#[test]
fn a_project_of_the_source_is_kept_and_may_fetch_packages() {
    let files = [("My.csproj", "<Project/>"), ("global.json", "{}"), ("tests/T.csproj", ""), ("F.cs", "")];
    let build = on_dotnet(Contract::Module, &files);
    assert_eq!(build.steps[0][2], "My.csproj");
    assert!(!build.files.contains_key("global.json") && !build.files.contains_key("nuget.config"));
    assert!(build.network);
}

#[test]
fn an_absent_sdk_is_named_with_its_package() {
    assert!(Dotnet.installation_hint("dotnet7").contains("dotnet-sdk-7.0"));
    assert!(Dotnet.installation_hint("csharp").contains("dotnet-sdk-8.0"));
    assert!(Mono.installation_hint("mono6").contains("mono-mcs"));
}

#[test]
fn of_two_sdks_of_one_version_the_newer_is_taken() {
    let with = |patch| installed("dotnet8", (8, patch), &[], &[]);
    let found = newest_of_each([with(100), with(404), with(200)].into_iter());
    assert_eq!(found.iter().map(|one| one.order).collect::<Vec<_>>(), [(8, 404)]);
}
