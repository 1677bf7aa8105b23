//! What the sandbox was assigned, and whether it can be run.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use impuls_guest_protocol::{Init, InitError, InitErrorKind};

/// The assigned code.
pub(crate) struct Code {
    pub(crate) init: Init,
    /// What every program gets: this process's own environment and then the function's.
    pub(crate) environment: BTreeMap<String, String>,
}

impl Code {
    pub(crate) fn new(init: Init) -> Self {
        #[expect(clippy::disallowed_methods, reason = "programs inherit what the host gave this process")]
        let mut environment: BTreeMap<String, String> = std::env::vars().collect();
        environment.extend(init.environment.clone());
        Self { init, environment }
    }

    /// Why the program cannot be run, as far as one can see without running it. Programs of the machine that are
    /// found by their name are looked for when they are run.
    pub(crate) fn refusal(&self) -> Option<InitError> {
        // The last word below the code's folder: the program itself, or the script of an interpreter.
        let code_dir = Path::new(&self.init.code_dir);
        let words = self.init.command.iter().enumerate();
        let own = words.rev().find(|(_, word)| Path::new(word.as_str()).starts_with(code_dir));
        let (at, word) = own?;
        let path = Path::new(word);
        let name = path.strip_prefix(code_dir).unwrap_or(path).display().to_string();
        let missing = |message: String| InitError {
            kind: InitErrorKind::Handler,
            class: "ProgramNotFound".to_owned(),
            message,
            stack: None,
            file: Some(name.clone()),
            line: None,
        };
        match path.metadata() {
            Err(_) => Some(missing(format!("the code has no file {name}"))),
            Ok(metadata) if !metadata.is_file() => Some(missing(format!("{name} is no file"))),
            Ok(metadata) if at == 0 && metadata.permissions().mode() & 0o111 == 0 => {
                Some(missing(format!("{name} is not executable; set its mode to 755 in the archive")))
            }
            Ok(_) => None,
        }
    }
}
