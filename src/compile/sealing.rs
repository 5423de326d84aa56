//! The last step: everything the walk gathered becomes the routing table.

use std::sync::Arc;

use super::Input;
use super::blocks::Blocks;
use super::listens::{self, Candidate};
use super::locations::Sealer;
use super::variables;
use crate::conf::{Diag, Env};
use crate::modules::{Seal, core};
use crate::table::{Server, Table, listen};
use crate::upstream::Upstreams;
use crate::upstream::groups::Given;

/// Seals `blocks`.
pub fn seal(blocks: Blocks, env: &mut Env, input: &Input) -> Result<Table, Vec<Diag>> {
    let hashes = blocks.hashes;
    let definitions = Arc::new(variables::define(&blocks.main, hashes.variables_hash, env)?);
    let empty = |name| format!("zero size shared memory zone \"{}\"", String::from_utf8_lossy(name));
    let missing: Vec<Diag> = env.zones.missing().map(|name| Diag::general(empty(name), None)).collect();
    if !missing.is_empty() {
        return Err(missing);
    }
    let (mut logs, mut tls) = (input.logs.clone(), input.tls.clone());
    let given = Given {
        groups: blocks.upstreams,
        resolver: blocks.resolver,
        start_unresolved: blocks.main.upstream.start_unresolved,
    };
    let mut upstreams = Upstreams::new(given, env, input.upstreams.clone()).map_err(|problem| vec![problem])?;
    let mut sealer = Sealer {
        main: &blocks.main,
        env,
        logs: &mut logs,
        tls: &mut tls,
        upstreams: &mut upstreams,
        definitions,
        server_names: Vec::new(),
        problems: Vec::new(),
    };
    let mut candidates = Vec::new();
    for mut server in blocks.servers {
        let at = server.at;
        let (listens, names) = core::servers::take(&mut server.scope.conf.core);
        sealer.server_names.clone_from(&names);
        let Some((root, level)) = sealer.scope(server.scope, "") else { continue };
        let server = Arc::new(Server { root, locations: level.locations, named: level.named });
        candidates.push(Candidate { server, listens, names, at });
    }
    let mut problems = std::mem::take(&mut sealer.problems);
    let mut cx =
        Seal { env, logs: &mut logs, tls: &mut tls, upstreams: &mut upstreams, charset: None, server_names: &[] };
    let error_log = core::logs::seal(&blocks.root.core, &mut cx);
    // nginx opens what nobody writes to, too.
    let unopened = env.log_files.iter().find_map(|path| logs.open(path).err());
    problems.extend(unopened.filter(|diag| !problems.contains(diag)));
    problems.extend(upstreams.seal_declared().err());
    env.warnings.append(&mut upstreams.warnings);
    let listens = listens::build(&candidates, hashes.names_hash, env);
    let connections = blocks.main.process.worker_connections;
    let listens = listens.and_then(|listens| match listen::sockets(&listens).len() {
        // One connection more is how nginx's processes talk to one another.
        count if connections > count as u64 => Ok(listens),
        count => {
            let problem = format!("{connections} worker_connections are not enough for {count} listening sockets");
            Err(Diag::general(problem, None))
        }
    });
    match (listens, error_log) {
        (Ok(listens), Ok(error_log)) if problems.is_empty() => {
            let (zones, temp_paths) = (std::mem::take(&mut env.zones), std::mem::take(&mut env.temp_paths));
            upstreams.resolvers.iter().for_each(|(_, resolver)| resolver.log_to(error_log.clone()));
            let (process, transparent) = (blocks.main.process, env.transparent);
            Ok(Table { process, error_log, listens, upstreams, logs, tls, zones, temp_paths, transparent })
        }
        (listens, error_log) => {
            problems.extend(listens.err());
            problems.extend(error_log.err());
            Err(problems)
        }
    }
}
