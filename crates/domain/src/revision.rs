//! What one deploy fixed for ever: code and settings.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;

use crate::built::Built;
use crate::digest::ArtifactDigest;
use crate::id::{FunctionId, RevisionId};
use crate::limits::Limits;
use crate::name::RuntimeName;
use crate::network::NetworkPolicy;

/// The most bytes that all names and values of an environment may have together.
pub const ENVIRONMENT_LIMIT: usize = 64 * 1024;
/// The most characters of a handler.
pub const HANDLER_LIMIT: usize = 255;

/// How code of a runtime is shaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Contract {
    /// A module that exports the handler: `(event, context)` to a JSON value.
    #[default]
    Module,
    /// Source that defines the handler without exporting it.
    Scoped,
    /// A whole program, run once for each call: the event on its standard input, the result on its standard output.
    Program,
    /// A command line, run once for each call as a program is.
    Command,
    /// An executable `bootstrap` that asks the AWS Lambda Runtime API for events.
    Bootstrap,
    /// A program that listens on `$PORT` and answers HTTP requests.
    Http,
}

impl Contract {
    /// Every contract.
    pub const ALL: [Self; 6] =
        [Self::Module, Self::Scoped, Self::Program, Self::Command, Self::Bootstrap, Self::Http];

    /// The name on the wire and in storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Scoped => "scoped",
            Self::Program => "program",
            Self::Command => "command",
            Self::Bootstrap => "bootstrap",
            Self::Http => "http",
        }
    }

    /// Whether the language's own shim loads the code; otherwise the agent runs it as processes of their own.
    #[must_use]
    pub const fn needs_shim(self) -> bool {
        match self {
            Self::Module | Self::Scoped => true,
            Self::Program | Self::Command | Self::Bootstrap | Self::Http => false,
        }
    }

    /// The contract of a stored name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contract| contract.as_str() == name)
    }
}

/// Which isolation technology a function asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DriverChoice {
    /// The one that the server has for every function.
    #[default]
    Auto,
    /// Linux namespaces.
    Process,
    /// A container of an OCI runtime.
    Container,
}

impl DriverChoice {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Process, Self::Container];

    /// The name on the wire and in storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Process => "process",
            Self::Container => "container",
        }
    }

    /// The choice of a stored name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.as_str() == name)
    }
}

/// Which function of the code is called: `file.function` or `function`; 1 to 255 characters of
/// `[A-Za-z0-9_$/.:-]`, no `..`, not absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler(String);

/// Why a text is no handler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// Too short or too long.
    #[error("handler has {0} characters; 1 to 255 are allowed")]
    Length(usize),
    /// A character that no handler may hold.
    #[error("handler contains {0:?}; write it as `file.function`, for example `index.handler`")]
    Character(char),
    /// A part of it is empty or leads out of the code's folder.
    #[error(
        "handler has an empty part or starts with `/`; write it as `file.function`, for example `index.handler`"
    )]
    Part,
}

impl Handler {
    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the last dot, a path relative to the code's folder without extension; `None` when there
    /// is only a function.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.0.rsplit_once('.').map(|(file, _)| file)
    }
}

impl FromStr for Handler {
    type Err = HandlerError;
    fn from_str(s: &str) -> Result<Self, HandlerError> {
        if !(1..=HANDLER_LIMIT).contains(&s.len()) {
            return Err(HandlerError::Length(s.chars().count()));
        }
        if let Some(c) = s.chars().find(|c| !c.is_ascii_alphanumeric() && !"_$/.:-".contains(*c)) {
            return Err(HandlerError::Character(c));
        }
        if s.split(['.', '/']).any(str::is_empty) {
            return Err(HandlerError::Part);
        }
        Ok(Self(s.to_owned()))
    }
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A function's own environment variables, checked: names `[A-Za-z_][A-Za-z0-9_]*` that do not begin with
/// `IMPULS_`, values without NUL, at most [`ENVIRONMENT_LIMIT`] bytes together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

/// Why variables are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// Not a name of a variable.
    #[error("environment variable {0:?} is not a name: a letter or `_`, then letters, digits and `_`")]
    Name(String),
    /// A name that Impuls keeps for itself.
    #[error("environment variable {0:?}: names that begin with `IMPULS_` are Impuls' own")]
    Reserved(String),
    /// A value that no process can be given.
    #[error("environment variable {0:?} has a NUL character in its value")]
    Nul(String),
    /// Too much in all.
    #[error("environment has {0} bytes; at most 65536 are allowed")]
    Size(usize),
}

impl Environment {
    /// Checks the variables.
    pub fn new(variables: BTreeMap<String, String>) -> Result<Self, EnvironmentError> {
        for (name, value) in &variables {
            let mut bytes = name.bytes();
            let starts = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
            if !starts || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(EnvironmentError::Name(name.clone()));
            }
            if name.starts_with("IMPULS_") {
                return Err(EnvironmentError::Reserved(name.clone()));
            }
            if value.contains('\0') {
                return Err(EnvironmentError::Nul(name.clone()));
            }
        }
        let size = variables.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > ENVIRONMENT_LIMIT {
            return Err(EnvironmentError::Size(size));
        }
        Ok(Self(variables))
    }

    /// The variables.
    #[must_use]
    pub const fn variables(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Whether a variable steers the interpreter or the loader itself, so that the process must be started with
    /// it and no prewarmed one will do.
    #[must_use]
    pub fn steers_the_interpreter(&self) -> bool {
        let families = ["NODE_", "PYTHON", "RUBY", "LD_"];
        let steers =
            |name: &String| name != "NODE_ENV" && families.iter().any(|begin| name.starts_with(begin));
        self.0.keys().any(steers)
    }
}

/// The most labels of a function.
pub const METADATA_ENTRIES: usize = 64;
/// The most bytes that all names and values of a function's labels may have together.
pub const METADATA_LIMIT: usize = 4 * 1024;

/// Free labels that the owner gives a function, checked: at most [`METADATA_ENTRIES`], at most [`METADATA_LIMIT`]
/// bytes together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, String>);

/// Why labels are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Too many.
    #[error("metadata has {0} entries; at most 64 are allowed")]
    Entries(usize),
    /// Too long in all.
    #[error("metadata has {0} bytes; at most 4096 are allowed")]
    Size(usize),
}

impl Metadata {
    /// Checks the labels.
    pub fn new(labels: BTreeMap<String, String>) -> Result<Self, MetadataError> {
        if labels.len() > METADATA_ENTRIES {
            return Err(MetadataError::Entries(labels.len()));
        }
        let size = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > METADATA_LIMIT {
            return Err(MetadataError::Size(size));
        }
        Ok(Self(labels))
    }

    /// The labels.
    #[must_use]
    pub const fn labels(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

/// The most bytes that all words of a command line may have together.
pub const COMMAND_LIMIT: usize = 32 * 1024;

/// The command line of a function with the contract `command` or `http`, checked: words without NUL, at most
/// [`COMMAND_LIMIT`] bytes together. Empty where the language or the code says what to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine(Vec<String>);

/// Why a command line is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    /// No program to run.
    #[error("command begins with an empty word; its first word is the program to run")]
    Program,
    /// A word that no process can be given.
    #[error("command has a NUL character in word {0}")]
    Nul(usize),
    /// Too long in all.
    #[error("command has {0} bytes; at most 32768 are allowed")]
    Size(usize),
}

impl CommandLine {
    /// Checks the words.
    pub fn new(words: Vec<String>) -> Result<Self, CommandLineError> {
        if words.first().is_some_and(String::is_empty) {
            return Err(CommandLineError::Program);
        }
        if let Some(at) = words.iter().position(|word| word.contains('\0')) {
            return Err(CommandLineError::Nul(at));
        }
        let size = words.iter().map(String::len).sum();
        if size > COMMAND_LIMIT {
            return Err(CommandLineError::Size(size));
        }
        Ok(Self(words))
    }

    /// The words, the program first.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

/// How an artifact's bytes become files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CodeLayout {
    /// The bytes are the source of one file, whose name the runtime derives from the handler.
    SingleFile,
    /// The bytes are a ZIP archive.
    Zip,
}

impl CodeLayout {
    /// The name in storage.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::SingleFile => "single-file",
            Self::Zip => "zip",
        }
    }

    /// The layout of a stored name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::SingleFile, Self::Zip].into_iter().find(|layout| layout.as_str() == name)
    }
}

/// Everything a deploy decides besides the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionConfig {
    /// The language and its version, by its version name, as resolved at deploy (`nodejs20`, never `nodejs`).
    pub runtime: RuntimeName,
    /// How the code is shaped.
    pub contract: Contract,
    /// Which function of the code is called.
    pub handler: Handler,
    /// What is run, for the contracts `command` and `http`.
    pub command: CommandLine,
    /// What the owner wrote about it; at most 1,024 characters, checked where it enters.
    pub description: String,
    /// The owner's labels.
    pub metadata: Metadata,
    /// The function's own environment variables.
    pub environment: Environment,
    /// What it may use.
    pub limits: Limits,
    /// Which isolation it asks for.
    pub driver: DriverChoice,
    /// Which network it has.
    pub network: NetworkPolicy,
}

/// One deploy of one function; never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Its key.
    pub id: RevisionId,
    /// The function it belongs to.
    pub function: FunctionId,
    /// The code's bytes, by digest.
    pub artifact: ArtifactDigest,
    /// How the bytes become files.
    pub layout: CodeLayout,
    /// How many bytes there are.
    pub code_size: u64,
    /// What a build made of it.
    pub built: Built,
    /// Everything else.
    pub config: RevisionConfig,
    /// When it was deployed.
    pub created_at: OffsetDateTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_stay_inside_the_code_folder() {
        for text in ["../x.handler", "/etc/passwd.x", "a..b", "index.", ".handler", "a//b.c"] {
            assert_eq!(text.parse::<Handler>(), Err(HandlerError::Part), "{text}");
        }
    }

    #[test]
    fn the_last_dot_divides_file_and_function() {
        let file = |text: &str| text.parse::<Handler>().unwrap().file().map(str::to_owned);
        assert_eq!(file("src/app.main.handler"), Some("src/app.main".to_owned()));
        assert_eq!(file("handler"), None);
    }

    fn environment(name: &str, value: &str) -> Result<Environment, EnvironmentError> {
        Environment::new(BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn our_own_names_are_refused() {
        assert!(matches!(environment("IMPULS_X", ""), Err(EnvironmentError::Reserved(_))));
        assert!(matches!(environment("1X", ""), Err(EnvironmentError::Name(_))));
        assert!(matches!(environment("X", "a\0b"), Err(EnvironmentError::Nul(_))));
        assert!(matches!(environment("X", &"y".repeat(65_536)), Err(EnvironmentError::Size(65_537))));
    }

    #[test]
    fn labels_are_bounded_in_number_and_size() {
        let labels = |count: usize, size: usize| {
            Metadata::new((0..count).map(|n| (format!("{n:02}"), "v".repeat(size))).collect())
        };
        assert_eq!(labels(64, 62).unwrap().labels().len(), 64);
        assert_eq!(labels(65, 0), Err(MetadataError::Entries(65)));
        assert_eq!(labels(64, 63), Err(MetadataError::Size(64 * 65)));
    }

    #[test]
    fn a_command_line_is_what_a_process_can_be_given() {
        let command = |words: &[&str]| CommandLine::new(words.iter().map(|&word| word.to_owned()).collect());
        assert_eq!(command(&["a", ""]).unwrap().words(), ["a", ""]);
        assert_eq!(command(&[]), Ok(CommandLine::default()));
        assert_eq!(command(&["", "a"]), Err(CommandLineError::Program));
        assert_eq!(command(&["a", "b\0"]), Err(CommandLineError::Nul(1)));
        assert_eq!(
            command(&["a", &"b".repeat(COMMAND_LIMIT)]),
            Err(CommandLineError::Size(COMMAND_LIMIT + 1))
        );
    }

    #[test]
    fn interpreter_variables_are_recognised() {
        for name in ["NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "PYTHONPATH", "RUBYLIB", "LD_PRELOAD"] {
            assert!(environment(name, "x").unwrap().steers_the_interpreter(), "{name}");
        }
        assert!(!environment("NODE_ENV", "production").unwrap().steers_the_interpreter());
    }
}
