//! TypeScript: types are stripped when it is deployed, and Node runs what is left.

use impuls_domain::{Contract, Handler};

use crate::build::{Build, Source};
use crate::language::{Installed, Language, SearchPath, source_stem};
use crate::node::Node;
use crate::npm;

/// The language, in every version of Node that is installed.
pub struct TypeScript;

impl Language for TypeScript {
    fn aliases(&self) -> &'static [&'static str] {
        &["typescript", "ts"]
    }

    fn known(&self) -> Vec<String> {
        Node.known().iter().map(|name| version_name(name)).collect()
    }

    fn installation_hint(&self, name: &str) -> String {
        Node.installation_hint(name.trim_end_matches(SUFFIX))
    }

    fn detect(&self, search: &SearchPath) -> Vec<Installed> {
        let found = Node.detect(search).into_iter();
        let named = |installed: Installed| {
            let name = version_name(installed.name.as_str()).parse().ok()?;
            // Programs, which no shim tells to read source maps.
            let interpreter = installed.interpreter.into_iter().chain([SOURCE_MAPS.to_owned()]).collect();
            Some(Installed { name, interpreter, ..installed })
        };
        found.filter_map(named).collect()
    }

    fn contracts(&self) -> &'static [Contract] {
        Node.contracts()
    }

    fn source_files(&self, contract: Contract, handler: &Handler) -> Vec<String> {
        vec![format!("{}.ts", source_stem(contract, handler))]
    }

    fn program(&self, handler: &Handler) -> String {
        Node.program(handler)
    }

    fn manifests(&self) -> &'static [&'static str] {
        npm::MANIFESTS
    }

    fn lacks(&self, installed: &Installed, source: &Source<'_>) -> Option<String> {
        npm::lacks(installed, source)
    }

    fn build(&self, installed: &Installed, source: &Source<'_>) -> Option<Build> {
        npm::build(installed, source, true)
    }
}

const SUFFIX: &str = "-ts";
const SOURCE_MAPS: &str = "--enable-source-maps";

fn version_name(node: &str) -> String {
    format!("{node}{SUFFIX}")
}
