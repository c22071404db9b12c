//! The rules themselves: from a file's path and text to sentences that name file, line and remedy.

use proc_macro2::Span;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, Item, Meta};

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 600;
const COLUMNS: usize = 100;

/// Texts that may stand nowhere but in tests, and what to do instead.
const NOT_IN_PRODUCTION: [(&str, &str); 5] = [
    (".unwrap()", "return an error, or `expect` the invariant by name"),
    ("todo!(", "finish it"),
    ("dbg!(", "remove it"),
    ("unimplemented!(", "finish it"),
    ("unbounded_channel", "give the channel a bound"),
];

/// Texts that may stand only outside tests, or nowhere at all.
const NOT_IN_TESTS: [(&str, &str); 2] =
    [("thread::sleep", "wait on the state itself"), ("#[ignore", "make it run, or delete it")];

/// Paths of somebody's machine, and hosts that only a package manager's settings should know.
const PLACES: [&str; 8] = [
    "/work/",
    "/tmp/t-",
    "/root/",
    "/home/",
    "pythonhosted.org",
    "pypi.org",
    "index.crates.io",
    "static.crates.io",
];
const PLACE_REMEDY: &str = "name no machine's path and no registry's host";

/// The file that must hold all these words.
const ITSELF: &str = "tests/tidy/rules.rs";

/// The effects that a pure crate has passed in.
const IMPURE: [&str; 7] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant::now",
];

/// All the rules for one Rust file; `tests` are the files that are modules of tests.
pub(super) fn rust(path: &str, text: &str, tests: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.starts_with("//!") {
        problems.push(format!("{path}:1: open with `//!` and say what the file is"));
    }
    let file = match syn::parse_file(text) {
        Ok(file) => file,
        Err(error) => return vec![format!("{path}: does not parse: {error}")],
    };
    let mut functions = Functions { path, problems: &mut problems };
    functions.visit_file(&file);
    let tests = Tests::of(path, &file, tests);
    let production = (1..=text.lines().count()).filter(|line| !tests.hold(*line)).count();
    if production > FILE_LINES {
        problems.push(format!(
            "{path}:1: {production} production lines, {FILE_LINES} are allowed; split the file"
        ));
    }
    problems.extend(words(path, text, &NOT_IN_PRODUCTION, |line| !tests.hold(line)));
    problems.extend(words(path, text, &NOT_IN_TESTS, |line| tests.hold(line)));
    problems
}

/// The modules that a file declares for tests only, as paths without `.rs`.
pub(super) fn test_modules(path: &str, text: &str) -> Vec<String> {
    let Ok(file) = syn::parse_file(text) else { return Vec::new() };
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
    let base = if ["lib", "main", "mod"].contains(&name) { folder } else { stem };
    let modules = file.items.iter().filter_map(|item| match item {
        Item::Mod(module) if module.content.is_none() && module.attrs.iter().any(is_test) => {
            Some(format!("{base}/{}", module.ident))
        }
        _ => None,
    });
    modules.collect()
}

/// Lines too long to be read beside others.
pub(super) fn columns(path: &str, text: &str) -> Vec<String> {
    let long = text.lines().zip(1..).filter(|(line, _)| line.chars().count() > COLUMNS);
    long.map(|(_, number)| format!("{path}:{number}: wrap at {COLUMNS} columns")).collect()
}

/// Effects in a crate that must have none.
pub(super) fn purity(path: &str, text: &str, tests: &[String]) -> Vec<String> {
    let Ok(file) = syn::parse_file(text) else { return Vec::new() };
    let tests = Tests::of(path, &file, tests);
    let remedy = "this crate is pure: have it passed in";
    words(path, text, &IMPURE.map(|word| (word, remedy)), |line| !tests.hold(line))
}

/// Paths of one machine and host names of registries.
pub(super) fn places(path: &str, text: &str) -> Vec<String> {
    words(path, text, &PLACES.map(|word| (word, PLACE_REMEDY)), |_| true)
}

/// Lines outside comments that hold one of the words.
fn words(
    path: &str,
    text: &str,
    words: &[(&str, &str)],
    looked_at: impl Fn(usize) -> bool,
) -> Vec<String> {
    let mut problems = Vec::new();
    if path == ITSELF {
        return problems;
    }
    for (line, number) in text.lines().zip(1..).filter(|(_, number)| looked_at(*number)) {
        let code = !line.trim_start().starts_with("//");
        for (word, remedy) in words.iter().filter(|(word, _)| code && line.contains(word)) {
            problems.push(format!("{path}:{number}: `{word}`: {remedy}"));
        }
    }
    problems
}

/// Complains of long functions, in tests as well.
struct Functions<'a> {
    path: &'a str,
    problems: &'a mut Vec<String>,
}

impl Functions<'_> {
    fn measure(&mut self, name: &syn::Ident, whole: Span, block: &Block) {
        let (first, last) = (whole.start().line, block.span().end().line);
        let lines = last - name.span().start().line + 1;
        if lines > FUNCTION_LINES {
            let path = self.path;
            self.problems.push(format!(
                "{path}:{first}: `{name}` has {lines} lines, {FUNCTION_LINES} are allowed; split it"
            ));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        self.measure(&node.sig.ident, node.sig.span(), &node.block);
        visit::visit_item_fn(self, node);
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        self.measure(&node.sig.ident, node.sig.span(), &node.block);
        visit::visit_impl_item_fn(self, node);
    }

    fn visit_trait_item_fn(&mut self, node: &'ast syn::TraitItemFn) {
        if let Some(block) = &node.default {
            self.measure(&node.sig.ident, node.sig.span(), block);
        }
        visit::visit_trait_item_fn(self, node);
    }
}

/// The lines of a file that are tests.
pub(super) enum Tests {
    All,
    Ranges(Vec<(usize, usize)>),
}

impl Tests {
    pub(super) fn of(path: &str, file: &syn::File, modules: &[String]) -> Self {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let declared = modules.iter().any(|module| {
            let below = path.strip_prefix(module.as_str());
            below.is_some_and(|below| below == ".rs" || below.starts_with('/'))
        });
        if declared || name == "tests.rs" || folder.split('/').any(|part| part == "tests") {
            return Self::All;
        }
        let ranges = file.items.iter().filter(|item| attributes(item).iter().any(is_test));
        Self::Ranges(
            ranges.map(|item| (item.span().start().line, item.span().end().line)).collect(),
        )
    }

    pub(super) fn hold(&self, line: usize) -> bool {
        match self {
            Self::All => true,
            Self::Ranges(ranges) => ranges.iter().any(|(a, b)| (*a..=*b).contains(&line)),
        }
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_test(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else { return false };
    list.path.is_ident("cfg") && list.tokens.to_string() == "test"
}

#[test]
fn a_file_that_keeps_the_rules_passes() {
    let text =
        "//! Adds.\n\nfn add() {}\n\n#[cfg(test)]\nmod tests {\n    fn t() { x.unwrap(); }\n}\n";
    assert!(rust("a/src/b.rs", text, &[]).is_empty());
}

#[test]
fn each_broken_rule_is_named_with_file_and_line() {
    let body = "    work();\n".repeat(70);
    let cases = [
        ("fn f() {}\n".to_owned(), "a/src/b.rs:1: open with"),
        ("//! A.\nfn f() { x.unwrap() }\n".to_owned(), "a/src/b.rs:2: `.unwrap()`"),
        ("//! A.\n\nimpl A {\n    fn f() { todo!() }\n}\n".to_owned(), "a/src/b.rs:4: `todo!(`"),
        (format!("//! A.\nfn f() {{\n{body}}}\n"), "a/src/b.rs:2: `f` has 72 lines"),
        (format!("//! A.\n{}", "struct A;\n".repeat(600)), "a/src/b.rs:1: 601 production"),
        (
            "//! A.\n#[cfg(test)]\nmod tests {\n    fn t() { thread::sleep(d); }\n}\n".to_owned(),
            "a/src/b.rs:4: `thread::sleep`",
        ),
    ];
    for (text, expected) in cases {
        let problems = rust("a/src/b.rs", &text, &[]);
        assert!(problems.iter().any(|p| p.starts_with(expected)), "{expected}: {problems:?}");
    }
}

#[test]
fn effects_are_found_in_production_and_allowed_in_tests() {
    let text = "//! A.\nuse std::fs;\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
    let in_tests = "//! A.\n#[cfg(test)]\nmod laws;\nmod step;\n";
    assert_eq!(purity("plan/src/a.rs", text, &[]).len(), 1);
    assert!(purity("plan/src/a/tests.rs", text, &[]).is_empty());
    let tests = test_modules("plan/src/a.rs", in_tests);
    assert!(purity("plan/src/a/laws.rs", text, &tests).is_empty());
    assert_eq!(purity("plan/src/a/step.rs", text, &tests).len(), 1);
}
