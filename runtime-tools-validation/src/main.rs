//! Runs the OCI runtime-tools validation programs against a runtime.
fn main() {}
