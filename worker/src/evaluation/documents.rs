//! Documents from local JSONL files: one JSON object on a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::prompt::{Prompt, prompt};

/// A larger file is refused.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// A longer line is refused.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Why a file of documents cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It cannot be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is larger than any file of documents.
    #[error("failed to read {}: it has more than {FILE_BYTES_MAX} bytes; split it", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing in it.
    #[error("failed to evaluate {}: there is no document in it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A line is no document.
    #[error("failed to understand line {line} of {}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        source: LineProblem,
    },
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum LineProblem {
    /// It is too long.
    #[error("it has more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// It is no JSON object.
    #[error("it is not a JSON object")]
    NotJson(#[source] serde_json::Error),
    /// It is like no data set that is known.
    #[error(
        "it has none of the known shapes: text; query, choices, gold; ctx, endings, label; \
         question, choices (text and label), answerKey; question, choices, answer"
    )]
    Shape,
    /// A field of its shape is missing or of another type.
    #[error("it does not have the fields of its shape")]
    Field(#[source] serde_json::Error),
    /// A position that is no number.
    #[error("{0:?} is no position of a choice")]
    Position(String),
    /// An answer that is not among the labels.
    #[error("the answer {0:?} is none of the labels")]
    Answer(String),
    /// A position beyond the choices.
    #[error("choice {gold} is the right one, counted from 0, but there are {choices}")]
    Gold {
        /// The position.
        gold: usize,
        /// How many there are.
        choices: usize,
    },
    /// A choice or text without a character has no likelihood.
    #[error("a text or choice in it is empty")]
    NoText,
    /// Questions and texts have different metrics.
    #[error("questions and plain texts stand in one file; put them into two")]
    Mixed,
}

/// A context and what may follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Line of its file, counted from 1.
    pub line: usize,
    /// What goes before the choice.
    pub context: String,
    /// What may follow, after a space.
    pub choices: Vec<String>,
    /// Position of the right one.
    pub gold: usize,
}

/// A text of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Line of its file, counted from 1.
    pub line: usize,
    /// The text.
    pub text: String,
}

/// A file's documents, all of one kind and at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Documents {
    /// Scored by the likelihood of their choices.
    Questions(Vec<Question>),
    /// Scored by their perplexity.
    Texts(Vec<Text>),
}

/// Reads the first `limit` documents of a file, or all.
///
/// # Errors
/// The first line that is no document, with its number; or the file itself.
pub fn read_documents(path: &Path, limit: Option<usize>) -> Result<Documents, TaskError> {
    let failed = |source| TaskError::Read { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(TaskError::TooLarge { path: path.into() });
    }
    let (mut questions, mut texts) = (Vec::new(), Vec::new());
    let mut reader = BufReader::new(file.take(FILE_BYTES_MAX));
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut bytes);
        if read.map_err(failed)? == 0 || limit == Some(questions.len().max(texts.len())) {
            break;
        }
        let json = if line == 1 { data::without_mark(&bytes) } else { &bytes };
        if json.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let wrong = |source| TaskError::Line { path: path.into(), line, source };
        match document(json).map_err(wrong)? {
            Document::Question(Prompt { context, choices, gold }) => {
                questions.push(Question { line, context, choices, gold });
            }
            Document::Text(text) => texts.push(Text { line, text }),
        }
        if !questions.is_empty() && !texts.is_empty() {
            return Err(wrong(LineProblem::Mixed));
        }
    }
    match (questions.is_empty(), texts.is_empty()) {
        (true, true) => Err(TaskError::Empty { path: path.into() }),
        (true, false) => Ok(Documents::Texts(texts)),
        _ => Ok(Documents::Questions(questions)),
    }
}

enum Document {
    Question(Prompt),
    Text(String),
}

fn document(line: &[u8]) -> Result<Document, LineProblem> {
    if line.len() as u64 > LINE_BYTES_MAX {
        return Err(LineProblem::TooLong);
    }
    let mut object: Map<String, Value> =
        serde_json::from_slice(line).map_err(LineProblem::NotJson)?;
    if !object.contains_key("choices")
        && let Some(Value::String(text)) = object.get_mut("text")
    {
        let text = std::mem::take(text);
        return if text.is_empty() { Err(LineProblem::NoText) } else { Ok(Document::Text(text)) };
    }
    let prompt = prompt(object)?;
    let (gold, choices) = (prompt.gold, prompt.choices.len());
    if gold >= choices {
        return Err(LineProblem::Gold { gold, choices });
    }
    if prompt.choices.iter().any(String::is_empty) {
        return Err(LineProblem::NoText);
    }
    Ok(Document::Question(prompt))
}

#[cfg(test)]
mod broken;

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{"query": "q", "choices": ["a", "b"], "gold": 1}"#;

    fn read(content: &str, limit: Option<usize>) -> Result<Documents, TaskError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tasks.jsonl");
        std::fs::write(&path, content).unwrap();
        read_documents(&path, limit)
    }

    #[test]
    fn a_document_stands_on_each_line_that_is_not_blank() {
        let Ok(Documents::Questions(found)) = read(&format!("{PLAIN}\n\n{PLAIN}"), None) else {
            panic!("not questions")
        };
        let lines: Vec<usize> = found.iter().map(|question| question.line).collect();
        assert_eq!(lines, [1, 3]);
        let marked = read(&format!("\u{feff}{PLAIN}\n{PLAIN}"), None);
        assert!(matches!(marked, Ok(Documents::Questions(found)) if found.len() == 2));
        let texts = read("{\"text\": \"one\", \"id\": 7}\n{\"text\": \"two\"}\n", Some(1)).unwrap();
        assert_eq!(texts, Documents::Texts(vec![Text { line: 1, text: "one".into() }]));
    }

    #[test]
    fn what_lies_beyond_the_limit_is_not_looked_at() {
        assert!(read(&format!("{PLAIN}\nnonsense"), Some(1)).is_ok());
    }

    #[test]
    fn each_mistake_gets_its_sentence_with_file_and_line() {
        let cases = [
            (format!("{PLAIN}\n{{\"query\""), "line 2 of", "it is not a JSON object"),
            (format!("\n\n{PLAIN}\n[1]"), "line 4 of", "it is not a JSON object"),
            ("{\"prompt\": 1}".into(), "line 1 of", "none of the known shapes"),
            (
                PLAIN.replace('1', "2"),
                "line 1 of",
                "choice 2 is the right one, counted from 0, but",
            ),
            (PLAIN.replace("\"a\"", "\"\""), "line 1 of", "is empty"),
            (PLAIN.replace("[\"a\", \"b\"]", "[]"), "line 1 of", "there are 0"),
            ("{\"text\": \"\"}".into(), "line 1 of", "is empty"),
            (format!("{PLAIN}\n{{\"text\": \"x\"}}"), "line 2 of", "stand in one file"),
            ("\n \n".into(), "tasks.jsonl", "there is no document in it"),
        ];
        for (content, place, problem) in cases {
            let text = crate::error::chain(&read(&content, None).unwrap_err());
            assert!(text.contains(place) && text.contains(problem), "{content:?}: {text}");
        }
        let missing = read_documents(Path::new("nowhere.jsonl"), None).unwrap_err();
        assert!(missing.to_string().contains("failed to read nowhere.jsonl"), "{missing}");
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_is_in_memory() {
        let line = "x".repeat(LINE_BYTES_MAX as usize + 2);
        let text = crate::error::chain(&read(&line, None).unwrap_err());
        assert!(text.contains("line 1 of") && text.contains("it has more than"), "{text}");
    }
}
