//! The place of a field, and how it was written: a document is read once more, and refused there.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::tree::MERGE;
use super::{Mark, Spot, Text};

impl Text<'_> {
    /// The place at which the field or item of a path such as `spec.devices[0].count` begins; of
    /// one that is not there, the place of what it is missing from.
    pub(crate) fn mark(&self, spot: Spot, path: &str) -> Option<Mark> {
        let mut path = path;
        loop {
            for merges in [false, true] {
                let found = RefCell::default();
                let walk = Walk { rest: path, wanted: Wanted::Place, merges, found: &found };
                let refused = self.walk(spot, walk);
                if let (Some(_), Some(place)) = (found.take(), refused.and_then(|it| it.location()))
                {
                    let mark = Mark { line: place.line(), column: place.column() };
                    return Some(self.in_whole(spot.part, mark));
                }
            }
            if path.is_empty() {
                return None;
            }
            path = &path[..path.rfind(['.', '[']).unwrap_or(0)];
        }
    }

    /// How the scalar of a path was written, without its quotes.
    pub(crate) fn written(&self, spot: Spot, path: &str) -> Option<String> {
        let of = |merges| {
            let found = RefCell::default();
            self.walk(spot, Walk { rest: path, wanted: Wanted::Text, merges, found: &found });
            found.take()
        };
        of(false).or_else(|| of(true))
    }

    fn walk(&self, spot: Spot, walk: Walk<'_>) -> Option<serde_yaml::Error> {
        let (from, to) = self.parts[spot.part];
        let mut documents = serde_yaml::Deserializer::from_str(&self.whole[from..to]);
        walk.deserialize(documents.nth(spot.index)?).err()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    /// Be refused at a field's name or an item.
    Place,
    /// Note the text of a scalar.
    Text,
}

/// Goes down a path; what is looked for is put into the cell once it was come to.
#[derive(Clone, Copy)]
struct Walk<'a> {
    /// The rest of the path.
    rest: &'a str,
    wanted: Wanted,
    /// Whether fields that an alias brings are looked at.
    merges: bool,
    found: &'a RefCell<Option<String>>,
}

impl<'a> Walk<'a> {
    fn down(self, rest: &'a str) -> Self {
        Self { rest, ..self }
    }

    fn here<E: Error>(self, text: &str) -> E {
        *self.found.borrow_mut() = Some(text.to_owned());
        E::custom("here")
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        match (self.rest, self.wanted) {
            ("", Wanted::Place) => {
                *self.found.borrow_mut() = Some(String::new());
                reader.deserialize_any(Refused)
            }
            ("", Wanted::Text) => reader.deserialize_str(self),
            _ => reader.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what a path leads to")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if self.rest.is_empty() { Err(self.here(text)) } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if self.merges && !self.rest.starts_with('[') {
            while items.next_element_seed(self)?.is_some() {}
            return Ok(());
        }
        let (number, rest) = index(self.rest).unwrap_or((usize::MAX, ""));
        for _ in 0..number {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        items.next_element_seed(self.down(rest))?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(next) = entries.next_key_seed(Name(self))? {
            match next {
                Some(rest) => entries.next_value_seed(self.down(rest))?,
                None => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The number of `[1].rest`, and `rest`.
fn index(path: &str) -> Option<(usize, &str)> {
    let (number, rest) = path.strip_prefix('[')?.split_once(']')?;
    Some((number.parse().ok()?, rest.strip_prefix('.').unwrap_or(rest)))
}

/// The name of a field: gives the rest of the path behind it, where the path leads there.
struct Name<'a>(Walk<'a>);

impl<'de, 'a> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<&'a str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de, 'a> Visitor<'de> for Name<'a> {
    type Value = Option<&'a str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        let walk = self.0;
        if key == MERGE && walk.merges {
            return Ok(Some(walk.rest));
        }
        let Some(rest) = walk.rest.strip_prefix(key) else { return Ok(None) };
        match rest.chars().next() {
            None if walk.wanted == Wanted::Place => Err(walk.here(key)),
            Some('.') => Ok(Some(&rest[1..])),
            None | Some('[') => Ok(Some(rest)),
            Some(_) => Ok(None),
        }
    }
}

/// Takes nothing, so that the error has the place.
struct Refused;

impl<'de> Visitor<'de> for Refused {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}
