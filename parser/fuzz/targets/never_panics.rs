//! Any bytes can be parsed (<https://nginx.org/en/docs/beginners_guide.html#conf_structure>); spans stay in the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parser::ast::FileId;
use parser::source::{column, line, line_text};

fuzz_target!(|text: &[u8]| {
    for parsed in [parser::parse(FileId(0), text), parser::parse_option(FileId(0), text)] {
        for error in &parsed.errors {
            assert!(error.span.start <= error.span.end && error.span.end as usize <= text.len());
            assert_eq!(line(text, error.span.start), line(text, error.span.end));
            let column = column(text, error.span.end) as usize;
            assert!(column <= line_text(text, error.span.end).len() + 2);
        }
    }
});
