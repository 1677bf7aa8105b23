//! Archives made byte by byte (APPNOTE 4.3), so that they can lie.

use std::io::{Cursor, Read as _, Write as _};

use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

pub(crate) const ENCRYPTED: u16 = 1;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// One entry, as the directory and as the entry's own header describe it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    /// The name in the entry's own header, if it is another.
    pub(crate) local_name: Option<Vec<u8>>,
    pub(crate) packed: Vec<u8>,
    pub(crate) size: u32,
    pub(crate) crc: u32,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    /// The flags in the entry's own header, if they are others.
    pub(crate) local_flags: Option<u16>,
    pub(crate) mode: u32,
    /// Left out of the directory.
    pub(crate) hidden: bool,
}

impl Member {
    pub(crate) fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref().to_vec();
        Self {
            name: name.as_ref().to_vec(),
            local_name: None,
            size: content.len() as u32,
            crc: crc32(&content),
            packed: content,
            method: STORED,
            flags: 0,
            local_flags: None,
            mode: 0o100_644,
            hidden: false,
        }
    }

    pub(crate) fn folder(name: &str) -> Self {
        Self { mode: 0o040_755, ..Self::file(name, "") }
    }

    pub(crate) fn executable(name: &str, content: &str) -> Self {
        Self { mode: 0o100_755, ..Self::file(name, content) }
    }

    pub(crate) fn deflated(name: &str, content: &[u8]) -> Self {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        writer.start_file("x", options).unwrap();
        writer.write_all(content).unwrap();
        let mut archive = ZipArchive::new(writer.finish().unwrap()).unwrap();
        let mut raw = archive.by_index_raw(0).unwrap();
        let (size, crc) = (raw.size() as u32, raw.crc32());
        let mut packed = Vec::new();
        raw.read_to_end(&mut packed).unwrap();
        Self { packed, size, crc, method: DEFLATED, ..Self::file(name, "") }
    }

    pub(crate) fn local_header(&self) -> Vec<u8> {
        let name = self.local_name.as_ref().unwrap_or(&self.name);
        let mut bytes = b"PK\x03\x04".to_vec();
        shorts(&mut bytes, &[20, self.local_flags.unwrap_or(self.flags), self.method, 0, 33]);
        longs(&mut bytes, &[self.crc, self.packed.len() as u32, self.size]);
        shorts(&mut bytes, &[name.len() as u16, 0]);
        bytes.extend_from_slice(name);
        bytes
    }

    pub(crate) fn central_header(&self, offset: u32) -> Vec<u8> {
        let mut bytes = b"PK\x01\x02".to_vec();
        // Made on Unix, by version 2.0 of the format.
        shorts(&mut bytes, &[3 << 8 | 20, 20, self.flags, self.method, 0, 33]);
        longs(&mut bytes, &[self.crc, self.packed.len() as u32, self.size]);
        shorts(&mut bytes, &[self.name.len() as u16, 0, 0, 0, 0]);
        longs(&mut bytes, &[self.mode << 16, offset]);
        bytes.extend_from_slice(&self.name);
        bytes
    }
}

/// The archive of these entries.
pub(crate) fn zip(members: &[Member]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for member in members {
        let offset = bytes.len() as u32;
        bytes.extend(member.local_header());
        bytes.extend_from_slice(&member.packed);
        if !member.hidden {
            directory.push(member.central_header(offset));
        }
    }
    finish(bytes, &directory)
}

/// Adds the directory and its end.
pub(crate) fn finish(mut bytes: Vec<u8>, directory: &[Vec<u8>]) -> Vec<u8> {
    let start = bytes.len();
    bytes.extend(directory.iter().flatten());
    let length = bytes.len() - start;
    bytes.extend_from_slice(b"PK\x05\x06");
    shorts(&mut bytes, &[0, 0, directory.len() as u16, directory.len() as u16]);
    longs(&mut bytes, &[length as u32, start as u32]);
    shorts(&mut bytes, &[0]);
    bytes
}

fn shorts(bytes: &mut Vec<u8>, values: &[u16]) {
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn longs(bytes: &mut Vec<u8>, values: &[u32]) {
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}
