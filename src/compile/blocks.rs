//! The walk over blocks: a block's plain directives first, the scopes inside it afterwards.
//!
//! Only `if` keeps its place in source order, inside the rewrite program.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parser::ast::{Directive, Word};

use super::later;
use crate::conf::args::text;
use crate::conf::{Args, Contexts, Diag, Env, Place, Problem, Shape};
use crate::http::Method;
use crate::http::mime::Types;
use crate::http::pattern::Pattern;
use crate::modules::core::{Hashes, logs, servers};
use crate::modules::rows::Sets;
use crate::modules::{Conf, Main, Row, rewrite};
use crate::upstream::Group;

/// What a location matches.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `= /x`.
    Exact,
    /// `/x`.
    Prefix,
    /// `^~ /x`.
    Final,
    /// `~ x` and `~* x`.
    Regex(Arc<Pattern>),
    /// `@x`.
    Named,
}

/// A `location`.
pub struct LocationBlock {
    /// What it matches.
    pub kind: Kind,
    /// Its prefix, pattern or name.
    pub name: Bytes,
    /// Its settings.
    pub scope: ScopeBlock,
}

/// The settings of a scope and the scopes inside it.
pub struct ScopeBlock {
    /// Settings.
    pub conf: Conf,
    /// `location`s in source order.
    pub locations: Vec<LocationBlock>,
    /// `if`s, by the number the rewrite program gave them.
    pub ifs: Vec<Conf>,
    /// `limit_except`: the methods it leaves alone, and what holds for all others.
    pub limit_except: Option<(Vec<Method>, Box<ScopeBlock>)>,
}

/// A `server`.
pub struct ServerBlock {
    /// Where it begins.
    pub at: parser::ast::Span,
    /// Its settings and locations.
    pub scope: ScopeBlock,
}

/// Everything the walk gathers.
#[derive(Default)]
pub struct Blocks {
    /// What is declared once.
    pub main: Main,
    /// Settings outside of `http`.
    pub root: Conf,
    /// Servers in source order.
    pub servers: Vec<ServerBlock>,
    /// Groups in source order.
    pub upstreams: Vec<Group>,
    /// `resolver` and `resolver_timeout` of the `http` block.
    pub resolver: (Option<crate::upstream::resolver::Conf>, Option<std::time::Duration>),
    /// Whether there is an `events` block.
    pub events: bool,
    /// Sizes of nginx's hashes in the `http` block.
    pub hashes: Hashes,
}

/// Every supported row by name.
pub type Rows = HashMap<String, Vec<Row>>;

/// Gathers the rows of all modules.
pub fn rows() -> Rows {
    let mut rows = Rows::new();
    for row in crate::modules::rows() {
        rows.entry(row.name.to_string()).or_default().push(row);
    }
    rows
}

/// The walk itself.
pub struct Walk<'a> {
    rows: &'a Rows,
    env: &'a mut Env,
    error_log: Option<&'a Path>,
    /// What was found wrong.
    pub diags: Vec<Diag>,
    /// What nginx finds wrong once all is read.
    pub late: Vec<Diag>,
    /// What was gathered.
    pub blocks: Blocks,
}

/// The block being read: where it is, and the rows that were used in it.
struct Reading {
    context: Contexts,
    seen: HashSet<*const Row>,
}

impl<'a> Walk<'a> {
    /// A walk that has seen nothing.
    pub fn new(rows: &'a Rows, env: &'a mut Env, error_log: Option<&'a Path>) -> Self {
        Self { error_log, rows, env, diags: Vec::new(), late: Vec::new(), blocks: Blocks::default() }
    }

    /// Lets the modules declare what every configuration has.
    pub fn prepare(&mut self) {
        crate::modules::prepare(&mut self.blocks.main, self.env);
    }

    /// Reads the directives given on the command line (`-g`).
    pub fn globals(&mut self, items: &'a [Directive]) {
        let mut root = std::mem::take(&mut self.blocks.root);
        self.plain(items, Contexts::MAIN, &mut root);
        self.blocks.root = root;
    }

    /// Reads a whole file.
    pub fn file(&mut self, items: &'a [Directive]) {
        let mut root = std::mem::take(&mut self.blocks.root);
        let inner = self.plain(items, Contexts::MAIN, &mut root);
        logs::complete(&mut root.core, self.error_log);
        for directive in inner {
            match directive.name.text.as_slice() {
                b"events" => {
                    self.blocks.events = true;
                    let mut conf = Conf::default();
                    self.plain(body(directive), Contexts::EVENTS, &mut conf);
                }
                _ => {
                    self.env.end = directive.block.as_ref().map(|block| block.close);
                    self.http(body(directive), root.inner());
                }
            }
        }
        self.blocks.root = root;
    }

    /// Reads a bare site file, as if it were included in an `http { }` of nothing else.
    pub fn bare(&mut self, items: &'a [Directive]) {
        let mut root = std::mem::take(&mut self.blocks.root);
        root.core.types = Some(Arc::new(Types::guessed()));
        logs::complete(&mut root.core, self.error_log);
        self.blocks.events = true;
        self.http(items, root.inner());
        self.blocks.root = root;
    }

    fn http(&mut self, items: &'a [Directive], mut conf: Conf) {
        let inner = self.plain(items, Contexts::HTTP, &mut conf);
        self.blocks.hashes = conf.core.hashes;
        self.blocks.resolver = (conf.core.resolver.clone(), conf.core.resolver_timeout);
        for directive in inner {
            if directive.name.text == b"server" {
                let server = self.server(directive, conf.inner());
                self.blocks.servers.push(server);
            } else {
                self.upstream(directive);
            }
        }
    }

    fn server(&mut self, directive: &'a Directive, conf: Conf) -> ServerBlock {
        let scope = self.scope(body(directive), Contexts::SERVER, conf, None);
        ServerBlock { at: directive.end, scope }
    }

    fn upstream(&mut self, directive: &'a Directive) {
        let name = directive.args.first().map(|word| Bytes::copy_from_slice(&word.text)).unwrap_or_default();
        if self.blocks.upstreams.iter().any(|group| group.name.eq_ignore_ascii_case(&name)) {
            let problem = format!("duplicate upstream \"{}\"", text(&name));
            self.diags.push(Diag::error(problem, directive.end, directive.name.span));
            return;
        }
        let mut group = Group::new(name, Some(directive.end));
        let mut place = Reading { context: Contexts::UPSTREAM, seen: HashSet::new() };
        for item in body(directive) {
            if let Some(row) = self.row(item, &mut place)
                && let Sets::Upstream(set) = &row.set
            {
                let result = set(&mut group, &mut Args::new(item, self.env));
                self.report(result, item);
            }
        }
        if group.servers.is_empty() {
            let close = directive.block.as_ref().map_or(directive.end, |block| block.close);
            let problem = "no servers are inside upstream";
            self.diags.push(Diag::error(problem, close, directive.name.span));
        }
        self.blocks.upstreams.push(group);
    }

    fn scope(&mut self, items: &'a [Directive], context: Contexts, mut conf: Conf, around: Around<'_>) -> ScopeBlock {
        let inner = self.plain(items, context, &mut conf);
        if context == Contexts::SERVER {
            servers::complete(&mut conf.core);
            crate::modules::ssl::complete(&mut conf.ssl);
        }
        let mut scope = ScopeBlock { conf, locations: Vec::new(), ifs: Vec::new(), limit_except: None };
        for directive in inner {
            match directive.name.text.as_slice() {
                b"location" => self.location(directive, &mut scope, around),
                b"if" => self.if_block(directive, context, &mut scope, around),
                _ => self.limit_except(directive, &mut scope, around),
            }
        }
        scope
    }

    fn location(&mut self, directive: &'a Directive, outer: &mut ScopeBlock, around: Around<'_>) {
        let (kind, name) = match location_kind(&directive.args, self.env) {
            Ok(found) => found,
            Err(problem) => return self.report(Err(problem), directive),
        };
        if let Err(problem) = nests(&kind, &name, around) {
            self.report(Err(problem), directive);
        }
        if outer.locations.iter().any(|other| other.name == name && twins(&other.kind, &kind)) {
            let problem = format!("duplicate location \"{}\"", text(&name));
            self.late.push(Diag::error(problem, directive.end, directive.name.span));
        }
        let mut conf = outer.conf.inner();
        let place = Place { name: name.clone(), is_regex: matches!(kind, Kind::Regex(_)), unnamed: false };
        conf.enter(&place);
        let scope = self.scope(body(directive), Contexts::LOCATION, conf, Some((&kind, &name)));
        outer.locations.push(LocationBlock { kind, name, scope });
    }

    fn if_block(&mut self, directive: &'a Directive, context: Contexts, outer: &mut ScopeBlock, around: Around<'_>) {
        let inside = if context == Contexts::SERVER { Contexts::SERVER_IF } else { Contexts::LOCATION_IF };
        let number = outer.ifs.len();
        let mut conf = outer.conf.unnamed();
        conf.enter(&unnamed(around));
        self.plain(body(directive), inside, &mut conf);
        rewrite::close_if(&mut outer.conf.rewrite, number, &mut conf.rewrite);
        outer.ifs.push(conf);
    }

    fn limit_except(&mut self, directive: &'a Directive, outer: &mut ScopeBlock, around: Around<'_>) {
        let mut methods = Vec::new();
        for (index, word) in directive.args.iter().enumerate() {
            match Method::of(&word.text.to_ascii_uppercase()) {
                Method::Other => {
                    let problem = format!("invalid method \"{}\"", text(&word.text));
                    self.report(Err(Problem::new(problem).at(index)), directive);
                }
                Method::Get => methods.extend([Method::Get, Method::Head]),
                method => methods.push(method),
            }
        }
        let mut conf = outer.conf.unnamed();
        conf.enter(&unnamed(around));
        let scope = self.scope(body(directive), Contexts::LIMIT_EXCEPT, conf, None);
        outer.limit_except = Some((methods, Box::new(scope)));
    }

    /// Applies the plain directives of a block and returns the scopes in it.
    fn plain(&mut self, items: &'a [Directive], context: Contexts, conf: &mut Conf) -> Vec<&'a Directive> {
        let mut place = Reading { context, seen: HashSet::new() };
        let mut inner = Vec::new();
        for item in items {
            if let Some(opens) = opens(&item.name.text, context) {
                if self.well_formed(item, opens) && self.stands_once(item, &inner) {
                    if item.name.text == b"if" {
                        let result = rewrite::open_if(&mut conf.rewrite, &mut Args::new(item, self.env));
                        self.report(result, item);
                    }
                    inner.push(item);
                }
                continue;
            }
            let Some(row) = self.row(item, &mut place) else { continue };
            if item.name.text == b"load_module" && !inner.is_empty() {
                self.report(Err(Problem::tail("is specified too late")), item);
                continue;
            }
            let mut args = Args::new(item, self.env);
            let result = match &row.set {
                Sets::Scope(set) => set(conf, &mut args),
                Sets::Main(set) => set(&mut self.blocks.main, &mut args),
                Sets::Upstream(_) => Ok(()),
            };
            self.report(result, item);
        }
        inner
    }

    /// Whether the block `item` opens may stand there, is spelt right and stands once where it must.
    fn well_formed(&mut self, item: &Directive, args: std::ops::RangeInclusive<usize>) -> bool {
        let name = text(&item.name.text);
        if item.block.is_none() {
            let problem = format!("directive \"{name}\" has no opening \"{{\"");
            self.diags.push(Diag::error(problem, item.end, item.name.span));
            return false;
        }
        if !args.contains(&item.args.len()) {
            let problem = format!("invalid number of arguments in \"{name}\" directive");
            self.diags.push(Diag::error(problem, item.end, item.name.span));
            return false;
        }
        true
    }

    /// Whether a block of which there may be one is the first.
    fn stands_once(&mut self, item: &Directive, inner: &[&Directive]) -> bool {
        let once = matches!(item.name.text.as_slice(), b"http" | b"events" | b"limit_except");
        let twice = once && inner.iter().any(|other| other.name.text == item.name.text);
        if twice {
            self.report(Err(Problem::tail("is duplicate")), item);
        }
        !twice
    }

    /// The row of a directive, once everything that does not depend on its meaning was found right.
    fn row(&mut self, item: &Directive, place: &mut Reading) -> Option<&'a Row> {
        let name = text(&item.name.text).into_owned();
        let problem = match self.find(&name, item, place) {
            Ok(row) => return Some(row),
            Err(diag) => diag,
        };
        self.diags.push(problem);
        None
    }

    fn find(&self, name: &str, item: &Directive, place: &mut Reading) -> Result<&'a Row, Diag> {
        let error = |problem: String| Diag::error(problem, item.end, item.name.span);
        let rows = self.rows.get(name).map_or(&[][..], Vec::as_slice);
        let scopes = SCOPES.iter().filter(|(scope, ..)| *scope == name).map(|(_, contexts, _)| *contexts);
        let contexts: Vec<Contexts> = rows.iter().map(|row| row.contexts).chain(scopes).collect();
        if contexts.is_empty() {
            return Err(later::judge(name, item, place.context, self.rows));
        }
        let row = rows.iter().find(|row| row.contexts.meets(place.context));
        let row = row.ok_or_else(|| {
            let places: Vec<_> = contexts.iter().flat_map(|contexts| contexts.words()).collect();
            error(format!("\"{name}\" directive is not allowed here"))
                .note(format!("it may stand in: {}", places.join(", ")))
        })?;
        match (row.shape, item.block.is_some()) {
            (Shape::Block, false) => return Err(error(format!("directive \"{name}\" has no opening \"{{\""))),
            (Shape::Once | Shape::Many, true) => {
                return Err(error(format!("directive \"{name}\" is not terminated by \";\"")));
            }
            _ => {}
        }
        let count = u8::try_from(item.args.len()).unwrap_or(u8::MAX);
        if !row.args.contains(&count) {
            return Err(error(format!("invalid number of arguments in \"{name}\" directive")));
        }
        if !place.seen.insert(std::ptr::from_ref(row)) && row.shape == Shape::Once {
            return Err(error(format!("\"{name}\" directive is duplicate")));
        }
        Ok(row)
    }

    fn report(&mut self, result: Result<(), Problem>, item: &Directive) {
        let Err(problem) = result else { return };
        let caret = problem.arg.and_then(|arg| item.args.get(arg)).map_or(item.name.span, |word| word.span);
        let sentence = problem.sentence(&text(&item.name.text));
        let line = self.env.end.filter(|_| problem.late).unwrap_or(item.end);
        self.diags.push(Diag::error(sentence, line, caret));
    }
}

/// The location around a block.
type Around<'b> = Option<(&'b Kind, &'b Bytes)>;

/// The place of a block without a name of its own.
fn unnamed(around: Around<'_>) -> Place {
    let (name, is_regex) =
        around.map_or((Bytes::new(), false), |(kind, name)| (name.clone(), matches!(kind, Kind::Regex(_))));
    Place { name, is_regex, unnamed: true }
}

/// The directives that open scopes: where they may stand and how many arguments they take.
pub const SCOPES: [(&str, Contexts, std::ops::RangeInclusive<usize>); 7] = [
    ("http", Contexts::MAIN, 0..=0),
    ("events", Contexts::MAIN, 0..=0),
    ("server", Contexts::HTTP, 0..=0),
    ("upstream", Contexts::HTTP, 1..=1),
    ("location", Contexts(Contexts::SERVER.0 | Contexts::LOCATION.0), 1..=2),
    ("if", Contexts(Contexts::SERVER.0 | Contexts::LOCATION.0), 1..=255),
    ("limit_except", Contexts::LOCATION, 1..=255),
];

/// The number of arguments of a scope that `name` opens in `context`; nothing if it opens none there.
fn opens(name: &[u8], context: Contexts) -> Option<std::ops::RangeInclusive<usize>> {
    let found = SCOPES.iter().find(|(scope, contexts, _)| scope.as_bytes() == name && contexts.meets(context));
    found.map(|(_, _, args)| args.clone())
}

fn body(directive: &Directive) -> &[Directive] {
    directive.block.as_ref().map_or(&[], |block| &block.items)
}

fn location_kind(args: &[Word], env: &mut Env) -> Result<(Kind, Bytes), Problem> {
    let (modifier, name, index) = match args {
        [modifier, _] if modifier.text.is_empty() => return Err(Problem::new("invalid location modifier \"\"").at(0)),
        [modifier, name] => (modifier.text.as_slice(), name.text.as_slice(), 1),
        [name] => {
            let (modifier, name) = split_modifier(&name.text);
            (modifier, name, 0)
        }
        _ => return Err(Problem::new("invalid number of arguments in \"location\" directive")),
    };
    let kind = match modifier {
        b"" if name.first() == Some(&b'@') => Kind::Named,
        b"" => Kind::Prefix,
        b"=" => Kind::Exact,
        b"^~" => Kind::Final,
        b"~" | b"~*" => {
            let pattern = Pattern::new(name, modifier == b"~*").map_err(|e| Problem::new(e.to_string()).at(index))?;
            for (name, _) in pattern.names() {
                env.names.slot(name, None);
            }
            Kind::Regex(Arc::new(pattern))
        }
        other => return Err(Problem::new(format!("invalid location modifier \"{}\"", text(other))).at(0)),
    };
    Ok((kind, Bytes::copy_from_slice(name)))
}

/// A modifier may touch the name: `location ~\.php$`.
fn split_modifier(word: &[u8]) -> (&[u8], &[u8]) {
    let len = match word {
        [b'^', b'~', ..] | [b'~', b'*', ..] => 2,
        [b'=' | b'~', ..] => 1,
        _ => 0,
    };
    word.split_at_checked(len).unwrap_or((b"", word))
}

/// Whether two locations of one name are the same: the first of those with a pattern or an `@` is used.
fn twins(one: &Kind, other: &Kind) -> bool {
    let prefix = |kind: &Kind| matches!(kind, Kind::Prefix | Kind::Final);
    matches!((one, other), (Kind::Exact, Kind::Exact)) || prefix(one) && prefix(other)
}

fn nests(kind: &Kind, name: &Bytes, around: Around<'_>) -> Result<(), Problem> {
    let Some((outer, outer_name)) = around else { return Ok(()) };
    let (name, outer_name) = (text(name), text(outer_name));
    let problem = match (outer, kind) {
        (Kind::Exact, _) => format!("location \"{name}\" cannot be inside the exact location \"{outer_name}\""),
        (Kind::Named, _) => format!("location \"{name}\" cannot be inside the named location \"{outer_name}\""),
        (_, Kind::Named) => format!("named location \"{name}\" can be on the server level only"),
        (_, Kind::Regex(_)) => return Ok(()),
        _ if name.starts_with(&*outer_name) => return Ok(()),
        _ => format!("location \"{name}\" is outside location \"{outer_name}\""),
    };
    Err(Problem::new(problem))
}
