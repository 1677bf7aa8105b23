//! The agent that goes into an image: a program that needs nothing but the kernel.

use std::io::Read as _;
use std::path::Path;

use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{Endianness, ReadRef};

use crate::architecture::Architecture;
use crate::error::ImageError;

/// The file's name, beside this program.
pub const NAME: &str = "impuls-agent";
/// The most bytes of an agent.
const MOST: u64 = 128 * 1024 * 1024;

/// Reads an agent, or says what is wrong with it: it must be a static program for this processor, because it is
/// process 1 of roots that need not have any library.
pub fn read(path: &Path, architecture: Architecture) -> Result<Vec<u8>, ImageError> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(ImageError::NoAgent { path: path.to_owned() });
        }
        file => file.map_err(ImageError::io("reading", path))?,
    };
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(ImageError::io("reading", path))?;
    match refusal(&bytes, architecture) {
        None => Ok(bytes),
        Some(reason) => Err(ImageError::Agent { path: path.to_owned(), reason }),
    }
}

fn refusal(bytes: &[u8], architecture: Architecture) -> Option<String> {
    if bytes.len() as u64 > MOST {
        return Some(format!("it has more than {MOST} bytes"));
    }
    let Some((machine, interpreted)) = facts(bytes) else {
        return Some("it is no 64-bit ELF program".to_owned());
    };
    if machine != architecture.elf_machine() {
        return Some(format!("it is a program for another processor than {architecture}"));
    }
    interpreted.then(|| {
        "it is linked dynamically, and guests have no libraries for it; build it for a target such as \
         x86_64-unknown-linux-musl"
            .to_owned()
    })
}

/// The processor of an ELF program, and whether it asks for a loader.
fn facts<'data, R: ReadRef<'data>>(data: R) -> Option<(u16, bool)> {
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let mut segments = header.program_headers(endian, data).ok()?.iter();
    Some((header.e_machine(endian), segments.any(|segment| segment.p_type(endian) == elf::PT_INTERP)))
}

/// The processor that an ELF file is for.
pub(crate) fn machine_of(bytes: &[u8]) -> Option<u16> {
    facts(bytes).map(|(machine, _)| machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_process_1_is_refused_with_the_reason() {
        let here = Architecture::of_this_machine();
        let other = Architecture::ALL.into_iter().find(|other| *other != here).unwrap();
        let this = std::env::current_exe().unwrap();
        assert!(read(&this, here).unwrap_err().to_string().contains("linked dynamically"));
        assert!(read(&this, other).unwrap_err().to_string().contains("another processor"));
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert!(read(&manifest, here).unwrap_err().to_string().contains("no 64-bit ELF"));
        let missing = read(Path::new("/nowhere/impuls-agent"), here).unwrap_err().to_string();
        assert!(missing.contains("IMPULS_AGENT"), "{missing}");
    }
}
