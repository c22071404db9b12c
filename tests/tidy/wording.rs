//! Rules for words: what a log line says, and how a constant that is a time is called.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Ident, LitStr, Type};

use super::rules::Tests;

const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];
/// Endings that say what a time is for.
const TIMES: [&str; 6] = ["WAIT", "TIMEOUT", "EVERY", "AFTER", "MIN", "MAX"];
/// Folders whose constants are called after the moment they stand for (`SOON`, `QUEUED`).
const MOMENTS: [&str; 3] = ["kubectl-island/", "operator/", "worker/src/run/"];

/// Messages of `tracing`'s macros that are no sentence.
pub(super) fn logs(path: &str, text: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if let Ok(tokens) = text.parse() {
        find_messages(tokens, &mut messages);
    }
    let broken = messages.into_iter().filter(|message| !is_sentence(&message.value()));
    broken
        .map(|message| {
            let (line, said) = (message.span().start().line, message.value());
            format!("{path}:{line}: log {said:?}: a capital, a full stop, and values in fields")
        })
        .collect()
}

/// A message may begin and end with a value, which is a sentence where it is made.
fn is_sentence(message: &str) -> bool {
    !message.starts_with(char::is_lowercase) && !message.ends_with(char::is_alphanumeric)
}

/// The messages of all calls of `tracing::LEVEL!`, those inside other macros as well.
fn find_messages(tokens: TokenStream, messages: &mut Vec<LitStr>) {
    let mut last = [const { String::new() }; 5];
    for token in tokens {
        if let TokenTree::Group(group) = &token {
            let is_call = group.delimiter() == Delimiter::Parenthesis
                && last[..3].concat() == "tracing::"
                && LEVELS.contains(&last[3].as_str())
                && last[4] == "!";
            if is_call {
                messages.extend(message(group.stream()));
            }
            find_messages(group.stream(), messages);
        }
        last.rotate_left(1);
        last[4] = match token {
            TokenTree::Group(_) => String::new(),
            one => one.to_string(),
        };
    }
}

/// The first string among the arguments that is not a field's value.
fn message(arguments: TokenStream) -> Option<LitStr> {
    let mut follows_comma = true;
    for token in arguments {
        if follows_comma && let Ok(message) = syn::parse2(TokenStream::from(token.clone())) {
            return Some(message);
        }
        follows_comma = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == ',');
    }
    None
}

/// Constants of type `Duration` outside tests whose names do not say what the time is for.
pub(super) fn times(path: &str, text: &str, tests: &[String]) -> Vec<String> {
    let Ok(file) = syn::parse_file(text) else { return Vec::new() };
    if MOMENTS.iter().any(|folder| path.starts_with(folder)) {
        return Vec::new();
    }
    let tests = Tests::of(path, &file, tests);
    let mut durations = Durations(Vec::new());
    durations.visit_file(&file);
    let unclear = durations.0.into_iter().filter(|name| {
        let name = (name.to_string(), name.span().start().line);
        !tests.hold(name.1) && !TIMES.iter().any(|ending| name.0.ends_with(ending))
    });
    unclear
        .map(|name| {
            let line = name.span().start().line;
            format!("{path}:{line}: `{name}` is a time: end its name with one of {TIMES:?}")
        })
        .collect()
}

/// The names of constants of type `Duration`.
struct Durations(Vec<Ident>);

impl<'ast> Visit<'ast> for Durations {
    fn visit_item_const(&mut self, node: &'ast syn::ItemConst) {
        if let Type::Path(path) = node.ty.as_ref()
            && path.path.segments.last().is_some_and(|segment| segment.ident == "Duration")
        {
            self.0.push(node.ident.clone());
        }
        visit::visit_item_const(self, node);
    }
}

#[test]
fn a_log_line_is_a_sentence_wherever_it_stands() {
    let good = [
        r#"tracing::info!(round, name = "lower", "The round is {round}.");"#,
        r#"tracing::warn!("{reason}");"#,
        r#"println!("lower");"#,
    ];
    for text in good {
        assert_eq!(logs("a.rs", text), Vec::<String>::new(), "{text}");
    }
    let bad = [
        r#"tracing::info!(%error, "it failed.");"#,
        r#"select! { () = done => tracing::debug!("Done") }"#,
    ];
    for text in bad {
        assert!(logs("a.rs", text).len() == 1, "{text}");
    }
}

#[test]
fn a_time_says_what_it_is_for() {
    let named = |name: &str| format!("//! A.\nfn f() {{ const {name}: Duration = A; }}\n");
    assert!(times("a/src/b.rs", &named("CALL_WAIT"), &[]).is_empty());
    assert!(times("a/src/tests.rs", &named("PATIENCE"), &[]).is_empty());
    assert_eq!(times("a/src/b.rs", &named("PATIENCE"), &[]).len(), 1);
}
