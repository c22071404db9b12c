//! Which files of the inputs are read, and in which order.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

/// Files of these extensions are read as text.
const TEXT: [&str; 60] = [
    "adoc", "asm", "bash", "c", "cc", "clj", "cpp", "cs", "css", "cu", "cuh", "cxx", "dart", "erl",
    "ex", "exs", "fs", "go", "h", "hh", "hpp", "hs", "html", "hxx", "java", "jl", "js", "jsx",
    "kt", "kts", "lean", "lua", "m", "md", "mjs", "ml", "mli", "mm", "nix", "php", "pl", "proto",
    "py", "pyi", "r", "rb", "rs", "rst", "scala", "sh", "sql", "swift", "tex", "toml", "ts", "tsx",
    "txt", "yaml", "yml", "zig",
];

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The file is text.
    Text,
    /// Every line is a JSON object with the field `text`.
    JsonLines,
}

/// One file to read.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) bytes: u64,
}

/// The files of the inputs: a file as it was given, a folder's in the order of their names,
/// recursively, without hidden ones, symbolic links and unknown extensions.
pub(crate) fn sources(inputs: &[PathBuf]) -> impl Iterator<Item = Result<Source, walkdir::Error>> {
    inputs.iter().flat_map(|input| {
        WalkDir::new(input)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(|entry| entry.depth() == 0 || !hidden(entry.file_name()))
            .filter_map(|entry| entry.and_then(|entry| source(&entry)).transpose())
    })
}

/// Whether an input exists.
pub(crate) fn check_input(input: &Path) -> io::Result<()> {
    std::fs::metadata(input).map(|_| ())
}

fn source(entry: &DirEntry) -> Result<Option<Source>, walkdir::Error> {
    let given = entry.depth() == 0;
    // A link that was given is followed; one within a folder may lead out of it.
    let metadata = if given && entry.path_is_symlink() {
        std::fs::metadata(entry.path()).ok()
    } else {
        Some(entry.metadata()?)
    };
    let Some(metadata) = metadata.filter(std::fs::Metadata::is_file) else { return Ok(None) };
    let kind = kind(entry.path()).or(given.then_some(Kind::Text));
    let source = |kind| Source { path: entry.path().to_owned(), kind, bytes: metadata.len() };
    Ok(kind.map(source))
}

fn kind(path: &Path) -> Option<Kind> {
    let extension = path.extension().and_then(OsStr::to_str)?;
    match extension {
        "jsonl" => Some(Kind::JsonLines),
        _ => TEXT.binary_search(&extension).is_ok().then_some(Kind::Text),
    }
}

fn hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().first() == Some(&b'.')
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(root: &Path) -> Vec<String> {
        let name = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
        let inputs = [root.to_owned()];
        sources(&inputs).map(|source| name(&source.unwrap().path)).collect()
    }

    #[test]
    fn the_extensions_are_sorted_for_the_search() {
        assert!(TEXT.is_sorted());
    }

    #[test]
    fn a_folder_gives_its_text_files_in_the_order_of_names() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["b/z.rs", "b/a.txt", "a.jsonl", "c.bin", "c", ".hidden.rs", ".git/x.rs"] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "text").unwrap();
        }
        assert_eq!(names(root), ["a.jsonl", "b/a.txt", "b/z.rs"]);
    }

    #[test]
    fn links_within_a_folder_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.txt"), "text").unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("out")).unwrap();
        std::os::unix::fs::symlink(
            outside.path().join("secret.txt"),
            folder.path().join("link.txt"),
        )
        .unwrap();
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_given_file_is_read_whatever_its_name_and_a_given_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".corpus"), "text").unwrap();
        std::os::unix::fs::symlink(folder.path().join(".corpus"), folder.path().join("link"))
            .unwrap();
        for name in [".corpus", "link"] {
            let inputs = [folder.path().join(name)];
            let found: Vec<_> = sources(&inputs).collect();
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found[0].as_ref().unwrap().bytes, 4);
        }
    }
}
