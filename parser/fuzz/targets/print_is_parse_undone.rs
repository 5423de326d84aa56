//! Printing a tree and parsing it again gives that tree
//! (<https://nginx.org/en/docs/beginners_guide.html#conf_structure>).
#![no_main]

use libfuzzer_sys::fuzz_target;
use parser::ast::FileId;
use parser::print::{print, same};

fuzz_target!(|text: &[u8]| {
    let tree = parser::parse(FileId(0), text).items;
    let again = parser::parse(FileId(0), &print(&tree));
    assert!(again.errors.is_empty());
    assert!(same(&tree, &again.items));
});
