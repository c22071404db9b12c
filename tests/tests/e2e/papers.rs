//! Claims of the repository's papers that a machine can check.

use std::fs;
use std::path::Path;

use e2e::root;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn the_manifests_in_the_readme_are_accepted() {
    let readme = read("README.md");
    let fenced = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let fenced: Vec<_> = fenced.collect();
    assert_eq!(fenced.len(), 1, "one example");
    let manifests = api::load(&[api::Source { name: "README.md", text: fenced[0] }]).unwrap();
    assert_eq!(manifests.islands.len(), 2);
}

#[test]
fn links_between_the_papers_lead_somewhere() {
    let papers = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/gpu-hosts.md"];
    for paper in papers {
        let text = read(paper);
        let folder = Path::new(paper).parent().unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let path = root().join(folder).join(target);
            assert!(path.exists(), "{paper}: ({target}) leads nowhere");
        }
    }
}

#[test]
fn every_make_target_that_a_paper_names_is_there() {
    let makefile = read("Makefile");
    for paper in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/gpu-hosts.md"] {
        let text = read(paper);
        let named =
            text.split('`').skip(1).step_by(2).filter_map(|code| code.strip_prefix("make "));
        for target in named.filter_map(|code| code.split_whitespace().next()) {
            assert!(makefile.contains(&format!("\n{target}:")), "{paper}: no `make {target}`");
        }
    }
}

#[test]
fn the_architecture_is_read_in_minutes() {
    assert!(read("ARCHITECTURE.md").lines().count() <= 200, "keep it to 200 lines");
}
