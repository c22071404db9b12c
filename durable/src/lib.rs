//! Files that outlive a crash of the machine: one way to write them, for all programs.
//!
//! A file that is written under its own name may be found cut off, and one that was renamed may be
//! found under neither name: the file and the folder that names it both have to be synced.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The file system refused.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation} {}", path.display())]
pub struct Error {
    /// The operation that failed.
    pub operation: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why it did not go.
    pub source: io::Error,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error { operation, path, source }
}

/// The name of a file under way: beside `path`, so that renaming it moves no data.
#[must_use]
pub fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    path.with_file_name(name)
}

/// Writes a whole file: readers, and whoever comes after a crash, find what was there before or all
/// of `bytes`. Its folder is there already.
///
/// # Errors
/// It cannot be written; what was there before is still there.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = partial(path);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).map(|()| file))
        .map_err(failed("write", path));
    written.and_then(|file| finish(&file, path)).inspect_err(|_| {
        // The error is told already; what is left over is removed where it can be.
        let _ = fs::remove_file(&temporary);
    })
}

/// Gives a file that was written as [`partial`] its own name.
///
/// # Errors
/// It cannot be synced or renamed.
pub fn finish(file: &File, path: &Path) -> Result<(), Error> {
    file.sync_all().map_err(failed("make durable", path))?;
    rename(&partial(path), path)
}

/// Renames a file or folder, whose contents are durable already, within its folder.
///
/// # Errors
/// It cannot be renamed, or the folder not be synced.
pub fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(failed("rename to", to))?;
    sync_folder(parent(to))
}

/// Makes a folder, and those that it is in.
///
/// # Errors
/// One of them cannot be made or synced.
pub fn create_folder(path: &Path) -> Result<(), Error> {
    let there = path.ancestors().skip_while(|folder| !here(folder).is_dir());
    let named = path.ancestors().count() - there.count();
    fs::create_dir_all(path).map_err(failed("create", path))?;
    path.ancestors().take(named).try_for_each(|folder| sync_folder(parent(folder)))
}

/// Makes durable which names a folder has.
///
/// # Errors
/// It is no folder, or cannot be synced.
pub fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = here(path);
    File::open(folder).and_then(|file| file.sync_all()).map_err(failed("make durable", folder))
}

/// The folder that a path is in.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    here(path.parent().unwrap_or(path))
}

/// The current folder has no name in a relative path.
fn here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        create_folder(&folder).unwrap();
        let path = folder.join("state.json");
        for text in ["one", "another"] {
            write(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn files_whose_names_differ_in_their_endings_are_not_under_way_under_one_name() {
        assert_ne!(partial(Path::new("run.json")), partial(Path::new("run.yaml")));
        assert_eq!(parent(Path::new("run.json")), Path::new("."));
    }

    #[test]
    fn an_error_names_what_was_tried_on_what_and_leaves_what_was_there() {
        let root = tempfile::tempdir().unwrap();
        let missing = root.path().join("missing/state.json");
        let error = write(&missing, b"").unwrap_err().to_string();
        assert_eq!(error, format!("failed to write {}", missing.display()));
        // A folder that holds something is in the way of the rename.
        let path = root.path().join("taken");
        fs::create_dir_all(path.join("inner")).unwrap();
        let error = write(&path, b"new").unwrap_err();
        assert_eq!(error.to_string(), format!("failed to rename to {}", path.display()));
        assert!(!partial(&path).exists() && path.join("inner").is_dir());
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let error = create_folder(&file.join("under")).unwrap_err().to_string();
        assert!(error.starts_with("failed to create "), "{error}");
    }
}

#[cfg(test)]
mod crash;
