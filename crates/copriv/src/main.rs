//! copriv
fn main() {}
