//! Tells whether what runs is counted: it goes by the compiler's flags.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CARGO_ENCODED_RUSTFLAGS");
    println!("cargo::rustc-check-cfg=cfg(coverage)");
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if flags.contains("instrument-coverage") {
        println!("cargo::rustc-cfg=coverage");
    }
}
