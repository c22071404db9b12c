//! Links the benchmarks that train against libtorch.

#[path = "../../tch-ext/link.rs"]
mod link;

fn main() {
    link::emit();
}
