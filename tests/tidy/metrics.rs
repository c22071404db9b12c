//! What the chart asks Prometheus for is what the programs register.

use std::collections::BTreeSet;
use std::fs;

use syn::visit::{self, Visit};
use syn::{Expr, ExprMethodCall, Lit};

use super::root;

/// The programs' metrics.
const FILES: [&str; 3] =
    ["worker/src/metrics.rs", "coordinator/src/metrics.rs", "operator/src/metrics.rs"];

/// Names that are registered: `.register("name", …)`, or with a unit, which is put behind it.
#[derive(Default)]
struct Registered(BTreeSet<String>);

impl<'ast> Visit<'ast> for Registered {
    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        let name = call.args.first().and_then(|first| match first {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(name) => Some(name.value()),
                _ => None,
            },
            _ => None,
        });
        let unit = call.args.iter().find_map(|arg| match arg {
            Expr::Path(path) if path.path.segments.first()?.ident == "Unit" => {
                path.path.segments.last().map(|unit| unit.ident.to_string())
            }
            _ => None,
        });
        match (call.method.to_string().as_str(), name, unit) {
            ("register", Some(name), _) => drop(self.0.insert(format!("heteroloco_{name}"))),
            ("register_with_unit", Some(name), Some(unit)) => {
                self.0.insert(format!("heteroloco_{name}_{}", unit.to_lowercase()));
            }
            _ => {}
        }
        visit::visit_expr_method_call(self, call);
    }
}

/// Names of metrics in a text, as they are registered.
fn named(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = text.split(|c| !word(c)).filter(|name| name.starts_with("heteroloco_"));
    let end = |name: &str| {
        let ends = ["_bucket", "_sum", "_count", "_total"];
        let short = ends.iter().find_map(|end| name.strip_suffix(end));
        short.unwrap_or(name).to_owned()
    };
    names.map(end).collect()
}

#[test]
fn what_the_chart_asks_prometheus_for_is_there() {
    let mut there = Registered::default();
    for file in FILES {
        let text = fs::read_to_string(root().join(file)).unwrap();
        there.visit_file(&syn::parse_file(&text).unwrap());
    }
    let chart = root().join("charts/heteroloco");
    let files = ["dashboards", "templates"].map(|folder| fs::read_dir(chart.join(folder)).unwrap());
    let files = files.into_iter().flatten().map(|file| file.unwrap().path());
    let mut asked = BTreeSet::new();
    for file in files.filter(|path| path.is_file()) {
        asked.extend(named(&fs::read_to_string(file).unwrap()));
    }
    assert!(asked.len() > 10, "{asked:?}");
    let missing: Vec<&String> = asked.difference(&there.0).collect();
    assert!(missing.is_empty(), "{missing:?} are not among {:?}", there.0);
}
