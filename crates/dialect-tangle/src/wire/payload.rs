//! Bytes as clients write them in JSON.

use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Unexpected, Visitor};

/// Bytes: a list of numbers from 0 to 255, or a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Payload(pub(crate) Vec<u8>);

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Payload;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of bytes or a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<Payload, E> {
        Ok(Payload(text.as_bytes().to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Payload, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = elements.next_element()? {
            bytes.push(byte);
        }
        Ok(Payload(bytes))
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Bytes)
    }
}

/// One of the arguments of a job: a byte, or a list of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Argument {
    Byte(u8),
    Bytes(Vec<u8>),
}

struct ByteOrBytes;

impl<'de> Visitor<'de> for ByteOrBytes {
    type Value = Argument;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte (0 to 255) or a list of bytes")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Argument, E> {
        let refused = |_| E::invalid_value(Unexpected::Unsigned(number), &self);
        u8::try_from(number).map(Argument::Byte).map_err(refused)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Argument, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = elements.next_element()? {
            bytes.push(byte);
        }
        Ok(Argument::Bytes(bytes))
    }
}

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ByteOrBytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_a_list_or_a_text() {
        let read = |text: &str| serde_json::from_str::<Payload>(text).map(|payload| payload.0).ok();
        assert_eq!(read("[104,105]"), Some(b"hi".to_vec()));
        assert_eq!(read("\"hi\""), Some(b"hi".to_vec()));
        assert_eq!(read("[256]"), None);
        assert_eq!(read("{}"), None);
    }

    #[test]
    fn arguments_are_bytes_and_lists_of_them() {
        let read = |text: &str| serde_json::from_str::<Vec<Argument>>(text).ok();
        let written = read("[1,[2,255]]").map(|arguments| serde_json::to_string(&arguments).unwrap());
        assert_eq!(written.as_deref(), Some("[1,[2,255]]"));
        for wrong in ["[256]", "[-1]", "[\"x\"]", "[[300]]", "[null]"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
