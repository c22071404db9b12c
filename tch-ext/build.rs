//! Compiles the C++ shim against libtorch, and links the tests against it.

#[path = "link.rs"]
mod link;

fn main() {
    for file in ["cpp/shim.cpp", "cpp/shim.h"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let include = link::libtorch().join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .warnings(false)
        .include(include.join("torch/csrc/api/include"))
        .include(include)
        .file("cpp/shim.cpp")
        .compile("tch_ext");
    link::emit();
}
