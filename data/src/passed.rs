//! Files that were passed over: counted by reason and extension, and whether it was too much.

use std::collections::BTreeMap;
use std::fmt;

/// Most reasons that are named, those with the most bytes first.
const NAMED_MAX: usize = 8;

/// Why a file is not read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// Files of its extension are not read; empty where it has none.
    Extension(String),
    /// It is text of this extension that stands beside records.
    BesideRecords(String),
    /// JSON whose objects have no field of the text's name.
    NoField(String),
    /// Parquet without the column, or with something else than text in it.
    NoColumn(String),
    /// The file that it unpacks to stands beside it.
    Unpacked(String),
    /// It has zero bytes, as text has not.
    Binary(String),
    /// A pointer of Git LFS, whose data was not fetched.
    LfsPointer,
    /// Its name begins with a dot.
    Hidden,
    /// A symbolic link to a folder.
    LinkToFolder,
    /// A symbolic link to nothing.
    BrokenLink,
    /// A symbolic link to a file that is read under another name.
    Doubled,
    /// A pipe, a socket, a device.
    Special,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |label: &str| match label {
            "" => "without extension".to_owned(),
            label => label.to_owned(),
        };
        match self {
            Self::Extension(label) => f.write_str(&or(label)),
            Self::BesideRecords(label) => write!(f, "{} beside records", or(label)),
            Self::NoField(label) => write!(f, "{} without the text's field", or(label)),
            Self::NoColumn(label) => write!(f, "{} without the text's column", or(label)),
            Self::Unpacked(label) => write!(f, "{} beside the same unpacked", or(label)),
            Self::Binary(label) => write!(f, "{}, binary", or(label)),
            Self::LfsPointer => f.write_str("pointers of Git LFS (fetch them: git lfs pull)"),
            Self::Hidden => f.write_str("hidden"),
            Self::LinkToFolder => f.write_str("links to folders (give those as inputs)"),
            Self::BrokenLink => f.write_str("links to nothing"),
            Self::Doubled => f.write_str("links to files that are read anyway"),
            Self::Special => f.write_str("pipes, sockets or devices"),
        }
    }
}

/// Files passed over, with their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PassedOver {
    reasons: BTreeMap<Why, (u64, u64)>,
}

impl PassedOver {
    pub(crate) fn add(&mut self, why: Why, bytes: u64) {
        let (files, all) = self.reasons.entry(why).or_default();
        *files += 1;
        *all += bytes;
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        for (why, (files, bytes)) in &other.reasons {
            let entry = self.reasons.entry(why.clone()).or_default();
            entry.0 += files;
            entry.1 += bytes;
        }
    }

    pub(crate) fn files(&self) -> u64 {
        self.reasons.values().map(|(files, _)| files).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }
}

impl fmt::Display for PassedOver {
    /// `3 .csv (1200 bytes), 1 .md beside records (10 bytes) and 4 files more`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: Vec<_> = self.reasons.iter().collect();
        all.sort_by_key(|(why, (_, bytes))| (std::cmp::Reverse(*bytes), *why));
        let (named, rest) = all.split_at(all.len().min(NAMED_MAX));
        for (at, (why, (files, bytes))) in named.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{files} {why}")?;
            if *bytes > 0 {
                write!(f, " ({bytes} bytes)")?;
            }
        }
        match rest.iter().map(|(_, (files, _))| files).sum() {
            0u64 => Ok(()),
            files => write!(f, " and {files} files more"),
        }
    }
}

/// Counts of what is read of one input, and of what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: PassedOver,
    /// Bytes read, or to be read.
    taken: u64,
    /// Bytes passed over, and left out of what was read.
    lost: u64,
}

impl Tally {
    /// A file is to be read.
    pub(crate) fn take(&mut self, bytes: u64) {
        self.taken += bytes;
    }

    /// A file is not to be read.
    pub(crate) fn pass_over(&mut self, why: Why, bytes: u64) {
        self.passed.add(why, bytes);
        self.lost += bytes;
    }

    /// A file of `stored` bytes, which was to be read, is no text; it stands for `bytes`.
    pub(crate) fn pass_over_after_all(&mut self, why: Why, stored: u64, bytes: u64) {
        self.taken -= stored.min(self.taken);
        self.pass_over(why, bytes);
    }

    /// Takes note that `lost` of `seen` units of a file's `bytes`, which were to be read, are no
    /// text.
    pub(crate) fn lose(&mut self, bytes: u64, lost: u64, seen: u64) {
        let scaled = u128::from(bytes) * u128::from(lost.min(seen)) / u128::from(seen.max(1));
        let bytes = u64::try_from(scaled).unwrap_or(bytes);
        self.taken -= bytes.min(self.taken);
        self.lost += bytes;
    }

    /// The files that were passed over.
    pub(crate) fn passed(&self) -> &PassedOver {
        &self.passed
    }

    /// Bytes lost and bytes of all, where most are lost.
    pub(crate) fn mostly_lost(&self) -> Option<(u64, u64)> {
        (self.lost > self.taken).then_some((self.lost, self.lost + self.taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_passed_over_is_named_by_its_bytes_and_bounded() {
        let mut passed = PassedOver::default();
        for (why, bytes) in [
            (Why::Extension(".csv".to_owned()), 5),
            (Why::Extension(String::new()), 20),
            (Why::Extension(".csv".to_owned()), 6),
            (Why::Hidden, 0),
        ] {
            passed.add(why, bytes);
        }
        let text = "1 without extension (20 bytes), 2 .csv (11 bytes), 1 hidden";
        assert_eq!((passed.to_string().as_str(), passed.files()), (text, 4));
        for number in 0..100 {
            passed.add(Why::Extension(format!(".{number}")), 1);
        }
        assert!(passed.to_string().ends_with(" and 95 files more"), "{passed}");
    }

    #[test]
    fn most_is_more_than_half() {
        let mut tally = Tally::default();
        tally.take(100);
        tally.pass_over(Why::Hidden, 40);
        assert_eq!(tally.mostly_lost(), None);
        tally.lose(60, 1, 2);
        assert_eq!(tally.mostly_lost(), None);
        tally.lose(2, 5, 3);
        assert_eq!(tally.mostly_lost(), Some((72, 140)));
    }
}

#[cfg(test)]
mod sums;
