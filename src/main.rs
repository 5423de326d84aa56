//! The program `nginx-rs`.

fn main() {}
