//! The `linerate` program: everything is in the library.

fn main() {}
