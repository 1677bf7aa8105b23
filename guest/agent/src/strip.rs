//! TypeScript to JavaScript: types become blanks, so that every line and column stays where it was, and the code says the
//! name of its source. Code with syntax that is more than types (`enum`, `namespace`, parameter properties) is
//! rewritten, with a source map at its end.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use swc_common::errors::{EmitterWriter, Handler};
use swc_common::sync::Lrc;
use swc_common::{GLOBALS, Globals, SourceMap};
use swc_ts_fast_strip::{ErrorCode, Mode, Options, TransformOutput, TsError, operate};

/// What the names of TypeScript files end with, and those of what becomes of them.
const SUFFIXES: [(&str, &[&str]); 3] = [(".ts", &[".js"]), (".mts", &[".mjs"]), (".cts", &[".cjs"])];

/// Says that some of the code has a source map, so that whoever runs it reads them.
const HAS_MAPS: &str = ".impuls-source-maps";
/// Where functions find their code.
const CODE_DIR: &str = "/var/task";

/// Strips every TypeScript file below the folder `from`, into the folder `to`. Problems go to standard error, as
/// compilers write them. Declaration files and packages are left alone. With a `single` file, whose name does not say
/// how it is to be loaded, the result has both names.
pub(crate) fn main(from: &Path, to: &Path, single: bool) -> ExitCode {
    let mut failed = false;
    let walked = walk(from, Path::new(""), &mut |name| {
        failed |= !strip_file(&from.join(name), name, to, single)?;
        Ok(())
    });
    if let Err(error) = walked {
        // Nothing is left to do if standard error is closed.
        let _ = writeln!(io::stderr(), "cannot read or write: {error}");
        failed = true;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn walk(from: &Path, below: &Path, each: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut entries = fs::read_dir(from.join(below))?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "node_modules" {
                walk(from, &name, each)?;
            }
        } else {
            each(&name)?;
        }
    }
    Ok(())
}

/// False if the file does not parse.
fn strip_file(path: &Path, name: &Path, to: &Path, single: bool) -> io::Result<bool> {
    let text = name.to_string_lossy();
    let known = SUFFIXES.iter().find_map(|(suffix, results)| Some((text.strip_suffix(suffix)?, *results)));
    let Some((stem, results)) = known.filter(|(stem, _)| !stem.ends_with(".d")) else { return Ok(true) };
    let source = fs::read_to_string(path)?;
    let code = match strip(source, &text) {
        Ok(Stripped::Blanked(code)) => format!("{code}\n//# sourceURL={CODE_DIR}/{text}\n"),
        Ok(Stripped::Rewritten(code)) => {
            fs::write(to.join(HAS_MAPS), "")?;
            code
        }
        Err(problem) => {
            let _ = writeln!(io::stderr(), "{problem}");
            return Ok(false);
        }
    };
    let results = if single { &[".js", ".mjs"] } else { results };
    for suffix in results {
        let target = to.join(format!("{stem}{suffix}"));
        fs::create_dir_all(target.parent().unwrap_or(to))?;
        fs::write(target, &code)?;
    }
    Ok(true)
}

/// The JavaScript of TypeScript.
#[derive(Debug)]
enum Stripped {
    /// With blanks for types.
    Blanked(String),
    /// With a source map.
    Rewritten(String),
}

/// The JavaScript of TypeScript, or what is wrong with it.
fn strip(source: String, name: &str) -> Result<Stripped, String> {
    match run(source.clone(), name, Mode::StripOnly) {
        Err((error, _)) if matches!(error.code, ErrorCode::UnsupportedSyntax) => {
            run(source, name, Mode::Transform).map(with_map).map_err(|(_, text)| text)
        }
        stripped => stripped.map(|output| Stripped::Blanked(output.code)).map_err(|(_, text)| text),
    }
}

fn with_map(TransformOutput { code, map }: TransformOutput) -> Stripped {
    let map = STANDARD.encode(map.unwrap_or_default());
    Stripped::Rewritten(format!("{code}\n//# sourceMappingURL=data:application/json;base64,{map}\n"))
}

fn run(source: String, name: &str, mode: Mode) -> Result<TransformOutput, (TsError, String)> {
    let sources: Lrc<SourceMap> = Lrc::default();
    let messages = Messages::default();
    let emitter = EmitterWriter::new(Box::new(messages.clone()), Some(sources.clone()), false, true);
    let handler = Handler::with_emitter(true, false, Box::new(emitter));
    let options = Options {
        filename: Some(name.to_owned()),
        source_map: matches!(mode, Mode::Transform),
        mode,
        ..Options::default()
    };
    let output = GLOBALS.set(&Globals::new(), || operate(&sources, &handler, source, options));
    output.map_err(|error| {
        let text = messages.0.lock().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (error, text.unwrap_or_default())
    })
}

/// What the parser says, in memory.
#[derive(Clone, Default)]
struct Messages(Arc<Mutex<Vec<u8>>>);

impl Write for Messages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().map_err(|_| io::ErrorKind::Other)?.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_become_blanks() {
        let source = "interface A { x: number }\nexport const f = (a: A): number => a.x as number;\n";
        let Stripped::Blanked(code) = strip(source.to_owned(), "a.ts").unwrap() else { panic!("rewritten") };
        assert_eq!(code.lines().count(), 2);
        assert_eq!(code.find("=> a.x"), source.find("=> a.x"));
        assert!(!code.contains("number"), "{code}");
    }

    #[test]
    fn syntax_that_is_more_than_types_is_rewritten_with_a_map() {
        let source = "enum E { A = 3 }\nexport const x: number = E.A;\n".to_owned();
        let Stripped::Rewritten(code) = strip(source, "a.ts").unwrap() else { panic!("not rewritten") };
        assert!(code.contains("sourceMappingURL=data:application/json") && !code.contains("enum"), "{code}");
    }

    #[test]
    fn what_does_not_parse_is_named_with_its_place() {
        let problem = strip("const y = 1;\nconst x: = 3;\n".to_owned(), "src/a.ts").unwrap_err();
        assert!(problem.contains("src/a.ts:2:10"), "{problem}");
    }

    #[test]
    fn a_folder_keeps_its_shape() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for (name, text) in [
            ("src/a.ts", "export const a: number = 1;"),
            ("b.mts", "export const b: number = 1;"),
            ("types.d.ts", "declare const c: number;"),
            ("node_modules/p/index.ts", "const d: = ;"),
            ("e.js", "// as it is"),
        ] {
            fs::create_dir_all(from.join(name).parent().unwrap()).unwrap();
            fs::write(from.join(name), text).unwrap();
        }
        assert_eq!(main(&from, &to, false), ExitCode::SUCCESS);
        let mut made = Vec::new();
        walk(&to, Path::new(""), &mut |name| {
            made.push(name.to_string_lossy().into_owned());
            Ok(())
        })
        .unwrap();
        assert_eq!(made, ["b.mjs", "src/a.js"]);
    }
}
