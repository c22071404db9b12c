//! Texts as kubectl takes them: files, folders, standard input, and UTF-16 with its mark.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, str};

use super::ManifestError;

/// The path that stands for standard input.
const STDIN: &str = "-";
/// Files of a folder that are manifests.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The texts of the files, each with a name for messages.
///
/// # Errors
/// When one of them cannot be read or is no text.
pub fn manifests(paths: &[PathBuf]) -> Result<Vec<(String, String)>, ManifestError> {
    let mut texts = Vec::new();
    for path in paths {
        let files = if path.is_dir() { folder(path)? } else { vec![path.clone()] };
        for file in files {
            let name = match file == Path::new(STDIN) {
                true => "standard input".to_owned(),
                false => file.display().to_string(),
            };
            texts.push((name, read(&file, api::TEXT_MAX)?));
        }
    }
    Ok(texts)
}

/// The manifests of a folder in the order of their names; folders in it are passed over.
fn folder(path: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    let unread = |source| ManifestError::Read { path: path.to_owned(), source };
    let entries = fs::read_dir(path).map_err(unread)?;
    let entries = entries.collect::<Result<Vec<_>, _>>().map_err(unread)?;
    let is_manifest = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|own| EXTENSIONS.contains(&own)) && path.is_file()
    };
    let mut files: Vec<PathBuf> =
        entries.into_iter().map(|entry| entry.path()).filter(is_manifest).collect();
    files.sort();
    if files.is_empty() { Err(ManifestError::NoFiles(path.to_owned())) } else { Ok(files) }
}

/// The text of a file, or of standard input; of a longer one than `most` bytes more than those, for
/// whoever reads it to refuse.
///
/// # Errors
/// When it cannot be read or is no text.
pub(crate) fn read(path: &Path, most: usize) -> Result<String, ManifestError> {
    // As UTF-16 a text may take twice as many bytes, and its mark.
    let limit = 2 * most as u64 + 4;
    let text = || {
        let mut bytes = Vec::new();
        let read = opened(path)?.take(limit).read_to_end(&mut bytes)?;
        decoded(bytes, read as u64 == limit)
    };
    text().map_err(|source| ManifestError::Read { path: path.to_owned(), source })
}

fn opened(path: &Path) -> io::Result<Box<dyn Read>> {
    static READ: AtomicBool = AtomicBool::new(false);
    if path != Path::new(STDIN) {
        let url = ["http://", "https://"].into_iter();
        if url.into_iter().any(|scheme| path.to_string_lossy().starts_with(scheme)) {
            return Err(io::Error::other("a URL is not fetched: use curl -fsSL URL | … -f -"));
        }
        return Ok(Box::new(fs::File::open(path)?));
    }
    if READ.swap(true, Ordering::Relaxed) {
        return Err(io::Error::other("standard input is read once only: give one - alone"));
    }
    Ok(Box::new(io::stdin()))
}

/// UTF-8, or UTF-16 where a mark at the beginning says so, as PowerShell writes it. A text that
/// `is_cut` may end inside a character, which is no part of it then.
fn decoded(mut bytes: Vec<u8>, is_cut: bool) -> io::Result<String> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let wide = |bytes: &[u8], of: fn([u8; 2]) -> u16| {
        let broken = || invalid("it is broken UTF-16: save it as UTF-8".into());
        if !bytes.len().is_multiple_of(2) {
            return Err(broken());
        }
        let mut units: Vec<u16> =
            bytes.chunks_exact(2).map(|pair| of([pair[0], pair[1]])).collect();
        units.pop_if(|unit| is_cut && (0xd800..0xdc00).contains(unit));
        String::from_utf16(&units).map_err(|_| broken())
    };
    match bytes[..] {
        [0xff, 0xfe, ref rest @ ..] => return wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, ref rest @ ..] => return wide(rest, u16::from_be_bytes),
        [0x1f, 0x8b, ..] => {
            return Err(invalid("it is compressed: use gzip -dc FILE | … -f -".into()));
        }
        _ => {}
    }
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let place = place(&bytes[..at]);
        return Err(invalid(format!("{place}: a zero byte is no text: save it as UTF-8")));
    }
    if let Err(error) = str::from_utf8(&bytes)
        && error.error_len().is_none()
        && is_cut
    {
        bytes.truncate(error.valid_up_to());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let place = place(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        invalid(format!("{place}: this is not UTF-8: save it as UTF-8"))
    })?;
    // Some editors put a byte-order mark first.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Line and column behind a text.
fn place(before: &[u8]) -> String {
    let text = String::from_utf8_lossy(before);
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}")
}

#[cfg(test)]
mod long;

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "kind: TrainingRun\nname: ä\n";

    fn written(bytes: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.yaml");
        fs::write(&path, bytes).unwrap();
        read(&path, 100).map_err(|error| match error {
            ManifestError::Read { source, .. } => source.to_string(),
            other => other.to_string(),
        })
    }

    #[test]
    fn texts_are_read_in_the_encodings_that_kubectl_reads() {
        let wide = |mark: [u8; 2], of: fn(u16) -> [u8; 2]| {
            let units = TEXT.encode_utf16().flat_map(of);
            mark.into_iter().chain(units).collect::<Vec<u8>>()
        };
        let forms = [
            TEXT.as_bytes().to_vec(),
            format!("\u{feff}{TEXT}").into_bytes(),
            wide([0xff, 0xfe], u16::to_le_bytes),
            wide([0xfe, 0xff], u16::to_be_bytes),
        ];
        for form in forms {
            assert_eq!(written(&form).as_deref(), Ok(TEXT));
        }
        assert!(written(&[b'x'; 300]).is_ok_and(|text| text.len() > 100));
    }

    #[test]
    fn what_is_no_text_is_refused_where_it_is_not() {
        let refused = |bytes: &[u8]| written(bytes).unwrap_err();
        assert_eq!(
            refused(b"a: 1\nb: \xe4\n"),
            "line 2, column 4: this is not UTF-8: save it as UTF-8"
        );
        let zero = "line 1, column 2: a zero byte is no text: save it as UTF-8";
        assert_eq!(refused(b"a\0:\0"), zero);
        assert!(refused(b"\xff\xfe\x00\xd8").starts_with("it is broken UTF-16"));
        assert!(refused(b"\x1f\x8b\x08").starts_with("it is compressed"));
    }

    #[test]
    fn a_folder_is_its_manifests_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().to_owned()];
        let none = manifests(&paths).unwrap_err().to_string();
        assert!(none.ends_with("no file there ends in .yaml, .yml or .json"), "{none}");
        for name in ["b.yml", "a.yaml", "c.json", "README.md", "d.yaml.bak"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("more.yaml")).unwrap();
        let texts: Vec<_> = manifests(&paths).unwrap().into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["a.yaml", "b.yml", "c.json"]);
    }

    #[test]
    fn a_url_is_not_taken_for_a_file() {
        let url = PathBuf::from("https://example.com/run.yaml");
        let Err(ManifestError::Read { source, .. }) = manifests(&[url]) else { panic!("read") };
        assert!(source.to_string().contains("curl -fsSL"), "{source}");
    }
}
