//! The form of a file's content, by its name. Nothing is read here.

use std::ffi::OsStr;

/// Files of these extensions are source code or marked-up text.
const CODE: [&str; 59] = [
    "adoc", "asm", "bash", "c", "cc", "clj", "cpp", "cs", "css", "cu", "cuh", "cxx", "dart", "erl",
    "ex", "exs", "fs", "go", "h", "hh", "hpp", "hs", "html", "hxx", "java", "jl", "js", "jsx",
    "kt", "kts", "lean", "lua", "m", "md", "mjs", "ml", "mli", "mm", "nix", "php", "pl", "proto",
    "py", "pyi", "r", "rb", "rs", "rst", "scala", "sh", "sql", "swift", "tex", "toml", "ts", "tsx",
    "yaml", "yml", "zig",
];

/// Data that other programs write and this one does not read.
const OTHER_DATA: [&str; 22] = [
    "7z", "arrow", "avro", "br", "bz2", "csv", "db", "feather", "lz4", "npy", "npz", "orc", "rar",
    "sqlite", "tar", "tfrecord", "tgz", "tsv", "warc", "xlsx", "xz", "zip",
];

/// Names, without what follows the first `.`, `-` or `_`, that files about data have.
const COMPANIONS: [&str; 12] = [
    "authors",
    "changelog",
    "citation",
    "contributing",
    "copying",
    "credits",
    "licence",
    "license",
    "notice",
    "readme",
    "requirements",
    "robots",
];

/// A longer extension is none.
const EXTENSION_BYTES_MAX: usize = 12;

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The whole file is text, because the user says so.
    Asked,
    /// The whole file is text: source code, or marked up.
    Code,
    /// The whole file is text, unless it begins as JSON does.
    Plain,
    /// JSON objects, one on a line or in an array, with the text in a field.
    Records,
    /// The same where the objects have the field; settings of some program where they have not.
    Json,
    /// Apache Parquet, with the text in a column.
    Parquet,
    /// Its name says nothing: JSON objects where it begins as JSON does, otherwise text.
    Unknown,
}

/// The form that a name tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// How to read it; `None` where a folder's file is passed over.
    pub(crate) kind: Option<Kind>,
    /// Its extensions as they are shown, such as `.jsonl.gz`; empty where it has none.
    pub(crate) label: String,
    /// True where the extension says that it is packed.
    pub(crate) packed: bool,
    /// True where the extension says that it is data, and it is not read.
    pub(crate) other_data: bool,
    /// It is one of the files that stand beside data and are about it.
    pub(crate) companion: bool,
}

/// Reads a name. Files of the extensions in `as_text` are text.
pub(crate) fn form(name: &OsStr, as_text: &[String]) -> Form {
    let name = name.to_string_lossy().to_lowercase();
    let (stem, packed) = match extension(&name) {
        Some(outer @ ("gz" | "gzip" | "zst" | "zstd")) => {
            (&name[..name.len() - outer.len() - 1], Some(outer))
        }
        _ => (name.as_str(), None),
    };
    let inner = extension(stem);
    let kind = match inner {
        Some(inner) => kind(inner, as_text),
        // Reddit's `RC_2019-04.zst`: whether it has records is seen when it is opened.
        None => packed.map(|_| Kind::Json),
    };
    let label = inner.iter().copied().chain(packed).map(|part| format!(".{part}")).collect();
    let other_data = inner.is_some_and(|inner| OTHER_DATA.binary_search(&inner).is_ok());
    let first = name.split(['.', '-', '_']).next().unwrap_or_default();
    let companion = COMPANIONS.binary_search(&first).is_ok();
    Form { kind, label, packed: packed.is_some(), other_data, companion }
}

fn kind(extension: &str, as_text: &[String]) -> Option<Kind> {
    if as_text.iter().any(|asked| asked == extension) {
        return Some(Kind::Asked);
    }
    match extension {
        "txt" | "text" => Some(Kind::Plain),
        "jsonl" | "ndjson" | "jsonlines" => Some(Kind::Records),
        "json" => Some(Kind::Json),
        "parquet" => Some(Kind::Parquet),
        _ => CODE.binary_search(&extension).is_ok().then_some(Kind::Code),
    }
}

fn extension(name: &str) -> Option<&str> {
    let (stem, extension) = name.rsplit_once('.')?;
    let plain = extension.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let sized = (1..=EXTENSION_BYTES_MAX).contains(&extension.len());
    (!stem.is_empty() && plain && sized).then_some(extension)
}

/// Says whether a file begins as JSON objects do: `{"…":`, perhaps within an array.
pub(crate) fn begins_as_json(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start().trim_start_matches('[').trim_start();
    let Some(key) = text.strip_prefix('{').and_then(|rest| rest.trim_start().strip_prefix('"'))
    else {
        return false;
    };
    let mut escaped = false;
    let end = key.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.is_some_and(|end| key[end + 1..].trim_start().starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_for_the_search() {
        assert!(CODE.is_sorted() && OTHER_DATA.is_sorted() && COMPANIONS.is_sorted());
    }

    #[test]
    fn a_name_says_how_a_file_is_read() {
        let asked = ["csv".to_owned(), "log".to_owned()];
        let table = [
            ("a.txt", Some(Kind::Plain), ".txt"),
            ("A.TXT", Some(Kind::Plain), ".txt"),
            ("a.RS", Some(Kind::Code), ".rs"),
            ("a.JsonL", Some(Kind::Records), ".jsonl"),
            ("a.ndjson.gz", Some(Kind::Records), ".ndjson.gz"),
            ("c4.00000-of-01024.json.gz", Some(Kind::Json), ".json.gz"),
            ("00.jsonl.zst", Some(Kind::Records), ".jsonl.zst"),
            ("RC_2019-04.zst", Some(Kind::Json), ".zst"),
            ("part-0.snappy.parquet", Some(Kind::Parquet), ".parquet"),
            ("df.parquet.gzip", Some(Kind::Parquet), ".parquet.gzip"),
            ("a.md.zstd", Some(Kind::Code), ".md.zstd"),
            ("a.tar.gz", None, ".tar.gz"),
            ("a.csv", Some(Kind::Asked), ".csv"),
            ("a.log.gz", Some(Kind::Asked), ".log.gz"),
            ("a.png", None, ".png"),
            ("jsonl", None, ""),
            (".jsonl", None, ""),
            ("0123abcdef", None, ""),
            ("Mr. Smith goes", None, ""),
        ];
        for (name, kind, label) in table {
            let form = form(OsStr::new(name), &asked);
            assert_eq!((form.kind, form.label.as_str()), (kind, label), "{name}");
        }
    }

    #[test]
    fn companions_of_data_are_known_by_name() {
        for name in ["README.md", "LICENSE-MIT.txt", "readme_zh.rst", "requirements.txt"] {
            assert!(form(OsStr::new(name), &[]).companion, "{name}");
        }
        for name in ["reader.txt", "licensed-works.txt", "train.txt"] {
            assert!(!form(OsStr::new(name), &[]).companion, "{name}");
        }
    }

    #[test]
    fn json_is_known_by_its_beginning() {
        for head in [r#"{"text": "a"}"#, "\n [\n {\n \"a\\\"b\" : 1", r#"[{"a":"#] {
            assert!(begins_as_json(head.as_bytes()), "{head}");
        }
        for head in ["", "{", "{}", "[Music] hello", "{\\bf bold}", "{\"quoted\" text}", "[\"a\"]"]
        {
            assert!(!begins_as_json(head.as_bytes()), "{head}");
        }
    }
}

#[cfg(test)]
mod names;
