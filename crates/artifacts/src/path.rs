//! What a relative path may look like before anything of ours writes to it.

/// The most bytes that one name within a path may have; the limit of Linux file systems.
pub const COMPONENT_LIMIT: usize = 255;
/// The most bytes that a whole path may have. Below `PATH_MAX` (4,096), so that the folder it is put in fits too.
pub const PATH_LIMIT: usize = 3_500;
/// The most names that a path may have.
pub const DEPTH_LIMIT: usize = 100;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It begins with `/`.
    #[error("it is absolute")]
    Absolute,
    /// One of its names is `..` or `.`.
    #[error("it has a part `..` or `.`")]
    Dots,
    /// It is empty, or two slashes follow each other, or a file ends with one.
    #[error("it has an empty part")]
    Empty,
    /// It holds a backslash, which is a separator elsewhere.
    #[error("it contains a backslash; write paths with `/`")]
    Backslash,
    /// It holds NUL or another control character.
    #[error("it contains a control character")]
    Control,
    /// One of its names is too long.
    #[error("one of its parts has more than 255 bytes")]
    Component,
    /// It is too long.
    #[error("it has more than 3500 bytes")]
    Length,
    /// It has too many names.
    #[error("it has more than 100 parts")]
    Depth,
    /// Another file has it, or is where it needs a folder.
    #[error("another file is in its place")]
    Taken,
}

/// Checks that a path names something strictly inside the folder that it will be joined to, on every system, and
/// that the file system can hold it.
pub fn check_relative_path(path: &str) -> Result<(), PathError> {
    if path.starts_with('/') {
        return Err(PathError::Absolute);
    }
    if path.len() > PATH_LIMIT {
        return Err(PathError::Length);
    }
    if path.chars().any(char::is_control) {
        return Err(PathError::Control);
    }
    if path.contains('\\') {
        return Err(PathError::Backslash);
    }
    if path.split('/').count() > DEPTH_LIMIT {
        return Err(PathError::Depth);
    }
    path.split('/').try_for_each(check_component)
}

fn check_component(name: &str) -> Result<(), PathError> {
    match name {
        "" => Err(PathError::Empty),
        "." | ".." => Err(PathError::Dots),
        long if long.len() > COMPONENT_LIMIT => Err(PathError::Component),
        _ => Ok(()),
    }
}

/// The folders above a path, nearest first: `a/b/c` gives `a/b`, then `a`.
pub fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.char_indices().rev().filter(|&(_, c)| c == '/').filter_map(|(at, _)| path.get(..at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(path: &str, expected: Result<(), PathError>) {
        assert_eq!(check_relative_path(path), expected, "{path:?}");
    }

    #[test]
    fn ordinary_paths_pass() {
        for path in ["index.js", "src/app.py", "a b/ü.txt", "...", ".hidden/x", "node_modules/@x/y.js", "C:"]
        {
            check(path, Ok(()));
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        check("/etc/passwd", Err(PathError::Absolute));
        check("../x", Err(PathError::Dots));
        check("a/../../x", Err(PathError::Dots));
        check("a/./x", Err(PathError::Dots));
        check("a//x", Err(PathError::Empty));
        check("", Err(PathError::Empty));
        check("a/", Err(PathError::Empty));
        check("..\\x", Err(PathError::Backslash));
        check("a\0b", Err(PathError::Control));
        check("a\nb", Err(PathError::Control));
    }

    #[test]
    fn every_limit_is_inclusive() {
        check(&"x".repeat(255), Ok(()));
        check(&"x".repeat(256), Err(PathError::Component));
        check(&vec!["x"; 100].join("/"), Ok(()));
        check(&vec!["x"; 101].join("/"), Err(PathError::Depth));
        check(&vec!["x".repeat(200); 18].join("/"), Err(PathError::Length));
    }

    #[test]
    fn parents_come_nearest_first() {
        assert_eq!(parents("a/b/c").collect::<Vec<_>>(), ["a/b", "a"]);
        assert_eq!(parents("a").count(), 0);
    }

    proptest! {
        #[test]
        fn an_accepted_path_stays_inside(path in "[a-b./\\\\\u{0}]{0,12}") {
            if check_relative_path(&path).is_ok() {
                let mut components = std::path::Path::new(&path).components();
                prop_assert!(components.all(|part| matches!(part, std::path::Component::Normal(_))));
            }
        }
    }
}
