//! Values with variables: any text can be read, and what was read, written out, reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nginx_rs::conf::names::Names;
use nginx_rs::http::Value;
use nginx_rs::http::value::Part;

fuzz_target!(|text: &[u8]| {
    let mut names = Names::default();
    let Ok(value) = Value::parse(text, &mut names, None) else { return assert!(text.contains(&b'$')) };
    let Value::Mix(parts) = &value else { return assert_eq!(value.as_literal().map(|text| &text[..]), Some(text)) };
    let mut out = Vec::new();
    for part in parts {
        match part {
            Part::Literal(text) => out.extend_from_slice(text),
            Part::Capture(number) => out.extend_from_slice(format!("${number}").as_bytes()),
            Part::Variable(id) => {
                let name = names.get(*id).expect("a name for every number");
                assert_eq!(name.name, name.name.to_ascii_lowercase());
                out.extend_from_slice(format!("${{{}}}", name.name).as_bytes());
            }
        }
    }
    assert_eq!(Value::parse(&out, &mut names, None).as_ref(), Ok(&value));
});
