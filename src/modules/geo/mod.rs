//! `geo`: <https://nginx.org/en/docs/http/ngx_http_geo_module.html>

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use parser::ast;

use super::Seal;
use crate::conf::args::text;
use crate::conf::names::VarId;
use crate::conf::{Args, Contexts, Diag, Directive, Problem, block};
use crate::http::{Computed, Known, Request, forwarded};
use crate::net::cidr::{self, Cidr};

mod nets;

use nets::{Met, Nets, Ranges, Table};

/// `ngx_http_geo_module`.
pub struct Module;

/// The `geo` blocks.
pub type Main = Vec<(VarId, Arc<Geo>)>;

impl super::Module for Module {
    type Conf = ();
    type Main = Main;
    type Loc = ();

    const MAIN_DIRECTIVES: &'static [Directive<Main>] = &[block("geo", Contexts::HTTP, 1..=2, geo)];

    fn seal((): (), _: &Main, _: &mut Seal<'_>) -> Result<(), Diag> {
        Ok(())
    }

    fn computed(main: &Main) -> Vec<(VarId, Arc<dyn Computed>)> {
        main.iter().map(|(id, geo)| (*id, Arc::clone(geo) as Arc<dyn Computed>)).collect()
    }
}

/// One `geo`.
#[derive(Debug)]
pub struct Geo {
    /// The variable with the address; the client's address is taken without one.
    source: Option<VarId>,
    proxies: Vec<Cidr>,
    recursive: bool,
    volatile: bool,
    table: Table,
}

impl Computed for Geo {
    fn compute(&self, request: &Request) -> Option<Bytes> {
        let mut ip = match self.source {
            Some(id) => cidr::ip(&request.value_of(id)),
            None => request.peer_ip(),
        };
        if let Some(peer) = ip.filter(|_| !self.proxies.is_empty()) {
            let trusts = |ip: Option<IpAddr>| ip.is_some_and(|ip| self.proxies.iter().any(|net| net.contains(ip)));
            let values: Vec<&[u8]> = request.headers.all(Known::XForwardedFor).collect();
            let found = forwarded::client(Some(peer), values.into_iter(), trusts, self.recursive);
            ip = found.map_or(ip, |(ip, _)| Some(ip));
        }
        // Whatever has no address has the value of the last one.
        Some(self.table.get(ip.unwrap_or(IpAddr::V4(Ipv4Addr::BROADCAST))))
    }

    fn volatile(&self) -> bool {
        self.volatile
    }
}

/// A block while it is read.
#[derive(Default)]
struct Reader {
    ranges: Option<Ranges>,
    /// The value `default` gives to ranges.
    default: Option<Bytes>,
    nets: Nets,
    proxies: Vec<Cidr>,
    recursive: bool,
    volatile: bool,
}

fn geo(main: &mut Main, args: &mut Args<'_>) -> Result<(), Problem> {
    let source = match args.len() {
        2 => {
            let word = args.word(0);
            let name = word.strip_prefix(b"$").filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| Problem::new(format!("invalid variable name \"{}\"", text(word))).at(0))?;
            Some(args.env.names.id(&text(name), Some(args.directive().end)))
        }
        _ => None,
    };
    let id = args.define(args.len() - 1)?;
    let mut reader = Reader::default();
    for row in args.rows() {
        if let Err(problem) = reader.row(row, args) {
            args.fail(row, problem.arg, problem.sentence("geo"));
        }
    }
    let table = match &reader.ranges {
        Some(ranges) => ranges.table(&reader.default.unwrap_or_default()),
        None => reader.nets.table(),
    };
    let Reader { proxies, recursive, volatile, .. } = reader;
    main.push((id, Arc::new(Geo { source, proxies, recursive, volatile, table })));
    Ok(())
}

impl Reader {
    fn row(&mut self, row: &ast::Directive, args: &mut Args<'_>) -> Result<(), Problem> {
        let name = row.name.text.as_slice();
        let value = match (name, row.args.as_slice()) {
            (b"ranges", []) if self.nets.is_empty() => {
                self.ranges.get_or_insert_default();
                return Ok(());
            }
            (b"ranges", []) => {
                let problem = "the \"ranges\" directive must be the first directive inside \"geo\" block";
                return Err(Problem::new(problem));
            }
            (b"proxy_recursive", []) => {
                self.recursive = true;
                return Ok(());
            }
            (b"volatile", []) => {
                self.volatile = true;
                return Ok(());
            }
            (_, [value]) => value.text.as_slice(),
            _ => return Err(Problem::new("invalid number of the geo parameters")),
        };
        if name == b"proxy" {
            self.proxies.push(network(value, row, args).map_err(|problem| problem.at(0))?);
            return Ok(());
        }
        match &mut self.ranges {
            Some(ranges) if name == b"default" => {
                let _ = ranges;
                self.default_range(value, row, args);
                Ok(())
            }
            Some(ranges) => range(ranges, value, row, args),
            None => self.net(value, row, args),
        }
    }

    fn default_range(&mut self, value: &[u8], row: &ast::Directive, args: &mut Args<'_>) {
        if let Some(old) = self.default.replace(Bytes::copy_from_slice(value)) {
            let (value, old) = (text(value), text(&old).into_owned());
            args.warn_at(row, format!("duplicate default geo range value: \"{value}\", old value: \"{old}\""));
        }
    }

    fn net(&mut self, value: &[u8], row: &ast::Directive, args: &mut Args<'_>) -> Result<(), Problem> {
        let name = row.name.text.as_slice();
        let nets = match name {
            b"delete" => {
                let net = network(value, row, args).map_err(|problem| problem.at(0))?;
                if !self.nets.remove(net) {
                    args.warn_at(row, format!("no network \"{}\" to delete", text(value)));
                }
                return Ok(());
            }
            b"default" => [&b"0.0.0.0/0"[..], b"::/0"].into_iter().filter_map(Cidr::parse).map(|(net, _)| net).collect(),
            _ => vec![network(name, row, args)?],
        };
        for net in nets {
            if let Some(old) = self.nets.insert(net, Bytes::copy_from_slice(value)) {
                args.warn_at(row, duplicate("network", name, value, &old));
            }
        }
        Ok(())
    }
}

fn duplicate(what: &str, name: &[u8], value: &[u8], old: &[u8]) -> String {
    format!("duplicate {what} \"{}\", value: \"{}\", old value: \"{}\"", text(name), text(value), text(old))
}

fn network(word: &[u8], row: &ast::Directive, args: &mut Args<'_>) -> Result<Cidr, Problem> {
    if word == b"255.255.255.255" {
        return Ok(Cidr { addr: IpAddr::V4(Ipv4Addr::BROADCAST), bits: 32 });
    }
    let parsed = Cidr::parse(word);
    let (net, low) = parsed.ok_or_else(|| Problem::new(format!("invalid network \"{}\"", text(word))))?;
    if low {
        args.warn_at(row, format!("low address bits of {} are meaningless", text(word)));
    }
    Ok(net)
}

fn range(ranges: &mut Ranges, value: &[u8], row: &ast::Directive, args: &mut Args<'_>) -> Result<(), Problem> {
    let delete = row.name.text == b"delete";
    let word = if delete { value } else { row.name.text.as_slice() };
    let ends = word.iter().position(|&b| b == b'-').and_then(|at| {
        let first = cidr::ipv4(word.get(..at)?)?;
        Some((first, cidr::ipv4(word.get(at + 1..)?).filter(|last| first <= *last)?))
    });
    let (first, last) = ends.ok_or_else(|| Problem::new(format!("invalid range \"{}\"", text(word))))?;
    if delete {
        if !ranges.remove(first, last) {
            args.warn_at(row, format!("no address range \"{}\" to delete", text(word)));
        }
        return Ok(());
    }
    for met in ranges.insert(first, last, &Bytes::copy_from_slice(value)) {
        match met {
            Met::Same(old) => args.warn_at(row, duplicate("range", word, value, &old)),
            Met::Overlap(from, to) => {
                return Err(Problem::new(format!("range \"{}\" overlaps \"{from}-{to}\"", text(word))));
            }
        }
    }
    Ok(())
}
