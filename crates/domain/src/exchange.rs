//! What a call was asked and what it answered, as far as it is kept with its record.

/// The most bytes that are kept of an event or a response.
pub const EXCERPT_LIMIT: usize = 4 * 1024;

/// A text, or the beginning of one that is longer than [`EXCERPT_LIMIT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    text: String,
    bytes: u64,
}

impl Excerpt {
    /// The beginning of these bytes. Invalid UTF-8 is replaced.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        // One character more than is kept, so that the cut finds its boundary.
        let head = bytes.get(..EXCERPT_LIMIT + 4).unwrap_or(bytes);
        Self::restore(&String::from_utf8_lossy(head), bytes.len() as u64)
    }

    /// What was kept of so many bytes.
    #[must_use]
    pub fn restore(text: &str, bytes: u64) -> Self {
        let kept = text.get(..text.floor_char_boundary(EXCERPT_LIMIT)).unwrap_or_default();
        Self { text: kept.to_owned(), bytes }
    }

    /// What is kept.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How long the whole is.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing is missing.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.text.len() as u64 >= self.bytes
    }
}

/// What a call was asked and what it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The event.
    pub event: Excerpt,
    /// The result of a call that succeeded.
    pub response: Option<Excerpt>,
}

impl Exchange {
    /// Bytes that it holds.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.event.text.len() + self.response.as_ref().map_or(0, |response| response.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_whole_and_a_long_one_is_cut_between_characters() {
        let short = Excerpt::of(b"{\"a\":1}");
        assert_eq!((short.text(), short.bytes(), short.is_whole()), ("{\"a\":1}", 7, true));
        let exact = Excerpt::of("x".repeat(EXCERPT_LIMIT).as_bytes());
        assert!(exact.is_whole());
        let long = format!("x{}", "é".repeat(EXCERPT_LIMIT));
        let cut = Excerpt::of(long.as_bytes());
        assert_eq!((cut.text().len(), cut.bytes()), (EXCERPT_LIMIT - 1, long.len() as u64));
        assert!(!cut.is_whole() && long.starts_with(cut.text()));
        assert_eq!(Excerpt::restore(cut.text(), cut.bytes()), cut);
    }
}
