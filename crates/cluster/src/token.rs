//! The secret that controllers and workers share.

use std::fmt;

/// The fewest characters of a token.
pub const SHORTEST: usize = 16;

/// What a request must show. Never printed.
#[derive(Clone)]
pub struct Token(String);

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It could be guessed.
    #[error(
        "the cluster token has {0} characters; at least 16 are wanted, such as those of `openssl rand -hex 32`"
    )]
    Short(usize),
    /// It does not fit into a header.
    #[error(
        "the cluster token has characters that are not visible ASCII; take those of `openssl rand -hex 32`"
    )]
    Character,
}

impl Token {
    /// The token with this text: 16 or more visible ASCII characters.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Character);
        }
        match text.len() {
            length if length < SHORTEST => Err(TokenError::Short(length)),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// The value of the header `Authorization`.
    #[must_use]
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether a header's value shows this token. Takes as long for every value of a length, so that nobody learns it
    /// piece by piece.
    #[must_use]
    pub fn is_shown_by(&self, header: &[u8]) -> bool {
        let Some(shown) = header.strip_prefix(b"Bearer ") else { return false };
        let own = self.0.as_bytes();
        let different = own.iter().zip(shown).fold(0, |different, (a, b)| different | (a ^ b));
        std::hint::black_box(different) == 0 && own.len() == shown.len()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = Token::new("0123456789abcdef").unwrap();
        assert!(token.is_shown_by(token.header().as_bytes()));
        for wrong in ["", "Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "0123456789abcdef"]
        {
            assert!(!token.is_shown_by(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token");
    }

    #[test]
    fn a_token_is_long_and_visible() {
        assert_eq!(Token::new("short").err(), Some(TokenError::Short(5)));
        assert_eq!(Token::new("0123456789 abcdef").err(), Some(TokenError::Character));
    }
}
