//! From a document in the shape of a known data set to a context and its choices, as
//! lm-evaluation-harness's tasks of that name have them. Pure.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::documents::LineProblem;
use super::score::is_space;

/// A context, its choices, and which of them is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    pub(super) context: String,
    pub(super) choices: Vec<String>,
    pub(super) gold: usize,
}

/// A position as data sets write it: 3 or "3".
#[derive(Deserialize)]
#[serde(untagged, expecting = "a position has to be a whole number, or one as text")]
enum Position {
    Number(usize),
    Text(String),
}

impl Position {
    fn value(&self) -> Result<usize, LineProblem> {
        match self {
            Self::Number(value) => Ok(*value),
            Self::Text(text) => text.parse().map_err(|_| LineProblem::Position(text.clone())),
        }
    }
}

/// The task `hellaswag`: three parts of a context, or the context alone.
#[derive(Deserialize)]
struct HellaSwag {
    activity_label: Option<String>,
    ctx_a: Option<String>,
    ctx_b: Option<String>,
    #[serde(alias = "query")]
    ctx: Option<String>,
    #[serde(alias = "choices")]
    endings: Vec<String>,
    label: Position,
}

/// The tasks `arc_easy` and `arc_challenge`.
#[derive(Deserialize)]
struct Arc {
    question: String,
    choices: ArcChoices,
    #[serde(rename = "answerKey")]
    answer_key: String,
}

#[derive(Deserialize)]
struct ArcChoices {
    text: Vec<String>,
    label: Vec<String>,
}

/// The tasks `mmlu_…`: the subject stands in the description that goes before the question.
#[derive(Deserialize)]
struct Mmlu {
    subject: Option<String>,
    question: String,
    choices: [String; 4],
    answer: Position,
}

/// A context and choices, nothing to be done to them.
#[derive(Deserialize)]
struct Plain {
    query: String,
    choices: Vec<String>,
    gold: Position,
}

/// The prompt of a document with choices; which data set it is from, its keys say.
pub(super) fn prompt(document: Map<String, Value>) -> Result<Prompt, LineProblem> {
    let has = |key: &str| document.contains_key(key);
    let value = |document| Value::Object(document);
    if has("query") && has("gold") {
        plain(from(value(document))?)
    } else if has("endings") || has("label") {
        hellaswag(from(value(document))?)
    } else if document.get("choices").is_some_and(Value::is_object) {
        arc(from(value(document))?)
    } else if has("question") && has("choices") {
        mmlu(from(value(document))?)
    } else {
        Err(LineProblem::Shape)
    }
}

fn from<T: for<'de> Deserialize<'de>>(document: Value) -> Result<T, LineProblem> {
    serde_json::from_value(document).map_err(LineProblem::Field)
}

fn plain(document: Plain) -> Result<Prompt, LineProblem> {
    let gold = document.gold.value()?;
    Ok(Prompt { context: document.query, choices: document.choices, gold })
}

fn hellaswag(document: HellaSwag) -> Result<Prompt, LineProblem> {
    let context = match (document.ctx_a, document.ctx_b, document.ctx) {
        (Some(first), Some(second), _) => format!("{first} {}", capitalised(&second)),
        (_, _, Some(context)) => context,
        _ => return Err(LineProblem::Shape),
    };
    let context = match document.activity_label {
        Some(label) => format!("{label}: {context}"),
        None => context,
    };
    Ok(Prompt {
        context: tidied(&context),
        choices: document.endings.iter().map(|ending| tidied(ending)).collect(),
        gold: document.label.value()?,
    })
}

fn arc(document: Arc) -> Result<Prompt, LineProblem> {
    let ArcChoices { text: choices, label } = document.choices;
    let gold = label.iter().position(|label| *label == document.answer_key);
    let gold = gold.ok_or(LineProblem::Answer(document.answer_key))?;
    Ok(Prompt { context: format!("Question: {}\nAnswer:", document.question), choices, gold })
}

fn mmlu(document: Mmlu) -> Result<Prompt, LineProblem> {
    let letters = ["A", "B", "C", "D"];
    let mut context = match document.subject {
        Some(subject) => format!(
            "The following are multiple choice questions (with answers) about {}.\n\n",
            subject.replace('_', " ")
        ),
        None => String::new(),
    };
    context.push_str(document.question.trim_matches(is_space));
    for (letter, choice) in letters.iter().zip(&document.choices) {
        context.push_str(&format!("\n{letter}. {choice}"));
    }
    context.push_str("\nAnswer:");
    let choices = letters.map(String::from).to_vec();
    Ok(Prompt { context, choices, gold: document.answer.value()? })
}

/// Without what WikiHow's pages left behind in HellaSwag.
fn tidied(text: &str) -> String {
    let text = text.trim_matches(is_space).replace(" [title]", ". ");
    without_brackets(&text).replace("  ", " ")
}

/// Without each `[…]` that ends on its line.
fn without_brackets(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('[') {
        let (before, bracket) = rest.split_at(start);
        kept.push_str(before);
        let line = bracket.split('\n').next().unwrap_or(bracket);
        rest = match line.find(']') {
            Some(end) => &bracket[end + 1..],
            None => {
                kept.push('[');
                &bracket[1..]
            }
        };
    }
    kept + rest
}

/// The first letter large and all others small, as Python capitalises.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first: String =
        letters.next().map(|letter| letter.to_uppercase().collect()).unwrap_or_default();
    let mut first = first.chars();
    let large: String = first.next().into_iter().collect();
    large + &(first.as_str().to_lowercase() + &letters.as_str().to_lowercase())
}

#[cfg(test)]
mod shapes;

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Result<Prompt, LineProblem> {
        prompt(serde_json::from_str(text).unwrap())
    }

    fn right(text: &str) -> (String, Vec<String>, usize) {
        let Prompt { context, choices, gold } = made(text).unwrap();
        (context, choices, gold)
    }

    #[test]
    fn hellaswag_is_tidied_and_its_second_part_capitalised() {
        let (context, choices, gold) = right(
            r#"{"activity_label": "Roof  work [header]", "ctx_a": "A man [title] stands.",
                "ctx_b": "he is McBride.", "label": "1", "ind": 4,
                "endings": [" takes a nap [step] and rests. ", "is [unclosed", "a [x\ny] b"]}"#,
        );
        assert_eq!(context, "Roof work : A man. stands. He is mcbride.");
        assert_eq!(choices, ["takes a nap and rests.", "is [unclosed", "a [x\ny] b"]);
        assert_eq!(gold, 1);
        let (context, ..) = right(r#"{"ctx": " a man ", "endings": ["x"], "label": 0}"#);
        assert_eq!(context, "a man");
    }

    #[test]
    fn arc_finds_its_answer_by_label() {
        let (context, choices, gold) = right(
            r#"{"question": "Why?", "choices": {"text": ["so", "not so"], "label": ["1", "2"]},
                "answerKey": "2"}"#,
        );
        assert_eq!((context.as_str(), gold), ("Question: Why?\nAnswer:", 1));
        assert_eq!(choices, ["so", "not so"]);
    }

    #[test]
    fn mmlu_shows_its_choices_and_asks_for_a_letter() {
        let document = r#"{"question": " What? ", "choices": ["a", "b", "c", "d"], "answer": 3}"#;
        let (context, choices, gold) = right(document);
        assert_eq!(context, "What?\nA. a\nB. b\nC. c\nD. d\nAnswer:");
        assert_eq!((choices, gold), (["A", "B", "C", "D"].map(String::from).to_vec(), 3));
        let (context, ..) =
            right(&document.replace('{', r#"{"subject": "high_school_us_history","#));
        let described = "The following are multiple choice questions (with answers) about high \
             school us history.\n\nWhat?\n";
        assert!(context.starts_with(described), "{context}");
    }

    #[test]
    fn a_plain_document_is_taken_as_it_is() {
        let (context, choices, gold) =
            right(r#"{"query": " [a]  b ", "choices": [" c", "d"], "gold": 1}"#);
        assert_eq!((context.as_str(), gold), (" [a]  b ", 1));
        assert_eq!(choices, [" c", "d"]);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let cases = [
            (r#"{"question": "?"}"#, "none of the known shapes"),
            (r#"{"question": "?", "choices": ["a", "b"], "answer": 0}"#, "length 4"),
            (r#"{"query": "?", "choices": ["a"], "gold": "first"}"#, "\"first\" is no position"),
            (r#"{"ctx": "?", "endings": ["a"]}"#, "missing field `label`"),
            (r#"{"endings": ["a"], "label": 0}"#, "none of the known shapes"),
            (
                r#"{"question": "", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "E"}"#,
                "the answer \"E\" is none of the labels",
            ),
        ];
        for (document, part) in cases {
            let problem = made(document).unwrap_err();
            let text = crate::error::chain(&problem);
            assert!(text.contains(part), "{document}: {text}");
        }
    }

    #[test]
    fn capitals_are_pythons() {
        for (text, expected) in
            [("", ""), ("aBC", "Abc"), ("ßX", "Ssx"), ("ÉÉ", "Éé"), ("1A", "1a")]
        {
            assert_eq!(capitalised(text), expected);
        }
    }
}
