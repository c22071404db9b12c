//! How many cards of a product an island wants.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::advice;
use crate::schema::{FieldProblem, name};

/// Cards of a product that an island may have.
pub(crate) const CARDS_MAX: u32 = 1024;

/// How many cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Count {
    /// So many, no fewer.
    Exactly(u32),
    /// As many as there are, between bounds.
    Between(CountRange),
}

/// Bounds of a number of cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CountRange {
    /// At least; with 0 the cards may be missing.
    pub min: u32,
    /// At most.
    pub max: u32,
}

impl Default for Count {
    fn default() -> Self {
        Self::Exactly(1)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::of(&value).map_err(|problem| D::Error::custom(problem.message))
    }
}

impl Count {
    /// The count that a value stands for; whether it makes sense is asked later.
    ///
    /// # Errors
    /// What to write in its place; the path is the field below the count.
    pub(crate) fn of(value: &Value) -> Result<Self, FieldProblem> {
        match value {
            Value::Object(fields) => range(fields).map(Self::Between),
            Value::Number(number) => match number.as_u64().and_then(|it| u32::try_from(it).ok()) {
                Some(number) => Ok(Self::Exactly(number)),
                None => Err(other(value)),
            },
            _ => Err(other(value)),
        }
    }
}

fn range(fields: &Map<String, Value>) -> Result<CountRange, FieldProblem> {
    if let Some(other) = fields.keys().find(|name| !matches!(name.as_str(), "min" | "max")) {
        let known = ["min", "max"].into_iter().filter(|name| !fields.contains_key(*name));
        let message = match advice::nearest(other, known) {
            Some(meant) => format!("unknown field: {} in its place", advice::write(meant)),
            None => "unknown field; the fields here are min, max".into(),
        };
        return Err(FieldProblem::new(format!(".{other}"), message));
    }
    let bound = |name: &str| {
        let Some(value) = fields.get(name).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        match Count::of(value) {
            Ok(Count::Exactly(number)) => Ok(Some(number)),
            _ => Err(FieldProblem { path: format!(".{name}"), ..number(value) }),
        }
    };
    let min = bound("min")?.unwrap_or(0);
    match bound("max")? {
        Some(max) => Ok(CountRange { min, max }),
        None => {
            let meant = json!({"min": min, "max": CARDS_MAX});
            let all = advice::write(&format!("{{min: {min}, max: {CARDS_MAX}}}"));
            let message = format!("has no max: {all} to take what there is");
            Err(FieldProblem { meant: Some(meant), ..FieldProblem::new("", message) })
        }
    }
}

/// The advice for a bound that is no number.
fn number(value: &Value) -> FieldProblem {
    let why = format!("has to be a number, not {}", name(value));
    match meant(value) {
        Some(number) => FieldProblem {
            meant: Some(number.into()),
            ..FieldProblem::new("", format!("{why}: {}", advice::write(&number.to_string())))
        },
        None => FieldProblem::new("", why),
    }
}

/// The advice for a count that is neither a number nor bounds.
fn other(value: &Value) -> FieldProblem {
    let why = format!("it has to be a number, or {{min: …, max: …}}, not {}", name(value));
    let bounds = match value {
        Value::Array(items) => match &items[..] {
            [min, max] => meant(min).zip(meant(max)),
            _ => None,
        },
        Value::String(text) => text.split_once(['-', '–', '.']).and_then(|(min, max)| {
            let number = |text: &str| advice::whole(text).and_then(|it| u32::try_from(it).ok());
            number(min).zip(number(max.trim_start_matches('.')))
        }),
        _ => None,
    };
    match (meant(value), bounds.filter(|(min, max)| min <= max)) {
        (Some(number), _) => FieldProblem {
            meant: Some(number.into()),
            ..FieldProblem::new("", format!("{why}: {}", advice::write(&number.to_string())))
        },
        (None, Some((min, max))) => FieldProblem {
            meant: Some(json!({"min": min, "max": max})),
            ..FieldProblem::new(
                "",
                format!("{why}: {}", advice::write(&format!("{{min: {min}, max: {max}}}"))),
            )
        },
        (None, None) => FieldProblem::new("", why),
    }
}

/// The number of cards that a scalar was meant to be.
fn meant(value: &Value) -> Option<u32> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    advice::whole(&text).and_then(|number| u32::try_from(number).ok())
}
