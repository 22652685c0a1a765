//! Headwater node.
fn main() {}
