//! From the tree of directives to the routing table.
//!
//! Compiling opens log files and resolves the names of upstream servers; everything else is a function of the tree.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::conf::files::Files;
use crate::conf::load::{self, Loaded, Sources};
use crate::conf::names::Names;
use crate::conf::zones::Zones;
use crate::conf::{Contexts, Diag, Env};
use crate::modules::seal::LogFiles;
use crate::table::Table;
use crate::upstream::groups::{self, Sealed};

mod blocks;
mod foreign;
pub mod later;
mod listens;
mod locations;
mod sealing;
mod variables;

pub use blocks::SCOPES;

/// What to compile.
pub struct Input {
    /// The configuration file.
    pub file: PathBuf,
    /// The prefix of relative paths, with a trailing slash.
    pub prefix: PathBuf,
    /// Directives of the command line.
    pub globals: String,
    /// How files are read.
    pub files: Arc<dyn Files>,
    /// Log files that are open already.
    pub logs: LogFiles,
    /// Caches of TLS sessions that are in use already.
    pub tls: crate::net::tls::Kept,
    /// Zones of the configuration before.
    pub zones: Zones,
    /// Upstream groups that are in use.
    pub upstreams: Sealed,
    /// The log to use where the configuration names none.
    pub error_log: Option<PathBuf>,
    /// The log of requests where the configuration names none.
    pub access_log: Option<PathBuf>,
    /// The directory of temporary files, where it is not the prefix.
    pub temp: Option<PathBuf>,
}

/// What came of it: all findings in nginx's order, and the table if none of them forbids it.
pub struct Output {
    /// The table.
    pub table: Option<Table>,
    /// The findings.
    pub diags: Vec<Diag>,
    /// The files they speak of.
    pub sources: Sources,
}

/// Compiles a configuration.
pub fn compile(input: &Input) -> Output {
    let conf_prefix = directory(&input.file);
    let loaded = load::load(&*input.files, &input.file, &conf_prefix);
    let mut env = Env {
        prefix: input.prefix.clone(),
        conf_prefix,
        names: Names::default(),
        files: Arc::clone(&input.files),
        warnings: Vec::new(),
        hosts: HashMap::new(),
        sources: loaded.sources.clone(),
        declared: HashMap::new(),
        access_log: input.access_log.clone(),
        zones: input.zones.next(),
        temp: input.temp.clone(),
        temp_paths: BTreeSet::new(),
        log_files: Vec::new(),
        transparent: false,
        end: None,
    };
    let globals = load::load_text("", input.globals.as_bytes(), &*input.files, &input.prefix);
    let rows = blocks::rows();
    let mut walk = blocks::Walk::new(&rows, &mut env, input.error_log.as_deref());
    walk.prepare();
    walk.globals(&globals.items);
    let early = std::mem::take(&mut walk.diags);
    let bare = is_bare(&loaded, &rows);
    if bare {
        walk.bare(&loaded.items);
    } else {
        walk.file(&loaded.items);
    }
    let (found, late) = (std::mem::take(&mut walk.diags), std::mem::take(&mut walk.late));
    let blocks = std::mem::take(&mut walk.blocks);
    let mut diags = loaded.diags;
    diags.extend(found);
    diags.append(&mut env.warnings);
    diags.extend(variables::duplicates(&env));
    if !blocks.main.upstream.start_unresolved {
        diags.extend(groups::not_found(&blocks.upstreams, &*input.files));
    }
    diags.sort_by_cached_key(|diag| (diag.line.is_none(), diag.line.map(|span| loaded.sources.order(span))));
    diags.extend(late);
    diags.splice(0..0, globals.diags.into_iter().chain(early).map(|diag| Diag { line: None, caret: None, ..diag }));
    let mut table = None;
    if !diags.iter().any(Diag::is_error) {
        match sealing::seal(blocks, &mut env, input) {
            Ok(sealed) => table = Some(sealed),
            Err(problems) => diags.extend(problems),
        }
        diags.append(&mut env.warnings);
    }
    Output { table, diags, sources: loaded.sources }
}

/// Whether the file is one of `sites-enabled` rather than a whole configuration: it has no `http` block, and something
/// at its top level only an `http` block takes.
fn is_bare(loaded: &Loaded, rows: &blocks::Rows) -> bool {
    let http_only = |name: &str| {
        matches!(name, "server" | "upstream")
            || rows.get(name).is_some_and(|rows| {
                let meets = |contexts| rows.iter().any(|row| row.contexts.meets(contexts));
                meets(Contexts::HTTP) && !meets(Contexts::MAIN)
            })
    };
    let name = |item: &parser::ast::Directive| String::from_utf8_lossy(&item.name.text).into_owned();
    let whole = |name: &str| matches!(name, "http" | "events" | "stream" | "mail");
    !loaded.items.iter().any(|item| whole(&name(item))) && loaded.items.iter().any(|item| http_only(&name(item)))
}

fn directory(file: &Path) -> PathBuf {
    let mut dir = file.parent().unwrap_or(Path::new("")).as_os_str().to_owned();
    dir.push("/");
    dir.into()
}
