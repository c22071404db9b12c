//! The arrows between crates: `ARCHITECTURE.md` says which crate may depend on which, `cargo
//! metadata` proves it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::root;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

/// Crates that no pure crate may reach: runtimes, networks, clusters, tensors, clocks, chance.
const EFFECTS: [&str; 14] = [
    "axum",
    "chrono",
    "getrandom",
    "hyper",
    "k8s-openapi",
    "kube",
    "mio",
    "redb",
    "reqwest",
    "socket2",
    "tch",
    "tokio",
    "tonic",
    "torch-sys",
];
/// Crates that are tests only; they may use everything.
const TESTS: [&str; 2] = ["e2e", "tidy"];
const PURE: [&str; 3] = ["plan", "rounds", "sparseloco"];

type Arrows = BTreeMap<String, BTreeSet<String>>;

fn metadata() -> Metadata {
    let platform = ["--filter-platform", "x86_64-unknown-linux-gnu", "--offline"];
    let mut command = MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml")).other_options(platform.map(String::from));
    command.exec().unwrap()
}

/// The workspace's own crates that each of its crates needs to be built; these tests left out,
/// which may use everything.
fn built(metadata: &Metadata) -> Arrows {
    let own: BTreeSet<&str> = names(metadata.workspace_packages());
    let crates =
        metadata.workspace_packages().into_iter().filter(|p| !TESTS.contains(&p.name.as_str()));
    let arrows = crates.map(|package| {
        let needs = package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development);
        let needs = needs.filter(|d| own.contains(d.name.as_str())).map(|d| d.name.clone());
        (package.name.to_string(), needs.collect())
    });
    arrows.collect()
}

fn names(packages: Vec<&Package>) -> BTreeSet<&str> {
    packages.into_iter().map(|package| package.name.as_str()).collect()
}

/// The table under "## Arrows": a crate and, after it, the crates that it uses.
fn documented() -> Arrows {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("\n## Arrows\n").nth(1).expect("ARCHITECTURE.md has `## Arrows`");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let ticked = row.split('`').skip(1).step_by(2).map(str::to_owned);
        let mut ticked: Vec<_> = ticked.collect();
        (ticked.remove(0), ticked.into_iter().collect())
    })
    .collect()
}

/// Everything that building `package` takes, itself left out.
fn reach<'a>(metadata: &'a Metadata, package: &PackageId) -> BTreeSet<&'a str> {
    let resolve = metadata.resolve.as_ref().expect("metadata was asked with dependencies");
    let (mut seen, mut open) = (BTreeSet::new(), vec![package]);
    while let Some(id) = open.pop() {
        let node = resolve.nodes.iter().find(|node| node.id == *id).unwrap();
        for next in &node.deps {
            let built = next.dep_kinds.iter().any(|k| k.kind != DependencyKind::Development);
            if built && seen.insert(&next.pkg) {
                open.push(&next.pkg);
            }
        }
    }
    seen.into_iter().map(|id| metadata[id].name.as_str()).collect()
}

fn package<'a>(metadata: &'a Metadata, name: &str) -> &'a Package {
    let found = metadata.workspace_packages().into_iter().find(|package| package.name == name);
    found.unwrap_or_else(|| panic!("no crate `{name}`"))
}

#[test]
fn the_crates_depend_on_each_other_as_the_architecture_says() {
    let (built, documented) = (built(&metadata()), documented());
    let differing = built.iter().filter(|(name, needs)| documented.get(*name) != Some(needs));
    let differing: Vec<_> = differing
        .map(|(name, needs)| format!("{name}: {needs:?}, table: {:?}", documented.get(name)))
        .collect();
    assert!(
        differing.is_empty(),
        "drop the dependency, or change ARCHITECTURE.md and say in the commit why the arrow is \
         right:\n{}",
        differing.join("\n")
    );
    assert_eq!(built.len(), documented.len(), "ARCHITECTURE.md names a crate that is gone");
}

#[test]
fn the_pure_crates_reach_no_runtime_network_cluster_or_tensor() {
    let metadata = metadata();
    for name in PURE {
        let reached = reach(&metadata, &package(&metadata, name).id);
        let bad: Vec<_> = EFFECTS.iter().filter(|effect| reached.contains(*effect)).collect();
        assert!(bad.is_empty(), "{name} is pure and must not reach {bad:?}");
    }
}

#[test]
fn an_effect_is_seen_through_other_crates() {
    let metadata = metadata();
    let reached = reach(&metadata, &package(&metadata, "coordinator").id);
    assert!(reached.contains("mio"), "the search does not follow dependencies");
}

#[test]
fn only_named_crates_use_kube_and_tch_themselves() {
    let metadata = metadata();
    let allowed = [
        ("kube", &["api", "e2e", "kubectl-island", "operator"][..]),
        ("tch", &["bench-training", "tch-ext", "worker"][..]),
        ("torch-sys", &["tch-ext"][..]),
    ];
    for (effect, users) in allowed {
        for package in metadata.workspace_packages() {
            let uses = package.dependencies.iter().any(|d| d.name == effect);
            let name = package.name.as_str();
            assert!(!uses || users.contains(&name), "{name} must not use {effect}: only {users:?}");
        }
    }
}

#[test]
fn no_program_is_a_library_of_another() {
    let metadata = metadata();
    for name in ["cli", "coordinator", "worker"] {
        let reached = reach(&metadata, &package(&metadata, name).id);
        let others = ["cli", "coordinator", "worker"].into_iter().filter(|other| *other != name);
        for other in others {
            assert!(!reached.contains(other), "{name} must not reach {other}");
        }
    }
}
