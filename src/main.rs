//! The program `nginx-rs`, which is also `nginx` where it is installed under that name.

use std::io::Write;
use std::process::ExitCode;

use nginx_rs::cli::{self, Options};
use nginx_rs::process;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(done) = process::work() {
        return end(done);
    }
    let options = match Options::read(std::env::args_os()) {
        Ok(options) => options,
        Err(problem) => return say(&format!("nginx: {problem}\n"), 1),
    };
    if options.help || options.help_too {
        return say(&format!("{}{}\n", cli::version(), cli::help()), 0);
    }
    if options.build {
        return say(&cli::build(), 0);
    }
    if options.version {
        return say(&cli::version(), 0);
    }
    end(process::run(&options))
}

fn end(done: anyhow::Result<u8>) -> ExitCode {
    match done {
        Ok(code) => ExitCode::from(code),
        Err(problem) => say(&format!("nginx: [emerg] {problem:#}\n"), 1),
    }
}

fn say(text: &str, code: u8) -> ExitCode {
    // Nobody is left to tell when standard error is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(code)
}
