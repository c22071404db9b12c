//! Compiles the C++ shim against libtorch, and links the tests against it.

#[path = "link.rs"]
mod link;

fn main() {
    println!("cargo::rerun-if-changed=cpp");
    let include = link::libtorch().join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .warnings(false)
        // Loops vectorise only if nobody looks at errno or floating-point traps; `omp` is how
        // libtorch itself spreads work over its threads.
        .flags(["-fopenmp", "-fno-math-errno", "-fno-trapping-math"])
        .include(include.join("torch/csrc/api/include"))
        .include(include)
        .files(["cpp/hooks.cpp", "cpp/kernels.cpp", "cpp/ops.cpp", "cpp/shim.cpp"])
        .compile("tch_ext");
    link::emit();
}
