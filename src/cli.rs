//! The command line, as nginx has it: <https://nginx.org/en/docs/switches.html>

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Parser};

/// Where things are when nothing else is said: the places of Debian's package.
pub mod paths {
    /// The prefix.
    pub const PREFIX: &str = "/usr/share/nginx/";
    /// The configuration file.
    pub const CONF: &str = "/etc/nginx/nginx.conf";
    /// The error log.
    pub const ERROR_LOG: &str = "/var/log/nginx/error.log";
    /// The access log.
    pub const ACCESS_LOG: &str = "/var/log/nginx/access.log";
    /// The process id.
    pub const PID: &str = "/run/nginx.pid";
    /// Bodies that do not fit into memory, in directories of this one: `body`, `proxy` and so on.
    pub const TEMP: &str = "/var/lib/nginx";
}

/// What the command line says.
#[derive(Debug, Default, Parser)]
#[command(
    name = "nginx",
    about = "a memory-safe server for nginx configurations",
    disable_help_flag = true,
    disable_version_flag = true
)]
pub struct Options {
    /// Show the help.
    #[arg(short = '?', action = ArgAction::SetTrue)]
    pub help: bool,
    /// Show the help.
    #[arg(short = 'h', action = ArgAction::SetTrue)]
    pub help_too: bool,
    /// Show the version.
    #[arg(short = 'v', action = ArgAction::SetTrue)]
    pub version: bool,
    /// Show the version and what is built in.
    #[arg(short = 'V', action = ArgAction::SetTrue)]
    pub build: bool,
    /// Test the configuration.
    #[arg(short = 't', action = ArgAction::SetTrue)]
    pub test: bool,
    /// Test the configuration and show it.
    #[arg(short = 'T', action = ArgAction::SetTrue)]
    pub dump: bool,
    /// Say nothing but errors while testing.
    #[arg(short = 'q', action = ArgAction::SetTrue)]
    pub quiet: bool,
    /// Send a signal to the running master.
    #[arg(short = 's', value_name = "signal")]
    pub signal: Option<String>,
    /// The prefix.
    #[arg(short = 'p', value_name = "prefix")]
    pub prefix: Option<PathBuf>,
    /// The configuration file.
    #[arg(short = 'c', value_name = "filename")]
    pub conf: Option<PathBuf>,
    /// The error log.
    #[arg(short = 'e', value_name = "filename")]
    pub error_log: Option<PathBuf>,
    /// Directives outside of the configuration file.
    #[arg(short = 'g', value_name = "directives")]
    pub globals: Option<String>,
}

impl Options {
    /// Reads the arguments; the error is nginx's sentence for a wrong one.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let options = Options::try_parse_from(args).map_err(|error| sentence(&error))?;
        match options.signal.as_deref() {
            None | Some("stop" | "quit" | "reopen" | "reload") => Ok(options),
            Some(other) => Err(format!("invalid option: \"-s {other}\"")),
        }
    }

    /// The prefix, with a slash at its end.
    pub fn prefix(&self) -> PathBuf {
        let prefix = self.prefix.as_deref().unwrap_or(Path::new(paths::PREFIX));
        let mut prefix = prefix.as_os_str().to_owned();
        if !prefix.as_encoded_bytes().ends_with(b"/") {
            prefix.push("/");
        }
        prefix.into()
    }

    /// The configuration file. A relative one hangs under the prefix, or where the command was given.
    pub fn file(&self) -> PathBuf {
        let Some(conf) = &self.conf else { return PathBuf::from(paths::CONF) };
        let below = self.prefix().join(conf);
        if self.prefix.is_none() && !below.exists() && conf.exists() {
            return std::path::absolute(conf).unwrap_or(below);
        }
        below
    }

    /// The error log to use where the configuration names none; nothing is standard error.
    pub fn error_log(&self) -> Option<PathBuf> {
        match self.error_log.as_deref() {
            Some(path) if path == Path::new("stderr") => None,
            Some(path) => Some(self.prefix().join(path)),
            None => Some(PathBuf::from(paths::ERROR_LOG)),
        }
    }
}

fn sentence(error: &clap::Error) -> String {
    let arg = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => arg.as_str(),
        _ => "",
    };
    let option = arg.split(' ').next().unwrap_or(arg);
    match (error.kind(), option) {
        (ErrorKind::InvalidValue | ErrorKind::TooFewValues, "-p") => "option \"-p\" requires directory name".to_owned(),
        (ErrorKind::InvalidValue | ErrorKind::TooFewValues, "-c" | "-e") => {
            format!("option \"{option}\" requires file name")
        }
        (ErrorKind::InvalidValue | ErrorKind::TooFewValues, _) => format!("option \"{option}\" requires parameter"),
        (_, option) => format!("invalid option: \"{}\"", option.strip_prefix('-').unwrap_or(option)),
    }
}

/// What TLS is made of. Programs that ask here for a version of OpenSSL (certbot, nginx's own tests) want to know which directives
/// and names they may write; the second line answers that.
const TLS: &str = "built with rustc, rustls and aws-lc-rs
takes the directives of nginx built with OpenSSL 3.0.0 but has no OpenSSL in it
";

/// The version line.
pub fn version() -> String {
    format!("nginx version: nginx/{} (nginx-rs {})\n", crate::VERSION, env!("CARGO_PKG_VERSION"))
}

/// The help.
pub fn help() -> String {
    let rows = [
        ("-?,-h", "this help"),
        ("-v", "show version and exit"),
        ("-V", "show version and configure options then exit"),
        ("-t", "test configuration and exit"),
        ("-T", "test configuration, dump it and exit"),
        ("-q", "suppress non-error messages during configuration testing"),
        ("-s signal", "send signal to a master process: stop, quit, reopen, reload"),
        ("-p prefix", &format!("set prefix path (default: {})", paths::PREFIX)),
        ("-e filename", &format!("set error log file (default: {})", paths::ERROR_LOG)),
        ("-c filename", &format!("set configuration file (default: {})", paths::CONF)),
        ("-g directives", "set global directives out of configuration file"),
    ];
    let mut out = String::from("Usage: nginx [-?hvVtTq] [-s signal] [-p prefix]\n");
    out.push_str("             [-e filename] [-c filename] [-g directives]\n\nOptions:\n");
    for (option, text) in rows {
        out.push_str(&format!("  {option:13} : {text}\n"));
    }
    out
}

/// What is built in, as nginx's configure arguments would say it.
pub fn build() -> String {
    /// Modules nginx has unless they are left out, by the names of the options that leave them out.
    const DEFAULT: [&str; 30] = [
        "charset",
        "gzip",
        "ssi",
        "userid",
        "access",
        "auth_basic",
        "mirror",
        "autoindex",
        "geo",
        "map",
        "split_clients",
        "referer",
        "rewrite",
        "proxy",
        "fastcgi",
        "uwsgi",
        "scgi",
        "grpc",
        "memcached",
        "limit_conn",
        "limit_req",
        "empty_gif",
        "browser",
        "upstream_hash",
        "upstream_ip_hash",
        "upstream_least_conn",
        "upstream_least_time",
        "upstream_random",
        "upstream_sticky",
        "tunnel",
    ];
    /// Modules nginx has only where they are asked for.
    const OPTIONAL: [&str; 12] = [
        "ssl",
        "v2",
        "v3",
        "realip",
        "addition",
        "sub",
        "gunzip",
        "gzip_static",
        "auth_request",
        "secure_link",
        "stub_status",
        "random_index",
    ];
    let has = crate::modules::has;
    let mut out = format!(
        "configure arguments: --prefix={} --build='nginx-rs {}'",
        paths::PREFIX.trim_end_matches('/'),
        env!("CARGO_PKG_VERSION")
    );
    for (option, path) in [
        ("conf-path", paths::CONF),
        ("http-log-path", paths::ACCESS_LOG),
        ("error-log-path", paths::ERROR_LOG),
        ("pid-path", paths::PID),
    ] {
        out.push_str(&format!(" --{option}={path}"));
    }
    for (option, directory) in
        [("client-body", "body"), ("proxy", "proxy"), ("fastcgi", "fastcgi"), ("uwsgi", "uwsgi"), ("scgi", "scgi")]
    {
        out.push_str(&format!(" --http-{option}-temp-path={}/{directory}", paths::TEMP));
    }
    for name in OPTIONAL.iter().filter(|name| has(name)) {
        out.push_str(&format!(" --with-http_{name}_module"));
    }
    for name in DEFAULT.iter().filter(|name| !has(name)) {
        out.push_str(&format!(" --without-http_{name}_module"));
    }
    if !has("cache") {
        out.push_str(" --without-http-cache");
    }
    format!("{}{TLS}TLS SNI support enabled\n{out}\n", version())
}
