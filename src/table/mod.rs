//! The routing table: listening addresses, virtual servers and locations, ready to serve.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::conf::names::VarId;
use crate::conf::zones::Zones;
use crate::http::{Builtin, Core, Definition, Method, Request, Scope};
use crate::modules::seal::LogFiles;
use crate::modules::{Loc, process};
use crate::upstream::Upstreams;

pub mod listen;
pub mod names;
pub mod tree;

pub use listen::Listen;
pub use names::ServerNames;
pub use tree::Locations;

/// A whole configuration.
pub struct Table {
    /// Settings of the process.
    pub process: process::Process,
    /// The log of what belongs to no request.
    pub error_log: crate::net::ErrorLog,
    /// Listening addresses, each with its servers.
    pub listens: Vec<Arc<Listen>>,
    /// Upstream groups.
    pub upstreams: Upstreams,
    /// Log files, for USR1.
    pub logs: LogFiles,
    /// Caches of TLS sessions, for the next table.
    pub tls: crate::net::tls::Kept,
    /// Zones, for the next configuration.
    pub zones: Zones,
    /// Directories of temporary files.
    pub temp_paths: BTreeSet<PathBuf>,
    /// Whether something binds to addresses of others.
    pub transparent: bool,
}

/// A virtual server.
pub struct Server {
    /// Its own settings, which hold before a location is found.
    pub root: Arc<Location>,
    /// Its locations.
    pub locations: Locations<Arc<Location>>,
    /// Its named locations.
    pub named: HashMap<Bytes, Arc<Location>>,
}

/// The variables of a configuration, by number.
#[derive(Debug, Default)]
pub struct Definitions {
    /// What each number stands for.
    pub list: Vec<Definition>,
    /// Their names.
    pub names: Vec<String>,
}

/// A place of the configuration: what requests there read.
pub struct Location {
    /// The `location` as written; empty for a server's own settings.
    pub name: String,
    /// The modules' settings.
    pub loc: Loc,
    /// `if` blocks, by the numbers the rewrite program gives them.
    pub ifs: Vec<Arc<Location>>,
    /// `limit_except`: the methods it leaves alone, and what holds for the others.
    pub limit_except: Option<(Vec<Method>, Arc<Location>)>,
    /// The variables.
    pub definitions: Arc<Definitions>,
}

impl Scope for Location {
    fn core(&self) -> &Core {
        &self.loc.core
    }

    fn definition(&self, id: VarId) -> Option<&Definition> {
        self.definitions.list.get(id.0 as usize)
    }

    fn name(&self, id: VarId) -> &str {
        self.definitions.names.get(id.0 as usize).map_or("", String::as_str)
    }

    fn builtin(&self, builtin: Builtin, request: &Request, suffix: &[u8], out: &mut Vec<u8>) -> bool {
        self.loc.variable(builtin, request, suffix, out)
    }
}

impl Location {
    /// Stores the value of a named group in the variable of that name.
    pub fn store(&self, request: &mut Request, name: &str, value: Bytes) {
        let index = self.definitions.names.iter().position(|known| known.eq_ignore_ascii_case(name));
        if let Some(id) = index.and_then(|index| u32::try_from(index).ok()) {
            request.assign(VarId(id), value);
        }
    }
}
