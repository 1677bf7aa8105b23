//! Bytes as clients write them in JSON.

use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

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
}
