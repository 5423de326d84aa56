//! What docs/ has from the program itself: directives, variables, manual page, completions; `UPDATE=1` writes them anew.
//! The names are those of <https://nginx.org/en/docs/dirindex.html> and <https://nginx.org/en/docs/varindex.html>.
#![cfg(test)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use nginx_rs::cli::Options;
use nginx_rs::compile::{SCOPES, later};
use nginx_rs::conf::{Contexts, Shape};
use nginx_rs::modules;

const TABLE: &str = "| directive | may stand in | arguments |\n|---|---|---|\n";

#[test]
fn directives_are_listed() {
    let mut text =
        heading("Directives", "Everything else nginx knows is at the end: using it is an error that says so.");
    text.push_str("\n## Blocks\n\n");
    text.push_str(TABLE);
    for (name, contexts, args) in SCOPES {
        let most = u8::try_from(*args.end()).unwrap_or(u8::MAX);
        let least = u8::try_from(*args.start()).unwrap_or(u8::MAX);
        line(&mut text, name, contexts, &(least..=most), Shape::Block);
    }
    let mut last = "";
    for row in modules::rows() {
        if row.module != last {
            last = row.module;
            let _ = write!(text, "\n## {last}\n\n{TABLE}");
        }
        line(&mut text, &row.name, row.contexts, &row.args, row.shape);
    }
    text.push_str("\n## Not supported yet\n\n");
    let mut rest: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in later::list() {
        rest.entry(row.module).or_default().push(row.name);
    }
    for (module, mut names) in rest {
        names.dedup();
        let _ = writeln!(text, "- **{module}**: {}", names.join(", "));
    }
    hold("DIRECTIVES.md", &text);
}

#[test]
fn variables_are_listed() {
    let mut text =
        heading("Variables", "A name that ends in an ellipsis stands for a family. `set` may write those marked so.");
    let mut last = "";
    for row in modules::variables() {
        if row.module != last {
            last = row.module;
            let _ = write!(text, "\n## {last}\n\n");
        }
        let family = if row.name.ends_with('_') { "…" } else { "" };
        let set = if row.set.is_some() { " (set)" } else { "" };
        let _ = writeln!(text, "- `${}{family}`{set}", row.name);
    }
    hold("VARIABLES.md", &text);
}

#[test]
fn manual_and_completions_are_those_of_the_command_line() {
    let command = Options::command().name("nginx-rs");
    let mut page = Vec::new();
    let manual = clap_mangen::Man::new(command.clone()).section("8").source("nginx-rs").manual("nginx-rs");
    manual.render(&mut page).expect("a page");
    hold("package/nginx-rs.8", &String::from_utf8_lossy(&page));
    for (shell, name) in [(Shell::Bash, "nginx-rs.bash"), (Shell::Zsh, "_nginx-rs"), (Shell::Fish, "nginx-rs.fish")] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), "nginx-rs", &mut script);
        hold(&format!("package/{name}"), &String::from_utf8_lossy(&script));
    }
}

#[test]
fn types_are_those_of_the_table() {
    const EXTENSIONS: &str = "html htm shtml css xml gif jpeg jpg js mjs atom rss txt vtt ics csv md svg svgz png ico webp \
        avif bmp tif tiff woff woff2 ttf otf eot jar json map webmanifest ps ai eps doc docx xls xlsx ppt pptx odt ods odp \
        rtf pdf kml kmz wasm xhtml zip 7z rar gz tar exe dmg iso deb rpm mid midi mp3 ogg oga m4a wav flac opus mp4 m4v \
        mpeg mpg mov webm flv avi wmv ogv 3gp ts";
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for extension in EXTENSIONS.split_whitespace() {
        let kind = mime_guess::from_ext(extension).first_raw().unwrap_or("application/octet-stream");
        kinds.entry(kind).or_default().push(extension);
    }
    let mut text = "# File types, written by `UPDATE=1 cargo test --test docs`.\ntypes {\n".to_owned();
    for (kind, extensions) in kinds {
        let _ = writeln!(text, "    {kind} {};", extensions.join(" "));
    }
    text.push_str("}\n");
    hold("package/mime.types", &text);
}

fn heading(title: &str, more: &str) -> String {
    format!("# {title}\n\nWritten by `UPDATE=1 cargo test --test docs` from the rows of the modules. {more}\n")
}

fn line(text: &mut String, name: &str, contexts: Contexts, args: &RangeInclusive<u8>, shape: Shape) {
    let count = match (args.start(), args.end()) {
        (least, most) if least == most => least.to_string(),
        (least, 255) => format!("{least} or more"),
        (least, most) => format!("{least} to {most}"),
    };
    let shape = match shape {
        Shape::Once => "",
        Shape::Many => ", repeatable",
        Shape::Block => " and a block",
    };
    let _ = writeln!(text, "| `{name}` | {} | {count}{shape} |", contexts.words().join(", "));
}

fn hold(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).expect("a writable file");
    }
    let stale = std::fs::read_to_string(&path).unwrap_or_default() != text;
    assert!(!stale, "docs/{name} is stale: UPDATE=1 cargo test --test docs");
}
