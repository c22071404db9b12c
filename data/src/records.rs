//! Records of text: JSON objects with the text in a field. They come one on a line, or as values
//! that stand in an array or one after the other.
//!
//! Faults that real files have and JSON has not are borne where they are not in the text: NaN and
//! Infinity, doubled keys (the last counts, as everywhere), half surrogate pairs, control
//! characters.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, Read};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::content::clean;

/// A longer record is left out.
pub(crate) const RECORD_BYTES_MAX: usize = 16 << 20;
/// Most fields of a record that are named where the text's is not among them.
const FIELDS_NAMED_MAX: usize = 8;
const FIELD_NAME_CHARS_MAX: usize = 40;

/// Why a record has no text to train on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Problem {
    /// It is not JSON, or ends early.
    NotJson,
    /// It is JSON, and no object.
    NotObject,
    /// It has no field of the text's name.
    NoField,
    /// The field has something else than a string.
    NotText,
    /// The text has half of a surrogate pair, so a character of it is lost.
    HalfPair,
    /// It is longer than [`RECORD_BYTES_MAX`].
    TooLong,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => f.write_str("are not JSON, or end early"),
            Self::NotObject => f.write_str("are no JSON objects"),
            Self::NoField => f.write_str("have no field of the text's name"),
            Self::NotText => f.write_str("have no string in the text's field"),
            Self::HalfPair => f.write_str("have half of a surrogate pair in the text"),
            Self::TooLong => write!(f, "are longer than {RECORD_BYTES_MAX} bytes"),
        }
    }
}

/// How the records of a file stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One on a line.
    Lines,
    /// Over several lines, or in an array.
    Values,
}

/// Tells the shape by a file's beginning.
pub(crate) fn shape(head: &[u8]) -> Shape {
    let text = head.trim_ascii_start();
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    match (text.first(), line.last()) {
        (Some(b'['), _) | (Some(b'{'), Some(b'{' | b'[' | b',')) => Shape::Values,
        _ => Shape::Lines,
    }
}

/// One record.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    /// The number of its line, or of the record where they do not stand on lines; counted from 1.
    pub(crate) number: u64,
    /// As it stands there, UTF-8 alone; not all of it where it is too long.
    pub(crate) raw: &'a str,
    /// Its bytes, all of them.
    pub(crate) bytes: u64,
    /// Byte sequences left out of it for not being UTF-8.
    pub(crate) invalid_utf8: u64,
    /// Its text, or why it has none.
    pub(crate) text: Result<Cow<'a, str>, Problem>,
}

/// Takes a record; an error ends the reading.
pub(crate) type Receive<'a, E> = &'a mut dyn FnMut(&Record<'_>) -> Result<(), E>;

/// Hands all records to `receive`.
pub(crate) fn read_records<E: From<io::Error>>(
    reader: impl BufRead,
    shape: Shape,
    field: &str,
    receive: Receive<'_, E>,
) -> Result<(), E> {
    match shape {
        Shape::Lines => read_lines(reader, field, receive),
        Shape::Values => read_values(reader, field, receive),
    }
}

fn read_lines<E: From<io::Error>>(
    mut reader: impl BufRead,
    field: &str,
    receive: Receive<'_, E>,
) -> Result<(), E> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let most = RECORD_BYTES_MAX as u64;
        let got = reader.by_ref().take(most).read_until(b'\n', &mut line)?;
        if got == 0 {
            break;
        }
        let mut bytes = got as u64;
        let too_long = got == RECORD_BYTES_MAX && line.last() != Some(&b'\n');
        if too_long {
            bytes += skip_line(&mut reader)?;
        }
        let raw = line.trim_ascii();
        let raw = raw.strip_suffix(b",").unwrap_or(raw);
        if raw.is_empty() {
            continue;
        }
        if !too_long && joined(raw) {
            let mut on_line = |record: &Record<'_>| {
                let text = record.text.as_deref().map(Cow::Borrowed).map_err(|problem| *problem);
                receive(&Record { number, text, ..*record })
            };
            read_values(raw, field, &mut on_line)?;
        } else {
            hand_over(Stored { number, raw, bytes, too_long }, field, receive)?;
        }
    }
    Ok(())
}

fn read_values<E: From<io::Error>>(
    reader: impl BufRead,
    field: &str,
    receive: Receive<'_, E>,
) -> Result<(), E> {
    let mut values = Values { reader, open_arrays: 0, value: Vec::new() };
    for number in 1.. {
        let Some((bytes, end)) = values.next()? else { break };
        let (raw, too_long) = (values.value.as_slice(), end == End::TooLong);
        hand_over(Stored { number, raw, bytes, too_long }, field, receive)?;
    }
    Ok(())
}

/// A record as it is stored.
struct Stored<'a> {
    number: u64,
    raw: &'a [u8],
    bytes: u64,
    too_long: bool,
}

fn hand_over<E>(
    Stored { number, raw, bytes, too_long }: Stored<'_>,
    field: &str,
    receive: Receive<'_, E>,
) -> Result<(), E> {
    let (raw, invalid_utf8) = clean(raw);
    let text = if too_long { Err(Problem::TooLong) } else { text_of(&raw, field) };
    receive(&Record { number, raw: &raw, bytes, invalid_utf8, text })
}

/// Passes over the rest of a line; its bytes.
fn skip_line(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut bytes = 0;
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let got = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(got);
        bytes += got as u64;
        if end.is_some() || got == 0 {
            return Ok(bytes);
        }
    }
}

/// Says whether a line has several objects, as where files were joined that end without a line end.
fn joined(line: &[u8]) -> bool {
    if line.first() != Some(&b'{') {
        return false;
    }
    let mut scan = Scan::default();
    let end = line.iter().position(|&byte| scan.ends(byte));
    let rest = end.map_or(&[][..], |end| line[end + 1..].trim_ascii_start());
    rest.first() == Some(&b'{')
}

/// Finds the end of an object: the brace that closes it, outside strings.
#[derive(Default)]
struct Scan {
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Takes the next byte; whether the object ends with it.
    fn ends(&mut self, byte: u8) -> bool {
        if self.in_string {
            self.in_string = byte != b'"' || self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.depth == 0
    }
}

/// How a value ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As it should, or with the file: then it is not JSON.
    Any,
    /// Not all of it was kept.
    TooLong,
}

/// The values of a file: those of arrays, and those that follow one another.
struct Values<R> {
    reader: R,
    open_arrays: u64,
    /// The last one.
    value: Vec<u8>,
}

impl<R: BufRead> Values<R> {
    /// Reads the next value; its bytes.
    fn next(&mut self) -> io::Result<Option<(u64, End)>> {
        self.value.clear();
        loop {
            let Some(&byte) = self.reader.fill_buf()?.first() else {
                // An array that does not end is reported as a record that is no JSON.
                return Ok((std::mem::take(&mut self.open_arrays) > 0).then_some((1, End::Any)));
            };
            match byte {
                b'[' => self.open_arrays += 1,
                b']' => self.open_arrays = self.open_arrays.saturating_sub(1),
                b',' => {}
                byte if byte.is_ascii_whitespace() => {}
                b'{' => {
                    let mut scan = Scan::default();
                    return self.take_until(|byte| scan.ends(byte)).map(Some);
                }
                _ => return self.take_other().map(Some),
            }
            self.reader.consume(1);
        }
    }

    /// A value that is no object, with what follows it up to the next comma or bracket.
    fn take_other(&mut self) -> io::Result<(u64, End)> {
        let (mut in_string, mut escaped) = (false, false);
        let result = self.take_until(|byte| {
            if in_string {
                in_string = byte != b'"' || escaped;
                escaped = byte == b'\\' && !escaped;
                return false;
            }
            in_string = byte == b'"';
            matches!(byte, b',' | b']' | b'\n')
        })?;
        if self.value.last() == Some(&b']') {
            self.open_arrays = self.open_arrays.saturating_sub(1);
        }
        if let Some(b',' | b']') = self.value.last() {
            self.value.pop();
        }
        Ok(result)
    }

    /// Reads up to and with the byte for which `ends` holds.
    fn take_until(&mut self, mut ends: impl FnMut(u8) -> bool) -> io::Result<(u64, End)> {
        let (mut bytes, mut how) = (0, End::Any);
        loop {
            let buffer = self.reader.fill_buf()?;
            let end = buffer.iter().position(|&byte| ends(byte));
            let got = end.map_or(buffer.len(), |end| end + 1);
            if self.value.len() + got <= RECORD_BYTES_MAX {
                self.value.extend_from_slice(&buffer[..got]);
            } else {
                how = End::TooLong;
            }
            self.reader.consume(got);
            bytes += got as u64;
            if end.is_some() || got == 0 {
                if got == 0 {
                    // This value is what is reported.
                    self.open_arrays = 0;
                }
                return Ok((bytes, how));
            }
        }
    }
}

/// The text of a record.
fn text_of<'a>(raw: &'a str, field: &str) -> Result<Cow<'a, str>, Problem> {
    match strict_text(raw, field) {
        Err(Problem::NotJson) => {
            let tamed = tame(raw);
            strict_text(&tamed, field).map(|text| Cow::Owned(text.into_owned()))
        }
        known => known,
    }
}

fn strict_text<'a>(raw: &'a str, field: &str) -> Result<Cow<'a, str>, Problem> {
    if !raw.starts_with('{') {
        let json = serde_json::from_str::<IgnoredAny>(raw).is_ok();
        return Err(if json { Problem::NotObject } else { Problem::NotJson });
    }
    let mut json = serde_json::Deserializer::from_str(raw);
    let bytes = match json.deserialize_map(TextField(field)) {
        Ok(bytes) => bytes,
        // Only the text's field is asked to be of a type.
        Err(error) if error.is_data() => return Err(Problem::NotText),
        Err(_) => return Err(Problem::NotJson),
    };
    json.end().map_err(|_| Problem::NotJson)?;
    match bytes.ok_or(Problem::NoField)? {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).ok(),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).ok(),
    }
    .ok_or(Problem::HalfPair)
}

/// JSON in place of what real files have: `NaN`, `Infinity`, and control characters in strings.
fn tame(raw: &str) -> String {
    let mut tamed = String::with_capacity(raw.len());
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = raw;
    while let Some(character) = rest.chars().next() {
        let numbers = ["NaN", "-Infinity", "Infinity"];
        let number = numbers.iter().find(|number| !in_string && rest.starts_with(**number));
        if let Some(number) = number {
            tamed.push_str("null");
            rest = &rest[number.len()..];
            continue;
        }
        rest = &rest[character.len_utf8()..];
        if in_string && u32::from(character) < 0x20 && !escaped {
            tamed.push_str(&format!("\\u{:04x}", u32::from(character)));
            continue;
        }
        if character == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && character == '\\' && !escaped;
        tamed.push(character);
    }
    tamed
}

/// The fields of a record that has not the text's.
pub(crate) fn fields(raw: &str) -> Vec<String> {
    let tamed = tame(raw);
    let mut names = Vec::new();
    let mut json = serde_json::Deserializer::from_str(&tamed);
    // Fields that were named before an error are named.
    let _ = json.deserialize_map(Names(&mut names));
    names
}

/// Visits an object for the bytes of one field's string: bytes, because half a surrogate pair
/// makes a string that is not UTF-8. The last of doubled fields counts.
struct TextField<'f>(&'f str);

impl<'de> Visitor<'de> for TextField<'_> {
    type Value = Option<Cow<'de, [u8]>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut text = None;
        while let Some(key) = map.next_key_seed(StringBytes)? {
            if *key == *self.0.as_bytes() {
                text = Some(map.next_value_seed(StringBytes)?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(text)
    }
}

struct Names<'n>(&'n mut Vec<String>);

impl<'de> Visitor<'de> for Names<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(StringBytes)? {
            if self.0.len() < FIELDS_NAMED_MAX {
                let name = String::from_utf8_lossy(&key);
                self.0.push(name.chars().take(FIELD_NAME_CHARS_MAX).collect());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// A string's bytes.
struct StringBytes;

impl<'de> DeserializeSeed<'de> for StringBytes {
    type Value = Cow<'de, [u8]>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for StringBytes {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests;
