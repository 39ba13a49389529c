//! cordon
fn main() {}
