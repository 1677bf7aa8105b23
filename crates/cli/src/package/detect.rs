//! Which language code is in, and where it begins, by the names of its files.

/// Extensions and the runtimes they mean.
pub(super) const EXTENSIONS: [(&str, &str); 14] = [
    ("js", "nodejs"),
    ("mjs", "nodejs"),
    ("cjs", "nodejs"),
    ("ts", "typescript"),
    ("mts", "typescript"),
    ("cts", "typescript"),
    ("go", "go"),
    ("py", "python"),
    ("rb", "ruby"),
    ("php", "php"),
    ("pl", "perl"),
    ("java", "java"),
    ("cs", "csharp"),
    ("rs", "rust"),
];
/// Where an archive's code may begin, the usual first.
const STARTS: [(&str, &str); 5] = [
    ("index", "handler"),
    ("main", "handler"),
    ("app", "handler"),
    ("handler", "handler"),
    ("lambda_function", "lambda_handler"),
];

/// Where code begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The runtime, without a version.
    pub(crate) family: &'static str,
    /// The handler: `file.function`.
    pub(crate) handler: String,
}

/// Where a single file begins; `None` when its extension is unknown.
pub(super) fn single_file(name: &str) -> Option<Entry> {
    let (stem, extension) = name.rsplit_once('.')?;
    Some(Entry { family: family(extension)?, handler: format!("{stem}.handler") })
}

/// Where an archive's code begins: in the file that the handler names, else in a file with a usual name.
pub(super) fn in_archive<'a>(
    names: impl Iterator<Item = &'a str> + Clone,
    handler: Option<&str>,
) -> Option<Entry> {
    let find = |stem: &str| {
        names.clone().find_map(|name| {
            let (own, extension) = name.rsplit_once('.')?;
            family(extension).filter(|_| own == stem)
        })
    };
    if let Some((handler, (stem, _))) = handler.and_then(|handler| Some((handler, handler.rsplit_once('.')?)))
    {
        return find(stem).map(|family| Entry { family, handler: handler.to_owned() });
    }
    STARTS.iter().find_map(|(stem, function)| {
        let function = handler.unwrap_or(function);
        find(stem).map(|family| Entry { family, handler: format!("{stem}.{function}") })
    })
}

fn family(extension: &str) -> Option<&'static str> {
    EXTENSIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension)).map(|(_, family)| *family)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(entry: Option<Entry>) -> String {
        entry.map_or_else(|| "-".to_owned(), |entry| format!("{} {}", entry.family, entry.handler))
    }

    #[test]
    fn a_single_file_begins_with_its_own_name() {
        assert_eq!(shown(single_file("hello.mjs")), "nodejs hello.handler");
        assert_eq!(shown(single_file("hello.py")), "python hello.handler");
        assert_eq!(shown(single_file("hello.rb")), "ruby hello.handler");
        assert_eq!(shown(single_file("hello.ts")), "typescript hello.handler");
        assert_eq!(shown(single_file("main.go")), "go main.handler");
        assert_eq!(shown(single_file("hello.txt")), "-");
        assert_eq!(shown(single_file("hello")), "-");
    }

    fn check(names: &[&str], handler: Option<&str>, expected: &str) {
        assert_eq!(shown(in_archive(names.iter().copied(), handler)), expected, "{names:?} {handler:?}");
    }

    #[test]
    fn an_archive_begins_where_the_handler_says_or_in_a_usual_file() {
        check(&["app.py", "index.js"], None, "nodejs index.handler");
        check(&["lib/index.js", "app.py"], None, "python app.handler");
        check(&["lambda_function.py"], None, "python lambda_function.lambda_handler");
        check(&["index.js", "src/app.py"], Some("src/app.run"), "python src/app.run");
        check(&["index.js"], Some("other.run"), "-");
        check(&["package.json", "main.go"], None, "go main.handler");
        check(&["data.json"], None, "-");
    }
}
