//! What names an artifact: the SHA-256 of its bytes.

use std::fmt::{self, Write as _};
use std::str::FromStr;

/// The SHA-256 of an artifact's bytes; written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactDigest([u8; 32]);

/// Why a text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest has 64 lower-case hexadecimal digits")]
pub struct ArtifactDigestError;

impl ArtifactDigest {
    /// The digest of 32 raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ArtifactDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ArtifactDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        fmt::Display::fmt(self, f)?;
        f.write_char('"')
    }
}

impl FromStr for ArtifactDigest {
    type Err = ArtifactDigestError;
    fn from_str(s: &str) -> Result<Self, ArtifactDigestError> {
        let digits: Vec<u8> = s
            .bytes()
            .map(|b| match b {
                b'0'..=b'9' => Ok(b - b'0'),
                b'a'..=b'f' => Ok(b - b'a' + 10),
                _ => Err(ArtifactDigestError),
            })
            .collect::<Result<_, _>>()?;
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => Ok(high << 4 | low),
                _ => Err(ArtifactDigestError),
            })
            .collect::<Result<_, _>>()?;
        <[u8; 32]>::try_from(bytes).map(Self).map_err(|_| ArtifactDigestError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let digest = ArtifactDigest::from_bytes([0xa7; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn only_64_lower_case_digits_parse() {
        for text in ["", "a7", &"a7".repeat(33), &"A7".repeat(32), &"g7".repeat(32)] {
            assert_eq!(text.parse::<ArtifactDigest>(), Err(ArtifactDigestError), "{text}");
        }
    }
}
