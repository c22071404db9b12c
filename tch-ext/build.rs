//! Compiles the C++ shim against the libtorch that tch links.

use std::path::PathBuf;

fn main() {
    for file in ["cpp/shim.cpp", "cpp/shim.h"] {
        println!("cargo:rerun-if-changed={file}");
    }
    // torch-sys has found libtorch (LIBTORCH or LIBTORCH_USE_PYTORCH) and says where.
    let library = std::env::var_os("DEP_TCH_LIBTORCH_LIB").expect("torch-sys names libtorch");
    let include = PathBuf::from(library).with_file_name("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .warnings(false)
        .include(include.join("torch/csrc/api/include"))
        .include(include)
        .file("cpp/shim.cpp")
        .compile("tch_ext");
}
