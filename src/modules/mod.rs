//! The modules, each named as nginx names it, and the one ordered list that composes them.
//!
//! The order of the list is the way of a request through the server: hooks run from top to bottom, filters too.

use std::future::Future;
use std::sync::Arc;

use crate::conf::names::VarId;
use crate::conf::{Args, Diag, Directive, Env, Place, Problem};
use crate::http::{Body, Computed, Flow, Head, Request, Satisfy, Variable};
use crate::upstream as shared;

pub mod rows;
pub mod seal;

pub use rows::Row;
pub use seal::Seal;

/// One module: its settings, its rows, and what it does with a request.
pub trait Module {
    /// Settings of a scope. `Default` is nginx's documented default, `Clone` is inheritance.
    type Conf: Clone + Default + 'static;
    /// What is declared once for the whole configuration.
    type Main: Default + 'static;
    /// What requests read.
    type Loc: Send + Sync + 'static;
    /// The phases this module takes part in; the others pass it by without a call.
    const PHASES: Phases = Phases::NONE;
    /// Directives of scopes.
    const DIRECTIVES: &'static [Directive<Self::Conf>] = &[];
    /// Directives that are declared once.
    const MAIN_DIRECTIVES: &'static [Directive<Self::Main>] = &[];
    /// Variables.
    const VARIABLES: &'static [Variable<Self::Loc>] = &[];
    /// Where rows shared by upstream protocols are mounted.
    const UPSTREAM: Option<shared::Mount<Self::Conf>> = None;

    /// Declares what every configuration has.
    fn prepare(_: &mut Self::Main, _: &mut Env) {}

    /// Turns the settings of a scope into what requests read.
    fn seal(conf: Self::Conf, main: &Self::Main, cx: &mut Seal<'_>) -> Result<Self::Loc, Diag>;

    /// The variables that blocks of this module define (`map`, `geo`).
    fn computed(_: &Self::Main) -> Vec<(VarId, Arc<dyn Computed>)> {
        Vec::new()
    }

    /// Copies what `if` and `limit_except` blocks inherit although other inner scopes do not.
    fn enter_unnamed(_outer: &Self::Conf, _inner: &mut Self::Conf) {}

    /// Tells a new scope which location it belongs to.
    fn enter(_: &mut Self::Conf, _: &Place) {}

    /// Before anything else, with the settings of the server.
    fn post_read(_: &Self::Loc, _: &mut Request) -> Flow {
        Flow::Next
    }
    /// The server and location rewrite phases.
    fn rewrite(_: &Self::Loc, _: &mut Request) -> Flow {
        Flow::Next
    }
    /// Limits.
    fn preaccess(_: &Self::Loc, _: &mut Request) -> impl Future<Output = Flow> {
        std::future::ready(Flow::Next)
    }
    /// Who may come in.
    fn access(_: &Self::Loc, _: &mut Request) -> impl Future<Output = Flow> {
        std::future::ready(Flow::Next)
    }
    /// What is looked at before content (`try_files`).
    fn precontent(_: &Self::Loc, _: &mut Request) -> impl Future<Output = Flow> {
        std::future::ready(Flow::Next)
    }
    /// The response.
    fn content(_: &Self::Loc, _: &mut Request) -> impl Future<Output = Flow> {
        std::future::ready(Flow::Next)
    }
    /// Whether requests are passed to another server here: a path that lacks the location's last slash is redirected.
    fn passes(_: &Self::Loc) -> bool {
        false
    }
    /// Changes the response.
    fn filter(_: &Self::Loc, _: &Request, _: &mut Head, body: Body) -> Body {
        body
    }
    /// Adds to the fields behind the body, where `Head::trailers` announced some.
    fn trailers(_: &Self::Loc, _: &Request) {}
    /// After the last byte.
    fn log(_: &Self::Loc, _: &Request) {}
}

/// The phases of a request, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases(pub u8);

impl Phases {
    /// None.
    pub const NONE: Self = Self(0);
    /// The server and location rewrite phases.
    pub const REWRITE: Self = Self(1);
    /// Limits.
    pub const PREACCESS: Self = Self(1 << 1);
    /// Who may come in.
    pub const ACCESS: Self = Self(1 << 2);
    /// What is looked at before content.
    pub const PRECONTENT: Self = Self(1 << 3);
    /// The response.
    pub const CONTENT: Self = Self(1 << 4);
    /// Changes to the response.
    pub const FILTER: Self = Self(1 << 5);
    /// After the last byte.
    pub const LOG: Self = Self(1 << 6);
    /// Before anything else.
    pub const POST_READ: Self = Self(1 << 7);

    /// Whether this holds `phase`.
    pub const fn has(self, phase: Self) -> bool {
        self.0 & phase.0 != 0
    }
}

macro_rules! modules {
    ($($name:ident),+ $(,)?) => {
        $(pub mod $name;)+

        /// The modules' names, in their order.
        pub const NAMES: &[&str] = &[$(stringify!($name)),+];

        /// The settings of one scope, before they are sealed.
        #[derive(Clone, Default)]
        #[allow(missing_docs)]
        pub struct Conf { $(pub $name: <$name::Module as Module>::Conf,)+ }

        /// What is declared once.
        #[derive(Default)]
        #[allow(missing_docs)]
        pub struct Main { $(pub $name: <$name::Module as Module>::Main,)+ }

        /// What requests read at one place.
        #[allow(missing_docs)]
        pub struct Loc { $(pub $name: <$name::Module as Module>::Loc,)+ }

        impl Conf {
            /// A scope inside this one.
            pub fn inner(&self) -> Self {
                self.clone()
            }

            /// An `if` or `limit_except` inside this scope.
            pub fn unnamed(&self) -> Self {
                let mut inner = self.clone();
                $(<$name::Module as Module>::enter_unnamed(&self.$name, &mut inner.$name);)+
                inner
            }

            /// Tells the modules which location this scope belongs to.
            pub fn enter(&mut self, place: &Place) {
                $(<$name::Module as Module>::enter(&mut self.$name, place);)+
            }

            /// What requests read.
            pub fn seal(self, main: &Main, cx: &mut Seal<'_>) -> Result<Loc, Diag> {
                Ok(Loc { $($name: <$name::Module as Module>::seal(self.$name, &main.$name, cx)?,)+ })
            }
        }

        /// Lets every module declare what every configuration has.
        pub fn prepare(main: &mut Main, env: &mut Env) {
            $(<$name::Module as Module>::prepare(&mut main.$name, env);)+
        }

        /// The variables that blocks define.
        pub fn computed(main: &Main) -> Vec<(VarId, Arc<dyn Computed>)> {
            let mut all = Vec::new();
            $(all.extend(<$name::Module as Module>::computed(&main.$name));)+
            all
        }

        /// Every module's rows.
        pub fn rows() -> Vec<Row> {
            let mut rows = Vec::new();
            $(rows::collect::<$name::Module>(&mut rows, stringify!($name), |c| &mut c.$name, |m| &mut m.$name);)+
            rows.extend(rows::upstream_rows());
            rows
        }

        /// Every module's variables: module, number of the row, name, whether `set` may write it.
        pub fn variables() -> Vec<rows::VariableRow> {
            let (mut rows, mut number) = (Vec::new(), 0);
            $(rows::collect_variables::<$name::Module>(&mut rows, stringify!($name), &mut number);)+
            rows
        }

        impl Loc {
            /// Appends the value of row `row` of module number `module`.
            pub fn variable(&self, at: crate::http::Builtin, r: &Request, suffix: &[u8], out: &mut Vec<u8>) -> bool {
                let mut number = 0;
                $(if at.module == number {
                    let row = <$name::Module as Module>::VARIABLES.get(usize::from(at.row));
                    return row.is_some_and(|row| (row.get)(&self.$name, r, suffix, out));
                }
                number += 1;)+
                let _ = number;
                false
            }

            /// The post-read phase.
            pub fn post_read(&self, request: &mut Request) -> Flow {
                $(if <$name::Module as Module>::PHASES.has(Phases::POST_READ) {
                    match <$name::Module as Module>::post_read(&self.$name, request) { Flow::Next => {}, flow => return flow }
                })+
                Flow::Next
            }

            /// The rewrite phase.
            pub fn rewrite(&self, request: &mut Request) -> Flow {
                $(if <$name::Module as Module>::PHASES.has(Phases::REWRITE) {
                    match <$name::Module as Module>::rewrite(&self.$name, request) { Flow::Next => {}, flow => return flow }
                })+
                Flow::Next
            }

            /// The preaccess phase.
            pub async fn preaccess(&self, request: &mut Request) -> Flow {
                $(if <$name::Module as Module>::PHASES.has(Phases::PREACCESS) {
                    match <$name::Module as Module>::preaccess(&self.$name, request).await { Flow::Next => {}, flow => return flow }
                })+
                Flow::Next
            }

            /// The access phase, under `satisfy`.
            pub async fn access(&self, request: &mut Request, any: bool) -> Flow {
                let mut satisfy = Satisfy::new(any);
                $(if <$name::Module as Module>::PHASES.has(Phases::ACCESS) {
                    let flow = <$name::Module as Module>::access(&self.$name, request).await;
                    if let Some(flow) = satisfy.take(request, flow) {
                        return flow;
                    }
                })+
                satisfy.end(request)
            }

            /// The precontent phase.
            pub async fn precontent(&self, request: &mut Request) -> Flow {
                $(if <$name::Module as Module>::PHASES.has(Phases::PRECONTENT) {
                    match <$name::Module as Module>::precontent(&self.$name, request).await { Flow::Next => {}, flow => return flow }
                })+
                Flow::Next
            }

            /// The content phase.
            pub async fn content(&self, request: &mut Request) -> Flow {
                $(if <$name::Module as Module>::PHASES.has(Phases::CONTENT) {
                    match <$name::Module as Module>::content(&self.$name, request).await { Flow::Next => {}, flow => return flow }
                })+
                Flow::Next
            }

            /// Whether requests are passed to another server here.
            pub fn passes(&self) -> bool {
                $(<$name::Module as Module>::passes(&self.$name))||+
            }

            /// The filters.
            pub fn filter(&self, request: &Request, head: &mut Head, mut body: Body) -> Body {
                $(if <$name::Module as Module>::PHASES.has(Phases::FILTER) {
                    body = <$name::Module as Module>::filter(&self.$name, request, head, body);
                    if head.refused.is_some() {
                        return Body::Empty;
                    }
                })+
                body
            }

            /// The fields behind the body.
            pub fn trailers(&self, request: &Request) {
                $(<$name::Module as Module>::trailers(&self.$name, request);)+
            }

            /// The log phase.
            pub fn log(&self, request: &Request) {
                $(if <$name::Module as Module>::PHASES.has(Phases::LOG) {
                    <$name::Module as Module>::log(&self.$name, request);
                })+
            }
        }
    };
}

modules! {
    process, core, v2, quic, ssl, realip, rewrite,
    map, geo, split_clients, limit_req, limit_conn, access, auth_basic, auth_request, referer, secure_link,
    try_files, upstream, proxy, grpc, uwsgi, fastcgi, scgi, memcached,
    empty_gif, stub_status, random_index, index, autoindex, gzip_static, files,
    not_modified, headers, gunzip, charset, gzip, range, log,
}

/// Whether there is a module of this name, in nginx's words without `ngx_http_` and `_module`.
pub fn has(name: &str) -> bool {
    NAMES.contains(&name) || rows().iter().any(|row| row.module == name)
}

/// Writes the log lines that this thread gathered.
pub fn flush_logs() {
    log::flush();
}

/// Writes those lines and all that wait for a buffer to fill, before the thread ends.
pub fn finish_logs() {
    log::finish();
}

/// Reads a directive's arguments into some settings.
pub type Setter<T> = Box<dyn Fn(&mut T, &mut Args<'_>) -> Result<(), Problem> + Send + Sync>;
