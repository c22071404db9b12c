//! Which data set a document is from, and what its task makes of it, against what the harness's own
//! code makes of the same texts.

use super::*;

fn made(text: &str) -> Result<Prompt, LineProblem> {
    prompt(serde_json::from_str(text).unwrap())
}

fn context(text: &str) -> String {
    made(text).unwrap().context
}

/// `re.sub(r"\[.*?\]", "", text)` by trying every end of every bracket, as the expression says it.
fn substituted(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let (mut kept, mut at) = (String::new(), 0);
    while at < letters.len() {
        let end = (at + 1..letters.len())
            .take_while(|end| !letters[at + 1..*end].contains(&'\n'))
            .find(|end| letters[*end] == ']');
        match end {
            Some(end) if letters[at] == '[' => at = end + 1,
            _ => {
                kept.push(letters[at]);
                at += 1;
            }
        }
    }
    kept
}

#[test]
fn brackets_go_as_the_harness_s_regular_expression_takes_them() {
    // All texts of up to seven of these characters would be many: all of six.
    let letters = ['[', ']', 'é', '\n'];
    for length in 0..=6u32 {
        for number in 0..letters.len().pow(length) {
            let letter = |place: u32| letters[number / letters.len().pow(place) % letters.len()];
            let text: String = (0..length).map(letter).collect();
            assert_eq!(without_brackets(&text), substituted(&text), "{text:?}");
        }
    }
}

#[test]
fn a_text_is_tidied_in_the_order_in_which_the_harness_does_it() {
    // By hand: strip, " [title]" to ". ", brackets away, each two spaces to one.
    let table = [
        ("", ""),
        ("  a  ", "a"),
        ("How to [title] do", "How to. do"),
        ("[title] first", " first"),
        ("a [title]", "a. "),
        ("a [step] b", "a b"),
        ("a    b", "a  b"),
        ("a     b", "a   b"),
        ("a [x]  b", "a  b"),
        ("\u{a0}a\u{3000}", "a"),
        ("\x1ca\x1f", "a"),
    ];
    for (text, expected) in table {
        assert_eq!(tidied(text), expected, "{text:?}");
    }
}

#[test]
fn the_shape_follows_from_the_keys_and_not_from_their_order() {
    let table = [
        (r#"{"gold": 0, "choices": ["a"], "query": "q"}"#, "q"),
        // A file of the harness's own, which has both.
        (r#"{"query": "q", "choices": ["a"], "gold": 0, "label": 5, "ctx": "c"}"#, "q"),
        (r#"{"ctx": "c", "endings": ["a"], "label": "0", "question": "x"}"#, "c"),
        // The harness's hellaswag after its own preparation.
        (r#"{"query": "c", "choices": ["a"], "label": 0}"#, "c"),
        (r#"{"ctx_a": "a", "ctx_b": "B C", "ctx": "c", "endings": ["x"], "label": 0}"#, "a B c"),
        (r#"{"ctx_a": "a", "ctx": "c", "endings": ["x"], "label": 0}"#, "c"),
        (r#"{"activity_label": "L", "ctx": "c", "endings": ["x"], "label": 0}"#, "L: c"),
        (
            r#"{"question": "q", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "A"}"#,
            "Question: q\nAnswer:",
        ),
        (
            r#"{"question": "q", "choices": ["a", "b", "c", "d"], "answer": "1", "subject": null}"#,
            "q\nA. a\nB. b\nC. c\nD. d\nAnswer:",
        ),
    ];
    for (document, expected) in table {
        assert_eq!(context(document), expected, "{document}");
    }
}

#[test]
fn what_a_shape_lacks_is_named_by_its_key() {
    let table = [
        (r#"{"query": "q", "gold": 0}"#, "missing field `choices`"),
        (r#"{"query": 1, "choices": ["a"], "gold": 0}"#, "expected a string"),
        (r#"{"ctx": "c", "label": 0}"#, "missing field `endings`"),
        (r#"{"question": "q", "choices": {"text": ["a"]}, "answerKey": "A"}"#, "`label`"),
        (r#"{"question": "q", "choices": {"label": [], "text": []}}"#, "`answerKey`"),
        (r#"{"choices": {"label": ["A"], "text": ["a"]}, "answerKey": "A"}"#, "`question`"),
        (r#"{"question": "q", "choices": ["a", "b", "c", "d"]}"#, "missing field `answer`"),
        (r#"{"question": "q", "choices": ["a", "b", "c", "d", "e"], "answer": 0}"#, "length"),
        (r#"{"question": "q", "choices": ["a", "b", "c", 4], "answer": 0}"#, "expected a string"),
        (r#"{"choices": ["a"], "gold": 0}"#, "none of the known shapes"),
    ];
    for (document, part) in table {
        let text = crate::error::chain(&made(document).unwrap_err());
        assert!(text.contains(part), "{document}: {text}");
    }
}

#[test]
fn an_answer_is_found_by_its_own_label_and_the_first_of_equal_ones() {
    let arc = |labels: &str, answer: &str| {
        made(&format!(
            r#"{{"question": "q", "choices": {{"text": ["a", "b", "c"], "label": {labels}}},
                "answerKey": "{answer}"}}"#
        ))
    };
    for (labels, answer, gold) in [
        (r#"["A", "B", "C"]"#, "C", 2),
        (r#"["1", "2", "3"]"#, "1", 0),
        (r#"["A", "A", "A"]"#, "A", 0),
        // A label without a text is beyond the choices, which the reader refuses.
        (r#"["A", "B", "C", "D"]"#, "D", 3),
    ] {
        assert_eq!(arc(labels, answer).unwrap().gold, gold, "{labels} {answer}");
    }
    for answer in ["a", " A", "", "4"] {
        let error = arc(r#"["A", "B", "C"]"#, answer).unwrap_err();
        assert!(matches!(error, LineProblem::Answer(said) if said == answer));
    }
}

#[test]
fn only_the_question_of_mmlu_is_stripped_and_only_underscores_of_its_subject_go() {
    let document = r#"{"subject": "a_b-c", "question": "\n q\t", "answer": 0,
        "choices": [" a", "b ", "", "d"]}"#;
    let expected = "The following are multiple choice questions (with answers) about a b-c.\n\n\
        q\nA.  a\nB. b \nC. \nD. d\nAnswer:";
    assert_eq!(context(document), expected);
}
