//! Rust source with its comments and literals blanked, so that a rule can look for words of the language.

/// The source with every comment, string and character literal replaced by spaces; lines stay where they are.
pub fn blank(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut in_word = false;
    while let Some(first) = rest.chars().next() {
        let opaque = opaque_length(rest, in_word);
        let (taken, left) = rest.split_at(opaque.unwrap_or(first.len_utf8()));
        if opaque.is_some() {
            out.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            in_word = false;
        } else {
            out.push(first);
            in_word = first.is_alphanumeric() || first == '_';
        }
        rest = left;
    }
    out
}

/// The length in bytes of the comment or literal that `rest` begins with.
fn opaque_length(rest: &str, in_word: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment_length(rest));
    }
    if let Some(body) = rest.strip_prefix('"') {
        return Some(1 + quoted_length(body, '"'));
    }
    if rest.starts_with('\'') {
        return character_length(rest);
    }
    if in_word { None } else { raw_string_length(rest) }
}

/// Block comments nest.
fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length up to and with the closing quote.
fn quoted_length(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    body.len()
}

/// A character literal, or `None` for a lifetime.
fn character_length(rest: &str) -> Option<usize> {
    let body = rest.get(1..)?;
    let mut characters = body.chars();
    let first = characters.next()?;
    let is_literal = first == '\\' || characters.next() == Some('\'');
    is_literal.then(|| 1 + quoted_length(body, '\''))
}

/// `r"…"`, `br#"…"#` and their kind.
fn raw_string_length(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix(['b', 'c']).unwrap_or(rest).strip_prefix('r')?;
    let body = after.trim_start_matches('#');
    let hashes = after.len() - body.len();
    let body = body.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(rest.len() - body.len() + length)
}

/// Whether `line` has `word` between characters that belong to no word.
pub fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// The number, from 0, of the line with which the tests at the end of a file begin; the number of lines if none.
pub fn first_test_line(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let is_start = |pair: &[&str]| {
        let [attribute, item] = pair else { return false };
        attribute.trim() == "#[cfg(test)]" && item.trim_start().trim_start_matches("pub ").starts_with("mod ")
    };
    lines.windows(2).position(is_start).unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, expected: &str) {
        assert_eq!(blank(source), expected, "{source}");
    }

    #[test]
    fn comments_are_blanked() {
        check("a // b\nc", "a     \nc");
        check("a /* b /* c */ d */ e", "a                   e");
        check("a /* b\nc */ d", "a     \n     d");
    }

    #[test]
    fn strings_are_blanked() {
        check(r#"f("a\"b", 1)"#, "f(      , 1)");
        check("r#\"a\"b\"# c", "         c");
        check("br\"a\" c", "      c");
        check("for\"a\"", "for   ");
    }

    #[test]
    fn characters_are_blanked_and_lifetimes_stay() {
        check("'\"' 'a' '\\'' x", "             x");
        check("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
    }

    #[test]
    fn an_open_literal_ends_with_the_file() {
        check("\"a", "  ");
        check("/* a", "    ");
        check("'", "'");
    }

    #[test]
    fn words_have_borders() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(!has_word("functions", "fn"));
    }

    #[test]
    fn tests_begin_at_their_module() {
        assert_eq!(first_test_line("a\n#[cfg(test)]\nmod tests {\n}"), 1);
        assert_eq!(first_test_line("#[cfg(test)]\nfn helper() {}\nb"), 3);
    }
}
