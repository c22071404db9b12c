//! Links the worker's binaries and tests against libtorch.

#[path = "../tch-ext/link.rs"]
mod link;

fn main() {
    link::emit();
}
