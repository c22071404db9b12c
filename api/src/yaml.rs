//! Text to values, and where in the text each of them stands.
//!
//! serde_yaml knows a place only where it refuses something. So whoever wants to know the place of
//! a field has the document read once more up to that field, and refused there.

mod place;
#[cfg(test)]
mod tests;
mod tree;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed as _, IgnoredAny};
use serde_json::Value;

use tree::Tree;

/// Bytes of a text that are read.
pub const TEXT_MAX: usize = 4 << 20;
/// Values that all documents of a text may have, with aliases written out.
const VALUES_MAX: usize = 1 << 20;

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// From 1.
    pub line: usize,
    /// Characters, from 1.
    pub column: usize,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A text of YAML documents, or of JSON values one after another.
pub(crate) struct Text<'a> {
    whole: Cow<'a, str>,
    /// Beginning and end of each part in it: the JSON values, or all of it.
    parts: Vec<(usize, usize)>,
}

/// One document of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    part: usize,
    /// Index of the document in the part.
    index: usize,
}

/// Why a text is read no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Number of the document, from 1.
    pub document: usize,
    pub mark: Option<Mark>,
    /// The message: what is wrong and what to change.
    pub message: String,
}

impl<'a> Text<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        // Byte-order marks are what is left of files that were put one after another.
        let whole = match text.contains('\u{feff}') {
            true => Cow::Owned(text.trim_start_matches('\u{feff}').replace("\n\u{feff}", "\n")),
            false => Cow::Borrowed(text),
        };
        let parts = json_values(&whole).unwrap_or_else(|| vec![(0, whole.len())]);
        Self { whole, parts }
    }

    /// All documents with something in them, up to the first that cannot be read.
    pub(crate) fn documents(&self) -> (Vec<(Spot, Value)>, Option<Broken>) {
        let mut found = Vec::new();
        if self.whole.len() > TEXT_MAX {
            let message = format!(
                "{} bytes are more than {TEXT_MAX}: give the file of the run and its islands alone",
                self.whole.len()
            );
            return (found, Some(Broken { document: 1, mark: None, message }));
        }
        let left = Cell::new(VALUES_MAX);
        let mut document = 0;
        for (part, &(from, to)) in self.parts.iter().enumerate() {
            let text = &self.whole[from..to];
            let before = left.get();
            for (index, reader) in serde_yaml::Deserializer::from_str(text).enumerate() {
                document += 1;
                let spot = Spot { part, index };
                match Tree(&left).deserialize(reader) {
                    Ok(Value::Null) => {}
                    Ok(value) => found.push((spot, value)),
                    // JSON has escapes that YAML has not.
                    Err(error) => match json(text, &Cell::new(before)) {
                        Some(Ok(value)) => {
                            found.push((spot, value));
                            break;
                        }
                        Some(Err(lossy)) => {
                            let mark = Mark { line: lossy.line(), column: lossy.column() };
                            let mark = Some(self.in_whole(part, mark));
                            let message = lossy.to_string();
                            return (found, Some(Broken { document, mark, message }));
                        }
                        None => return (found, Some(self.broken(document, part, &error))),
                    },
                }
            }
        }
        (found, None)
    }

    fn broken(&self, document: usize, part: usize, error: &serde_yaml::Error) -> Broken {
        let said = error.to_string();
        let place = error.location();
        let place = place.map(|place| Mark { line: place.line(), column: place.column() });
        let (from, to) = self.parts[part];
        let mark = opened(&said).or_else(|| position(&said, &self.whole[from..to])).or(place);
        let mark = mark.map(|mark| self.in_whole(part, mark));
        if let Some((place, remedy)) = mark.and_then(|mark| self.remedy(mark)) {
            return Broken { document, mark: Some(place), message: format!("{remedy} ({said})") };
        }
        let message = match said.starts_with("repetition limit") {
            true => format!("{said}: use fewer aliases in aliases"),
            false => said,
        };
        Broken { document, mark, message }
    }

    /// A part's mark in the whole text.
    fn in_whole(&self, part: usize, mark: Mark) -> Mark {
        let before = &self.whole[..self.parts[part].0];
        let line = before.matches('\n').count();
        let first = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let column = if mark.line == 1 { first + mark.column } else { mark.column };
        Mark { line: line + mark.line, column }
    }

    /// The advice for a text that is no YAML, and its place, for mistakes that are seen often. Of a
    /// line that runs into the next, the reader says the next.
    fn remedy(&self, mark: Mark) -> Option<(Mark, String)> {
        let line = |number: usize| self.whole.lines().nth(number.checked_sub(1)?);
        for number in [mark.line, mark.line.saturating_sub(1)] {
            let Some(text) = line(number) else { continue };
            let indent = text.len() - text.trim_start().len();
            let odd = |c: char| c.is_whitespace() && !matches!(c, ' ' | '\t' | '\r');
            let at = |c: char| text.chars().position(|own| own == c).map_or(1, |at| at + 1);
            if text[..indent].contains('\t') {
                let place = Mark { line: number, column: at('\t') };
                return Some((
                    place,
                    "the line begins with a tab: write spaces in its place".into(),
                ));
            }
            if let Some(odd) = text.chars().find(|c| odd(*c)) {
                let place = Mark { line: number, column: at(odd) };
                let code = u32::from(odd);
                let why = format!("U+{code:04X} is no space for YAML: write an ordinary one");
                return Some((place, why));
            }
        }
        let text = line(mark.line)?;
        if ["<<<<<<<", "=======", ">>>>>>>"].iter().any(|sign| text.starts_with(sign)) {
            return Some((mark, "a merge is not finished: choose one of its sides".into()));
        }
        let name = text.trim_start().trim_start_matches("- ");
        let end = name.find(|c: char| !c.is_alphanumeric()).unwrap_or(name.len());
        if let Some(value) = name[end..].trim_start().strip_prefix([':', '='])
            && end > 0
            && !value.is_empty()
            && !name[end..].starts_with(": ")
        {
            let meant = format!("{}: {}", &name[..end], value.trim());
            return Some((
                mark,
                format!("a field is a name, a colon and a space: write `{meant}`"),
            ));
        }
        if text.contains("{{") {
            return Some((mark, "a template has to be rendered first: helm template".into()));
        }
        match text.chars().nth(mark.column.checked_sub(1)?) {
            Some(c @ ('@' | '`' | '%')) => {
                Some((mark, format!("what begins with {c} has to stand in quotes")))
            }
            _ => None,
        }
    }
}

/// A text as one JSON value, or what would be lost in it; `None` where it is no JSON.
fn json(text: &str, left: &Cell<usize>) -> Option<Result<Value, serde_json::Error>> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Tree(left).deserialize(&mut reader);
    match value.and_then(|value| reader.end().map(|()| value)) {
        Err(error) if !error.is_data() => None,
        read => Some(read),
    }
}

/// The place where something that is not closed was opened, or where something without a colon
/// began: the reader comes to see that it is wrong lines later.
fn opened(said: &str) -> Option<Mark> {
    const CONTEXTS: [&str; 4] = [
        "while parsing a flow mapping at line ",
        "while parsing a flow sequence at line ",
        "while scanning a quoted scalar at line ",
        "while scanning a simple key at line ",
    ];
    let place = CONTEXTS.into_iter().find_map(|context| said.split_once(context))?.1;
    let (line, column) = place.split_once(" column ")?;
    let digits = column.find(|c: char| !c.is_ascii_digit()).unwrap_or(column.len());
    Some(Mark { line: line.parse().ok()?, column: column[..digits].parse().ok()? })
}

/// The place of the byte that an error names where it has no line.
fn position(said: &str, text: &str) -> Option<Mark> {
    let at: usize = said.rsplit_once(" at position ")?.1.parse().ok()?;
    let before = text.get(..at)?;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Some(Mark { line: before.matches('\n').count() + 1, column })
}

/// The places of a text's JSON values, where it is several of them, one after another.
fn json_values(text: &str) -> Option<Vec<(usize, usize)>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut parts = Vec::new();
    let mut from = 0;
    while let Some(value) = reader.next() {
        let is_json = value.is_ok();
        // A later break is reported at its place, unless the text is YAML from there on.
        if !is_json && (parts.is_empty() || text[from..].trim_start().starts_with("---")) {
            return None;
        }
        let to = if is_json { reader.byte_offset() } else { text.len() };
        parts.push((from, to));
        from = to;
        if !is_json {
            break;
        }
    }
    (parts.len() > 1).then_some(parts)
}
