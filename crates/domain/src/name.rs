//! Names that people choose, each with its one rule.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The most characters that any name may have.
pub const NAME_LIMIT: usize = 255;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Too short or too long.
    #[error("name has {0} characters; 1 to 255 are allowed")]
    Length(usize),
    /// A character that no name may hold.
    #[error("name contains {0:?}; only letters, digits, `-` and `_` are allowed")]
    Character(char),
    /// A character that no runtime's name may hold.
    #[error("runtime contains {0:?}; only letters, digits, `.`, `-` and `_` are allowed")]
    RuntimeCharacter(char),
    /// It would be taken for an id wherever a name or an id is accepted.
    #[error("name looks like an id (a UUID); choose another")]
    LooksLikeId,
    /// It would be taken for a version number or for `$LATEST`.
    #[error("alias name {0:?} is a number; start it with a letter")]
    LooksLikeVersion(String),
}

fn no_other(s: &str, allowed: &str) -> Result<(), char> {
    match s.chars().find(|c| !c.is_ascii_alphanumeric() && !allowed.contains(*c)) {
        Some(c) => Err(c),
        None => Ok(()),
    }
}

fn check(s: &str) -> Result<(), NameError> {
    if !(1..=NAME_LIMIT).contains(&s.len()) {
        return Err(NameError::Length(s.len()));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                check(s)?;
                let further: fn(&str) -> Result<(), NameError> = $check;
                further(s)?;
                Ok(Self(s.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(s: String) -> Result<Self, NameError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A function's name: 1 to 255 of `[A-Za-z0-9_-]`, not shaped like a UUID; a dialect with a stricter rule
    /// checks its own.
    FunctionName,
    |s| {
        no_other(s, "-_").map_err(NameError::Character)?;
        if Uuid::try_parse(s).is_ok() { Err(NameError::LooksLikeId) } else { Ok(()) }
    }
}
name! {
    /// An alias' name: 1 to 255 of `[A-Za-z0-9_-]`, not a whole number (that would be a version).
    AliasName,
    |s| {
        no_other(s, "-_").map_err(NameError::Character)?;
        if s.bytes().all(|b| b.is_ascii_digit()) { Err(NameError::LooksLikeVersion(s.to_owned())) } else { Ok(()) }
    }
}
name! {
    /// A schedule's name: 1 to 255 of `[A-Za-z0-9_-]`, unique within its function.
    ScheduleName,
    |s| no_other(s, "-_").map_err(NameError::Character)
}
name! {
    /// A runtime's version name or alias as users write it, such as `nodejs20`, `python` or `provided.al2023`: 1 to 255
    /// of `[A-Za-z0-9._-]`.
    RuntimeName,
    |s| no_other(s, "._-").map_err(NameError::RuntimeCharacter)
}

/// What a function's name is unique within. Opaque: the native API and Lambda use the empty scope, another
/// dialect a text of its own, and nothing here interprets it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(String);

impl Scope {
    /// The scope of a dialect.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The scope as text; empty for the native API.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejects<T: FromStr<Err = NameError>>(text: &str, expected: NameError) {
        assert_eq!(text.parse::<T>().err(), Some(expected));
    }

    #[test]
    fn function_names_have_1_to_255_characters() {
        rejects::<FunctionName>("", NameError::Length(0));
        rejects::<FunctionName>(&"a".repeat(256), NameError::Length(256));
        assert!("a".repeat(255).parse::<FunctionName>().is_ok());
    }

    #[test]
    fn names_cannot_leave_a_folder() {
        rejects::<FunctionName>("../etc", NameError::Character('.'));
        rejects::<FunctionName>("a/b", NameError::Character('/'));
        rejects::<FunctionName>("a\0", NameError::Character('\0'));
    }

    #[test]
    fn runtimes_may_have_dots_and_functions_may_not() {
        assert!("provided.al2023".parse::<RuntimeName>().is_ok());
        rejects::<RuntimeName>("a/b", NameError::RuntimeCharacter('/'));
        rejects::<FunctionName>("a.b", NameError::Character('.'));
    }

    #[test]
    fn a_uuid_is_no_function_name() {
        rejects::<FunctionName>("01890a5d-ac96-774b-bcce-b302099a8057", NameError::LooksLikeId);
    }

    #[test]
    fn a_number_is_no_alias() {
        rejects::<AliasName>("12", NameError::LooksLikeVersion("12".to_owned()));
        assert!("v12".parse::<AliasName>().is_ok());
    }
}
